"""Making photos smaller."""

from typing import Any

import numpy as np
from PIL import Image

from realsr_jax.images.photo import full_scale


def reduce_image(
    image: np.ndarray,
    size: tuple[int, int],
    dtype: Any,
    *,
    rings: bool = True,
) -> np.ndarray:
    """Makes an image smaller.

    Pillow's Lanczos filter of three lobes, widened by the factor, on the values as they are stored (gamma
    light): photos are made to be compared with photos, and what reduced them worked like this.

    Args:
        image: uint8, uint16 or, 0..255, float32 [h, w, c].
        size: height and width of the result.
        dtype: of the result, of the same ones.
        rings: whether values beside an edge may overshoot; if not, Hamming's filter of one lobe is taken.

    Returns:
        [H, W, c], rounded to the whole range of integers.
    """
    method = Image.Resampling.LANCZOS if rings else Image.Resampling.HAMMING
    white = full_scale(dtype)
    result = np.empty((*size, image.shape[2]), dtype)
    for channel in range(image.shape[2]):
        plane = Image.fromarray(image[..., channel].astype(np.float32))
        values = np.asarray(plane.resize((size[1], size[0]), method))
        values = values * np.float32(white / full_scale(image.dtype))
        result[..., channel] = values if dtype == np.float32 else np.rint(np.clip(values, 0, white))
    return result
