"""What a run tells while it goes on: lines for the user, and the same figures for the log."""

import time
from collections.abc import Callable, Iterator
from typing import Any

from realsr_jax.evaluate.protocols import Protocol, columns
from realsr_jax.train.checkpoints import RunState
from realsr_jax.train.run_log import RunLog
from realsr_jax.train.train_config import TrainConfig
from realsr_jax.train.validation import Outcome


def headline_name(protocol: str) -> str:
    """Returns the name of the figure by which a protocol decides, for people."""
    rules = Protocol(protocol)
    decisive = next(column for column in columns(rules) if column.field == rules.headline)
    return f"{decisive.heading} ({decisive.unit})" if decisive.unit else decisive.heading


class Meter:
    """Averages the metrics of steps, and measures how long they took."""

    def __init__(self):
        self._sums: dict[str, float] = {}
        self._steps = 0
        self._waited = 0.0
        self._since = time.monotonic()

    def wait_for(self, batches: Iterator[Any]) -> Any:
        """Returns the next batch, and counts the time until it is there."""
        before = time.monotonic()
        batch = next(batches)
        self._waited += time.monotonic() - before
        return batch

    def add(self, values: dict[str, float]) -> None:
        """Adds a step's metrics."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1

    def take(self, batch_size: int) -> dict[str, float]:
        """Returns the means since the last call, patches per second and the share of time spent waiting."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        means = {name: total / self._steps for name, total in self._sums.items()}
        speed = {
            "patches_per_second": self._steps * batch_size / seconds,
            "waiting": min(1.0, self._waited / seconds),
        }
        self.__init__()
        return means | speed

    def skip_pause(self) -> None:
        """Leaves out the time since the last `take`, in which no steps were made."""
        self._since = time.monotonic()
        self._waited = 0.0


class TrainProgressLines:
    """Writes lines for the user, and the log."""

    def __init__(self, config: TrainConfig, log: RunLog | None, say: Callable[[str], None], *, start: int):
        """Starts at a step; without a log, where another process keeps it."""
        self._config = config
        self._log = log
        self._say = say
        self._start = start
        self._since = time.monotonic()

    def training(self, done: int, values: dict[str, float]) -> None:
        """Reports the steps since the last report; `values` as `Meter.take` returns them."""
        config = self._config
        epoch = -(-done // config.steps_per_epoch)
        if self._log is not None:
            self._log.write(step=done, epoch=epoch, values=values)
        parts = ", ".join(
            f"{name.removeprefix('loss/')} {value:.4g}"
            for name, value in values.items()
            if name.startswith("loss/")
        )
        left = (time.monotonic() - self._since) / (done - self._start) * (config.n_steps - done)
        loss = f"loss {values['loss']:.4f} ({parts})" if "loss" in values else "no good batch"
        self._say(
            f"epoch {epoch}/{config.epochs}  step {done}/{config.n_steps}  {loss}  "
            f"learning rate {values.get('learning_rate', 0):.3g}  "
            f"{values['patches_per_second']:.1f} patches/s  "
            f"waiting {values['waiting']:.0%}  {_duration(left)} left"
        )

    def evaluation(self, done: int, outcome: Outcome, run_state: RunState) -> None:
        """Reports an evaluation."""
        epoch = done // self._config.steps_per_epoch
        if self._log is not None:
            values = {f"valid/{name}": value for name, value in outcome.values.items()}
            self._log.write(step=done, epoch=epoch, values=values)
            for name, image in outcome.samples.items():
                self._log.show(step=done, name=f"valid/{name}", image=image)
        protocol = Protocol(self._config.protocol)
        figures = {
            column.field: f"{column.heading} {outcome.values[column.field]:.4f} {column.unit}".rstrip()
            for column in columns(protocol)
        }
        decisive = figures.pop(protocol.headline)
        best = "best so far" if run_state.best_epoch == epoch else f"best in epoch {run_state.best_epoch}"
        self._say(f"evaluation after epoch {epoch}: {decisive} ({best})  {'  '.join(figures.values())}")

    def plot(self) -> None:
        """Draws the curves anew."""
        if self._log is not None:
            self._log.plot()


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if seconds >= 90 else f"{seconds:.0f} s"
