"""Where training pairs come from: the class selects, its fields are the options.

A source is one class here: its fields, what they may be, and how its pairs are listed. All are mutable, so
that ``--config.field=value`` reaches every field.
"""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Final

from realsr_jax.data import pair_reading
from realsr_jax.data.camera import Camera
from realsr_jax.data.errors import DataError
from realsr_jax.data.matching import find_keyed, match_pairs, read_clean_list
from realsr_jax.data.pair_fitting import fit_pair
from realsr_jax.data.pair_reading import PairImages, UnreadPair, unread_pair
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

_AIM_IMAGES: Final = {
    2: "https://1drv.ms/u/s!AtE0puUOX2nNgW9bGUzZtoRksxwP?e=dP5yMD",
    3: "https://1drv.ms/u/s!AtE0puUOX2nNgXA8gJT6YRTBhY7x?e=edRCqz",
    4: "https://1drv.ms/u/s!AtE0puUOX2nNgXHMsFe8G9MbbmQR?e=khQcNg",
}
_AIM_CLEAN_LISTS: Final = (
    "https://github.com/HolmesShuan/AIM2020-Real-Super-Resolution/tree/master/washed_dataset"
)

Listed = tuple[list[UnreadPair], list[str]]
"""The pairs of a source in a fixed order, and a line for each file that has no partner."""


@dataclasses.dataclass
class Source:
    """Base of all sources.

    Attributes:
        is_published: whether it is a published data set, of which an epoch is as long as published.
    """

    is_published: ClassVar[bool] = False

    def validate(self, scale: int) -> None:
        """Raises ValueError, with the reason, if the fields cannot be, for a network of a scale."""

    def list_pairs(self, scale: int) -> Listed:
        """Lists the pairs for a network of a scale without reading them.

        Raises:
            DataError: if there is no such data set.
        """
        raise NotImplementedError

    def degradation(self) -> Camera | None:
        """Returns how LR is made anew for each sample, None where it is as listed."""
        return None

    def published_count(self, scale: int) -> int | None:
        """Returns how many pairs the published data set has, None where nothing is published."""
        del scale
        return None

    def published_names(self, scale: int) -> tuple[set[str], list[str]]:
        """Returns the names of all images of a published data set.

        Args:
            scale: of the network.

        Returns:
            The names as `matching.name_of` shortens them, none if nobody published them, and a line on what
            is wrong with the file that lists them, if anything is.
        """
        raise NotImplementedError

    def folders(self, scale: int) -> dict[Path, str]:
        """Returns where a published data set's LR and HR images belong, and how to get what is missing."""
        raise NotImplementedError


@dataclasses.dataclass
class PairFolder(Source):
    """LR and HR images in two folders, matched by their names' stems without ``_LR``, ``_HR`` or ``x2``.

    Attributes:
        lr: a folder, or a pattern with one ``*`` such as ``city100/*L.PNG``, whose matches pair up by what
            the star stands for.
        hr: likewise.
        clean_list: a text file with one image name a line; pairs that it does not name are left out.
        reduce_lr: whether LR images are as large as HR images and must be reduced by the scale first.
        fit_colours: whether LR gets HR's colours: each channel's offset and gain, and the tone curve, are
            undone as washing measures them. Needs OpenCV, as does `max_shift`; with ``decoded_dir="none"``
            it is done anew for each crop.
        max_shift: LR pixels by which LR and HR may lie apart in patches of training, which also are not cut
            where they show different things; 0 cuts patches anywhere. Validation takes whole images.
    """

    lr: str = ""
    hr: str = ""
    clean_list: str = ""
    reduce_lr: bool = False
    fit_colours: bool = False
    max_shift: float = 0.0

    def validate(self, scale: int) -> None:
        """See `Source.validate`."""
        for name in ("lr", "hr"):
            example = f"a folder, such as --config.train[0].{name}=photos/{name}"
            require(getattr(self, name) != "", self, name, example)
        require(0 <= self.max_shift < math.inf, self, "max_shift", "LR pixels, or 0 to cut patches anywhere")

    def list_pairs(self, scale: int) -> Listed:
        """See `Source.list_pairs`."""
        read, options = pair_reading.read_pair, {}
        if self.reduce_lr:
            read, options = pair_reading.read_reduced, {"scale": scale}
        pairs, problems = _list_matched(self, self.lr, self.hr, "{} images", read, **options)
        return [
            fit_pair(pair, scale, fit_colours=self.fit_colours, max_shift=self.max_shift) for pair in pairs
        ], problems


@dataclasses.dataclass
class HrFolder(Source):
    """HR images only; LR images are made of them by MATLAB's bicubic rule.

    Attributes:
        hr: a folder, or a pattern with ``*``, after which ``[0-8]`` stands for one of these characters.
        border: "clamp" repeats the border pixel, as in the classic sets; "mirror" reflects, as newer MATLAB.
        reduction: by how much HR images are made smaller first (Lanczos): photos of many megapixels are soft
            at the pixel level, and smaller ones show the network finer detail; 1 leaves them.
    """

    hr: str = ""
    border: str = "clamp"
    reduction: float = 1.0

    def validate(self, scale: int) -> None:
        """See `Source.validate`."""
        require(self.hr != "", self, "hr", "a folder, such as --config.train[0].hr=photos/hr")
        require(self.border in ("clamp", "mirror"), self, "border", "'clamp' or 'mirror'")
        require(1 <= self.reduction < math.inf, self, "reduction", "1 or more")

    def list_pairs(self, scale: int) -> Listed:
        """See `Source.list_pairs`."""
        images = find_keyed(self.hr, "HR images")
        options = {"scale": scale, "border": self.border, "reduction": self.reduction}
        return [unread_pair(pair_reading.read_hr, image.path, **options) for image in images], []


@dataclasses.dataclass
class Degraded(HrFolder):
    """HR images only; LR images are made anew for each sample as cameras and websites make them.

    What is drawn is a function of the run's seed and the sample's number; in validation, of the image's
    place in the listing, so that each image is degraded once and for all. ``--show_batch`` shows it.

    Attributes:
        hr: see `HrFolder`, with which decoded images are shared.
        border: likewise, of the clean samples.
        reduction: likewise.
        camera: what happens to the images, how often and how strongly.
    """

    camera: Camera = dataclasses.field(default_factory=Camera)

    def validate(self, scale: int) -> None:
        """See `Source.validate`."""
        super().validate(scale)
        self.camera.validate()

    def degradation(self) -> Camera | None:
        """See `Source.degradation`."""
        return self.camera


@dataclasses.dataclass
class Part:
    """A source in a mixture.

    Attributes:
        source: where its pairs come from.
        share: of the samples, relative to those of the other parts; more than 0.
    """

    source: Source
    share: float


@dataclasses.dataclass(init=False)
class Mixed(Source):
    """Several sources, of which each gives its share of the samples, however many images it has.

    ``Mixed((source, share), ...)``. It must be a run's only source for training. In validation all images
    of all sources count once.

    Attributes:
        parts: the sources and their shares.
    """

    parts: tuple[Part, ...]

    def __init__(self, *parts: Part | tuple[Source, float]) -> None:
        self.parts = tuple(part if isinstance(part, Part) else Part(*part) for part in parts)

    def validate(self, scale: int) -> None:
        """See `Source.validate`."""
        require(len(self.parts) > 0, self, "parts", "at least one source with its share")
        for part in self.parts:
            require(0 < part.share < math.inf, part, "share", "more than 0")
            require(not isinstance(part.source, Mixed), part, "source", "no mixture in a mixture")
            part.source.validate(scale)

    def list_pairs(self, scale: int) -> Listed:
        """See `Source.list_pairs`."""
        listed = [part.source.list_pairs(scale) for part in self.parts]
        return [pair for pairs, _ in listed for pair in pairs], [
            line for _, lines in listed for line in lines
        ]


@dataclasses.dataclass
class Div2k(Source):
    """DIV2K with bicubic LR images, as published: ``HR/0001.png``, ``LR_bicubic/X2/0001x2.png``.

    Attributes:
        root: the folder that holds ``HR`` and ``LR_bicubic``, or the parent of a folder ``DIV2K`` that does.
        first: number of the first image.
        last: number of the last image; 1 to 800 train, 801 to 810 validate.

    Source: E. Agustsson and R. Timofte, "NTIRE 2017 Challenge on Single Image Super-Resolution", 2017.
    """

    HOMEPAGE: ClassVar = "https://data.vision.ee.ethz.ch/cvl/DIV2K/"
    is_published: ClassVar[bool] = True

    root: str = "data/DIV2K"
    first: int = 1
    last: int = 800

    def validate(self, scale: int) -> None:
        """See `Source.validate`."""
        require(self.first <= self.last, self, "last", f"at least first, {self.first}")

    def list_pairs(self, scale: int) -> Listed:
        """See `Source.list_pairs`."""
        pairs, problems = [], []
        for number in range(self.first, self.last + 1):
            paths = self._paths(scale, number)
            missing = [f"{path}: no such file" for path in paths if not path.is_file()]
            problems += missing
            if not missing:
                pairs.append(unread_pair(pair_reading.read_pair, *paths))
        if not pairs:
            raise DataError(
                f"{self.root}: no pair of DIV2K's images {self.first} to {self.last} ({problems[0]}); "
                f"expected HR/0001.png and LR_bicubic/X{scale}/0001x{scale}.png there or in its folder "
                f"DIV2K, or DIV2K_train_HR and DIV2K_train_LR_bicubic as published, of {self.HOMEPAGE}"
            )
        return pairs, problems

    def published_count(self, scale: int) -> int | None:
        """See `Source.published_count`."""
        return self.last - self.first + 1

    def published_names(self, scale: int) -> tuple[set[str], list[str]]:
        """See `Source.published_names`."""
        return {f"{number:04}" for number in range(self.first, self.last + 1)}, []

    def folders(self, scale: int) -> dict[Path, str]:
        """See `Source.folders`."""
        lr, hr = self._paths(scale, self.first)
        archive = f"its images are in {self.HOMEPAGE}{_published_prefix(self.first)}"
        return {lr.parent: f"{archive}LR_bicubic_X{scale}.zip", hr.parent: f"{archive}HR.zip"}

    def _paths(self, scale: int, number: int) -> tuple[Path, Path]:
        """Returns where an LR and its HR image are; as published if there is no folder of HR images."""
        root, published = Path(os.path.expanduser(self.root)), _published_prefix(number)
        places = [(base, prefix) for base in (root, root / "DIV2K") for prefix in ("", published)]
        there = (place for place in places if (place[0] / f"{place[1]}HR").is_dir())
        base, prefix = next(there, (root, published))
        lr = base / f"{prefix}LR_bicubic" / f"X{scale}" / f"{number:04}x{scale}.png"
        return lr, base / f"{prefix}HR" / f"{number:04}.png"


@dataclasses.dataclass
class Aim(Source):
    """AIM 2020 Real Image Super-Resolution: ``X2/HR/*.png``, ``X2/LR/*.png``, ``X2/valid/{HR,LR}``.

    Attributes:
        root: the folder that holds ``X2``, ``X3`` and ``X4``, or the parent of a folder ``AIM`` that does.
        split: "train" or "valid".
        clean_list: a text file with one image name a line; the others are left out (the washed sets).
        captured_scale: 0 for the pairs of the network's scale, or 3 for the x3 pairs with HR reduced to
            ``(H // 3 * scale, W // 3 * scale)``, which join the x2 pairs in the large washed set.

    Source: P. Wei et al., "AIM 2020 Challenge on Real Image Super-Resolution", 2020; lists of clean images
        and the large set by https://github.com/HolmesShuan/AIM2020-Real-Super-Resolution.
    """

    HOMEPAGE: ClassVar = "https://github.com/HolmesShuan/AIM2020-Real-Super-Resolution"
    is_published: ClassVar[bool] = True

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
        lr, hr = map(str, self.folders(scale))
        what = f"AIM's {{}} images of scale {captured_scale} from {_AIM_IMAGES[captured_scale]}"
        if captured_scale == scale:
            return _list_matched(self, lr, hr, what, pair_reading.read_pair)
        scales = {"captured_scale": captured_scale, "scale": scale}
        return _list_matched(self, lr, hr, what, pair_reading.read_captured, **scales)

    def published_count(self, scale: int) -> int | None:
        """See `Source.published_count`."""
        if self.split == "valid":
            return None
        captured_scale = self.captured_scale or scale
        return PUBLISHED_COUNTS.get(f"aim_x{captured_scale}_clean" if self.clean_list else "aim")

    def published_names(self, scale: int) -> tuple[set[str], list[str]]:
        """See `Source.published_names`."""
        count = self.published_count(scale) or 0
        if not self.clean_list:
            return {f"{number:06}" for number in range(count)}, []
        try:
            names = set(read_clean_list(self.clean_list))
        except DataError as error:
            return set(), [f"{error}; download it from {_AIM_CLEAN_LISTS}"]
        wrong = f"{self.clean_list}: names {len(names):,} images, expected {count:,}"
        return names, [f"{wrong}; download it again from {_AIM_CLEAN_LISTS}"] if len(names) != count else []

    def folders(self, scale: int) -> dict[Path, str]:
        """See `Source.folders`."""
        captured_scale = self.captured_scale or scale
        folder = find_place(self.root, "AIM", f"X{captured_scale}")
        if self.split == "valid":
            folder /= "valid"
        unpack = f"unpack the x{captured_scale} images from {_AIM_IMAGES[captured_scale]} there"
        return {folder / "LR": unpack, folder / "HR": unpack}


@dataclasses.dataclass
class Tfds(Source):
    """A data set of TensorFlow Datasets, stored as ``array_record`` and read without TensorFlow.

    Attributes:
        name: such as ``aim_real_sr/x2`` or ``div2k/bicubic_x2``, which ``realsr-prepare`` builds.
        split: such as ``train``, ``validation`` or ``train[:90%]``.
        data_dir: where data sets are stored; empty for the default of TFDS.
    """

    is_published: ClassVar[bool] = True

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


def _list_matched(
    source: PairFolder | Aim, lr: str, hr: str, what: str, read: Callable[..., PairImages], **options: int
) -> Listed:
    """Lists the pairs of two folders or patterns, which a function will read with options."""
    keyed = find_keyed(lr, what.format("LR")), find_keyed(hr, what.format("HR"))
    pairs, problems = match_pairs(*keyed, source.clean_list)
    return [unread_pair(read, *pair, **options) for pair in pairs], problems


def find_place(root: str, parent: str, name: str) -> Path:
    """Returns the path of something in a folder, or in its folder `parent` if it is only there."""
    folder = Path(os.path.expanduser(root))
    inner = folder / parent / name
    return inner if inner.exists() and not (folder / name).exists() else folder / name


def _published_prefix(number: int) -> str:
    """Returns how the names of DIV2K's published folders and archives with an image start."""
    return "DIV2K_train_" if number <= 800 else "DIV2K_valid_"
