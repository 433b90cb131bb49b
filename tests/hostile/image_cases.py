"""Hostile images: damaged at random, and shortened so that nothing but pixels is missing.

The cases read their originals from the files in the folder in which they run.
"""

import dataclasses
import functools
import io
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutations
import numpy as np
from PIL import Image, TiffImagePlugin

from realsr_jax import images
from realsr_jax.images import limits
from realsr_jax.images.formats import has_heif
from realsr_jax.images.png_chunks import png_chunk
from realsr_jax.system.terminal import silent_libraries

MEMORY = 1 << 28

SHAPE = (24, 40)
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/><xmp:Thumbnails>0</xmp:Thumbnails></x:xmpmeta>'
PNG = b"\x89PNG\r\n\x1a\n"
WORDS = (
    *(b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"eXIf", b"iTXt", b"iCCP", b"acTL", b"\0\0\0\0"),
    *(b"\xff\xd8", b"\xff\xd9", b"\xff\xda", b"\xff\xc0", b"\xff\xc4", b"\xff\xdb", b"\xff\xdd", b"\xff\xe1"),
    *(b"RIFF", b"WEBP", b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"EXIF", b"XMP ", b"ICCP"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"BM", b"GIF89a", b"GIF87a", b"ftypavif", b"ftypheic", b"meta", b"iloc"),
    *(b"Exif\0\0", b"tiff:Orientation=", b"<xmp:Thumbnails>", b"</xmp:Thumbnails>", b"\xff\xff\xff\xff"),
)
"""What files consist of, and what readers look for."""


def prepare():
    """Sets a bound that the driver's limit on memory can be held against."""
    limits.available_memory = lambda: MEMORY


def make_originals() -> dict[str, bytes]:
    """Returns small files of all formats and most of their kinds, by name."""
    rng = np.random.default_rng(0)
    colours = rng.integers(1, 255, (*SHAPE, 4), np.uint8)
    colour, alpha = Image.fromarray(colours[..., :3]), Image.fromarray(colours)
    exif = Image.Exif()
    exif.update({0x010E: "words", 0x0112: 6, 0x8769: {0xA002: 40, 0x9286: b"ASCII\0\0\0hello"}})
    kept: dict[str, Any] = {"exif": exif.tobytes(), "xmp": XMP}
    tiff = {"tiffinfo": {700: XMP, 274: 6}}
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "rgb.png": (colour, {"exif": kept["exif"], "dpi": (300, 300)}),
        "rgba.png": (alpha, {}),
        "palette.png": (colour.convert("P"), {"transparency": 3}),
        "bits.png": (colour.convert("1"), {}),
        "baseline.jpg": (colour, kept | {"quality": 90}),
        "progressive.jpg": (colour, {"progressive": True}),
        "restarts.jpg": (colour, {"restart_marker_blocks": 2, "subsampling": 0}),
        "cmyk.jpg": (colour.convert("CMYK"), {}),
        "lossy.webp": (alpha, kept),
        "lossless.webp": (alpha, {"lossless": True}),
        "raw.tif": (colour, tiff | {"strip_size": 960}),
        "lzw.tif": (alpha, {"compression": "tiff_lzw", "strip_size": 960}),
        "deflate.tif": (colour, {"compression": "tiff_adobe_deflate"}),
        "packbits.tif": (colour.convert("L"), {"compression": "packbits"}),
        "jpeg.tif": (colour, {"compression": "jpeg"}),
        "fax.tif": (colour.convert("1"), {"compression": "group4"}),
        "palette.tif": (colour.convert("P"), {}),
        "lab.tif": (colour.convert("CMYK"), {}),
        "rgb.bmp": (colour, {}),
        "palette.bmp": (colour.convert("P"), {}),
        "rgb.avif": (alpha, kept),
        "palette.gif": (colour.convert("P"), {}),
        "interlaced.gif": (colour.convert("L"), {"interlace": 1}),
    }
    originals = {}
    for name, (image, options) in made.items():
        file = io.BytesIO()
        image.save(file, Image.registered_extensions()[f".{name.split('.')[1]}"], **options)
        originals[name] = file.getvalue()
    deep = rng.integers(1, 65535, (*SHAPE, 4), np.uint16)
    floats = rng.random((*SHAPE, 3), np.float32) * 255
    formats = {"deep.png": ("PNG", deep), "deep.tif": ("TIFF", deep), "floats.tif": ("TIFF", floats)}
    if has_heif():
        formats |= {"deep.heic": ("HEIF", deep[..., :3]), "rgb.heic": ("HEIF", colours[..., :3])}
    for name, (format, samples) in formats.items():
        path = Path(name)
        images.write_photo(images.Photo(samples, images.Metadata(xmp=XMP), format), path)
        originals[name] = path.read_bytes()
        path.unlink()
    return originals


@functools.cache
def _originals() -> list[tuple[str, bytes]]:
    return [(path.name, path.read_bytes()) for path in sorted(Path("originals").iterdir())]


def read(content: bytes) -> bool:
    """Reads a file; if it can be read, its size is the announced one, and it can be written as another."""
    path = Path("image")
    path.write_bytes(content)
    with silent_libraries():
        try:
            photo = images.read_photo(path)
        except images.ImageError as error:
            assert str(error).startswith("image: ") and "\n" not in str(error), error
            return False
        assert sorted(images.photo_size(path)) == sorted(photo.samples.shape[:2])  # the same way round or not
        if photo.samples.size < 1 << 20:
            images.write_photo(dataclasses.replace(photo, format="TIFF"), Path("written"))
            assert images.read_photo("written").samples.shape == photo.samples.shape
    return True


def damaged(number: int) -> bool:
    """Reads an image with random damage."""
    generator = random.Random(number)
    _, content = generator.choice(_originals())
    return read(mutations.mutate(generator, content, WORDS))


def shortened(number: int) -> bool:
    """Reads an image whose file is as it should be but for missing pixels: it must not be accepted.

    The last fifth of the pixels' data is missing at least.
    """
    generator = random.Random(number)
    name, original = generator.choice([each for each in _originals() if each[0] in SHORTEN])
    content = SHORTEN[name](original, generator.uniform(0.05, 0.8))
    assert not read(content), f"{name} is read although pixels are missing"
    return False


def _shorten_png(png: bytes, share: float) -> bytes:
    chunks, at = [], len(PNG)
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        chunks.append((png[at + 4 : at + 8], png[at + 8 : end - 4]))
        at = end
    packed = b"".join(data for name, data in chunks if name == b"IDAT")
    rows = zlib.decompress(packed)
    short = zlib.compress(rows[: int(len(rows) * share)])
    before = [png_chunk(*chunk) for chunk in chunks if chunk[0] not in (b"IDAT", b"IEND")]
    return b"".join([PNG, *before, png_chunk(b"IDAT", short), png_chunk(b"IEND", b"")])


def _shorten_jpeg(jpeg: bytes, share: float) -> bytes:
    start = jpeg.index(b"\xff\xda") + 14
    end = jpeg.index(b"\xff\xd9", start)
    return jpeg[: start + int((end - start) * share)].rstrip(b"\xff") + b"\xff\xd9"


def _shorten_progressive(jpeg: bytes, share: float) -> bytes:
    """Ends the first scan early, which has all blocks; the later ones refine them."""
    start = jpeg.index(b"\xff\xda") + 14
    end = jpeg.index(b"\xff\xc4", start)
    return jpeg[: start + int((end - start) * share)].rstrip(b"\xff") + b"\xff\xd9"


def _shorten_webp(webp: bytes, share: float) -> bytes:
    """Cuts the last chunk that holds pixels, with sizes that fit."""
    at, parts = 12, []
    while at < len(webp):
        name, size = webp[at : at + 4], int.from_bytes(webp[at + 4 : at + 8], "little")
        data = webp[at + 8 : at + 8 + size]
        if name in (b"VP8 ", b"VP8L"):
            data = data[: int(size * share)]
        parts.append(name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2))
        at += 8 + size + size % 2
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _shorten_gif(gif: bytes, share: float) -> bytes:
    """Ends the blocks of compressed pixels early."""
    image = Image.open(io.BytesIO(gif))
    start = image.tile[0].offset  # type: ignore[attr-defined]
    blocks, at = [], start
    while gif[at]:
        blocks.append(gif[at + 1 : at + 1 + gif[at]])
        at += 1 + gif[at]
    data = b"".join(blocks)
    data = data[: int(len(data) * share)]
    blocks = [data[at : at + 255] for at in range(0, len(data), 255)]
    return gif[:start] + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0;"


def _shorten_strips(tiff: bytes, share: float) -> bytes:
    """Lists a part of the strips only, or the only one with a part of its bytes; the bytes stay."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(tiff[:8])
    offset = int.from_bytes(tiff[4:8], "little")
    file = io.BytesIO(tiff)
    file.seek(offset)
    directory.load(file)
    dict(directory)  # or nothing but what is looked at is saved
    places, sizes = directory[273], directory[279]
    count = max(int(len(places) * share), 1)
    sizes = sizes[:count] if len(places) > 1 else (int(sizes[0] * share),)
    strips = [tiff[place : place + size] for place, size in zip(places, sizes, strict=False)]
    directory[279] = tuple(sizes)
    directory[273] = tuple(int(end) for end in np.cumsum([0, *sizes[:-1]]))  # from the directory's end on
    written = io.BytesIO()
    directory.save(written)
    return written.getvalue() + b"".join(strips) + bytes(2 * SHAPE[0] * SHAPE[1] * 16)


def _cut(content: bytes, share: float) -> bytes:
    return content[: int(len(content) * share)]


SHORTEN: dict[str, Callable[[bytes, float], bytes]] = {
    **dict.fromkeys(("rgb.png", "rgba.png", "palette.png", "bits.png", "deep.png"), _shorten_png),
    **dict.fromkeys(("baseline.jpg", "restarts.jpg", "cmyk.jpg"), _shorten_jpeg),
    "progressive.jpg": _shorten_progressive,
    **dict.fromkeys(("lossy.webp", "lossless.webp"), _shorten_webp),
    **dict.fromkeys(("raw.tif", "lzw.tif", "deflate.tif", "packbits.tif", "jpeg.tif"), _shorten_strips),
    **dict.fromkeys(("deep.tif", "floats.tif"), _shorten_strips),
    **dict.fromkeys(("palette.gif", "interlaced.gif"), _shorten_gif),
    **dict.fromkeys(("rgb.bmp", "palette.bmp", "rgb.avif", "rgb.heic", "deep.heic"), _cut),
}
