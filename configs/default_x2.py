"""The bundled default network, for photos as they are found: its last stage, with SSIM and sharper photos.

Command: realsr-train --config=default_x2 --workdir=runs/default_x2
Data: that of default_x2_stage1. The photos, of which 40 % are clean, are also reduced by 1.5 and 2, which
    makes them as sharp per pixel as pictures made for screens.
Cost: 4,000 steps of 8 patches of 80x80; 67 minutes on one CPU core without AVX-512.
Expected: AIM score 0.7710 on the photos that validate, 0.7664 before; 1.08 dB and 0.065 SSIM above bicubic on
    six other pairs of City100.
"""

from realsr_jax.configs.clean_x2_stage1 import PHOTOS
from realsr_jax.configs.default_x2_stage1 import camera_pairs
from realsr_jax.configs.default_x2_stage1 import get_config as previous_stage
from realsr_jax.data.camera import Camera
from realsr_jax.data.sources import Degraded, Mixed
from realsr_jax.losses import L1, SSIM, Weighted
from realsr_jax.train.train_config import TrainConfig


def get_config() -> TrainConfig:
    """Returns the run."""
    full, smaller, half = (
        Degraded(PHOTOS, reduction=factor, camera=Camera(clean=0.4)) for factor in (1.0, 1.5, 2.0)
    )
    return previous_stage().replace(
        train=(
            Mixed((full, 0.3), (smaller, 0.2), (half, 0.2), *((pairs, 0.15) for pairs in camera_pairs())),
        ),
        losses=(Weighted(L1()), Weighted(SSIM(), 20.0)),
        start_from="runs/default_x2_stage1/best",
        epochs=4,
    )
