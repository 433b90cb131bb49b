"""What the user sees while photos are upscaled: a progress bar on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tqdm import tqdm

from realsr_jax.images import ImageError, Photo


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
        # Time left is judged by file sizes: they are known at once and grow with the pixels.
        self._bytes = {job: float(job.source.stat().st_size or 1) for job in todo}
        self._shares = dict.fromkeys(todo, 0.0)
        self._results_megapixels: dict[Job, float] = {}
        self._bar = tqdm(
            total=sum(self._bytes.values()),
            disable=not sys.stderr.isatty(),
            bar_format="{percentage:3.0f}%|{bar}| {desc} [{elapsed}, {remaining} left]",
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
            self._say(f"{self._summary()} in {time.monotonic() - self._started:.1f} s{kept}{failed}")

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
        self._megapixels += advance * self._results_megapixels.get(job, 0.0)
        if not self._bar.disable:
            self._bar.set_description_str(self._summary(), refresh=False)
            self._bar.update(advance * self._bytes[job])

    def succeeded(self, job: Job) -> None:
        """Tells that a photo's result is written."""
        self._n_succeeded += 1
        self._say(f"{job.source} -> {job.target} ({self._sizes[job]})", is_routine=True)
        self.progressed(job, 1.0)

    def failed(self, job: Job, reason: str) -> None:
        """Tells in one line why a photo could not be upscaled."""
        self._n_failed += 1
        self.exit_status = 1
        line = " ".join(reason.split())
        self._complain(line if line.startswith(str(job.source)) else f"{job.source}: {line}")
        self.progressed(job, 1.0)

    @contextlib.contextmanager
    def failures_of(self, job: Job) -> Iterator[None]:
        """Turns what can go wrong with one photo into a line of the report."""
        try:
            yield
        except (ImageError, ValueError) as error:
            self.failed(job, str(error))
        except MemoryError:
            self.failed(job, "too large for this machine's memory")
        except RuntimeError as error:  # XLA's errors, whose first line says what happened
            reason = str(error).strip().splitlines()[0][:200]
            if "RESOURCE_EXHAUSTED" in reason or "out of memory" in reason.lower():
                reason = "the device's memory does not suffice; pass a smaller --tile_batch or --tile_size"
            self.failed(job, reason)

    def _summary(self) -> str:
        speed = self._megapixels / max(time.monotonic() - self._started, 1e-9)
        return f"{self._n_succeeded}/{self._n_jobs} photos, {speed:.2f} megapixels/s"

    def _say(self, line: str, *, is_routine: bool = False) -> None:
        """Prints to standard output; the bar, where there is one, replaces routine lines."""
        if is_routine and not self._bar.disable:
            return
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()

    def _complain(self, line: str) -> None:
        tqdm.write(f"realsr-upscale: {line}", file=sys.stderr)
