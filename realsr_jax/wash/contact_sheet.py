"""The worst and the borderline pairs as one HTML page, on which a person can overturn verdicts."""

import hashlib
import heapq
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from realsr_jax.system.files import write_atomically
from realsr_jax.images.web_page import data_uri, fill_page

_QUALITY: Final = 85


@dataclass(frozen=True, eq=False)
class Entry:
    """What the page shows of one pair; the pictures are uint8 [h, w, 3], all of one size.

    Attributes:
        name: the name that stands in the list of clean or of rejected pairs.
        is_clean: the verdict.
        reason: why it was rejected, as in "shift 1.32 px (limit 0.60)"; empty for a clean pair.
        severity: how bad it is; 1 is the limit, and infinity may be used.
        figures: formatted figures by their labels.
        lr: the LR image, enlarged.
        hr: the HR image.
        difference: a picture of their difference.
        shifts: local shifts, float32 [n, 5]: x and y as shares of the picture's width and height, shifts to
            the right and down in LR pixels, and confidence, 0 to 1. Rows that are not finite are left out.
    """

    name: str
    is_clean: bool
    reason: str
    severity: float
    figures: dict[str, str]
    lr: np.ndarray
    hr: np.ndarray
    difference: np.ndarray
    shifts: np.ndarray


def write_sheet(
    path: Path, entries: Sequence[Entry], *, clean: Sequence[str], rejected: Sequence[str], title: str
) -> None:
    """Writes the page, which appears complete or not at all.

    Args:
        path: the HTML file.
        entries: the pairs to show, in any order; the page shows the worst first. Pictures of about 360 pixels
            take some 100 kB a pair.
        clean: names of all clean pairs, sorted. The lists that the page saves keep the order of both, with
            what was overturned sorted in.
        rejected: names of all rejected pairs, sorted.
        title: the page's heading.

    Raises:
        ValueError: if a name is not in exactly one of the lists, a pair is shown twice or not as its list
            says, a severity is NaN, or the pictures or shifts of an entry have wrong shapes.
        OSError: if it cannot be written; it names `path`.
    """
    _check_names(entries, clean, rejected)
    for entry in entries:
        _check(entry)
    worst_first = sorted(entries, key=lambda entry: -entry.severity)
    pairs = list(heapq.merge([(name, True) for name in clean], [(name, False) for name in rejected]))
    document = {
        "title": title,
        "digest": hashlib.sha256(json.dumps(pairs).encode()).hexdigest(),
        "pairs": pairs,
        "entries": [_as_json(entry) for entry in worst_first],
    }
    write_atomically(path, fill_page("realsr_jax.wash", "sheet", document))


def _check_names(entries: Sequence[Entry], clean: Sequence[str], rejected: Sequence[str]) -> None:
    """Sees that lists and verdicts do not contradict each other."""
    repeated = [name for name, count in Counter([*clean, *rejected]).items() if count > 1]
    if repeated:
        raise ValueError(f"each name must be in the lists once, but {repeated[0]!r} is there again")
    repeated = [name for name, count in Counter(entry.name for entry in entries).items() if count > 1]
    if repeated:
        raise ValueError(f"each pair must be shown once, but {repeated[0]!r} is there again")
    names = {True: set(clean), False: set(rejected)}
    for entry in entries:
        if entry.name not in names[entry.is_clean]:
            verdict = "clean" if entry.is_clean else "rejected"
            raise ValueError(f"{entry.name!r} is shown as {verdict}, but not in the list of those")


def _check(entry: Entry) -> None:
    """Sees that an entry can be shown."""
    for image in (entry.lr, entry.hr, entry.difference):
        if image.dtype != np.uint8 or image.shape != (*entry.hr.shape[:2], 3):
            raise ValueError(
                f"{entry.name!r}: pictures must be uint8 [h, w, 3] of one size, found {image.dtype} "
                f"{image.shape} beside {entry.hr.shape}"
            )
    if entry.shifts.ndim != 2 or entry.shifts.shape[1] != 5:
        raise ValueError(f"{entry.name!r}: shifts must have the shape [n, 5], found {entry.shifts.shape}")
    if np.isnan(entry.severity):
        raise ValueError(f"{entry.name!r}: the severity must be a number, found NaN")


def _as_json(entry: Entry) -> dict[str, Any]:
    """An entry as the page's script expects it."""
    height, width = entry.hr.shape[:2]
    finite = entry.shifts[np.isfinite(entry.shifts).all(axis=1)]
    pictures = {"lr": entry.lr, "hr": entry.hr, "difference": entry.difference}
    return {
        "name": entry.name,
        "isClean": bool(entry.is_clean),
        "reason": entry.reason,
        "severity": "∞" if entry.severity == np.inf else f"{entry.severity:.2f}",
        "isOverLimit": bool(entry.severity > 1),
        "figures": list(entry.figures.items()),
        "width": width,
        "height": height,
        "images": {
            kind: data_uri(picture, format="WEBP", quality=_QUALITY) for kind, picture in pictures.items()
        },
        "shifts": np.round(finite.astype(np.float64), 3).tolist(),
    }
