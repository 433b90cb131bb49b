"""Deep-OADDet for x2, the first of four published stages: bicubic LR images, L1, from scratch.

Command: realsr-train --config=deep_oaddet_div2k --workdir=runs/deep_oaddet_div2k
Data: DIV2K with bicubic LR images in data/DIV2K; images 1 to 800 train, 801 to 810 validate.
Cost: 29,000 steps of 32 patches of 96x96, in 29 epochs (published as --epochs 30); not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.configs.oaddet_div2k import get_config as stage_of_oaddet
from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.train.optimizers import StepDecay


def get_config():
    """Returns the run."""
    return stage_of_oaddet().replace(
        model=DeepOADDetConfig(),
        schedule=StepDecay(learning_rate=1e-4, decay_at=(30,)),
        epochs=29,
    )
