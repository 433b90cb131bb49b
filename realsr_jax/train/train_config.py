"""What a training run can be told, as plain dataclasses: the class selects, its fields are the options.

All are mutable, so that ``--config.field=value`` reaches every field; `TrainConfig.validate` says in one line
what cannot be, once all overrides are made.
"""

import dataclasses
import re
from dataclasses import field
from typing import Any, Final, Self

from realsr_jax.data.errors import DataError
from realsr_jax.data.sources import Mixed, Source
from realsr_jax.losses import L1, Weighted
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.network import ModelConfig
from realsr_jax.models.precision import check_dtype
from realsr_jax.system.errors import require, require_types
from realsr_jax.train.optimizers import Adam, Optimizer, Schedule, StepDecay

FIRST_SET: Final = "valid"
"""The name of the validation set whose score decides which weights are best."""

_LEAST_STEPS: Final = 100
_PUBLISHED_LEAST_STEPS: Final = 1000


@dataclasses.dataclass
class ValidationSet:
    """A further set of images that is scored after each epoch.

    Attributes:
        name: what the log calls it.
        source: its images.
        protocol: of its evaluation, "aim" or "benchmark".
    """

    name: str
    source: Source
    protocol: str = "aim"


@dataclasses.dataclass
class TrainConfig:
    """A training run.

    Attributes:
        model: the network.
        train: the training data; several sources are joined, or one `Mixed` gives each its share.
        valid: the data of the evaluation after each epoch, by which the best weights are chosen, or None.
        more_valid: further sets that are scored, each by its own protocol.
        start_from: where the parameters come from: a weights directory or a training run's directory (its
            best weights, those of the highest score; ``RUN/latest`` for the latest, which the published code
            calls best); empty to start from scratch.
        losses: the terms of the loss, which are added.
        optimizer: how gradients change the parameters.
        schedule: the learning rate.
        batch_size: patches per step, over all devices and hosts.
        patch_size: side of a patch in HR pixels.
        epochs: how many; evaluation and export of weights come after each. The published code, told
            ``--epochs N``, makes one less.
        steps_per_epoch: batches that make an epoch; 0 for what the number of pairs gives (`epoch_for`).
        clip_gradient: bound on each gradient value; 0 for none.
        clip_norm: bound on the norm of all gradients together, `gradient_norm` in the log; 0 for none.
        accumulate: parts in which each device's share of a batch passes the network, one after the other.
        ema_decay: decay per step of the averaged parameters that are evaluated and exported; 0 for none.
        dtype: the arithmetic, one of `precision.DTYPES`, which mean the same in upscaling; parameters, their
            gradients and the loss are float32 in all. "auto" judges by upscaled images, not by training.
        remat: compute a block's features again in the backward pass instead of keeping them.
        max_bad_batches: batches with a loss or gradient that is not finite that are skipped before the run
            stops; 0 stops at the first.
        skip_bad_images: leave out images that cannot be used instead of stopping before training.
        protocol: of the evaluation on `valid`, "aim" or "benchmark".
        checkpoint_every: steps between checkpoints; there is always one after each epoch.
        log_every: steps between lines of the log.
        seed: of the initial parameters, the order of the data, crops, flips and degradations.
        augment: flip and transpose patches at random.
        save_every_epoch: keep the weights after every epoch, in ``epochs/N`` of the run's directory.
        workers: processes that make batches; 0 makes them in threads of this one, which is faster as long as
            decoded images are kept.
        decoded_dir: folder for decoded images, which is larger than the data set and makes crops fast; empty
            for a folder in the user's cache, "none" to decode the files for every crop.
    """

    model: ModelConfig = field(default_factory=EDSRConfig)
    train: tuple[Source, ...] = ()
    valid: Source | None = None
    more_valid: tuple[ValidationSet, ...] = ()
    start_from: str = ""
    losses: tuple[Weighted, ...] = field(default_factory=lambda: (Weighted(L1()),))
    optimizer: Optimizer = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=StepDecay)
    batch_size: int = 32
    patch_size: int = 96
    epochs: int = 300
    steps_per_epoch: int = 0
    clip_gradient: float = 0.0
    clip_norm: float = 0.0
    accumulate: int = 1
    ema_decay: float = 0.0
    dtype: str = "float32"
    remat: bool = False
    max_bad_batches: int = 0
    skip_bad_images: bool = False
    protocol: str = "aim"
    checkpoint_every: int = 250
    log_every: int = 100
    seed: int = 0
    augment: bool = True
    save_every_epoch: bool = False
    workers: int = 0
    decoded_dir: str = ""

    def validate(self) -> None:
        """Raises ValueError, with the reason, if the run cannot be made."""
        require_types(self)
        self.model.validate()
        scale = self.model.scale
        require(len(self.train) > 0, self, "train", "at least one source of data")
        require(len(self.losses) > 0, self, "losses", "at least one term")
        for name in ("batch_size", "epochs", "accumulate", "checkpoint_every", "log_every"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("steps_per_epoch", "clip_gradient", "clip_norm", "max_bad_batches", "workers"):
            require(getattr(self, name) >= 0, self, name, "0 or more")
        require(0 <= self.seed < 2**63, self, "seed", "0 to 2**63 - 1")
        require(self.n_steps < 2**31, self, "epochs", "fewer than 2**31 steps in all")
        fits = self.patch_size >= 1 and self.patch_size % scale == 0
        require(fits, self, "patch_size", f"a multiple of the scale, {scale}")
        require(0 <= self.ema_decay < 1, self, "ema_decay", "0 to less than 1")
        check_dtype(self.dtype, self)
        self.schedule.validate()
        smallest = {type(term.loss).__name__: term.loss.smallest_patch for term in self.losses}
        require(len(smallest) == len(self.losses), self, "losses", "no kind of loss twice")
        for name, side in smallest.items():
            require(self.patch_size >= side, self, "patch_size", f"at least {side} for the loss {name}")
        is_mixed = any(isinstance(source, Mixed) for source in self.train)
        require(len(self.train) == 1 or not is_mixed, self, "train", "one source if it is a mixture")
        require(self.valid is not None or not self.more_valid, self, "valid", "a set before more_valid")
        sets = self.validation_sets
        for rules in (self, *sets[1:]):
            require(rules.protocol in ("aim", "benchmark"), rules, "protocol", "'aim' or 'benchmark'")
        names = [each.name for each in sets]
        for number, each in enumerate(sets):
            is_new = re.fullmatch(r"[\w.-]+", each.name) and each.name not in names[:number]
            require(bool(is_new), each, "name", f"letters and digits, and not {FIRST_SET!r} or a name twice")
        for source in (*self.train, *(each.source for each in sets)):
            source.validate(scale)

    def replace(self, **fields: Any) -> Self:
        """Returns the run with other values of some fields."""
        return dataclasses.replace(self, **fields)

    @property
    def validation_sets(self) -> tuple[ValidationSet, ...]:
        """All sets of the evaluation, `valid` first."""
        if self.valid is None:
            return self.more_valid
        return ValidationSet(FIRST_SET, self.valid, self.protocol), *self.more_valid

    @property
    def n_steps(self) -> int:
        """Steps of the whole run, 0 as long as `steps_per_epoch` is."""
        return self.epochs * self.steps_per_epoch

    def epoch_for(self, n_pairs: int) -> tuple[int, str]:
        """Returns the steps of an epoch for a number of training pairs, and in words why so many.

        An epoch is one pass over the pairs, but at least 100 steps; of published data sets, what the
        published loader makes it.
        """
        if self.steps_per_epoch:
            return self.steps_per_epoch, "as configured"
        pairs = f"{n_pairs:,} pair{'s' * (n_pairs != 1)}"
        if all(source.is_published for source in self.train):
            return published_epoch(n_pairs, self.batch_size), f"the published length for {pairs}"
        one_pass = -(-n_pairs // self.batch_size)
        if one_pass >= _LEAST_STEPS:
            return one_pass, f"one pass over {pairs}"
        return _LEAST_STEPS, f"the least, as one pass over {pairs} takes {one_pass}"

    def expected_steps(self) -> int | None:
        """Returns the steps of the whole run, None where they depend on data that are not there yet.

        Published data sets count as they were published, others as they are listed.
        """
        scale = self.model.scale
        if self.steps_per_epoch:
            return self.n_steps
        try:
            counts = [
                source.published_count(scale) or len(source.list_pairs(scale)[0]) for source in self.train
            ]
        except (DataError, OSError):
            return None
        return self.epochs * self.epoch_for(sum(counts))[0]


def published_epoch(n_pairs: int, batch_size: int) -> int:
    """Returns the steps of an epoch of the published loader: a pass over a large set, 1000 over a small one.

    Args:
        n_pairs: of the training data.
        batch_size: patches per step.

    Source: the published ``srdata.py``, ``test_every`` 1000; it repeats a set a whole number of times, and
        its last batch may be smaller, where ours is filled.
    """
    n_patches = n_pairs * max(batch_size * _PUBLISHED_LEAST_STEPS // n_pairs, 1)
    return -(-n_patches // batch_size)
