"""EDSR: enhanced deep residual network.

Source: Lim et al. 2017, figure 3.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from realsr_jax import ops
from realsr_jax.models.layers import RGB_MEAN, Conv, Upsampler, upsampling_steps
from realsr_jax.models.network import ModelConfig, Network, require_sizes
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
        require_sizes(self)
        require(0 < self.res_scale <= 100, self, "res_scale", "more than 0 and at most 100")


class _Block(nn.Module):
    config: EDSRConfig
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        config = self.config

        def conv(name, factor=1.0):
            padding = config.edge_padding
            return Conv(config.n_feats, edge_padding=padding, dtype=self.dtype, factor=factor, name=name)

        return x + conv("conv2", config.res_scale)(nn.relu(conv("conv1")(x)))


class _EDSR(nn.Module):
    """EDSR on images of 0..255.

    Attributes:
        config: sizes and padding.
        dtype: type of the arithmetic on features.
        remat: whether the backward pass computes each block's features again.
        folded: whether the last two convolutions are computed as one where they can be.
    """

    config: EDSRConfig
    dtype: Any = jnp.float32
    remat: bool = False
    folded: bool = True

    @nn.compact
    def __call__(self, lr: jax.Array) -> jax.Array:
        """Upscales float32 [n, h, w, 3] to float32 [n, h*scale, w*scale, 3]."""
        config = self.config

        def conv(features, name, dtype=self.dtype):
            return Conv(features, edge_padding=config.edge_padding, dtype=dtype, name=name)

        head = conv(config.n_feats, "head", jnp.float32)(lr - RGB_MEAN).astype(self.dtype)
        x = head + conv(config.n_feats, "body_end")(self._body(head))
        at_once = self.folded and len(upsampling_steps(config.scale)) == 1
        dtype = jnp.float32 if at_once else self.dtype
        upsample = Upsampler(config.scale, edge_padding=config.edge_padding, dtype=dtype, name="upsample")
        tail = conv(3, "tail", jnp.float32)
        sr = self._enlarge_at_once(x, upsample, tail) if at_once else tail(upsample(x))
        return sr + RGB_MEAN

    def _body(self, x: jax.Array) -> jax.Array:
        """Applies the residual blocks, which are compiled once: they differ in their parameters only."""
        config = self.config
        block = _Block(config, self.dtype, parent=None)
        names = [f"body_{i}" for i in range(config.n_resblocks)]
        if self.is_initializing():
            for name in names:
                for part in ("conv1", "conv2"):
                    Conv(config.n_feats, dtype=self.dtype, name=f"{name}_{part}")(x)
            return x
        params = self.variables["params"]
        each = [{part: params[f"{name}_{part}"] for part in ("conv1", "conv2")} for name in names]
        stacked = jax.tree.map(lambda *arrays: jnp.stack(arrays), *each)

        def step(x: jax.Array, params: Any) -> tuple[jax.Array, None]:
            return jnp.asarray(block.apply({"params": params}, x)), None

        return jax.lax.scan(jax.checkpoint(step) if self.remat else step, x, stacked)[0]

    def _enlarge_at_once(self, x: jax.Array, upsample: Upsampler, tail: Conv) -> jax.Array:
        """Returns ``tail(upsample(x))``, computed as one convolution.

        There is nothing between the two convolutions but the pixel shuffle, so that they are one of 5x5 to
        scale**2 colours, which needs an eighth of the products and no features of the result's size. Only the
        outermost pixels of the result are others, as the second convolution is padded too.
        """
        top, bottom, left, right = (
            tail(upsample(part)) for part in (x[:, :2], x[:, -2:], x[:, :, :2], x[:, :, -2:])
        )
        kernel, bias = _folded(upsample.variables["params"]["conv_0"], tail, self.config.scale)
        sr = ops.conv2d(x.astype(jnp.float32), kernel, edge_padding=self.config.edge_padding) + bias
        sr = ops.pixel_shuffle(sr, self.config.scale)
        sr = sr.at[:, :1].set(top[:, :1]).at[:, -1:].set(bottom[:, -1:])
        return sr.at[:, :, :1].set(left[:, :, :1]).at[:, :, -1:].set(right[:, :, -1:])


def _folded(params: Any, tail: Conv, scale: int) -> tuple[jax.Array, jax.Array]:
    """Returns kernel and bias of a 3x3 convolution, the pixel shuffle and another 3x3 convolution in one.

    Args:
        params: of the first convolution: kernel [3, 3, c, c*scale**2] and bias.
        tail: the second, from c channels to 3.
        scale: of the shuffle.
    """
    kernel, bias = (jnp.asarray(params[name], jnp.float32) for name in ("kernel", "bias"))
    # What the first makes of a pixel of each channel, and of no pixel at all, goes through the second.
    response = jnp.pad(kernel[::-1, ::-1].transpose(2, 0, 1, 3), ((0, 1), (1, 1), (1, 1), (0, 0)))
    response = response.at[-1].set(bias)
    response = ops.space_to_depth(tail(ops.pixel_shuffle(response, scale)), scale)
    alone = jnp.repeat(tail(jnp.zeros((1, 1, 1, kernel.shape[2]))), scale**2, axis=-1)
    return (response[:-1] - alone)[:, ::-1, ::-1].transpose(1, 2, 0, 3), response[-1, 2, 2]


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
