"""Scores pictures one after the other, printing a table as it goes."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from realsr_jax.evaluate.image_pairs import ImagePair
from realsr_jax.evaluate.protocols import Evaluation, ImageResult, columns, fit_hr, score
from realsr_jax.evaluate.report_page import encode_pictures
from realsr_jax.images import ImageError, Photo, read_photo
from realsr_jax.images.photo import size_text
from realsr_jax.system.errors import UsageError, explain_failure
from realsr_jax.system.terminal import complain, say

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
    with_pictures: bool,
) -> tuple[Evaluation, list[str]]:
    """Scores pictures; a bad one is reported in one line and the others go on.

    Args:
        pairs: the pictures.
        plan: how they are scored; its results are still to come.
        upscale: makes SR of LR, or None if there are SR files.
        interpolate: makes the bicubic baseline of LR, or None if there are no LR files.
        with_pictures: whether the results hold what a report shows. What it cannot hold is scored all the
            same.

    Returns:
        What was scored, and a line for each picture that was not.
    """
    results: list[ImageResult] = []
    problems: list[str] = []
    shown = columns(plan.protocol)
    width = max(map(len, ["image", *_MEAN_NAMES.values(), *(pair.name for pair in pairs)]))
    say(f"{plan.subject}: protocol {plan.protocol}, {plan.rules()}")
    say(_row("image", [column.heading for column in shown], width))
    for pair in pairs:
        try:
            result, pictures = _score(pair, plan, upscale, interpolate)
        except Exception as error:  # XLA's errors among them
            problems.append(_explain(pair, error))
            complain(_NAME, problems[-1])
            continue
        say(_row(pair.name, [column.text(result.scores) for column in shown], width))
        if with_pictures:
            result = dataclasses.replace(result, pictures=_encode(pair, pictures, plan.border))
        results.append(result)
    done = dataclasses.replace(plan, results=results)
    for name, scores in done.means().items():
        sign = "+" if name == "gain" else ""
        say(_row(_MEAN_NAMES[name], [column.text(scores, sign=sign) for column in shown], width))
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


def _row(name: str, cells: Sequence[str], width: int) -> str:
    return "  ".join([f"{name:{width}}", *(f"{cell:>{_WIDTH}}" for cell in cells)])


def _score(
    pair: ImagePair, plan: Evaluation, upscale: Upscale | None, interpolate: Upscale | None
) -> tuple[ImageResult, dict[str, np.ndarray]]:
    """Scores a picture; returns its images too, by kind."""
    lr, hr, given = (None if path is None else _read(path) for path in (pair.lr, pair.hr, pair.sr))
    assert hr is not None
    scale = plan.scale or 1
    true = _fitting_hr(pair, hr, lr, given, scale)  # before the network's work would be in vain
    if given is None:
        assert upscale is not None and lr is not None
        given = upscale(lr)
    sr = given.rgb_8_bit()
    if sr.shape != true.shape:
        raise ValueError(
            f"{pair.sr} is {size_text(sr)}, expected {size_text(true)} at scale {plan.scale} of {pair.lr}"
        )
    images = {"sr": sr, "hr": true}
    if interpolate is not None and lr is not None:
        images = {"bicubic": interpolate(lr).rgb_8_bit(), **images}
    rules = {"scale": scale, "protocol": plan.protocol, "border": plan.border, "is_grey": hr.is_grey}
    scores = {kind: score(image, true, **rules) for kind, image in images.items() if kind != "hr"}
    return ImageResult(pair.name, scores["sr"], scores.get("bicubic")), images


def _fitting_hr(pair: ImagePair, hr: Photo, lr: Photo | None, sr: Photo | None, scale: int) -> np.ndarray:
    """Crops the HR image to what its LR image, or else its SR image, asks for."""
    path, other, factor = (pair.sr, sr, 1) if lr is None else (pair.lr, lr, scale)
    assert other is not None
    height, width = (side * factor for side in other.rgb.shape[:2])
    try:
        return fit_hr(hr.rgb_8_bit(), (height, width), scale=scale)
    except ValueError as error:
        raise ValueError(f"{path} is {size_text(other.rgb)} and {pair.hr}: {error}") from error


def _read(path: Path) -> Photo:
    """Reads a photo without its transparency, which scores ignore."""
    photo = read_photo(path)
    return dataclasses.replace(photo, samples=photo.samples[..., : 1 if photo.is_grey else 3])


def _encode(pair: ImagePair, images: dict[str, np.ndarray], border: int) -> dict[str, Any]:
    """Encodes images for the report; says so if they are too large for it."""
    try:
        return encode_pictures(images, border=border)
    except (ImageError, MemoryError) as error:
        reason = explain_failure(error).partition(";")[0]
        complain(_NAME, f"{pair.hr}: scored, but the report cannot show its pictures: {reason}")
        return {}


def _explain(pair: ImagePair, error: Exception) -> str:
    """Says in one line what went wrong and with which files."""
    reason = explain_failure(error)
    files = [str(path) for path in (pair.hr, pair.lr, pair.sr) if path is not None]
    return reason if reason.startswith(tuple(files)) else f"{files[0]} and {files[1]}: {reason}"
