"""The chunks of a PNG file."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_ANIMATION: Final = (b"acTL", b"fcTL", b"fdAT")


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Packs a chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def without_pixels(png: bytes) -> bytes:
    """Returns a PNG of one pixel that has the other chunks of a file, such as its metadata."""
    parts, has_pixel = [_SIGNATURE], False
    for name, chunk in _chunks(png):
        if name == b"IHDR":
            parts.append(png_chunk(name, struct.pack(">II", 1, 1) + chunk[16:20] + b"\0"))
        elif name == b"IDAT":
            if not has_pixel:
                parts.append(png_chunk(name, zlib.compress(bytes(9))))  # a filter's byte and at most 64 bits
            has_pixel = True
        elif name not in _ANIMATION:
            parts.append(chunk)
    return b"".join(parts)


def _chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the name of each chunk and all of it."""
    at = len(_SIGNATURE)
    while at + 12 <= len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        yield png[at + 4 : at + 8], png[at:end]
        at = end
