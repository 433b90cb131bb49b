"""Which devices train: as many as can share a batch evenly."""

from collections.abc import Sequence
from typing import Any

import jax

from realsr_jax.train.train_config import TrainConfig


def choose_devices(config: TrainConfig) -> list[Any]:
    """Returns the devices that train a run: of each process the same number, as many as can share the batch.

    On CPUs the batch bounds the memory so: each device holds a copy of the state and the gradients, 16 bytes
    for each parameter with Adam, while patches and features, which are shared out, do not grow with them.

    Raises:
        ValueError: if the processes cannot share the batch evenly, even with one device each.
    """
    unit = jax.process_count() * config.accumulate
    if config.batch_size % unit:
        sharers = [f"{config.accumulate} parts"] * (config.accumulate > 1)
        sharers += [f"{jax.process_count()} processes"] * (jax.process_count() > 1)
        raise ValueError(
            f"batch_size is {config.batch_size}, which {' of '.join(sharers)} cannot share evenly; the "
            f"nearest sizes are {_nearest_sizes(config.batch_size, unit)}"
        )
    of_process: dict[int, list[Any]] = {}
    for device in jax.devices():
        of_process.setdefault(device.process_index, []).append(device)
    n = min(map(len, of_process.values()))
    while config.batch_size // unit % n:
        n -= 1
    return [device for devices in of_process.values() for device in devices[:n]]


def describe_idle_devices(config: TrainConfig, devices: Sequence[Any]) -> str:
    """Returns a line on the devices that do not train, with batch sizes that use all; empty if all train.

    Args:
        config: the run.
        devices: what `choose_devices` chose for it.
    """
    idle = jax.device_count() - len(devices)
    if not idle:
        return ""
    sizes = _nearest_sizes(config.batch_size, jax.device_count() * config.accumulate)
    return (
        f"{idle} more device(s) stay idle, as all cannot share batch_size {config.batch_size} evenly; the "
        f"nearest sizes that use all are {sizes}"
    )


def _nearest_sizes(size: int, unit: int) -> str:
    """Names the multiples of `unit` next to a size."""
    below = size // unit * unit
    return f"{below} or {below + unit}" if below else str(unit)
