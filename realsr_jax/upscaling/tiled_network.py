"""A network and the tilings through which it sees images."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import jax

from realsr_jax.models.precision import Precision
from realsr_jax.upscaling.assembly import Layer
from realsr_jax.upscaling.feeders import Feeders
from realsr_jax.upscaling.tile_fitting import Shape
from realsr_jax.upscaling.tile_network import TileNetwork
from realsr_jax.upscaling.tile_plans import make_plan, shared_shapes, tile_shape
from realsr_jax.upscaling.tilings import FittedTiles, QuarterTiles, Tiling, UniformTiles, WholeImage

_SMALLEST_TILE: Final = 64
"""Side in LR pixels below which tiles are not halved for want of memory: the network's view would suffer."""


class TiledNetwork:
    """Upscales images of any size in tiles.

    Attributes:
        tiles: what upscales the tiles.
    """

    def __init__(
        self,
        network: Callable[[Any, jax.Array], jax.Array],
        params: Any,
        *,
        scale: int,
        tilings: Sequence[Tiling],
        precision: Precision,
        overlap: int = UniformTiles.overlap,
        **options: Any,
    ):
        """Makes what upscales images.

        Args:
            network: maps parameters and float32 [n, h, w, c] to float32 [n, h*scale, w*scale, c].
            params: the parameters.
            scale: output size over input size.
            tilings: how to cut; the results of several are averaged (crop-ensemble), and without
                self-ensemble tiling number i sees the image turned by i quarter turns counter-clockwise.
            precision: of the arithmetic.
            overlap: of fitted tiles that name none.
            **options: of `TileNetwork`.

        Raises:
            ValueError: on options that cannot be.
        """
        if not tilings:
            raise ValueError("tilings is empty, expected at least one tiling")
        self.tiles = TileNetwork(network, params, scale=scale, precision=precision, **options)
        self._scale = scale
        self._tilings = tuple(
            dataclasses.replace(tiling, overlap=overlap)
            if isinstance(tiling, FittedTiles) and tiling.overlap is None
            else tiling
            for tiling in tilings
        )
        self._turns = not self.tiles.self_ensemble
        self.prepare(())

    @property
    def tilings(self) -> tuple[Tiling, ...]:
        """How images are cut."""
        return self._tilings

    def prepare(self, sizes: Iterable[Shape]) -> None:
        """Lets images of these heights and widths share tile shapes, in place of those that shared before."""
        self._sizes = frozenset(sizes)
        self._shapes: dict[tuple[Tiling, int, int], list[Shape]] = {}

    def _shared(self, tiling: Tiling, turned: int, at_once: int) -> list[Shape]:
        """Returns the shapes that images which are known ahead share, seen turned or not."""
        key = tiling, turned, at_once
        if key not in self._shapes:
            sizes = {(w, h) if turned else (h, w) for h, w in self._sizes}
            self._shapes[key] = shared_shapes(sizes, tiling, at_once=at_once)
        return self._shapes[key]

    def layers(self, image: tuple[Sequence[int], Any], plane: int, feeders: Feeders) -> list[Layer]:
        """Plans an image.

        Args:
            image: shape [h, w, c] and dtype.
            plane: of the canvas.
            feeders: what will run the tiles.

        Raises:
            ValueError: if the quarter tiling's shave is too large for the image.
        """
        (*size, channels), dtype = image
        layers: list[Layer] = []
        for number, tiling in enumerate(self._tilings):
            turns = number % 4 if self._turns else 0
            height, width = size[::-1] if turns % 2 else size
            shape = tile_shape(
                height,
                width,
                tiling,
                at_once=feeders.count,
                shared=self._shared(tiling, turns % 2, feeders.count) if (*size,) in self._sizes else (),
                in_use=self.tiles.shapes,
            )
            batch_size = self.tiles.batch_size((*shape, channels), dtype, feeders)
            plan = make_plan(height, width, scale=self._scale, tiling=tiling, shape=shape)
            # All devices take part; and no batch is larger than the image gives.
            share = -(-len(plan.tiles) // len(feeders.devices))
            batch_size = min(batch_size, 1 << share.bit_length() - 1)
            layers.append(Layer(self.tiles, plane, plan, turns, 1 / len(self._tilings), batch_size))
        return layers

    def need_less_memory(self, size: tuple[int, int]) -> str | None:
        """Halves what a device does at once; returns what that is now, or None if it is little already."""
        remedy = self.tiles.need_less_memory()
        if remedy is not None:
            return remedy
        smaller = tuple(_halved(tiling, size) for tiling in self._tilings)
        if smaller == self._tilings:
            return None
        self._tilings = smaller
        return ", ".join(dict.fromkeys(map(str, smaller)))


def _halved(tiling: Tiling, size: tuple[int, int]) -> Tiling:
    """Returns a tiling with tiles of half the side, or the same if they are small already."""
    match tiling:
        case QuarterTiles(chop_size, shave_size):
            smaller = dataclasses.replace(tiling, chop_size=chop_size // 2)
            return smaller if smaller.chop_size >= max(_SMALLEST_TILE, shave_size) else tiling
        case FittedTiles(_, area):
            area = min(area, size[0] * size[1]) // 4
            return dataclasses.replace(tiling, area=area) if area >= _SMALLEST_TILE**2 else tiling
        case UniformTiles(side, overlap, blended):
            largest = min(side, max(size))
        case WholeImage():
            largest, overlap, blended = max(size), UniformTiles.overlap, True
    side = -(-largest // 2)
    # Where seams are not blended, pixels beside them depend on the whole overlap.
    fits = side >= _SMALLEST_TILE and (blended or 2 * overlap <= side)
    return UniformTiles(side, min(overlap, side // 2), blended) if fits else tiling
