"""MATLAB's imresize on images of 8 and 16 bits, with which the classic LR images were made."""

import math
from fractions import Fraction

import numpy as np


def imresize(
    image: np.ndarray,
    scale: float | Fraction | None = None,
    *,
    size: tuple[int, int] | None = None,
    border: str = "clamp",
) -> np.ndarray:
    """Resizes an image as MATLAB's ``imresize(image, scale)`` or ``imresize(image, size)`` does.

    Keys' bicubic kernel (a = -0.5), widened when shrinking; the side that shrinks more is resized first, of
    equal ones the rows; values are rounded half up and clipped to the image's bits after each side.

    Args:
        image: uint8 or uint16 [h, w, c].
        scale: factor of both sides, such as ``Fraction(1, 2)``; the result has ``ceil(h * scale)`` rows.
        size: rows and columns of the result, instead of `scale`.
        border: "clamp" repeats the border pixel, as the MATLAB that made the classic sets; "mirror" reflects
            with the border pixel twice, as newer ones.

    Returns:
        [H, W, c] of the image's type.

    Raises:
        ValueError: if the image is not of this kind or the result would be empty.

    Source: MATLAB's documentation of imresize; R. Keys, "Cubic convolution interpolation for digital image
        processing", 1981.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.ndim != 3 or 0 in image.shape:
        found = f"{image.dtype} {list(image.shape)}"
        raise ValueError(f"image is {found}, expected uint8 or uint16 [h, w, c], not empty")
    if border not in ("clamp", "mirror"):
        raise ValueError(f"border is {border!r}, expected 'clamp' or 'mirror'")
    if (scale is None) == (size is None):
        raise ValueError("expected either scale or size")
    height, width = image.shape[:2]
    if size is None:
        assert scale is not None
        size = (math.ceil(height * scale), math.ceil(width * scale))
        factors = (float(scale), float(scale))
    else:
        factors = (size[0] / height, size[1] / width)
    if min(size) < 1:
        raise ValueError(f"the result would be {size[0]} x {size[1]}, expected at least one pixel")
    for axis in sorted((0, 1), key=lambda axis: factors[axis]):
        indices, weights = cubic_taps(image.shape[axis], size[axis], factors[axis], border)
        image = _resize_rows(image.swapaxes(0, axis), indices, weights).swapaxes(0, axis)
    return np.ascontiguousarray(image)


def cubic_taps(old: int, new: int, factor: float, border: str = "clamp") -> tuple[np.ndarray, np.ndarray]:
    """Returns which old pixels make each new one and their weights, by Keys' kernel with a = -0.5.

    Args:
        old: number of pixels in a line.
        new: number of pixels that come of it.
        factor: by which the line is resized; the kernel is widened when it shrinks.
        border: see `imresize`.

    Returns:
        int64 and float64 [taps, new]; each pixel's weights add up to 1.
    """
    widening = max(1 / factor, 1.0)
    centre = (np.arange(1, new + 1)) / factor + 0.5 * (1 - 1 / factor)  # counted from 1, as MATLAB
    first = np.floor(centre - 2 * widening)
    indices = first + np.arange(int(np.ceil(4 * widening)) + 2)[:, None]
    x = np.abs((centre - indices) / widening)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
    weights /= weights.sum(0)
    indices = indices.astype(np.int64) - 1
    if border == "clamp":
        indices = np.clip(indices, 0, old - 1)
    else:
        indices = np.mod(indices, 2 * old)
        indices = np.minimum(indices, 2 * old - 1 - indices)
    used = weights.any(1)
    return indices[used], weights[used]


def _resize_rows(image: np.ndarray, indices: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns [new, w, c], each row the weighted sum of rows of [old, w, c], uint8 or uint16."""
    rows = np.ascontiguousarray(image).reshape(len(image), -1)
    result = np.empty((indices.shape[1], rows.shape[1]), image.dtype)
    band = max(1, (1 << 15) // rows.shape[1])  # sums of so many rows stay in the processor's cache
    for start in range(0, len(result), band):
        part = slice(start, start + band)
        total = np.full((len(result[part]), rows.shape[1]), 0.5)  # half up: floor(x + 0.5)
        for index, weight in zip(indices[:, part], weights[:, part], strict=True):
            total += rows[index] * weight[:, None]
        result[part] = np.clip(np.floor(total, out=total), 0, np.iinfo(image.dtype).max, out=total)
    return result.reshape(len(result), *image.shape[1:])
