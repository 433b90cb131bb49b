"""Deep-OADDet: OADDet with a deeper body, and with orientation-aware modules in its head too.

Source: the AIM 2020 Real Image Super-Resolution report (Wei et al. 2020), team AiAiR; upstream name WDDet.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax

from realsr_jax.models.layers import ChannelAttention, Conv, OrientationAwareModule, leaky_relu
from realsr_jax.models.network import Network
from realsr_jax.models.oaddet import OADDetConfig, OADDetModule, recomputed


@dataclasses.dataclass(unsafe_hash=True)
class DeepOADDetConfig(OADDetConfig):
    """Deep-OADDet (upstream name: WDDet), with the fields of `OADDetConfig`."""

    n_resblocks: int = 40


class _DeepOADDetHead(nn.Module):
    features: int
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        x = Conv(self.features, (5, 5), edge_padding=True, name="enter")(image).astype(self.dtype)
        x = leaky_relu(x)
        module = recomputed(OrientationAwareModule, self.remat)
        for i in range(6):
            x = module(attention=i >= 2, dtype=self.dtype, name=f"module_{i}")(x)
        x = leaky_relu(ChannelAttention(name="attention")(x))
        return image + Conv(3, (3, 3), edge_padding=True, name="exit")(x)


DEEP_OADDET = Network(
    title="Deep-OADDet",
    config_class=DeepOADDetConfig,
    module=functools.partial(OADDetModule, head=_DeepOADDetHead, middle_hidden=96),
    checkpoints="Deep-OADDet (upstream: WDDet)",
    parameters=21_926_255,
    auto_dtype="tensorfloat32",
)
