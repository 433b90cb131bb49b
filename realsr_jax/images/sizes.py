"""Sizes of images, for messages, and the one that a pair must have."""

import numpy as np

from realsr_jax.images.decoding import ImageError


def size_text(image: np.ndarray) -> str:
    """Returns the size of an image [h, w, ...], such as "640 x 480"."""
    return f"{image.shape[1]} x {image.shape[0]}"


def check_pair_sizes(lr: np.ndarray, hr: np.ndarray, scale: int) -> None:
    """Raises ImageError unless HR [H, W, ...] is exactly `scale` times as large as LR [h, w, ...]."""
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    if hr.shape[:2] != (height, width):
        raise ImageError(
            f"HR is {size_text(hr)} pixels, expected {width} x {height}, {scale} times LR's {size_text(lr)}"
        )
