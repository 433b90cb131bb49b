"""What a file's bytes and the machine's memory can hold, known before memory is taken."""

from typing import Final

from realsr_jax.images.errors import ImageError
from realsr_jax.system.memory import available_memory

_MOST_PIXELS: Final = {"PNG": 8 * 1032, "JPEG": 512, "GIF": 2731, "BMP": 128}
"""Pixels, of PNG with one bit, that a byte of a file can stand for at most.

A match of deflate takes two bits for 258 bytes; a block of JPEG one for 64 pixels; LZW's
longest string is 4,096 in 12 bits; a run of BMP has 255 in two bytes. Other formats have no such bound.
"""

_MOST_TIFF_BYTES: Final = {1: 1, 5: 2731, 7: 4096, 8: 1032, 32773: 64, 32946: 1032}
"""Bytes of samples that a byte can stand for, by TIFF compression."""

_CCITT: Final = (2, 3, 4)
_MOST_OTHER: Final = 1 << 15  # a block of Zstandard, 128 KiB of one byte, takes four

_COPIES: Final = 2
"""How often a picture is in memory while it is decoded or encoded."""

_LARGE: Final = 1 << 22
"""Bytes of samples below which the memory, which takes a while to ask for, is not asked for."""


def check_pixels(format: str, width: int, height: int, n_bytes: int, *, bits: int = 1) -> None:
    """Refuses a picture that a file of a format, by Pillow's name, and size cannot hold.

    Args:
        format: the format.
        width: pixels per row.
        height: number of rows.
        n_bytes: size of the file.
        bits: of a PNG's pixel.

    Raises:
        ImageError: if it cannot, or the picture has no pixels.
    """
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width} x {height})")
    if width * height * bits > _MOST_PIXELS.get(format, width * height) * n_bytes:
        raise _more_than_the_file(width, height)


def check_tiff_pixels(width: int, height: int, *, bits: int, compression: int, n_bytes: int) -> None:
    """As `check_pixels`, of a TIFF of `bits` for each sample and a compression by its number there."""
    check_pixels("TIFF", width, height, n_bytes)
    if compression in _CCITT:  # a white row takes a bit
        holds = height <= 8 * n_bytes
    else:
        most = _MOST_TIFF_BYTES.get(compression, _MOST_OTHER)
        holds = height * -(-width * bits // 8) <= most * n_bytes
    if not holds:
        raise _more_than_the_file(width, height)


def _more_than_the_file(width: int, height: int) -> ImageError:
    return ImageError(f"broken or cut off (so small a file cannot hold {width} x {height} pixels)")


def check_memory(width: int, height: int, bytes_per_pixel: int) -> None:
    """Refuses a picture that does not fit into the free memory.

    Args:
        width: pixels per row.
        height: number of rows.
        bytes_per_pixel: of its samples.

    Raises:
        ImageError: if it does not.
    """
    if width * height * bytes_per_pixel < _LARGE:
        return
    most = available_memory() // (_COPIES * bytes_per_pixel)
    if width * height > most:
        raise ImageError(
            f"{width} x {height} pixels, {width * height / 1e6:,.1f} megapixels, are more than the "
            f"{most / 1e6:,.1f} that fit into this machine's free memory"
        )
