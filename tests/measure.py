"""Measurements quoted in BUILD_NOTES.md, which no test should wait for.

python tests/measure.py convolution
python tests/measure.py pytorch
python tests/measure.py memory
python tests/measure.py bfloat16 --weights=weights/oaddet photo.png ...
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np

import realsr_jax
from realsr_jax import images, ops, winograd
from realsr_jax.config import DeepOADDetConfig, DRLNConfig, EDSRConfig, OADDetConfig
from realsr_jax.models import build_model, oaddet


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
        return ops._conv2d_directly(x, kernel, **options)

    def with_valid(x, kernel, edge_padding):
        padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        layout = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(padded, kernel, (1, 1), "VALID", dimension_numbers=layout)

    ways = {
        "minimal filtering, zero": (winograd.conv2d, False),
        "edge": (winograd.conv2d, True),
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


def pytorch(tile: int) -> None:
    """Prints the times of a tile and of a training step, here and by PyTorch in its best way on CPUs."""
    _compare("oaddet", OADDetConfig(), tile)
    _compare("deep_oaddet", DeepOADDetConfig(), tile)
    _compare("edsr", EDSRConfig(), tile)
    _compare("drln", DRLNConfig(), tile)


def _compare(name: str, config, tile: int) -> None:
    import optax
    import torch
    import torch_reference

    from realsr_jax.convert.rules import to_flax

    def channels_last(image):
        return torch.from_numpy(image.transpose(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)

    peer = torch_reference.build(name).to(memory_format=torch.channels_last)
    params = to_flax(config, {key: value.numpy() for key, value in peer.state_dict().items()})
    model = build_model(config)
    lr = np.random.default_rng(0).uniform(0, 255, (1, tile, tile, 3)).astype(np.float32)
    lr_torch = channels_last(lr)
    apply = jax.jit(lambda params, lr: model.apply({"params": params}, lr))
    with torch.inference_mode():
        expected = peer(lr_torch).numpy().transpose(0, 2, 3, 1)
        difference = np.abs(apply(params, lr) - expected).max()
        times = _in_turn(lambda: apply(params, lr).block_until_ready(), lambda: peer(lr_torch), repeats=3)
    print(f"{name}, {tile}x{tile}: {times}, largest difference {difference:.4f}", flush=True)

    patches, hr = lr[:, :64, :64].repeat(4, 0), np.full((4, 128, 128, 3), 99, np.float32)
    patches_torch, hr_torch = channels_last(patches), channels_last(hr)
    adam, adam_torch = optax.adam(1e-4), torch.optim.Adam(peer.parameters(), 1e-4)

    @jax.jit
    def update(params, state):
        def loss(params):
            return jnp.abs(model.apply({"params": params}, patches) - hr).mean()

        updates, state = adam.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    def update_torch():
        adam_torch.zero_grad()
        (peer(patches_torch) - hr_torch).abs().mean().backward()
        adam_torch.step()

    state = adam.init(params)
    times = _in_turn(lambda: jax.block_until_ready(update(params, state)), update_torch, repeats=2)
    print(f"{name}, training step, batch 4, HR patch 128: {times}", flush=True)


def _in_turn(ours, theirs, *, repeats: int) -> str:
    """Times two functions in turn, after one call of each, and compares the medians."""
    times = np.median([[_seconds(ours), _seconds(theirs)] for _ in range(repeats + 1)][1:], axis=0)
    return f"{times[0]:.2f} s, PyTorch {times[1]:.2f} s, ratio {times[0] / times[1]:.2f}"


def _seconds(function) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


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


def bfloat16(weights: str, photos: list[str]) -> None:
    """Prints how far bfloat16 is from float32 on photos, in grey levels."""
    precise = realsr_jax.load_upscaler(weights, tile_size=None)
    coarse = realsr_jax.load_upscaler(weights, tile_size=None, dtype="bfloat16")
    for path in photos:
        lr = images.read_photo(path).network_input()
        difference = coarse(lr) - precise(lr)
        print(
            f"{weights} {path}: RMS {np.sqrt(np.mean(difference**2)):.3f}, max {np.abs(difference).max():.2f}"
        )


def main() -> None:
    """Runs one measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("convolution").add_argument("--tile", type=int, default=160)
    commands.add_parser("pytorch").add_argument("--tile", type=int, default=160)
    commands.add_parser("memory").add_argument("--tile", type=int, default=256)
    of_bfloat16 = commands.add_parser("bfloat16")
    of_bfloat16.add_argument("--weights", required=True)
    of_bfloat16.add_argument("photos", nargs="+")
    arguments = vars(parser.parse_args())
    functions = (convolution, memory, bfloat16, pytorch)
    {function.__name__: function for function in functions}[arguments.pop("command")](**arguments)


if __name__ == "__main__":
    main()
