"""Pairs of images that have not been read yet, and how they are read."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from realsr_jax.images import ImageError, read_photo
from realsr_jax.ops.matlab_resize import imresize

_SHOWN: Final = 20

PairImages = tuple[np.ndarray, np.ndarray]
"""LR and HR, uint8 [h, w, 3] each."""


class DataError(ValueError):
    """What is wrong with training data: one line, and one more for each problem.

    Attributes:
        problems: a line for each file or pair that cannot be used, sorted; empty if the message says it all.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        self.problems = sorted(problems)
        lines = [f"  {problem}" for problem in self.problems[:_SHOWN]]
        if len(self.problems) > _SHOWN:
            lines.append(f"  and {len(self.problems) - _SHOWN} more")
        super().__init__("\n".join([message, *lines]))


@dataclass(frozen=True)
class UnreadPair:
    """A pair that has not been read yet. Can be pickled.

    Attributes:
        name: what messages call it, such as a file name; need not be unique.
        fingerprint: differs whenever what `load` returns may differ.
        load: reads LR and HR, whose sizes may be anything. Raises an exception that says what is wrong.
    """

    name: str
    fingerprint: str
    load: Callable[[], PairImages]


def unread_pair(read: Callable[..., PairImages], *paths: Path, **options: Any) -> UnreadPair:
    """Returns the pair that ``read(*paths, **options)`` makes of files, named after the last file.

    Args:
        read: one of this module's functions.
        *paths: the files.
        **options: its keyword arguments.
    """
    states = [_file_state(path) for path in paths]
    return UnreadPair(
        name=str(paths[-1]),
        fingerprint=repr((read.__name__, sorted(options.items()), states)),
        load=partial(read, *paths, **options),
    )


def _file_state(path: Path) -> tuple[object, ...]:
    """Tells a file from others and from itself before a change, without reading it."""
    absolute = os.path.abspath(path)
    try:
        state = os.stat(path)
    except OSError as error:
        return absolute, error.errno
    return absolute, state.st_size, state.st_mtime_ns, os.access(path, os.R_OK)


def read_pair(lr: Path, hr: Path) -> PairImages:
    """Reads a pair as it is."""
    return _read(lr), _read(hr)


def read_hr(hr: Path, *, scale: int, border: str) -> PairImages:
    """Reads HR, cropped to multiples of the scale, and makes LR of it."""
    image = crop_to_multiple(_read(hr), hr, scale)
    return imresize(image, Fraction(1, scale), border=border), image


def read_reduced(lr: Path, hr: Path, *, scale: int) -> PairImages:
    """Reads a pair of equal sizes, crops both to multiples of the scale and reduces LR."""
    lr_image, hr_image = _read(lr), _read(hr)
    if lr_image.shape != hr_image.shape:
        raise ImageError(
            f"{lr}: {_size(lr_image)}, but {hr} has {_size(hr_image)}; with reduce_lr both must be equal"
        )
    lr_image, hr_image = crop_to_multiple(lr_image, lr, scale), crop_to_multiple(hr_image, hr, scale)
    return imresize(lr_image, Fraction(1, scale)), hr_image


def read_captured(lr: Path, hr: Path, *, captured_scale: int, scale: int) -> PairImages:
    """Reads a pair of `captured_scale` and resizes HR to ``(H // captured_scale * scale, ...)``.

    Source: the published ``AIM_washed_Large``.
    """
    lr_image, hr_image = _read(lr), _read(hr)
    height, width = (side // captured_scale * scale for side in hr_image.shape[:2])
    if min(height, width) < 1:
        raise ImageError(f"{hr}: {_size(hr_image)}, too small for scale {captured_scale}")
    return lr_image, imresize(hr_image, size=(height, width))


def crop_to_multiple(image: np.ndarray, path: Path, scale: int) -> np.ndarray:
    """Cuts off rows at the bottom and columns at the right, so that both sides are multiples of the scale.

    Args:
        image: [h, w, c].
        path: where it is from, for the message.
        scale: of LR images that will be made of it.

    Raises:
        ImageError: if nothing would be left.
    """
    height, width = (side // scale * scale for side in image.shape[:2])
    if min(height, width) < 1:
        raise ImageError(f"{path}: {_size(image)}, smaller than the scale {scale}")
    return image[:height, :width]


def _read(path: Path) -> np.ndarray:
    return read_photo(path).rgb_8_bit()


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]} x {image.shape[0]} pixels"
