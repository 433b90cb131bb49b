"""What is measured: cases, and what all sides of one share, its weights, inputs and arithmetic.

JAX is imported where it is needed only, as other sides import the cases too.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from realsr_jax.configs import aim2020_testset
from realsr_jax.models import NETWORKS
from realsr_jax.models.network import ModelConfig
from realsr_jax.upscale.inference_config import ModelRun
from realsr_jax.upscale.tile_plans import make_plan

Task = Literal["product", "tile", "photo", "step"]

TASKS: tuple[Task, ...] = ("tile", "photo", "step")
"""A tile through the network; a photo with the published ensemble; a training step, L1 and Adam."""

PRODUCTS = 8
"""Matrix products in a row, of which the device's peak is taken."""

_SIZES = {
    (True, True): (8192, 160, (1200, 1800), 32),
    (True, False): (8192, 160, (600, 900), 16),
    (False, True): (2048, 160, (320, 480), 4),
    (False, False): (2048, 96, (96, 96), 1),
}
"""Sides of matrices and tiles, photos, and HR patches in a batch, by whether it is on a GPU, and full."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        task: what runs; "product" is a product of large matrices, which shows what the device can do.
        network: name in `models.NETWORKS`, "" for a product.
        size: height and width: of the tile or photo, LR; of the HR patches; of the matrices.
        batch: tiles or patches at once.
        dtype: "float32" or "bfloat16".
        on_gpu: whether it must run on a GPU.
        fields: of the network's configuration, where they differ from the full size.
    """

    task: Task
    network: str
    size: tuple[int, int]
    batch: int = 1
    dtype: str = "float32"
    on_gpu: bool = False
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """What a reader sees."""
        titles = {"product": "matrix product,", "step": f"{self.network}, training step, HR patch"}
        title = titles.get(self.task, f"{self.network}, {self.task}")
        return f"{title} {self.size[1]}x{self.size[0]}" + f", batch {self.batch}" * (self.batch > 1)

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.fields.get("scale") or self.model_config.scale

    @property
    def result_pixels(self) -> int:
        """Pixels that one run makes, or learns from."""
        return self.batch * math.prod(self.size) * (1 if self.task == "step" else self.scale**2)

    @property
    def model_config(self) -> ModelConfig:
        """The network; imports JAX, which other sides, told all fields, need not."""
        return NETWORKS[self.network].config_class(**self.fields)

    @property
    def ensemble(self) -> ModelRun:
        """Tilings and self-ensemble as published for the network, or the default for one without."""
        published = {Path(run.weights).name: run for run in aim2020_testset.get_config().runs}
        return published.get(self.network, ModelRun(self.network))


def make_cases(
    *, networks: Sequence[str], tasks: Sequence[str], dtype: str, on_gpu: bool, is_full: bool
) -> list[Case]:
    """Returns the cases of a run, the matrix product first.

    Args:
        networks: names in `models.NETWORKS`.
        tasks: of `TASKS`.
        dtype: of all cases.
        on_gpu: sizes for a GPU instead of for CPUs.
        is_full: whether to take photos and steps of all networks, and the larger sizes.
    """
    product, tile, photo, batch = _SIZES[on_gpu, is_full]
    sizes: dict[Task, tuple[int, int]] = {"tile": (tile, tile), "photo": photo, "step": (128, 128)}
    return [Case("product", "", (product, product), dtype=dtype, on_gpu=on_gpu)] + [
        Case(task, network, sizes[task], batch if task == "step" else 1, dtype, on_gpu)
        for task in TASKS
        if task in tasks
        for network in (networks if is_full or task == "tile" else networks[:1])
    ]


def synthetic_photo() -> np.ndarray:
    """Returns uint8 [512, 512, 3]: waves that get finer from corner to corner, always the same."""
    y, x = np.mgrid[:512, :512] / 64
    waves = np.sin([y * x, y * y + x, x * x - y])
    return np.round(127.5 + 127 * waves).astype(np.uint8).transpose(1, 2, 0)


def make_inputs(case: Case, photo: np.ndarray) -> dict[str, np.ndarray]:
    """Cuts what a case needs out of a photo, which is continued by mirroring where it is too small.

    Args:
        case: what runs.
        photo: uint8 [h, w, 3].

    Returns:
        ``lr`` and, for a training step, ``hr``: uint8 [n, h, w, 3]. Nothing for a matrix product.
    """
    from realsr_jax.ops.matlab_resize import imresize

    if case.task == "product":
        return {}
    h, w = case.size
    missing = [(0, max(0, n - length)) for n, length in zip(case.size, photo.shape[:2], strict=True)]
    photo = np.pad(photo, [*missing, (0, 0)], mode="symmetric")
    tops = np.linspace(0, photo.shape[0] - h, case.batch).astype(int)
    lefts = np.linspace(photo.shape[1] - w, 0, case.batch).astype(int)
    cut = np.stack([photo[y : y + h, x : x + w] for y, x in zip(tops, lefts, strict=True)])
    if case.task != "step":
        return {"lr": cut}
    return {"lr": np.stack([imresize(hr, Fraction(1, case.scale)) for hr in cut]), "hr": cut}


def make_weights(config: ModelConfig) -> dict[str, np.ndarray]:
    """Returns fresh parameters as a state dict by the keys of the published checkpoints."""
    from realsr_jax.convert.rules import to_torch
    from realsr_jax.train.initial_params import initial_params

    return to_torch(config, initial_params(config, seed=0)[0])


def count_flops(case: Case) -> float:
    """Returns the floating-point operations of one run, counted as for direct convolutions.

    Those of a training step are three times those of the network, as usual.
    """
    if case.task == "product":
        return PRODUCTS * 2 * case.size[0] ** 3
    pixels = case.result_pixels / case.scale**2
    if case.task == "photo":
        run = case.ensemble
        plans = [make_plan(*case.size, scale=case.scale, tiling=tiling) for tiling in run.tilings]
        pixels = sum(len(plan.tiles) * math.prod(plan.tile_shape) for plan in plans)
        pixels *= 8 if run.self_ensemble else 1  # flips and transposes
    return pixels * _flops_per_pixel(case.model_config) * (3 if case.task == "step" else 1)


@functools.cache
def _flops_per_pixel(config: ModelConfig) -> float:
    """Returns the operations of a network for each LR pixel, as XLA counts them before it optimises."""
    import jax

    from realsr_jax.models import build_model, parameter_shapes

    params, lr = {"params": parameter_shapes(config)}, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    # Lowered for a GPU, as on CPUs convolutions are written as other operations; none need be there.
    traced = jax.jit(build_model(config).apply).trace(params, lr)
    analysis = traced.lower(lowering_platforms=("cuda",)).cost_analysis()
    assert analysis is not None
    return analysis["flops"] / 64**2
