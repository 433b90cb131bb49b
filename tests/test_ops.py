"""The numerics-critical functions against plain NumPy loops and the published code's results."""

import functools

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realsr_jax import ops
from realsr_jax.models import build_model
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.ops import minimal_filtering


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def conv_by_loops(image, kernel, *, edge_padding=False, dilation=1):
    n, h, w, _ = image.shape
    kh, kw, _, channels = kernel.shape
    out = np.zeros((n, h, w, channels))
    for y, x, dy, dx in np.ndindex(h, w, kh, kw):
        row, column = y + dilation * (dy - kh // 2), x + dilation * (dx - kw // 2)
        inside = 0 <= row < h and 0 <= column < w
        if inside or edge_padding:
            pixel = image[:, np.clip(row, 0, h - 1), np.clip(column, 0, w - 1)]
            out[:, y, x] += pixel.astype(np.float64) @ kernel[dy, dx]
    return out


def dynamic_filter_by_loops(image, kernels):
    h, w, c = image.shape[1:]
    size = round((kernels.shape[-1] // c) ** 0.5)
    out = np.zeros(image.shape)
    for y, x, i, dy, dx in np.ndindex(h, w, c, size, size):
        row, column = y + dy - size // 2, x + dx - size // 2
        if 0 <= row < h and 0 <= column < w:
            out[:, y, x, i] += kernels[:, y, x, (dy * size + dx) * c + i] * image[:, row, column, i]
    return out


def resize_row_by_loops(row, scale):
    """Resizes one row of pixels from the formula, without the final rounding."""
    stretch = max(1, 1 / scale)
    out = []
    for i in range(int(np.ceil(len(row) * scale))):
        centre = (i + 0.5) / scale - 0.5
        total = weights = 0.0
        for j in range(int(centre - 2 * stretch) - 2, int(centre + 2 * stretch) + 3):
            x = abs(j - centre) / stretch
            weight = 0.0
            if x <= 1:
                weight = 1.5 * x**3 - 2.5 * x**2 + 1
            elif x < 2:
                weight = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            total += weight * row[min(max(j, 0), len(row) - 1)]
            weights += weight
        out.append(total / weights)
    return out


def resize_by_loops(image, scale):
    for axis in (0, 1):
        image = np.apply_along_axis(resize_row_by_loops, axis, image.astype(np.float64), scale)
    return np.round(255 * image) / 255


def guided_filter_by_loops(guide, image, radius, eps):
    """Fits a ridge regression in each window, then averages what the windows around a pixel predict."""
    guide, image = guide.astype(np.float64), image.astype(np.float64)
    h, w, channels = guide.shape

    def windows(maps):
        padding = (radius, radius), (radius, radius), *[(0, 0)] * (maps.ndim - 2)
        padded = np.pad(maps, padding, mode="symmetric")
        for y, x in np.ndindex(h, w):
            window = padded[y : y + 2 * radius + 1, x : x + 2 * radius + 1]
            yield window.reshape(-1, *maps.shape[2:])

    fits = []
    for colours, targets in zip(windows(guide), windows(image), strict=True):
        penalty = np.hstack([np.sqrt(len(colours) * eps) * np.eye(channels), np.zeros((channels, 1))])
        rows = np.vstack([np.hstack([colours, np.ones((len(colours), 1))]), penalty])
        fits.append(np.linalg.lstsq(rows, np.vstack([targets, np.zeros((channels, targets.shape[1]))]))[0])
    means = [window.mean(axis=0) for window in windows(np.reshape(fits, (h, w, channels + 1, -1)))]
    predictions = [np.append(guide[yx], 1) @ mean for yx, mean in zip(np.ndindex(h, w), means, strict=True)]
    return np.reshape(predictions, image.shape)


CONVOLUTIONS = [
    *(((kh, kw), edge, 1) for kh, kw in ((3, 3), (5, 5), (1, 5), (5, 1)) for edge in (False, True)),
    ((3, 3), False, 3),
    ((3, 3), True, 2),
]


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (6, 4)])
@pytest.mark.parametrize(("kernel_size", "edge_padding", "dilation"), CONVOLUTIONS)
def test_conv2d_against_loops(size, kernel_size, edge_padding, dilation):
    image, kernel = random(2, *size, 3), random(*kernel_size, 3, 2, seed=1)
    options = {"edge_padding": edge_padding, "dilation": dilation}
    actual = jax.jit(functools.partial(ops.conv2d, **options))(image, kernel)
    np.testing.assert_allclose(actual, conv_by_loops(image, kernel, **options), atol=1e-5)


@pytest.mark.parametrize(("block", "shape"), [(2, (2, 4, 6, 3)), (3, (1, 3, 6, 2)), (4, (1, 4, 8, 1))])
def test_space_to_depth_and_pixel_shuffle_against_loops(block, shape):
    image = random(*shape)
    n, h, w, c = shape
    deep = np.empty((n, h // block, w // block, c * block**2), np.float32)
    for y, x, i, dy, dx in np.ndindex(h // block, w // block, c, block, block):
        deep[:, y, x, i * block**2 + dy * block + dx] = image[:, y * block + dy, x * block + dx, i]
    np.testing.assert_array_equal(ops.space_to_depth(image, block), deep)
    np.testing.assert_array_equal(ops.pixel_shuffle(deep, block), image)


@pytest.mark.parametrize(("size", "shape"), [(3, (2, 4, 5, 3)), (5, (1, 2, 3, 3)), (7, (1, 1, 1, 3))])
def test_dynamic_filter_against_loops(size, shape):
    image, kernels = random(*shape), random(*shape[:3], size**2 * shape[3], seed=1)
    np.testing.assert_allclose(
        jax.jit(ops.dynamic_filter)(image, kernels), dynamic_filter_by_loops(image, kernels), atol=1e-5
    )


def test_dynamic_filter_computes_in_the_images_type():
    image, kernels = 255 * random(1, 4, 5, 3), random(1, 4, 5, 27, seed=1).astype(jnp.bfloat16)
    filtered = jax.jit(ops.dynamic_filter)(image, kernels)
    assert filtered.dtype == jnp.float32
    expected = dynamic_filter_by_loops(image, kernels.astype(np.float32))
    np.testing.assert_allclose(filtered, expected, rtol=1e-5, atol=1e-3)


def temporary_bytes(function, *arguments):
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_dynamic_filter_stores_no_shifted_images():
    image, kernels = (jax.ShapeDtypeStruct((1, 64, 64, c), jnp.float32) for c in (3, 147))
    copies = 49 * 64 * 64 * 3 * 4
    assert temporary_bytes(ops.dynamic_filter, image, kernels) < copies / 10


def dynamic_filter_by_gathering(image, kernels):
    h, w, c = image.shape[1:]
    r = round((kernels.shape[-1] // c) ** 0.5) // 2
    padded = jnp.pad(image, ((0, 0), (r, r), (r, r), (0, 0)))
    copies = [padded[:, y : y + h, x : x + w] for y, x in np.ndindex(2 * r + 1, 2 * r + 1)]
    patches = jax.lax.optimization_barrier(jnp.concatenate(copies, axis=-1))
    return (patches * kernels).reshape(*image.shape[:3], -1, c).sum(axis=-2)


def test_dynamic_filter_stores_no_shifted_images_inside_a_network(monkeypatch):
    monkeypatch.setattr(minimal_filtering, "pays", lambda *_: False)  # it needs more memory at another time
    network = build_model(OADDetConfig(n_resblocks=1, n_feats=8))
    lr = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(network.init, jax.random.key(0), lr)
    copies = 49 * 64 * 64 * 3 * 4
    # A new function each time, so that it is traced again.
    used = temporary_bytes(lambda *arguments: network.apply(*arguments), params, lr)
    monkeypatch.setattr(ops, "dynamic_filter", dynamic_filter_by_gathering)
    gathering = temporary_bytes(lambda *arguments: network.apply(*arguments), params, lr)
    # Less than all copies, since the head needs most of their memory at another time.
    assert used < gathering - copies / 3


resize_bicubic = jax.jit(ops.resize_bicubic, static_argnums=1)

GOLDEN_RESIZES = [key for key in golden.case("bicubic") if key.startswith("out_")]


@pytest.mark.parametrize("key", GOLDEN_RESIZES)
def test_bicubic_is_that_of_the_published_code(key):
    case = golden.case("bicubic")
    _, size, factor = key.split("_")
    scale = {"x2": 2, "x3": 3, "x4": 4, "half": 0.5}[factor]
    resized = resize_bicubic(case[f"in_{size}"][None], scale)[0]
    # At x3 and x4 float32 does not hold the sums exactly, so a tie may be rounded the other way, by 1/255.
    np.testing.assert_allclose(resized, case[key], atol=1e-4 if scale in (2, 0.5) else 1.01 / 255)
    assert np.mean(np.abs(resized - case[key]) > 1e-4) < 0.005


@pytest.mark.parametrize("scale", [2, 3, 4, 0.5, 1.5])
@pytest.mark.parametrize("size", [(1, 1), (1, 3), (5, 4)])
def test_bicubic_against_loops(size, scale):
    image = golden.photo(*size, seed=3)
    resized = resize_bicubic(image[None], scale)
    expected = resize_by_loops(image, scale)
    assert resized.shape == (1, *expected.shape) and resized.dtype == jnp.float32
    np.testing.assert_allclose(resized[0], expected, atol=1.01 / 255)
    assert np.mean(np.abs(resized[0] - expected) > 1e-4) < 0.02


def test_bicubic_rounds_ties_to_even_and_does_not_clip():
    # At scale 1 only the rounding to multiples of 1/255 is left: 127.5, 382.5, -127.5 and -382.5 are ties.
    values = np.array([0.5, 1.5, -0.5, -1.5], np.float32).reshape(1, 1, 4, 1)
    rounded = resize_bicubic(values, 1).ravel()
    np.testing.assert_allclose(rounded, np.array([128, 382, -128, -382]) / 255, rtol=1e-6)
    edge = np.repeat(np.array([0, 255], np.uint8), 4).reshape(1, 1, 8, 1)
    resized = resize_bicubic(edge, 2)
    assert resized.min() < -10 and resized.max() > 265


def grey(image):
    return np.round(image @ np.array([0.299, 0.587, 0.114]))[..., None].astype(np.float32)


@pytest.mark.parametrize(("guide", "tolerance"), [("rgb", 1), ("gray", 3)])
def test_guided_filter_is_that_of_opencv(guide, tolerance):
    case = golden.case("guided_filter")
    image, expected = case["img"].astype(np.float32), case[f"{guide}_r10_eps10"].astype(np.float32)
    filtered = jax.jit(ops.guided_filter)(image if guide == "rgb" else grey(image), image)
    rounded = np.round(np.clip(filtered, 0, 255))
    np.testing.assert_allclose(rounded, expected, atol=tolerance)
    assert np.mean(rounded == expected) > 0.99


@pytest.mark.parametrize(("channels", "radius", "size"), [(3, 2, (6, 7)), (1, 2, (6, 7)), (3, 3, (2, 1))])
def test_guided_filter_against_regressions(channels, radius, size):
    image = golden.photo(*size).astype(np.float32)
    guide = golden.photo(*size, seed=1)[..., :channels].astype(np.float32)
    filtered = jax.jit(functools.partial(ops.guided_filter, radius=radius, eps=4.0))(guide, image)
    assert filtered.shape == image.shape and filtered.dtype == jnp.float32
    np.testing.assert_allclose(filtered, guided_filter_by_loops(guide, image, radius, 4.0), atol=0.02)


@pytest.mark.parametrize(
    ("guide", "image"),
    [((4, 5, 3), (5, 4, 3)), ((4, 5), (4, 5, 3)), ((4, 5, 3), (4, 5)), ((1, 4, 5, 3),) * 2],
)
def test_guided_filter_checks_shapes(guide, image):
    with pytest.raises(ValueError, match="of one size"):
        ops.guided_filter(np.zeros(guide), np.zeros(image))


PHOTO = golden.photo(6, 8)[None].astype(np.float32)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (functools.partial(ops.conv2d, edge_padding=True), (PHOTO, random(3, 5, 3, 4))),
        (ops.conv2d, (random(1, 512, 512, 16), random(3, 3, 16, 16))),  # by minimal filtering on CPUs
        (functools.partial(ops.space_to_depth, block=2), (PHOTO,)),
        (functools.partial(ops.pixel_shuffle, block=2), (random(1, 2, 3, 12),)),
        (ops.dynamic_filter, (PHOTO, random(1, 6, 8, 27))),
        (functools.partial(ops.resize_bicubic, scale=2), (PHOTO,)),
        (functools.partial(ops.guided_filter, radius=2), (PHOTO[0], PHOTO[0])),
    ],
    ids=lambda value: getattr(value, "func", value).__name__ if callable(value) else "",
)
def test_jit_equals_eager(function, arguments):
    eager, compiled = function(*arguments), jax.jit(function)(*arguments)
    assert compiled.dtype == eager.dtype
    np.testing.assert_allclose(compiled, eager, atol=1e-3, rtol=1e-5)
