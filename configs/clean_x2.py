"""The bundled network for faithful images: its last stage, with sharper photos.

Command: realsr-train --config=clean_x2 --workdir=runs/clean_x2
Data: data/clean, the photos of clean_x2_stage1 (https://github.com/imazen/codec-corpus,
    https://github.com/gianni-rosato/gb82-image-set, https://github.com/BuddiesOfBudgie/budgie-backgrounds),
    also reduced by 1.5 and 2, which makes them as sharp per pixel as pictures made for screens.
Cost: 4,000 steps of 8 patches of 80x80; 55 minutes on one CPU core without AVX-512.
Expected: 37.18 dB on Set5 x2 (PSNR of the luma, border 2; bicubic 33.68, 36.96 before).
"""

from realsr_jax.configs.clean_x2_stage1 import PHOTOS
from realsr_jax.configs.clean_x2_stage1 import get_config as previous_stage
from realsr_jax.data.sources import HrFolder, Mixed
from realsr_jax.train.optimizers import Cosine
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    full, smaller, half = (HrFolder(PHOTOS, reduction=factor) for factor in (1.0, 1.5, 2.0))
    return previous_stage().replace(
        train=(Mixed((full, 0.3), (smaller, 0.3), (half, 0.4)),),
        start_from="runs/clean_x2_stage1/best",
        schedule=Cosine(learning_rate=4e-4, warmup_steps=200),
        epochs=4,
    )
