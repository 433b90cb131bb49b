"""How a PyTorch state dict maps to the parameters here, as a table that serves both directions.

A state dict holds convolutions as OIHW and linear maps as OI; Flax holds HWIO and IO.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from realsr_jax.convert import LAYOUTS
from realsr_jax.models import network_name
from realsr_jax.models.layers import upsampling_steps
from realsr_jax.models.network import ModelConfig

StateDict = Mapping[str, np.ndarray]
"""Arrays by their names in a PyTorch checkpoint."""


@dataclass(frozen=True)
class Rule:
    """One tensor in both layouts.

    Attributes:
        key: key in the state dict.
        path: path in the parameters here, ``/`` between its parts.
        to_flax: axes of the PyTorch tensor in the order that Flax keeps them.
    """

    key: str
    path: str
    to_flax: tuple[int, ...]

    @property
    def to_torch(self) -> tuple[int, ...]:
        """Axes of the Flax array in the order that PyTorch keeps them."""
        return tuple(int(axis) for axis in np.argsort(self.to_flax))


@dataclass(frozen=True)
class CheckpointLayout:
    """How released checkpoints hold a network.

    Attributes:
        rules: yields the table of a configuration, every parameter once.
        recognised_by: keys of which no other network has all.
        read_config: reads the configuration off the keys and shapes of a state dict.
        mean_shift_forms: returns the forms in which checkpoints of a configuration carry the mean colour, a
            constant here; the first one is written.
        official_files: names of files that the network's authors published, by sha256.
    """

    rules: Callable[[Any], Iterator[Rule]]
    recognised_by: tuple[str, ...]
    read_config: Callable[[StateDict], ModelConfig]
    mean_shift_forms: Callable[[Any], Sequence[StateDict]] = lambda _: ({},)
    official_files: Mapping[str, str] = field(default_factory=dict)


def conv(key: str, path: str) -> Iterator[Rule]:
    """Yields the rules of a convolution: its kernel and its bias."""
    return _layer(key, path, (2, 3, 1, 0))


def dense(key: str, path: str) -> Iterator[Rule]:
    """Yields the rules of a linear map: its kernel and its bias."""
    return _layer(key, path, (1, 0))


def _layer(key: str, path: str, kernel_axes: tuple[int, ...]) -> Iterator[Rule]:
    yield Rule(f"{key}.weight", f"{path}/kernel", kernel_axes)
    yield Rule(f"{key}.bias", f"{path}/bias", (0,))


def upsampler(key: str, scale: int, *, spacing: int) -> Iterator[Rule]:
    """Yields the rules of `models.layers.Upsampler`: its convolutions are numbered in steps of `spacing`."""
    for i, _ in enumerate(upsampling_steps(scale)):
        yield from conv(f"{key}.{spacing * i}", f"upsample/conv_{i}")


def read_scale(state_dict: StateDict, key: str, n_feats: int) -> int:
    """Returns the scale of the upsampler under a key, which has `n_feats` features."""
    first_step = math.isqrt(state_dict[f"{key}.0.weight"].shape[0] // n_feats)
    n_steps = count_layers(state_dict, rf"{re.escape(key)}\.(\d+)\.\w+")
    return first_step ** min(n_steps, 4)  # which is too many, so that more need not be computed


def count_layers(state_dict: StateDict, pattern: str) -> int:
    """Returns how many numbers stand in keys where a regular expression's group is.

    One tensor of a layer is enough for it to count, so that the others can be told to be missing.
    """
    return len({match[1] for key in state_dict if (match := re.fullmatch(pattern, key))})


def mean_colours(mean: np.ndarray) -> StateDict:
    """Returns the mean shift as bare colours."""
    return {"sub_mean.rgb_mean": -mean, "add_mean.rgb_mean": mean}


def mean_convolutions(mean: np.ndarray, *, suffix: str = "") -> StateDict:
    """Returns the mean shift as 1x1 convolutions, named with a suffix."""
    identity = np.eye(3, dtype=np.float32)[:, :, None, None]
    convolutions: dict[str, np.ndarray] = {}
    for key, bias in ((f"sub_mean{suffix}", -mean), (f"add_mean{suffix}", mean)):
        convolutions |= {f"{key}.weight": identity, f"{key}.bias": bias}
    return convolutions


def layout_of(config: ModelConfig) -> CheckpointLayout:
    """Returns how checkpoints hold the network that a configuration is one of."""
    return LAYOUTS[network_name(config)]


def rules_for(config: ModelConfig) -> list[Rule]:
    """Returns the table of a network: every parameter once."""
    return list(layout_of(config).rules(config))


def to_flax(config: ModelConfig, state_dict: StateDict) -> dict[str, Any]:
    """Returns float32 Flax parameters from a state dict whose keys and shapes were checked."""
    arrays = {
        rule.path: np.ascontiguousarray(np.transpose(state_dict[rule.key], rule.to_flax), np.float32)
        for rule in rules_for(config)
    }
    return unflatten_dict(arrays, sep="/")


def to_torch(config: ModelConfig, params: Any) -> dict[str, np.ndarray]:
    """Returns the state dict of Flax parameters, mean shift included, as the original code loads it."""
    by_path: Any = flatten_dict(params, sep="/")
    return dict(layout_of(config).mean_shift_forms(config)[0]) | {
        rule.key: np.ascontiguousarray(np.transpose(np.asarray(by_path[rule.path]), rule.to_torch))
        for rule in rules_for(config)
    }
