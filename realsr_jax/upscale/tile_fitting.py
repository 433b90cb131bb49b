"""The rule by which tiles get their shape.

Of all ways to cut an image into equal tiles of a bounded area, that which takes the least time and computes
at most 1.25 times the image's pixels (1.15 from a megapixel on); compiled shapes are used again where that
costs little more, and where they fit inside once there are three.
"""

import itertools
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

Shape = tuple[int, int]

_STEP: Final = 8
"""Sides of tiles are multiples of this, unless they are the image's, so that images share shapes."""

_MOST_SHAPES: Final = 3
"""Once so many are compiled, these are used again where they fit inside the image."""

_MEGAPIXEL: Final = 1 << 20
_WASTE: Final = {False: 1.25, True: 1.15}
"""How many pixels may be computed for each of the image, below a megapixel and from there on."""

_MOST_WASTE: Final = 1.5
_SMALL: Final = 256**2
"""Of an image of more pixels than this, so many are computed for each at most, whatever is compiled."""

_SLOWER: Final = 1.25
"""How much longer than the best shape one that is compiled already may take."""


class _Fit(NamedTuple):
    """What cutting an image into tiles of a shape costs: pixels that pass one after the other, and in all."""

    time: int
    pixels: int
    shape: Shape


def fit_tiles(
    height: int, width: int, *, overlap: int, area: int, at_once: int = 1, in_use: Collection[Shape] = ()
) -> Shape:
    """Returns height and width of the tiles for an image, in LR pixels.

    Args:
        height: of the image.
        width: of the image.
        overlap: pixels that neighbouring tiles share at least.
        area: the most pixels that a tile may have.
        at_once: how many tiles run side by side.
        in_use: shapes that are compiled already.
    """
    limit = _WASTE[height * width >= _MEGAPIXEL] * height * width

    def weigh(shape: Shape) -> _Fit:
        tiles = count_tiles(height, shape[0], overlap) * count_tiles(width, shape[1], overlap)
        pixels = shape[0] * shape[1]
        return _Fit(-(-tiles // at_once) * pixels, tiles * pixels, shape)

    usable = [
        weigh((h, w))
        for h, w in in_use
        if 2 * overlap <= h <= height and 2 * overlap <= w <= width and h * w <= area
    ]
    if usable and len(in_use) >= _MOST_SHAPES:
        least = min(usable)
        if height * width < _SMALL or least.pixels <= _MOST_WASTE * height * width:
            return least.shape
    sides = [list(_sides(length, overlap)) for length in (height, width)]
    smallest = min(sides[0]), min(sides[1])
    new = [weigh((h, w)) for h, w in itertools.product(*sides) if h * w <= area]
    new = new or [weigh(smallest)]
    frugal = [fit for fit in new if fit.pixels <= limit] or [min(new, key=lambda fit: fit.pixels)]
    best = min(frugal)
    again = [fit for fit in usable if fit.pixels <= limit and fit.time <= _SLOWER * best.time]
    return min(again, default=best).shape


def count_tiles(length: int, side: int, overlap: int) -> int:
    """Returns how many tiles of a side cover a length where neighbours share at least the overlap."""
    return 1 if length <= side else -(-(length - overlap) // (side - overlap))


def _sides(length: int, overlap: int) -> Iterator[int]:
    """Yields the sides of the tiles when a length is cut into one, two, ... tiles."""
    yield length
    least = max(2 * overlap, 4 * _STEP)
    count, side = 1, length
    while side > least:
        count += 1
        side = -(-(length + (count - 1) * overlap) // count)
        side = -(-side // _STEP) * _STEP
        if least <= side < length:
            yield side
