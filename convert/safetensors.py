"""The safetensors format, read with NumPy alone."""

import json
import math

import ml_dtypes
import numpy as np

from realsr_jax.convert.pickle_reader import CheckpointError, expect, quote
from realsr_jax.convert.torch_objects import MAX_DIMENSIONS

_MAX_HEADER = 100_000_000

SAFETENSORS_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
    "C64": np.dtype("<c8"),
}
"""Element types of the safetensors format by their names there."""


def is_safetensors(data: bytes) -> bool:
    """Tells whether a file starts like one of the format."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= _MAX_HEADER


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """Reads the length of the header, the header as JSON, and the tensors, which fill the rest gaplessly.

    Args:
        data: The whole file.

    Returns:
        New C-contiguous arrays by name, in the header's order.

    Raises:
        CheckpointError: The header cannot be read or does not fit the data, or a type is unknown.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        header = expect(json.loads(data[8:start]), dict)
        header.pop("__metadata__", None)
        spans = {name: _check_span(expect(entry, dict)) for name, entry in header.items()}
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError("is damaged or cut short: its safetensors header cannot be read") from error
    end = 0
    for _, _, begin, stop in sorted(spans.values(), key=lambda span: span[2:]):
        if begin != end:
            raise CheckpointError("is damaged: its safetensors header leaves gaps or overlaps")
        end = stop
    if start + end != len(data):
        raise CheckpointError(f"is damaged or cut short: {start + end} bytes expected, {len(data)} found")
    return {
        name: np.frombuffer(data[start + begin : start + stop], dtype).reshape(shape).copy()
        for name, (dtype, shape, begin, stop) in spans.items()
    }


def _check_span(entry: dict[str, object]) -> tuple[np.dtype, list[int], int, int]:
    """Returns type, shape, begin and end of a safetensors entry, which agree with each other."""
    name = expect(entry["dtype"], str)
    if name not in SAFETENSORS_DTYPES:
        raise CheckpointError(f"holds a tensor of type {quote(name)}, which is not supported")
    dtype = SAFETENSORS_DTYPES[name]
    shape = [expect(size, int) for size in expect(entry["shape"], list)]
    begin, stop = (expect(offset, int) for offset in expect(entry["data_offsets"], list))
    if len(shape) > MAX_DIMENSIONS or not all(0 <= size < 2**48 for size in shape):
        raise CheckpointError("is damaged: it describes a tensor of impossible shape")
    if begin < 0 or stop - begin != math.prod(shape) * dtype.itemsize:
        raise CheckpointError("is damaged: its safetensors header contradicts itself")
    return dtype, shape, begin, stop
