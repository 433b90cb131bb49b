"""EDSR for x2, the first of four published stages: clean real pairs, L1, from the official network.

Command: realsr-train --config=edsr_aim --workdir=runs/edsr_aim
Starts from: the official x2 checkpoint: realsr-convert --input=edsr_x2.pt --output=weights/edsr_x2
    It pads zeros and this run trains with edge padding, as published; both have the same parameters.
Data: the washed AIM 2020 pairs, those of data/AIM/X2 on the list data/AIM/x2_clean_img_id.txt.
Cost: 230,230 steps of 24 patches of 128x128, in 299 epochs (published as --epochs 300); not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.data.sources import Aim
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.train.optimizers import StepDecay
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    return TrainConfig(
        model=EDSRConfig(),
        train=(Aim(clean_list="data/AIM/x2_clean_img_id.txt"),),
        valid=Aim(split="valid"),
        start_from="weights/edsr_x2",
        schedule=StepDecay(learning_rate=1e-4, decay_at=(150,)),
        batch_size=24,
        patch_size=128,
        epochs=299,
    )
