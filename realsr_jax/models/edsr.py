"""EDSR: enhanced deep residual network.

Source: Lim et al. 2017, figure 3.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from realsr_jax.models.layers import RGB_MEAN, Conv, Upsampler
from realsr_jax.models.network import ModelConfig, Network
from realsr_jax.system.errors import require


@dataclasses.dataclass(unsafe_hash=True)
class EDSRConfig(ModelConfig):
    """EDSR (Lim et al. 2017) in the paper's size; the baseline has 16 blocks, 64 features and res_scale 1.

    Attributes:
        n_resblocks: residual blocks.
        n_feats: features.
        scale: 2, 3 or 4.
        res_scale: factor on each block's residual.
        edge_padding: True repeats border pixels (AIM 2020 checkpoints), False pads zeros (original EDSR).
    """

    n_resblocks: int = 32
    n_feats: int = 256
    scale: int = 2
    res_scale: float = 0.1
    edge_padding: bool = True

    @property
    def reach(self) -> int:
        """One pixel for each convolution one after the other, and at most two for those that enlarge."""
        return 2 * self.n_resblocks + 4

    def validate(self) -> None:
        """Raises ValueError, with the reason, if no such network exists."""
        super().validate()
        require(self.n_resblocks >= 1, self, "n_resblocks", "at least 1")
        require(self.n_feats >= 1, self, "n_feats", "at least 1")
        require(self.res_scale > 0, self, "res_scale", "more than 0")


class _EDSR(nn.Module):
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

        def conv(features, name, dtype=self.dtype, factor=1.0):
            return Conv(features, edge_padding=config.edge_padding, dtype=dtype, factor=factor, name=name)

        head = conv(config.n_feats, "head", jnp.float32)(lr - RGB_MEAN).astype(self.dtype)

        def block(_, x, i):
            y = nn.relu(conv(config.n_feats, f"body_{i}_conv1")(x))
            return x + conv(config.n_feats, f"body_{i}_conv2", factor=config.res_scale)(y)

        x = head
        for i in range(config.n_resblocks):
            x = (nn.remat(block, static_argnums=2) if self.remat else block)(self, x, i)
        x = head + conv(config.n_feats, "body_end")(x)
        x = Upsampler(config.scale, edge_padding=config.edge_padding, dtype=self.dtype, name="upsample")(x)
        return conv(3, "tail", jnp.float32)(x) + RGB_MEAN


EDSR = Network(
    title="EDSR",
    config_class=EDSRConfig,
    module=_EDSR,
    checkpoints="EDSR, as fine-tuned for AIM 2020 or the official files, baseline and paper size, x2 x3 x4",
    parameters=40_729_603,
    other_sizes=(EDSRConfig(n_resblocks=16, n_feats=64, res_scale=1.0),),
    not_in_shapes=("res_scale", "edge_padding"),
    auto_dtype="bfloat16",
)
