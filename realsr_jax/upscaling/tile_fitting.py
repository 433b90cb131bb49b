"""The rule by which tiles get their shape.

Of all ways to cut an image into equal tiles of a bounded area, that which takes the least time and computes
at most 1.25 times the image's pixels (1.15 from a megapixel on); images that are known ahead share the three
shapes that are best for all of them.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np

Shape = tuple[int, int]

_STEP: Final = 8
"""Sides of tiles are multiples of this, unless they are the image's, so that images share shapes."""

_MOST_SHAPES: Final = 3
"""Shapes that images which are known ahead share; once so many are compiled, others take them too."""

_MOST_FOR_ALL: Final = 8
"""How many are tried where fewer do not fit all images; those that fit none have shapes of their own."""

_MOST_SIDES: Final = 64
"""How many heights and widths are tried for images that are known ahead."""

_ROUNDS: Final = 3
"""How often each of the shared shapes may be exchanged for a better one."""

_MEGAPIXEL: Final = 1 << 20
_WASTE: Final = 1.25, 1.15
"""How many pixels may be computed for each of the image, below a megapixel and from there on."""

_MOST_WASTE: Final = 1.5
_MOST_WASTE_SHARED: Final = 2.5
_SMALL: Final = 256**2
"""Of an image of more pixels than this, so many are computed for each at most, whatever is compiled; the
second where images that are known ahead share shapes, which icons among photos would have to themselves."""

_MOST_SIZES: Final = 500
"""How many sizes of images are looked at when shapes are chosen; the others take what suits them."""

_SLOWER: Final = 1.25
"""How much longer than the best shape one that is compiled already may take."""

_WASTED, _TOO_LARGE, _UNFIT = 1e4, 1e8, 1e17
"""What outweighs time: a pixel computed beyond the limit, one beyond the area, tiles that do not fit."""


def fit_shapes(
    sizes: Collection[Shape], *, overlap: int, area: int, at_once: int = 1, side: int | None = None
) -> list[Shape]:
    """Returns heights and widths of tiles for images: at most three, unless some image fits none of them.

    Args:
        sizes: heights and widths of the images, in LR pixels.
        overlap: pixels that neighbouring tiles share at least.
        area: the most pixels that a tile should have.
        at_once: how many tiles run side by side.
        side: that tiles have where the image is as large; None for sides that suit the images.
    """
    images = np.unique(np.array(list(sizes)), axis=0)
    images = images[np.linspace(0, len(images) - 1, min(len(images), _MOST_SIZES)).astype(int)]
    axes = []
    for lengths in images.T.tolist():
        sides = sorted(
            {s for n in lengths for s in (_sides(n, overlap) if side is None else (min(n, side),))}
        )
        if len(images) > 1 and len(sides) > _MOST_SIDES:
            sides = [sides[i] for i in np.linspace(0, len(sides) - 1, _MOST_SIDES).astype(int)]
        axes.append(sides)
    shapes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    return [(int(h), int(w)) for h, w in shapes[_choose(_costs(images, shapes, overlap, area, at_once))]]


def best_shape(
    height: int, width: int, shapes: Sequence[Shape], *, overlap: int, area: int, at_once: int = 1
) -> Shape | None:
    """Returns which of some shapes suits an image best, or None if none fits without too much waste.

    See `fit_shapes`.
    """
    costs = _costs(np.array([(height, width)]), np.array(shapes), overlap, area, at_once)[0]
    h, w = shapes[int(costs.argmin())]
    if costs.min() >= _UNFIT:
        return None
    computed = count_tiles(height, h, overlap) * count_tiles(width, w, overlap) * h * w
    return (h, w) if height * width < _SMALL or computed <= _MOST_WASTE_SHARED * height * width else None


def fit_tiles(
    height: int, width: int, *, overlap: int, area: int, at_once: int = 1, in_use: Collection[Shape] = ()
) -> Shape:
    """Returns height and width of the tiles for an image that nobody announced; see `fit_shapes`.

    Args:
        height: of the image.
        width: of the image.
        overlap: pixels that neighbouring tiles share at least.
        area: the most pixels that a tile should have.
        at_once: how many tiles run side by side.
        in_use: shapes that are compiled already.
    """
    fitting = [
        shape
        for shape in in_use
        if all(2 * overlap <= side <= length for side, length in zip(shape, (height, width), strict=True))
        and shape[0] * shape[1] <= area
    ]

    def weigh(shape: Shape) -> tuple[int, int, Shape]:
        tiles = count_tiles(height, shape[0], overlap) * count_tiles(width, shape[1], overlap)
        return -(-tiles // at_once) * shape[0] * shape[1], tiles * shape[0] * shape[1], shape

    fits = sorted(map(weigh, fitting))
    image = height * width
    if fits and len(in_use) >= _MOST_SHAPES and (image < _SMALL or fits[0][1] <= _MOST_WASTE * image):
        return fits[0][2]
    best = fit_shapes([(height, width)], overlap=overlap, area=area, at_once=at_once)[0]
    limit, time = _WASTE[image >= _MEGAPIXEL] * image, _SLOWER * weigh(best)[0]
    return next((fit[2] for fit in fits if fit[1] <= limit and fit[0] <= time), best)


def count_tiles(length: int, side: int, overlap: int) -> int:
    """Returns how many tiles of a side cover a length where neighbours share at least the overlap."""
    return 1 if length <= side else -(-(length - overlap) // (side - overlap))


def _sides(length: int, overlap: int) -> Iterator[int]:
    """Yields the sides of the tiles when a length is cut into one, two, ... tiles."""
    yield length
    least = max(2 * overlap, 4 * _STEP)
    count, side = 1, length
    while side > least:
        # So many that the side is another: to try all numbers would take minutes of a length of millions.
        shorter = (side - 1) // _STEP * _STEP
        count = max(count + 1, -(-(length - overlap) // (shorter - overlap)))
        side = -(-(length + (count - 1) * overlap) // count)
        side = -(-side // _STEP) * _STEP
        if least <= side < length:
            yield side


def _costs(images: np.ndarray, shapes: np.ndarray, overlap: int, area: int, at_once: int) -> np.ndarray:
    """Returns float64 [n, m]: pixels that pass one after the other, where nothing outweighs them."""
    images, shapes = images[:, None].astype(float), shapes[None].astype(float)
    strides = np.maximum(shapes - overlap, 1)
    tiles = np.where(images <= shapes, 1, np.maximum(np.ceil((images - overlap) / strides), 1)).prod(-1)
    unfit = ((shapes > images) | (shapes < images) & (shapes < overlap + _STEP)).any(-1)
    image, tile = images.prod(-1), shapes.prod(-1)
    limit = np.where(image >= _MEGAPIXEL, _WASTE[1], _WASTE[0]) * image
    wasted = _WASTED * np.maximum(tiles * tile - limit, 0) + _TOO_LARGE * np.maximum(tile - area, 0)
    # Of what takes the same time, the fewest pixels.
    return np.where(unfit, _UNFIT, np.ceil(tiles / at_once) * tile + 1e-3 * tiles * tile + wasted)


def _choose(costs: np.ndarray) -> list[int]:
    """Returns the columns of which the cheapest of each row together cost little, found by exchanges."""
    chosen: list[int] = []

    def total(columns: list[int]) -> float:
        return costs[:, columns].min(1, initial=np.inf).sum()

    def with_best(others: list[int]) -> list[int]:
        so_far = costs[:, others].min(1, initial=np.inf, keepdims=True)
        return [*others, int(np.minimum(so_far, costs).sum(0).argmin())]

    while len(chosen) < _MOST_SHAPES or (len(chosen) < _MOST_FOR_ALL and total(chosen) >= _UNFIT):
        more = with_best(chosen)
        if total(more) >= total(chosen):
            break
        chosen = more
    for _ in range(_ROUNDS * len(chosen)):
        exchanged = with_best(chosen[1:])
        chosen = exchanged if total(exchanged) < total(chosen) else [*chosen[1:], chosen[0]]
    return sorted(chosen)
