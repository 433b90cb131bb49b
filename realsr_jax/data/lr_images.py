"""LR images made of HR images by MATLAB's bicubic rule."""

from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from realsr_jax.data.errors import DataError
from realsr_jax.data.matching import find_keyed
from realsr_jax.data.pair_reading import crop_to_multiple, rgb_in_bits
from realsr_jax.images import ImageError, Photo, read_photo, write_photo
from realsr_jax.ops.matlab_resize import imresize
from realsr_jax.system.errors import explain_failure


class LrResult(NamedTuple):
    """How the making of an LR image went.

    Attributes:
        is_made: whether it is there.
        remarks: a line for each property of the HR image that LR does not keep, or on why it is not there.
    """

    is_made: bool
    remarks: list[str]


def plan_lr_images(hr: Path, lr: Path) -> dict[Path, Path]:
    """Lists the LR images to make of a folder's images, which keep the names of these.

    Args:
        hr: folder of HR images.
        lr: folder of LR images; need not exist.

    Returns:
        The HR file by the PNG file to write.

    Raises:
        DataError: if there are no HR images, or results would replace them or one another.
    """
    images = find_keyed(str(hr), "the HR images")
    if lr.resolve() == hr.resolve():
        raise DataError(f"{lr}: holds the HR images; name another folder for the LR images")
    plan: dict[Path, Path] = {}
    for key, path in images:
        target = lr / f"{key}.png"
        if target in plan:
            raise DataError(
                f"{path}: its LR image {target.name} is already that of {plan[target]}; rename one"
            )
        plan[target] = path
    return plan


def make_lr_image(paths: tuple[Path, Path], *, scale: int, border: str) -> LrResult:
    """Makes an LR image, or says why not.

    An HR image whose sides are not multiples of the scale is cropped first, at the bottom and the right.

    Args:
        paths: the PNG file to write and the HR file.
        scale: how many times larger HR is.
        border: see `imresize`.
    """
    target, source = paths
    try:
        photo = read_photo(source)
        hr = crop_to_multiple(rgb_in_bits(photo), source, scale)
        lr = imresize(hr[..., :1] if photo.is_grey else hr, Fraction(1, scale), border=border)
        write_photo(Photo(lr, photo.metadata, "PNG"), target)
    except (ImageError, MemoryError) as error:
        return LrResult(False, [f"{source}: {explain_failure(error).removeprefix(f'{source}: ')}"])
    remarks = {
        "floats; rounded to 16 bits before it was reduced": photo.rgb.dtype == np.float32,
        "its transparency is left out": photo.is_transparent,
    }
    told = [*(remark for remark, applies in remarks.items() if applies), *photo.remarks]
    return LrResult(True, [f"{source}: {remark}" for remark in told])
