"""A whole inference run: which networks, with which tilings, and how their results become one."""

import dataclasses
import re
from typing import Final

from realsr_jax.models.precision import check_dtype
from realsr_jax.system.errors import require
from realsr_jax.upscaling.tilings import FittedTiles, Tiling

DEFAULT: Final = "default"
"""The name of the network that upscales where none is named."""


def bicubic_scale(weights: str) -> int | None:
    """Returns the scale of plain interpolation, called "bicubic" (by 2) or "bicubic_x3"; else None."""
    match = re.fullmatch(r"bicubic(?:_x([2348]))?", weights)
    return int(match[1] or 2) if match else None


@dataclasses.dataclass(frozen=True)
class ModelRun:
    """One network of an inference run.

    Attributes:
        weights: as `weights.load_weights` takes them, or plain interpolation as `bicubic_scale` knows it.
        tilings: one, or several whose results are averaged (crop-ensemble).
        self_ensemble: average over the eight flips and transposes.
        weight: this network's weight in the ensemble.
        checkpoint: the published file that `weights` are made of, told where they are missing.
    """

    weights: str
    tilings: tuple[Tiling, ...] = (FittedTiles(),)
    self_ensemble: bool = False
    weight: float = 1.0
    checkpoint: str = ""

    def __post_init__(self):
        require(len(self.tilings) > 0, self, "tilings", "at least one")
        require(self.weight > 0, self, "weight", "more than 0")

    @property
    def scale(self) -> int:
        """Output size over input size.

        Raises:
            WeightsError: if the weights are not there; see `weights.read_description`.
        """
        from realsr_jax.weights import read_description  # imports NumPy, which --help need not wait for

        return bicubic_scale(self.weights) or read_description(self.weights).scale


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """A whole inference run: one network, or several whose results are averaged.

    Attributes:
        runs: the networks.
        round_each: with several networks, round each result to 8 bits before averaging, as published.
        denoise: how far the bundled network "default" removes noise, from 0, as "clean", to 1; of no meaning
            to others.
        strength: share of the networks in the result, 0..1; the rest is bicubic interpolation.
        guided_filter: smooth the 8-bit result with a guided filter.
        guided_radius: half the side of its window in pixels; published: 10.
        guided_eps: its regularisation in squared grey levels; published: 10.
        dtype: one of `precision.DTYPES`.
    """

    runs: tuple[ModelRun, ...]
    round_each: bool = True
    denoise: float = 1.0
    strength: float = 1.0
    guided_filter: bool = False
    guided_radius: int = 10
    guided_eps: float = 10.0
    dtype: str = "float32"

    def __post_init__(self):
        require(len(self.runs) > 0, self, "runs", "at least one network")
        require(0 <= self.denoise <= 1, self, "denoise", "a number from 0 to 1")
        require(0 <= self.strength <= 1, self, "strength", "a number from 0 to 1")
        require(self.guided_radius >= 1, self, "guided_radius", "at least 1")
        require(self.guided_eps > 0, self, "guided_eps", "more than 0")
        check_dtype(self.dtype, self)
