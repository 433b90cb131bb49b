"""What TFDS data sets of image pairs share: records, and how they are built without TensorFlow.

A data set is written to a folder beside its place, shard after shard, and renamed when it is complete. Each
shard holds pairs that were decoded and checked just before. What is finished stays for the next start: until
the data set is complete, shards are named by what they are made of.
"""

import functools
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from realsr_jax.data.errors import DataError
from realsr_jax.data.pair_reading import UnreadPair, check_space, load_pair
from realsr_jax.data.tfds_names import scale_of
from realsr_jax.images import Metadata, encode
from realsr_jax.system.errors import first_line
from realsr_jax.system.files import replacing_file
from realsr_jax.system.processes import in_threads

_PAIRS_PER_SHARD: Final = 100
_SHOWN_RUNS: Final = 12

Example = dict[str, str | bytes]
"""A record before TFDS serialises it."""


@dataclass(frozen=True)
class StoredPair:
    """A pair that becomes a record.

    Attributes:
        name: in the record; unique in its split.
        unread: what checks it.
        lr: the file that is stored as it is.
        hr: likewise, or None to store what is loaded, as PNG.
    """

    name: str
    unread: UnreadPair
    lr: Path
    hr: Path | None


class PairBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Base of the builders of data sets of pairs.

    Features: ``lr`` and ``hr``, image files of uint8 [h, w, 3] and [h * scale, w * scale, 3], and ``name``.
    Records are in the order in which `list_splits` lists them.
    """

    VERSION = tfds.core.Version("1.0.0")
    HOMEPAGE = ""
    url_infos = None  # no checksums: to look for them, TFDS imports a package that it does not install

    @property
    def config_name(self) -> str:
        """The configuration's name."""
        assert self.builder_config is not None
        return self.builder_config.name

    @property
    def scale(self) -> int:
        """The scale of all pairs, which the configuration's name tells."""
        scale = scale_of(self.config_name)
        assert scale is not None
        return scale

    def expected_counts(self) -> dict[str, int]:
        """Returns how many pairs each split must have, as far as that is published."""
        raise NotImplementedError

    def list_splits(self, manual_dir: Path) -> dict[str, list[StoredPair]]:
        """Lists the pairs of each split without reading them.

        Args:
            manual_dir: the folder of the published files.

        Raises:
            DataError: if anything is missing, with a line for each place.
        """
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        images = {side: tfds.features.Image(encoding_format="png") for side in ("lr", "hr")}
        return tfds.core.DatasetInfo(
            builder=self,
            description=str(self.__doc__),
            features=tfds.features.FeaturesDict({**images, "name": tfds.features.Text()}),
            supervised_keys=("lr", "hr"),
            homepage=self.HOMEPAGE,
        )

    # For those who call `download_and_prepare`; `build` can continue and lists all problems.
    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager):
        return {
            split: [functools.partial(_keyed_examples, shard.pairs, self.scale) for shard in _cut(pairs)]
            for split, pairs in self.list_splits(Path(dl_manager.manual_dir)).items()
        }


def build(
    builder: PairBuilder,
    splits: Mapping[str, Sequence[StoredPair]],
    *,
    threads: int,
    progress: Callable[[int, int], object],
    report: Callable[[str], object],
) -> None:
    """Writes a data set in its place.

    Shards that an earlier, unfinished call wrote are kept if their images are the same still.

    Args:
        builder: the data set, not built yet. The caller keeps other processes out.
        splits: its pairs.
        threads: how many pairs are decoded at once.
        progress: called with the number of pairs that are checked, and of all.
        report: called with a line for each pair that cannot be used.

    Raises:
        DataError: if a pair cannot be used or the data set cannot be written.
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
    files = [path for shard in todo for pair in shard.pairs for path in (pair.lr, pair.hr) if path]
    needed = sum(path.stat().st_size for path in files if path.is_file())  # less than reduced HR images need
    check_space(work, needed, "the images", "make room or store the data set elsewhere")
    total = sum(len(shard.pairs) for shard in shards)
    n_checked, n_bad = total - sum(len(shard.pairs) for shard in todo), 0
    progress(n_checked, total)
    for shard in todo:
        is_complete = True
        for problem in _write_shard(builder, work / shard.digest, shard.pairs, threads):
            if problem is not None:
                is_complete = False
                n_bad += 1
                report(problem)
            n_checked += 1
            progress(n_checked, total)
        if not is_complete:
            (work / shard.digest).unlink()
    if n_bad:
        raise DataError(
            f"{n_bad:,} of {total:,} pairs cannot be used, so there is no data set; replace their files and "
            f"start again, which continues from {work}"
        )
    _finish(builder, cut, work)
    work.rename(target)


def incomplete(manual_dir: Path, problems: list[str]) -> DataError:
    """Returns the error that lists what the folder of the published files lacks."""
    return DataError(f"{manual_dir}: incomplete, so the data set cannot be built:", problems)


def missing_images(folder: Path, missing: Collection[str], n_expected: int, advice: str) -> list[str]:
    """Says in one line which images a folder lacks, if it lacks some.

    Args:
        folder: where they were expected.
        missing: names of those that are not there.
        n_expected: how many belong there.
        advice: what to do about it.
    """
    if not missing:
        return []
    if not folder.is_dir():
        return [f"{folder}: not there; {advice}"]
    return [f"{folder}: {len(missing):,} of {n_expected:,} images missing: {list_names(missing)}; {advice}"]


def list_names(names: Iterable[str]) -> str:
    """Lists names in a few words; consecutive numbers become "000003 to 000007"."""
    ordered = sorted(names)
    keys = [(0, int(name) - place) if name.isdecimal() else (1, place) for place, name in enumerate(ordered)]
    runs = []
    for _, group in groupby(zip(keys, ordered, strict=True), key=lambda item: item[0]):
        run = [name for _, name in group]
        runs.append(run[0] if len(run) == 1 else f"{run[0]} to {run[-1]}")
    if len(runs) > _SHOWN_RUNS:
        runs[_SHOWN_RUNS:] = [f"and {len(runs) - _SHOWN_RUNS:,} more"]
    return ", ".join(runs)


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


def _write_shard(
    builder: PairBuilder, path: Path, pairs: Sequence[StoredPair], threads: int
) -> Iterator[str | None]:
    """Writes a file of the records of those pairs that can be used.

    Yields:
        For each pair, None or a line on why it cannot be used.
    """
    features: Any = builder.info.features
    try:
        with replacing_file(path) as file:
            writer = ArrayRecordWriter(file.name, "group_size:1")  # so that records can be read in any order
            for example in _examples(pairs, builder.scale, threads):
                if isinstance(example, str):
                    yield example
                else:
                    writer.write(features.serialize_example(example))
                    yield None
            writer.close()
    except RuntimeError as error:  # the writer's
        raise DataError(f"{path}: cannot be written ({first_line(error)})") from error


def _examples(pairs: Sequence[StoredPair], scale: int, threads: int) -> Iterator[Example | str]:
    """Yields, in order, the record of each pair, or a line on why it cannot be used."""
    return in_threads(functools.partial(_example, scale=scale), pairs, threads)


def _example(pair: StoredPair, scale: int) -> Example | str:
    loaded = load_pair(pair.unread, scale)
    if isinstance(loaded, str):
        return loaded
    try:
        if pair.hr is None:
            hr = encode(loaded[1], Metadata(), format="PNG", quality=95)
        else:
            hr = pair.hr.read_bytes()
        return {"lr": pair.lr.read_bytes(), "hr": hr, "name": pair.name}
    except OSError as error:  # a file that went away since
        return f"{error.filename}: {error.strerror}"


def _keyed_examples(pairs: Sequence[StoredPair], scale: int) -> Iterator[tuple[str, Example]]:
    """Yields the records of a shard as TFDS wants them."""
    for pair, example in zip(pairs, _examples(pairs, scale, threads=1), strict=True):
        if isinstance(example, str):
            raise DataError(example)
        yield pair.name, example


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
