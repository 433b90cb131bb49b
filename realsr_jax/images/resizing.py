"""Making photos smaller."""

from typing import Any

import numpy as np
from PIL import Image


def reduce_image(image: np.ndarray, size: tuple[int, int], dtype: Any) -> np.ndarray:
    """Makes an image smaller, or as little larger as rounding of sizes demands.

    Pillow's Lanczos filter of three lobes, widened by the factor, on the values as they are stored (gamma
    light): photos are made to be compared with photos, and what reduced them worked like this.

    Args:
        image: uint8 or uint16 [h, w, c].
        size: height and width of the result.
        dtype: of the result, uint8 or uint16.

    Returns:
        [H, W, c], rounded to the whole range of `dtype`.
    """
    target = np.iinfo(dtype).max
    result = np.empty((*size, image.shape[2]), dtype)
    for channel in range(image.shape[2]):
        plane = Image.fromarray(image[..., channel].astype(np.float32))
        values = np.asarray(plane.resize((size[1], size[0]), Image.Resampling.LANCZOS))
        values = values * np.float32(target / np.iinfo(image.dtype).max)
        result[..., channel] = np.rint(np.clip(values, 0, target))
    return result
