"""What can be configured, as plain dataclasses: the class is the selector, its fields are the options.

Nothing here imports JAX, so the command line can check flags before it starts up.
Model configurations are mutable, so that overrides from the command line can reach every field, and hashable,
so that linen modules can hold them; they are validated at construction and again where one is used.
"""

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal


def require(condition: bool, config: object, field: str, expected: str) -> None:
    """Raises ValueError naming a configuration, its field and what was expected, unless `condition` holds."""
    if not condition:
        actual = getattr(config, field)
        raise ValueError(f"{type(config).__name__}: {field} is {actual!r}, expected {expected}")


# ---------------------------------------------------------------------------------------------- models


@dataclasses.dataclass(unsafe_hash=True)
class _OADDetSizes:
    n_resblocks: int
    n_feats: int
    scale: int = 2

    def __post_init__(self):
        self.validate()

    def validate(self) -> None:
        """Raises ValueError, with the reason, if no such network exists."""
        require(self.n_resblocks >= 1, self, "n_resblocks", "at least 1")
        require(self.scale in (2, 3, 4), self, "scale", "2, 3 or 4")
        require(self.n_feats >= 8, self, "n_feats", "at least 8, since channel attention reduces by 8")
        require(
            self.n_feats % self.scale**2 == 0,
            self,
            "n_feats",
            f"a multiple of {self.scale**2} at scale {self.scale}, since the body ends in a pixel shuffle",
        )


@dataclasses.dataclass(unsafe_hash=True)
class OADDetConfig(_OADDetSizes):
    """OADDet, orientation-aware modules and dual dynamic filters (upstream name: DDDet).

    Attributes:
        n_resblocks: orientation-aware modules in the body; those from ``n_resblocks // 4 * 3`` on attend.
        n_feats: features, a multiple of ``scale**2``.
        scale: 2, 3 or 4.
    """

    n_resblocks: int = 32
    n_feats: int = 128


@dataclasses.dataclass(unsafe_hash=True)
class DeepOADDetConfig(_OADDetSizes):
    """Deep-OADDet, the deeper OADDet with orientation-aware modules in its head too (upstream name: WDDet).

    Attributes:
        n_resblocks: orientation-aware modules in the body; those from ``n_resblocks // 4 * 3`` on attend.
        n_feats: features, a multiple of ``scale**2``.
        scale: 2, 3 or 4.
    """

    n_resblocks: int = 40
    n_feats: int = 128


@dataclasses.dataclass(unsafe_hash=True)
class EDSRConfig:
    """EDSR (Lim et al. 2017) in the paper's size; the baseline has 16 blocks, 64 features and res_scale 1.

    Attributes:
        n_resblocks: residual blocks.
        n_feats: features.
        scale: 2, 3 or 4.
        res_scale: factor on each block's residual.
        edge_padding: True repeats border pixels (AIM 2020 checkpoints), False pads zeros (original EDSR).
    """

    n_resblocks: int = 32
    n_feats: int = 256
    scale: int = 2
    res_scale: float = 0.1
    edge_padding: bool = True

    def __post_init__(self):
        self.validate()

    def validate(self) -> None:
        """Raises ValueError, with the reason, if no such network exists."""
        require(self.n_resblocks >= 1, self, "n_resblocks", "at least 1")
        require(self.n_feats >= 1, self, "n_feats", "at least 1")
        require(self.scale in (2, 3, 4), self, "scale", "2, 3 or 4")
        require(self.res_scale > 0, self, "res_scale", "more than 0")


@dataclasses.dataclass(unsafe_hash=True)
class DRLNConfig:
    """DRLN (Anwar and Barnes 2019), whose only option is the scale.

    Attributes:
        scale: 2, 3, 4 or 8.
    """

    scale: int = 2

    def __post_init__(self):
        self.validate()

    def validate(self) -> None:
        """Raises ValueError, with the reason, if no such network exists."""
        require(self.scale in (2, 3, 4, 8), self, "scale", "2, 3, 4 or 8")


ModelConfig = OADDetConfig | DeepOADDetConfig | EDSRConfig | DRLNConfig


# ------------------------------------------------------------------------------------------- inference


@dataclasses.dataclass(frozen=True)
class UniformTiles:
    """Square tiles of one size with blended seams: one compilation for images of any size.

    Attributes:
        size: side of a tile in LR pixels.
        overlap: LR pixels that neighbours share; the outer quarter is discarded, the rest is blended.
    """

    size: int = 256
    overlap: int = 32

    def __post_init__(self):
        require(self.size >= 8, self, "size", "at least 8")
        require(0 <= 2 * self.overlap <= self.size, self, "overlap", f"0 to half the tile, {self.size // 2}")


@dataclasses.dataclass(frozen=True)
class QuarterTiles:
    """The published tiling ("chop"): the image is quartered until a part is smaller than four tiles.

    Attributes:
        chop_size: quartering ends below ``4 * chop_size**2`` pixels.
        shave_size: LR pixels by which each quarter reaches past the half.
    """

    chop_size: int = 450
    shave_size: int = 80

    def __post_init__(self):
        require(self.chop_size >= 1, self, "chop_size", "at least 1")
        require(self.shave_size >= 0, self, "shave_size", "at least 0")


@dataclasses.dataclass(frozen=True)
class WholeImage:
    """The whole image in one pass of the network."""


Tiling = UniformTiles | QuarterTiles | WholeImage


Sizes = int | Sequence[int]


def make_tilings(
    *,
    tile_size: Sizes | Sequence[int | None] | Literal["default"] | None = "default",
    tile_overlap: Sizes | None = None,
    chop_size: Sizes | None = None,
    shave_size: Sizes | None = None,
) -> tuple[Tiling, ...]:
    """Turns sizes into tilings; see `upscaler.load_upscaler` for their meaning.

    Raises:
        ValueError: on sizes that cannot be, lists that are empty or of different lengths, or sizes of
            different tilings.
    """
    if chop_size is None:
        if shave_size is not None:
            raise ValueError("shave_size needs a chop_size")
        names = ("tile_size", "tile_overlap")
        sizes = _as_tuple(UniformTiles.size if isinstance(tile_size, str) else tile_size)
        margins = _as_tuple(UniformTiles.overlap if tile_overlap is None else tile_overlap)
    else:
        if not (tile_size is None or isinstance(tile_size, str)) or tile_overlap is not None:
            raise ValueError("chop_size excludes tile_size and tile_overlap")
        names = ("chop_size", "shave_size")
        sizes = _as_tuple(chop_size)
        margins = _as_tuple(QuarterTiles.shave_size if shave_size is None else shave_size)
    if len(margins) == 1:
        margins *= len(sizes)
    if len(sizes) != len(margins):
        raise ValueError(
            f"{names[0]} has {len(sizes)} entries and {names[1]} {len(margins)}, expected as many or one"
        )
    if not sizes:
        raise ValueError(f"{names[0]} is empty, expected at least one size")
    make = UniformTiles if chop_size is None else QuarterTiles
    return tuple(
        WholeImage() if size is None else make(size, margin)
        for size, margin in zip(sizes, margins, strict=True)
    )


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, Iterable) else (value,)


def bicubic_scale(weights: str) -> int | None:
    """Returns the scale of plain interpolation, called "bicubic" (by 2) or "bicubic_x3"; else None."""
    match = re.fullmatch(r"bicubic(?:_x([2348]))?", weights)
    return int(match[1] or 2) if match else None


@dataclasses.dataclass(frozen=True)
class ModelRun:
    """One network's part in a model ensemble.

    Attributes:
        weights: as `weights.load_weights` takes them, or plain interpolation as `bicubic_scale` knows it.
        tilings: one, or several whose results are averaged (crop-ensemble).
        self_ensemble: average over the eight flips and transposes.
        weight: this network's weight in the ensemble.
    """

    weights: str
    tilings: tuple[Tiling, ...] = (UniformTiles(),)
    self_ensemble: bool = False
    weight: float = 1.0

    def __post_init__(self):
        require(len(self.tilings) > 0, self, "tilings", "at least one")
        require(self.weight > 0, self, "weight", "more than 0")


@dataclasses.dataclass(frozen=True)
class InferenceConfig:
    """A whole inference run: one network, or several whose results are averaged.

    Attributes:
        runs: the networks.
        round_each: with several networks, round each result to 8 bits before averaging, as published.
        guided_filter: smooth the 8-bit result with a guided filter, radius 10 and eps 10, as published.
        dtype: "float32" or "bfloat16".
    """

    runs: tuple[ModelRun, ...]
    round_each: bool = True
    guided_filter: bool = False
    dtype: str = "float32"

    def __post_init__(self):
        require(len(self.runs) > 0, self, "runs", "at least one network")
        require(self.dtype in ("float32", "bfloat16"), self, "dtype", "'float32' or 'bfloat16'")
