"""Which files are photos, by their names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from realsr_jax.images.photo import ImageError
from realsr_jax.system.errors import reason_of

SUFFIXES: Final = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
"""The format, by Pillow's name, that a lower-case file name suffix stands for."""


@dataclass(frozen=True)
class Found:
    """A file found by `find_photos`.

    Attributes:
        path: where it is.
        relative: its path below the folder that was searched; of a file given itself, its name.
    """

    path: Path
    relative: Path


def find_photos(
    inputs: Sequence[str | os.PathLike[str]], *, recursive: bool = False, without: Path | None = None
) -> list[Found]:
    """Lists the photos that files and folders name.

    Args:
        inputs: a file stands for itself, whatever its suffix; a folder for its image files (by suffix),
            sorted by name, hidden ones left out.
        recursive: whether folders inside folders are searched too (hidden ones and links are not).
        without: a folder that is not searched where it is inside another, such as that of the results.

    Returns:
        The files in the order of the inputs. Two of them can have the same relative path.

    Raises:
        ImageError: if an input does not exist or is a folder without photos.
    """
    found = []
    for path in map(Path, inputs):
        if path.is_dir():
            found += _photos_in(path, recursive=recursive, without=without and without.resolve())
        elif path.exists():
            found.append(Found(path, Path(path.name)))
        else:
            raise ImageError(f"{path}: no such file or folder")
    return found


def _photos_in(folder: Path, *, recursive: bool, without: Path | None) -> list[Found]:
    """Lists a folder's photos, at least one."""
    found = []

    def fail(error: OSError) -> None:
        raise ImageError(f"{error.filename}: {reason_of(error, 'cannot be read')}") from error

    for place, folders, names in os.walk(folder, onerror=fail):
        searched = (name for name in folders if recursive and not name.startswith("."))
        folders[:] = sorted(name for name in searched if Path(place, name).resolve() != without)
        for name in sorted(names):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                path = Path(place, name)
                found.append(Found(path, path.relative_to(folder)))
    if not found:
        raise ImageError(f"{folder}: no PNG, JPEG, WebP, TIFF or BMP files in this folder")
    return found
