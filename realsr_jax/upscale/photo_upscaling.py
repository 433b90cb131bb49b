"""From photo to upscaled photo: one network or several, transparency, and the published guided filter."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax import images, ops
from realsr_jax.images.photo import ImageError, Photo, check_writable, make_result, result_dtype
from realsr_jax.upscale.assembly import OnProgress
from realsr_jax.upscale.canvas import round_to
from realsr_jax.upscale.inference_config import InferenceConfig, bicubic_scale
from realsr_jax.upscale.upscaler import BicubicUpscaler, ImageUpscaler, ModelEnsemble, Upscaler
from realsr_jax.weights import load_weights

_TILE: Final = 512

_MOST_ANNOUNCED: Final = 1000
"""Photos whose sizes are looked at before the first is upscaled, which takes a third of a second."""

Smoothing = Callable[..., np.ndarray]
"""`smooth` with a radius and an eps."""


def load_inference(
    config: InferenceConfig, *, tile_batch: int | None = None, photos: Iterable[Path] = ()
) -> ImageUpscaler:
    """Loads what an inference run needs.

    Args:
        config: the run.
        tile_batch: tiles that a device runs at once.
        photos: files that will be upscaled; by their sizes they share programs (`ImageUpscaler.prepare`).

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
    upscaler = upscalers[0]
    if len(upscalers) > 1:
        shares = [run.weight for run in config.runs]
        upscaler = ModelEnsemble(upscalers, shares, round_each=config.round_each)
    sizes = _sizes(photos)
    for each in (upscaler, interpolator(upscaler.scale)):
        each.prepare(sizes)
    return upscaler


def _sizes(photos: Iterable[Path]) -> set[tuple[int, int]]:
    """Returns heights and widths of photos; those that cannot be told are left to their turn."""
    sizes = set()
    for path in itertools.islice(photos, _MOST_ANNOUNCED):
        with contextlib.suppress(ImageError):
            sizes.add(images.photo_size(path))
    return sizes


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
    dtype = result_dtype(photo, format=format)
    try:
        # A filter sees all levels of the source.
        levels = dtype if smoothing is None else photo.samples.dtype
        channels = 1 if photo.is_grey and smoothing is None else 3
        colours = upscaler.upscale(photo.rgb, levels, channels=channels, progress=progress)
        if smoothing is not None:
            colours = smoothing(colours, dtype, channels=1 if photo.is_grey else 3)
        alpha = photo.alpha
        if alpha is not None:
            alpha = interpolator(upscaler.scale).upscale(alpha[..., None], dtype)
    except FloatingPointError as error:
        raise ImageError(str(error)) from error
    return make_result(colours, alpha, photo, format=format)


@functools.cache
def interpolator(scale: int) -> BicubicUpscaler:
    """Returns what enlarges bicubically, the same for everybody."""
    return BicubicUpscaler(scale)


def make_smoothing(config: InferenceConfig) -> Smoothing | None:
    """Returns the guided filter of an inference run, or None if it has none."""
    if not config.guided_filter:
        return None
    return functools.partial(smooth, radius=config.guided_radius, eps=config.guided_eps)


def smooth(
    image: np.ndarray, dtype: Any = np.uint8, *, channels: int = 3, radius: int = 10, eps: float = 10.0
) -> np.ndarray:
    """Applies the published guided filter, each colour image being its own guide.

    Args:
        image: uint8 or uint16 [h, w, 3].
        dtype: of the result, uint8 or uint16.
        channels: of the result, 3, or 1 for their mean.
        radius: half the side of the window, in pixels.
        eps: regularisation, in squared grey levels of 8 bits; larger is smoother.

    Returns:
        [h, w, channels], rounded to the whole range of `dtype`.
    """
    height, width = image.shape[:2]
    reach = 2 * radius
    rows, columns = (np.pad(np.arange(n), (reach, reach + _TILE), mode="symmetric") for n in (height, width))
    result = np.empty((height, width, channels), dtype)
    for top in range(0, height, _TILE):  # tiles of one size: compiled once
        for left in range(0, width, _TILE):
            seen = np.ix_(rows[top : top + _TILE + 2 * reach], columns[left : left + _TILE + 2 * reach])
            tile = _guided(image[seen], np.dtype(dtype), channels=channels, radius=radius, eps=eps)
            target = result[top : top + _TILE, left : left + _TILE]
            target[...] = np.asarray(tile)[reach:, reach:][: target.shape[0], : target.shape[1]]
    return result


@functools.partial(jax.jit, static_argnames=("dtype", "channels", "radius", "eps"))
def _guided(tile: jax.Array, dtype: Any, *, channels: int, radius: int, eps: float) -> jax.Array:
    tile = tile.astype(jnp.float32) / (np.iinfo(tile.dtype).max // 255)
    return round_to(ops.guided_filter(tile, tile, radius=radius, eps=eps), dtype, channels=channels)
