"""Photos through networks: the model ensemble, operations in tiles, transparency, grey and 16 bits."""

import itertools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realsr_jax import images, ops
from realsr_jax.images import ImageError, Metadata, Photo
from realsr_jax.models.precision import Precision
from realsr_jax.upscaling import photo_upscaling, upscaler
from realsr_jax.upscaling.canvas import round_to
from realsr_jax.upscaling.inference_config import InferenceConfig, ModelRun
from realsr_jax.upscaling.photo_upscaling import make_smoothing, smooth, upscale_photo
from realsr_jax.upscaling.tiled_network import TiledNetwork
from realsr_jax.upscaling.tilings import UniformTiles, WholeImage
from realsr_jax.upscaling.upscaler import BicubicUpscaler, ImageUpscaler, ModelEnsemble
from realsr_jax.weights import load_mixed


class Fixed(ImageUpscaler):
    """An upscaler that returns the same result for every image."""

    def __init__(self, result):
        network = TiledNetwork(
            lambda _, lr: jnp.asarray(result, jnp.float32)[None],
            (),
            scale=1,
            tilings=[WholeImage()],
            precision=Precision("float32"),
        )
        super().__init__([network], scale=1)


def average(results, shares, *, lr=None, **options):
    lr = np.zeros(results[0].shape, np.uint8) if lr is None else lr
    return ModelEnsemble([Fixed(result) for result in results], shares, **options)(lr)


def published_average(results, shares):
    """The published formula before its final rounding."""
    shares = np.asarray(shares, np.float64)
    total = sum(
        image * share / shares.mean() / len(shares) for image, share in zip(results, shares, strict=True)
    )
    return np.clip(total, 0, 255)


def random_results(count, seed=0, shape=(9, 11, 3)):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, 256, shape).astype(np.float64) for _ in range(count)]


# Model ensemble


def test_golden_ensemble():
    case = golden.case("model_ensemble")
    mean = average(list(case["images"]), case["weights"])
    exact = case["images"].astype(np.float64).mean(axis=0)
    assert (exact % 1 == 0.5).sum() > 100  # ties, which the quantised result rounds to even
    np.testing.assert_array_equal(np.rint(mean).astype(np.uint8), case["out"])


@pytest.mark.parametrize("share", [1.0, 0.1, 3.0])
@pytest.mark.parametrize("count", [2, 6, 10])
def test_ties_of_equal_networks_are_exact(count, share):
    results = random_results(count)
    mean = average(results, [share] * count)
    exact = np.sum(results, axis=0) / count
    is_tie = exact % 1 == 0.5
    assert is_tie.any()
    np.testing.assert_array_equal(mean[is_tie], exact[is_tie])


@pytest.mark.parametrize("shares", [(2, 1, 1), (0.3, 0.9, 0.1), (1, 2, 3, 4)])
def test_shares_count_by_their_ratio(shares):
    results = random_results(len(shares))
    expected = published_average(results, shares)
    mean = average(results, shares)
    np.testing.assert_allclose(mean, expected, atol=1e-4)
    is_tie = np.abs(expected % 1 - 0.5) < 1e-4  # the published float64 does not hit all of them exactly
    np.testing.assert_array_equal(np.rint(mean)[~is_tie], np.round(expected)[~is_tie])
    scaled = [7 * share for share in shares]
    np.testing.assert_allclose(average(results, scaled), average(results, shares), atol=1e-4)


def test_each_result_is_clipped_and_rounded_first():
    results = [np.full((2, 2, 3), value) for value in (-40.0, 300.0, 10.5)]
    np.testing.assert_allclose(average(results, [1, 1, 1]), (0 + 255 + 10) / 3, rtol=1e-6)


def test_in_float_neither():
    results = [np.full((2, 2, 3), value) for value in (-40.0, 300.0, 10.5)]
    expected = (-40 + 300 + 10.5) / 3
    np.testing.assert_allclose(average(results, [1, 1, 1], round_each=False), expected, rtol=1e-6)


def test_16_bits_are_not_rounded():
    results = [np.full((2, 2, 3), value) for value in (10.25, 11.0)]
    lr = np.zeros((2, 2, 3), np.float32)
    np.testing.assert_array_equal(average(results, [1, 1], lr=lr), np.full((2, 2, 3), 10.625))


def test_different_scales_are_refused():
    with pytest.raises(ValueError, match=r"scales are \[2, 4\]"):
        ModelEnsemble([BicubicUpscaler(2), BicubicUpscaler(4)], [1, 1])


def test_ensemble_progress_runs_once_from_zero_to_one():
    shares = []
    results = random_results(2)
    ensemble = ModelEnsemble([Fixed(result) for result in results], [1, 1])
    ensemble(np.zeros(results[0].shape, np.uint8), progress=shares.append)
    assert shares == [0.5, 1.0]


# Rounding on the device


def test_rounding_goes_to_even_and_clips():
    sr = np.float32([-3, -0.4, 0.5, 1.5, 2.5, 254.5, 255.4, 300, 7]).reshape(1, 3, 3)
    assert Fixed(sr).upscale(np.zeros((1, 3, 3), np.uint8), np.uint8).ravel().tolist() == [
        *(0, 0, 0, 2, 2, 254, 255, 255, 7)
    ]
    sr = np.float32([-1, 0.5, 1, 255, 256, 1.5, 2, 3, 4]).reshape(1, 3, 3)
    assert Fixed(sr).upscale(np.zeros((1, 3, 3), np.uint8), np.uint16).ravel().tolist() == [
        *(0, 128, 257, 65535, 65535, 386, 514, 771, 1028)
    ]


def test_all_levels_survive_the_way_to_the_device_and_back():
    for dtype in (np.uint8, np.uint16):
        levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
        image = np.broadcast_to(levels.reshape(-1, 16, 1), (len(levels) // 16, 16, 3))
        identity = TiledNetwork(
            lambda _, lr: lr, (), scale=1, tilings=[UniformTiles(128, 8)], precision=Precision("float32")
        )
        np.testing.assert_array_equal(ImageUpscaler([identity], scale=1).upscale(image, dtype), image)


def test_grey_is_the_mean_of_the_channels():
    sr = np.random.default_rng(0).uniform(-20, 280, (13, 7, 3)).astype(np.float32)
    grey = Fixed(sr).upscale(np.zeros(sr.shape, np.uint8), np.uint8, channels=1)
    expected = np.clip(np.rint(sr.astype(np.float64).mean(axis=-1)), 0, 255)
    np.testing.assert_array_equal(grey[..., 0], expected)
    equal = np.float32([0.5, 1.5, 100.1, 200.5]).reshape(2, 2, 1).repeat(3, axis=-1)
    assert Fixed(equal).upscale(np.zeros((2, 2, 3), np.uint8), np.uint8, channels=1).ravel().tolist() == [
        *(0, 2, 100, 200)
    ]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_integers_that_are_not_finite_are_refused(bad):
    lr = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(FloatingPointError, match="not finite"):
        Fixed(np.full((2, 2, 3), bad)).upscale(lr, np.uint8)
    assert not np.isfinite(Fixed(np.full((2, 2, 3), bad))(lr)).any()


# Operations in tiles


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(photo_upscaling, "_TILE", 16)
    monkeypatch.setattr(upscaler, "_BICUBIC", UniformTiles(24, 12, blended=False))


@pytest.mark.parametrize(("height", "scale"), [(1, 2), (3, 3), (15, 2), (16, 3), (17, 2), (32, 2), (43, 3)])
@pytest.mark.usefixtures("small_tiles")
def test_bicubic_in_tiles(height, scale):
    lr = golden.photo(height, 13)
    shares = []
    sr = BicubicUpscaler(scale)(lr, progress=shares.append)
    expected = np.asarray(jax.jit(ops.resize_bicubic, static_argnums=1)(lr[None], scale))[0]
    assert sr.shape == (height * scale, 13 * scale, 3)
    assert sr.dtype == np.float32
    np.testing.assert_allclose(sr, expected, atol=1 / 255 + 1e-4)  # a tie at 1/255 may fall to either side
    assert (np.abs(sr - expected) > 1e-4).mean() < 1e-3
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1),
        *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((2, 30), (16, 9), (45, 9))),
        (17, 25),
    ],
)
@pytest.mark.usefixtures("small_tiles")
def test_guided_filter_in_tiles(shape):
    image = golden.photo(*shape)
    sr = image.astype(np.float32)
    expected = np.asarray(jax.jit(ops.guided_filter)(sr, sr))
    np.testing.assert_allclose(smooth(image), expected, atol=0.51)
    deep = smooth(image, np.uint16)
    np.testing.assert_allclose(deep / 257, expected, atol=2e-2)
    np.testing.assert_array_equal(smooth(image.astype(np.uint16) * 257), smooth(image))
    grey = round_to(jnp.asarray(expected), np.dtype(np.uint8), channels=1)
    np.testing.assert_allclose(smooth(image, channels=1), grey, atol=1)


@pytest.mark.slow
def test_guided_filter_in_several_threads():
    """Tiles of one photo run side by side; XLA's own solvers would wait for each other for ever."""
    image = golden.photo(560, 1060)
    expected = np.asarray(jax.jit(ops.guided_filter)(image, image))
    np.testing.assert_allclose(smooth(image), expected, atol=0.51)


# Photos


def make_photo(rgb, alpha=None, *, is_grey=False, format="PNG"):
    colours = rgb[..., :1] if is_grey else rgb
    samples = colours if alpha is None else np.dstack([colours, alpha])
    return Photo(samples, Metadata(dpi=(72.0, 72.0)), format)


def test_grey_stays_grey():
    plane = golden.photo(9, 12)[..., :1]
    photo = make_photo(np.broadcast_to(plane, (9, 12, 3)), is_grey=True)
    result = upscale_photo(photo, BicubicUpscaler(), format="PNG")
    assert result.is_grey
    expected = np.asarray(ops.resize_bicubic(plane[None], 2))[0, ..., 0]
    np.testing.assert_array_equal(result.rgb[..., 0], np.rint(np.clip(expected, 0, 255)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_opaque_and_transparent_stay_exactly_so(dtype):
    top = np.iinfo(dtype).max
    alpha = np.zeros((16, 20), dtype)
    alpha[:, 10:] = top
    photo = make_photo(golden.photo(16, 20).astype(dtype), alpha)
    result = upscale_photo(photo, BicubicUpscaler(), format="PNG")
    assert result.alpha is not None
    assert result.alpha.dtype == dtype
    assert (result.alpha[:, : 2 * 10 - 4] == 0).all()
    assert (result.alpha[:, 2 * 10 + 4 :] == top).all()
    edge = result.alpha[0, 2 * 10 - 4 : 2 * 10 + 4].astype(int)
    assert (np.diff(edge) >= 0).all()  # the overshoot of bicubic interpolation is clipped


def test_16_bits_really_are_16_bits():
    ramp = np.linspace(0, 65535, 32 * 32).round().astype(np.uint16).reshape(32, 32)
    photo = make_photo(np.stack([ramp, ramp.T, ramp[::-1]], axis=-1), format="TIFF")
    result = upscale_photo(photo, BicubicUpscaler(), format="TIFF")
    assert result.rgb.dtype == np.uint16
    assert len(np.unique(result.rgb[..., 0])) > 256
    expected = np.asarray(ops.resize_bicubic(photo.rgb[None] / np.float32(257), 2))[0] * 257
    np.testing.assert_allclose(result.rgb, np.clip(expected, 0, 65535), atol=1.1)  # 1/255 of 8 bits is 1.008


def test_smoothing_keeps_16_bits():
    ramp = np.linspace(0, 65535, 24 * 24).round().astype(np.uint16).reshape(24, 24, 1)
    photo = make_photo(np.broadcast_to(ramp, (24, 24, 3)), is_grey=True)
    result = upscale_photo(photo, BicubicUpscaler(), format="PNG", smoothing=smooth)
    assert len(np.unique(result.rgb)) > 256


def test_smoothing_of_a_run():
    image = golden.photo(30, 40)
    sr = image.astype(np.float32)
    run = (ModelRun("bicubic"),)
    assert make_smoothing(InferenceConfig(run)) is None
    smoothing = make_smoothing(InferenceConfig(run, guided_filter=True, guided_radius=4, guided_eps=300.0))
    assert smoothing is not None
    expected = ops.guided_filter(sr, sr, radius=4, eps=300.0)
    np.testing.assert_allclose(smoothing(image), expected, atol=0.51)
    assert np.abs(expected - smooth(image)).max() > 1


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2)])
def test_tiny_photos(size):
    photo = make_photo(golden.photo(*size), np.full(size, 255, np.uint8))
    result = upscale_photo(photo, BicubicUpscaler(3), format="PNG", smoothing=smooth)
    assert result.rgb.shape == (3 * size[0], 3 * size[1], 3)
    assert (result.alpha == 255).all()


def test_metadata_travels():
    photo = make_photo(golden.photo(4, 4))
    assert upscale_photo(photo, BicubicUpscaler(), format="BMP").metadata == photo.metadata


def test_what_a_format_cannot_hold_is_refused_before_the_work():
    class Unused(BicubicUpscaler):
        def upscale(self, *args, **kwargs):
            raise AssertionError("upscaled in vain")

    transparent = make_photo(golden.photo(4, 4), np.zeros((4, 4), np.uint8))
    with pytest.raises(ImageError, match="JPEG cannot hold transparency"):
        upscale_photo(transparent, Unused(), format="JPEG")
    wide = make_photo(np.zeros((1, 10_000, 3), np.uint8))
    with pytest.raises(ImageError, match="too large for WEBP"):
        upscale_photo(wide, Unused(), format="WEBP")


def test_broken_results_are_refused():
    photo = make_photo(golden.photo(2, 2))
    with pytest.raises(images.ImageError, match="not finite"):
        upscale_photo(photo, Fixed(np.full((2, 2, 3), np.nan)), format="PNG")


# The bundled networks


def test_denoise_removes_more_and_more():
    """What is left of noise on a soft gradient falls as `denoise` rises."""
    y, x = np.mgrid[:96, :96]
    soft = np.stack([60 + y, 90 + x, 200 - y], axis=2).astype(np.float64)
    noisy = soft + np.random.default_rng(0).normal(0, 6, soft.shape)
    lr = np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)
    truth = BicubicUpscaler(2)(soft.astype(np.float32))
    network = upscaler.load_upscaler("default")
    left = []
    for denoise in (0.0, 0.25, 0.5, 0.75, 1.0):
        network.set_params(load_mixed(denoise)[1])
        left.append(float(np.std((network(lr) - truth)[16:-16, 16:-16])))
    print("noise that is left, grey levels:", [f"{each:.2f}" for each in left])
    assert all(more > less for more, less in itertools.pairwise(left))
    assert left[-1] < 0.5 * left[0]


def test_denoise_of_a_run_leads_to_the_network_for_clean_images():
    lr = golden.photo(20, 24)
    network = photo_upscaling.load_inference(InferenceConfig((ModelRun("default"),), denoise=0.0))
    np.testing.assert_allclose(network(lr), upscaler.load_upscaler("clean")(lr), atol=1e-3)
