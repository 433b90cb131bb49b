"""How time and memory grow with the image, the tile and the ensemble; draws the README's plot.

python tests/scripts/measure_cost.py --output=tests/data/readme/cost.png

The bundled network (x2) on random pixels, each case in a process of its own. Megapixels are the result's.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

SIZES = (0.1, 0.3, 1, 3, 10, 50)
TILES = (64, 128, 256, 512)
ENSEMBLES = {
    "none": {},
    "crop, 2": {"tile_size": (256, 192)},
    "crop, 4": {"tile_size": (256, 192, 160, 128)},
    "self, 8": {"self_ensemble": True},
}


def measure(megapixels: float, options: dict) -> tuple[float, float]:
    """Returns seconds and the process's peak memory in GiB, without compilation."""
    command = [sys.executable, __file__, "--case", json.dumps([megapixels, options])]
    seconds, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return seconds, peak


def run_case(megapixels: float, options: dict) -> None:
    import realsr_jax
    from realsr_jax.benchmark.conversation import peak_process_bytes
    from realsr_jax.system.jax_startup import start_jax

    start_jax()
    upscaler = realsr_jax.load_upscaler("default", **options)
    h = round((megapixels * 1e6 / 4 / 1.5) ** 0.5)
    lr = np.random.default_rng(0).integers(0, 256, (h, round(1.5 * h), 3), np.uint8)
    upscaler(lr[:64, :64])
    started = time.perf_counter()
    upscaler(lr)
    print(json.dumps([time.perf_counter() - started, peak_process_bytes() / 2**30]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        run_case(*arguments.case)
        return
    sizes, tiles, ensembles = [], [], []
    for title, names, results, cases in (
        ("megapixels", SIZES, sizes, [(size, {}) for size in SIZES]),
        ("tile, 1 MP", TILES, tiles, [(1, {"tile_size": tile}) for tile in TILES]),
        ("ensemble, 1 MP", ENSEMBLES, ensembles, [(1, options) for options in ENSEMBLES.values()]),
    ):
        for name, case in zip(names, cases, strict=True):
            seconds, peak = measure(*case)
            results.append((seconds, peak))
            print(f"{title} {name}: {seconds:.1f} s, {peak:.2f} GiB", flush=True)
    if arguments.output:
        draw(sizes, tiles, ensembles).savefig(arguments.output, dpi=110)


def draw(sizes, tiles, ensembles) -> Figure:
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axes = figure.subplots(1, 3)
    for ax, (title, ticks, results) in zip(
        axes,
        (
            ("result, megapixels", SIZES, sizes),
            ("tile side, 1 MP", TILES, tiles),
            ("ensemble, 1 MP", ENSEMBLES, ensembles),
        ),
        strict=True,
    ):
        seconds, peaks = zip(*results, strict=True)
        ax.plot(range(len(seconds)), seconds, "o-", color="C0")
        ax.set_yscale("log") if ticks is SIZES else ax.set_ylim(0, 1.1 * max(seconds))
        ax.set_xticks(range(len(seconds)), map(str, ticks))
        ax.set_xlabel(title)
        ax.set_ylabel("seconds", color="C0")
        memory = ax.twinx()
        memory.plot(range(len(peaks)), peaks, "s--", color="C1")
        memory.set_ylim(0)
        memory.set_ylabel("peak memory, GiB", color="C1")
    return figure


if __name__ == "__main__":
    main()
