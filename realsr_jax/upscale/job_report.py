"""What the user sees while photos are upscaled: a progress bar on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from realsr_jax.images import SUFFIXES, Photo
from realsr_jax.images.photo_jobs import Job, Plan
from realsr_jax.system.terminal import complain, make_bar, say

_COMPRESSION: Final = {"JPEG": 8, "WEBP": 8}
"""How many times more pixels a byte of these formats holds, roughly."""

_BAR: Final = "{percentage:3.0f}%|{bar}| {desc}, "


@dataclass
class _Progress:
    """How far a photo is: its work, the fraction of it that is done, and what it becomes."""

    work: float
    done: float = 0.0
    megapixels: float = 0.0
    sizes: str = ""


class JobReport:
    """Tells how a list of jobs goes, from the first photo to the summary; threads may share it.

    Attributes:
        bar: the progress bar, a context manager that clears it.
        exit_status: 0, or 1 once a job has failed or if a file that was named is left out.
    """

    def __init__(self, name: str, plan: Plan):
        """Starts a report of the command `name`; jobs that are done already only count in the summary."""
        self._name = name
        self._left_out = plan.left_out
        self.exit_status = 0 if plan.is_whole else 1
        jobs = plan.jobs
        self._lock = threading.RLock()
        self._is_stopped = False
        # Work is judged by file sizes: they are known at once and grow with the pixels.
        self._progress = {job: _Progress(_guess_work(job.source)) for job in jobs if not job.is_done}
        self._kept = [job.target for job in jobs if job.is_done]
        self._n_failed = self._n_succeeded = 0
        self._megapixels = 0.0
        self._started = time.monotonic()
        total = sum(progress.work for progress in self._progress.values())
        self.bar = make_bar(total or 1, text=self._summary(), bar_format=f"{_BAR}starting")

    def say_summary(self) -> None:
        """Prints what has become of all jobs."""
        kept = ""
        if self._kept:
            is_one = len(self._kept) == 1
            what = f"{self._kept[0]} exists" if is_one else f"{len(self._kept):,} results exist"
            kept = f", {what} already (--overwrite replaces {'it' if is_one else 'them'})"
        failed = f", {self._n_failed} failed" if self._n_failed else ""
        seconds = f" in {time.monotonic() - self._started:.1f} s" if self._n_succeeded else ""
        say(f"{self._summary()}{seconds}{kept}{failed}")
        if self._left_out:
            say(f"left out: {self._left_out}")

    def started(self, job: Job, photo: Photo, scale: int) -> None:
        """Takes note of a photo's size, and warns of what is not upscaled."""
        height, width = photo.rgb.shape[:2]
        progress = self._progress[job]
        progress.sizes = f"{width}x{height} to {width * scale}x{height * scale}"
        progress.megapixels = height * width * scale**2 / 1e6
        named = SUFFIXES.get(job.source.suffix.lower(), photo.format)
        if named != photo.format:
            is_other = f"is {photo.format} and not {named}"
            complain(self._name, f"{job.source}: {is_other}; its result is {job.target}")
        for remark in photo.remarks:
            complain(self._name, f"{job.source}: {remark}")

    def progressed(self, job: Job, done: float) -> None:
        """Takes note that a fraction of a photo, 0..1, is upscaled.

        Raises:
            KeyboardInterrupt: once the report is stopped.
        """
        if self._is_stopped:
            raise KeyboardInterrupt
        with self._lock:
            progress = self._progress[job]
            advance, progress.done = done - progress.done, done
            self._megapixels += advance * progress.megapixels
            self._advance_bar(advance * progress.work)

    def stop(self) -> None:
        """Ends photos that are in work at their next progress."""
        self._is_stopped = True

    def succeeded(self, job: Job) -> None:
        """Tells that a photo's result is written; where standard output shows the bar, this tells enough."""
        with self._lock:
            self._n_succeeded += 1
            if self.bar.disable or not sys.stdout.isatty():
                say(f"{job.source} -> {job.target} ({self._progress[job].sizes})")
            self._advance_bar(0)

    def failed(self, job: Job, reason: str) -> None:
        """Tells in one line why a photo could not be upscaled."""
        with self._lock:
            self._n_failed += 1
            self.exit_status = 1
            complain(self._name, f"{job.source}: {reason.removeprefix(f'{job.source}: ')}")
            progress = self._progress[job]
            self._megapixels -= progress.done * progress.megapixels
            self._advance_bar(0, lost=(1 - progress.done) * progress.work)

    def _summary(self) -> str:
        if not self._progress:
            return "nothing to do"
        count = f"{self._n_succeeded} of {len(self._progress)} photos"
        if self._megapixels <= 0:
            return count
        return f"{count}, {self._megapixels / (time.monotonic() - self._started):.3g} megapixels/s"

    def _advance_bar(self, work: float, *, lost: float = 0) -> None:
        bar = self.bar
        if bar.disable:
            return
        # Rounding must not lead past the end, nor failures to an end at nothing: tqdm objects to both.
        bar.total = max(bar.total - lost, bar.n + work, 1)
        bar.set_description_str(self._summary(), refresh=False)
        bar.update(work)
        if work and bar.smoothing:
            # From now on the time left follows from the mean speed; before, networks were compiled.
            bar.smoothing, bar.initial, bar.start_t = 0, bar.n, time.time()
            bar.bar_format = f"{_BAR}{{remaining}} left"


def _guess_work(path: Path) -> float:
    try:
        size = path.stat().st_size
    except OSError:  # it is gone, which reading it will tell
        size = 0
    return max(size, 1) * _COMPRESSION.get(SUFFIXES.get(path.suffix.lower(), ""), 1)
