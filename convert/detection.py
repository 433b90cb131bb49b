"""Which network a state dict belongs to, read off its keys and shapes, and whether it fits exactly."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from realsr_jax.convert import LAYOUTS
from realsr_jax.convert.pickle_reader import CheckpointError, quote
from realsr_jax.convert.rules import StateDict, layout_of, rules_for
from realsr_jax.models import NETWORKS, parameter_shapes
from realsr_jax.models.network import ModelConfig

_OF_SPANDREL: Final = (
    ("ESRGAN", ("1.sub.0.RDB1.conv1.0.weight",)),  # which the file calls "model.1.sub..."
    ("ESRGAN", ("conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight")),
    ("ESRGAN", ("conv_first.weight", "body.0.rdb1.conv1.weight")),
    ("Real-ESRGAN Compact", ("body.0.weight", "body.1.weight", "body.2.weight")),
    ("RCAN", ("head.0.weight", "body.0.body.0.body.3.conv_du.0.weight")),
    ("SwinIR", ("conv_first.weight", "layers.0.residual_group.blocks.0.attn.relative_position_index")),
    ("HAT", ("conv_first.weight", "layers.0.residual_group.overlap_attn.qkv.weight")),
    ("DAT", ("before_RG.1.weight", "layers.0.blocks.0.attn.attns.0.rpe_biases")),
    ("Omni-SR", ("residual_layer.0.residual_layer.0.layer.0.fn.0.weight", "up.0.weight")),
    ("SPAN", ("conv_1.sk.weight", "block_1.c1_r.sk.weight")),
    ("PLKSR", ("feats.0.weight", "feats.1.lk.conv.weight")),
)
"""Networks that spandrel runs and this package does not, by tensors that tell them: the usual ones only."""


def detect(state_dict: StateDict, name: str | None = None) -> ModelConfig:
    """Returns the configuration of the network that a state dict belongs to.

    Args:
        state_dict: flat PyTorch state dict.
        name: reads the sizes as those of this network in `models.NETWORKS`, whatever the keys suggest.

    Raises:
        CheckpointError: if it is no known network, or one of a size that cannot exist.
    """
    name = name or _recognise(state_dict)
    title = NETWORKS[name].title
    try:
        return LAYOUTS[name].read_config(state_dict)
    except KeyError as error:
        raise CheckpointError(f"is no {title}: it lacks {error.args[0]}") from error
    except (IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"is no {title}: the tensors that tell its sizes have other shapes") from error
    except ValueError as error:
        raise CheckpointError(f"is like {title}, but no such network exists: {error}") from error


def _recognise(state_dict: StateDict) -> str:
    names = [name for name, layout in LAYOUTS.items() if state_dict.keys() >= set(layout.recognised_by)]
    if len(names) > 1:
        raise CheckpointError(f"could be any of {', '.join(names)}: choose with --model")
    if names:
        return names[0]
    if title := next((title for title, keys in _OF_SPANDREL if state_dict.keys() >= set(keys)), None):
        raise CheckpointError(
            f"holds a network of the kind {title}, which chaiNNer's spandrel runs; "
            f"realsr_jax runs {', '.join(LAYOUTS)}"
        )
    if name := _all_but_recognised(state_dict):
        return name
    raise _unknown_architecture(state_dict)


def _all_but_recognised(state_dict: StateDict) -> str | None:
    """Returns the network of whose telling tensors one alone is missing, if most of its others are there."""
    likeness: dict[str, float] = {}
    for name, layout in LAYOUTS.items():
        missing = set(layout.recognised_by) - state_dict.keys()
        if len(missing) != 1 or len(layout.recognised_by) == 1:
            continue
        try:
            config = layout.read_config(state_dict)
        except KeyError as error:  # it tells the sizes too, so that its absence is all that can be said
            likeness[name] = float(error.args[0] in missing)
        except (IndexError, ZeroDivisionError, ValueError):
            continue
        else:
            keys = {rule.key for rule in layout.rules(config)}
            likeness[name] = len(keys & state_dict.keys()) / len(keys | state_dict.keys())
    nearest = max(likeness, key=likeness.__getitem__, default=None)
    return nearest if nearest and likeness[nearest] > 0.5 else None


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
        raise CheckpointError(f"does not fit {config}:", problems)


def _mean_shift(config: ModelConfig, state_dict: StateDict) -> StateDict:
    """Returns the mean shift in the form that a state dict has it in, or in the usual one."""
    forms = layout_of(config).mean_shift_forms(config)
    return next((form for form in forms if form.keys() & state_dict.keys()), forms[0])


def _expected_shapes(config: ModelConfig, state_dict: StateDict) -> dict[str, tuple[int, ...]]:
    params: Any = flatten_dict(parameter_shapes(config), sep="/")
    shapes = {key: constant.shape for key, constant in _mean_shift(config, state_dict).items()}
    for rule in rules_for(config):
        shapes[rule.key] = tuple(params[rule.path].shape[axis] for axis in rule.to_torch)
    return shapes


def _published_configs() -> list[ModelConfig]:
    return [config for name in LAYOUTS for config in NETWORKS[name].sizes]


def _unknown_architecture(state_dict: StateDict) -> CheckpointError:
    """Compares with the published networks by their tensors' names, or by shapes where no name is shared."""
    message = f"has an unknown architecture; realsr_jax runs {', '.join(LAYOUTS)}"
    kind, heading = "names", "By its tensors' names"
    found: Counter[Any] = Counter(map(_printable, state_dict))
    known: list[tuple[ModelConfig, Counter[Any]]] = [
        (config, Counter([*_mean_shift(config, state_dict), *(rule.key for rule in rules_for(config))]))
        for config in _published_configs()
    ]
    if not any(found & wanted for _, wanted in known):
        kind, heading = "shapes", "It shares no name with them; by shapes alone"
        found = Counter(tensor.shape for tensor in state_dict.values())
        known = [
            (config, Counter(_expected_shapes(config, state_dict).values()))
            for config in _published_configs()
        ]
    nearest, wanted = max(known, key=lambda pair: _likeness(found, pair[1]))
    if not found & wanted:
        return CheckpointError(f"{message}, and no tensor has a name or a shape of theirs")
    missing, extra = wanted - found, found - wanted
    return CheckpointError(
        f"{message}. {heading}, the nearest is {nearest}: of its {wanted.total()} {kind} "
        f"{(wanted & found).total()} are here, {missing.total()} are missing ({_some(missing)}), "
        f"and {extra.total()} others are here instead ({_some(extra)})"
    )


def _likeness(a: Counter[Any], b: Counter[Any]) -> float:
    """Returns what two counters share, as a part of what either has."""
    shared = (a & b).total()
    return shared / (a.total() + b.total() - shared)


def _printable(key: str) -> str:
    return quote(key)[1:-1]


def _some(traits: Iterable[object]) -> str:
    first = [str(trait) for trait in traits][:4]
    return ", ".join([*first[:3], "..."] if len(first) > 3 else first)


def _to_float32(tensor: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return tensor.astype(np.float32)


def _list(values: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values.flat)
