"""Weights and a tiling make an upscaler: one callable from an LR image to its SR image.

Tiles go to the devices as the image's own numbers, are upscaled, added and rounded there, and come back in
bands (`canvas`). Networks are compiled for a few tile shapes, whatever the images' sizes, and a device's
memory depends on the tiles in work, not on the image.
"""

import gc
import logging
import os
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from realsr_jax import images, ops
from realsr_jax.images.errors import ImageError
from realsr_jax.images.formats import WRITTEN
from realsr_jax.models import build_model, place_parameters
from realsr_jax.models.network import ModelConfig
from realsr_jax.models.precision import Precision, resolve_precision
from realsr_jax.system.errors import is_out_of_memory
from realsr_jax.system.jax_startup import enable_compilation_cache
from realsr_jax.upscaling.assembly import Assembly, Layer, OnProgress
from realsr_jax.upscaling.canvas import Canvas
from realsr_jax.upscaling.feeders import Feeders, feeders_of, upscaling_devices
from realsr_jax.upscaling.tiled_network import TiledNetwork
from realsr_jax.upscaling.tilings import FittedTiles, Sizes, Tiling, UniformTiles, make_tilings
from realsr_jax.weights import load_weights

_BICUBIC: Final = UniformTiles(512, 16, blended=False)
"""Neighbours share more than the interpolation reaches to both sides of where they meet."""

_log = logging.getLogger("realsr_jax")


class ImageUpscaler:
    """Upscales images with one network, or with several whose results are averaged.

    Attributes:
        scale: output size over input size.
        networks: the networks.
    """

    def __init__(
        self,
        networks: Sequence[TiledNetwork],
        *,
        scale: int,
        shares: Sequence[float] = (1.0,),
        round_each: bool = False,
    ):
        """Makes an upscaler; see `ModelEnsemble` for several networks."""
        self.scale = scale
        self.networks = tuple(networks)
        self._shares = (np.asarray(shares, np.float64) / np.mean(shares)).astype(np.float32)
        self._round_each = round_each
        self._lock = threading.Lock()
        self._n_remedies = 0

    def prepare(self, sizes: Iterable[tuple[int, int]]) -> None:
        """Tells what images will come, so that all are upscaled by the same few programs.

        Three for each tiling suffice, unless sizes are very different, such as icons among photos; an image
        that nobody announced may bring one of its own. Nothing is compiled here.

        Args:
            sizes: heights and widths of the images.
        """
        sizes = {(int(height), int(width)) for height, width in sizes}
        with self._lock:
            for network in self.networks:
                network.prepare(sizes)

    def __call__(
        self, lr: np.ndarray, *, peak: float | None = None, progress: OnProgress | None = None
    ) -> np.ndarray:
        """Upscales an image.

        Where a device's memory does not suffice, fewer tiles at once are tried, then smaller ones, for this
        image and those that follow; each time a warning is logged.

        Args:
            lr: uint8 or float32 [h, w, 3], 0..255.
            peak: what white is in an image of floats, 255 unless said. It must be said where no value is
                above 2, which is likelier an image of 0..1 than one that is all but black.
            progress: called with the fraction that is done, 0..1, after each batch of tiles.

        Returns:
            float32 [h*scale, w*scale, 3], 0..peak but neither clipped nor rounded.

        Raises:
            ValueError: if lr is no such image, or the quarter tiling's shave is too large for it.
        """
        lr = np.asarray(lr)
        if lr.ndim != 3 or lr.shape[2] != 3 or 0 in lr.shape:
            raise ValueError(f"lr has shape {lr.shape}, expected [h, w, 3] with at least one pixel")
        if lr.dtype not in (np.uint8, np.float32):
            raise ValueError(f"lr is {lr.dtype}, expected uint8 or float32 in 0..255")
        if peak is None:
            if lr.dtype == np.float32 and 0 < (most := lr.max()) <= 2:
                raise ValueError(f"lr is float32 up to {most:.3g}: say what white is, peak=1 or peak=255")
            return self.upscale(lr, np.float32, progress=progress)
        if lr.dtype != np.float32 or not 0 < peak < np.inf:
            raise ValueError(
                f"peak is {peak} of an image of {lr.dtype}, expected a number above 0 of float32"
            )
        sr = self.upscale(lr * np.float32(255 / peak), np.float32, progress=progress)
        return sr * np.float32(peak / 255)

    def upscale_file(
        self,
        source: str | os.PathLike[str],
        target: str | os.PathLike[str],
        *,
        scale: float | None = None,
        background: tuple[int, int, int] | None = None,
        quality: int = 95,
    ) -> None:
        """Upscales a photo on disk, with its transparency, bit depth, colour profile and metadata.

        Args:
            source: the photo's file, of any format that ``realsr-upscale`` reads.
            target: the result's file, which is replaced if it exists; its ending selects the format.
            scale: factor of the result; None for the network's.
            background: an RGB colour of 0..255 that transparent photos are laid on; None keeps transparency.
            quality: 1 to 100, for JPEG, WebP, AVIF and HEIC.

        Raises:
            ImageError: if a file cannot be read or written, or the format cannot hold the result.
        """
        from realsr_jax.upscaling.output_size import OutputSize
        from realsr_jax.upscaling.photo_upscaling import upscale_photo  # which stands on upscalers

        format = WRITTEN.get(Path(target).suffix.lower())
        if format is None:
            raise ImageError(f"{target}: unknown ending, expected one of {', '.join(WRITTEN)}")
        photo = images.read_photo(source)
        if background is not None:
            photo = photo.laid_on(background)
        result = upscale_photo(photo, self, format=format, size=OutputSize(scale=scale))
        images.write_photo(result, target, quality=quality)

    def upscale(
        self, lr: np.ndarray, dtype: Any, *, channels: int | None = None, progress: OnProgress | None = None
    ) -> np.ndarray:
        """Upscales an image to numbers of a file's type; see `__call__`.

        Args:
            lr: uint8, uint16 or float32 [h, w, c], of 0..255 or, of 16 bits, their whole range.
            dtype: of the result, uint8, uint16 or float32.
            channels: of the result, 1 for their mean; None for those of lr.
            progress: called with the fraction that is done.

        Returns:
            [h*scale, w*scale, channels], integers clipped and rounded to their whole range.

        Raises:
            ValueError: if the quarter tiling's shave is too large for the image.
            FloatingPointError: if integers are wanted and there are values that are not finite.
        """
        while True:
            n_remedies = self._n_remedies
            try:
                return self._upscale(lr, np.dtype(dtype), channels or lr.shape[2], progress)
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error) or not self._can_try_again(lr.shape[:2], n_remedies):
                    raise
            gc.collect()  # the error's traceback holds what the attempt had on the device

    def _can_try_again(self, size: tuple[int, int], n_remedies: int) -> bool:
        """Does less at once, unless another image's lack of memory has led to that already."""
        with self._lock:
            if n_remedies == self._n_remedies:
                remedies = (network.need_less_memory(size) for network in self.networks)
                remedy = next(filter(None, remedies), None)
                if remedy is None:
                    return False
                self._n_remedies += 1
                _log.warning("out of device memory; trying again with %s", remedy)
            return True

    def _layers(self, shape: Sequence[int], dtype: Any, feeders: Feeders) -> list[Layer]:
        layers = [
            layer
            for plane, network in enumerate(self.networks)
            for layer in network.layers((shape, dtype), plane, feeders)
        ]
        for layer in layers:
            layer.network.compile((layer.batch_size, *layer.plan.tile_shape, shape[2]), dtype, feeders)
        return layers

    def _upscale(
        self, lr: np.ndarray, dtype: np.dtype, channels: int, progress: OnProgress | None
    ) -> np.ndarray:
        with self._lock:  # or images that come at the same time would each bring a shape of their own
            feeders = feeders_of(upscaling_devices())
            layers = self._layers(lr.shape, lr.dtype, feeders)
        heights = [layer.plan.tile_shape[layer.turns % 2] for layer in layers]
        result = np.empty((lr.shape[0] * self.scale, lr.shape[1] * self.scale, channels), dtype)
        canvas = Canvas(
            result,
            tile_height=max(heights) * self.scale,
            width=lr.shape[1] * self.scale,
            shares=self._shares,
            round_each=self._round_each and lr.dtype == np.uint8,
            device=feeders.next_device(),
        )
        Assembly(lr, self.scale, layers, canvas, progress).run(feeders)
        return result


class Upscaler(ImageUpscaler):
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
        tilings: Sequence[Tiling] = (FittedTiles(),),
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
            dtype: of the arithmetic on features, one of `precision.DTYPES`.
            tile_batch: tiles that a device runs at once at most; by default 1 on CPUs, where each core has
                one, and on accelerators as many as the free memory holds.

        Raises:
            ValueError: on options that cannot be.
        """
        self.model_config = model_config
        precision = resolve_precision(dtype, model_config, upscaling_devices()[0])
        model = build_model(model_config, dtype=precision.dtype)
        network = TiledNetwork(
            lambda params, lr: jnp.asarray(model.apply({"params": params}, lr)),
            params,
            scale=model_config.scale,
            tilings=tilings,
            precision=precision,
            place=lambda params, device: place_parameters(
                model_config, params, SingleDeviceSharding(device), dtype=precision.dtype
            ),
            overlap=_overlap(model_config.reach),
            self_ensemble=self_ensemble,
            tile_batch=tile_batch,
        )
        super().__init__([network], scale=model_config.scale)

    def __repr__(self) -> str:
        (network,) = self.networks
        tilings = ", ".join(map(repr, network.tilings))
        ensemble = ", self-ensemble" if network.tiles.self_ensemble else ""
        return f"<Upscaler x{self.scale}: {self.model_config}, {tilings}{ensemble}>"

    def set_params(self, params: Any) -> None:
        """Upscales with other parameters of the same network from now on, without compiling anew."""
        self.networks[0].tiles.set_params(params)


class BicubicUpscaler(ImageUpscaler):
    """Plain bicubic interpolation, the baseline; images may have any number of channels in `upscale`."""

    def __init__(self, scale: int = 2):
        """Makes an upscaler by `scale`."""
        network = TiledNetwork(
            lambda _, lr: ops.resize_bicubic(lr, scale),
            (),
            scale=scale,
            tilings=[_BICUBIC],
            precision=Precision("float32"),
        )
        super().__init__([network], scale=scale)


class ModelEnsemble(ImageUpscaler):
    """The weighted mean of several networks' results."""

    def __init__(
        self, upscalers: Sequence[ImageUpscaler], shares: Sequence[float], *, round_each: bool = True
    ):
        """Makes an ensemble.

        Args:
            upscalers: one network each, all of one scale.
            shares: how much each result counts; only their ratios matter.
            round_each: round each network's result to 8 bits first, as published; images of more than 8 bits
                are averaged as they are.

        Raises:
            ValueError: if the scales differ.
        """
        scales = [upscaler.scale for upscaler in upscalers]
        if len(set(scales)) != 1:
            raise ValueError(f"the networks' scales are {scales}, expected all the same")
        networks = [network for upscaler in upscalers for network in upscaler.networks]
        super().__init__(networks, scale=scales[0], shares=shares, round_each=round_each)


def _overlap(reach: int | None) -> int:
    """Returns what tiles of a network share: its reach in eights, at most 32, or 32 where it has no end.

    What lies near the end of a network's reach hardly counts.
    """
    return UniformTiles.overlap if reach is None else min(max(reach // 8 * 8, 8), UniformTiles.overlap)


def load_upscaler(
    weights: str | Path = "default",
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
            name of a bundled network, such as "default".
        tile_size: side of square tiles in LR pixels, by default tiles whose shape suits the image; None runs
            the whole image in one pass.
        tile_overlap: LR pixels that neighbouring tiles share, by default 32, or what the network sees where
            that is less.
        chop_size: the published quarter tiling instead: tiles below ``4 * chop_size**2`` pixels are not
            quartered further.
        shave_size: LR pixels by which tiles reach past the half, by default 80.
        self_ensemble: average over the eight flips and transposes.
        dtype: of the arithmetic on features: "float32", "tensorfloat32", "bfloat16" or "auto"; see
            `models.precision`.
        tile_batch: tiles that a device runs at once at most; by default 1 on CPUs, where each core has one,
            and on accelerators as many as the free memory holds.

    Raises:
        ValueError: on options that cannot be, or weights that cannot be used (`weights.WeightsError`).
    """
    enable_compilation_cache()
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
