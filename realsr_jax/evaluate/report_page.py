"""Results as one self-contained HTML page: figures, before/after slider, zoom on the greatest error."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from realsr_jax.evaluate.protocols import Evaluation, columns
from realsr_jax.images.web_page import data_uri, fill_page
from realsr_jax.system.files import write_atomically

REGION_SIZE: Final = 64
_LOSSLESS_PIXELS: Final = 1 << 17
_QUALITY: Final = 90
_MAX_WEBP_SIDE: Final = 16383


def encode_pictures(
    pictures: Mapping[str, np.ndarray], *, border: int = 0, reference: str = "hr"
) -> dict[str, Any]:
    """Encodes what the page shows of one image.

    Args:
        pictures: uint8 [h, w, 3], all of one size: "sr", the restored image, "hr", the true one, and maybe
            "bicubic", the small image enlarged by plain interpolation, and others.
        border: rows and columns that scores leave out on each side, and so does the search for errors.
        reference: from which picture the worst region of "sr" is farthest.

    Raises:
        ImageError: if they are too large for a web page, which then shows the figures alone.
    """
    height, width = pictures["sr"].shape[:2]
    top, left, size = worst_region(pictures["sr"], pictures[reference], border=border)
    crops = {key: image[top : top + size, left : left + size] for key, image in pictures.items()}
    is_lossless = height * width <= _LOSSLESS_PIXELS
    if is_lossless:  # crops would show no more
        crops = {}
    return {
        "width": width,
        "height": height,
        "worst": {"x": left, "y": top, "size": size},
        "images": {key: _data_uri(image, is_lossless=is_lossless) for key, image in pictures.items()},
        "crops": {key: _data_uri(image, is_lossless=True) for key, image in crops.items()},
    }


def write_report(folder: Path, evaluation: Evaluation) -> Path:
    """Writes ``index.html``, which appears complete or not at all; returns its path.

    Args:
        folder: made if need be.
        evaluation: what was scored; images without encoded pictures are listed with their figures alone.

    Raises:
        OSError: if it cannot be written.
    """
    document = evaluation.as_json() | {
        "rules": f"protocol {evaluation.protocol}, {evaluation.rules()}, {evaluation.mean_of()}",
        "columns": [dataclasses.asdict(column) for column in columns(evaluation.protocol)],
        "headline": evaluation.protocol.headline,
        "images": [result.as_json() | result.pictures for result in evaluation.results],
        "labels": {"bicubic": "Bicubic", "sr": "SR", "hr": "HR"},
        "region": {"name": "worst", "meaning": "the squared error between SR and HR is greatest"},
    }
    return _write(folder, document)


def write_comparison(
    folder: Path, subject: str, labels: Mapping[str, str], images: Sequence[tuple[str, dict[str, Any]]]
) -> Path:
    """Writes ``index.html`` about images without a true one, for judging by eye; returns its path.

    Args:
        folder: made if need be.
        subject: what made the pictures, for people.
        labels: of pictures by kind, in the order in which they stand beside each other.
        images: a name and what `encode_pictures` returns, for each image.

    Raises:
        OSError: if it cannot be written.
    """
    document = {
        "subject": subject,
        "rules": f"{len(images)} photo{'' if len(images) == 1 else 's'}, no true ones: judge by eye",
        "means": {},
        "columns": [],
        "images": [{"name": name, "scores": {}} | pictures for name, pictures in images],
        "labels": dict(labels),
        "region": {
            "name": "most different",
            "meaning": f"{labels['sr']} is farthest from bicubic interpolation",
        },
    }
    return _write(folder, document)


def _write(folder: Path, document: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    write_atomically(
        path, fill_page("realsr_jax.evaluate", "report_page", "Super-resolution report", document)
    )
    return path


def worst_region(
    sr: np.ndarray, hr: np.ndarray, *, size: int = REGION_SIZE, border: int = 0
) -> tuple[int, int, int]:
    """Finds the square of the greatest squared error, the first in reading order if there are several.

    Args:
        sr: restored image, uint8 [h, w, 3].
        hr: true image of the same shape.
        size: side of the square; a smaller image has a smaller one.
        border: rows and columns on each side where it cannot lie.

    Returns:
        Its top row, left column and side.
    """
    height, width = hr.shape[:2]
    size = min(size, height - 2 * border, width - 2 * border)
    inside = slice(border, height - border), slice(border, width - border)
    error = np.square(sr[inside].astype(np.int32) - hr[inside]).sum(axis=-1, dtype=np.int64)
    sums = np.pad(error.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    windows = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
    top, left = np.unravel_index(windows.argmax(), windows.shape)
    return int(top) + border, int(left) + border, size


def _data_uri(image: np.ndarray, *, is_lossless: bool) -> str:
    """Encodes uint8 [h, w, 3] for use in a page: PNG, else WebP, or JPEG beyond what WebP holds."""
    format = "PNG" if is_lossless else "WEBP" if max(image.shape) <= _MAX_WEBP_SIDE else "JPEG"
    return data_uri(image, format=format, quality=_QUALITY)
