"""EDSR for x2, the second of four published stages: larger patches, a lower learning rate, L1.

Command: realsr-train --config=edsr_finetune1 --workdir=runs/edsr_finetune1
Starts from: the best weights of edsr_aim.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 300,000 steps of 16 patches of 200x200; not measured here.
Expected: the published code gives no figure for this stage.
"""

import dataclasses

from realsr_jax.configs.edsr_aim import get_config as previous_stage
from realsr_jax.train.optimizers import StepDecay
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    return dataclasses.replace(
        previous_stage(),
        start_from="runs/edsr_aim/best",
        schedule=StepDecay(learning_rate=1e-5, decay_at=(150,)),
        batch_size=16,
        patch_size=200,
    )
