"""What happens to a photo on its way to a small file, as pure functions of arrays and random numbers.

Images are float32 [h, w, 3] of 0..255. All filters repeat the border pixel, none shifts the image, and LR
pixel (i, j) always shows what is around the centre of the block of HR pixels that it stands for.

Source: K. Zhang et al., "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution", 2021
    (BSRGAN); X. Wang et al., "Real-ESRGAN", 2021; T. Brooks et al., "Unprocessing Images for Learned Raw
    Denoising", 2019 (noise).
"""

import functools
import math
from typing import Final, Literal

import numpy as np

from realsr_jax.images.jpeg import through_jpeg

ReductionKind = Literal["bicubic", "area", "lanczos", "point"]

REDUCTION_KINDS: Final[tuple[ReductionKind, ...]] = ("bicubic", "area", "lanczos", "point")

JPEG_PERIOD: Final = 16
"""Pixels after which the grid of blocks repeats, at any subsampling."""

_LEFT_OUT: Final = 1e-3  # of a kernel's weight, which is a quarter of a grey level
_GRAIN: Final = (1.0, 2.0, 1.0)
_CHROMA_GRAIN: Final = (1.0, 4.0, 6.0, 4.0, 1.0)


def gaussian_kernel(sigma: float, sigma_across: float, angle: float) -> np.ndarray:
    """Makes a Gaussian's kernel, cut off after three times the larger sigma.

    Args:
        sigma: standard deviation along the angle in pixels, 0 or more.
        sigma_across: across it.
        angle: of the first axis in radians, from the rows' direction (to the right) towards the bottom.

    Returns:
        float64 [n, n] of an odd n, with the sum 1.
    """
    radius = math.ceil(3 * max(sigma, sigma_across))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    # A sigma below a tenth of a pixel leaves the centre only, without a division by 0.
    kernel = np.exp(-((along / max(sigma, 0.1)) ** 2 + (across / max(sigma_across, 0.1)) ** 2) / 2)
    return kernel / kernel.sum()


def blur(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Filters with a kernel that is symmetric about its centre.

    The kernel is taken apart into a few separable ones, one for an isotropic Gaussian; what is left out
    changes no pixel by more than a quarter of a grey level.

    Args:
        image: float32 [h, w, 3], 0..255.
        kernel: [n, n] of an odd n, with the sum 1.

    Returns:
        float32 [h, w, 3].
    """
    columns, strengths, rows = np.linalg.svd(kernel)
    columns = columns * strengths
    rank, kept = 1, columns[:, :1] @ rows[:1]
    while np.abs(kernel - kept).sum() > _LEFT_OUT:
        rank += 1
        kept = columns[:, :rank] @ rows[:rank]
    columns = columns / kept.sum()
    parts = [filter_axis(filter_axis(image, columns[:, i], axis=0), rows[i], axis=1) for i in range(rank)]
    return functools.reduce(np.add, parts)


def reduction_taps(kind: ReductionKind, scale: int) -> np.ndarray:
    """Returns the weights of the pixels that a reduced pixel is made of, along one axis.

    Args:
        kind: "bicubic", MATLAB's rule with antialiasing; "area", the mean of the block; "lanczos" of three
            lobes, widened by the scale; "point", the value at the block's centre: its middle pixel, or the
            cubic interpolation of four where the centre lies between pixels.
        scale: side of the block.

    Returns:
        float64 [n], symmetric, n odd or even as the scale is, with the sum 1.
    """
    lobes = {"bicubic": 2.0, "area": 0.5, "lanczos": 3.0, "point": 2 / scale}[kind]
    count = math.ceil(2 * lobes * scale)
    count -= (count - scale) % 2  # the centre of the block is also the taps'
    distance = np.abs(np.arange(count) - (count - 1) / 2)
    if kind == "area":
        weights = np.ones(count)
    elif kind == "lanczos":
        weights = np.sinc(distance / scale) * np.sinc(distance / scale / 3)
    else:
        d = distance / scale if kind == "bicubic" else distance
        weights = np.where(d <= 1, 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2)
    return weights / weights.sum()


def reduce(image: np.ndarray, scale: int, kind: ReductionKind) -> np.ndarray:
    """Makes an image smaller by a whole factor.

    Args:
        image: float32 [h * scale, w * scale, 3].
        scale: the factor.
        kind: see `reduction_taps`.

    Returns:
        float32 [h, w, 3], not clipped.
    """
    taps = reduction_taps(kind, scale)
    return filter_axis(filter_axis(image, taps, axis=0, step=scale), taps, axis=1, step=scale)


def filter_axis(image: np.ndarray, taps: np.ndarray, *, axis: int, step: int = 1) -> np.ndarray:
    """Filters along rows or columns, at every pixel or once for each block of pixels.

    Args:
        image: float32 [h, w, 3], `step` times as long along the axis as the result.
        taps: [n], centred on the block's centre; n odd or even as `step` is.
        axis: 0 or 1.
        step: side of the block.
    """
    before = (len(taps) - step) // 2
    length = image.shape[axis]
    if before > 0:
        image = np.take(image, np.arange(-before, length + before), axis=axis, mode="clip")
    count, first = length // step, max(-before, 0)
    # Every step-th pixel, stored one after the other, is added up several times faster than picked each time.
    phases = [
        np.ascontiguousarray(image[phase::step] if axis == 0 else image[:, phase::step])
        for phase in range(step)
    ]
    shape = (count, image.shape[1]) if axis == 0 else (image.shape[0], count)
    total, product = np.empty((2, *shape, image.shape[2]), np.float32)
    for place, tap in enumerate(taps.astype(np.float32)):
        start, phase = divmod(first + place, step)
        part = slice(start, start + count)
        seen = phases[phase][part] if axis == 0 else phases[phase][:, part]
        np.multiply(seen, tap, out=product if place else total)
        if place:
            total += product
    return total


def change_gain(image: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Multiplies each channel by a gain; clips at 0 and 255 as a sensor does.

    Args:
        image: [h, w, 3], 0..255.
        gains: [3].

    Returns:
        float32 [h, w, 3], 0..255.
    """
    return np.clip(image * gains.astype(np.float32), 0, 255)


def add_noise(
    image: np.ndarray,
    random: np.random.Generator,
    *,
    per_signal: float,
    constant: float,
    chroma: float | None = None,
) -> np.ndarray:
    """Adds a sensor's noise, whose variance is ``per_signal * signal + constant``.

    Args:
        image: float32 [h, w, 3], 0..255.
        random: the source of the noise.
        per_signal: variance per grey level of signal, in grey levels (photon noise).
        constant: variance without signal, in squared grey levels (reading noise).
        chroma: None for noise that is independent from pixel to pixel and channel to channel. A number for
            noise as demosaicing and processing leave it, grainy in brightness and in coarser spots of colour:
            so many times stronger is the part that changes the colour. The variance stays what it is.

    Returns:
        float32 [h, w, 3], not clipped.
    """
    deviation = np.sqrt(np.maximum(per_signal * image + constant, 0, dtype=np.float32))
    if chroma is None:
        return image + deviation * random.standard_normal(image.shape, np.float32)
    shape = image.shape[:2]
    grey = _grain(random, (*shape, 1), _GRAIN)
    colour = _grain(random, (*shape, 3), _CHROMA_GRAIN)
    # Without their mean, three independent numbers keep 2/3 of their variance.
    colour = (colour - colour.mean(2, keepdims=True)) * np.float32(math.sqrt(1.5))
    noise = (grey + np.float32(chroma) * colour) / np.float32(math.sqrt(1 + chroma**2))
    return image + deviation * noise


def _grain(random: np.random.Generator, shape: tuple[int, ...], taps: tuple[float, ...]) -> np.ndarray:
    """Makes smoothed noise of variance 1."""
    kernel = np.array(taps) / np.linalg.norm(taps)
    height, width, channels = shape
    margin = len(taps) - 1  # noise of repeated border pixels would be stronger
    noise = random.standard_normal((height + margin, width + margin, channels), np.float32)
    noise = filter_axis(filter_axis(noise, kernel, axis=0), kernel, axis=1)
    return noise[margin // 2 : margin // 2 + height, margin // 2 : margin // 2 + width]


def sharpen(image: np.ndarray, *, amount: float, sigma: float) -> np.ndarray:
    """Sharpens as cameras do, by adding what a blur takes away.

    Args:
        image: float32 [h, w, 3].
        amount: how many times it is added.
        sigma: of the Gaussian blur in pixels.

    Returns:
        float32 [h, w, 3], 0..255.
    """
    smooth = blur(image, gaussian_kernel(sigma, sigma, 0.0))
    return np.clip(image + np.float32(amount) * (image - smooth), 0, 255)


def compress(image: np.ndarray, *, quality: int, subsampling: str, phase: tuple[int, int]) -> np.ndarray:
    """Rounds to 8 bits, compresses as JPEG and reads it back.

    Args:
        image: float32 [h, w, 3].
        quality: of libjpeg, 1 to 100.
        subsampling: of the colour, one of `jpeg.SUBSAMPLINGS`.
        phase: row and column at which the grid of blocks starts; what is before stays uncompressed.

    Returns:
        float32 [h, w, 3] of whole numbers, 0..255.
    """
    rounded = to_uint8(image)
    inside = rounded[phase[0] :, phase[1] :]
    inside[:] = through_jpeg(inside, quality=quality, subsampling=subsampling)
    return rounded.astype(np.float32)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Rounds to whole grey levels, 0 to 255."""
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)
