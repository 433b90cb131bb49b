"""Draws the README's before/after picture: bicubic, the bundled network and the true photo, in three crops.

python tests/scripts/readme_pictures.py --output=tests/data/readme/before_after.png
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

from realsr_jax import load_upscaler, metrics
from realsr_jax.evaluate.protocols import to_8_bit
from realsr_jax.images import read_photo
from realsr_jax.ops.matlab_resize import imresize
from realsr_jax.upscaling.photo_upscaling import BicubicUpscaler

PHOTO = Path(__file__).parents[1] / "data" / "readme" / "cat.png"
CROPS = ((70, 105), (190, 200))
SIZE = 88


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", required=True)
    output = parser.parse_args().output
    hr = read_photo(PHOTO).rgb_8_bit()
    hr = hr[: hr.shape[0] // 2 * 2, : hr.shape[1] // 2 * 2]
    lr = imresize(hr, 0.5)
    images = {
        "bicubic": to_8_bit(BicubicUpscaler(2)(lr)),
        "realsr_jax, bundled network": to_8_bit(load_upscaler("default")(lr)),
        "original": hr,
    }
    figure = Figure(figsize=(9, 6.3), layout="constrained")
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
            print(f"{name}: PSNR-Y {metrics.psnr(image, hr, border=2, y_channel=True):.2f} dB")


if __name__ == "__main__":
    main()
