"""A network that upscales tiles: compiled once for a shape, on every device that asks for it."""

import functools
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from realsr_jax.models.precision import Precision
from realsr_jax.system.memory import available_memory
from realsr_jax.upscaling.feeders import Device, Feeders

_FLIPS: Final = ((False, False), (True, False), (False, True), (True, True))
"""Whether rows and whether columns are reversed."""

_MOST_SHAPES: Final = 32
"""Tile shapes whose programs are kept where tiles take the image's shape; more would fill the memory."""

_MOST_TILES: Final = 16
"""Tiles that an accelerator runs at once at most; more make it no faster."""

_USABLE: Final = 0.6
"""The share of the memory that is free which tiles in work may take."""


class Tiles(NamedTuple):
    """Tiles of one image that a device runs at once.

    Attributes:
        pixels: uint8, uint16 or float32 [n, h, w, c]; 16 bits stand for 0..255.
        row_ramps: float32 [2, n, h*s], what the tiles contribute: to the image as it is, and to the one with
            reversed rows.
        column_ramps: float32 [2, n, w*s], likewise.
    """

    pixels: np.ndarray
    row_ramps: np.ndarray
    column_ramps: np.ndarray


class _Program(NamedTuple):
    run: Callable[..., jax.Array]
    gate: threading.Semaphore
    """Lets as many tiles run side by side as the memory holds."""


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
        network: maps float32 [n, h, w, c] to float32 [n, h*s, w*s, c].
        tiles: uint8, uint16 or float32 [n, h, w, c], 0..255, or of 16 bits their whole range.
        row_ramps: float32 [2, n, h*s], for the image as it is and for the one with reversed rows.
        column_ramps: float32 [2, n, w*s], likewise.
        self_ensemble: whether to average over flips and transposes.
        flips_in_sequence: run one flip after the other, which needs less memory, instead of side by side.

    Returns:
        float32 [n, h*s, w*s, c].
    """
    tiles = tiles.astype(jnp.float32) / (257 if tiles.dtype == jnp.uint16 else 1)
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


class TileNetwork:
    """Upscales tiles on any device.

    Attributes:
        self_ensemble: whether it averages over the eight flips and transposes of each tile.
    """

    def __init__(
        self,
        network: Callable[[Any, jax.Array], jax.Array],
        params: Any,
        *,
        scale: int,
        precision: Precision,
        place: Callable[[Any, Device], Any] = jax.device_put,
        self_ensemble: bool = False,
        tile_batch: int | None = None,
    ):
        """Makes what upscales tiles.

        Args:
            network: maps parameters and float32 [n, h, w, c] to float32 [n, h*s, w*s, c].
            params: the parameters.
            scale: s, output size over input size.
            precision: of its arithmetic.
            place: puts parameters on a device.
            self_ensemble: average over the eight flips and transposes of each tile.
            tile_batch: tiles that a device runs at once at most; None for 1 on CPUs, and elsewhere as many as
                the memory holds.

        Raises:
            ValueError: on a tile_batch that cannot be.
        """
        if tile_batch is not None and tile_batch < 1:
            raise ValueError(f"tile_batch is {tile_batch}, expected at least 1")
        self._network = network
        self._scale = scale
        self._precision = precision
        self._place = place
        self.self_ensemble = self_ensemble
        self._flips_in_sequence = False
        self._tile_batch = tile_batch
        self._most_at_once = max(tile_batch or 1, _MOST_TILES)
        self._batches: dict[tuple[int, ...], int] = {}
        self._programs: dict[tuple[Any, ...], _Program] = {}
        self._lock = threading.RLock()
        self.set_params(params)

    def set_params(self, params: Any) -> None:
        """Upscales with other parameters of the same network from now on, without compiling anew."""
        with self._lock:
            self._params = params
            self._placed: dict[Device, Any] = {}

    @property
    def shapes(self) -> set[tuple[int, int]]:
        """Heights and widths of tiles for which there are programs."""
        with self._lock:
            return {key[1][1:3] for key in self._programs}

    def __call__(self, tiles: Tiles, device: Device, *, at_once: int) -> jax.Array:
        """Upscales tiles, and returns when the device has done so.

        Args:
            tiles: the tiles.
            device: where to run.
            at_once: how many threads run tiles on the device.

        Returns:
            float32 [n, h*s, w*s, c], their contributions, on the device.
        """
        program = self._program(tiles.pixels.shape, tiles.pixels.dtype, device, at_once)
        with program.gate:
            return program.run(self._placed_on(device), *tiles).block_until_ready()

    def compile(self, shape: tuple[int, ...], dtype: Any, feeders: Feeders) -> None:
        """Makes the program for tiles [n, h, w, c]."""
        self._program(shape, dtype, feeders.devices[0], feeders.for_each)

    def batch_size(self, shape: tuple[int, int, int], dtype: Any, feeders: Feeders) -> int:
        """Returns how many tiles [h, w, c] a device runs at once at most, a power of two."""
        device, at_once = feeders.devices[0], feeders.for_each
        with self._lock:
            if device.platform == "cpu" or self._tile_batch is not None:
                flips = 2 * len(_FLIPS) if self.self_ensemble and not self._in_sequence() else 1
                wanted = max((self._tile_batch or 1) // flips, 1)
                return 1 << min(wanted, self._most_at_once).bit_length() - 1
            if shape not in self._batches:
                need = _memory_of(self._program((1, *shape), dtype, device, at_once).run)
                fit = _free_memory(device) * _USABLE // (need * at_once)
                self._batches[shape] = 1 << int(min(max(fit, 1), _MOST_TILES)).bit_length() - 1
            return min(self._batches[shape], self._most_at_once)

    def need_less_memory(self) -> str | None:
        """Halves what a device does at once; returns what that is now, or None if it is little already."""
        with self._lock:
            if self.self_ensemble and not self._in_sequence():
                self._flips_in_sequence = True
                self._programs.clear()
                return "one flip after the other"
            most = min(self._tile_batch or max(self._batches.values(), default=1), self._most_at_once)
            if most == 1:
                return None
            self._most_at_once = most // 2
            return f"tile_batch {self._most_at_once}"

    def _program(self, shape: tuple[int, ...], dtype: Any, device: Device, at_once: int) -> _Program:
        key = (device, shape, np.dtype(dtype))
        with self._lock:  # one compilation at a time: devices of one kind find each other's on disk
            if key not in self._programs:
                if shape[1:3] not in self.shapes and len(self.shapes) >= _MOST_SHAPES:
                    oldest = next(iter(self._programs))[1][1:3]
                    for other in [key for key in self._programs if key[1][1:3] == oldest]:
                        del self._programs[other]
                self._programs[key] = self._compile(shape, dtype, device, at_once)
            return self._programs[key]

    def _compile(self, shape: tuple[int, ...], dtype: Any, device: Device, at_once: int) -> _Program:
        sharding = SingleDeviceSharding(device)

        def like(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

        n, h, w, _ = shape
        params = self._placed_on(device)
        tiles = like(shape, dtype)
        ramps = (like((2, n, side * self._scale), np.float32) for side in (h, w))
        with self._precision.tracing():
            upscale = functools.partial(
                contribute, self_ensemble=self.self_ensemble, flips_in_sequence=self._in_sequence()
            )

            def upscale_tiles(params, tiles, *ramps):
                return upscale(functools.partial(self._network, params), tiles, *ramps)

            program = jax.jit(upscale_tiles).lower(params, tiles, *ramps).compile()
        side_by_side = at_once
        if device.platform == "cpu":
            need, free = max(_memory_of(program), 1), available_memory()
            if need > free:  # or the system would end the process
                raise jax.errors.JaxRuntimeError(f"RESOURCE_EXHAUSTED: {need} bytes needed, {free} free")
            side_by_side = int(min(max(free * _USABLE // need, 1), at_once))
        return _Program(program, threading.Semaphore(side_by_side))

    def _in_sequence(self) -> bool:
        """Returns whether flips run one after the other, as they do unless so many tiles may run at once."""
        return self._flips_in_sequence or (self._tile_batch or 1) < 2 * len(_FLIPS)

    def _placed_on(self, device: Device) -> Any:
        with self._lock:
            if device not in self._placed:
                self._placed[device] = self._place(self._params, device)
            return self._placed[device]


def _memory_of(program: Any) -> int:
    """Returns the bytes that a run of a compiled program takes beside its arguments."""
    analysis = program.memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes


def _free_memory(device: Device) -> int:
    """Returns the bytes of a device that are free, as far as it tells."""
    stats = device.memory_stats() or {}
    return stats.get("bytes_limit", 8 << 30) - stats.get("bytes_in_use", 0)
