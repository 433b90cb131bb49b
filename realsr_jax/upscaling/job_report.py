"""What the user sees while photos are upscaled: a progress bar on a terminal, lines with times elsewhere."""

import math
import os
import sys
import threading
import time
from dataclasses import dataclass
from time import monotonic
from typing import Final, Self

from realsr_jax.images import SUFFIXES, Photo
from realsr_jax.images.photo_jobs import Job, Plan, guess_work
from realsr_jax.system.terminal import complain, make_bar, say

_BAR: Final = "{percentage:3.0f}%|{bar}| {desc}"
_MOST_SILENCE: Final = 9.0  # seconds without a line where there is no terminal
_MEGAPIXEL: Final = 1e6
_SMALL: Final = _MEGAPIXEL / 2


@dataclass
class _Progress:
    """How far a photo is: its work, the fraction of it that is done, and what it becomes."""

    work: float
    done: float = 0.0
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)

    @property
    def is_reduced(self) -> bool:
        """Whether it becomes smaller, without a network."""
        return any(have > want for have, want in zip(self.before, self.after, strict=True))

    @property
    def sizes(self) -> str:
        """What it becomes, in words."""
        return f"{_size_text(self.before)} to {_size_text(self.after)}"


class JobReport:
    """Tells how a list of jobs goes, from the first photo to the summary; threads may share it.

    A context manager: inside, there is a bar, or a line at least every ten seconds.

    Attributes:
        exit_status: 0, or 1 once a job has failed or if a file that was named is left out.
    """

    def __init__(self, name: str, plan: Plan):
        """Makes a report of the command `name`; jobs that are done already only count in the summary."""
        self._name = name
        self._plan = plan
        self.exit_status = 0 if plan.is_whole else 1
        self._lock = threading.RLock()
        self._is_stopped = False
        self._ended = threading.Event()
        # Work is judged by file sizes: they are known at once and grow with the pixels.
        self._progress = {job: _Progress(guess_work(job)) for job in plan.jobs if not job.is_done}
        self._kept = [job.target for job in plan.jobs if job.is_done]
        self._written: list[Job] = []
        self._n_failed = 0
        self._current = ""
        self._total = sum(progress.work for progress in self._progress.values())
        self._done = 0.0
        self._begun: tuple[float, float] | None = None
        """When the first tiles were done, and how much: before, networks were compiled."""
        self._started = self._told = monotonic()
        self._bar = make_bar(self._total or 1, text=self._state(), bar_format=_BAR)
        self._pulse = threading.Thread(target=self._keep_telling, daemon=True)

    def __enter__(self) -> Self:
        """Starts to tell."""
        self._pulse.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the bar."""
        self._ended.set()
        self._pulse.join()
        self._bar.close()

    def say_summary(self) -> None:
        """Prints what has become of all jobs."""
        parts = [self._count() if self._progress else "nothing to do"]
        if self._written:
            done = [self._progress[job] for job in self._written]
            before, after = sum(math.prod(p.before) for p in done), sum(math.prod(p.after) for p in done)
            if before >= _SMALL:
                parts.append(f"{_pixels_text(before)} to {_pixels_text(after)}")
            n_reduced = sum(p.is_reduced for p in done)
            if n_reduced:
                parts.append(f"{n_reduced:,} reduced only, without a network")
            parts += [f"in {_duration(monotonic() - self._started)}", f"see {self._place()}"]
        if self._kept:
            is_one = len(self._kept) == 1
            what = f"{self._kept[0]} exists" if is_one else f"{len(self._kept):,} results exist"
            parts.append(f"{what} already (--overwrite replaces {'it' if is_one else 'them'})")
        if self._n_failed:
            parts.append(f"{self._n_failed} failed")
        say(", ".join(parts))
        if self._plan.left_out:
            say(f"left out: {self._plan.left_out}")

    def started(self, job: Job, photo: Photo, size: tuple[int, int]) -> None:
        """Takes note of a photo and its result's height and width, and warns of what is not upscaled."""
        progress = self._progress[job]
        progress.before, progress.after = photo.rgb.shape[:2], size
        self._current = progress.sizes
        named = SUFFIXES.get(job.source.suffix.lower(), photo.format)
        remarks = list(photo.remarks)
        if photo.format not in (named, "GIF"):
            remarks.append(f"is {photo.format} and not {named}; its result is {job.target}")
        for remark in remarks:
            complain(self._name, f"{job.source}: {remark}")

    def progressed(self, job: Job, done: float) -> None:
        """Takes note that a fraction of a photo, 0..1, is upscaled.

        Raises:
            KeyboardInterrupt: once the report is stopped.
        """
        self.check_goes_on()
        with self._lock:
            self._advance(job, done)
            self._show()

    def check_goes_on(self, *_: float) -> None:
        """Raises KeyboardInterrupt once the report is stopped."""
        if self._is_stopped:
            raise KeyboardInterrupt

    def stop(self) -> None:
        """Ends photos that are in work at their next progress; nothing is told any more by itself."""
        self._is_stopped = True

    def _advance(self, job: Job, done: float) -> None:
        progress = self._progress[job]
        advance, progress.done = (done - progress.done) * progress.work, done
        self._done += advance
        if advance and self._begun is None:
            self._begun = monotonic(), self._done

    def interruption(self) -> str:
        """Says what an interrupted user has, and how to go on."""
        goes_on = "" if self._plan.replaces else "; the same command goes on from here"
        return f"interrupted after {self._count()}{goes_on}"

    def succeeded(self, job: Job) -> None:
        """Tells that a photo's result is written; where standard output shows the bar, this tells enough."""
        with self._lock:
            self._advance(job, 1.0)
            self._written.append(job)
            if self._bar.disable or not sys.stdout.isatty():
                self._say(f"{job.source} -> {job.target}, {self._progress[job].sizes}, {self._state()}")
            self._show()

    def failed(self, job: Job, reason: str) -> None:
        """Tells in one line why a photo could not be upscaled."""
        with self._lock:
            self._n_failed += 1
            self.exit_status = 1
            complain(self._name, f"{job.source}: {reason.removeprefix(f'{job.source}: ')}")
            progress = self._progress[job]
            self._total -= (1 - progress.done) * progress.work
            self._show()

    def _keep_telling(self) -> None:
        """Keeps the bar alive and breaks long silence."""
        while not self._ended.wait(1):
            with self._lock:
                self._show()
                is_silent = monotonic() - self._told > _MOST_SILENCE
                if self._bar.disable and is_silent and not self._is_stopped:
                    part = f"{100 * self._done / max(self._total, 1):.0f} %, " if self._begun else ""
                    self._say(f"{part}{self._state()}")

    def _say(self, message: str) -> None:
        self._told = monotonic()
        say(f"{time.strftime('%H:%M:%S')} {message}")

    def _count(self) -> str:
        return f"{len(self._written):,} of {len(self._progress):,} photos"

    def _state(self) -> str:
        """Says how far everything is, in one line."""
        if self._begun is None:
            seconds = monotonic() - self._started
            waiting = f" ({_duration(seconds)}; the first run compiles the network)" if seconds >= 2 else ""
            return f"{self._count()}, starting{waiting}"
        since, before = self._begun
        left = ""
        if self._done > before:
            seconds = (self._total - self._done) * (monotonic() - since) / (self._done - before)
            left = f", {_duration(seconds)} left" if seconds >= 1 else ""
        return f"{self._count()}{left}"

    def _show(self) -> None:
        """Brings the bar up to date."""
        if self._bar.disable:
            return
        # Rounding must not lead past the end, nor failures to an end at nothing: tqdm objects to both.
        self._bar.total = max(self._total, self._done, 1)
        sizes = f", {self._current}" if self._current else ""
        self._bar.set_description_str(self._state() + sizes, refresh=False)
        self._bar.n = self._done
        self._bar.refresh()

    def _place(self) -> str:
        """Returns the file or folder in which the results are."""
        targets = [job.target for job in self._written]
        if len(targets) == 1:
            return str(targets[0])
        folders = [target.parent for target in targets]
        if len({folder.is_absolute() for folder in folders}) > 1:
            folders = [folder.absolute() for folder in folders]
        return f"{os.path.commonpath(folders) or '.'}/"


def _size_text(size: tuple[int, int]) -> str:
    """Returns a photo's size in megapixels, of a small one in pixels."""
    height, width = size
    return _pixels_text(height * width) if height * width >= _SMALL else f"{width}x{height}"


def _pixels_text(pixels: float) -> str:
    """Returns a number of pixels in megapixels, such as "1.2 MP"."""
    return f"{pixels / _MEGAPIXEL:,.{0 if pixels >= 10 * _MEGAPIXEL else 1}f} MP"


def _duration(seconds: float) -> str:
    """Returns a time in words, such as "4 min"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
