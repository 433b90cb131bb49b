"""Which files of an evaluation show the same picture."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from realsr_jax.data.errors import DataError
from realsr_jax.data.matching import KeyedFile, find_keyed, match_files
from realsr_jax.images import ImageError, find_photos
from realsr_jax.system.errors import UsageError


@dataclass(frozen=True)
class ImagePair:
    """Files of one picture.

    Attributes:
        name: the picture's.
        hr: the true image.
        lr: the small image, or None.
        sr: the restored image, or None.
    """

    name: str
    hr: Path
    lr: Path | None = None
    sr: Path | None = None


def match_images(inputs: Mapping[str, Sequence[str]]) -> tuple[list[ImagePair], list[str], int]:
    """Matches files by name, see `match_files`; one file each is a match whatever the names.

    Args:
        inputs: files, folders and patterns by role: "hr", and "lr" or "sr" or both. Under a pattern with one
            star, what that stands for is matched, as in `find_keyed`.

    Returns:
        The pictures of which there is a file in every role, in the order of the HR images; a line for each
        file that is left over; and how many HR images there are.

    Raises:
        UsageError: if an input does not exist, or there is no match at all.
    """
    try:
        files = {role: _find(paths, f"{role.upper()} images") for role, paths in inputs.items()}
    except (ImageError, DataError) as error:
        raise UsageError(str(error)) from error
    hr, problems = files.pop("hr"), []
    partners: dict[Path, dict[str, Path]] = {image.path: {} for image in hr}
    for role, others in files.items():
        matched = {hr[0].path: others[0].path}
        if any(len(images) > 1 for images in (hr, *files.values())):
            matched, left_over = match_files(hr, others, role.upper())
            problems += left_over
        for image, other in matched.items():
            partners[image][role] = other
    pairs = [
        ImagePair(re.sub(r"(?<=.)[_-]HR$", "", image.stem, flags=re.IGNORECASE), image, **found)
        for image, found in partners.items()
        if len(found) == len(files)
    ]
    if not pairs:
        places = " and ".join(f"--{role}={','.join(paths)}" for role, paths in inputs.items())
        raise UsageError(f"{places}: no files of the same name ({problems[0]})")
    return pairs, problems, len(hr)


def _find(inputs: Sequence[str], what: str) -> list[KeyedFile]:
    found: dict[Path, KeyedFile] = {}
    for given in inputs:
        if given.count("*") == 1 and not os.path.lexists(given):
            listed = find_keyed(given, what)
        else:
            listed = [KeyedFile(photo.path.stem, photo.path) for photo in find_photos([given])]
        found |= {image.path: image for image in listed if image.path not in found}
    return list(found.values())
