"""The default network in one call, for arrays of all kinds."""

import functools
import math
import os
from pathlib import Path

import numpy as np

from realsr_jax.images.metadata import Metadata
from realsr_jax.images.photo import Photo
from realsr_jax.upscaling.output_size import OutputSize
from realsr_jax.upscaling.photo_upscaling import upscale_photo
from realsr_jax.upscaling.upscaler import load_upscaler


def upscale(
    image: np.ndarray,
    *,
    weights: str | Path = "default",
    scale: float | None = None,
    peak: float | None = None,
) -> np.ndarray:
    """Upscales an image with a network that is loaded once.

    Args:
        image: uint8, uint16 or floats, [h, w] or [h, w, c]: grey, grey with opacity, RGB, RGBA.
        weights: as `upscaler.load_upscaler` takes them; the two used last stay loaded.
        scale: factor of the result; None for the network's.
        peak: what white is in an image of floats, such as 1.0 or 255.0; integers have their whole range.

    Returns:
        [H, W] or [H, W, c] of the same type, in the same range. Opacity is enlarged bicubically.

    Raises:
        ValueError: if it is no such image, floats come without their peak or go beyond it.
    """
    if isinstance(image, str | os.PathLike):
        raise ValueError(f"image is the path {str(image)!r}, expected an array; upscale_file takes paths")
    image = np.asarray(image)
    if image.ndim not in (2, 3) or 0 in image.shape or (image.ndim == 3 and image.shape[2] > 4):
        raise ValueError(f"image has shape {image.shape}, expected [h, w] or [h, w, c] of 1 to 4 channels")
    samples = image if image.ndim == 3 else image[..., None]
    is_float = np.issubdtype(image.dtype, np.floating)
    if is_float:
        samples = _to_grey_levels(samples, peak)
    elif image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"image is {image.dtype}, expected uint8, uint16 or floats")
    elif peak is not None:
        raise ValueError(
            f"peak is for floats; image is {image.dtype}, whose white is {np.iinfo(image.dtype).max}"
        )
    format = "TIFF" if is_float else "PNG"
    photo = Photo(samples, Metadata(), format)
    upscaler = _loaded(os.path.abspath(weights) if os.path.exists(weights) else str(weights))
    result = upscale_photo(photo, upscaler, format=format, size=OutputSize(scale=scale)).samples
    if peak is not None:
        result = (np.clip(result, 0, 255) * (peak / 255)).astype(image.dtype)
    return result if image.ndim == 3 else result[..., 0]


def _to_grey_levels(image: np.ndarray, peak: float | None) -> np.ndarray:
    least, most = float(image.min()), float(image.max())
    if peak is None:
        raise ValueError(
            f"image is {image.dtype} from {least:.4g} to {most:.4g}: say what white is, peak=1 or peak=255"
        )
    if not 0 <= least <= most <= peak or not 0 < peak < math.inf:
        raise ValueError(f"image has values from {least:.4g} to {most:.4g}, expected 0 to peak, {peak:g}")
    return (image * (255 / peak)).astype(np.float32)


_loaded = functools.lru_cache(maxsize=2)(load_upscaler)
