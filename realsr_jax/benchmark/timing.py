"""Runs cases on several sides in turn, and compares their times and results."""

import contextlib
import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from realsr_jax.benchmark.cases import Case, count_flops, make_inputs, make_weights
from realsr_jax.benchmark.conversation import INPUTS, RESULT, WEIGHTS, Side, started

MOST_DIFFERENT: Final = {"float32": 1e-4, "bfloat16": 1e-2}
"""RMS difference of results, relative to their RMS, above which a side computes something else; ten times as
much after training steps, and 50 times as much in one place."""

OURS: Final = Side("realsr_jax", (sys.executable, "-m", "realsr_jax.benchmark.jax_side"))


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

    def as_json(self) -> dict[str, Any]:
        """Returns all figures, as JSON can hold them."""
        finite = self.difference and [value if math.isfinite(value) else None for value in self.difference]
        derived = {"median": self.median, "compile_seconds": self.compile_seconds, "difference": finite}
        return dataclasses.asdict(self) | derived


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

    Returns:
        What each side did, by its name.

    Raises:
        SideError: if a side cannot run it.
    """
    np.savez(folder / INPUTS, allow_pickle=False, **make_inputs(case, photo))
    opening = {"case": dataclasses.asdict(case), "folder": str(folder)}
    if case.network:
        np.savez(folder / WEIGHTS, allow_pickle=False, **make_weights(case.model_config))
        opening["case"]["fields"] = list(dataclasses.asdict(case.model_config).items())
    with contextlib.ExitStack() as stack:
        asks = [stack.enter_context(started(side, case.label)) for side in sides]
        for ask, side in zip(asks, sides, strict=True):
            ask(json.dumps(opening | {"side": side.name}))
        rounds = [[ask("run")["seconds"] for ask in asks] for _ in range(1 + repeats)]
        peaks = [int(ask("finish")["peak_bytes"]) for ask in asks]
    results = [np.load(folder / RESULT.format(side=side.name)) for side in sides]
    flops, timings = count_flops(case), {}
    for side, peak, result, (first, *others) in zip(sides, peaks, results, zip(*rounds), strict=True):
        timing = Timing(others, first, peak, flops)
        is_first_side = not timings
        timings[side.name] = timing if case.task == "product" or is_first_side else compare(timing, case, results[0], result)
    return timings


def compare(timing: Timing, case: Case, ours: np.ndarray, theirs: np.ndarray) -> Timing:
    """Returns a timing with how far the side's result is from the first side's."""
    if ours.shape != theirs.shape:
        return dataclasses.replace(timing, difference=(math.inf, math.inf), is_same=False)
    difference = np.abs(ours.astype(np.float64) - theirs)
    rms = np.sqrt(np.mean(difference**2))
    limit = MOST_DIFFERENT[case.dtype] * np.sqrt(np.mean(ours.astype(np.float64) ** 2))
    if case.task == "step":
        limit *= 10
    # Written so that what is not a number is different.
    is_same = bool(rms <= limit and difference.max() <= 50 * limit)
    return dataclasses.replace(timing, difference=(float(difference.max()), float(rms)), is_same=is_same)
