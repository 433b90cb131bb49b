"""Degradations: each operation against plain loops, each distribution by its statistics, and the source."""

import io
import math
from collections import Counter

import golden
import numpy as np
import pytest
from PIL import Image

from realsr_jax import images
from realsr_jax.data import degradations
from realsr_jax.data.batches import batch_names, make_batches, make_sample, make_told_sample
from realsr_jax.data.camera import Blur, Camera, Gain, Jpeg, Noise, Reduction, Sharpening
from realsr_jax.data.errors import DataError
from realsr_jax.data.sources import Degraded, HrFolder, Mixed
from realsr_jax.data.training_pairs import open_pairs
from realsr_jax.ops.matlab_resize import imresize


def _photo(height, width, seed=0):
    return golden.photo(height, width, seed=seed).astype(np.float32)


def _random(seed=0):
    return np.random.default_rng(seed)


# ------------------------------------------------------------------------------------------- operations


@pytest.mark.parametrize(("sigma", "across", "angle"), [(0, 0, 0), (0.8, 0.8, 0), (1.4, 0.6, 0.7), (2, 1, 2)])
def test_blur_is_the_sum_over_a_gaussian(sigma, across, angle):
    image = _photo(9, 11)
    radius = 8
    padded = np.pad(image.astype(np.float64), ((radius, radius), (radius, radius), (0, 0)), "edge")
    expected, total = np.zeros_like(image, np.float64), 0.0
    for y in range(-radius, radius + 1):
        for x in range(-radius, radius + 1):
            if max(abs(y), abs(x)) > math.ceil(3 * max(sigma, across)):
                continue
            u, v = x * math.cos(angle) + y * math.sin(angle), -x * math.sin(angle) + y * math.cos(angle)
            weight = 1.0
            if sigma:
                weight = math.exp(-(u**2) / (2 * sigma**2) - v**2 / (2 * across**2))
            total += weight
            expected += weight * padded[radius + y :, radius + x :][: image.shape[0], : image.shape[1]]
    blurred = degradations.blur(image, degradations.gaussian_kernel(sigma, across, angle))
    assert blurred.dtype == np.float32
    np.testing.assert_allclose(blurred, expected / total, atol=0.26)


def test_the_angle_of_a_blur_turns_from_right_to_down():
    image = np.zeros((21, 21, 3), np.float32)
    image[10, 10] = 255
    blurred = degradations.blur(image, degradations.gaussian_kernel(2, 0.5, math.pi / 4))[..., 0]
    assert blurred[12, 12] > 10 * abs(blurred[8, 12])


def _kernel(kind, distance, scale):
    """What a reduction weighs a pixel with, at a distance in HR pixels from the centre."""
    if kind == "area":
        return float(distance < scale / 2)
    if kind == "lanczos":
        x = distance / scale
        waves = math.sin(math.pi * x) * math.sin(math.pi * x / 3)
        return 1.0 if x == 0 else float(x < 3) * 3 * waves / (math.pi * x) ** 2
    x = distance / scale if kind == "bicubic" else distance
    if x < 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kind", degradations.REDUCTION_KINDS)
def test_reduction_weighs_pixels_by_their_distance_from_the_centre(kind, scale):
    image = _photo(4 * scale, 5 * scale)
    n_rows, n_columns = image.shape[:2]

    def weights(centre, length):
        row = np.zeros(length)
        for place in range(-20, length + 20):
            weight = _kernel(kind, abs(place - centre), scale)
            row[min(max(place, 0), length - 1)] += weight
        return row / row.sum()

    vertical = np.array([weights(scale * i + (scale - 1) / 2, n_rows) for i in range(4)])
    across = np.array([weights(scale * i + (scale - 1) / 2, n_columns) for i in range(5)])
    expected = np.einsum("iy,jx,yxc->ijc", vertical, across, image)
    np.testing.assert_allclose(degradations.reduce(image, scale, kind), expected, atol=1e-2)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kind", degradations.REDUCTION_KINDS)
def test_no_reduction_shifts_the_image(kind, scale):
    y, x = np.mgrid[: 20 * scale, : 20 * scale].astype(np.float32)
    ramps = np.stack([y, x, y + x], axis=2)
    ramps = degradations.blur(ramps, degradations.gaussian_kernel(1.2, 0.7, 0.5))
    reduced = degradations.reduce(ramps, scale, kind)[6:-6, 6:-6]
    centre = scale * np.arange(6, 14) + (scale - 1) / 2
    np.testing.assert_allclose(reduced[..., 0], np.broadcast_to(centre[:, None], (8, 8)), atol=0.01)
    np.testing.assert_allclose(reduced[..., 1], np.broadcast_to(centre, (8, 8)), atol=0.01)


def test_bicubic_reduction_is_matlabs():
    image = golden.photo(24, 32)
    ours = degradations.to_uint8(degradations.reduce(image.astype(np.float32), 2, "bicubic"))
    difference = np.abs(ours.astype(int) - imresize(image, 0.5))
    assert difference.max() <= 1 and difference.mean() < 0.2  # MATLAB rounds after the rows too


def test_gain_multiplies_and_clips():
    image = np.full((1, 1, 3), 100, np.float32)
    changed = degradations.change_gain(image, np.array([0.5, 1.1, 3]))
    np.testing.assert_allclose(changed[0, 0], [50, 110, 255])


@pytest.mark.parametrize("chroma", [None, 0.0, 2.0])
@pytest.mark.parametrize("level", [0, 50, 200])
def test_the_variance_of_noise_follows_the_signal(chroma, level):
    image = np.full((300, 300, 3), level, np.float32)
    noise = degradations.add_noise(image, _random(), per_signal=0.1, constant=4, chroma=chroma) - image
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise.var((0, 1)), 0.1 * level + 4, rtol=0.05)
    np.testing.assert_allclose(noise.mean((0, 1)), 0, atol=0.15)


def _correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_noise_is_white_or_has_grain_and_smoother_colour():
    image = np.full((400, 400, 3), 100, np.float32)
    white, grey, coloured = (
        degradations.add_noise(image, _random(), per_signal=0, constant=9, chroma=chroma) - image
        for chroma in (None, 0.0, 2.0)
    )
    assert abs(_correlation(white[:, 1:], white[:, :-1])) < 0.01
    assert abs(_correlation(white[..., 0], white[..., 1])) < 0.01
    np.testing.assert_allclose(grey[..., 0], grey[..., 1], atol=1e-4)
    assert _correlation(grey[:, 1:], grey[:, :-1]) == pytest.approx(4 / 6, abs=0.01)  # of 1 2 1
    luma = coloured.mean(2)
    chroma = coloured - luma[..., None]
    assert chroma.var() / luma.var() == pytest.approx(4, rel=0.05)
    assert _correlation(luma[:, 1:], luma[:, :-1]) == pytest.approx(4 / 6, abs=0.01)
    assert _correlation(chroma[1:], chroma[:-1]) == pytest.approx(56 / 70, abs=0.01)  # of 1 4 6 4 1


def test_grain_is_as_strong_at_the_border():
    image = np.full((2, 20_000, 3), 100, np.float32)
    noise = degradations.add_noise(image, _random(), per_signal=0, constant=9, chroma=1.0) - image
    np.testing.assert_allclose(noise.var((1, 2)), 9, rtol=0.08)


def test_sharpening_adds_what_a_blur_takes():
    image = _photo(12, 12)
    smooth = degradations.blur(image, degradations.gaussian_kernel(1, 1, 0))
    expected = np.clip(1.5 * image - 0.5 * smooth, 0, 255)
    np.testing.assert_allclose(degradations.sharpen(image, amount=0.5, sigma=1), expected, atol=1e-3)
    edge = np.repeat(np.where(np.arange(12) < 6, 50, 200), 3).reshape(1, 12, 3).repeat(12, 0)
    sharpened = degradations.sharpen(edge.astype(np.float32), amount=0.5, sigma=1)
    assert sharpened.max() > 210 and sharpened.min() < 40


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_is_an_encoders_from_its_phase_on(subsampling):
    image = _photo(40, 37) + np.float32(0.3)
    phase = 5, 11
    compressed = degradations.compress(image, quality=50, subsampling=subsampling, phase=phase)
    rounded = np.clip(np.round(image), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(rounded[5:, 11:].copy()).save(file, "JPEG", quality=50, subsampling=subsampling)
    expected = rounded.copy()
    expected[5:, 11:] = np.asarray(Image.open(file))
    np.testing.assert_array_equal(compressed, expected)


# ---------------------------------------------------------------------------------------- distributions


def _drawn(part, count=2000, *arguments):
    """Returns what a part of a camera draws for each of many samples, in words."""
    image = np.full((4, 4, 3), 128, np.float32)
    random = _random()
    return [part.apply(image, random, *arguments)[1] for _ in range(count)]


def test_blurs_are_mostly_weak_with_a_tail():
    words = _drawn(Blur(), 2000, 1)
    sigmas = np.array([float(text.split()[1]) for text in words])
    assert sigmas.min() < 0.05 and 1.95 < sigmas.max() <= 2
    assert np.mean(sigmas > 1.4) == pytest.approx(0.1, abs=0.025)
    assert sigmas[sigmas <= 1.4].mean() == pytest.approx(0.7, abs=0.04)
    directed = [text.split() for text in words if "deg" in text]
    assert len(directed) / len(words) == pytest.approx(0.3, abs=0.04)
    ratios = [float(text[3]) / float(text[1]) for text in directed if float(text[1]) > 0.5]
    assert min(ratios) > 0.38 and np.mean(ratios) == pytest.approx(0.7, abs=0.04)
    assert np.mean([float(text[5]) for text in directed]) == pytest.approx(90, abs=10)


def test_a_blur_of_lr_counts_in_hr_pixels():
    image = _photo(8, 8)
    fields = {"sigma": (1.2, 1.2), "tail_share": 0.0, "anisotropic": 0.0}
    blurred, _ = Blur(**fields).apply(image, _random(), 2)
    expected = degradations.blur(image, degradations.gaussian_kernel(0.6, 0.6, 0))
    np.testing.assert_array_equal(blurred, expected)


def test_reductions_come_as_often_as_their_weights_say():
    counts = Counter(_drawn(Reduction(bicubic=2, area=1, lanczos=0, point=1), 2000, 2))
    assert counts.keys() == {"bicubic", "area", "point"}
    assert counts["bicubic"] / 2000 == pytest.approx(0.5, abs=0.04)
    assert counts["point"] / 2000 == pytest.approx(0.25, abs=0.04)


def test_qualities_phases_and_subsamplings_are_even():
    image = np.full((32, 32, 3), 128, np.float32)
    random = _random()
    words = [Jpeg().apply(image, random)[1].split() for _ in range(3000)]
    qualities = [int(text[1]) for text in words]
    assert min(qualities) == 30 and max(qualities) == 100
    assert np.mean(qualities) == pytest.approx(65, abs=1.5)
    kinds = Counter(text[2] for text in words)
    assert [kinds[kind] / 3000 for kind in ("4:4:4", "4:2:2", "4:2:0")] == pytest.approx(
        [0.3, 0.35, 0.35], abs=0.035
    )
    phases = np.array([list(map(int, text[4].split(","))) for text in words])
    for axis in (0, 1):
        counts = np.bincount(phases[:, axis], minlength=16)
        assert len(counts) == 16 and counts.min() > 130 and counts.max() < 245


def test_noise_has_the_drawn_strength_at_medium_grey():
    image = np.full((200, 200, 3), 128, np.float32)
    sigmas = []
    for seed in range(30):
        noisy, text = Noise().apply(image, _random(seed))
        sigmas.append(float(text.split()[1]))
        assert (noisy - image).std() == pytest.approx(sigmas[-1], rel=0.06, abs=0.06)
    assert 0 <= min(sigmas) < 1.5 and 6.5 < max(sigmas) <= 8


def test_shares_of_what_happens():
    camera = Camera(second_round=0.25, gain=Gain(share=0.4), sharpening=Sharpening(share=0.6))
    camera.validate()
    hr, random = np.full((8, 8, 3), 100, np.uint8), _random()
    drawn = [camera.degrade(hr, random, 2) for _ in range(1500)]
    assert np.mean([each is None for each in drawn]) == pytest.approx(0.3, abs=0.04)
    words = [each[2] for each in drawn if each is not None]
    for word, share in (("gain", 0.4), ("blur", 1), ("sharpened", 0.6), ("noise", 0.7), ("JPEG", 0.7)):
        rounds = 1 if word == "gain" else 1.25
        assert np.mean([text.count(word) for text in words]) == pytest.approx(share * rounds, abs=0.07)
    assert any(
        text.index("JPEG") < text.index("bicubic") for text in _words(Camera(early_jpeg=Jpeg(share=1)))
    )


def _words(camera):
    hr, random = np.full((8, 8, 3), 100, np.uint8), _random()
    drawn = (camera.degrade(hr, random, 2) for _ in range(100))
    return [each[2] for each in drawn if each is not None and "bicubic" in each[2] and "JPEG" in each[2]]


def test_gain_changes_lr_and_hr_alike():
    camera = Camera(clean=0, gain=Gain(1, (0.5, 0.5), (1, 1)), noise=Noise(0), jpeg=Jpeg(0))
    degraded = camera.degrade(np.full((8, 8, 3), 100, np.uint8), _random(), 2)
    assert degraded is not None
    assert (degraded[0] == 50).all() and (degraded[1] == 50).all()


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (Blur(sigma=(1, 0.5)), r"Blur: sigma is \(1, 0.5\), expected two numbers from 0 to 10"),
        (Blur(tail=1.0), "Blur: tail is 1.0, expected 1.4 to 10"),
        (Reduction(0, 0, 0, 0), "Reduction: bicubic is 0, expected not all 0"),
        (Noise(share=1.5), "Noise: share is 1.5, expected 0 to 1"),
        (Jpeg(quality=(0, 50)), r"Jpeg: quality is \(0, 50\), expected two numbers from 1 to 100"),
        (Gain(colour=(1, 1, 1)), "Gain: colour is"),
        (Sharpening(amount=(-1, 1)), "Sharpening: amount is"),
        (Camera(jpeg=Jpeg(share=-1)), "Jpeg: share is -1"),
        (Camera(clean=2), "Camera: clean is 2, expected 0 to 1"),
    ],
)
def test_what_cannot_be_is_said(part, message):
    with pytest.raises(ValueError, match=message):
        part.validate()


# --------------------------------------------------------------------------------------------- sources


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for part, count in (("a", 3), ("b", 5)):
        (folder / part).mkdir()
        for number in range(count):
            photo = images.Photo(golden.photo(48, 64, seed=number), images.Metadata(), "PNG")
            images.write_photo(photo, folder / part / f"{part}{number}.png")
    return folder


def _open(folder, *sources, **options):
    for source in sources:
        source.validate(2)
    return open_pairs(sources, scale=2, decoded_dir=str(folder / "decoded"), **options)


def test_a_sample_depends_on_seed_and_number_only(folder):
    pairs = _open(folder, Degraded(str(folder / "a")))
    options = {"patch_size": 16, "seed": 3}
    samples = [make_sample(pairs, number, **options)["lr"] for number in range(12)]
    np.testing.assert_array_equal(make_sample(pairs, 7, **options)["lr"], samples[7])
    for threads in (1, 4):
        batches = make_batches(pairs, batch_size=4, n_steps=3, read_threads=threads, **options)
        np.testing.assert_array_equal(np.concatenate([batch["lr"] for batch in batches]), samples)
    assert (make_sample(pairs, 7, patch_size=16, seed=4)["lr"] != samples[7]).any()
    drawn = {make_told_sample(pairs, number, **options)[1] for number in range(40)} - {"clean"}
    assert len(drawn) > 15  # of three images


def test_crops_and_clean_samples_are_those_of_the_plain_source(folder):
    plain, degraded = (_open(folder, kind(str(folder / "a"))) for kind in (HrFolder, Degraded))
    clean = Counter()
    for number in range(60):
        sample, words = make_told_sample(degraded, number, patch_size=32, seed=0)
        expected = make_sample(plain, number, patch_size=32, seed=0)
        np.testing.assert_array_equal(sample["hr"], expected["hr"])
        assert sample["lr"].dtype == np.uint8 and sample["lr"].shape == (16, 16, 3)
        assert np.array_equal(sample["lr"], expected["lr"]) or words != "clean"
        assert np.abs(sample["lr"].astype(float) - expected["lr"]).mean() < 25
        clean[words == "clean"] += 1
    assert 8 < clean[True] < 30


def test_a_crop_is_degraded_with_what_is_around_it(folder):
    still = Camera(
        0, blur=Blur(1, (2, 2), 0, 2, 0), noise=Noise(0), jpeg=Jpeg(0), reduction=Reduction(1, 0, 0)
    )
    pairs = _open(folder, Degraded(str(folder / "a"), camera=still))
    whole = pairs[0]
    blurred = degradations.blur(whole.hr.astype(np.float32), degradations.gaussian_kernel(2, 2, 0))
    np.testing.assert_allclose(whole.lr, degradations.reduce(blurred, 2, "bicubic"), atol=1.5)
    lr, hr = pairs.crop(0, slice(2, 10), slice(20, 32))
    assert np.abs(lr.astype(int) - whole.lr[2:10, 20:32]).max() <= 1
    np.testing.assert_array_equal(hr, whole.hr[4:20, 40:64])


def test_validation_degrades_each_image_once_and_for_all(folder):
    pairs = _open(folder, Degraded(str(folder / "a"), camera=Camera(clean=0)))
    again = _open(folder, Degraded(str(folder / "a"), camera=Camera(clean=0)))
    for pair, other in zip(pairs, again, strict=True):
        assert pair.lr.shape == (24, 32, 3) and pair.hr.shape == (48, 64, 3)
        np.testing.assert_array_equal(pair.lr, other.lr)


def test_parts_of_a_mixture_have_their_shares_and_even_epochs(folder):
    a, b = HrFolder(str(folder / "a")), Degraded(str(folder / "b"))
    pairs = _open(folder, Mixed((a, 1), (b, 3)))
    assert len(pairs) == 8
    names = batch_names(pairs, 0, batch_size=4000, seed=5)
    counts = Counter(name.rpartition("/")[2] for name in names)
    assert [counts[f"a{number}.png"] for number in range(3)] == pytest.approx([1000 / 3] * 3, abs=1)
    assert [counts[f"b{number}.png"] for number in range(5)] == [600] * 5
    assert names[1234:1238] == batch_names(pairs, 1, batch_size=1234, seed=5)[:4]
    assert names != batch_names(pairs, 0, batch_size=4000, seed=6)
    starts = Counter("/a/" in name for name in names[:100])
    assert 10 < starts[True] < 45


def test_odd_shares_come_out_in_the_long_run(folder):
    a, b = HrFolder(str(folder / "a")), HrFolder(str(folder / "b"))
    pairs = _open(folder, Mixed((a, 1), (b, math.pi)))
    names = batch_names(pairs, 0, batch_size=30_000, seed=0)
    assert sum("/a/" in name for name in names) == pytest.approx(30_000 / (1 + math.pi), abs=1)


def test_mixtures_that_cannot_be_are_said(folder):
    a = HrFolder(str(folder / "a"))
    for mixture, message in (
        (Mixed(), "Mixed: parts is"),
        (Mixed((a, 0)), "Part: share is 0, expected more than 0"),
        (Mixed((Mixed((a, 1)), 1)), "no mixture in a mixture"),
        (Mixed((HrFolder(), 1)), "HrFolder: hr is ''"),
    ):
        with pytest.raises(ValueError, match=message):
            mixture.validate(2)
    (folder / "bad").mkdir()
    (folder / "bad" / "c.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="no pair of this part of the mixture"):
        _open(folder, Mixed((a, 1), (HrFolder(str(folder / "bad")), 1)), skip_bad=True)
