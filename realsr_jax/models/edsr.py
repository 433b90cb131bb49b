"""EDSR: enhanced deep residual network.

Source: Lim et al. 2017, figure 3.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from realsr_jax.config import EDSRConfig
from realsr_jax.layers import RGB_MEAN, Conv, Upsampler


class EDSR(nn.Module):
    """EDSR on images of 0..255.

    Attributes:
        config: sizes and padding.
        dtype: type of the arithmetic on features.
        remat: whether the backward pass computes each block's features again.
    """

    config: EDSRConfig
    dtype: Any = jnp.float32
    remat: bool = False

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        """Upscales float32 [n, h, w, 3] to float32 [n, h*scale, w*scale, 3]."""
        config = self.config

        def conv(features, name, dtype=self.dtype):
            return Conv(features, edge_padding=config.edge_padding, dtype=dtype, name=name)

        head = conv(config.n_feats, "head", jnp.float32)(lr - RGB_MEAN).astype(self.dtype)

        def block(_, x, i):
            y = nn.relu(conv(config.n_feats, f"body_{i}_conv1")(x))
            return x + config.res_scale * conv(config.n_feats, f"body_{i}_conv2")(y)

        x = head
        for i in range(config.n_resblocks):
            x = (nn.remat(block, static_argnums=2) if self.remat else block)(self, x, i)
        x = head + conv(config.n_feats, "body_end")(x)
        x = Upsampler(config.scale, edge_padding=config.edge_padding, dtype=self.dtype, name="upsample")(x)
        return conv(3, "tail", jnp.float32)(x) + RGB_MEAN
