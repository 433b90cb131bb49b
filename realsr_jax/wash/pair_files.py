"""Reading, measuring and correcting pairs on disk, as worker processes do."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from realsr_jax.images import ImageError, Metadata, Photo, read_photo, write_photo
from realsr_jax.images.photo import check_pair_sizes
from realsr_jax.system.errors import in_one_line
from realsr_jax.wash.align import align_pair
from realsr_jax.wash.contact_sheet import Detail, encode_entry
from realsr_jax.wash.figures import Figures
from realsr_jax.wash.journal import Record
from realsr_jax.wash.measure import Measured, hash_pixels, make_thumbnail, measure_pair
from realsr_jax.wash.opencv import cv2
from realsr_jax.wash.registration import Registration
from realsr_jax.wash.verdict import Limits, Verdict, judge

_SAMPLED: Final = 25
_SHOWN_SIDE: Final = 300
_SHOWN_SHIFTS: Final = 100
_DETAIL_SIDES: Final = (272, 400)  # rows and columns of HR
_BROAD: Final = 8.0
_SHOWN_FIGURES: Final = {
    "shift": "{f.shift_x:z.2f}, {f.shift_y:z.2f} LR px",
    "rotation": "{f.rotation:z.2f} degrees",
    "zoom": "{f.zoom:z.2f} %",
    "correlation": "{f.correlation:.3f}",
    "local shift": "{f.local_shift:.2f} LR px",
    "moving": "{f.moving:.1f} %",
    "differing": "{f.differing:.1f} %",
    "gain": "{f.gain_red:.3f}, {f.gain_green:.3f}, {f.gain_blue:.3f}",
    "tone curve": "{f.gamma:.3f}",
    "colour error": "{f.colour_error:.1f} levels",
    "sharpness": "{f.sharpness:.2f}",
    "detail": "{f.detail:.2f}",
    "saturated": "{f.saturated:.1f} %",
}


def commonest_scale(pairs: Sequence[Record]) -> int | None:
    """Returns the commonest whole ratio of HR's to LR's size among some of the pairs, or None."""
    ratios: Counter[int] = Counter()
    for pair in pairs[:: max(1, len(pairs) // _SAMPLED)]:
        try:
            lr, hr = _read(pair.lr), _read(pair.hr)
            ratio = round(hr.shape[0] / lr.shape[0])
            check_pair_sizes(lr, hr, ratio)
        except ImageError:
            continue
        ratios[ratio] += 1
    return ratios.most_common(1)[0][0] if ratios else None


def measure_files(pair: Record, scale: int) -> Record:
    """Reads and measures a pair; whatever is wrong with it becomes part of the record."""
    try:
        lr, hr = _read(pair.lr), _read(pair.hr)
    except ImageError as error:
        return replace(pair, fault="unreadable", problem=in_one_line(error))
    (lr_height, lr_width), (hr_height, hr_width) = lr.shape[:2], hr.shape[:2]
    pair = replace(pair, lr_width=lr_width, lr_height=lr_height, hr_width=hr_width, hr_height=hr_height)
    try:
        figures = measure_pair(lr, hr, scale).figures
    except ImageError as error:
        return replace(pair, fault="sizes", problem=str(error))
    except (cv2.error, ValueError, MemoryError) as error:
        problem = f"{pair.hr}: cannot be measured ({in_one_line(error)})"
        return replace(pair, fault="unreadable", problem=problem)
    return replace(
        pair,
        figures=figures,
        lr_hash=hash_pixels(lr),
        hr_hash=hash_pixels(hr),
        thumbnail=make_thumbnail(hr),
    )


def aligned_files(pair: Record, folder: Path) -> list[Path]:
    """Returns where LR and HR of a pair stand once they were corrected."""
    return [folder / side / f"{Path(pair.name).stem}.png" for side in ("LR", "HR")]


def align_files(pair: Record, scale: int, faults: frozenset[str], limits: Limits, folder: Path) -> str:
    """Corrects a pair and writes it as PNG into LR and HR of a folder, if that makes it clean.

    Args:
        pair: the files, which can be read.
        scale: HR's size over LR's.
        faults: what is wrong with it, see `Verdict.is_correctable`.
        limits: what is asked of the result.
        folder: where LR and HR stand.

    Returns:
        "" if it was written, else why not.

    Raises:
        ImageError: if it cannot be written.
    """
    lr, hr = _read(pair.lr), _read(pair.hr)
    measured = measure_pair(lr, hr, scale)
    aligned = align_pair(lr, hr, scale, measured, colours=bool(faults & {"gain", "ratio"}))
    if aligned is None:
        return f"{pair.name}: nothing is left to align"
    verdict = judge(measure_pair(*aligned, scale).figures, limits)
    if not verdict.is_clean:
        return f"{pair.name}: even aligned, {verdict.reason}"
    for target, image in zip(aligned_files(pair, folder), aligned, strict=True):
        write_photo(Photo(np.ascontiguousarray(image), Metadata(), "PNG"), target)
    return ""


def make_entry(pair: Record, scale: int, verdict: Verdict) -> dict[str, Any] | None:
    """Makes what the sheet shows of a pair; None if its files can no longer be read.

    Shown are both pictures, reduced, and pixel by pixel the part in which they differ most.

    Returns:
        What `encode_entry` returns, of some 110 kB at scale 2, 160 kB at scale 1.
    """
    try:
        lr, hr = _read(pair.lr), _read(pair.hr)
    except ImageError:
        return None
    height, width = hr.shape[:2]
    factor = _SHOWN_SIDE / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    # Of images whose sizes do not fit, nothing can be measured.
    measured = Measured(Figures(), None, None, None) if pair.fault else measure_pair(lr, hr, scale)
    figures = {} if pair.fault else _format_figures(measured.figures)
    pictures = {"lr": _shown(lr, size), "hr": _shown(hr, size)}
    pictures["difference"] = _show_difference(**pictures, difference=measured.difference)
    shifts = _show_shifts(measured.registration, (lr.shape[1], lr.shape[0]))
    details = _cut_details(lr, hr, scale)
    return encode_entry(pair.name, verdict, figures, lr.shape[:2], pictures, details, shifts)


def _format_figures(figures: Figures) -> dict[str, str]:
    texts = {label: text.format(f=figures) for label, text in _SHOWN_FIGURES.items()}
    return {label: "not measured" if "nan" in text else text for label, text in texts.items()}


def _read(path: str) -> np.ndarray:
    """Reads an image as uint8 [h, w, 3]."""
    return np.ascontiguousarray(read_photo(path).rgb_8_bit())


def _shown(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shrinks = size[0] < image.shape[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _cut_details(lr: np.ndarray, hr: np.ndarray, scale: int) -> dict[str, Detail]:
    """Cuts out the part in which LR and HR, as they lie, differ most."""
    size = np.array(lr.shape[:2])
    part = np.minimum(size, np.maximum(np.array(_DETAIL_SIDES) // scale, 1))
    start = _find_most_differing(lr, _shown(hr, (lr.shape[1], lr.shape[0])), part)
    details = {}
    for kind, image in (("lr", lr), ("hr", hr)):
        whole = np.array(image.shape[:2])
        (top, left), (bottom, right) = (  # of images whose sizes do not fit, no whole pixels
            turned(place * whole / size).astype(int)
            for turned, place in ((np.floor, start), (np.ceil, start + part))
        )
        height, width = whole
        box = left / width, top / height, (right - left) / width, (bottom - top) / height
        details[kind] = Detail(box, image[top:bottom, left:right])
    return details


def _find_most_differing(lr: np.ndarray, hr: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Returns row and column of the part, of so many of them, in which two images of a size differ most.

    Brightness and colour of large areas do not count: they differ everywhere.
    """
    greys = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (lr, hr))
    error = cv2.subtract(*greys, dtype=cv2.CV_32F)
    error -= cv2.GaussianBlur(error, (0, 0), _BROAD)
    sums = cv2.integral(error * error)
    rows, columns = part
    inside = sums[rows:, columns:] - sums[:-rows, columns:] - sums[rows:, :-columns] + sums[:-rows, :-columns]
    return np.array(np.unravel_index(np.argmax(inside), inside.shape))


def _show_difference(lr: np.ndarray, hr: np.ndarray, difference: np.ndarray | None) -> np.ndarray:
    """Marks in red where a pair differs, over its darkened picture; a difference at the limit is a third."""
    if difference is None:
        return cv2.absdiff(lr, hr)
    marked = cv2.cvtColor(cv2.cvtColor(lr, cv2.COLOR_RGB2GRAY) // 3, cv2.COLOR_GRAY2RGB)
    differing = cv2.resize(difference, lr.shape[1::-1], interpolation=cv2.INTER_AREA)
    marked[..., 0] = np.maximum(marked[..., 0], np.clip(85 * differing, 0, 255).astype(np.uint8))
    return marked


def _show_shifts(found: Registration | None, size: tuple[int, int]) -> np.ndarray:
    """Returns some of the local shifts, the global one included, as `encode_entry` takes them."""
    if found is None:
        return np.zeros((0, 5), np.float32)
    step = max(1, -(-len(found.shifts) // _SHOWN_SHIFTS))
    x, y = found.positions[::step].T
    global_x, global_y = found.similarity.at(x - (size[0] - 1) / 2, y - (size[1] - 1) / 2)
    dx, dy = found.shifts[::step].T
    columns = (x + 0.5) / size[0], (y + 0.5) / size[1], dx + global_x, dy + global_y, found.confidence[::step]
    return np.stack(columns, axis=1).astype(np.float32)
