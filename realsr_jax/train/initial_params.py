"""The parameters with which training starts: fresh ones, or those of a network trained before."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from realsr_jax.models import build_model, network_of
from realsr_jax.models.network import ModelConfig
from realsr_jax.weights import load_weights


def initial_params(config: ModelConfig, *, seed: int, start_from: str = "") -> tuple[Any, str]:
    """Returns parameters for a network, and a sentence on where they come from.

    Args:
        config: the network.
        seed: of fresh parameters.
        start_from: a weights directory or a training run's; empty for fresh parameters only. If its scale
            differs, the upsampler, and what else has another shape, starts afresh.

    Raises:
        ValueError: if the weights cannot be used or are of another network.
    """
    if not start_from:
        return _fresh_params(config, seed), "from scratch"
    found_config, params = load_weights(os.path.expanduser(start_from))
    if found_config == config:
        return params, f"from {start_from}"
    _check_same_network(found_config, config, start_from)
    found, wanted = _flat(params), _flat(_fresh_params(config, seed))
    replaced = {
        path
        for path in wanted
        if found_config.scale != config.scale
        and (path[0] == "upsample" or path not in found or found[path].shape != wanted[path].shape)
    }
    params = unflatten_dict({path: wanted[path] if path in replaced else found[path] for path in wanted})
    if not replaced:
        return params, f"from {start_from}"
    names = sorted({"/".join(path[:-1]) for path in replaced})
    return params, (
        f"from {start_from}, which upscales by {found_config.scale}; "
        f"afresh for {config.scale}: {', '.join(names)}"
    )


def _fresh_params(config: ModelConfig, seed: int) -> Any:
    """Returns a network's parameters as its layers initialise them."""
    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    # One compiled program for all parameters would take longer to compile than they take to make.
    return build_model(config).lazy_init(jax.random.key(seed), lr)["params"]


def _check_same_network(found: ModelConfig, wanted: ModelConfig, start_from: str) -> None:
    """Raises ValueError unless two networks are the same but for the scale and what needs no parameters."""
    ignored = ("scale", *network_of(wanted).not_in_shapes)
    fields = [
        {name: value for name, value in vars(config).items() if name not in ignored}
        for config in (found, wanted)
    ]
    if type(found) is not type(wanted) or fields[0] != fields[1]:
        raise ValueError(f"{start_from}: holds {found}, but the run trains {wanted}")


def _flat(params: Any) -> dict[tuple[str, ...], Any]:
    """Returns parameters by their paths."""
    return flatten_dict(params)  # pyright: ignore[reportReturnType]


def count(params: Any) -> int:
    """Returns the number of parameters."""
    return sum(int(np.prod(p.shape)) for p in jax.tree.leaves(params))
