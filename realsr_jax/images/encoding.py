"""Photos to image files."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, TiffTags

from realsr_jax.images.errors import image_errors
from realsr_jax.images.formats import import_heif
from realsr_jax.images.metadata import Metadata, fitting_profile, sized, tiff_exif_tags
from realsr_jax.images.photo import Photo, check_writable
from realsr_jax.images.png_chunks import png_chunk
from realsr_jax.system.files import write_atomically

_JPEG_HEADER_BYTES: Final = 20  # start of the image, and JFIF's segment
_JPEG_SEGMENT_BYTES: Final = 65533  # what does not fit into one is left out
_JPEG_ICC_BYTES: Final = _JPEG_SEGMENT_BYTES - 14
# Above these levels, photos take much longer and become only about 5 % smaller.
_PNG_LEVEL: Final = 4
_TIFF_LEVEL: Final = 6
_TIFF_STRIP_BYTES: Final = 1 << 20
# Room is left for strips that do not shrink and for the directory.
_CLASSIC_TIFF_BYTES: Final = (1 << 32) - (1 << 26)


def write_photo(photo: Photo, path: str | os.PathLike[str], *, quality: int = 95) -> None:
    """Writes a photo in its format; the file appears complete or not at all.

    Pixel dimensions which the metadata states become those of the photo.

    Args:
        photo: what to write.
        path: where; an existing file is replaced. The suffix has no meaning here.
        quality: 1 to 100, for JPEG, WebP, AVIF and HEIC. From 90 on, the full colour resolution is kept,
            except by WebP.

    Raises:
        ImageError: if it cannot be written.
    """
    height, width = photo.samples.shape[:2]
    with image_errors(path, "cannot be written"):
        check_writable(photo.format, width=width, height=height, has_alpha=photo.alpha is not None)
        samples = photo.samples
        if samples.dtype == np.float32:
            samples = samples * np.float32(photo.white / 255)
        data = encode(samples, photo.metadata, format=photo.format, quality=quality)
        write_atomically(Path(path), data)


def encode(samples: np.ndarray, metadata: Metadata, *, format: str, quality: int) -> bytes:
    """Encodes an image file.

    Args:
        samples: [h, w, c], uint8, or uint16 for PNG, TIFF and HEIC, or float32, as the file has them, for
            TIFF; c is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA); JPEG holds no alpha.
        metadata: what to store besides, as far as the format can.
        format: Pillow's name of the format.
        quality: 1 to 100 for JPEG, WebP, AVIF and HEIC, without meaning for the others.
    """
    height, width = samples.shape[:2]
    return _ENCODERS[format](samples, sized(metadata, width=width, height=height), quality)


def _encode_by_pillow(samples: np.ndarray, format: str, **options: Any) -> bytes:
    """Encodes uint8 samples by Pillow; None stands for an option that is not set."""
    file = io.BytesIO()
    image = Image.fromarray(samples[..., 0] if samples.shape[-1] == 1 else np.ascontiguousarray(samples))
    image.save(file, format, **{name: value for name, value in options.items() if value is not None})
    return file.getvalue()


def _encode_jpeg(samples: np.ndarray, metadata: Metadata, quality: int) -> bytes:
    """Encodes JPEG, with full colour resolution from quality 90 on; metadata's segments follow the header."""
    import imagecodecs

    plain = samples[..., 0] if samples.shape[-1] == 1 else samples
    jpeg = imagecodecs.jpeg8_encode(
        np.ascontiguousarray(plain), level=quality, subsampling="444" if quality >= 90 else "420"
    )
    dpi = metadata.dpi if metadata.dpi and max(metadata.dpi) < 65535 else None
    density = struct.pack(">BHH", *((0, 1, 1) if dpi is None else (1, *map(round, dpi))))
    segments = [(0xE0, b"JFIF\0\1\1" + density + b"\0\0")]
    if metadata.exif:
        segments.append((0xE1, b"Exif\0\0" + metadata.exif))
    if metadata.xmp:
        segments.append((0xE1, b"http://ns.adobe.com/xap/1.0/\0" + metadata.xmp))
    profile = metadata.icc_profile or b""
    parts = [profile[at : at + _JPEG_ICC_BYTES] for at in range(0, len(profile), _JPEG_ICC_BYTES)]
    if len(parts) <= 255:
        segments += [
            (0xE2, b"ICC_PROFILE\0" + bytes([number, len(parts)]) + part)
            for number, part in enumerate(parts, 1)
        ]
    packed = (
        struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data
        for marker, data in segments
        if len(data) <= _JPEG_SEGMENT_BYTES
    )
    return b"".join([jpeg[:2], *packed, jpeg[_JPEG_HEADER_BYTES:]])


def _encode_webp(samples: np.ndarray, metadata: Metadata, quality: int) -> bytes:
    """Encodes WebP, which knows neither grey images nor a print resolution."""
    return _encode_by_pillow(_as_rgb(samples), "WEBP", quality=quality, **_kept(metadata, is_grey=False))


def _encode_avif(samples: np.ndarray, metadata: Metadata, quality: int) -> bytes:
    """Encodes AVIF, with full colour resolution from quality 90 on; it knows no print resolution."""
    return _encode_by_pillow(
        samples,
        "AVIF",
        quality=quality,
        subsampling="4:0:0" if samples.shape[-1] <= 2 else "4:4:4" if quality >= 90 else "4:2:0",
        **_kept(metadata, is_grey=samples.shape[-1] == 1),
    )


def _encode_heif(samples: np.ndarray, metadata: Metadata, quality: int) -> bytes:
    """Encodes HEIC, 16 bits in 10; it knows no print resolution, and no grey with transparency."""
    samples = np.ascontiguousarray(samples if samples.shape[-1] == 1 else _as_rgb(samples))
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[samples.shape[-1]] + (";16" if samples.dtype == np.uint16 else "")
    image = import_heif().from_bytes(mode, (samples.shape[1], samples.shape[0]), samples.tobytes())
    kept = _kept(metadata, is_grey=samples.shape[-1] == 1)
    image.info.update({name: value for name, value in kept.items() if value})
    file = io.BytesIO()
    image.save(file, quality=quality, chroma=444 if quality >= 90 else 420)
    return file.getvalue()


def _kept(metadata: Metadata, *, is_grey: bool) -> dict[str, bytes | None]:
    """Returns what WebP, AVIF and HEIC keep besides the pixels, by Pillow's names."""
    profile = fitting_profile(metadata.icc_profile, is_grey=is_grey)
    return {"exif": metadata.exif, "xmp": metadata.xmp, "icc_profile": profile}


def _as_rgb(samples: np.ndarray) -> np.ndarray:
    """Repeats grey into three channels."""
    return samples if samples.shape[-1] >= 3 else samples[..., [0, 0, 0, *range(1, samples.shape[-1])]]


def _encode_bmp(samples: np.ndarray, metadata: Metadata, _quality: int) -> bytes:
    """Encodes BMP, with alpha in a version 4 header."""
    if samples.shape[-1] in (1, 3):
        return _encode_by_pillow(samples, "BMP", dpi=metadata.dpi)
    return _with_alpha_header(_encode_by_pillow(_as_rgb(samples), "BMP", dpi=metadata.dpi))


def _with_alpha_header(bmp: bytes) -> bytes:
    """Gives a 32-bit BMP the longer header without which readers take its alpha for padding."""
    bitfields, extra = 3, 108 - 40
    header = bytearray(bmp[:54])
    struct.pack_into("<I", header, 2, len(bmp) + extra)
    struct.pack_into("<I", header, 10, 14 + 108)
    struct.pack_into("<I", header, 14, 108)
    struct.pack_into("<I", header, 30, bitfields)
    masks = struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs")
    return bytes(header) + masks.ljust(extra, b"\x00") + bmp[54:]


def _encode_png(samples: np.ndarray, metadata: Metadata, _quality: int) -> bytes:
    """Encodes PNG: the pixels by imagecodecs (which knows 16 bits), then the metadata's chunks between."""
    import imagecodecs

    plain = samples[..., 0] if samples.shape[-1] == 1 else samples
    png = imagecodecs.png_encode(np.ascontiguousarray(plain), level=_PNG_LEVEL)
    chunks = []
    if metadata.icc_profile:
        chunks.append(png_chunk(b"iCCP", b"ICC Profile\x00\x00" + zlib.compress(metadata.icc_profile)))
    if metadata.dpi:
        per_metre = (min(int(value / 0.0254 + 0.5), 2**31 - 1) for value in metadata.dpi)
        chunks.append(png_chunk(b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if metadata.exif:
        chunks.append(png_chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append(png_chunk(b"iTXt", b"XML:com.adobe.xmp\x00\x00\x00\x00\x00" + metadata.xmp))
    end_of_header = 8 + 12 + 13
    return b"".join([png[:end_of_header], *chunks, png[end_of_header:]])


def _encode_tiff(samples: np.ndarray, metadata: Metadata, _quality: int) -> bytes:
    """Encodes TIFF: strips with horizontal differences, deflated; BigTIFF where 4 GiB might not do.

    Pillow's own writer knows neither 16-bit colour nor, when it compresses, EXIF directories.
    """
    height, width, channels = samples.shape
    rows = max(1, _TIFF_STRIP_BYTES // (samples.itemsize * width * channels))
    strips = [_tiff_strip(samples[top : top + rows]) for top in range(0, height, rows)]
    counts = [len(strip) for strip in strips]

    is_big = samples.nbytes > _CLASSIC_TIFF_BYTES
    header = b"II+\x00\x08\x00\x00\x00" + struct.pack("<Q", 16) if is_big else b"II*\x00\x08\x00\x00\x00"
    directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    for tag in (ExifTags.Base.StripOffsets, ExifTags.Base.StripByteCounts):
        directory.tagtype[tag] = TiffTags.LONG8 if is_big else TiffTags.LONG
    directory.update(tiff_exif_tags(metadata.exif))
    layout: dict[int, Any] = {
        ExifTags.Base.ImageWidth: width,
        ExifTags.Base.ImageLength: height,
        ExifTags.Base.BitsPerSample: (8 * samples.itemsize,) * channels,
        ExifTags.Base.Compression: 8,
        ExifTags.Base.PhotometricInterpretation: 2 if channels >= 3 else 1,
        # Counted from the end of the directory: Pillow adds where that is.
        ExifTags.Base.StripOffsets: tuple(int(end) for end in np.cumsum([0, *counts[:-1]], dtype=np.int64)),
        ExifTags.Base.Orientation: 1,
        ExifTags.Base.SamplesPerPixel: channels,
        ExifTags.Base.RowsPerStrip: rows,
        ExifTags.Base.StripByteCounts: tuple(counts),
        ExifTags.Base.PlanarConfiguration: 1,
        ExifTags.Base.Predictor: 1 if samples.dtype == np.float32 else 2,
        ExifTags.Base.SampleFormat: (3 if samples.dtype == np.float32 else 1,) * channels,
    }
    if channels in (2, 4):
        layout[ExifTags.Base.ExtraSamples] = 2
    directory.update(layout)
    _add_tiff_metadata(directory, metadata)
    file = io.BytesIO()
    directory.save(file)
    return b"".join([file.getvalue(), *strips])


def _tiff_strip(samples: np.ndarray) -> bytes:
    """Compresses rows [r, w, c] of samples."""
    import imagecodecs

    differences = samples.copy()
    if samples.dtype != np.float32:
        differences[:, 1:] -= samples[:, :-1]
    little_endian = differences.astype(differences.dtype.newbyteorder("<"), copy=False)
    return bytes(imagecodecs.deflate_encode(little_endian.tobytes(), _TIFF_LEVEL))


def _add_tiff_metadata(directory: TiffImagePlugin.ImageFileDirectory_v2, metadata: Metadata) -> None:
    """Adds resolution, colour profile and XMP to a TIFF directory."""
    if metadata.dpi:
        directory[ExifTags.Base.XResolution], directory[ExifTags.Base.YResolution] = metadata.dpi
        directory[ExifTags.Base.ResolutionUnit] = 2
    if metadata.icc_profile:
        directory.tagtype[ExifTags.Base.InterColorProfile] = TiffTags.UNDEFINED
        directory[ExifTags.Base.InterColorProfile] = metadata.icc_profile
    if metadata.xmp:
        directory.tagtype[ExifTags.Base.XMLPacket] = TiffTags.BYTE
        directory[ExifTags.Base.XMLPacket] = metadata.xmp


_ENCODERS: Final[dict[str, Callable[[np.ndarray, Metadata, int], bytes]]] = {
    "PNG": _encode_png,
    "JPEG": _encode_jpeg,
    "WEBP": _encode_webp,
    "TIFF": _encode_tiff,
    "BMP": _encode_bmp,
    "AVIF": _encode_avif,
    "HEIF": _encode_heif,
}
