"""The directories of TIFF files: read without following them without end, and checked for whole pictures."""

import io
import struct
from typing import Final

import numpy as np
from PIL import ExifTags, TiffImagePlugin

from realsr_jax.images.errors import ImageError
from realsr_jax.images.limits import check_tiff_pixels

Directory = TiffImagePlugin.ImageFileDirectory_v2

_UNCOMPRESSED: Final = 1
_YCBCR: Final = 6


def read_directories(data: bytes) -> tuple[Directory, int]:
    """Returns the first directory of a TIFF file and the number of directories.

    Raises:
        ImageError: if it has none, or they overlap, as those of a file made to keep readers busy do.
        struct.error: if it is cut off.
    """
    order, is_big = "<" if data[:2] == b"II" else ">", b"+" in data[2:4]
    count_format, link_format, entry_bytes = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    first, offset, n_directories, left = 0, 0, 0, len(data)
    at = 8 if is_big else 4  # where the link to the next directory is
    while offset := struct.unpack_from(order + link_format, data, at)[0]:
        first = first or offset
        (n_entries,) = struct.unpack_from(order + count_format, data, offset)
        at = offset + struct.calcsize(order + count_format) + n_entries * entry_bytes
        n_directories, left = n_directories + 1, left - (at - offset)
        if left < 0:
            if at <= len(data):
                raise ImageError("broken (its directories overlap)")
            raise ImageError("broken or cut off (a directory ends beyond the file)")
    if not n_directories:
        raise ImageError("broken or cut off (it has no directory)")
    directory = Directory(data[: 16 if is_big else 8])
    file = io.BytesIO(data)
    file.seek(first)
    directory.load(file)
    return directory, n_directories


def parts_of(tags: Directory) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns where the strips or tiles of a directory start, and their sizes in bytes."""
    base = ExifTags.Base
    names = (base.TileOffsets, base.TileByteCounts)
    if base.TileOffsets not in tags:
        names = (base.StripOffsets, base.StripByteCounts)
    places, sizes = (tags.get(name, ()) for name in names)
    return places, sizes


def check_is_whole(tags: Directory, n_bytes: int) -> tuple[int, int]:
    """Returns width and height of a file's first page if its pixels, by its directory, can all be there.

    Args:
        tags: that directory.
        n_bytes: size of the file.

    Raises:
        ImageError: if it states no size, lists too few strips or tiles, or cannot hold what it announces.
    """
    width, height = tags.get(ExifTags.Base.ImageWidth, 0), tags.get(ExifTags.Base.ImageLength, 0)
    if not isinstance(width, int) or not isinstance(height, int):
        raise ImageError("broken (its width and height are no whole numbers)")
    bits = int(np.min(tags.get(ExifTags.Base.BitsPerSample, 1)))
    compression = tags.get(ExifTags.Base.Compression, _UNCOMPRESSED)
    check_tiff_pixels(width, height, bits=bits, compression=compression, n_bytes=n_bytes)
    is_tiled = ExifTags.Base.TileOffsets in tags
    if is_tiled:
        rows, columns = tags[ExifTags.Base.TileLength], tags[ExifTags.Base.TileWidth]
    else:
        rows, columns = min(tags.get(ExifTags.Base.RowsPerStrip, height), height), width
    channels = tags.get(ExifTags.Base.SamplesPerPixel, 1)
    planes = channels if tags.get(ExifTags.Base.PlanarConfiguration, 1) == 2 else 1
    needed = -(-height // max(rows, 1)) * -(-width // max(columns, 1)) * planes
    places, sizes = parts_of(tags)
    if len(places) < needed:
        kind = "tiles" if is_tiled else "strips"
        raise ImageError(f"broken or cut off (it lists {len(places)} {kind} and needs {needed})")
    if compression == _UNCOMPRESSED:
        # Of reduced colour there are fewer bytes.
        is_reduced = tags.get(ExifTags.Base.PhotometricInterpretation) == _YCBCR
        n_pixels = 0 if is_reduced else height * planes * -(-width * bits * channels // planes // 8)
        if not all(places[:needed]) or (sizes and sum(sizes[:needed]) < n_pixels):
            raise ImageError("broken or cut off (some of its pixels are nowhere)")
    return width, height
