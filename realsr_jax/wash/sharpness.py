"""Which of two registered images is sharper, by their spectra."""

from dataclasses import dataclass
from typing import Final

import numpy as np

_SIDE: Final = 768  # of the part that is looked at, so that large images take no longer
_LOWEST: Final = 0.04  # cycles per LR pixel
_HIGHEST: Final = 0.36
_BINS: Final = 16
_STATED_AT: Final = 0.25


@dataclass(frozen=True)
class Sharpness:
    """How sharp HR is beside LR.

    Attributes:
        ratio: HR's amplitudes over LR's at a quarter of a cycle per LR pixel; above 1 if HR is sharper.
        blur: standard deviation, in LR pixels, of the Gaussian that makes HR, reduced by its scale's box, as
            soft as LR; negative if it is LR that must be blurred.
    """

    ratio: float
    blur: float


def compare_sharpness(lr: np.ndarray, hr: np.ndarray, scale: float) -> Sharpness:
    """Compares the amplitudes of two registered images.

    The cross-spectrum tells what LR keeps of HR's waves, whatever the noise in LR. A Gaussian is fitted to
    it over the middle frequencies, each weighted by how surely it is known.

    Args:
        lr: float32 [h, w], grey, 0..255.
        hr: likewise, moved onto LR and reduced to LR's size by averaging ``scale`` x ``scale`` pixels.
        scale: HR's size over LR's.
    """
    frequency, kept, weight = _transfer(_window(lr), _window(hr))
    if weight.sum() <= 0:
        return Sharpness(1.0, 0.0)
    slope = _fit_slope(-2 * np.pi**2 * frequency**2, np.log(kept), weight)
    # Averaging has softened HR, which is no fault of its own.
    averaged = np.sin(np.pi * frequency) / (scale * np.sin(np.pi * frequency / scale))
    true_slope = _fit_slope(-2 * np.pi**2 * frequency**2, np.log(kept * averaged), weight)
    return Sharpness(
        ratio=float(np.exp(np.clip(2 * np.pi**2 * _STATED_AT**2 * true_slope, -5, 5))),
        blur=float(np.sign(slope) * np.sqrt(abs(slope))),
    )


def measure_detail(hr: np.ndarray) -> float:
    """Measures how much fine detail an image has, whatever its noise.

    Amplitudes of photos fall about as 1 / frequency. Those of 0.2 to 0.3 cycles per pixel are set against
    those of 0.05 to 0.1; the finest waves tell the noise.

    Args:
        hr: float32 [h, w], grey, 0..255.

    Returns:
        About 1 for a sharp photo, below 0.3 for a blurred one.
    """
    _, power, frequency = _spectrum(_window(hr))
    noise = float(np.median(power[frequency > 0.6])) / np.log(2)  # the power of noise has that median
    fine, coarse = (
        max(float(power[(frequency >= low) & (frequency < high)].mean()) - noise, 0)
        for low, high in ((0.2, 0.3), (0.05, 0.1))
    )
    return (0.25 / 0.075) * (fine / coarse) ** 0.5 if coarse else 0.0


def _window(image: np.ndarray) -> np.ndarray:
    """Returns the middle of an image, faded out towards its borders."""
    top, left = (max(0, (side - _SIDE) // 2) for side in image.shape)
    part = image[top : top + _SIDE, left : left + _SIDE]
    fading = np.outer(np.hanning(part.shape[0]), np.hanning(part.shape[1])).astype(np.float32)
    return (part - part.mean()) * fading


def _spectrum(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns an image's waves, their power and their frequencies in cycles per pixel."""
    waves = np.fft.rfft2(image)
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1]))
    return waves, waves.real**2 + waves.imag**2, frequency


def _transfer(lr: np.ndarray, hr: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns frequencies, what LR keeps of HR's amplitudes there, and a weight for each."""
    (lr_waves, lr_power, frequency), (hr_waves, hr_power, _) = _spectrum(lr), _spectrum(hr)
    number = ((frequency - _LOWEST) / (_HIGHEST - _LOWEST) * _BINS).astype(int)
    used = (frequency >= _LOWEST) & (frequency < _HIGHEST)
    cross = np.real(lr_waves * np.conj(hr_waves))
    cross, lr_power, hr_power, centre, count = (
        np.bincount(number[used], weights=values[used], minlength=_BINS)
        for values in (cross, lr_power, hr_power, frequency, np.ones_like(frequency))
    )
    known = (count > 0) & (cross > 0) & (hr_power > 0)
    coherence = np.clip(cross[known] ** 2 / (lr_power[known] * hr_power[known]), 0, 0.999)
    weight = count[known] * coherence / (1 - coherence) * (coherence > 0.1)
    return centre[known] / count[known], cross[known] / hr_power[known], np.minimum(weight, 1e4)


def _fit_slope(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    x, y = x - np.average(x, weights=weight), y - np.average(y, weights=weight)
    return float((weight * x * y).sum() / max((weight * x * x).sum(), 1e-12))
