"""Scores pictures one after the other, printing a table as it goes."""

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from realsr_jax import evaluation
from realsr_jax.cli.command import UsageError, complain, say
from realsr_jax.cli.image_pairs import ImagePair
from realsr_jax.evaluation import Column, Evaluation, ImageResult, Scores, fit_hr, score
from realsr_jax.images import ImageError, Photo, read_photo
from realsr_jax.report_page import Pictures, ReportPage

Upscale = Callable[[Photo], Photo]
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
        page: collects the pictures for a report, or None.

    Returns:
        What was scored, and a line for each picture that was not.
    """
    results: list[ImageResult] = []
    problems: list[str] = []
    table = _Table(plan, [pair.name for pair in pairs])
    for pair in pairs:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="PIL")  # remarks on damaged metadata
                result, pictures = _score(pair, plan, upscale=upscale, interpolate=interpolate)
            if page is not None:
                page.add(pair.name, pictures)
        except BrokenPipeError:
            raise
        except Exception as error:  # XLA's errors among them
            problems.append(_explain(pair, error))
            complain("realsr-evaluate", problems[-1])
        else:
            results.append(result)
            table.print_row(pair.name, result.scores)
    done = dataclasses.replace(plan, results=tuple(results))
    for name, scores in done.means().items():
        table.print_row(_MEAN_NAMES[name], scores, sign="+" if name == "gain" else "")
    say(f"means of {done.mean_of()}" if results else "no image could be scored")
    return done, problems


def find_scale(pairs: Sequence[ImagePair]) -> int:
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
                f"{pair.sr} is {_size(sr)} and {pair.lr} {_size(lr)}, which is no whole scale; "
                "if others are right, pass --scale"
            )
        return scale
    raise UsageError("no pair of LR and SR images can be read, to tell the scale by; pass --scale")


class _Table:
    """Prints rows of figures under a line on the rules and a heading."""

    def __init__(self, plan: Evaluation, names: Sequence[str]):
        self._columns: tuple[Column, ...] = evaluation.columns(plan.protocol)
        self._width = max(map(len, ["image", *_MEAN_NAMES.values(), *names]))
        say(f"{plan.subject}: protocol {plan.protocol}, {plan.rules()}")
        say(
            "  ".join(
                [f"{'image':{self._width}}", *(f"{column.heading:>{_WIDTH}}" for column in self._columns)]
            )
        )

    def print_row(self, name: str, scores: Scores, sign: str = "") -> None:
        cells = (f"{column.text(scores, sign=sign):>{_WIDTH}}" for column in self._columns)
        say("  ".join([f"{name:{self._width}}", *cells]))


def _score(
    pair: ImagePair, plan: Evaluation, *, upscale: Upscale | None, interpolate: Upscale | None
) -> tuple[ImageResult, Pictures]:
    lr = None if pair.lr is None else _read(pair.lr)
    hr = _fitting_hr(pair, lr, plan.scale or 1)  # before the network's work would be in vain
    if pair.sr is not None:
        sr = _pixels(_read(pair.sr))
    else:
        assert upscale is not None and lr is not None
        sr = _pixels(upscale(lr))
    if sr.shape != hr.shape:
        raise ValueError(f"{pair.sr} is {_size(sr)}, expected {_size(hr)} at scale {plan.scale} of {pair.lr}")
    bicubic = None if interpolate is None or lr is None else _pixels(interpolate(lr))

    def compare(image: np.ndarray) -> Scores:
        return score(image, hr, scale=plan.scale or 1, protocol=plan.protocol, border=plan.border)

    result = ImageResult(pair.name, compare(sr), None if bicubic is None else compare(bicubic))
    return result, Pictures(sr, hr, bicubic)


def _fitting_hr(pair: ImagePair, lr: Photo | None, scale: int) -> np.ndarray:
    """Reads the HR image and crops it to what its LR image, or else its SR image, asks for."""
    hr = _pixels(_read(pair.hr))
    path = pair.lr or pair.sr
    assert path is not None
    height, width = (_read(path) if lr is None else lr).rgb.shape[:2]
    factor = 1 if lr is None else scale
    try:
        return fit_hr(hr, (height * factor, width * factor), scale=scale)
    except ValueError as error:
        raise ValueError(f"{path} is {width}x{height} and {pair.hr}: {error}") from error


def _read(path: Path) -> Photo:
    """Reads a photo without its transparency, which scores ignore."""
    return dataclasses.replace(read_photo(path), alpha=None)


def _pixels(photo: Photo) -> np.ndarray:
    """Returns the colours, uint8 [h, w, 3]."""
    return photo.rgb_8_bit()


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _explain(pair: ImagePair, error: Exception) -> str:
    """Says in one line what went wrong and with which files."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    if isinstance(error, MemoryError):
        reason = "too large for this machine's memory"
    elif "RESOURCE_EXHAUSTED" in reason:
        reason = (
            "the device's memory does not suffice; pass a smaller --tile_batch, --tile_size or --chop_size"
        )
    files = [str(path) for path in (pair.hr, pair.lr, pair.sr) if path is not None]
    return reason if reason.startswith(tuple(files)) else f"{files[0]} and {files[1]}: {reason}"
