"""DRLN: densely residual Laplacian network.

Source: Anwar and Barnes 2019, figures 1 and 2; wiring as in the released weights.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from realsr_jax.models.layers import UNIT_RGB_MEAN, Conv, Upsampler
from realsr_jax.models.network import ModelConfig, Network
from realsr_jax.system.errors import require

FEATURES = 64
GROUPS = (3, 3, 3, 3, 4, 4)
"""Blocks in each group."""

BYPASSED_COMPRESSION = 4
"""The compression, counted over all groups, whose output no block reads; the next reads the group's input."""


@dataclasses.dataclass(unsafe_hash=True)
class DRLNConfig(ModelConfig):
    """DRLN (Anwar and Barnes 2019), whose only option is the scale.

    Attributes:
        scale: 2, 3, 4 or 8.
    """

    scale: int = 2

    def validate(self) -> None:
        """Raises ValueError, with the reason, if no such network exists."""
        require(self.scale in (2, 3, 4, 8), self, "scale", "2, 3, 4 or 8")


class _Residual(nn.Module):
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        channels = x.shape[-1]
        y = nn.relu(Conv(channels, dtype=self.dtype, name="conv1")(x))
        return nn.relu(x + Conv(channels, dtype=self.dtype, name="conv2")(y))


class LaplacianAttention(nn.Module):
    """Scales each channel by a gate from the channels' means, through a pyramid of dilated convolutions.

    The convolutions run on a 1x1 map, where only their centre tap acts.

    Attributes:
        dtype: type of the result.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [n, h, w, 64] to the same shape."""
        mean = jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32)
        pyramid = [nn.relu(Conv(FEATURES // 16, dilation=d, name=f"dilated_{d}")(mean)) for d in (3, 5, 7)]
        gate = nn.sigmoid(Conv(FEATURES, name="excite")(jnp.concatenate(pyramid, axis=-1)))
        return x * gate.astype(self.dtype)


class _Block(nn.Module):
    """Three residual units with dense connections, a compression to 64 channels and attention."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(2):
            x = jnp.concatenate([x, _Residual(self.dtype, name=f"residual_{i}")(x)], axis=-1)
        last = _Residual(self.dtype, name="residual_2")(x)
        x = nn.relu(Conv(FEATURES, (1, 1), dtype=self.dtype, name="compress")(x, last))
        return LaplacianAttention(self.dtype, name="attention")(x)


class _DRLN(nn.Module):
    """DRLN on images of 0..255.

    Attributes:
        config: the scale.
        dtype: type of the arithmetic on features.
        remat: whether the backward pass computes each block's features again.
    """

    config: DRLNConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        """Upscales float32 [n, h, w, 3] to float32 [n, h*scale, w*scale, 3]."""
        mean = UNIT_RGB_MEAN  # all but nothing on 0..255, but the network was trained with it
        head = Conv(FEATURES, name="head")(lr - mean).astype(self.dtype)
        group_input = compressed = head
        block = nn.remat(_Block) if self.remat else _Block
        number = 0
        for n_blocks in GROUPS:
            gathered, x = compressed, group_input
            for _ in range(n_blocks):
                number += 1
                gathered = jnp.concatenate([gathered, block(self.dtype, name=f"block_{number}")(x)], axis=-1)
                compressed = nn.relu(Conv(FEATURES, dtype=self.dtype, name=f"compress_{number}")(gathered))
                x = group_input if number == BYPASSED_COMPRESSION else compressed
            group_input = compressed + group_input
        x = Upsampler(self.config.scale, relu=True, dtype=self.dtype, name="upsample")(group_input + head)
        return Conv(3, name="tail")(x) + mean


DRLN = Network(
    title="DRLN",
    config_class=DRLNConfig,
    module=_DRLN,
    checkpoints="DRLN x2 x3 x4 x8",
    parameters=34_430_155,
    auto_dtype="tensorfloat32",
)
