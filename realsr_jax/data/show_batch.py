"""The first batch of a run as pictures, so that people see what a network learns from."""

from pathlib import Path
from typing import Final

import numpy as np

from realsr_jax.data.batches import batch_names, make_told_sample
from realsr_jax.data.pair_reading import in_bits
from realsr_jax.data.training_pairs import TrainingPairs
from realsr_jax.images import Metadata, Photo, write_photo
from realsr_jax.images.captions import with_caption

_SIDE: Final = 288  # pixels that a patch is enlarged to, at least


def write_batch(
    pairs: TrainingPairs, folder: Path, *, patch_size: int, batch_size: int, seed: int, augment: bool
) -> int:
    """Writes the samples of a run's first step: LR, enlarged without smoothing, HR beside it.

    Args:
        pairs: the run's training pairs.
        folder: where the pictures go, ``000.png`` and so on; is made. Under each picture stand the image
            that it is from and what was drawn to degrade it.
        patch_size: side of a patch in HR pixels.
        batch_size: patches per step, over all processes.
        seed: of the run.
        augment: whether it flips and transposes patches.

    Returns:
        How many pictures there are.

    Raises:
        ImageError: if one cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = batch_names(pairs, 0, batch_size=batch_size, seed=seed)
    for number, name in enumerate(names):
        sample, words = make_told_sample(pairs, number, patch_size=patch_size, seed=seed, augment=augment)
        factor = max(-(-_SIDE // patch_size), 1)
        lr, hr = (
            in_bits(sample[side], np.uint8).repeat(times, axis=0).repeat(times, axis=1)
            for side, times in (("lr", factor * pairs.scale), ("hr", factor))
        )
        text = f"{Path(name).name}: {words}" if words else Path(name).name
        picture = with_caption(np.concatenate([lr, hr], axis=1), text)
        write_photo(Photo(picture, Metadata(), "PNG"), folder / f"{number:03}.png")
    return len(names)
