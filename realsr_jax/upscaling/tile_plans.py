"""Tile plans: where an image is cut and what each tile contributes to the result, as plain data.

All tilings separate into a plan for rows and one for columns. A tile is what the network sees at once; all
tiles of a plan have one size. An output pixel is the sum of what the tiles contribute to it: their outputs
times ramps, which sum to one.
"""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from realsr_jax.upscaling.tile_fitting import Shape, best_shape, count_tiles, fit_shapes, fit_tiles
from realsr_jax.upscaling.tilings import FittedTiles, QuarterTiles, Tiling, UniformTiles, WholeImage


@dataclasses.dataclass(frozen=True, eq=False)
class AxisPlan:
    """How one axis of an image is cut.

    Attributes:
        length: of a tile in LR pixels.
        starts: first LR pixel of each tile.
        ramps: float32 [2, tiles, length * scale], each tile's contribution to the output pixels under it; the
            second for an image that was flipped along this axis, seen in the unflipped one.
    """

    length: int
    starts: tuple[int, ...]
    ramps: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class TilePlan:
    """How an image is cut: every tile is one of the row plan crossed with one of the column plan."""

    rows: AxisPlan
    columns: AxisPlan

    @property
    def tile_shape(self) -> tuple[int, int]:
        """Height and width of every tile in LR pixels."""
        return self.rows.length, self.columns.length

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """Row and column index of every tile."""
        return [(i, j) for i in range(len(self.rows.starts)) for j in range(len(self.columns.starts))]


def tile_shape(
    height: int,
    width: int,
    tiling: Tiling,
    *,
    at_once: int = 1,
    shared: Sequence[Shape] = (),
    in_use: Collection[Shape] = (),
) -> Shape:
    """Returns height and width of the tiles into which a tiling cuts an image, in LR pixels.

    Args:
        height: of the LR image.
        width: of the LR image.
        tiling: how to cut.
        at_once: how many tiles run side by side.
        shared: `shared_shapes` of images of which this is one.
        in_use: shapes that are compiled already, for an image that nobody announced.

    Raises:
        ValueError: if the quarter recursion cannot end because the shave is too large.
    """
    match tiling:
        case WholeImage():
            return height, width
        case QuarterTiles():
            depth = _quarter_depth(height, width, tiling)
            rows, columns = (_quarters(n, 1, depth, tiling.shave_size)[0][1] for n in (height, width))
            return rows, columns
        case UniformTiles() | FittedTiles():
            overlap = _overlap_of(tiling)
            area = tiling.size**2 if isinstance(tiling, UniformTiles) else tiling.area
            limits = {"overlap": overlap, "area": area, "at_once": at_once}
            if shared and (best := best_shape(height, width, shared, **limits)) is not None:
                return best
            if isinstance(tiling, UniformTiles):
                return min(tiling.size, height), min(tiling.size, width)
            return fit_tiles(height, width, **limits, in_use=in_use)


def shared_shapes(sizes: Collection[Shape], tiling: Tiling, *, at_once: int = 1) -> list[Shape]:
    """Returns the shapes of tiles that suit images of several sizes, at most three where these suffice.

    Args:
        sizes: heights and widths of LR images.
        tiling: how to cut; those that leave no choice share nothing.
        at_once: how many tiles run side by side.
    """
    match tiling:
        case UniformTiles(size, overlap):
            return fit_shapes(sizes, overlap=overlap, area=size**2, at_once=at_once, side=size)
        case FittedTiles(_, area):
            return fit_shapes(sizes, overlap=_overlap_of(tiling), area=area, at_once=at_once)
        case _:
            return []


def make_plan(height: int, width: int, *, scale: int, tiling: Tiling, shape: Shape | None = None) -> TilePlan:
    """Plans the tiling of an image.

    Args:
        height: of the LR image.
        width: of the LR image.
        scale: output size over input size.
        tiling: how to cut.
        shape: of the tiles where the tiling leaves it open, no larger than the image; see `tile_shape`.

    Raises:
        ValueError: if the quarter recursion cannot end because the shave is too large.
    """
    match tiling:
        case WholeImage():
            axes = [_disjoint_axis([(0, n, 0, n * scale)], n, scale) for n in (height, width)]
        case QuarterTiles():
            depth = _quarter_depth(height, width, tiling)
            axes = [
                _disjoint_axis(_quarters(n, scale, depth, tiling.shave_size), n, scale)
                for n in (height, width)
            ]
        case UniformTiles() | FittedTiles():
            shape = shape or tile_shape(height, width, tiling)
            overlap = _overlap_of(tiling)
            blended = 0 if isinstance(tiling, UniformTiles) and not tiling.blended else overlap / 2
            axes = [
                _blended_axis(n, scale, size, overlap, blended)
                for n, size in zip((height, width), shape, strict=True)
            ]
    return TilePlan(*axes)


def _overlap_of(tiling: UniformTiles | FittedTiles) -> int:
    return UniformTiles.overlap if tiling.overlap is None else tiling.overlap


def _blended_axis(length: int, scale: int, size: int, overlap: int, blended: float) -> AxisPlan:
    """Tiles of one size, evenly spread, that share at least the overlap and blend over part of it."""
    count = count_tiles(length, size, overlap)
    starts = np.arange(count) * (length - size) // max(count - 1, 1)
    seams = np.concatenate([[-np.inf], (starts[1:] + starts[:-1] + size) / 2 * scale, [np.inf]])
    blended = max(blended * scale, 1e-6)
    pixels = starts[:, None] * scale + np.arange(size * scale) + 0.5
    before, after = (
        np.clip((pixels - seam[:, None]) / blended + 0.5, 0, 1) for seam in (seams[:-1], seams[1:])
    )
    ramps = (before - after).astype(np.float32)
    return AxisPlan(size, tuple(int(start) for start in starts), np.stack([ramps, ramps]))


def _quarter_length(length: int, shave: int) -> int:
    """Returns the side of a quarter: as published, but never too short to cover its half, nor too long."""
    return min(max(length // 2 + shave, (length + 1) // 2), length)


def _quarter_depth(height: int, width: int, tiling: QuarterTiles) -> int:
    """Returns how often the image is quartered."""
    depth, shape = 0, (height, width)
    while True:
        depth += 1
        if shape[0] * shape[1] < 4 * tiling.chop_size**2:
            return depth
        smaller = tuple(_quarter_length(n, tiling.shave_size) for n in shape)
        if smaller == shape:
            raise ValueError(
                f"shave_size {tiling.shave_size} is too large: a {shape[0]}x{shape[1]} tile stays that large "
                f"when quartered, and never gets below 4 * chop_size**2 = {4 * tiling.chop_size**2} pixels"
            )
        shape = smaller


def _quarters(length: int, scale: int, depth: int, shave: int) -> list[tuple[int, int, int, int]]:
    """Unrolls the published recursion along one axis.

    A tile of n pixels gives two, at its start and at its end; of its N = n * scale output pixels the first
    gives ``N // 2``, the second the rest.

    Returns:
        Of each tile its start and length in LR pixels, and first and end of its kept output pixels.
    """
    tiles = [(0, length, 0, length * scale)]
    for _ in range(depth):
        smaller = []
        for start, n, first, end in tiles:
            half, middle = _quarter_length(n, shave), n * scale // 2
            offset = (n - half) * scale
            smaller.append((start, half, first, min(end, middle)))
            smaller.append((start + n - half, half, max(first, middle) - offset, end - offset))
        tiles = smaller
    return tiles


def _disjoint_axis(tiles: list[tuple[int, int, int, int]], length: int, scale: int) -> AxisPlan:
    """Returns a plan in which every output pixel comes from one tile.

    Args:
        tiles: of each its start and length in LR pixels, and first and end of its kept output pixels; the
            starts are the same for the mirrored image.
        length: of the axis.
        scale: output size over input size.
    """
    size = tiles[0][1]
    ramps = np.zeros((len(tiles), size * scale), np.float32)
    for ramp, (_, _, first, end) in zip(ramps, tiles, strict=True):
        ramp[max(first, 0) : max(end, 0)] = 1
    ramps = np.stack([ramps, ramps[::-1, ::-1]])
    used = np.flatnonzero(ramps.any(axis=(0, 2)))
    assert all(length - size - tiles[-1 - i][0] == tiles[i][0] for i in used)
    return AxisPlan(size, tuple(tiles[i][0] for i in used), ramps[:, used])
