"""Which file the result of each photo goes to, so that nothing is overwritten that should not be."""

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from realsr_jax.images.photo import ImageError
from realsr_jax.images.photo_listing import SUFFIXES, find_photos
from realsr_jax.system.errors import UsageError


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
    def format(self) -> str | None:
        """The result's format, by Pillow's name; None for the photo's."""
        return SUFFIXES.get(self.target.suffix.lower())


def plan_jobs(
    inputs: Sequence[str],
    output: Path,
    *,
    recursive: bool = False,
    extension: str | None = None,
    suffix: str = "",
    skip_existing: bool = False,
) -> list[Job]:
    """Pairs every photo with the file that its result goes to.

    A result that would replace a photo of the input or another result is marked as a problem, not written.
    A file named twice is read once. Results of an earlier run are not taken for photos: those in an output
    folder inside a searched one, and with `skip_existing` all.

    Args:
        inputs: files and folders.
        output: a folder, or a file if the input is one file and this has an image suffix.
        recursive: whether to search folders inside folders.
        extension: of the results' names, one of `SUFFIXES`, or None to keep each photo's.
        suffix: added to the results' names.
        skip_existing: whether results that exist are kept.

    Raises:
        UsageError: if an input does not exist, the output cannot be what is asked of it, or no photo can be
            read and written.
    """
    try:
        found = find_photos(inputs, recursive=recursive, without=output)
    except ImageError as error:
        raise UsageError(str(error)) from error
    if os.sep in suffix:
        raise UsageError(f"--suffix={suffix}: cannot contain {os.sep}")
    is_one_file = len(found) == 1 and not Path(inputs[0]).is_dir()
    if not output.is_dir() and output.suffix.lower() in SUFFIXES:
        if not is_one_file:
            raise UsageError(f"{output}: expected a folder for the results, not the name of one image")
        if suffix or (extension and SUFFIXES[extension] != SUFFIXES[output.suffix.lower()]):
            raise UsageError(f"{output}: --suffix and --format cannot change the name of the one result")
        pairs = [(found[0].path, output)]
    elif output.suffix and not output.exists() and is_one_file:
        raise UsageError(f"{output}: the suffix must be one of {' '.join(SUFFIXES)}")
    else:
        pairs = [
            (photo.path, output / name.with_name(name.stem + suffix + (extension or name.suffix)))
            for photo in found
            for name in [photo.relative]
        ]
    jobs = _make_jobs(pairs, skip_existing=skip_existing)
    if jobs and all(job.problem for job in jobs):
        raise UsageError(f"{jobs[0].source}: {jobs[0].problem}")
    return jobs


def _make_jobs(pairs: Sequence[tuple[Path, Path]], *, skip_existing: bool) -> list[Job]:
    """Makes jobs of photos and the files that their results go to."""
    resolve_folder = functools.cache(Path.resolve)  # huge folders: a look at each file, not at its parents

    def resolve(path: Path) -> Path:
        try:
            return path.resolve() if path.is_symlink() else resolve_folder(path.parent) / path.name
        except (OSError, RuntimeError):  # a link to itself, which reading it will tell
            return path.absolute()

    resolved = {path: resolve(path) for pair in pairs for path in pair}
    if skip_existing:
        results = {resolved[target] for source, target in pairs if resolved[source] != resolved[target]}
        pairs = [(source, target) for source, target in pairs if resolved[source] not in results]
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
        is_done = skip_existing and problem is None and target.is_file()
        jobs.append(Job(source, target, problem, is_done))
    return jobs
