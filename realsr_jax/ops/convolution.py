"""Convolutions that keep the spatial size, in the fastest way of the platform.

A convolution y of an image x and a kernel is bilinear, and so are its gradients: the gradient with respect to
x is made of kernel and dy, that with respect to the kernel of x and dy. Each of the three is a derivative of
``sum(dy * conv2d(x, kernel))``, so transposing one gives another. They are one JAX primitive, which is
lowered to minimal filtering on CPUs and to XLA's convolution elsewhere.
"""

import functools
from collections.abc import Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from realsr_jax.ops import minimal_filtering

_OPERANDS: Final = {"x": ("kernel", "y"), "kernel": ("x", "y"), "y": ("x", "kernel")}
"""What each of the three is made of, in the order of the primitive's operands."""


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
    if x.shape[1:3] == (1, 1) and not edge_padding:  # only the centre tap meets a pixel
        top, left = (size // 2 for size in kernel.shape[:2])
        return x @ kernel[top, left]
    if dilation != 1:
        return _convolve(x, kernel, edge_padding, dilation=dilation)
    x, kernel = _vary_alike(x, kernel)
    return _conv2d_p.bind(x, kernel, wanted="y", size=kernel.shape[:2], edge_padding=edge_padding)


def _convolve(
    x: jax.Array, kernel: jax.Array, edge_padding: bool, *, dilation: int = 1, cut: bool = False
) -> jax.Array:
    """Convolves by XLA; with `cut`, edge padding is padded once more and the border cut off the result."""
    top, left = (dilation * (size // 2) for size in kernel.shape[:2])
    h, w = x.shape[1:3]
    if edge_padding:
        x = jnp.pad(x, ((0, 0), (top, top), (left, left), (0, 0)), mode="edge")
    y = jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding="VALID" if edge_padding and not cut else "SAME",
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y[:, top : top + h, left : left + w] if edge_padding and cut else y


def _shape(a: Any, b: Any, wanted: str, size: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape of what is wanted, made of a and b."""
    match wanted:
        case "y":
            return (*a.shape[:3], b.shape[3])
        case "x":
            return (*b.shape[:3], a.shape[2])
        case _:
            return (*size, a.shape[3], b.shape[3])


def _directly(
    a: jax.Array, b: jax.Array, *, wanted: str, size: Sequence[int], edge_padding: bool, cut: bool = False
) -> jax.Array:
    """Computes what is wanted by XLA's convolution, or by transposing it.

    Args:
        a: first operand; x and y are [n, h, w, c], the kernel is [kh, kw, c_in, c_out].
        b: second operand.
        wanted: the convolution, "y", or its gradient with respect to "x" or "kernel".
        size: kh and kw.
        edge_padding: as in `conv2d`.
        cut: as in `_convolve`.
    """
    options = {"edge_padding": edge_padding, "cut": cut}
    if wanted == "y":
        return _convolve(a, b, **options)
    if wanted == "x":
        linear = functools.partial(_convolve, kernel=a, **options)
    else:
        linear = functools.partial(_convolve, a, **options)
    (gradient,) = jax.linear_transpose(linear, jnp.zeros_like(b, shape=_shape(a, b, wanted, size)))(b)
    return gradient


def _on_cpu(a: jax.Array, b: jax.Array, *, wanted: str, size: Sequence[int], edge_padding: bool) -> jax.Array:
    """Computes the same by minimal filtering where it pays, else with `cut`: "VALID" is slow on CPUs."""
    images, kernel_shape = (b, a.shape) if wanted == "x" else (a, (*size, a.shape[3], b.shape[3]))
    if a.dtype != b.dtype or not minimal_filtering.pays(wanted, a.dtype, images.shape, kernel_shape):
        return _directly(a, b, wanted=wanted, size=size, edge_padding=edge_padding, cut=True)
    if wanted == "kernel":
        return minimal_filtering.kernel_gradient(a, b, size, edge_padding=edge_padding)
    compute = minimal_filtering.convolve if wanted == "y" else minimal_filtering.input_gradient
    return compute(a, b, edge_padding=edge_padding)


def _transpose(side: int, cotangent: jax.Array, *operands: Any, wanted: str, **params: Any) -> jax.Array:
    """Returns the gradient with respect to one operand, made of the cotangent and the other operand."""
    names = _OPERANDS[wanted]
    known = {wanted: cotangent, names[1 - side]: operands[1 - side]}
    return _conv2d_p.bind(*(known[name] for name in _OPERANDS[names[side]]), wanted=names[side], **params)


def _batch(
    operands: Sequence[jax.Array], axes: Sequence[int | None], *, wanted: str, **params: Any
) -> tuple[jax.Array, int]:
    """Makes several batches of images with one kernel one batch; takes all else one after the other."""
    compute = functools.partial(_conv2d_p.bind, wanted=wanted, **params)
    is_mapped = [axis is not None for axis in axes]
    operands = [
        a if axis is None else jnp.moveaxis(a, axis, 0) for a, axis in zip(operands, axes, strict=True)
    ]
    count = len(operands[is_mapped.index(True)])
    if [name for name, mapped in zip(_OPERANDS[wanted], is_mapped, strict=True) if not mapped] == ["kernel"]:
        y = compute(*(a.reshape(-1, *a.shape[-3:]) for a in operands))
        return y.reshape(count, -1, *y.shape[1:]), 0

    def compute_one(i: jax.Array) -> jax.Array:
        return compute(*(a[i] if mapped else a for a, mapped in zip(operands, is_mapped, strict=True)))

    return jax.lax.map(compute_one, jnp.arange(count)), 0


def _vary_alike(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Lets both vary over the mesh axes over which one does inside `jax.shard_map`, as JAX's functions do.

    Transposed, this sums the gradient over the devices.
    """
    x_axes, kernel_axes = (jax.typeof(a).manual_axis_type.varying for a in (x, kernel))
    return (
        jax.lax.pcast(x, tuple(kernel_axes - x_axes), to="varying"),
        jax.lax.pcast(kernel, tuple(x_axes - kernel_axes), to="varying"),
    )


_conv2d_p = Primitive("realsr_conv2d")
_conv2d_p.def_abstract_eval(
    lambda a, b, *, wanted, size, **_: a.update(shape=_shape(a, b, wanted, size), weak_type=False)
)
_conv2d_p.def_impl(jax.jit(_conv2d_p.bind, static_argnames=("wanted", "size", "edge_padding")))
ad.defbilinear(_conv2d_p, functools.partial(_transpose, 0), functools.partial(_transpose, 1))
batching.primitive_batchers[_conv2d_p] = _batch
mlir.register_lowering(_conv2d_p, mlir.lower_fun(_directly, multiple_results=False))
mlir.register_lowering(_conv2d_p, mlir.lower_fun(_on_cpu, multiple_results=False), platform="cpu")
