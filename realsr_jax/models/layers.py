"""Linen pieces that the models share.

``dtype`` is the type of a layer's arithmetic; parameters are float32 unless a caller hands over others.
Wherever an image in grey levels enters or leaves a network, the layer stays in float32: bfloat16 has
steps of a whole grey level above 128.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax import ops

Dtype = Any

UNIT_RGB_MEAN = np.array([0.4488, 0.4371, 0.4040], np.float32)
"""DIV2K's mean colour on 0..1."""

RGB_MEAN = 255 * UNIT_RGB_MEAN
"""The same on 0..255, in float32 throughout as the published code computes it."""

# PyTorch's default initialisation, with which the published networks were trained from scratch:
# uniform within 1 / sqrt(fan_in).
_kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def _bias_init(fan_in: int) -> Callable[..., jax.Array]:
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


def leaky_relu(x: jax.Array) -> jax.Array:
    """Leaky ReLU with the published slope of 0.2."""
    return nn.leaky_relu(x, 0.2)


class Conv(nn.Module):
    """A convolution that keeps the spatial size: [n, h, w, c_in] -> [n, h, w, features].

    Several inputs are convolved as their concatenation over channels, which is not made.

    Attributes:
        features: output channels.
        kernel_size: height and width, odd.
        edge_padding: True repeats border pixels, False pads zeros.
        dilation: distance between the kernel's taps.
        dtype: type of the arithmetic and the result.
        factor: on the result.
    """

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    edge_padding: bool = False
    dilation: int = 1
    dtype: Dtype = jnp.float32
    factor: float = 1.0

    @nn.compact
    def __call__(self, *inputs: jax.Array) -> jax.Array:
        """Convolves the inputs."""
        h, w = self.kernel_size
        channels = [x.shape[-1] for x in inputs]
        kernel = self.param("kernel", _kernel_init, (h, w, sum(channels), self.features))
        bias = self.param("bias", _bias_init(h * w * sum(channels)), (self.features,))
        kernel, bias, *xs = (jnp.asarray(a, self.dtype) for a in (kernel, bias, *inputs))
        options = {"edge_padding": self.edge_padding, "dilation": self.dilation}
        parts = jnp.split(kernel, np.cumsum(channels)[:-1], axis=2)
        y, *others = (ops.conv2d(x, part, **options) for x, part in zip(xs, parts, strict=True))
        y = sum(others, start=y)
        # In this form XLA lets cuDNN's convolution apply the factor, the bias and a residual.
        return y + bias if self.factor == 1 else self.factor * y + self.factor * bias


def convolution_dtypes(model: nn.Module) -> dict[tuple[str, ...], Dtype]:
    """Returns the type of the arithmetic of each `Conv` of a network, by its path in the parameters."""
    dtypes = {}

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, Conv):
            dtypes[context.module.path] = context.module.dtype
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
    return dtypes


class Dense(nn.Module):
    """A linear map of the last axis, initialised as PyTorch does.

    Attributes:
        features: output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., c_in] to [..., features]."""
        kernel = self.param("kernel", _kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", _bias_init(x.shape[-1]), (self.features,))
        return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


class _Gate(nn.Module):
    @nn.compact
    def __call__(self, mean: jax.Array) -> jax.Array:
        channels = mean.shape[-1]
        hidden = nn.relu(Dense(channels // 8, name="squeeze")(mean))
        return nn.sigmoid(Dense(channels, name="excite")(hidden))


class ChannelAttention(nn.Module):
    """Scales each channel by a gate computed from the channels' means over all pixels.

    Source: Woo et al. 2018 (CBAM), eq. 2 with average pooling only, reduction 8.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [n, h, w, c] to the same shape and type."""
        mean = jnp.mean(x, axis=(1, 2), dtype=jnp.float32)
        gate = _Gate(name="gate")(mean)
        # The published networks own a second gate that nothing reads. Its parameters are kept, so that
        # their checkpoints survive a round trip; its computation is removed by the compiler.
        _Gate(name="unused_gate")(mean)
        return x * gate[:, None, None, :].astype(x.dtype)


class OrientedConvs(nn.Module):
    """A square, a horizontal and a vertical convolution side by side, concatenated in this order.

    Attributes:
        features: output channels of the 3x3, the 1x5 and the 5x1 convolution.
        dtype: type of the arithmetic.
    """

    features: tuple[int, int, int]
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [n, h, w, c] to [n, h, w, sum(features)]."""
        square, wide, tall = self.features
        parts = [
            Conv(square, (3, 3), dtype=self.dtype, name="square")(x),
            Conv(wide, (1, 5), dtype=self.dtype, name="wide")(x),
            Conv(tall, (5, 1), dtype=self.dtype, name="tall")(x),
        ]
        return jnp.concatenate(parts, axis=-1)


class OrientationAwareModule(nn.Module):
    """OA(F): oriented convolutions, optional attention, ReLU and a 3x3 fusion, added to the input.

    Attributes:
        attention: whether the oriented features pass a channel attention.
        dtype: type of the arithmetic.
    """

    attention: bool
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [n, h, w, c] to the same shape."""
        y = OrientedConvs((96, 64, 64), self.dtype, name="oriented")(x)
        if self.attention:
            y = ChannelAttention(name="attention")(y)
        return x + Conv(x.shape[-1], dtype=self.dtype, name="fuse")(nn.relu(y))


class FeatureExtraction(nn.Module):
    """FE(F): oriented convolutions, ReLU and a 3x3 fusion, without a skip connection.

    Attributes:
        dtype: type of the arithmetic.
    """

    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [n, h, w, c] to the same shape."""
        y = OrientedConvs((48, 96, 48), self.dtype, name="oriented")(x)
        return Conv(x.shape[-1], dtype=self.dtype, name="fuse")(nn.relu(y))


class Upsampler(nn.Module):
    """Enlarges by convolutions and pixel shuffles: steps of 2 for scales 2, 4 and 8, one step of 3 for 3.

    Attributes:
        scale: 2, 3, 4 or 8.
        relu: whether a ReLU stands before each pixel shuffle.
        edge_padding: padding of the convolutions.
        dtype: type of the arithmetic.
    """

    scale: int
    relu: bool = False
    edge_padding: bool = False
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [n, h, w, c] to [n, h*scale, w*scale, c]."""
        channels, options = x.shape[-1], {"edge_padding": self.edge_padding, "dtype": self.dtype}
        for i, step in enumerate(upsampling_steps(self.scale)):
            x = Conv(channels * step**2, name=f"conv_{i}", **options)(x)
            x = ops.pixel_shuffle(nn.relu(x) if self.relu else x, step)
        return x


def upsampling_steps(scale: int) -> tuple[int, ...]:
    """Returns the factors by which an `Upsampler` reaches a scale: (2,), (3,), (2, 2) or (2, 2, 2)."""
    return (3,) if scale == 3 else (2,) * (scale.bit_length() - 1)
