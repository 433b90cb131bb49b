"""First of two stages for small trials: a small EDSR for x2 from scratch with L1, on photos.

Command: realsr-train --config=trial_l1 --workdir=runs/trial_l1
Data: the training photos of BSDS500 in data/bsds500/train; those whose number ends in 8 validate
    (https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html).
Cost: 600 steps of 8 patches of 64x64.
Expected: the score rises from epoch to epoch, when measured from 0.650 to 0.682; trial_ssim starts from here.
"""

from realsr_jax.data.sources import HrFolder
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.train.optimizers import Cosine
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    photos = "data/bsds500/train"
    return TrainConfig(
        model=EDSRConfig(n_resblocks=2, n_feats=16, res_scale=1.0, edge_padding=False),
        train=(HrFolder(f"{photos}/*[0-79].jpg"),),
        valid=HrFolder(f"{photos}/*8.jpg"),
        schedule=Cosine(learning_rate=1e-3, warmup_steps=50),
        batch_size=8,
        patch_size=64,
        epochs=4,
        steps_per_epoch=150,
        log_every=50,
    )
