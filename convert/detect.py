"""Which network a state dict belongs to, read off its keys and shapes, and whether it fits exactly."""

import math
import re
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax.config import DeepOADDetConfig, DRLNConfig, EDSRConfig, ModelConfig, OADDetConfig
from realsr_jax.models import build_model

from .pickle_machine import CheckpointError
from .rules import mean_shift_forms, rules_for

StateDict = Mapping[str, np.ndarray]

MODEL_NAMES: dict[str, type] = {
    "oaddet": OADDetConfig,
    "deep_oaddet": DeepOADDetConfig,
    "edsr": EDSRConfig,
    "drln": DRLNConfig,
}

_KNOWN_CONFIGS: tuple[ModelConfig, ...] = (
    OADDetConfig(),
    DeepOADDetConfig(),
    EDSRConfig(),
    EDSRConfig(n_resblocks=16, n_feats=64, res_scale=1.0),
    DRLNConfig(),
)

OFFICIAL_EDSR = {
    "1bc9523228fdc3b0a5ddb0d7062001e22b31bbb398ae09cfdefb97e8ee06e171": "EDSR baseline x2",
    "abf2a44e7a137228efa42a4264a23e12603168d43ac7596b1adef40c649b9240": "EDSR baseline x3",
    "6b446fab734f4de74448d2fd1f3f990f5bae726e49dc7eff2ae9cefe444a1723": "EDSR baseline x4",
    "0edfb8a3772c94485c939f81a8aeefe02cccdfbf45243c6d22b39c29eb7d46de": "EDSR x2 (paper size)",
    "ea3ef2c6449845ac3bda7290480af76a53e5006beff60bf89c84ca62f986eeca": "EDSR x3 (paper size)",
    "4f62e9ef1a4ec6a7d3da4ed837116cec641e4e1566f98187151d813e83a0c1c8": "EDSR x4 (paper size)",
}
"""Names of the files that EDSR's authors published, by sha256."""


def _count(state_dict: StateDict, pattern: str) -> int:
    return sum(re.fullmatch(pattern, key) is not None for key in state_dict)


def _detect_oaddet(state_dict: StateDict, config_class: type) -> ModelConfig:
    n_feats, depth = state_dict["body_down.1.weight"].shape[:2]
    n_modules = _count(state_dict, r"body\.\d+\.dia_conv\.weight")
    return config_class(n_resblocks=n_modules, n_feats=n_feats, scale=math.isqrt(depth // 3))


def _detect_edsr(state_dict: StateDict) -> EDSRConfig:
    n_feats = state_dict["head.0.weight"].shape[0]
    first_step = math.isqrt(state_dict["tail.0.0.weight"].shape[0] // n_feats)
    return EDSRConfig(
        n_resblocks=_count(state_dict, r"body\.\d+\.body\.0\.weight"),
        n_feats=n_feats,
        scale=first_step ** _count(state_dict, r"tail\.0\.\d+\.weight"),
        res_scale=0.1 if n_feats == 256 else 1.0,
        edge_padding="sub_mean.weight" not in state_dict,
    )


def _detect_drln(state_dict: StateDict) -> DRLNConfig:
    first_step = math.isqrt(state_dict["upsample.up.body.0.weight"].shape[0] // 64)
    return DRLNConfig(scale=first_step ** _count(state_dict, r"upsample\.up\.body\.\d+\.weight"))


_DETECTORS: dict[type, tuple[tuple[str, ...], Callable[[StateDict], ModelConfig]]] = {
    OADDetConfig: (
        ("dynamic_kernel0.kernel_conv.0.weight", "head.9.weight", "body_down.1.weight"),
        lambda state_dict: _detect_oaddet(state_dict, OADDetConfig),
    ),
    DeepOADDetConfig: (
        ("dynamic_kernel0.kernel_conv.0.weight", "head.10.weight", "body_down.1.weight"),
        lambda state_dict: _detect_oaddet(state_dict, DeepOADDetConfig),
    ),
    EDSRConfig: (("head.0.weight", "body.0.body.0.weight", "tail.0.0.weight", "tail.1.weight"), _detect_edsr),
    DRLNConfig: (("b1.r1.body.0.weight", "c1.body.0.weight", "upsample.up.body.0.weight"), _detect_drln),
}
"""For each network the keys that only it has, all of them, and how its sizes are read."""


def _title(config: ModelConfig) -> str:
    name = next(name for name, config_class in MODEL_NAMES.items() if type(config) is config_class)
    return f"{name} ({config})"


def _unknown_architecture(state_dict: StateDict) -> CheckpointError:
    def overlap(config: ModelConfig) -> float:
        keys = {rule.key for rule in rules_for(config)}
        return len(keys & set(state_dict)) / len(keys | set(state_dict))

    nearest = max(_KNOWN_CONFIGS, key=overlap)
    keys = [rule.key for rule in rules_for(nearest)]
    missing = [key for key in keys if key not in state_dict]
    extra = [key for key in state_dict if key not in keys]
    return CheckpointError(
        f"unknown architecture; realsr_jax runs {', '.join(MODEL_NAMES)}. The nearest is {_title(nearest)}: "
        f"of its {len(keys)} tensors {len(keys) - len(missing)} are here, {len(missing)} are missing "
        f"({_some(missing)}), and {len(extra)} others are here instead ({_some(extra)})"
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def detect(state_dict: StateDict, model: str | None = None) -> ModelConfig:
    """Returns the configuration of the network that a state dict belongs to.

    Args:
        state_dict: flat PyTorch state dict.
        model: one of `MODEL_NAMES`, to read the sizes as that network's whatever the keys suggest.

    Raises:
        CheckpointError: if it is no known network, or one of a size that cannot exist.
    """
    if model is not None:
        config_class = MODEL_NAMES[model]
    else:
        matches = [c for c, (keys, _) in _DETECTORS.items() if all(key in state_dict for key in keys)]
        if len(matches) != 1:
            raise _unknown_architecture(state_dict)
        config_class = matches[0]
    try:
        return _DETECTORS[config_class][1](state_dict)
    except KeyError as error:
        raise CheckpointError(f"no {model}: it lacks {error.args[0]}") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            f"looks like {config_class.__name__}, but its sizes make no network: {error}"
        ) from error


def check(config: ModelConfig, state_dict: StateDict) -> None:
    """Checks that a state dict holds a network's tensors, all of them and nothing else.

    Raises:
        CheckpointError: naming every missing, unexpected, misshapen and non-numeric tensor, a line each.
    """
    module = build_model(config)
    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), lr)["params"]
    forms = mean_shift_forms(config)
    constants = next((form for form in forms if form.keys() & state_dict.keys()), forms[0])
    expected = {key: value.shape for key, value in constants.items()}
    for rule in rules_for(config):
        node = params
        for name in rule.path:
            node = node[name]
        expected[rule.key] = tuple(node.shape[axis] for axis in rule.to_torch)

    problems = [f"missing     {key} {shape}" for key, shape in expected.items() if key not in state_dict]
    for key, tensor in state_dict.items():
        if key not in expected:
            problems.append(f"unexpected  {key} {tensor.shape}")
        elif tensor.shape != expected[key]:
            problems.append(f"misshapen   {key} {tensor.shape}, expected {expected[key]}")
        elif not (np.issubdtype(tensor.dtype, np.floating) or tensor.dtype.name == "bfloat16"):
            problems.append(f"not floats  {key} is {tensor.dtype}")
        elif not np.all(np.isfinite(tensor.astype(np.float32))):
            problems.append(f"not finite  {key} holds NaN or infinity")
    for key, constant in constants.items():
        tensor = state_dict.get(key)
        if tensor is None or tensor.shape != constant.shape:
            continue
        if not np.allclose(tensor.astype(np.float32), constant, rtol=1e-3, atol=1e-3):
            problems.append(f"other mean  {key} is {tensor.ravel()}, expected {constant.ravel()}")
    if problems:
        raise CheckpointError(f"does not fit {_title(config)}:\n  " + "\n  ".join(problems))
