"""What the names in a PyTorch pickle stand for: tensors, which are windows of storages, and containers."""

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes  # noqa: F401 makes bfloat16 and float8 known to NumPy
import numpy as np

from realsr_jax.convert.pickle_reader import CheckpointError, Global, Opaque, expect, quote, update_mapping

_MAX_DIMENSIONS = 64  # as many as an array of NumPy can have

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


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes that tensors are windows of, and the type of their elements."""

    dtype: np.dtype
    data: memoryview


class TorchVocabulary:
    """Makes tensors, storages and containers, and refuses every other name.

    Attributes:
        itemsizes: bytes of an element in each storage that the pickle named.

    Args:
        storages: The bytes of every storage by its key; None before they are known, when no tensors are made.
        max_copied: How many dict entries may be copied from lists; a short pickle could otherwise copy one
            long list again and again.
    """

    def __init__(self, storages: Mapping[str, memoryview] | None, max_copied: int):
        self.itemsizes: dict[str, int] = {}
        self._storages = storages
        self._copies_left = max_copied

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
        if name in _TENSORS and self._storages is not None:
            return make_tensor(*arguments)
        if name in _PARAMETERS and self._storages is not None:
            return expect(arguments[0], np.ndarray)
        if name in _MAPPINGS:
            return self._copy_mapping(*arguments)
        if name == "torch.Size":
            return expect(arguments[0], tuple)
        return Opaque(name)

    def load_persistent(self, reference: object) -> Storage:
        """Finds a storage, from ("storage", class, key, device, numel, view)."""
        tag, kind, key, _, numel, *view = expect(reference, tuple)
        dtype = STORAGE_DTYPES[expect(kind, Global).name]
        key, numel = expect(key, str), expect(numel, int)
        start, length = 0, numel
        if tag == "storage" and view and view[0] is not None:
            _, start, length = expect(view[0], tuple)
        stop = expect(start, int) + expect(length, int)
        if tag != "storage" or not 0 <= start <= stop <= numel:
            raise CheckpointError("is damaged: its pickle describes an impossible storage")
        self.itemsizes.setdefault(key, dtype.itemsize)
        if self._storages is None:
            return Storage(dtype, memoryview(b""))
        data = self._storages.get(key)
        if data is None or len(data) != numel * dtype.itemsize:
            raise CheckpointError(f"is damaged: the data of storage {quote(key)} is missing or cut short")
        return Storage(dtype, data[start * dtype.itemsize : stop * dtype.itemsize])

    def _copy_mapping(self, items: object = ()) -> dict[object, object]:
        """Makes what Python 2 pickled as OrderedDict([[key, value], ...])."""
        pairs = list(items.items()) if isinstance(items, dict) else expect(items or [], list)
        self._copies_left -= len(pairs)
        if self._copies_left < 0:
            raise CheckpointError("is damaged: its pickle grows without bound")
        mapping: dict[object, object] = {}
        update_mapping(mapping, pairs)
        return mapping


def make_tensor(storage: object, offset: object, shape: object, strides: object, *rest: object) -> np.ndarray:
    """Returns a tensor as a window of its storage.

    Args:
        storage: its bytes.
        offset: its first element.
        shape: its sizes.
        strides: elements from one to the next, along each axis.
        rest: none more of _rebuild_tensor; grad and hooks of _v2; grad, hooks and type of _v3.

    Raises:
        CheckpointError: if it reaches outside of its storage.
    """
    source, first = expect(storage, Storage), expect(offset, int)
    dtype = source.dtype
    if len(rest) > 2 and isinstance(rest[2], Global):
        dtype = _TENSOR_DTYPES[rest[2].name]
    sizes, steps = (tuple(expect(item, int) for item in expect(items, tuple)) for items in (shape, strides))
    # A dimension of one element has a stride that is never used, so any number can stand there.
    steps = [step if size > 1 else 0 for size, step in zip(sizes, steps, strict=True)]
    if min((0, first, *sizes, *steps)) < 0 or len(sizes) > _MAX_DIMENSIONS:
        raise CheckpointError("is damaged: it describes a tensor of impossible shape")
    if 0 in sizes:
        return np.empty(sizes, dtype)
    last = first + sum((size - 1) * step for size, step in zip(sizes, steps, strict=True))
    if (last + 1) * dtype.itemsize > len(source.data):
        raise CheckpointError("is damaged: it describes a tensor that reaches outside its storage")
    return np.ndarray(sizes, dtype, source.data, first * dtype.itemsize, [s * dtype.itemsize for s in steps])
