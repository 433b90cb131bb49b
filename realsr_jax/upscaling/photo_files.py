"""A list of photos to upscale: some are read and written while tiles of others are on the devices."""

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from realsr_jax import images
from realsr_jax.images import Photo
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
from realsr_jax.upscaling.output_size import OutputSize

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
            load = functools.partial(_load, config, size, tile_batch, plan.listed)
            copies = _COPIES + (0 if on_result is None else _SHOWN_COPIES + len(config.runs))
            _work_off(todo, report, load, copies, quality, background, on_result)
    report.say_summary()
    return report.exit_status


class _Loaded(NamedTuple):
    """What upscales photos.

    Attributes:
        upscale: maps a photo, its result's format and a function that is told the progress to the result.
        result_size: maps height and width of a photo to those of its result.
        count_between: maps a photo and the size of its result to the bytes that stand between them.
    """

    upscale: Callable[..., Photo]
    result_size: Callable[[int, int], tuple[int, int]]
    count_between: Callable[[Photo, tuple[int, int]], int]


def _load(config: InferenceConfig, size: OutputSize, tile_batch: int | None, jobs: Sequence[Job]) -> _Loaded:
    # JAX starts here, after everything that can be wrong with the command line was checked.
    start_jax()
    from realsr_jax.upscaling import photo_upscaling

    # Those that are done already and those of other processes too, so that a run that goes on or is shared
    # cuts its photos as one without a break.
    photos = (job.source for job in jobs if job.problem is None)
    upscaler = photo_upscaling.load_inference(config, tile_batch=tile_batch, photos=photos, size=size)
    smoothing = photo_upscaling.make_smoothing(config)
    upscale = functools.partial(
        photo_upscaling.upscale_photo, upscaler=upscaler, size=size, smoothing=smoothing
    )
    return _Loaded(
        upscale,
        functools.partial(size.of, factor=upscaler.scale),
        functools.partial(photo_upscaling.count_between, factor=upscaler.scale),
    )


def _work_off(
    jobs: Sequence[Job],
    report: JobReport,
    load: Callable[[], _Loaded],
    copies: int,
    quality: int,
    background: tuple[int, int, int] | None,
    on_result: OnResult | None,
) -> None:
    loaded: Future[_Loaded] = Future()
    memory = _MemoryShare(available_memory() // 3)

    def run(job: Job) -> None:
        """Tells what went wrong: an error would keep the photo in memory."""
        try:
            photo = images.read_photo(job.source)
            if background is not None:
                photo = photo.laid_on(background)
            upscale, result_size, count_between = loaded.result()
            size = result_size(*photo.rgb.shape[:2])
            check_memory(size[1], size[0], photo.samples[0, 0].nbytes)
            report.started(job, photo, size)
            progress = functools.partial(report.progressed, job)
            n_bytes = copies * size[0] * size[1] * photo.samples[0, 0].nbytes
            with memory.taken(photo.samples.nbytes + n_bytes + count_between(photo, size)):
                progress(0.0)
                result = upscale(photo, format=job.format, progress=progress)
                if on_result is None:
                    photo = None
                images.write_photo(result, job.target, quality=quality)
                report.succeeded(job)
                if photo is not None and on_result is not None:
                    try:
                        on_result(str(job.source), photo, result, report.check_goes_on)
                    except Exception as error:
                        complain(_NAME, f"{job.source}: not in the report: {explain_failure(error)}")
        except CancelledError:  # nothing could be loaded, which is told once
            pass
        except Exception as error:  # XLA's errors among them
            report.failed(job, explain_failure(error))

    # One more than there are cores: while one photo's last tiles run, the next one's are in the queue.
    pool = ThreadPoolExecutor(count_threads() + 1)
    futures = [pool.submit(run, job) for job in jobs]
    try:
        with ended_by_interrupt(_NAME, report.interruption):
            loaded.set_result(load())
        for future in futures:
            future.result()
    except BaseException as error:
        report.stop()
        loaded.cancel()
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
