"""Writes PyTorch and safetensors checkpoints without PyTorch."""

import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import safetensors.numpy

from realsr_jax.convert.torch_objects import SAFETENSORS_DTYPES, STORAGE_DTYPES
from realsr_jax.system.files import replacing_file, write_atomically

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
    with replacing_file(path) as file, zipfile.ZipFile(file, "w") as archive:
        _add_member(archive, file, "data.pkl", pickled)
        _add_member(archive, file, "byteorder", b"little")
        for key, array in enumerate(arrays.values()):
            _add_member(archive, file, f"data/{key}", array.reshape(-1).view(np.uint8).data)
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
    for name, array in arrays.items():
        _name_dtype(array.dtype, SAFETENSORS_DTYPES, name)
    write_atomically(path, safetensors.numpy.save(arrays))


def _to_native(array: np.ndarray) -> np.ndarray:
    """Returns `array` in this machine's byte order, C-contiguous and with its shape kept."""
    array = np.asarray(array, order="C")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _name_dtype(dtype: np.dtype, names: Mapping[str, np.dtype], parameter: str) -> str:
    if name := next((name for name, candidate in names.items() if candidate == dtype), None):
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
        _pickle(name) + _pickle_tensor(str(key), _name_dtype(array.dtype, STORAGE_DTYPES, name), array)
        for key, (name, array) in enumerate(arrays.items())
    )
    return b"\x80\x02" + _ORDERED_DICT + b"(" + items + b"u."


def _pickle_tensor(key: str, storage_class: str, array: np.ndarray) -> bytes:
    """Returns _rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, backward_hooks)."""
    storage_type = "c{}\n{}\n".format(*storage_class.rsplit(".", 1)).encode()
    storage = (
        b"(" + _pickle("storage") + storage_type + _pickle(key) + _pickle("cpu") + _pickle(array.size) + b"tQ"
    )
    strides = tuple(math.prod(max(size, 1) for size in array.shape[axis + 1 :]) for axis in range(array.ndim))
    view = _pickle(0) + _pickle(array.shape) + _pickle(strides) + _pickle(False)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + view + _ORDERED_DICT + b"tR"


def _pickle(value: object) -> bytes:
    """Returns the instructions that put a number, a string or a tuple of numbers on the stack."""
    return pickle.dumps(value, 2)[2:-1]  # between the version and the end
