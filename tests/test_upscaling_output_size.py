"""Results of any size: what is asked for, how often the network runs, and how results are reduced."""

import golden
import numpy as np
import pytest
from PIL import Image

from realsr_jax.images import Metadata, Photo
from realsr_jax.images.resizing import reduce_image
from realsr_jax.upscaling.output_size import OutputSize, count_passes, parse_size
from realsr_jax.upscaling.photo_upscaling import upscale_photo
from realsr_jax.upscaling.upscaler import BicubicUpscaler


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (OutputSize(), (800, 1200)),
        (OutputSize(scale=4), (1600, 2400)),
        (OutputSize(scale=1.5), (600, 900)),
        (OutputSize(scale=0.5), (200, 300)),
        (OutputSize(size=(3840, 2160)), (2160, 3240)),
        (OutputSize(size=(1000, 5000)), (667, 1000)),
        (OutputSize(width=1001), (667, 1001)),
        (OutputSize(megapixels=6), (2000, 3000)),
    ],
)
def test_sizes(size, expected):
    assert size.of(400, 600, 2) == expected


def test_a_box_turns_nothing_and_a_pixel_is_left():
    assert OutputSize(size=(3840, 2160)).of(600, 400, 2) == (2160, 1440)
    assert OutputSize(scale=0.01).of(10, 3000, 2) == (1, 30)


@pytest.mark.parametrize(
    "fields",
    [
        *({"scale": scale} for scale in (0, -1, float("nan"), 1e9)),
        *({"megapixels": number} for number in (0, float("inf"))),
        {"size": (0, 5)},
        {"width": 0},
        {"scale": 2, "width": 5},
    ],
)
def test_sizes_that_cannot_be(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        OutputSize(**fields)


def test_size_in_words():
    assert parse_size("3840x2160") == parse_size(" 3840 X 2160 ") == (3840, 2160)
    for text in ("", "3840", "3840x", "x2160", "3840x2160x3", "a x b", "-1x5"):
        with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
            parse_size(text)


@pytest.mark.parametrize(
    ("target", "factor", "passes"),
    [
        *(((200, 300), 2, 1), ((201, 300), 2, 2), ((150, 150), 2, 1), ((100, 150), 2, 1), ((99, 150), 2, 0)),
        *(((400, 600), 2, 2), ((400, 600), 4, 1), ((900, 1350), 3, 2), ((1, 1), 2, 0)),
        ((300, 450), 1, 1),
    ],
)
def test_the_network_runs_as_often_as_it_must(target, factor, passes):
    assert count_passes((100, 150), target, factor) == passes


def lanczos(values, new):
    """Lanczos of three lobes along the first axis, in float64, in loops."""
    old = len(values)
    factor = old / new
    result = np.zeros((new, *values.shape[1:]))
    for i in range(new):
        centre, total = (i + 0.5) * factor, 0.0
        for j in range(old):
            x = (j + 0.5 - centre) / factor
            if abs(x) < 3:
                weight = np.sinc(x) * np.sinc(x / 3)
                result[i] += weight * values[j]
                total += weight
        result[i] /= total
    return result


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("source", [np.uint8, np.uint16])
def test_reduction_is_lanczos(dtype, source):
    image = np.random.default_rng(0).integers(0, np.iinfo(source).max, (40, 31, 3), source, endpoint=True)
    expected = lanczos(lanczos(image.astype(np.float64), 27).swapaxes(0, 1), 22).swapaxes(0, 1)
    expected = np.clip(expected / np.iinfo(source).max, 0, 1) * np.iinfo(dtype).max
    np.testing.assert_allclose(reduce_image(image, (27, 22), dtype), expected, atol=0.51)


def photo(*shape, dtype=np.uint8):
    samples = golden.photo(*shape[:2]).astype(dtype) * (257 if dtype == np.uint16 else 1)
    if len(shape) > 2 and shape[2] in (1, 2):
        samples = samples[..., :1]
    if len(shape) > 2 and shape[2] in (2, 4):
        opacity = np.full((*shape[:2], 1), np.iinfo(dtype).max, dtype)
        opacity[: shape[0] // 2] = 0
        samples = np.concatenate([samples, opacity], axis=2)
    return Photo(samples, Metadata(dpi=(72.0, 72.0)), "PNG")


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("scale", "shape"), [(1.5, (36, 60)), (4, (96, 160)), (0.5, (12, 20)), (1, (24, 40))]
)
def test_photos_of_any_size(channels, dtype, scale, shape):
    source = photo(24, 40, channels, dtype=dtype)
    shares = []
    size = OutputSize(scale=scale)
    result = upscale_photo(source, BicubicUpscaler(2), format="PNG", size=size, progress=shares.append)
    assert result.samples.shape == (*shape, channels)
    assert result.samples.dtype == dtype
    assert shares == sorted(shares)
    assert shares[-1:] == ([1.0] if scale >= 1 else [])
    range_ = np.iinfo(dtype).max
    small = np.stack(
        [
            np.asarray(
                Image.fromarray(plane.astype(np.float32)).resize(shape[::-1], Image.Resampling.BICUBIC)
            )
            for plane in np.moveaxis(source.samples, 2, 0)
        ],
        axis=2,
    )
    difference = np.abs(result.samples.astype(np.float32) - np.clip(small, 0, range_)) / range_
    assert difference.mean() < (0.02 if scale == 1 else 0.01)  # enlarged and reduced


def test_two_passes_are_the_network_twice():
    source, upscaler = photo(20, 30), BicubicUpscaler(2)
    once = upscaler.upscale(source.samples, np.uint16)
    twice = upscaler.upscale(once, np.uint8)
    result = upscale_photo(source, upscaler, format="PNG", size=OutputSize(scale=4))
    np.testing.assert_array_equal(result.samples, twice)


def test_the_plain_factor_is_what_it_was():
    source, upscaler = photo(20, 30), BicubicUpscaler(3)
    for size in (OutputSize(), OutputSize(scale=3), OutputSize(width=90)):
        result = upscale_photo(source, upscaler, format="PNG", size=size)
        np.testing.assert_array_equal(result.samples, upscaler.upscale(source.samples, np.uint8))
