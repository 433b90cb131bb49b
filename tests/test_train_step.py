import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realsr_jax.convert.detection import detect
from realsr_jax.convert.rules import to_flax
from realsr_jax.losses import L1, SSIM, ClipL1, Weighted
from realsr_jax.models import build_model
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.models.precision import Precision
from realsr_jax.train.optimizers import SGD, Adam, AdamW, Cosine, RMSProp, StepDecay, make_optimizer
from realsr_jax.train.step import make_loss, make_state, parallelise, replicate, train_step

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
        "schedule": StepDecay(float(case["lr_rate"])).make(n_steps=5, steps_per_epoch=1000),
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
    [
        *(
            pytest.param(name, 1, marks=[pytest.mark.slow] * (name != "edsr_tiny_clipl1"))
            for name in TRAJECTORIES
        ),
        ("edsr_tiny_ssim", 2),
    ],
)
def test_five_steps_of_the_published_code_on_one_device(name, accumulate):
    case, model, params, options = _setup(name)
    step = jax.jit(functools.partial(train_step, accumulate=accumulate, **options))
    state, losses = make_state(params, options["optimizer"]), []
    for batch in _batches(case):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    _check(case, model, state.params, losses)


@pytest.mark.parametrize("n", [*(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2)), 4])
def test_five_steps_of_the_published_code_on_several_devices(n):
    case, model, params, options = _setup("edsr_tiny_l1")
    devices = jax.devices()[:n]
    step = parallelise(train_step, precision=Precision("float32"), devices=devices, **options)
    step_of_one = jax.jit(functools.partial(train_step, **options))
    one = make_state(params, options["optimizer"])
    state, losses = replicate(one, devices), []
    for batch in _batches(case):
        shares = {key: x.reshape(n, -1, *x.shape[1:]) for key, x in batch.items()}
        state, metrics = step(state, shares | {"stop": np.zeros(n, np.float32)})
        assert state.step.sharding.device_set == set(devices)
        losses.append(float(metrics["loss"]))
        one, _ = step_of_one(one, batch)
    _check(case, model, jax.device_get(state.params), losses)
    # Five steps of Adam move a parameter by about 5 learning rates, too little for losses and images to tell
    # by which gradients.
    moved, apart = (
        np.concatenate(
            [np.ravel(np.asarray(x) - y) for x, y in zip(*map(jax.tree.leaves, trees), strict=True)]
        )
        for trees in ((one.params, params), (state.params, one.params))
    )
    assert np.linalg.norm(apart) < 0.02 * np.linalg.norm(moved)


# A problem that NumPy and PyTorch can follow: linear regression on flattened patches

RNG = np.random.default_rng(0)
LR = RNG.normal(size=(5, 4, 3)).astype(np.float32)
HR = RNG.normal(size=(5, 4, 2)).astype(np.float32)
LINEAR = {"w": RNG.normal(size=(3, 2)).astype(np.float32), "b": np.zeros(2, np.float32)}


def _linear_loss(params, batch):
    loss = jnp.mean((batch["lr"] @ params["w"] + params["b"] - batch["hr"]) ** 2)
    return loss, {"MSE": loss}


def _linear_options(config, *, clip=0.0, norm=0.0, rate=0.1):
    return {
        "loss_fn": _linear_loss,
        "optimizer": make_optimizer(config, clip_gradient=clip, clip_norm=norm),
        "schedule": lambda _: rate,
    }


OPTIMIZERS = [
    (Adam(weight_decay=0.1), "Adam", {}),
    (Adam(b1=0.8, b2=0.9, eps=1e-3), "Adam", {"betas": (0.8, 0.9), "eps": 1e-3}),
    (AdamW(weight_decay=0.1), "AdamW", {}),
    (AdamW(weight_decay=0.0), "AdamW", {}),
    (SGD(weight_decay=0.1), "SGD", {"momentum": 0.9}),
    (RMSProp(decay=0.9, weight_decay=0.1), "RMSprop", {"alpha": 0.9}),
]


@pytest.mark.parametrize(("clip", "norm"), [(0.0, 0.0), (0.05, 0.0), (0.0, 0.1), (0.05, 0.1)])
@pytest.mark.parametrize(("config", "kind", "options"), OPTIMIZERS)
def test_optimisers_are_those_of_pytorch(config, kind, options, clip, norm):
    torch = pytest.importorskip("torch")  # without which the rest of this file is run too
    weights = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in LINEAR.items()}
    make_reference = getattr(torch.optim, kind)
    reference = make_reference(weights.values(), lr=0.1, weight_decay=config.weight_decay, **options)
    steps = _linear_options(config, clip=clip, norm=norm)
    state = make_state(LINEAR, steps["optimizer"])
    for lr, hr in zip(LR, HR, strict=True):
        reference.zero_grad()
        ((torch.tensor(lr) @ weights["w"] + weights["b"] - torch.tensor(hr)) ** 2).mean().backward()
        if clip:
            torch.nn.utils.clip_grad_value_(weights.values(), clip)
        if norm:
            torch.nn.utils.clip_grad_norm_(weights.values(), norm)
        reference.step()
        state, _ = train_step(state, {"lr": lr, "hr": hr}, **steps)
    for name, expected in weights.items():
        # Optax corrects Adam's bias in float32, PyTorch in float64.
        np.testing.assert_allclose(state.params[name], expected.detach().numpy(), rtol=2e-5, atol=1e-5)


def test_average_is_that_of_a_loop():
    options = _linear_options(SGD())
    state = make_state(LINEAR, options["optimizer"], with_average=True)
    average = {name: x.astype(np.float64) for name, x in LINEAR.items()}
    for step, (lr, hr) in enumerate(zip(LR, HR, strict=True)):
        state, _ = train_step(state, {"lr": lr, "hr": hr}, ema_decay=0.3, **options)
        decay = min(0.3, (1 + step) / (10 + step))
        for name, value in average.items():
            average[name] = decay * value + (1 - decay) * np.asarray(state.params[name])
    for name, value in average.items():
        np.testing.assert_allclose(state.weights[name], value, rtol=1e-5, atol=1e-6)


def test_one_trace_and_one_compilation_for_all_steps(caplog):
    traced = []

    def step(*args, **options):
        traced.append(args)
        return train_step(*args, **options)

    options = _linear_options(Adam())
    run = parallelise(step, precision=Precision("tensorfloat32"), devices=jax.devices()[:2], **options)
    state = replicate(make_state(LINEAR, options["optimizer"]), jax.devices()[:2])
    with jax.log_compiles():
        for lr, hr in zip(LR, HR, strict=True):
            batch = {"lr": lr.reshape(2, 2, 3), "hr": hr.reshape(2, 2, 2), "stop": np.zeros(2, np.float32)}
            state, _ = run(state, batch)
    assert len(traced) == 1
    assert sum("Finished XLA compilation" in record.message for record in caplog.records) == 1


def test_devices_and_accumulation_change_nothing():
    options, precision = _linear_options(Adam(), clip=0.02), Precision("float32")
    one = parts = make_state(LINEAR, options["optimizer"], with_average=True)
    four = replicate(one)
    on_four = parallelise(train_step, precision=precision, ema_decay=0.9, **options)
    on_four_in_parts = parallelise(train_step, precision=precision, ema_decay=0.9, accumulate=2, **options)
    both = replicate(one)
    for seed in range(5):
        random = np.random.default_rng(seed)
        batch = {"lr": random.normal(size=(8, 4, 3)), "hr": random.normal(size=(8, 4, 2))}
        batch = {name: x.astype(np.float32) for name, x in batch.items()}
        shares = {name: x.reshape(4, 2, *x.shape[1:]) for name, x in batch.items()}
        shares["stop"] = np.float32([0, 0, seed == 4, 0])
        one, metrics = train_step(one, batch, ema_decay=0.9, **options)
        parts, _ = train_step(parts, batch, ema_decay=0.9, accumulate=4, **options)
        four, metrics_of_four = on_four(four, shares)
        both, _ = on_four_in_parts(both, shares)
        assert metrics_of_four.pop("stop") == (seed == 4)
        for name, value in metrics.items():
            np.testing.assert_allclose(metrics_of_four[name], value, rtol=1e-5)
    for other in (parts, four, both):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), other, one)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_bad_batch_changes_nothing_but_the_count(bad):
    options = _linear_options(Adam())
    state = make_state(LINEAR, options["optimizer"], with_average=True)
    state, metrics = train_step(state, {"lr": LR[0], "hr": HR[0]}, ema_decay=0.9, **options)
    assert metrics["is_finite"] == 1
    lr = LR[1].copy()
    lr[0, 0] = bad
    after, metrics = train_step(state, {"lr": lr, "hr": HR[1]}, ema_decay=0.9, **options)
    assert metrics["is_finite"] == 0
    assert after.step == state.step + 1
    jax.tree.map(np.testing.assert_array_equal, after.replace(step=state.step), state)


# Learning rates


def test_published_schedule():
    case = golden.case("schedule")
    decay_at = tuple(map(int, str(case["decay"]).split("-")))
    schedule = StepDecay(float(case["lr"][0]), decay_at, float(case["gamma"])).make(
        n_steps=3000, steps_per_epoch=10
    )
    for offset in (0, 9):
        rates = [schedule(10 * epoch + offset) for epoch in range(300)]
        np.testing.assert_allclose(rates, case["lr"], rtol=1e-6)


@pytest.mark.parametrize("warmup", [0, 4])
def test_cosine(warmup):
    schedule = Cosine(2.0, warmup, 0.1).make(n_steps=20, steps_per_epoch=5)
    for step in range(21):
        along = (step - warmup) / (20 - warmup)
        falling = 2 * (0.1 + 0.9 * (1 + np.cos(np.pi * along)) / 2)
        expected = 2 * step / warmup if step < warmup else falling
        np.testing.assert_allclose(schedule(step), expected, rtol=1e-5)


# Memory and arithmetic


@pytest.mark.parametrize(
    "config",
    [
        EDSRConfig(n_resblocks=4, n_feats=8),
        OADDetConfig(n_resblocks=2, n_feats=8),
    ],
    ids=lambda config: type(config).__name__,
)
@pytest.mark.slow
def test_remat_changes_no_gradient_and_keeps_less(config):
    terms = (Weighted(L1()),)
    # Large enough for features to count more than parameters.
    batch = {"lr": golden.photo(32, 32)[None], "hr": golden.photo(64, 64)[None]}
    lr = batch["lr"].astype(np.float32)
    params = jax.jit(build_model(config).init)(jax.random.key(0), lr)["params"]
    gradients, kept = [], []
    for remat in (False, True):
        loss_fn = make_loss(build_model(config, remat=remat), terms)
        backward = jax.eval_shape(lambda p, f=loss_fn: jax.vjp(f, p, batch, has_aux=True)[1], params)
        kept.append(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward)))
        compiled = jax.jit(jax.grad(loss_fn, has_aux=True)).lower(params, batch).compile()
        gradients.append(compiled(params, batch)[0])
    largest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(gradients[0]))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5 * largest), *gradients)
    assert kept[1] < 0.7 * kept[0]
