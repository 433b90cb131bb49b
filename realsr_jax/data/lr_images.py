"""LR images made of HR images by MATLAB's bicubic rule."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Final

from realsr_jax.system.processes import in_threads
from realsr_jax.data.pair_reading import DataError, crop_to_multiple
from realsr_jax.ops.matlab_resize import imresize
from realsr_jax.images import ImageError, Photo, find_photos, read_photo, write_photo

_FORMAT: Final = "PNG"


@dataclass(frozen=True)
class LrJob:
    """An LR image to make.

    Attributes:
        hr: the file to read.
        lr: the PNG file to write.
    """

    hr: Path
    lr: Path


@dataclass(frozen=True)
class LrResult:
    """How a job went.

    Attributes:
        remarks: a line for each property of the HR image that LR does not keep.
        problem: why it could not be done, in a line, or None.
    """

    remarks: tuple[str, ...] = ()
    problem: str | None = None


def plan_lr_images(hr: Path, lr: Path) -> list[LrJob]:
    """Lists the LR images to make of a folder's images, which keep the names of these.

    Args:
        hr: folder of HR images.
        lr: folder of LR images; need not exist.

    Raises:
        DataError: if there are no HR images, or results would replace them or one another.
    """
    try:
        if not hr.is_dir():
            raise ImageError(f"{hr}: no such folder")
        paths = [found.path for found in find_photos([hr])]
    except ImageError as error:
        raise DataError(f"{error}; expected the HR images there") from error
    if lr.resolve() == hr.resolve():
        raise DataError(f"{lr}: holds the HR images; name another folder for the LR images")
    jobs: dict[Path, LrJob] = {}
    for path in paths:
        job = LrJob(path, lr / f"{path.stem}.png")
        first = jobs.setdefault(job.lr, job)
        if first is not job:
            raise DataError(f"{path}: its LR image {job.lr.name} is already that of {first.hr}; rename one")
    return list(jobs.values())


def make_lr_images(
    jobs: Sequence[LrJob],
    *,
    scale: int,
    border: str,
    threads: int,
    report: Callable[[LrJob, LrResult], None],
) -> None:
    """Makes LR images, several at once; a bad file does not stop the others.

    HR images whose sides are not multiples of the scale are cropped first, at the bottom and the right.

    Args:
        jobs: the images.
        scale: how many times larger HR is.
        border: see `imresize`.
        threads: how many images are made at once.
        report: called after each image.
    """
    results = in_threads(partial(_make, scale=scale, border=border), jobs, threads)
    for job, result in zip(jobs, results, strict=True):
        report(job, result)


def _make(job: LrJob, *, scale: int, border: str) -> LrResult:
    """Makes an LR image, or says in one line why not."""
    try:
        photo = read_photo(job.hr)
        hr = crop_to_multiple(photo.rgb_8_bit(), job.hr, scale)
        lr = imresize(hr[..., :1] if photo.is_grey else hr, Fraction(1, scale), border=border)
        result = Photo(
            rgb=lr.repeat(3, axis=-1) if photo.is_grey else lr,
            alpha=None,
            is_grey=photo.is_grey,
            metadata=photo.metadata,
            format=_FORMAT,
        )
        write_photo(result, job.lr)
    except ImageError as error:
        return LrResult(problem=" ".join(str(error).split()))
    except MemoryError:
        return LrResult(problem=f"{job.hr}: too large for this machine's memory")
    return LrResult(remarks=_remarks(photo, job.hr))


def _remarks(photo: Photo, path: Path) -> tuple[str, ...]:
    """Returns what LR does not keep of HR."""
    lines = []
    if photo.rgb.dtype != "uint8":
        lines.append(f"{path}: 16 bits per channel; rounded to 8 before it was reduced")
    if photo.is_transparent:
        lines.append(f"{path}: its transparency is left out")
    if photo.n_frames > 1:
        lines.append(f"{path}: only the first of {photo.n_frames} frames or pages was reduced")
    return tuple(lines)
