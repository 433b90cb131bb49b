"""DRLN for x2, the second of four published stages: as edsr_finetune1 but for the network and its start.

Command: realsr-train --config=drln_finetune1 --workdir=runs/drln_finetune1
Starts from: the best weights of drln_aim.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 300,000 steps of 16 patches of 200x200; not measured here.
Expected: the published code gives no figure for this stage.
"""

import dataclasses

from realsr_jax.models.drln import DRLNConfig
from realsr_jax.configs.edsr_finetune1 import get_config as stage_of_edsr
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    return dataclasses.replace(
        stage_of_edsr(),
        model=DRLNConfig(),
        start_from="runs/drln_aim/best",
    )
