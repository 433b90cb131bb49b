"""Photos on disk: finding, reading and writing them. The only part that opens or writes image files.

PNG, JPEG, WebP, TIFF, BMP, AVIF and, with pillow-heif, HEIC; GIF is only read. 16 bits per channel in PNG and
TIFF, floats in TIFF, more than 8 bits in HEIC. All functions may run in threads.
"""

from realsr_jax.images.decoding import photo_size, read_photo
from realsr_jax.images.encoding import write_photo
from realsr_jax.images.errors import ImageError
from realsr_jax.images.formats import SUFFIXES
from realsr_jax.images.metadata import Metadata
from realsr_jax.images.photo import Photo
from realsr_jax.images.photo_listing import find_photos, list_photos

__all__ = [
    "SUFFIXES",
    "ImageError",
    "Metadata",
    "Photo",
    "find_photos",
    "list_photos",
    "photo_size",
    "read_photo",
    "write_photo",
]
