"""A list of photos to upscale: some are read and written while tiles of others are on the devices."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from realsr_jax import images
from realsr_jax.images import Photo
from realsr_jax.images.photo_jobs import Job, Plan
from realsr_jax.system.errors import explain_failure
from realsr_jax.system.files import check_output_folder
from realsr_jax.system.jax_startup import ended_by_interrupt, start_jax
from realsr_jax.system.memory import available_memory
from realsr_jax.system.processes import count_threads
from realsr_jax.system.terminal import silent_pillow
from realsr_jax.upscale.inference_config import InferenceConfig
from realsr_jax.upscale.job_report import JobReport

_NAME: Final = "realsr-upscale"

_COPIES: Final = 3
"""Result, transparency and encoder: how often a result is in memory."""


def run_jobs(
    plan: Plan,
    config: InferenceConfig,
    *,
    tile_batch: int | None,
    quality: int,
    background: tuple[int, int, int] | None = None,
) -> int:
    """Upscales photos; a bad one is reported in one line and the others go on.

    Args:
        plan: the photos.
        config: the networks.
        tile_batch: tiles that a device runs at once.
        quality: of formats that lose some.
        background: an RGB colour of 0..255 that transparent photos are laid on; None to keep transparency.

    Returns:
        0 if all photos were upscaled, else 1.

    Raises:
        UsageError: if a folder for the results cannot be made or written.
        ValueError: if the networks cannot be loaded.
    """
    todo = [job for job in plan.jobs if job.problem is None and not job.is_done]
    for folder in dict.fromkeys(job.target.parent for job in todo):
        check_output_folder(str(folder), f"--output={folder}").mkdir(parents=True, exist_ok=True)
    report = JobReport(_NAME, plan)
    with silent_pillow(), report:
        for job in plan.jobs:
            if job.problem is not None:
                report.failed(job, job.problem)
        if todo:
            load = functools.partial(_load, config, tile_batch, todo)
            _work_off(todo, report, load, quality=quality, background=background)
    report.say_summary()
    return report.exit_status


_Upscale = Callable[..., Photo]
"""Maps a photo, its result's format and a function that is told the progress to the result."""


def _load(config: InferenceConfig, tile_batch: int | None, jobs: Sequence[Job]) -> tuple[_Upscale, int]:
    """Returns what upscales photos, and its scale."""
    # JAX starts here, after everything that can be wrong with the command line was checked.
    start_jax()
    from realsr_jax.upscale import photo_upscaling

    photos = (job.source for job in jobs)
    upscaler = photo_upscaling.load_inference(config, tile_batch=tile_batch, photos=photos)
    smoothing = photo_upscaling.make_smoothing(config)
    upscale = functools.partial(photo_upscaling.upscale_photo, upscaler=upscaler, smoothing=smoothing)
    return upscale, upscaler.scale


def _work_off(
    jobs: Sequence[Job],
    report: JobReport,
    load: Callable[[], tuple[_Upscale, int]],
    *,
    quality: int,
    background: tuple[int, int, int] | None,
) -> None:
    loaded: Future[tuple[_Upscale, int]] = Future()
    memory = _MemoryShare(available_memory() // 3)

    def run(job: Job) -> str | None:
        """Returns what went wrong, in words: an error would keep the photo in memory."""
        try:
            photo = images.read_photo(job.source)
            if background is not None:
                photo = photo.laid_on(background)
            upscale, scale = loaded.result()
            report.started(job, photo, scale)
            progress = functools.partial(report.progressed, job)
            with memory.taken(photo.samples.nbytes * scale**2 * _COPIES):
                progress(0.0)
                result = upscale(photo, format=job.format, progress=progress)
                del photo
                images.write_photo(result, job.target, quality=quality)
        except Exception as error:  # XLA's errors among them
            return explain_failure(error)
        return None

    # One more than there are cores: while one photo's last tiles run, the next one's are in the queue.
    pool = ThreadPoolExecutor(count_threads() + 1)
    written = [pool.submit(run, job) for job in jobs]
    try:
        with ended_by_interrupt(_NAME, report.interruption):
            loaded.set_result(load())
        for job, future in zip(jobs, written, strict=True):
            reason = future.result()
            if reason is None:
                report.succeeded(job)
            else:
                report.failed(job, reason)
    except BaseException as error:
        report.stop()
        loaded.cancel()
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(report.interruption()) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _MemoryShare:
    """Bytes that threads share; one that needs more than there are runs alone."""

    def __init__(self, size: int):
        self._size = size
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Waits until there is room."""
        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._size)
            self._used += size
        try:
            yield
        finally:
            with self._changed:
                self._used -= size
                self._changed.notify_all()
