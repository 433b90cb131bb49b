"""From Python: arrays of all kinds, files, and what an upscaler says of itself."""

import golden
import numpy as np
import pytest

import realsr_jax
from realsr_jax import images
from realsr_jax.convert.rules import to_flax
from realsr_jax.images import Metadata, Photo
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.upscaling.upscaler import BicubicUpscaler, load_upscaler
from realsr_jax.weights import save_weights

TINY = EDSRConfig(n_resblocks=2, n_feats=8, res_scale=1.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    save_weights(folder, TINY, to_flax(TINY, golden.state_dict("edsr_tiny")), provenance={})
    return folder


def expected(weights, lr):
    return np.clip(load_upscaler(weights)(lr), 0, 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_rgb_of_any_type(weights, dtype):
    lr = golden.photo(20, 30)
    peak = {np.uint16: 65535, np.float32: 1.0, np.float64: 255.0}.get(dtype, 255)
    image = lr if dtype == np.uint8 else (lr / 255 * peak).astype(dtype)
    given = {} if np.issubdtype(dtype, np.integer) else {"peak": peak}
    sr = realsr_jax.upscale(image, weights=weights, **given)
    assert sr.shape == (40, 60, 3)
    assert sr.dtype == dtype
    np.testing.assert_allclose(
        sr / peak * 255, expected(weights, lr), atol=0.51 if dtype == np.uint8 else 0.01
    )


def test_grey_keeps_its_axes(weights):
    grey = golden.photo(20, 30)[..., :1]
    mean = expected(weights, np.repeat(grey, 3, axis=2)).mean(axis=2)
    flat, with_axis = (
        realsr_jax.upscale(grey[..., 0], weights=weights),
        realsr_jax.upscale(grey, weights=weights),
    )
    np.testing.assert_array_equal(flat, with_axis[..., 0])
    np.testing.assert_allclose(flat, mean, atol=0.6)


@pytest.mark.parametrize("colours", [1, 3])
def test_opacity_is_enlarged_bicubically(weights, colours):
    opacity = (1 + np.arange(600).reshape(20, 30, 1) % 250).astype(np.uint8)
    image = np.concatenate([golden.photo(20, 30)[..., :colours], opacity], axis=2)
    sr = realsr_jax.upscale(image, weights=weights)
    np.testing.assert_array_equal(sr[..., -1:], BicubicUpscaler(2).upscale(opacity, np.uint8))
    np.testing.assert_array_equal(sr[..., :-1], realsr_jax.upscale(image[..., :-1], weights=weights))


def test_any_scale(weights):
    assert realsr_jax.upscale(golden.photo(20, 30), weights=weights, scale=1.5).shape == (30, 45, 3)


@pytest.mark.parametrize(
    ("image", "options", "reason"),
    [
        (np.full((4, 4, 3), 0.5, np.float32), {}, "say what white is, peak=1"),
        (np.full((4, 4, 3), 1.5, np.float32), {"peak": 1.0}, "from 1.5 to 1.5, expected 0 to peak, 1"),
        (np.full((4, 4, 3), np.nan), {"peak": 1.0}, "nan"),
        (np.full((4, 4, 3), -1.0), {"peak": 255.0}, "from -1 to -1"),
        (np.zeros((4, 4, 3)), {"peak": 0.0}, "expected 0 to peak, 0"),
        (np.zeros((4, 4, 3), np.uint8), {"peak": 255}, "uint8, whose white is 255"),
        (np.zeros((4, 4, 3), np.int64), {}, "int64"),
        (np.zeros((4, 4, 5), np.uint8), {}, r"\(4, 4, 5\)"),
        (np.zeros((0, 4), np.uint8), {}, r"\(0, 4\)"),
        (np.zeros(4, np.uint8), {}, r"\(4,\)"),
        ("photo.jpg", {}, "the path .photo.jpg., expected an array; upscale_file"),
    ],
)
def test_what_is_no_image_is_refused(image, options, reason):
    with pytest.raises(ValueError, match=reason):
        realsr_jax.upscale(image, **options)


def test_files(weights, tmp_path):
    lr = golden.photo(20, 30)
    images.write_photo(Photo(lr, Metadata(dpi=(72.0, 72.0)), "PNG"), tmp_path / "a.png")
    upscaler = realsr_jax.load_upscaler(weights)
    upscaler.upscale_file(tmp_path / "a.png", tmp_path / "b.tif", scale=3)
    result = images.read_photo(tmp_path / "b.tif")
    assert result.format == "TIFF"
    assert result.samples.shape == (60, 90, 3)
    upscaler.upscale_file(str(tmp_path / "a.png"), str(tmp_path / "c.png"))
    np.testing.assert_allclose(images.read_photo(tmp_path / "c.png").rgb, expected(weights, lr), atol=0.51)
    for name in ("c.xyz", "c.gif"):
        with pytest.raises(images.ImageError, match=rf"{name}: unknown ending, .*\.jpg"):
            upscaler.upscale_file(tmp_path / "a.png", tmp_path / name)


def test_a_transparent_file_becomes_jpeg_on_a_background(tmp_path):
    half = np.concatenate([golden.photo(20, 30), np.zeros((20, 30, 1), np.uint8)], axis=-1)
    images.write_photo(Photo(half, Metadata(), "PNG"), tmp_path / "a.png")
    options = {"background": (10, 200, 30), "quality": 100}
    BicubicUpscaler().upscale_file(tmp_path / "a.png", tmp_path / "b.jpg", **options)
    result = images.read_photo(tmp_path / "b.jpg").samples
    np.testing.assert_allclose(np.median(result, (0, 1)), (10, 200, 30), atol=3)


def test_the_white_of_floats_can_be_said_to_an_upscaler(weights):
    upscaler, lr = realsr_jax.load_upscaler(weights), golden.photo(20, 30)
    scaled = upscaler((lr / 255).astype(np.float32), peak=1.0)
    np.testing.assert_allclose(255 * scaled, expected(weights, lr), atol=1e-3)
    overshooting = np.full((8, 8, 3), 0.5, np.float32)
    overshooting[0, 0] = 1.02
    with pytest.raises(ValueError, match=r"up to 1\.02: say what white is"):
        upscaler(overshooting)
    for image, peak in ((lr, 255.0), (overshooting, 0.0)):
        with pytest.raises(ValueError, match="above 0 of float32"):
            upscaler(image, peak=peak)


def test_floats_are_not_rounded(weights):
    lr = golden.photo(20, 30).astype(np.float32)
    np.testing.assert_allclose(
        realsr_jax.upscale(lr, weights=weights, peak=255.0), expected(weights, lr), atol=1e-3
    )
    step = np.float32(1e-4)  # a 16th of what 16 bits tell apart
    image = np.full((8, 8, 3), 0.5, np.float32)
    difference = realsr_jax.upscale(image + step, weights=weights, peak=255.0, scale=1.0)
    difference -= realsr_jax.upscale(image, weights=weights, peak=255.0, scale=1.0)
    assert np.abs(difference).max() > 0


def test_completion_shows_public_names_only():
    shown = [name for name in dir(realsr_jax) if not name.startswith("_")]
    assert shown == ["Upscaler", "load_upscaler", "losses", "metrics", "ops", "upscale"]
    assert all(callable(getattr(realsr_jax, name)) or name in ("losses", "metrics", "ops") for name in shown)


def test_an_upscaler_tells_what_it_is(weights):
    told = repr(load_upscaler(weights, chop_size=450, shave_size=80, self_ensemble=True))
    assert "x2" in told
    assert "EDSRConfig(n_resblocks=2" in told
    assert "QuarterTiles(chop_size=450, shave_size=80)" in told
    assert "self-ensemble" in told
