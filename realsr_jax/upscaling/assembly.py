"""One image on its way: its tiles in the queue, and the canvas to which their contributions are added."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from typing import NamedTuple

import jax
import numpy as np

from realsr_jax.upscaling.canvas import Canvas
from realsr_jax.upscaling.feeders import Device, Feeders
from realsr_jax.upscaling.tile_network import TileNetwork, Tiles
from realsr_jax.upscaling.tile_plans import TilePlan

OnProgress = Callable[[float], None]
"""Called with the fraction of an image that is done, 0..1."""


class Layer(NamedTuple):
    """An image as one network sees it through one tiling.

    Attributes:
        network: the network.
        plane: of the canvas.
        plan: of the turned image.
        turns: quarter turns counter-clockwise by which the image is turned.
        share: of the layer in its plane.
        batch_size: the most tiles at once.
    """

    network: TileNetwork
    plane: int
    plan: TilePlan
    turns: int
    share: float
    batch_size: int


class _Tile(NamedTuple):
    """A tile of the plan, and where its contribution lies in the unturned image, in LR pixels."""

    top: int
    left: int
    row: int
    column: int


class _Batch(NamedTuple):
    layer: Layer
    tiles: Sequence[_Tile]


class Assembly:
    """Upscales one image, tile by tile, with all devices."""

    def __init__(
        self, lr: np.ndarray, scale: int, layers: Sequence[Layer], canvas: Canvas, progress: OnProgress | None
    ):
        """Prepares the way of an image [h, w, c] through its layers onto a canvas."""
        self._lr = lr
        self._scale = scale
        self._canvas = canvas
        self._progress = progress
        across_rows = len(layers) == 1
        batches = (batch for layer in layers for batch in _batches(layer, lr.shape, across_rows=across_rows))
        self._batches: list[_Batch] = sorted(batches, key=_top)
        self._lock = threading.Lock()
        self._ready: dict[int, jax.Array] = {}
        self._n_added = self._n_done = 0
        self._has_failed = False

    def run(self, feeders: Feeders) -> None:
        """Upscales the image.

        Raises:
            JaxRuntimeError: if a device fails, for lack of memory perhaps.
            FloatingPointError: if a result of integers has values that are not finite.
        """
        futures: list[Future[None]] = []
        try:
            for number in range(len(self._batches)):
                futures.append(feeders.submit(lambda device, n=number: self._upscale(n, device, feeders)))
            for future in futures:
                future.result()
        except BaseException:
            self._has_failed = True
            for future in futures:
                future.cancel()
            wait(futures)
            self._ready.clear()
            raise
        self._canvas.finish_rows(self._lr.shape[0] * self._scale)
        self._canvas.close()

    def _upscale(self, number: int, device: Device, feeders: Feeders) -> None:
        if self._has_failed:
            return
        layer, tiles = self._batches[number]
        contributions = layer.network(self._cut(layer, tiles), device, at_once=feeders.for_each)
        with self._lock:
            self._ready[number] = contributions
            while self._n_added in self._ready:
                self._add(self._batches[self._n_added], self._ready.pop(self._n_added))
                self._n_added += 1
            self._n_done += 1
            if self._progress is not None:
                self._progress(self._n_done / len(self._batches))

    def _cut(self, layer: Layer, tiles: Sequence[_Tile]) -> Tiles:
        image, plan = np.rot90(self._lr, layer.turns), layer.plan
        h, w = plan.tile_shape
        corners = [(plan.rows.starts[tile.row], plan.columns.starts[tile.column]) for tile in tiles]
        return Tiles(
            np.stack([image[top : top + h, left : left + w] for top, left in corners]),
            plan.rows.ramps[:, [tile.row for tile in tiles]] * np.float32(layer.share),
            plan.columns.ramps[:, [tile.column for tile in tiles]],
        )

    def _add(self, batch: _Batch, contributions: jax.Array) -> None:
        contributions = jax.device_put(contributions, self._canvas.device)
        for index, tile in enumerate(batch.tiles):
            self._canvas.add(
                contributions,
                index,
                plane=batch.layer.plane,
                top=tile.top * self._scale,
                left=tile.left * self._scale,
                turns=batch.layer.turns,
            )


def _top(batch: _Batch) -> int:
    return batch.tiles[0].top


def _batches(layer: Layer, image_shape: Sequence[int], *, across_rows: bool) -> Iterator[_Batch]:
    """Yields the tiles, as many together as may be, and powers of two.

    Contributions are added from top to bottom: only where there are no other layers can rows be in one batch.
    """
    tiles = sorted(_placed(layer, image_shape))
    while tiles:
        left = len(tiles) if across_rows else sum(tile.top == tiles[0].top for tile in tiles)
        count = min(layer.batch_size, 1 << left.bit_length() - 1)
        yield _Batch(layer, tiles[:count])
        tiles = tiles[count:]


def _placed(layer: Layer, image_shape: Sequence[int]) -> Iterable[_Tile]:
    """Yields the tiles with their places in the unturned image."""
    (h, w), plan = layer.plan.tile_shape, layer.plan
    height, width = image_shape[:2]
    for row, column in plan.tiles:
        top, left = plan.rows.starts[row], plan.columns.starts[column]
        below, right = (width, height) if layer.turns % 2 else (height, width)
        below, right = below - top - h, right - left - w
        place = [(top, left), (left, below), (below, right), (right, top)][layer.turns % 4]
        yield _Tile(*place, row, column)
