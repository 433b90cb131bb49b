"""What a training run can be told, as plain dataclasses: the class selects, its fields are the options.

Nothing here imports JAX. All are mutable, so that ``--config.field=value`` reaches every field; `validate`
says in one line what cannot be, once all overrides are made.
"""

import dataclasses
from dataclasses import field

from realsr_jax.config import EDSRConfig, ModelConfig, require

# ------------------------------------------------------------------------------------------------ data


@dataclasses.dataclass
class PairFolder:
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


@dataclasses.dataclass
class HrFolder:
    """HR images only; LR images are made of them by MATLAB's bicubic rule.

    Attributes:
        hr: a folder, or a pattern with ``*``, after which ``[0-8]`` stands for one of these characters.
        border: "clamp" repeats the border pixel, as in the classic sets; "mirror" reflects, as newer MATLAB.
    """

    hr: str = ""
    border: str = "clamp"


@dataclasses.dataclass
class Div2k:
    """DIV2K with bicubic LR images, as published: ``HR/0001.png``, ``LR_bicubic/X2/0001x2.png``.

    Attributes:
        root: the folder that holds ``HR`` and ``LR_bicubic``, or its parent ``DIV2K``.
        first: number of the first image.
        last: number of the last image; 1 to 800 train, 801 to 810 validate.
    """

    root: str = "data/DIV2K"
    first: int = 1
    last: int = 800


@dataclasses.dataclass
class Aim:
    """AIM 2020 Real Image Super-Resolution: ``X2/HR/*.png``, ``X2/LR/*.png``, ``X2/valid/{HR,LR}``.

    Attributes:
        root: the folder that holds ``X2``, ``X3`` and ``X4``.
        split: "train" or "valid".
        clean_list: a text file with one image name a line; the others are left out (the washed sets).
        captured_scale: 0 for the pairs of the network's scale, or 3 for the x3 pairs with HR reduced to
            ``(H // 3 * scale, W // 3 * scale)``, which join the x2 pairs in the large washed set.
    """

    root: str = "data/AIM"
    split: str = "train"
    clean_list: str = ""
    captured_scale: int = 0


@dataclasses.dataclass
class Tfds:
    """A data set of TensorFlow Datasets, stored as ``array_record`` and read without TensorFlow.

    Attributes:
        name: such as ``aim_real_sr/x2`` or ``div2k/bicubic_x2``, which ``realsr-prepare`` builds.
        split: such as ``train``, ``validation`` or ``train[:90%]``.
        data_dir: where data sets are stored; empty for the default of TFDS.
    """

    name: str = "div2k/bicubic_x2"
    split: str = "train"
    data_dir: str = ""


Source = PairFolder | HrFolder | Div2k | Aim | Tfds


# ---------------------------------------------------------------------------------------------- losses


@dataclasses.dataclass
class L1:
    """Mean absolute error."""


@dataclasses.dataclass
class MSE:
    """Mean squared error."""


@dataclasses.dataclass
class ClipL1:
    """Absolute error clipped to a range, the published way to live with misaligned pairs.

    Attributes:
        clip_min: smallest error that counts, in grey levels.
        clip_max: largest error that counts, in grey levels.
    """

    clip_min: float = 0.0
    clip_max: float = 10.0


@dataclasses.dataclass
class SSIM:
    """One minus the structural similarity."""


@dataclasses.dataclass
class MSSSIM:
    """One minus the multi-scale structural similarity; HR patches of at least 161 pixels."""


Loss = L1 | MSE | ClipL1 | SSIM | MSSSIM


@dataclasses.dataclass
class Weighted:
    """One term of the training loss.

    Attributes:
        loss: which.
        weight: its factor.
    """

    loss: Loss
    weight: float = 1.0


# ---------------------------------------------------------------------------------------- optimisation


@dataclasses.dataclass
class StepDecay:
    """A learning rate that is multiplied by `gamma` after each epoch in `decay_at`.

    Attributes:
        learning_rate: at the start.
        decay_at: epochs, counted from 1, after which the rate falls.
        gamma: the factor.
    """

    learning_rate: float = 1e-4
    decay_at: tuple[int, ...] = ()
    gamma: float = 0.5


@dataclasses.dataclass
class Cosine:
    """A learning rate that rises linearly and then falls along half a cosine to the end of training.

    Attributes:
        learning_rate: the peak.
        warmup_steps: steps of the rise from 0.
        final: the rate at the end, as a share of the peak.
    """

    learning_rate: float = 5e-4
    warmup_steps: int = 0
    final: float = 0.0


Schedule = StepDecay | Cosine


@dataclasses.dataclass
class Adam:
    """Adam (Kingma and Ba 2015).

    Attributes:
        b1: decay of the mean gradient.
        b2: decay of the mean squared gradient.
        eps: added to the root of the latter.
        weight_decay: this times the parameters is added to the gradients.
    """

    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0


@dataclasses.dataclass
class SGD:
    """Gradient descent with momentum.

    Attributes:
        momentum: of the published code, 0.9.
        weight_decay: this times the parameters is added to the gradients.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0


@dataclasses.dataclass
class RMSProp:
    """RMSprop as PyTorch computes it, with `eps` outside the root.

    Attributes:
        decay: of the mean squared gradient.
        eps: added to its root.
        weight_decay: this times the parameters is added to the gradients.
    """

    decay: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0


Optimizer = Adam | SGD | RMSProp


# -------------------------------------------------------------------------------------------- training


@dataclasses.dataclass
class TrainConfig:
    """A training run.

    Attributes:
        model: the network.
        train: the training data; several sources are joined.
        valid: the data of the evaluation after each epoch, or None.
        start_from: where the parameters come from: a weights directory or a training run's directory (its
            best weights; ``RUN/latest`` for the latest); empty to start from scratch.
        losses: the terms of the loss, which are added.
        optimizer: how gradients change the parameters.
        schedule: the learning rate.
        batch_size: patches per step, over all devices and hosts.
        patch_size: side of a patch in HR pixels.
        epochs: how many; evaluation and export of weights come after each.
        steps_per_epoch: batches that make an epoch, whatever the data set's size.
        clip_gradient: bound on each gradient value; 0 for none.
        accumulate: parts in which each device's share of a batch passes the network, one after the other.
        ema_decay: decay per step of the averaged parameters that are evaluated and exported; 0 for none.
        dtype: "float32" or "bfloat16", the type of the arithmetic on features; parameters are float32.
        remat: compute a block's features again in the backward pass instead of keeping them.
        max_bad_batches: batches with a loss or gradient that is not finite that are skipped before the run
            stops; 0 stops at the first.
        skip_bad_images: leave out images that cannot be used instead of stopping before training.
        protocol: of the evaluation, "aim" or "benchmark".
        checkpoint_every: steps between checkpoints; there is always one after each epoch.
        log_every: steps between lines of the log.
        seed: of the initial parameters, the order of the data, crops and flips.
        workers: processes that make batches; 0 makes them in this one.
        decoded_dir: folder for decoded images, which is larger than the data set and makes crops fast; empty
            for a folder in the user's cache, "none" to decode the files for every crop.
    """

    model: ModelConfig = field(default_factory=EDSRConfig)
    train: tuple[Source, ...] = ()
    valid: Source | None = None
    start_from: str = ""
    losses: tuple[Weighted, ...] = field(default_factory=lambda: (Weighted(L1()),))
    optimizer: Optimizer = field(default_factory=Adam)
    schedule: Schedule = field(default_factory=StepDecay)
    batch_size: int = 32
    patch_size: int = 96
    epochs: int = 300
    steps_per_epoch: int = 1000
    clip_gradient: float = 0.0
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
    workers: int = 2
    decoded_dir: str = ""

    def validate(self) -> None:
        """Raises ValueError, with the reason, if the run cannot be made."""
        self.model.validate()
        scale = self.model.scale
        require(len(self.train) > 0, self, "train", "at least one source of data")
        require(len(self.losses) > 0, self, "losses", "at least one term")
        for name in (
            "batch_size",
            "epochs",
            "steps_per_epoch",
            "accumulate",
            "checkpoint_every",
            "log_every",
        ):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        for name in ("clip_gradient", "max_bad_batches", "workers", "seed"):
            require(getattr(self, name) >= 0, self, name, "0 or more")
        require(
            self.patch_size >= 1 and self.patch_size % scale == 0,
            self,
            "patch_size",
            f"a multiple of the scale, {scale}",
        )
        require(0 <= self.ema_decay < 1, self, "ema_decay", "0 to less than 1")
        require(self.dtype in ("float32", "bfloat16"), self, "dtype", "'float32' or 'bfloat16'")
        require(self.protocol in ("aim", "benchmark"), self, "protocol", "'aim' or 'benchmark'")
        require(self.schedule.learning_rate > 0, self.schedule, "learning_rate", "more than 0")
        kinds = [type(term.loss).__name__ for term in self.losses]
        require(len(set(kinds)) == len(kinds), self, "losses", "no kind of loss twice")
        for term in self.losses:
            smallest = {SSIM: 11, MSSSIM: 161}.get(type(term.loss), 1)
            require(
                self.patch_size >= smallest,
                self,
                "patch_size",
                f"at least {smallest} for the loss {type(term.loss).__name__}",
            )
        for source in (*self.train, *(() if self.valid is None else (self.valid,))):
            _validate_source(source, scale)

    @property
    def n_steps(self) -> int:
        """Steps of the whole run."""
        return self.epochs * self.steps_per_epoch


def _validate_source(source: Source, scale: int) -> None:
    match source:
        case PairFolder():
            require(source.lr != "", source, "lr", "a folder, such as --config.train[0].lr=photos/lr")
            require(source.hr != "", source, "hr", "a folder, such as --config.train[0].hr=photos/hr")
        case HrFolder():
            require(source.hr != "", source, "hr", "a folder, such as --config.train[0].hr=photos/hr")
            require(source.border in ("clamp", "mirror"), source, "border", "'clamp' or 'mirror'")
        case Div2k():
            require(source.first <= source.last, source, "last", f"at least first, {source.first}")
        case Aim():
            require(source.split in ("train", "valid"), source, "split", "'train' or 'valid'")
            allowed = (0, 3) if scale == 2 else (0,)
            require(source.captured_scale in allowed, source, "captured_scale", f"one of {allowed}")
        case Tfds():
            require(source.name != "", source, "name", "a data set's name")
