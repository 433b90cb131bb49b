"""Which files of two folders belong together."""

import glob
import re
from pathlib import Path
from typing import Final, NamedTuple

from realsr_jax.data.entries import DataError
from realsr_jax.images import SUFFIXES, ImageError, find_photos

_ENDINGS: Final = re.compile(r"(?<=.)(?:_HR|_LR|_x[2348]|(?<=\d)x[2348])+$", re.IGNORECASE)


class Keyed(NamedTuple):
    """A file and what it has in common with its partner."""

    key: str
    path: Path


def find_keyed(place: str, what: str) -> list[Keyed]:
    """Lists the images of a folder or of a pattern with one star, sorted by path.

    Args:
        place: the folder or pattern. Keys are the stems of a folder's files, or what a pattern's star stands
            for, without endings such as ``_HR`` and ``x2``.
        what: what the images are, for messages.

    Raises:
        DataError: if there are none.
    """
    if "*" in place:
        return _find_pattern(place, what)
    try:
        if not Path(place).is_dir():
            raise ImageError(f"{place}: no such folder")
        return [Keyed(name_of(found.path), found.path) for found in find_photos([place])]
    except ImageError as error:
        raise DataError(f"{error}; expected {what} there") from error


def _find_pattern(pattern: str, what: str) -> list[Keyed]:
    before, _, after = pattern.partition("*")
    if "*" in after:
        raise DataError(f"{pattern}: a pattern can have one star only, such as photos/*_LR.png")
    # A class such as [0-8] stands for one character, which is part of the key.
    literals = re.split(r"(\[[^]]+\])", after)
    rest = "".join(f"({part})" if part[:1] == "[" else re.escape(part) for part in literals)
    parts = re.compile(f"{re.escape(before)}(.*){rest.replace('([!', '([^')}", re.DOTALL)
    images = []
    for name in sorted(glob.glob(f"{glob.escape(before)}*{after}")):
        path, matched = Path(name), parts.fullmatch(name)
        if matched and path.suffix.lower() in SUFFIXES and path.is_file():
            key = "".join(matched.groups())
            images.append(Keyed(_key(key if "." in after else Path(key).stem), path))
    if not images:
        raise DataError(f"{pattern}: no image file matches this pattern; expected {what}")
    return images


def match(
    lr: list[Keyed], hr: list[Keyed], clean_list: str = ""
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pairs up files of equal keys.

    Args:
        lr: LR images.
        hr: HR images.
        clean_list: a text file with one image name a line; images that it does not name are left out. Empty
            for all images.

    Returns:
        LR and HR paths, sorted by key, and a line for each file or name without a partner.

    Raises:
        DataError: if there is no such list or it names none of the images.
    """
    problems = []
    if clean_list:
        clean = read_clean_list(clean_list)
        present = {image.key for image in (*lr, *hr)}
        if present.isdisjoint(clean):
            raise DataError(f"{clean_list}: names no image of this data set, such as {hr[0].path}")
        lr, hr = ([image for image in images if image.key in clean] for images in (lr, hr))
        absent = [name for key, name in clean.items() if key not in present]
        problems = [f"{name}: named in {clean_list}, but there is no such image" for name in absent]
    lr_paths, hr_paths = _group(lr), _group(hr)
    pairs = []
    for key in sorted(lr_paths | hr_paths):
        lrs, hrs = lr_paths.get(key, []), hr_paths.get(key, [])
        names = [str(path) for path in (*lrs, *hrs)]
        if len(lrs) == len(hrs) == 1:
            pairs.append((lrs[0], hrs[0]))
        elif lrs and hrs:
            problems.append(f"{', '.join(names)}: more than two images with the name {key!r}; rename some")
        else:
            problems += [f"{name}: no {'HR' if lrs else 'LR'} image has the name {key!r}" for name in names]
    return pairs, problems


def read_clean_list(path: str) -> dict[str, str]:
    """Reads a list of image names.

    Args:
        path: a text file with one name a line.

    Returns:
        The names by key.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        names = [line.strip() for line in Path(path).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise DataError(f"{path}: {reason}; expected a list of image names, one a line") from error
    return {name_of(Path(name)): name for name in names if name}


def name_of(path: Path) -> str:
    """Returns the key of a folder's file: its name without suffix and endings such as ``_HR``."""
    return _key(path.stem)


def _key(stem: str) -> str:
    """Removes the endings that tell LR from HR, as in ``0001x2`` and ``000090_HR``."""
    return _ENDINGS.sub("", stem)


def _group(images: list[Keyed]) -> dict[str, list[Path]]:
    """Collects the paths of each key."""
    groups: dict[str, list[Path]] = {}
    for key, path in images:
        groups.setdefault(key, []).append(path)
    return groups
