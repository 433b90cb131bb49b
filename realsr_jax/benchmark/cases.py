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
from realsr_jax.upscaling.inference_config import ModelRun
from realsr_jax.upscaling.tile_plans import make_plan
from realsr_jax.weights import BUNDLED, read_description

Task = Literal["product", "tile", "photo", "ensemble", "folder", "step"]

TASKS: tuple[Task, ...] = ("tile", "photo", "ensemble", "folder", "step")
"""A tile through the network; of bundled networks a photo with default settings, and a folder of photos
through the whole command; of the others a photo with the published ensemble; a training step, L1 and Adam."""

PRODUCTS = 8
"""Matrix products in a row, of which the device's peak is taken."""

_Sizes = dict[Task, tuple[tuple[int, int], int]]
"""Of each task, height and width, and how many at once."""

_BUNDLED_SIZES: _Sizes = {
    "tile": ((256, 256), 1),
    "photo": ((512, 512), 1),
    "folder": ((321, 481), 20),
    "step": ((64, 64), 16),
}


def _sizes(tile: int, photo: tuple[int, int], batch: int) -> _Sizes:
    return {"tile": ((tile, tile), 1), "ensemble": (photo, 1), "step": ((128, 128), batch)}


_SIZES: dict[tuple[bool, bool], tuple[int, _Sizes]] = {
    (True, True): (8192, _sizes(160, (1200, 1800), 32)),
    (True, False): (8192, _sizes(160, (600, 900), 16)),
    (False, True): (2048, _sizes(160, (320, 480), 4)),
    (False, False): (2048, _sizes(96, (96, 96), 1)),
}
"""Side of the matrices, and the sizes of networks that are not bundled; by whether on a GPU, and full."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        task: what runs; "product" is a product of large matrices, which shows what the device can do.
        network: name in `models.NETWORKS`, or in `weights.BUNDLED` for trained parameters; "" for a product.
        size: height and width: of the tile or largest photo, LR; of the HR patches; of the matrices.
        batch: tiles or patches at once, or photos in the folder.
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
        size = f"{self.size[1]}x{self.size[0]}"
        of_network = {
            "folder": f"command, folder of {self.batch} photos up to {size}",
            "ensemble": f"published ensemble of a photo {size}",
            "step": f"training step, HR patch {size}" + f", batch {self.batch}" * (self.batch > 1),
        }
        title = of_network.get(self.task, f"{self.task} {size}" + f", batch {self.batch}" * (self.batch > 1))
        return f"{self.network or 'matrix'}, {title}, {self.dtype}"

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.fields.get("scale") or self.model_config.scale

    @property
    def result_pixels(self) -> int:
        """Pixels that one run makes, or learns from."""
        pixels = (
            sum(map(math.prod, self.photo_sizes))
            if self.task == "folder"
            else math.prod(self.size) * self.batch
        )
        return pixels * (1 if self.task == "step" else self.scale**2)

    @property
    def photo_sizes(self) -> list[tuple[int, int]]:
        """Height and width of each photo of a folder, all different."""
        shares = np.linspace(0.5, 1, self.batch)
        turned = np.roll(shares, self.batch // 3)
        return [
            (round(self.size[0] * y), round(self.size[1] * x)) for y, x in zip(shares, turned, strict=True)
        ]

    @property
    def architecture(self) -> str:
        """The network's name in `models.NETWORKS`."""
        return read_description(self.network).architecture if self.network in BUNDLED else self.network

    @property
    def model_config(self) -> ModelConfig:
        """The network; imports JAX, which other sides, told all fields, need not."""
        trained = read_description(self.network).fields if self.network in BUNDLED else {}
        return NETWORKS[self.architecture].config_class(**trained | self.fields)

    @property
    def ensemble(self) -> ModelRun:
        """Tilings and self-ensemble as published for the network."""
        return _published_runs()[self.network]


def _published_runs() -> dict[str, ModelRun]:
    """Returns tilings and self-ensembles by the names of the networks."""
    return {Path(run.weights).name: run for run in aim2020_testset.get_config().runs}


def make_cases(
    *, networks: Sequence[str], tasks: Sequence[str], dtypes: Sequence[str], on_gpu: bool, is_full: bool
) -> list[Case]:
    """Returns the cases of a run, matrix products first, then those of bundled networks.

    Args:
        networks: names in `weights.BUNDLED` or `models.NETWORKS`.
        tasks: of `TASKS`.
        dtypes: of "float32" and "bfloat16".
        on_gpu: sizes for a GPU instead of for CPUs.
        is_full: whether to take ensembles and steps of all networks, and the larger sizes.
    """
    product, sizes = _SIZES[on_gpu, is_full]
    cases = [Case("product", "", (product, product), on_gpu=on_gpu)]
    for name in networks:
        if name in BUNDLED:
            cases += [Case(task, name, *_BUNDLED_SIZES[task], on_gpu=on_gpu) for task in _BUNDLED_SIZES]
    others = [name for name in networks if name not in BUNDLED]
    published = [name for name in others if name in _published_runs()]
    for task in sizes:
        able = published if task == "ensemble" else others
        chosen = able if is_full or task == "tile" else able[:1]
        cases += [Case(task, name, *sizes[task], on_gpu=on_gpu) for name in chosen]
    wanted = ("product", *tasks)
    return [
        dataclasses.replace(case, dtype=dtype) for case in cases if case.task in wanted for dtype in dtypes
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
        ``lr`` and, for a training step, ``hr``: uint8 [n, h, w, 3]. For a folder each photo, uint8 [h, w, 3],
        by its name. Nothing for a matrix product.
    """
    from realsr_jax.ops.matlab_resize import imresize

    if case.task == "product":
        return {}
    missing = [(0, max(0, n - length)) for n, length in zip(case.size, photo.shape[:2], strict=True)]
    photo = np.pad(photo, [*missing, (0, 0)], mode="symmetric")
    if case.task == "folder":
        return {f"{i:02}": photo[:h, :w] for i, (h, w) in enumerate(case.photo_sizes)}
    h, w = case.size
    tops = np.linspace(0, photo.shape[0] - h, case.batch).astype(int)
    lefts = np.linspace(photo.shape[1] - w, 0, case.batch).astype(int)
    cut = np.stack([photo[y : y + h, x : x + w] for y, x in zip(tops, lefts, strict=True)])
    if case.task != "step":
        return {"lr": cut}
    return {"lr": np.stack([imresize(hr, Fraction(1, case.scale)) for hr in cut]), "hr": cut}


def make_weights(case: Case) -> dict[str, np.ndarray]:
    """Returns bundled or else fresh parameters as a state dict by the keys of the published checkpoints."""
    if not case.network:
        return {}
    from realsr_jax.convert.rules import to_torch
    from realsr_jax.train.initial_params import initial_params

    trained = case.network if case.network in BUNDLED else ""
    config = case.model_config
    return to_torch(config, initial_params(config, seed=0, start_from=trained)[0])


def count_flops(case: Case) -> float:
    """Returns the floating-point operations of one run, counted as for direct convolutions.

    Those of a training step are three times those of the network, as usual. What default tiles compute twice
    does not count.
    """
    if case.task == "product":
        return PRODUCTS * 2 * case.size[0] ** 3
    pixels = case.result_pixels / case.scale**2
    if case.task == "ensemble":
        run = case.ensemble
        plans = [make_plan(*case.size, scale=case.scale, tiling=tiling) for tiling in run.tilings]
        pixels = sum(len(plan.tiles) * math.prod(plan.tile_shape) for plan in plans)
        pixels *= 8 if run.self_ensemble else 1  # flips and transposes
    return pixels * _flops_per_pixel(case.model_config) * (3 if case.task == "step" else 1)


@functools.cache
def _flops_per_pixel(config: ModelConfig) -> float:
    """Returns the operations of our network for each LR pixel, as XLA counts them before it optimises."""
    import jax
    from jax.extend.core import jaxpr_as_fun

    from realsr_jax.models import build_model, parameter_shapes

    inputs = {"params": parameter_shapes(config)}, jax.ShapeDtypeStruct((1, 64, 64, 3), np.float32)
    with jax.disable_jit():  # which unrolls loops; XLA counts their bodies once
        unrolled = jaxpr_as_fun(jax.make_jaxpr(build_model(config).apply)(*inputs))
    # Lowered for a GPU, as on CPUs convolutions are written as other operations; none need be there.
    lowered = jax.jit(unrolled).trace(*jax.tree.leaves(inputs)).lower(lowering_platforms=("cuda",))
    analysis = lowered.cost_analysis()
    assert analysis is not None
    return analysis["flops"] / 64**2
