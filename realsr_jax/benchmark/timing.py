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

from realsr_jax.benchmark.cases import TASKS, Case, count_flops, make_inputs, make_weights
from realsr_jax.benchmark.conversation import INPUTS, RESULT, WEIGHTS, Side, started

MOST_DIFFERENT: Final = {"float32": 1e-4, "bfloat16": 1e-2}
"""RMS difference of results, relative to their RMS, above which a side computes something else; ten times as
much after training steps and in folders, whose results are rounded, and 50 times as much in one place."""


def _our_side(name: str, tasks: Sequence[str], dtypes: Sequence[str] = ("float32", "bfloat16")) -> Side:
    command = (sys.executable, "-m", "realsr_jax.benchmark.jax_side", name)
    return Side(name, command, tuple(tasks), tuple(dtypes))


OURS: Final = _our_side("realsr_jax", ["product", *TASKS])
OURS_IN_FLOAT32: Final = _our_side("realsr_jax_float32", ["tile", "photo", "ensemble", "step"], ["bfloat16"])
"""Runs beside bfloat16 in float32: the truth there, and the speed without it."""

OURS_ALONE: Final = _our_side("computation_alone", ["folder"])
"""Upscales the photos of a folder in memory, one after the other, with everything compiled."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """What one side did in one case.

    Attributes:
        seconds: of each run, without the first.
        first_seconds: of the first run, in which the network is compiled.
        median: of the runs, in seconds.
        compile_seconds: what the first run took longer than the others.
        peak_bytes: the most memory of the process, or of the device where it has its own.
        flops: floating-point operations of one run, counted as for direct convolutions.
        difference: from the first side's result, largest and RMS, in grey levels or in units of the loss;
            None for the first side.
        is_same: whether the difference is one of rounding.
    """

    seconds: list[float]
    first_seconds: float
    median: float
    compile_seconds: float
    peak_bytes: int
    flops: float
    difference: tuple[float, float] | None = None
    is_same: bool = True

    def as_json(self) -> dict[str, Any]:
        """Returns all figures, as JSON can hold them."""
        finite = self.difference and [value if math.isfinite(value) else None for value in self.difference]
        return dataclasses.asdict(self) | {"difference": finite}


def run_case(
    case: Case, sides: Sequence[Side], *, folder: Path, photo: np.ndarray, repeats: int
) -> dict[str, Timing]:
    """Runs a case on all sides in turn.

    Args:
        case: what runs.
        sides: the first is the one with which results are compared.
        folder: for weights, inputs, results and what else a side writes; of this case only.
        photo: uint8 [h, w, 3], of which the inputs are cut.
        repeats: runs of each side, after a first one.

    Returns:
        What each side did, by its name.

    Raises:
        SideError: if a side cannot run it.
    """
    config = case.model_config if case.network else None
    np.savez(folder / INPUTS, allow_pickle=False, **make_inputs(case, photo))
    np.savez(folder / WEIGHTS, allow_pickle=False, **make_weights(case))
    told = dataclasses.replace(case, fields=vars(config) if config else {})
    opening: dict[str, Any] = {"case": dataclasses.asdict(told), "folder": str(folder)}
    with contextlib.ExitStack() as stack:
        asks = [stack.enter_context(started(side, case.label)) for side in sides]
        for ask, side in zip(asks, sides, strict=True):
            ask(json.dumps(opening | {"side": side.name}))
        rounds = [[ask("run")["seconds"] for ask in asks] for _ in range(1 + repeats)]
        peaks = [int(ask("finish")["peak_bytes"]) for ask in asks]
    results = [np.load(folder / RESULT.format(side=side.name)) for side in sides]
    flops, timings = count_flops(case), {}
    for i, side in enumerate(sides):
        first, *others = (times[i] for times in rounds)
        median = statistics.median(others)
        is_compared = i > 0 and case.task != "product"
        compared = compare(case, results[0], results[i]) if is_compared else (None, True)
        seconds = others, first, median, max(0.0, first - median)
        timings[side.name] = Timing(*seconds, peaks[i], flops, *compared)
    return timings


def compare(case: Case, ours: np.ndarray, theirs: np.ndarray) -> tuple[tuple[float, float], bool]:
    """Returns the largest and the RMS difference of two results, and whether it is one of rounding."""
    if ours.shape != theirs.shape:
        return (math.inf, math.inf), False
    difference = np.abs(ours.astype(np.float64) - theirs)
    largest, rms = float(difference.max()), float(np.sqrt(np.mean(difference**2)))
    limit = MOST_DIFFERENT[case.dtype] * np.sqrt(np.mean(ours.astype(np.float64) ** 2))
    if case.task in ("step", "folder"):
        limit *= 10
    # Written so that what is not a number is different.
    return (largest, rms), bool(rms <= limit and largest <= 50 * limit)
