"""Numerics-critical pure functions on images and feature maps, NHWC.

Images are 0..255; a leading batch axis is required unless said otherwise.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax import winograd


def conv2d(x: jax.Array, kernel: jax.Array, *, edge_padding: bool = False, dilation: int = 1) -> jax.Array:
    """Convolves (cross-correlates) and keeps the spatial size.

    Args:
        x: [n, h, w, c_in].
        kernel: [kh, kw, c_in, c_out], kh and kw odd, of x's dtype.
        edge_padding: True repeats the border pixel, False adds zeros.
        dilation: distance between the kernel's taps.

    Returns:
        [n, h, w, c_out].
    """
    if dilation == 1 and x.dtype == jnp.float32 and winograd.gradient_pays(x.shape, kernel.shape):
        return _conv2d(x, kernel, edge_padding)
    return _conv2d_directly(x, kernel, edge_padding, dilation)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv2d(x: jax.Array, kernel: jax.Array, edge_padding: bool) -> jax.Array:
    """Convolves in the fastest way of the platform, in both directions."""
    directly = functools.partial(_conv2d_directly, edge_padding=edge_padding)
    if not winograd.pays(x.shape, kernel.shape):
        return directly(x, kernel)
    on_cpu = functools.partial(winograd.conv2d, edge_padding=edge_padding)
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=directly)


def _conv2d_forward(
    x: jax.Array, kernel: jax.Array, edge_padding: bool
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _conv2d(x, kernel, edge_padding), (x, kernel)


def _conv2d_backward(
    edge_padding: bool, inputs: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def directly(x, kernel, dy):
        return jax.vjp(functools.partial(_conv2d_directly, edge_padding=edge_padding), x, kernel)[1](dy)

    def on_cpu(x, kernel, dy):
        if winograd.pays(x.shape, kernel.shape):
            dx = winograd.input_gradient(kernel, dy, edge_padding=edge_padding)
        else:
            dx, _ = directly(x, kernel, dy)
        return dx, winograd.kernel_gradient(x, dy, kernel.shape, edge_padding=edge_padding)

    return jax.lax.platform_dependent(*inputs, dy, cpu=on_cpu, default=directly)


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)


def _conv2d_directly(x: jax.Array, kernel: jax.Array, edge_padding: bool, dilation: int = 1) -> jax.Array:
    top, left = (dilation * (size // 2) for size in kernel.shape[:2])
    h, w = x.shape[1:3]
    if edge_padding:
        x = jnp.pad(x, ((0, 0), (top, top), (left, left), (0, 0)), mode="edge")
    # On the edge-padded input "SAME" only adds a border that is cut off again: XLA's CPU convolution is
    # several times slower with "VALID".
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding="SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y[:, top : top + h, left : left + w] if edge_padding else y


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """Moves each block of pixels into channels: [n, h, w, c] -> [n, h/b, w/b, c*b*b].

    Channel ``c*b*b + dy*b + dx`` of the result is pixel ``(y*b + dy, x*b + dx)`` of channel c.
    """
    n, h, w, c = x.shape
    x = x.reshape(n, h // block, block, w // block, block, c)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(n, h // block, w // block, c * block * block)


def pixel_shuffle(x: jax.Array, block: int) -> jax.Array:
    """Undoes `space_to_depth`: [n, h, w, c*b*b] -> [n, h*b, w*b, c]."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, c // block**2, block, block)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(n, h * block, w * block, c // block**2)


def dynamic_filter(image: jax.Array, kernels: jax.Array) -> jax.Array:
    """Filters every pixel and colour with a kernel of its own; kernels are not normalised.

    Args:
        image: float32 [n, h, w, c], padded with zeros.
        kernels: [n, h, w, k*k*c]; channel ``t*c + i`` is tap t (row-major) for colour i.

    Returns:
        float32 [n, h, w, c], ``sum_t kernels[..., t*c + i] * image[y + dy_t, x + dx_t, i]``.
    """
    h, w, c = image.shape[1:]
    size = math.isqrt(kernels.shape[-1] // c)
    r = size // 2
    padded = jnp.pad(image, ((0, 0), (r, r), (r, r), (0, 0)))
    # An unrolled sum of slices compiles to one loop over pixels: no shifted copy of the image is stored.
    result = jnp.zeros_like(image)
    for tap in range(size * size):
        dy, dx = divmod(tap, size)
        weights = kernels[..., tap * c : (tap + 1) * c].astype(image.dtype)
        result += weights * padded[:, dy : dy + h, dx : dx + w]
    return result


def _resize_taps(length: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns source positions and weights, both [ceil(length * scale), taps], of a 1-D bicubic resize."""
    stretch = max(1.0, 1.0 / scale)  # antialiasing widens the kernel when shrinking
    centre = (np.arange(math.ceil(length * scale)) + 0.5) / scale - 0.5
    positions = np.floor(centre - 2 * stretch)[:, None] + np.arange(math.ceil(4 * stretch) + 2)
    distance = np.abs(positions - centre[:, None]) / stretch
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = np.where(distance <= 1, near, np.where(distance <= 2, far, 0.0))
    used = np.any(weights != 0, axis=0)
    weights, positions = weights[:, used], positions[:, used]
    weights /= weights.sum(axis=1, keepdims=True)
    return np.clip(positions, 0, length - 1).astype(np.int32), weights.astype(np.float32)


def resize_bicubic(x: jax.Array, scale: float) -> jax.Array:
    """Resizes bicubically as the OADDet networks do, ``round(255 * v) / 255`` included.

    Keys' kernel with a = -0.5, pixel centres at ``(i + 0.5) / scale - 0.5``, border pixels repeated, widened
    by ``1 / scale`` when shrinking; ties round to even; values below 0 and above 255 stay.

    Args:
        x: [n, h, w, c], 0..255.
        scale: output size over input size.

    Returns:
        float32 [n, ceil(h*scale), ceil(w*scale), c].

    Source: Keys 1981, eq. 15; MATLAB's imresize; the published `bicubic.py`.
    """
    if x.ndim != 4 or scale <= 0:
        raise ValueError(f"x has shape {x.shape} and scale is {scale}, expected [n, h, w, c] and more than 0")
    x = jnp.asarray(x, jnp.float32)
    for axis in (1, 2):
        positions, weights = _resize_taps(x.shape[axis], scale)
        shape = [1] * x.ndim
        shape[axis] = -1
        taps = (
            jnp.take(x, p, axis=axis) * w.reshape(shape) for p, w in zip(positions.T, weights.T, strict=True)
        )
        x = sum(taps, start=jnp.zeros((), jnp.float32))
    return jnp.round(x * 255) / 255


def _box_mean(x: jax.Array, radius: int) -> jax.Array:
    """Mean over a square window of [h, w, c], borders mirrored, the border pixel repeated."""
    for axis in (0, 1):
        pad = [(0, 0)] * x.ndim
        pad[axis] = (radius, radius)
        padded = jnp.pad(x, pad, mode="symmetric")
        window = [1] * x.ndim
        window[axis] = 2 * radius + 1
        x = jax.lax.reduce_window(padded, 0.0, jax.lax.add, window, [1] * x.ndim, "valid") / (2 * radius + 1)
    return x


def guided_filter(guide: jax.Array, image: jax.Array, *, radius: int = 10, eps: float = 10.0) -> jax.Array:
    """Smooths an image while it keeps the edges of a guide.

    In each window the image is modelled as a linear function of the guide's channels; every pixel is the
    mean of what the windows around it predict.

    Args:
        guide: [h, w, 3] or [h, w, 1], 0..255.
        image: [h, w, c], 0..255.
        radius: half the window's side, in pixels.
        eps: regularisation, in squared grey levels; larger is smoother.

    Returns:
        float32 [h, w, c].

    Raises:
        ValueError: if guide or image has no three axes, or they differ in size.

    Source: He, Sun and Tang 2013, eq. 19-21; OpenCV's ximgproc.guidedFilter.
    """
    guide, image = jnp.asarray(guide, jnp.float32), jnp.asarray(image, jnp.float32)
    if not guide.ndim == image.ndim == 3 or guide.shape[:2] != image.shape[:2]:
        raise ValueError(f"guide is {guide.shape} and image {image.shape}, expected [h, w, c] of one size")
    guide_mean, image_mean = _box_mean(guide, radius), _box_mean(image, radius)

    def covariance(a, a_mean, b, b_mean):
        outer = a[..., :, None] * b[..., None, :]
        h, w, i, j = outer.shape
        mean = _box_mean(outer.reshape(h, w, i * j), radius).reshape(outer.shape)
        return mean - a_mean[..., :, None] * b_mean[..., None, :]

    variance = covariance(guide, guide_mean, guide, guide_mean) + eps * jnp.eye(guide.shape[-1])
    slope = jnp.linalg.solve(variance, covariance(guide, guide_mean, image, image_mean))

    def apply(guide, slope):
        return jnp.einsum("hwg,hwgc->hwc", guide, slope, precision=jax.lax.Precision.HIGHEST)

    offset = image_mean - apply(guide_mean, slope)
    slope_mean = _box_mean(slope.reshape(*slope.shape[:2], -1), radius).reshape(slope.shape)
    return apply(guide, slope_mean) + _box_mean(offset, radius)
