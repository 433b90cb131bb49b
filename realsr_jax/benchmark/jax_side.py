"""The cases in JAX, as the commands of this package run them: a worker process of the benchmark."""

import logging
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax.benchmark.cases import PRODUCTS, Case
from realsr_jax.benchmark.conversation import INPUTS, WEIGHTS, serve
from realsr_jax.convert.rules import to_flax
from realsr_jax.models import build_model
from realsr_jax.train.optimizers import make_optimizer
from realsr_jax.train.step import make_loss, make_state, parallelise, replicate, train_step
from realsr_jax.losses import L1, Weighted
from realsr_jax.train.optimizers import Adam
from realsr_jax.upscale.upscaler import Upscaler

NAME = "realsr_jax"

LEARNING_RATE = 1e-4


class _Work:
    """What all cases share."""

    def run(self) -> None:
        """Runs the case once."""
        raise NotImplementedError

    def result(self) -> np.ndarray:
        """Returns nothing, as a matrix product gives nothing to compare."""
        return np.zeros(0, np.float32)

    def peak_bytes(self) -> int | None:
        """Returns the device's own count, where it keeps one."""
        statistics = jax.local_devices()[0].memory_stats()
        return statistics["peak_bytes_in_use"] if statistics else None


class Product(_Work):
    """Products of square matrices, in a row."""

    def __init__(self, size: int, dtype: str):
        """Places the matrices on the device."""
        self._matrix = jnp.full((size, size), 1 / size, dtype)

        def multiply(x: jax.Array) -> jax.Array:
            with jax.default_matmul_precision("float32"):  # not TF32, on GPUs
                return jax.lax.fori_loop(0, PRODUCTS, lambda _, y: y @ x, x)

        self._multiply = jax.jit(multiply)

    def run(self) -> None:
        """Multiplies."""
        self._multiply(self._matrix).block_until_ready()


class Tile(_Work):
    """A batch of tiles that already is on the device."""

    def __init__(self, case: Case, params: Any, lr: np.ndarray):
        """Places parameters and tiles on the device."""
        model = build_model(case.model_config, dtype=jnp.dtype(case.dtype))

        def upscale(params: Any, lr: jax.Array) -> jax.Array:
            with jax.default_matmul_precision("float32"):
                return jnp.asarray(model.apply({"params": params}, lr))

        self._upscale = jax.jit(upscale)
        self._inputs = jax.device_put((params, lr.astype(np.float32)))

    def run(self) -> None:
        """Upscales the tiles."""
        self._sr = self._upscale(*self._inputs).block_until_ready()

    def result(self) -> np.ndarray:
        """Returns float32 [n, h, w, 3]."""
        return np.asarray(self._sr)


class _Refusal(logging.Handler):
    """Ends the side where the upscaler would go on with smaller tiles, which are another case."""

    def emit(self, record: logging.LogRecord) -> None:
        """Ends the process."""
        raise SystemExit(record.getMessage())


class PhotoEnsemble(_Work):
    """A photo with its network's published ensemble, from host to host."""

    def __init__(self, case: Case, params: Any, lr: np.ndarray):
        """Makes the upscaler."""
        tilings, self_ensemble = case.ensemble
        self._lr = lr
        logging.getLogger("realsr_jax").addHandler(_Refusal())
        self._upscaler = Upscaler(
            case.model_config, params, tilings=tilings, self_ensemble=self_ensemble, dtype=case.dtype
        )

    def run(self) -> None:
        """Upscales the photo."""
        self._sr = self._upscaler(self._lr)

    def result(self) -> np.ndarray:
        """Returns float32 [h, w, 3]."""
        return self._sr


class Step(_Work):
    """Training steps on one batch."""

    def __init__(self, case: Case, params: Any, batch: dict[str, np.ndarray]):
        """Places state and batch on all local devices."""
        optimizer = make_optimizer(Adam())
        self._step = parallelise(
            train_step,
            loss_fn=make_loss(build_model(case.model_config, dtype=jnp.dtype(case.dtype)), (Weighted(L1()),)),
            optimizer=optimizer,
            schedule=lambda _: LEARNING_RATE,
        )
        n_devices = jax.local_device_count()
        self._state = replicate(make_state(params, optimizer))
        self._batch = {name: x.reshape(n_devices, -1, *x.shape[1:]) for name, x in batch.items()}
        self._batch["stop"] = np.zeros(n_devices, np.float32)
        self._losses: list[float] = []

    def run(self) -> None:
        """Takes a step, and waits for its loss and for the parameters."""
        self._state, metrics = self._step(self._state, self._batch)
        jax.block_until_ready(self._state)
        self._losses.append(float(metrics["loss"]))

    def result(self) -> np.ndarray:
        """Returns the loss of each step."""
        return np.array(self._losses, np.float32)


def make_work(case: Case, folder: Path) -> _Work:
    """Makes a case ready whose weights and inputs lie in a folder."""
    if case.task == "product":
        return Product(case.size[0], case.dtype)
    params = to_flax(case.model_config, np.load(folder / WEIGHTS.format(network=case.network)))
    inputs = dict(np.load(folder / INPUTS))
    match case.task:
        case "tile":
            return Tile(case, params, inputs["lr"])
        case "photo":
            return PhotoEnsemble(case, params, inputs["lr"][0])
        case _:
            return Step(case, params, inputs)


if __name__ == "__main__":
    serve(NAME, make_work)
