"""What is measured."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from realsr_jax.models.network import ModelConfig
from realsr_jax.upscale.tilings import Tiling
from realsr_jax.configs import aim2020_testset
from realsr_jax.weights import ARCHITECTURES

Task = Literal["product", "tile", "photo", "step"]

TASKS: tuple[Task, ...] = ("tile", "photo", "step")
"""A tile through the network; a photo with the published ensemble; a training step, L1 and Adam."""

PRODUCTS = 8
"""Matrix products in a row, of which the device's peak is taken."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        task: what runs; "product" is a product of large matrices, which shows what the device can do.
        network: name in `weights.ARCHITECTURES`, "" for a product.
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
    fields: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """What a reader sees."""
        h, w = self.size
        match self.task:
            case "product":
                return f"matrix product, {h}x{w}"
            case "step":
                return f"{self.network}, training step, batch {self.batch}, HR patch {h}"
            case _:
                return f"{self.network}, {self.task} {w}x{h}" + f", batch {self.batch}" * (self.batch > 1)

    @property
    def result_pixels(self) -> int:
        """Pixels that one run makes, or learns from."""
        scale = 1 if self.task == "step" else self.model_config.scale
        return self.batch * self.size[0] * self.size[1] * scale**2

    @property
    def model_config(self) -> ModelConfig:
        """The network."""
        return ARCHITECTURES[self.network](**dict(self.fields))

    @property
    def ensemble(self) -> tuple[Sequence[Tiling], bool]:
        """Tilings, and whether flips and transposes are averaged, as published for the network."""
        run = next(run for run in aim2020_testset.get_config().runs if Path(run.weights).name == self.network)
        return run.tilings, run.self_ensemble


def make_cases(
    *, networks: Sequence[str], tasks: Sequence[str], dtype: str, on_gpu: bool, is_full: bool
) -> list[Case]:
    """Returns the cases of a run, the matrix product first.

    Args:
        networks: names in `weights.ARCHITECTURES`.
        tasks: of `TASKS`.
        dtype: of all cases.
        on_gpu: sizes for a GPU instead of for CPUs.
        is_full: whether to take photos and steps of all networks, and the larger sizes.
    """
    match on_gpu, is_full:
        case True, True:
            product, tile, photo, batch = 8192, 160, (1200, 1800), 32
        case True, False:
            product, tile, photo, batch = 8192, 160, (600, 900), 16
        case False, True:
            product, tile, photo, batch = 2048, 160, (320, 480), 4
        case _:
            product, tile, photo, batch = 2048, 96, (96, 96), 1
    sizes: dict[Task, tuple[int, int]] = {"tile": (tile, tile), "photo": photo, "step": (128, 128)}
    cases = [Case("product", "", (product, product), dtype=dtype, on_gpu=on_gpu)]
    for task in TASKS:
        if task in tasks:
            cases += [
                Case(task, network, sizes[task], batch if task == "step" else 1, dtype, on_gpu)
                for network in (networks if is_full or task == "tile" else networks[:1])
            ]
    return cases
