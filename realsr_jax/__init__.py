"""Real-photo super-resolution in JAX: the public interface.

`load_upscaler` makes a callable that upscales images; `losses`, `metrics` and `ops` hold the functions behind
training, evaluation and inference. They are imported on first use, so that the command line starts quickly.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from realsr_jax import losses, metrics, ops
    from realsr_jax.upscale.upscaler import Upscaler, load_upscaler

__all__ = ["Upscaler", "load_upscaler", "losses", "metrics", "ops"]
__version__ = "0.2.0"


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def __getattr__(name: str) -> Any:
    if name in ("losses", "metrics", "ops"):
        return importlib.import_module(f"realsr_jax.{name}")
    if name in ("Upscaler", "load_upscaler"):
        return getattr(importlib.import_module("realsr_jax.upscale.upscaler"), name)
    raise AttributeError(f"module 'realsr_jax' has no attribute {name!r}")
