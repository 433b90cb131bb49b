"""From photo to upscaled photo: one network or several, transparency, and the published guided filter."""

import functools
from collections.abc import Callable, Sequence
from typing import Final, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax import ops
from realsr_jax.images.photo import Photo, check_writable, make_result
from realsr_jax.upscale.inference_config import InferenceConfig, bicubic_scale
from realsr_jax.upscale.upscaler import OnProgress, Upscaler
from realsr_jax.weights import load_weights

_TILE: Final = 512
_BICUBIC_REACH: Final = 4

ImageUpscaler: TypeAlias = "Upscaler | BicubicUpscaler | ModelEnsemble"

Smoothing = Callable[..., np.ndarray]
"""`smooth` with a radius and an eps."""


class BicubicUpscaler:
    """Plain bicubic interpolation, the baseline.

    Attributes:
        scale: output size over input size.
    """

    def __init__(self, scale: int = 2):
        self.scale = scale

    def __call__(self, lr: np.ndarray, *, progress: OnProgress | None = None) -> np.ndarray:
        """Upscales uint8 or float32 [h, w, c] to float32 [h*scale, w*scale, c], 0..255, not clipped."""
        function = functools.partial(_resize, scale=self.scale)
        result = _map_tiles(function, lr, scale=self.scale, reach=_BICUBIC_REACH, mode="edge")
        if progress is not None:
            progress(1.0)
        return result


@functools.partial(jax.jit, static_argnames="scale")
def _resize(tile: jax.Array, *, scale: int) -> jax.Array:
    return ops.resize_bicubic(tile[None], scale)[0]


class ModelEnsemble:
    """The weighted mean of several networks' results.

    Attributes:
        scale: output size over input size.
    """

    def __init__(
        self, upscalers: Sequence[ImageUpscaler], shares: Sequence[float], *, round_each: bool = True
    ):
        """Makes an ensemble.

        Args:
            upscalers: the networks, all of one scale.
            shares: how much each result counts; only their ratios matter.
            round_each: round each network's result to 8 bits first, as published; images of more than 8 bits
                are averaged as they are.

        Raises:
            ValueError: if the scales differ.
        """
        scales = [upscaler.scale for upscaler in upscalers]
        if len(set(scales)) != 1:
            raise ValueError(f"the networks' scales are {scales}, expected all the same")
        self.scale = scales[0]
        self._upscalers = upscalers
        self._shares = (np.asarray(shares, np.float64) / np.mean(shares)).astype(np.float32)
        self._round_each = round_each

    def __call__(self, lr: np.ndarray, *, progress: OnProgress | None = None) -> np.ndarray:
        """Upscales uint8 or float32 [h, w, 3] to float32 [h*scale, w*scale, 3], 0..255."""
        total = np.zeros((lr.shape[0] * self.scale, lr.shape[1] * self.scale, 3), np.float32)
        count = len(self._upscalers)
        for number, (upscaler, share) in enumerate(zip(self._upscalers, self._shares, strict=True)):
            part = None if progress is None else lambda done, n=number: progress((n + done) / count)
            sr = upscaler(lr, progress=part)
            if self._round_each and lr.dtype == np.uint8:
                np.rint(np.clip(sr, 0, 255, out=sr), out=sr)
            sr *= share
            total += sr
            del sr  # before the next network makes its own
        # Equal shares are 1 by now: the sum of whole numbers is exact, and so are ties in the mean.
        total /= count
        return total


def load_inference(config: InferenceConfig, *, tile_batch: int | None = None) -> ImageUpscaler:
    """Loads what an inference run needs.

    Args:
        config: the run.
        tile_batch: tiles that a device runs at once.

    Raises:
        ValueError: if weights cannot be used, or networks of different scales are to be averaged.
    """
    upscalers: list[ImageUpscaler] = []
    for run in config.runs:
        bicubic = bicubic_scale(run.weights)
        if bicubic is not None:
            upscalers.append(BicubicUpscaler(bicubic))
            continue
        upscalers.append(
            Upscaler(
                *load_weights(run.weights),
                tilings=run.tilings,
                self_ensemble=run.self_ensemble,
                dtype=config.dtype,
                tile_batch=tile_batch,
            )
        )
    if len(upscalers) == 1:
        return upscalers[0]
    return ModelEnsemble(upscalers, [run.weight for run in config.runs], round_each=config.round_each)


def upscale_photo(
    photo: Photo,
    upscaler: ImageUpscaler,
    *,
    format: str,
    smoothing: Smoothing | None = None,
    progress: OnProgress | None = None,
) -> Photo:
    """Upscales a photo with all that belongs to it.

    Transparency is enlarged bicubically, on the same grid as the colours, so that what is opaque or
    transparent stays exactly so.

    Args:
        photo: the photo.
        upscaler: what upscales its colours.
        format: the result's file format, by Pillow's name.
        smoothing: applied to the colours; see `make_smoothing`.
        progress: called with the fraction that is done.

    Raises:
        images.ImageError: if the format cannot hold the result.
        ValueError: if the image does not suit the upscaler's tiling.
    """
    height, width = (side * upscaler.scale for side in photo.rgb.shape[:2])
    check_writable(format, width=width, height=height, has_alpha=photo.is_transparent)
    sr = upscaler(photo.network_input(), progress=progress)
    if smoothing is not None:
        sr = smoothing(sr, whole_levels=photo.rgb.dtype == np.uint8)
    alpha = photo.network_alpha()
    if alpha is not None:
        alpha = BicubicUpscaler(upscaler.scale)(alpha[..., None])[..., 0]
    return make_result(sr, alpha, photo, format=format)


def make_smoothing(config: InferenceConfig) -> Smoothing | None:
    """Returns the guided filter of an inference run, or None if it has none."""
    if not config.guided_filter:
        return None
    return functools.partial(smooth, radius=config.guided_radius, eps=config.guided_eps)


def smooth(sr: np.ndarray, *, whole_levels: bool = True, radius: int = 10, eps: float = 10.0) -> np.ndarray:
    """Applies the published guided filter, each colour image being its own guide.

    Args:
        sr: float32 [h, w, 3], clipped to 0..255 first.
        whole_levels: round to 8 bits first, as published.
        radius: half the side of the window, in pixels.
        eps: regularisation, in squared grey levels; larger is smoother.

    Returns:
        float32 [h, w, 3].
    """
    function = functools.partial(_guided, whole_levels=whole_levels, radius=radius, eps=eps)
    return _map_tiles(function, sr, scale=1, reach=2 * radius, mode="symmetric")


@functools.partial(jax.jit, static_argnames=("whole_levels", "radius", "eps"))
def _guided(tile: jax.Array, *, whole_levels: bool, radius: int, eps: float) -> jax.Array:
    tile = jnp.clip(tile, 0, 255)
    if whole_levels:
        tile = jnp.rint(tile)
    return ops.guided_filter(tile, tile, radius=radius, eps=eps)


def _map_tiles(
    function: Callable[[np.ndarray], jax.Array],
    image: np.ndarray,
    *,
    scale: int,
    reach: int,
    mode: Literal["edge", "symmetric"],
) -> np.ndarray:
    """Applies a local operation in tiles of one size: compiled once, and only the result is held in float32.

    Args:
        function: maps a tile [t, t, c] to [t*scale, t*scale, c].
        image: [h, w, c].
        scale: of the operation.
        reach: pixels of the input beyond its own on which an output pixel depends.
        mode: `numpy.pad`'s name of how the operation continues the image over its borders.
    """
    height, width, channels = image.shape
    rows, columns = (np.pad(np.arange(n), (reach, reach + _TILE), mode=mode) for n in (height, width))
    result = np.empty((height * scale, width * scale, channels), np.float32)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            seen = np.ix_(rows[top : top + _TILE + 2 * reach], columns[left : left + _TILE + 2 * reach])
            tile = np.asarray(function(image[seen]))
            target = result[top * scale :, left * scale :][: _TILE * scale, : _TILE * scale]
            h, w = target.shape[:2]
            target[...] = tile[reach * scale :, reach * scale :][:h, :w]
    return result
