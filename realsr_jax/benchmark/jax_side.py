"""The cases in JAX, as the commands of this package run them: a side's process."""

import dataclasses
import functools
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import SingleDeviceSharding

from realsr_jax.benchmark.cases import PRODUCTS, Case
from realsr_jax.benchmark.conversation import Arrays, peak_process_bytes, serve
from realsr_jax.benchmark.timing import OURS_ALONE, OURS_IN_FLOAT32
from realsr_jax.convert.rules import to_flax
from realsr_jax.images import Metadata, Photo, read_photo, write_photo
from realsr_jax.losses import L1, Weighted
from realsr_jax.models import build_model, place_parameters
from realsr_jax.models.precision import Precision
from realsr_jax.system.processes import count_cores
from realsr_jax.train.optimizers import Adam, make_optimizer
from realsr_jax.train.step import make_loss, make_state, parallelise, replicate, train_step
from realsr_jax.upscaling.tilings import QuarterTiles
from realsr_jax.upscaling.upscaler import Upscaler, load_upscaler
from realsr_jax.weights import save_weights

LEARNING_RATE = 1e-4


def prepare(case: Case, folder: Path, weights: Arrays, inputs: Arrays, *, side: str) -> Callable[[], Any]:
    """Makes a case ready; see `conversation.serve`."""
    if side == OURS_IN_FLOAT32.name:
        case = dataclasses.replace(case, dtype="float32")
    if case.task == "product":
        return _prepare_product(case)
    if case.task == "folder" and side != OURS_ALONE.name:
        return _prepare_command(case, folder, inputs)
    params = to_flax(case.model_config, dict(weights))
    if case.task == "tile":
        return _prepare_tiles(case, params, inputs)
    if case.task == "step":
        return _prepare_steps(case, params, inputs)
    save_weights(folder / side, case.model_config, params, provenance={})
    upscaler = _load(case, folder / side)
    if case.task == "folder":
        return _prepare_photos(upscaler, inputs)
    (lr,) = inputs["lr"]
    return lambda: upscaler(lr)


def _compiled(function: Callable[..., Any], case: Case) -> Callable[..., Any]:
    """Returns a compiled function in a case's precision, which returns when the device is done."""
    compiled = jax.jit(function)

    def call(*arguments: Any) -> Any:
        with Precision(case.dtype).tracing():
            return compiled(*arguments).block_until_ready()

    return call


def _prepare_product(case: Case) -> Callable[[], jax.Array]:
    """Products of square matrices, in a row."""
    matrix = jnp.full(case.size, 1 / case.size[0], case.dtype)
    multiply = _compiled(lambda x: jax.lax.fori_loop(0, PRODUCTS, lambda _, y: y @ x, x), case)
    return lambda: multiply(matrix)


def _prepare_tiles(case: Case, params: Any, inputs: Arrays) -> Callable[[], jax.Array]:
    """A batch of tiles that already is on the device."""
    upscale = _compiled(build_model(case.model_config, dtype=Precision(case.dtype).dtype).apply, case)
    sharding = SingleDeviceSharding(jax.local_devices()[0])
    params = place_parameters(case.model_config, params, sharding, dtype=Precision(case.dtype).dtype)
    lr = jax.device_put(inputs["lr"].astype(np.float32), sharding)
    return lambda: upscale({"params": params}, lr)


class _Refusal(logging.Handler):
    """Ends the side where the upscaler would go on with smaller tiles, which are another case."""

    def emit(self, record: logging.LogRecord) -> None:
        """Ends the process."""
        raise SystemExit(record.getMessage())


def _load(case: Case, weights: Path) -> Upscaler:
    """Returns the upscaler of a case: with default settings, or with the network's published ensemble."""
    logging.getLogger("realsr_jax").addHandler(_Refusal())
    if case.task != "ensemble":
        return load_upscaler(weights, dtype=case.dtype)
    run = case.ensemble
    tilings = [tiling for tiling in run.tilings if isinstance(tiling, QuarterTiles)]
    return load_upscaler(
        weights,
        chop_size=[tiling.chop_size for tiling in tilings],
        shave_size=[tiling.shave_size for tiling in tilings],
        self_ensemble=run.self_ensemble,
        dtype=case.dtype,
    )


def _prepare_photos(upscaler: Upscaler, inputs: Arrays) -> Callable[[], Any]:
    """The photos of a folder, one after the other, from host to host."""
    photos = [inputs[name] for name in sorted(inputs)]
    upscaler.prepare(photo.shape[:2] for photo in photos)

    def run() -> Callable[[], np.ndarray]:
        results = [upscaler(photo) for photo in photos]
        return lambda: _join(np.rint(np.clip(sr, 0, 255)) for sr in results)

    return run


def _prepare_command(case: Case, folder: Path, inputs: Arrays) -> Callable[[], Any]:
    """A folder of photos through ``realsr-upscale``, a process of its own with a compilation cache."""
    photos, results = folder / "photos", folder / "results"
    photos.mkdir(exist_ok=True)
    for name, rgb in inputs.items():
        write_photo(Photo(rgb, Metadata(), "PNG"), photos / f"{name}.png")
    command = [sys.executable, "-m", "realsr_jax.cli.upscale", f"--input={photos}", f"--output={results}"]
    command += [f"--weights={case.network}", f"--dtype={case.dtype}", "--overwrite"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}

    def run() -> Callable[[], np.ndarray]:
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        return lambda: _join(read_photo(path).rgb_8_bit() for path in sorted(results.iterdir()))

    return run


def _join(photos: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the values of photos of any sizes, one after the other."""
    return np.concatenate([photo.ravel() for photo in photos])


def _prepare_steps(case: Case, params: Any, inputs: Arrays) -> Callable[[], list[float]]:
    """Training steps on one batch, spread over as many local devices as can share it, cores among them."""
    jax.config.update("jax_num_cpu_devices", count_cores())
    devices = jax.local_devices()
    while case.batch % len(devices):
        devices.pop()
    optimizer = make_optimizer(Adam())
    precision = Precision(case.dtype)
    loss_fn = make_loss(build_model(case.model_config, dtype=precision.dtype), (Weighted(L1()),))
    options = {"loss_fn": loss_fn, "optimizer": optimizer, "schedule": lambda _: LEARNING_RATE}
    step = parallelise(train_step, devices=devices, precision=precision, **options)
    state = replicate(make_state(params, optimizer), devices)
    batch = {name: x.reshape(len(devices), -1, *x.shape[1:]) for name, x in inputs.items()}
    batch["stop"] = np.zeros(len(devices), np.float32)
    losses: list[float] = []

    def run() -> list[float]:
        nonlocal state
        state, metrics = step(state, batch)
        jax.block_until_ready(state)
        losses.append(float(metrics["loss"]))
        return losses

    return run


def _peak_bytes() -> int:
    """Returns the device's own count, where it keeps one, or that of this process or the command it ran."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and statistics["peak_bytes_in_use"]:
        return statistics["peak_bytes_in_use"]
    return max(peak_process_bytes(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)


if __name__ == "__main__":
    serve(functools.partial(prepare, side=sys.argv[1]), _peak_bytes)
