"""Building the data sets of TFDS that training reads."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tensorflow_datasets as tfds

from realsr_jax.data.errors import DataError
from realsr_jax.data.tfds_aim import AimRealSr
from realsr_jax.data.tfds_div2k import Div2kBuilder
from realsr_jax.data.tfds_names import TFDS_NAMES
from realsr_jax.data.tfds_pair_builder import PairBuilder, build
from realsr_jax.data.tfds_reading import check_format
from realsr_jax.system.files import locked
from realsr_jax.system.processes import count_threads


@dataclass(frozen=True)
class Prepared:
    """A data set that is there.

    Attributes:
        name: TFDS's, such as ``aim_real_sr/x2``.
        folder: where it is.
        counts: number of pairs of each split.
        is_new: whether it was built now.
    """

    name: str
    folder: Path
    counts: dict[str, int]
    is_new: bool


def prepare_dataset(
    dataset: str,
    *,
    manual_dir: str | os.PathLike[str],
    data_dir: str | os.PathLike[str] = "",
    progress: Callable[[int, int], object] = lambda n_checked, n_all: None,
    report: Callable[[str], object] = lambda problem: None,
) -> Prepared:
    """Builds a TFDS data set from the published files, unless it is built already.

    Every image is decoded and its size compared with its partner's. An unfinished build is continued: shards
    of 100 pairs that are finished are not made again.

    Args:
        dataset: one of `TFDS_NAMES`, such as "aim_x2_washed".
        manual_dir: the folder of the published files, whose numbers `PUBLISHED_COUNTS` says.
        data_dir: where data sets are stored; empty for the default of TFDS.
        progress: called with the number of pairs that are checked, and of all.
        report: called with a line for each pair that cannot be used.

    Returns:
        What is there now.

    Raises:
        DataError: if there is no such data set, files are missing or cannot be used, or one that is there
            already is not complete.
        OSError: if the data set cannot be written.
    """
    builder = make_builder(dataset, os.path.expanduser(data_dir))
    target = Path(builder.data_path)
    is_new = False
    if not target.exists():
        splits = builder.list_splits(Path(manual_dir).expanduser())
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_name(f".{target.name}.lock")):
            is_new = not target.exists()  # or another process was faster
            if is_new:
                build(builder, splits, threads=count_threads(), progress=progress, report=report)
    info = tfds.builder_from_directory(target).info
    check_format(info, str(target), "remove this folder and start again")
    counts = {name: split.num_examples for name, split in info.splits.items()}
    for split, expected in builder.expected_counts().items():
        if counts.get(split) != expected:
            raise DataError(
                f"{target}: has {counts.get(split, 0):,} pairs in the split {split}, expected {expected:,}; "
                "remove this folder and start again"
            )
    return Prepared(TFDS_NAMES[dataset], target, counts, is_new)


def make_builder(dataset: str, data_dir: str) -> PairBuilder:
    """Makes the builder of one of `TFDS_NAMES`, which stores under a folder, by default that of TFDS."""
    if dataset not in TFDS_NAMES:
        raise DataError(f"{dataset}: no such data set, only {', '.join(TFDS_NAMES)}")
    name, config = TFDS_NAMES[dataset].split("/")
    kind = {kind.name: kind for kind in (AimRealSr, Div2kBuilder)}[name]
    return kind(config=config, data_dir=data_dir or None, file_format="array_record")
