"""Reading every pair once, to find out which can be used."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeVar

import numpy as np

from realsr_jax.data.entries import DataError, Entry, Images
from realsr_jax.images import ImageError

_MAX_THREADS: Final = 16

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Checked:
    """What is known of a list of entries after each was read once.

    Attributes:
        lr_sizes: int64 [n, 2], height and width of the LR images; 0 where there is a problem.
        problems: by index, why an entry cannot be used, in one line.
    """

    lr_sizes: np.ndarray
    problems: dict[int, str]


class Readable(Protocol):
    """Checked pairs of which crops can be read. Can be pickled, without pixels."""

    @property
    def checked(self) -> Checked:
        """What is known of the pairs."""
        ...

    def read(self, index: int, rows: slice, columns: slice) -> Images:
        """Reads a crop.

        Args:
            index: of a pair without a problem.
            rows: which rows of LR, from start to stop.
            columns: which columns of LR.

        Returns:
            LR [h, w, 3] and HR [h * scale, w * scale, 3], uint8 copies.
        """
        ...


class Files:
    """Pairs that are decoded anew for each crop."""

    def __init__(self, entries: Sequence[Entry], scale: int, checked: Checked) -> None:
        self.checked = checked
        self._entries = entries
        self._scale = scale

    def read(self, index: int, rows: slice, columns: slice) -> Images:
        """Reads a crop; see `Readable.read`."""
        return copy_crop(*self._entries[index].load(), self._scale, rows, columns)


def check_files(
    entries: Sequence[Entry], scale: int, *, threads: int, progress: Callable[[int], None]
) -> Files:
    """Reads every pair once and keeps no pixels.

    Args:
        entries: the pairs.
        scale: of the network.
        threads: how many pairs are decoded at once.
        progress: called with the number of pairs read so far.
    """
    sizes, problems = [], {}
    for index, pair in enumerate(load_all(entries, scale, threads)):
        if isinstance(pair, str):
            problems[index] = pair
        sizes.append((0, 0) if isinstance(pair, str) else pair[0].shape[:2])
        progress(index + 1)
    return Files(entries, scale, Checked(np.array(sizes, np.int64).reshape(-1, 2), problems))


def copy_crop(lr: np.ndarray, hr: np.ndarray, scale: int, rows: slice, columns: slice) -> Images:
    """Copies a crop, given in LR pixels, out of both images."""
    hr_rows, hr_columns = (slice(part.start * scale, part.stop * scale) for part in (rows, columns))
    return lr[rows, columns].copy(), hr[hr_rows, hr_columns].copy()


def load_all(entries: Sequence[Entry], scale: int, threads: int) -> Iterator[Images | str]:
    """Loads pairs, several at once.

    Yields:
        In order, the images of each, or a line on why they cannot be used.
    """
    return in_threads(partial(load_pair, scale=scale), entries, threads)


def n_threads() -> int:
    """Returns how many threads decode images where nobody asks for a number."""
    return min(os.cpu_count() or 1, _MAX_THREADS)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """Applies a function to items, several at once in threads, as decoders release Python's lock.

    Args:
        function: of one item.
        items: its arguments. Not more than twice `threads` are taken ahead.
        threads: how many.

    Yields:
        The results in order.
    """
    pool = ThreadPoolExecutor(threads)
    running: deque[Future[Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) == 2 * threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def load_pair(entry: Entry, scale: int) -> Images | str:
    """Loads a pair and checks its sizes.

    Args:
        entry: the pair.
        scale: how many times larger HR must be.

    Returns:
        The images, or a line on why they cannot be used.

    Raises:
        DataError: if they are too large for the memory.
    """
    try:
        lr, hr = entry.load()
    except (ImageError, DataError) as error:
        return " ".join(str(error).split())
    except MemoryError as error:  # says nothing about the file
        raise DataError(f"{entry.name}: too large for this machine's memory") from error
    except Exception as error:  # broken records make decoders raise nearly anything
        return " ".join(f"{entry.name}: {type(error).__name__} {error}".split())
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    if hr.shape[:2] != (height, width):
        return (
            f"{entry.name}: HR is {hr.shape[1]} x {hr.shape[0]} pixels, expected {width} x {height}, "
            f"{scale} times LR's {lr.shape[1]} x {lr.shape[0]}"
        )
    return lr, hr
