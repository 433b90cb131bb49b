"""DRLN for x2, the first of four published stages: as edsr_aim but for the network and its start.

Command: realsr-train --config=drln_aim --workdir=runs/drln_aim
Starts from: the official x2 checkpoint: realsr-convert --input=drln_x2.pt --output=weights/drln_x2
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 230,230 steps of 24 patches of 128x128, in 299 epochs (published as --epochs 300); not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.configs.edsr_aim import get_config as stage_of_edsr
from realsr_jax.models.drln import DRLNConfig


def get_config():
    """Returns the run."""
    return stage_of_edsr().replace(model=DRLNConfig(), start_from="weights/drln_x2")
