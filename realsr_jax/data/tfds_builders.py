"""Data sets of TFDS with published pairs, built without TensorFlow.

A data set is written to a folder beside its place, shard after shard, and renamed when it is complete. Each
shard holds pairs that were decoded and checked just before. What is finished stays for the next start: until
the data set is complete, shards are named by what they are made of.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from realsr_jax.data.errors import DataError
from realsr_jax.data.pair_reading import check_space, in_bits, load_pair
from realsr_jax.data.published_sets import TFDS_NAMES, StoredPair, list_splits, published_counts, scale_of
from realsr_jax.data.sources import Aim, Div2k
from realsr_jax.data.tfds_reading import check_format
from realsr_jax.images import Metadata
from realsr_jax.images.encoding import encode
from realsr_jax.system.errors import UsageError, did_you_mean, first_line
from realsr_jax.system.files import locked, read_file, replacing_file
from realsr_jax.system.processes import count_threads, in_threads

_PAIRS_PER_SHARD: Final = 100

Example = dict[str, str | bytes]
"""A record before TFDS serialises it."""

Shards = dict[str, Sequence[StoredPair]]
"""The pairs of each file of records, by a digest that tells its content from any other without reading it."""


class PairBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Builder of one of `TFDS_NAMES`.

    Features: ``lr`` and ``hr``, image files of uint8 [h, w, 3] and [h * scale, w * scale, 3], and ``name``,
    such as "000090", or "000090_x3" for an x3 pair of AIM's whose HR is reduced. Pairs are in the order of
    their names; those of x2_washed_large are the clean x2 and then the clean x3 pairs.
    """

    MANUAL_DOWNLOAD_INSTRUCTIONS = "what belongs in the manual directory, realsr-prepare --help says"
    BUILDER_CONFIGS: ClassVar = [
        # TFDS has a data set div2k too, built with TensorFlow: these are the same pairs in the same place.
        tfds.core.BuilderConfig(name=config, version="2.0.0" if name == "div2k" else "1.0.0")
        for name, config in (full_name.split("/") for full_name in TFDS_NAMES.values())
    ]
    url_infos = None  # no checksums: to look for them, TFDS imports a package that it does not install

    def __init__(self, dataset: str, data_dir: str = "") -> None:
        """Makes the builder of a data set, which is stored under a folder, by default that of TFDS."""
        name, config = TFDS_NAMES[dataset].split("/")
        self.dataset = dataset
        vars(self)["name"] = name  # which TFDS declares for classes only
        super().__init__(config=config, data_dir=data_dir or None, file_format="array_record")

    def _info(self) -> tfds.core.DatasetInfo:
        images = {side: tfds.features.Image(encoding_format="png") for side in ("lr", "hr")}
        source = Div2k if self.name == "div2k" else Aim
        return tfds.core.DatasetInfo(
            builder=self,
            description=str(source.__doc__).splitlines()[0],
            features=tfds.features.FeaturesDict({**images, "name": tfds.features.Text()}),
            supervised_keys=("lr", "hr"),
            homepage=source.HOMEPAGE,
        )

    # For those who call `download_and_prepare`; `prepare_dataset` can continue and lists all problems.
    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager):
        example = functools.partial(_keyed_example, scale=scale_of(self.dataset))
        return {
            split: [functools.partial(map, example, shard) for shard in _cut(pairs).values()]
            for split, pairs in list_splits(self.dataset, Path(dl_manager.manual_dir)).items()
        }


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
        UsageError: if there is no such data set.
        DataError: if files are missing or cannot be used, or a data set that is there is not complete.
        OSError: if the data set cannot be written.
    """
    if dataset not in TFDS_NAMES:
        guess = did_you_mean(dataset, TFDS_NAMES)
        raise UsageError(f"{dataset}: no such data set; {guess}the data sets are {', '.join(TFDS_NAMES)}")
    manual_dir = Path(manual_dir).expanduser()
    builder = PairBuilder(dataset, os.path.expanduser(data_dir))
    target = Path(builder.data_path)
    is_new = False
    if not target.exists():
        splits = list_splits(dataset, manual_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.with_name(f".{target.name}.lock")):
            is_new = not target.exists()  # or another process was faster
            if is_new:
                _build(builder, splits, progress, report)
    info = tfds.builder_from_directory(target).info
    check_format(info, str(target), "remove this folder and start again")
    counts = {name: split.num_examples for name, split in info.splits.items()}
    for split, expected in published_counts(dataset, manual_dir).items():
        if counts.get(split) != expected:
            raise DataError(
                f"{target}: has {counts.get(split, 0):,} pairs in the split {split}, expected {expected:,}; "
                "remove this folder and start again"
            )
    return Prepared(TFDS_NAMES[dataset], target, counts, is_new)


# ------------------------------------------------------------------------------------------------ writing


def _cut(pairs: Sequence[StoredPair]) -> Shards:
    """Cuts a split into shards."""
    shards = {}
    for start in range(0, len(pairs), _PAIRS_PER_SHARD):
        part = pairs[start : start + _PAIRS_PER_SHARD]
        content = repr([(pair.name, pair.unread.fingerprint) for pair in part])
        shards[hashlib.sha256(content.encode()).hexdigest()] = part
    return shards


def _build(
    builder: PairBuilder,
    splits: Mapping[str, Sequence[StoredPair]],
    progress: Callable[[int, int], object],
    report: Callable[[str], object],
) -> None:
    """Writes a data set in its place; the caller keeps other processes out.

    Shards that an earlier, unfinished call wrote are kept if their images are the same still.
    """
    target = Path(builder.data_path)
    work = target.with_name(f"{target.name}.unfinished")
    work.mkdir(exist_ok=True)
    cut = {split: _cut(pairs) for split, pairs in splits.items()}
    shards = {digest: pairs for part in cut.values() for digest, pairs in part.items()}
    left = {path.name for path in work.iterdir()}
    for name in left - shards.keys():
        (work / name).unlink()
    todo = {digest: pairs for digest, pairs in shards.items() if digest not in left}
    files = [path for pairs in todo.values() for pair in pairs for path in pair.files]
    needed = sum(path.stat().st_size for path in files if path.is_file())  # less than reduced HR images need
    check_space(work, needed, "the images", "make room or store the data set elsewhere")
    total = sum(map(len, shards.values()))
    n_checked, n_bad = total - sum(map(len, todo.values())), 0
    progress(n_checked, total)
    for digest, pairs in todo.items():
        problems = []
        for problem in _write_shard(builder, work / digest, pairs):
            if problem is not None:
                problems.append(problem)
                report(problem)
            n_checked += 1
            progress(n_checked, total)
        if problems:
            (work / digest).unlink()
        n_bad += len(problems)
    if n_bad:
        raise DataError(
            f"{n_bad:,} of {total:,} pairs cannot be used, so there is no data set; replace their files and "
            f"start again, which continues from {work}"
        )
    _finish(builder, cut, work)
    work.rename(target)


def _write_shard(builder: PairBuilder, path: Path, pairs: Sequence[StoredPair]) -> Iterator[str | None]:
    """Writes a file of the records of those pairs that can be used.

    Yields:
        For each pair, None or a line on why it cannot be used.
    """
    features: Any = builder.info.features
    example_of = functools.partial(_example, scale=scale_of(builder.dataset))
    try:
        with replacing_file(path) as file:
            writer = ArrayRecordWriter(file.name, "group_size:1")  # so that records can be read in any order
            for example in in_threads(example_of, pairs, count_threads()):
                if isinstance(example, str):
                    yield example
                else:
                    writer.write(features.serialize_example(example))
                    yield None
            writer.close()
    except RuntimeError as error:  # the writer's
        raise DataError(f"{path}: cannot be written ({first_line(error)})") from error


def _example(pair: StoredPair, scale: int) -> Example | str:
    """Returns the record of a pair, or a line on why it cannot be used."""
    loaded = load_pair(pair.unread, scale)
    if isinstance(loaded, str):
        return loaded
    try:
        sides = [read_file(path) for path in pair.files]
    except OSError as error:  # a file that went away since
        return f"{error.filename}: {error.strerror}"
    if len(sides) == 1:
        sides.append(encode(in_bits(loaded.hr, np.uint8), Metadata(), format="PNG", quality=95))
    return {"lr": sides[0], "hr": sides[1], "name": pair.name}


def _keyed_example(pair: StoredPair, scale: int) -> tuple[str, Example]:
    """Returns the record of a pair as TFDS wants it."""
    example = _example(pair, scale)
    if isinstance(example, str):
        raise DataError(example)
    return pair.name, example


def _finish(builder: PairBuilder, cut: Mapping[str, Shards], work: Path) -> None:
    """Writes what TFDS must know of a data set into its folder, and names the shards as TFDS expects."""
    infos, names = [], {}
    for split, shards in cut.items():
        template = tfds.core.ShardedFileTemplate(
            tfds.core.Path(work), dataset_name=builder.name, split=split, filetype_suffix="array_record"
        )
        size = sum((work / digest).stat().st_size for digest in shards)
        lengths = [len(pairs) for pairs in shards.values()]
        infos.append(tfds.core.SplitInfo(split, lengths, num_bytes=size, filename_template=template))
        for index, digest in enumerate(shards):
            names[digest] = template.sharded_filepath(shard_index=index, num_shards=len(shards))
    builder.info.set_splits(tfds.core.SplitDict(infos))
    builder.info.write_to_directory(work)
    for digest, name in names.items():
        (work / digest).rename(name)
