"""Commands that are killed, run twice at once, and meet streams, disks, locales and users that are unusual.

Everyday runs try one command; `-m slow` tries all. REALSR_KILLS is the number of kills of each command there.
"""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import commands
import jax
import kills
import numpy as np
import pytest

from realsr_jax.models import parameter_shapes
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.system import files
from realsr_jax.weights import load_weights, save_weights

KILLS = int(os.environ.get("REALSR_KILLS", "2"))
NOBODY = 65534


def all_but(*everyday):
    """Parameters: some commands, and all others as slow ones."""
    slow = (pytest.param(name, marks=pytest.mark.slow) for name in commands.COMMANDS if name not in everyday)
    return [*everyday, *slow]


@pytest.fixture(scope="module")
def base():
    """A folder with inputs that every user may read."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        commands.make_inputs(Path(folder))
        yield Path(folder)


@pytest.fixture
def folder(base):
    """A new folder beside the inputs."""
    folder = Path(tempfile.mktemp(dir=base))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def unbroken(base):
    """Returns what a command leaves that nothing happens to, and its exit status; each is run once."""
    known = {}

    def run(name, folder=base / "unbroken"):
        if name not in known:
            command = commands.COMMANDS[name]
            command.prepare(folder)
            status, _ = finished(command.start(folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
            known[name] = commands.left(folder), status
            shutil.rmtree(folder)
        return known[name]

    return run


def finished(process):
    told = process.communicate(timeout=500)[0] or b""
    return process.returncode, told.decode(errors="replace")


# ------------------------------------------------------------------------------------------------ kills


@pytest.mark.parametrize(
    ("name", "count"),
    [("convert_over", 2), *(pytest.param(name, KILLS, marks=pytest.mark.slow) for name in commands.COMMANDS)],
)
def test_kills(base, name, count, capsys):
    tally = kills.kill_often(commands.COMMANDS[name], count, folder=base, seed=count)
    with capsys.disabled():
        print(f"\n{name}: {tally}")
    assert not tally.faults


WRITER = """
import sys
from pathlib import Path
from realsr_jax.system import files
files._exchange = lambda *_: False
with files.replacing_file(Path("file")) as file, files.replacing_folder(Path("folder")) as folder:
    file.write(b"half")
    (folder / "half").touch()
    if sys.argv[1:] == ["aside"]:
        files._put_in_place = lambda new, path, old: (files.os.rename(path, old), wait())
        def wait():
            print("ready", flush=True)
            input()
    else:
        print("ready", flush=True)
        input()
"""


@contextlib.contextmanager
def writer(*arguments):
    """Starts a process that is in the midst of writing a file and a folder."""
    command = [sys.executable, "-c", WRITER, *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        yield process


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a file and a folder in it."""
    monkeypatch.chdir(tmp_path)
    files.write_atomically(tmp_path / "file", "before")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "before").touch()
    files.remove_leftovers.cache_clear()
    return tmp_path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_removed(place):
    with writer() as process:
        process.kill()
    assert len(names(place)) > 2
    files.write_atomically(place / "other", "")
    assert names(place) == ["file", "folder", "other"]
    assert names(place / "folder") == ["before"]


def test_what_a_living_process_writes_stays(place):
    with writer() as process:
        before = names(place)
        files.remove_leftovers(place)
        assert names(place) == before
        process.communicate(b"\n")
    assert names(place) == ["file", "folder"]
    assert (place / "file").read_bytes() == b"half"
    assert names(place / "folder") == ["half"]


def test_what_a_killed_process_moved_aside_is_put_back(place):
    with writer("aside") as process:
        assert not (place / "folder").exists()
        process.kill()
    files.remove_leftovers(place)
    assert names(place) == ["file", "folder"]
    assert names(place / "folder") == ["before"]


def test_what_another_host_writes_stays_for_a_day(place, monkeypatch):
    with writer() as process:
        process.kill()
    for path in place.glob(".*"):
        path.rename(path.with_name(path.name.replace(socket.gethostname(), "other-1")))
    monkeypatch.setattr("socket.gethostname", lambda: "other")
    files.remove_leftovers(place)
    assert len(names(place)) > 2
    for path in place.glob(".*.tmp"):
        os.utime(path, (0, time.time() - 90000))
    files.remove_leftovers.cache_clear()
    files.remove_leftovers(place)
    assert names(place) == ["file", "folder"]


# -------------------------------------------------------------------------------- while others read and write

REWRITER = """
import functools, sys, time
from realsr_jax import weights
from test_hostile_commands import save_constant
weights.parameter_shapes = functools.cache(weights.parameter_shapes)  # takes most of the time
for value in range(int(sys.argv[2])):
    save_constant(sys.argv[1], value)
    time.sleep(0.03)  # or it ends before a reader on a busy machine has read three of them
"""


CONFIGS = [EDSRConfig(n_resblocks=1, n_feats=n_feats, scale=2) for n_feats in (2, 3)]
SHAPES = [parameter_shapes(config) for config in CONFIGS]


def save_constant(path, value):
    """Saves a network, of another size if the number is odd, whose parameters all are that number."""
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, value, np.float32), SHAPES[value % 2])
    save_weights(Path(path), CONFIGS[value % 2], params, provenance={})


@pytest.mark.parametrize("rewrites", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_who_reads_weights_while_they_are_rewritten_never_fails_and_sees_no_mix(tmp_path, rewrites):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    if not files._exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system exchanges no folders")
    weights = tmp_path / "weights"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    save_constant(weights, 0)
    seen = set()
    with subprocess.Popen(
        [sys.executable, "-c", REWRITER, str(weights), str(rewrites)], env=environment
    ) as process:
        while process.poll() is None:
            config, params = load_weights(weights)
            (value,) = set(np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)]))
            assert config == CONFIGS[int(value) % 2]
            seen.add(value)
    assert process.returncode == 0
    assert len(seen) > 2
    assert sorted(names(tmp_path)) == ["one", "other", "weights"]


@pytest.mark.parametrize("name", all_but("make_lr"))
def test_two_runs_into_one_folder(folder, unbroken, name):
    expected, status = unbroken(name)
    command = commands.COMMANDS[name]
    command.prepare(folder)
    both = [command.start(folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for _ in range(2)]
    ended = [finished(process) for process in both]
    if name == "train":  # the second is told so
        refusals = [told for ended_as, told in ended if ended_as != status]
        assert all("another run is going on in this directory" in told for told in refusals)
    else:
        assert [ended_as for ended_as, _ in ended] == [status, status], ended
    assert not any("Traceback" in told for _, told in ended)
    assert commands.left(folder) == expected


# ----------------------------------------------------------------------------------- streams, disks, locales

STREAMS = {
    "closed": "<&- >&- 2>&-",
    "full": ">/dev/full 2>/dev/full",
    "no output": ">&-",
    "no errors": "2>&-",
}


@pytest.mark.parametrize("name", all_but("make_lr"))
@pytest.mark.parametrize("form", [*STREAMS, "unread"])
def test_streams_change_nothing(folder, unbroken, name, form):
    expected, status = unbroken(name)
    commands.COMMANDS[name].prepare(folder)
    prefix = ["sh", "-c", f'exec "$@" {STREAMS.get(form, "")}', "sh"]
    reader, unread = os.pipe()
    os.close(reader)
    process = commands.COMMANDS[name].start(folder, prefix=prefix, stdout=unread, stderr=unread)
    os.close(unread)
    assert process.wait(500) == status
    assert commands.left(folder) == expected


def test_a_full_output_is_told(folder):
    command = commands.Command("cli.train", "--list")
    command.prepare(folder)
    with open("/dev/full", "w") as full:
        process = command.start(folder, stdout=full, stderr=subprocess.PIPE, text=True)
        assert process.communicate()[1].splitlines() == [
            "standard output: No space left on device; some lines are lost, results are not"
        ]
    assert process.returncode == 0


@contextlib.contextmanager
def disk(folder, options):
    """A small disk in the place of a folder; the test is skipped where it cannot be mounted."""
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def assert_refused(process, telling):
    status, told = finished(process)
    assert status in (1, 2), told
    assert re.search(telling, told, re.IGNORECASE), told
    assert "Traceback" not in told and "ERROR:" not in told, told


@pytest.mark.parametrize("name", all_but("make_lr"))
def test_a_full_disk_is_told_in_a_line(folder, unbroken, name):
    expected, _ = unbroken(name)
    folder.mkdir()
    with disk(folder, "size=8m"):
        commands.COMMANDS[name].prepare(folder)
        given = commands.left(folder)
        with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        os.truncate(folder / "ballast", (folder / "ballast").stat().st_size - 8192)
        process = commands.COMMANDS[name].start(folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert_refused(process, "no space left|too little|room")
        for path in kills.visible(folder):
            if path != "ballast":
                is_known = (folder / path).read_bytes() in (given.get(path), expected.get(path))
                assert is_known or commands.is_whole(folder / path), path


@pytest.mark.parametrize("name", all_but("make_lr"))
def test_a_disk_that_must_not_be_written_to(folder, name):
    folder.mkdir()
    with disk(folder, "size=64m"):
        commands.COMMANDS[name].prepare(folder)
        (folder / "tmp").mkdir()
        before = commands.left(folder)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        process = commands.COMMANDS[name].start(folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert_refused(process, "permission|read-only|temporary directory")
        assert commands.left(folder) == before


@pytest.mark.parametrize("environment", [{"LC_ALL": "C"}, {"LC_ALL": "tr_TR.ISO-8859-9", "LANG": "tr_TR"}])
def test_locales_change_nothing(base, folder, environment):
    names = base / "names"
    names.mkdir(exist_ok=True)
    shutil.copy(base / "inputs" / "hr" / "000000.png", names / "Zürich İı東京.png")
    command = commands.Command("cli.prepare", "--make_lr=2 --hr=../names --lr=Zürich")
    found = []
    for more in ({}, {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"} | environment):
        command.prepare(folder)
        status, told = finished(command.start(folder, more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
        assert status == 0, told
        found.append(commands.left(folder))
        shutil.rmtree(folder)
    assert list(found[0]) == ["Zürich/Zürich İı東京.png"]
    assert found[0] == found[1]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can give up rights")
@pytest.mark.parametrize("name", all_but("make_lr"))
def test_a_user_without_rights(folder, unbroken, name):
    """Root without capabilities is a user like others, who may not write into another's folder."""
    expected, status = unbroken(name)
    command = commands.COMMANDS[name]
    command.prepare(folder)
    (folder / "tmp").mkdir()
    before = commands.left(folder)
    environment = {"HOME": "/nonexistent", "JAX_COMPILATION_CACHE_DIR": str(folder / "xla")}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    options["prefix"] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    _give(folder, NOBODY)
    assert_refused(command.start(folder, environment, **options), "permission|temporary directory")
    assert commands.left(folder) == before
    _give(folder, 0)
    folder.chmod(0o755)
    environment["JAX_COMPILATION_CACHE_DIR"] = "/proc/xla"  # where nothing can be kept
    ended, told = finished(command.start(folder, environment, **options))
    assert ended == status, told
    assert commands.left(folder) == expected


def _give(folder, user):
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user)
