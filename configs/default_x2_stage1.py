"""First stage of the bundled default network, for photos as they are found: a compact EDSR for x2.

Command: realsr-train --config=default_x2_stage1 --workdir=runs/default_x2_stage1
Data: data/clean, the photos of clean_x2_stage1, 30 % clean; data/city100_crops, crops of 35 Nikon and 35
    iPhone pairs of City100 (https://github.com/ngchc/CameraSR, MIT), without its published test scenes.
Cost: 5,000 steps of 8 patches of 80x80; 45 minutes on 2 CPU cores without AVX-512.
Expected: AIM score 0.7664 on the photos that validate; 1.08 dB above bicubic on six other pairs of City100.
"""

from realsr_jax.configs.clean_x2_stage1 import PHOTOS
from realsr_jax.configs.clean_x2_stage1 import get_config as previous_stage
from realsr_jax.data.sources import Degraded, Mixed, PairFolder
from realsr_jax.train.optimizers import Cosine
from realsr_jax.train.train_config import TrainConfig


def camera_pairs() -> list[PairFolder]:
    """Returns a source for each camera."""
    return [
        PairFolder(f"{folder}/*L.webp", f"{folder}/*H.webp", reduce_lr=True, fit_colours=True, max_shift=0.5)
        for folder in ("data/city100_crops/nikon", "data/city100_crops/iphone")
    ]


def get_config() -> TrainConfig:
    """Returns the run."""
    return previous_stage().replace(
        train=(Mixed((Degraded(PHOTOS), 0.64), *((pairs, 0.18) for pairs in camera_pairs())),),
        valid=Degraded("data/clean/*9.webp"),
        start_from="runs/clean_x2_stage1/best",
        schedule=Cosine(learning_rate=4e-4, warmup_steps=200),
        epochs=5,
        protocol="aim",
    )
