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

_POINTS = {1: (), 3: (0.0, 0.75, -0.75, 1.5, -1.5), 5: (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)}
"""Where the polynomials are evaluated, beside infinity, for filters of so many taps.

Chosen among small fractions for small rounding errors.
"""

_STRIP_BYTES = 2**20
"""Least size of a strip's transformed input. Strips are worked off one by one, as they stay in the cache."""

LEAST_PIXELS = {
    ("float32", "y", (3, 3)): {16: 8192, 32: 4096},
    ("float32", "x", (3, 3)): {16: 4096},
    ("float32", "kernel", (3, 3)): {16: 4096},
    ("float32", "kernel", (1, 5)): {16: 262144, 32: 65536, 64: 16384, 128: 4096},
    ("float32", "kernel", (5, 1)): {16: 262144, 32: 65536, 64: 16384, 128: 4096},
    ("bfloat16", "y", (3, 3)): {32: 4096},
    ("bfloat16", "x", (3, 3)): {32: 4096},
    ("bfloat16", "kernel", (3, 3)): {16: 4096},
}
"""For a type, what is wanted and a kernel: from how many pixels on it pays, from so many channels on.

`tests/scripts/measure_convolutions.py` makes it.
"""


def pays(wanted: str, dtype: Any, images_shape: Sequence[int], kernel_shape: Sequence[int]) -> bool:
    """Returns whether this way is faster.

    Args:
        wanted: the convolution, "y", or its gradient with respect to "x" or "kernel".
        dtype: of all operands.
        images_shape: of x or y, [n, h, w, c].
        kernel_shape: [kh, kw, c_in, c_out].
    """
    kh, kw, c_in, c_out = kernel_shape
    least_pixels = LEAST_PIXELS.get((jnp.dtype(dtype).name, wanted, (kh, kw)), {})
    rows = [channels for channels in least_pixels if channels <= min(c_in, c_out)]
    return bool(rows) and math.prod(images_shape[:3]) >= least_pixels[max(rows)]


def convolve(x: jax.Array, kernel: jax.Array, *, edge_padding: bool) -> jax.Array:
    """Convolves as `ops.conv2d` does, with [n, h, w, c_in] and [kh, kw, c_in, c_out] of one type."""
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
    anything = x[0, 0, 0, 0].astype(jnp.float32)
    kernel = kernel + jnp.where(jnp.isfinite(anything), 0 * anything, 0)
    kernel = jnp.stack(_combine(rows.taps, [kernel[i] for i in range(kh)]))
    kernels = _combine(columns.taps, [kernel[:, j] for j in range(kw)])

    def correlate(strip: jax.Array) -> jax.Array:
        inputs = _transform(strip, rows, columns)
        products = [
            _multiply("apc,acd->apd", a.reshape(rows.n, -1, c_in), b, x.dtype)
            for a, b in zip(inputs, kernels, strict=True)
        ]
        products = [y.reshape(*inputs[0].shape[:-1], c_out) for y in products]
        y = _interleave(_combine(columns.outputs, products), axis=4)
        y = jax.lax.optimization_barrier(y)  # or XLA computes it twice, in two shapes
        return _interleave(_combine(rows.outputs, list(y)), axis=2).astype(x.dtype)

    strips = _Strips(x.shape, (c_in, c_out), size, rows, columns)
    padded = strips.pad(x, margins, edge_padding=edge_padding)
    if strips.count == 1:
        y = correlate(padded)
    elif c_in == c_out:  # in place: a strip's result takes the place of rows that later ones do not need

        def replace_strip(i: Any, y: jax.Array) -> jax.Array:
            return strips.put(y, i, correlate(strips.cut(y, i, x.dtype)))

        y = _floats(jax.lax.fori_loop(0, strips.count, replace_strip, _bits(padded)), x.dtype)
    else:
        padded = _bits(padded)

        def add_strip(i: Any, y: jax.Array) -> jax.Array:
            return strips.put(y, i, correlate(strips.cut(padded, i, x.dtype)))

        # All is overwritten. A constant would be made for all convolutions of a network ahead of time.
        y = jnp.full((x.shape[0], *strips.size, c_out), 0 * x[0, 0, 0, 0])
        y = _floats(jax.lax.fori_loop(0, strips.count, add_strip, _bits(y)), x.dtype)
    return y[:, : size[0], : size[1]]


def kernel_gradient(
    x: jax.Array, dy: jax.Array, kernel_size: Sequence[int], *, edge_padding: bool
) -> jax.Array:
    """Returns the gradient of a scalar with respect to a kernel of `kernel_size`, likewise."""
    margins = [size // 2 for size in kernel_size]
    rows, columns = (_axis(size) for size in kernel_size)
    c_in, c_out = x.shape[3], dy.shape[3]

    def products(strip: jax.Array, dy_strip: jax.Array) -> jax.Array:
        dy_strip = dy_strip.astype(jnp.float32)
        parts = [dy_strip[:, i :: rows.step] for i in range(rows.step)]
        dy_strip = jnp.stack(_combine(rows.outputs.T, parts))
        outputs = _combine(
            columns.outputs.T, [dy_strip[:, :, :, j :: columns.step] for j in range(columns.step)]
        )
        pairs = zip(_transform(strip, rows, columns), outputs, strict=True)
        return jnp.stack(
            [
                _multiply("apc,apd->acd", a.reshape(rows.n, -1, c_in), b.reshape(rows.n, -1, c_out), x.dtype)
                for a, b in pairs
            ]
        )

    strips = _Strips(x.shape, (c_in, c_out), dy.shape[1:3], rows, columns)
    padded = _bits(strips.pad(x, margins, edge_padding=edge_padding))
    rest = [total - n for n, total in zip(dy.shape[1:3], strips.size, strict=True)]
    dy = jnp.pad(_bits(dy), ((0, 0), (0, rest[0]), (0, rest[1]), (0, 0)))

    def add_products(i: Any, total: jax.Array) -> jax.Array:
        dy_strip = jax.lax.dynamic_slice_in_dim(dy, i * strips.height, strips.height, 1)
        return total + products(strips.cut(padded, i, x.dtype), _floats(dy_strip, x.dtype))

    zeros = jnp.zeros_like(x, shape=(columns.n, rows.n, c_in, c_out), dtype=jnp.float32)
    total = jax.lax.fori_loop(0, strips.count, add_products, zeros)
    total = jnp.stack(_combine(columns.taps.T, list(total)))  # [kw, row products, c_in, c_out]
    return jnp.stack(_combine(rows.taps.T, [total[:, a] for a in range(rows.n)])).astype(x.dtype)


def _multiply(product: str, a: jax.Array, b: jax.Array, dtype: Any) -> jax.Array:
    """Multiplies in a type and adds up in float32."""
    return jnp.einsum(product, a.astype(dtype), b.astype(dtype), preferred_element_type=jnp.float32)


def _bits(x: jax.Array) -> jax.Array:
    """Returns bfloat16 as integers: XLA would update and slice whole images in float32."""
    return jax.lax.bitcast_convert_type(x, jnp.uint16) if x.dtype == jnp.bfloat16 else x


def _floats(x: jax.Array, dtype: Any) -> jax.Array:
    """Undoes `_bits`."""
    return jax.lax.bitcast_convert_type(x, dtype) if x.dtype != dtype else x


class _Strips:
    """Bands of whole steps along the rows.

    Attributes:
        count: how many.
        height: of the result of each.
        size: height and width of the results of all together.
    """

    def __init__(
        self,
        shape: Sequence[int],
        channels: tuple[int, int],
        size: Sequence[int],
        rows: "_Axis",
        columns: "_Axis",
    ):
        """Cuts the work on an image [n, h, w, c] for results of a size, with channels in and out."""
        steps, columns_steps = -(-size[0] // rows.step), -(-size[1] // columns.step)
        step_bytes = 4 * shape[0] * columns_steps * rows.n * columns.n * max(channels)
        # Every strip reads all transformed kernels, so it should be no smaller than they are.
        strip_bytes = max(_STRIP_BYTES, 4 * rows.n * columns.n * math.prod(channels))
        self.count = -(-steps // max(1, strip_bytes // step_bytes))
        self.height = -(-steps // self.count) * rows.step
        self.size = self.count * self.height, columns_steps * columns.step
        self._more = rows.n - rows.step, columns.n - columns.step

    def pad(self, x: jax.Array, margins: Sequence[int], *, edge_padding: bool) -> jax.Array:
        """Continues an image by `margins` before it, and after it so far that all strips can be cut."""
        (top, left), (h, w) = margins, x.shape[1:3]
        below, right = (
            total + more - margin - length
            for total, more, margin, length in zip(self.size, self._more, margins, (h, w), strict=True)
        )
        padded = jnp.pad(_bits(x), ((0, 0), (top, below), (left, right), (0, 0)))
        if edge_padding:  # in place; only what lies within the margins matters
            tall = ((0, 0), (top, top), (0, 0), (0, 0))
            sides = [jnp.pad(side, tall, mode="edge") for side in (x[:, :, :1], x[:, :, -1:])]
            ends = [(0, i, left, 0) for i in range(top)], [(0, top + h + i, left, 0) for i in range(top)]
            flanks = [(0, 0, i, 0) for i in range(left)], [(0, 0, left + w + i, 0) for i in range(left)]
            for border, starts in zip((x[:, :1], x[:, -1:], *sides), (*ends, *flanks), strict=True):
                for start in starts:
                    padded = jax.lax.dynamic_update_slice(padded, _bits(border), start)
        return _floats(padded, x.dtype)

    def cut(self, padded: jax.Array, i: Any, dtype: Any) -> jax.Array:
        """Returns what a strip's result is made of."""
        height = self.height + self._more[0]
        return _floats(jax.lax.dynamic_slice_in_dim(padded, i * self.height, height, 1), dtype)

    def put(self, y: jax.Array, i: Any, strip: jax.Array) -> jax.Array:
        """Writes a strip's result into that of all, given as `_bits`."""
        return jax.lax.dynamic_update_slice_in_dim(y, _bits(strip), i * self.height, 1)


def _transform(x: jax.Array, rows: "_Axis", columns: "_Axis") -> list[jax.Array]:
    """Returns a float32 [products along the rows, n, row step, column step, c] for each along the columns."""

    def strided(x: jax.Array, axis: int, kind: "_Axis") -> list[jax.Array]:
        return [
            jax.lax.slice_in_dim(x, i, x.shape[axis] - kind.n + i + 1, kind.step, axis) for i in range(kind.n)
        ]

    x = x.astype(jnp.float32)
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
        return np.concatenate([np.vander(_POINTS[r], length, increasing=True), infinity])

    inputs = np.linalg.inv(evaluate(n)).T
    # Rows of fractions become whole numbers; the taps take the denominators over.
    fractions = [[Fraction(value).limit_denominator(1000) for value in row] for row in inputs]
    factors = np.array([[math.lcm(*(value.denominator for value in row))] for row in fractions])
    return _Axis(step, n, evaluate(step).T, evaluate(r) / factors, np.round(inputs * factors))
