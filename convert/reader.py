"""Reads PyTorch and safetensors checkpoints without PyTorch, and without running any code in them."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from realsr_jax.convert.pickle_reader import (
    CheckpointError,
    Global,
    Opaque,
    expect,
    expect_name,
    load_pickle,
    quote,
)
from realsr_jax.convert.torch_objects import (
    MAX_REPETITION,
    SAFETENSORS_DTYPES,
    Tensor,
    TorchVocabulary,
    expect_shape,
)
from realsr_jax.system.errors import in_one_line
from realsr_jax.system.files import read_file

WRAPPERS = (
    "params_ema",
    "ema_state_dict",
    "model_ema",
    "params",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "network",
    "generator",
    "netG",
    "net_g",
    "G",
)
"""Names under which training code keeps the weights, preferred ones first."""

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_MAX_NESTING = 8

_WRONG_DOWNLOAD = "is {}, not the checkpoint: download the file itself"
_FOREIGN_STARTS = {
    b"version https://git-lfs": _WRONG_DOWNLOAD.format("a git-lfs pointer"),
    b"<!doctype html": _WRONG_DOWNLOAD.format("a web page"),
    b"<html": _WRONG_DOWNLOAD.format("a web page"),
    b"<?xml": _WRONG_DOWNLOAD.format("a web page"),
    b"\xff\xd8\xff": "is a JPEG image, not a checkpoint",
    b"\x89png": "is a PNG image, not a checkpoint",
    b"\x89hdf": "is an HDF5 file, not a PyTorch or safetensors checkpoint",
    b"\x1f\x8b": "is compressed with gzip: unpack it first",
}


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Reads the weights of a checkpoint file.

    The format is told by the content: PyTorch's zip archive, its older stream, or safetensors.

    Args:
        path: The file.

    Returns:
        C-contiguous arrays by parameter name, in the file's types and order (sorted, from safetensors);
        wrappers and common name prefixes are removed, see `unwrap`.

    Raises:
        CheckpointError: The file cannot be read, is no checkpoint, is damaged, holds pickled classes, or
            holds no weights.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise CheckpointError(f"cannot be read: {error.strerror}") from error
    if not data:
        raise CheckpointError("is empty")
    if data[257:262] == b"ustar":
        raise CheckpointError(
            "is in the tar format of PyTorch before 0.2, or a tar archive to unpack first; "
            "load it with an old PyTorch and re-save with torch.save(model.state_dict(), ...)"
        )
    if data.startswith(b"PK"):
        return _read_zip(data)
    if data.startswith(b"\x80"):
        return _read_stream(data)
    if data[5:9] == b"\0\0\0{":  # the header's length, less than 2**40, and its start
        return unwrap(_read_safetensors(data))
    start = data[:64].lstrip().lower()
    known = (message for prefix, message in _FOREIGN_STARTS.items() if start.startswith(prefix))
    raise CheckpointError(next(known, "is not a PyTorch or safetensors checkpoint"))


def _read_zip(data: bytes) -> dict[str, np.ndarray]:
    """Reads what torch.save writes today: NAME/data.pkl and the storages as NAME/data/KEY."""
    members = _list_members(data)
    folder = next((name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")), None)
    if folder is None:
        raise CheckpointError("is a zip archive but no PyTorch checkpoint: if it holds one, unpack it first")
    if members.get(f"{folder}byteorder", b"little") != b"little":
        raise CheckpointError("was saved on a big-endian machine, which is not supported")
    start = f"{folder}data/"
    storages = {name.removeprefix(start): part for name, part in members.items() if name.startswith(start)}
    tree = load_pickle(io.BytesIO(members[f"{folder}data.pkl"]), TorchVocabulary(len(data)))
    return _copy_weights(tree, storages, len(data))


def _list_members(data: bytes) -> dict[str, memoryview]:
    """Returns the members of a zip archive by name, as windows of it, checked against their checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
        _check_members(entries, len(data))
        return {entry.filename: _find_member(memoryview(data), entry) for entry in entries}
    except CheckpointError:
        raise
    except Exception as error:  # zipfile fails in many ways
        reason = f"is a damaged or incomplete zip archive ({quote(in_one_line(error))[1:-1]})"
        raise CheckpointError(f"{reason}: download it again") from error


def _check_members(entries: Sequence[zipfile.ZipInfo], file_size: int) -> None:
    if any(entry.filename.endswith("/constants.pkl") or "/code/" in entry.filename for entry in entries):
        raise CheckpointError(
            "is a TorchScript archive, which holds code; "
            "re-save its weights with torch.save(torch.jit.load(path).state_dict(), ...)"
        )
    is_plain = all(entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1 for entry in entries)
    # Members that overlap could pretend to far more data than there is.
    if not is_plain or sum(entry.file_size for entry in entries) > file_size:
        raise CheckpointError(
            "is no archive of torch.save: its members are compressed or encrypted, unpack it first"
        )


def _find_member(data: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    header = data[entry.header_offset :][:30]
    if header[:4] != zipfile.stringFileHeader:
        raise zipfile.BadZipFile(f"no file {entry.filename!r} where it should be")
    start = entry.header_offset + len(header) + sum(struct.unpack("<2H", header[26:]))
    part = data[start : start + entry.file_size]
    # PyTorch writes 0 where checksums are switched off.
    if len(part) != entry.file_size or (entry.CRC and zlib.crc32(part) != entry.CRC):
        raise zipfile.BadZipFile(f"Bad CRC-32 for file {entry.filename!r}")
    return part


def _read_stream(data: bytes) -> dict[str, np.ndarray]:
    """Reads the older format: pickles in a row, then each storage as element count and bytes."""
    stream, vocabulary = io.BytesIO(data), TorchVocabulary(len(data))
    if load_pickle(stream, vocabulary) != _MAGIC_NUMBER:
        raise CheckpointError("is a Python pickle, but not one of torch.save")
    if load_pickle(stream, vocabulary) != _PROTOCOL_VERSION:
        raise CheckpointError("is in an unknown version of the PyTorch format")
    system = expect(load_pickle(stream, vocabulary), dict)
    if system.get("little_endian") is False:
        raise CheckpointError("was saved on a big-endian machine, which is not supported")
    tree = load_pickle(stream, vocabulary)
    keys = expect(load_pickle(stream, vocabulary), list)
    view, position = memoryview(data), stream.tell()
    storages: dict[str, memoryview] = {}
    for key in keys:
        itemsize = vocabulary.itemsizes.get(expect_name(key))
        count = int.from_bytes(view[position : position + 8], "little")
        position += 8
        if itemsize is None or position + count * itemsize > len(data):
            raise CheckpointError("is damaged or cut short: data of its tensors is missing")
        storages[key] = view[position : position + count * itemsize]
        position += count * itemsize
    return _copy_weights(tree, storages, len(data))


def _copy_weights(tree: object, storages: Mapping[str, memoryview], file_size: int) -> dict[str, np.ndarray]:
    """Copies the weights in `tree` out of their storages."""
    tensors = unwrap(tree)
    if sum(tensor.nbytes for tensor in tensors.values()) > MAX_REPETITION * file_size:
        raise CheckpointError("describes tensors far larger than the file itself")
    return {name: tensor.view(storages).copy(order="C") for name, tensor in tensors.items()}


def _read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    try:
        return {
            name: np.ndarray(
                expect_shape(tuple(tensor["shape"]), len(data)),
                SAFETENSORS_DTYPES[tensor["dtype"]],
                tensor["data"],
            )
            for name, tensor in sorted(safetensors.deserialize(data))
        }
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(f"holds a tensor of type {error}, which is not supported") from error
    except (safetensors.SafetensorError, ValueError) as error:
        reason = quote(str(error).removeprefix("Error while deserializing: "))[1:-1]
        raise CheckpointError(f"is damaged or cut short: {reason}") from error


def unwrap(tree: object) -> dict[str, Any]:
    """Finds the weights in what a checkpoint holds.

    Training code wraps them as {"state_dict": ...}, {"params_ema": ..., "params": ...} and so on, beside the
    epoch and the optimizer's state; `WRAPPERS` lists the names, which may be nested. Where none of them is
    there, the tensors at the top are the weights, else those of the only mapping that has any. The name
    prefixes of `DataParallel` and of the EDSR training code are removed if all names share them.

    Args:
        tree: Nested dicts with tensors in them, arrays or descriptions.

    Returns:
        The tensors by parameter name.

    Raises:
        CheckpointError: There are no tensors, or several mappings that may be meant.
    """
    tensors = _find_tensors(tree, _MAX_NESTING, {})
    if not tensors:
        raise CheckpointError(f"holds no weights: expected tensors by name, found {_describe(tree)}")
    for prefix in ("module.", "model.", "module."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _find_tensors(tree: object, depth: int, known: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Returns the weights below `tree`, or nothing; `known` holds results by the id of their mapping."""
    if not isinstance(tree, dict) or depth == 0:
        return {}
    if id(tree) not in known:
        known[id(tree)] = {}  # Ends the search where a mapping contains itself.
        known[id(tree)] = _find_tensors_below(
            {key: value for key, value in tree.items() if isinstance(key, str)},
            lambda child: _find_tensors(child, depth - 1, known),
        )
    return known[id(tree)]


def _find_tensors_below(named: dict[str, Any], find: Callable[[object], dict[str, Any]]) -> dict[str, Any]:
    for wrapper in WRAPPERS:
        if found := find(named.get(wrapper)):
            return found
    tensors = {key: value for key, value in named.items() if isinstance(value, np.ndarray | Tensor)}
    # Numbers such as the best score are tensors too, but no weights.
    if any(value.shape for value in tensors.values()):
        return tensors
    nested = {key: found for key, value in named.items() if (found := find(value))}
    if len(nested) > 1:
        names = ", ".join(quote(key) for key in list(nested)[:8])
        raise CheckpointError(f"holds several sets of weights ({names}): save the one to convert by itself")
    return next(iter(nested.values()), tensors)


def _describe(tree: object) -> str:
    if isinstance(tree, dict) and tree:
        keys = (quote(key) if isinstance(key, str) else type(key).__name__ for key in list(tree)[:8])
        return f"a mapping with the keys {', '.join(keys)}"
    if isinstance(tree, dict | list | tuple) and not tree:
        return f"an empty {type(tree).__name__}"
    if isinstance(tree, np.ndarray | Tensor):
        return "a single tensor"
    kind = quote(tree.name) if isinstance(tree, Global | Opaque) else type(tree).__name__
    return f"something of type {kind}"
