"""Photos on disk, against files made by Pillow, imagecodecs and by hand, and read back by them."""

import dataclasses
import inspect
import io
import os
import re
import socket
import stat
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from realsr_jax import images
from realsr_jax.images import decoding as _image_decode
from realsr_jax.images import encoding as _image_encode
from realsr_jax.images import limits
from realsr_jax.images import metadata as metadata_module
from realsr_jax.images import photo as photo_module
from realsr_jax.images.photo_jobs import plan_jobs
from realsr_jax.system.errors import UsageError

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
LOSSLESS = ("PNG", "TIFF", "BMP")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" exif:PixelXDimension="4"/>'
    b"<xmp:Thumbnails><rdf:Alt>old</rdf:Alt></xmp:Thumbnails><dc:title>kept</dc:title></x:xmpmeta>"
)


def random_samples(channels, *, dtype=np.uint8, shape=(5, 7), seed=0):
    """Random samples whose alpha, if they have one, is never zero."""
    return np.random.default_rng(seed).integers(1, np.iinfo(dtype).max + 1, (*shape, channels), dtype)


def smooth_samples(channels, shape=(16, 24)):
    """Samples that survive lossy compression."""
    ramp = np.add.outer(np.arange(shape[0]) * 4, np.arange(shape[1]) * 4)
    return np.stack([60 + ramp // (c + 1) for c in range(channels)], axis=-1).astype(np.uint8)


def pillow_image(samples):
    return Image.fromarray(samples[..., 0] if samples.shape[-1] == 1 else samples)


def all_samples(photo):
    """A photo's planes in file order, [h, w, 1 to 4]."""
    colours = photo.rgb[..., :1] if photo.is_grey else photo.rgb
    return colours if photo.alpha is None else np.dstack([colours, photo.alpha])


def make_photo(samples, *, format="PNG", **metadata):
    return images.Photo(samples, images.Metadata(**metadata), format)


def png_chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff_bytes(samples, *, order="<", compression=8, predictor=1, photometric=None, extra=None, tags=None):
    """An uncompressed or deflated single-strip TIFF written by hand."""
    height, _, channels = samples.shape
    stored = samples.copy()
    if predictor == 2:
        stored[:, 1:] -= samples[:, :-1]
    data = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if compression == 8 else data
    entries = {258: (8 * samples.itemsize,) * channels, 259: compression, 273: 0, 278: height, 279: len(data)}
    entries |= {262: photometric if photometric is not None else 1 + (channels > 2), 317: predictor}
    if channels in (2, 4):
        entries[338] = 2 if extra is None else extra
    return tiff_directory(samples, entries | (tags or {}), order=order) + data


def tiff_directory(samples, tags, *, order="<"):
    """A TIFF file up to its data, with the width, height and number of channels of samples."""
    height, width, channels = samples.shape
    directory = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II" if order == "<" else b"MM")
    for tag, value in ({256: width, 257: height, 277: channels} | tags).items():
        directory[tag] = value
    file = io.BytesIO()
    directory.save(file)
    return file.getvalue()


def read_bytes(tmp_path, data, name="photo"):
    path = tmp_path / name
    path.write_bytes(data)
    return images.read_photo(path)


def announced_size(tmp_path, data):
    path = tmp_path / "announced"
    path.write_bytes(data)
    return images.photo_size(path)


def saved(image, format, **options):
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


# Reading


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("format", FORMATS)
def test_reads_what_pillow_writes(tmp_path, format, channels):
    if (format, channels) in {("JPEG", 2), ("JPEG", 4), ("BMP", 2), ("BMP", 4)}:
        pytest.skip("no alpha here, or not one that Pillow writes")
    samples = smooth_samples(channels)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    photo = read_bytes(tmp_path, saved(pillow_image(samples), format, **options))
    assert photo.format == format
    assert announced_size(tmp_path, (tmp_path / "photo").read_bytes()) == samples.shape[:2]
    assert photo.remarks == ()
    assert photo.is_grey == (channels < 3 and format != "WEBP")
    assert photo.rgb.dtype == np.uint8
    expected = np.broadcast_to(samples[..., : 3 if channels > 2 else 1], photo.rgb.shape)
    assert np.abs(photo.rgb.astype(int) - expected).max() <= (6 if format == "JPEG" else 0)
    assert (photo.alpha is not None) == (channels in (2, 4))
    if photo.alpha is not None:
        np.testing.assert_array_equal(photo.alpha, samples[..., -1])


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_reads_compressed_tiff(tmp_path, compression):
    samples = random_samples(4)
    photo = read_bytes(tmp_path, saved(pillow_image(samples), "TIFF", compression=compression))
    np.testing.assert_array_equal(all_samples(photo), samples)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_bilevel_is_grey(tmp_path, format):
    bits = random_samples(1)[..., 0] > 128
    photo = read_bytes(tmp_path, saved(Image.fromarray(bits), format))
    assert photo.is_grey
    np.testing.assert_array_equal(photo.rgb, np.repeat(bits[..., None] * 255, 3, axis=-1))


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP"])
def test_palette_becomes_rgb(tmp_path, format):
    image = pillow_image(random_samples(3)).quantize(16)
    photo = read_bytes(tmp_path, saved(image, format))
    assert photo.alpha is None
    assert not photo.is_grey
    np.testing.assert_array_equal(photo.rgb, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("transparency", [3, bytes([255, 0, 128, 9])])
def test_transparent_palette_becomes_rgba(tmp_path, transparency):
    image = Image.new("P", (4, 2))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    image.putdata([0, 1, 2, 3, 3, 2, 1, 0])
    photo = read_bytes(tmp_path, saved(image, "PNG", transparency=transparency))
    table = np.full(4, 255)
    table[slice(4) if isinstance(transparency, bytes) else 3] = (
        list(transparency) if isinstance(transparency, bytes) else 0
    )
    np.testing.assert_array_equal(photo.alpha, table[np.asarray(image)])
    visible = photo.alpha > 0
    np.testing.assert_array_equal(photo.rgb[visible], np.asarray(image.convert("RGB"))[visible])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_transparent_grey_value_in_png(tmp_path, bits):
    values = np.arange(8) % min(2**bits, 8)
    row = b"".join(int(v).to_bytes(2, "big") for v in values) if bits == 16 else None
    if row is None:
        packed = int("".join(format(v, f"0{bits}b") for v in values), 2)
        row = packed.to_bytes(bits, "big")
    header = struct.pack(">IIBBBBB", 8, 1, bits, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"tRNS", struct.pack(">H", 1))
    png += png_chunk(b"IDAT", zlib.compress(b"\x00" + row)) + png_chunk(b"IEND", b"")
    photo = read_bytes(tmp_path, png)
    assert photo.is_grey
    top = np.iinfo(photo.rgb.dtype).max
    np.testing.assert_array_equal(photo.alpha[0], np.where(values == 1, 0, top))
    visible = values != 1
    np.testing.assert_array_equal(photo.rgb[0, visible, 0], values[visible] * (top // (2**bits - 1)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_transparent_rgb_value_in_png(tmp_path, dtype):
    samples = random_samples(3, dtype=dtype)
    samples[2, 3] = (1, 2, 3)
    png = imagecodecs.png_encode(samples)
    photo = read_bytes(tmp_path, png[:33] + png_chunk(b"tRNS", struct.pack(">3H", 1, 2, 3)) + png[33:])
    expected = np.full((5, 7), np.iinfo(dtype).max)
    expected[2, 3] = 0
    np.testing.assert_array_equal(photo.alpha, expected)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(tmp_path, format):
    image = pillow_image(smooth_samples(3)).convert("CMYK")
    photo = read_bytes(tmp_path, saved(image, format, icc_profile=b"\0" * 16 + b"CMYK" + b"\0" * 108))
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(photo.rgb - expected).max() <= 8
    assert photo.metadata.icc_profile is None


def test_cmyk_goes_through_its_profile(tmp_path, monkeypatch):
    image = pillow_image(smooth_samples(3)).convert("CMYK")
    converted = Image.new("RGB", image.size, (1, 2, 3))
    seen = []

    def convert(source, profile, target, **options):
        seen.append((source.mode, profile, options))
        return converted

    monkeypatch.setattr(ImageCms, "ImageCmsProfile", lambda file: file.read())
    monkeypatch.setattr(ImageCms, "profileToProfile", convert)
    profile = b"\0" * 16 + b"CMYK" + b"\0" * 108
    photo = read_bytes(tmp_path, saved(image, "TIFF", icc_profile=profile))
    assert seen == [("CMYK", profile, {"outputMode": "RGB"})]
    assert (photo.rgb == (1, 2, 3)).all()


def test_other_colour_spaces(tmp_path):
    image = pillow_image(smooth_samples(3))
    photo = read_bytes(tmp_path, saved(image.convert("YCbCr"), "TIFF"))
    assert np.abs(photo.rgb.astype(int) - smooth_samples(3)).max() <= 3
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    lab_image = ImageCms.applyTransform(image, ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
    photo = read_bytes(tmp_path, saved(lab_image, "TIFF"))
    assert np.abs(photo.rgb.astype(int) - smooth_samples(3)).max() <= 6


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_reads_16_bit_png(tmp_path, channels):
    samples = random_samples(channels, dtype=np.uint16)
    photo = read_bytes(tmp_path, imagecodecs.png_encode(samples))
    assert photo.rgb.dtype == np.uint16
    assert photo.is_grey == (channels < 3)
    np.testing.assert_array_equal(all_samples(photo), samples)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("compression", "predictor"), [(1, 1), (8, 1), (8, 2)])
def test_reads_16_bit_tiff(tmp_path, channels, order, compression, predictor):
    samples = random_samples(channels, dtype=np.uint16)
    data = tiff_bytes(samples, order=order, compression=compression, predictor=predictor)
    photo = read_bytes(tmp_path, data)
    assert photo.rgb.dtype == np.uint16
    np.testing.assert_array_equal(all_samples(photo), samples)


def test_reads_unusual_16_bit_tiff(tmp_path):
    samples = random_samples(3, dtype=np.uint16)
    planes = np.ascontiguousarray(samples.transpose(2, 0, 1))
    for data in (
        imagecodecs.tiff_encode(samples, compression="lzw"),
        imagecodecs.tiff_encode(samples, tile=(16, 16)),
        imagecodecs.tiff_encode(planes, planarconfig="separate"),
        imagecodecs.tiff_encode(samples, bigtiff=True),
    ):
        np.testing.assert_array_equal(read_bytes(tmp_path, data).rgb, samples)
    grey = samples[..., :1]
    np.testing.assert_array_equal(
        read_bytes(tmp_path, tiff_bytes(grey, photometric=0)).rgb[..., :1], 65535 - grey
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_premultiplied_tiff_is_divided(tmp_path, dtype):
    top = np.iinfo(dtype).max
    colours = random_samples(3, dtype=dtype).astype(np.int64)
    alpha = np.full((5, 7, 1), top // 2 + 1)
    stored = np.concatenate([(colours * alpha + top // 2) // top, alpha], axis=-1).astype(dtype)
    photo = read_bytes(tmp_path, tiff_bytes(stored, extra=1))
    assert np.abs(photo.rgb.astype(int) - colours).max() <= 2
    assert (photo.alpha == alpha[..., 0]).all()


def test_padding_channel_is_no_alpha(tmp_path):
    for dtype in (np.uint8, np.uint16):
        samples = random_samples(4, dtype=dtype)
        photo = read_bytes(tmp_path, tiff_bytes(samples, extra=0))
        assert photo.alpha is None
        np.testing.assert_array_equal(photo.rgb, samples[..., :3])


def test_first_of_several_frames(tmp_path):
    first, second = pillow_image(smooth_samples(3)), Image.new("RGB", (24, 16))
    for format in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if format == "WEBP" else {}
        data = saved(first, format, save_all=True, append_images=[second], **options)
        photo = read_bytes(tmp_path, data)
        assert photo.remarks == ("only the first of 2 frames or pages is used",)
        np.testing.assert_array_equal(photo.rgb, smooth_samples(3))


def test_phone_photo_with_preview_is_one_jpeg(tmp_path):
    first = pillow_image(smooth_samples(3))
    photo = read_bytes(tmp_path, saved(first, "MPO", save_all=True, append_images=[first.resize((8, 8))]))
    assert (photo.format, photo.remarks, photo.rgb.shape) == ("JPEG", (), (16, 24, 3))


def test_large_photo_does_not_warn(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    for format in FORMATS:
        assert read_bytes(tmp_path, saved(pillow_image(smooth_samples(3)), format)).rgb.shape == (16, 24, 3)


# Orientation and metadata


def turned(samples, orientation):
    """How a picture stored with an orientation is meant, in words of the EXIF standard."""
    return {
        1: samples,
        2: np.fliplr(samples),
        3: np.rot90(samples, 2),
        4: np.flipud(samples),
        5: np.swapaxes(samples, 0, 1),
        6: np.rot90(samples, -1),
        7: np.swapaxes(np.rot90(samples, 2), 0, 1),
        8: np.rot90(samples, 1),
    }[orientation]


@pytest.mark.parametrize(
    "data", [b"", b"P6 2 2 255 ", b"\x89PNG\r\n\x1a\n", b"II*\x00\x08\x00", b"\xff\xd8\xff\xe0"]
)
def test_size_that_cannot_be_told(tmp_path, data):
    with pytest.raises(images.ImageError):
        announced_size(tmp_path, data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(tmp_path, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    samples = random_samples(3)
    deep = random_samples(3, dtype=np.uint16)
    deep_png = imagecodecs.png_encode(deep)
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    files = [
        (samples, saved(pillow_image(samples), "PNG", exif=exif)),
        (samples, saved(pillow_image(samples), "WEBP", exif=exif, lossless=True)),
        (samples, saved(pillow_image(samples), "TIFF", exif=exif)),
        (samples, saved(pillow_image(samples), "TIFF", exif=exif, compression="tiff_lzw")),
        (deep, deep_png[:33] + png_chunk(b"eXIf", block) + deep_png[33:]),
        (deep, deep_png[:-12] + png_chunk(b"eXIf", block) + deep_png[-12:]),
        (deep, tiff_bytes(deep, tags={274: orientation})),
    ]
    for number, (stored, data) in enumerate(files):
        photo = read_bytes(tmp_path, data)
        np.testing.assert_array_equal(photo.rgb, turned(stored, orientation))
        if number != 5:  # its orientation stands behind the pixels
            assert announced_size(tmp_path, data) == photo.rgb.shape[:2]
        target = "PNG" if photo.format == "WEBP" else photo.format
        images.write_photo(dataclasses.replace(photo, format=target), tmp_path / "out")
        with Image.open(tmp_path / "out") as out:
            assert out.getexif().get(ExifTags.Base.Orientation, 1) == 1
        np.testing.assert_array_equal(images.read_photo(tmp_path / "out").rgb, photo.rgb)


def test_orientation_of_xmp_alone(tmp_path):
    photo = read_bytes(tmp_path, saved(pillow_image(smooth_samples(3)), "JPEG", xmp=XMP))
    assert photo.rgb.shape == (24, 16, 3)
    assert b'tiff:Orientation="1"' in photo.metadata.xmp
    assert b"Thumbnails" not in photo.metadata.xmp
    assert b"kept" in photo.metadata.xmp


def camera_exif():
    """EXIF as a camera writes it, with a MakerNote, GPS, and a thumbnail in the second directory."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.IFD.Exif] = {
        ExifTags.Base.ExposureTime: 0.5,
        ExifTags.Base.MakerNote: b"note of the maker",
        ExifTags.Base.ExifImageWidth: 24,
        ExifTags.Base.ExifImageHeight: 16,
    }
    exif[ExifTags.IFD.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (1.0, 2.0, 3.0)}
    block = bytearray(exif.tobytes().removeprefix(b"Exif\0\0"))
    order = "<" if block[:2] == b"II" else ">"
    (count,) = struct.unpack_from(order + "H", block, 8)
    struct.pack_into(order + "I", block, 10 + 12 * count, len(block))
    start = len(block) + 2 + 24 + 4
    block += struct.pack(order + "HHHIIHHIII", 2, 513, 4, 1, start, 514, 4, 1, 13, 0) + b"old thumbnail"
    return b"Exif\0\0" + bytes(block)


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_metadata_is_kept(tmp_path, source, target, dtype):
    data = saved(
        pillow_image(smooth_samples(3)), "JPEG", exif=camera_exif(), xmp=XMP, icc_profile=SRGB, dpi=(300, 200)
    )
    photo = read_bytes(tmp_path, data)
    assert photo.rgb.shape == (24, 16, 3)
    images.write_photo(dataclasses.replace(photo, format=source), tmp_path / "source")
    photo = images.read_photo(tmp_path / "source")
    assert photo.rgb.shape == (24, 16, 3)
    photo = dataclasses.replace(
        photo, samples=photo.samples.astype(dtype) * (257 if dtype == np.uint16 else 1)
    )
    result_type = photo_module.result_dtype(photo, format=target)
    assert result_type == (dtype if target in ("PNG", "TIFF") else np.uint8)
    colours = np.full((48, 32, 3), 99, result_type)
    result = photo_module.make_result(colours, None, photo, format=target)
    images.write_photo(result, tmp_path / "out")
    assert b"old thumbnail" not in (tmp_path / "out").read_bytes()
    with Image.open(tmp_path / "out") as out:
        out.load()
        assert out.size == (32, 48)
        if target != "WEBP" and source != "WEBP":
            assert out.info["dpi"] == pytest.approx((300, 200), abs=0.02)
        if target == "BMP":
            return
        assert out.info["icc_profile"] == SRGB
        xmp = out.info["xmp"]
        exif = out.getexif()
    assert b'tiff:Orientation="1" exif:PixelXDimension="32"' in xmp
    assert exif[ExifTags.Base.Make] == "Maker"
    assert exif.get(ExifTags.Base.Orientation, 1) == 1
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert details[ExifTags.Base.MakerNote] == b"note of the maker"
    assert details[ExifTags.Base.ExposureTime] == 0.5
    assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (32, 48)
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] == (1, 2, 3)


def test_exif_is_otherwise_byte_for_byte(tmp_path):
    data = saved(pillow_image(smooth_samples(3)), "JPEG", exif=camera_exif())
    block = read_bytes(tmp_path, data).metadata.exif
    original = camera_exif().removeprefix(b"Exif\0\0")[: len(block)]
    different = [i for i in range(len(block)) if block[i] != original[i]]
    assert len(different) <= 3  # the orientation's value and the link to the thumbnail


def test_broken_metadata_costs_only_itself(tmp_path):
    image = pillow_image(smooth_samples(3))
    for exif in (b"Exif\0\0nonsense", camera_exif()[:30], b"Exif\0\0II*\0\xff\xff\xff\xff"):
        photo = read_bytes(tmp_path, saved(image, "WEBP", exif=exif, icc_profile=b"short"))
        assert photo.metadata.icc_profile is None
        for format in FORMATS:
            images.write_photo(dataclasses.replace(photo, format=format), tmp_path / "out")
            assert images.read_photo(tmp_path / "out").rgb.shape == (16, 24, 3)


def test_metadata_too_long_for_jpeg_is_left_out(tmp_path):
    photo = make_photo(smooth_samples(3), format="JPEG", exif=b"II*\0" + bytes(70000), xmp=bytes(70000))
    images.write_photo(photo, tmp_path / "out")
    assert images.read_photo(tmp_path / "out").metadata.exif is None


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_profile_must_fit_the_pixels(tmp_path, format):
    for channels, profile, is_kept in (
        (1, GREY_PROFILE, format != "WEBP"),
        (3, SRGB, True),
        (1, SRGB, False),
        (3, GREY_PROFILE, False),
    ):
        data = saved(pillow_image(smooth_samples(channels)), "TIFF", icc_profile=profile)
        photo = dataclasses.replace(read_bytes(tmp_path, data), format=format)
        images.write_photo(photo, tmp_path / "out")
        with Image.open(tmp_path / "out") as out:
            assert out.info.get("icc_profile") == (profile if is_kept else None)


def test_resolution_in_centimetres(tmp_path):
    data = tiff_bytes(random_samples(3), tags={282: 100.0, 283: 50.0, 296: 3})
    assert read_bytes(tmp_path, data).metadata.dpi == pytest.approx((254, 127))


# Transparency


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colours_under_transparency_are_the_nearest_visible(tmp_path, dtype):
    samples = random_samples(4, dtype=dtype, shape=(9, 11))
    samples[..., 3] = np.where(np.random.default_rng(1).random((9, 11)) < 0.7, 0, samples[..., 3])
    photo = read_bytes(tmp_path, imagecodecs.png_encode(samples))
    visible = np.argwhere(samples[..., 3] > 0)
    for y, x in np.ndindex(9, 11):
        squared = ((visible - (y, x)) ** 2).sum(axis=1)
        nearest = visible[squared == squared.min()]
        assert any((photo.rgb[y, x] == samples[v, u, :3]).all() for v, u in nearest)
    np.testing.assert_array_equal(photo.alpha, samples[..., 3])


def test_invisible_image_is_left_as_it_is(tmp_path):
    samples = random_samples(4)
    samples[..., 3] = 0
    np.testing.assert_array_equal(all_samples(read_bytes(tmp_path, imagecodecs.png_encode(samples))), samples)


def test_is_transparent():
    samples = random_samples(4)
    samples[..., 3] = 255
    assert not make_photo(samples).is_transparent
    assert not make_photo(samples[..., :3]).is_transparent
    samples[0, 0, 3] = 254
    assert make_photo(samples).is_transparent


# Results


def test_colours_in_8_bits():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    expected = np.rint(values[..., 0] / 257)
    np.testing.assert_array_equal(make_photo(values).rgb_8_bit()[..., 2], expected)
    samples = random_samples(3)
    np.testing.assert_array_equal(make_photo(samples).rgb_8_bit(), samples)


def test_opaque_alpha_is_dropped_for_jpeg_only():
    colours, alpha = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 1), 255, np.uint8)
    samples = random_samples(4)
    samples[..., 3] = 255
    opaque = make_photo(samples)
    assert photo_module.make_result(colours, alpha, opaque, format="JPEG").alpha is None
    assert photo_module.make_result(colours, alpha, opaque, format="PNG").alpha.tolist() == [[255, 255]] * 2
    with pytest.raises(images.ImageError, match="transparency"):
        photo_module.make_result(colours, alpha, make_photo(random_samples(4)), format="JPEG")


# Writing


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_keep_every_sample(tmp_path, format, channels):
    samples = random_samples(channels, shape=(37, 5))
    images.write_photo(make_photo(samples, format=format), tmp_path / "out")
    with Image.open(tmp_path / "out") as out:
        assert out.format == format
        mode = ("L", "RGBA" if format == "BMP" else "LA", "RGB", "RGBA")[channels - 1]
        assert out.mode == mode
        stored = np.asarray(out).reshape(37, 5, -1)
    expected = samples[..., [0, 0, 0, 1]] if mode == "RGBA" and channels == 2 else samples
    np.testing.assert_array_equal(stored, expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_files(tmp_path, channels, monkeypatch):
    monkeypatch.setattr(_image_encode, "_TIFF_STRIP_BYTES", 100)
    samples = random_samples(channels, dtype=np.uint16, shape=(37, 5))
    for format, decode in (("PNG", imagecodecs.png_decode), ("TIFF", imagecodecs.tiff_decode)):
        images.write_photo(make_photo(samples, format=format), tmp_path / "out")
        decoded = decode((tmp_path / "out").read_bytes())
        assert decoded.dtype == np.uint16
        np.testing.assert_array_equal(decoded.reshape(samples.shape), samples)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_bigtiff(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(_image_encode, "_CLASSIC_TIFF_BYTES", 0)
    samples = random_samples(3, dtype=dtype)
    exif = camera_exif().removeprefix(b"Exif\0\0")
    photo = make_photo(samples, format="TIFF", icc_profile=SRGB, exif=exif, dpi=(72.0, 72.0))
    images.write_photo(photo, tmp_path / "out")
    assert (tmp_path / "out").read_bytes()[:4] == b"II+\0"
    np.testing.assert_array_equal(imagecodecs.tiff_decode((tmp_path / "out").read_bytes()), samples)
    again = images.read_photo(tmp_path / "out")
    np.testing.assert_array_equal(again.rgb, samples)
    assert again.metadata.icc_profile == SRGB
    with Image.open(tmp_path / "out") as out:
        assert out.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == b"note of the maker"
    images.write_photo(dataclasses.replace(again, format="PNG"), tmp_path / "out")
    with Image.open(tmp_path / "out") as out:
        assert out.getexif().get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] == b"note of the maker"


@pytest.mark.parametrize(("quality", "sampling"), [(95, 1), (90, 1), (89, 2)])
def test_jpeg_quality_and_chroma(tmp_path, quality, sampling):
    images.write_photo(make_photo(smooth_samples(3), format="JPEG"), tmp_path / "out", quality=quality)
    with Image.open(tmp_path / "out") as out:
        assert out.layer[0][1:3] == (sampling, sampling)
        reference = saved(
            pillow_image(smooth_samples(3)), "JPEG", quality=quality, subsampling=2 * (sampling - 1)
        )
        with Image.open(io.BytesIO(reference)) as expected:
            assert out.quantization == expected.quantization
    images.write_photo(make_photo(smooth_samples(1), format="JPEG"), tmp_path / "out")
    with Image.open(tmp_path / "out") as out:
        assert out.mode == "L"


def test_jpeg_is_encoded_without_a_copy():
    """Pillow would need four bytes for each pixel first."""
    code = """
import numpy as np
from pathlib import Path
from realsr_jax.images import Metadata
from realsr_jax.images.encoding import encode

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if "VmHWM" in line) << 10

for side in (16, 5000):
    samples = np.full((side, side, 3), 90, np.uint8)
    before = peak()
    encode(samples, Metadata(), format="JPEG", quality=95)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 5000**2


def test_jpeg_segments(tmp_path):
    """What Pillow makes of them, and of a profile of several."""
    profile = SRGB + bytes(150_000)
    photo = make_photo(smooth_samples(3), format="JPEG", icc_profile=profile, xmp=b"words", dpi=(300.4, 72.0))
    images.write_photo(photo, tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        info = image.info
        assert info["icc_profile"] == profile
        assert (info["dpi"], info["xmp"], info["jfif_version"]) == ((300, 72), b"words", (1, 1))
        assert "exif" not in info
    images.write_photo(make_photo(smooth_samples(1), format="JPEG"), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        assert "dpi" not in image.info
        assert image.mode == "L"


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_webp(tmp_path, channels):
    samples = smooth_samples(channels)
    images.write_photo(make_photo(samples, format="WEBP"), tmp_path / "out")
    photo = images.read_photo(tmp_path / "out")
    assert np.abs(photo.rgb.astype(int) - samples[..., : 3 if channels > 2 else 1]).max() <= 12
    if channels in (2, 4):
        np.testing.assert_array_equal(photo.alpha, samples[..., -1])
    sizes = []
    for quality in (10, 95):
        images.write_photo(make_photo(random_samples(3), format="WEBP"), tmp_path / "out", quality=quality)
        sizes.append((tmp_path / "out").stat().st_size)
    assert sizes[0] < sizes[1]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_any_new_file(tmp_path):
    images.write_photo(make_photo(random_samples(3)), tmp_path / "out")
    (tmp_path / "other").write_bytes(b"")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == stat.S_IMODE(
        (tmp_path / "other").stat().st_mode
    )


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["encode", "replace"])
@pytest.mark.parametrize("exists", [False, True])
def test_failure_leaves_nothing(tmp_path, monkeypatch, error, place, exists):
    def fail(*args, **options):
        raise error

    target = tmp_path / "out.png"
    if exists:
        target.write_bytes(b"old")
    monkeypatch.setattr(*((_image_encode, "encode") if place == "encode" else (os, "replace")), fail)
    with pytest.raises(
        KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else images.ImageError
    ) as raised:
        images.write_photo(make_photo(random_samples(3)), target)
    if raised.type is images.ImageError:
        assert str(raised.value) == f"{target}: no space left on device"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([b"old"] if exists else [])


def test_write_replaces_and_reports_missing_folder(tmp_path):
    (tmp_path / "out.png").write_bytes(b"old")
    images.write_photo(make_photo(random_samples(3)), tmp_path / "out.png")
    assert images.read_photo(tmp_path / "out.png").rgb.shape == (5, 7, 3)
    with pytest.raises(images.ImageError, match="no such file or directory"):
        images.write_photo(make_photo(random_samples(3)), tmp_path / "missing" / "out.png")


def test_check_writable():
    photo_module.check_writable("JPEG", width=65500, height=65500, has_alpha=False)
    photo_module.check_writable("WEBP", width=16383, height=1, has_alpha=True)
    for format, size, has_alpha, message in (
        ("JPEG", 1, True, "transparency; pass --background=white"),
        ("JPEG", 65501, False, "too large for JPEG, which holds at most 65500"),
        ("WEBP", 16384, False, "at most 16383 pixels per side; PNG, JPEG, TIFF, BMP, AVIF, HEIF can"),
        ("BMP", 40000, False, "4 GiB"),
        ("GIF", 1, False, "cannot write GIF"),
    ):
        with pytest.raises(images.ImageError, match=message):
            photo_module.check_writable(format, width=size, height=size, has_alpha=has_alpha)


def test_jpeg_limit_is_what_the_encoder_takes(tmp_path):
    photo = make_photo(np.zeros((1, 65500, 1), np.uint8), format="JPEG")
    images.write_photo(photo, tmp_path / "out")
    with pytest.raises(OSError, match=r"."):
        saved(Image.new("L", (65501, 1)), "JPEG")


# Broken files


def test_files_that_cannot_be_read(tmp_path):
    image = pillow_image(random_samples(3, shape=(64, 64)))
    deep = random_samples(3, dtype=np.uint16, shape=(64, 64))
    good = [saved(image, format) for format in FORMATS] + [saved(image, "TIFF", compression="tiff_lzw")]
    good += [imagecodecs.png_encode(deep), tiff_bytes(deep), tiff_bytes(deep, compression=1)]
    broken = [data[: int(len(data) * part)] for data in good for part in (0.001, 0.03, 0.5, 0.9)]
    cases = [
        (b"", "the file is empty"),
        (b"some text", "not a PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC"),
    ]
    cases += [(data, "") for data in broken]
    for data, message in cases:
        path = tmp_path / "photo.png"
        path.write_bytes(data)
        with pytest.raises(images.ImageError) as raised:
            images.read_photo(path)
        text = str(raised.value)
        assert text.startswith(f"{path}: ")
        assert message in text
        assert "\n" not in text


def test_random_damage_raises_nothing_else(tmp_path):
    rng = np.random.default_rng(0)
    image = pillow_image(smooth_samples(3))
    good = [saved(image, format, exif=camera_exif()) for format in ("PNG", "JPEG", "WEBP", "TIFF")]
    good += [saved(image, "BMP"), tiff_bytes(random_samples(4, dtype=np.uint16))]
    for data in good:
        for _ in range(40):
            damaged = bytearray(data)
            for at in rng.integers(0, min(len(damaged), 400), 4):
                damaged[at] = rng.integers(256)
            try:
                photo = read_bytes(tmp_path, bytes(damaged))
            except images.ImageError:
                continue
            images.write_photo(dataclasses.replace(photo, samples=photo.rgb, format="TIFF"), tmp_path / "out")


def test_unsupported_and_absurd(tmp_path):
    with pytest.raises(images.ImageError, match="whole numbers of 8 and 16 bits and floats are"):
        read_bytes(tmp_path, saved(Image.fromarray(np.zeros((4, 4), np.int32)), "TIFF"))
    header = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    )
    with pytest.raises(images.ImageError, match="so small a file cannot hold"):
        read_bytes(tmp_path, bomb)
    with pytest.raises(images.ImageError, match="no such file"):
        images.read_photo(tmp_path / "missing.png")
    with pytest.raises(images.ImageError, match="is a directory"):
        images.read_photo(tmp_path)


def test_lack_of_memory_is_an_image_error(tmp_path, monkeypatch):
    def fail(data):
        raise MemoryError

    monkeypatch.setattr(_image_decode, "decode", fail)
    with pytest.raises(images.ImageError, match="memory"):
        read_bytes(tmp_path, b"")


def in_time(action, *arguments):
    """Returns what an action returns, which must take less than five seconds of CPU time."""
    start = time.process_time()
    result = action(*arguments)
    assert time.process_time() - start < 5
    return result


@pytest.mark.parametrize(
    "text", [b"<xmp:Thumbnails>", b"tiff:Orientation" + b" " * 9, b"exif:PixelXDimension>"]
)
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_metadata_take_linear_time(tmp_path, format, text):
    """A megabyte, compressed in PNG, took minutes."""
    xmp, image = text * (2**20 // len(text)), pillow_image(smooth_samples(3))
    if format == "PNG":
        data = saved(image, "PNG")
        packed = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp[: 2**20 - 1])
        data = data[:33] + png_chunk(b"iTXt", packed) + data[33:]
    else:
        data = saved(image, format, **({"xmp": xmp} if format == "WEBP" else {"tiffinfo": {700: xmp}}))
    photo = in_time(read_bytes, tmp_path, data)
    assert len(photo.metadata.xmp) >= len(xmp) - 1
    in_time(images.write_photo, photo, tmp_path / "out")


def test_no_expression_over_metadata_can_backtrack():
    """Every repetition in them is possessive."""
    expressions = re.findall(r'rb"((?:[^"\\]|\\.)*)"', inspect.getsource(metadata_module))
    assert len(expressions) > 4
    for expression in expressions:
        assert not re.search(r"[*+?]", re.sub(r"\(\?[:>]|[*+?]\+", "", expression)), expression


@pytest.mark.parametrize("format", ["WEBP", "TIFF"])
def test_excessive_metadata_are_left_out(tmp_path, format):
    xmp, image = bytes(2**23 + 1), pillow_image(smooth_samples(3))
    data = saved(image, format, **({"xmp": xmp} if format == "WEBP" else {"tiffinfo": {700: xmp}}))
    assert read_bytes(tmp_path, data).metadata.xmp is None


def test_thumbnails_of_xmp(tmp_path):
    data = b"a<xmp:Thumbnails>1</xmp:Thumbnails>b<xap:Thumbnails>2</xap:Thumbnails>c<xmp:Thumbnails>d"
    photo = read_bytes(tmp_path, saved(pillow_image(smooth_samples(3)), "WEBP", xmp=data))
    assert photo.metadata.xmp == b"abc<xmp:Thumbnails>d"


def test_directories_that_overlap(tmp_path):
    """Each of 50,000 directories has 2,000 entries, most of them those of the next one."""
    data = bytearray(b"II*\0\x08\0\0\0" + bytes(800_000))
    for at in range(8, 700_000, 14):
        struct.pack_into("<H", data, at, 2000)
        struct.pack_into("<I", data, at + 2 + 12 * 2000, at + 14)
    with pytest.raises(images.ImageError, match="directories overlap"):
        in_time(read_bytes, tmp_path, bytes(data))
    data = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8)
    with pytest.raises(images.ImageError, match="directories overlap"):
        in_time(read_bytes, tmp_path, data)


def packed_png(samples, n_bytes):
    """A PNG of valid chunks, of whose rows only so many bytes are there."""
    height, width, channels = samples.shape
    rows = b"".join(b"\0" + row.astype(samples.dtype.newbyteorder(">")).tobytes() for row in samples)
    depth, kind = 8 * samples.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows[:n_bytes])), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_whose_data_end_early(tmp_path, dtype, channels):
    samples = random_samples(channels, dtype=dtype, shape=(40, 30))
    n_bytes = samples.nbytes + 40
    assert np.array_equal(all_samples(read_bytes(tmp_path, packed_png(samples, n_bytes))), samples)
    for missing in (1, n_bytes // 2):
        with pytest.raises(images.ImageError, match="Not enough image data"):
            read_bytes(tmp_path, packed_png(samples, n_bytes - missing))


@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_tiff_that_lists_too_few_strips(tmp_path, dtype, compression):
    samples = np.ones((40, 300, 3), dtype)
    strips = [samples[top : top + 8].tobytes() for top in range(0, 40, 8)]
    strips = strips if compression == 1 else [zlib.compress(strip) for strip in strips]
    for n_strips in (5, 4, 1):
        sizes = [len(strip) for strip in strips[:n_strips]]
        tags = {
            258: (8 * samples.itemsize,) * 3,
            259: compression,
            262: 2,
            278: 8,
            279: tuple(sizes),
            339: 3 if dtype == np.float32 else 1,
        }
        offsets = tuple(map(int, np.cumsum([0, *sizes[:-1]])))  # from the end of the directory
        header = tiff_directory(samples, tags | {273: offsets})
        padding = bytes(samples.nbytes)  # so that the file's size does not tell
        data = header + b"".join(strips[:n_strips]) + padding
        if n_strips == 5:
            assert read_bytes(tmp_path, data).rgb.shape == samples.shape
        else:
            with pytest.raises(images.ImageError, match=f"lists {n_strips} strips and needs 5"):
                read_bytes(tmp_path, data)


@pytest.mark.parametrize(
    ("compression", "reason"),
    [("raw", "some of its pixels are nowhere"), ("jpeg", "last pixels are missing")],
)
def test_tiff_whose_strip_ends_early(tmp_path, compression, reason):
    data = bytearray(saved(pillow_image(random_samples(3, shape=(120, 80))), "TIFF", compression=compression))
    assert read_bytes(tmp_path, data).rgb.shape == (120, 80, 3)
    at = data.index(struct.pack("<HHI", 279, 4, 1)) + 8
    place = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", 273, 4, 1)) + 8)[0]
    half = struct.unpack_from("<I", data, at)[0] // 2
    struct.pack_into("<I", data, at, half)
    with pytest.raises(images.ImageError, match="broken or cut off"):
        read_bytes(tmp_path, data)
    data[place + half - 2 : place + half] = b"\xff\xd9"
    with pytest.raises(images.ImageError, match=reason):
        read_bytes(tmp_path, data)


def test_strips_of_jpeg_are_not_read_again_and_again(tmp_path):
    strip = saved(pillow_image(random_samples(1, shape=(8, 16))), "JPEG")
    tags = {258: 8, 259: 7, 262: 1, 278: 8, 279: (len(strip),) * 60}
    samples = np.zeros((480, 16, 1), np.uint8)
    apart = tiff_directory(samples, tags | {273: tuple(range(0, 60 * len(strip), len(strip)))})
    assert read_bytes(tmp_path, apart + strip * 60).samples.shape == samples.shape
    with pytest.raises(images.ImageError, match="its strips overlap"):
        read_bytes(tmp_path, tiff_directory(samples, tags | {273: (0,) * 60}) + strip)


def test_jpeg_that_ends_early(tmp_path):
    """A marker ends its scan: libjpeg makes the rest grey and says nothing to Pillow."""
    samples = random_samples(3, shape=(120, 80))
    samples[-20:] = 128
    for options in ({}, {"restart_marker_blocks": 3}, {"progressive": True}):
        for image in (pillow_image(samples), pillow_image(samples).convert("L")):
            data = saved(image, "JPEG", quality=90, **options)
            assert read_bytes(tmp_path, data).rgb.shape == samples.shape  # its end is grey by itself
            with pytest.raises(images.ImageError, match="its last pixels are missing"):
                read_bytes(tmp_path, data[: data.index(b"\xff\xda") + 80] + b"\xff\xd9")
            if "restart_marker_blocks" in options:
                with pytest.raises(images.ImageError, match="its last pixels are missing"):
                    read_bytes(tmp_path, data[: data.index(b"\xff\xd1")] + b"\xff\xd9")


def bombs():
    """Small files that announce far more pixels than they can hold."""
    header = struct.pack(">IIBBBBB", 1, 100_000_000, 8, 0, 0, 0, 0)
    chunks = (png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(b"")), png_chunk(b"IEND", b""))
    yield b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    for compression in (1, 5, 8, 32773):
        tags = {257: 8_323_076, 278: 8_323_076, 259: compression}
        yield tiff_bytes(np.zeros((1, 20, 1), np.uint8), tags=tags)
    jpeg = saved(Image.new("RGB", (8, 8)), "JPEG")
    at = jpeg.index(b"\xff\xc0") + 5
    yield jpeg[:at] + struct.pack(">HH", 12000, 12000) + jpeg[at + 4 :]
    gif = saved(Image.new("L", (8, 8)), "GIF")
    yield gif[:6] + struct.pack("<HH", 12000, 12000) + gif[10:]
    bmp = saved(Image.new("L", (8, 8)), "BMP")
    yield bmp[:18] + struct.pack("<ii", 12000, 12000) + bmp[26:]


def test_what_a_file_cannot_hold_takes_no_memory(tmp_path):
    for data in bombs():
        (tmp_path / "bomb").write_bytes(data)
        for read in (images.read_photo, images.photo_size):
            tracemalloc.start()
            with pytest.raises(images.ImageError, match="so small a file cannot hold"):
                read(tmp_path / "bomb")
            assert tracemalloc.get_traced_memory()[1] < 2**22
            tracemalloc.stop()


def test_a_png_cannot_hold_more_than_deflate_can(tmp_path):
    data = packed_png(np.zeros((1000, 1000, 4), np.uint16), 0)
    with pytest.raises(images.ImageError, match="so small a file cannot hold 1000 x 1000 pixels"):
        read_bytes(tmp_path, data + bytes(7000))
    with pytest.raises(images.ImageError, match="Not enough image data"):
        read_bytes(tmp_path, data + bytes(8000))


@pytest.mark.parametrize("kind", [2, 5, 12])  # a text, a fraction, a float
def test_a_tiff_whose_size_is_no_whole_number(tmp_path, kind):
    data = tiff_bytes(np.zeros((8, 8, 1), np.uint8))
    for tag in (256, 257):
        at = data.index(struct.pack("<H", tag), 8)
        (tmp_path / "odd.tif").write_bytes(data[: at + 2] + struct.pack("<HII", kind, 1, 8) + data[at + 12 :])
        for read in (images.read_photo, images.photo_size):
            with pytest.raises(images.ImageError, match="width and height are no whole numbers"):
                read(tmp_path / "odd.tif")


def test_only_the_first_frame_need_be_whole(tmp_path):
    frames = [pillow_image(random_samples(1, shape=(30, 40), seed=seed)).convert("P") for seed in range(3)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    whole = read_bytes(tmp_path, data)
    assert whole.remarks == ("only the first of 3 frames or pages is used",)
    starts = []  # of their pixels
    with Image.open(io.BytesIO(data)) as image:
        for number in range(3):
            image.seek(number)
            starts.append(image.tile[0].offset)
    for end in (starts[1] - 8, starts[1] - 1, starts[1] + 100, starts[2] - 8):
        cut = read_bytes(tmp_path, data[:end])
        assert np.array_equal(cut.samples, whole.samples)
        assert re.fullmatch("only the first of [23] frames or pages is used", cut.remarks[0])
    with pytest.raises(images.ImageError, match="broken or cut off"):
        read_bytes(tmp_path, data[: starts[0] + 100])


def test_size_is_limited_by_the_free_memory(tmp_path, monkeypatch):
    data = saved(Image.new("RGB", (3000, 2000)), "WEBP", lossless=True)
    assert read_bytes(tmp_path, data).rgb.shape == (2000, 3000, 3)
    monkeypatch.setattr(limits, "available_memory", lambda: 24_000_000)
    with pytest.raises(images.ImageError, match=r"6\.0 megapixels, are more than the 3\.0 that fit into"):
        read_bytes(tmp_path, data)


def irregular_files(folder):
    """Makes a pipe, a socket and a link to a device, with names of images."""
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(folder / "socket.png"))
    (folder / "device.png").symlink_to("/dev/zero")
    return {kind: folder / f"{kind}.png" for kind in ("pipe", "socket", "device")}


def test_only_files_are_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    for kind, path in irregular_files(Path()).items():
        for read in (images.read_photo, images.photo_size):
            with pytest.raises(images.ImageError, match=f"^{path}: is a {kind}, not a file$"):
                read(path)
        assert _image_decode.photo_format(path) is None


def test_library_noise_stays_inside(tmp_path):
    """Libtiff wrote a line for each strip to standard error, and imagecodecs logs what libpng warns of."""
    data = saved(
        pillow_image(random_samples(3, shape=(400, 30))), "TIFF", compression="tiff_lzw", strip_size=90
    )
    at = data.index(struct.pack("<H", 273))
    noisy = data[:at] + struct.pack("<HHII", 65000, 3, 1, 0) + data[at + 12 :]
    (tmp_path / "noisy.tif").write_bytes(noisy)
    (tmp_path / "cut.tif").write_bytes(
        data[: len(data) // 4] + bytes(len(data) // 2) + data[len(data) * 3 // 4 :]
    )
    deep = packed_png(random_samples(3, dtype=np.uint16), 10**6)
    deep = deep[:33] + png_chunk(b"gAMA", b"\0\0\0\0")[:-1] + b"\0" + deep[33:]
    (tmp_path / "deep.png").write_bytes(deep)
    code = """
import sys
from realsr_jax import images
from realsr_jax.system.terminal import silent_libraries
with silent_libraries():
    for path in sys.argv[1:]:
        try:
            images.read_photo(path)
        except images.ImageError:
            pass
"""
    command = [sys.executable, "-c", code, *map(str, tmp_path.iterdir())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


# Finding


def test_find_photos(tmp_path):
    for name in (
        "b.PNG",
        "a.jpg",
        ".hidden.png",
        "notes.txt",
        "sub/c.webp",
        "sub/.deep/d.png",
        "other/e.tif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = images.find_photos([tmp_path])
    assert [str(f.relative) for f in found] == ["a.jpg", "b.PNG"]
    assert [f.path for f in found] == [tmp_path / "a.jpg", tmp_path / "b.PNG"]
    found = images.list_photos([str(tmp_path / "notes.txt"), tmp_path], recursive=True).found
    expected = ["notes.txt", "a.jpg", "b.PNG", os.path.join("other", "e.tif"), os.path.join("sub", "c.webp")]
    assert [str(f.relative) for f in found] == expected
    with pytest.raises(images.ImageError, match="missing: no such file or folder"):
        images.find_photos([tmp_path / "missing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(images.ImageError, match="empty: no PNG"):
        images.find_photos([tmp_path, tmp_path / "empty"])


def test_format_of_results(tmp_path):
    source = tmp_path / "a.png"
    source.write_bytes(b"")
    for name, format in (("b.JPG", "JPEG"), ("b.tif", "TIFF")):
        (job,) = plan_jobs([str(source)], tmp_path / name, label="x2").jobs
        assert job.format == format
    with pytest.raises(UsageError, match="gif: the suffix must be one of"):
        plan_jobs([str(source)], tmp_path / "b.gif", label="x2")


# The module


def test_threads(tmp_path):
    photos = [make_photo(random_samples(4, seed=seed), format=LOSSLESS[seed % 3]) for seed in range(24)]

    def there_and_back(i):
        images.write_photo(photos[i], tmp_path / str(i))
        return images.read_photo(tmp_path / str(i))

    with ThreadPoolExecutor(8) as pool:
        for photo, result in zip(photos, pool.map(there_and_back, range(24)), strict=True):
            np.testing.assert_array_equal(all_samples(result), all_samples(photo))


def test_import_loads_only_what_all_photos_need():
    code = "import sys; before = set(sys.modules); import realsr_jax.images; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"scipy", "imagecodecs", "PIL.ImageCms"} & set(loaded)
