import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realsr_jax import losses

LOSSES = {
    "l1": losses.l1,
    "mse": losses.mse,
    "clipl1_0_10": functools.partial(losses.clip_l1, clip_min=0.0, clip_max=10.0),
    "clipl1_1_10": losses.clip_l1,
    "ssim": losses.ssim_loss,
    "ms_ssim": losses.ms_ssim_loss,
}
# Compiled once for all tests of the golden case's shape.
VALUES_AND_GRADIENTS = {name: jax.jit(jax.value_and_grad(loss)) for name, loss in LOSSES.items()}


def golden_pair():
    case = golden.case("losses_metrics")
    return case["sr"], case["hr"].astype(np.float32)


def images(*shape, seed=0):
    generator = np.random.default_rng(seed)
    hr = generator.integers(0, 256, shape).astype(np.float32)
    return hr + generator.normal(0, 12, shape).astype(np.float32), hr


def ssim_by_windows(sr, hr):
    """SSIM of [h, w] from all 11x11 windows in float64: its mean, and the mean of its contrast factor."""
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / 4.5)
    weights /= weights.sum()

    def mean(windows):
        return (weights * windows).sum((2, 3), keepdims=True)

    a, b = (
        np.lib.stride_tricks.sliding_window_view(image.astype(np.float64), (11, 11)) for image in (sr, hr)
    )
    mean_a, mean_b = mean(a), mean(b)
    covariance = mean((a - mean_a) * (b - mean_b))
    contrast = (2 * covariance + 7.65**2) / (mean((a - mean_a) ** 2) + mean((b - mean_b) ** 2) + 7.65**2)
    luminance = (2 * mean_a * mean_b + 2.55**2) / (mean_a**2 + mean_b**2 + 2.55**2)
    return (luminance * contrast).mean(), contrast.mean()


def halve_by_loops(image):
    height, width = image.shape
    padded = np.pad(image, ((height % 2,) * 2, (width % 2,) * 2))
    rows, columns = padded.shape[0] // 2, padded.shape[1] // 2
    return np.array(
        [[padded[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean() for x in range(columns)] for y in range(rows)]
    )


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_those_of_the_published_code(name):
    case = golden.case("losses_metrics")
    value, gradient = VALUES_AND_GRADIENTS[name](*golden_pair())
    expected = case[f"grad_{name}"]
    np.testing.assert_allclose(value, case[f"loss_{name}"], rtol=1e-6, atol=3e-6)
    np.testing.assert_allclose(gradient[::8, ::8], expected, rtol=0, atol=2e-4 * np.abs(expected).max())


def test_pixel_losses_against_numpy():
    sr, hr = images(2, 5, 7, 3)
    error = np.abs(sr.astype(np.float64) - hr)
    np.testing.assert_allclose(losses.l1(sr, hr), error.mean(), rtol=1e-6)
    np.testing.assert_allclose(losses.mse(sr, hr), (error**2).mean(), rtol=1e-6)
    np.testing.assert_allclose(losses.clip_l1(sr, hr), np.clip(error, 1, 10).mean(), rtol=1e-6)
    smooth = np.sqrt(error**2 + 0.5**2)
    np.testing.assert_allclose(losses.charbonnier(sr, hr, eps=0.5), smooth.mean(), rtol=1e-6)
    slope = jax.grad(losses.charbonnier)(jnp.asarray(sr), hr, eps=0.5)
    np.testing.assert_allclose(slope, (sr - hr) / smooth / error.size, rtol=1e-5, atol=1e-9)
    with pytest.raises(ValueError, match="eps is 0, expected more than 0"):
        losses.charbonnier(sr, hr, eps=0)
    clipped = losses.clip_l1(sr, hr, clip_min=4.0, clip_max=5.0)
    np.testing.assert_allclose(clipped, np.clip(error, 4, 5).mean(), rtol=1e-6)


def test_ssim_loss_against_windows():
    sr, hr = images(2, 12, 14, 3)
    expected = np.mean([ssim_by_windows(sr[n, ..., c], hr[n, ..., c])[0] for n in range(2) for c in range(3)])
    np.testing.assert_allclose(losses.ssim_loss(sr, hr), 1 - expected, atol=2e-6)


def test_ssim_loss_of_one_window():
    sr, hr = images(11, 11, 1)
    np.testing.assert_allclose(
        losses.ssim_loss(sr, hr), 1 - ssim_by_windows(sr[..., 0], hr[..., 0])[0], atol=2e-6
    )


def test_ms_ssim_loss_against_windows():
    # Few windows at each scale, and odd sizes at all.
    truth = golden.photo(161, 163)[..., 0].astype(np.float64)
    restored = truth + np.random.default_rng(0).normal(0, 20, truth.shape)
    sr, hr, product = restored, truth, 1.0
    for level, weight in enumerate(losses.MS_SSIM_WEIGHTS):
        if level > 0:
            sr, hr = halve_by_loops(sr), halve_by_loops(hr)
        similarity, contrast = ssim_by_windows(sr, hr)
        product *= (similarity if level == 4 else contrast) ** weight
    loss = jax.jit(losses.ms_ssim_loss)(restored[..., None], truth[..., None])
    np.testing.assert_allclose(loss, 1 - product, atol=2e-6)


def test_ms_ssim_loss_of_opposites_is_one_with_finite_gradients():
    _, hr = golden_pair()
    value, gradient = VALUES_AND_GRADIENTS["ms_ssim"](255 - hr, hr)
    assert value == 1
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["l1", "mse", "clipl1_0_10", "ssim", "ms_ssim"])
def test_identical_images_have_no_loss_and_no_gradient(name):
    _, hr = golden_pair()
    value, gradient = VALUES_AND_GRADIENTS[name](hr, hr)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


def test_clip_l1_has_no_gradient_outside_its_limits():
    sr = jnp.array([0.5, -0.5, 3.0, -3.0, 11.0, -11.0]).reshape(1, 6, 1)
    gradient = jax.grad(losses.clip_l1)(sr, jnp.zeros_like(sr))
    np.testing.assert_allclose(gradient.ravel(), np.array([0, 0, 1, -1, 0, 0]) / 6, rtol=1e-6)


# Five times SSIM: eager MS-SSIM compiles every operation for every scale and shows nothing new.
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "ms_ssim"])
def test_jit_equals_eager(name):
    sr, hr = golden_pair()
    eager = LOSSES[name](sr, hr)
    assert eager.shape == () and eager.dtype == jnp.float32
    np.testing.assert_allclose(VALUES_AND_GRADIENTS[name](sr, hr)[0], eager, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["l1", "ssim", "ms_ssim"])
def test_batches_are_means_over_images(name):
    sr, hr = golden_pair()
    single = [VALUES_AND_GRADIENTS[name](image, hr)[0] for image in (sr, sr[::-1])]
    batch = jax.jit(LOSSES[name])(np.stack([sr, sr[::-1]]), np.stack([hr, hr]))
    np.testing.assert_allclose(batch, np.mean(single), rtol=1e-5)


def test_integers_do_not_wrap_around():
    sr, hr = np.zeros((1, 2, 3), np.uint8), np.full((1, 2, 3), 200, np.uint8)
    assert losses.l1(sr, hr) == 200


@pytest.mark.parametrize("name", LOSSES)
def test_shapes_are_checked(name):
    image = np.zeros((200, 200, 3))
    with pytest.raises(ValueError, match=r"expected \(200, 200, 3\), got \(1, 200, 200, 3\)"):
        LOSSES[name](image[None], image)
    with pytest.raises(ValueError, match=r"expected 3 or 4 axes, got \(200, 200\)"):
        LOSSES[name](image[..., 0], image[..., 0])
    with pytest.raises(ValueError, match=r"expected positive sizes, got \(0, 200, 3\)"):
        LOSSES[name](image[:0], image[:0])


@pytest.mark.parametrize(("loss", "size"), [(losses.ssim_loss, 11), (losses.ms_ssim_loss, 161)])
def test_images_smaller_than_the_window_are_refused(loss, size):
    image = np.zeros((size, size - 1, 3))
    with pytest.raises(ValueError, match=f"at least {size}x{size}, got {size}x{size - 1}"):
        loss(image, image)


def test_clip_l1_limits_are_checked():
    with pytest.raises(ValueError, match=r"at most 1\.0, got 2\.0"):
        losses.clip_l1(np.zeros((1, 1, 3)), np.zeros((1, 1, 3)), clip_min=2.0, clip_max=1.0)
