"""EDSR for x2, the last of four published stages: a learning rate of 1e-7, L1.

Command: realsr-train --config=edsr_finetune3 --workdir=runs/edsr_finetune3
Starts from: the best weights of edsr_finetune2, of the highest score; published: the latest.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 114,345 steps of 16 patches of 200x200, in 99 epochs (published as --epochs 100); not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.configs.edsr_finetune2 import get_config as previous_stage
from realsr_jax.train.optimizers import StepDecay


def get_config():
    """Returns the run."""
    return previous_stage().replace(
        start_from="runs/edsr_finetune2/best",
        schedule=StepDecay(learning_rate=1e-7, decay_at=(150,)),
        epochs=99,
    )
