"""The published data sets that ``realsr-prepare`` builds: what they consist of, and what of that is missing.

Free of TFDS, whose import takes seconds.
"""

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from realsr_jax.data.errors import DataError
from realsr_jax.data.matching import name_of
from realsr_jax.data.pair_reading import UnreadPair
from realsr_jax.data.sources import PUBLISHED_COUNTS, Aim, Div2k, find_place

TFDS_NAMES: Final = {
    **{f"aim_x{scale}": f"aim_real_sr/x{scale}" for scale in (2, 3, 4)},
    **{f"aim_x{scale}_washed": f"aim_real_sr/x{scale}_washed" for scale in (2, 3, 4)},
    "aim_x2_washed_large": "aim_real_sr/x2_washed_large",
    **{f"div2k_x{scale}": f"div2k/bicubic_x{scale}" for scale in (2, 3, 4)},
}
"""TFDS's name and configuration, by the name that the command knows."""

_SHOWN_RUNS: Final = 12


class StoredPair(NamedTuple):
    """A pair that becomes a record.

    Attributes:
        name: in the record; unique in its split.
        unread: what checks it.
        files: LR and HR, stored as they are; LR only if HR is stored as it is loaded, as PNG.
    """

    name: str
    unread: UnreadPair
    files: tuple[Path, ...]


def scale_of(name: str) -> int:
    """Returns the scale that a name tells, as ``bicubic_x2`` and ``aim_x2_washed`` do; 0 if it tells none."""
    named = re.search(r"(?:^|_)x(\d+)(?:_|$)", name)
    return int(named[1]) if named else 0


def splits_of(dataset: str, manual_dir: Path) -> Mapping[str, Sequence[Aim | Div2k]]:
    """Returns the sources whose pairs, one source after the other, are the splits of a data set.

    Args:
        dataset: one of `TFDS_NAMES`.
        manual_dir: the folder of the published files.
    """
    root, scale = str(manual_dir), scale_of(dataset)
    if dataset.startswith("div2k_"):
        n_train, n_validation = PUBLISHED_COUNTS["div2k_train"], PUBLISHED_COUNTS["div2k_validation"]
        return {"train": [Div2k(root, 1, n_train)], "validation": [Div2k(root, 801, 800 + n_validation)]}
    train = [Aim(root, captured_scale=other) for other in ((0, 3) if dataset.endswith("_large") else (0,))]
    if "_washed" in dataset:
        for source in train:
            name = f"x{source.captured_scale or scale}_clean_img_id.txt"
            source.clean_list = str(find_place(root, "AIM", name))
    validation = Aim(root, "valid")
    is_there = any(folder.is_dir() for folder in validation.folders(scale))
    return {"train": train, "validation": [validation]} if is_there else {"train": train}


def published_counts(dataset: str, manual_dir: Path) -> dict[str, int]:
    """Returns how many pairs each split of a data set must have, as far as that is published."""
    scale = scale_of(dataset)
    return {
        split: sum(source.published_count(scale) or 0 for source in sources)
        for split, sources in splits_of(dataset, manual_dir).items()
        if sources[0].published_count(scale) is not None
    }


def list_splits(dataset: str, manual_dir: Path) -> dict[str, list[StoredPair]]:
    """Lists the pairs of each split of a data set, in order, without reading them.

    Args:
        dataset: one of `TFDS_NAMES`.
        manual_dir: the folder of the published files.

    Raises:
        DataError: if anything is missing or amiss, with a line for each folder, list or file.
    """
    splits, problems = {}, []
    for split, sources in splits_of(dataset, manual_dir).items():
        splits[split] = []
        for source in sources:
            pairs, found = _list_complete(source, scale_of(dataset))
            splits[split] += pairs
            problems += found
    if problems:
        raise DataError(
            f"{manual_dir}: incomplete (a folder AIM or DIV2K in it counts too), so the data set cannot be "
            "built:",
            problems,
        )
    return splits


def _list_complete(source: Aim | Div2k, scale: int) -> tuple[list[StoredPair], list[str]]:
    """Lists the pairs of a published source, and a line for everything that is missing or amiss."""
    names, problems = source.published_names(scale)
    for folder, advice in source.folders(scale).items():
        problems += _missing_images(folder, names, advice)
    if problems:
        return [], problems
    unread, problems = source.list_pairs(scale)
    pairs = [_stored(pair, source.captured_scale if isinstance(source, Aim) else 0) for pair in unread]
    surplus = {name_of(pair.paths[-1].stem) for pair in unread} - names
    if names and surplus:
        folder = unread[0].paths[-1].parents[1]
        problems.append(
            f"{folder}: pairs that are none of the {len(names):,} published ones: {list_names(surplus)}; "
            "move them away"
        )
    return pairs, problems


def _missing_images(folder: Path, names: Collection[str], advice: str) -> list[str]:
    """Says in one line which images, given by name, a folder lacks, if it lacks some or is not there."""
    if not folder.is_dir():
        return [f"{folder}: not there; {advice}"]
    missing = set(names) - {name_of(Path(file).stem) for file in os.listdir(folder)}
    if not missing:
        return []
    return [f"{folder}: {len(missing):,} of {len(names):,} images missing: {list_names(missing)}; {advice}"]


def _stored(pair: UnreadPair, captured_scale: int) -> StoredPair:
    """Returns what becomes of a pair; the HR image of another captured scale is reduced."""
    name = name_of(pair.paths[-1].stem)
    if captured_scale:
        return StoredPair(f"{name}_x{captured_scale}", pair, pair.paths[:1])
    return StoredPair(name, pair, pair.paths)


def list_names(names: Iterable[str]) -> str:
    """Lists names in a few words; consecutive numbers become "000003 to 000007"."""

    def run_of(item: tuple[int, str]) -> int | str:
        place, name = item
        return int(name) - place if name.isdecimal() else name

    runs = []
    for _, group in groupby(enumerate(sorted(names)), run_of):
        run = [name for _, name in group]
        runs.append(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}")
    if len(runs) > _SHOWN_RUNS:
        runs[_SHOWN_RUNS:] = [f"and {len(runs) - _SHOWN_RUNS:,} more"]
    return ", ".join(runs)
