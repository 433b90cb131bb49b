"""Which file the result of each photo goes to, so that nothing is overwritten that should not be."""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from realsr_jax.images.decoding import photo_format
from realsr_jax.images.errors import ImageError
from realsr_jax.images.formats import SUFFIXES, WRITTEN, check_heif, has_heif, output_format
from realsr_jax.images.photo_listing import Found, Listing, can_be_read, list_photos, no_photos
from realsr_jax.system.errors import UsageError
from realsr_jax.system.shards import Shard

_COMPRESSION: Final = {"JPEG": 8, "WEBP": 8, "AVIF": 16, "HEIF": 16}
"""How many times more pixels a byte of these formats holds, roughly."""


@dataclass(frozen=True)
class Job:
    """A photo to read, and the file that its result goes to.

    Attributes:
        source: the file to read.
        target: the file to write.
        problem: why it cannot be done, or None.
        is_done: whether the result exists and is to be kept.
    """

    source: Path
    target: Path
    problem: str | None = None
    is_done: bool = False

    @property
    def format(self) -> str:
        """The result's format, by Pillow's name."""
        return WRITTEN[self.target.suffix.lower()]


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        jobs: the photos, in the order of the inputs; of a shard, its own.
        listed: the photos of all shards.
        left_out: what of the inputs is no job, in words; empty if nothing is.
        is_whole: whether all files that were given themselves are jobs.
        replaces: whether results that exist are replaced.
    """

    jobs: tuple[Job, ...]
    listed: tuple[Job, ...]
    left_out: str = ""
    is_whole: bool = True
    replaces: bool = False

    @property
    def todo(self) -> list[Job]:
        """The jobs that can be done and are not."""
        return [job for job in self.jobs if job.problem is None and not job.is_done]


def plan_jobs(
    inputs: Sequence[str],
    output: Path | None = None,
    *,
    label: str,
    recursive: bool = False,
    extension: str | None = None,
    suffix: str | None = None,
    overwrite: bool = False,
    shard: Shard | None = None,
) -> Plan:
    """Pairs every photo with the file that its result goes to.

    Without an output, the result of a file stands beside it, and the results of a folder in a folder beside
    that, such as ``photos_x2``, which keeps the originals apart and is searched by no second run. A result
    that would replace a photo of the input or another result is marked as a problem, not written. A file
    named twice is read once. Results of an earlier run are not taken for photos: see `list_photos`.

    Args:
        inputs: files, folders and patterns.
        output: a folder, or a file if the input is one file and this has an image suffix.
        label: what names of results that stand beside their photos end in, such as "x2".
        recursive: whether to search folders inside folders.
        extension: of the results' names, one of `WRITTEN`, or None for that of each photo's content.
        suffix: added to the results' names; None for ``_x2`` where they stand beside their photos.
        overwrite: whether results that exist are replaced.
        shard: the part that is this process's; None for all. Which photos are in it depends neither on the
            results that exist nor on the other processes, and no two write to one file.

    Raises:
        UsageError: if an input does not exist, the output cannot be what is asked of it, or no photo can be
            read and written.
    """
    if suffix and os.sep in suffix:
        raise UsageError(f"--suffix={suffix}: cannot contain {os.sep}")
    asked = extension or ("" if output is None or output.is_dir() else output.suffix.lower())
    try:
        check_heif(WRITTEN.get(asked, ""))
        marks = {f"_{label}", suffix or ""}
        listing = list_photos(inputs, recursive=recursive, without=output, results=marks)
        if not listing.found:
            raise no_photos(listing.empty[0] if listing.empty else Path(inputs[0]), listing)
    except ImageError as error:
        raise UsageError(str(error)) from error
    n_strange = _leave_out_strange(listing)
    found = listing.found
    paths = {photo.path for photo in found}
    is_one_file = len(found) == 1 and found[0].searched is None
    if output is not None and not output.is_dir() and output.suffix.lower() in WRITTEN:
        if not is_one_file:
            raise UsageError(f"{output}: expected a folder for the results, not the name of one image")
        if suffix or (extension and WRITTEN[extension] != WRITTEN[output.suffix.lower()]):
            raise UsageError(f"{output}: --suffix and --format cannot change the name of the one result")
        pairs = [(found[0].path, output)]
    elif output is not None and output.suffix and not output.exists() and is_one_file:
        raise UsageError(f"{output}: the suffix must be one of {' '.join(WRITTEN)}")
    else:
        resolve = functools.cache(Path.resolve)  # huge folders: a look at each folder, not at each file
        pairs = []
        for photo in found:
            place = (output or _own_place(photo, f"_{label}")) / photo.relative.parent
            is_beside = resolve(place) == resolve(photo.path.parent)
            ending = suffix if suffix is not None else f"_{label}" if is_beside else ""
            stem, own = photo.path.stem, photo.path.suffix
            kind = extension or output_format(photo_format(photo.path), own)[1]
            if kind != own and extension is None and photo.path.with_suffix(kind) in paths:
                stem = photo.path.name  # a.gif beside a.png, whose result has that name
            pairs.append((photo.path, place / f"{stem}{ending}{kind}"))
    jobs = _make_jobs(pairs, overwrite=overwrite)
    if all(job.problem for job in jobs):
        raise UsageError(f"{jobs[0].source}: {jobs[0].problem}")
    own = jobs if shard is None else [jobs[item] for item in shard.choose([guess_work(job) for job in jobs])]
    return Plan(tuple(own), tuple(jobs), listing.left_out(), n_strange == 0, overwrite)


def _leave_out_strange(listing: Listing) -> int:
    """Takes files that were given and are no photos out of a listing, unless no others are left."""
    unread = (None,) if has_heif() else (None, "HEIF")

    def is_strange(found: Found) -> bool:
        suffix = found.path.suffix.lower()
        return found.searched is None and not can_be_read(suffix) and photo_format(found.path) in unread

    marked = [(found, is_strange(found)) for found in listing.found]
    kept = [found for found, strange in marked if not strange]
    if not kept:
        return 0
    listing.found = kept
    listing.other.update(found.path.suffix.lower() for found, strange in marked if strange)
    return len(marked) - len(kept)


def _own_place(photo: Found, ending: str) -> Path:
    """Returns the folder for a photo's result where none was named."""
    folder = photo.searched
    if folder is None:
        return photo.path.parent
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(named.name + ending)


def _make_jobs(pairs: Sequence[tuple[Path, Path]], *, overwrite: bool) -> list[Job]:
    """Makes jobs of photos and the files that their results go to."""
    resolve_folder = functools.cache(Path.resolve)  # huge folders: a look at each file, not at its parents

    def resolve(path: Path) -> Path:
        try:
            return path.resolve() if path.is_symlink() else resolve_folder(path.parent) / path.name
        except (OSError, RuntimeError):  # a link to itself, which reading it will tell
            return path.absolute()

    resolved = {path: resolve(path) for pair in pairs for path in pair}
    sources = {resolved[source] for source, _ in pairs}
    claimed: dict[Path, Path] = {}
    jobs = []
    for source, target in pairs:
        first = claimed.setdefault(resolved[target], source)
        problem = None
        if resolved[target] in sources:
            problem = (
                f"its result {target} would replace a photo of the input; use --suffix or another folder"
            )
        elif first is not source:
            if resolved[first] == resolved[source]:
                continue
            problem = f"its result {target} is already that of {first}; use separate runs and folders"
        is_done = not overwrite and problem is None and target.is_file()
        jobs.append(Job(source, target, problem, is_done))
    return jobs


def guess_work(job: Job) -> int:
    """Returns about how much there is to do, by the file's size: that is known at once."""
    try:
        size = job.source.stat().st_size
    except OSError:  # it is gone, which reading it will tell
        size = 0
    return max(size, 1) * _COMPRESSION.get(SUFFIXES.get(job.source.suffix.lower(), ""), 1)
