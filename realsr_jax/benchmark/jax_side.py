"""The cases in JAX, as the commands of this package run them: a side's process."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax.benchmark.cases import PRODUCTS, Case
from realsr_jax.benchmark.conversation import INPUTS, WEIGHTS, serve
from realsr_jax.convert.rules import to_flax
from realsr_jax.losses import L1, Weighted
from realsr_jax.models import build_model
from realsr_jax.train.optimizers import Adam, make_optimizer
from realsr_jax.train.step import make_loss, make_state, parallelise, replicate, train_step
from realsr_jax.upscale.upscaler import Upscaler

LEARNING_RATE = 1e-4


def prepare(case: Case, folder: Path) -> Callable[[], Any]:
    """Makes a case ready whose weights and inputs lie in a folder; see `conversation.serve`."""
    if case.task == "product":
        return _prepare_product(case)
    params = to_flax(case.model_config, dict(np.load(folder / WEIGHTS.format(network=case.network))))
    inputs = dict(np.load(folder / INPUTS))
    match case.task:
        case "tile":
            return _prepare_tiles(case, params, inputs["lr"])
        case "photo":
            return _prepare_photo(case, params, inputs["lr"][0])
        case _:
            return _prepare_steps(case, params, inputs)


def _prepare_product(case: Case) -> Callable[[], None]:
    """Products of square matrices, in a row."""
    matrix = jnp.full(case.size, 1 / case.size[0], case.dtype)

    @jax.jit
    def multiply(x: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("float32"):  # not TF32, on GPUs
            return jax.lax.fori_loop(0, PRODUCTS, lambda _, y: y @ x, x)

    def run() -> None:
        multiply(matrix).block_until_ready()

    return run


def _prepare_tiles(case: Case, params: Any, lr: np.ndarray) -> Callable[[], jax.Array]:
    """A batch of tiles that already is on the device."""
    model = build_model(case.model_config, dtype=jnp.dtype(case.dtype))

    @jax.jit
    def upscale(params: Any, lr: jax.Array) -> jax.Array:
        with jax.default_matmul_precision("float32"):
            return jnp.asarray(model.apply({"params": params}, lr))

    inputs = jax.device_put((params, lr.astype(np.float32)))
    return lambda: upscale(*inputs).block_until_ready()


class _Refusal(logging.Handler):
    """Ends the side where the upscaler would go on with smaller tiles, which are another case."""

    def emit(self, record: logging.LogRecord) -> None:
        """Ends the process."""
        raise SystemExit(record.getMessage())


def _prepare_photo(case: Case, params: Any, lr: np.ndarray) -> Callable[[], np.ndarray]:
    """A photo with its network's published ensemble, from host to host."""
    run = case.ensemble
    logging.getLogger("realsr_jax").addHandler(_Refusal())
    upscaler = Upscaler(
        case.model_config, params, tilings=run.tilings, self_ensemble=run.self_ensemble, dtype=case.dtype
    )
    return lambda: upscaler(lr)


def _prepare_steps(case: Case, params: Any, batch: dict[str, np.ndarray]) -> Callable[[], list[float]]:
    """Training steps on one batch, cut for all local devices."""
    optimizer = make_optimizer(Adam())
    model = build_model(case.model_config, dtype=jnp.dtype(case.dtype))
    step = parallelise(
        train_step,
        loss_fn=make_loss(model, (Weighted(L1()),)),
        optimizer=optimizer,
        schedule=lambda _: LEARNING_RATE,
    )
    state = replicate(make_state(params, optimizer))
    n_devices = jax.local_device_count()
    parts = {key: a.reshape(n_devices, -1, *a.shape[1:]) for key, a in batch.items()}
    losses: list[float] = []

    def run() -> list[float]:
        nonlocal state
        state, metrics = step(state, parts)
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
