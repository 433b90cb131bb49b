"""Weights, images and expected outputs of the golden cases in `tests/data`.

Weights and images are not stored. They are drawn with integer arithmetic from a fixed bit generator,
so that every machine gets the same arrays as the published PyTorch code got when the outputs were made.
"""

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parent / "data"
MEAN = 255 * np.array([0.4488, 0.4371, 0.4040], np.float32)


def case(name: str) -> dict[str, np.ndarray]:
    """Returns the arrays of the golden case `name`, such as "bicubic" or "model_oaddet"."""
    with np.load(DATA / f"{name}.npz") as arrays:
        return dict(arrays)


def manifest(name: str) -> dict[str, Any]:
    """Returns architecture, config, parameter count and state-dict shapes of the model `name`."""
    return json.loads((DATA / "manifests" / f"{name}.json").read_text())


def state_dict(name: str, seed: int = 0, gain: float = 0.5) -> dict[str, np.ndarray]:
    """Returns the weights of the model `name` in PyTorch's layout.

    Args:
        name: The manifest's name.
        seed: Another seed gives other weights.
        gain: Weights have the standard deviation `gain / sqrt(fan_in)`, biases 0.05.

    Returns:
        A float32 array for each state-dict key, convolutions OIHW and linear layers OI.
    """
    entries = manifest(name)["state_dict"].items()
    return {
        key: np.array(entry["value"], np.float32).reshape(entry["shape"])
        if "value" in entry
        else _draw(key, tuple(entry["shape"]), seed, gain)
        for key, entry in entries
    }


def with_mean_convolutions(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns EDSR weights in the layout of the original, zero-padded checkpoints.

    There the mean shift is a 1x1 convolution instead of a vector.
    """
    identity = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    shifts = {
        "sub_mean.weight": identity,
        "sub_mean.bias": -MEAN,
        "add_mean.weight": identity.copy(),
        "add_mean.bias": MEAN.copy(),
    }
    return shifts | {key: value for key, value in weights.items() if not key.endswith("rgb_mean")}


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Returns a uint8 image [height, width, 3] with ramps, a chequerboard, a disc and noise."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    noise = (_bits(seed, height * width * 3) >> np.uint64(56)).astype(np.int64) // 16
    ramp_x = x * 255 // max(width - 1, 1)
    ramp_y = y * 255 // max(height - 1, 1)
    checks = 40 + 160 * ((x // 7 + y // 5) % 2)
    radius = min(height, width) // 3
    disc = np.where((x - width // 2) ** 2 + (y - height // 2) ** 2 < radius**2, 220, 30)
    clean = np.stack([ramp_x + checks, ramp_y + disc, checks + disc], axis=-1) // 2
    return np.clip(clean + noise.reshape(height, width, 3) - 8, 0, 255).astype(np.uint8)


def _draw(key: str, shape: tuple[int, ...], seed: int, gain: float) -> np.ndarray:
    bits = _bits(zlib.crc32(key.encode()) ^ seed, math.prod(shape))
    uniform = (bits >> np.uint64(40)).astype(np.float64) / (1 << 23) - 1.0
    deviation = gain / math.sqrt(math.prod(shape[1:])) if len(shape) >= 2 else 0.05
    return (uniform * (math.sqrt(3.0) * deviation)).astype(np.float32).reshape(shape)


def _bits(seed: int, count: int) -> np.ndarray:
    return np.random.PCG64(seed).random_raw(count)
