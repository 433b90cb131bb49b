"""The AIM 2020 Real Image Super-Resolution data set as a TFDS builder that does without TensorFlow.

Importing this registers ``aim_real_sr`` with TFDS; ``realsr-prepare`` builds it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

import tensorflow_datasets as tfds

from realsr_jax.data.pair_reading import DataError, unread_pair, read_captured, read_pair
from realsr_jax.data.matching import KeyedFile, find_keyed, match_pairs, name_of, read_clean_list
from realsr_jax.data.tfds_pair_builder import (
    PairBuilder,
    PairConfig,
    StoredPair,
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


@dataclass(eq=False, kw_only=True)
class AimConfig(PairConfig):
    """Which pairs a data set consists of.

    Attributes:
        scale: 2, 3 or 4, the scale of all pairs.
        is_washed: whether only those are taken for training that a list of clean images names.
        has_reduced_x3: whether x3 pairs, HR reduced to ``(H // 3 * 2, W // 3 * 2)``, follow for training.
    """

    is_washed: bool = False
    has_reduced_x3: bool = False

    @property
    def captured_scales(self) -> tuple[int, ...]:
        """The scales of the published pairs that it is made of."""
        return (self.scale, 3) if self.has_reduced_x3 else (self.scale,)


def _make_configs() -> list[AimConfig]:
    """Makes the published data sets' configurations."""
    plain = [AimConfig(name=f"x{s}", description=f"All x{s} pairs.", scale=s) for s in _DOWNLOADS]
    clean = [
        AimConfig(name=f"x{s}_washed", description=f"The clean x{s} pairs.", scale=s, is_washed=True)
        for s in _DOWNLOADS
    ]
    large = AimConfig(
        name="x2_washed_large",
        description="The clean x2 pairs and after them the clean x3 pairs with HR reduced.",
        scale=2,
        is_washed=True,
        has_reduced_x3=True,
    )
    return [*plain, *clean, large]


class AimRealSr(PairBuilder):
    """Pairs of photos of the same scene, taken at two focal lengths: AIM 2020 Real Image Super-Resolution.

    Features: ``lr`` and ``hr``, PNG files of uint8 [h, w, 3] and [h * scale, w * scale, 3], and ``name``,
    such as "000090", or "000090_x3" for a reduced x3 pair. Pairs are in the order of their names. The split
    ``validation`` exists where the folder ``valid`` does.

    Source: P. Wei et al., "AIM 2020 Challenge on Real Image Super-Resolution", 2020; lists of clean images
        and the large set by https://github.com/HolmesShuan/AIM2020-Real-Super-Resolution.
    """

    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = list(_make_configs())
    DESCRIPTION = "AIM 2020 Real Image Super-Resolution: pairs of photos of two focal lengths."
    HOMEPAGE = _HOMEPAGE
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Unpack the archives so that there are X2/HR, X2/LR and (for a validation split) X2/valid/HR, X2/valid/LR
    in the manual directory or its folder AIM; X3 and X4 alike:
    {" ".join(_DOWNLOADS.values())}
    The washed sets also need x2_clean_img_id.txt (x3, x4) beside X2, from
    {_CLEAN_LISTS}
    """

    def expected_counts(self, published: Mapping[str, int]) -> dict[str, int]:
        """Returns the number of training pairs; see `PairBuilder.expected_counts`."""
        config = self._config
        return {"train": sum(_n_published(scale, config, published) for scale in config.captured_scales)}

    def list_splits(self, manual_dir: Path, published: Mapping[str, int]) -> dict[str, list[StoredPair]]:
        """Lists the pairs; see `PairBuilder.list_splits`."""
        config = self._config
        found = _find_files(manual_dir, config)
        lists = [_list_train(files, config, published) for files in found]
        problems = [problem for _, part in lists for problem in part]
        splits = {"train": [pair for pairs, _ in lists for pair in pairs]}
        valid = found[0].images / "valid"
        if valid.is_dir():
            splits["validation"], unmatched = _list_valid(valid, self.scale)
            problems += unmatched
        if problems:
            raise DataError(f"{manual_dir}: incomplete, so the data set cannot be built:", problems)
        return splits

    @property
    def _config(self) -> AimConfig:
        assert isinstance(self.builder_config, AimConfig)
        return self.builder_config


class _Files(NamedTuple):
    """What is there of one captured scale; `clean_list` is None if all images are taken."""

    scale: int
    images: Path
    clean_list: Path | None


def _n_published(captured_scale: int, config: AimConfig, published: Mapping[str, int]) -> int:
    return published[f"aim_x{captured_scale}_clean" if config.is_washed else "aim"]


def _find_files(manual_dir: Path, config: AimConfig) -> list[_Files]:
    """Finds the folders and lists that a configuration needs; raises DataError if one is not there."""
    found, problems = [], []
    for scale in config.captured_scales:
        images = _find(manual_dir, f"X{scale}")
        clean_list = _find(manual_dir, f"x{scale}_clean_img_id.txt") if config.is_washed else None
        places = {images: _unpack(scale)}
        if images.is_dir():
            parts = (images, images / "valid") if (images / "valid").is_dir() else (images,)
            places = {part / side: _unpack(scale) for part in parts for side in ("LR", "HR")}
        if clean_list:
            places[clean_list] = f"download it from {_CLEAN_LISTS}"
        problems += [f"{path}: not there; {advice}" for path, advice in places.items() if not path.exists()]
        found.append(_Files(scale, images, clean_list))
    if problems:
        raise DataError(
            f"{manual_dir}: these are neither there nor in its folder AIM:", list(dict.fromkeys(problems))
        )
    return found


def _find(manual_dir: Path, name: str) -> Path:
    """Returns the path of something in the folder ``AIM`` of the manual directory, or else in itself."""
    place = manual_dir / "AIM" / name
    return place if place.exists() else manual_dir / name


def _unpack(scale: int) -> str:
    return f"unpack the x{scale} images from {_DOWNLOADS[scale]} there"


def _list_train(
    files: _Files, config: AimConfig, published: Mapping[str, int]
) -> tuple[list[StoredPair], list[str]]:
    """Lists the training pairs of one captured scale, and a line for everything that is missing or amiss."""
    expected = _n_published(files.scale, config, published)
    problems = []
    if files.clean_list is None:
        names = {f"{number:06}" for number in range(expected)}
    else:
        names = set(read_clean_list(str(files.clean_list)))
        if len(names) != expected:
            problems.append(
                f"{files.clean_list}: names {len(names):,} images, expected {expected:,}; "
                f"download it again from {_CLEAN_LISTS}"
            )
    lr, hr = _find_sides(files.images, files.scale)
    for side, images in (("LR", lr), ("HR", hr)):
        missing = names - {name_of(image.key) for image in images}
        if missing:
            problems.append(
                missing_images(files.images / side, missing, len(names), otherwise=_unpack(files.scale))
            )
    if problems:
        return [], problems
    if files.clean_list is not None:
        lr, hr = ([image for image in images if name_of(image.key) in names] for images in (lr, hr))
    pairs, problems = match_pairs(lr, hr)
    surplus = [name for _, hr in pairs if (name := name_of(hr.stem)) not in names]
    if surplus:
        problems.append(
            f"{files.images}: pairs that are none of the {expected:,} published ones: "
            f"{list_names(surplus)}; move them away"
        )
    return [_stored(pair, files.scale, config.scale) for pair in pairs], problems


def _find_sides(folder: Path, scale: int) -> tuple[list[KeyedFile], list[KeyedFile]]:
    """Lists the images in the folders ``LR`` and ``HR``."""
    what = f"the x{scale} images of {_DOWNLOADS[scale]}"
    return find_keyed(str(folder / "LR"), what), find_keyed(str(folder / "HR"), what)


def _list_valid(folder: Path, scale: int) -> tuple[list[StoredPair], list[str]]:
    """Lists the validation pairs, of which no number is published, and a line for each without a partner."""
    pairs, problems = match_pairs(*_find_sides(folder, scale))
    return [_stored(pair, scale, scale) for pair in pairs], problems


def _stored(paths: tuple[Path, Path], captured_scale: int, scale: int) -> StoredPair:
    """Returns the pair that files become; HR of another captured scale is reduced."""
    lr, hr = paths
    if captured_scale == scale:
        return StoredPair(name_of(hr.stem), unread_pair(read_pair, lr, hr), lr, hr)
    entry = unread_pair(read_captured, lr, hr, captured_scale=captured_scale, scale=scale)
    return StoredPair(f"{name_of(hr.stem)}_x{captured_scale}", entry, lr, None)
