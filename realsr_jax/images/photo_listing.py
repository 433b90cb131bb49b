"""Which files are photos, by their names."""

import functools
import glob
import os
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from realsr_jax.images.errors import ImageError
from realsr_jax.images.formats import HEIF_HINT, NAMES, SUFFIXES, has_heif
from realsr_jax.system.errors import reason_of

_SIZE_MARK: Final = re.compile(r"_(x\d+(\.\d+)?|\d+x\d+|\d+w|\d+(\.\d+)?MP)$")
"""What names of results say of their size, such as "_x2", "_x1.5", "_3840x2160", "_800w" and "_12MP"."""

_MOST_KINDS: Final = 6


@dataclass(frozen=True)
class Found:
    """A file found by `list_photos`.

    Attributes:
        path: where it is.
        relative: its path below the folder that was searched; of a file given itself, its name.
        searched: that folder, None for a file given itself.
    """

    path: Path
    relative: Path
    searched: Path | None = None


@dataclass
class Listing:
    """What files and folders name.

    Attributes:
        found: the photos, in the order of the inputs. Two of them can have the same relative path.
        other: how many files of folders are no photos, by their suffixes in lower case.
        n_subfolders: how many folders in folders were not searched.
        n_results: how many photos are results of an earlier run on others.
        empty: folders in which there are no photos.
        output: the folder of the results, if it is one of the inputs and was therefore not searched.
    """

    found: list[Found] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    n_subfolders: int = 0
    n_results: int = 0
    empty: list[Path] = field(default_factory=list)
    output: Path | None = None

    def left_out(self) -> str:
        """Says in one line what is left out, nothing if nothing is."""
        kinds = [
            f"{count:,} {suffix or 'without suffix'}{f' ({HEIF_HINT})' if suffix in SUFFIXES else ''}"
            for suffix, count in self.other.most_common()
        ]
        if len(kinds) > _MOST_KINDS:
            rest = sum(self.other.values()) - sum(n for _, n in self.other.most_common(_MOST_KINDS))
            kinds[_MOST_KINDS:] = [f"{rest:,} others"]
        if self.n_subfolders:
            kinds.append(f"{counted(self.n_subfolders, 'subfolder')} (--recursive)")
        if self.empty:
            kinds.append(f"{counted(len(self.empty), 'folder')} without photos")
        if self.n_results:
            kinds.append(f"{counted(self.n_results, 'result')} of an earlier run")
        if self.output:
            kinds.append(f"{self.output}, the folder of the results")
        return ", ".join(kinds)


def counted(count: int, noun: str) -> str:
    """Returns a number with what it counts, such as "2 photos"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def can_be_read(suffix: str) -> bool:
    """Tells whether files of a lower-case suffix are photos that can be read."""
    return suffix in SUFFIXES and (SUFFIXES[suffix] != "HEIF" or has_heif())


def find_photos(inputs: Sequence[str | os.PathLike[str]]) -> list[Found]:
    """Lists the photos that files and folders name, as `list_photos` does, the results of earlier runs too.

    Raises:
        ImageError: if an input does not exist or is a folder without photos.
    """
    listing = list_photos(inputs, results=None)
    for folder in listing.empty:
        raise no_photos(folder, listing)
    return listing.found


def no_photos(folder: Path, listing: Listing) -> ImageError:
    """Returns the error for a folder in which there are no photos, with what is there instead."""
    rest = replace(listing, empty=[]).left_out()
    return ImageError(f"{folder}: no {NAMES} files in this folder{rest and f', but {rest}'}")


def list_photos(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    recursive: bool = False,
    without: Path | None = None,
    results: Collection[str] | None = (),
) -> Listing:
    """Lists what files, folders and patterns name.

    A photo ``cat_x2.png`` or ``cat_800w.png`` beside another of the inputs ``cat.jpg`` is a result of it, and
    so are the photos of a folder ``cats_x2`` beside another ``cats``.

    Args:
        inputs: a file stands for itself, whatever its suffix; a folder for its image files (by suffix),
            sorted by name, hidden ones left out; a pattern with ``*``, ``?``, ``[...]`` or ``**``, where
            there is no file of this name, for what it matches.
        recursive: whether folders inside folders are searched too (hidden ones and links are not).
        without: a folder that is not searched where it is inside another or named beside others, such as that
            of the results, which a shell's ``*`` names in a second run.
        results: endings that mark results, beside those by size; None to leave out no results.

    Raises:
        ImageError: if an input does not exist or a folder cannot be read.
    """
    listing = Listing()
    without = without and without.resolve()
    paths = dict.fromkeys(path for given in inputs for path in _expanded(os.fspath(given)))
    for path in paths:
        if not path.is_dir():
            listing.found.append(Found(path, Path(path.name)))
        elif len(paths) > 1 and path.resolve() == without:
            listing.output = path
        else:
            n_before = len(listing.found)
            _search(path, listing, recursive=recursive, without=without)
            if len(listing.found) == n_before:
                listing.empty.append(path)
    if results is not None:
        _drop_results(listing, results)
    return listing


def _expanded(given: str) -> list[Path]:
    """Returns the path that is given, or what matches it as a pattern."""
    if os.path.lexists(given):
        return [Path(given)]
    matches = sorted(glob.glob(given, recursive=True)) if glob.has_magic(given) else []
    if not matches:
        what = "nothing matches this pattern" if glob.has_magic(given) else "no such file or folder"
        raise ImageError(f"{given}: {what}")
    return [Path(match) for match in matches]


def _search(folder: Path, listing: Listing, *, recursive: bool, without: Path | None) -> None:
    """Adds to a listing what is in a folder."""

    def fail(error: OSError) -> None:
        raise ImageError(f"{error.filename}: {reason_of(error, 'cannot be read')}") from error

    for place, folders, names in os.walk(folder, onerror=fail):
        visible = (name for name in folders if not name.startswith("."))
        wanted = sorted(name for name in visible if Path(place, name).resolve() != without)
        folders[:] = wanted if recursive else []
        listing.n_subfolders += 0 if recursive else len(wanted)
        for name in sorted(name for name in names if not name.startswith(".")):
            suffix = Path(name).suffix.lower()
            if can_be_read(suffix):
                path = Path(place, name)
                listing.found.append(Found(path, path.relative_to(folder), folder))
            else:
                listing.other[suffix] += 1


def _drop_results(listing: Listing, endings: Collection[str]) -> None:
    """Takes photos that are results of others out of a listing."""
    stems: dict[Path, set[str]] = defaultdict(set)
    folders: dict[Path, set[str]] = defaultdict(set)
    for found in listing.found:
        stems[found.path.parent].add(found.path.stem)
    for folder in list(stems):
        for each in (folder, *folder.parents):
            folders[each.parent].add(each.name)

    @functools.cache
    def holds_results(folder: Path) -> bool:
        return any(_is_result(f.name, folders[f.parent], endings) for f in (folder, *folder.parents))

    def is_result(path: Path) -> bool:
        return holds_results(path.parent) or _is_result(path.stem, stems[path.parent], endings)

    kept = [found for found in listing.found if not is_result(found.path)]
    listing.n_results += len(listing.found) - len(kept)
    listing.found = kept


def _is_result(name: str, others: Container[str], endings: Collection[str]) -> bool:
    """Tells whether a name is one of others with an ending of results."""
    bases = {_SIZE_MARK.sub("", name), *(name.removesuffix(ending) for ending in endings)} - {name}
    return any(base in others for base in bases)
