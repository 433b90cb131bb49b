"""Data sets of TensorFlow Datasets, read without TensorFlow and without the code that built them."""

import functools
import os
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from tensorflow_datasets.core import read_only_builder

from realsr_jax.data.errors import DataError
from realsr_jax.data.pair_reading import PairImages, UnreadPair
from realsr_jax.data.published_sets import TFDS_NAMES, scale_of
from realsr_jax.data.sources import Tfds
from realsr_jax.images.decoding import decode
from realsr_jax.images.errors import image_errors
from realsr_jax.system.errors import first_line

_SIDES = ("lr", "hr")


def list_tfds(source: Tfds, scale: int) -> list[UnreadPair]:
    """Lists the pairs of a prepared data set in the order in which it stores them, without reading them.

    Args:
        source: the data set, with the image features ``lr`` and ``hr``.
        scale: of the network. A configuration's name that ends in a scale or names one between underscores,
            as ``bicubic_x2`` and ``x2_washed`` do, must name this one.

    Returns:
        The pairs. Each reads its own record when it is loaded, in any process.

    Raises:
        DataError: if the data set is not prepared, is of another kind or scale or has no such split.
    """
    builder = _find(source)
    _check(builder, source, scale)
    directory = os.path.abspath(builder.data_path)
    state = Path(directory, "dataset_info.json").stat()
    return [
        UnreadPair(
            name=f"{builder.info.full_name} {source.split}, record {index}",
            fingerprint=repr((directory, state.st_size, state.st_mtime_ns, source.split, index)),
            load=functools.partial(_load, directory, source.split, index),
        )
        for index in range(_count(builder, source))
    ]


def _find(source: Tfds) -> tfds.core.DatasetBuilder:
    """Opens a prepared data set."""
    data_dir = os.path.expanduser(source.data_dir) or None
    try:
        return read_only_builder.builder_from_files(source.name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        place = source.data_dir or "the default folder of TFDS"
        raise DataError(f"{source.name}: not prepared in {place}; {_how_to_prepare(source)}") from error
    except ValueError as error:  # such as a name that cannot be one
        raise DataError(f"{source.name}: {first_line(error)}") from error


def _how_to_prepare(source: Tfds) -> str:
    """Says what to run to have the data set."""
    name = source.name.partition(":")[0]
    data_dir = f" --data_dir={source.data_dir}" if source.data_dir else ""
    for dataset, tfds_name in TFDS_NAMES.items():
        if name == tfds_name:
            return f"run realsr-prepare --dataset={dataset} --manual_dir=FOLDER_OF_THE_DOWNLOADS{data_dir}"
        if name == tfds_name.partition("/")[0]:
            return f"add the configuration, as in {tfds_name}"
    command = f"tfds build {source.name} --file_format=array_record{data_dir}"
    return f"where TensorFlow is installed, run {command}, and copy the result if that is another machine"


def _check(builder: tfds.core.DatasetBuilder, source: Tfds, scale: int) -> None:
    """Raises DataError if a data set does not hold pairs of a scale that can be read in any order."""
    stored: Any = builder.info.features
    features = dict(stored.items()) if isinstance(stored, tfds.features.FeaturesDict) else {}
    missing = [side for side in _SIDES if not isinstance(features.get(side), tfds.features.Image)]
    if missing:
        raise DataError(
            f"{source.name}: no image feature {' and '.join(missing)}, only {', '.join(sorted(features))}"
        )
    check_format(builder.info, source.name, f"remove {builder.data_path} and {_how_to_prepare(source)}")
    named = scale_of(builder.info.config_name or "")
    if named not in (0, scale):
        raise DataError(f"{source.name}: pairs of scale {named}, but the network's scale is {scale}")


def check_format(info: tfds.core.DatasetInfo, name: str, remedy: str) -> None:
    """Raises DataError, which says what to do, unless a data set can be read in any order."""
    formats = sorted(format.value for format in info.available_file_formats())
    if "array_record" not in formats:
        raise DataError(f"{name}: stored as {' and '.join(formats)}, not as array_record; {remedy}")


def _count(builder: tfds.core.DatasetBuilder, source: Tfds) -> int:
    """Returns the number of records in a split, at least one."""
    try:  # errors about the name of a split have many lines
        count = builder.info.splits[source.split].num_examples
    except (KeyError, ValueError) as error:
        splits = ", ".join(map(str, builder.info.splits))
        raise DataError(
            f"{source.name}: no split {source.split!r}, only {splits} and parts such as train[:90%]"
        ) from error
    if count == 0:
        raise DataError(f"{source.name}: the split {source.split!r} is empty")
    return count


@functools.lru_cache(maxsize=8)
def _open(directory: str, split: str, process: int) -> Any:
    """Opens a split for reading; `process` keeps a forked process from using its parent's files."""
    del process
    decoders = {side: tfds.decode.SkipDecoding() for side in _SIDES}
    builder: Any = tfds.builder_from_directory(directory)
    return builder.as_data_source(split, decoders=decoders)


def _load(directory: str, split: str, index: int) -> PairImages:
    """Reads and decodes a record."""
    record = _open(directory, split, os.getpid())[index]
    where = f"{directory} {split}, record {index}"
    if isinstance(record.get("name"), bytes):
        where += f" ({record['name'].decode()})"
    sides = []
    for side in _SIDES:
        with image_errors(f"{where}, {side}", "broken or cut off"):
            sides.append(decode(record[side]).rgb_8_bit())
    return sides[0], sides[1]
