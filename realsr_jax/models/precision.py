"""What the names of number formats mean, in upscaling and in training alike.

=================  =====================  ============================================================
name               features               products of float32 numbers
=================  =====================  ============================================================
``float32``        float32                in full
``tensorfloat32``  float32                operands rounded to 10 bits after the binary point, on GPUs
                                          that can; elsewhere it is ``float32``
``bfloat16``       bfloat16, 7 bits       as the device prefers, which on GPUs is TF32; parameters, and
                                          images where they enter and leave a network, stay float32
``auto``           the fastest of them for the network and the device that is close to ``float32``
=================  =====================  ============================================================

Sums of products are float32 in all of them. Close means that results differ by less than a quarter of a grey
level RMS on photos (`Network.auto_dtype`). Nothing here imports JAX before it is used.
"""

import contextlib
import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from realsr_jax.models import network_of
from realsr_jax.system.errors import did_you_mean

if TYPE_CHECKING:
    from realsr_jax.models.network import ModelConfig

DTYPES: Final = ("float32", "tensorfloat32", "bfloat16", "auto")
"""The names."""

_MATMUL_PRECISIONS: Final = {"float32": "float32", "tensorfloat32": "tensorfloat32", "bfloat16": "default"}


@dataclasses.dataclass(frozen=True)
class Precision:
    """How a network computes.

    Attributes:
        name: one of `DTYPES`, but not "auto".
    """

    name: str

    @property
    def dtype(self) -> Any:
        """The NumPy dtype of the arithmetic on features, as `build_model` takes it."""
        import jax.numpy as jnp

        return jnp.dtype(jnp.bfloat16 if self.name == "bfloat16" else jnp.float32)

    def tracing(self) -> contextlib.AbstractContextManager[None]:
        """Returns the context in which functions that run the network are called or compiled.

        Inside a function that is compiled it does not suffice: convolutions are lowered after tracing.
        """
        import jax

        return jax.default_matmul_precision(_MATMUL_PRECISIONS[self.name])


def check_dtype(name: str, config: object = None) -> None:
    """Raises ValueError, which names the configuration that holds it, unless a name is one of `DTYPES`."""
    if name not in DTYPES:
        *others, last = map(repr, DTYPES)
        holder = "" if config is None else f"{type(config).__name__}: "
        guess = did_you_mean(name, DTYPES)
        raise ValueError(f"{holder}dtype is {name!r}, {guess}expected {', '.join(others)} or {last}")


def resolve_precision(name: str, model_config: "ModelConfig", device: Any) -> Precision:
    """Returns how a network computes on a device.

    Args:
        name: one of `DTYPES`.
        model_config: the network.
        device: the `jax.Device` where it runs.

    Raises:
        ValueError: if there is no such name.
    """
    check_dtype(name)
    if name == "auto":
        name = network_of(model_config).auto_dtype if has_fast_bfloat16(device) else "float32"
    return Precision("float32" if name == "tensorfloat32" and device.platform == "cpu" else name)


def has_fast_bfloat16(device: Any) -> bool:
    """Returns whether a device multiplies bfloat16 in hardware, as NVIDIA's GPUs do that know TF32."""
    if device.platform == "cpu":
        return _cpu_has_bfloat16()
    capability = str(getattr(device, "compute_capability", ""))  # "8.0", but "gfx90a" on AMD's GPUs
    return not capability[:1].isdigit() or float(capability) >= 8


@functools.cache
def _cpu_has_bfloat16() -> bool:
    """Returns whether the processor has AVX512-BF16 or AMX; False where that cannot be told."""
    try:
        words = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(words)
