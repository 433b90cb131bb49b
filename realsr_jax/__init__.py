"""Real-photo super-resolution in JAX: the public interface.

`upscale` enlarges an image with the default network; `load_upscaler` makes a callable of any network, with
tilings and ensembles of choice; `losses`, `metrics` and `ops` hold the functions behind training, evaluation
and inference. They are imported on first use, so that the command line starts quickly.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realsr_jax import losses, metrics, ops
    from realsr_jax.upscaling.interface import upscale
    from realsr_jax.upscaling.upscaler import Upscaler, load_upscaler

__all__ = ["Upscaler", "load_upscaler", "losses", "metrics", "ops", "upscale"]
__version__ = "0.2.0"


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("losses", "metrics", "ops"):
        return importlib.import_module(f"realsr_jax.{name}")
    if name in __all__:
        module = "interface" if name == "upscale" else "upscaler"
        return getattr(importlib.import_module(f"realsr_jax.upscaling.{module}"), name)
    raise AttributeError(f"module 'realsr_jax' has no attribute {name!r}")
