"""From photo to upscaled photo: one network or several, transparency, and the published guided filter."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np

from realsr_jax import images, ops
from realsr_jax.images.errors import ImageError
from realsr_jax.images.photo import Photo, check_writable, full_scale, make_result, result_dtype
from realsr_jax.images.resizing import reduce_image
from realsr_jax.models.precision import Precision
from realsr_jax.upscaling.assembly import OnProgress
from realsr_jax.upscaling.inference_config import DEFAULT, InferenceConfig, bicubic_scale
from realsr_jax.upscaling.output_size import OutputSize, count_passes
from realsr_jax.upscaling.tiled_network import TiledNetwork
from realsr_jax.upscaling.tilings import UniformTiles
from realsr_jax.upscaling.upscaler import BicubicUpscaler, ImageUpscaler, ModelEnsemble, Upscaler
from realsr_jax.weights import load_mixed, load_weights

OWN_FACTOR: Final = OutputSize()
"""Results as large as the network makes them."""

_TILE: Final = 512

_MOST_ANNOUNCED: Final = 1000
"""Photos whose sizes are looked at before the first is upscaled."""

Smoothing = Callable[..., np.ndarray]
"""`smooth` with a radius and an eps."""


def load_inference(
    config: InferenceConfig,
    *,
    tile_batch: int | None = None,
    photos: Iterable[Path] = (),
    size: OutputSize = OWN_FACTOR,
) -> ImageUpscaler:
    """Loads what an inference run needs.

    Args:
        config: the run.
        tile_batch: tiles that a device runs at once.
        photos: files that will be upscaled; by their sizes they share programs (`ImageUpscaler.prepare`).
        size: how large their results are.

    Raises:
        ValueError: if weights cannot be used, or networks of different scales are to be averaged.
    """
    upscalers: list[ImageUpscaler] = []
    for run in config.runs:
        bicubic = bicubic_scale(run.weights)
        if bicubic is not None:
            upscalers.append(BicubicUpscaler(bicubic))
            continue
        is_mixed = run.weights == DEFAULT and config.denoise < 1
        upscalers.append(
            Upscaler(
                *(load_mixed(config.denoise) if is_mixed else load_weights(run.weights)),
                tilings=run.tilings,
                self_ensemble=run.self_ensemble,
                dtype=config.dtype,
                tile_batch=tile_batch,
            )
        )
    shares = [run.weight for run in config.runs]
    round_each = config.round_each and len(upscalers) > 1
    scale = upscalers[0].scale
    if config.strength == 0:
        upscalers[:], shares = [BicubicUpscaler(scale)], [1.0]
    elif config.strength < 1:
        upscalers.append(BicubicUpscaler(scale))
        shares.append(sum(shares) * (1 / config.strength - 1))
    upscaler = upscalers[0]
    if len(upscalers) > 1:
        upscaler = ModelEnsemble(upscalers, shares, round_each=round_each)
    sizes = _passed_sizes(_sizes(photos), size, scale)
    if not sizes:
        return upscaler
    for each in (upscaler, interpolator(upscaler.scale)):
        each.prepare(sizes)
    if config.guided_filter:
        smoother = _smoother(config.guided_radius, config.guided_eps)
        smoother.prepare((height * scale, width * scale) for height, width in sizes)
    return upscaler


def _sizes(photos: Iterable[Path]) -> set[tuple[int, int]]:
    """Returns heights and widths of photos; those that cannot be told are left to their turn."""
    sizes = set()
    for path in itertools.islice(photos, _MOST_ANNOUNCED):
        with contextlib.suppress(ImageError):
            sizes.add(images.photo_size(path))
    return sizes


def _passed_sizes(sizes: Iterable[tuple[int, int]], size: OutputSize, factor: int) -> set[tuple[int, int]]:
    """Returns heights and widths of what passes a network on the way from photos to results of a size."""
    return {
        (height * factor**number, width * factor**number)
        for height, width in sizes
        for number in range(count_passes((height, width), size.of(height, width, factor), factor))
    }


def upscale_photo(
    photo: Photo,
    upscaler: ImageUpscaler,
    *,
    format: str,
    size: OutputSize = OWN_FACTOR,
    smoothing: Smoothing | None = None,
    progress: OnProgress | None = None,
) -> Photo:
    """Upscales a photo with all that belongs to it.

    For another size than the network's factor gives, the photo passes the network as often as it must and is
    then reduced; a photo that is to become smaller is reduced only.

    Transparency is enlarged bicubically and reduced by a filter that does not ring, on the same grid as the
    colours, so that what is opaque or transparent stays exactly so.

    Args:
        photo: the photo.
        upscaler: what upscales its colours.
        format: the result's file format, by Pillow's name.
        size: how large the result is.
        smoothing: applied to the colours; see `make_smoothing`.
        progress: called with the fraction that is done.

    Raises:
        images.ImageError: if the format cannot hold the result.
        ValueError: if the image does not suit the upscaler's tiling.
    """
    height, width = size.of(photo.rgb.shape[0], photo.rgb.shape[1], upscaler.scale)
    check_writable(format, width=width, height=height, has_alpha=photo.is_transparent)
    dtype = result_dtype(photo, format=format)
    # A filter sees all levels of the source.
    levels = dtype if smoothing is None else photo.samples.dtype
    channels = 1 if photo.is_grey and smoothing is None else 3
    try:
        colours = _enlarge(photo.rgb, upscaler, (height, width), levels, channels, progress)
        if smoothing is not None:
            colours = smoothing(colours, dtype, channels=1 if photo.is_grey else 3)
        alpha = photo.alpha
        if alpha is not None:
            bicubic = interpolator(upscaler.scale)
            alpha = _enlarge(alpha[..., None], bicubic, (height, width), dtype, 1, rings=False)
            alpha = np.clip(alpha, 0, full_scale(dtype))  # of floats, what overshoots
    except FloatingPointError as error:
        raise ImageError(str(error)) from error
    return make_result(colours, alpha, photo, format=format)


def _enlarge(
    image: np.ndarray,
    upscaler: ImageUpscaler,
    size: tuple[int, int],
    dtype: Any,
    channels: int,
    progress: OnProgress | None = None,
    rings: bool = True,
) -> np.ndarray:
    """Enlarges an image as often as its size demands, then reduces it to that size.

    Args:
        image: uint8, uint16 or, 0..255, float32 [h, w, c].
        upscaler: what enlarges it.
        size: height and width of the result.
        dtype: of the result, of the same ones.
        channels: of the result.
        progress: called with the fraction that is done.
        rings: see `reduce_image`.
    """
    n_passes = count_passes(image.shape[:2], size, upscaler.scale)
    between = np.float32 if dtype == np.float32 else np.uint16
    pixels = [upscaler.scale ** (2 * number) for number in range(n_passes)]

    def report(share: float, number: int) -> None:
        if progress is not None:
            progress((sum(pixels[:number]) + share * pixels[number]) / sum(pixels))

    for number in range(n_passes):
        is_exact = all(side * upscaler.scale == end for side, end in zip(image.shape, size, strict=False))
        image = upscaler.upscale(
            image,
            dtype if is_exact else between,
            channels=channels if number == n_passes - 1 else None,
            progress=functools.partial(report, number=number),
        )
    image = image[..., :channels]
    is_done = image.shape[:2] == size and image.dtype == dtype
    return image if is_done else reduce_image(image, size, dtype, rings=rings)


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
    return _smoother(radius, eps).upscale(image, dtype, channels=channels)


@functools.cache
def _smoother(radius: int, eps: float) -> ImageUpscaler:
    """Returns what smooths images of any size: neighbouring tiles see as much as a pixel depends on."""

    def network(_: Any, tiles: jax.Array) -> jax.Array:
        return jax.vmap(lambda tile: ops.guided_filter(tile, tile, radius=radius, eps=eps))(tiles)

    overlap = 4 * radius
    tiling = UniformTiles(max(_TILE, 2 * overlap), overlap, blended=False)
    tiled = TiledNetwork(network, (), scale=1, tilings=[tiling], precision=Precision("float32"))
    return ImageUpscaler([tiled], scale=1)
