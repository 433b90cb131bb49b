"""A training run from its configuration: data in, steps, evaluations, checkpoints and records out."""

import collections
import dataclasses
import fcntl
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax import weights
from realsr_jax.data import DataError, Pairs, batch_names, make_batches, open_pairs
from realsr_jax.models import build_model
from realsr_jax.train.checkpoints import Checkpoints, Progress, as_numpy
from realsr_jax.train.run_config import check_description
from realsr_jax.train.optimizers import make_optimizer, make_schedule
from realsr_jax.train.run_log import Records
from realsr_jax.train.progress_lines import Meter, Report, headline_name
from realsr_jax.train.initial_params import count, initial_params
from realsr_jax.train.step import make_loss, make_state, parallelise, replicate, train_step
from realsr_jax.train.validation import Validation
from realsr_jax.train.train_config import TrainConfig

Say = Callable[[str], None]


class BadBatchError(ValueError):
    """A loss or gradient that is not finite; the message says where and what to do."""


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        step: steps taken.
        is_complete: False if a signal ended it before its last step.
        best_score: of the evaluations, or None.
    """

    step: int
    is_complete: bool
    best_score: float | None


def train(config: TrainConfig, workdir: Path, *, say: Say) -> Result:
    """Trains a network, or continues to where a run in the same directory was interrupted.

    SIGTERM and SIGINT save a checkpoint and end the run.

    Args:
        config: the run.
        workdir: its directory, shared by all hosts: ``config.json``, ``checkpoints``, the weights directories
            ``latest`` and ``best``, ``log.jsonl``, ``tensorboard`` and ``curves.png``.
        say: prints a line for the user.

    Raises:
        ValueError: if the configuration, the data or what is in the directory cannot be used.
        BadBatchError: if a loss or gradient is not finite, more often than the configuration allows.
    """
    config.validate()
    _check_batch_size(config)
    existed = workdir.exists()
    workdir.mkdir(parents=True, exist_ok=True)
    if jax.process_index() > 0:
        return _train(config, workdir, _say_nothing)
    with _locked(workdir):
        try:
            return _train(config, workdir, say)
        except DataError:
            names = {path.name for path in workdir.iterdir()}
            if not existed and names <= {".lock", "config.json", "checkpoints"}:  # not one step was tried
                shutil.rmtree(workdir, ignore_errors=True)
            raise


def _train(config: TrainConfig, workdir: Path, say: Say) -> Result:
    checkpoints = Checkpoints(workdir / "checkpoints")
    is_new = checkpoints.latest() is None
    check_description(config, workdir, is_new=is_new)
    pairs = _open(config, config.train, say, patch_size=config.patch_size)
    validation = None
    if config.valid is not None:
        valid_pairs = _open(config, (config.valid,), say)
        validation = Validation(config.model, valid_pairs, protocol=config.protocol, dtype=config.dtype)

    start_from = config.start_from if is_new else ""
    params, origin = initial_params(config.model, seed=config.seed, start_from=start_from)
    optimizer = make_optimizer(config.optimizer, clip_gradient=config.clip_gradient)
    state = make_state(params, optimizer, with_average=config.ema_decay > 0)
    restored = checkpoints.restore(state)
    state, progress = (replicate(state), Progress()) if restored is None else restored
    say(
        f"{type(config.model).__name__.removesuffix('Config')}, {count(params):,} parameters, "
        + (origin if restored is None else f"continued after step {int(state.step)}")
    )
    say(f"{len(pairs):,} training pairs on {jax.device_count()} {jax.devices()[0].platform} device(s)")
    run = _Run(config, workdir, pairs, validation, checkpoints, progress, say)
    step = parallelise(
        train_step,
        loss_fn=make_loss(
            build_model(config.model, dtype=jnp.dtype(config.dtype), remat=config.remat), config.losses
        ),
        optimizer=optimizer,
        schedule=make_schedule(
            config.schedule, n_steps=config.n_steps, steps_per_epoch=config.steps_per_epoch
        ),
        accumulate=config.accumulate,
        ema_decay=config.ema_decay,
    )
    return run(state, step)


class _Run:
    """The loop, with what it needs at hand."""

    def __init__(
        self,
        config: TrainConfig,
        workdir: Path,
        pairs: Pairs,
        validation: Validation | None,
        checkpoints: Checkpoints,
        progress: Progress,
        say: Say,
    ):
        self.config = config
        self.workdir = workdir
        self.pairs = pairs
        self.validation = validation
        self.checkpoints = checkpoints
        self.progress = progress
        self.say = say
        self.meter = Meter()

    def __call__(self, state: Any, step_fn: Callable[..., Any]) -> Result:
        config, start = self.config, int(state.step)
        if jax.process_index() == 0:
            _remove_half_written(self.workdir)
        ended = self.progress.ended_epochs
        records = None
        if jax.process_index() == 0:
            score_name = headline_name(config.protocol)
            records = Records(self.workdir, step=start, epoch=ended, score_name=score_name)
        self.report = Report(config, records, self.say, start=start)
        batches = make_batches(
            self.pairs,
            patch_size=config.patch_size,
            batch_size=config.batch_size,
            n_steps=config.n_steps,
            seed=config.seed,
            start=start,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            workers=config.workers,
        )
        with _signals_noted() as signals:
            failed = True
            try:
                result = self._steps(state, step_fn, batches, signals)
                failed = False
                return result
            finally:
                batches.close()  # pyright: ignore[reportAttributeAccessIssue]
                if records is not None:
                    records.close()
                # Where one host of several fails, the others would not come to wait for it.
                if not failed or jax.process_count() == 1:
                    self.checkpoints.close()

    def _steps(
        self, state: Any, step_fn: Callable[..., Any], batches: Iterator[Any], signals: list[int]
    ) -> Result:
        config = self.config
        # The metrics of a step are looked at when the next one has been handed to the device, which so
        # is never idle.
        pending: collections.deque[tuple[int, Any]] = collections.deque()
        start = int(state.step)
        was_complete = self.progress.ended_epochs >= config.epochs
        if (
            start // config.steps_per_epoch > self.progress.ended_epochs
            and start % config.steps_per_epoch == 0
        ):
            self._end_epoch(state, start)  # the run was stopped before it came to this
        for number in range(start, config.n_steps):
            batch = self.meter.wait_for(batches)
            with _memory_explained():
                state, metrics = step_fn(state, _by_device(batch, stop=bool(signals)))
            pending.append((number, metrics))
            done = number + 1
            is_epoch_end = done % config.steps_per_epoch == 0
            pauses = is_epoch_end or done % config.checkpoint_every == 0 or done % config.log_every == 0
            stops = False
            while len(pending) > (0 if pauses else 1):
                stops |= self._look_at(*pending.popleft())
            if done % config.log_every == 0 or is_epoch_end:
                self.report.training(done, self.meter.take(config.batch_size))
            if stops:
                while pending:
                    self._look_at(*pending.popleft())
                self.checkpoints.save(state, self.progress)
                self.say(f"stopped after step {done}, saved; the same command continues")
                return Result(done, False, self.progress.best_score)
            if is_epoch_end:
                self._end_epoch(state, done)
            elif done % config.checkpoint_every == 0:
                self.checkpoints.save(state, self.progress)
        place = self.workdir / ("best" if self.progress.best_epoch else "latest")
        where = f"weights in {place}, use --weights={self.workdir}"
        if was_complete:
            self.say(f"already complete after step {start}; {where}; --config.epochs=M continues it")
        else:
            self.say(f"complete; {where}")
        return Result(config.n_steps, True, self.progress.best_score)

    def _look_at(self, number: int, metrics: Any) -> bool:
        """Reads a step's metrics; returns whether a host was told to stop."""
        with _memory_explained():  # devices compute in the background
            values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        stop, is_finite = values.pop("stop") > 0, values.pop("is_finite") > 0
        if is_finite:
            self.meter.add(values)
        else:
            self._complain_of(number, values)
        return stop

    def _complain_of(self, number: int, values: dict[str, float]) -> None:
        config = self.config
        names = batch_names(self.pairs, number, batch_size=config.batch_size, seed=config.seed)
        what = (
            f"step {number + 1}: loss {values['loss']}, gradient norm {values['gradient_norm']}; "
            f"its batch: {', '.join(dict.fromkeys(names))}"
        )
        self.progress.bad_batches += 1
        if self.progress.bad_batches <= config.max_bad_batches:
            self.say(f"skipped {what}")
            return
        last = self.checkpoints.latest()
        raise BadBatchError(
            f"{what}; last good checkpoint: {last or 'none yet'} (lower the learning rate, look at these "
            "files, or skip such batches with --config.max_bad_batches=N)"
        )

    def _end_epoch(self, state: Any, done: int) -> None:
        """Evaluates, exports the weights and saves."""
        epoch = done // self.config.steps_per_epoch
        params = as_numpy(state.weights)
        score = None
        if self.validation is not None:
            outcome = self.validation(params)
            score = outcome.score
            best = self.progress.best_score
            is_best = best is None or score > best
            if is_best:
                self.progress = dataclasses.replace(self.progress, best_score=score, best_epoch=epoch)
                self._export("best", params, epoch, score)
            self.report.evaluation(done, outcome, self.progress)
        self._export("latest", params, epoch, score)
        self.progress = dataclasses.replace(self.progress, ended_epochs=epoch)
        self.checkpoints.save(state, self.progress, score=score)
        self.report.plot()
        self.meter.skip_pause()

    def _export(self, name: str, params: Any, epoch: int, score: float | None) -> None:
        if jax.process_index() == 0:
            provenance = {"trained_in": self.workdir.name, "epoch": str(epoch)}
            if score is not None:
                provenance[f"{self.config.protocol}_score"] = f"{score:.6f}"
            weights.save_weights(self.workdir / name, self.config.model, params, provenance=provenance)


def _remove_half_written(workdir: Path) -> None:
    """Removes what a killed run left of weights that it was writing, unless it had not yet replaced them."""
    for name in ("best", "latest"):
        for path in workdir.glob(f".{name}.*.old"):
            if not (workdir / name).exists():
                os.replace(path, workdir / name)
        for path in workdir.glob(f".{name}.*"):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _locked(workdir: Path) -> Iterator[None]:
    """Keeps a second run out of a directory, where the file system knows locks."""
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{workdir}: another run is going on in this directory") from error
        except OSError:
            pass
        yield


@contextmanager
def _memory_explained() -> Iterator[None]:
    """Turns a device's lack of memory into a ValueError that says what helps."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        found = re.search(r"allocat\w+ (\d+) bytes", str(error))
        wanted = f", allocating {int(found[1]) / 2**30:.1f} GiB" if found else ""
        raise ValueError(
            f"the device ran out of memory{wanted}; what helps: a smaller --config.batch_size or "
            "--config.patch_size, --config.accumulate=N, --config.remat=True"
        ) from error


def _by_device(batch: dict[str, np.ndarray], *, stop: bool) -> dict[str, np.ndarray]:
    """Cuts this host's batch for its devices, and adds whether the host was told to stop."""
    n = jax.local_device_count()
    parts = {name: x.reshape(n, -1, *x.shape[1:]) for name, x in batch.items()}
    return parts | {"stop": np.full((n,), stop, np.float32)}


def _open(config: TrainConfig, sources: Any, say: Say, *, patch_size: int = 0) -> Pairs:
    shown = time.monotonic()

    def progress(ready: int, total: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            say(f"decoded {ready:,} of {total:,} pairs of images")

    pairs = open_pairs(
        sources,
        scale=config.model.scale,
        patch_size=patch_size,
        decoded_dir=config.decoded_dir,
        skip_bad=config.skip_bad_images,
        progress=progress,
    )
    for problem in pairs.problems:
        say(f"left out: {problem}")
    return pairs


def _check_batch_size(config: TrainConfig) -> None:
    """Raises ValueError unless the batch can be shared evenly by devices and parts."""
    unit = jax.device_count() * config.accumulate
    if config.batch_size % unit:
        below = config.batch_size // unit * unit
        nearest = f"{below} or {below + unit}" if below else str(unit)
        parts = f" in {config.accumulate} parts each" if config.accumulate > 1 else ""
        raise ValueError(
            f"batch_size is {config.batch_size}, which {jax.device_count()} devices{parts} cannot share "
            f"evenly; the nearest sizes are {nearest}"
        )


@contextmanager
def _signals_noted() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT instead of dying of them; a second SIGINT interrupts at once."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(signum: int, _frame: object) -> None:
        if signum == signal.SIGINT and signum in noted:
            raise KeyboardInterrupt
        noted.append(signum)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say_nothing(_: str) -> None:
    pass
