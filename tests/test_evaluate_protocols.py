"""Scores against loops written from their definitions, and the rules on borders, sizes and rounding."""

import dataclasses
import json
import math

import golden
import ml_dtypes
import numpy as np
import pytest

from realsr_jax.evaluate import protocols as evaluation
from realsr_jax.evaluate.protocols import Evaluation, ImageResult, Protocol, Scores, score

HR = golden.photo(31, 34)
SR = np.clip(HR.astype(np.int32) + golden.photo(31, 34, seed=5) // 16 - 8, 0, 255).astype(np.uint8)


def loop_psnr(sr, hr):
    """PSNR of lists of rows of lists of channels, from its definition."""
    errors = [
        (float(a) - float(b)) ** 2
        for x, y in zip(sr, hr, strict=True)
        for p, q in zip(x, y, strict=True)
        for a, b in zip(p, q, strict=True)
    ]
    return 10 * math.log10(255**2 / (sum(errors) / len(errors)))


def loop_ssim(sr, hr):
    """SSIM with one 11x11 Gaussian window at a time."""
    taps = [math.exp(-(i**2) / (2 * 1.5**2)) for i in range(-5, 6)]
    window = np.outer(taps, taps) / sum(taps) ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(sr.shape[2]):
        for y in range(sr.shape[0] - 10):
            for x in range(sr.shape[1] - 10):
                a, b = (image[y : y + 11, x : x + 11, channel].astype(np.float64) for image in (sr, hr))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                covariance = (window * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + c1)
                    * (2 * covariance + c2)
                    / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
                )
    return np.mean(values)


def luma(image):
    red, green, blue = (image[..., channel].astype(np.float64) for channel in range(3))
    return (16 + (65.738 * red + 129.057 * green + 25.064 * blue) / 256)[..., None]


@pytest.mark.parametrize(("protocol", "border"), [("aim", 8), ("benchmark", 2)])
def test_scores_are_those_of_loops(protocol, border):
    scores = score(SR, HR, scale=2, protocol=protocol)
    sr, hr = (image[border:-border, border:-border] for image in (SR, HR))
    psnr, ssim = loop_psnr(sr, hr), loop_ssim(sr, hr)
    assert scores.psnr_rgb == pytest.approx(psnr)
    assert scores.psnr_y == pytest.approx(loop_psnr(luma(sr), luma(hr)))
    assert scores.ssim == pytest.approx(ssim if protocol == "aim" else loop_ssim(luma(sr), luma(hr)))
    assert scores.aim_score == pytest.approx(0.5 * psnr / 50 + 0.5 * (ssim - 0.4) / 0.6)


@pytest.mark.parametrize("protocol", ["aim", "benchmark"])
def test_luma_of_grey_images_is_their_values(protocol):
    grey = np.repeat(HR[..., :1], 3, axis=-1)
    restored = np.repeat(SR[..., :1], 3, axis=-1)
    border = Protocol(protocol).border(2)
    sr, hr = (image[border:-border, border:-border, :1].astype(np.float64) for image in (restored, grey))
    scores = score(restored, grey, scale=2, protocol=protocol, is_grey=True)
    assert scores.psnr_y == pytest.approx(10 * math.log10(255**2 / np.mean((sr - hr) ** 2)))
    as_rgb = score(restored, grey, scale=2, protocol=protocol)
    assert as_rgb.psnr_y - scores.psnr_y == pytest.approx(1.32, abs=0.005)
    assert (scores.psnr_rgb, scores.aim_score) == (as_rgb.psnr_rgb, as_rgb.aim_score)
    if protocol == "benchmark":
        assert scores.ssim == pytest.approx(loop_ssim(sr, hr))
        assert abs(scores.ssim - as_rgb.ssim) > 1e-5
    else:
        assert scores.ssim == as_rgb.ssim
    assert score(grey, grey, scale=2, protocol=protocol, is_grey=True).psnr_y == math.inf
    coloured = score(SR, grey, scale=2, protocol=protocol, is_grey=True)
    weighed = SR[border:-border, border:-border] @ (np.array([65.738, 129.057, 25.064]) / 219.859)
    assert coloured.psnr_y == pytest.approx(10 * math.log10(255**2 / np.mean((weighed - hr[..., 0]) ** 2)))


def test_border():
    assert [Protocol.AIM.border(scale) for scale in (2, 3, 4)] == [8, 9, 10]
    assert [Protocol.BENCHMARK.border(scale) for scale in (2, 3, 4)] == [2, 3, 4]
    other = score(SR, HR, scale=2, protocol="benchmark", border=0)
    assert other.psnr_rgb == pytest.approx(loop_psnr(SR, HR))


def test_headline_and_columns():
    scores = Scores(psnr_rgb=1.0, psnr_y=2.0, ssim=3.0, aim_score=4.0)
    assert evaluation.headline(scores, "aim") == 4.0
    assert evaluation.headline(scores, Protocol.BENCHMARK) == 2.0
    headings = {
        protocol: [column.heading for column in evaluation.columns(protocol)] for protocol in Protocol
    }
    assert headings[Protocol.AIM] == ["PSNR-RGB", "PSNR-Y", "SSIM-RGB", "AIM score"]
    assert headings[Protocol.BENCHMARK] == ["PSNR-RGB", "PSNR-Y", "SSIM-Y", "AIM score"]
    assert evaluation.columns(Protocol.AIM)[0].text(scores, sign="+") == "+1.00"


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_floats_count_as_8_bit(dtype):
    image = np.array([-3.0, 0.5, 1.5, 2.5, 254.5, 300.0], dtype)  # of which bfloat16 knows all but 254.5
    expected = [0, 0, 2, 2, 254, 255]
    assert evaluation.to_8_bit(image).tolist() == expected
    noise = np.float32(0.49) * np.sign(np.random.default_rng(0).normal(size=SR.shape)).astype(np.float32)
    assert score(SR + noise, HR, scale=2, protocol="aim") == score(SR, HR, scale=2, protocol="aim")


def test_hr_is_cropped_below_and_right():
    hr = np.pad(HR, ((0, 2), (0, 1), (0, 0)), constant_values=77)
    assert score(SR, hr, scale=3, protocol="benchmark") == score(SR, HR, scale=3, protocol="benchmark")


def test_identical_images():
    scores = score(HR, HR, scale=2, protocol="aim")
    assert scores == Scores(math.inf, math.inf, 1.0, math.inf)
    assert [column.text(scores) for column in evaluation.columns(Protocol.AIM)] == [
        "inf",
        "inf",
        "1.0000",
        "inf",
    ]
    text = json.dumps(evaluation.as_json(scores), allow_nan=False)
    assert json.loads(text) == {"psnr_rgb": "inf", "psnr_y": "inf", "ssim": 1.0, "aim_score": "inf"}


@pytest.mark.parametrize(
    ("sr", "hr", "options", "message"),
    [
        (SR, HR[:30], {}, "HR is 34 x 30, expected 34 x 31 or less than 2 pixels more"),
        (SR[:29], HR, {}, "HR is 34 x 31, expected 34 x 29"),
        (SR[:30], HR, {"scale": 1}, "HR is 34 x 31, expected 34 x 30$"),
        (SR, HR, {"border": 11}, "too small: expected at least 33x33, got 31x34"),
        (SR, HR, {"border": -1}, "border must not be negative"),
        (SR, HR, {"protocol": "AIM"}, "'AIM' is not a valid Protocol"),
        (SR.astype(np.uint16), HR, {}, "pixels are uint16"),
        (np.full(HR.shape, np.nan), HR, {}, "not finite"),
    ],
)
def test_refusals(sr, hr, options, message):
    with pytest.raises(ValueError, match=message):
        score(sr, hr, **({"scale": 2, "protocol": "aim"} | options))


def test_means():
    first, second = Scores(30.0, 31.0, 0.9, 0.7), Scores(20.0, 22.0, 0.8, 0.5)
    assert evaluation.mean_scores([first, second]) == Scores(25.0, 26.5, pytest.approx(0.85), 0.6)
    assert evaluation.mean_scores([first, Scores(math.inf, 22.0, 1.0, math.inf)]).psnr_rgb == math.inf
    with pytest.raises(ValueError, match="no scores"):
        evaluation.mean_scores([])


def test_evaluation():
    perfect, poor = Scores(math.inf, math.inf, 1.0, math.inf), Scores(20.0, 22.0, 0.5, 0.25)
    done = Evaluation("net", Protocol.AIM, 2, 8, (ImageResult("a", perfect, perfect),), 2)
    assert done.mean_of() == "1 of 2 images"
    assert done.rules() == "scale 2, 8 border pixels left out"
    assert done.means() == {"mean": perfect, "bicubic": perfect, "gain": Scores(0.0, 0.0, 0.0, 0.0)}
    better = dataclasses.replace(done, results=(ImageResult("a", perfect, poor),), scale=None, n_images=1)
    assert better.means()["gain"] == Scores(math.inf, math.inf, 0.5, math.inf)
    assert better.mean_of() == "1 image"
    assert better.rules().startswith("scale unknown")
    worse = dataclasses.replace(done, results=(ImageResult("a", poor, perfect),))
    assert evaluation.as_json(worse.means()["gain"])["psnr_y"] == "-inf"
    assert dataclasses.replace(done, results=(ImageResult("a", poor),)).means() == {"mean": poor}
    assert dataclasses.replace(done, results=()).means() == {}
