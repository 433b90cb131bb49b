"""Which LR, SR and HR files show the same picture, by their names."""

import collections
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from realsr_jax.cli.command import UsageError
from realsr_jax.images import ImageError, find_photos

# A bare x2, as in babyx2.png, marks no HR image: there, it is part of a name such as box2.png.
_ENDING = {
    "hr": re.compile(r"(?<=.)[_-](?:[HLS]R[2348]?|x[2348])$", re.IGNORECASE),
    "other": re.compile(r"(?<=.)(?:[_-][HLS]R[2348]?|[_-]?x[2348])$", re.IGNORECASE),
}


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


@dataclass(frozen=True)
class Matched:
    """What `match_images` found.

    Attributes:
        pairs: the pictures of which there is a file in every role, in the order of the HR images.
        problems: a line for each file that is left over.
        n_images: how many HR images there are.
    """

    pairs: list[ImagePair]
    problems: list[str]
    n_images: int


def match_images(inputs: Mapping[str, Sequence[str]]) -> Matched:
    """Matches files by name, endings such as ``_HR``, ``_LR``, ``_SR``, ``x2`` and ``_x2`` left aside.

    One file each is a match whatever the names.

    Args:
        inputs: files and folders by role: "hr", and "lr" or "sr" or both.

    Raises:
        UsageError: if an input does not exist, or there is no match at all.
    """
    files = {role: _find(paths) for role, paths in inputs.items()}
    hr_files = files.pop("hr")
    if len(hr_files) == 1 and all(len(paths) == 1 for paths in files.values()):
        hr = hr_files[0]
        pair = ImagePair(_name(hr), hr, **{role: paths[0] for role, paths in files.items()})
        return Matched([pair], [], 1)
    problems: list[str] = []
    matches = {role: _match(hr_files, paths, role, problems) for role, paths in files.items()}
    pairs = [
        ImagePair(_name(hr), hr, **{role: match[hr] for role, match in matches.items()})
        for hr in hr_files
        if all(hr in match for match in matches.values())
    ]
    if not pairs:
        folders = " and ".join(f"--{role}={','.join(paths)}" for role, paths in inputs.items())
        raise UsageError(f"{folders}: no files of the same name ({problems[0]})")
    return Matched(pairs, problems, len(hr_files))


def _find(inputs: Sequence[str]) -> list[Path]:
    try:
        return list(dict.fromkeys(found.path for found in find_photos(inputs)))
    except ImageError as error:
        raise UsageError(str(error)) from error


def _match(
    hr_files: Sequence[Path], others: Sequence[Path], role: str, problems: list[str]
) -> dict[Path, Path]:
    """Finds the file that belongs to each HR file: the one for which the fewest endings must go."""
    index: dict[str, list[tuple[int, Path]]] = collections.defaultdict(list)
    for other in others:
        for depth, stem in enumerate(_stems(other, "other")):
            index[stem].append((depth, other))
    owners: dict[Path, Path] = {}
    ambiguous: set[Path] = set()
    for hr in hr_files:
        distances: dict[Path, int] = {}
        for hr_depth, stem in enumerate(_stems(hr, "hr")):
            for depth, other in index.get(stem, ()):
                distances[other] = min(hr_depth + depth, distances.get(other, hr_depth + depth))
        nearest = [other for other, distance in distances.items() if distance == min(distances.values())]
        if len(nearest) > 1:
            ambiguous.update(nearest)
            problems.append(f"{hr}: both {nearest[0]} and {nearest[1]} match it by name")
        elif nearest and nearest[0] in owners:
            problems.append(
                f"{hr}: {nearest[0]}, which matches it by name, is already {owners[nearest[0]]}'s"
            )
        elif nearest:
            owners[nearest[0]] = hr
        else:
            problems.append(f"{hr}: no {role.upper()} image matches it by name")
    left_over = [other for other in others if other not in owners and other not in ambiguous]
    problems += [f"{other}: no HR image matches it by name" for other in left_over]
    return {hr: other for other, hr in owners.items()}


def _stems(path: Path, kind: str) -> Iterator[str]:
    """Yields a file's stem, then with one ending less, and so on."""
    stem = path.stem
    yield stem
    while match := _ENDING[kind].search(stem):
        stem = stem[: match.start()]
        yield stem


def _name(hr: Path) -> str:
    return re.sub(r"(?<=.)[_-]HR$", "", hr.stem, flags=re.IGNORECASE)
