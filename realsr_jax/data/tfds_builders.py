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
from typing import Any, ClassVar, Final, NamedTuple

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from realsr_jax.data.errors import DataError
from realsr_jax.data.pair_reading import check_space, load_pair
from realsr_jax.data.published_sets import (
    TFDS_NAMES,
    StoredPair,
    list_splits,
    published_counts,
    scale_of,
)
from realsr_jax.data.sources import AIM_PAGE, DIV2K_PAGE
from realsr_jax.data.tfds_reading import check_format
from realsr_jax.images import Metadata, encode
from realsr_jax.system.errors import first_line
from realsr_jax.system.files import locked, replacing_file
from realsr_jax.system.processes import count_threads, in_threads

_PAIRS_PER_SHARD: Final = 100

Example = dict[str, str | bytes]
"""A record before TFDS serialises it."""


class PairBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Base of the builders of published pairs.

    Features: ``lr`` and ``hr``, image files of uint8 [h, w, 3] and [h * scale, w * scale, 3], and ``name``.
    """

    HOMEPAGE = ""
    MANUAL_DOWNLOAD_INSTRUCTIONS = "what belongs into the manual directory, realsr-prepare --help says"
    url_infos = None  # no checksums: to look for them, TFDS imports a package that it does not install

    @property
    def dataset(self) -> str:
        """Which of `TFDS_NAMES` it is."""
        full_name = f"{self.name}/{self.builder_config_name}"
        return next(dataset for dataset, name in TFDS_NAMES.items() if name == full_name)

    def _info(self) -> tfds.core.DatasetInfo:
        images = {side: tfds.features.Image(encoding_format="png") for side in ("lr", "hr")}
        return tfds.core.DatasetInfo(
            builder=self,
            description=str(self.__doc__),
            features=tfds.features.FeaturesDict({**images, "name": tfds.features.Text()}),
            supervised_keys=("lr", "hr"),
            homepage=self.HOMEPAGE,
        )

    # For those who call `download_and_prepare`; `prepare_dataset` can continue and lists all problems.
    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager):
        splits = list_splits(self.dataset, Path(dl_manager.manual_dir))
        example = functools.partial(_keyed_example, scale=scale_of(self.dataset))
        return {
            split: [functools.partial(map, example, shard.pairs) for shard in _cut(pairs)]
            for split, pairs in splits.items()
        }


def _configs(name: str) -> list[tfds.core.BuilderConfig]:
    full_names = [full_name.split("/") for full_name in TFDS_NAMES.values()]
    return [tfds.core.BuilderConfig(name=config) for builder, config in full_names if builder == name]


class AimRealSr(PairBuilder):
    """Pairs of photos of the same scene, taken at two focal lengths: AIM 2020 Real Image Super-Resolution.

    Features: ``lr`` and ``hr``, PNG files of uint8 [h, w, 3] and [h * scale, w * scale, 3], and ``name``,
    such as "000090", or "000090_x3" for an x3 pair whose HR is reduced. Pairs are in the order of their
    names; those of x2_washed_large are the clean x2 and then the clean x3 pairs. The split ``validation``
    exists where the folder ``valid`` does.

    Source: P. Wei et al., "AIM 2020 Challenge on Real Image Super-Resolution", 2020; lists of clean images
        and the large set by https://github.com/HolmesShuan/AIM2020-Real-Super-Resolution.
    """

    HOMEPAGE = AIM_PAGE
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = _configs("aim_real_sr")


class Div2kBuilder(PairBuilder, skip_registration=True):
    """DIV2K: photos of 2K resolution and LR images that MATLAB's bicubic rule makes of them.

    TFDS has a builder of this name, which needs TensorFlow; this one writes the same pairs to the same place.
    Features: ``lr`` and ``hr``, PNG files of uint8 [h, w, 3] and [h * scale, w * scale, 3], and ``name``,
    such as "0001". Pairs are in the order of their names.

    Source: E. Agustsson and R. Timofte, "NTIRE 2017 Challenge on Single Image Super-Resolution", 2017.
    """

    name = "div2k"
    HOMEPAGE = DIV2K_PAGE
    VERSION = tfds.core.Version("2.0.0")  # that of TFDS's builder
    BUILDER_CONFIGS: ClassVar = _configs("div2k")


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
    if dataset not in TFDS_NAMES:
        raise DataError(f"{dataset}: no such data set, only {', '.join(TFDS_NAMES)}")
    manual_dir = Path(manual_dir).expanduser()
    name, config = TFDS_NAMES[dataset].split("/")
    kind = AimRealSr if name == AimRealSr.name else Div2kBuilder
    place = os.path.expanduser(data_dir) or None
    builder = kind(config=config, data_dir=place, file_format="array_record")
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


class _Shard(NamedTuple):
    """A file of records; `digest` tells its content from any other, without reading it."""

    digest: str
    pairs: Sequence[StoredPair]


def _cut(pairs: Sequence[StoredPair]) -> list[_Shard]:
    """Cuts a split into shards."""
    shards = []
    for start in range(0, len(pairs), _PAIRS_PER_SHARD):
        part = pairs[start : start + _PAIRS_PER_SHARD]
        content = repr([(pair.name, pair.unread.fingerprint) for pair in part])
        shards.append(_Shard(hashlib.sha256(content.encode()).hexdigest(), part))
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
    shards = [shard for part in cut.values() for shard in part]
    left = {path.name for path in work.iterdir()}
    for name in left - {shard.digest for shard in shards}:
        (work / name).unlink()
    todo = [shard for shard in shards if shard.digest not in left]
    files = [path for shard in todo for pair in shard.pairs for path in pair.files]
    needed = sum(path.stat().st_size for path in files if path.is_file())  # less than reduced HR images need
    check_space(work, needed, "the images", "make room or store the data set elsewhere")
    total = sum(len(shard.pairs) for shard in shards)
    n_checked, n_bad = total - sum(len(shard.pairs) for shard in todo), 0
    progress(n_checked, total)
    for shard in todo:
        n_bad_before = n_bad
        for problem in _write_shard(builder, work / shard.digest, shard.pairs):
            if problem is not None:
                n_bad += 1
                report(problem)
            n_checked += 1
            progress(n_checked, total)
        if n_bad > n_bad_before:
            (work / shard.digest).unlink()
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
        sides = [path.read_bytes() for path in pair.files]
    except OSError as error:  # a file that went away since
        return f"{error.filename}: {error.strerror}"
    if len(sides) == 1:
        sides.append(encode(loaded[1], Metadata(), format="PNG", quality=95))
    return {"lr": sides[0], "hr": sides[1], "name": pair.name}


def _keyed_example(pair: StoredPair, scale: int) -> tuple[str, Example]:
    """Returns the record of a pair as TFDS wants it."""
    example = _example(pair, scale)
    if isinstance(example, str):
        raise DataError(example)
    return pair.name, example


def _finish(builder: PairBuilder, cut: Mapping[str, Sequence[_Shard]], work: Path) -> None:
    """Writes what TFDS must know of a data set into its folder, and names the shards as TFDS expects."""
    infos, names = [], {}
    for split, shards in cut.items():
        template = tfds.core.ShardedFileTemplate(
            tfds.core.Path(work), dataset_name=builder.name, split=split, filetype_suffix="array_record"
        )
        lengths = [len(shard.pairs) for shard in shards]
        size = sum((work / shard.digest).stat().st_size for shard in shards)
        infos.append(tfds.core.SplitInfo(split, lengths, num_bytes=size, filename_template=template))
        for index, shard in enumerate(shards):
            names[shard.digest] = template.sharded_filepath(shard_index=index, num_shards=len(shards))
    builder.info.set_splits(tfds.core.SplitDict(infos))
    builder.info.write_to_directory(work)
    for digest, name in names.items():
        (work / digest).rename(name)
