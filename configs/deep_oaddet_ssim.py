"""Deep-OADDet for x2, the last of four published stages: clean real pairs in large patches, 20*SSIM.

Command: realsr-train --config=deep_oaddet_ssim --workdir=runs/deep_oaddet_ssim
Starts from: the latest weights of deep_oaddet_large.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 457,281 steps of 4 patches of 400x400, in 99 epochs (published as --epochs 100); not measured here.
    A batch has a fifth more pixels than in deep_oaddet_large: remat saves memory and leaves the result as
    it is; --config.accumulate=4 saves more.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.configs.oaddet_ssim import get_config as stage_of_oaddet
from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.train.optimizers import StepDecay


def get_config():
    """Returns the run."""
    return stage_of_oaddet().replace(
        model=DeepOADDetConfig(),
        start_from="runs/deep_oaddet_large/latest",
        schedule=StepDecay(learning_rate=1e-5, decay_at=(100,)),
        patch_size=400,
    )
