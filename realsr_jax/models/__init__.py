"""The four networks of the AIM 2020 solution, as linen modules."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from realsr_jax.config import DeepOADDetConfig, DRLNConfig, EDSRConfig, ModelConfig, OADDetConfig
from realsr_jax.models.drln import DRLN
from realsr_jax.models.edsr import EDSR
from realsr_jax.models.oaddet import OADDet

__all__ = ["DRLN", "EDSR", "OADDet", "build_model"]

_MODULES: dict[type, type[nn.Module]] = {
    OADDetConfig: OADDet,
    DeepOADDetConfig: OADDet,
    EDSRConfig: EDSR,
    DRLNConfig: DRLN,
}


def build_model(config: ModelConfig, *, dtype: Any = jnp.float32, remat: bool = False) -> nn.Module:
    """Returns the network that a configuration describes.

    The network maps float32 [n, h, w, 3] in 0..255 to float32 [n, h*scale, w*scale, 3], not clipped.

    Args:
        config: one of the model configurations.
        dtype: type of the arithmetic on features; images stay float32.
        remat: compute each block's features again in the backward pass instead of keeping them.

    Raises:
        ValueError: if no such network exists.
    """
    config.validate()
    return _MODULES[type(config)](config, dtype, remat)
