"""Training pairs of one or several data sets, checked before training starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realsr_jax.data.camera import MARGIN, Camera
from realsr_jax.data.decoded_store import DecodedStore, open_store
from realsr_jax.data.errors import DataError
from realsr_jax.data.pair_fitting import has_patches, registers
from realsr_jax.data.pair_reading import PairImages, UndecodedPairs, UnreadPair, in_bits, load_all
from realsr_jax.data.sources import Mixed, Part, Source
from realsr_jax.system.files import cache_folder


@dataclass(frozen=True, eq=False)
class TrainingPair:
    """An image in both sizes.

    Attributes:
        name: what messages call it.
        lr: uint8 or uint16 [h, w, 3].
        hr: [h * scale, w * scale, 3] of the same type.
    """

    name: str
    lr: np.ndarray
    hr: np.ndarray


@dataclass(frozen=True, eq=False)
class Place:
    """Where a pair is.

    Attributes:
        images: the data set's images.
        index: of the pair in them.
        camera: how LR is made of HR, None where it is as stored.
    """

    images: DecodedStore | UndecodedPairs
    index: int
    camera: Camera | None


@dataclass(frozen=True)
class Portion:
    """Pairs that follow one another and give a share of the samples.

    Attributes:
        start: index of the first.
        count: how many.
        share: of all samples, relative to those of the other portions.
    """

    start: int
    count: int
    share: float


class TrainingPairs:
    """Pairs of images, read when they are asked for. Can be pickled, without the pixels.

    Attributes:
        scale: how many times larger HR is.
        names: of the pairs, in order; need not be unique.
        sizes: int64 [n, 2], height and width of the LR images.
        dtype: of all images: uint16 if any file has more than 8 bits, else uint8.
        problems: a line for each file or pair that was left out.
        portions: the pairs by their shares of the samples; one portion unless they come from a mixture.
    """

    def __init__(
        self,
        scale: int,
        names: list[str],
        places: list[Place],
        problems: list[str],
        portions: Sequence[Portion] = (),
    ) -> None:
        """Joins pairs; `places` says for each where its images are."""
        self.scale = scale
        self.names = names
        self.sizes = np.array([place.images.checked.lr_sizes[place.index] for place in places])
        itemsizes = [place.images.checked.itemsizes[place.index] for place in places]
        self.dtype = np.dtype(np.uint16 if 2 in itemsizes else np.uint8)
        self.problems = problems
        self.portions = tuple(portions) or (Portion(0, len(names), 1.0),)
        self._places = places

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> TrainingPair:
        index = range(len(self))[index]
        height, width = map(int, self.sizes[index])
        return TrainingPair(self.names[index], *self.crop(index, slice(0, height), slice(0, width)))

    def crop(
        self, index: int, rows: slice, columns: slice, random: np.random.Generator | None = None
    ) -> PairImages:
        """Reads a part of a pair.

        Args:
            index: of the pair, 0 to n - 1.
            rows: which rows of LR, from start to stop.
            columns: which columns of LR.
            random: from which the degradation of a source that has one is drawn; None draws what belongs
                to the image, always the same.

        Returns:
            LR [h, w, 3] and HR [h * scale, w * scale, 3], copies of type `dtype`. What is degraded has the
            levels of 8 bits, as cameras and websites leave it.
        """
        return self.crop_and_tell(index, rows, columns, random)[0]

    def registers(self, index: int, rows: slice, columns: slice) -> bool:
        """Returns whether a part of a pair, as `crop` takes it, may be a patch of training."""
        place = self._places[index]
        return registers(place.images.checked.registered.get(place.index), rows, columns)

    def crop_and_tell(
        self, index: int, rows: slice, columns: slice, random: np.random.Generator | None = None
    ) -> tuple[PairImages, str]:
        """Returns what `crop` does, and in words how LR was degraded."""
        place, scale = self._places[index], self.scale
        lr, hr = place.images.load(place.index)
        if place.camera is not None:
            if random is None:
                random = np.random.default_rng(place.index)
            part = in_bits(_with_margin(hr, rows, columns, scale), np.uint8)
            degraded = place.camera.degrade(part, random, scale)
            if degraded is not None:
                lr, hr = (
                    in_bits(image[side:-side, side:-side], self.dtype).copy()
                    for image, side in zip(degraded[:2], (MARGIN, MARGIN * scale), strict=True)
                )
                return (lr, hr), degraded[2]
        hr_rows, hr_columns = (slice(s.start * scale, s.stop * scale) for s in (rows, columns))
        words = "" if place.camera is None else "clean"
        lr, hr = (in_bits(image, self.dtype).copy() for image in (lr[rows, columns], hr[hr_rows, hr_columns]))
        return (lr, hr), words


def _with_margin(hr: np.ndarray, rows: slice, columns: slice, scale: int) -> np.ndarray:
    """Cuts a part, given in LR pixels, and a margin, which repeats the border outside the image."""
    inside, outside = [], []
    for part, side in zip((rows, columns), hr.shape, strict=False):
        start, stop = (part.start - MARGIN) * scale, (part.stop + MARGIN) * scale
        inside.append(slice(max(start, 0), min(stop, side)))
        outside.append((max(-start, 0), max(stop - side, 0)))
    image = hr[tuple(inside)]
    return np.pad(image, (*outside, (0, 0)), mode="edge") if np.any(outside) else image


def open_pairs(
    sources: Sequence[Source],
    *,
    scale: int,
    patch_size: int = 0,
    decoded_dir: str = "",
    skip_bad: bool = False,
    progress: Callable[[int, int], object] = lambda n_ready, n_all: None,
) -> TrainingPairs:
    """Joins data sets. Each pair is read and checked once, and its pixels are kept for fast crops.

    Args:
        sources: the data sets.
        scale: of the network.
        patch_size: pairs with an HR side smaller than this cannot be used.
        decoded_dir: folder for decoded images; empty for one in the user's cache, "none" to keep none and
            decode the files for every crop.
        skip_bad: leave out what cannot be used (see `TrainingPairs.problems`) instead of raising.
        progress: called with the number of pairs that are ready, and of all, while images are decoded.

    Returns:
        At least one pair.

    Raises:
        DataError: if a data set is missing, if something cannot be used and `skip_bad` is not set, if no pair
            is left (of a part of a mixture), or if decoded images cannot be kept.
    """
    parts = [
        part
        for source in sources
        for part in (source.parts if isinstance(source, Mixed) else (Part(source, 1.0),))
    ]
    listed = [part.source.list_pairs(scale) for part in parts]
    total = sum(len(unread) for unread, _ in listed)
    names, places, problems, portions = [], [], [], []
    n_ready, is_any_small = 0, False
    for part, (unread, unmatched) in zip(parts, listed, strict=True):
        camera, start = part.source.degradation(), len(names)

        def report(n_done: int, n_before: int = n_ready) -> None:
            progress(n_before + n_done, total)

        images = _open_images(unread, scale, decoded_dir, report)
        n_ready += len(unread)
        checked = images.checked
        problems += [*unmatched, *checked.problems.values()]
        for index, (height, width) in enumerate((checked.lr_sizes * scale).tolist()):
            name, registered = unread[index].name, checked.registered.get(index)
            if 0 < min(height, width) < patch_size:
                is_any_small = True
                problems.append(
                    f"{name}: HR is {width} x {height} pixels, smaller than the patch size {patch_size}"
                )
            elif patch_size and not has_patches(registered, (height, width), patch_size, scale):
                problems.append(
                    f"{name}: LR and HR register in too few places for patches of {patch_size} pixels; leave "
                    "it out, raise max_shift or lower --config.patch_size"
                )
            elif index not in checked.problems:
                names.append(name)
                places.append(Place(images, index, camera))
        portions.append(Portion(start, len(names) - start, part.share))
    if problems and not skip_bad:
        raise DataError(
            f"{len(problems)} problem{'s' * (len(problems) > 1)} with the images; repair or remove them, "
            + ("or lower --config.patch_size, " if is_any_small else "")
            + "or leave them out with --config.skip_bad_images=True:",
            problems,
        )
    if not names:
        raise DataError("no pair of images can be used:", problems)
    if not any(isinstance(source, Mixed) for source in sources):
        return TrainingPairs(scale, names, places, sorted(problems))
    for part, portion in zip(parts, portions, strict=True):
        if portion.count == 0:
            raise DataError(f"{part.source}: no pair of this part of the mixture can be used:", problems)
    return TrainingPairs(scale, names, places, sorted(problems), portions)


def _open_images(
    unread: Sequence[UnreadPair], scale: int, decoded_dir: str, progress: Callable[[int], None]
) -> DecodedStore | UndecodedPairs:
    """Opens the store of a data set, or its files if nothing may be stored."""
    if decoded_dir == "none":
        return UndecodedPairs(load_all(unread, scale, progress), unread)
    folder = Path(decoded_dir) if decoded_dir else cache_folder("decoded")
    return open_store(unread, scale, folder, progress)
