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

from realsr_jax.images.web_page import data_uri, fill_page
from realsr_jax.system.files import write_atomically
from realsr_jax.wash.verdict import Verdict

_QUALITY: Final = 85


@dataclass(frozen=True, eq=False)
class SheetEntry:
    """What the page shows of one pair; the pictures are uint8 [h, w, 3], all of one size.

    Attributes:
        name: the name that stands in the list of clean or of rejected pairs.
        verdict: the judgement; its severity may be infinite.
        figures: formatted figures by their labels.
        lr: the LR image, enlarged.
        hr: the HR image.
        difference: a picture of their difference.
        shifts: local shifts, float32 [n, 5]: x and y as shares of the picture's width and height, shifts to
            the right and down in LR pixels, and confidence, 0 to 1. Rows that are not finite are left out.
    """

    name: str
    verdict: Verdict
    figures: dict[str, str]
    lr: np.ndarray
    hr: np.ndarray
    difference: np.ndarray
    shifts: np.ndarray


def write_sheet(
    path: Path, entries: Sequence[SheetEntry], *, clean: Sequence[str], rejected: Sequence[str], title: str
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
    worst_first = sorted(entries, key=lambda entry: -entry.verdict.severity)
    pairs = list(heapq.merge([(name, True) for name in clean], [(name, False) for name in rejected]))
    document = {
        "title": title,
        "digest": hashlib.sha256(json.dumps(pairs).encode()).hexdigest(),
        "pairs": pairs,
        "entries": [_as_json(entry) for entry in worst_first],
    }
    write_atomically(path, fill_page("realsr_jax.wash", "contact_sheet", title, document))


def _check_names(entries: Sequence[SheetEntry], clean: Sequence[str], rejected: Sequence[str]) -> None:
    """Sees that lists and verdicts do not contradict each other."""
    shown = [entry.name for entry in entries]
    for what, names in (("name must be in the lists", [*clean, *rejected]), ("pair must be shown", shown)):
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise ValueError(f"each {what} once, but {repeated[0]!r} is there again")
    lists = {"clean": set(clean), "rejected": set(rejected)}
    for entry in entries:
        verdict = "clean" if entry.verdict.is_clean else "rejected"
        if entry.name not in lists[verdict]:
            raise ValueError(f"{entry.name!r} is shown as {verdict}, but not in the list of those")


def _check(entry: SheetEntry) -> None:
    """Sees that an entry can be shown."""
    for image in (entry.lr, entry.hr, entry.difference):
        if image.dtype != np.uint8 or image.shape != (*entry.hr.shape[:2], 3):
            found = f"{image.dtype} {image.shape} beside {entry.hr.shape}"
            raise ValueError(f"{entry.name!r}: pictures must be uint8 [h, w, 3] of one size, found {found}")
    if entry.shifts.ndim != 2 or entry.shifts.shape[1] != 5:
        raise ValueError(f"{entry.name!r}: shifts must have the shape [n, 5], found {entry.shifts.shape}")
    if np.isnan(entry.verdict.severity):
        raise ValueError(f"{entry.name!r}: the severity must be a number, found NaN")


def _as_json(entry: SheetEntry) -> dict[str, Any]:
    """An entry as the page's script expects it."""
    height, width = entry.hr.shape[:2]
    finite = entry.shifts[np.isfinite(entry.shifts).all(axis=1)]
    pictures = {"lr": entry.lr, "hr": entry.hr, "difference": entry.difference}
    return {
        "name": entry.name,
        "isClean": entry.verdict.is_clean,
        "reason": entry.verdict.rejection,
        "severity": "∞" if entry.verdict.severity == np.inf else f"{entry.verdict.severity:.2f}",
        "isOverLimit": bool(entry.verdict.severity > 1),
        "figures": list(entry.figures.items()),
        "width": width,
        "height": height,
        "images": {kind: data_uri(each, format="WEBP", quality=_QUALITY) for kind, each in pictures.items()},
        "shifts": np.round(finite.astype(np.float64), 3).tolist(),
    }
