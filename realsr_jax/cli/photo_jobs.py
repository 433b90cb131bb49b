"""A list of photos to upscale, worked off with reading, the network and writing side by side."""

import collections
import functools
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from realsr_jax import images
from realsr_jax.cli import command
from realsr_jax.cli.report import Job, Report
from realsr_jax.config import InferenceConfig
from realsr_jax.images import Photo

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

    Args:
        inputs: files and folders.
        output: a folder, or a file if the input is one file and this has an image suffix.
        recursive: whether to search folders inside folders.
        format: Pillow's name of the results' format, or None to keep each photo's.
        extension: file name extension that goes with the format.
        suffix: added to the results' names.
        skip_existing: whether results that exist are kept.

    Raises:
        UsageError: if an input does not exist, or the output cannot be what is asked of it.
    """
    try:
        found = images.find_photos(inputs, recursive=recursive)
    except images.ImageError as error:
        raise command.UsageError(str(error)) from error
    to_file = not output.is_dir() and output.suffix.lower() in images.SUFFIXES
    if to_file and (len(found) != 1 or Path(inputs[0]).is_dir()):
        raise command.UsageError(f"{output}: expected a folder for the results, not the name of one image")
    if not to_file and output.exists() and not output.is_dir():
        raise command.UsageError(f"{output}: is no folder, and its suffix is none of an image format")

    sources = {photo.path.resolve() for photo in found}
    claimed: dict[Path, Path] = {}
    jobs = []
    for photo in found:
        if to_file:
            target, target_format = output, format or images.format_of(output)
        else:
            name = photo.relative.stem + suffix + (extension or photo.relative.suffix)
            target, target_format = output / photo.relative.with_name(name), format
        problem = None
        if target.resolve() in sources:
            problem = (
                f"its result {target} would replace a photo of the input; use --suffix or another folder"
            )
        elif target in claimed:
            problem = f"its result {target} is already that of {claimed[target]}; use separate runs"
        claimed.setdefault(target, photo.path)
        is_done = skip_existing and problem is None and target.is_file()
        jobs.append(Job(photo.path, target, target_format, problem, is_done))
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
        ValueError: if the networks cannot be loaded.
        OSError: if a folder for the results cannot be made.
    """
    with Report(jobs) as report:
        todo = [job for job in jobs if job.problem is None and not job.is_done]
        for job in jobs:
            if job.problem is not None:
                report.failed(job, job.problem)
        for folder in {job.target.parent for job in todo}:
            folder.mkdir(parents=True, exist_ok=True)
        if todo:
            # JAX starts here, after everything that can be wrong with the command line was checked.
            command.enable_compilation_cache()
            from realsr_jax.inference import load_inference

            upscaler = load_inference(config, tile_batch=tile_batch)
            _work_off(todo, upscaler, report, guided_filter=config.guided_filter, quality=quality)
    return report.exit_status


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
