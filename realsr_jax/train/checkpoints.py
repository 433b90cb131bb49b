"""Checkpoints of a training run: Orbax keeps the two latest and the best, written in the background."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from realsr_jax.system.errors import in_one_line
from realsr_jax.train.step import TrainState


@dataclasses.dataclass
class RunState:
    """What a run remembers beside its parameters.

    Attributes:
        best_score: of the evaluations so far, or None.
        best_epoch: when that was, or 0.
        ended_epochs: epochs whose evaluation and export are done.
        bad_batches: batches skipped since their loss or gradient was not finite.
        bicubic_scores: of plain interpolation, by the names of the validation sets.
        start_score: of the weights with which training started, or None.
    """

    best_score: float | None = None
    best_epoch: int = 0
    ended_epochs: int = 0
    bad_batches: int = 0
    bicubic_scores: dict[str, float] = dataclasses.field(default_factory=dict)
    start_score: float | None = None


class Checkpoints:
    """The checkpoints in a run's directory, one folder for a step. Several hosts share the directory.

    A checkpoint appears whole or not at all; what a killed run leaves half-written is never read.
    """

    def __init__(self, folder: Path):
        """Opens the checkpoints in a folder, which is made if need be."""

        def score_of(metrics: Any) -> float:
            return -math.inf if metrics["score"] is None else metrics["score"]

        policy = preservation_policy.AnyPreservationPolicy(
            [
                preservation_policy.LatestN(2),
                preservation_policy.BestN(
                    get_metric_fn=score_of, n=1, keep_checkpoints_without_metrics=False
                ),
            ]
        )
        self._folder = folder.resolve()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                best_fn=score_of,  # without it, Orbax does not keep the scores
                preservation_policy=policy,
                cleanup_tmp_directories=True,
            ),
        )

    def latest(self) -> Path | None:
        """Returns the folder of the last complete checkpoint, or None."""
        self._manager.wait_until_finished()
        step = self._manager.latest_step()
        return None if step is None else self._folder / str(step)

    def save(self, state: TrainState, run_state: RunState, *, score: float | None = None) -> None:
        """Starts to write a checkpoint of a state; replaces one of its step.

        Args:
            state: the state, which may be given up to the next step at once.
            run_state: what else to remember.
            score: of the evaluation at this step, by which the best checkpoint is kept.
        """
        step = int(state.step)
        if step in self._manager.all_steps():  # written when the run was stopped before the evaluation
            self._manager.wait_until_finished()
            self._manager.delete(step)
        # Copied, as the next step overwrites the state, and as Orbax refuses what `pmap` returns on several
        # hosts.
        copied = jax.tree.map(np.array, as_numpy(state))
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(copied), progress=ocp.args.JsonSave(dataclasses.asdict(run_state))
            ),
            metrics={"score": score},
        )

    def restore(self, like: TrainState) -> tuple[TrainState, RunState] | None:
        """Returns the last checkpoint's state, NumPy arrays, and what goes with it; None if there is none.

        Args:
            like: a state of the same network and optimiser.

        Raises:
            ValueError: if the checkpoint is of another network or optimiser, or damaged.
        """
        folder = self.latest()
        if folder is None:
            return None
        pattern = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        args = ocp.args.Composite(state=ocp.args.StandardRestore(pattern), progress=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(int(folder.name), args=args)
        except Exception as error:  # Orbax raises plain ones
            reason = in_one_line(error)[:200]
            raise ValueError(
                f"{folder}: cannot be read, delete it to resume from before ({reason})"
            ) from error
        return restored["state"], RunState(**restored["progress"])

    def close(self) -> None:
        """Waits until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()


def as_numpy(tree: Any) -> Any:
    """Returns replicated arrays as NumPy arrays."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)
