"""Pairs of images that have not been read yet: how they are read, and which can be used."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from realsr_jax.data.errors import DataError
from realsr_jax.images import ImageError, Photo, read_photo
from realsr_jax.images.photo import check_pair_sizes, size_text
from realsr_jax.images.resizing import reduce_image
from realsr_jax.ops.matlab_resize import imresize
from realsr_jax.system.errors import MEMORY_TEXT, in_one_line
from realsr_jax.system.files import file_state
from realsr_jax.system.processes import count_threads, in_threads

PairImages = tuple[np.ndarray, np.ndarray]
"""LR and HR, [h, w, 3] each, both uint8 or, if either file has more than 8 bits, both uint16."""


@dataclass(frozen=True)
class UnreadPair:
    """A pair that has not been read yet. Can be pickled.

    Attributes:
        name: what messages call it, such as a file name; need not be unique.
        fingerprint: differs whenever what `load` returns may differ.
        load: reads LR and HR, whose sizes may be anything. Raises an exception that says what is wrong.
        paths: the files that it reads, LR before HR, if it reads files.
        find_registered: finds in what `load` returns the blocks that register, see `pair_fitting`; None where
            all may be used. Raises likewise.
    """

    name: str
    fingerprint: str
    load: Callable[[], PairImages]
    paths: tuple[Path, ...] = ()
    find_registered: Callable[[PairImages], np.ndarray] | None = None


class LoadedPair(NamedTuple):
    """A pair that can be used.

    Attributes:
        lr: uint8 or uint16 [h, w, 3].
        hr: [h * scale, w * scale, 3] of the same type.
        registered: bool, which blocks register, see `pair_fitting`; None where all may be used.
    """

    lr: np.ndarray
    hr: np.ndarray
    registered: np.ndarray | None


def unread_pair(read: Callable[..., PairImages], *paths: Path, **options: Any) -> UnreadPair:
    """Returns the pair that ``read(*paths, **options)`` makes of files, named after the last file.

    Args:
        read: one of this module's functions.
        *paths: the files.
        **options: its keyword arguments.
    """
    states = [(*file_state(path), os.access(path, os.R_OK)) for path in paths]
    return UnreadPair(
        name=str(paths[-1]),
        fingerprint=repr((read.__name__, sorted(options.items()), states)),
        load=partial(read, *paths, **options),
        paths=paths,
    )


def read_pair(lr: Path, hr: Path) -> PairImages:
    """Reads a pair as it is."""
    return _alike(_read(lr), _read(hr))


def read_hr(hr: Path, *, scale: int, border: str, reduction: float) -> PairImages:
    """Reads HR, made smaller by `reduction` and cropped to multiples of the scale, and makes LR of it."""
    image = _read(hr)
    if reduction > 1:
        height, width = (max(1, round(side / reduction)) for side in image.shape[:2])
        image = reduce_image(image, (height, width), image.dtype)
    image = crop_to_multiple(image, hr, scale)
    return imresize(image, Fraction(1, scale), border=border), image


def read_reduced(lr: Path, hr: Path, *, scale: int) -> PairImages:
    """Reads a pair of equal sizes, crops both to multiples of the scale and reduces LR."""
    lr_image, hr_image = _read(lr), _read(hr)
    if lr_image.shape != hr_image.shape:
        raise ImageError(
            f"{lr}: {size_text(lr_image)} pixels, but {hr} has {size_text(hr_image)} pixels; with reduce_lr "
            "both must be equal"
        )
    lr_image, hr_image = crop_to_multiple(lr_image, lr, scale), crop_to_multiple(hr_image, hr, scale)
    return _alike(imresize(lr_image, Fraction(1, scale)), hr_image)


def read_captured(lr: Path, hr: Path, *, captured_scale: int, scale: int) -> PairImages:
    """Reads a pair of `captured_scale` and resizes HR to ``(H // captured_scale * scale, ...)``.

    Source: the published ``AIM_washed_Large``.
    """
    lr_image, hr_image = _read(lr), _read(hr)
    height, width = (side // captured_scale * scale for side in hr_image.shape[:2])
    if min(height, width) < 1:
        raise ImageError(f"{hr}: {size_text(hr_image)} pixels, too small for scale {captured_scale}")
    return _alike(lr_image, imresize(hr_image, size=(height, width)))


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
        raise ImageError(f"{path}: {size_text(image)} pixels, smaller than the scale {scale}")
    return image[:height, :width]


def in_bits(image: np.ndarray, dtype: Any) -> np.ndarray:
    """Returns an image with other bits, the same grey levels as nearly as these can tell.

    Args:
        image: uint8 or uint16, any shape.
        dtype: one of these.
    """
    if image.dtype == dtype:
        return image
    if dtype == np.uint16:
        return image.astype(np.uint16) * np.uint16(257)
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def rgb_in_bits(photo: Photo) -> np.ndarray:
    """Returns a photo's colours, [h, w, 3]: uint8, or uint16 of all that has more than 8 bits."""
    if photo.rgb.dtype != np.float32:
        return photo.rgb
    return np.rint(np.clip(photo.rgb * np.float32(257), 0, 65535)).astype(np.uint16)


def _alike(lr: np.ndarray, hr: np.ndarray) -> PairImages:
    """Returns a pair in as many bits as the deeper image has."""
    dtype = np.promote_types(lr.dtype, hr.dtype)
    return in_bits(lr, dtype), in_bits(hr, dtype)


def _read(path: Path) -> np.ndarray:
    return rgb_in_bits(read_photo(path))


# ------------------------------------------------------------------------------------------------ loading


@dataclass(frozen=True)
class CheckedPairs:
    """What is known of pairs once each was loaded.

    Attributes:
        lr_sizes: int64 [n, 2], height and width of the LR images; 0 where there is a problem.
        itemsizes: int64 [n], bytes of a sample of a pair's images, 1 or 2.
        problems: by index, why a pair cannot be used, in one line.
        registered: by index, which blocks of a pair register, where not all may be used; see `LoadedPair`.
    """

    lr_sizes: np.ndarray
    itemsizes: np.ndarray
    problems: dict[int, str]
    registered: dict[int, np.ndarray]


@dataclass(frozen=True)
class UndecodedPairs:
    """Pairs that are decoded anew whenever they are asked for. Can be pickled.

    Attributes:
        checked: what is known of them.
        unread: the pairs.
    """

    checked: CheckedPairs
    unread: Sequence[UnreadPair]

    def load(self, index: int) -> PairImages:
        """Decodes a pair."""
        return self.unread[index].load()


def load_all(
    unread: Sequence[UnreadPair],
    scale: int,
    progress: Callable[[int], None],
    keep: Callable[[PairImages], object] = lambda images: None,
) -> CheckedPairs:
    """Loads every pair once, several at once.

    Args:
        unread: the pairs.
        scale: of the network.
        progress: called with the number of pairs loaded so far.
        keep: called with the images of each pair that can be used, in order.
    """
    n = len(unread)
    checked = CheckedPairs(np.zeros((n, 2), np.int64), np.ones(n, np.int64), {}, {})
    for index, loaded in enumerate(in_threads(partial(load_pair, scale=scale), unread, count_threads())):
        if isinstance(loaded, str):
            checked.problems[index] = loaded
        else:
            checked.lr_sizes[index] = loaded.lr.shape[:2]
            checked.itemsizes[index] = loaded.lr.itemsize
            if loaded.registered is not None:
                checked.registered[index] = loaded.registered
            keep((loaded.lr, loaded.hr))
        progress(index + 1)
    return checked


def load_pair(unread: UnreadPair, scale: int) -> LoadedPair | str:
    """Loads a pair, checks its sizes and finds where it registers.

    Args:
        unread: the pair.
        scale: how many times larger HR must be.

    Returns:
        The pair, or a line on why it cannot be used.

    Raises:
        DataError: if they are too large for the memory.
    """
    try:
        lr, hr = unread.load()
        try:
            check_pair_sizes(lr, hr, scale)
        except ImageError as error:
            return f"{unread.name}: {error}"
        registered = None if unread.find_registered is None else unread.find_registered((lr, hr))
    except (ImageError, DataError) as error:
        return in_one_line(error)
    except MemoryError as error:  # says nothing about the file
        raise DataError(f"{unread.name}: {MEMORY_TEXT}") from error
    except Exception as error:  # broken records make decoders raise nearly anything
        return " ".join(f"{unread.name}: {type(error).__name__} {error}".split())
    return LoadedPair(lr, hr, registered)


def check_space(folder: Path, needed: float, what: str, advice: str) -> None:
    """Raises DataError unless a folder has room.

    Args:
        folder: where something will be written.
        needed: bytes that it takes at least.
        what: its name in the message.
        advice: what to do about it.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        needed_text, free_text = (f"{count / 2**30:.1f} GiB" for count in (needed, free))
        raise DataError(
            f"{folder}: {what} need at least {needed_text} more, but {free_text} are free; {advice}"
        )
