"""Convolutions by minimal filtering, which take a fraction of the multiplications: for CPUs.

Along an axis, `STEP` neighbouring outputs of a filter with r taps are sums of ``STEP + r - 1`` products of
transformed inputs and transformed taps, instead of ``STEP * r``. Nested over both axes, a 3x3 convolution
takes a quarter of the multiplications. They become matrix products over the channels, one for each pair of
products along the axes; all else is sums of strided slices.

Source: Winograd 1980; Lavin and Gray 2016, section 4; the matrices by the construction of Toom and Cook.
"""

import functools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

STEP = 4
"""Outputs along an axis that are computed together."""

_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
"""Where the polynomials are evaluated, beside infinity; small numbers keep rounding errors small."""

_STRIP_BYTES = 4 * 2**20
"""Size of a strip's transformed input. Strips are worked off one by one, so that they stay in the cache."""

_LEAST_WORK = 2**26
"""Multiplications for each tap from which on it pays, against the longer compilation too."""


def pays(x_shape: Sequence[int], kernel_shape: Sequence[int]) -> bool:
    """Returns whether a convolution is faster in this way.

    Of kernels of one row or column, only the gradient with respect to the kernel is.
    """
    kh, kw, c_in, c_out = kernel_shape
    if not (3 <= max(kh, kw) <= 5 and min(c_in, c_out) >= 16):
        return False
    return math.prod(x_shape[:3]) * c_in * c_out >= _LEAST_WORK


def convolve(x: jax.Array, kernel: jax.Array, *, edge_padding: bool) -> jax.Array:
    """Convolves as `ops.conv2d` does, with float32 [n, h, w, c_in] and [kh, kw, c_in, c_out]."""
    margins = [size // 2 for size in kernel.shape[:2]]
    return _correlate(x, kernel, margins, x.shape[1:3], edge_padding=edge_padding)


def input_gradient(kernel: jax.Array, dy: jax.Array, *, edge_padding: bool) -> jax.Array:
    """Returns the gradient of a scalar with respect to x from that with respect to the result of `conv2d`."""
    margins = [size // 2 for size in kernel.shape[:2]]
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    if not edge_padding:
        return _correlate(dy, turned, margins, dy.shape[1:3], edge_padding=False)
    size = [length + 2 * margin for length, margin in zip(dy.shape[1:3], margins, strict=True)]
    dx = _correlate(dy, turned, [2 * margin for margin in margins], size, edge_padding=False)
    for axis, margin in zip((1, 2), margins, strict=True):  # what the margins were given comes back
        dx = _fold_margins(dx, axis, margin)
    return dx


def _correlate(
    x: jax.Array, kernel: jax.Array, margins: Sequence[int], size: Sequence[int], *, edge_padding: bool
) -> jax.Array:
    """Correlates x, continued by `margins` before it and as far as needed after it, for `size` outputs."""
    kh, kw, c_in, c_out = kernel.shape
    rows, columns = _axis(kh), _axis(kw)
    # Made to depend on x, or XLA transforms the kernels of all layers ahead of time and keeps them.
    anything = x[0, 0, 0, 0]
    kernel = kernel + jnp.where(jnp.isfinite(anything), 0 * anything, 0)
    kernel = jnp.stack(_combine(rows.taps, [kernel[i] for i in range(kh)]))
    kernels = _combine(columns.taps, [kernel[:, j] for j in range(kw)])

    def correlate(strip: jax.Array) -> jax.Array:
        inputs = _transform(strip, rows, columns)
        products = [a.reshape(rows.n, -1, c_in) @ b for a, b in zip(inputs, kernels, strict=True)]
        products = [y.reshape(*inputs[0].shape[:-1], c_out) for y in products]
        y = _interleave(_combine(columns.outputs, products), axis=4)
        return _interleave(_combine(rows.outputs, list(y)), axis=2)

    strips = _Strips(x.shape, max(c_in, c_out), size, rows, columns)

    def add_strip(i: Any, y: jax.Array) -> jax.Array:
        strip = correlate(strips.cut(x, i, margins, edge_padding=edge_padding))
        return jax.lax.dynamic_update_slice_in_dim(y, strip, strips.start(i), 1)

    if strips.count == 1:
        y = correlate(strips.cut(x, 0, margins, edge_padding=edge_padding))
    else:
        # All is overwritten. A constant would be made for all convolutions of a network ahead of time.
        y = jnp.full((x.shape[0], *strips.size, c_out), 0 * x[0, 0, 0, 0])
        y = jax.lax.fori_loop(0, strips.count, add_strip, y)
    return y[:, : size[0], : size[1]]


def kernel_gradient(
    x: jax.Array, dy: jax.Array, kernel_size: Sequence[int], *, edge_padding: bool
) -> jax.Array:
    """Returns the gradient of a scalar with respect to a kernel of `kernel_size`, likewise."""
    margins = [size // 2 for size in kernel_size]
    rows, columns = (_axis(size) for size in kernel_size)
    c_in, c_out = x.shape[3], dy.shape[3]

    def products(strip: jax.Array, dy_strip: jax.Array) -> jax.Array:
        parts = [dy_strip[:, i :: rows.step] for i in range(rows.step)]
        dy_strip = jnp.stack(_combine(rows.outputs.T, parts))
        outputs = _combine(
            columns.outputs.T, [dy_strip[:, :, :, j :: columns.step] for j in range(columns.step)]
        )
        pairs = zip(_transform(strip, rows, columns), outputs, strict=True)
        return jnp.stack(
            [
                jnp.einsum("apc,apd->acd", a.reshape(rows.n, -1, c_in), b.reshape(rows.n, -1, c_out))
                for a, b in pairs
            ]
        )

    strips = _Strips(x.shape, max(c_in, c_out), dy.shape[1:3], rows, columns)
    rest = [total - n for n, total in zip(dy.shape[1:3], strips.size, strict=True)]
    dy = jnp.pad(dy, ((0, 0), (0, rest[0]), (0, rest[1]), (0, 0)))

    def add_products(i: Any, total: jax.Array) -> jax.Array:
        dy_strip = jax.lax.dynamic_slice_in_dim(dy, strips.start(i), strips.height, 1)
        return total + products(strips.cut(x, i, margins, edge_padding=edge_padding), dy_strip)

    zeros = jnp.zeros_like(x, shape=(columns.n, rows.n, c_in, c_out))
    total = jax.lax.fori_loop(0, strips.count, add_products, zeros)
    total = jnp.stack(_combine(columns.taps.T, list(total)))  # [kw, row products, c_in, c_out]
    return jnp.stack(_combine(rows.taps.T, [total[:, a] for a in range(rows.n)]))


class _Strips:
    """Bands of whole steps along the rows.

    Attributes:
        count: how many.
        height: of the result of each.
        size: height and width of the results of all together.
    """

    def __init__(
        self, shape: Sequence[int], channels: int, size: Sequence[int], rows: "_Axis", columns: "_Axis"
    ):
        """Cuts the work on an image [n, h, w, c] for results of a size, with at most so many channels."""
        steps, columns_steps = -(-size[0] // rows.step), -(-size[1] // columns.step)
        step_bytes = 4 * shape[0] * columns_steps * rows.n * columns.n * channels
        self.count = -(-steps // max(1, _STRIP_BYTES // step_bytes))
        self.height = -(-steps // self.count) * rows.step
        self.size = self.count * self.height, columns_steps * columns.step
        self._needed = self.height + rows.n - rows.step, self.size[1] + columns.n - columns.step

    def start(self, i: Any) -> Any:
        """Returns the first row of a strip's result."""
        return i * self.height

    def cut(self, x: jax.Array, i: Any, margins: Sequence[int], *, edge_padding: bool) -> jax.Array:
        """Returns what a strip's result is made of, continued where it lies outside the image."""
        (top, left), (h, w) = margins, x.shape[1:3]
        needed, width = self._needed
        length = min(needed, h)
        first = jnp.clip(self.start(i) - top, 0, h - length)
        strip = jax.lax.dynamic_slice_in_dim(x, first, length, 1)
        below = self.start(self.count - 1) - top + needed - h
        borders = ((0, 0), (top, max(below, 0)), (left, width - left - w), (0, 0))
        strip = jnp.pad(strip, borders, mode="edge" if edge_padding else "constant")
        return jax.lax.dynamic_slice_in_dim(strip, self.start(i) - first, needed, 1)


def _transform(x: jax.Array, rows: "_Axis", columns: "_Axis") -> list[jax.Array]:
    """Returns, for each product along the columns, [products along the rows, n, row step, column step, c]."""

    def strided(x: jax.Array, axis: int, kind: "_Axis") -> list[jax.Array]:
        return [
            jax.lax.slice_in_dim(x, i, x.shape[axis] - kind.n + i + 1, kind.step, axis) for i in range(kind.n)
        ]

    x = jnp.stack(_combine(rows.inputs, strided(x, 1, rows)))
    return _combine(columns.inputs, strided(x, 3, columns))


def _fold_margins(x: jax.Array, axis: int, margin: int) -> jax.Array:
    """Adds the margins of an axis to the pixels that they repeat, and removes them."""
    if not margin:
        return x
    inner = x.shape[axis] - margin
    first, middle, last = jnp.split(x, [margin + 1, inner - 1], axis)
    return jnp.concatenate([first.sum(axis, keepdims=True), middle, last.sum(axis, keepdims=True)], axis)


def _interleave(parts: list[jax.Array], axis: int) -> jax.Array:
    """Returns the array of which the parts hold the first, second, ... entry of each step along axis - 1."""
    y = jnp.stack(parts, axis)
    return y.reshape(*y.shape[: axis - 1], -1, *y.shape[axis + 1 :])


def _combine(matrix: np.ndarray, parts: Sequence[jax.Array]) -> list[jax.Array]:
    """Multiplies a matrix with a vector of arrays, without products by 0 and 1."""

    def dot(row: np.ndarray) -> jax.Array:
        terms = [
            part if c == 1 else -part if c == -1 else np.float32(c) * part
            for c, part in zip(row, parts, strict=True)
            if c
        ]
        return functools.reduce(jnp.add, terms)

    return [dot(row) for row in matrix]


class _Axis(NamedTuple):
    """How one axis is filtered.

    Attributes:
        step: outputs that are computed together.
        n: products that they take.
        outputs: float64 [step, n], makes outputs of products.
        taps: float64 [n, r], transforms the filter.
        inputs: float64 [n, n], transforms the input.
    """

    step: int
    n: int
    outputs: np.ndarray
    taps: np.ndarray
    inputs: np.ndarray


@functools.cache
def _axis(r: int) -> _Axis:
    """Returns how filters of r taps are applied.

    Polynomials of `step` and r coefficients are multiplied by evaluating both at n points, multiplying the
    values and interpolating. Filtering is the transpose of that with respect to the first polynomial.
    """
    step = STEP if r > 1 else 1
    n = step + r - 1

    def evaluate(length: int) -> np.ndarray:
        infinity = np.eye(1, length, length - 1)
        return np.concatenate([np.vander(_POINTS[: n - 1], length, increasing=True), infinity])

    inputs = np.linalg.inv(evaluate(n)).T
    # Rows of fractions become whole numbers; the taps take the denominators over.
    fractions = [[Fraction(value).limit_denominator(1000) for value in row] for row in inputs]
    factors = np.array([[math.lcm(*(value.denominator for value in row))] for row in fractions])
    return _Axis(step, n, evaluate(step).T, evaluate(r) / factors, np.round(inputs * factors))
