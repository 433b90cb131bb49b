import functools

import golden
import jax
import numpy as np
import pytest

from realsr_jax.convert.detect import detect
from realsr_jax.convert.rules import to_flax
from realsr_jax.models import build_model
from realsr_jax.train.optimizer import make_optimizer, make_schedule
from realsr_jax.train.step import make_loss, make_state, parallelise, replicate, train_step
from realsr_jax.training_config import (
    L1,
    SSIM,
    Adam,
    ClipL1,
    StepDecay,
    Weighted,
)

TRAJECTORIES = (
    "edsr_tiny_l1",
    "edsr_tiny_clipl1",
    "edsr_tiny_ssim",
    "oaddet_small_l1",
    "deep_oaddet_small_l1",
)
TERMS = {
    "1*L1": (Weighted(L1()),),
    "1*ClipL1": (Weighted(ClipL1(0, 10)),),
    "20*SSIM": (Weighted(SSIM(), 20),),
}


def _setup(name):
    """The model of a golden trajectory, its parameters and the options of its steps."""
    case = golden.case(f"train_{name}")
    weights = golden.state_dict(str(case["model"]), int(case["seed"]))
    config = detect(weights)
    model = build_model(config)
    options = {
        "loss_fn": make_loss(model, TERMS[str(case["loss"])]),
        "optimizer": make_optimizer(Adam()),
        "schedule": make_schedule(StepDecay(float(case["lr_rate"])), n_steps=5, steps_per_epoch=1000),
    }
    return case, model, to_flax(config, weights), options


def _batches(case):
    n = int(case["batch"])
    for start in range(0, len(case["lr"]), n):
        yield {name: case[name][start : start + n] for name in ("lr", "hr")}


def _check(case, model, params, losses):
    np.testing.assert_allclose(losses, case["losses"], rtol=1e-4)
    lr = golden.photo(24, 20).astype(np.float32)
    sr = model.apply({"params": params}, lr[None])[0]
    np.testing.assert_allclose(sr, case["sr_after"], atol=0.2)


@pytest.mark.parametrize(
    ("name", "accumulate"),
    [*((name, 1) for name in TRAJECTORIES), ("edsr_tiny_ssim", 2), ("oaddet_small_l1", 4)],
)
def test_five_steps_of_the_published_code_on_one_device(name, accumulate):
    case, model, params, options = _setup(name)
    step = jax.jit(functools.partial(train_step, accumulate=accumulate, **options))
    state, losses = make_state(params, options["optimizer"]), []
    for batch in _batches(case):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    _check(case, model, state.params, losses)


@pytest.mark.parametrize("name", ["edsr_tiny_l1", "oaddet_small_l1"])
def test_five_steps_of_the_published_code_on_four_devices(name):
    case, model, params, options = _setup(name)
    step = parallelise(train_step, **options)
    state, losses = replicate(make_state(params, options["optimizer"])), []
    for batch in _batches(case):
        shares = {key: x.reshape(4, -1, *x.shape[1:]) for key, x in batch.items()}
        state, metrics = step(state, shares | {"stop": np.zeros(4, np.float32)})
        losses.append(float(metrics["loss"]))
    _check(case, model, jax.device_get(state.params), losses)
