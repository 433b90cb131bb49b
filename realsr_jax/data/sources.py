"""The data sets that a configuration names, as lists of pairs that have not been read yet."""

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from realsr_jax.data.entries import (
    DataError,
    Entry,
    make_entry,
    read_captured,
    read_hr,
    read_pair,
    read_reduced,
)
from realsr_jax.data.matching import find_keyed, match
from realsr_jax.training_config import Aim, Div2k, HrFolder, PairFolder, Source, Tfds

__all__ = ["DataError", "Entry", "list_entries"]


def list_entries(source: Source, scale: int) -> tuple[list[Entry], list[str]]:
    """Lists the pairs of a data set in a fixed order.

    Args:
        source: the data set.
        scale: of the network.

    Returns:
        The pairs, and a line for each file that has no partner.

    Raises:
        DataError: if there is no such data set.
    """
    places = {
        name: os.path.expanduser(value)
        for name, value in vars(source).items()
        if name in ("lr", "hr", "root", "clean_list")
    }
    source = dataclasses.replace(source, **places)
    match source:
        case PairFolder():
            return _list_pair_folder(source, scale)
        case HrFolder():
            return _list_hr_folder(source, scale)
        case Div2k():
            return _list_div2k(source, scale)
        case Aim():
            return _list_aim(source, scale)
        case Tfds():
            from realsr_jax.data.tfds_source import list_tfds  # importing TFDS takes seconds

            return list_tfds(source, scale), []


def _list_pair_folder(source: PairFolder, scale: int) -> tuple[list[Entry], list[str]]:
    lr, hr = find_keyed(source.lr, "LR images"), find_keyed(source.hr, "HR images")
    pairs, problems = match(lr, hr, source.clean_list)
    if source.reduce_lr:
        return [make_entry(read_reduced, *pair, scale=scale) for pair in pairs], problems
    return [make_entry(read_pair, *pair) for pair in pairs], problems


def _list_hr_folder(source: HrFolder, scale: int) -> tuple[list[Entry], list[str]]:
    images = find_keyed(source.hr, "HR images")
    return [make_entry(read_hr, image.path, scale=scale, border=source.border) for image in images], []


def _list_aim(source: Aim, scale: int) -> tuple[list[Entry], list[str]]:
    captured_scale = source.captured_scale or scale
    folder = Path(source.root, f"X{captured_scale}", "valid" if source.split == "valid" else "")
    lr, hr = (
        find_keyed(str(folder / side), f"AIM's {side} images of scale {captured_scale}")
        for side in ("LR", "HR")
    )
    pairs, problems = match(lr, hr, source.clean_list)
    if captured_scale == scale:
        return [make_entry(read_pair, *pair) for pair in pairs], problems
    scales = {"captured_scale": captured_scale, "scale": scale}
    return [make_entry(read_captured, *pair, **scales) for pair in pairs], problems


def _list_div2k(source: Div2k, scale: int) -> tuple[list[Entry], list[str]]:
    paths_of = find_div2k(Path(source.root), scale)
    if paths_of is None:
        raise DataError(
            f"{source.root}: no DIV2K in this folder; expected HR/0001.png and "
            f"LR_bicubic/X{scale}/0001x{scale}.png, or DIV2K_train_HR and DIV2K_train_LR_bicubic as published"
        )
    entries, problems = [], []
    for number in range(source.first, source.last + 1):
        pair = paths_of(number)
        missing = [f"{path}: no such file" for path in pair if not path.is_file()]
        problems += missing
        if not missing:
            entries.append(make_entry(read_pair, *pair))
    if not entries:
        raise DataError(
            f"{source.root}: no pair of the images {source.first} to {source.last}; {problems[0]}"
        )
    return entries, problems


def find_div2k(root: Path, scale: int) -> Callable[[int], tuple[Path, Path]] | None:
    """Finds out how DIV2K is laid out in a folder or in its folder ``DIV2K``.

    Args:
        root: the folder.
        scale: of the LR images.

    Returns:
        What tells the LR and HR paths of an image's number, 1 to 900; None if there is no DIV2K.
    """
    for base in (root, root / "DIV2K"):
        if (base / "HR").is_dir():
            return partial(_div2k_paths, base, scale)
        if (base / "DIV2K_train_HR").is_dir() or (base / "DIV2K_valid_HR").is_dir():
            return partial(published_div2k_paths, base, scale)
    return None


def published_div2k_paths(base: Path, scale: int, number: int) -> tuple[Path, Path]:
    """Returns the LR and HR paths of an image in the folders that the published archives hold."""
    return _div2k_paths(base, scale, number, "DIV2K_train_" if number <= 800 else "DIV2K_valid_")


def _div2k_paths(base: Path, scale: int, number: int, prefix: str = "") -> tuple[Path, Path]:
    lr = base / f"{prefix}LR_bicubic" / f"X{scale}" / f"{number:04}x{scale}.png"
    return lr, base / f"{prefix}HR" / f"{number:04}.png"
