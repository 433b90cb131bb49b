"""The cases of ``realsr-benchmark`` in PyTorch, a worker process: ``best`` or ``published``.

"best" is the fastest way that PyTorch has: channels_last, inference mode, all threads, on GPUs bfloat16 by
autocast and `torch.compile`. "published" is how the original code runs: float32, NCHW, patches gathered for
the dynamic filters, one tile of a photo after the other.
"""

import argparse
import functools
from pathlib import Path

import numpy as np
import torch
import torch_reference
from torch import Tensor

from realsr_jax.benchmark.cases import PRODUCTS, Case
from realsr_jax.benchmark.conversation import INPUTS, WEIGHTS, serve
from realsr_jax.cli.command import processors
from realsr_jax.upscale.tile_plans import make_plan

LEARNING_RATE = 1e-4
TILES_AT_ONCE = 4

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Work:
    def __init__(self, case: Case, *, best: bool):
        self.case = case
        self.on_gpu = DEVICE.type == "cuda"
        if case.on_gpu and not self.on_gpu:
            raise SystemExit("PyTorch sees no GPU; install its CUDA build, or set JAX_PLATFORMS=cpu")
        torch.set_num_threads(processors())
        torch.backends.cudnn.benchmark = best
        # Inference is compared in full float32; training in both frameworks' default, which is TF32 on GPUs.
        torch.backends.cudnn.allow_tf32 = case.task == "step"
        self.dtype = torch.bfloat16 if best and case.dtype == "bfloat16" else torch.float32
        self.layout = torch.channels_last if best else torch.contiguous_format
        self.best = best

    def synchronise(self):
        if self.on_gpu:
            torch.cuda.synchronize()

    def result(self):
        return np.zeros(0, np.float32)

    def peak_bytes(self):
        return torch.cuda.max_memory_allocated() if self.on_gpu else None


class Product(Work):
    def __init__(self, case: Case, *, best: bool):
        super().__init__(case, best=best)
        self.matrix = torch.full(case.size, 1 / case.size[0], dtype=self.dtype, device=DEVICE)

    @torch.inference_mode()
    def run(self):
        y = self.matrix
        for _ in range(PRODUCTS):
            y = y @ self.matrix
        self.synchronise()


class NetworkWork(Work):
    """A network with the weights in the folder, and what runs it."""

    def __init__(self, case: Case, folder: Path, *, best: bool):
        super().__init__(case, best=best)
        options = dict(case.fields)
        if case.network == "edsr":
            options["res_scale"] = case.model_config.res_scale
        if "oaddet" in case.network:
            options["gathered"] = not best
        network = torch_reference.MODELS[case.network](**options)
        weights = np.load(folder / WEIGHTS.format(network=case.network))
        network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
        for name, parameter in network.named_parameters():
            parameter.requires_grad_("_mean." not in name)
        self.network = network.to(DEVICE, memory_format=self.layout)
        self.forward = torch.compile(self.network, dynamic=False) if best and self.on_gpu else self.network

    def place(self, images: np.ndarray) -> Tensor:
        images = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)
        return images.to(DEVICE, torch.float32).contiguous(memory_format=self.layout)

    def upscale(self, lr: Tensor) -> Tensor:
        with torch.autocast(DEVICE.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.forward(lr)


class Tile(NetworkWork):
    def __init__(self, case: Case, folder: Path, *, best: bool):
        super().__init__(case, folder, best=best)
        self.lr = self.place(np.load(folder / INPUTS)["lr"])

    @torch.inference_mode()
    def run(self):
        self.sr = self.upscale(self.lr)
        self.synchronise()

    def result(self):
        return self.sr.float().permute(0, 2, 3, 1).cpu().numpy()


class PhotoEnsemble(NetworkWork):
    def __init__(self, case: Case, folder: Path, *, best: bool):
        super().__init__(case, folder, best=best)
        self.lr = np.load(folder / INPUTS)["lr"][0]
        self.at_once = TILES_AT_ONCE if best and self.on_gpu else 1

    @torch.inference_mode()
    def run(self):
        tilings, self_ensemble = self.case.ensemble
        passes = []
        for number, tiling in enumerate(tilings):
            if self_ensemble:
                passes += [(tiling, turns, mirrored) for turns in range(4) for mirrored in (False, True)]
            else:
                passes.append((tiling, number % 4, False))
        total = 0
        for tiling, turns, mirrored in passes:
            lr = np.rot90(self.lr, turns)
            sr = self.in_tiles(lr[:, ::-1] if mirrored else lr, tiling)
            total = total + np.rot90(sr[:, ::-1] if mirrored else sr, -turns)
        self.sr = total / len(passes)

    def in_tiles(self, lr: np.ndarray, tiling) -> np.ndarray:
        scale = self.case.model_config.scale
        plan = make_plan(*lr.shape[:2], scale=scale, tiling=tiling)
        h, w = plan.tile_shape
        sr = np.zeros((lr.shape[0] * scale, lr.shape[1] * scale, 3), np.float32)
        for first in range(0, len(plan.tiles), self.at_once):
            batch = plan.tiles[first : first + self.at_once]
            corners = [(plan.rows.starts[i], plan.columns.starts[j]) for i, j in batch]
            tiles = self.place(np.stack([lr[y : y + h, x : x + w] for y, x in corners]))
            results = self.upscale(tiles).float().permute(0, 2, 3, 1).cpu().numpy()
            for (i, j), (y, x), tile in zip(batch, corners, results, strict=True):
                ramps = plan.rows.ramps[0, i][:, None, None] * plan.columns.ramps[0, j][None, :, None]
                sr[y * scale : (y + h) * scale, x * scale : (x + w) * scale] += ramps * tile
        return sr

    def result(self):
        return self.sr


class Step(NetworkWork):
    def __init__(self, case: Case, folder: Path, *, best: bool):
        super().__init__(case, folder, best=best)
        inputs = np.load(folder / INPUTS)
        self.lr, self.hr = self.place(inputs["lr"]), self.place(inputs["hr"])
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        self.adam = torch.optim.Adam(trained, LEARNING_RATE, fused=(best and self.on_gpu) or None)
        self.losses = []

    def run(self):
        self.adam.zero_grad()
        loss = torch.nn.functional.l1_loss(self.upscale(self.lr).float(), self.hr)
        loss.backward()
        self.adam.step()
        self.synchronise()
        self.losses.append(loss.item())

    def result(self):
        return np.array(self.losses, np.float32)


def make_work(case: Case, folder: Path, *, best: bool) -> Work:
    if case.task == "product":
        return Product(case, best=best)
    return {"tile": Tile, "photo": PhotoEnsemble, "step": Step}[case.task](case, folder, best=best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["best", "published"])
    way = parser.parse_args().way
    serve(way, functools.partial(make_work, best=way == "best"))


if __name__ == "__main__":
    main()
