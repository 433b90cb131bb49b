"""The AIM 2020 Real Image Super-Resolution data set as a TFDS builder that does without TensorFlow.

Importing this registers ``aim_real_sr`` with TFDS; ``realsr-prepare`` builds it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

import tensorflow_datasets as tfds

from realsr_jax.data.errors import DataError
from realsr_jax.data.matching import KeyedFile, find_keyed, match_pairs, name_of, read_clean_list
from realsr_jax.data.pair_reading import read_captured, read_pair, unread_pair
from realsr_jax.data.sources import PUBLISHED_COUNTS
from realsr_jax.data.tfds_pair_builder import (
    PairBuilder,
    StoredPair,
    incomplete,
    list_names,
    missing_images,
)

_HOMEPAGE: Final = "https://github.com/HolmesShuan/AIM2020-Real-Super-Resolution"
_DOWNLOADS: Final = {
    2: "https://1drv.ms/u/s!AtE0puUOX2nNgW9bGUzZtoRksxwP?e=dP5yMD",
    3: "https://1drv.ms/u/s!AtE0puUOX2nNgXA8gJT6YRTBhY7x?e=edRCqz",
    4: "https://1drv.ms/u/s!AtE0puUOX2nNgXHMsFe8G9MbbmQR?e=khQcNg",
}
_CLEAN_LISTS: Final = f"{_HOMEPAGE}/tree/master/washed_dataset"
_CONFIGS: Final = {
    **{f"x{scale}": f"All x{scale} pairs." for scale in _DOWNLOADS},
    **{f"x{scale}_washed": f"The clean x{scale} pairs." for scale in _DOWNLOADS},
    "x2_washed_large": "The clean x2 pairs and after them the clean x3 pairs with HR reduced.",
}


class AimRealSr(PairBuilder):
    """Pairs of photos of the same scene, taken at two focal lengths: AIM 2020 Real Image Super-Resolution.

    Features: ``lr`` and ``hr``, PNG files of uint8 [h, w, 3] and [h * scale, w * scale, 3], and ``name``,
    such as "000090", or "000090_x3" for a reduced x3 pair. Pairs are in the order of their names. The split
    ``validation`` exists where the folder ``valid`` does.

    Unpack the archives so that there are X2/HR, X2/LR and (for a validation split) X2/valid/HR, X2/valid/LR
    in the manual directory or its folder AIM; X3 and X4 alike. The washed sets also need x2_clean_img_id.txt
    (x3, x4) beside X2.

    Source: P. Wei et al., "AIM 2020 Challenge on Real Image Super-Resolution", 2020; lists of clean images
        and the large set by https://github.com/HolmesShuan/AIM2020-Real-Super-Resolution.
    """

    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(name=name, description=text) for name, text in _CONFIGS.items()
    ]
    HOMEPAGE = _HOMEPAGE
    MANUAL_DOWNLOAD_INSTRUCTIONS = " ".join([str(__doc__), *_DOWNLOADS.values(), _CLEAN_LISTS])

    def expected_counts(self) -> dict[str, int]:
        """Returns the number of training pairs; see `PairBuilder.expected_counts`."""
        return {"train": sum(PUBLISHED_COUNTS[key] for key in self._count_keys().values())}

    def list_splits(self, manual_dir: Path) -> dict[str, list[StoredPair]]:
        """Lists the pairs; see `PairBuilder.list_splits`."""
        images = {scale: _find(manual_dir, f"X{scale}") for scale in self._count_keys()}
        clean_lists = {
            scale: _find(manual_dir, f"x{scale}_clean_img_id.txt")
            for scale, key in self._count_keys().items()
            if key.endswith("clean")
        }
        _check_places(manual_dir, images, clean_lists)
        splits, problems = {"train": []}, []
        for scale, folder in images.items():
            expected = PUBLISHED_COUNTS[self._count_keys()[scale]]
            pairs, unusable = _list_train(scale, folder, clean_lists.get(scale), expected)
            splits["train"] += [_stored(pair, scale, self.scale) for pair in pairs]
            problems += unusable
        valid = images[self.scale] / "valid"
        if valid.is_dir():
            pairs, unmatched = match_pairs(*_find_sides(valid, self.scale))
            splits["validation"] = [_stored(pair, self.scale, self.scale) for pair in pairs]
            problems += unmatched
        if problems:
            raise incomplete(manual_dir, problems)
        return splits

    def _count_keys(self) -> dict[int, str]:
        """Returns what `PUBLISHED_COUNTS` calls the pairs that the set is made of, by captured scale."""
        scales = (2, 3) if self.config_name.endswith("_large") else (self.scale,)
        return {scale: f"aim_x{scale}_clean" if "_washed" in self.config_name else "aim" for scale in scales}


def _find(manual_dir: Path, name: str) -> Path:
    """Returns the path of something in the folder ``AIM`` of the manual directory, or else in itself."""
    place = manual_dir / "AIM" / name
    return place if place.exists() else manual_dir / name


def _check_places(manual_dir: Path, images: Mapping[int, Path], clean_lists: Mapping[int, Path]) -> None:
    """Raises DataError, with a line for each, if folders or lists, given by scale, are not there."""
    advice = dict.fromkeys(clean_lists.values(), f"download it from {_CLEAN_LISTS}")
    for scale, folder in images.items():
        parts = [part for part in (folder, folder / "valid") if part.is_dir()]
        sides = [part / side for part in parts for side in ("LR", "HR")]
        advice |= dict.fromkeys(sides or [folder], _unpack(scale))
    problems = [f"{path}: not there; {what}" for path, what in advice.items() if not path.exists()]
    if problems:
        raise DataError(f"{manual_dir}: these are neither there nor in its folder AIM:", problems)


def _unpack(scale: int) -> str:
    return f"unpack the x{scale} images from {_DOWNLOADS[scale]} there"


def _list_train(
    scale: int, folder: Path, clean_list: Path | None, expected: int
) -> tuple[list[tuple[Path, Path]], list[str]]:
    """Lists the training pairs of one captured scale, and a line for everything that is missing or amiss."""
    names, problems = {f"{number:06}" for number in range(expected)}, []
    if clean_list is not None:
        names = set(read_clean_list(str(clean_list)))
        if len(names) != expected:
            problems.append(
                f"{clean_list}: names {len(names):,} images, expected {expected:,}; "
                f"download it again from {_CLEAN_LISTS}"
            )
    lr, hr = _find_sides(folder, scale)
    for side, images in (("LR", lr), ("HR", hr)):
        missing = names - {name_of(image.key) for image in images}
        problems += missing_images(folder / side, missing, len(names), _unpack(scale))
    if problems:
        return [], problems
    pairs, problems = match_pairs(lr, hr, str(clean_list or ""))
    surplus = {name_of(path.stem) for _, path in pairs} - names
    if surplus:
        problems.append(
            f"{folder}: pairs that are none of the {expected:,} published ones: {list_names(surplus)}; "
            "move them away"
        )
    return pairs, problems


def _find_sides(folder: Path, scale: int) -> tuple[list[KeyedFile], list[KeyedFile]]:
    """Lists the images in the folders ``LR`` and ``HR``."""
    what = f"the x{scale} images of {_DOWNLOADS[scale]}"
    return find_keyed(str(folder / "LR"), what), find_keyed(str(folder / "HR"), what)


def _stored(paths: tuple[Path, Path], captured_scale: int, scale: int) -> StoredPair:
    """Returns the pair that files become; HR of another captured scale is reduced."""
    lr, hr = paths
    name = name_of(hr.stem)
    if captured_scale == scale:
        return StoredPair(name, unread_pair(read_pair, lr, hr), lr, hr)
    unread = unread_pair(read_captured, lr, hr, captured_scale=captured_scale, scale=scale)
    return StoredPair(f"{name}_x{captured_scale}", unread, lr, None)
