"""Feeders: threads that take pieces of work from one queue, each for its device.

On a CPU there is a feeder for each core, all of one device: threads that run the same program side by side
are as fast as several devices with a program and a copy of the weights each, and faster than cores that share
every operation. An accelerator has two, one of which prepares while the other's work is running.
"""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

import jax

from realsr_jax.system.processes import count_cores

Device: TypeAlias = Any
"""`jax.Device`, which type checkers take for a variable."""

_FOR_EACH_ACCELERATOR: Final = 2


class Feeders:
    """The threads and their queue.

    Attributes:
        devices: the devices that are fed.
        count: how many threads there are.
        for_each: how many there are for a device.
    """

    def __init__(self, devices: tuple[Device, ...]):
        """Starts threads for devices of one kind."""
        self.devices = devices
        is_cpu = devices[0].platform == "cpu"
        self.for_each = -(-count_cores() // len(devices)) if is_cpu else _FOR_EACH_ACCELERATOR
        self.count = self.for_each * len(devices)
        self._own = threading.local()
        self._round = itertools.cycle(devices)
        free: SimpleQueue[Device] = SimpleQueue()
        for device in devices * self.for_each:
            free.put(device)
        self._pool = ThreadPoolExecutor(
            self.count, "feeder", lambda: setattr(self._own, "device", free.get())
        )

    def next_device(self) -> Device:
        """Returns one device after the other, for what belongs to an image and not to a tile."""
        return next(self._round)

    def submit(self, work: Callable[[Device], Any]) -> Future[Any]:
        """Queues a piece of work, which is told its device."""
        return self._pool.submit(lambda: work(self._own.device))


_all_feeders: dict[tuple[Device, ...], Feeders] = {}
_lock = threading.Lock()


def feeders_of(devices: tuple[Device, ...]) -> Feeders:
    """Returns the feeders of devices, which all upscalers of a process share."""
    with _lock:
        if devices not in _all_feeders:
            _all_feeders[devices] = Feeders(devices)
        return _all_feeders[devices]


def upscaling_devices() -> tuple[Device, ...]:
    """Returns the devices that upscale: all of this process, but of a CPU's only one, which has all cores."""
    devices = tuple(jax.local_devices())
    return devices[:1] if devices[0].platform == "cpu" else devices
