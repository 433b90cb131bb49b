"""OADDet and Deep-OADDet: orientation-aware modules and dual dynamic filters.

Both refine the bicubically enlarged image in a head, predict kernels for every pixel from a deep body at the
LR image's resolution, filter the head's image with them, and merge the filtered images.

Source: the AIM 2020 Real Image Super-Resolution report (Wei et al. 2020), team AiAiR; upstream names DDDet
and WDDet.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from realsr_jax import ops
from realsr_jax.config import DeepOADDetConfig, OADDetConfig
from realsr_jax.layers import (
    RGB_MEAN,
    ChannelAttention,
    Conv,
    FeatureExtraction,
    OrientationAwareModule,
    leaky_relu,
)


def _block(module: type[nn.Module], remat: bool) -> Any:
    """Returns a module's class, whose features the backward pass computes again if asked to."""
    return nn.remat(module) if remat else module


class _OADDetHead(nn.Module):
    features: int
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        x = Conv(self.features, (5, 5), edge_padding=True, name="enter")(image).astype(self.dtype)
        extract = _block(FeatureExtraction, self.remat)
        for i in range(3):
            x = extract(self.dtype, name=f"extract_{i}")(leaky_relu(x))
        x = leaky_relu(ChannelAttention(name="attention")(x))
        return image + Conv(3, (1, 1), name="exit")(x)


class _DeepOADDetHead(nn.Module):
    features: int
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        x = Conv(self.features, (5, 5), edge_padding=True, name="enter")(image).astype(self.dtype)
        x = leaky_relu(x)
        module = _block(OrientationAwareModule, self.remat)
        for i in range(6):
            x = module(attention=i >= 2, dtype=self.dtype, name=f"module_{i}")(x)
        x = leaky_relu(ChannelAttention(name="attention")(x))
        return image + Conv(3, (3, 3), edge_padding=True, name="exit")(x)


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
        module = _block(OrientationAwareModule, self.remat)
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


class OADDet(nn.Module):
    """OADDet, or Deep-OADDet with its configuration, on images of 0..255.

    Attributes:
        config: which of the two, and its sizes.
        dtype: type of the arithmetic on features.
        remat: whether the backward pass computes each module's features again.
    """

    config: OADDetConfig | DeepOADDetConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        """Upscales float32 [n, h, w, 3] to float32 [n, h*scale, w*scale, 3]."""
        config = self.config
        is_deep = isinstance(config, DeepOADDetConfig)
        enlarged = ops.resize_bicubic(lr, config.scale) - RGB_MEAN
        body = _Body(config.n_resblocks, config.n_feats, config.scale, self.dtype, self.remat, name="body")
        features = body(enlarged)
        head = _DeepOADDetHead if is_deep else _OADDetHead
        image = head(config.n_feats, self.dtype, self.remat, name="head")(enlarged)
        filtered = [
            _block(_DynamicFilter, self.remat)(size, hidden, self.dtype, name=f"filter_{size}")(
                image, features
            )
            for size, hidden in ((5, 64), (7, 96 if is_deep else 64), (3, 64))
        ]
        x = Conv(config.n_feats, edge_padding=True, name="tail1")(jnp.concatenate(filtered, axis=-1))
        return Conv(3, edge_padding=True, name="tail2")(nn.relu(x)) + RGB_MEAN
