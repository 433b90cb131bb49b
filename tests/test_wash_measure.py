"""Each measurement against pairs of which the truth is known by other means, and planted faults."""

import base64
import io
import math

import numpy as np
import pytest
import wash_faults
from PIL import Image
from scipy import ndimage

from realsr_jax.wash.align import align_pair
from realsr_jax.wash.colour import compare_colours
from realsr_jax.wash.difference import differing_share, measure_difference, predict
from realsr_jax.wash.figures import Figures
from realsr_jax.wash.journal import Record
from realsr_jax.wash.measure import measure_pair
from realsr_jax.wash.pair_files import _format_figures, make_entry
from realsr_jax.wash.registration import register, warp
from realsr_jax.wash.sharpness import compare_sharpness, measure_detail
from realsr_jax.wash.verdict import Limits, Verdict, judge

HEIGHT, WIDTH = 180, 240


def photo(seed, height=HEIGHT, width=WIDTH):
    return wash_faults.dead_leaves(height, width, np.random.default_rng(seed))


def grey(image):
    return image.astype(np.float32).mean(2)


def shifted(image, x, y):
    """Moves content right and down, exactly, by the shift theorem; what leaves comes back opposite."""
    waves = np.fft.fft2(image, axes=(0, 1))
    turn = np.exp(
        -2j * np.pi * (np.fft.fftfreq(image.shape[0])[:, None] * y + np.fft.fftfreq(image.shape[1]) * x)
    )
    return np.fft.ifft2((waves.T * turn.T).T, axes=(0, 1)).real.astype(np.float32)


def soft(image, sigma):
    return ndimage.gaussian_filter(image, (sigma, sigma) + (0,) * (image.ndim - 2))


@pytest.mark.parametrize("x, y", [(0.0, 0.0), (0.3, -0.45), (1.5, 0.25), (-4.2, 7.9), (20.0, -11.0)])
def test_shift(x, y):
    lr = soft(grey(photo(1)), 0.7)
    found = register(lr, shifted(lr, x, y)).similarity
    assert (found.x, found.y) == pytest.approx((x, y), abs=0.05)
    assert found.rotation == pytest.approx(0, abs=2e-4)
    assert found.zoom == pytest.approx(0, abs=2e-4)


@pytest.mark.parametrize("degrees, zoom", [(0.3, 0.0), (-1.0, 0.01), (0.0, -0.02), (2.0, 0.0)])
def test_rotation_and_zoom(degrees, zoom):
    hr = soft(grey(photo(2)), 0.7)
    angle = math.radians(degrees)
    # LR at p shows what HR shows at (1 + zoom + angle * i) p, so rows and columns of HR are as below.
    linear = np.array([[1 + zoom, angle], [-angle, 1 + zoom]])
    centre = (np.array(hr.shape) - 1) / 2
    lr = ndimage.affine_transform(hr, linear, centre - linear @ centre, order=5, mode="mirror")
    found = register(lr, hr).similarity
    assert math.degrees(found.rotation) == pytest.approx(degrees, abs=0.04)
    assert found.zoom == pytest.approx(zoom, abs=7e-4)
    assert math.hypot(found.x, found.y) < 0.06
    corner = math.hypot(angle, zoom) * math.hypot(*hr.shape) / 2
    assert found.largest(hr.shape[::-1]) == pytest.approx(corner, abs=0.15)


def test_shift_whatever_blur_noise_and_brightness():
    random = np.random.default_rng(0)
    hr = grey(photo(3))
    lr = 0.8 * soft(shifted(hr, -0.6, 0.4), 1.5) + 20 + random.normal(0, 6, hr.shape).astype(np.float32)
    found = register(lr, hr)
    assert (found.similarity.x, found.similarity.y) == pytest.approx((0.6, -0.4), abs=0.1)
    assert found.uncertainty < 0.1


def test_warp_undoes_what_was_found():
    lr = soft(grey(photo(4)), 1.0)
    hr = shifted(lr, 2.4, -1.3)
    moved, covered = warp(hr, register(lr, hr).similarity)
    known = covered > 0
    assert np.abs(moved - lr)[known].mean() < 0.15 * np.abs(hr - lr)[known].mean()


def test_flat_patches_do_not_vote_and_moving_ones_are_found():
    lr = soft(grey(photo(5, 240, 320)), 0.7)
    hr = lr.copy()
    hr[80:176, 104:216] = shifted(lr, 1.5, 0)[80:176, 104:216]
    hr[:64] = lr[:64] = 90
    found = register(lr, hr)
    assert math.hypot(found.similarity.x, found.similarity.y) < 0.06
    assert found.positions[:, 1].min() > 24  # windows reach a little beyond the edge
    x, y = found.positions.T
    inside = (x > 124) & (x < 196) & (y > 100) & (y < 156)
    assert np.median(found.shifts[inside, 0]) == pytest.approx(1.5, abs=0.35)
    assert np.median(np.hypot(*found.shifts[(x < 70) | (x > 250)].T)) < 0.1


def test_nothing_can_be_registered_on_noise():
    random = np.random.default_rng(1)
    lr, hr = (random.normal(128, 2, (HEIGHT, WIDTH)).astype(np.float32) for _ in range(2))
    found = register(lr, hr)
    assert found.correlation < 0.3
    assert found.uncertainty > 0.25


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.6])
def test_blur(sigma):
    hr = grey(photo(6))
    found = compare_sharpness(soft(hr, sigma), hr, 1)
    assert found.blur == pytest.approx(sigma, rel=0.1)
    assert found.ratio == pytest.approx(math.exp(2 * math.pi**2 * sigma**2 * 0.25**2), rel=0.25)
    swapped = compare_sharpness(hr, soft(hr, sigma), 1)
    assert swapped.blur == pytest.approx(-sigma, rel=0.25)
    assert swapped.ratio < 1


def test_sharpness_despite_noise_and_reduction():
    random = np.random.default_rng(2)
    hr = grey(photo(7, 2 * HEIGHT, 2 * WIDTH))
    boxes = hr.reshape(HEIGHT, 2, WIDTH, 2).mean((1, 3))
    ideal = np.fft.fftshift(np.fft.fft2(hr))[HEIGHT // 2 : -HEIGHT // 2, WIDTH // 2 : -WIDTH // 2]
    # Kept frequencies of an image of twice the size, and its pixels' centres lie half an HR pixel further.
    lr = np.fft.ifft2(np.fft.ifftshift(ideal)).real / 4
    lr = shifted(lr, -0.25, -0.25)
    noisy = (lr + random.normal(0, 4, lr.shape)).astype(np.float32)
    assert compare_sharpness(noisy, boxes, 2).ratio == pytest.approx(1, abs=0.1)


def test_detail():
    image = grey(photo(8))
    noise = np.random.default_rng(3).normal(0, 3, image.shape).astype(np.float32)
    sharp, blurred = measure_detail(soft(image, 0.5) + noise), measure_detail(soft(image, 1.8) + noise)
    assert sharp > 0.4
    assert blurred < 0.2


def test_predicts_blur_and_brightness():
    hr = grey(photo(9))
    lr = 0.9 * soft(hr, 1.1) + 7
    assert np.abs(predict(lr, hr, np.ones_like(lr)) - lr)[8:-8, 8:-8].max() < 3


def test_difference_finds_a_new_object_but_no_small_shift():
    hr = soft(grey(photo(10)), 0.7)
    lr = shifted(hr, 0.2, 0.1)
    covered = np.zeros_like(lr)
    covered[6:-6, 6:-6] = 1
    assert differing_share(measure_difference(lr, predict(lr, hr, covered), covered), covered) == 0
    lr[60:100, 90:140] = soft(grey(photo(11)), 0.7)[60:100, 90:140]
    share = differing_share(measure_difference(lr, predict(lr, hr, covered), covered), covered)
    assert share == pytest.approx(40 * 50 / covered.sum(), rel=0.4)


@pytest.mark.parametrize(
    "gains, gamma", [((1.0, 1.0, 1.0), 1.03), ((1.07, 1, 1), 0.98), ((0.9, 0.9, 0.9), 1)]
)
def test_gains_are_told_from_a_tone_curve(gains, gamma):
    hr = soft(photo(12).astype(np.float32), 2) * 0.8
    lr = 255 * np.array(gains, np.float32) * (hr / 255) ** np.float32(gamma)
    found, _ = compare_colours(lr, hr, np.ones(hr.shape[:2], np.float32), blur=0)
    assert [found[f"gain_{name}"] for name in ("red", "green", "blue")] == pytest.approx(gains, abs=0.012)
    assert found["gamma"] == pytest.approx(gamma, abs=0.01)
    assert found["colour_error"] < 0.5


def test_nothing_is_said_of_white_pictures():
    white = np.full((HEIGHT, WIDTH, 3), 255, np.float32)
    assert compare_colours(white, white, np.ones((HEIGHT, WIDTH), np.float32), blur=0) == ({}, None)
    figures = measure_pair(*[np.full((64, 64, 3), 255, np.uint8)] * 2, 1).figures
    assert figures.contrast == 0
    assert figures.saturated == 100
    assert judge(figures, Limits()).fault == "contrast"


@pytest.mark.parametrize("size", [(1, 1), (7, 40), (33, 35), (64, 200)])
def test_small_pictures_do_no_harm(size):
    hr = photo(13, 2 * size[0], 2 * size[1])
    lr = hr.reshape(size[0], 2, size[1], 2, 3).mean((1, 3)).astype(np.uint8)
    verdict = judge(measure_pair(lr, hr, 2).figures, Limits())
    assert 0 <= verdict.severity <= 100


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="HR is 20 x 16 pixels, expected 24 x 16, 2 times LR's 12 x 8"):
        measure_pair(np.zeros((8, 12, 3), np.uint8), np.zeros((16, 20, 3), np.uint8), 2)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_alignment_makes_a_pair_clean(scale):
    random = np.random.default_rng(4)
    planted = wash_faults.plant(photo(14, 384, 480), photo(15), "shift", 3.3, scale, random)
    dark = np.clip(planted.lr * 0.85, 0, 255).astype(np.uint8)
    measured = measure_pair(dark, planted.hr, scale)
    assert {"shift", "gain"} <= judge(measured.figures, Limits()).faults
    aligned = align_pair(dark, planted.hr, scale, measured, colours=True)
    assert aligned is not None
    lr, hr = aligned
    assert hr.shape == (lr.shape[0] * scale, lr.shape[1] * scale, 3)
    figures = measure_pair(lr, hr, scale).figures
    assert figures.shift < 0.05
    assert figures.gain < 1.5
    assert judge(figures, Limits()).is_clean


def test_planted_faults_are_caught_and_clean_pairs_kept():
    photos = [photo(seed, 320, 400) for seed in range(20, 28)]
    random = np.random.default_rng(5)
    for number, image in enumerate(photos * 3):
        planted = wash_faults.plant(image, photos[number % 8 - 1], "", 0, (2, 2, 3, 1)[number % 4], random)
        verdict = judge(measure_pair(planted.lr, planted.hr, planted.scale).figures, Limits())
        assert verdict.is_clean, verdict.reason
    certain = {
        "shift": 1,
        "rotation": 0.5,
        "object": 5,
        "gain": 6,
        "channel gain": 6,
        "defocus": 1.5,
        "swapped": 1,
    }
    for fault, least in certain.items():
        for number, strength in enumerate(s for s in wash_faults.FAULTS[fault] if s >= least):
            planted = wash_faults.plant(photos[number], photos[number + 1], fault, strength, 2, random)
            verdict = judge(measure_pair(planted.lr, planted.hr, 2).figures, Limits())
            assert not verdict.is_clean, (fault, strength)


@pytest.mark.parametrize("scale", [2, 3])
def test_the_page_shows_the_part_that_differs_most(tmp_path, scale):
    hr = photo(0, 350 * scale, 450 * scale)
    lr = hr.reshape(350, scale, 450, scale, 3).mean((1, 3))
    lr = np.clip(lr + 9, 0, 255).astype(np.uint8)  # what is so everywhere does not count
    lr[260:290, 330:360] = np.roll(lr[260:290, 330:360], 7, axis=1)
    paths = [str(tmp_path / f"{kind}.png") for kind in ("lr", "hr")]
    for path, image in zip(paths, (lr, hr), strict=True):
        Image.fromarray(image).save(path)
    entry = make_entry(Record("a.png", *paths), scale, Verdict(True, "shift", "", 0.5, frozenset()))
    assert (entry["width"], entry["height"]) == (450, 350)
    for (kind, shown), image in zip(entry["details"].items(), (lr, hr), strict=True):
        factor = 1 if kind == "lr" else scale
        left, top, width, height = np.array(shown["box"]) * [450, 350, 450, 350] * factor
        assert left <= 330 * factor < 360 * factor <= left + width
        assert top <= 260 * factor < 290 * factor <= top + height
        cut = image[round(top) : round(top + height), round(left) : round(left + width)]
        with Image.open(io.BytesIO(base64.b64decode(shown["image"].split(",")[1]))) as encoded:
            pixels = np.asarray(encoded.convert("RGB"), np.float64)
        assert pixels.shape == cut.shape
        assert pixels.size <= 3 * 400 * 272
        assert np.abs(pixels - cut).mean() < 5


def test_the_page_shows_no_minus_before_zero():
    shown = _format_figures(Figures(shift_x=-0.001, shift_y=-0.5, rotation=-0.004, zoom=-0.0))
    assert shown["shift"] == "0.00, -0.50 LR px"
    assert (shown["rotation"], shown["zoom"], shown["gain"]) == ("0.00 degrees", "0.00 %", "not measured")
