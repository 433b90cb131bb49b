"""DRLN for x2, the first of four published stages: as edsr_aim but for the network and its start.

Command: realsr-train --config=drln_aim --workdir=runs/drln_aim
Starts from: the official x2 checkpoint: realsr-convert --input=drln_x2.pt --output=weights/drln_x2
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 300,000 steps of 24 patches of 128x128; not measured here.
Expected: the published code gives no figure for this stage.
"""

import dataclasses

from realsr_jax.models.drln import DRLNConfig
from realsr_jax.configs.edsr_aim import get_config as stage_of_edsr
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    return dataclasses.replace(
        stage_of_edsr(),
        model=DRLNConfig(),
        start_from="weights/drln_x2",
    )
