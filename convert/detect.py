"""Which network a state dict belongs to, read off its keys and shapes, and whether it fits exactly."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.network import ModelConfig
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.models import build_model
from realsr_jax.weights import ARCHITECTURES

from realsr_jax.convert.pickle_reader import CheckpointError, quote
from realsr_jax.convert.rules import mean_shift_forms, rules_for

StateDict = Mapping[str, np.ndarray]

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


def _detect_oaddet(
    state_dict: StateDict, config_class: type[OADDetConfig | DeepOADDetConfig]
) -> OADDetConfig | DeepOADDetConfig:
    shape = state_dict["body_down.1.weight"].shape
    n_modules = _count(state_dict, r"body\.\d+\.dia_conv\.weight")
    return config_class(n_resblocks=n_modules, n_feats=shape[0], scale=math.isqrt(shape[1] // 3))


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


_DETECTORS: dict[type[ModelConfig], tuple[tuple[str, ...], Callable[[StateDict], ModelConfig]]] = {
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


def _mean_shift(config: ModelConfig, state_dict: StateDict) -> dict[str, np.ndarray]:
    """Returns the mean shift in the form that a state dict has it in, or in the usual one."""
    forms = mean_shift_forms(config)
    return next((form for form in forms if form.keys() & state_dict.keys()), forms[0])


def _expected_shapes(config: ModelConfig, state_dict: StateDict) -> dict[str, tuple[int, ...]]:
    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    params = jax.eval_shape(build_model(config).init, jax.random.key(0), lr)["params"]
    by_path: Any = flatten_dict(params)
    shapes = {key: constant.shape for key, constant in _mean_shift(config, state_dict).items()}
    for rule in rules_for(config):
        shapes[rule.key] = tuple(by_path[rule.path].shape[axis] for axis in rule.to_torch)
    return shapes


def _unknown_architecture(state_dict: StateDict) -> CheckpointError:
    """Compares with the known networks by their tensors' names, or by the shapes where no name is shared."""
    message = f"has an unknown architecture; realsr_jax runs {', '.join(ARCHITECTURES)}"
    kind, heading = "names", "By its tensors' names"
    found: Counter[Any] = Counter(map(_printable, state_dict))
    known: list[tuple[ModelConfig, Counter[Any]]] = [
        (config, Counter([*_mean_shift(config, state_dict), *(rule.key for rule in rules_for(config))]))
        for config in _KNOWN_CONFIGS
    ]
    if not any(found & wanted for _, wanted in known):
        kind, heading = "shapes", "It shares no name with them; by shapes alone"
        found = Counter(tensor.shape for tensor in state_dict.values())
        known = [
            (config, Counter(_expected_shapes(config, state_dict).values())) for config in _KNOWN_CONFIGS
        ]
    nearest, wanted = max(known, key=lambda pair: (pair[1] & found).total() / (pair[1] | found).total())
    if not found & wanted:
        return CheckpointError(f"{message}, and no tensor has a name or a shape of theirs")
    missing, extra = wanted - found, found - wanted
    return CheckpointError(
        f"{message}. {heading}, the nearest is {nearest}: of its {wanted.total()} {kind} "
        f"{(wanted & found).total()} are here, {missing.total()} are missing ({_some(missing)}), "
        f"and {extra.total()} others are here instead ({_some(extra)})"
    )


def _printable(key: str) -> str:
    return quote(key)[1:-1]


def _some(traits: Iterable[object]) -> str:
    first = [str(trait) for trait in traits][:4]
    return ", ".join([*first[:3], "..."] if len(first) > 3 else first)


def detect(state_dict: StateDict, config_class: type[ModelConfig] | None = None) -> ModelConfig:
    """Returns the configuration of the network that a state dict belongs to.

    Args:
        state_dict: flat PyTorch state dict.
        config_class: reads the sizes as those of this network, whatever the keys suggest.

    Raises:
        CheckpointError: if it is no known network, or one of a size that cannot exist.
    """
    if config_class is None:
        matches = [c for c, (keys, _) in _DETECTORS.items() if all(key in state_dict for key in keys)]
        if len(matches) != 1:
            raise _unknown_architecture(state_dict)
        config_class = matches[0]
    title = config_class.__name__.removesuffix("Config")
    try:
        return _DETECTORS[config_class][1](state_dict)
    except KeyError as error:
        raise CheckpointError(f"is no {title}: it lacks {error.args[0]}") from error
    except (IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"is no {title}: the tensors that tell its sizes have other shapes") from error
    except ValueError as error:
        raise CheckpointError(f"is like {title}, but no such network exists: {error}") from error


def check(config: ModelConfig, state_dict: StateDict) -> None:
    """Checks that a state dict holds a network's tensors, all of them and nothing else.

    Raises:
        CheckpointError: naming every missing, unexpected, misshapen and non-numeric tensor, a line each.
    """
    shapes, constants = _expected_shapes(config, state_dict), _mean_shift(config, state_dict)
    problems = [f"missing     {key} {shape}" for key, shape in shapes.items() if key not in state_dict]
    for key, tensor in state_dict.items():
        if key not in shapes:
            problems.append(f"unexpected  {_printable(key)} {tensor.shape}")
        elif tensor.shape != shapes[key]:
            problems.append(f"misshapen   {key} {tensor.shape}, expected {shapes[key]}")
        elif not jnp.issubdtype(tensor.dtype, jnp.floating):
            problems.append(f"not floats  {key} is {tensor.dtype}")
        elif not np.all(np.isfinite(values := _to_float32(tensor))):
            problems.append(f"not finite  {key} holds NaN, infinity or numbers beyond float32")
        elif key in constants and not np.allclose(values, constants[key], rtol=1e-3, atol=1e-3):
            problems.append(f"other mean  {key} is {_list(values)}, expected {_list(constants[key])}")
    if problems:
        raise CheckpointError(f"does not fit {config}:\n  " + "\n  ".join(problems))


def _to_float32(tensor: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return tensor.astype(np.float32)


def _list(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values.flat)
