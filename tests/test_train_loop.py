"""Training runs as a whole: killed, stopped, spread over processes, and met by bad batches.

REALSR_KILLS=10 makes the test of sudden deaths longer.
"""

import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from fractions import Fraction

import golden
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from realsr_jax import images
from realsr_jax.data import batches
from realsr_jax.data.errors import DataError
from realsr_jax.data.sources import HrFolder, PairFolder
from realsr_jax.evaluate.protocols import headline, score
from realsr_jax.losses import MSE, Weighted
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.ops.matlab_resize import imresize
from realsr_jax.system.processes import count_cores
from realsr_jax.train import devices, loop, progress_lines, run_log, train_config
from realsr_jax.train.checkpoints import Checkpoints, RunState, as_numpy
from realsr_jax.train.initial_params import initial_params
from realsr_jax.train.loop import BadBatchError, train
from realsr_jax.train.optimizers import Adam, Cosine, StepDecay
from realsr_jax.train.progress_lines import headline_name
from realsr_jax.train.run_config import without_folders
from realsr_jax.train.step import make_state, replicate
from realsr_jax.train.train_config import TrainConfig, ValidationSet
from realsr_jax.train.validation import Outcome
from realsr_jax.weights import load_weights, save_weights

KILLS = int(os.environ.get("REALSR_KILLS", "2"))
MODEL = EDSRConfig(n_resblocks=1, n_feats=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three photos, what is decoded of them, and what XLA compiles."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "photos").mkdir()
    for number in range(3):
        photo = images.Photo(golden.photo(24, 28, number), images.Metadata(), "PNG")
        images.write_photo(photo, folder / "photos" / f"{number}.png")
    return folder


def _config(folder, **fields):
    photos = HrFolder(str(folder / "photos"))
    defaults = {
        "batch_size": 4,
        "patch_size": 16,
        "epochs": 2,
        "steps_per_epoch": 3,
        "checkpoint_every": 2,
        "log_every": 1,
        "ema_decay": 0.9,
        # Smooth, so that rounding stays rounding: L1's gradient is a sign, and so is Adam's first step.
        "losses": (Weighted(MSE()),),
        "optimizer": Adam(eps=100.0),
        "protocol": "benchmark",
        "decoded_dir": str(folder / "decoded"),
    }
    return TrainConfig(**({"model": MODEL, "train": (photos,), "valid": photos} | defaults | fields))


class _Command:
    """``realsr-train`` in a process of its own, with its lines as they come."""

    def __init__(self, folder, workdir, *args, devices=1, script=None):
        """Starts it; `devices` None leaves their number to it.

        `script` is put before the configuration, and may define `SOURCE`, which trains.
        """
        file = folder / ("run.py" if script is None else f"{workdir.name}.py")
        file.write_text(
            "from realsr_jax.data.sources import *\nfrom realsr_jax.losses import *\n"
            "from realsr_jax.models.edsr import *\nfrom realsr_jax.train.optimizers import *\n"
            f"from realsr_jax.train.train_config import *\n\nSOURCE = None\n{script or ''}\n\n"
            f"def get_config():\n    config = {_config(folder)!r}\n"
            "    config.train = config.train if SOURCE is None else (SOURCE,)\n    return config\n"
        )
        flags = "" if devices is None else f" --xla_force_host_platform_device_count={devices}"
        environment = os.environ | {
            "XLA_FLAGS": f"--xla_backend_optimization_level=0{flags}",
            "JAX_PLATFORMS": "cpu",
        }
        command = [sys.executable, "-m", "realsr_jax.cli.train", f"--config={file}", f"--workdir={workdir}"]
        self.lines = []
        self.process = subprocess.Popen(
            [*command, *args],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def wait_for(self, text):
        """Waits for a line, or for the end."""
        while self._reader.is_alive() and text not in self.text:
            time.sleep(0.01)
        return self

    def wait_for_lines(self, count):
        """Waits for a number of lines, or for the end."""
        while self._reader.is_alive() and len(self.lines) < count:
            time.sleep(0.01)

    def end(self):
        """Returns the exit status once all is read."""
        try:
            return self.process.wait(240)
        finally:
            self.process.kill()
            self._reader.join()
            self.process.stdout.close()

    @property
    def text(self):
        return "".join(self.lines)


def _latest(workdir):
    """Step and arrays of a run's last checkpoint."""
    step = max(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())
    checkpoint = workdir / "checkpoints" / str(step)
    with ocp.StandardCheckpointer() as checkpointer:
        handler = checkpointer.metadata(checkpoint / "state").item_metadata.tree
        state = checkpointer.restore(
            checkpoint / "state", jax.tree.map(lambda x: np.empty(x.shape, x.dtype), handler)
        )
    return step, jax.tree.leaves(state)


def _left(workdir):
    """What a run has left: weights, the last checkpoint's state and progress."""
    step, state = _latest(workdir)
    progress = workdir / "checkpoints" / str(step) / "progress" / "metadata"
    trees = load_weights(workdir / "latest")[1], load_weights(workdir / "best")[1]
    return step, [*jax.tree.leaves(trees), *state], json.loads(progress.read_text())


def _assert_same(left, other, *, tolerance=0.0):
    """Asserts that what two runs have left differs by no more than a part of each array's largest value.

    Gradients of biases are sums of errors that cancel: other orders of summation differ by up to 6e-4.
    """
    assert left[0] == other[0]
    assert len(left[1]) == len(other[1])
    for a, b in zip(left[1], other[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def _log(workdir):
    return [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]


def _steps(workdir):
    return [entry["step"] for entry in _log(workdir) if "loss" in entry]


N_EPOCHS = 2 + 2 * KILLS
EPOCHS = f"--config.epochs={N_EPOCHS}"


@pytest.fixture(scope="module")
def unbroken(folder):
    """A run of many epochs that nothing happens to."""
    workdir = folder / "unbroken"
    command = _Command(folder, workdir, EPOCHS)
    assert command.end() == 0, command.text
    return workdir


@pytest.mark.slow
def test_sudden_deaths_change_nothing(folder, unbroken):
    workdir = folder / "killed"
    chance = random.Random(KILLS)
    kills, reached = 0, []
    while kills < KILLS:
        command = _Command(folder, workdir, EPOCHS)
        command.wait_for_lines(2 + chance.randrange(8))
        time.sleep(chance.uniform(0, 0.5))
        command.process.kill()
        if command.end() == 0:
            break
        kills += 1
        reached.append(_steps(workdir)[-1] if (workdir / "log.jsonl").exists() and _steps(workdir) else 0)
    command = _Command(folder, workdir, EPOCHS)
    assert command.end() == 0, command.text
    print(f"{kills} kills, after steps {reached} of {3 * N_EPOCHS}")
    assert kills > 0
    _assert_same(_left(workdir), _left(unbroken))
    assert _left(workdir)[2] == _left(unbroken)[2]
    assert _steps(workdir) == list(range(1, 3 * N_EPOCHS + 1))
    assert sorted(path.name for path in workdir.iterdir()) == sorted(path.name for path in unbroken.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("number", "line"), [(signal.SIGTERM, "step 2/"), (signal.SIGINT, "epoch 2/")])
def test_signals_save_and_end_the_run(folder, unbroken, number, line):
    workdir = folder / f"stopped_{number}"
    command = _Command(folder, workdir, EPOCHS).wait_for(line)
    command.process.send_signal(number)
    assert command.end() == 3, command.text
    assert "saved; the same command continues" in command.lines[-1]
    step = int(command.lines[-1].split("step ")[1].split(",")[0])
    command = _Command(folder, workdir, EPOCHS)
    assert command.end() == 0, command.text
    assert f"continued after step {step}" in command.text
    _assert_same(_left(workdir), _left(unbroken))
    assert _left(workdir)[2] == _left(unbroken)[2]
    assert _steps(workdir) == list(range(1, 3 * N_EPOCHS + 1))
    assert len(_log(workdir)) == len(_log(unbroken))


def test_interrupt_while_starting(folder):
    command = _Command(folder, folder / "never")
    time.sleep(0.2)
    while not (folder / "never").exists() and command.process.poll() is None:
        time.sleep(0.01)
    command.process.send_signal(signal.SIGINT)
    assert command.end() in (-signal.SIGINT, 3)
    assert "Traceback" not in command.text


def _processes(folder, workdir, *args, count=2, devices=1, script=None):
    """Starts a run of several processes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"--coordinator=localhost:{free.getsockname()[1]}"
    place = coordinator, f"--num_processes={count}"
    return [
        _Command(folder, workdir, *args, *place, f"--process_id={index}", devices=devices, script=script)
        for index in range(count)
    ]


@pytest.mark.slow
def test_two_processes_with_two_devices_are_one_with_four(folder):
    one = _Command(folder, folder / "one", devices=4)
    assert one.end() == 0, one.text

    def both():
        return _processes(folder, folder / "two", devices=2)

    two = both()
    two[0].wait_for("step 2/")
    two[1].process.send_signal(signal.SIGTERM)  # which stops both
    status = [command.end() for command in two]
    assert status == [3, 3], two[0].text + two[1].text
    two = both()
    status = [command.end() for command in two]
    assert status == [0, 0], two[0].text + two[1].text
    assert "3 training pairs on 4 cpu device(s)\n" in two[0].text
    left, expected = _left(folder / "two"), _left(folder / "one")
    print(
        "largest difference",
        max(float(np.abs(a - b).max()) for a, b in zip(left[1], expected[1], strict=True)),
    )
    _assert_same(left, expected, tolerance=3e-3)
    for entry, other in zip(_log(folder / "two"), _log(folder / "one"), strict=True):
        for name in entry.keys() - {"patches_per_second", "waiting"}:
            assert entry[name] == pytest.approx(other[name], rel=1e-4), name


SLOW_ON_ONE = """
import time
import jax
from realsr_jax.data.errors import DataError

class Slow(HrFolder):
    def list_pairs(self, scale):
        print("listing", flush=True)
        if jax.process_index() == 1:
            {action}
        return super().list_pairs(scale)

SOURCE = Slow({photos!r})
"""


def _assert_one_line_and_the_end(command, since, line, *, seconds=10):
    """Asserts that a process ended soon after a moment, with one line on what it met."""
    status = command.end()
    assert time.monotonic() - since < seconds
    usual = ("EDSR", "[Gloo]", "epoch", "evaluati", "bicubic", "compiling", "still")
    told = [text for text in command.lines if not text.startswith(usual) and " steps: " not in text]
    assert told[1 if "training pairs" in told[0] else 0 :] == [f"realsr-train: {line}\n"], command.text
    assert status == 1


AGAIN = "; the same command on all hosts continues from the last checkpoint"


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_the_death_of_a_process_is_the_end_of_all(folder, victim):
    workdir = folder / f"dead_{victim}"
    commands = _processes(folder, workdir, "--config.epochs=500", "--config.batch_size=6", count=3)
    commands[0].wait_for("step 4/")
    commands[victim].process.kill()
    since = time.monotonic()
    for index in {0, 1, 2} - {victim}:
        _assert_one_line_and_the_end(commands[index], since, f"process {victim} has died{AGAIN}")
    commands[victim].end()


@pytest.mark.slow
def test_sigterm_before_the_first_step_of_several_processes(folder):
    script = SLOW_ON_ONE.format(photos=str(folder / "photos"), action="time.sleep(60)")
    commands = _processes(folder, folder / "early", script=script)
    commands[1].wait_for("listing")
    commands[1].process.send_signal(signal.SIGTERM)
    since = time.monotonic()
    assert commands[1].end() == -signal.SIGTERM
    commands[0].lines.remove("listing\n")
    _assert_one_line_and_the_end(commands[0], since, f"process 1 has died{AGAIN}")


@pytest.mark.slow
def test_an_error_on_one_host_ends_all(folder):
    action = 'raise DataError("these images cannot be used:", ["0.png: bad"])'
    script = SLOW_ON_ONE.format(photos=str(folder / "photos"), action=action)
    commands = _processes(folder, folder / "failed", script=script)
    commands[1].wait_for("0.png")
    since = time.monotonic()
    assert commands[1].end() == 1
    assert "has died" not in commands[1].text
    commands[0].lines.remove("listing\n")
    _assert_one_line_and_the_end(commands[0], since, "process 1 has failed, and says why")


# In this process, on four devices


@pytest.fixture(autouse=True)
def compiled_once(folder):
    """Keeps what XLA compiles for the next test."""
    options = {
        "jax_compilation_cache_dir": str(folder / "xla"),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_records(folder, tmp_path):
    lines = []
    result = train(_config(folder), tmp_path / "run", say=lines.append)
    assert (result.step, result.is_complete) == (6, True)
    lines = [line for line in lines if not line.startswith(("still compiling", "evaluating"))]
    assert lines[0] == "EDSR, 1,259 parameters, from scratch"
    assert lines[1] == "3 training pairs on 4 cpu device(s)"
    assert lines[2] == "6 steps: 2 epochs of 3 steps, as configured"
    assert lines[3].startswith("bicubic, to be beaten: PSNR-Y (dB) ")
    assert lines[3].endswith(" (3 images)")
    assert lines[4].startswith("compiling the training step")
    assert re.fullmatch(
        r"epoch 1/2  step 1/6  loss .*  compiled in [\d.]+ s, then computed in [\d.]+ s", lines[5]
    )
    assert re.fullmatch(r"epoch 1/2  step 2/6  loss .* patches/s  waiting \d+%  \d+ s left", lines[6])
    assert lines[8].startswith("evaluation after epoch 1: PSNR-Y ")
    assert re.search(r" dB \(\d+\.\d{4} BELOW bicubic, best so far\)  PSNR-RGB ", lines[8])
    assert re.fullmatch(r"best in epoch \d: PSNR-Y \(dB\) [\d.]+, [\d.]+ BELOW bicubic", lines[-2])
    assert lines[-1] == f"complete; weights in {tmp_path / 'run' / 'best'}, use --weights={tmp_path / 'run'}"
    assert not any("before the first step" in line for line in lines)
    entries = _log(tmp_path / "run")
    assert [(entry["step"], entry["epoch"]) for entry in entries if "loss" in entry] == [
        (step, 1 + (step - 1) // 3) for step in range(1, 7)
    ]
    assert {"loss", "loss/MSE", "learning_rate", "gradient_norm", "patches_per_second", "waiting"} < set(
        entries[0]
    )
    assert [entry["step"] for entry in entries if "valid/score" in entry] == [3, 6]
    assert result.best_score == max(entry["valid/score"] for entry in entries if "valid/score" in entry)
    assert images.read_photo(tmp_path / "run" / "curves.png").rgb.shape[:2] == (540, 1080)
    events = b"".join(path.read_bytes() for path in (tmp_path / "run" / "tensorboard").iterdir())
    assert all(tag in events for tag in (b"loss/MSE", b"valid/score", b"valid/0"))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["class"] == "EDSRConfig"
    # Complete already
    assert train(_config(folder), tmp_path / "run", say=lines.append).is_complete
    assert _log(tmp_path / "run") == entries
    with pytest.raises(ValueError, match=r"with batch_size 4 \(now 8\), seed 0 \(now 1\); use another"):
        train(_config(folder, seed=1, batch_size=8), tmp_path / "run", say=lines.append)


def _bicubic(folder, protocol):
    """The scores of MATLAB's interpolation, by which LR was made too."""
    scores = []
    for path in sorted(folder.iterdir()):
        hr = images.read_photo(path).rgb_8_bit()
        sr = imresize(imresize(hr, Fraction(1, 2)), 2)
        scores.append(headline(score(sr, hr, scale=2, protocol=protocol), protocol))
    return np.mean(scores)


def test_what_is_to_be_beaten(folder, tmp_path, monkeypatch):
    train(_config(folder), tmp_path / "first", say=lambda _: None)
    start = str(tmp_path / "first")
    (tmp_path / "large").mkdir()
    photo = images.Photo(golden.photo(48, 40), images.Metadata(), "PNG")
    images.write_photo(photo, tmp_path / "large" / "0.png")
    more = ValidationSet("large", HrFolder(str(tmp_path / "large")), "aim")
    drawn = []
    monkeypatch.setattr(run_log, "draw_curves", lambda entries, *_, **__: drawn.append(entries))
    lines = []
    config = _config(folder, start_from=start, more_valid=(more,), epochs=1)

    def stop(line):
        lines.append(line)
        if "step 2/3" in line:
            signal.raise_signal(signal.SIGTERM)

    assert not train(config, tmp_path / "run", say=stop).is_complete
    assert train(config, tmp_path / "run", say=lines.append).is_complete
    before, after = (entry for entry in _log(tmp_path / "run") if "valid/score" in entry)
    assert (before["step"], before["epoch"], after["step"], after["epoch"]) == (0, 0, 3, 1)
    for entry in (before, after):
        assert entry["valid/bicubic"] == pytest.approx(_bicubic(folder / "photos", "benchmark"), abs=0.02)
        assert entry["large/bicubic"] == pytest.approx(_bicubic(tmp_path / "large", "aim"), abs=1e-3)
        assert entry["large/score"] == entry["large/aim_score"]
        assert entry["valid/score"] == entry["valid/psnr_y"]
    best = [entry["valid/score"] for entry in _log(tmp_path / "first") if "valid/score" in entry]
    assert before["valid/score"] == max(best)
    told = [line for line in lines if line.startswith("evaluation before the first step")]
    assert [line.partition(":")[0][32:] for line in told] == ["", ", large"]
    assert sum(line.startswith("bicubic") for line in lines) == 2  # not again when it continues
    assert re.search(r" bicubic, [\d.]+ (above|BELOW) the weights it started from$", lines[-2])
    assert [entry["step"] for entry in drawn[-1] if "valid/bicubic" in entry] == [0, 3]
    assert before["valid/score"] != after["valid/score"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "valid"}, "ValidationSet: name is 'valid', expected letters and digits, and not 'valid'"),
        ({"name": "a/b"}, "ValidationSet: name is 'a/b', expected letters and digits"),
        ({"protocol": "set5"}, "ValidationSet: protocol is 'set5', expected 'aim' or 'benchmark'"),
        ({"source": HrFolder()}, "HrFolder: hr is '', expected a folder"),
    ],
)
def test_sets_that_cannot_be(folder, fields, words):
    each = ValidationSet(**{"name": "a", "source": HrFolder("photos")} | fields)
    with pytest.raises(ValueError, match=re.escape(words)):
        _config(folder, more_valid=(each,)).validate()
    with pytest.raises(ValueError, match="valid is None, expected a set before more_valid"):
        _config(folder, valid=None, more_valid=(each,)).validate()


def test_images_too_small_for_the_protocol_are_told_before_training(folder, tmp_path):
    with pytest.raises(ValueError, match=r"0\.png: images are too small: expected at least 27x27, got 24x28"):
        train(_config(folder, protocol="aim"), tmp_path / "run", say=lambda _: None)


def test_bicubic_is_a_line_in_the_curves(tmp_path, monkeypatch):
    from matplotlib.axes import Axes

    drawn = []
    monkeypatch.setattr(Axes, "axhline", lambda self, y, **_: drawn.append(y))
    entries = [{"step": 3, "epoch": 1, "valid/score": 30.0, "valid/bicubic": 31.5}]
    run_log.draw_curves(entries, tmp_path / "a.png", score_name="PSNR-Y")
    del entries[0]["valid/bicubic"]  # of a run that was begun before it was recorded
    run_log.draw_curves(entries, tmp_path / "b.png", score_name="PSNR-Y")
    assert drawn == [31.5]


def test_no_silence_and_the_time_that_is_left(folder, monkeypatch):
    """A step takes two seconds, and the log a line every 1000 steps."""
    now = [100.0]
    monkeypatch.setattr(progress_lines.time, "monotonic", lambda: now[0])
    said = []
    config = _config(folder, epochs=10, steps_per_epoch=100)
    lines = progress_lines.TrainProgressLines(config, None, lambda line: said.append((now[0], line)), start=0)
    with lines.compiling():
        now[0] += 60
    now[0] += 2
    lines.first_step({"loss": 1.0})
    assert said[-1][1].endswith("compiled in 60.0 s, then computed in 2.0 s")
    for done in range(2, 60):
        now[0] += 2
        lines.meanwhile(done)
    times = [when - 162 for when, _ in said[2:]]
    assert times == [6, 38, 70, 102]
    assert said[2][1] == "epoch 1/10  step 4/1000  33 min left"  # 2 s for each of 996


def test_a_long_compilation_is_told(folder, monkeypatch):
    monkeypatch.setattr(progress_lines, "_SILENCE", 0.01)
    told = threading.Event()

    def say(line):
        if line == "still compiling":
            told.set()

    lines = progress_lines.TrainProgressLines(_config(folder), None, say, start=0)
    with lines.compiling():
        assert told.wait(60)
    assert not [thread for thread in threading.enumerate() if "go_on" in thread.name]


def test_a_signal_is_answered_while_a_step_is_compiled():
    """Compiling is a long call without Python, as this one is."""
    said = []
    with loop._signals_noted(said.append) as noted:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        while not noted:
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)
            said.append("compiled")
        signal.raise_signal(signal.SIGTERM)
    assert said[-2:] == [
        "told to stop: the run saves and ends after a few more steps",
        "compiled",
    ]
    assert noted == [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize(
    ("score", "start", "epoch", "words"),
    [
        (30.0, None, 2, "best so far"),
        (30.0, 29.5, 2, "best so far"),
        (30.0, 30.25, 2, "0.2500 BELOW the weights it started from, best epoch so far"),
        (30.0, 30.25, 1, "best in epoch 1"),
    ],
)
def test_best_is_not_said_of_what_is_below_the_start(folder, score, start, epoch, words):
    said = []
    config = _config(folder, epochs=3, steps_per_epoch=10)
    lines = progress_lines.TrainProgressLines(config, None, said.append, start=0)
    values = {"score": score, "psnr_y": score, "psnr_rgb": score, "ssim": 0.5, "aim_score": 0.5}
    state = RunState(best_score=30.0, best_epoch=epoch, start_score=start, bicubic_scores={"valid": 29.0})
    lines.evaluation(20, {"valid": Outcome(score, values, {})}, state)
    assert f"(1.0000 above bicubic, {words})" in said[0]


def test_stop_at_the_end_of_an_epoch_leaves_its_evaluation_to_the_next_start(folder, tmp_path, monkeypatch):
    """That start may itself be killed right after it has saved."""

    class Death(BaseException):
        pass

    def stop(line):
        if "step 2/3" in line:
            signal.raise_signal(signal.SIGTERM)

    save = Checkpoints.save

    def save_and_die(*args, **options):
        save(*args, **options)
        raise Death

    config = _config(folder, epochs=1)
    result = train(config, tmp_path / "run", say=stop)
    assert (result.step, result.is_complete) == (3, False)
    assert not (tmp_path / "run" / "latest").exists()
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(Death):
            train(config, tmp_path / "run", say=stop)
    result = train(config, tmp_path / "run", say=stop)
    assert result.is_complete
    assert result.best_score is not None
    train(config, tmp_path / "whole", say=lambda _: None)
    _assert_same(_left(tmp_path / "run"), _left(tmp_path / "whole"))
    curves = [(tmp_path / name / "curves.png").read_bytes() for name in ("run", "whole")]
    assert curves[0] == curves[1]
    assert [entry["step"] for entry in _log(tmp_path / "run")] == [1, 2, 3, 3]
    assert _left(tmp_path / "run")[2] == _left(tmp_path / "whole")[2]


@pytest.mark.slow
def test_bad_batches_end_the_run(folder, tmp_path):
    lines = []
    config = _config(folder, schedule=StepDecay(1e-4, (1,), 1e34), epochs=3)
    with pytest.raises(BadBatchError) as caught:
        train(config, tmp_path / "run", say=lines.append)
    message = str(caught.value)
    assert message.startswith("step 5: loss ")
    assert "0.png" in message
    assert f"last good checkpoint: {tmp_path / 'run' / 'checkpoints'}" in message
    assert "\n" not in message
    good = load_weights(tmp_path / "run" / "latest")[1]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(good))
    whole = _config(folder, epochs=1)
    train(whole, tmp_path / "whole", say=lines.append)
    expected = load_weights(tmp_path / "whole" / "latest")[1]
    jax.tree.map(np.testing.assert_array_equal, good, expected)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory allocating 5368709120 bytes.", r", allocating 5\.0 GiB"),
        ("Out of memory while trying to allocate 1.95GiB.", r", allocating 1\.9 GiB"),
        ("UNKNOWN: Failed to determine best cudnn convolution algorithm for: ...", ""),
    ],
)
def test_lack_of_memory_is_explained(folder, tmp_path, monkeypatch, text, wanted):
    def step(*_):
        raise jax.errors.JaxRuntimeError(text)

    monkeypatch.setattr(loop, "parallelise", lambda *_, **__: step)
    with pytest.raises(ValueError, match=rf"ran out of memory{wanted}; what helps: .*remat=True$"):
        train(_config(folder), tmp_path / "run", say=lambda _: None)


@pytest.mark.parametrize("protocol", ["aim", "benchmark"])
def test_curves_name_the_score(tmp_path, monkeypatch, protocol):
    names = []
    monkeypatch.setattr(run_log, "draw_curves", lambda *_, score_name: names.append(score_name))
    config = TrainConfig(MODEL, protocol=protocol)
    kept = run_log.RunLog(tmp_path, step=0, epoch=0, score_name=headline_name(config.protocol), say=print)
    kept.plot()
    kept.close()
    assert names == [{"aim": "AIM score", "benchmark": "PSNR-Y (dB)"}[protocol]]


def test_bad_batches_are_skipped_and_counted(folder, tmp_path):
    lines = []
    config = _config(folder, schedule=StepDecay(1e30), steps_per_epoch=9, epochs=1, max_bad_batches=3)
    with pytest.raises(BadBatchError):
        train(config, tmp_path / "run", say=lines.append)
    assert [line.partition(":")[0] for line in lines if "skipped" in line] == [
        f"skipped step {number}" for number in (2, 3, 4)
    ]
    assert _steps(tmp_path / "run") == [1]


def test_best_checkpoint_is_kept(folder, tmp_path, monkeypatch):
    from realsr_jax.train import validation

    scores = iter([6.0, 3.0, 9.0, 5.0, 4.0])  # the first is bicubic's
    monkeypatch.setattr(validation.protocols, "headline", lambda *_: next(scores))
    train(_config(folder, epochs=4), tmp_path / "run", say=lambda _: None)
    kept = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == [6, 10, 12]
    run_state = RunState(**_left(tmp_path / "run")[2])
    expected = RunState(best_score=9.0, best_epoch=2, ended_epochs=4, bicubic_scores={"valid": 6.0})
    assert run_state == expected
    assert json.loads((tmp_path / "run" / "best" / "model.json").read_text())["provenance"]["epoch"] == "2"


@pytest.fixture(scope="module")
def six_steps(folder):
    """A run with checkpoints after steps 3, 4 and 6."""
    options = {
        "jax_compilation_cache_dir": str(folder / "xla"),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    for name, value in options.items():
        jax.config.update(name, value)
    train(_config(folder, valid=None), folder / "six", say=lambda _: None)
    return folder / "six"


def _flip(file, place=0.5):
    content = bytearray(file.read_bytes())
    content[int(len(content) * place)] ^= 1
    file.write_bytes(content)


def _flip_arrays(checkpoint):
    for file in checkpoint.glob("state/**/d/*"):
        _flip(file)


DAMAGE = {
    "state": _flip_arrays,
    "state, missing": lambda folder: shutil.rmtree(folder / "state"),
    "progress": lambda folder: (folder / "progress" / "metadata").write_bytes(b"[1"),
    "progress, another number": lambda folder: (folder / "progress" / "metadata").write_text(
        (folder / "progress" / "metadata").read_text().replace('"ended_epochs": 2', '"ended_epochs": 1')
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_the_checkpoint_before_a_damaged_one_is_resumed_from(six_steps, folder, tmp_path, capfd, damage):
    workdir = tmp_path / "run"
    shutil.copytree(six_steps, workdir)
    damage(workdir / "checkpoints" / "6")
    lines = []
    train(_config(folder, valid=None), workdir, say=lines.append)
    places = workdir / "checkpoints"
    assert re.fullmatch(rf"{places}/6: damaged \(.*\); the run goes on from {places}/4", lines[0])
    assert lines[1].endswith("continued after step 4")
    assert capfd.readouterr().err == ""
    (left, left_state), (whole, whole_state) = (_latest(each) for each in (workdir, six_steps))
    assert left == whole == 6
    for a, b in zip(left_state, whole_state, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_flipped_byte_changes_what_is_restored(tmp_path):
    rng = np.random.default_rng(0)
    tx = optax.scale_by_adam()
    state = make_state({"a": rng.normal(size=(3, 5)).astype(np.float32), "b": np.ones(2, np.float32)}, tx)
    states = [replicate(state.replace(step=np.int32(step)), jax.devices()[:1]) for step in (1, 2)]
    saved = Checkpoints(tmp_path / "saved")
    for each in states:
        saved.save(each, RunState(best_score=0.1 * int(each.step), bicubic_scores={"valid": 1 / 3}))
    saved.close()
    files = [path for path in (tmp_path / "saved" / "2").rglob("*") if path.is_file()]
    passed_over = 0
    for file, place in itertools.product(files, (0.1, 0.5, 0.9)):
        content = file.read_bytes()
        _flip(file, place)
        told = []
        restored, run_state = Checkpoints(tmp_path / "saved").restore(state, told.append)
        step = 1 if told else 2
        assert int(restored.step) == step and len(told) < 2
        assert run_state.best_score == 0.1 * step
        for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(as_numpy(states[step - 1])), strict=True):
            np.testing.assert_array_equal(a, b)
        passed_over += len(told)
        file.write_bytes(content)
    assert passed_over > len(files) * 2


def test_a_run_without_a_whole_checkpoint_says_so(six_steps, folder, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(six_steps, workdir)
    for checkpoint in (workdir / "checkpoints").iterdir():
        _flip_arrays(checkpoint)
    with pytest.raises(
        ValueError, match=r"checkpoints/6.*: damaged .*, and no other is whole; delete .* anew$"
    ):
        train(_config(folder, valid=None), workdir, say=lambda _: None)


def test_a_checkpoint_of_an_earlier_release_is_resumed_from(six_steps, folder, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(six_steps, workdir)
    (workdir / "checkpoints" / "6" / "SHA256SUMS").unlink()
    (workdir / "checkpoints" / "6" / "metrics").mkdir()
    (workdir / "checkpoints" / "6" / "metrics" / "metrics").write_text("{")  # not read any more
    lines = []
    train(_config(folder, valid=None, epochs=3), workdir, say=lines.append)
    assert lines[0].endswith("continued after step 6")


def test_nothing_writes_beside_what_a_data_error_removes(folder, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(ocp, "CheckpointManager", lambda *args, **_: started.append(args))
    with pytest.raises(DataError):
        train(_config(folder, train=(HrFolder(str(tmp_path / "gone")),)), tmp_path / "run", say=print)
    assert not started
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_16_bits_train_and_validate_like_the_same_levels_of_8(folder, tmp_path):
    (tmp_path / "deep").mkdir()
    for path in (folder / "photos").iterdir():
        pixels = images.read_photo(path).rgb.astype(np.uint16) * 257
        images.write_photo(images.Photo(pixels, images.Metadata(), "PNG"), tmp_path / "deep" / path.name)
    # HR images are their own LR images, which 8 bits do not round either
    both = {}
    for name, place in (("shallow", folder / "photos"), ("deep", tmp_path / "deep")):
        made = tmp_path / f"lr_{name}"
        made.mkdir()
        for path in place.iterdir():
            half = images.read_photo(path).rgb[::2, ::2]
            images.write_photo(images.Photo(half, images.Metadata(), "PNG"), made / path.name)
        source = PairFolder(str(made), str(place))
        train(_config(folder, train=(source,), valid=source), tmp_path / name, say=lambda _: None)
        both[name] = _left(tmp_path / name), _log(tmp_path / name)
    _assert_same(both["deep"][0], both["shallow"][0], tolerance=1e-4)
    for entry, other in zip(both["deep"][1], both["shallow"][1], strict=True):
        for figure in {"loss", "valid/score", "valid/bicubic"} & entry.keys():
            assert entry[figure] == pytest.approx(other[figure], rel=1e-4), figure


@pytest.mark.slow
def test_bfloat16(folder, tmp_path):
    train(_config(folder, dtype="bfloat16", epochs=1), tmp_path / "run", say=lambda _: None)
    assert all(np.isfinite(entry["loss"]) for entry in _log(tmp_path / "run") if "loss" in entry)
    assert {x.dtype for x in jax.tree.leaves(load_weights(tmp_path / "run" / "latest")[1])} == {
        np.dtype(np.float32)
    }


IDLE = "; the nearest sizes that use all are "


@pytest.mark.parametrize(
    ("n", "batch_size", "used", "line"),
    [
        (4, 6, 3, f"1 more device(s) stay idle, as all cannot share batch_size 6 evenly{IDLE}4 or 8"),
        pytest.param(
            4,
            3,
            3,
            f"1 more device(s) stay idle, as all cannot share batch_size 3 evenly{IDLE}4",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            4,
            7,
            1,
            f"3 more device(s) stay idle, as all cannot share batch_size 7 evenly{IDLE}4 or 8",
            marks=pytest.mark.slow,
        ),
        pytest.param(2, 6, 2, None, marks=pytest.mark.slow),
        pytest.param(1, 6, 1, None, marks=pytest.mark.slow),
    ],
)
def test_as_many_devices_as_divide_the_batch(folder, tmp_path, monkeypatch, n, batch_size, used, line):
    """Whatever their number, the run is the same but for rounding."""
    left = []
    for name, available in (("several", n), ("one", 1)):
        monkeypatch.setattr(
            devices,
            "jax",
            types.SimpleNamespace(
                devices=lambda available=available: jax.devices()[:available],
                device_count=lambda available=available: available,
                process_count=lambda: 1,
            ),
        )
        lines = []
        config = _config(folder, batch_size=batch_size)
        train(config, tmp_path / name, say=lines.append)
        expected = used if name == "several" else 1
        assert lines[1] == f"3 training pairs on {expected} cpu device(s)"
        idle = [text for text in lines if "idle" in text]
        assert idle == ([line] if line and name == "several" else [])
        left.append(_left(tmp_path / name))
    _assert_same(*left, tolerance=3e-3)


@pytest.mark.slow
def test_a_core_is_a_device_for_the_command(folder):
    command = _Command(folder, folder / "cores", "--config.epochs=1", devices=None)
    assert command.end() == 0, command.text
    used = max(n for n in range(1, count_cores() + 1) if 4 % n == 0)
    assert f"3 training pairs on {used} cpu device(s)\n" in command.text


@pytest.mark.parametrize("scale", [3, 4])
def test_start_from(tmp_path, scale):
    params, origin = initial_params(MODEL, seed=0)
    assert origin == "from scratch"
    jax.tree.map(np.testing.assert_array_equal, params, initial_params(MODEL, seed=0)[0])
    save_weights(tmp_path / "latest", MODEL, params, provenance={})
    found, origin = initial_params(MODEL, seed=1, start_from=str(tmp_path / "latest"))
    assert origin == f"from {tmp_path / 'latest'}"
    jax.tree.map(np.testing.assert_array_equal, found, params)

    larger = EDSRConfig(n_resblocks=1, n_feats=4, scale=scale)
    found, origin = initial_params(larger, seed=1, start_from=str(tmp_path / "latest"))
    assert origin.startswith(f"from {tmp_path / 'latest'}, which upscales by 2; afresh for {scale}: ")
    fresh = initial_params(larger, seed=1)[0]
    for name in fresh:
        expected = fresh if name == "upsample" else params
        jax.tree.map(np.testing.assert_array_equal, found[name], expected[name])
    assert origin.endswith(
        ", ".join(sorted({"/".join(path) for path in _modules({"upsample": fresh["upsample"]})}))
    )
    other = DRLNConfig()
    with pytest.raises(ValueError, match=r"latest: holds EDSRConfig.*, but the run trains DRLNConfig"):
        initial_params(other, seed=1, start_from=str(tmp_path / "latest"))


def _modules(tree, path=()):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _modules(value, (*path, name))
        else:
            yield path


# What a continued run is held to


@pytest.fixture
def photos(folder, tmp_path):
    """A folder of photos of this test's own, and a run on it."""
    shutil.copytree(folder / "photos", tmp_path / "photos")

    def run(**fields):
        config = _config(folder, train=(HrFolder(str(tmp_path / "photos")),), valid=None, **fields)
        lines = []
        result = train(config, tmp_path / "run", say=lines.append)
        return result, lines

    return tmp_path / "photos", run


def test_an_epoch_follows_the_data_and_is_kept(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(train_config, "_LEAST_STEPS", 1)
    folder, run = photos
    fields = {"steps_per_epoch": 0, "checkpoint_every": 1}
    result, lines = run(**fields)
    assert (result.step, result.is_complete) == (2, True)
    assert any(line.startswith("epoch 2/2  step 2/2 ") for line in lines)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["steps_per_epoch"] == 1
    for name in "ab":
        shutil.copy(folder / "0.png", folder / f"{name}.png")
    with pytest.raises(ValueError, match=r"whose epochs have 1 steps, and now they have 2: .*_per_epoch=1$"):
        run(**fields)
    result, _ = run(**fields | {"steps_per_epoch": 1, "epochs": 3})
    assert (result.step, result.is_complete) == (3, True)
    with pytest.raises(ValueError, match=r"whose epochs have 1 steps, and now they have 3"):
        run(**fields | {"steps_per_epoch": 3})


def test_a_run_from_before_a_field_was_added_continues(photos, tmp_path):
    _, run = photos
    run(epochs=1)
    file = tmp_path / "run" / "config.json"
    description = json.loads(file.read_text())
    del description["augment"], description["model"]["res_scale"], description["train"][0]["border"]
    file.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"holds a run with augment True \(now False\)"):
        run(epochs=2, augment=False)
    with pytest.raises(ValueError, match="holds a run with another train"):
        train(_config(tmp_path, train=(HrFolder("x", "mirror"),)), tmp_path / "run", say=print)
    description["model"]["n_feats"] = 5
    file.write_text(json.dumps(description))
    with pytest.raises(ValueError, match="holds a run with another model"):
        run(epochs=2)
    description["model"]["n_feats"] = 4
    file.write_text(json.dumps(description))
    assert run(epochs=2)[0].is_complete


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "expected a description of TrainConfig, as --show prints it"),
        ("{}", "expected a description of TrainConfig"),
        ("7", "expected a description of TrainConfig"),
        ("[" * 100_000, "maximum recursion depth exceeded"),
        ('{"class": "TrainConfig", "epochs": "many"}', "epochs is 'many', expected a whole number"),
        ('{"class": "TrainConfig", "epochs": null}', "epochs is None, expected a whole number"),
    ],
)
def test_a_description_that_is_none(six_steps, folder, tmp_path, content, words):
    workdir = tmp_path / "run"
    shutil.copytree(six_steps, workdir)
    (workdir / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"/config\.json: damaged \(.*\); delete it to") as caught:
        train(_config(folder, valid=None), workdir, say=print)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_run_that_is_often_stopped_logs_what_an_unbroken_one_does(folder, tmp_path):
    def stop(line):
        if "compiled in" in line:
            signal.raise_signal(signal.SIGTERM)

    config = _config(folder, steps_per_epoch=7, log_every=5, checkpoint_every=3)
    train(config, tmp_path / "whole", say=lambda _: None)
    starts = 1
    while not train(config, tmp_path / "run", say=stop).is_complete:
        starts += 1
    assert starts > 5
    logs = [
        [
            {name: value for name, value in entry.items() if name not in ("patches_per_second", "waiting")}
            for entry in _log(each)
        ]
        for each in (tmp_path / "run", tmp_path / "whole")
    ]
    assert logs[0] == logs[1]
    assert [entry["step"] for entry in logs[0]] == [5, 7, 7, 10, 14, 14]


def test_damaged_lines_of_the_log_are_left_out_and_told(six_steps, folder, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(six_steps, workdir)
    entries = _log(workdir)
    lines = (workdir / "log.jsonl").read_text().splitlines()
    bad = [
        "5",
        "[]",
        '{"step": 1}',
        '{"step": "1", "epoch": 1}',
        '{"step": 1, "epoch": 1, "loss": "1"}',
        "\0",
    ]
    (workdir / "log.jsonl").write_text("\n".join([*lines[:2], *bad, *lines[2:], '{"step": 7, "ep']))
    told = []
    train(_config(folder, valid=None), workdir, say=told.append)
    assert [line for line in told if "log.jsonl" in line] == [
        f"{workdir / 'log.jsonl'}: 6 damaged lines are left out, the first of which is line 3; "
        "expected an object with whole numbers step and epoch, and other numbers"
    ]
    assert _log(workdir) == entries


@pytest.mark.slow
def test_a_cosine_that_continues_says_what_the_learning_rate_does(photos):
    _, run = photos
    line = "the Cosine schedule now ends at step 6: the learning rate goes from 0 to 0.5 here"
    for epochs, expected in ((1, False), (1, False), (2, True), (2, False)):
        assert (line in run(epochs=epochs, schedule=Cosine(1.0))[1]) == expected


@pytest.mark.slow
def test_a_step_decay_that_continues_has_nothing_to_say(photos):
    _, run = photos
    for epochs in (1, 2):
        assert not any("learning rate goes" in line for line in run(epochs=epochs)[1])


def test_weights_of_every_epoch(folder, tmp_path):
    train(_config(folder, save_every_epoch=True), tmp_path / "run", say=lambda _: None)
    assert sorted(path.name for path in (tmp_path / "run" / "epochs").iterdir()) == ["1", "2"]
    trees = [load_weights(tmp_path / "run" / name)[1] for name in ("epochs/1", "epochs/2", "latest")]
    jax.tree.map(np.testing.assert_array_equal, trees[1], trees[2])
    with pytest.raises(AssertionError):
        jax.tree.map(np.testing.assert_array_equal, trees[0], trees[2])


@pytest.mark.slow
def test_no_augmentation(folder, tmp_path, monkeypatch):
    asked = []

    def make_sample(*args, augment, **options):
        asked.append(augment)
        return made(*args, augment=augment, **options)

    made = batches.make_sample
    monkeypatch.setattr(batches, "make_sample", make_sample)
    for augment in (True, False):
        train(_config(folder, augment=augment, epochs=1), tmp_path / str(augment), say=lambda _: None)
        assert set(asked) == {augment}
        asked.clear()


def test_weights_tell_where_they_come_from(folder, tmp_path):
    train(_config(folder), tmp_path / "run", say=lambda _: None, command="realsr-train --config=x")
    provenance = json.loads((tmp_path / "run" / "best" / "model.json").read_text())["provenance"]
    assert provenance["command"] == "realsr-train --config=x"
    assert provenance["training_data"] == "3 pairs of HrFolder(hr='photos', border='clamp', reduction=1.0)"
    assert provenance["trained_in"] == "run"
    assert float(provenance["benchmark_score"]) > 0
    assert provenance["epoch"] in "12"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("--config.train[0].hr=/home/me/my photos/hr", "--config.train[0].hr=hr"),
        ("--config.train[0].hr=~/photos/*[0-7].png", "--config.train[0].hr=*[0-7].png"),
        ("--workdir=runs/a", "--workdir=runs/a"),
        ("--workdir=../runs/a", "--workdir=../runs/a"),
        ("PairFolder(lr='/x/y/LR', hr='data/HR')", "PairFolder(lr='LR', hr='data/HR')"),
    ],
)
def test_no_folders_are_told(text, told):
    assert without_folders(text) == told
