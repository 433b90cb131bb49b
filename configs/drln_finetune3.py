"""DRLN for x2, the last of four published stages: as edsr_finetune3 but for the network and its start.

Command: realsr-train --config=drln_finetune3 --workdir=runs/drln_finetune3
Starts from: the best weights of drln_finetune2, of the highest score; published: the latest.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 114,345 steps of 16 patches of 200x200, in 99 epochs (published as --epochs 100); not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.configs.edsr_finetune3 import get_config as stage_of_edsr
from realsr_jax.models.drln import DRLNConfig


def get_config():
    """Returns the run."""
    return stage_of_edsr().replace(model=DRLNConfig(), start_from="runs/drln_finetune2/best")
