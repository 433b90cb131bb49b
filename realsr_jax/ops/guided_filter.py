"""Smoothing that keeps the edges of a guide."""

import jax
import jax.numpy as jnp


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


def _solve(matrix: jax.Array, right: jax.Array) -> jax.Array:
    """Solves systems of a few equations, [h, w, n, n] positive definite and [h, w, n, c], by elimination.

    LAPACK's solvers, called by several threads at once, wait for each other for ever in XLA's pool on CPUs.
    """
    n = matrix.shape[-1]
    rows = [[matrix[..., i, j, None] for j in range(n)] for i in range(n)]
    values = [right[..., i, :] for i in range(n)]
    for i in range(n):
        for below in range(i + 1, n):
            factor = rows[below][i] / rows[i][i]
            rows[below] = [b - factor * a for a, b in zip(rows[i], rows[below], strict=True)]
            values[below] = values[below] - factor * values[i]
    for i in reversed(range(n)):
        for after in range(i + 1, n):
            values[i] = values[i] - rows[i][after] * values[after]
        values[i] = values[i] / rows[i][i]
    return jnp.stack(values, axis=-2)


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
    slope = _solve(variance, covariance(guide, guide_mean, image, image_mean))

    def apply(guide, slope):
        return jnp.einsum("hwg,hwgc->hwc", guide, slope, precision=jax.lax.Precision.HIGHEST)

    offset = image_mean - apply(guide_mean, slope)
    slope_mean = _box_mean(slope.reshape(*slope.shape[:2], -1), radius).reshape(slope.shape)
    return apply(guide, slope_mean) + _box_mean(offset, radius)
