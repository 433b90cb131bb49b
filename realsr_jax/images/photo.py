"""Photos in memory: what networks see of one, what their result becomes, and what a file format can hold."""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from realsr_jax.images.errors import ImageError
from realsr_jax.images.formats import FORMATS, check_heif
from realsr_jax.images.metadata import Metadata, fitting_profile

_MAX_BMP_BYTES: Final = 2**32 - 2**16


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright picture and what belongs to it.

    Attributes:
        samples: uint8, uint16 or float32 [h, w, c]; c is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA).
            Black is 0, white 255 or, of 16 bits, 65535; float32 can lie beyond both.
        metadata: EXIF, XMP, colour profile and resolution.
        format: Pillow's name of the file format, one of `FORMATS`.
        remarks: what became of the file beyond that, in words, such as which of its pages this is.
        white: of float32, what stands for white in the file, 1 or 65535.
    """

    samples: np.ndarray
    metadata: Metadata
    format: str
    remarks: tuple[str, ...] = ()
    white: float = 1.0

    @property
    def is_grey(self) -> bool:
        """Whether the three channels are one."""
        return self.samples.shape[-1] <= 2

    @property
    def rgb(self) -> np.ndarray:
        """The colours, a read-only view [h, w, 3]."""
        colours = self.samples[..., : 1 if self.is_grey else 3]
        return np.broadcast_to(colours, (*colours.shape[:2], 3))

    @property
    def alpha(self) -> np.ndarray | None:
        """Opacity, [h, w], with which the colours are not multiplied; or None."""
        return self.samples[..., -1] if self.samples.shape[-1] in (2, 4) else None

    @property
    def is_transparent(self) -> bool:
        """Whether any pixel is not opaque."""
        return self.alpha is not None and bool((self.alpha < full_scale(self.alpha.dtype)).any())

    def rgb_8_bit(self) -> np.ndarray:
        """Returns the colours as uint8 [h, w, 3]; what has more levels is rounded."""
        if self.rgb.dtype == np.uint8:
            return self.rgb
        levels = self.rgb / np.float32(full_scale(self.rgb.dtype) / 255)
        return np.rint(np.clip(levels, 0, 255)).astype(np.uint8)

    def laid_on(self, colour: tuple[int, int, int]) -> "Photo":
        """Returns the photo without transparency, on an RGB colour of 0..255."""
        if self.alpha is None:
            return self
        is_grey = self.is_grey and len(set(colour)) == 1
        top = np.float32(full_scale(self.samples.dtype))
        opacity = self.alpha[..., None] / top
        behind = np.asarray(colour[:1] if is_grey else colour, np.float32) * (top / 255)
        colours = (self.rgb[..., :1] if is_grey else self.rgb) * opacity + behind * (1 - opacity)
        if self.samples.dtype != np.float32:
            colours = np.rint(colours)
        samples = np.ascontiguousarray(colours.astype(self.samples.dtype))
        profile = fitting_profile(self.metadata.icc_profile, is_grey=is_grey)
        return replace(self, samples=samples, metadata=replace(self.metadata, icc_profile=profile))


def full_scale(dtype: Any) -> int:
    """Returns white, and full opacity, of samples of a type."""
    return 0xFFFF if dtype == np.uint16 else 255


def read_colour(text: str) -> tuple[int, int, int]:
    """Returns the RGB colour, 0..255, that a name or another notation of CSS stands for.

    Raises:
        ImageError: if there is none.
    """
    from PIL import ImageColor

    try:
        red, green, blue, *_ = ImageColor.getrgb(text)
    except ValueError:
        raise ImageError(f"{text}: expected white, '#102030' or the like") from None
    return red, green, blue


def size_text(image: np.ndarray) -> str:
    """Returns the size of an image [h, w, ...], such as "640 x 480"."""
    return f"{image.shape[1]} x {image.shape[0]}"


def check_pair_sizes(lr: np.ndarray, hr: np.ndarray, scale: int) -> None:
    """Raises ImageError unless HR [H, W, ...] is exactly `scale` times as large as LR [h, w, ...]."""
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    if hr.shape[:2] != (height, width):
        raise ImageError(
            f"HR is {size_text(hr)} pixels, expected {width} x {height}, {scale} times LR's {size_text(lr)}"
        )


def result_dtype(source: Photo, *, format: str) -> type[np.number]:
    """Returns the type of a result's samples: the source's, or what the format has instead."""
    if source.samples.dtype == np.uint8 or not FORMATS[format].is_deep:
        return np.uint8
    return np.float32 if source.samples.dtype == np.float32 and format == "TIFF" else np.uint16


def make_result(colours: np.ndarray, alpha: np.ndarray | None, source: Photo, *, format: str) -> Photo:
    """Makes a photo of what became of a source's colours and opacity.

    Args:
        colours: uint8, uint16 or float32 [H, W, c], c 1 for a grey source and else 3.
        alpha: [H, W, 1] of the same type, or None. Dropped if the format cannot hold it and the source is
            opaque.
        source: the photo that was upscaled.
        format: the result's format, by Pillow's name.

    Raises:
        ImageError: if the format cannot hold the result.
    """
    height, width = colours.shape[:2]
    check_writable(format, width=width, height=height, has_alpha=alpha is not None and source.is_transparent)
    if alpha is not None and FORMATS[format].has_alpha:
        colours = np.concatenate([colours, alpha], axis=-1)
    return Photo(colours, source.metadata, format, white=source.white)


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
    written = {name: each for name, each in FORMATS.items() if each.max_side}
    if format not in written:
        raise ImageError(f"cannot write {format}; supported are {', '.join(written)}")
    check_heif(format)
    if has_alpha and not written[format].has_alpha:
        raise ImageError(f"{format} cannot hold transparency; pass --background=white, or another --format")
    if max(width, height) > written[format].max_side:
        others = [name for name, each in written.items() if max(width, height) <= each.max_side]
        raise ImageError(
            f"{width} x {height} is too large for {format}, which holds at most {written[format].max_side} "
            f"pixels per side; {', '.join(others)} can hold it"
        )
    if format == "BMP" and width * height * (4 if has_alpha else 3) > _MAX_BMP_BYTES:
        raise ImageError(
            f"{width} x {height} is too large for BMP, which holds at most 4 GiB; PNG and TIFF hold more"
        )
