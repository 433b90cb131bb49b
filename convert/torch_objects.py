"""What the names in a PyTorch pickle stand for: tensors, which are windows of storages, and containers.

One rule bounds time and memory: no number that tells how much there is of something may exceed the bytes of
the file, and it is checked where it is read, before anything is computed from it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes  # noqa: F401 makes bfloat16 and float8 known to NumPy
import numpy as np

from realsr_jax.convert.pickle_reader import (
    CheckpointError,
    Global,
    Opaque,
    expect,
    expect_name,
    quote,
    update_mapping,
)

MAX_REPETITION = 8
"""How often a checkpoint may repeat its bytes in tensors, which can share storages and repeat elements."""

_MAX_DIMENSIONS = 64  # as many as an array of NumPy can have
_BYTES_FOR_A_STEP = 6  # as a step of the pickle can make an object of about 120 bytes
_FREE_STEPS = 100_000  # for small files, which have little else than their pickle

# The type, PyTorch's storage class (newer types have none: tensors name them) and the name in safetensors.
_TYPES = (
    ("float32", "FloatStorage", "F32"),
    ("float64", "DoubleStorage", "F64"),
    ("float16", "HalfStorage", "F16"),
    ("bfloat16", "BFloat16Storage", "BF16"),
    ("int64", "LongStorage", "I64"),
    ("int32", "IntStorage", "I32"),
    ("int16", "ShortStorage", "I16"),
    ("int8", "CharStorage", "I8"),
    ("uint8", "ByteStorage", "U8"),
    ("bool", "BoolStorage", "BOOL"),
    ("complex64", "ComplexFloatStorage", "C64"),
    ("complex128", "ComplexDoubleStorage", ""),
    ("uint16", "", "U16"),
    ("uint32", "", "U32"),
    ("uint64", "", "U64"),
    ("float8_e4m3fn", "", "F8_E4M3"),
    ("float8_e5m2", "", "F8_E5M2"),
    ("uint8", "UntypedStorage", ""),
    ("uint8", "storage.UntypedStorage", ""),
)

STORAGE_DTYPES = {f"torch.{storage}": np.dtype(name) for name, storage, _ in _TYPES if storage}
"""Element type of each storage class, by its name in a pickle."""

SAFETENSORS_DTYPES = {short: np.dtype(name) for name, _, short in _TYPES if short}
"""Element types of the safetensors format by their names there."""

_TENSOR_DTYPES = {f"torch.{name}": np.dtype(name) for name, storage, _ in _TYPES if not storage}

_TENSORS = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}
_PARAMETERS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_MAPPINGS = {"collections.OrderedDict", "collections.Counter"}

# Found beside the weights in training checkpoints.
_IGNORED = {
    *(f"torch.{name}" for name, *_ in _TYPES),
    *("torch.device", "torch.Tensor", "torch.nn.parameter.Parameter", "_codecs.encode"),
    *("numpy.dtype", "numpy.ndarray"),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
    *(
        f"{package}.{name}"
        for package in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "complex")
    ),
}

_ALLOWED = {*STORAGE_DTYPES, *_TENSOR_DTYPES, *_TENSORS, *_PARAMETERS, *_MAPPINGS, *_IGNORED, "torch.Size"}


def expect_count(value: object, limit: int) -> int:
    """Returns `value` if it is a number from 0 to `limit`, else raises CheckpointError."""
    count = expect(value, int)
    if not 0 <= count <= limit:
        raise CheckpointError("is damaged: it describes a tensor of impossible size")
    return count


def expect_shape(sizes: object, file_size: int) -> tuple[int, ...]:
    """Returns the shape of a tensor that a file can hold, else raises CheckpointError."""
    shape = expect(sizes, tuple)
    if len(shape) > _MAX_DIMENSIONS:
        raise CheckpointError(f"is damaged: it describes a tensor of {len(shape)} dimensions")
    for size in shape:
        expect_count(size, file_size)
    # A size of 0 empties a tensor, but NumPy refuses it if the other sizes are too large.
    if math.prod(max(size, 1) for size in shape) > MAX_REPETITION * file_size:
        raise CheckpointError("describes tensors far larger than the file itself")
    return shape


@dataclass(frozen=True, slots=True)
class Storage:
    """A window of the elements under a key, which tensors are windows of.

    Attributes:
        key: names the bytes in the file.
        dtype: type of the elements.
        numel: how many there are under the key.
        start: the window's first.
        stop: the one behind its last.
    """

    key: str
    dtype: np.dtype
    numel: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor, described but not made.

    Attributes:
        storage: holds its bytes.
        dtype: type of its elements.
        offset: its first element, counted from the start of the storage's window.
        shape: its sizes.
        strides: elements from one to the next, along each axis of more than one.
    """

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """How many bytes its elements have."""
        return math.prod(self.shape) * self.dtype.itemsize

    def view(self, storages: Mapping[str, memoryview]) -> np.ndarray:
        """Returns the array, as a window of the bytes under its storage's key."""
        source, itemsize = self.storage, self.storage.dtype.itemsize
        data = storages.get(source.key)
        if data is None or len(data) != source.numel * itemsize:
            raise CheckpointError(
                f"is damaged: the data of storage {quote(source.key)} is missing or cut short"
            )
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        window, width = data[source.start * itemsize : source.stop * itemsize], self.dtype.itemsize
        axes = zip(self.shape, self.strides, strict=True)
        strides = [step * width if size > 1 else 0 for size, step in axes]
        return np.ndarray(self.shape, self.dtype, window, self.offset * width, strides)


class TorchVocabulary:
    """Makes tensors, storages and containers, and refuses every other name.

    Attributes:
        itemsizes: bytes of an element in each storage that the pickle named.

    Args:
        file_size: The file's bytes, which bound every number in the pickle and how many steps it may have.
    """

    def __init__(self, file_size: int):
        self.itemsizes: dict[str, int] = {}
        self._file_size = file_size
        self._steps_left = _FREE_STEPS + file_size // _BYTES_FOR_A_STEP

    def count_steps(self, steps: int) -> None:
        """Counts instructions, sizes and copied entries; raises CheckpointError if they become too many."""
        self._steps_left -= steps
        if self._steps_left < 0:
            raise CheckpointError("is damaged: its pickle grows without bound")

    def find(self, module: str, name: str) -> Global:
        """Returns the global of that name if it is allowed."""
        path = f"{'torch' if module == 'torch.cuda' else module}.{name}"
        if path not in _ALLOWED:
            raise CheckpointError(
                f"holds a pickled {quote(f'{module}.{name}')} object, and unpickling classes can run code; "
                "save only the weights with torch.save(model.state_dict(), ...) and convert that file"
            )
        return Global(path)

    def call(self, name: str, arguments: tuple[object, ...]) -> object:
        """Makes a tensor or a plain container."""
        if name in _TENSORS:
            return self._make_tensor(arguments)
        if name in _PARAMETERS:
            return expect(arguments[0], Tensor)
        if name in _MAPPINGS:
            return self._copy_mapping(arguments[0] if arguments else ())
        if name == "torch.Size":
            return expect(arguments[0], tuple)
        return Opaque(name)

    def load_persistent(self, reference: object) -> Storage:
        """Finds a storage, from ("storage", class, key, device, numel, view)."""
        tag, kind, key, _, numel, *view = expect(reference, tuple)[:6]
        dtype = STORAGE_DTYPES[expect(kind, Global).name]
        key, numel = expect_name(key), expect_count(numel, self._file_size)
        start, length = 0, numel
        if view and view[0] is not None:
            _, start, length = expect(view[0], tuple)
        stop = expect_count(start, numel) + expect_count(length, numel)
        if tag != "storage" or stop > numel:
            raise CheckpointError("is damaged: its pickle describes an impossible storage")
        self.itemsizes.setdefault(key, dtype.itemsize)
        return Storage(key, dtype, numel, start, stop)

    def _make_tensor(self, arguments: tuple[object, ...]) -> Tensor:
        """Makes a tensor, from (storage, offset, shape, strides, requires_grad, hooks, type of _v3)."""
        storage, offset, sizes, steps, *rest = arguments[:7]
        source, first = expect(storage, Storage), expect_count(offset, self._file_size)
        dtype = source.dtype
        if len(rest) > 2 and isinstance(rest[2], Global):
            dtype = _TENSOR_DTYPES[rest[2].name]
        shape = expect_shape(sizes, self._file_size)
        self.count_steps(len(shape))
        strides, last = expect(steps, tuple), first
        for size, step in zip(shape, strides, strict=True):
            if size > 1:  # else it is never used, so that any number can stand there
                last += (size - 1) * expect_count(step, self._file_size)
        end = (source.stop - source.start) * source.dtype.itemsize
        if 0 not in shape and (last + 1) * dtype.itemsize > end:
            raise CheckpointError("is damaged: it describes a tensor that reaches outside its storage")
        return Tensor(source, dtype, first, shape, strides)

    def _copy_mapping(self, items: object) -> dict[str, object]:
        """Makes what Python 2 pickled as OrderedDict([[key, value], ...])."""
        source: Any = items if isinstance(items, dict) else expect(items or [], list)
        self.count_steps(len(source))
        mapping: dict[str, object] = {}
        update_mapping(mapping, source.items() if isinstance(source, dict) else source)
        return mapping
