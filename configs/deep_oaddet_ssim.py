"""Deep-OADDet for x2, the last of four published stages: clean real pairs in large patches, 20*SSIM.

Command: realsr-train --config=deep_oaddet_ssim --workdir=runs/deep_oaddet_ssim
Starts from: the latest weights of deep_oaddet_large.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 100,000 steps of 4 patches of 400x400; not measured here.
    A batch has a fifth more pixels than in deep_oaddet_large: remat saves memory and leaves the result as
    it is; --config.accumulate=4 saves more.
Expected: the published code gives no figure for this stage.
"""

import dataclasses

from realsr_jax.configs.deep_oaddet_aim import get_config as second_stage
from realsr_jax.losses import SSIM, Weighted
from realsr_jax.train.optimizers import StepDecay
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    return dataclasses.replace(
        second_stage(),
        start_from="runs/deep_oaddet_large/latest",
        losses=(Weighted(SSIM(), 20.0),),
        schedule=StepDecay(learning_rate=1e-5, decay_at=(100,)),
        batch_size=4,
        patch_size=400,
        epochs=100,
        remat=True,
    )
