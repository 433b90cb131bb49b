"""Bicubic resizing on the device, as the OADDet networks do it."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax.ops.matlab_resize import cubic_taps


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
        x = _enlarge(x, axis, int(scale)) if scale == int(scale) else _resample(x, axis, scale)
    return jnp.round(x * 255) / 255


def _enlarge(x: jax.Array, axis: int, scale: int) -> jax.Array:
    """Resizes along an axis, of symbolic length too, by a whole number: every pixel makes new ones alike."""
    reach = 3
    positions, weights = cubic_taps(2 * reach + 1, (2 * reach + 1) * scale, scale)
    of_middle = np.s_[:, reach * scale : (reach + 1) * scale]
    first, last = (jax.lax.slice_in_dim(x, *ends, axis=axis) for ends in ((0, 1), (-1, None)))
    padded = jnp.concatenate([first] * reach + [x] + [last] * reach, axis)
    moved = [jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis) for i in range(2 * reach + 1)]
    parts = [
        sum((moved[i] * w for i, w in zip(column, taps, strict=True)), start=jnp.zeros((), jnp.float32))
        for column, taps in zip(positions[of_middle].T, weights[of_middle].T.astype(np.float32), strict=True)
    ]
    shape = [*x.shape[:axis], scale * x.shape[axis], *x.shape[axis + 1 :]]
    return jnp.stack(parts, axis + 1).reshape(shape)


def _resample(x: jax.Array, axis: int, scale: float) -> jax.Array:
    """Resizes along an axis by any number."""
    length = x.shape[axis]
    positions, weights = cubic_taps(length, math.ceil(length * scale), scale)
    shape = [1] * x.ndim
    shape[axis] = -1
    taps = (
        jnp.take(x, p, axis=axis) * w.reshape(shape)
        for p, w in zip(positions.astype(np.int32), weights.astype(np.float32), strict=True)
    )
    return sum(taps, start=jnp.zeros((), jnp.float32))
