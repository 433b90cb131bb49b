"""The cases of ``realsr-benchmark`` in PyTorch, OpenVINO and ONNX Runtime.

    realsr-benchmark --peer=tests/scripts/torch_peer.py

Without arguments it tells its sides. "best" is the fastest way that PyTorch has: channels_last, inference
mode, all threads, bfloat16 by autocast, on GPUs `torch.compile`; a photo in one pass. "published" is how the
original code runs: float32, NCHW, patches gathered for the dynamic filters, a photo tile by tile.
"openvino" and "onnxruntime" are those of `onnx_peer.py`.
"""

import functools
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_peer
import torch
from torch import Tensor

from realsr_jax.benchmark.cases import PRODUCTS, Case
from realsr_jax.benchmark.conversation import Arrays, Side, serve, tell_sides
from realsr_jax.system.processes import count_cores
from realsr_jax.upscaling.tile_plans import make_plan

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import torch_reference

LEARNING_RATE = 1e-4
TILES_AT_ONCE = 4

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
ON_GPU = DEVICE.type == "cuda"


SIDES = (
    Side("best", (sys.executable, __file__, "best")),
    Side("published", (sys.executable, __file__, "published"), ("tile", "ensemble", "step"), ("float32",)),
    *onnx_peer.SIDES,
)


def prepare(case: Case, _: Path, weights: Arrays, inputs: Arrays, *, best: bool) -> Callable[[], Any]:
    """Makes a case ready; see `realsr_jax.benchmark.conversation.serve`."""
    if case.on_gpu and not ON_GPU:
        raise SystemExit("PyTorch sees no GPU; install its CUDA build, or set JAX_PLATFORMS=cpu")
    torch.set_num_threads(count_cores())
    torch.backends.cudnn.benchmark = best
    # float32 is compared in full; beside bfloat16, what stays float32 is TF32 on GPUs, as on our side.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = case.dtype == "bfloat16"
    if case.task == "product":
        return prepare_product(case)
    network = Network(case, weights, best=best)
    tasks = {
        "tile": prepare_tiles,
        "photo": prepare_photo,
        "ensemble": prepare_ensemble,
        "step": prepare_steps,
    }
    return tasks[case.task](network, inputs)


def synchronise() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def peak_bytes() -> int | None:
    return torch.cuda.max_memory_allocated() if ON_GPU else None


def prepare_product(case: Case) -> Callable[[], None]:
    matrix = torch.full(case.size, 1 / case.size[0], dtype=getattr(torch, case.dtype), device=DEVICE)

    @torch.inference_mode()
    def run() -> None:
        y = matrix
        for _ in range(PRODUCTS):
            y = y @ matrix
        synchronise()

    return run


class Network:
    """A case's network on the device."""

    def __init__(self, case: Case, weights: Arrays, *, best: bool):
        self.case, self.best = case, best
        self.dtype = getattr(torch, case.dtype)
        self.layout = torch.channels_last if best else torch.contiguous_format
        module = build(case, weights, gathered=not best)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_("_mean." not in name)
        self.module = module.to(DEVICE, memory_format=self.layout)
        self.forward = torch.compile(self.module, dynamic=False) if best and ON_GPU else self.module

    def place(self, images: np.ndarray) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        return images.to(DEVICE, torch.float32).contiguous(memory_format=self.layout)

    def upscale(self, lr: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.forward(lr)


def build(case: Case, weights: Arrays, *, gathered: bool) -> torch.nn.Module:
    options = dict(case.fields)
    if "edge_padding" in options:
        options["padding"] = "edge" if options.pop("edge_padding") else "zero"
    if "oaddet" in case.architecture:
        options["gathered"] = gathered
    module = torch_reference.MODELS[case.architecture](**options)
    module.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    return module


def export(case: Case, weights: Arrays, shape: tuple[int, ...], file: Path) -> None:
    """Writes a network for images of a shape [n, h, w, 3] as an ONNX file."""
    warnings.simplefilter("ignore")
    logging.disable()
    n, h, w, _ = shape
    module = build(case, weights, gathered=False).eval()
    names = {"input_names": ["lr"], "output_names": ["sr"]}
    torch.onnx.export(module, (torch.zeros(n, 3, h, w),), file, dynamo=True, verbose=False, **names)


def to_host(images: Tensor) -> np.ndarray:
    return images.float().permute(0, 2, 3, 1).cpu().numpy()


def prepare_tiles(network: Network, inputs: Arrays) -> Callable[[], Any]:
    lr = network.place(inputs["lr"])

    @torch.inference_mode()
    def run() -> Callable[[], np.ndarray]:
        sr = network.upscale(lr)
        synchronise()
        return lambda: to_host(sr)

    return run


def prepare_photo(network: Network, inputs: Arrays) -> Callable[[], np.ndarray]:
    @torch.inference_mode()
    def run() -> np.ndarray:
        return to_host(network.upscale(network.place(inputs["lr"])))[0]

    return run


def prepare_ensemble(network: Network, inputs: Arrays) -> Callable[[], np.ndarray]:
    (image,) = inputs["lr"]
    ensemble = network.case.ensemble
    passes = []  # tiling, quarter turns, mirrored
    for number, tiling in enumerate(ensemble.tilings):
        if ensemble.self_ensemble:
            passes += [(tiling, turns, mirrored) for turns in range(4) for mirrored in (False, True)]
        else:
            passes.append((tiling, number % 4, False))

    @torch.inference_mode()
    def run() -> np.ndarray:
        total = 0
        for tiling, turns, mirrored in passes:
            lr = np.rot90(image, turns)
            sr = upscale_in_tiles(network, lr[:, ::-1] if mirrored else lr, tiling)
            total = total + np.rot90(sr[:, ::-1] if mirrored else sr, -turns)
        return total / len(passes)

    return run


def upscale_in_tiles(network: Network, lr: np.ndarray, tiling) -> np.ndarray:
    scale = network.case.scale
    plan = make_plan(*lr.shape[:2], scale=scale, tiling=tiling)
    h, w = plan.tile_shape
    missing = [(0, max(0, n - length)) for n, length in zip((h, w), lr.shape[:2], strict=True)]
    shape = lr.shape[0] * scale, lr.shape[1] * scale
    lr = np.pad(lr, [*missing, (0, 0)], mode="symmetric")
    sr = np.zeros((lr.shape[0] * scale, lr.shape[1] * scale, 3), np.float32)
    at_once = TILES_AT_ONCE if network.best and ON_GPU else 1
    for first in range(0, len(plan.tiles), at_once):
        tiles = plan.tiles[first : first + at_once]
        corners = [(plan.rows.starts[i], plan.columns.starts[j]) for i, j in tiles]
        cut = network.place(np.stack([lr[y : y + h, x : x + w] for y, x in corners]))
        for (i, j), (y, x), tile in zip(tiles, corners, to_host(network.upscale(cut)), strict=True):
            ramps = plan.rows.ramps[0, i][:, None, None] * plan.columns.ramps[0, j][None, :, None]
            sr[y * scale : (y + h) * scale, x * scale : (x + w) * scale] += ramps * tile
    return sr[: shape[0], : shape[1]]


def prepare_steps(network: Network, inputs: Arrays) -> Callable[[], list[float]]:
    lr, hr = network.place(inputs["lr"]), network.place(inputs["hr"])
    trained = [parameter for parameter in network.module.parameters() if parameter.requires_grad]
    adam = torch.optim.Adam(trained, LEARNING_RATE, fused=(network.best and ON_GPU) or None)
    losses: list[float] = []

    def run() -> list[float]:
        adam.zero_grad()
        loss = torch.nn.functional.l1_loss(network.upscale(lr).float(), hr)
        loss.backward()
        adam.step()
        synchronise()
        losses.append(loss.item())
        return losses

    return run


def main(side: str = "") -> None:
    if side:
        serve(functools.partial(prepare, best=side == "best"), peak_bytes)
    else:
        tell_sides(SIDES)


if __name__ == "__main__":
    main(*sys.argv[1:])
