"""The networks, by name: each is one file here, one in `convert`, and a line in the registry of both.

A file is imported when its network is first asked for, so that listing the names does not start JAX.
"""

from typing import TYPE_CHECKING, Any

from realsr_jax.system.registry import Registry

if TYPE_CHECKING:
    import flax.linen as nn
    import jax

    from realsr_jax.models.network import ModelConfig, Network

NETWORKS: "Registry[Network]" = Registry(
    {
        "oaddet": "realsr_jax.models.oaddet:OADDET",
        "deep_oaddet": "realsr_jax.models.deep_oaddet:DEEP_OADDET",
        "edsr": "realsr_jax.models.edsr:EDSR",
        "drln": "realsr_jax.models.drln:DRLN",
    }
)
"""The networks by the names under which ``model.json`` and the command line know them."""


def network_of(config: "ModelConfig") -> "Network":
    """Returns the network that a configuration is one of.

    Raises:
        ValueError: if it is not registered.
    """
    return NETWORKS[network_name(config)]


def network_name(config: "ModelConfig") -> str:
    """Returns the name of the network that a configuration is one of; raises as `network_of` does."""
    for name, network in NETWORKS.items():
        if type(config) is network.config_class:
            return name
    raise ValueError(f"{type(config).__name__} is no network's configuration; see realsr_jax.models.NETWORKS")


def build_model(config: "ModelConfig", *, dtype: Any = "float32", remat: bool = False) -> "nn.Module":
    """Returns the network that a configuration describes.

    The network maps float32 [n, h, w, 3] in 0..255 to float32 [n, h*scale, w*scale, 3], not clipped.

    Args:
        config: one of the model configurations.
        dtype: type of the arithmetic on features; images stay float32.
        remat: compute each block's features again in the backward pass instead of keeping them.

    Raises:
        ValueError: if no such network exists.
    """
    import jax.numpy as jnp

    config.validate()
    return network_of(config).module(config, jnp.dtype(dtype), remat)


def parameter_shapes(config: "ModelConfig") -> Any:
    """Returns a network's parameters as `jax.ShapeDtypeStruct`s, nested as its module nests them."""
    import jax
    import jax.numpy as jnp

    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    return jax.eval_shape(build_model(config).init, jax.random.key(0), lr)["params"]


def place_parameters(
    config: "ModelConfig", params: Any, sharding: "jax.sharding.Sharding", *, dtype: Any = "float32"
) -> Any:
    """Puts parameters on devices as inference reads them, so that no call casts or transposes them again.

    Those of convolutions take the type of their layer's arithmetic. On GPUs kernels lie in the order of
    [c_out, kh, kw, c_in], in which cuDNN reads them; functions under `jax.jit` take them as they lie.

    Args:
        config: the network.
        params: float32, nested as its module nests them.
        sharding: the devices.
        dtype: as in `build_model`.
    """
    import jax
    import jax.numpy as jnp
    from jax.experimental.layout import Format, Layout

    from realsr_jax.models.layers import convolution_dtypes

    is_float32 = jnp.dtype(dtype) == jnp.float32
    dtypes = {} if is_float32 else convolution_dtypes(build_model(config, dtype=dtype))
    on_gpu = {device.platform for device in sharding.device_set} == {"gpu"}
    for_kernels = Format(Layout((3, 0, 1, 2)), sharding) if on_gpu else sharding

    def place(path: tuple[Any, ...], array: Any) -> Any:
        layer = tuple(key.key for key in path[:-1])
        array = array.astype(dtypes.get(layer, array.dtype))
        return jax.device_put(array, for_kernels if array.ndim == 4 else sharding)

    return jax.tree_util.tree_map_with_path(place, params)
