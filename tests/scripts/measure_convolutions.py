"""Finds from how many pixels on minimal filtering pays and prints the table of ops/minimal_filtering.py.

python tests/scripts/measure_convolutions.py

Runs on one core, as one of several tiles or shares of a batch does, and takes some minutes: leave the machine
idle meanwhile.
"""

import argparse
import functools
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from realsr_jax.ops import convolution, minimal_filtering

SIDE = 32
COUNTS = (4, 8, 16, 64, 256)
"""Images of `SIDE` x `SIDE` pixels. Fewer are not worth the longer compilation."""

LEAST_SPEED_UP = 1.1
CHANNELS = (16, 32, 64, 128, 256)
LAYERS = 4
"""Convolutions one after the other, so that a program's own start does not count."""


def operands(wanted: str, size: tuple[int, int], count: int, channels: int, dtype: str) -> list[jax.Array]:
    """Returns what the convolution or a gradient is made of."""
    image = jnp.ones((count, SIDE, SIDE, channels), dtype)
    kernel = jnp.full((*size, channels, channels), 1e-3, dtype)
    return {"y": [image, kernel], "x": [kernel, image], "kernel": [image, image]}[wanted]


def repeat(compute: Callable[..., jax.Array], wanted: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """Computes several times, each time from the result of the time before."""
    result = compute(a, b)
    for _ in range(LAYERS - 1):
        if wanted == "kernel":
            a = a + jnp.mean(result)
        elif wanted == "y":
            a = result
        else:
            b = result
        result = compute(a, b)
    return result


def speed_up(wanted: str, size: tuple[int, int], count: int, channels: int, dtype: str) -> float:
    """Returns the time that the direct way takes, over that of minimal filtering."""
    ways: dict[str, Any] = {
        "y": functools.partial(minimal_filtering.convolve, edge_padding=False),
        "x": functools.partial(minimal_filtering.input_gradient, edge_padding=False),
        "kernel": functools.partial(minimal_filtering.kernel_gradient, kernel_size=size, edge_padding=False),
    }
    direct = functools.partial(convolution._directly, wanted=wanted, size=size, edge_padding=False)
    arguments = operands(wanted, size, count, channels, dtype)
    options = {"xla_cpu_multi_thread_eigen": False}
    programs = [
        jax.jit(functools.partial(repeat, way, wanted), compiler_options=options)
        for way in (direct, ways[wanted])
    ]
    times: list[list[float]] = [[], []]
    for _ in range(8):
        for program, seconds in zip(programs, times, strict=True):
            started = time.perf_counter()
            program(*arguments).block_until_ready()
            seconds.append(time.perf_counter() - started)
    return statistics.median(times[0][1:]) / statistics.median(times[1][1:])


def main() -> None:
    """Prints the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--kernels", default="3x3,5x5,1x5,5x1")
    parser.add_argument("--verbose", action="store_true", help="prints every ratio")
    arguments = parser.parse_args()
    kernels = [(int(kernel[0]), int(kernel[2])) for kernel in arguments.kernels.split(",")]
    for dtype, size, wanted in itertools.product(arguments.dtypes.split(","), kernels, ("y", "x", "kernel")):
        row = {}
        for channels in CHANNELS:
            for count in COUNTS:
                ratio = speed_up(wanted, size, count, channels, dtype)
                if arguments.verbose:
                    print(f"    # {channels} channels, {count * SIDE**2} pixels: {ratio:.2f}", flush=True)
                if ratio > LEAST_SPEED_UP:
                    if count * SIDE**2 not in row.values():
                        row[channels] = count * SIDE**2
                    break
        print(f'    ("{dtype}", "{wanted}", {size}): {row},', flush=True)


if __name__ == "__main__":
    main()
