"""How often and how strongly a photo is degraded: ranges, from which each sample draws its own parameters."""

import dataclasses
import math
from dataclasses import field
from typing import Any

import numpy as np

from realsr_jax.data import degradations
from realsr_jax.data.degradations import JPEG_PERIOD, REDUCTION_KINDS
from realsr_jax.images.jpeg import SUBSAMPLINGS
from realsr_jax.system.errors import require

MARGIN = JPEG_PERIOD
"""LR pixels around a patch that are degraded with it and cut off, so that its borders are like its inside."""

Range = tuple[float, float]


@dataclasses.dataclass
class Blur:
    """Gaussian blur of the lens, of movement and of processing, before the reduction.

    Attributes:
        share: of the degraded samples that have it, 0 to 1.
        sigma: least and largest standard deviation in HR pixels, drawn evenly.
        tail_share: of the blurred samples that have more than that.
        tail: the largest standard deviation of these, in HR pixels.
        anisotropic: share of the blurred samples whose blur depends on the direction.
        ratio: least standard deviation across, relative to that along, 0 to 1.
    """

    share: float = 1.0
    sigma: Range = (0.0, 1.4)
    tail_share: float = 0.1
    tail: float = 2.0
    anisotropic: float = 0.3
    ratio: float = 0.4

    def validate(self) -> None:
        """Raises ValueError, with the reason, if the fields cannot be."""
        _require_shares(self, "share", "tail_share", "anisotropic", "ratio")
        _require_range(self, "sigma", 0, 10)
        require(self.sigma[1] <= self.tail <= 10, self, "tail", f"{self.sigma[1]} to 10")

    def apply(self, image: np.ndarray, random: np.random.Generator, pixel: float) -> tuple[np.ndarray, str]:
        """Blurs an image whose pixels are `pixel` HR pixels wide; returns it and what was drawn."""
        is_tail = random.random() < self.tail_share
        sigma = random.uniform(*((self.sigma[1], self.tail) if is_tail else self.sigma))
        across, angle = sigma, 0.0
        if random.random() < self.anisotropic:
            across, angle = sigma * random.uniform(self.ratio, 1), random.uniform(0, math.pi)
        kernel = degradations.gaussian_kernel(sigma / pixel, across / pixel, angle)
        direction = f" x {across:.2f} at {math.degrees(angle):.0f} deg" if across != sigma else ""
        return degradations.blur(image, kernel), f"blur {sigma:.2f}{direction}"


@dataclasses.dataclass
class Reduction:
    """How HR becomes LR; the fields are the relative frequencies of the ways, see `reduction_taps`.

    Attributes:
        bicubic: MATLAB's rule.
        area: mean of each block.
        lanczos: of three lobes.
        point: samples at the blocks' centres, which alias unless the blur is strong.
    """

    bicubic: float = 0.7
    area: float = 0.2
    lanczos: float = 0.1
    point: float = 0.0

    def validate(self) -> None:
        """Raises ValueError, with the reason, if the fields cannot be."""
        for name in REDUCTION_KINDS:
            require(0 <= getattr(self, name) < math.inf, self, name, "0 or more")
        require(sum(getattr(self, name) for name in REDUCTION_KINDS) > 0, self, "bicubic", "not all 0")

    def apply(self, image: np.ndarray, random: np.random.Generator, scale: int) -> tuple[np.ndarray, str]:
        """Reduces an image; returns it and what was drawn."""
        weights = np.array([getattr(self, name) for name in REDUCTION_KINDS])
        kind = REDUCTION_KINDS[random.choice(len(weights), p=weights / weights.sum())]
        return degradations.reduce(image, scale, kind), kind


@dataclasses.dataclass
class Noise:
    """Noise of the sensor, in LR.

    Attributes:
        share: of the degraded samples that have it, 0 to 1.
        sigma: least and largest standard deviation at the grey level 128, in grey levels.
        photon: least and largest part of the variance at 128 that is proportional to the signal, 0 to 1.
        correlated: share of the noisy samples whose noise has grain and spots of colour.
        chroma: how many times stronger the colour part of these is, least and largest.
    """

    share: float = 0.7
    sigma: Range = (0.0, 8.0)
    photon: Range = (0.0, 1.0)
    correlated: float = 0.5
    chroma: Range = (1.0, 2.0)

    def validate(self) -> None:
        """Raises ValueError, with the reason, if the fields cannot be."""
        _require_shares(self, "share", "correlated")
        _require_range(self, "sigma", 0, 255)
        _require_range(self, "photon", 0, 1)
        _require_range(self, "chroma", 0, 100)

    def apply(self, image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, str]:
        """Adds noise to an image; returns it and what was drawn."""
        sigma, photon = random.uniform(*self.sigma), random.uniform(*self.photon)
        chroma = random.uniform(*self.chroma) if random.random() < self.correlated else None
        noisy = degradations.add_noise(
            image,
            random,
            per_signal=sigma**2 * photon / 128,
            constant=sigma**2 * (1 - photon),
            chroma=chroma,
        )
        colour = "" if chroma is None else f", chroma x{chroma:.1f}"
        return noisy, f"noise {sigma:.1f} ({photon:.0%} photon{colour})"


@dataclasses.dataclass
class Gain:
    """Brightness and colour of the photo, of LR and HR alike, as networks should not learn to change them.

    Attributes:
        share: of the degraded samples that have it, 0 to 1.
        brightness: least and largest factor of all channels.
        colour: least and largest factor of each channel on top of it.
    """

    share: float = 0.0
    brightness: Range = (0.7, 1.2)
    colour: Range = (0.95, 1.05)

    def validate(self) -> None:
        """Raises ValueError, with the reason, if the fields cannot be."""
        _require_shares(self, "share")
        _require_range(self, "brightness", 0.01, 100)
        _require_range(self, "colour", 0.01, 100)

    def apply(self, image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, str]:
        """Changes the gain of an image; returns it and what was drawn."""
        gains = random.uniform(*self.brightness) * random.uniform(*self.colour, size=3)
        return degradations.change_gain(image, gains), "gain " + " ".join(f"{gain:.2f}" for gain in gains)


@dataclasses.dataclass
class Sharpening:
    """Sharpening by the camera, in LR.

    Attributes:
        share: of the degraded samples that have it, 0 to 1.
        amount: least and largest factor of the added detail.
        sigma: least and largest standard deviation of the detail's blur in LR pixels.
    """

    share: float = 0.0
    amount: Range = (0.2, 1.0)
    sigma: Range = (0.5, 1.5)

    def validate(self) -> None:
        """Raises ValueError, with the reason, if the fields cannot be."""
        _require_shares(self, "share")
        _require_range(self, "amount", 0, 10)
        _require_range(self, "sigma", 0, 5)

    def apply(self, image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, str]:
        """Sharpens an image; returns it and what was drawn."""
        amount, sigma = random.uniform(*self.amount), random.uniform(*self.sigma)
        return degradations.sharpen(
            image, amount=amount, sigma=sigma
        ), f"sharpened {amount:.2f} at {sigma:.2f}"


@dataclasses.dataclass
class Jpeg:
    """JPEG compression, whose grid of blocks starts anywhere.

    Attributes:
        share: of the degraded samples that have it, 0 to 1.
        quality: least and largest quality of libjpeg, 1 to 100, drawn evenly.
        full_colour: share of the compressed samples without subsampling of colour, 4:4:4; half of the others
            have 4:2:2, half 4:2:0.
    """

    share: float = 0.7
    quality: tuple[int, int] = (30, 100)
    full_colour: float = 0.3

    def validate(self) -> None:
        """Raises ValueError, with the reason, if the fields cannot be."""
        _require_shares(self, "share", "full_colour")
        _require_range(self, "quality", 1, 100)

    def apply(self, image: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, str]:
        """Compresses an image; returns it and what was drawn."""
        quality = int(random.integers(self.quality[0], self.quality[1], endpoint=True))
        others = (1 - self.full_colour) / 2
        subsampling = SUBSAMPLINGS[random.choice(3, p=(self.full_colour, others, others))]
        top, left = np.minimum(random.integers(JPEG_PERIOD, size=2), np.array(image.shape[:2]) - 1).tolist()
        compressed = degradations.compress(image, quality=quality, subsampling=subsampling, phase=(top, left))
        return compressed, f"JPEG {quality} {subsampling} from {top},{left}"


@dataclasses.dataclass
class Camera:
    """All that may happen to a photo, in this order: gain, blur, early JPEG, reduction, then the rounds.

    A round is noise, sharpening and JPEG; a second one starts with a blur. The defaults are for photos as
    they are found; what they leave out (shares of 0) was not tried in training.

    Attributes:
        clean: share of the samples that are reduced by MATLAB's bicubic rule and nothing else, 0 to 1. All
            other shares are those of the rest, so that 0.7 is about half of all samples.
        second_round: share of the degraded samples that go through two rounds.
        blur: blur before the reduction, and at the start of a second round.
        early_jpeg: compression before the reduction, as of a photo that was saved and then made smaller.
        reduction: ways to reduce.
        noise: the sensor's noise.
        gain: brightness and colour.
        sharpening: the camera's.
        jpeg: compression at the end of each round.
    """

    clean: float = 0.3
    second_round: float = 0.0
    gain: Gain = field(default_factory=Gain)
    blur: Blur = field(default_factory=Blur)
    early_jpeg: Jpeg = field(default_factory=lambda: Jpeg(share=0.0, quality=(60, 100)))
    reduction: Reduction = field(default_factory=Reduction)
    noise: Noise = field(default_factory=Noise)
    sharpening: Sharpening = field(default_factory=Sharpening)
    jpeg: Jpeg = field(default_factory=Jpeg)

    def validate(self) -> None:
        """Raises ValueError, with the reason, if the fields cannot be."""
        _require_shares(self, "clean", "second_round")
        for part in dataclasses.fields(self):
            if not isinstance(value := getattr(self, part.name), float | int):
                value.validate()

    def degrade(
        self, hr: np.ndarray, random: np.random.Generator, scale: int
    ) -> tuple[np.ndarray, np.ndarray, str] | None:
        """Makes LR of HR.

        Args:
            hr: uint8 [h * scale, w * scale, 3].
            random: what is drawn from; the result depends on it and `hr` only.
            scale: how many times smaller LR is.

        Returns:
            None for a clean sample. Else LR, uint8 [h, w, 3]; HR, which differs from `hr` by the gain only;
            and what was drawn, in words.
        """
        if random.random() < self.clean:
            return None
        drawn: list[str] = []

        def step(image: np.ndarray, part: Any, *pixel: float) -> np.ndarray:
            if random.random() >= part.share:
                return image
            image, text = part.apply(image, random, *pixel)
            drawn.append(text)
            return image

        brightened = step(hr, self.gain)
        if brightened is not hr:
            hr = degradations.to_uint8(brightened)
        image = step(hr.astype(np.float32), self.blur, 1)
        image = step(image, self.early_jpeg)
        image, kind = self.reduction.apply(image, random, scale)
        drawn.append(kind)
        for n_done in range(1 + (random.random() < self.second_round)):
            if n_done:
                image = step(image, self.blur, scale)
            image = step(image, self.noise)
            image = step(image, self.sharpening)
            image = step(image, self.jpeg)
        return degradations.to_uint8(image), hr, ", ".join(drawn)


def _require_shares(owner: Any, *names: str) -> None:
    for name in names:
        require(0 <= getattr(owner, name) <= 1, owner, name, "0 to 1")


def _require_range(owner: Any, name: str, least: float, most: float) -> None:
    value = getattr(owner, name)
    fits = len(value) == 2 and least <= value[0] <= value[1] <= most
    require(fits, owner, name, f"two numbers from {least} to {most}, the smaller one first")
