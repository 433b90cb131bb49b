"""Deep-OADDet for x2, the second of four published stages: clean real pairs, L1.

Command: realsr-train --config=deep_oaddet_aim --workdir=runs/deep_oaddet_aim
Starts from: the best weights of deep_oaddet_div2k.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 350,000 steps of 32 patches of 128x128; not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.data.sources import Aim
from realsr_jax.train.optimizers import StepDecay
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    return TrainConfig(
        model=DeepOADDetConfig(),
        train=(Aim(clean_list="data/AIM/x2_clean_img_id.txt"),),
        valid=Aim(split="valid"),
        start_from="runs/deep_oaddet_div2k/best",
        schedule=StepDecay(learning_rate=5e-5, decay_at=(100, 200, 300)),
        batch_size=32,
        patch_size=128,
        epochs=350,
    )
