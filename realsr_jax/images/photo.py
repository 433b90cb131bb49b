"""Photos in memory, read from files and written to them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from realsr_jax.images.decoding import Decoded, ImageError, decode
from realsr_jax.images.encoding import encode
from realsr_jax.images.metadata import Metadata
from realsr_jax.system.errors import MEMORY_TEXT, reason_of
from realsr_jax.system.files import write_atomically


# libjpeg's, libwebp's and libpng's limits; libjpeg's is a little less than the format's 65535.
_MAX_SIDE: Final = {"JPEG": 65500, "WEBP": 16383, "PNG": 1_000_000, "TIFF": 2**31 - 1, "BMP": 2**31 - 1}
_MAX_BMP_BYTES: Final = 2**32 - 2**16
_DEEP_FORMATS: Final = ("PNG", "TIFF")
_BAND_PIXELS: Final = 1 << 20


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright picture and what belongs to it.

    Attributes:
        rgb: uint8 or uint16 [h, w, 3]; for a grey photo a read-only view of one plane.
        alpha: opacity of the same dtype, [h, w], with which the colours are not multiplied; or None.
        is_grey: whether the three channels are one.
        metadata: EXIF, XMP, colour profile and resolution.
        format: Pillow's name of the file format: PNG, JPEG, WEBP, TIFF or BMP.
        n_frames: how many frames or pages the file has, of which this is the first.
    """

    rgb: np.ndarray
    alpha: np.ndarray | None
    is_grey: bool
    metadata: Metadata
    format: str
    n_frames: int = 1

    @property
    def is_transparent(self) -> bool:
        """Whether any pixel is not opaque."""
        return self.alpha is not None and bool((self.alpha < np.iinfo(self.alpha.dtype).max).any())

    def network_input(self) -> np.ndarray:
        """Returns the colours as networks take them: [h, w, 3], 0..255, uint8 or (of 16 bits) float32."""
        return _to_255(self.rgb)

    def rgb_8_bit(self) -> np.ndarray:
        """Returns the colours as uint8 [h, w, 3]; 16 bits are rounded."""
        colours = self.network_input()
        return colours if colours.dtype == np.uint8 else np.rint(colours).astype(np.uint8)

    def network_alpha(self) -> np.ndarray | None:
        """Returns the opacity in the same way: [h, w], 0..255, uint8 or float32, or None."""
        return None if self.alpha is None else _to_255(self.alpha)


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Reads a photo, turned upright as its orientation demands.

    Palettes become RGB, CMYK becomes sRGB. Colours under fully transparent pixels, which networks would bleed
    into the visible edge, are replaced by those of the nearest visible pixel.

    Args:
        path: a PNG, JPEG, WebP, TIFF or BMP file, whatever its suffix.

    Raises:
        ImageError: if the file cannot be read, is broken or of an unsupported kind.
    """
    try:
        return _make_photo(decode(Path(path).read_bytes()))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: {MEMORY_TEXT}") from error
    except Exception as error:  # broken files make decoders raise nearly anything
        raise ImageError(f"{path}: {reason_of(error, 'broken or cut off')}") from error


def make_result(sr: np.ndarray, alpha: np.ndarray | None, source: Photo, *, format: str) -> Photo:
    """Makes a photo of what networks returned for `source.network_input()` and `source.network_alpha()`.

    The result has 16 bits per channel where the source has and the format can, else 8, and is grey where
    the source is.

    Args:
        sr: float32 [H, W, 3], 0..255, not clipped.
        alpha: float32 [H, W], 0..255, not clipped, or None. Dropped if the format cannot hold it and the
            source is opaque.
        source: the photo that was upscaled.
        format: the result's format, by Pillow's name.

    Raises:
        ImageError: if the format cannot hold the result, or the result has values that are not finite.
    """
    height, width = sr.shape[:2]
    check_writable(format, width=width, height=height, has_alpha=alpha is not None and source.is_transparent)
    dtype = np.uint16 if source.rgb.dtype == np.uint16 and format in _DEEP_FORMATS else np.uint8
    colours = _quantise(sr, dtype, to_grey=source.is_grey)
    return Photo(
        rgb=np.broadcast_to(colours, (height, width, 3)),
        alpha=None if alpha is None or format == "JPEG" else _quantise(alpha[..., None], dtype)[..., 0],
        is_grey=source.is_grey,
        metadata=source.metadata,
        format=format,
    )


def check_writable(format: str, *, width: int, height: int, has_alpha: bool) -> None:
    """Checks that a format can hold a picture, so that no work is done in vain.

    Args:
        format: Pillow's name of the format.
        width: pixels per row.
        height: number of rows.
        has_alpha: whether there is transparency to keep (`Photo.is_transparent`).

    Raises:
        ImageError: if it cannot.
    """
    if format not in _MAX_SIDE:
        raise ImageError(f"cannot write {format}; supported are {', '.join(_MAX_SIDE)}")
    if has_alpha and format == "JPEG":
        raise ImageError("JPEG cannot hold transparency; PNG, WEBP, TIFF and BMP can")
    if max(width, height) > _MAX_SIDE[format]:
        others = [name for name, side in _MAX_SIDE.items() if max(width, height) <= side]
        raise ImageError(
            f"{width} x {height} is too large for {format}, which holds at most {_MAX_SIDE[format]} pixels "
            f"per side; {' and '.join(others)} can hold it"
        )
    if format == "BMP" and width * height * (4 if has_alpha else 3) > _MAX_BMP_BYTES:
        raise ImageError(
            f"{width} x {height} is too large for BMP, which holds at most 4 GiB; PNG and TIFF hold more"
        )


def write_photo(photo: Photo, path: str | os.PathLike[str], *, quality: int = 95) -> None:
    """Writes a photo in its format; the file appears complete or not at all.

    Pixel dimensions which the metadata states become those of the photo.

    Args:
        photo: what to write.
        path: where; an existing file is replaced. The suffix has no meaning here, see `format_of`.
        quality: 1 to 100, for JPEG and WebP. From 90 on, JPEG keeps the full colour resolution.

    Raises:
        ImageError: if it cannot be written.
    """
    height, width = photo.rgb.shape[:2]
    try:
        check_writable(photo.format, width=width, height=height, has_alpha=photo.alpha is not None)
        data = encode(_samples(photo), photo.metadata, format=photo.format, quality=quality)
        write_atomically(Path(path), data)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: {MEMORY_TEXT}") from error
    except Exception as error:
        raise ImageError(f"{path}: {reason_of(error, 'cannot be written')}") from error


def _make_photo(decoded: Decoded) -> Photo:
    """Separates colours and alpha."""
    height, width, channels = decoded.samples.shape
    is_grey = channels <= 2
    colours = decoded.samples[..., : 1 if is_grey else 3]
    alpha = decoded.samples[..., -1] if channels in (2, 4) else None
    if alpha is not None:
        colours = _defringed(colours, alpha)
    return Photo(
        rgb=np.broadcast_to(colours, (height, width, 3)),
        alpha=alpha,
        is_grey=is_grey,
        metadata=decoded.metadata,
        format=decoded.format,
        n_frames=decoded.n_frames,
    )


def _defringed(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Gives fully transparent pixels the colour of the nearest other one; [h, w, c] and [h, w]."""
    invisible = alpha == 0
    if not invisible.any() or invisible.all():
        return colours
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(invisible, return_distances=False, return_indices=True)
    assert nearest is not None
    rows, columns = nearest
    colours = colours.copy()
    colours[invisible] = colours[rows[invisible], columns[invisible]]
    return colours


def _samples(photo: Photo) -> np.ndarray:
    """Joins colours and alpha into [h, w, 1 to 4]."""
    colours = photo.rgb[..., :1] if photo.is_grey else photo.rgb
    return colours if photo.alpha is None else np.concatenate([colours, photo.alpha[..., None]], axis=-1)


def _to_255(values: np.ndarray) -> np.ndarray:
    """Brings 16-bit values to 0..255."""
    return values / np.float32(257) if values.dtype == np.uint16 else values


def _quantise(image: np.ndarray, dtype: type[np.unsignedinteger], *, to_grey: bool = False) -> np.ndarray:
    """Rounds [h, w, c] of 0..255 to the whole range of `dtype`, ties to even; grey is the channels' mean."""
    height, width, channels = image.shape
    top = np.iinfo(dtype).max
    result = np.empty((height, width, 1 if to_grey else channels), dtype)
    rows = max(1, _BAND_PIXELS // max(width, 1))  # in bands, as a whole large photo in float is gigabytes
    for start in range(0, height, rows):
        band = image[start : start + rows]
        if to_grey:
            band = band.mean(axis=-1, keepdims=True, dtype=np.float64)
        band = band * (top // 255)
        if not np.isfinite(band).all():
            raise ImageError("the result has values that are not finite")
        result[start : start + rows] = np.clip(np.rint(band, out=band), 0, top, out=band)
    return result
