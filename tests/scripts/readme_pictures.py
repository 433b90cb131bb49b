"""Draws the README's before/after picture: bicubic, the bundled networks and the same scene, sharper.

python tests/scripts/readme_pictures.py --output=tests/data/readme/before_after.png

Scene 003 of City100 (Chen et al. 2019, ngchc/CameraSR, MIT), on which no network was trained: a crop of the
photo through the longer lens, and the same of the one through the shorter, reduced by 2, its colours fitted
to the other's by a gain and an offset for each channel.
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from realsr_jax import load_upscaler, metrics
from realsr_jax.evaluate.protocols import to_8_bit
from realsr_jax.images import read_photo
from realsr_jax.upscaling.photo_upscaling import BicubicUpscaler

PHOTOS = Path(__file__).parents[1] / "data" / "readme"
CROPS = ((0, 80), (130, 60))
SIZE = 110


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True)
    output = parser.parse_args().output
    lr, hr = (read_photo(PHOTOS / f"{name}.png").rgb_8_bit() for name in ("church", "church_true"))
    images = {
        "bicubic": to_8_bit(BicubicUpscaler(2)(lr)),
        "clean": to_8_bit(load_upscaler("clean")(lr)),
        "default": to_8_bit(load_upscaler("default")(lr)),
        "longer focal length": hr,
    }
    figure = Figure(figsize=(9, 4.9), layout="constrained")
    axes = figure.subplots(len(CROPS), len(images))
    for number, ((top, left), row) in enumerate(zip(CROPS, axes, strict=True)):
        for (name, image), place in zip(images.items(), row, strict=True):
            place.imshow(image[top : top + SIZE, left : left + SIZE], interpolation="nearest")
            place.set_axis_off()
            if number == 0:
                place.set_title(name)
    figure.savefig(output, dpi=100)
    for name, image in images.items():
        if image is not hr:
            scores = (metrics.psnr(image, hr, border=8), metrics.ssim(image, hr, border=8))
            print("{}: PSNR {:.2f} dB, SSIM {:.4f}".format(name, *scores))


if __name__ == "__main__":
    main()
