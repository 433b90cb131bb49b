"""A training run from its configuration: data in, steps, evaluations, checkpoints and weights out."""

import collections
import contextlib
import dataclasses
import re
import shutil
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from realsr_jax.data.batches import Batches, batch_names, make_batches
from realsr_jax.data.errors import DataError
from realsr_jax.data.sources import Source
from realsr_jax.data.training_pairs import TrainingPairs, open_pairs
from realsr_jax.models import build_model
from realsr_jax.models.precision import resolve_precision
from realsr_jax.system.errors import is_out_of_memory
from realsr_jax.system.files import locked, remove_leftovers
from realsr_jax.system.jax_startup import profiled
from realsr_jax.system.terminal import Progress
from realsr_jax.train.checkpoints import Checkpoints, RunState, as_numpy
from realsr_jax.train.devices import choose_devices, describe_idle_devices
from realsr_jax.train.initial_params import count, initial_params
from realsr_jax.train.optimizers import make_optimizer
from realsr_jax.train.progress_lines import Meter, TrainProgressLines, headline_name
from realsr_jax.train.run_config import CONFIG_FILE, read_run_config, without_folders, write_run_config
from realsr_jax.train.run_log import RunLog
from realsr_jax.train.step import TrainState, make_loss, make_state, parallelise, replicate, train_step
from realsr_jax.train.train_config import FIRST_SET, TrainConfig
from realsr_jax.train.validation import Outcome, Validation
from realsr_jax.weights import save_weights

Say = Callable[[str], None]

_PROFILED = range(4, 9)  # steps from the start, when all is compiled
_STOPS = (signal.SIGTERM, signal.SIGINT)


class BadBatchError(ValueError):
    """A loss or gradient that is not finite; the message says where and what to do."""


@dataclasses.dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        step: steps taken.
        is_complete: False if a signal ended it before its last step.
        best_score: of the evaluations, or None.
    """

    step: int
    is_complete: bool
    best_score: float | None


def train(
    config: TrainConfig, workdir: Path, *, say: Say, command: str = "", profile: Path | None = None
) -> RunResult:
    """Trains a network, or continues to where a run in the same directory was interrupted.

    SIGTERM and SIGINT save a checkpoint and end the run.

    Args:
        config: the run.
        workdir: its directory, shared by all hosts: ``config.json``, ``checkpoints``, ``log.jsonl``,
            ``tensorboard``, ``curves.png``, and the weights directories ``latest`` and ``best``, that of the
            highest score (``model_best.pt`` of the published code is its latest network).
        say: prints a line for the user.
        command: what was typed to start the run, which exported weights tell.
        profile: where to write a profile of the fourth to eighth step, for TensorBoard or xprof.

    Raises:
        ValueError: if the configuration, the data or what is in the directory cannot be used.
        BadBatchError: if a loss or gradient is not finite, more often than the configuration allows.
    """
    config.validate()
    devices = choose_devices(config)
    existed = workdir.exists()
    workdir.mkdir(parents=True, exist_ok=True)
    if jax.process_index() > 0:
        return _Run(config, workdir, devices, lambda _: None, command)(profile)
    with locked(workdir / ".lock", otherwise=f"{workdir}: another run is going on in this directory"):
        try:
            return _Run(config, workdir, devices, say, command)(profile)
        except DataError:
            names = {path.name for path in workdir.iterdir()}
            if not existed and names <= {".lock", CONFIG_FILE}:  # not one step was tried
                shutil.rmtree(workdir, ignore_errors=True)
            raise


class _Run:
    """A run: what it needs at hand, and the loop."""

    def __init__(
        self, config: TrainConfig, workdir: Path, devices: Sequence[Any], say: Say, command: str
    ) -> None:
        """Opens the data and what an earlier start of the run has left."""
        self.workdir, self.devices, self.say, self.command = workdir, devices, say, command
        self.checkpoints = Checkpoints(workdir / "checkpoints")
        is_new = self.checkpoints.latest() is None
        if not is_new:  # first without the length of an epoch, so that nothing is decoded in vain
            read_run_config(config, workdir)
        self.pairs = open_training_pairs(config, config.train, say, patch_size=config.patch_size)
        length, reason = config.epoch_for(len(self.pairs))
        self.config = config = config.replace(steps_per_epoch=length)
        earlier = None if is_new else read_run_config(config, workdir)
        if jax.process_index() == 0:
            write_run_config(config, workdir)
        self.validations = {
            each.name: Validation(
                config.model,
                open_training_pairs(config, (each.source,), say),
                protocol=each.protocol,
                dtype=config.dtype,
                say=say,
            )
            for each in config.validation_sets
        }
        start_from = config.start_from if is_new else ""
        params, origin = initial_params(config.model, seed=config.seed, start_from=start_from)
        self.optimizer = make_optimizer(
            config.optimizer, clip_gradient=config.clip_gradient, clip_norm=config.clip_norm
        )
        state = make_state(params, self.optimizer, with_average=config.ema_decay > 0)
        restored = self.checkpoints.restore(state, say)
        state, self.run_state = restored or (state, RunState())
        self.state = replicate(state, devices)
        self.start = int(self.state.step)
        name = type(config.model).__name__.removesuffix("Config")
        origin = f"continued after step {self.start}" if restored else origin
        say(f"{name}, {count(params):,} parameters, {origin}")
        say(f"{len(self.pairs):,} training pairs on {len(devices)} {devices[0].platform} device(s)")
        if idle := describe_idle_devices(config, devices):
            say(idle)
        epochs = f"{config.epochs:,} epoch{'s' * (config.epochs != 1)}"
        say(f"{config.n_steps:,} steps: {epochs} of {length:,} steps, {reason}")
        if earlier is not None:
            self._tell_of_new_schedule(earlier["epochs"])
        self.meter = Meter(self.run_state)

    def _tell_of_new_schedule(self, earlier_epochs: int) -> None:
        """Says what a learning rate does at the start of a run that continues to another end."""
        earlier = self.config.replace(epochs=earlier_epochs)
        before, now = (np.asarray(_schedule(config)(self.start)) for config in (earlier, self.config))
        if not np.isclose(before, now, rtol=1e-3, atol=0):
            self.say(
                f"the {type(self.config.schedule).__name__} schedule now ends at step {self.config.n_steps}: "
                f"the learning rate goes from {before:.3g} to {now:.3g} here"
            )

    def __call__(self, profile: Path | None) -> RunResult:
        """Takes the steps that are left."""
        config = self.config
        log = self._open_log() if jax.process_index() == 0 else None
        self.lines = TrainProgressLines(config, log, self.say, start=self.start)
        batches = make_batches(
            self.pairs,
            patch_size=config.patch_size,
            batch_size=config.batch_size,
            n_steps=config.n_steps,
            seed=config.seed,
            augment=config.augment,
            start=self.start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=config.workers,
        )
        failed = True
        try:
            self._know_what_to_beat()
            with _signals_noted(self.say) as signals, _Profiler(profile) as profiler:
                result = self._steps(batches, signals, profiler)
            failed = False
            return result
        finally:
            batches.close()
            if log is not None:
                log.close()
            # Where one host of several fails, the others would not come to wait for it.
            if not failed or jax.process_count() == 1:
                self.checkpoints.close()

    def _know_what_to_beat(self) -> None:
        """Scores plain interpolation and, before the first step, the weights that training starts from."""
        for name, validation in self.validations.items():
            if name in self.run_state.bicubic_scores:
                continue
            score = self.run_state.bicubic_scores[name] = validation.score_bicubic()
            of = "" if name == FIRST_SET else f"{name}, "
            images = f"{of}{validation.n_images} image{'s' * (validation.n_images != 1)}"
            self.say(f"bicubic, to be beaten: {headline_name(validation.protocol)} {score:.4f} ({images})")
        if self.start == 0 and self.config.start_from and self.validations:
            outcomes = self._evaluate(as_numpy(self.state.weights))
            self.run_state.start_score = outcomes[FIRST_SET].score
            self.lines.evaluation(0, outcomes, self.run_state)

    def _evaluate(self, params: Any) -> dict[str, Outcome]:
        """Scores parameters on all validation sets."""
        return {name: validation(params) for name, validation in self.validations.items()}

    def _open_log(self) -> RunLog:
        ended = self.run_state.ended_epochs
        for folder in (self.workdir, self.workdir / "epochs"):
            remove_leftovers(folder)
        score_name = headline_name(self.config.protocol)
        return RunLog(self.workdir, step=self.start, epoch=ended, score_name=score_name, say=self.say)

    def _steps(self, batches: Batches, signals: Sequence[int], profiler: "_Profiler") -> RunResult:
        config, step_fn = self.config, self._step_function()
        pending: collections.deque[tuple[int, Any]] = collections.deque()
        ended_before = self.run_state.ended_epochs
        if self.start == (ended_before + 1) * config.steps_per_epoch:
            self._end_epoch(self.start)  # the run was stopped before it came to this
        for done in range(self.start + 1, config.n_steps + 1):
            profiler.before(done - self.start)
            is_first = done == self.start + 1
            batch = self.meter.wait_for(batches)
            with _memory_explained(), self.lines.compiling() if is_first else contextlib.nullcontext():
                self.state, metrics = step_fn(self.state, self._by_device(batch, stop=bool(signals)))
            if is_first:  # devices compute in the background from here on
                self.meter.skip_pause()
            pending.append((done, metrics))
            is_epoch_end = done % config.steps_per_epoch == 0
            saves = done % config.checkpoint_every == 0
            logs = is_epoch_end or done % config.log_every == 0
            # A step's metrics are looked at when the next one has been handed to the device, which so is
            # never idle.
            stops = self._look_at(pending, leave=0 if saves or logs or is_first else 1)
            means = self.meter.means(config.batch_size)
            if is_first:
                self.lines.first_step(means)
            elif logs:
                self.lines.training(done, means)
            else:
                self.lines.meanwhile(done)
            if logs:
                self.lines.record(done, means)
                self.meter.restart()
            if stops:
                self._look_at(pending)
                self._save()
                self.say(f"stopped after step {done}, saved; the same command continues")
                return RunResult(done, False, self.run_state.best_score)
            if is_epoch_end:
                self._end_epoch(done)
            elif saves:
                self._save()
        return self._completed(ended_before >= config.epochs)

    def _step_function(self) -> Callable[[TrainState, Any], Any]:
        config = self.config
        precision = resolve_precision(config.dtype, config.model, self.devices[0])
        model = build_model(config.model, dtype=precision.dtype, remat=config.remat)
        return parallelise(
            train_step,
            devices=self.devices,
            precision=precision,
            loss_fn=make_loss(model, config.losses),
            optimizer=self.optimizer,
            schedule=_schedule(config),
            accumulate=config.accumulate,
            ema_decay=config.ema_decay,
        )

    def _by_device(self, batch: dict[str, np.ndarray], *, stop: bool) -> dict[str, np.ndarray]:
        """Cuts this host's batch for its devices, and adds whether the host was told to stop."""
        n = len(self.devices) // jax.process_count()
        shares = {name: x.reshape(n, -1, *x.shape[1:]) for name, x in batch.items()}
        return shares | {"stop": np.full((n,), stop, np.float32)}

    def _completed(self, was_complete: bool) -> RunResult:
        place = self.workdir / ("best" if self.run_state.best_epoch else "latest")
        where = f"weights in {place}, use --weights={self.workdir}"
        if was_complete:
            self.lines.plot()  # which a kill may have prevented
            self.say(f"already complete after step {self.start}; {where}; --config.epochs=M continues it")
        else:
            self.lines.end(self.run_state)
            self.say(f"complete; {where}")
        return RunResult(self.config.n_steps, True, self.run_state.best_score)

    def _look_at(self, pending: collections.deque[tuple[int, Any]], *, leave: int = 0) -> bool:
        """Reads the metrics of all steps but the last few; returns whether a host was told to stop."""
        stops = False
        while len(pending) > leave:
            step, metrics = pending.popleft()
            with _memory_explained():  # devices compute in the background
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            stops |= values.pop("stop") > 0
            if values.pop("is_finite") > 0:
                self.meter.add(values)
            else:
                self._complain_of(step, values)
        return stops

    def _complain_of(self, step: int, values: dict[str, float]) -> None:
        config = self.config
        names = batch_names(self.pairs, step - 1, batch_size=config.batch_size, seed=config.seed)
        what = (
            f"step {step}: loss {values['loss']}, gradient norm {values['gradient_norm']}; "
            f"its batch: {', '.join(dict.fromkeys(names))}"
        )
        self.run_state.bad_batches += 1
        if self.run_state.bad_batches <= config.max_bad_batches:
            self.say(f"skipped {what}")
            return
        raise BadBatchError(
            f"{what}; last good checkpoint: {self.checkpoints.latest() or 'none yet'} (lower the learning "
            "rate, look at these files, or skip such batches with --config.max_bad_batches=N)"
        )

    def _end_epoch(self, done: int) -> None:
        """Evaluates, exports the weights and saves."""
        epoch = done // self.config.steps_per_epoch
        params, score = as_numpy(self.state.weights), None
        if self.validations:
            outcomes = self._evaluate(params)
            score, best = outcomes[FIRST_SET].score, self.run_state.best_score
            if best is None or score > best:
                self.run_state.best_score, self.run_state.best_epoch = score, epoch
                self._export("best", params, epoch, score)
            self.lines.evaluation(done, outcomes, self.run_state)
        self._export("latest", params, epoch, score)
        if self.config.save_every_epoch:
            self._export(f"epochs/{epoch}", params, epoch, score)
        self.run_state.ended_epochs = epoch
        self._save()
        self.lines.plot()
        self.meter.skip_pause()

    def _save(self) -> None:
        best = self.run_state.best_epoch * self.config.steps_per_epoch
        self.checkpoints.save(self.state, self.run_state, best=best)

    def _export(self, name: str, params: Any, epoch: int, score: float | None) -> None:
        if jax.process_index() > 0:
            return
        sources = ", ".join(without_folders(str(source)) for source in self.config.train)
        provenance = {
            "trained_in": self.workdir.name,
            "epoch": str(epoch),
            "training_data": f"{len(self.pairs):,} pairs of {sources}",
        }
        if self.command:
            provenance["command"] = self.command
        if score is not None:
            provenance[f"{self.config.protocol}_score"] = f"{score:.6f}"
        save_weights(self.workdir / name, self.config.model, params, provenance=provenance)


class _Profiler(contextlib.ExitStack):
    """Writes a profile of the steps `_PROFILED` into a folder, if there is one."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self._folder = folder

    def before(self, step: int) -> None:
        """Notes the start of a step, counted from 1."""
        if step == _PROFILED.start:
            self.enter_context(profiled(self._folder))
        elif step == _PROFILED.stop:
            self.close()


def _schedule(config: TrainConfig) -> optax.Schedule:
    return config.schedule.make(n_steps=config.n_steps, steps_per_epoch=config.steps_per_epoch)


@contextlib.contextmanager
def _memory_explained() -> Iterator[None]:
    """Turns a device's lack of memory into a ValueError that says what helps."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise
        found = re.search(r"allocat\w+ (\d+) bytes|allocat\w+ ([\d.]+) ?GiB", str(error))
        gibibytes = 0.0 if found is None else int(found[1]) / 2**30 if found[1] else float(found[2])
        wanted = f", allocating {gibibytes:.1f} GiB" if found else ""
        raise ValueError(
            f"the device ran out of memory{wanted}; what helps: a smaller --config.batch_size or "
            "--config.patch_size, --config.accumulate=N, --config.remat=True"
        ) from error


def open_training_pairs(
    config: TrainConfig, sources: Sequence[Source], say: Say, *, patch_size: int = 0
) -> TrainingPairs:
    """Opens sources as a run does, and says what is left out; see `open_pairs`."""
    with Progress("decoding", "pairs", tell=say) as progress:
        pairs = open_pairs(
            sources,
            scale=config.model.scale,
            patch_size=patch_size,
            decoded_dir=config.decoded_dir,
            skip_bad=config.skip_bad_images,
            progress=progress.update,
        )
    for problem in pairs.problems:
        say(f"left out: {problem}")
    return pairs


@contextlib.contextmanager
def _signals_noted(say: Say) -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying of them, and says so; a second SIGINT interrupts.

    While a step is compiled, Python comes to them only afterwards. A thread is told of them at once.
    """
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(signum: int, _frame: object) -> None:
        if signum == signal.SIGINT and signum in noted:
            raise KeyboardInterrupt
        noted.append(signum)

    hears, told = socket.socketpair()
    told.setblocking(False)

    def answer() -> None:
        is_told = False
        while number := hears.recv(1):
            if number[0] in _STOPS and not is_told:
                is_told = True
                say("told to stop: the run saves and ends after a few more steps")

    teller = threading.Thread(target=answer, daemon=True)
    teller.start()
    waked = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    before = {number: signal.signal(number, note) for number in _STOPS}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(waked)
        told.shutdown(socket.SHUT_RDWR)  # closing would not do where a forked process has it too
        told.close()
        teller.join()
        hears.close()
