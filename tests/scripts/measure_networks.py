"""Measurements quoted in BUILD_NOTES.md, which no test should wait for.

python tests/scripts/measure_networks.py convolution
python tests/scripts/measure_networks.py memory
python tests/scripts/measure_networks.py precision --weights=weights/oaddet photo.png ...
python tests/scripts/measure_networks.py seams --weights=default photo.png ...
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax import images, ops
from realsr_jax.models import build_model, layers, oaddet
from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.models.precision import Precision
from realsr_jax.ops import convolution as convolution_ops
from realsr_jax.ops import minimal_filtering
from realsr_jax.upscaling.upscaler import load_upscaler
from realsr_jax.weights import load_weights


def _gathered_filter(image, kernels):
    """The published form: every pixel's neighbourhood is gathered, then multiplied with its kernel."""
    h, w, c = image.shape[1:]
    size = int((kernels.shape[-1] // c) ** 0.5)
    r = size // 2
    padded = jnp.pad(image, ((0, 0), (r, r), (r, r), (0, 0)))
    rows = jnp.arange(h)[:, None] + jnp.arange(size)
    columns = jnp.arange(w)[:, None] + jnp.arange(size)
    patches = padded[:, rows[:, None, :, None], columns[None, :, None, :]].reshape(-1, h, w, size * size, c)
    return (jax.lax.optimization_barrier(patches) * kernels.reshape(patches.shape)).sum(3)


def convolution(tile: int) -> None:
    """Prints the speed of 3x3 convolutions inside a network, by minimal filtering and directly."""

    def directly(x, kernel, **options):
        return convolution_ops._convolve(x, kernel, **options)

    def with_valid(x, kernel, edge_padding):
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=layout)

    ways = {
        "minimal filtering, zero": (minimal_filtering.convolve, False),
        "edge": (minimal_filtering.convolve, True),
        "direct, zero": (directly, False),
        "edge ": (directly, True),
        "edge with VALID": (with_valid, True),
    }
    depth = 8
    for channels in (64, 128, 256):
        x = jnp.ones((1, tile, tile, channels))
        kernels = jnp.full((depth, 3, 3, channels, channels), 0.1 / channels)
        row = []
        for name, (convolve, edge_padding) in ways.items():

            def network(x, kernels, convolve=convolve, edge_padding=edge_padding):
                for kernel in kernels:
                    x = jax.nn.relu(convolve(x, kernel, edge_padding=edge_padding))
                return x

            run = jax.jit(network)
            run(x, kernels).block_until_ready()
            times = []
            for _ in range(5):
                started = time.perf_counter()
                run(x, kernels).block_until_ready()
                times.append(time.perf_counter() - started)
            speed = depth * 2 * 9 * channels**2 * tile**2 / np.median(times) / 1e9
            row.append(f"{name.strip()} {speed:.0f}")
        print(f"{channels} channels, {tile}x{tile}: {', '.join(row)} GFLOP/s of the direct method")


def memory(tile: int) -> None:
    """Prints the compiled peak memory of a tile, with summed and with gathered dynamic filters."""
    configs = (OADDetConfig(), DeepOADDetConfig(), EDSRConfig(), DRLNConfig())
    for config in configs:
        row = []
        for dynamic_filter in (ops.dynamic_filter, _gathered_filter):
            oaddet.ops = type("ops", (), {**vars(ops), "dynamic_filter": staticmethod(dynamic_filter)})
            module = build_model(config)
            lr = jax.ShapeDtypeStruct((1, tile, tile, 3), jnp.float32)
            params = jax.eval_shape(module.init, jax.random.key(0), lr)
            analysis = jax.jit(module.apply).lower(params, lr).compile().memory_analysis()
            row.append(f"{analysis.temp_size_in_bytes / 2**20:.0f} MiB")
            if isinstance(config, EDSRConfig | DRLNConfig):
                break
        print(f"{type(config).__name__} {tile}x{tile}:", ", gathered ".join(row))


def _with_short_products(x, kernel, **options):
    """Convolves as GPUs do in TF32: operands rounded to 10 bits after the binary point."""
    x, kernel = (jax.lax.reduce_precision(a, 8, 10) if a.dtype == jnp.float32 else a for a in (x, kernel))
    return ops.conv2d(x, kernel, **options)


def precision(weights: str, photos: list[str]) -> None:
    """Prints how far other number formats are from float32 on photos, in grey levels, on which "auto" rests.

    TF32's rounding is imitated, so that it can be measured on CPUs.
    """
    config, params = load_weights(weights)
    short = type("ops", (), {**vars(ops), "conv2d": staticmethod(_with_short_products)})
    kinds = {"float32": ops, "tensorfloat32": short, "bfloat16": short}
    runs = {name: jax.jit(build_model(config, dtype=Precision(name).dtype).apply) for name in kinds}
    for path in photos:
        lr, srs = images.read_photo(path).rgb_8_bit()[None].astype(np.float32), {}
        for name, layers.ops in kinds.items():
            srs[name] = np.asarray(runs[name]({"params": params}, lr))
        precise, row = srs.pop("float32"), []
        for name, sr in srs.items():
            difference = sr - precise
            row.append(
                f"{name} RMS {np.sqrt(np.mean(difference**2)):.4f}, max {np.abs(difference).max():.2f}"
            )
        print(f"{weights} {path}: {'; '.join(row)}")


def seams(weights: str, photos: list[str]) -> None:
    """Prints how far tiles of the default sizes are from the whole image, in grey levels."""
    tiled, whole = load_upscaler(weights), load_upscaler(weights, tile_size=None)
    for path in photos:
        lr = np.ascontiguousarray(images.read_photo(path).rgb_8_bit())
        difference = tiled(lr) - whole(lr)
        rms = np.sqrt(np.mean(difference**2))
        print(f"{weights} {path}: RMS {rms:.4f}, max {np.abs(difference).max():.2f}")


def main() -> None:
    """Runs one measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("convolution").add_argument("--tile", type=int, default=160)
    commands.add_parser("memory").add_argument("--tile", type=int, default=256)
    for name in ("precision", "seams"):
        of_photos = commands.add_parser(name)
        of_photos.add_argument("--weights", required=True)
        of_photos.add_argument("photos", nargs="+")
    arguments = vars(parser.parse_args())
    functions = (convolution, memory, precision, seams)
    {function.__name__: function for function in functions}[arguments.pop("command")](**arguments)


if __name__ == "__main__":
    main()
