"""DIV2K with bicubic LR images as a TFDS builder that does without TensorFlow.

TFDS has a builder of this name, which needs TensorFlow; this one, which ``realsr-prepare`` uses, writes the
same pairs to the same place and is not registered.
"""

from pathlib import Path
from typing import ClassVar, Final

import tensorflow_datasets as tfds

from realsr_jax.data.pair_reading import read_pair, unread_pair
from realsr_jax.data.sources import PUBLISHED_COUNTS, div2k_paths
from realsr_jax.data.tfds_pair_builder import PairBuilder, StoredPair, incomplete, missing_images

_HOMEPAGE: Final = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
_SPLITS: Final = {"train": ("train", 1), "validation": ("valid", 801)}
"""What a split is called in the names of the published files, and its first image."""


class Div2kBuilder(PairBuilder, skip_registration=True):
    """DIV2K: photos of 2K resolution and LR images that MATLAB's bicubic rule makes of them.

    Features: ``lr`` and ``hr``, PNG files of uint8 [h, w, 3] and [h * scale, w * scale, 3], and ``name``,
    such as "0001". Pairs are in the order of their names.

    Unpack DIV2K_train_HR.zip, DIV2K_train_LR_bicubic_X2.zip (X3, X4), DIV2K_valid_HR.zip and
    DIV2K_valid_LR_bicubic_X2.zip in the manual directory or its folder DIV2K.

    Source: E. Agustsson and R. Timofte, "NTIRE 2017 Challenge on Single Image Super-Resolution", 2017.
    """

    name = "div2k"
    VERSION = tfds.core.Version("2.0.0")  # that of TFDS's builder
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name=f"bicubic_x{scale}", description=f"LR images reduced by {scale}.")
        for scale in (2, 3, 4)
    ]
    HOMEPAGE = _HOMEPAGE
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"{__doc__} {_HOMEPAGE}"

    def expected_counts(self) -> dict[str, int]:
        """Returns the number of pairs of both splits; see `PairBuilder.expected_counts`."""
        return {split: PUBLISHED_COUNTS[f"div2k_{split}"] for split in _SPLITS}

    def list_splits(self, manual_dir: Path) -> dict[str, list[StoredPair]]:
        """Lists the pairs; see `PairBuilder.list_splits`."""
        splits, problems = {}, []
        for split, count in self.expected_counts().items():
            part, first = _SPLITS[split]
            numbers = range(first, first + count)
            pairs = {f"{number:04}": div2k_paths(manual_dir, self.scale, number) for number in numbers}
            archives = (f"DIV2K_{part}_LR_bicubic_X{self.scale}.zip", f"DIV2K_{part}_HR.zip")
            for side, archive in enumerate(archives):
                missing = [name for name, paths in pairs.items() if not paths[side].is_file()]
                folder = div2k_paths(manual_dir, self.scale, first)[side].parent
                problems += missing_images(folder, missing, count, f"its images are in {_HOMEPAGE}{archive}")
            splits[split] = [
                StoredPair(name, unread_pair(read_pair, lr, hr), lr, hr) for name, (lr, hr) in pairs.items()
            ]
        if problems:
            raise incomplete(manual_dir, problems)
        return splits
