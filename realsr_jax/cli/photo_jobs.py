"""A list of photos to upscale, worked off with reading, the network and writing side by side."""

import collections
import contextlib
import functools
import itertools
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from realsr_jax import images
from realsr_jax.cli import command
from realsr_jax.cli.report import Job, Report
from realsr_jax.config import InferenceConfig
from realsr_jax.images import Found, Photo

if TYPE_CHECKING:
    from realsr_jax.inference import ImageUpscaler

_READ_AHEAD = 2
_WRITE_BEHIND = 1


def plan_jobs(
    inputs: Sequence[str],
    output: Path,
    *,
    recursive: bool,
    format: str | None,
    extension: str | None,
    suffix: str,
    skip_existing: bool,
) -> list[Job]:
    """Pairs every photo with the file that its result goes to.

    A result that would replace a photo of the input or another result is marked as a problem, not written.
    A file named twice is upscaled once. Results of an earlier run are not taken for photos: those in an
    output folder inside a searched one, and with `skip_existing` all.

    Args:
        inputs: files and folders.
        output: a folder, or a file if the input is one file and this has an image suffix.
        recursive: whether to search folders inside folders.
        format: Pillow's name of the results' format, or None to keep each photo's.
        extension: file name extension that goes with the format.
        suffix: added to the results' names.
        skip_existing: whether results that exist are kept.

    Raises:
        UsageError: if an input does not exist, the output cannot be what is asked of it, or no photo can be
            upscaled.
    """
    try:
        found = images.find_photos(inputs, recursive=recursive)
    except images.ImageError as error:
        raise command.UsageError(str(error)) from error
    if os.sep in suffix:
        raise command.UsageError(f"--suffix={suffix}: cannot contain {os.sep}")

    def target_of(photo: Found) -> Path:
        return output / photo.relative.with_name(
            photo.relative.stem + suffix + (extension or photo.relative.suffix)
        )

    if not output.is_dir() and output.suffix.lower() in images.SUFFIXES:
        if len(found) != 1 or Path(inputs[0]).is_dir():
            raise command.UsageError(
                f"{output}: expected a folder for the results, not the name of one image"
            )
        if suffix or format not in (None, images.format_of(output)):
            raise command.UsageError(
                f"{output}: --suffix and --format cannot change the name of the one result"
            )
        format = images.format_of(output)
        pairs = [(found[0], output)]
    elif output.exists() and not output.is_dir():
        raise command.UsageError(f"{output}: is no folder, and its suffix is none of an image format")
    elif output.suffix and not output.exists() and len(found) == 1 and not Path(inputs[0]).is_dir():
        raise command.UsageError(f"{output}: the suffix must be one of {' '.join(images.SUFFIXES)}")
    else:
        pairs = [(photo, target_of(photo)) for photo in _without_folder(found, output)]
    jobs = _make_jobs([(photo.path, target) for photo, target in pairs], format, skip_existing=skip_existing)
    if jobs and all(job.problem for job in jobs):
        raise command.UsageError(f"{jobs[0].source}: {jobs[0].problem}")
    return jobs


def _without_folder(found: Sequence[Found], output: Path) -> list[Found]:
    """Leaves out what was found in the output folder, where this is inside the folder that was searched."""
    output = output.resolve()

    @functools.cache
    def is_result(folder: Path, searched: Path) -> bool:
        return searched.resolve() in output.parents and folder.resolve().is_relative_to(output)

    return [
        photo
        for photo in found
        if not is_result(photo.path.parent, photo.path.parents[len(photo.relative.parts) - 1])
    ]


def _make_jobs(pairs: Sequence[tuple[Path, Path]], format: str | None, *, skip_existing: bool) -> list[Job]:
    """Makes jobs of photos and the files that their results go to."""
    resolve_folder = functools.cache(Path.resolve)  # huge folders: a look at each file, not at its parents

    def resolve(path: Path) -> Path:
        return path.resolve() if path.is_symlink() else resolve_folder(path.parent) / path.name

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
        target_format = format or images.SUFFIXES.get(target.suffix.lower())
        jobs.append(Job(source, target, target_format, problem, is_done))
    return jobs


def run_jobs(jobs: Sequence[Job], config: InferenceConfig, *, tile_batch: int | None, quality: int) -> int:
    """Upscales photos; a bad one is reported in one line and the others go on.

    Args:
        jobs: the photos.
        config: the networks.
        tile_batch: tiles that a device runs at once.
        quality: of JPEG and WebP.

    Returns:
        0 if all photos were upscaled, else 1.

    Raises:
        UsageError: if a folder for the results cannot be made or written.
        ValueError: if the networks cannot be loaded.
    """
    todo = [job for job in jobs if job.problem is None and not job.is_done]
    for folder in dict.fromkeys(job.target.parent for job in todo):
        _make_writable(folder)
    with silent_pillow(), Report(jobs) as report:
        for job in jobs:
            if job.problem is not None:
                report.failed(job, job.problem)
        if todo:
            # JAX starts here, after everything that can be wrong with the command line was checked.
            with command.ended_by_interrupt("realsr-upscale"):
                command.start_jax()
                from realsr_jax.inference import load_inference

                upscaler = load_inference(config, tile_batch=tile_batch)
            _work_off(todo, upscaler, report, guided_filter=config.guided_filter, quality=quality)
    return report.exit_status


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise command.UsageError(
            f"{folder}: the folder for the results cannot be made ({error.strerror}); use another --output"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise command.UsageError(f"{folder}: no permission to write there; use another --output")


@contextlib.contextmanager
def silent_pillow() -> Iterator[None]:
    """Keeps remarks on damaged metadata out of the report."""
    logger, handler = logging.getLogger("PIL"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            yield
    finally:
        logger.removeHandler(handler)


def _work_off(
    jobs: Sequence[Job], upscaler: "ImageUpscaler", report: Report, *, guided_filter: bool, quality: int
) -> None:
    from realsr_jax.inference import upscale_photo

    writing: collections.deque[tuple[Job, Future[None]]] = collections.deque()

    def finish_oldest() -> None:
        job, written = writing.popleft()
        with report.failures_of(job):
            written.result()
            report.succeeded(job)

    with ThreadPoolExecutor(_READ_AHEAD) as readers, ThreadPoolExecutor(_WRITE_BEHIND) as writers:
        for job, reading in _read_ahead(jobs, readers):
            with report.failures_of(job):
                photo = reading.result()
                report.started(job, photo, upscaler.scale)
                result = upscale_photo(
                    photo,
                    upscaler,
                    format=job.format or photo.format,
                    guided_filter=guided_filter,
                    progress=functools.partial(report.progressed, job),
                )
                del photo
                if len(writing) == _WRITE_BEHIND:
                    finish_oldest()
                written = writers.submit(images.write_photo, result, job.target, quality=quality)
                writing.append((job, written))
                del result
        while writing:
            finish_oldest()


def _read_ahead(jobs: Sequence[Job], readers: ThreadPoolExecutor) -> Iterator[tuple[Job, Future[Photo]]]:
    """Yields every job with its photo, a few of which are being read already."""
    waiting = iter(jobs)
    reading: collections.deque[tuple[Job, Future[Photo]]] = collections.deque()
    while True:
        for job in itertools.islice(waiting, _READ_AHEAD - len(reading)):
            reading.append((job, readers.submit(images.read_photo, job.source)))
        if not reading:
            return
        yield reading.popleft()
