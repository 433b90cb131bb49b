"""The bundled default network: a compact EDSR for x2, trained on photos with bicubic LR images.

Command: realsr-train --config=default_x2 --workdir=runs/default_x2
Data: the 200 training photos of BSDS500 in data/bsds500/train; the 20 whose number ends in 8 validate.
Cost: 7,000 steps of 8 patches of 64x64; 33 minutes on 2 CPU cores.
Expected: 37.25 dB on Set5 x2 (PSNR of the luma, border 2; bicubic 33.68).
"""

from realsr_jax.data.sources import HrFolder
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.train.optimizers import Cosine
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    photos = "data/bsds500/train"
    return TrainConfig(
        model=EDSRConfig(n_resblocks=8, n_feats=64, res_scale=1.0, edge_padding=False),
        train=(HrFolder(f"{photos}/*[0-79].jpg"),),
        valid=HrFolder(f"{photos}/*8.jpg"),
        schedule=Cosine(learning_rate=6e-4, warmup_steps=200),
        ema_decay=0.998,
        batch_size=8,
        patch_size=64,
        epochs=7,
        steps_per_epoch=1000,
        protocol="benchmark",
    )
