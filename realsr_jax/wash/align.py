"""Correcting LR images that are only shifted, turned, enlarged or too bright."""

import math
from typing import Final

import numpy as np

from realsr_jax.wash.colour import recolour
from realsr_jax.wash.measure import Measured
from realsr_jax.wash.opencv import cv2

_KERNEL_REACH: Final = 4


def align_pair(
    lr: np.ndarray, hr: np.ndarray, scale: int, measured: Measured, *, colours: bool
) -> tuple[np.ndarray, np.ndarray] | None:
    """Moves LR onto HR and crops both to what is known.

    Args:
        lr: uint8 [h, w, 3].
        hr: uint8 [h * scale, w * scale, 3].
        scale: HR's size over LR's.
        measured: what `measure_pair` returned for them.
        colours: whether LR also gets HR's brightness and tone curve, channel by channel.

    Returns:
        The corrected LR and the cropped HR, or None if nothing would remain.
    """
    if measured.registration is None:
        return None
    height, width = lr.shape[:2]
    similarity = measured.registration.similarity
    margin = math.ceil(similarity.largest((width, height))) + _KERNEL_REACH
    if min(height, width) <= 2 * margin:
        return None
    moved = cv2.warpAffine(
        lr.astype(np.float32),
        similarity.matrix((width, height)),
        (width, height),
        flags=cv2.INTER_LANCZOS4,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    if colours and measured.curves is not None:
        moved = recolour(moved, measured.curves)
    inner = slice(margin, height - margin), slice(margin, width - margin)
    outer = tuple(slice(part.start * scale, part.stop * scale) for part in inner)
    return np.clip(np.rint(moved[inner]), 0, 255).astype(np.uint8), hr[outer]
