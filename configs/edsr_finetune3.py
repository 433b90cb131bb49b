"""EDSR for x2, the last of four published stages: a learning rate of 1e-7, L1.

Command: realsr-train --config=edsr_finetune3 --workdir=runs/edsr_finetune3
Starts from: the best weights of edsr_finetune2.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 100,000 steps of 16 patches of 200x200; not measured here.
Expected: the published code gives no figure for this stage.
"""

import dataclasses

from realsr_jax.configs.edsr_finetune2 import get_config as previous_stage
from realsr_jax.train.optimizers import StepDecay
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    return dataclasses.replace(
        previous_stage(),
        start_from="runs/edsr_finetune2/best",
        schedule=StepDecay(learning_rate=1e-7, decay_at=(150,)),
        epochs=100,
    )
