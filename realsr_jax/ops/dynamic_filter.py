"""A filter whose kernels differ from pixel to pixel."""

import math

import jax
import jax.numpy as jnp


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
