"""Weights and a tiling make an upscaler: one callable from an LR image to its SR image.

The host cuts tiles out of the image and adds what they contribute to the result; the device sees batches of
tiles only. So the network is compiled once for a tile shape, and device memory depends on the batch of tiles,
not on the image.
"""

import collections
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from realsr_jax.models import build_model
from realsr_jax.models.network import ModelConfig
from realsr_jax.system.errors import is_out_of_memory
from realsr_jax.upscale.tile_plans import TilePlan, make_plan
from realsr_jax.upscale.tilings import QuarterTiles, Sizes, Tiling, UniformTiles, WholeImage, make_tilings
from realsr_jax.weights import load_weights

_Batch = TypeVar("_Batch")

OnProgress = Callable[[float], None]
"""Called with the fraction of an image that is done, 0..1."""

_FLIPS: Final = ((False, False), (True, False), (False, True), (True, True))
"""Whether rows and whether columns are reversed."""

_AXIS: Final = "tiles"

_SMALLEST_TILE: Final = 64
"""Side in LR pixels below which tiles are not halved for want of memory: the network's view would suffer."""

_MOST_TILE_SHAPES: Final = 32
"""Compiled programs that are kept where tiles take the image's shape; more would fill the memory."""

_log = logging.getLogger("realsr_jax")


def _flip(x: jax.Array, flip: tuple[bool, bool]) -> jax.Array:
    rows, columns = (slice(None, None, -1 if reverse else None) for reverse in flip)
    return x[..., rows, columns, :]


def _ramped(sr: jax.Array, row_ramps: jax.Array, column_ramps: jax.Array) -> jax.Array:
    return sr * row_ramps[:, :, None, None] * column_ramps[:, None, :, None]


def contribute(
    network: Callable[[jax.Array], jax.Array],
    tiles: jax.Array,
    row_ramps: jax.Array,
    column_ramps: jax.Array,
    *,
    self_ensemble: bool = False,
    flips_in_sequence: bool = False,
) -> jax.Array:
    """Upscales tiles and fades the results to what they contribute to the image.

    With self-ensemble a contribution is the mean over the eight flips and transposes of the tile, each undone
    on the result. Where the plan of a flipped image differs, so do its ramps.

    Args:
        network: maps float32 [n, h, w, 3] to float32 [n, h*s, w*s, 3].
        tiles: uint8 or float32 [n, h, w, 3], 0..255.
        row_ramps: float32 [2, n, h*s], for the image as it is and for the one with reversed rows.
        column_ramps: float32 [2, n, w*s], likewise.
        self_ensemble: whether to average over flips and transposes.
        flips_in_sequence: run one flip after the other, which needs less memory, instead of side by side.

    Returns:
        float32 [n, h*s, w*s, 3].
    """
    tiles = tiles.astype(jnp.float32)
    if not self_ensemble:
        return _ramped(network(tiles), row_ramps[0], column_ramps[0])
    run = functools.partial(jax.lax.map, network) if flips_in_sequence else jax.vmap(network)
    flipped = jnp.stack([_flip(tiles, flip) for flip in _FLIPS])
    transposed = flipped.swapaxes(2, 3)
    if flipped.shape == transposed.shape:  # one batch of eight: the network is compiled once
        straight, turned = jnp.split(run(jnp.concatenate([flipped, transposed])), 2)
    else:
        straight, turned = run(flipped), run(transposed)
    upscaled = straight + turned.swapaxes(2, 3)
    contributions = [
        _ramped(_flip(sr, flip), row_ramps[int(flip[0])], column_ramps[int(flip[1])])
        for sr, flip in zip(upscaled, _FLIPS, strict=True)
    ]
    return sum(contributions, start=jnp.float32(0)) / (2 * len(_FLIPS))


class Upscaler:
    """Upscales images with one network.

    Attributes:
        model_config: the network's configuration.
        scale: output size over input size.
    """

    def __init__(
        self,
        model_config: ModelConfig,
        params: Any,
        *,
        tilings: Sequence[Tiling] = (UniformTiles(),),
        self_ensemble: bool = False,
        dtype: str = "float32",
        tile_batch: int | None = None,
    ):
        """Makes an upscaler that runs on all local devices.

        Args:
            model_config: the network.
            params: its parameters.
            tilings: how to cut the image; the results of several are averaged (crop-ensemble), and without
                self-ensemble tiling number i sees the image turned by i quarter turns counter-clockwise.
            self_ensemble: average over the eight flips and transposes.
            dtype: "float32" or "bfloat16", the type of the arithmetic on features.
            tile_batch: tiles that a device runs at once; by default 1 on CPUs, which one tile keeps busy,
                and 4 on accelerators; large tiles of the other tilings count as several.

        Raises:
            ValueError: on options that cannot be.
        """
        if dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {dtype!r}, expected 'float32' or 'bfloat16'")
        if not tilings:
            raise ValueError("tilings is empty, expected at least one tiling")
        if tile_batch is not None and tile_batch < 1:
            raise ValueError(f"tile_batch is {tile_batch}, expected at least 1")
        self.model_config = model_config
        self.scale = model_config.scale
        self._tilings = tuple(tilings)
        self._self_ensemble = self_ensemble

        devices = jax.local_devices()
        per_device = tile_batch or (1 if devices[0].platform == "cpu" else 4)
        self._flips_in_sequence = per_device < len(_FLIPS)
        if self_ensemble and not self._flips_in_sequence:
            per_device //= len(_FLIPS)
        self._per_device = per_device
        self._n_devices = len(devices)
        self._tile_shapes: set[tuple[int, int]] = set()

        self._mesh = Mesh(np.array(devices), (_AXIS,))
        self._replicated = NamedSharding(self._mesh, PartitionSpec())
        self.set_params(params)
        self._network = build_model(model_config, dtype=jnp.dtype(dtype))
        self._run = self._make_run()

    def _make_run(self) -> Any:
        """Returns `contribute` with this network, compiled for all devices when it is first called."""
        upscale = functools.partial(
            contribute, self_ensemble=self._self_ensemble, flips_in_sequence=self._flips_in_sequence
        )

        def upscale_tiles(params, tiles, row_ramps, column_ramps):
            def network(lr: jax.Array) -> jax.Array:
                return jnp.asarray(self._network.apply({"params": params}, lr))

            # On GPUs JAX's default for float32 is TF32, which keeps only 10 bits after the binary point.
            with jax.default_matmul_precision("float32"):
                return upscale(network, tiles, row_ramps, column_ramps)

        by_tile, by_tile_second = (
            NamedSharding(self._mesh, PartitionSpec(*axes)) for axes in ((_AXIS,), (None, _AXIS))
        )
        return jax.jit(
            upscale_tiles,
            in_shardings=(self._replicated, by_tile, by_tile_second, by_tile_second),
            out_shardings=by_tile,
        )

    def set_params(self, params: Any) -> None:
        """Upscales with other parameters of the same network from now on, without compiling anew."""
        self._params = jax.device_put(params, self._replicated)

    def __call__(self, lr: np.ndarray, *, progress: OnProgress | None = None) -> np.ndarray:
        """Upscales an image.

        Where the device's memory does not suffice, fewer tiles at once are tried, then smaller ones, for this
        image and those that follow; each time a warning is logged.

        Args:
            lr: uint8 or float32 [h, w, 3], 0..255.
            progress: called with the fraction that is done, 0..1, after each batch of tiles.

        Returns:
            float32 [h*scale, w*scale, 3], 0..255 but neither clipped nor rounded.

        Raises:
            ValueError: if lr is no such image, or the quarter tiling's shave is too large for it.
        """
        lr = np.asarray(lr)
        if lr.ndim != 3 or lr.shape[2] != 3 or 0 in lr.shape:
            raise ValueError(f"lr has shape {lr.shape}, expected [h, w, 3] with at least one pixel")
        if lr.dtype not in (np.uint8, np.float32):
            raise ValueError(f"lr is {lr.dtype}, expected uint8 or float32 in 0..255")
        while True:
            try:
                return self._upscale(lr, progress)
            except jax.errors.JaxRuntimeError as error:
                remedy = self._need_less_memory(lr.shape[:2]) if is_out_of_memory(error) else None
                if remedy is None:
                    raise
            _log.warning("out of device memory; trying again with %s", remedy)

    def _upscale(self, lr: np.ndarray, progress: OnProgress | None) -> np.ndarray:
        h, w, _ = lr.shape
        sr = np.zeros((h * self.scale, w * self.scale, 3), np.float32)
        for number, tiling in enumerate(self._tilings):
            turns = 0 if self._self_ensemble else number % 4
            # Both are views: what is added to the turned result lands in place in the unturned one.
            turned_lr, turned_sr = np.rot90(lr, turns), np.rot90(sr, turns)
            for done in self._add_upscaled(turned_lr, turned_sr, tiling):
                if progress is not None:
                    progress((number + done) / len(self._tilings))
        return sr

    def _need_less_memory(self, shape: tuple[int, int]) -> str | None:
        """Halves what a device does at once; returns what that is now, or None if it is little already."""
        if self._per_device > 1:
            self._per_device //= 2
            return f"tile_batch {self._per_device}"
        if self._self_ensemble and not self._flips_in_sequence:
            self._flips_in_sequence = True
            self._run = self._make_run()
            return "one flip after the other"
        smaller = tuple(_halved(tiling, shape) for tiling in self._tilings)
        if smaller == self._tilings:
            return None
        self._tilings = smaller
        return ", ".join(dict.fromkeys(map(str, smaller)))

    def _add_upscaled(self, lr: np.ndarray, sr: np.ndarray, tiling: Tiling) -> Iterator[float]:
        """Adds what one tiling contributes to sr; yields the fraction of it that is done."""
        plan = make_plan(*lr.shape[:2], scale=self.scale, tiling=tiling)
        size = self._batch_size(plan, tiling)
        batches = [plan.tiles[start : start + size] for start in range(0, len(plan.tiles), size)]
        running = ((batch, self._dispatch(lr, plan, batch, size)) for batch in batches)
        for number, (batch, contributions) in enumerate(_one_ahead(running), 1):
            self._add(sr, plan, batch, contributions)
            yield number / len(batches)

    def _batch_size(self, plan: TilePlan, tiling: Tiling) -> int:
        """Returns how many tiles run at once; for tiles of the image's own shape what suits them."""
        if isinstance(tiling, UniformTiles):
            return self._per_device * self._n_devices
        self._tile_shapes.add(plan.tile_shape)
        if len(self._tile_shapes) > _MOST_TILE_SHAPES:
            self._run.clear_cache()
            self._tile_shapes = {plan.tile_shape}
        h, w = plan.tile_shape
        by_memory = self._per_device * UniformTiles.size**2 // (h * w)
        by_image = -(-len(plan.tiles) // self._n_devices)
        return max(1, min(by_memory, by_image, self._per_device)) * self._n_devices

    def _dispatch(self, lr: np.ndarray, plan: TilePlan, batch: list[tuple[int, int]], size: int) -> jax.Array:
        filled = batch + batch[-1:] * (size - len(batch))
        rows, columns = (list(numbers) for numbers in zip(*filled, strict=True))
        tiles = np.stack([_cut(lr, plan, i, j) for i, j in filled])
        row_ramps = plan.rows.ramps[:, rows] / np.float32(len(self._tilings))
        return self._run(self._params, tiles, row_ramps, plan.columns.ramps[:, columns])

    def _add(
        self, sr: np.ndarray, plan: TilePlan, batch: list[tuple[int, int]], contributions: jax.Array
    ) -> None:
        for (i, j), contribution in zip(batch, np.asarray(contributions), strict=False):
            rows, columns = plan.rows.kept(i), plan.columns.kept(j)
            top, left = plan.rows.starts[i] * self.scale, plan.columns.starts[j] * self.scale
            target = sr[top + rows.start : top + rows.stop, left + columns.start : left + columns.stop]
            target += contribution[rows, columns]


def _one_ahead(running: Iterable[_Batch]) -> Iterator[_Batch]:
    """Yields batches, each when the next one runs: the device works on one while the host adds the other."""
    ahead = collections.deque[_Batch]()
    for item in running:
        ahead.append(item)
        if len(ahead) > 1:
            yield ahead.popleft()
    yield from ahead


def _halved(tiling: Tiling, shape: tuple[int, int]) -> Tiling:
    """Returns a tiling with tiles of half the side, or the same if they are small already."""
    match tiling:
        case QuarterTiles(chop_size, shave_size):
            smaller = dataclasses.replace(tiling, chop_size=chop_size // 2)
            return smaller if smaller.chop_size >= max(_SMALLEST_TILE, shave_size) else tiling
        case UniformTiles(size, overlap):
            largest = min(size, max(shape))
        case WholeImage():
            largest, overlap = max(shape), UniformTiles.overlap
    size = -(-largest // 2)
    return UniformTiles(size, min(overlap, size // 2)) if size >= _SMALLEST_TILE else tiling


def _cut(lr: np.ndarray, plan: TilePlan, i: int, j: int) -> np.ndarray:
    """Cuts a tile; where the image is smaller than a tile it is mirrored at its far borders."""
    top, left = plan.rows.starts[i], plan.columns.starts[j]
    h, w = plan.tile_shape
    tile = lr[top : top + h, left : left + w]
    missing = ((0, h - tile.shape[0]), (0, w - tile.shape[1]), (0, 0))
    return np.pad(tile, missing, mode="symmetric")


def load_upscaler(
    weights: str | Path,
    *,
    tile_size: Sizes | Sequence[int | None] | Literal["default"] | None = "default",
    tile_overlap: Sizes | None = None,
    chop_size: Sizes | None = None,
    shave_size: Sizes | None = None,
    self_ensemble: bool = False,
    dtype: str = "float32",
    tile_batch: int | None = None,
) -> Upscaler:
    """Loads a network and makes an upscaler of it that runs on all local devices.

    Several tile or chop sizes make a crop-ensemble: their results are averaged.

    Args:
        weights: a weights directory, as ``realsr-convert`` writes it; a training run's directory; or the
            name of a bundled network, "default".
        tile_size: side of uniform tiles in LR pixels, by default 256; None runs the whole image in one pass.
        tile_overlap: LR pixels that neighbouring tiles share, by default 32.
        chop_size: the published quarter tiling instead: tiles below ``4 * chop_size**2`` pixels are not
            quartered further.
        shave_size: LR pixels by which tiles reach past the half, by default 80.
        self_ensemble: average over the eight flips and transposes.
        dtype: "float32", or "bfloat16" for the arithmetic on features.
        tile_batch: tiles that a device runs at once; by default 1 on CPUs and 4 on accelerators.

    Raises:
        ValueError: on options that cannot be, or weights that cannot be used (`weights.WeightsError`).
    """
    tilings = make_tilings(
        tile_size=tile_size, tile_overlap=tile_overlap, chop_size=chop_size, shave_size=shave_size
    )
    return Upscaler(
        *load_weights(weights),
        tilings=tilings,
        self_ensemble=self_ensemble,
        dtype=dtype,
        tile_batch=tile_batch,
    )
