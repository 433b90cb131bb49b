"""What networks gain over bicubic interpolation on photos that are blurred, noisy or compressed, by rungs.

python tests/scripts/measure_ladder.py --weights=default,runs/photo photo.png ...
python tests/scripts/measure_ladder.py --weights=default --pairs=city100

Photos are the truth: LR is made of the middle of each, the same for all networks. With --pairs, LR and HR are
the camera's, a folder of ``*L.*`` and ``*H.*`` of one size; LR is reduced and its colours are fitted to HR's
per channel, as no network should change them. PSNR and SSIM of RGB (protocol "aim").
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from realsr_jax import images
from realsr_jax.data import degradations as made
from realsr_jax.evaluate import protocols
from realsr_jax.upscaling.upscaler import BicubicUpscaler, ImageUpscaler, load_upscaler

SCALE = 2


def rung(
    *,
    blur: float = 0.0,
    noise: float = 0.0,
    photon: float = 0.5,
    chroma: float | None = None,
    jpeg: int | None = None,
    sharpened: float = 0.0,
) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Returns what makes LR of HR; blur in HR pixels, noise in grey levels, JPEG with 4:2:0."""

    def degrade(hr: np.ndarray, random: np.random.Generator) -> np.ndarray:
        image = hr.astype(np.float32)
        if blur:
            image = made.blur(image, made.gaussian_kernel(blur, blur, 0.0))
        image = made.reduce(image, SCALE, "bicubic")
        if noise:
            variance = noise**2
            image = made.add_noise(
                image,
                random,
                per_signal=variance * photon / 128,
                constant=variance * (1 - photon),
                chroma=chroma,
            )
        if sharpened:
            image = made.sharpen(image, amount=sharpened, sigma=1.0)
        if jpeg is not None:
            image = made.compress(image, quality=jpeg, subsampling="4:2:0", phase=(0, 0))
        return made.to_uint8(image)

    return degrade


RUNGS = {
    "clean": rung(),
    **{f"blur {sigma}": rung(blur=sigma) for sigma in (0.7, 1.0, 1.4, 2.0)},
    **{f"noise {sigma}": rung(noise=sigma) for sigma in (2, 4, 6, 10)},
    **{f"JPEG {quality}": rung(jpeg=quality) for quality in (95, 85, 70, 50)},
    "phone, day": rung(blur=0.8, noise=2, chroma=1.5, sharpened=0.3, jpeg=93),
    "phone, evening": rung(blur=1.0, noise=6, chroma=1.5, jpeg=85),
    "web": rung(blur=0.6, noise=1, jpeg=75),
    "poor": rung(blur=1.2, noise=5, chroma=1.5, jpeg=60),
}


def pairs_of_photos(paths: list[str], side: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields rung, LR and HR of the middle of each photo."""
    for number, path in enumerate(paths):
        rgb = images.read_photo(path).rgb_8_bit()
        top, left = ((length - min(side, length)) // 2 for length in rgb.shape[:2])
        height, width = (min(side, length) // SCALE * SCALE for length in rgb.shape[:2])
        hr = rgb[top : top + height, left : left + width]
        for name, degrade in RUNGS.items():
            yield name, degrade(hr, np.random.default_rng(number)), hr


def pairs_of_cameras(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yields the folder's name, LR and HR of each pair in it."""
    for path in sorted(folder.glob("*H.*")):
        hr = images.read_photo(path).rgb_8_bit()
        other = images.read_photo(path.with_stem(path.stem[:-1] + "L")).rgb_8_bit()
        height, width = (length // SCALE * SCALE for length in hr.shape[:2])
        hr, other = hr[:height, :width], other[:height, :width].astype(np.float32)
        for channel in range(3):
            gain, offset = np.polyfit(other[..., channel].ravel(), hr[..., channel].ravel(), 1)
            other[..., channel] = gain * other[..., channel] + offset
        yield folder.name, made.to_uint8(made.reduce(other, SCALE, "bicubic")), hr


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", nargs="*")
    parser.add_argument("--pairs", type=Path, nargs="*", default=[])
    parser.add_argument("--weights", default="default", help="separated by commas")
    parser.add_argument("--side", type=int, default=384, help="of the part of each photo, in pixels")
    arguments = parser.parse_args()

    bicubic = BicubicUpscaler(SCALE)
    networks: dict[str, ImageUpscaler] = {name: load_upscaler(name) for name in arguments.weights.split(",")}
    gains: dict[str, list[list[float]]] = {}
    sources = [pairs_of_photos(arguments.photos, arguments.side), *map(pairs_of_cameras, arguments.pairs)]
    for source in sources:
        for name, lr, hr in source:

            def score(upscaler: ImageUpscaler, lr: np.ndarray = lr, hr: np.ndarray = hr) -> np.ndarray:
                sr = upscaler.upscale(lr, np.uint8)
                scores = protocols.score(sr, hr, scale=SCALE, protocol="aim")
                return np.array([scores.psnr_rgb, scores.ssim])

            base = score(bicubic)
            gains.setdefault(name, []).append([*np.ravel([score(each) - base for each in networks.values()])])
    print("| |" + "|".join(f" {name}: dB | SSIM " for name in networks) + "|")
    print("|---|" + "---|" * (2 * len(networks)))
    rows = {name: np.mean(values, axis=0) for name, values in gains.items()}
    for name, row in {**rows, "mean": np.mean([*rows.values()], axis=0)}.items():
        cells = (f"{value:+.2f}" if i % 2 == 0 else f"{value:+.4f}" for i, value in enumerate(row))
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
