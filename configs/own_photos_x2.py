"""The default network trained further on photos of your own, which are degraded anew for each sample.

Command: realsr-train --config=own_photos_x2 --workdir=runs/own_photos_x2
Data: photos as good as you have them in the folder photos, and others, which validate, in photos_valid.
Cost: 1,000 steps of 8 patches of 80x80, more with over 800 photos; about ten minutes on 2 CPU cores.
Expected: a little above the default network, which is scored before the first step.
"""

from realsr_jax.data.sources import Degraded
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.train.optimizers import Cosine
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    return TrainConfig(
        model=EDSRConfig(n_resblocks=8, n_feats=64, res_scale=1.0, edge_padding=False),
        train=(Degraded("photos"),),
        valid=Degraded("photos_valid"),
        start_from="default",
        schedule=Cosine(learning_rate=1e-4, warmup_steps=50),
        ema_decay=0.99,
        batch_size=8,
        patch_size=80,
        epochs=10,
        log_every=25,
    )
