"""Image files to upright photos: by Pillow, and by imagecodecs where Pillow has only 8 bits."""

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from realsr_jax.images.metadata import fitting_profile, read_metadata, read_tiff_metadata
from realsr_jax.images.photo import ImageError, Photo, image_errors

# Twice Pillow's warning threshold, which is where Pillow refuses a file.
MAX_PIXELS: Final = 178_956_970

_SIGNATURES: Final = {
    "PNG": b"\x89PNG\r\n\x1a\n",
    "JPEG": b"\xff\xd8\xff",
    "WEBP": b"RIFF",
    "TIFF": (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"),
    "BMP": b"BM",
}
# The readers are called directly and not through `Image.open`, which warns about large photos (a warning can
# be silenced only for all threads at once) and would try other formats, some with side effects. JPEGs
# with several pictures (previews, gain maps) are read as the plain photo that they start with.
_READERS: Final = {"PNG": PngImageFile, "JPEG": JpegImageFile, "WEBP": WebPImageFile, "BMP": BmpImageFile}
_GREY_MODES: Final = ("1", "L", "LA", "La")
_COLOUR_MODES: Final = ("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr", "HSV")
_UNASSOCIATED, _ASSOCIATED = 2, 1


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Reads a photo, turned upright as its orientation demands.

    Palettes become RGB, CMYK becomes sRGB. Colours under fully transparent pixels, which networks would bleed
    into the visible edge, are replaced by those of the nearest visible pixel.

    Args:
        path: a PNG, JPEG, WebP, TIFF or BMP file, whatever its suffix.

    Raises:
        ImageError: if the file cannot be read, is broken or of an unsupported kind.
    """
    with image_errors(path, "broken or cut off"):
        return decode(Path(path).read_bytes())


def photo_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns height and width that a photo announces, upright, without decoding it.

    An orientation that a PNG file states behind its pixels is not seen.

    Args:
        path: of a file as `read_photo` reads it.

    Raises:
        ImageError: if the file cannot be read, or what it announces cannot be told.
    """
    with image_errors(path, "broken or cut off"), Path(path).open("rb") as file:
        format = _detect_format(file.read(16))
        file.seek(0)
        if format == "TIFF":
            tags = TiffImagePlugin.TiffImageFile(file).tag_v2
            width, height = tags[ExifTags.Base.ImageWidth], tags[ExifTags.Base.ImageLength]
            orientation = tags.get(ExifTags.Base.Orientation, 1)
        else:
            image = _READERS[format](file)
            (width, height), (_, orientation) = image.size, read_metadata(image.info)
        return (width, height) if orientation >= 5 else (height, width)


def is_photo(path: str | os.PathLike[str]) -> bool:
    """Tells whether a file starts as those that `read_photo` reads."""
    try:
        with Path(path).open("rb") as file:
            _detect_format(file.read(16))
    except (OSError, ImageError):
        return False
    return True


def decode(data: bytes) -> Photo:
    """Decodes an image file.

    Raises:
        ImageError: if the file is not of a supported kind. Broken files raise whatever the decoders raise.
    """
    format = _detect_format(data)
    photo = _decode_tiff(data) if format == "TIFF" else _decode_other(data, format)
    profile = fitting_profile(photo.metadata.icc_profile, is_grey=photo.is_grey)
    return replace(photo, samples=_defringed(photo), metadata=replace(photo.metadata, icc_profile=profile))


def _detect_format(data: bytes) -> str:
    """Names the format that a file's first bytes announce."""
    if not data:
        raise ImageError("the file is empty")
    for format, signature in _SIGNATURES.items():
        if data.startswith(signature) and (format != "WEBP" or data[8:12] == b"WEBP"):
            return format
    raise ImageError("not a PNG, JPEG, WebP, TIFF or BMP image")


def _check_size(width: int, height: int) -> None:
    """Refuses sizes that are likelier an attack or a broken header than a photo."""
    if width < 1 or height < 1:
        raise ImageError(f"the image has no pixels ({width} x {height})")
    if width * height > MAX_PIXELS:
        raise ImageError(f"{width} x {height} pixels are more than the limit of {MAX_PIXELS}")


def _decode_other(data: bytes, format: str) -> Photo:
    """Decodes PNG, JPEG, WebP and BMP."""
    image = _READERS[format](io.BytesIO(data))
    _check_size(*image.size)
    image.load()  # before the metadata is read: PNG may store some of it behind the pixels
    metadata, orientation = read_metadata(image.info)
    bit_depth = data[24] if format == "PNG" else 8
    if bit_depth == 16:
        import imagecodecs

        samples = np.atleast_3d(imagecodecs.png_decode(data))
    else:
        if image.mode == "L" and bit_depth < 8 and "transparency" in image.info:
            # Pillow widens the pixels to 8 bits but not the value that marks transparent ones.
            image.info["transparency"] *= 255 // (2**bit_depth - 1)
        samples = _samples(image)
    return Photo(_upright(samples, orientation), metadata, format, getattr(image, "n_frames", 1))


def _samples(image: Image.Image) -> np.ndarray:
    """Converts a loaded Pillow image to grey, grey with alpha, RGB or RGBA samples, uint8 [h, w, c]."""
    is_grey = image.mode in _GREY_MODES
    if image.mode == "CMYK":
        image = _cmyk_to_rgb(image)
    elif image.mode == "LAB":
        image = _lab_to_rgb(image)
    elif is_grey or image.mode in _COLOUR_MODES:
        mode = ("L" if is_grey else "RGB") + ("A" if image.has_transparency_data else "")
        image = image.convert(mode)
    else:
        raise ImageError(
            f"pixels of kind {image.mode} are not supported; 8 and 16 bit whole numbers per channel are"
        )
    return np.atleast_3d(np.asarray(image))


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    """Converts CMYK to sRGB, through the embedded profile where there is a usable one."""
    from PIL import ImageCms

    profile = image.info.get("icc_profile") or b""
    if profile[16:20] == b"CMYK":
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(
                image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass  # a damaged profile: as good as none
    return image.convert("RGB")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    """Converts CIELAB to sRGB."""
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB"))
    assert converted is not None
    return converted


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Turns samples [h, w, c] as their EXIF orientation (1 to 8) demands."""
    if orientation >= 5:
        samples = samples.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    return np.ascontiguousarray(samples)


def _decode_tiff(data: bytes) -> Photo:
    """Decodes the first page of a TIFF file."""
    tags, n_frames = _read_directories(data)
    width, height = tags.get(ExifTags.Base.ImageWidth, 0), tags.get(ExifTags.Base.ImageLength, 0)
    _check_size(width, height)
    exif = Image.Exif()
    exif.endian, exif.bigtiff = ("<" if data[:2] == b"II" else ">"), b"+" in data[2:4]
    exif.load_from_fp(io.BytesIO(data), tags.offset)
    metadata, orientation = read_tiff_metadata(tags, exif)
    if _has_16_bits(tags):
        samples = _upright(_16_bit_tiff_samples(data, tags), orientation)
    else:
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        # Pillow would warn about large photos when it makes this itself.
        image.im = Image.core.new(image.mode, (width, height))
        image.load()  # which also turns it upright
        samples = _samples(image)
    return Photo(samples, metadata, "TIFF", n_frames)


def _read_directories(data: bytes) -> tuple[TiffImagePlugin.ImageFileDirectory_v2, int]:
    """Returns the first directory of a TIFF file and the number of directories."""
    file = io.BytesIO(data)
    header = data[: 16 if b"+" in data[2:4] else 8]
    first = directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    offsets: set[int] = set()
    while directory.next and directory.next not in offsets:
        offset = directory.next
        directory = TiffImagePlugin.ImageFileDirectory_v2(header)
        file.seek(offset)
        directory.load(file)
        first = first if offsets else directory
        offsets.add(offset)
    return first, len(offsets)


def _has_16_bits(tags: TiffImagePlugin.ImageFileDirectory_v2) -> bool:
    """Whether a TIFF holds 16-bit whole numbers, grey or RGB (of CMYK, Pillow's 8 bits must do)."""
    bits = np.atleast_1d(tags.get(ExifTags.Base.BitsPerSample, 1))
    formats = np.atleast_1d(tags.get(ExifTags.Base.SampleFormat, 1))
    is_plain = tags.get(ExifTags.Base.PhotometricInterpretation) in (0, 1, 2)
    return is_plain and bool((bits == 16).all() and np.isin(formats, (1, 4)).all())


def _16_bit_tiff_samples(data: bytes, tags: TiffImagePlugin.ImageFileDirectory_v2) -> np.ndarray:
    """Decodes a TIFF for which `_has_16_bits` holds: uint16 [h, w, 1 to 4], not yet upright."""
    import imagecodecs

    height, width = tags[ExifTags.Base.ImageLength], tags[ExifTags.Base.ImageWidth]
    channels = tags.get(ExifTags.Base.SamplesPerPixel, 1)
    samples = imagecodecs.tiff_decode(data)
    if tags.get(ExifTags.Base.PlanarConfiguration, 1) == 2 and channels > 1:
        samples = np.moveaxis(samples, 0, -1)
    samples = samples.reshape(height, width, channels).astype(np.uint16, copy=False)

    photometric = tags[ExifTags.Base.PhotometricInterpretation]
    n_colours = 3 if photometric == 2 else 1
    colours = samples[..., :n_colours] ^ np.uint16(0xFFFF if photometric == 0 else 0)
    alpha = samples[..., n_colours : n_colours + 1]
    extra = np.atleast_1d(tags.get(ExifTags.Base.ExtraSamples, _UNASSOCIATED))[0]
    if alpha.shape[-1] == 0 or extra not in (_ASSOCIATED, _UNASSOCIATED):
        return colours
    return np.concatenate([_unassociated(colours, alpha) if extra == _ASSOCIATED else colours, alpha], -1)


def _unassociated(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Divides 16-bit colours [h, w, c] by the alpha [h, w, 1] that they had been multiplied with."""
    scaled = (colours.astype(np.uint32) * 0xFFFF + alpha // 2) // np.maximum(alpha, 1)
    return np.minimum(scaled, 0xFFFF).astype(np.uint16)


def _defringed(photo: Photo) -> np.ndarray:
    """Returns a photo's samples, fully transparent pixels in the colour of the nearest other one."""
    if photo.alpha is None or photo.alpha.all() or not photo.alpha.any():
        return photo.samples
    from scipy import ndimage

    invisible = photo.alpha == 0
    nearest = ndimage.distance_transform_edt(invisible, return_distances=False, return_indices=True)
    assert nearest is not None
    rows, columns = nearest
    samples = photo.samples.copy()
    samples[invisible, :-1] = samples[rows[invisible], columns[invisible], :-1]
    return samples
