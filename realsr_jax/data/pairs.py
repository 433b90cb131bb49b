"""Training pairs of one or several data sets, checked before training starts."""

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np

from realsr_jax.data.checking import Readable, check_files, n_threads
from realsr_jax.data.entries import DataError, Entry, Images
from realsr_jax.data.sources import list_entries
from realsr_jax.data.store import open_store
from realsr_jax.training_config import Source


@dataclass(frozen=True, eq=False)
class Pair:
    """An image in both sizes.

    Attributes:
        name: what messages call it.
        lr: uint8 [h, w, 3].
        hr: uint8 [h * scale, w * scale, 3].
    """

    name: str
    lr: np.ndarray
    hr: np.ndarray


class Part(NamedTuple):
    """One data set's share of `Pairs`: its images and the indices of those in use."""

    images: Readable
    used: np.ndarray


class Pairs(Sequence[Pair]):
    """Pairs of images, read when they are asked for. Can be pickled, without the pixels.

    Attributes:
        scale: how many times larger HR is.
        names: of the pairs, in order; need not be unique.
        sizes: int64 [n, 2], height and width of the LR images.
        problems: a line for each file or pair that was left out.
    """

    def __init__(self, scale: int, names: list[str], parts: list[Part], problems: list[str]) -> None:
        self.scale = scale
        self.names = names
        self.problems = problems
        self.sizes = np.concatenate([part.images.checked.lr_sizes[part.used] for part in parts])
        self._parts = parts
        self._starts = [0, *accumulate(len(part.used) for part in parts)]

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> list[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | list[Pair]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        height, width = map(int, self.sizes[index])
        return Pair(self.names[index], *self.crop(index, slice(0, height), slice(0, width)))

    def crop(self, index: int, rows: slice, columns: slice) -> Images:
        """Reads a part of a pair.

        Args:
            index: of the pair, 0 to n - 1.
            rows: which rows of LR, from start to stop.
            columns: which columns of LR.

        Returns:
            LR [h, w, 3] and HR [h * scale, w * scale, 3], uint8 copies.
        """
        number = bisect_right(self._starts, index) - 1
        images, used = self._parts[number]
        return images.read(int(used[index - self._starts[number]]), rows, columns)


def open_pairs(
    sources: Sequence[Source],
    *,
    scale: int,
    patch_size: int = 0,
    decoded_dir: str = "",
    skip_bad: bool = False,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Pairs:
    """Joins data sets. Each pair is read and checked once, and its pixels are kept for fast crops.

    Args:
        sources: the data sets.
        scale: of the network.
        patch_size: pairs with an HR side smaller than this cannot be used.
        decoded_dir: folder for decoded images; empty for one in the user's cache, "none" to keep none and
            decode the files for every crop.
        skip_bad: leave out what cannot be used (see `Pairs.problems`) instead of raising.
        workers: threads that decode; 0 for one per processor core, at most 16.
        progress: called with the number of pairs that are ready, and of all, while images are decoded.

    Returns:
        At least one pair.

    Raises:
        DataError: if a data set is missing, if something cannot be used and `skip_bad` is not set, if no pair
            is left, or if decoded images cannot be kept.
    """
    listed = [list_entries(source, scale) for source in sources]
    total = sum(len(entries) for entries, _ in listed)
    names, parts, problems = [], [], []
    n_ready, is_any_small = 0, False
    for entries, unmatched in listed:

        def report(n_done: int, n_before: int = n_ready) -> None:
            if progress is not None:
                progress(n_before + n_done, total)

        images = _open_images(entries, scale, decoded_dir, workers, report)
        small = _too_small(entries, images.checked.lr_sizes * scale, patch_size)
        bad = images.checked.problems | small
        used = [index for index in range(len(entries)) if index not in bad]
        names += [entries[index].name for index in used]
        parts.append(Part(images, np.array(used, np.int64)))
        problems += [*unmatched, *bad.values()]
        is_any_small |= bool(small)
        n_ready += len(entries)
    if problems and not skip_bad:
        raise DataError(
            f"{_count(problems)} with the images; repair or remove them, "
            + ("or lower --config.patch_size, " if is_any_small else "")
            + "or leave them out with --config.skip_bad_images=True:",
            problems,
        )
    if not names:
        raise DataError("no pair of images can be used:", problems)
    return Pairs(scale, names, parts, sorted(problems))


def _open_images(
    entries: Sequence[Entry], scale: int, decoded_dir: str, workers: int, progress: Callable[[int], None]
) -> Readable:
    """Opens the store of a data set, or its files if nothing may be stored."""
    threads = workers or n_threads()
    if decoded_dir == "none":
        return check_files(entries, scale, threads=threads, progress=progress)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(decoded_dir) if decoded_dir else Path(cache, "realsr_jax", "decoded")
    return open_store(entries, scale, folder, threads=threads, progress=progress)


def _too_small(entries: Sequence[Entry], hr_sizes: np.ndarray, patch_size: int) -> dict[int, str]:
    """Says, by index, which of the usable pairs are smaller than a patch."""
    sides = hr_sizes.min(1)
    return {
        index: f"{entries[index].name}: HR is {hr_sizes[index, 1]} x {hr_sizes[index, 0]} pixels, smaller "
        f"than the patch size {patch_size}"
        for index in np.flatnonzero((sides > 0) & (sides < patch_size)).tolist()
    }


def _count(problems: list[str]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
