"""Batches of random crops, each a pure function of the seed and its number."""

import functools
import weakref
from collections.abc import Iterator
from typing import Final

import grain
import numpy as np
from absl import flags

from realsr_jax.data.pair_fitting import MOST_DRAWS
from realsr_jax.data.training_pairs import TrainingPairs
from realsr_jax.system.processes import start_worker

_ORDER, _CROP, _DEGRADATION, _PORTION = range(4)  # streams of random numbers
_ROUND: Final = 1000  # samples within which every portion has its share, but for one sample
_BATCHES_AHEAD: Final = 4
_ENDLESS: Final = 2**62  # Grain's workers leak shared memory when they come to the end of their data.


class Batches(Iterator[dict[str, np.ndarray]]):
    """Batches as plain arrays. Workers end when this is closed or dropped, and when the program ends.

    Attributes:
        close: ends the iterator; may be called again.
    """

    def __init__(self, batches: grain.DatasetIterator, count: int) -> None:
        """Takes the first `count` of Grain's batches."""
        self._open = [batches]
        self._left = count
        # Grain's iterator is let go of too, as it would complain if it were deleted after Grain's modules.
        self.close = weakref.finalize(self, lambda opened: opened.pop().close(), self._open)

    def __next__(self) -> dict[str, np.ndarray]:
        if self._left <= 0:
            self.close()
        if not self._open:
            raise StopIteration
        self._left -= 1
        # Copied, as Grain's arrays are in shared memory, which must not outlive Grain.
        return {name: np.array(images) for name, images in next(self._open[0]).items()}


def make_batches(
    pairs: TrainingPairs,
    *,
    patch_size: int,
    batch_size: int,
    n_steps: int,
    seed: int,
    augment: bool = True,
    start: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    read_threads: int = 2,
) -> Batches:
    """Makes the batches of the steps `start` to `n_steps - 1`.

    Every epoch over the images has a random order of its own. A batch depends on the seed and its step only,
    so that a run resumes by starting at its step.

    Args:
        pairs: the images, all at least as large as a patch.
        patch_size: side of a patch in HR pixels.
        batch_size: patches per step, over all processes.
        n_steps: steps of the whole run.
        seed: of order, crops and flips.
        augment: whether patches are flipped and transposed at random.
        start: the first step.
        process_index: which block of each batch is made here.
        process_count: into how many blocks of equal size batches are cut.
        workers: processes that make batches; they end with the iterator. 0 makes batches in threads of this
            one, which is faster where images are decoded already. Workers pay off where
            ``decoded_dir="none"`` has every crop's files decoded anew.
        read_threads: threads per process that makes batches.

    Returns:
        An iterator of ``{"lr": [b, p / scale, p / scale, 3], "hr": [b, p, p, 3]}`` of `pairs.dtype` where b
        is `batch_size / process_count`. Its `close` ends it early.

    Raises:
        ValueError: if patches or batches cannot be cut like this.
    """
    if patch_size < 1 or patch_size % pairs.scale:
        raise ValueError(f"patch_size is {patch_size}, expected a multiple of the scale, {pairs.scale}")
    if batch_size < 1 or batch_size % process_count:
        raise ValueError(f"batch_size is {batch_size}, expected a multiple of the processes, {process_count}")
    if pairs.sizes.min() * pairs.scale < patch_size:
        raise ValueError(
            f"patch_size is {patch_size}, but an image has {pairs.sizes.min() * pairs.scale} pixels"
        )
    share = batch_size // process_count
    number_of = functools.partial(
        _sample_number, share=share, process=process_index, n_processes=process_count
    )
    sample = functools.partial(make_sample, pairs, patch_size=patch_size, seed=seed, augment=augment)
    dataset = grain.MapDataset.range(_ENDLESS).map(number_of).map(sample).batch(share)[start:]
    batches = dataset.to_iter_dataset(grain.ReadOptions(read_threads, max(_BATCHES_AHEAD, read_threads)))
    if workers:
        if not flags.FLAGS.is_parsed():  # Grain insists on its flags, also where no command line was parsed
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(workers, per_worker_buffer_size=_BATCHES_AHEAD)
        batches = batches.mp_prefetch(options, start_worker)
    return Batches(iter(batches), n_steps - start)


# ---------------------------------------------------------------------------------------------- samples


def make_sample(
    pairs: TrainingPairs, number: int, *, patch_size: int, seed: int, augment: bool = True
) -> dict[str, np.ndarray]:
    """Makes a sample of a run: a random crop, flipped and transposed at random, LR and HR alike.

    Args:
        pairs: the images.
        number: of the sample, counted over the whole run and all processes.
        patch_size: side in HR pixels.
        seed: of order, crops and flips.
        augment: whether the crop is flipped and transposed; the same part of the image is taken without.

    Returns:
        ``{"lr": [p / scale, p / scale, 3], "hr": [p, p, 3]}`` of `pairs.dtype`.

    Source: the published code's ``common.get_patch`` and ``common.augment``.
    """
    return make_told_sample(pairs, number, patch_size=patch_size, seed=seed, augment=augment)[0]


def make_told_sample(
    pairs: TrainingPairs, number: int, *, patch_size: int, seed: int, augment: bool = True
) -> tuple[dict[str, np.ndarray], str]:
    """Returns what `make_sample` does, and in words how LR was degraded, where it was."""
    index = _image_index(pairs, number, seed)
    side = patch_size // pairs.scale
    random = _random(seed, _CROP, number)
    for _ in range(MOST_DRAWS):
        top, left = random.integers(pairs.sizes[index] - side + 1).tolist()
        place = slice(top, top + side), slice(left, left + side)
        if pairs.registers(index, *place):
            break
    else:
        raise ValueError(f"{pairs.names[index]}: no patch of {patch_size} pixels registers")
    patches, words = pairs.crop_and_tell(index, *place, _random(seed, _DEGRADATION, number))
    left_right, up_down, transposed = random.integers(2, size=3).tolist() if augment else (0, 0, 0)
    if left_right:
        patches = [patch[:, ::-1] for patch in patches]
    if up_down:
        patches = [patch[::-1] for patch in patches]
    if transposed:
        patches = [patch.swapaxes(0, 1) for patch in patches]
    return dict(zip(("lr", "hr"), patches, strict=True)), words


def batch_names(pairs: TrainingPairs, step: int, *, batch_size: int, seed: int) -> list[str]:
    """Names the images that the patches of a step come from, in order.

    Args:
        pairs: the images.
        step: counted from 0.
        batch_size: patches per step, over all processes.
        seed: that the batches were made with.
    """
    numbers = range(step * batch_size, (step + 1) * batch_size)
    return [pairs.names[_image_index(pairs, number, seed)] for number in numbers]


def _sample_number(place: int, *, share: int, process: int, n_processes: int) -> int:
    """Which sample of the run is a process's own sample `place`, of which there are `share` in each step."""
    step, within = divmod(place, share)
    return (step * n_processes + process) * share + within


def _image_index(pairs: TrainingPairs, number: int, seed: int) -> int:
    """Which image a sample comes from; each comes once in an epoch of its portion."""
    portion = pairs.portions[0]
    if len(pairs.portions) > 1:
        chosen, number = _place_in_portion(tuple(part.share for part in pairs.portions), number, seed)
        portion = pairs.portions[chosen]
    epoch, place = divmod(number, portion.count)
    return portion.start + int(_order(portion.count, epoch, seed)[place])


def _place_in_portion(shares: tuple[float, ...], number: int, seed: int) -> tuple[int, int]:
    """Which portion a sample comes from, and how many samples came from it before."""
    round_number, place = divmod(number, _ROUND)
    chosen, before = _portions_of_round(shares, round_number, seed)
    portion = int(chosen[place])
    return portion, int(before[portion] + np.count_nonzero(chosen[:place] == portion))


@functools.lru_cache(maxsize=8)
def _portions_of_round(shares: tuple[float, ...], number: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The portions of a round's samples, and how many samples each gave in earlier rounds."""
    bounds = np.append(0, np.cumsum(shares) / np.sum(shares))
    bounds[-1] = 1
    before, after = (
        np.diff(np.floor(count * _ROUND * bounds).astype(np.int64)) for count in (number, number + 1)
    )
    return _random(seed, _PORTION, number).permutation(
        np.repeat(np.arange(len(shares)), after - before)
    ), before


@functools.lru_cache(maxsize=8)
def _order(n_images: int, epoch: int, seed: int) -> np.ndarray:
    return _random(seed, _ORDER, epoch).permutation(n_images)


def _random(seed: int, stream: int, number: int) -> np.random.Generator:
    """Random numbers that depend on these numbers only, by a counter-based generator."""
    key = np.array([seed, stream], np.uint64)
    counter = np.array([0, 0, number, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
