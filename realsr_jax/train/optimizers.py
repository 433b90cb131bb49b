"""Learning rates and optimisers: the class selects, its fields are the options, Optax does the work."""

import dataclasses
from typing import ClassVar

import optax

from realsr_jax.system.errors import require


class Schedule:
    """Base of the learning rates over training.

    Attributes:
        learning_rate: the highest.
    """

    learning_rate: float

    def validate(self) -> None:
        """Raises ValueError, with the reason, if the fields cannot be."""
        require(self.learning_rate > 0, self, "learning_rate", "more than 0")

    def make(self, *, n_steps: int, steps_per_epoch: int) -> optax.Schedule:
        """Returns the learning rate as a function of the number of steps taken.

        Args:
            n_steps: steps of the whole run.
            steps_per_epoch: steps that make an epoch.
        """
        raise NotImplementedError


@dataclasses.dataclass
class StepDecay(Schedule):
    """A learning rate that is multiplied by `gamma` after each epoch in `decay_at`.

    Attributes:
        learning_rate: at the start.
        decay_at: epochs, counted from 1, after which the rate falls.
        gamma: the factor.
    """

    learning_rate: float = 1e-4
    decay_at: tuple[int, ...] = ()
    gamma: float = 0.5

    def make(self, *, n_steps: int, steps_per_epoch: int) -> optax.Schedule:
        """See `Schedule.make`."""
        # Published lists may end with the last epoch, after which nothing follows.
        falls = {epoch * steps_per_epoch: self.gamma for epoch in self.decay_at}
        return optax.piecewise_constant_schedule(self.learning_rate, falls)


@dataclasses.dataclass
class Cosine(Schedule):
    """A learning rate that rises linearly and then falls along half a cosine to the end of training.

    Attributes:
        learning_rate: the peak.
        warmup_steps: steps of the rise from 0.
        final: the rate at the end, as a share of the peak.
    """

    learning_rate: float = 5e-4
    warmup_steps: int = 0
    final: float = 0.0

    def make(self, *, n_steps: int, steps_per_epoch: int) -> optax.Schedule:
        """See `Schedule.make`."""
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0 if self.warmup_steps else self.learning_rate,
            peak_value=self.learning_rate,
            warmup_steps=self.warmup_steps,
            decay_steps=max(n_steps, self.warmup_steps + 1),
            end_value=self.learning_rate * self.final,
        )


class Optimizer:
    """Base of the optimisers, which compute what PyTorch's of the same name do.

    Attributes:
        weight_decay: this times the parameters is added to the gradients, or to the direction if the decay is
            decoupled.
        is_decoupled: whether it is.
    """

    is_decoupled: ClassVar[bool] = False
    weight_decay: float

    def direction(self) -> optax.GradientTransformation:
        """Returns what turns gradients into a direction, which the step multiplies by the learning rate."""
        raise NotImplementedError


@dataclasses.dataclass
class Adam(Optimizer):
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

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.scale_by_adam(self.b1, self.b2, self.eps)


@dataclasses.dataclass
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Attributes:
        weight_decay: this and the learning rate times the parameters is what a step takes off them.
    """

    is_decoupled: ClassVar[bool] = True
    weight_decay: float = 0.01


@dataclasses.dataclass
class SGD(Optimizer):
    """Gradient descent with momentum.

    Attributes:
        momentum: of the published code, 0.9.
        weight_decay: this times the parameters is added to the gradients.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.trace(self.momentum)


@dataclasses.dataclass
class RMSProp(Optimizer):
    """RMSprop as PyTorch computes it, with `eps` outside the root.

    Attributes:
        decay: of the mean squared gradient.
        eps: added to its root.
        weight_decay: this times the parameters is added to the gradients.
    """

    decay: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.scale_by_rms(self.decay, self.eps, eps_in_sqrt=False)


def make_optimizer(
    optimizer: Optimizer, *, clip_gradient: float = 0.0, clip_norm: float = 0.0
) -> optax.GradientTransformation:
    """Returns an optimiser's direction for gradients that are clipped first.

    Args:
        optimizer: its configuration.
        clip_gradient: bound on each gradient value; 0 for none.
        clip_norm: bound on the norm of all gradients together, after that; 0 for none.
    """
    decay = optax.add_decayed_weights(optimizer.weight_decay)
    direction = optimizer.direction()
    if not optimizer.weight_decay:
        decay = optax.identity()
    if optimizer.is_decoupled:
        decay, direction = direction, decay
    clips = [optax.clip(clip_gradient)] * (clip_gradient > 0)
    clips += [optax.clip_by_global_norm(clip_norm)] * (clip_norm > 0)
    clip = optax.chain(*clips) if len(clips) > 1 else clips[0] if clips else optax.identity()
    return optax.chain(clip, decay, direction)
