"""Runs cases on several sides in turn, and compares their times and results."""

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from realsr_jax.benchmark.cases import Case
from realsr_jax.benchmark.conversation import INPUTS, RESULT, WEIGHTS

MOST_DIFFERENT = {"float32": 1e-4, "bfloat16": 1e-2}
"""RMS difference of results, relative to their RMS, above which a side computes something else; ten times as
much after training steps, and 50 times as much in one place."""


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to run the networks.

    Attributes:
        name: of the column, and of its files.
        command: starts its worker.
    """

    name: str
    command: tuple[str, ...]


OURS = Side("realsr_jax", (sys.executable, "-m", "realsr_jax.benchmark.jax_side"))


class SideError(RuntimeError):
    """A side that cannot run a case; the message is one line."""

    def __init__(self, side: Side, message: str):
        """Keeps the side, so that the others can go on without it."""
        super().__init__(message)
        self.side = side


@dataclasses.dataclass(frozen=True)
class Timing:
    """What one side did in one case.

    Attributes:
        seconds: of each run, without the first.
        first_seconds: of the first run, in which the network is compiled.
        peak_bytes: the most memory of the process, or of the device where it has its own.
        flops: floating-point operations of one run, counted as for direct convolutions.
        difference: from the first side's result, largest and RMS, in grey levels or in units of the loss;
            None for the first side.
        is_same: whether the difference is one of rounding.
    """

    seconds: list[float]
    first_seconds: float
    peak_bytes: int
    flops: float
    difference: tuple[float, float] | None = None
    is_same: bool = True

    @property
    def median(self) -> float:
        """Median of the runs, in seconds."""
        return statistics.median(self.seconds)

    @property
    def compile_seconds(self) -> float:
        """What the first run took longer than the others."""
        return max(0.0, self.first_seconds - self.median)

    @property
    def flops_per_second(self) -> float:
        """Speed of the arithmetic."""
        return self.flops / self.median


class _Worker:
    """A side's process."""

    def __init__(self, side: Side, case: Case):
        self._side, self._case = side, case
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, closed with the process
        # Compilation is measured, so neither side may find what it compiled before.
        environment = os.environ | {
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
        }
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        self._process = subprocess.Popen(
            side.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._process.kill()
        with contextlib.suppress(BrokenPipeError):  # where it ended before it read a line
            self._process.communicate()
        self._errors.close()

    def make_ready(self, folder: Path) -> None:
        """Tells the side its case, whose files lie in a folder, and waits until it can run it."""
        self.ask(json.dumps({"case": dataclasses.asdict(self._case), "folder": str(folder)}))

    def ask(self, request: str) -> dict[str, float]:
        """Sends a line and returns the answer."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return json.loads(answer)
        status = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        reason = lines[-1] if lines else f"exit status {status}; out of memory?"
        raise SideError(self._side, f"{self._side.name}: {self._case.label}: {reason}")


def run_case(
    case: Case, sides: Sequence[Side], *, folder: Path, photo: np.ndarray, repeats: int
) -> dict[str, Timing]:
    """Runs a case on all sides in turn.

    Args:
        case: what runs.
        sides: the first is the one with which results are compared.
        folder: for weights, inputs and results.
        photo: uint8 [h, w, 3], of which the inputs are cut.
        repeats: runs of each side, after a first one.

    Raises:
        SideError: if a side cannot run it.
    """
    from realsr_jax.benchmark import inputs as networks

    np.savez(folder / INPUTS, allow_pickle=False, **networks.make_inputs(case, photo))
    weights = folder / WEIGHTS.format(network=case.network)
    if case.task != "product" and not weights.exists():
        networks.write_weights(case.model_config, weights)
    flops = networks.count_flops(case)
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(_Worker(side, case)) for side in sides]
        for worker in workers:
            worker.make_ready(folder)
        first = [worker.ask("run")["seconds"] for worker in workers]
        rounds = [[worker.ask("run")["seconds"] for worker in workers] for _ in range(repeats)]
        peaks = [int(worker.ask("finish")["peak_bytes"]) for worker in workers]
    results = [np.load(folder / RESULT.format(side=side.name)) for side in sides]
    timings = {}
    for i, side in enumerate(sides):
        timing = Timing([times[i] for times in rounds], first[i], peaks[i], flops)
        if i and case.task != "product":
            timing = _compared(timing, case, results[0], results[i])
        timings[side.name] = timing
    return timings


def _compared(timing: Timing, case: Case, ours: np.ndarray, theirs: np.ndarray) -> Timing:
    """Returns a timing with how far the result is from ours."""
    if ours.shape != theirs.shape:
        return dataclasses.replace(timing, difference=(np.inf, np.inf), is_same=False)
    difference = np.abs(ours.astype(np.float64) - theirs)
    rms = np.sqrt(np.mean(difference**2))
    limit = MOST_DIFFERENT[case.dtype] * np.sqrt(np.mean(ours.astype(np.float64) ** 2))
    if case.task == "step":
        limit *= 10
    # Written so that what is not a number is different.
    is_same = bool(rms <= limit and difference.max() <= 50 * limit)
    return dataclasses.replace(timing, difference=(float(difference.max()), float(rms)), is_same=is_same)
