"""First stage of the bundled network for faithful images: a compact EDSR for x2, with bicubic LR images.

Command: realsr-train --config=clean_x2_stage1 --workdir=runs/clean_x2_stage1
Data: data/clean, 62 photos, of which 3 validate: 26 of CLIC 2025's validation set (Unsplash licence;
    https://github.com/imazen/codec-corpus), 21 of https://github.com/gianni-rosato/gb82-image-set and, at
    half size, 15 of https://github.com/BuddiesOfBudgie/budgie-backgrounds (both CC0).
Cost: 7,000 steps of 8 patches of 80x80; an hour on 2 CPU cores without AVX-512.
Expected: 36.96 dB on Set5 x2 (PSNR of the luma, border 2; bicubic 33.68).
"""

from realsr_jax.data.sources import HrFolder
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.train.optimizers import Cosine
from realsr_jax.train.train_config import TrainConfig

PHOTOS = "data/clean/*[0-8a-z].webp"


def get_config() -> TrainConfig:
    """Returns the run."""
    return TrainConfig(
        model=EDSRConfig(n_resblocks=8, n_feats=64, res_scale=1.0, edge_padding=False),
        train=(HrFolder(PHOTOS),),
        valid=HrFolder("data/clean/*9.webp"),
        schedule=Cosine(learning_rate=6e-4, warmup_steps=200),
        ema_decay=0.998,
        batch_size=8,
        patch_size=80,
        epochs=7,
        steps_per_epoch=1000,
        protocol="benchmark",
    )
