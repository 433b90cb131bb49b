"""OADDet for x2, the first of three published stages: bicubic LR images, L1, from scratch.

Command: realsr-train --config=oaddet_div2k --workdir=runs/oaddet_div2k
Data: DIV2K with bicubic LR images in data/DIV2K; images 1 to 800 train, 801 to 810 validate.
Cost: 299,000 steps of 32 patches of 96x96, in 299 epochs (published as --epochs 300); not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.data.sources import Div2k
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.train.optimizers import StepDecay
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    return TrainConfig(
        model=OADDetConfig(),
        train=(Div2k(),),
        valid=Div2k(first=801, last=810),
        schedule=StepDecay(learning_rate=1e-4, decay_at=(100, 200)),
        batch_size=32,
        patch_size=96,
        epochs=299,
    )
