"""What travels with a photo's pixels: EXIF, XMP, colour profile, print resolution."""

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

from PIL import ExifTags, Image

_ORIENTATION = ExifTags.Base.Orientation
_SIZE_TAGS = (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight)
_THUMBNAIL_TAGS = (ExifTags.Base.JpegIFOffset, ExifTags.Base.JpegIFByteCount)
_SHORT, _LONG = 3, 4
_MAX_BYTES = 1 << 23

# What stands between a name and its value in XMP. No expression here can backtrack: files are not trusted.
_VALUE = rb"(?>\s*+=\s*+[\"']|>)"

# Tags of a TIFF directory that describe the stored pixels or embed other data, and not the photo. XMP (700),
# the colour profile (34675) and the resolution (282, 283, 296) are carried separately, from 50706 on
# tags belong to DNG; Photoshop's blocks (34377, 37724) hold thumbnails and layers of the old picture.
_LAYOUT_TAGS = frozenset(
    [
        *(*range(254, 260), *range(262, 267), 273, 274, *range(277, 285), *range(288, 294)),
        *(*range(296, 302), 317, *range(320, 326), 330, *range(332, 348)),
        *(*range(512, 522), 529, 530, 532, 700, 34377, 34675, 37724, 40965),
    ]
)
_FIRST_DNG_TAG = 50706


@dataclass(frozen=True)
class Metadata:
    r"""What is kept of a photo besides its pixels, of EXIF, XMP and colour profile at most 8 MiB each.

    Attributes:
        exif: an EXIF block from its byte order mark on (without the leading ``Exif\0\0``); the orientation
            is already the upright one and the thumbnail is gone.
        xmp: an XMP packet.
        icc_profile: a colour profile that fits the pixels (grey or RGB).
        dpi: resolution in pixels per inch, horizontal and vertical.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    icc_profile: bytes | None = None
    dpi: tuple[float, float] | None = None


def read_metadata(info: Mapping[Any, Any]) -> tuple[Metadata, int]:
    """Collects the metadata of a loaded image that is no TIFF.

    Args:
        info: the `info` of a Pillow image.

    Returns:
        The metadata as stored upright, and the EXIF orientation (1 to 8) that the pixels still have.
    """
    exif = info.get("exif")
    if exif is None and "Raw profile type exif" in info:  # how ImageMagick used to store EXIF in PNG
        exif = _attempt(lambda: bytes.fromhex("".join(info["Raw profile type exif"].split("\n")[3:])))
    return _finish(exif, info.get("xmp") or info.get("XML:com.adobe.xmp"), info)


def read_tiff_metadata(tags: Any, exif: Image.Exif) -> tuple[Metadata, int]:
    """Collects the metadata of a TIFF file's first directory.

    Args:
        tags: that directory, an `ImageFileDirectory_v2`.
        exif: the same directory as Pillow's EXIF object.

    Returns:
        The metadata as stored upright, and the orientation (1 to 8) that the pixels still have.
    """
    orientation = tags.get(_ORIENTATION)
    centimetres = tags.get(ExifTags.Base.ResolutionUnit, 2) == 3
    resolution = (tags.get(ExifTags.Base.XResolution), tags.get(ExifTags.Base.YResolution))
    info = {"icc_profile": tags.get(ExifTags.Base.InterColorProfile)}
    if None not in resolution and tags.get(ExifTags.Base.ResolutionUnit, 2) != 1:
        info["dpi"] = tuple(float(value) * (2.54 if centimetres else 1) for value in resolution)
    block = _attempt(lambda: _packed(_portable_tags(exif)))
    metadata, xmp_orientation = _finish(block, tags.get(ExifTags.Base.XMLPacket), info)
    return metadata, _valid_orientation(orientation) or xmp_orientation


def fitting_profile(icc_profile: bytes | None, *, is_grey: bool) -> bytes | None:
    """Returns a colour profile if it describes pixels of the given kind, else None."""
    if icc_profile is None or icc_profile[16:20] != (b"GRAY" if is_grey else b"RGB "):
        return None
    return icc_profile


def sized(metadata: Metadata, *, width: int, height: int) -> Metadata:
    """Returns metadata in which the pixel dimensions, where it states any, are those given."""
    exif, xmp = metadata.exif, metadata.xmp
    for names, value in (
        (b"exif:PixelXDimension|tiff:ImageWidth", width),
        (b"exif:PixelYDimension|tiff:ImageLength", height),
    ):
        xmp = xmp and re.sub(rb"((?:" + names + rb")" + _VALUE + rb")\d++", rb"\g<1>%d" % value, xmp)
    return replace(metadata, exif=exif and _attempt(lambda: _with_size(exif, (width, height))), xmp=xmp)


def tiff_exif_tags(exif: bytes | None) -> dict[int, Any]:
    """Unpacks an EXIF block into entries for a TIFF directory (sub-directories as dictionaries)."""

    def unpack(block: bytes) -> dict[int, Any]:
        loaded = Image.Exif()
        loaded.load(block)
        kept = _portable_tags(loaded)
        _packed(kept)  # whether Pillow can write these entries shows only when it does
        return kept

    return (exif and _attempt(lambda: unpack(exif))) or {}


def _finish(exif: bytes | None, xmp: bytes | str | None, info: Mapping[Any, Any]) -> tuple[Metadata, int]:
    """Turns what a file held into upright metadata and the orientation its pixels have."""
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    xmp = xmp if _fits(xmp) else None
    profile = info.get("icc_profile")
    block = re.sub(rb"^(?:Exif\x00\x00)++", b"", exif) if _fits(exif) else None
    upright, orientation = (block and _attempt(lambda: _made_upright(block))) or (None, None)
    match = re.search(rb"tiff:Orientation" + _VALUE + rb"([1-8])", xmp or b"")
    orientation = _valid_orientation(orientation) or (int(match[1]) if match else 1)
    return Metadata(
        exif=upright,
        xmp=_upright_xmp(xmp) if xmp else None,
        icc_profile=profile if _fits(profile) else None,
        dpi=_valid_dpi(info.get("dpi")),
    ), orientation


def _fits(block: Any) -> TypeGuard[bytes]:
    """Tells whether there is a block of metadata, and of a size that metadata have."""
    return isinstance(block, bytes) and 0 < len(block) <= _MAX_BYTES


def _attempt(action: Callable[[], Any]) -> Any:
    """Returns what an action returns, or None where it fails: bad metadata must not cost the photo."""
    try:
        return action()
    except Exception:
        return None


def _valid_orientation(value: Any) -> int | None:
    """Returns an orientation if it is one of the eight."""
    return value if value in range(1, 9) else None


def _valid_dpi(dpi: Any) -> tuple[float, float] | None:
    """Returns a resolution if both its numbers can be one."""
    values = _attempt(lambda: tuple(float(value) for value in dpi))
    if values is None or len(values) != 2 or not all(math.isfinite(v) and v > 0 for v in values):
        return None
    return values


def _upright_xmp(xmp: bytes) -> bytes:
    """Sets an XMP packet's orientation to upright and drops its thumbnails."""
    xmp = re.sub(rb"(tiff:Orientation" + _VALUE + rb")\d", rb"\g<1>1", xmp)
    for name in (b"xmp:Thumbnails>", b"xap:Thumbnails>"):
        xmp = _without(xmp, b"<" + name, b"</" + name)
    return xmp


def _without(text: bytes, opening: bytes, closing: bytes) -> bytes:
    """Returns a text without what stands between two marks, however often these are in it."""
    parts, at = [], 0
    while (start := text.find(opening, at)) >= 0 and (end := text.find(closing, start)) >= 0:
        parts.append(text[at:start])
        at = end + len(closing)
    return b"".join([*parts, text[at:]])


# EXIF blocks are edited in place: MakerNotes hold offsets that a rewritten block would break, and Pillow
# would have to guess the entries' types again.


def _directory(block: bytes | bytearray, offset: int) -> tuple[dict[int, int], int]:
    """Returns where each tag's entry of a directory starts, and where the link to the next directory is."""
    (count,) = struct.unpack_from(_order(block) + "H", block, offset)
    first = offset + 2
    entries = range(first, first + 12 * count, 12)
    return {struct.unpack_from(_order(block) + "H", block, at)[0]: at for at in entries}, first + 12 * count


def _order(block: bytes | bytearray) -> str:
    """Returns the byte order of an EXIF block in the notation of `struct`."""
    return {b"II": "<", b"MM": ">"}[bytes(block[:2])]


def _long(block: bytes | bytearray, at: int) -> int:
    """Reads a 32-bit number."""
    return struct.unpack_from(_order(block) + "I", block, at)[0]


def _number(block: bytes | bytearray, entry: int) -> int:
    """Reads the first number of an entry of type SHORT or LONG."""
    (kind,) = struct.unpack_from(_order(block) + "H", block, entry + 2)
    return struct.unpack_from(_order(block) + ("H" if kind == _SHORT else "I"), block, entry + 8)[0]


def _made_upright(exif: bytes) -> tuple[bytes, int | None]:
    """Returns an EXIF block with upright orientation and no thumbnail, and the orientation it had."""
    block = bytearray(exif)
    entries, link = _directory(block, _long(block, 4))
    orientation = None
    if _ORIENTATION in entries:
        entry = entries[_ORIENTATION]
        orientation = _number(block, entry)
        struct.pack_into(_order(block) + "HIHH", block, entry + 2, _SHORT, 1, 1, 0)
    if link + 4 <= len(block):
        _drop_thumbnail(block, link)
    return bytes(block), orientation


def _drop_thumbnail(block: bytearray, link: int) -> None:
    """Unlinks the second directory of an EXIF block and removes the picture it points to."""
    second = _long(block, link)
    struct.pack_into(_order(block) + "I", block, link, 0)
    entries = _attempt(lambda: _directory(block, second)[0]) if second else None
    if not entries or not all(tag in entries for tag in _THUMBNAIL_TAGS):
        return
    start, size = (_number(block, entries[tag]) for tag in _THUMBNAIL_TAGS)
    if second < start and start + size == len(block):
        del block[start:]
    elif second < start and start + size < len(block):
        block[start : start + size] = bytes(size)


def _with_size(exif: bytes, size: tuple[int, int]) -> bytes:
    """Sets the pixel dimensions of an EXIF block where it has such entries."""
    block = bytearray(exif)
    entries, _ = _directory(block, _long(block, 4))
    if ExifTags.IFD.Exif in entries:
        details, _ = _directory(block, _number(block, entries[ExifTags.IFD.Exif]))
        for tag, value in zip(_SIZE_TAGS, size, strict=True):
            if tag in details:
                struct.pack_into(_order(block) + "HII", block, details[tag] + 2, _LONG, 1, value)
    return bytes(block)


def _portable_tags(exif: Image.Exif) -> dict[int, Any]:
    """Returns the entries that describe a photo and not a file, sub-directories as dictionaries."""
    kept = {}
    for tag in exif:
        if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            details = dict(exif.get_ifd(tag))
            if ExifTags.IFD.Interop in details:
                details[ExifTags.IFD.Interop] = dict(exif.get_ifd(ExifTags.IFD.Interop))
            kept[tag] = details
        elif tag not in _LAYOUT_TAGS and tag < _FIRST_DNG_TAG:
            kept[tag] = exif[tag]
    return kept


def _packed(tags: Mapping[int, Any]) -> bytes | None:
    """Serialises EXIF entries, None where there are none."""
    if not tags:
        return None
    exif = Image.Exif()
    exif.update(tags)
    return exif.tobytes().removeprefix(b"Exif\x00\x00")
