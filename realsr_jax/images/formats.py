"""The file formats of photos: names, signatures, and what each can hold."""

import functools
import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any, Final

from realsr_jax.images.errors import ImageError


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        suffixes: of file names, the usual one first.
        max_side: the most pixels of a row or column that are written; 0 if it is only read.
        is_deep: whether it holds more than 8 bits.
        has_alpha: whether it holds transparency.
    """

    suffixes: tuple[str, ...]
    max_side: int
    is_deep: bool = False
    has_alpha: bool = True


# libjpeg's, libwebp's, libpng's, libavif's and libheif's limits; libjpeg's is a little less than the format's
# 65535, beyond the last two readers refuse a file.
FORMATS: Final = {
    "PNG": Format((".png",), 1_000_000, is_deep=True),
    "JPEG": Format((".jpg", ".jpeg", ".jpe", ".jfif"), 65500, has_alpha=False),
    "WEBP": Format((".webp",), 16383),
    "TIFF": Format((".tif", ".tiff"), 2**31 - 1, is_deep=True),
    "BMP": Format((".bmp",), 2**31 - 1),
    "AVIF": Format((".avif",), 32768),
    "HEIF": Format((".heic", ".heif"), 32768, is_deep=True),
    "GIF": Format((".gif",), 0),
}
"""Formats by Pillow's names."""

SUFFIXES: Final = {suffix: name for name, format in FORMATS.items() for suffix in format.suffixes}
"""The format, by Pillow's name, that a lower-case file name suffix stands for."""

WRITTEN: Final = {suffix: name for suffix, name in SUFFIXES.items() if FORMATS[name].max_side}
"""As `SUFFIXES`, of formats that can be written."""

NAMES: Final = "PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC or GIF"

HEIF_HINT: Final = "pip install pillow-heif"

_SIGNATURES: Final = {
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff",
    "WEBP": b"RIFF",
    "TIFF": (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"),
    "BMP": b"BM",
    "GIF": (b"GIF87a", b"GIF89a"),
}
_BRANDS: Final = {"AVIF": (b"avif", b"avis"), "HEIF": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1")}

HEAD_BYTES: Final = 64
"""How much of a file tells its format."""


def detect_format(data: bytes) -> str:
    """Names the format that a file's first bytes announce.

    Raises:
        ImageError: if it is none of `FORMATS`.
    """
    if not data:
        raise ImageError("the file is empty")
    if data[4:8] == b"ftyp":
        brands = data[8 : max(12, min(int.from_bytes(data[:4], "big"), HEAD_BYTES))]
        for format, known in _BRANDS.items():
            if any(brand in brands for brand in known):
                return format
    for format, signature in _SIGNATURES.items():
        if data.startswith(signature) and (format != "WEBP" or data[8:12] == b"WEBP"):
            return format
    raise ImageError(f"not a {NAMES} image")


@functools.cache
def has_heif() -> bool:
    """Tells whether HEIC can be read and written."""
    return importlib.util.find_spec("pillow_heif") is not None


def check_heif(format: str) -> None:
    """Raises ImageError if a format is HEIC and the package for it is missing."""
    if format == "HEIF" and not has_heif():
        raise ImageError(f"HEIC needs a package that is not installed: {HEIF_HINT}")


def import_heif() -> Any:
    """Returns the optional package that reads and writes HEIC; raises ImageError if it is missing."""
    check_heif("HEIF")
    return importlib.import_module("pillow_heif")


def output_format(source: str | None, suffix: str) -> tuple[str, str]:
    """Returns format and suffix of the result of a photo where none was asked for: the photo's, if it can be.

    Args:
        source: the format of the photo's content, None if it is none.
        suffix: of the photo's name, which stays if it stands for its content.
    """
    format = source or SUFFIXES.get(suffix.lower(), "PNG")
    format = format if FORMATS[format].max_side else "PNG"
    return format, suffix if SUFFIXES.get(suffix.lower()) == format else FORMATS[format].suffixes[0]
