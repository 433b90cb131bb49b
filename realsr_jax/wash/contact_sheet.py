"""The worst and the borderline pairs as one HTML page, on which a person can overturn verdicts."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from realsr_jax.images.web_page import data_uri, fill_page
from realsr_jax.system.files import write_atomically
from realsr_jax.wash.verdict import Verdict

_QUALITY: Final = 80
_DETAIL_QUALITY: Final = 95


class Detail(NamedTuple):
    """A part of a picture, pixel by pixel.

    Attributes:
        box: its left and upper end, width and height, as shares of the picture's width and height.
        pixels: uint8 [h, w, 3].
    """

    box: tuple[float, float, float, float]
    pixels: np.ndarray


def encode_entry(
    name: str,
    verdict: Verdict,
    figures: Mapping[str, str],
    size: tuple[int, int],
    pictures: Mapping[str, np.ndarray],
    details: Mapping[str, Detail],
    shifts: np.ndarray,
) -> dict[str, Any]:
    """Encodes what the page shows of one pair, as its script expects it.

    Args:
        name: the name that stands in the list of clean or of rejected pairs.
        verdict: the judgement.
        figures: formatted figures by their labels.
        size: LR's height and width.
        pictures: all of "lr", "hr" and "difference", of any size, uint8 [h, w, 3].
        details: the same part of "lr" and "hr".
        shifts: local shifts, float32 [n, 5]: x and y as shares of the picture's width and height, shifts to
            the right and down in LR pixels, and confidence, 0 to 1. Rows that are not finite are left out.
    """
    height, width = size
    finite = shifts[np.isfinite(shifts).all(axis=1)]
    return {
        "name": name,
        "reason": verdict.rejection,
        "severity": verdict.severity,
        "figures": list(figures.items()),
        "width": width,
        "height": height,
        "images": {kind: data_uri(each, format="WEBP", quality=_QUALITY) for kind, each in pictures.items()},
        "details": {
            kind: {
                "box": detail.box,
                "image": data_uri(detail.pixels, format="WEBP", quality=_DETAIL_QUALITY),
            }
            for kind, detail in details.items()
        },
        "shifts": np.round(finite.astype(np.float64), 3).tolist(),
    }


def write_sheet(
    path: Path, entries: Sequence[dict[str, Any]], *, is_clean: Mapping[str, bool], scale: int, title: str
) -> None:
    """Writes the page, which appears complete or not at all.

    Args:
        path: the HTML file.
        entries: the pairs to show, see `encode_entry`, in any order; the page shows the worst first.
        is_clean: the verdict on each pair by its name, of those that are not shown too. The lists that the
            page saves are sorted, with what was overturned sorted in.
        scale: HR's size over LR's.
        title: the page's heading.

    Raises:
        OSError: if it cannot be written; it names `path`.
    """
    pairs = sorted(is_clean.items())
    worst_first = sorted(entries, key=lambda entry: (-entry["severity"], entry["name"]))
    document = {
        "title": title,
        "scale": scale,
        "digest": hashlib.sha256(json.dumps(pairs).encode()).hexdigest(),
        "pairs": pairs,
        "entries": [entry | {"isClean": is_clean[entry["name"]]} for entry in worst_first],
    }
    write_atomically(path, fill_page("realsr_jax.wash", "contact_sheet", title, document))
