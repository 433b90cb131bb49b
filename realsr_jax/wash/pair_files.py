"""Reading, measuring and correcting pairs in worker processes."""

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from realsr_jax.images import ImageError, Metadata, Photo, read_photo, write_photo
from realsr_jax.wash.align import align_pair
from realsr_jax.wash.journal import Pair, Record
from realsr_jax.wash.measure import Measured, check_sizes, measure_pair
from realsr_jax.wash.opencv import cv2
from realsr_jax.wash.contact_sheet import Entry
from realsr_jax.wash.verdict import CORRECTABLE, Limits, Verdict, judge

_SAMPLED: Final = 25
_SHOWN_SIDE: Final = 360
_SHOWN_SHIFTS: Final = 300
_SHOWN_FIGURES: Final = {
    "shift": "{f.shift_x:.2f}, {f.shift_y:.2f} px",
    "rotation": "{f.rotation:.2f} degrees",
    "zoom": "{f.zoom:.2f} %",
    "correlation": "{f.correlation:.3f}",
    "local shift": "{f.local_shift:.2f} px",
    "moving": "{f.moving:.1f} %",
    "differing": "{f.differing:.1f} %",
    "gain": "{f.gain_red:.3f}, {f.gain_green:.3f}, {f.gain_blue:.3f}",
    "tone curve": "{f.gamma:.3f}",
    "colour error": "{f.colour_error:.1f} levels",
    "sharpness": "{f.sharpness:.2f}",
    "detail": "{f.detail:.2f}",
    "saturated": "{f.saturated:.1f} %",
}

_Result = TypeVar("_Result")


def run_all(
    task: Callable[..., _Result], arguments: Sequence[tuple[Any, ...]], *, workers: int
) -> Iterator[_Result]:
    """Calls a function with each of many arguments in processes.

    Args:
        task: a function of a module.
        arguments: its positional arguments, call by call.
        workers: how many processes.

    Yields:
        The results, in the order in which they come in.

    Raises:
        RuntimeError: if a process dies or has too little memory.
    """
    # A process for each core has no use for a library's threads.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    # Forking is no choice beside the threads of whatever this process has imported.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max(1, min(workers, len(arguments))), context, _start_worker)
    waiting, running = iter(arguments), set[Future[_Result]]()
    try:
        for values in waiting:
            running.add(pool.submit(task, *values))
            if len(running) >= 2 * workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)
    except (BrokenProcessPool, MemoryError) as error:
        raise RuntimeError(
            "a worker process ended, probably for lack of memory; run the same command with fewer --workers, "
            "it goes on where it stopped"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leaves Ctrl-C to the process that started this one, and ends with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)  # else workers of a killed process would wait for work for ever


def find_scale(pairs: Sequence[Pair]) -> int | None:
    """Returns the commonest whole ratio of HR's to LR's size among some of the pairs, or None."""
    ratios: Counter[int] = Counter()
    step = max(1, len(pairs) // _SAMPLED)
    for pair in pairs[::step]:
        try:
            lr, hr = _read(pair.lr), _read(pair.hr)
        except ImageError:
            continue
        ratio = round(hr.shape[0] / lr.shape[0])
        if hr.shape[:2] == (lr.shape[0] * ratio, lr.shape[1] * ratio):
            ratios[ratio] += 1
    return ratios.most_common(1)[0][0] if ratios else None


def measure_files(pair: Pair, scale: int) -> Record:
    """Reads and measures a pair; whatever is wrong with it becomes part of the record."""
    known: dict[str, Any] = {"name": pair.name, "lr": str(pair.lr), "hr": str(pair.hr)}
    try:
        lr, hr = _read(pair.lr), _read(pair.hr)
    except ImageError as error:
        return Record(**known, fault="unreadable", problem=_in_a_line(error))
    known |= {"lr_size": lr.shape[1::-1], "hr_size": hr.shape[1::-1]}
    try:
        check_sizes(lr, hr, scale)
    except ValueError as error:
        return Record(**known, fault="sizes", problem=str(error))
    try:
        measured = measure_pair(lr, hr, scale)
    except (cv2.error, ValueError, MemoryError) as error:
        return Record(
            **known, fault="unreadable", problem=f"{pair.hr}: cannot be measured ({_in_a_line(error)})"
        )
    thumbnail = np.clip(np.rint(measured.thumbnail), 0, 255).astype(np.uint8).tobytes()
    return Record(
        **known,
        figures=measured.figures,
        lr_hash=measured.lr_hash,
        hr_hash=measured.hr_hash,
        thumbnail=thumbnail,
    )


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def align_files(pair: Pair, scale: int, faults: frozenset[str], limits: Limits, folder: Path) -> str:
    """Corrects a pair and writes it as PNG into LR and HR of a folder, if that makes it clean.

    Args:
        pair: the files, which can be read.
        scale: HR's size over LR's.
        faults: what is wrong with it, of `CORRECTABLE`.
        limits: what is asked of the result.
        folder: where LR and HR stand.

    Returns:
        "" if it was written, else why not.

    Raises:
        ImageError: if it cannot be written.
    """
    assert faults <= CORRECTABLE
    targets = [folder / side / f"{Path(pair.name).stem}.png" for side in ("LR", "HR")]
    for target in targets:  # an earlier result, which may not hold any more
        target.unlink(missing_ok=True)
    lr, hr = _read(pair.lr), _read(pair.hr)
    measured = measure_pair(lr, hr, scale)
    aligned = align_pair(lr, hr, scale, measured, colours=bool(faults & {"gain", "ratio"}))
    if aligned is None:
        return f"{pair.name}: nothing is left to align"
    verdict = judge(measure_pair(*aligned, scale).figures, limits)
    if not verdict.is_clean:
        return f"{pair.name}: even aligned, {verdict.reason}"
    for target, image in zip(targets, aligned, strict=True):
        write_photo(Photo(np.ascontiguousarray(image), None, False, Metadata(), "PNG"), target)
    return ""


def make_entry(pair: Pair, scale: int, verdict: Verdict) -> Entry | None:
    """Makes what the sheet shows of a pair, or None if its files can no longer be read."""
    try:
        lr, hr = _read(pair.lr), _read(pair.hr)
    except ImageError:
        return None
    height, width = hr.shape[:2]
    factor = _SHOWN_SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    measured = (
        measure_pair(lr, hr, scale) if hr.shape[:2] == (lr.shape[0] * scale, lr.shape[1] * scale) else None
    )
    lr_shown, hr_shown = (_shown(image, size) for image in (lr, hr))
    return Entry(
        name=pair.name,
        is_clean=verdict.is_clean,
        reason="" if verdict.is_clean else verdict.reason,
        severity=verdict.severity,
        figures={} if measured is None else _show_figures(measured),
        lr=lr_shown,
        hr=hr_shown,
        difference=_show_difference(lr_shown, hr_shown, measured),
        shifts=_show_shifts(measured, (lr.shape[1], lr.shape[0])),
    )


def _read(path: Path) -> np.ndarray:
    """Reads an image as uint8 [h, w, 3]."""
    return np.ascontiguousarray(read_photo(path).rgb_8_bit())


def _shown(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shrinks = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _show_figures(measured: Measured) -> dict[str, str]:
    return {label: text.format(f=measured.figures) for label, text in _SHOWN_FIGURES.items()}


def _show_difference(lr: np.ndarray, hr: np.ndarray, measured: Measured | None) -> np.ndarray:
    """Marks in red where a pair differs, over its darkened picture; a difference at the limit is a third."""
    if measured is None or measured.difference is None:
        return cv2.absdiff(lr, hr)
    marked = cv2.cvtColor(cv2.cvtColor(lr, cv2.COLOR_RGB2GRAY) // 3, cv2.COLOR_GRAY2RGB)
    differing = cv2.resize(measured.difference, lr.shape[1::-1], interpolation=cv2.INTER_AREA)
    marked[..., 0] = np.maximum(marked[..., 0], np.clip(85 * differing, 0, 255).astype(np.uint8))
    return marked


def _show_shifts(measured: Measured | None, size: tuple[int, int]) -> np.ndarray:
    """Returns some of the local shifts, the global one included, as `Entry.shifts` has them."""
    if measured is None or measured.registration is None:
        return np.zeros((0, 5), np.float32)
    found = measured.registration
    step = max(1, -(-len(found.shifts) // _SHOWN_SHIFTS))
    x, y = found.positions[::step].T
    global_x, global_y = found.similarity.at(x - (size[0] - 1) / 2, y - (size[1] - 1) / 2)
    dx, dy = found.shifts[::step].T
    columns = (x + 0.5) / size[0], (y + 0.5) / size[1], dx + global_x, dy + global_y, found.confidence[::step]
    return np.stack(columns, axis=1).astype(np.float32)
