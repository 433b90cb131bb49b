"""The bundled default network trained further on real pairs of camera photos.

Command: realsr-train --config=real_pairs_x2 --workdir=runs/real_pairs_x2
Data: camera pairs of City100 (https://github.com/ngchc/CameraSR) in data/city100, 003L.PNG and 003H.PNG;
    numbers that end in 0, here 080, validate. Both images of a pair have the same size, so LR images are
    first reduced by 2.
Cost: 400 steps of 8 patches of 96x96; 8 minutes on 2 shared CPU cores.
Expected: above the default network, which is scored before the first step; five pairs show the way, no
    result.
"""

from realsr_jax.data.sources import PairFolder
from realsr_jax.losses import ClipL1, Weighted
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.train.optimizers import StepDecay
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    photos = "data/city100"
    return TrainConfig(
        model=EDSRConfig(n_resblocks=8, n_feats=64, res_scale=1.0, edge_padding=False),
        train=(PairFolder(lr=f"{photos}/*[1-9]L.PNG", hr=f"{photos}/*[1-9]H.PNG", reduce_lr=True),),
        valid=PairFolder(lr=f"{photos}/*0L.PNG", hr=f"{photos}/*0H.PNG", reduce_lr=True),
        start_from="default",
        losses=(Weighted(ClipL1()),),
        schedule=StepDecay(learning_rate=1e-4),
        batch_size=8,
        epochs=4,
        steps_per_epoch=100,
        log_every=50,
    )
