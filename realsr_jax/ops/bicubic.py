"""Bicubic resizing on the device, as the OADDet networks do it."""

import math

import jax
import jax.numpy as jnp
import numpy as np


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
