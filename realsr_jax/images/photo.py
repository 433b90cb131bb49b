"""Photos in memory: what networks see of one, what their result becomes, and what a file format can hold."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from realsr_jax.images.metadata import Metadata
from realsr_jax.system.errors import MEMORY_TEXT, reason_of

# libjpeg's, libwebp's and libpng's limits; libjpeg's is a little less than the format's 65535.
_MAX_SIDE: Final = {"JPEG": 65500, "WEBP": 16383, "PNG": 1_000_000, "TIFF": 2**31 - 1, "BMP": 2**31 - 1}
_MAX_BMP_BYTES: Final = 2**32 - 2**16
_DEEP_FORMATS: Final = ("PNG", "TIFF")


class ImageError(ValueError):
    """What is wrong with a file or a request, in one line for the user.

    What `realsr_jax.images` raises starts with the path where the function was given one, and does not
    otherwise (`check_writable`, `make_result`).
    """


@contextlib.contextmanager
def image_errors(path: str | os.PathLike[str], otherwise: str) -> Iterator[None]:
    """Turns whatever goes wrong with a file into ImageErrors that name it; `otherwise` says what is meant."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error
    except MemoryError as error:
        raise ImageError(f"{path}: {MEMORY_TEXT}") from error
    except Exception as error:  # broken files make decoders raise nearly anything
        raise ImageError(f"{path}: {reason_of(error, otherwise)}") from error


@dataclass(frozen=True, eq=False)
class Photo:
    """An upright picture and what belongs to it.

    Attributes:
        samples: uint8 or uint16 [h, w, c]; c is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA).
        metadata: EXIF, XMP, colour profile and resolution.
        format: Pillow's name of the file format: PNG, JPEG, WEBP, TIFF or BMP.
        n_frames: how many frames or pages the file has, of which this is the first.
    """

    samples: np.ndarray
    metadata: Metadata
    format: str
    n_frames: int = 1

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
        return self.alpha is not None and bool((self.alpha < np.iinfo(self.alpha.dtype).max).any())

    def rgb_8_bit(self) -> np.ndarray:
        """Returns the colours as uint8 [h, w, 3]; 16 bits are rounded."""
        return (
            self.rgb if self.rgb.dtype == np.uint8 else np.rint(self.rgb / np.float32(257)).astype(np.uint8)
        )


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


def result_dtype(source: Photo, *, format: str) -> type[np.unsignedinteger]:
    """Returns the type of a result's samples: of 16 bits where source and format have them, else of 8."""
    return np.uint16 if source.samples.dtype == np.uint16 and format in _DEEP_FORMATS else np.uint8


def make_result(colours: np.ndarray, alpha: np.ndarray | None, source: Photo, *, format: str) -> Photo:
    """Makes a photo of what became of a source's colours and opacity.

    Args:
        colours: uint8 or uint16 [H, W, c], c 1 for a grey source and else 3.
        alpha: [H, W, 1] of the same type, or None. Dropped if the format cannot hold it and the source is
            opaque.
        source: the photo that was upscaled.
        format: the result's format, by Pillow's name.

    Raises:
        ImageError: if the format cannot hold the result.
    """
    height, width = colours.shape[:2]
    check_writable(format, width=width, height=height, has_alpha=alpha is not None and source.is_transparent)
    if alpha is not None and format != "JPEG":
        colours = np.concatenate([colours, alpha], axis=-1)
    return Photo(colours, source.metadata, format)


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
