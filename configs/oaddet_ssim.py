"""OADDet for x2, the last of three published stages: clean real pairs in large patches, 20*SSIM.

Command: realsr-train --config=oaddet_ssim --workdir=runs/oaddet_ssim
Starts from: the latest weights of oaddet_aim.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 457,281 steps of 4 patches of 420x420, in 99 epochs (published as --epochs 100); not measured here.
    A batch has a third more pixels than in oaddet_aim: remat saves memory and leaves the result as it is;
    --config.accumulate=4 saves more.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.configs.oaddet_aim import get_config as previous_stage
from realsr_jax.data.sources import Aim
from realsr_jax.losses import SSIM, Weighted
from realsr_jax.train.optimizers import StepDecay


def get_config():
    """Returns the run."""
    return previous_stage().replace(
        train=(Aim(clean_list="data/AIM/x2_clean_img_id.txt"),),
        start_from="runs/oaddet_aim/latest",
        losses=(Weighted(SSIM(), 20.0),),
        schedule=StepDecay(learning_rate=1e-6, decay_at=(100,)),
        batch_size=4,
        patch_size=420,
        epochs=99,
        remat=True,
    )
