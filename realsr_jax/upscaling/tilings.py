"""How an image can be cut into tiles, as plain data: the class is the choice, its fields are the sizes."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from realsr_jax.system.errors import require


@dataclasses.dataclass(frozen=True)
class FittedTiles:
    """Tiles whose shape suits the image, with blended seams: little is computed twice (`tile_fitting`).

    Attributes:
        overlap: LR pixels that neighbours share; None for what suits the network.
        area: the most LR pixels that a tile has.
    """

    overlap: int | None = None
    area: int = 300**2

    def __post_init__(self):
        most = FittedTiles.area**0.5 // 2
        fits = self.overlap is None or 0 <= self.overlap <= most
        require(fits, self, "overlap", f"0 to half the tile, {most:.0f}")
        require(self.area >= 64, self, "area", "at least 64")


@dataclasses.dataclass(frozen=True)
class UniformTiles:
    """Square tiles of one size with blended seams; a smaller image is a tile of its own shape.

    Many smaller images of different sizes that are known ahead are cut into tiles of three shapes instead.

    Attributes:
        size: side of a tile in LR pixels.
        overlap: LR pixels that neighbours share; the outer quarter is discarded, the rest is blended.
        blended: whether it is; else neighbours meet in the middle.
    """

    size: int = 256
    overlap: int = 32
    blended: bool = True

    def __post_init__(self):
        require(self.size >= 8, self, "size", "at least 8")
        require(0 <= 2 * self.overlap <= self.size, self, "overlap", f"0 to half the tile, {self.size // 2}")


@dataclasses.dataclass(frozen=True)
class QuarterTiles:
    """The published tiling ("chop"): the image is quartered until its tiles are small enough.

    Attributes:
        chop_size: quartering ends below ``4 * chop_size**2`` pixels.
        shave_size: LR pixels by which each tile reaches past the half.
    """

    chop_size: int = 450
    shave_size: int = 80

    def __post_init__(self):
        require(self.chop_size >= 1, self, "chop_size", "at least 1")
        require(self.shave_size >= 0, self, "shave_size", "at least 0")


@dataclasses.dataclass(frozen=True)
class WholeImage:
    """The whole image in one pass of the network."""


Tiling = FittedTiles | UniformTiles | QuarterTiles | WholeImage


Sizes = int | Sequence[int]


def make_tilings(
    *,
    tile_size: Sizes | Sequence[int | None] | Literal["default"] | None = "default",
    tile_overlap: Sizes | None = None,
    chop_size: Sizes | None = None,
    shave_size: Sizes | None = None,
) -> tuple[Tiling, ...]:
    """Turns sizes into tilings; see `upscaler.load_upscaler` for their meaning.

    Raises:
        ValueError: on sizes that cannot be, lists that are empty or of different lengths, or sizes of
            different tilings.
    """
    if chop_size is None:
        if shave_size is not None:
            raise ValueError("shave_size needs a chop_size")
        if isinstance(tile_size, str):
            overlaps = _as_tuple(tile_overlap)
            if not overlaps:
                raise ValueError("tile_overlap is empty, expected at least one size")
            return tuple(FittedTiles(overlap) for overlap in overlaps)
        make, names = UniformTiles, ("tile_size", "tile_overlap")
        sizes = _as_tuple(tile_size)
        margins = _as_tuple(UniformTiles.overlap if tile_overlap is None else tile_overlap)
    else:
        if not (tile_size is None or isinstance(tile_size, str)) or tile_overlap is not None:
            raise ValueError("chop_size excludes tile_size and tile_overlap")
        make, names = QuarterTiles, ("chop_size", "shave_size")
        sizes = _as_tuple(chop_size)
        margins = _as_tuple(QuarterTiles.shave_size if shave_size is None else shave_size)
    if len(margins) == 1:
        margins *= len(sizes)
    if len(sizes) != len(margins):
        raise ValueError(
            f"{names[0]} has {len(sizes)} entries and {names[1]} {len(margins)}, expected as many or one"
        )
    if not sizes:
        raise ValueError(f"{names[0]} is empty, expected at least one size")
    return tuple(
        WholeImage() if size is None else make(size, margin)
        for size, margin in zip(sizes, margins, strict=True)
    )


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Iterable) else (value,)
