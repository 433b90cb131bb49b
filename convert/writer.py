"""Writes PyTorch and safetensors checkpoints with NumPy alone."""

import json
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from realsr_jax.convert.safetensors import SAFETENSORS_DTYPES
from realsr_jax.convert.torch_objects import STORAGE_DTYPES

_ALIGNMENT = 64
_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def write_torch(path: Path, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes what torch.save would: an ordered dict of contiguous tensors that torch.load reads.

    The file also loads with `weights_only=True`, and equal weights give equal files.

    Args:
        path: The file, replaced in one step once all is written.
        state_dict: Arrays by parameter name: bool, int8 to int64, uint8, float16, bfloat16, float32,
            float64 or complex.

    Raises:
        ValueError: PyTorch has no storage class for the type of an array.
    """
    arrays = {name: _to_native(array) for name, array in state_dict.items()}
    pickled = _pickle_tensors(arrays)
    with _replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        _add_member(archive, file, "data.pkl", pickled)
        _add_member(archive, file, "byteorder", b"little")
        for key, array in enumerate(arrays.values()):
            _add_member(archive, file, f"data/{key}", _to_bytes(array))
        _add_member(archive, file, "version", b"3\n")


def write_safetensors(path: Path, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file.

    Args:
        path: The file, replaced in one step once all is written.
        state_dict: Arrays by parameter name, of the types that the format knows.

    Raises:
        ValueError: The format does not know the type of an array.
    """
    arrays = {name: _to_native(array) for name, array in state_dict.items()}
    header = {
        name: {"dtype": _name_dtype(array.dtype, SAFETENSORS_DTYPES, name), "shape": array.shape}
        for name, array in arrays.items()
    }
    # Wide types first, so that every array is aligned to its element size.
    order = sorted(arrays, key=lambda name: -arrays[name].itemsize)
    end = 0
    for name in order:
        header[name]["data_offsets"] = (end, end + arrays[name].nbytes)
        end += arrays[name].nbytes
    encoded = json.dumps(header).encode()
    encoded += b" " * (-(8 + len(encoded)) % _ALIGNMENT)
    with _replacing(path) as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for name in order:
            file.write(_to_bytes(arrays[name]))


@contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside `path` that takes its place on success and is removed on failure."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _to_native(array: np.ndarray) -> np.ndarray:
    """Returns `array` in this machine's byte order, C-contiguous and with its shape kept."""
    array = np.asarray(array, order="C")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _to_bytes(array: np.ndarray) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _name_dtype(dtype: np.dtype, names: Mapping[str, np.dtype], parameter: str) -> str:
    for name, candidate in names.items():
        if candidate == dtype:
            return name
    raise ValueError(f"expected one of {', '.join(map(str, names.values()))} for {parameter!r}, got {dtype}")


def _add_member(archive: zipfile.ZipFile, file: BinaryIO, name: str, content: bytes | memoryview) -> None:
    """Adds an uncompressed member whose content starts at a multiple of 64, as in PyTorch's own files."""
    member = zipfile.ZipInfo(f"archive/{name}")
    header_size = 30 + len(member.filename) + 4
    padding = -(file.tell() + header_size) % _ALIGNMENT
    member.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    archive.writestr(member, content)


def _pickle_tensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the pickle, of protocol 2, of an ordered dict of tensors in the storages 0, 1, 2..."""
    items = b"".join(
        _pickle_string(name) + _pickle_tensor(str(key), _name_dtype(array.dtype, STORAGE_DTYPES, name), array)
        for key, (name, array) in enumerate(arrays.items())
    )
    return b"\x80\x02" + _ORDERED_DICT + b"(" + items + b"u."


def _pickle_tensor(key: str, storage_class: str, array: np.ndarray) -> bytes:
    """Returns _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, backward_hooks)."""
    storage = (
        b"("
        + _pickle_string("storage")
        + "c{}\n{}\n".format(*storage_class.rsplit(".", 1)).encode()
        + _pickle_string(key)
        + _pickle_string("cpu")
        + _pickle_int(array.size)
        + b"tQ"
    )
    strides = [math.prod(max(size, 1) for size in array.shape[axis + 1 :]) for axis in range(array.ndim)]
    shape_and_strides = b"".join(
        b"(" + b"".join(_pickle_int(number) for number in numbers) + b"t"
        for numbers in (array.shape, strides)
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + _pickle_int(0)
        + shape_and_strides
        + b"\x89"
        + _ORDERED_DICT
        + b"tR"
    )


def _pickle_string(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _pickle_int(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)
