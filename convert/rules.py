"""How each network's PyTorch state dict maps to Flax parameters, as a table.

A state dict holds convolutions as OIHW and linear maps as OI; Flax holds HWIO and IO. The same table serves
both directions.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.network import ModelConfig
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.models.layers import RGB_MEAN, UNIT_RGB_MEAN, upsampling_steps
from realsr_jax.models.drln import GROUPS


@dataclasses.dataclass(frozen=True)
class Rule:
    """One tensor in both layouts.

    Attributes:
        key: key in the state dict.
        path: path in the Flax parameters.
        to_flax: axes of the PyTorch tensor in the order that Flax keeps them.
    """

    key: str
    path: tuple[str, ...]
    to_flax: tuple[int, ...]

    @property
    def to_torch(self) -> tuple[int, ...]:
        """Axes of the Flax array in the order that PyTorch keeps them."""
        return tuple(int(axis) for axis in np.argsort(self.to_flax))


def _layer(key: str, path: str, kernel_axes: tuple[int, ...]) -> Iterator[Rule]:
    parts = tuple(path.split("/"))
    yield Rule(f"{key}.weight", (*parts, "kernel"), kernel_axes)
    yield Rule(f"{key}.bias", (*parts, "bias"), (0,))


def _conv(key: str, path: str) -> Iterator[Rule]:
    return _layer(key, path, (2, 3, 1, 0))


def _attention(key: str, path: str) -> Iterator[Rule]:
    for mlp, gate in (("mlp0", "gate"), ("mlp1", "unused_gate")):
        for number, name in ((1, "squeeze"), (3, "excite")):
            yield from _layer(f"{key}.ChannelGate.{mlp}.{number}", f"{path}/{gate}/{name}", (1, 0))


def _oriented(key: str, path: str, *, attention: bool) -> Iterator[Rule]:
    """An orientation-aware or a feature-extraction module, which name their layers alike."""
    for torch_name, name in (("dia_conv", "square"), ("hor_conv", "wide"), ("ver_conv", "tall")):
        yield from _conv(f"{key}.{torch_name}", f"{path}/oriented/{name}")
    if attention:
        yield from _attention(f"{key}.conv.0", f"{path}/attention")
    yield from _conv(f"{key}.conv.{2 if attention else 1}", f"{path}/fuse")


def _oaddet_head() -> Iterator[Rule]:
    yield from _conv("head.0", "head/enter")
    for i in range(3):
        yield from _oriented(f"head.{2 * i + 2}", f"head/extract_{i}", attention=False)
    yield from _attention("head.7", "head/attention")
    yield from _conv("head.9", "head/exit")


def _deep_oaddet_head() -> Iterator[Rule]:
    yield from _conv("head.0", "head/enter")
    for i in range(6):
        yield from _oriented(f"head.{i + 2}", f"head/module_{i}", attention=i >= 2)
    yield from _attention("head.8", "head/attention")
    yield from _conv("head.10", "head/exit")


def _oaddet_after_head(n_resblocks: int) -> Iterator[Rule]:
    yield from _conv("body_down.1", "body/enter")
    for i in range(n_resblocks):
        yield from _oriented(f"body.{i}", f"body/module_{i}", attention=i >= n_resblocks // 4 * 3)
    yield from _conv(f"body.{n_resblocks}", "body/end")
    yield from _conv("body_tail.1", "body/tail1")
    yield from _conv("body_tail.3", "body/tail2")
    for i, size in enumerate((5, 7, 3)):
        yield from _conv(f"dynamic_kernel{i}.kernel_conv.0", f"filter_{size}/hidden")
        yield from _conv(f"dynamic_kernel{i}.kernel_conv.2", f"filter_{size}/kernels")
    yield from _conv("tail.0", "tail1")
    yield from _conv("tail.2", "tail2")


def _edsr(config: EDSRConfig) -> Iterator[Rule]:
    yield from _conv("head.0", "head")
    for i in range(config.n_resblocks):
        yield from _conv(f"body.{i}.body.0", f"body_{i}_conv1")
        yield from _conv(f"body.{i}.body.2", f"body_{i}_conv2")
    yield from _conv(f"body.{config.n_resblocks}", "body_end")
    for i, _ in enumerate(upsampling_steps(config.scale)):
        yield from _conv(f"tail.0.{2 * i}", f"upsample/conv_{i}")
    yield from _conv("tail.1", "tail")


def _drln(config: DRLNConfig) -> Iterator[Rule]:
    yield from _conv("head", "head")
    for number in range(1, sum(GROUPS) + 1):
        block = f"block_{number}"
        for i in range(3):
            yield from _conv(f"b{number}.r{i + 1}.body.0", f"{block}/residual_{i}/conv1")
            yield from _conv(f"b{number}.r{i + 1}.body.2", f"{block}/residual_{i}/conv2")
        yield from _conv(f"b{number}.g.body.0", f"{block}/compress")
        for i, dilation in enumerate((3, 5, 7)):
            yield from _conv(f"b{number}.ca.c{i + 1}.body.0", f"{block}/attention/dilated_{dilation}")
        yield from _conv(f"b{number}.ca.c4.body.0", f"{block}/attention/excite")
        yield from _conv(f"c{number}.body.0", f"compress_{number}")
    for i, _ in enumerate(upsampling_steps(config.scale)):
        yield from _conv(f"upsample.up.body.{3 * i}", f"upsample/conv_{i}")
    yield from _conv("tail", "tail")


def rules_for(config: ModelConfig) -> list[Rule]:
    """Returns the table of a network: every parameter once."""
    match config:
        case OADDetConfig():
            return [*_oaddet_head(), *_oaddet_after_head(config.n_resblocks)]
        case DeepOADDetConfig():
            return [*_deep_oaddet_head(), *_oaddet_after_head(config.n_resblocks)]
        case EDSRConfig():
            return list(_edsr(config))
        case DRLNConfig():
            return list(_drln(config))


def mean_shift_forms(config: ModelConfig) -> list[dict[str, np.ndarray]]:
    """Returns the forms, the usual one first, in which a network's state dict may carry its mean shift.

    The AIM 2020 networks carry bare colours; the original EDSR, which pads zeros, 1x1 convolutions; DRLN
    convolutions under another name.
    """
    identity = np.eye(3, dtype=np.float32)[:, :, None, None]
    colours: dict[str, np.ndarray] = {}
    convolutions: dict[str, np.ndarray] = {}
    shifters: dict[str, np.ndarray] = {}
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):
        colours[f"{name}.rgb_mean"] = sign * RGB_MEAN
        convolutions |= {f"{name}.weight": identity, f"{name}.bias": sign * RGB_MEAN}
        shifters |= {
            f"{name}.shifter.weight": identity,
            f"{name}.shifter.bias": sign * UNIT_RGB_MEAN,
        }
    match config:
        case DRLNConfig():
            return [shifters]
        case EDSRConfig(edge_padding=True):
            return [colours, convolutions]
        case EDSRConfig():
            return [convolutions, colours]
        case _:
            return [colours]


def to_flax(config: ModelConfig, state_dict: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns float32 Flax parameters from a state dict whose keys and shapes were checked."""
    return unflatten_dict(
        {
            rule.path: np.ascontiguousarray(np.transpose(state_dict[rule.key], rule.to_flax), np.float32)
            for rule in rules_for(config)
        }
    )


def to_torch(config: ModelConfig, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the state dict of Flax parameters, mean shift included, as the original code loads it."""
    by_path = flatten_dict(params)
    return mean_shift_forms(config)[0] | {
        rule.key: np.ascontiguousarray(np.transpose(np.asarray(by_path[rule.path]), rule.to_torch))
        for rule in rules_for(config)
    }
