"""Image files to upright photos: by Pillow, and by imagecodecs PNG and TIFF of more than 8 bits."""

import contextlib
import ctypes
import functools
import io
import os
from dataclasses import replace
from typing import Any, BinaryIO, Final

import numpy as np
from PIL import ExifTags, Image, ImageChops, TiffImagePlugin
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from realsr_jax.images.errors import ImageError, image_errors
from realsr_jax.images.formats import HEAD_BYTES, detect_format, import_heif
from realsr_jax.images.limits import check_memory, check_pixels
from realsr_jax.images.metadata import fitting_profile, read_metadata, read_tiff_metadata
from realsr_jax.images.photo import Photo
from realsr_jax.images.png_chunks import without_pixels
from realsr_jax.images.tiff_directories import Directory, check_is_whole, parts_of, read_directories
from realsr_jax.system.files import open_file, read_file

# The readers are called directly and not through `Image.open`, which warns about large photos (a warning can
# be silenced only for all threads at once) and would try other formats, some with side effects. JPEGs
# with several pictures (previews, gain maps) are read as the plain photo that they start with.
_READERS: Final = {
    "PNG": PngImageFile,
    "JPEG": JpegImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "AVIF": AvifImageFile,
    "GIF": GifImageFile,
}
_GREY_MODES: Final = ("1", "L", "LA", "La")
_COLOUR_MODES: Final = ("P", "PA", "RGB", "RGBX", "RGBA", "RGBa", "YCbCr", "HSV")
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_UNASSOCIATED, _ASSOCIATED = 2, 1
_JPEG_IN_TIFF: Final = 7
_MOST_REPETITION: Final = 8
"""How often the bytes of a TIFF are read as JPEG at most; tables belong to each of its parts."""

_END_OF_JPEG: Final = b"\xff\xd9"
_MORE_OF_JPEG: Final = b"".join((bytes(range(255)) * 8 + bytes([0xFF, 0xD0 + number])) for number in range(8))
"""Data that are no marker, and the restart markers, one of which may be waited for."""


def read_photo(path: str | os.PathLike[str]) -> Photo:
    """Reads a photo, turned upright as its orientation demands.

    Palettes become RGB, CMYK becomes sRGB. Colours under fully transparent pixels, which networks would bleed
    into the visible edge, are replaced by those of the nearest visible pixel.

    Args:
        path: a file of one of `FORMATS`, whatever its suffix; HEIC needs pillow-heif.

    Raises:
        ImageError: if the file cannot be read, is broken or of an unsupported kind.
    """
    with image_errors(path, "broken or cut off"):
        return decode(read_file(path))


def photo_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Returns height and width that a photo announces, upright, without decoding it.

    An orientation that a PNG file states behind its pixels is not seen.

    Args:
        path: of a file as `read_photo` reads it.

    Raises:
        ImageError: if the file cannot be read or hold what it announces.
    """
    with image_errors(path, "broken or cut off"), open_file(path) as file:
        format = detect_format(file.read(HEAD_BYTES))
        file.seek(0)
        if format == "TIFF":
            data = file.read()
            tags, _ = read_directories(data)
            width, height = check_is_whole(tags, len(data))
            orientation = tags.get(ExifTags.Base.Orientation)
        elif format == "HEIF":
            (width, height), orientation = _open_heif(file).size, 1
        else:
            image = _READERS[format](file)
            (width, height), (_, orientation) = image.size, read_metadata(image.info)
            check_pixels(format, width, height, os.fstat(file.fileno()).st_size)
        return (width, height) if orientation in range(5, 9) else (height, width)


def photo_format(path: str | os.PathLike[str]) -> str | None:
    """Returns the format, by Pillow's name, as which a file starts; None if it is no photo or not there."""
    try:
        with open_file(path) as file:
            return detect_format(file.read(HEAD_BYTES))
    except (OSError, ImageError):
        return None


def decode(data: bytes) -> Photo:
    """Decodes an image file.

    Raises:
        ImageError: if the file is not of a supported kind. Broken files raise whatever the decoders raise.
    """
    format = detect_format(data)
    decoder = {"PNG": _decode_png, "TIFF": _decode_tiff, "HEIF": _decode_heif}.get(format)
    photo = decoder(data) if decoder else _decode_other(data, format)
    profile = fitting_profile(photo.metadata.icc_profile, is_grey=photo.is_grey)
    return replace(photo, samples=_defringed(photo), metadata=replace(photo.metadata, icc_profile=profile))


def _decode_png(data: bytes) -> Photo:
    """Decodes PNG by libpng, which refuses what is incomplete; its metadata by Pillow."""
    import imagecodecs

    image = PngImageFile(io.BytesIO(data))
    depth = data[24]
    check_pixels("PNG", *image.size, len(data), bits=depth * _PNG_CHANNELS.get(data[25], 1))
    check_memory(*image.size, 4 * max(depth // 8, 1))
    samples = np.atleast_3d(imagecodecs.png_decode(data))
    pixel = PngImageFile(io.BytesIO(without_pixels(data)))
    pixel.load()  # before the metadata are read: PNG may store some of them behind the pixels
    metadata, orientation = read_metadata(pixel.info)
    return Photo(_upright(samples, orientation), metadata, "PNG", _remarks(image.n_frames, ""))


def _decode_other(data: bytes, format: str) -> Photo:
    """Decodes what Pillow reads, with 8 bits."""
    image = _load_whole(data, format)
    metadata, orientation = read_metadata(image.info)
    samples = _upright(_samples(image), orientation)
    return Photo(samples, metadata, format, _remarks(_count_frames(image), image.mode))


def _load_whole(data: bytes, format: str) -> Image.Image:
    """Loads an image by Pillow; refuses one that its file or the memory cannot hold, or that is cut off."""
    file = io.BytesIO(data)
    image = _READERS[format](file)
    scan = file.tell()
    width, height = image.size
    check_pixels(format, width, height, len(data))
    check_memory(width, height, 4)
    image.load()
    if format == "JPEG":
        _check_end(image, data, scan)
    return image


def _check_end(image: Image.Image, data: bytes, scan: int) -> None:
    """Refuses a loaded JPEG, whose first scan starts at `scan`, if the last one ends too early.

    Libjpeg makes the rest grey, or in progressive files like its surroundings, and Pillow does not pass on
    its warning. But data that are put in at the end change such pixels, and no others.
    """
    last: Any = image.getpixel((image.width - 1, image.height - 1))
    is_grey = set(np.atleast_1d(last)) <= {127, 128}  # of CMYK it is 127
    if not is_grey and "progressive" not in image.info:
        return
    end = data.find(_END_OF_JPEG, scan)
    longer = JpegImageFile(io.BytesIO(data[:end] + _MORE_OF_JPEG + _END_OF_JPEG))
    longer.load()
    if ImageChops.difference(image, longer).getbbox(alpha_only=False) is not None:
        raise ImageError("broken or cut off (its last pixels are missing)")


def _count_frames(image: Image.Image) -> int:
    """Returns how many frames a file has; those behind the first, which are not used, may be broken."""
    try:
        return getattr(image, "n_frames", 1)
    except Exception:  # in the frame behind the one that GIF's reader is at
        return image.tell() + 2


def _remarks(n_frames: int, mode: str) -> tuple[str, ...]:
    """Says what a photo is not, of a file with frames of a mode."""
    only = f"only the first of {n_frames} frames or pages is used"
    return ((only,) if n_frames > 1 else ()) + (("CMYK becomes RGB",) if mode == "CMYK" else ())


def _open_heif(file: BinaryIO) -> Any:
    """Opens a HEIC file, whose pictures come upright, without decoding it."""
    return import_heif().open_heif(file, convert_hdr_to_8bit=False)


def _decode_heif(data: bytes) -> Photo:
    """Decodes the primary picture of a HEIC file; more than 8 bits become 16."""
    image = _open_heif(io.BytesIO(data))
    width, height = image.size
    check_memory(width, height, 8)
    metadata, _ = read_metadata(image.info)
    return Photo(np.atleast_3d(np.asarray(image)), metadata, "HEIF", _remarks(len(image), ""))


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
            f"pixels of kind {image.mode} are not supported; whole numbers of 8 and 16 bits and floats are"
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


@functools.cache
def _silence_libtiff() -> None:
    """Lets Pillow's libtiff write nothing to standard error, where it would not name the file."""
    with contextlib.suppress(AttributeError, OSError):  # Pillow without libtiff, or with it hidden inside
        pillow = ctypes.CDLL(Image.core.__file__)
        for name in ("TIFFSetWarningHandler", "TIFFSetErrorHandler"):
            getattr(pillow, name)(None)


def _decode_tiff(data: bytes) -> Photo:
    """Decodes the first page of a TIFF file."""
    _silence_libtiff()
    tags, n_frames = read_directories(data)
    width, height = check_is_whole(tags, len(data))
    dtype = _deep_type(tags)
    depth = np.max(tags.get(ExifTags.Base.BitsPerSample, 1))
    channels = tags.get(ExifTags.Base.SamplesPerPixel, 1)
    check_memory(width, height, max(4, int(depth) // 8 * channels))
    exif = Image.Exif()
    exif.endian, exif.bigtiff = ("<" if data[:2] == b"II" else ">"), b"+" in data[2:4]
    exif.load_from_fp(io.BytesIO(data), tags.offset)
    metadata, orientation = read_tiff_metadata(tags, exif)
    white = 1.0
    if dtype is not None:
        samples, mode = _deep_tiff_samples(data, tags, dtype), ""
        if dtype == np.float32:
            samples, white = _scaled(samples)
        samples = _upright(samples, orientation)
    else:
        if tags.get(ExifTags.Base.Compression) == _JPEG_IN_TIFF:
            _check_jpeg_parts(data, tags)
        image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        # Pillow would warn about large photos when it makes this itself.
        image.im = Image.core.new(image.mode, (width, height))
        image.load()  # which also turns it upright
        samples, mode = _samples(image), image.mode
    return Photo(samples, metadata, "TIFF", _remarks(n_frames, mode), white)


def _check_jpeg_parts(data: bytes, tags: Directory) -> None:
    """Refuses a TIFF of strips or tiles of JPEG if one ends too early, of which libtiff only warns."""
    places, sizes = parts_of(tags)
    tables = tags.get(ExifTags.Base.JPEGTables, b"")[:-2]
    if len(places) * len(tables) + sum(sizes) > _MOST_REPETITION * len(data):
        raise ImageError("broken (its strips overlap)")
    for place, size in zip(places, sizes, strict=True):
        part = data[place : place + size]
        _load_whole(tables + part[2:] if tables else part, "JPEG")


def _deep_type(tags: Directory) -> type[np.number] | None:
    """Returns the type of a TIFF's samples if they are grey or RGB of more than 8 bits, else None.

    Those are whole numbers of 16 bits and floats. Of CMYK, Pillow's 8 bits must do.
    """
    bits = np.atleast_1d(tags.get(ExifTags.Base.BitsPerSample, 1))
    formats = np.atleast_1d(tags.get(ExifTags.Base.SampleFormat, 1))
    photometric = tags.get(ExifTags.Base.PhotometricInterpretation)
    if photometric in (1, 2) and (formats == 3).all():
        return np.float32
    is_16_bit = (bits == 16).all() and np.isin(formats, (1, 4)).all()
    return np.uint16 if photometric in (0, 1, 2) and is_16_bit else None


def _scaled(samples: np.ndarray) -> tuple[np.ndarray, float]:
    """Scales the floats of a file to 0..255; returns them and what was white, 1 or 65535."""
    lowest, highest = float(samples.min()), float(samples.max())
    if not np.isfinite([lowest, highest]).all():
        raise ImageError("some of its pixels are not numbers")
    # Sharpening overshoots, so that white is not always the largest number.
    white = 1.0 if highest <= 2 else 65535.0
    if 2 < highest <= 255 or highest > 2 * white or lowest < -white:
        raise ImageError(
            f"its numbers, {lowest:g} to {highest:g}, are neither those of 0 to 1 nor those of 0 to 65535"
        )
    return samples * np.float32(255 / white), white


def _deep_tiff_samples(data: bytes, tags: Directory, dtype: type[np.number]) -> np.ndarray:
    """Decodes a TIFF of a type by `_deep_type`: [h, w, 1 to 4], not yet upright."""
    import imagecodecs

    height, width = tags[ExifTags.Base.ImageLength], tags[ExifTags.Base.ImageWidth]
    channels = tags.get(ExifTags.Base.SamplesPerPixel, 1)
    samples = imagecodecs.tiff_decode(data)
    if tags.get(ExifTags.Base.PlanarConfiguration, 1) == 2 and channels > 1:
        samples = np.moveaxis(samples, 0, -1)
    samples = samples.reshape(height, width, channels).astype(dtype, copy=False)

    photometric = tags[ExifTags.Base.PhotometricInterpretation]
    n_colours = 3 if photometric == 2 else 1
    colours = samples[..., :n_colours]
    colours = np.invert(colours) if photometric == 0 else colours
    alpha = samples[..., n_colours : n_colours + 1]
    extra = np.atleast_1d(tags.get(ExifTags.Base.ExtraSamples, _UNASSOCIATED))[0]
    if alpha.shape[-1] == 0 or extra not in (_ASSOCIATED, _UNASSOCIATED):
        return colours
    return np.concatenate([_unassociated(colours, alpha) if extra == _ASSOCIATED else colours, alpha], -1)


def _unassociated(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Divides colours [h, w, c] by the alpha [h, w, 1] that they had been multiplied with."""
    if colours.dtype == np.float32:
        top = 1 if alpha.max() <= 1 else 0xFFFF
        return colours * top / np.where(alpha > 0, alpha, top)
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
