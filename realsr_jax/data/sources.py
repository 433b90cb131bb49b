"""Where training pairs come from: the class selects, its fields are the options.

A source is one class here: its fields, what they may be, and how its pairs are listed. All are mutable, so that
``--config.field=value`` reaches every field.
"""

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from realsr_jax.data.matching import find_keyed, match_pairs
from realsr_jax.data.pair_reading import (
    DataError,
    UnreadPair,
    read_captured,
    read_hr,
    read_pair,
    read_reduced,
    unread_pair,
)
from realsr_jax.system.errors import require

PUBLISHED_COUNTS: Final = {
    "aim": 19_000,
    "aim_x2_clean": 18_475,
    "aim_x3_clean": 18_643,
    "aim_x4_clean": 18_652,
    "div2k_train": 800,
    "div2k_validation": 100,
}
"""How many pairs each published set of files holds."""

Listed = tuple[list[UnreadPair], list[str]]
"""The pairs of a source in a fixed order, and a line for each file that has no partner."""


class Source:
    """Base of all sources."""

    def validate(self, scale: int) -> None:
        """Raises ValueError, with the reason, if the fields cannot be, for a network of a scale."""

    def list_pairs(self, scale: int) -> Listed:
        """Lists the pairs for a network of a scale without reading them.

        Raises:
            DataError: if there is no such data set.
        """
        raise NotImplementedError

    def published_count(self, scale: int) -> int | None:
        """Returns how many pairs the published data set has, None where nothing is published."""
        del scale
        return None


@dataclasses.dataclass
class PairFolder(Source):
    """LR and HR images in two folders, matched by their names' stems without ``_LR``, ``_HR`` or ``x2``.

    Attributes:
        lr: a folder, or a pattern with one ``*`` such as ``city100/*L.PNG``, whose matches pair up by what
            the star stands for.
        hr: likewise.
        clean_list: a text file with one image name a line; pairs that it does not name are left out.
        reduce_lr: whether LR images are as large as HR images and must be reduced by the scale first.
    """

    lr: str = ""
    hr: str = ""
    clean_list: str = ""
    reduce_lr: bool = False

    def validate(self, scale: int) -> None:
        """See `Source.validate`."""
        for name in ("lr", "hr"):
            example = f"a folder, such as --config.train[0].{name}=photos/{name}"
            require(getattr(self, name) != "", self, name, example)

    def list_pairs(self, scale: int) -> Listed:
        """See `Source.list_pairs`."""
        lr, hr = find_keyed(self.lr, "LR images"), find_keyed(self.hr, "HR images")
        pairs, problems = match_pairs(lr, hr, self.clean_list)
        read = (
            partial(unread_pair, read_reduced, scale=scale)
            if self.reduce_lr
            else partial(unread_pair, read_pair)
        )
        return [read(*pair) for pair in pairs], problems


@dataclasses.dataclass
class HrFolder(Source):
    """HR images only; LR images are made of them by MATLAB's bicubic rule.

    Attributes:
        hr: a folder, or a pattern with ``*``, after which ``[0-8]`` stands for one of these characters.
        border: "clamp" repeats the border pixel, as in the classic sets; "mirror" reflects, as newer MATLAB.
    """

    hr: str = ""
    border: str = "clamp"

    def validate(self, scale: int) -> None:
        """See `Source.validate`."""
        require(self.hr != "", self, "hr", "a folder, such as --config.train[0].hr=photos/hr")
        require(self.border in ("clamp", "mirror"), self, "border", "'clamp' or 'mirror'")

    def list_pairs(self, scale: int) -> Listed:
        """See `Source.list_pairs`."""
        images = find_keyed(self.hr, "HR images")
        return [unread_pair(read_hr, image.path, scale=scale, border=self.border) for image in images], []


@dataclasses.dataclass
class Div2k(Source):
    """DIV2K with bicubic LR images, as published: ``HR/0001.png``, ``LR_bicubic/X2/0001x2.png``.

    Attributes:
        root: the folder that holds ``HR`` and ``LR_bicubic``, or the parent of a folder ``DIV2K`` that does.
        first: number of the first image.
        last: number of the last image; 1 to 800 train, 801 to 810 validate.
    """

    root: str = "data/DIV2K"
    first: int = 1
    last: int = 800

    def validate(self, scale: int) -> None:
        """See `Source.validate`."""
        require(self.first <= self.last, self, "last", f"at least first, {self.first}")

    def list_pairs(self, scale: int) -> Listed:
        """See `Source.list_pairs`."""
        paths_of = find_div2k(Path(os.path.expanduser(self.root)), scale)
        if paths_of is None:
            raise DataError(
                f"{self.root}: no DIV2K in this folder; expected HR/0001.png and "
                f"LR_bicubic/X{scale}/0001x{scale}.png, or DIV2K_train_HR and DIV2K_train_LR_bicubic as published"
            )
        pairs, problems = [], []
        for number in range(self.first, self.last + 1):
            paths = paths_of(number)
            missing = [f"{path}: no such file" for path in paths if not path.is_file()]
            problems += missing
            if not missing:
                pairs.append(unread_pair(read_pair, *paths))
        if not pairs:
            raise DataError(f"{self.root}: no pair of the images {self.first} to {self.last}; {problems[0]}")
        return pairs, problems

    def published_count(self, scale: int) -> int | None:
        """See `Source.published_count`."""
        return self.last - self.first + 1


@dataclasses.dataclass
class Aim(Source):
    """AIM 2020 Real Image Super-Resolution: ``X2/HR/*.png``, ``X2/LR/*.png``, ``X2/valid/{HR,LR}``.

    Attributes:
        root: the folder that holds ``X2``, ``X3`` and ``X4``, or the parent of a folder ``AIM`` that does.
        split: "train" or "valid".
        clean_list: a text file with one image name a line; the others are left out (the washed sets).
        captured_scale: 0 for the pairs of the network's scale, or 3 for the x3 pairs with HR reduced to
            ``(H // 3 * scale, W // 3 * scale)``, which join the x2 pairs in the large washed set.
    """

    root: str = "data/AIM"
    split: str = "train"
    clean_list: str = ""
    captured_scale: int = 0

    def validate(self, scale: int) -> None:
        """See `Source.validate`."""
        require(self.split in ("train", "valid"), self, "split", "'train' or 'valid'")
        allowed = (0, 3) if scale == 2 else (0,)
        require(self.captured_scale in allowed, self, "captured_scale", f"one of {allowed}")

    def list_pairs(self, scale: int) -> Listed:
        """See `Source.list_pairs`."""
        captured_scale = self.captured_scale or scale
        root = Path(os.path.expanduser(self.root))
        if not (root / f"X{captured_scale}").is_dir() and (root / "AIM").is_dir():
            root /= "AIM"
        folder = root / f"X{captured_scale}" / ("valid" if self.split == "valid" else "")
        lr, hr = (
            find_keyed(str(folder / side), f"AIM's {side} images of scale {captured_scale}")
            for side in ("LR", "HR")
        )
        pairs, problems = match_pairs(lr, hr, self.clean_list)
        if captured_scale == scale:
            return [unread_pair(read_pair, *pair) for pair in pairs], problems
        scales = {"captured_scale": captured_scale, "scale": scale}
        return [unread_pair(read_captured, *pair, **scales) for pair in pairs], problems

    def published_count(self, scale: int) -> int | None:
        """See `Source.published_count`."""
        if self.split == "valid":
            return None
        captured_scale = self.captured_scale or scale
        return PUBLISHED_COUNTS.get(f"aim_x{captured_scale}_clean" if self.clean_list else "aim")


@dataclasses.dataclass
class Tfds(Source):
    """A data set of TensorFlow Datasets, stored as ``array_record`` and read without TensorFlow.

    Attributes:
        name: such as ``aim_real_sr/x2`` or ``div2k/bicubic_x2``, which ``realsr-prepare`` builds.
        split: such as ``train``, ``validation`` or ``train[:90%]``.
        data_dir: where data sets are stored; empty for the default of TFDS.
    """

    name: str = "div2k/bicubic_x2"
    split: str = "train"
    data_dir: str = ""

    def validate(self, scale: int) -> None:
        """See `Source.validate`."""
        require(self.name != "", self, "name", "a data set's name")

    def list_pairs(self, scale: int) -> Listed:
        """See `Source.list_pairs`."""
        from realsr_jax.data.tfds_reading import list_tfds  # importing TFDS takes seconds

        return list_tfds(self, scale), []


def find_div2k(root: Path, scale: int) -> Callable[[int], tuple[Path, Path]] | None:
    """Finds out how DIV2K is laid out in a folder or in its folder ``DIV2K``.

    Args:
        root: the folder.
        scale: of the LR images.

    Returns:
        What tells the LR and HR paths of an image's number, 1 to 900; None if there is no DIV2K.
    """
    for base in (root, root / "DIV2K"):
        if (base / "HR").is_dir():
            return partial(_div2k_paths, base, scale)
        if (base / "DIV2K_train_HR").is_dir() or (base / "DIV2K_valid_HR").is_dir():
            return partial(published_div2k_paths, base, scale)
    return None


def published_div2k_paths(base: Path, scale: int, number: int) -> tuple[Path, Path]:
    """Returns the LR and HR paths of an image in the folders that the published archives hold."""
    return _div2k_paths(base, scale, number, "DIV2K_train_" if number <= 800 else "DIV2K_valid_")


def _div2k_paths(base: Path, scale: int, number: int, prefix: str = "") -> tuple[Path, Path]:
    lr = base / f"{prefix}LR_bicubic" / f"X{scale}" / f"{number:04}x{scale}.png"
    return lr, base / f"{prefix}HR" / f"{number:04}.png"
