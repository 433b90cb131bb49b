"""The AIM 2020 Real Image Super-Resolution data set as a TFDS builder that does without TensorFlow.

Importing this registers ``aim_real_sr`` with TFDS. To build it, once the data are downloaded::

    python -m realsr_jax.data.aim_real_sr --config=x2_washed --manual_dir=data
"""

import argparse
import dataclasses
import functools
import os
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

import tensorflow_datasets as tfds

from realsr_jax.data.entries import DataError, read_captured
from realsr_jax.data.matching import find_keyed, match
from realsr_jax.images import Metadata, Photo, write_photo

_HOMEPAGE: Final = "https://github.com/HolmesShuan/AIM2020-Real-Super-Resolution"
_DOWNLOADS: Final = {
    2: "https://1drv.ms/u/s!AtE0puUOX2nNgW9bGUzZtoRksxwP?e=dP5yMD",
    3: "https://1drv.ms/u/s!AtE0puUOX2nNgXA8gJT6YRTBhY7x?e=edRCqz",
    4: "https://1drv.ms/u/s!AtE0puUOX2nNgXHMsFe8G9MbbmQR?e=khQcNg",
}
_CLEAN_LISTS: Final = f"{_HOMEPAGE}/tree/master/washed_dataset"
_PAIRS_PER_SHARD: Final = 250


@dataclasses.dataclass(eq=False, kw_only=True)
class AimConfig(tfds.core.BuilderConfig):
    """Which pairs a data set consists of.

    Attributes:
        scale: 2, 3 or 4, the scale of all pairs.
        is_washed: whether only those are taken for training that a list of clean images names.
        has_reduced_x3: whether x3 pairs, HR reduced to ``(H // 3 * 2, W // 3 * 2)``, follow for training.
    """

    scale: int
    is_washed: bool = False
    has_reduced_x3: bool = False


def _make_configs() -> list[AimConfig]:
    """Makes the published data sets' configurations."""
    washed = {2: "18,475", 3: "18,643", 4: "18,652"}
    plain = [AimConfig(name=f"x{s}", description=f"All 19,000 x{s} pairs.", scale=s) for s in washed]
    clean = [
        AimConfig(name=f"x{s}_washed", description=f"The {n} clean x{s} pairs.", scale=s, is_washed=True)
        for s, n in washed.items()
    ]
    large = AimConfig(
        name="x2_washed_large",
        description="The clean x2 pairs and after them the clean x3 pairs with HR reduced: 37,118 pairs.",
        scale=2,
        is_washed=True,
        has_reduced_x3=True,
    )
    return [*plain, *clean, large]


_CONFIGS: Final = {config.name: config for config in _make_configs()}


# Not a `GeneratorBasedBuilder`: that one needs TensorFlow to shuffle splits of more than 1 GB.
class AimRealSr(tfds.core.ShardBasedBuilder):
    """Pairs of photos of the same scene, taken at two focal lengths: AIM 2020 Real Image Super-Resolution.

    Features: ``lr`` and ``hr``, PNG files of uint8 [h, w, 3] and [h * scale, w * scale, 3], and ``name``,
    such as "000090", or "000090_x3" for a reduced x3 pair. Pairs are in the order of their names. The split
    ``validation`` exists where the folder ``valid`` does.

    Source: P. Wei et al., "AIM 2020 Challenge on Real Image Super-Resolution", 2020; lists of clean images
        and the large set by https://github.com/HolmesShuan/AIM2020-Real-Super-Resolution.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = list(_CONFIGS.values())
    url_infos = None  # no checksums: to look for them, TFDS imports a package that it does not install
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Unpack the archives so that there are X2/HR, X2/LR and (for a validation split) X2/valid/HR, X2/valid/LR
    in the manual directory or its folder AIM; X3 and X4 alike:
    {" ".join(_DOWNLOADS.values())}
    The washed sets also need x2_clean_img_id.txt (x3, x4) beside X2, from
    {_CLEAN_LISTS}
    """

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "lr": tfds.features.Image(encoding_format="png"),
                "hr": tfds.features.Image(encoding_format="png"),
                "name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description="AIM 2020 Real Image Super-Resolution: pairs of photos of two focal lengths.",
            features=features,
            supervised_keys=("lr", "hr"),
            homepage=_HOMEPAGE,
        )

    def _shard_iterators_per_split(self, dl_manager: tfds.download.DownloadManager):
        config = self.builder_config
        assert isinstance(config, AimConfig)
        manual_dir = Path(dl_manager.manual_dir)
        splits = {"train": _train_pairs(manual_dir, config)}
        valid = _find_images(manual_dir, config.scale) / "valid"
        if valid.is_dir():
            splits["validation"] = [_Pair(_name(hr), lr, hr) for lr, hr in _match(valid, config.scale)]
        return {
            split: [
                functools.partial(_examples, pairs[start : start + _PAIRS_PER_SHARD])
                for start in range(0, len(pairs), _PAIRS_PER_SHARD)
            ]
            for split, pairs in splits.items()
        }


def prepare(
    config: str, *, manual_dir: str | os.PathLike[str], data_dir: str | os.PathLike[str] = ""
) -> Path:
    """Builds the data set from the published files, unless it is built already.

    Args:
        config: "x2", "x3", "x4", the same with "_washed", or "x2_washed_large".
        manual_dir: the folder that holds ``X2`` (or ``AIM/X2``) and, for the washed sets,
            ``x2_clean_img_id.txt``; likewise for the other scales.
        data_dir: where data sets are stored; empty for the default of TFDS.

    Returns:
        The data set's folder.

    Raises:
        DataError: if there is no such configuration, or files or folders are missing.
    """
    if config not in _CONFIGS:
        raise DataError(f"aim_real_sr has no configuration {config!r}, only {', '.join(_CONFIGS)}")
    place = os.path.expanduser(data_dir) or None
    builder = AimRealSr(config=config, data_dir=place, file_format="array_record")
    if not builder.data_path.exists():  # TFDS moves it there when it is complete
        manual_dir = Path(manual_dir).expanduser()
        _find_images(manual_dir, _CONFIGS[config].scale)  # TFDS would say in many lines if there is no folder
        download_config = tfds.download.DownloadConfig(manual_dir=manual_dir, try_download_gcs=False)
        builder.download_and_prepare(download_config=download_config)
    return Path(builder.data_dir)


@dataclasses.dataclass(frozen=True)
class _ReducedHr:
    """HR of an x3 pair, reduced to x2 when TFDS reads it."""

    lr: Path
    hr: Path

    def read(self) -> bytes:
        """Returns a PNG file of uint8 [H // 3 * 2, W // 3 * 2, 3]."""
        _, image = read_captured(self.lr, self.hr, captured_scale=3, scale=2)
        photo = Photo(rgb=image, alpha=None, is_grey=False, metadata=Metadata(), format="PNG")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "hr.png"
            write_photo(photo, path)
            return path.read_bytes()


@dataclasses.dataclass(frozen=True)
class _Pair:
    """An example before it is read."""

    name: str
    lr: Path
    hr: Path | _ReducedHr


def _examples(pairs: Sequence[_Pair]) -> Iterator[tuple[str, dict[str, object]]]:
    """Yields the examples of a shard; TFDS reads the files."""
    for pair in pairs:
        yield pair.name, {"lr": pair.lr, "hr": pair.hr, "name": pair.name}


def _train_pairs(manual_dir: Path, config: AimConfig) -> list[_Pair]:
    """Lists the training pairs of a configuration."""
    scales = (2, 3) if config.has_reduced_x3 else (config.scale,)
    pairs = []
    for scale in scales:
        clean_list = _find_clean_list(manual_dir, scale) if config.is_washed else ""
        for lr, hr in _match(_find_images(manual_dir, scale), scale, clean_list):
            name = _name(hr)
            is_reduced = scale != config.scale
            pairs.append(_Pair(f"{name}_x3", lr, _ReducedHr(lr, hr)) if is_reduced else _Pair(name, lr, hr))
    return pairs


def _match(folder: Path, scale: int, clean_list: str = "") -> list[tuple[Path, Path]]:
    """Pairs up the files in the folders ``LR`` and ``HR`` of a folder."""
    what = f"the x{scale} images from {_DOWNLOADS[scale]}"
    lr, hr = (find_keyed(str(folder / side), what) for side in ("LR", "HR"))
    pairs, problems = match(lr, hr, clean_list)
    if problems:
        raise DataError(f"{folder}: incomplete; expected {what} there", problems)
    return pairs


def _name(hr: Path) -> str:
    """Returns the name of a pair."""
    return hr.stem.removesuffix("_HR")


def _find_images(manual_dir: Path, scale: int) -> Path:
    return _find(manual_dir, f"X{scale}", f"download it from {_DOWNLOADS[scale]} and unpack it there")


def _find_clean_list(manual_dir: Path, scale: int) -> str:
    return str(_find(manual_dir, f"x{scale}_clean_img_id.txt", f"download it from {_CLEAN_LISTS}"))


def _find(manual_dir: Path, name: str, otherwise: str) -> Path:
    """Returns the path of something in the manual directory or the folder ``AIM`` in it."""
    for place in (manual_dir / "AIM", manual_dir):
        if (place / name).exists():
            return place / name
    raise DataError(f"{manual_dir / name}: not there, nor in {manual_dir / 'AIM'}; {otherwise}")


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `prepare` from a command line.

    Args:
        argv: the arguments; None for this process's own.
    """
    parser = argparse.ArgumentParser(
        "python -m realsr_jax.data.aim_real_sr",
        description="Builds the AIM 2020 RealSR data set of TFDS from the published files.",
        epilog=textwrap.dedent(AimRealSr.MANUAL_DOWNLOAD_INSTRUCTIONS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, choices=list(_CONFIGS))
    parser.add_argument("--manual_dir", required=True, metavar="DIR", help="folder of the published files")
    parser.add_argument(
        "--data_dir", default="", metavar="DIR", help="where data sets are stored, by default that of TFDS"
    )
    args = parser.parse_args(argv)
    try:
        prepare(args.config, manual_dir=args.manual_dir, data_dir=args.data_dir)
    except ValueError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
