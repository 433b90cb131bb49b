"""What is asked of a pair, and which pairs meet it."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from realsr_jax.wash.figures import Figures
from realsr_jax.wash.journal import Record

WORST: Final = 100.0
"""Severity of what cannot be used at all, such as an unreadable file."""

_CORRECTABLE: Final = frozenset({"shift", "corner", "rotation", "zoom", "gain", "ratio"})
_DECISIVE: Final = ("contrast", "correlation", "uncertainty")
_BLOCK: Final = 1024


def _limit(default: float, text: str, unit: str = "") -> float:
    return dataclasses.field(default=default, metadata={"text": text, "unit": unit})


@dataclass(frozen=True)
class Limits:
    """What the figures of a pair may be at most or must be at least, by their names; see `Figures`."""

    min_contrast: float = _limit(3.0, "grey levels of standard deviation; below it, the picture is blank")
    min_correlation: float = _limit(0.4, "of the texture after alignment; below it, the pictures differ")
    max_uncertainty: float = _limit(
        0.25, "LR pixels to which the shift is known; beyond, it is flat", " LR px"
    )
    max_shift: float = _limit(0.5, "LR pixels between LR and HR in the middle of the picture", " LR px")
    max_corner: float = _limit(1.0, "LR pixels in the farthest corner, by shift, rotation and zoom", " LR px")
    max_rotation: float = _limit(0.3, "degrees", " degrees")
    max_zoom: float = _limit(0.5, "percent by which one is enlarged against the other", " %")
    max_moving: float = _limit(3.0, "percent of the area moving half a pixel or more against the rest", " %")
    max_differing: float = _limit(2.0, "percent of the area showing something else: moved objects", " %")
    max_gain: float = _limit(3.5, "percent that a channel is too bright or dark, tone curve told apart", " %")
    max_ratio: float = _limit(12.0, "percent between the channels' means, the tone curve included", " %")
    max_colour_error: float = _limit(4.0, "grey levels that gain, offset and tone curve leave", " levels")
    min_sharpness: float = _limit(0.9, "HR's amplitudes over LR's at half of LR's finest waves")
    min_sharpness_x1: float = _limit(1.1, "likewise for images of equal sizes; 1 is no sharper")
    min_detail: float = _limit(0.25, "HR's fine waves over a sharp photo's; 0.4 to 1.5 is usual, 0.2 blurred")
    max_saturated: float = _limit(50.0, "percent of nearly white or black pixels", " %")
    max_similarity: float = _limit(0.998, "correlation of two pairs' thumbnails; beyond it, duplicates")


class Verdict(NamedTuple):
    """The judgement on a pair.

    Attributes:
        is_clean: whether the pair can be used.
        fault: one word for the figure that is nearest to or farthest beyond its limit.
        reason: that figure and its limit.
        severity: the figure over its limit; up to `WORST`.
        faults: every fault that is beyond its limit.
    """

    is_clean: bool
    fault: str
    reason: str
    severity: float
    faults: frozenset[str]

    @property
    def rejection(self) -> str:
        """Why the pair was rejected; empty if it was not."""
        return "" if self.is_clean else self.reason

    @property
    def is_correctable(self) -> bool:
        """Whether resampling LR and correcting its colours can mend all that is wrong."""
        return not self.is_clean and bool(self.faults) and self.faults <= _CORRECTABLE


class _Test(NamedTuple):
    fault: str
    text: str
    severity: float


def judge(figures: Figures, limits: Limits) -> Verdict:
    """Judges a pair by its figures.

    Pairs that show nothing, or different things, are named so whatever else is wrong with them.
    """
    tests = list(_tests(figures, limits))
    failed = [test for test in tests if test.severity > 1]
    worst = max(tests, key=lambda test: test.severity)
    named = next((test for test in failed if test.fault in _DECISIVE), worst)
    faults = frozenset(test.fault for test in failed)
    return Verdict(not failed, named.fault, named.text, worst.severity, faults)


def judge_all(records: Sequence[Record], limits: Limits, *, keep: float | None = None) -> list[Verdict]:
    """Judges all pairs of a set.

    Of duplicates, the pair with the least severity stays.

    Args:
        records: what is known of the pairs.
        limits: what is asked of them.
        keep: share of all pairs, above 0 and up to 1, that is kept, the least severe first, whatever the
            limits say. What cannot be used at all is not kept. None to go by the limits.
    """
    verdicts = [
        _unusable(record.fault, record.problem) if record.problem else judge(record.figures, limits)
        for record in records
    ]
    for index, other in _find_duplicates(records, verdicts, limits.max_similarity).items():
        verdicts[index] = _unusable("duplicate", f"the same picture as {records[other].name}")
    if keep is None:
        return verdicts
    order = sorted(range(len(records)), key=lambda index: verdicts[index].severity)
    kept = set(order[: math.ceil(keep * len(records) - 1e-9)])
    return [
        verdict._replace(is_clean=index in kept and verdict.severity < WORST)
        for index, verdict in enumerate(verdicts)
    ]


def _unusable(fault: str, reason: str) -> Verdict:
    return Verdict(False, fault, reason, WORST, frozenset({fault}))


def _tests(figures: Figures, limits: Limits) -> Iterator[_Test]:
    """Tests each figure that has a limit, in the order of the limits."""
    for field in dataclasses.fields(limits):
        kind, _, name = field.name.partition("_")
        value, limit = getattr(figures, name, None), getattr(limits, field.name)
        if value is None:  # min_sharpness_x1, and max_similarity, which is about two pairs
            continue
        if name == "ratio":
            value = 100 * (value - 1)
        elif name == "sharpness" and figures.scale == 1:
            limit = limits.min_sharpness_x1
        if kind == "max":
            value = abs(value)
            severity = _times(value, limit)
        elif name == "correlation":  # 1 is perfect, and has the severity 0
            severity = _times(1 - value, 1 - limit)
        else:
            severity = _times(limit, value)
        fault = name.replace("_", " ")
        yield _Test(fault, f"{fault} {value:.2f}{field.metadata['unit']} (limit {limit:.2f})", severity)


def _times(value: float, limit: float) -> float:
    """Returns how many times the limit a value is; what could not be measured is as bad as can be."""
    if math.isnan(value) or math.isnan(limit):
        return WORST
    if limit <= 0:
        return WORST if value > 0 else 0.0
    return min(max(value, 0) / limit, WORST)


def _find_duplicates(
    records: Sequence[Record], verdicts: Sequence[Verdict], similarity: float
) -> dict[int, int]:
    """Finds pairs of which an earlier or better pair has the same picture: index of each, and of that one."""
    usable = (index for index, record in enumerate(records) if not record.problem)
    order = sorted(usable, key=lambda index: verdicts[index].severity)
    owners: dict[str, int] = {}
    duplicates: dict[int, int] = {}
    for index in order:
        for content in (f"lr {records[index].lr_hash}", f"hr {records[index].hr_hash}"):
            if owners.setdefault(content, index) != index:
                duplicates.setdefault(index, owners[content])
    rest = [index for index in order if index not in duplicates]
    for later, earlier in _alike([records[index].thumbnail for index in rest], similarity):
        if rest[earlier] not in duplicates:
            duplicates.setdefault(rest[later], rest[earlier])
    return duplicates


def _alike(thumbnails: Sequence[str], similarity: float) -> list[tuple[int, int]]:
    """Returns pairs (later, earlier) of thumbnails that correlate by more than `similarity`, in order."""
    if not thumbnails:
        return []
    pixels = np.frombuffer(bytes.fromhex("".join(thumbnails)), np.uint8)
    pictures = pixels.reshape(len(thumbnails), -1).astype(np.float32)
    pictures -= pictures.mean(1, keepdims=True)
    lengths = np.linalg.norm(pictures, axis=1, keepdims=True)
    # Rounding to whole grey levels blurs what is nearly flat, so that it must not count as alike.
    pictures /= np.maximum(lengths, 2.0 * pictures.shape[1] ** 0.5)
    found = []
    for start in range(0, len(pictures), _BLOCK):
        rows, columns = np.nonzero(pictures[start : start + _BLOCK] @ pictures.T > similarity)
        found += [(int(row) + start, int(column)) for row, column in zip(rows, columns, strict=True)]
    return sorted((later, earlier) for later, earlier in found if earlier < later)
