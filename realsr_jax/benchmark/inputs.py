"""What all sides of a case share: parameters, inputs, and the arithmetic that one run takes."""

import functools
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax.benchmark.cases import PRODUCTS, Case
from realsr_jax.models.network import ModelConfig
from realsr_jax.convert.rules import to_torch
from realsr_jax.ops.matlab_resize import imresize
from realsr_jax.models import build_model
from realsr_jax.upscale.tile_plans import make_plan
from realsr_jax.train.initial_params import initial_params

_FLIPS = 8


def write_weights(config: ModelConfig, path: Path) -> None:
    """Writes fresh parameters as a state dict by the keys of the published checkpoints."""
    params, _ = initial_params(config, seed=0)
    np.savez(path, allow_pickle=False, **to_torch(config, params))


def make_inputs(case: Case, photo: np.ndarray) -> dict[str, np.ndarray]:
    """Cuts what a case needs out of a photo, which is continued by mirroring where it is too small.

    Args:
        case: what runs.
        photo: uint8 [h, w, 3].

    Returns:
        ``lr`` and, for a training step, ``hr``: uint8 [n, h, w, 3]. Nothing for a matrix product.
    """
    if case.task == "product":
        return {}
    h, w = case.size
    missing = [(0, max(0, n - length)) for n, length in zip(case.size, photo.shape[:2], strict=True)]
    photo = np.pad(photo, (*missing, (0, 0)), mode="symmetric")
    spread = np.linspace(0, 1, case.batch)
    tops = (spread * (photo.shape[0] - h)).astype(int)
    lefts = (spread[::-1] * (photo.shape[1] - w)).astype(int)
    cut = np.stack([photo[y : y + h, x : x + w] for y, x in zip(tops, lefts, strict=True)])
    if case.task != "step":
        return {"lr": cut}
    scale = Fraction(1, case.model_config.scale)
    return {"lr": np.stack([imresize(hr, scale) for hr in cut]), "hr": cut}


def count_flops(case: Case) -> float:
    """Returns the floating-point operations of one run, counted as for direct convolutions.

    Those of a training step are three times those of the network, as usual.
    """
    if case.task == "product":
        return PRODUCTS * 2 * case.size[0] ** 3
    each = _flops_per_pixel(case.model_config)
    match case.task:
        case "tile":
            return case.batch * case.size[0] * case.size[1] * each
        case "step":
            return 3 * case.batch * case.size[0] * case.size[1] / case.model_config.scale**2 * each
        case _:
            tilings, self_ensemble = case.ensemble
            plans = [
                make_plan(*case.size, scale=case.model_config.scale, tiling=tiling) for tiling in tilings
            ]
            pixels = sum(len(plan.tiles) * plan.tile_shape[0] * plan.tile_shape[1] for plan in plans)
            return pixels * (_FLIPS if self_ensemble else 1) * each


@functools.cache
def _flops_per_pixel(config: ModelConfig) -> float:
    """Returns the operations of a network for each LR pixel, as XLA counts them before it optimises."""
    side = 64
    model = build_model(config)
    lr = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), lr)
    # Lowered for a GPU, as on CPUs convolutions are written as other operations; none need be there.
    lowered = jax.jit(model.apply).trace(params, lr).lower(lowering_platforms=("cuda",))
    analysis = lowered.cost_analysis()
    assert analysis is not None
    return analysis["flops"] / side**2
