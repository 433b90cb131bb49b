"""imresize against MATLAB's rule written as loops, and against MATLAB's own images where they are at hand."""

import math
import os
from fractions import Fraction
from pathlib import Path

import golden
import numpy as np
import pytest

from realsr_jax import images
from realsr_jax.ops.matlab_resize import imresize


def _kernel(x):
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def _border(index, length, border):
    if border == "clamp":
        return min(max(index, 0), length - 1)
    while not 0 <= index < length:
        index = -1 - index if index < 0 else 2 * length - 1 - index
    return index


def _resize_line(line, length, factor, border):
    """Resizes a sequence of pixels [n, c], one pixel after the other."""
    shrink = min(factor, 1.0)
    result = []
    for i in range(length):
        centre = (i + 0.5) / factor - 0.5
        reach = 2 / shrink
        taps = range(math.floor(centre - reach), math.ceil(centre + reach) + 1)
        weights = [_kernel(shrink * (centre - tap)) for tap in taps]
        pixels = [line[_border(tap, len(line), border)].astype(float) for tap in taps]
        value = sum(w * p for w, p in zip(weights, pixels, strict=True)) / sum(weights)
        result.append(np.clip(np.floor(value + 0.5), 0, 255))
    return np.array(result).astype(np.uint8)


def _slow(image, size, factors, border):
    columns = [_resize_line(image[:, x], size[0], factors[0], border) for x in range(image.shape[1])]
    image = np.stack(columns, 1)
    return np.stack([_resize_line(row, size[1], factors[1], border) for row in image])


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(1, 3), 2])
@pytest.mark.parametrize("shape", [(12, 24), (17, 13)])
def test_16_bits_are_more_of_the_same(shape, scale):
    """Of the same levels, results differ from those of 8 bits by their rounding, once for each side."""
    image = golden.photo(*shape, seed=3)
    result = imresize(image.astype(np.uint16) * 257, scale)
    assert result.dtype == np.uint16
    error = result / 257 - imresize(image, scale)
    assert 0 < np.abs(error).max() < 0.5 + 1.5 * 0.5
    assert imresize(np.full((4, 4, 3), 65535, np.uint16), scale).min() == 65535


@pytest.mark.parametrize("border", ["clamp", "mirror"])
@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(1, 3), Fraction(1, 4), Fraction(2, 3), 2, 3])
@pytest.mark.parametrize("shape", [(12, 24), (17, 13), (1, 1), (1, 7), (5, 2)])
def test_equals_the_rule(shape, scale, border):
    image = golden.photo(*shape, seed=3)
    size = tuple(math.ceil(side * scale) for side in shape)
    expected = _slow(image, size, (float(scale),) * 2, border)
    result = imresize(image, scale, border=border)
    assert result.dtype == np.uint8
    assert result.shape == (*size, 3)
    different = result != expected  # of exact halves, the loop's order of summation decides
    assert np.abs(result.astype(int) - expected)[different].max(initial=0) <= 1
    assert different.mean() <= (0 if scale in (Fraction(1, 2), Fraction(1, 4), 2) else 0.02)


def test_resizes_to_a_size_with_a_factor_for_each_side():
    image = golden.photo(18, 12)
    result = imresize(image, size=(12, 9))
    np.testing.assert_array_equal(result, _slow(image, (12, 9), (12 / 18, 9 / 12), "clamp"))
    np.testing.assert_array_equal(imresize(image, size=(12, 8)), imresize(image, Fraction(2, 3)))


def test_the_side_that_shrinks_more_comes_first():
    image = golden.photo(12, 30)
    expected = _slow(image.swapaxes(0, 1), (5, 9), (5 / 30, 9 / 12), "clamp").swapaxes(0, 1)
    np.testing.assert_array_equal(imresize(image, size=(9, 5)), expected)


def test_scales_can_be_floats():
    image = golden.photo(20, 30)
    assert imresize(image, 0.1).shape == (2, 3, 3)
    np.testing.assert_array_equal(imresize(image, 0.5), imresize(image, Fraction(1, 2)))


def test_keeps_a_flat_image_and_an_image_of_the_same_size():
    image = golden.photo(9, 8)
    np.testing.assert_array_equal(imresize(image, 1), image)
    flat = np.full((31, 22, 3), 201, np.uint8)
    assert (imresize(flat, Fraction(1, 3)) == 201).all()


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((4, 4, 3)), {"scale": 2}, "float64"),
        (np.zeros((4, 4), np.uint8), {"scale": 2}, r"\[4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), {"scale": 2}, r"\[0, 4, 3\]"),
        (np.zeros((4, 4, 3), np.uint8), {"scale": 2, "border": "wrap"}, "wrap"),
        (np.zeros((4, 4, 3), np.uint8), {"scale": 0}, "0 x 0"),
        (np.zeros((4, 4, 3), np.uint8), {}, "either scale or size"),
        (np.zeros((4, 4, 3), np.uint8), {"scale": 2, "size": (8, 8)}, "either scale or size"),
    ],
)
def test_refuses(image, options, message):
    with pytest.raises(ValueError, match=message):
        imresize(image, **options)


@pytest.mark.skipif("REALSR_SET5" not in os.environ, reason="REALSR_SET5 does not name the folder of Set5")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_makes_the_lr_images_of_set5(scale):
    root = Path(os.environ.get("REALSR_SET5", ""))
    paths = sorted((root / f"HR_X{scale}").glob("*.png"))
    assert len(paths) == 5
    for path in paths:
        hr = images.read_photo(path).rgb_8_bit()
        lr = images.read_photo(root / "LR_bicubic" / f"X{scale}" / f"{path.stem}x{scale}.png").rgb_8_bit()
        height, width = (side // scale * scale for side in hr.shape[:2])
        np.testing.assert_array_equal(imresize(hr[:height, :width], Fraction(1, scale)), lr)
