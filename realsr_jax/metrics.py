"""Image quality in float64: means over images [n, h, w, c] or [h, w, c] with values 0..255."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from realsr_jax.losses import WINDOW_SIZE, check_images, gaussian_window, structural_similarity

_LUMA: Final = np.array([[65.738], [129.057], [25.064]])  # of red, green and blue, over 256


def psnr(sr: ArrayLike, hr: ArrayLike, *, border: int = 0, y_channel: bool = False) -> float:
    """Returns the peak signal-to-noise ratio in decibels, the mean over images.

    Neither image is rounded or clipped: pass 8-bit values to score what would be saved.

    Args:
        sr: Restored images [n, h, w, c] or [h, w, c], any real dtype, 0..255.
        hr: True images of the same shape.
        border: Rows and columns left out on each side.
        y_channel: Compare the luma of RGB images only.

    Returns:
        The ratio for the peak 255; infinite if any image is identical to the true one.

    Raises:
        ValueError: If the shapes differ, are not those of images, or nothing is left inside the border.

    Source:
        The luma is that of MATLAB's `rgb2ycbcr`, as in the published evaluation of EDSR.
    """
    ratios = []
    for restored, true in _image_pairs(sr, hr, border=border, y_channel=y_channel, smallest=1):
        error = np.mean(np.square(restored - true))
        ratios.append(10 * math.log10(255**2 / error) if error > 0 else math.inf)
    return float(np.mean(ratios))


def ssim(sr: ArrayLike, hr: ArrayLike, *, border: int = 0, y_channel: bool = False) -> float:
    """Returns the structural similarity, the mean over images, channels and windows inside the border.

    Args:
        sr: Restored images, as for `psnr`.
        hr: True images of the same shape.
        border: Rows and columns left out on each side.
        y_channel: Compare the luma of RGB images only.

    Returns:
        At most 1, for identical images.

    Raises:
        ValueError: If the shapes differ, are not those of images, or less than the 11x11 window is left
            inside the border.

    Source:
        Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004,
        with a Gaussian window of standard deviation 1.5.
    """
    similarities = [
        structural_similarity(restored[..., channel], true[..., channel], _blur)[0].mean()
        for restored, true in _image_pairs(sr, hr, border=border, y_channel=y_channel, smallest=WINDOW_SIZE)
        for channel in range(restored.shape[-1])
    ]
    return float(np.mean(similarities))


def aim_score(psnr: float, ssim: float) -> float:
    """Returns the validation score `0.5 * psnr / 50 + 0.5 * (ssim - 0.4) / 0.6`.

    Args:
        psnr: Peak signal-to-noise ratio in decibels.
        ssim: Structural similarity.

    Source:
        AIM 2020 Real Image Super-Resolution challenge, the published validation.
    """
    return 0.5 * psnr / 50 + 0.5 * (ssim - 0.4) / 0.6


def grey_luma(image: np.ndarray) -> np.ndarray:
    """Returns the luma [h, w, 1], 0..255, by which images stored in grey are compared, float64.

    Args:
        image: RGB [h, w, 3], 0..255. Of equal channels, it is their value; else colours weigh as in the luma
            of RGB images, but its range is not compressed to 16..235.
    """
    return image.astype(np.float64) @ (_LUMA / _LUMA.sum())


def _image_pairs(
    sr: ArrayLike, hr: ArrayLike, *, border: int, y_channel: bool, smallest: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields one image and its truth at a time, float64 [h, w, c], without the border."""
    sr, hr = np.asarray(sr), np.asarray(hr)
    if border < 0:
        raise ValueError(f"border must not be negative, got {border}")
    check_images(sr.shape, hr.shape, smallest=smallest + 2 * border)
    height, width, channels = sr.shape[-3:]
    if y_channel and channels != 3:
        raise ValueError(f"y_channel needs RGB images: expected 3 channels, got {channels}")
    inside = slice(border, height - border), slice(border, width - border)
    for pair in zip(sr.reshape(-1, *sr.shape[-3:]), hr.reshape(-1, *hr.shape[-3:]), strict=True):
        restored, true = (image[inside].astype(np.float64) for image in pair)
        yield (_luma(restored), _luma(true)) if y_channel else (restored, true)


def _luma(image: np.ndarray) -> np.ndarray:
    """Returns the luma [h, w, 1] of an RGB image, 16..235."""
    return 16 + image @ (_LUMA / 256)


def _blur(plane: np.ndarray) -> np.ndarray:
    """Returns the windowed means of [h, w] where the window lies inside: [h - 10, w - 10]."""
    radius = WINDOW_SIZE // 2
    for axis in (0, 1):
        plane = ndimage.correlate1d(plane, gaussian_window(), axis=axis)
    return plane[radius:-radius, radius:-radius]
