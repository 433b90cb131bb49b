import math

import golden
import numpy as np
import pytest
from test_losses import images, ssim_by_windows

from realsr_jax import losses, metrics


def quantised_case():
    case = golden.case("losses_metrics")
    return np.round(np.clip(case["sr"], 0, 255)), case["hr"].astype(np.float32), case


def luma(image):
    return 16 + (65.738 * image[..., 0] + 129.057 * image[..., 1] + 25.064 * image[..., 2]) / 256


def test_metrics_are_those_of_the_published_code():
    sr, hr, case = quantised_case()
    psnr, ssim = metrics.psnr(sr, hr, border=8), metrics.ssim(sr, hr, border=8)
    assert psnr == pytest.approx(case["psnr_rgb_shave8"], abs=1e-6)
    assert ssim == pytest.approx(case["ssim_rgb_shave8"], abs=2e-6)
    assert metrics.psnr(sr, hr, border=2, y_channel=True) == pytest.approx(case["psnr_y_shave2"], abs=1e-6)
    assert metrics.aim_score(psnr, ssim) == pytest.approx(case["score"], abs=2e-6)


def test_psnr_against_the_definition():
    sr, hr = images(9, 8, 3)
    error = (sr.astype(np.float64) - hr)[2:-2, 2:-2]
    assert metrics.psnr(sr, hr, border=2) == pytest.approx(
        20 * math.log10(255) - 10 * math.log10((error**2).mean())
    )
    error = (luma(sr.astype(np.float64)) - luma(hr.astype(np.float64)))[1:-1, 1:-1]
    expected = 20 * math.log10(255) - 10 * math.log10((error**2).mean())
    assert metrics.psnr(sr, hr, border=1, y_channel=True) == pytest.approx(expected)


def test_ssim_against_windows():
    sr, hr = images(15, 16, 3)
    inside = slice(2, -2), slice(2, -2)
    expected = np.mean([ssim_by_windows(sr[inside][..., c], hr[inside][..., c])[0] for c in range(3)])
    assert metrics.ssim(sr, hr, border=2) == pytest.approx(expected, abs=1e-12)
    sr, hr = sr.astype(np.float64), hr.astype(np.float64)
    expected, _ = ssim_by_windows(luma(sr), luma(hr))
    assert metrics.ssim(sr, hr, y_channel=True) == pytest.approx(expected, abs=1e-12)


def test_ssim_agrees_with_the_loss():
    sr, hr, _ = quantised_case()
    assert metrics.ssim(sr, hr) == pytest.approx(1 - float(losses.ssim_loss(sr, hr)), abs=2e-6)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_batches_are_means_over_images(metric):
    sr, hr = images(3, 12, 13, 3)
    sr[1] += 20
    result = metric(sr, hr)
    assert isinstance(result, float)
    assert result == pytest.approx(np.mean([metric(sr[n], hr[n]) for n in range(3)]))


def test_identical_images_are_perfect():
    image = golden.photo(17, 19)
    assert metrics.psnr(image, image) == math.inf
    assert metrics.psnr(image, image, y_channel=True) == math.inf
    assert metrics.ssim(image, image) == pytest.approx(1, abs=1e-12)


def test_only_the_inside_counts():
    hr = golden.photo(20, 21)
    sr = hr.copy()
    sr[:3], sr[-3:], sr[:, :3], sr[:, -3:] = 0, 0, 0, 0
    assert metrics.psnr(sr, hr, border=3) == math.inf
    assert metrics.ssim(sr, hr, border=3) == pytest.approx(1, abs=1e-12)
    assert metrics.psnr(sr, hr, border=2) < 30
    assert metrics.ssim(sr, hr, border=2) < 0.999


def test_one_pixel_and_integer_images():
    sr, hr = np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)
    assert metrics.psnr(sr, hr) == pytest.approx(0)


def test_aim_score():
    assert metrics.aim_score(50, 1) == pytest.approx(1)
    assert metrics.aim_score(30, 0.7) == pytest.approx(0.55)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_shapes_are_checked(metric):
    image = np.zeros((20, 20, 3))
    with pytest.raises(ValueError, match=r"expected \(20, 20, 3\), got \(20, 19, 3\)"):
        metric(image[:, :19], image)
    with pytest.raises(ValueError, match=r"expected 3 channels, got 1"):
        metric(image[..., :1], image[..., :1], y_channel=True)
    with pytest.raises(ValueError, match="at least"):
        metric(image, image, border=10)
    with pytest.raises(ValueError, match="got -1"):
        metric(image, image, border=-1)


def test_ssim_needs_a_window_inside_the_border():
    image = np.zeros((20, 14, 3))
    with pytest.raises(ValueError, match="at least 15x15, got 20x14"):
        metrics.ssim(image, image, border=2)
