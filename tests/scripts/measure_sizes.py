"""How near results of any size come to the truth, against enlarging by Lanczos alone.

python tests/scripts/measure_sizes.py --scales=1.5,4 --weights=clean,default Set5/HR_X2/*.png

LR is made of each HR photo, cropped to multiples of 12, by MATLAB's bicubic rule. Results are those of
`realsr-upscale --scale`, in 8 bits; PSNR is that of the luma, border 2 (protocol "benchmark"). With --light,
the last reduction is done in linear light too, and by a bicubic filter.
"""

import argparse
from fractions import Fraction

import numpy as np
from PIL import Image

import realsr_jax
from realsr_jax import images
from realsr_jax.evaluate import protocols
from realsr_jax.ops.matlab_resize import imresize

GRID = 12


def resized(image: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
    """Returns [h, w, 3] of 0..255 in another size, float32."""
    planes = [Image.fromarray(image[..., i].astype(np.float32)) for i in range(3)]
    return np.stack([np.asarray(plane.resize(size[::-1], method)) for plane in planes], -1)


def to_linear(image: np.ndarray) -> np.ndarray:
    """Undoes the gamma of sRGB, 0..255 to 0..1."""
    image = np.clip(image / 255, 0, 1)
    return np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)


def to_gamma(image: np.ndarray) -> np.ndarray:
    """Undoes `to_linear`."""
    image = np.clip(image, 0, 1)
    return 255 * np.where(image <= 0.0031308, image * 12.92, 1.055 * image ** (1 / 2.4) - 0.055)


def candidates(lr: np.ndarray, size: tuple[int, int], scale: float, weights: list[str], light: bool):
    """Yields what is compared, by name."""
    lanczos, bicubic = Image.Resampling.LANCZOS, Image.Resampling.BICUBIC
    yield "Lanczos", resized(lr, size, lanczos)
    yield "bicubic", resized(lr, size, bicubic)
    for name in weights:
        yield name, realsr_jax.upscale(lr, weights=name, scale=scale)
        sr = lr.astype(np.float32)
        while light and sr.shape[0] < size[0]:
            sr = realsr_jax.upscale(sr, weights=name, peak=255)
        if light and sr.shape[:2] != size:
            yield f"{name}, Lanczos in linear light", to_gamma(resized(to_linear(sr), size, lanczos))
            yield f"{name}, bicubic", resized(sr, size, bicubic)
            yield f"{name}, bicubic in linear light", to_gamma(resized(to_linear(sr), size, bicubic))


def main() -> None:
    """Prints the mean of each candidate, by scale."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="+")
    parser.add_argument("--scales", default="1.5,4")
    parser.add_argument("--weights", default="clean,default")
    parser.add_argument("--light", action="store_true")
    arguments = parser.parse_args()
    scores: dict[tuple[float, str], list[float]] = {}
    for path in arguments.photos:
        hr = images.read_photo(path).rgb_8_bit()
        height, width = (side // GRID * GRID for side in hr.shape[:2])
        hr = hr[:height, :width]
        for scale in map(float, arguments.scales.split(",")):
            lr = imresize(hr, 1 / Fraction(scale))
            found = candidates(lr, (height, width), scale, arguments.weights.split(","), arguments.light)
            for name, sr in found:
                rounded = np.rint(np.clip(sr, 0, 255)).astype(np.uint8)
                score = protocols.score(rounded, hr, scale=2, protocol="benchmark").psnr_y
                scores.setdefault((scale, name), []).append(score)
    for (scale, name), values in scores.items():
        print(f"x{scale:g}  {name}: {np.mean(values):.2f} dB", flush=True)


if __name__ == "__main__":
    main()
