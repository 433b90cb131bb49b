"""The figures by which a pair is judged."""

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Figures:
    """What was measured on a pair; not a number where it could not be. Lengths are in LR pixels.

    Attributes:
        scale: HR's size over LR's.
        shift_x: how far right of its place in LR the content is in HR.
        shift_y: how far below.
        shift: length of both.
        rotation: degrees by which HR is turned against LR.
        zoom: percent by which HR is enlarged against LR.
        corner: largest displacement by all of these, which is in a corner.
        uncertainty: standard deviation of the shift.
        correlation: of the texture after alignment, up to 1; near 0 for different pictures.
        texture: percent of the area with texture enough to measure local shifts.
        local_shift: 95th percentile of local shifts beyond the global one.
        moving: percent of the area that moves by more than half a pixel, twice its uncertainty left aside.
        differing: percent of the area that differs beyond noise and small shifts, in compact regions.
        ratio: LR's mean over HR's, of the channel for which it is farthest from 1.
        gain_red: LR's red over HR's after a tone curve and an offset were told apart.
        gain_green: likewise.
        gain_blue: likewise.
        gain: percent by which the one farthest from 1 differs from it.
        offset_red: what LR's red has beside the gain, in grey levels.
        offset_green: likewise.
        offset_blue: likewise.
        gamma: exponent of the tone curve from HR to LR.
        colour_error: what gain, offset and tone curve leave of smoothed colours, in grey levels.
        sharpness: HR's amplitude over LR's at half of LR's finest waves; below 1 if HR is softer.
        blur: standard deviation of the Gaussian that makes HR as soft as LR; negative if LR is sharper.
        detail: HR's amplitude of fine waves beside coarse ones, over that of a typical sharp photo.
        saturated: percent of pixels that are nearly white or black, of the image that has more.
        contrast: standard deviation in grey levels, of the image that has less.
    """

    scale: float = math.nan
    shift_x: float = math.nan
    shift_y: float = math.nan
    shift: float = math.nan
    rotation: float = math.nan
    zoom: float = math.nan
    corner: float = math.nan
    uncertainty: float = math.nan
    correlation: float = math.nan
    texture: float = math.nan
    local_shift: float = math.nan
    moving: float = math.nan
    differing: float = math.nan
    ratio: float = math.nan
    gain_red: float = math.nan
    gain_green: float = math.nan
    gain_blue: float = math.nan
    gain: float = math.nan
    offset_red: float = math.nan
    offset_green: float = math.nan
    offset_blue: float = math.nan
    gamma: float = math.nan
    colour_error: float = math.nan
    sharpness: float = math.nan
    blur: float = math.nan
    detail: float = math.nan
    saturated: float = math.nan
    contrast: float = math.nan

    def as_json(self) -> dict[str, float | None]:
        """Returns the figures for JSON, six digits each, None for what is not a finite number."""
        return {
            name: float(f"{value:.6g}") if math.isfinite(value) else None
            for name, value in asdict(self).items()
        }
