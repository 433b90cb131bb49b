"""A list of photos to upscale, worked off with reading, the network and writing side by side."""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from realsr_jax import images
from realsr_jax.images import Photo
from realsr_jax.images.photo_jobs import Job
from realsr_jax.system.files import check_output_folder
from realsr_jax.system.jax_startup import ended_by_interrupt, start_jax
from realsr_jax.system.processes import in_threads
from realsr_jax.system.terminal import silent_pillow
from realsr_jax.upscale.inference_config import InferenceConfig
from realsr_jax.upscale.job_report import JobReport

_NAME: Final = "realsr-upscale"
_READ_AHEAD: Final = 2


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
        check_output_folder(str(folder), f"--output={folder}").mkdir(parents=True, exist_ok=True)
    report = JobReport(_NAME, jobs)
    with silent_pillow(), report.bar:
        for job in jobs:
            if job.problem is not None:
                report.failed(job, job.problem)
        if todo:
            # JAX starts here, after everything that can be wrong with the command line was checked.
            with ended_by_interrupt(_NAME):
                start_jax()
                from realsr_jax.upscale.photo_upscaling import load_inference, make_smoothing, upscale_photo

                upscaler = load_inference(config, tile_batch=tile_batch)
            upscale = functools.partial(upscale_photo, upscaler=upscaler, smoothing=make_smoothing(config))
            _work_off(todo, report, upscale, scale=upscaler.scale, quality=quality)
    report.say_summary()
    return report.exit_status


def _work_off(
    jobs: Sequence[Job], report: JobReport, upscale: Callable[..., Photo], *, scale: int, quality: int
) -> None:
    writing: list[tuple[Job, Future[None]]] = []  # at most one, or results would fill the memory

    def finish_writing() -> None:
        while writing:
            job, written = writing.pop()
            with report.failures_of(job):
                written.result()
                report.succeeded(job)

    with ThreadPoolExecutor(1) as writer:
        for job, photo in in_threads(_read, jobs, _READ_AHEAD, ahead=_READ_AHEAD):
            with report.failures_of(job):
                if isinstance(photo, Exception):
                    raise photo
                report.started(job, photo, scale)
                progress = functools.partial(report.progressed, job)
                result = upscale(photo, format=job.format or photo.format, progress=progress)
                finish_writing()
                writing.append((job, writer.submit(images.write_photo, result, job.target, quality=quality)))
                del photo, result  # or the next photo would be upscaled beside them
        finish_writing()


def _read(job: Job) -> tuple[Job, Photo | Exception]:
    """Reads a photo, or returns what went wrong, which is reported in the order of the jobs."""
    try:
        return job, images.read_photo(job.source)
    except Exception as error:
        return job, error
