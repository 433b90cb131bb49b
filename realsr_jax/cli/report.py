"""What the user sees while photos are upscaled: a progress bar on a terminal, plain lines elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from realsr_jax.cli.command import complain, say
from realsr_jax.images import SUFFIXES, ImageError, Photo

_COMPRESSION = {"JPEG": 8, "WEBP": 8}
"""How many times more pixels a byte of these formats holds, roughly."""


@dataclass(frozen=True)
class Job:
    """One photo to upscale.

    Attributes:
        source: the file to read.
        target: the file to write.
        format: of the result, by Pillow's name; None for the source's.
        problem: why it cannot be done, or None.
        is_done: whether the result exists and is to be kept.
    """

    source: Path
    target: Path
    format: str | None
    problem: str | None = None
    is_done: bool = False


class Report:
    """Tells how a list of jobs goes, as a context manager that closes with a summary.

    Attributes:
        exit_status: 0, or 1 once a job has failed.
    """

    exit_status = 0

    def __init__(self, jobs: Sequence[Job]):
        """Starts a report; jobs that are done already only count in the summary."""
        todo = [job for job in jobs if not job.is_done]
        self._n_kept = len(jobs) - len(todo)
        self._n_jobs = len(todo)
        self._n_failed = self._n_succeeded = 0
        self._megapixels = 0.0
        self._sizes: dict[Job, str] = {}
        self._started = time.monotonic()
        self._first_progress: tuple[float, float] | None = None
        # Work is judged by file sizes: they are known at once and grow with the pixels.
        self._work = {job: _guess_work(job.source) for job in todo}
        self._shares = dict.fromkeys(todo, 0.0)
        self._results_megapixels: dict[Job, float] = {}
        width = terminal_width()
        self._bar = tqdm(
            total=sum(self._work.values()) or 1,
            disable=width == 0,
            ncols=width,
            nrows=20,  # or tqdm shows nothing where a terminal does not tell its height
            miniters=0,
            desc=f"{self._summary()}, starting",
            bar_format="{percentage:3.0f}%|{bar}| {desc}",
            leave=False,
        )

    def __enter__(self) -> "Report":
        """Returns the report."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clears the bar and prints the summary."""
        self._bar.close()
        if kind is None:
            kept = f", {self._n_kept} existed already" if self._n_kept else ""
            failed = f", {self._n_failed} failed" if self._n_failed else ""
            seconds = f" in {time.monotonic() - self._started:.1f} s" if self._n_succeeded else ""
            self._say(f"{self._summary()}{seconds}{kept}{failed}")

    def started(self, job: Job, photo: Photo, scale: int) -> None:
        """Takes note of a photo's size, and warns of what is not upscaled."""
        height, width = photo.rgb.shape[:2]
        self._sizes[job] = f"{width}x{height} to {width * scale}x{height * scale}"
        self._results_megapixels[job] = height * width * scale**2 / 1e6
        if photo.n_frames > 1:
            self._complain(f"{job.source}: only the first of {photo.n_frames} frames or pages is upscaled")

    def progressed(self, job: Job, share: float) -> None:
        """Takes note that a share of a photo, 0..1, is upscaled."""
        advance = share - self._shares[job]
        self._shares[job] = share
        self._megapixels += advance * self._results_megapixels[job]
        self._advance_bar(advance * self._work[job])

    def succeeded(self, job: Job) -> None:
        """Tells that a photo's result is written."""
        self._n_succeeded += 1
        self._say(f"{job.source} -> {job.target} ({self._sizes[job]})", is_routine=True)
        self._advance_bar(0)

    def failed(self, job: Job, reason: str) -> None:
        """Tells in one line why a photo could not be upscaled."""
        self._n_failed += 1
        self.exit_status = 1
        self._complain(f"{job.source}: {' '.join(reason.removeprefix(f'{job.source}: ').split())}")
        self._megapixels -= self._shares[job] * self._results_megapixels.get(job, 0.0)
        if not self._bar.disable:
            self._bar.total -= (1 - self._shares[job]) * self._work[job]
        self._advance_bar(0)

    @contextlib.contextmanager
    def failures_of(self, job: Job) -> Iterator[None]:
        """Turns what can go wrong with one photo into a line of the report."""
        try:
            yield
        except (ImageError, ValueError) as error:
            self.failed(job, str(error))
        except MemoryError:
            self.failed(job, "too large for this machine's memory")
        except BrokenPipeError:
            raise
        except Exception as error:  # XLA's errors above all, whose first line says what happened
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            if "RESOURCE_EXHAUSTED" in reason or "out of memory" in reason.lower():
                smaller = "--tile_batch, --tile_size or --chop_size"
                reason = f"the device's memory does not suffice; pass a smaller {smaller}"
            self.failed(job, reason)

    def _summary(self) -> str:
        if self._n_jobs == 0:
            return "nothing to do"
        count = f"{self._n_succeeded} of {self._n_jobs} photos"
        if self._megapixels <= 0:
            return count
        return f"{count}, {self._megapixels / (time.monotonic() - self._started):.3g} megapixels/s"

    def _advance_bar(self, work: float) -> None:
        if self._bar.disable:
            return
        # Rounding must not lead past the end, nor failures to an end at nothing: tqdm objects to both.
        self._bar.total = max(self._bar.total, self._bar.n + work, 1)
        self._bar.set_description_str(
            f"{self._summary()}, {self._time_left(self._bar.n + work)}", refresh=False
        )
        self._bar.update(work)

    def _time_left(self, done: float) -> str:
        """Extrapolates since the first progress, before which networks were loaded and compiled."""
        now = time.monotonic()
        if self._first_progress is None and done > 0:
            self._first_progress = now, done
        if self._first_progress is None:
            return "starting"
        started, done_then = self._first_progress
        if done <= done_then:
            return "? left"
        seconds = (self._bar.total - done) / (done - done_then) * (now - started)
        return f"{tqdm.format_interval(seconds)} left"

    def _say(self, line: str, *, is_routine: bool = False) -> None:
        """Prints to standard output; where this is a terminal with a bar, the bar replaces routine lines."""
        if is_routine and not self._bar.disable and sys.stdout.isatty():
            return
        with tqdm.external_write_mode(sys.stdout):
            say(line)

    def _complain(self, line: str) -> None:
        with tqdm.external_write_mode(sys.stderr):
            complain("realsr-upscale", line)


def _guess_work(path: Path) -> float:
    try:
        size = path.stat().st_size
    except OSError:  # it is gone, which reading it will tell
        size = 0
    return max(size, 1) * _COMPRESSION.get(SUFFIXES.get(path.suffix.lower(), ""), 1)


def terminal_width() -> int:
    """Returns the columns of the terminal on standard error, 0 if there is none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 0
