"""OADDet for x2, the second of three published stages: real pairs, L1.

Command: realsr-train --config=oaddet_aim --workdir=runs/oaddet_aim
Starts from: the best weights of oaddet_div2k, of the highest score; published: the latest.
Data: all AIM 2020 pairs of scale 2 in data/AIM/X2; X2/valid validates.
Cost: 355,806 steps of 32 patches of 128x128, in 599 epochs (published as --epochs 600); not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.data.sources import Aim
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.train.optimizers import StepDecay
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    return TrainConfig(
        model=OADDetConfig(),
        train=(Aim(),),
        valid=Aim(split="valid"),
        start_from="runs/oaddet_div2k/best",
        schedule=StepDecay(learning_rate=5e-5, decay_at=(150, 300, 450, 600)),
        batch_size=32,
        patch_size=128,
        epochs=599,
    )
