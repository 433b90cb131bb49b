"""How a restored image is scored: which pixels count, on how many bits, and which figure decides."""

import dataclasses
import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from realsr_jax import metrics
from realsr_jax.images.photo import size_text


class Protocol(enum.StrEnum):
    """Rules of a comparison; ``Protocol("aim")`` finds one by name.

    Attributes:
        AIM: of the AIM 2020 challenge: ``scale + 6`` border pixels are left out, SSIM is that of RGB and the
            AIM score decides.
        BENCHMARK: of Set5, Set14, B100 and Urban100: ``scale`` border pixels are left out, SSIM is that of
            the luma and PSNR of the luma decides.
    """

    AIM = "aim"
    BENCHMARK = "benchmark"

    @property
    def ssim_of(self) -> str:
        """Of what SSIM is taken: "RGB" or "Y"."""
        return "RGB" if self is Protocol.AIM else "Y"

    @property
    def headline(self) -> str:
        """The field of `Scores` that decides, of which more is better."""
        return "aim_score" if self is Protocol.AIM else "psnr_y"

    def border(self, scale: int) -> int:
        """Returns how many HR rows and columns are left out on each side."""
        return scale + 6 if self is Protocol.AIM else scale


@dataclass(frozen=True)
class Scores:
    """Figures of one image, or means over images.

    Attributes:
        psnr_rgb: peak signal-to-noise ratio in decibels, infinite if the images are identical.
        psnr_y: the same of the luma.
        ssim: structural similarity, of RGB or of the luma as the protocol demands; at most 1.
        aim_score: from PSNR and SSIM of RGB whatever the protocol; infinite if the images are identical.
    """

    psnr_rgb: float
    psnr_y: float
    ssim: float
    aim_score: float


@dataclass(frozen=True)
class Column:
    """How one figure of `Scores` is shown.

    Attributes:
        field: its name in `Scores`.
        heading: its name for people.
        decimals: how many are shown.
    """

    field: str
    heading: str
    decimals: int

    @property
    def unit(self) -> str:
        """The figure's unit: "dB", or empty."""
        return "dB" if self.field.startswith("psnr") else ""

    def text(self, scores: Scores, *, sign: str = "") -> str:
        """Returns the figure as text, such as "33.67" or "inf"; with ``sign="+"`` as a difference."""
        return f"{getattr(scores, self.field):{sign}.{self.decimals}f}"


def columns(protocol: Protocol) -> tuple[Column, ...]:
    """Returns how the figures of a protocol are shown, in order."""
    return (
        Column("psnr_rgb", "PSNR-RGB", 2),
        Column("psnr_y", "PSNR-Y", 2),
        Column("ssim", f"SSIM-{protocol.ssim_of}", 4),
        Column("aim_score", "AIM score", 4),
    )


def score(
    sr: np.ndarray,
    hr: np.ndarray,
    *,
    scale: int,
    protocol: Protocol | str,
    border: int | None = None,
    is_grey: bool = False,
) -> Scores:
    """Scores a restored image against the true one, both on 8 bits.

    The luma of RGB images has the range 16 to 235, that of images stored in grey is their values, 0 to 255:
    as RGB, they would score 1.32 dB more.

    Args:
        sr: restored image, uint8 or float [h, w, 3], 0..255; floats are clipped and rounded, ties to even.
        hr: true image, the same; less than `scale` rows and columns too many are cut off below and right.
        scale: the factor between LR and HR.
        protocol: the rules, as `Protocol` or by name.
        border: rows and columns left out on each side; None for the protocol's.
        is_grey: whether the true image is stored in grey, its three channels here being one.

    Raises:
        ValueError: if the sizes do not fit, nothing is left inside the border, the protocol is unknown, or
            pixels are neither uint8 nor finite floats.

    Source:
        AIM 2020 Real Image Super-Resolution challenge, the published validation; the benchmark's rules are
        those of EDSR's published evaluation.
    """
    protocol = Protocol(protocol)
    border = protocol.border(scale) if border is None else border
    sr, hr = to_8_bit(sr), to_8_bit(fit_hr(hr, sr.shape, scale=scale))
    psnr_rgb, ssim = metrics.psnr(sr, hr, border=border), metrics.ssim(sr, hr, border=border)
    aim_score = metrics.aim_score(psnr_rgb, ssim)
    if is_grey:
        sr, hr = metrics.grey_luma(sr), metrics.grey_luma(hr)
    psnr_y = metrics.psnr(sr, hr, border=border, y_channel=not is_grey)
    if protocol.ssim_of == "Y":
        ssim = metrics.ssim(sr, hr, border=border, y_channel=not is_grey)
    return Scores(psnr_rgb, psnr_y, ssim, aim_score)


@dataclass(frozen=True)
class ImageResult:
    """What one image scored.

    Attributes:
        name: the image's.
        scores: of the restored image.
        bicubic: of plain interpolation, or None where there was no LR image to interpolate.
        pictures: what the report shows, see `encode_pictures`; empty if there is none or it cannot hold them.
    """

    name: str
    scores: Scores
    bicubic: Scores | None = None
    pictures: dict[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Returns name and figures for JSON, see `as_json`; "bicubic" only where there is such."""
        baseline = {} if self.bicubic is None else {"bicubic": as_json(self.bicubic)}
        return {"name": self.name, "scores": as_json(self.scores), **baseline}


@dataclass(frozen=True)
class Evaluation:
    """What a set of images scored, and by which rules.

    Attributes:
        subject: what restored the images, for people.
        protocol: the rules.
        scale: the factor between LR and HR, or None if nobody said.
        border: HR rows and columns that were left out on each side.
        results: of the images that could be scored.
        n_images: how many should have been scored.
    """

    subject: str
    protocol: Protocol
    scale: int | None
    border: int
    results: Sequence[ImageResult]
    n_images: int

    def rules(self) -> str:
        """Returns scale and border for people."""
        return f"scale {self.scale or 'unknown'}, {self.border} border pixels left out"

    def mean_of(self) -> str:
        """Returns over how many images the means are, for people."""
        n_scored = len(self.results)
        part = "" if n_scored == self.n_images else f"{n_scored} of "
        return f"{part}{self.n_images} image{'' if self.n_images == 1 else 's'}"

    def means(self) -> dict[str, Scores]:
        """Returns "mean", and if every image has bicubic scores, "bicubic" and "gain"; nothing of nothing."""
        if not self.results:
            return {}
        mean = mean_scores([result.scores for result in self.results])
        baselines = [result.bicubic for result in self.results if result.bicubic is not None]
        if len(baselines) < len(self.results):
            return {"mean": mean}
        bicubic = mean_scores(baselines)
        return {"mean": mean, "bicubic": bicubic, "gain": _gain(mean, bicubic)}

    def as_json(self) -> dict[str, Any]:
        """Returns rules, means and figures for JSON."""
        stated = {
            name: getattr(self, name) for name in ("subject", "protocol", "scale", "border", "n_images")
        }
        return stated | {
            "ssim_of": self.protocol.ssim_of,
            "n_scored": len(self.results),
            "means": {name: as_json(scores) for name, scores in self.means().items()},
            "images": [result.as_json() for result in self.results],
        }


def headline(scores: Scores, protocol: Protocol | str) -> float:
    """Returns the one figure that decides, of which more is better: AIM score or PSNR of the luma."""
    return getattr(scores, Protocol(protocol).headline)


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """Returns the mean of each figure, infinite if one of them is.

    Raises:
        ValueError: if there are none.
    """
    if not scores:
        raise ValueError("there are no scores, expected at least one")
    rows = zip(*(dataclasses.astuple(each) for each in scores), strict=True)
    return Scores(*(math.fsum(row) / len(scores) for row in rows))


def _gain(scores: Scores, bicubic: Scores) -> Scores:
    pairs = zip(dataclasses.astuple(scores), dataclasses.astuple(bicubic), strict=True)
    return Scores(*(0.0 if mine == other else mine - other for mine, other in pairs))  # inf - inf is 0


def as_json(scores: Scores) -> dict[str, float | str]:
    """Returns the figures by name; what is infinite, of which JSON knows no number, is "inf" or "-inf"."""
    figures = dataclasses.asdict(scores)
    return {name: value if math.isfinite(value) else str(value) for name, value in figures.items()}


def fit_hr(hr: np.ndarray, sr_shape: tuple[int, ...], *, scale: int) -> np.ndarray:
    """Cuts off what an HR image has beyond a whole multiple of its LR image, below and right.

    Args:
        hr: true image [h, w, c].
        sr_shape: shape of the restored image, (h, w, ...).
        scale: the factor between LR and HR.

    Returns:
        A view [h, w, c] of the size of the restored image.

    Raises:
        ValueError: if the HR image is smaller, or larger by `scale` pixels or more.
    """
    height, width = sr_shape[:2]
    extra = hr.shape[0] - height, hr.shape[1] - width
    if not all(0 <= pixels < scale for pixels in extra):
        or_more = f" or less than {scale} pixels more" if scale > 1 else ""
        raise ValueError(f"HR is {size_text(hr)}, expected {width} x {height}{or_more}")
    return hr[:height, :width]


def to_8_bit(image: np.ndarray) -> np.ndarray:
    """Returns ``round(clip(image, 0, 255))`` as uint8, ties to even.

    Args:
        image: uint8 or float, any shape.

    Raises:
        ValueError: if values are not finite, or of another type.
    """
    if image.dtype == np.uint8:
        return image
    # Not np.floating, which bfloat16 of ml_dtypes is no subtype of.
    if image.dtype.kind in "iub":
        raise ValueError(f"pixels are {image.dtype}, expected uint8 or floats of 0..255")
    if not np.isfinite(image).all():
        raise ValueError("the image has values that are not finite")
    return np.rint(np.clip(image, 0, 255)).astype(np.uint8)
