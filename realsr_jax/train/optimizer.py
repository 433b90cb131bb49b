"""Learning rates and optimisers, made of their configurations with Optax."""

import optax

from realsr_jax.training_config import SGD, Adam, Cosine, Optimizer, RMSProp, Schedule, StepDecay


def make_schedule(schedule: Schedule, *, n_steps: int, steps_per_epoch: int) -> optax.Schedule:
    """Returns the learning rate as a function of the number of steps taken.

    Args:
        schedule: the learning rate's configuration.
        n_steps: steps of the whole run.
        steps_per_epoch: steps that make an epoch.
    """
    match schedule:
        case StepDecay(learning_rate, decay_at, gamma):
            # Published lists may end with the last epoch, after which nothing follows.
            falls = {epoch * steps_per_epoch: gamma for epoch in decay_at}
            return optax.piecewise_constant_schedule(learning_rate, falls)
        case Cosine(learning_rate, warmup_steps, final):
            return optax.warmup_cosine_decay_schedule(
                init_value=0.0 if warmup_steps else learning_rate,
                peak_value=learning_rate,
                warmup_steps=warmup_steps,
                decay_steps=max(n_steps, warmup_steps + 1),
                end_value=learning_rate * final,
            )


def make_optimizer(optimizer: Optimizer, *, clip_gradient: float = 0.0) -> optax.GradientTransformation:
    """Returns what turns gradients into a direction, which the step multiplies by the learning rate.

    All compute what PyTorch's optimisers of the same name do.

    Args:
        optimizer: its configuration.
        clip_gradient: bound on each gradient value; 0 for none.
    """
    match optimizer:
        case Adam(b1, b2, eps):
            direction = optax.scale_by_adam(b1, b2, eps)
        case SGD(momentum):
            direction = optax.trace(momentum)
        case RMSProp(decay, eps):
            direction = optax.scale_by_rms(decay, eps, eps_in_sqrt=False)
    decay = optimizer.weight_decay
    return optax.chain(
        optax.clip(clip_gradient) if clip_gradient else optax.identity(),
        optax.add_decayed_weights(decay) if decay else optax.identity(),
        direction,
    )
