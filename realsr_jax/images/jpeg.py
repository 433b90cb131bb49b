"""What JPEG compression leaves of an image."""

import io
from typing import Final

import numpy as np
from PIL import Image

SUBSAMPLINGS: Final = ("4:4:4", "4:2:2", "4:2:0")


def through_jpeg(image: np.ndarray, *, quality: int, subsampling: str) -> np.ndarray:
    """Compresses an image and reads it back.

    Args:
        image: uint8 [h, w, 3].
        quality: of libjpeg, 1 to 100.
        subsampling: of the colour, one of `SUBSAMPLINGS`.

    Returns:
        uint8 [h, w, 3], read-only.
    """
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(file) as decoded:
        return np.asarray(decoded)
