"""The cases in JAX, as the commands of this package run them: a side's process."""

import logging
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax.benchmark.cases import PRODUCTS, Case
from realsr_jax.benchmark.conversation import Arrays, serve
from realsr_jax.convert.rules import to_flax
from realsr_jax.losses import L1, Weighted
from realsr_jax.models import build_model
from realsr_jax.train.optimizers import Adam, make_optimizer
from realsr_jax.train.step import make_loss, make_state, parallelise, replicate, train_step
from realsr_jax.upscale.upscaler import Upscaler

LEARNING_RATE = 1e-4


def prepare(case: Case, weights: Arrays, inputs: Arrays) -> Callable[[], Any]:
    """Makes a case ready; see `conversation.serve`."""
    if case.task == "product":
        return _prepare_product(case)
    prepare_task = {"tile": _prepare_tiles, "photo": _prepare_photo, "step": _prepare_steps}[case.task]
    return prepare_task(case, to_flax(case.model_config, dict(weights)), inputs)


def _in_float32(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a compiled function that does not use TF32 on GPUs, and returns when the device is done."""
    compiled = jax.jit(function)

    def call(*arguments: Any) -> Any:
        with jax.default_matmul_precision("float32"):
            return compiled(*arguments).block_until_ready()

    return call


def _prepare_product(case: Case) -> Callable[[], jax.Array]:
    """Products of square matrices, in a row."""
    matrix = jnp.full(case.size, 1 / case.size[0], case.dtype)
    multiply = _in_float32(lambda x: jax.lax.fori_loop(0, PRODUCTS, lambda _, y: y @ x, x))
    return lambda: multiply(matrix)


def _prepare_tiles(case: Case, params: Any, inputs: Arrays) -> Callable[[], jax.Array]:
    """A batch of tiles that already is on the device."""
    upscale = _in_float32(build_model(case.model_config, dtype=jnp.dtype(case.dtype)).apply)
    arguments = jax.device_put(({"params": params}, inputs["lr"].astype(np.float32)))
    return lambda: upscale(*arguments)


class _Refusal(logging.Handler):
    """Ends the side where the upscaler would go on with smaller tiles, which are another case."""

    def emit(self, record: logging.LogRecord) -> None:
        """Ends the process."""
        raise SystemExit(record.getMessage())


def _prepare_photo(case: Case, params: Any, inputs: Arrays) -> Callable[[], np.ndarray]:
    """A photo with its network's published ensemble, from host to host."""
    run = case.ensemble
    logging.getLogger("realsr_jax").addHandler(_Refusal())
    upscaler = Upscaler(
        case.model_config, params, tilings=run.tilings, self_ensemble=run.self_ensemble, dtype=case.dtype
    )
    (lr,) = inputs["lr"]
    return lambda: upscaler(lr)


def _prepare_steps(case: Case, params: Any, inputs: Arrays) -> Callable[[], list[float]]:
    """Training steps on one batch, spread over all local devices."""
    optimizer = make_optimizer(Adam())
    loss_fn = make_loss(build_model(case.model_config, dtype=jnp.dtype(case.dtype)), (Weighted(L1()),))
    step = parallelise(train_step, loss_fn=loss_fn, optimizer=optimizer, schedule=lambda _: LEARNING_RATE)
    state = replicate(make_state(params, optimizer))
    n_devices = jax.local_device_count()
    batch = {name: x.reshape(n_devices, -1, *x.shape[1:]) for name, x in inputs.items()}
    batch["stop"] = np.zeros(n_devices, np.float32)
    losses: list[float] = []

    def run() -> list[float]:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready(state)
        losses.append(float(metrics["loss"]))
        return losses

    return run


def _device_bytes() -> int | None:
    """Returns the device's own count, where it keeps one."""
    statistics = jax.local_devices()[0].memory_stats()
    return statistics["peak_bytes_in_use"] if statistics else None


if __name__ == "__main__":
    serve(prepare, _device_bytes)
