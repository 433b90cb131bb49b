"""The training step, a pure function, and its wrapping for many devices."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from realsr_jax.losses import Weighted
from realsr_jax.models.precision import Precision

AXIS = "batch"

Batch = dict[str, Any]
"""Images ``lr`` [n, h, w, 3] and ``hr`` [n, h*scale, w*scale, 3]: uint8 or float32 in 0..255, or uint16."""

Metrics = dict[str, jax.Array]

LossFunction = Callable[[Any, Batch], tuple[jax.Array, Metrics]]
"""Maps parameters and a batch to the loss and its unweighted terms by name."""


class TrainState(flax.struct.PyTreeNode):
    """What a step reads and makes anew.

    Attributes:
        step: int32, steps taken.
        params: the network's parameters, float32.
        optimizer: the optimiser's state.
        average: averaged parameters, or None.
    """

    step: jax.Array
    params: Any
    optimizer: Any
    average: Any = None

    @property
    def weights(self) -> Any:
        """The parameters to evaluate and to export."""
        return self.params if self.average is None else self.average


def make_state(
    params: Any, optimizer: optax.GradientTransformation, *, with_average: bool = False
) -> TrainState:
    """Returns the state before the first step, which shares no arrays with `params`."""
    params = jax.tree.map(jnp.array, params)
    average = jax.tree.map(jnp.array, params) if with_average else None
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params), average)


def make_loss(model: nn.Module, terms: tuple[Weighted, ...]) -> LossFunction:
    """Returns the weighted sum of loss terms as a function of parameters and a batch."""

    def loss_fn(params: Any, batch: Batch) -> tuple[jax.Array, Metrics]:
        lr, hr = _grey_levels(batch["lr"]), _grey_levels(batch["hr"])
        sr = jnp.asarray(model.apply({"params": params}, lr))
        parts = {type(term.loss).__name__: term.loss(sr, hr) for term in terms}
        weighted = (term.weight * part for term, part in zip(terms, parts.values(), strict=True))
        return sum(weighted, start=jnp.zeros(())), parts

    return loss_fn


def _grey_levels(images: jax.Array) -> jax.Array:
    """Returns images as float32 in 0..255, of which 16 bits are the whole range."""
    levels = images.astype(jnp.float32)
    return levels / 257 if images.dtype == jnp.uint16 else levels


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    loss_fn: LossFunction,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """Takes one step of gradient descent.

    A batch whose loss or gradient is not finite changes nothing but the count of steps.

    Args:
        state: before the step.
        batch: this device's share of the batch.
        loss_fn: the loss.
        optimizer: maps averaged gradients to a direction.
        schedule: the learning rate at each step.
        accumulate: equal parts in which the share passes the network, to save memory.
        ema_decay: decay of the averaged parameters, slower at the start of training.
        axis_name: mapped axis over which gradients and metrics are averaged.

    Returns:
        The state after the step, and float32 scalars: ``loss``, ``loss/NAME`` of each term,
        ``gradient_norm``, ``learning_rate``, and ``is_finite``, 1 or 0.
    """
    gradients, loss, parts = _gradients(state.params, batch, loss_fn, accumulate)
    if axis_name is not None:
        gradients, loss, parts = jax.lax.pmean((gradients, loss, parts), axis_name)

    learning_rate = jnp.asarray(schedule(state.step), jnp.float32)
    direction, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = jax.tree.map(lambda p, d: p - learning_rate * d, state.params, direction)
    average = state.average
    if average is not None:
        # While few steps are taken, the average must not remember the initial parameters.
        decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
        average = jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), average, params)

    after = (params, optimizer_state, average)
    checks = [jnp.isfinite(array).all() for array in jax.tree.leaves((loss, gradients))]
    is_finite = jnp.stack(checks).all()
    before = (state.params, state.optimizer, state.average)
    after = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), after, before)
    metrics = {f"loss/{name}": value for name, value in parts.items()} | {
        "loss": loss,
        "gradient_norm": optax.tree.norm(gradients),
        "learning_rate": learning_rate,
        "is_finite": is_finite.astype(jnp.float32),
    }
    return TrainState(state.step + 1, *after), metrics


def _gradients(
    params: Any, batch: Batch, loss_fn: LossFunction, accumulate: int
) -> tuple[Any, jax.Array, Metrics]:
    """Returns gradients, loss and its terms, averaged over equal parts of the batch."""
    run = jax.value_and_grad(loss_fn, has_aux=True)
    if accumulate == 1:
        (loss, parts), gradients = run(params, batch)
        return gradients, loss, parts

    def add(total: Any, part: Batch) -> tuple[Any, None]:
        (loss, parts), gradients = run(params, part)
        return jax.tree.map(jnp.add, total, (gradients, loss, parts)), None

    pieces = jax.tree.map(lambda x: x.reshape(accumulate, -1, *x.shape[1:]), batch)
    shapes = jax.eval_shape(lambda: run(params, jax.tree.map(lambda x: x[0], pieces)))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), (shapes[1], *shapes[0]))
    total, _ = jax.lax.scan(add, zeros, pieces)
    return jax.tree.map(lambda x: x / accumulate, total)


def parallelise(
    step: Callable[..., Any],
    *,
    precision: Precision,
    devices: Sequence[Any] | None = None,
    **options: Any,
) -> Callable[[TrainState, Batch], Any]:
    """Returns `train_step`, with its options, on several devices.

    The state, which `replicate` places, is given up to the step. Batches are ``[local devices, n, ...]``.
    Their entry ``stop``, float32 [local devices], becomes a metric: whether it is 1 on any device, so that
    all hosts learn in the same step that one is told to stop.

    Args:
        step: the step.
        precision: of the arithmetic.
        devices: as many of each host; None for all.
        options: of the step.
    """

    def run(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        images = {name: batch[name] for name in ("lr", "hr")}
        state, metrics = step(state, images, axis_name=AXIS, **options)
        return state, metrics | {"stop": jax.lax.pmax(batch["stop"], AXIS)}

    mapped = jax.pmap(run, AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0, devices=devices)

    def call(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        with precision.tracing():
            return mapped(state, batch)

    return call


def replicate(tree: Any, devices: Sequence[Any] | None = None) -> Any:
    """Places a tree of arrays, the same on every host, on several devices; None for all of all hosts."""
    mesh = Mesh(np.array(jax.devices() if devices is None else devices), (AXIS,))
    sharding = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(np.shape(x), sharding, np.asarray(x).__getitem__), tree
    )
