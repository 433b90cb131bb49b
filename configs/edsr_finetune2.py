"""EDSR for x2, the third of four published stages: a learning rate of 1e-6, L1.

Command: realsr-train --config=edsr_finetune2 --workdir=runs/edsr_finetune2
Starts from: the best weights of edsr_finetune1, of the highest score; published: the latest.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 345,345 steps of 16 patches of 200x200, in 299 epochs (published as --epochs 300); not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.configs.edsr_finetune1 import get_config as previous_stage
from realsr_jax.train.optimizers import StepDecay


def get_config():
    """Returns the run."""
    return previous_stage().replace(
        start_from="runs/edsr_finetune1/best",
        schedule=StepDecay(learning_rate=1e-6, decay_at=(150,)),
    )
