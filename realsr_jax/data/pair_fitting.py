"""Pairs of photos that nearly fit: LR gets HR's colours, and patches are cut where both show the same."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from realsr_jax.data.errors import DataError
from realsr_jax.data.pair_reading import PairImages, UnreadPair, in_bits
from realsr_jax.images import ImageError

if TYPE_CHECKING:
    from realsr_jax.wash.measure import Measured

BLOCK: Final = 8
"""Side in LR pixels of the blocks of which it is known whether LR and HR register."""

MOST_DRAWS: Final = 10_000
"""Draws in which a patch that registers is found, but for one time in e to the 100th."""

_LEAST_SHARE: Final = 0.01  # of a pair's patches


def fit_pair(unread: UnreadPair, scale: int, *, fit_colours: bool, max_shift: float) -> UnreadPair:
    """Returns a pair that is fitted whenever it is loaded, by what washing measures on it.

    Args:
        unread: the pair.
        scale: HR's size over LR's.
        fit_colours: whether LR gets HR's colours. Pairs in which they cannot be compared cannot be used.
        max_shift: LR pixels by which LR and HR may lie apart in a block that registers; 0 does not look for
            them. Pairs in which shifts cannot be measured cannot be used.

    Raises:
        DataError: if OpenCV, which measures, is not installed.
    """
    if not fit_colours and not max_shift:
        return unread
    try:
        import realsr_jax.wash.opencv  # noqa: F401
    except RuntimeError as error:
        raise DataError(f"fit_colours and max_shift measure the pairs: {error}") from error
    return replace(
        unread,
        fingerprint=repr((unread.fingerprint, fit_colours, max_shift)),
        load=partial(_load_recoloured, unread.load, unread.name, scale) if fit_colours else unread.load,
        find_registered=partial(_find_registered, unread.name, scale, max_shift) if max_shift else None,
    )


def registers(registered: np.ndarray | None, rows: slice, columns: slice) -> bool:
    """Returns whether all blocks of a part of a pair register.

    Args:
        registered: bool [h / BLOCK, w / BLOCK], rounded up; None if all do.
        rows: which rows of LR, from start to stop.
        columns: which columns of LR.
    """
    return registered is None or bool(registered[_blocks(rows), _blocks(columns)].all())


def has_patches(registered: np.ndarray | None, size: tuple[int, int], patch_size: int, scale: int) -> bool:
    """Returns whether enough patches of a pair register to find one by drawing.

    Args:
        registered: as `registers` takes it.
        size: height and width of HR.
        patch_size: side of the patches in HR pixels, at most the shorter side of HR.
        scale: HR's size over LR's.
    """
    if registered is None:
        return True
    side = patch_size // scale
    sums = np.pad((~registered).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    starts = [np.arange(length - side + 1) for length in np.array(size) // scale]
    (top, left), (bottom, right) = (
        np.ix_(*(position // BLOCK for position in starts)),
        np.ix_(*(-(-(position + side) // BLOCK) for position in starts)),
    )
    bad = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return float((bad == 0).mean()) >= _LEAST_SHARE


def _blocks(part: slice) -> slice:
    return slice(part.start // BLOCK, -(-part.stop // BLOCK))


def _load_recoloured(load: Callable[[], PairImages], name: str, scale: int) -> PairImages:
    from realsr_jax.wash.colour import recolour

    lr, hr = load()
    curves = _measure(lr, hr, name, scale).curves
    if curves is None:
        raise ImageError(f"{name}: too small, even, dark or bright to fit LR's colours to HR's")
    step = 257 if lr.dtype == np.uint16 else 1  # of a grey level
    recoloured = step * recolour(lr / np.float32(step), curves)
    return np.clip(np.rint(recoloured), 0, 255 * step).astype(lr.dtype), hr


def _find_registered(name: str, scale: int, max_shift: float, images: PairImages) -> np.ndarray:
    from realsr_jax.wash.measure import find_registered

    registered = find_registered(_measure(*images, name, scale), block=BLOCK, max_shift=max_shift)
    if registered is None:
        raise ImageError(f"{name}: too small or even to measure shifts")
    return registered


def _measure(lr: np.ndarray, hr: np.ndarray, name: str, scale: int) -> "Measured":
    from realsr_jax.wash.measure import measure_pair
    from realsr_jax.wash.verdict import Limits

    try:
        lr, hr = (np.ascontiguousarray(in_bits(image, np.uint8)) for image in (lr, hr))
        measured = measure_pair(lr, hr, scale)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error
    if measured.figures.correlation < Limits.min_correlation:
        raise ImageError(f"{name}: shows something else than LR")
    return measured
