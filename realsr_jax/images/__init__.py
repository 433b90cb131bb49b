"""Photos on disk: finding, reading and writing them. The only part that opens or writes image files.

PNG, JPEG, WebP, TIFF and BMP; 16 bits per channel in PNG and TIFF. All functions may run in threads.
"""

from realsr_jax.images.decoding import ImageError
from realsr_jax.images.encoding import encode
from realsr_jax.images.metadata import Metadata
from realsr_jax.images.photo import Photo, check_writable, make_result, read_photo, write_photo
from realsr_jax.images.photo_listing import SUFFIXES, Found, find_photos, format_of

__all__ = [
    "SUFFIXES",
    "Found",
    "ImageError",
    "Metadata",
    "Photo",
    "check_writable",
    "encode",
    "find_photos",
    "format_of",
    "make_result",
    "read_photo",
    "write_photo",
]
