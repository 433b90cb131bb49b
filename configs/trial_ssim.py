"""Second of two stages for small trials: the network of trial_l1, trained further with 20*SSIM.

Command: realsr-train --config=trial_ssim --workdir=runs/trial_ssim
Data: those of trial_l1.
Cost: 600 steps of 8 patches of 64x64.
Expected: SSIM rises more than with L1 and PSNR falls a little; the score need not rise in every epoch.
    Measured once: SSIM from 0.868 to 0.877, PSNR from 29.2 to 29.1 dB, score from 0.682 to 0.689. With L1 in
    place of SSIM: 0.873, 29.4 dB, 0.689.
"""

from realsr_jax.configs.trial_l1 import get_config as first_stage
from realsr_jax.losses import SSIM, Weighted
from realsr_jax.train.optimizers import StepDecay


def get_config():
    """Returns the run."""
    return first_stage().replace(
        start_from="runs/trial_l1/best",
        losses=(Weighted(SSIM(), 20.0),),
        schedule=StepDecay(learning_rate=1e-4, decay_at=(3,)),
    )
