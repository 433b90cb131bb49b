"""PyTorch checkpoints to weights directories and back, without PyTorch.

How checkpoints hold a network is one file here and a line in the registry, under the network's name in
`models.NETWORKS`. A file is imported when its network is first asked for.
"""

from typing import TYPE_CHECKING

from realsr_jax.system.registry import Registry

if TYPE_CHECKING:
    from realsr_jax.convert.rules import CheckpointLayout

LAYOUTS: "Registry[CheckpointLayout]" = Registry(
    {
        "oaddet": "realsr_jax.convert.oaddet:OADDET_LAYOUT",
        "deep_oaddet": "realsr_jax.convert.deep_oaddet:DEEP_OADDET_LAYOUT",
        "edsr": "realsr_jax.convert.edsr:EDSR_LAYOUT",
        "drln": "realsr_jax.convert.drln:DRLN_LAYOUT",
    }
)
"""How released checkpoints hold each network."""
