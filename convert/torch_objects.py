"""What the names in a PyTorch pickle stand for: descriptions of storages and tensors.

The descriptions hold numbers from the file, checked for their types only; `read_tensor` checks the rest
before it touches any bytes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from realsr_jax.convert.pickle_reader import CheckpointError, Global, Opaque, expect, quote, update_mapping

MAX_DIMENSIONS = 64
"""As many as an array of NumPy can have."""

STORAGE_DTYPES: dict[str, np.dtype] = {
    "torch.FloatStorage": np.dtype("<f4"),
    "torch.DoubleStorage": np.dtype("<f8"),
    "torch.HalfStorage": np.dtype("<f2"),
    "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype("<i8"),
    "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"),
    "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"),
    "torch.BoolStorage": np.dtype("?"),
    "torch.ComplexFloatStorage": np.dtype("<c8"),
    "torch.ComplexDoubleStorage": np.dtype("<c16"),
    "torch.UntypedStorage": np.dtype("u1"),
    "torch.storage.UntypedStorage": np.dtype("u1"),
}
"""Element type of each storage class, by its name in a pickle."""

# Newer types have no storage class of their own: the tensor names them.
_TENSOR_DTYPES: dict[str, np.dtype] = {
    "torch.uint16": np.dtype("<u2"),
    "torch.uint32": np.dtype("<u4"),
    "torch.uint64": np.dtype("<u8"),
    "torch.float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "torch.float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}

_TENSORS = {f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3")}
_PARAMETERS = {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}
_MAPPINGS = {"collections.OrderedDict", "collections.Counter"}

# Found beside the weights in training checkpoints.
_IGNORED = {
    *("torch.device", "torch.Tensor", "torch.nn.parameter.Parameter", "_codecs.encode"),
    *("numpy.dtype", "numpy.ndarray"),
    *(
        f"{package}.multiarray.{name}"
        for package in ("numpy.core", "numpy._core")
        for name in ("scalar", "_reconstruct")
    ),
    *(
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")
        for name in ("set", "frozenset", "complex")
    ),
    *(f"torch.{name}" for name in ("bool", "uint8", "int8", "int16", "int32", "int64")),
    *(f"torch.{name}" for name in ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")),
}

_ALLOWED = {*STORAGE_DTYPES, *_TENSOR_DTYPES, *_TENSORS, *_PARAMETERS, *_MAPPINGS, *_IGNORED, "torch.Size"}


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes `start:stop` of the storage that the checkpoint keeps under `key`, which has `nbytes` in all."""

    key: str
    dtype: np.dtype
    nbytes: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor as the pickle describes it; `offset` and `strides` count elements and are unchecked."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor once it is laid out contiguously; empty dimensions count as 1."""
        return self.dtype.itemsize * math.prod(max(size, 1) for size in self.shape)


class TorchVocabulary:
    """Allows tensors, storages and containers, and refuses every other name.

    Args:
        max_copied: How many dict entries may be copied from lists; a short pickle could otherwise copy one
            long list again and again.
    """

    def __init__(self, max_copied: int):
        self.itemsizes: dict[str, int] = {}
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
        """Describes a tensor, or makes a plain container."""
        if name in _TENSORS:
            return _describe_tensor(*arguments)
        if name in _PARAMETERS:
            return expect(arguments[0], TensorView)
        if name in _MAPPINGS:
            return self._copy_mapping(*arguments)
        if name == "torch.Size":
            return expect(arguments[0], tuple)
        return Opaque(name)

    def load_persistent(self, reference: object) -> Storage:
        """Describes a storage, from ("storage", class, key, device, numel, view)."""
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
        return Storage(key, dtype, *(count * dtype.itemsize for count in (numel, start, stop)))

    def _copy_mapping(self, items: object = ()) -> dict[object, object]:
        """Makes what Python 2 pickled as OrderedDict([[key, value], ...])."""
        pairs = list(items.items()) if isinstance(items, dict) else expect(items or [], list)
        self._copies_left -= len(pairs)
        if self._copies_left < 0:
            raise CheckpointError("is damaged: its pickle grows without bound")
        mapping: dict[object, object] = {}
        update_mapping(mapping, pairs)
        return mapping


def _describe_tensor(
    storage: object, offset: object, shape: object, strides: object, *rest: object
) -> TensorView:
    """Takes the arguments of _rebuild_tensor (none more), _v2 (grad, hooks) or _v3 (grad, hooks, dtype)."""
    source = expect(storage, Storage)
    dtype = source.dtype
    if len(rest) > 2 and isinstance(rest[2], Global):
        dtype = _TENSOR_DTYPES[rest[2].name]
    sizes, steps = (tuple(expect(item, int) for item in expect(items, tuple)) for items in (shape, strides))
    if len(sizes) != len(steps) or len(sizes) > MAX_DIMENSIONS:
        raise CheckpointError("is damaged: it describes a tensor of impossible shape")
    return TensorView(source, dtype, expect(offset, int), sizes, steps)


def read_tensor(view: TensorView, storages: Mapping[str, memoryview]) -> np.ndarray:
    """Copies a tensor out of its storage.

    Args:
        view: The tensor's description.
        storages: The bytes of every storage by its key.

    Returns:
        A new C-contiguous array of the tensor's shape and type.

    Raises:
        CheckpointError: The storage is missing or has another size, or the tensor reaches outside of it.
    """
    storage = view.storage
    data = storages.get(storage.key)
    if data is None or len(data) != storage.nbytes:
        raise CheckpointError(f"is damaged: the data of storage {quote(storage.key)} is missing or cut short")
    shape, itemsize = view.shape, view.dtype.itemsize
    # A dimension of one element has a stride that is never used, so any number can stand there.
    strides = [stride if size > 1 else 0 for size, stride in zip(shape, view.strides, strict=True)]
    if min((0, view.offset, *shape, *strides)) < 0:
        raise CheckpointError("is damaged: it describes a tensor of impossible shape")
    if 0 in shape:
        return np.empty(shape, view.dtype)
    last = view.offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if (last + 1) * itemsize > storage.stop - storage.start:
        raise CheckpointError("is damaged: it describes a tensor that reaches outside its storage")
    offset = storage.start + view.offset * itemsize
    window = np.ndarray(shape, view.dtype, data, offset, [stride * itemsize for stride in strides])
    return window.copy(order="C")
