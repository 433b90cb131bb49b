"""A list of photos to upscale: some are read and written while tiles of others are on the devices."""

import functools
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from realsr_jax import images
from realsr_jax.images import SUFFIXES, Photo
from realsr_jax.images.limits import check_memory
from realsr_jax.images.photo_jobs import Job, Plan
from realsr_jax.system.errors import explain_failure
from realsr_jax.system.files import check_output_folder
from realsr_jax.system.jax_startup import ended_by_interrupt, start_jax
from realsr_jax.system.memory import available_memory
from realsr_jax.system.processes import count_threads
from realsr_jax.system.terminal import complain
from realsr_jax.upscaling.inference_config import InferenceConfig
from realsr_jax.upscaling.job_report import JobReport
from realsr_jax.upscaling.output_size import OutputSize, count_between

if TYPE_CHECKING:
    from realsr_jax.upscaling.assembly import OnProgress

_NAME: Final = "realsr-upscale"

_COPIES: Final = 3
"""Result, transparency and encoder: how often a result is in memory."""

_SHOWN_COPIES: Final = 2
"""What is beside the result on a page, but for each network's: interpolation, and a picture's 8 bits."""

OnResult = Callable[[str, Photo, Photo, "OnProgress"], None]


def run_jobs(
    plan: Plan,
    config: InferenceConfig,
    *,
    size: OutputSize,
    tile_batch: int | None,
    quality: int,
    background: tuple[int, int, int] | None = None,
    on_result: OnResult | None = None,
) -> int:
    """Upscales photos; a bad one is reported in one line and the others go on.

    Args:
        plan: the photos.
        config: the networks.
        size: how large the results are.
        tile_batch: tiles that a device runs at once.
        quality: of formats that lose some.
        background: an RGB colour of 0..255 that transparent photos are laid on; None to keep transparency.
        on_result: called, in several threads, with each photo's name, the photo and its result once that is
            written, and what must be called with its progress; what it raises is told and changes nothing.

    Returns:
        0 if all photos were upscaled, else 1.

    Raises:
        UsageError: if a folder for the results cannot be made or written.
        ValueError: if the networks cannot be loaded.
    """
    todo = plan.todo
    for folder in dict.fromkeys(job.target.parent for job in todo):
        check_output_folder(str(folder), f"--output={folder}").mkdir(parents=True, exist_ok=True)
    report = JobReport(_NAME, plan)
    with report:
        for job in plan.jobs:
            if job.problem is not None:
                report.failed(job, job.problem)
        if todo:
            work = _Work(report, config, size, quality, background, on_result)
            load = functools.partial(_load, config, size, tile_batch, plan.listed)
            _work_off(todo, work, report, load)
    report.say_summary()
    return report.exit_status


_Upscale = Callable[..., Photo]
"""Maps a photo, its result's format and a function that is told the progress to the result."""


def _load(config: InferenceConfig, size: OutputSize, tile_batch: int | None, jobs: Sequence[Job]) -> _Upscale:
    # JAX starts here, after everything that can be wrong with the command line was checked.
    start_jax()
    from realsr_jax.upscaling import photo_upscaling

    # Those that are done already and those of other processes too, so that a run that goes on or is shared
    # cuts its photos as one without a break.
    photos = (job.source for job in jobs if job.problem is None)
    upscaler = photo_upscaling.load_inference(config, tile_batch=tile_batch, photos=photos, size=size)
    smoothing = photo_upscaling.make_smoothing(config)
    return functools.partial(photo_upscaling.upscale_photo, upscaler=upscaler, size=size, smoothing=smoothing)


class _Work:
    """What is done to each photo; threads share it and the memory.

    Attributes:
        upscale: what upscales, once it is loaded.
    """

    def __init__(
        self,
        report: JobReport,
        config: InferenceConfig,
        size: OutputSize,
        quality: int,
        background: tuple[int, int, int] | None,
        on_result: OnResult | None,
    ):
        """For the arguments see `run_jobs`."""
        self.upscale: Future[_Upscale] = Future()
        self._report = report
        self._factor = config.runs[0].scale
        self._size = size
        self._quality = quality
        self._background = background
        self._on_result = on_result
        self._copies = _COPIES + (0 if on_result is None else _SHOWN_COPIES + len(config.runs))
        self._memory = _MemoryShare(available_memory() // 3)

    def do(self, job: Job) -> None:
        """Upscales a photo; tells what went wrong: an error would keep the photo in memory."""
        try:
            with self._memory.taken(self._guess_bytes(job)) as change:
                photo = images.read_photo(job.source)
                if self._background is not None:
                    photo = photo.laid_on(self._background)
                height, width, n_channels = photo.samples.shape
                change(self._count_bytes(height, width, n_channels, photo.samples.itemsize))
                self._upscale(job, photo, self.upscale.result())
        except CancelledError:  # nothing could be loaded, which is told once
            pass
        except Exception as error:  # XLA's errors among them
            self._report.failed(job, explain_failure(error))

    def _upscale(self, job: Job, photo: Photo, upscale: _Upscale) -> None:
        size = self._size.of(photo.rgb.shape[0], photo.rgb.shape[1], self._factor)
        check_memory(size[1], size[0], photo.samples[0, 0].nbytes)
        self._report.started(job, photo, size)
        progress = functools.partial(self._report.progressed, job)
        progress(0.0)
        result = upscale(photo, format=job.format, progress=progress)
        images.write_photo(result, job.target, quality=self._quality)
        self._report.succeeded(job)
        if self._on_result is not None:
            try:
                self._on_result(str(job.source), photo, result, self._report.check_goes_on)
            except Exception as error:
                complain(_NAME, f"{job.source}: not in the report: {explain_failure(error)}")

    def _guess_bytes(self, job: Job) -> int:
        """Returns the bytes that a photo takes at most, or nearly, before it is decoded."""
        try:
            height, width = images.photo_size(job.source)
            is_jpeg = SUFFIXES.get(job.source.suffix.lower()) == "JPEG"
            return self._count_bytes(height, width, *((3, 1) if is_jpeg else (4, 2)))
        except Exception:  # as where a broken file announces no width; reading it will tell
            return 0

    def _count_bytes(self, height: int, width: int, n_channels: int, itemsize: int) -> int:
        """Returns the bytes of a photo, its result and what is between them."""
        size = self._size.of(height, width, self._factor)
        n_pixels = height * width + self._copies * math.prod(size)
        between = count_between((height, width), size, self._factor, n_channels=n_channels, itemsize=itemsize)
        return n_pixels * n_channels * itemsize + between


def _work_off(jobs: Sequence[Job], work: _Work, report: JobReport, load: Callable[[], _Upscale]) -> None:
    # One more than there are cores: while one photo's last tiles run, the next one's are in the queue.
    pool = ThreadPoolExecutor(count_threads() + 1)
    futures = [pool.submit(work.do, job) for job in jobs]
    try:
        with ended_by_interrupt(_NAME, report.interruption):
            upscale = load()
        work.upscale.set_result(upscale)  # photos are written from here on, which an interrupt waits for
        for future in futures:
            future.result()
    except BaseException as error:
        report.stop()
        work.upscale.cancel()
        if not isinstance(error, KeyboardInterrupt):
            raise
        if not all(future.done() for future in futures):
            complain(_NAME, "stopping as soon as what is being computed or written is done")
        pool.shutdown(cancel_futures=True)
        raise KeyboardInterrupt(report.interruption()) from None
    finally:
        pool.shutdown(cancel_futures=True)


class _MemoryShare:
    """Bytes that threads share; one that needs more than there are runs alone."""

    def __init__(self, size: int):
        self._size = size
        self._used = 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[Callable[[int], None]]:
        """Waits until there is room; what it gives changes the number of bytes, without waiting."""

        def change(new: int) -> None:
            nonlocal size
            with self._changed:
                self._used += new - size
                size = new
                self._changed.notify_all()

        with self._changed:
            self._changed.wait_for(lambda: not self._used or self._used + size <= self._size)
            self._used += size
        try:
            yield change
        finally:
            change(0)
