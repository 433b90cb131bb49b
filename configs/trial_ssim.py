"""Second of two stages for small trials: the network of trial_l1, trained further with 20*SSIM.

Command: realsr-train --config=trial_ssim --workdir=runs/trial_ssim
Data: as trial_l1.
Cost: 600 steps of 8 patches of 64x64.
Expected: the score starts near that of trial_l1 and ends above it, though it need not rise in every epoch.
"""

import dataclasses

from realsr_jax.configs.trial_l1 import get_config as first_stage
from realsr_jax.training_config import SSIM, StepDecay, TrainConfig, Weighted


def get_config() -> TrainConfig:
    """Returns the run."""
    return dataclasses.replace(
        first_stage(),
        start_from="runs/trial_l1/best",
        losses=(Weighted(SSIM(), 20.0),),
        schedule=StepDecay(learning_rate=1e-4, decay_at=(3,)),
    )
