"""What a run tells while it goes on: lines for the user, and the same figures for the log."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from realsr_jax.evaluate.protocols import Protocol, columns
from realsr_jax.train.checkpoints import RunState
from realsr_jax.train.run_log import RunLog
from realsr_jax.train.train_config import FIRST_SET, TrainConfig
from realsr_jax.train.validation import Outcome

_SOON: Final = 5.0
"""Seconds after the first step when the user learns how long the run will take."""

_SILENCE: Final = 30.0
"""Seconds after a line when the next is due, whatever the log does."""

_START: Final = "the weights it started from"


def headline_name(protocol: str) -> str:
    """Returns the name of the figure by which a protocol decides, for people."""
    rules = Protocol(protocol)
    decisive = next(column for column in columns(rules) if column.field == rules.headline)
    return f"{decisive.heading} ({decisive.unit})" if decisive.unit else decisive.heading


class Meter:
    """Averages the metrics of steps, and measures how long they took."""

    def __init__(self, run_state: RunState):
        """Goes on with the sums of a run, which are kept there."""
        self._kept = run_state
        self.skip_pause()

    def wait_for(self, batches: Iterator[Any]) -> Any:
        """Returns the next batch, and counts the time until it is there."""
        before = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - before
        return batch

    def add(self, values: dict[str, float]) -> None:
        """Adds a step's metrics."""
        sums = self._kept.unlogged
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
        self._kept.unlogged_steps += 1
        self._timed += 1

    def means(self, batch_size: int) -> dict[str, float]:
        """Returns the means since `restart`, patches per second and the share of time spent waiting."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        means = {name: total / self._kept.unlogged_steps for name, total in self._kept.unlogged.items()}
        speed = {
            "patches_per_second": self._timed * batch_size / seconds,
            "waiting": min(1.0, self._waited / seconds),
        }
        return means | speed

    def restart(self) -> None:
        """Begins new means."""
        self._kept.unlogged, self._kept.unlogged_steps = {}, 0
        self.skip_pause()

    def skip_pause(self) -> None:
        """Leaves out the time until now, in which no steps were made."""
        self._since = time.monotonic()
        self._waited, self._timed = 0.0, 0


class TrainProgressLines:
    """Writes lines for the user, and the log."""

    def __init__(self, config: TrainConfig, log: RunLog | None, say: Callable[[str], None], *, start: int):
        """Starts at a step; without a log, where another process keeps it."""
        self._config = config
        self._log = log
        self._say = say
        self._first = start + 1
        self._since = self._compiled = self._told = time.monotonic()
        self._wait = _SOON

    @contextlib.contextmanager
    def compiling(self) -> Iterator[None]:
        """Tells that the first step is being compiled, and now and then that it still is."""
        self._tell("compiling the training step, which takes minutes for large networks")
        self._since = time.monotonic()
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(_SILENCE):
                self._tell("still compiling")

        teller = threading.Thread(target=go_on, daemon=True)
        teller.start()
        try:
            yield
        finally:
            ended.set()
            teller.join()
            self._compiled = time.monotonic()

    def first_step(self, values: dict[str, float]) -> None:
        """Reports the first step, which neither speed nor the time that is left can be told from."""
        compiling, self._since = self._compiled - self._since, time.monotonic()
        computing = self._since - self._compiled
        pace = f"compiled in {compiling:.1f} s, then computed in {computing:.1f} s"
        self._tell_means(self._first, values, pace)

    def training(self, done: int, values: dict[str, float]) -> None:
        """Reports the steps that the log has not told of; `values` as `Meter.means` returns them."""
        speed = f"{values['patches_per_second']:.1f} patches/s  waiting {values['waiting']:.0%}"
        self._tell_means(done, values, f"{speed}  {self._left(done)}")

    def record(self, done: int, values: dict[str, float]) -> None:
        """Writes the same into the log."""
        if self._log is not None:
            self._log.write(step=done, epoch=self._epoch(done), values=values)

    def meanwhile(self, done: int) -> None:
        """Tells how far the run is, if the user has read nothing for a while."""
        if time.monotonic() - self._told > self._wait:
            self._tell(f"{self._place(done)}  {self._left(done)}")

    def _tell_means(self, done: int, values: dict[str, float], pace: str) -> None:
        parts = ", ".join(
            f"{name.removeprefix('loss/')} {value:.4g}"
            for name, value in values.items()
            if name.startswith("loss/")
        )
        loss = f"loss {values['loss']:.4f} ({parts})" if "loss" in values else "no good batch"
        self._tell(f"{self._place(done)}  {loss}  learning rate {values.get('learning_rate', 0):.3g}  {pace}")

    def _tell(self, line: str) -> None:
        self._say(line)
        self._told = time.monotonic()
        self._wait = _SILENCE if self._told - self._since > _SOON else _SOON

    def _epoch(self, done: int) -> int:
        return -(-done // self._config.steps_per_epoch)

    def _place(self, done: int) -> str:
        config = self._config
        return f"epoch {self._epoch(done)}/{config.epochs}  step {done}/{config.n_steps}"

    def _left(self, done: int) -> str:
        taken = time.monotonic() - self._since
        return f"{_duration(taken / max(done - self._first, 1) * (self._config.n_steps - done))} left"

    def evaluation(self, done: int, outcomes: Mapping[str, Outcome], run_state: RunState) -> None:
        """Reports an evaluation after a step, or before the first; `outcomes` by the names of the sets."""
        epoch = done // self._config.steps_per_epoch
        bicubic = run_state.bicubic_scores
        if self._log is not None:
            values = {f"{name}/bicubic": bicubic[name] for name in outcomes}
            for name, outcome in outcomes.items():
                values |= {f"{name}/{figure}": value for figure, value in outcome.values.items()}
                for sample, image in outcome.samples.items():
                    self._log.show(step=done, name=f"{name}/{sample}", image=image)
            self._log.write(step=done, epoch=epoch, values=values)
        when = f"evaluation after epoch {epoch}" if done else "evaluation before the first step"
        for each in self._config.validation_sets:
            remarks = [_compared(outcomes[each.name].score, bicubic[each.name], "bicubic")]
            if each.name == FIRST_SET and done:
                remarks += _rank(epoch, run_state)
            decisive, others = _figures(outcomes[each.name], each.protocol)
            name = "" if each.name == FIRST_SET else f", {each.name}"
            self._tell(f"{when}{name}: {decisive} ({', '.join(remarks)})  {others}")

    def end(self, run_state: RunState) -> None:
        """Tells what the best weights are worth."""
        score, start = run_state.best_score, run_state.start_score
        if score is None:
            return
        remarks = [_compared(score, run_state.bicubic_scores[FIRST_SET], "bicubic")]
        if start is not None:
            remarks.append(_compared(score, start, _START))
        name = headline_name(self._config.protocol)
        self._tell(f"best in epoch {run_state.best_epoch}: {name} {score:.4f}, {', '.join(remarks)}")

    def plot(self) -> None:
        """Draws the curves anew."""
        if self._log is not None:
            self._log.plot()


def _figures(outcome: Outcome, protocol: str) -> tuple[str, str]:
    """Returns the figure that decides and the others, for people."""
    rules = Protocol(protocol)
    figures = {
        column.field: f"{column.heading} {outcome.values[column.field]:.4f} {column.unit}".rstrip()
        for column in columns(rules)
    }
    decisive = figures.pop(rules.headline)
    return decisive, "  ".join(figures.values())


def _rank(epoch: int, run_state: RunState) -> list[str]:
    """Says what an epoch's score is among those of the run, and of the weights that it started from."""
    score, start = run_state.best_score, run_state.start_score
    if run_state.best_epoch != epoch or score is None:
        return [f"best in epoch {run_state.best_epoch}"]
    if start is None or score > start:
        return ["best so far"]
    return [_compared(score, start, _START), "best epoch so far"]


def _compared(score: float, other: float, what: str) -> str:
    """Says how far a score is above or below another one."""
    if score == other:
        return f"equal to {what}"
    return f"{abs(score - other):.4f} {'above' if score > other else 'BELOW'} {what}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"
