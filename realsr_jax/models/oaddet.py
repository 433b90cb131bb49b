"""OADDet: orientation-aware modules and dual dynamic filters; with another head, Deep-OADDet.

Both refine the bicubically enlarged image in a head, predict kernels for every pixel from a deep body at the
LR image's resolution, filter the head's image with them, and merge the filtered images.

Source: the AIM 2020 Real Image Super-Resolution report (Wei et al. 2020), team AiAiR; upstream name DDDet.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from realsr_jax import ops
from realsr_jax.models.layers import (
    RGB_MEAN,
    ChannelAttention,
    Conv,
    FeatureExtraction,
    OrientationAwareModule,
    leaky_relu,
)
from realsr_jax.models.network import ModelConfig, Network, require_sizes
from realsr_jax.system.errors import require


@dataclasses.dataclass(unsafe_hash=True)
class OADDetConfig(ModelConfig):
    """OADDet, orientation-aware modules and dual dynamic filters (upstream name: DDDet).

    Attributes:
        n_resblocks: orientation-aware modules in the body; those from ``n_resblocks // 4 * 3`` on attend.
        n_feats: features, a multiple of ``scale**2``.
        scale: 2, 3 or 4.
    """

    n_resblocks: int = 32
    n_feats: int = 128
    scale: int = 2

    def validate(self) -> None:
        """Raises ValueError, with the reason, if no such network exists."""
        super().validate()
        require_sizes(self, least_feats=8, why=", since channel attention reduces by 8,")
        require(
            self.n_feats % self.scale**2 == 0,
            self,
            "n_feats",
            f"a multiple of {self.scale**2} at scale {self.scale}, since the body ends in a pixel shuffle",
        )


def recomputed(module: type[nn.Module], remat: bool) -> Any:
    """Returns a module's class, whose features the backward pass computes again if asked to."""
    return nn.remat(module) if remat else module


class _OADDetHead(nn.Module):
    features: int
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        x = Conv(self.features, (5, 5), edge_padding=True, name="enter")(image).astype(self.dtype)
        extract = recomputed(FeatureExtraction, self.remat)
        for i in range(3):
            x = extract(self.dtype, name=f"extract_{i}")(leaky_relu(x))
        x = leaky_relu(ChannelAttention(name="attention")(x))
        return image + Conv(3, (1, 1), name="exit")(x)


class _Body(nn.Module):
    """Features that predict the kernels: [n, h*s, w*s, 3] -> [n, h*s, w*s, features]."""

    n_modules: int
    features: int
    scale: int
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        def conv(name, dtype=self.dtype):
            return Conv(self.features, edge_padding=True, dtype=dtype, name=name)

        x = conv("enter", jnp.float32)(ops.space_to_depth(image, self.scale)).astype(self.dtype)
        first_attention = self.n_modules // 4 * 3
        module = recomputed(OrientationAwareModule, self.remat)
        for i in range(self.n_modules):
            x = module(attention=i >= first_attention, dtype=self.dtype, name=f"module_{i}")(x)
        x = ops.pixel_shuffle(conv("end")(x), self.scale)
        return nn.relu(conv("tail2")(nn.relu(conv("tail1")(x))))


class _DynamicFilter(nn.Module):
    """Predicts a kernel for every pixel and colour from features and filters an image with them."""

    kernel_size: int
    hidden: int
    dtype: Any

    @nn.compact
    def __call__(self, image: jax.Array, features: jax.Array) -> jax.Array:
        hidden = nn.relu(Conv(self.hidden, dtype=self.dtype, name="hidden")(features))
        kernels = Conv(3 * self.kernel_size**2, dtype=self.dtype, name="kernels")(hidden)
        return ops.dynamic_filter(image, kernels)


class OADDetModule(nn.Module):
    """OADDet, or another network that differs in its head, on images of 0..255.

    Attributes:
        config: its sizes.
        dtype: type of the arithmetic on features.
        remat: whether the backward pass computes each module's features again.
        head: module of the head, made like `_OADDetHead`.
        middle_hidden: hidden channels of the 7x7 dynamic filter; the others have 64.
    """

    config: OADDetConfig
    dtype: Any = jnp.float32
    remat: bool = False
    head: type[nn.Module] = _OADDetHead
    middle_hidden: int = 64

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        """Upscales float32 [n, h, w, 3] to float32 [n, h*scale, w*scale, 3]."""
        config = self.config
        enlarged = ops.resize_bicubic(lr, config.scale) - RGB_MEAN
        body = _Body(config.n_resblocks, config.n_feats, config.scale, self.dtype, self.remat, name="body")
        features = body(enlarged)
        image = self.head(config.n_feats, self.dtype, self.remat, name="head")(enlarged)
        dynamic_filter = recomputed(_DynamicFilter, self.remat)
        filtered = [
            dynamic_filter(size, hidden, self.dtype, name=f"filter_{size}")(image, features)
            for size, hidden in ((5, 64), (7, self.middle_hidden), (3, 64))
        ]
        x = Conv(config.n_feats, edge_padding=True, name="tail1")(jnp.concatenate(filtered, axis=-1))
        return Conv(3, edge_padding=True, name="tail2")(nn.relu(x)) + RGB_MEAN


OADDET = Network(
    title="OADDet",
    config_class=OADDetConfig,
    module=OADDetModule,
    checkpoints="OADDet (upstream: DDDet)",
    parameters=16_484_511,
    auto_dtype="tensorfloat32",
)
