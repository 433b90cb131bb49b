"""Loading every pair once, to find out which can be used."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from realsr_jax.data.pair_reading import DataError, PairImages, UnreadPair
from realsr_jax.images import ImageError
from realsr_jax.system.errors import MEMORY_TEXT, in_one_line
from realsr_jax.system.processes import in_threads


@dataclass(frozen=True)
class UndecodedPairs:
    """Pairs that are decoded anew whenever they are asked for. Can be pickled.

    Attributes:
        lr_sizes: int64 [n, 2], height and width of the LR images; 0 where there is a problem.
        problems: by index, why a pair cannot be used, in one line.
        unread: the pairs.
    """

    lr_sizes: np.ndarray
    problems: dict[int, str]
    unread: Sequence[UnreadPair]

    def load(self, index: int) -> PairImages:
        """Decodes a pair."""
        return self.unread[index].load()


def load_all(
    unread: Sequence[UnreadPair],
    scale: int,
    *,
    threads: int,
    progress: Callable[[int], None],
    keep: Callable[[PairImages], object] = lambda images: None,
) -> tuple[np.ndarray, dict[int, str]]:
    """Loads every pair once, several at once.

    Args:
        unread: the pairs.
        scale: of the network.
        threads: how many pairs are decoded at once.
        progress: called with the number of pairs loaded so far.
        keep: called with the images of each pair that can be used, in order.

    Returns:
        The sizes of the LR images and the problems; see `UndecodedPairs`.
    """
    lr_sizes, problems = np.zeros((len(unread), 2), np.int64), {}
    for index, loaded in enumerate(in_threads(partial(load_pair, scale=scale), unread, threads)):
        if isinstance(loaded, str):
            problems[index] = loaded
        else:
            lr_sizes[index] = loaded[0].shape[:2]
            keep(loaded)
        progress(index + 1)
    return lr_sizes, problems


def load_pair(unread: UnreadPair, scale: int) -> PairImages | str:
    """Loads a pair and checks its sizes.

    Args:
        unread: the pair.
        scale: how many times larger HR must be.

    Returns:
        The images, or a line on why they cannot be used.

    Raises:
        DataError: if they are too large for the memory.
    """
    try:
        lr, hr = unread.load()
    except (ImageError, DataError) as error:
        return in_one_line(error)
    except MemoryError as error:  # says nothing about the file
        raise DataError(f"{unread.name}: {MEMORY_TEXT}") from error
    except Exception as error:  # broken records make decoders raise nearly anything
        return " ".join(f"{unread.name}: {type(error).__name__} {error}".split())
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    if hr.shape[:2] != (height, width):
        return (
            f"{unread.name}: HR is {hr.shape[1]} x {hr.shape[0]} pixels, expected {width} x {height}, "
            f"{scale} times LR's {lr.shape[1]} x {lr.shape[0]}"
        )
    return lr, hr
