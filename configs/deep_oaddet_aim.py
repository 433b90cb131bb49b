"""Deep-OADDet for x2, the second of four published stages: clean real pairs, L1.

Command: realsr-train --config=deep_oaddet_aim --workdir=runs/deep_oaddet_aim
Starts from: the best weights of deep_oaddet_div2k, of the highest score; published: the latest.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 201,722 steps of 32 patches of 128x128, in 349 epochs (published as --epochs 350); not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.configs.oaddet_aim import get_config as stage_of_oaddet
from realsr_jax.data.sources import Aim
from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.train.optimizers import StepDecay


def get_config():
    """Returns the run."""
    return stage_of_oaddet().replace(
        model=DeepOADDetConfig(),
        train=(Aim(clean_list="data/AIM/x2_clean_img_id.txt"),),
        start_from="runs/deep_oaddet_div2k/best",
        schedule=StepDecay(learning_rate=5e-5, decay_at=(100, 200, 300)),
        epochs=349,
    )
