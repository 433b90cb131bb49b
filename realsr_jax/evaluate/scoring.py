"""Scores pictures one after the other, printing a table as it goes."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from realsr_jax.evaluate.image_pairs import ImagePair
from realsr_jax.evaluate.protocols import Evaluation, ImageResult, Scores, columns, fit_hr, score
from realsr_jax.evaluate.report_page import Pictures, ReportPage
from realsr_jax.images import ImageError, Photo, read_photo
from realsr_jax.images.sizes import size_text
from realsr_jax.system.errors import UsageError, explain_failure
from realsr_jax.system.terminal import complain, say, silent_pillow

Upscale = Callable[[Photo], Photo]
_NAME = "realsr-evaluate"
_MEAN_NAMES = {"mean": "mean", "bicubic": "bicubic mean", "gain": "gain"}
_WIDTH = 9  # of the longest heading


def score_pairs(
    pairs: Sequence[ImagePair],
    plan: Evaluation,
    *,
    upscale: Upscale | None,
    interpolate: Upscale | None,
    page: ReportPage | None,
) -> tuple[Evaluation, list[str]]:
    """Scores pictures; a bad one is reported in one line and the others go on.

    Args:
        pairs: the pictures.
        plan: how they are scored; its results are still to come.
        upscale: makes SR of LR, or None if there are SR files.
        interpolate: makes the bicubic baseline of LR, or None if there are no LR files.
        page: collects the pictures for a report, or None. What it cannot hold is scored all the same.

    Returns:
        What was scored, and a line for each picture that was not.
    """
    results: list[ImageResult] = []
    problems: list[str] = []
    table = _Table(plan, [pair.name for pair in pairs])
    for pair in pairs:
        try:
            with silent_pillow():
                result, pictures = _score(pair, plan, upscale=upscale, interpolate=interpolate)
        except BrokenPipeError:
            raise
        except Exception as error:  # XLA's errors among them
            problems.append(_explain(pair, error))
            complain(_NAME, problems[-1])
            continue
        results.append(result)
        table.print_row(pair.name, result.scores)
        if page is not None:
            _show(page, pair, result, pictures)
    done = dataclasses.replace(plan, results=tuple(results))
    for name, scores in done.means().items():
        table.print_row(_MEAN_NAMES[name], scores, sign="+" if name == "gain" else "")
    say(f"means of {done.mean_of()}" if results else "no image could be scored")
    return done, problems


def scale_of_results(pairs: Sequence[ImagePair]) -> int:
    """Returns the factor between the LR and the SR image of the first pair that can be read.

    Raises:
        UsageError: if it is not a whole number, or no pair can be read.
    """
    for pair in pairs:
        assert pair.lr is not None and pair.sr is not None
        try:
            lr, sr = read_photo(pair.lr).rgb, read_photo(pair.sr).rgb
        except ImageError:
            continue  # which scoring will report
        scale = sr.shape[0] // lr.shape[0]
        if sr.shape[:2] != (lr.shape[0] * scale, lr.shape[1] * scale):
            raise UsageError(
                f"{pair.sr} is {size_text(sr)} and {pair.lr} {size_text(lr)}, which is no whole scale; "
                "if others are right, pass --scale"
            )
        return scale
    raise UsageError("no pair of LR and SR images can be read, to tell the scale by; pass --scale")


class _Table:
    """Prints rows of figures under a line on the rules and a heading."""

    def __init__(self, plan: Evaluation, names: Sequence[str]):
        self._columns = columns(plan.protocol)
        self._width = max(map(len, ["image", *_MEAN_NAMES.values(), *names]))
        say(f"{plan.subject}: protocol {plan.protocol}, {plan.rules()}")
        self._print("image", [column.heading for column in self._columns])

    def print_row(self, name: str, scores: Scores, sign: str = "") -> None:
        self._print(name, [column.text(scores, sign=sign) for column in self._columns])

    def _print(self, name: str, cells: Sequence[str]) -> None:
        say("  ".join([f"{name:{self._width}}", *(f"{cell:>{_WIDTH}}" for cell in cells)]))


def _score(
    pair: ImagePair, plan: Evaluation, *, upscale: Upscale | None, interpolate: Upscale | None
) -> tuple[ImageResult, Pictures]:
    lr = None if pair.lr is None else _read(pair.lr)
    hr_photo = _read(pair.hr)
    hr = _fitting_hr(pair, hr_photo, lr, plan.scale or 1)  # before the network's work would be in vain
    if pair.sr is not None:
        sr = _read(pair.sr).rgb_8_bit()
    else:
        assert upscale is not None and lr is not None
        sr = upscale(lr).rgb_8_bit()
    if sr.shape != hr.shape:
        raise ValueError(
            f"{pair.sr} is {size_text(sr)}, expected {size_text(hr)} at scale {plan.scale} of {pair.lr}"
        )
    bicubic = None if interpolate is None or lr is None else interpolate(lr).rgb_8_bit()

    def compare(image: np.ndarray) -> Scores:
        rules = {"scale": plan.scale or 1, "protocol": plan.protocol, "border": plan.border}
        return score(image, hr, is_grey=hr_photo.is_grey, **rules)

    result = ImageResult(pair.name, compare(sr), None if bicubic is None else compare(bicubic))
    return result, Pictures(sr, hr, bicubic)


def _fitting_hr(pair: ImagePair, hr: Photo, lr: Photo | None, scale: int) -> np.ndarray:
    """Crops the HR image to what its LR image, or else its SR image, asks for."""
    path = pair.lr or pair.sr
    assert path is not None
    other = (_read(path) if lr is None else lr).rgb
    height, width = (side * (1 if lr is None else scale) for side in other.shape[:2])
    try:
        return fit_hr(hr.rgb_8_bit(), (height, width), scale=scale)
    except ValueError as error:
        raise ValueError(f"{path} is {size_text(other)} and {pair.hr}: {error}") from error


def _read(path: Path) -> Photo:
    """Reads a photo without its transparency, which scores ignore."""
    return dataclasses.replace(read_photo(path), alpha=None)


def _show(page: ReportPage, pair: ImagePair, result: ImageResult, pictures: Pictures) -> None:
    """Puts pictures on the page; says so if they are too large for it."""
    try:
        page.add(result, pictures)
    except (ImageError, MemoryError) as error:
        reason = explain_failure(error).partition(";")[0]
        complain(_NAME, f"{pair.hr}: scored, but the report cannot show its pictures: {reason}")


def _explain(pair: ImagePair, error: Exception) -> str:
    """Says in one line what went wrong and with which files."""
    reason = explain_failure(error)
    files = [str(path) for path in (pair.hr, pair.lr, pair.sr) if path is not None]
    return reason if reason.startswith(tuple(files)) else f"{files[0]} and {files[1]}: {reason}"
