"""What TFDS data sets of image pairs share: records, and how they are built without TensorFlow.

A data set is written to a folder beside its place, shard after shard, and renamed when it is complete. Each
shard holds pairs that were decoded and checked just before. What is finished stays for the next start.
"""

import functools
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter

from realsr_jax.system.processes import in_threads
from realsr_jax.data.pair_loading import load_pair
from realsr_jax.data.pair_reading import DataError, UnreadPair
from realsr_jax.data.sources import PUBLISHED_COUNTS
from realsr_jax.system.errors import first_line
from realsr_jax.system.files import write_atomically
from realsr_jax.images import Metadata, encode

_PAIRS_PER_SHARD: Final = 100
_FINISHED: Final = "finished.json"
_SHOWN_RUNS: Final = 12

Example = dict[str, str | bytes]
"""A record before TFDS serialises it."""


@dataclass(frozen=True)
class StoredPair:
    """A pair that becomes a record.

    Attributes:
        name: in the record; unique in its split.
        entry: what checks it.
        lr: the file that is stored as it is.
        hr: likewise, or None to store what the entry loads, as PNG.
    """

    name: str
    entry: UnreadPair
    lr: Path
    hr: Path | None


@dataclass(eq=False, kw_only=True)
class PairConfig(tfds.core.BuilderConfig):
    """A configuration of a data set of pairs.

    Attributes:
        scale: of all pairs.
    """

    scale: int


class PairBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Base of the builders of data sets of pairs.

    Features: ``lr`` and ``hr``, image files of uint8 [h, w, 3] and [h * scale, w * scale, 3], and ``name``.
    Records are in the order in which `list_splits` lists them.
    """

    VERSION = tfds.core.Version("1.0.0")
    DESCRIPTION = ""
    HOMEPAGE = ""
    url_infos = None  # no checksums: to look for them, TFDS imports a package that it does not install

    @property
    def scale(self) -> int:
        """The scale of all pairs."""
        assert isinstance(self.builder_config, PairConfig)
        return self.builder_config.scale

    def expected_counts(self, published: Mapping[str, int]) -> dict[str, int]:
        """Returns how many pairs each split must have, as far as that is published.

        Args:
            published: such as `PUBLISHED_COUNTS`.
        """
        raise NotImplementedError

    def list_splits(self, manual_dir: Path, published: Mapping[str, int]) -> dict[str, list[StoredPair]]:
        """Lists the pairs of each split without reading them.

        Args:
            manual_dir: the folder of the published files.
            published: such as `PUBLISHED_COUNTS`.

        Raises:
            DataError: if anything is missing, with a line for each place.
        """
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "lr": tfds.features.Image(encoding_format="png"),
                "hr": tfds.features.Image(encoding_format="png"),
                "name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.DESCRIPTION,
            features=features,
            supervised_keys=("lr", "hr"),
            homepage=self.HOMEPAGE,
        )

    # For those who call `download_and_prepare`; `build` can continue and lists all problems.
    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager):
        splits = self.list_splits(Path(dl_manager.manual_dir), PUBLISHED_COUNTS)
        return {
            split: [
                functools.partial(_keyed_examples, shard.pairs, self.scale)
                for shard in _cut(self.name, split, pairs)
            ]
            for split, pairs in splits.items()
        }


def build(
    builder: PairBuilder,
    splits: Mapping[str, Sequence[StoredPair]],
    *,
    threads: int,
    progress: Callable[[int, int], None],
    report: Callable[[str], None],
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
    shards = [shard for split, pairs in splits.items() for shard in _cut(builder.name, split, pairs)]
    finished = _read_finished(work, shards)
    todo = [shard for shard in shards if shard.file not in finished]
    _check_space(work, todo)
    total = sum(len(shard.pairs) for shard in shards)
    n_checked, n_bad = total - sum(len(shard.pairs) for shard in todo), 0
    progress(n_checked, total)
    for shard in todo:
        n_bad_before = n_bad
        for problem in _write_shard(builder, work / shard.file, shard.pairs, threads):
            if problem is not None:
                n_bad += 1
                report(problem)
            n_checked += 1
            progress(n_checked, total)
        if n_bad == n_bad_before:
            finished[shard.file] = _digest(shard.pairs)
            write_atomically(work / _FINISHED, json.dumps(finished))
    if n_bad:
        raise DataError(
            f"{n_bad:,} of {total:,} pairs cannot be used, so there is no data set; replace their files and "
            f"start again, which continues from {work}"
        )
    _write_info(builder, shards, work)
    work.rename(target)
    (target / _FINISHED).unlink()


def missing_images(folder: Path, missing: Collection[str], n_expected: int, *, otherwise: str) -> str:
    """Says in one line which images a folder lacks.

    Args:
        folder: where they were expected.
        missing: names of those that are not there.
        n_expected: how many belong there.
        otherwise: what to do about it.
    """
    if not folder.is_dir():
        return f"{folder}: not there; {otherwise}"
    return f"{folder}: {len(missing):,} of {n_expected:,} images missing: {list_names(missing)}; {otherwise}"


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
    """A file of records."""

    split: str
    file: str
    pairs: Sequence[StoredPair]


def _cut(name: str, split: str, pairs: Sequence[StoredPair]) -> list[_Shard]:
    """Cuts a split into shards, whose files are named as TFDS expects."""
    parts = [pairs[start : start + _PAIRS_PER_SHARD] for start in range(0, len(pairs), _PAIRS_PER_SHARD)]
    return [
        _Shard(split, f"{name}-{split}.array_record-{index:05}-of-{len(parts):05}", part)
        for index, part in enumerate(parts)
    ]


def _read_finished(work: Path, shards: Sequence[_Shard]) -> dict[str, str]:
    """Returns the digests of the shards that can be kept, by file name, and removes all other files."""
    try:
        recorded = json.loads((work / _FINISHED).read_text())
    except (OSError, ValueError):
        recorded = {}
    digests = {shard.file: _digest(shard.pairs) for shard in shards if (work / shard.file).is_file()}
    finished = {file: digest for file, digest in digests.items() if recorded.get(file) == digest}
    for path in work.iterdir():
        if path.name not in finished and path.name != _FINISHED:
            path.unlink()
    return finished


def _digest(pairs: Sequence[StoredPair]) -> str:
    """Tells the content of a shard from any other, without reading it."""
    content = repr([(pair.name, pair.entry.fingerprint) for pair in pairs])
    return hashlib.sha256(content.encode()).hexdigest()


def _check_space(work: Path, todo: Sequence[_Shard]) -> None:
    """Stops a build for which there is no room. HR images that will be reduced are not counted."""
    paths = [path for shard in todo for pair in shard.pairs for path in (pair.lr, pair.hr) if path]
    needed = sum(map(_size, paths))
    free = shutil.disk_usage(work).free
    if free < needed:
        raise DataError(
            f"{work}: {needed / 2**30:.1f} GiB are needed, but {free / 2**30:.1f} GiB are free; make room or "
            "store the data set elsewhere"
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # which is told when it is read
        return 0


def _write_shard(
    builder: PairBuilder, path: Path, pairs: Sequence[StoredPair], threads: int
) -> Iterator[str | None]:
    """Writes a file of records, unless one of its pairs cannot be used.

    Yields:
        For each pair, None or a line on why it cannot be used.
    """
    features: Any = builder.info.features
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    is_complete = True
    try:
        writer = ArrayRecordWriter(str(temporary), "group_size:1")  # so that records can be read in any order
        for example in _examples(pairs, builder.scale, threads):
            is_problem = isinstance(example, str)
            is_complete &= not is_problem
            if is_complete:
                writer.write(features.serialize_example(example))
            yield example if is_problem else None
        writer.close()
        if is_complete:
            _sync(temporary)
            temporary.replace(path)
    except RuntimeError as error:  # the writer's
        raise DataError(f"{path}: cannot be written ({first_line(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Makes sure that a file is on disk before it counts as finished."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _examples(pairs: Sequence[StoredPair], scale: int, threads: int) -> Iterator[Example | str]:
    """Yields, in order, the record of each pair, or a line on why it cannot be used."""
    return in_threads(functools.partial(_example, scale=scale), pairs, threads)


def _example(pair: StoredPair, scale: int) -> Example | str:
    loaded = load_pair(pair.entry, scale)
    if isinstance(loaded, str):
        return loaded
    try:
        hr = _to_png(loaded[1]) if pair.hr is None else pair.hr.read_bytes()
        return {"lr": pair.lr.read_bytes(), "hr": hr, "name": pair.name}
    except OSError as error:  # a file that went away since
        return f"{error.filename}: {error.strerror}"


def _to_png(image: np.ndarray) -> bytes:
    return encode(image, Metadata(), format="PNG", quality=95)


def _keyed_examples(pairs: Sequence[StoredPair], scale: int) -> Iterator[tuple[str, Example]]:
    """Yields the records of a shard as TFDS wants them."""
    for pair, example in zip(pairs, _examples(pairs, scale, threads=1), strict=True):
        if isinstance(example, str):
            raise DataError(example)
        yield pair.name, example


def _write_info(builder: PairBuilder, shards: Sequence[_Shard], work: Path) -> None:
    """Writes what TFDS must know of a data set into its folder."""
    infos = []
    for split, group in groupby(shards, key=lambda shard: shard.split):
        parts = list(group)
        info = tfds.core.SplitInfo(
            name=split,
            shard_lengths=[len(part.pairs) for part in parts],
            num_bytes=sum((work / part.file).stat().st_size for part in parts),
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=tfds.core.Path(work),
                dataset_name=builder.name,
                filetype_suffix="array_record",
                split=split,
            ),
        )
        infos.append(info)
    builder.info.set_splits(tfds.core.SplitDict(infos))
    builder.info.write_to_directory(work)
