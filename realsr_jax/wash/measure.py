"""Everything that is measured on one pair."""

import hashlib
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from realsr_jax.images.photo import check_pair_sizes
from realsr_jax.wash.colour import Curves, compare_colours
from realsr_jax.wash.difference import differing_share, find_differing, measure_difference, predict
from realsr_jax.wash.figures import Figures
from realsr_jax.wash.opencv import cv2
from realsr_jax.wash.registration import CELL, Registration, refine, register, warp
from realsr_jax.wash.sharpness import compare_sharpness, measure_detail

_GREY: Final = np.array([0.25, 0.5, 0.25], np.float32)
_LEAST_SIDE: Final = 4 * CELL
_MOVES: Final = 0.5  # pixels beyond which a cell counts as moving
_THUMBNAIL: Final = 16


@dataclass(frozen=True, eq=False)
class Measured:
    """What is known of a pair that could be read.

    Attributes:
        figures: the figures.
        registration: how the images lie to each other; None if they are too small or flat to tell.
        difference: float32 [h, w] of LR's size, above 1 where the images show different things; or None.
        curves: what tells LR's colours from HR's; None if too little can be compared.
    """

    figures: Figures
    registration: Registration | None
    difference: np.ndarray | None
    curves: Curves | None


def measure_pair(lr: np.ndarray, hr: np.ndarray, scale: int) -> Measured:
    """Measures how well two images fit.

    Args:
        lr: uint8 [h, w, 3].
        hr: uint8 [h * scale, w * scale, 3].
        scale: HR's size over LR's.

    Raises:
        ImageError: if the sizes are not such.
    """
    check_pair_sizes(lr, hr, scale)
    height, width = lr.shape[:2]
    reduced = cv2.resize(hr, (width, height), interpolation=cv2.INTER_AREA) if scale > 1 else hr
    figures = {"scale": float(scale), **_content_figures(lr, hr)}
    registration = difference = curves = None
    if min(height, width) >= _LEAST_SIDE and figures["contrast"] > 0.5:
        fitting, registration, difference, curves = _fit(
            lr.astype(np.float32), reduced.astype(np.float32), scale
        )
        figures |= fitting | {"detail": measure_detail(_grey(hr))}
    return Measured(Figures(**figures), registration, difference, curves)


def find_registered(measured: Measured, *, block: int, max_shift: float) -> np.ndarray | None:
    """Finds the parts of a pair in which LR and HR show the same in the same place.

    Where there is too little texture to measure a local shift, that of the whole pair counts.

    Args:
        measured: what `measure_pair` returned.
        block: side of the parts in LR pixels.
        max_shift: LR pixels by which they may lie apart, twice the uncertainty left aside.

    Returns:
        bool [h / block, w / block], rounded up; None if not even the shift of the whole could be measured.
    """
    registration, difference = measured.registration, measured.difference
    if registration is None or difference is None or not math.isfinite(registration.uncertainty):
        return None
    height, width = difference.shape
    rows, columns = -(-height // block), -(-width // block)
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    centres = (np.arange(count) * block + (block - 1) / 2 for count in (columns, rows))
    x, y = np.meshgrid(*centres)
    found = np.hypot(*registration.similarity.at(x - middle_x, y - middle_y)) <= max_shift
    x, y = registration.positions.T
    global_x, global_y = registration.similarity.at(x - middle_x, y - middle_y)
    shifts = np.hypot(registration.shifts[:, 0] + global_x, registration.shifts[:, 1] + global_y)
    far = shifts - 2 * registration.sigma > max_shift
    found[(y[far] // block).astype(int), (x[far] // block).astype(int)] = False
    differs = np.zeros((rows * block, columns * block), bool)
    differs[:height, :width] = find_differing(difference)
    return found & ~differs.reshape(rows, block, columns, block).any((1, 3))


def hash_pixels(image: np.ndarray) -> str:
    """Returns what tells the size and pixels of uint8 [h, w, 3] from others."""
    content = hashlib.blake2b(repr(image.shape).encode(), digest_size=12)
    content.update(np.ascontiguousarray(image).data)
    return content.hexdigest()


def make_thumbnail(image: np.ndarray) -> str:
    """Returns 256 bytes in hexadecimal, the grey of uint8 [h, w, 3] in coarse squares."""
    squares = cv2.resize(_grey(image), (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(squares), 0, 255).astype(np.uint8).tobytes().hex()


def _grey(image: np.ndarray) -> np.ndarray:
    """Returns float32 [h, w]."""
    return cv2.transform(image.astype(np.float32, copy=False), _GREY[None])


def _content_figures(lr: np.ndarray, hr: np.ndarray) -> dict[str, float]:
    """Measures what each image shows by itself."""
    saturated, contrast = [], []
    for image in (lr, hr):
        red, green, blue = cv2.split(image)
        brightest = cv2.max(cv2.max(red, green), blue)
        saturated.append(100 * float(((brightest >= 254) | (brightest <= 1)).mean()))
        contrast.append(float(_grey(image).std()))
    return {"saturated": max(saturated), "contrast": min(contrast)}


def _fit(
    lr: np.ndarray, hr: np.ndarray, scale: int
) -> tuple[dict[str, float], Registration, np.ndarray, Curves | None]:
    """Aligns reduced HR with LR and measures what remains, float32 [h, w, 3] each."""
    lr_grey, hr_grey = _grey(lr), _grey(hr)
    first = register(lr_grey, hr_grey)
    moved, _ = warp(hr_grey, first.similarity, smooth=False)
    sharpness = compare_sharpness(lr_grey, moved, scale)
    lr_soft, hr_soft = _equally_soft(lr_grey, hr_grey, sharpness.blur)
    registration = refine(lr_soft, hr_soft, first.similarity)

    moved, covered = warp(hr, registration.similarity, smooth=False)
    lr_soft, moved_soft = _equally_soft(lr, moved, sharpness.blur)
    predicted = predict(_grey(lr_soft), _grey(moved_soft), covered)
    difference = measure_difference(_grey(lr_soft), predicted, covered)
    trusted = covered * (difference < 1)
    colours, curves = compare_colours(lr_soft, moved_soft, trusted, blur=sharpness.blur)
    figures = {
        **_alignment_figures(registration, lr.shape[1::-1]),
        **colours,
        "differing": 100 * differing_share(difference, covered),
        "sharpness": sharpness.ratio,
        "blur": sharpness.blur,
    }
    return figures, registration, difference, curves


def _equally_soft(lr: np.ndarray, hr: np.ndarray, blur: float) -> tuple[np.ndarray, np.ndarray]:
    """Blurs the sharper image until both are about equally sharp; the rest is left to the fitted kernel."""
    if abs(blur) < 0.3:
        return lr, hr
    sharper = cv2.GaussianBlur(hr if blur > 0 else lr, (0, 0), 0.9 * abs(blur))
    return (lr, sharper) if blur > 0 else (sharper, hr)


def _alignment_figures(registration: Registration, size: tuple[int, int]) -> dict[str, float]:
    similarity = registration.similarity
    lengths = np.hypot(*registration.shifts.T)
    moving = float((lengths - 2 * registration.sigma > _MOVES).sum()) / registration.cells
    return {
        "shift_x": similarity.x,
        "shift_y": similarity.y,
        "shift": float(np.hypot(similarity.x, similarity.y)),
        "rotation": float(np.degrees(similarity.rotation)),
        "zoom": 100 * similarity.zoom,
        "corner": similarity.largest(size),
        "uncertainty": registration.uncertainty,
        "correlation": registration.correlation,
        "texture": 100 * len(lengths) / registration.cells,
        "local_shift": float(np.percentile(lengths, 95)) if len(lengths) else math.nan,
        "moving": 100 * moving,
    }
