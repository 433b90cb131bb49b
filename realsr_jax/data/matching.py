"""Which files show the same picture, by their names: for training, washing and evaluation."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from realsr_jax.data.errors import DataError
from realsr_jax.images import SUFFIXES, ImageError, find_photos
from realsr_jax.system.errors import reason_of
from realsr_jax.system.files import read_file

# A bare x2, as in babyx2.png or 0001x2.png, marks no HR image: there, it is part of a name such as box2.png.
_MARKED: Final = re.compile(r"(?<=.)[_-](?:[HLS]R[2348]?|x[2348])$", re.IGNORECASE)
_BARE: Final = re.compile(r"(?<=.)x[2348]$", re.IGNORECASE)


class KeyedFile(NamedTuple):
    """A file and what it has in common with its partner."""

    key: str
    path: Path


def find_keyed(place: str, what: str) -> list[KeyedFile]:
    """Lists the images of a folder or of a pattern with one star, sorted by path.

    Args:
        place: the folder or pattern, ``~`` for the user's home. Keys are the stems of a folder's files, or
            what a pattern's star stands for; `match_files` disregards endings such as ``_HR`` and ``x2``.
        what: what the images are, for messages.

    Raises:
        DataError: if there are none.
    """
    place = os.path.expanduser(place)
    if "*" in place:
        return _find_pattern(place, what)
    try:
        if not Path(place).is_dir():
            raise ImageError(f"{place}: no such folder")
        return [KeyedFile(found.path.stem, found.path) for found in find_photos([place])]
    except ImageError as error:
        raise DataError(f"{error}; expected {what} there") from error


def _find_pattern(pattern: str, what: str) -> list[KeyedFile]:
    before, _, after = pattern.partition("*")
    if "*" in after:
        raise DataError(f"{pattern}: a pattern can have one star only, such as photos/*_LR.png")
    # A class such as [0-8] stands for one character, which is part of the key.
    literals = re.split(r"(\[[^]]+\])", after)
    rest = "".join("(.)" if part[:1] == "[" else re.escape(part) for part in literals)  # for `glob` to judge
    parts = re.compile(f"{re.escape(before)}(.*){rest}", re.DOTALL)
    images = []
    for name in sorted(glob.glob(f"{glob.escape(before)}*{after}")):
        path, matched = Path(name), parts.fullmatch(name)
        if matched and path.suffix.lower() in SUFFIXES and not path.is_dir():
            key = "".join(matched.groups())
            images.append(KeyedFile(key if "." in after else Path(key).stem, path))
    if not images:
        raise DataError(f"{pattern}: no image file matches this pattern; expected {what}")
    return images


def match_files(
    hr: Sequence[KeyedFile], others: Sequence[KeyedFile], role: str
) -> tuple[dict[Path, Path], list[str]]:
    """Finds the file that belongs to each HR file: the one for which the fewest endings must go.

    Endings are ``_HR``, ``_LR``, ``_SR`` and ``_x2``, and at files that are not HR a bare ``x2`` too.

    Args:
        hr: HR images.
        others: LR or SR images.
        role: "LR" or "SR", for messages.

    Returns:
        The other file by HR file, in the order of the HR files, and a line for each file without a partner.
    """
    index: dict[str, list[tuple[int, Path]]] = {}
    for other in others:
        for depth, stem in enumerate(_stems(other.key, is_hr=False)):
            index.setdefault(stem, []).append((depth, other.path))
    owners: dict[Path, Path] = {}
    ambiguous: set[Path] = set()
    problems = []
    candidates = {
        image: [
            (hr_depth + depth, path)
            for hr_depth, stem in enumerate(_stems(image.key, is_hr=True))
            for depth, path in index.get(stem, ())
        ]
        for image in hr
    }
    # The surest first, so that an image of the very same name is not given to another.
    for image, found in sorted(candidates.items(), key=lambda item: min(item[1], default=(0, Path()))[0]):
        nearest = list(dict.fromkeys(path for distance, path in found if distance == min(found)[0]))
        if len(nearest) > 1:
            ambiguous.update(nearest)
            problems.append(f"{image.path}: both {nearest[0]} and {nearest[1]} match it by name; rename one")
        elif nearest and nearest[0] in owners:
            owner = owners[nearest[0]]
            problems.append(
                f"{image.path}: {nearest[0]}, which matches it by name, is already {owner}'s; rename one"
            )
        elif nearest:
            owners[nearest[0]] = image.path
        else:
            problems.append(f"{image.path}: no {role} image matches it by name")
    left_over = [other.path for other in others if other.path not in owners and other.path not in ambiguous]
    problems += [f"{path}: no HR image matches it by name" for path in left_over]
    partners = {image: path for path, image in owners.items()}
    return {image.path: partners[image.path] for image in hr if image.path in partners}, problems


def match_pairs(
    lr: Sequence[KeyedFile], hr: Sequence[KeyedFile], clean_list: str = ""
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Pairs up LR and HR images.

    Args:
        lr: LR images.
        hr: HR images.
        clean_list: a text file with one image name a line; images that it does not name are left out. Empty
            for all images.

    Returns:
        LR and HR paths, sorted by their common name, and a line for each file or name without a partner.

    Raises:
        DataError: if there is no such list or it names none of the images.
    """
    absent = []
    if clean_list:
        clean = read_clean_list(clean_list)
        names = {image: {name_of(image.key)} for image in hr}
        names |= {image: {name_of(image.key), *_stems(image.key, is_hr=False)} for image in lr}
        present = set().union(*names.values())
        if present.isdisjoint(clean):
            raise DataError(f"{clean_list}: names no image of this data set, such as {hr[0].path}")
        lr, hr = ([image for image in images if names[image] & clean.keys()] for images in (lr, hr))
        absent = [
            f"{name}: named in {clean_list}, but there is no such image"
            for key, name in clean.items()
            if key not in present
        ]
    matched, problems = match_files(hr, lr, "LR")
    keys = {image.path: name_of(image.key) for image in hr}
    pairs = sorted(((path, image) for image, path in matched.items()), key=lambda pair: keys[pair[1]])
    return pairs, [*absent, *problems]


def read_clean_list(path: str) -> dict[str, str]:
    """Reads a list of image names.

    Args:
        path: a text file with one name a line, ``~`` for the user's home.

    Returns:
        The names by `name_of`.

    Raises:
        DataError: if it cannot be read.
    """
    try:
        names = [line.strip() for line in read_file(os.path.expanduser(path)).decode().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = reason_of(error, "not a text file")
        raise DataError(f"{path}: {reason}; expected a list of image names, one a line") from error
    return {name_of(Path(name).stem): name for name in names if name}


def name_of(stem: str) -> str:
    """Returns a picture's name in lists: its stem without endings such as ``_HR`` and, after a digit, x2."""
    *_, name = _stems(stem, is_hr=True)
    while name[-3:-2].isdigit() and _BARE.search(name):
        *_, name = _stems(name[:-2], is_hr=True)
    return name


def _stems(stem: str, *, is_hr: bool) -> Iterator[str]:
    """Yields a stem, then with one ending less, and so on."""
    yield stem
    while match := _MARKED.search(stem) or (None if is_hr else _BARE.search(stem)):
        stem = stem[: match.start()]
        yield stem
