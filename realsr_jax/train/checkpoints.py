"""Checkpoints of a training run: Orbax keeps the two latest and the best, written in the background."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from realsr_jax.system.errors import in_one_line, is_out_of_memory
from realsr_jax.system.files import read_file, write_atomically
from realsr_jax.train.step import TrainState
from realsr_jax.weights import sha256_of

_SUMS: Final = "SHA256SUMS"
"""File of a checkpoint with the digests of the others, as ``sha256sum --check`` reads it."""


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
        unlogged: sums of the metrics of the steps since the last that the log tells of, by name.
        unlogged_steps: how many these are.
    """

    best_score: float | None = None
    best_epoch: int = 0
    ended_epochs: int = 0
    bad_batches: int = 0
    bicubic_scores: dict[str, float] = dataclasses.field(default_factory=dict)
    start_score: float | None = None
    unlogged: dict[str, float] = dataclasses.field(default_factory=dict)
    unlogged_steps: int = 0


class _LatestAndBest(preservation_policy.PreservationPolicy):
    """Keeps the two latest checkpoints, and one more.

    Attributes:
        best: step of the one more; 0 for none.
    """

    best = 0

    def should_preserve(
        self,
        checkpoints: Sequence[preservation_policy.PolicyCheckpointInfo],
        *,
        context: preservation_policy.PreservationContext,
    ) -> list[bool]:
        steps = [checkpoint.step for checkpoint in checkpoints]
        return [step in (*steps[-2:], self.best) for step in steps]


class Checkpoints:
    """The checkpoints in a run's directory, one folder for a step. Several hosts share the directory.

    A checkpoint appears whole or not at all; what a killed run leaves half-written is never read. Digests of
    its files follow at once; one that is damaged counts as if it were not there.
    """

    def __init__(self, folder: Path):
        """Names their folder, which is made with the first checkpoint."""
        self._folder = folder.resolve()
        self._kept = _LatestAndBest()
        self._manager: ocp.CheckpointManager | None = None  # whose threads write as soon as it exists
        self._background = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None

    def _folders(self) -> list[Path]:
        """Returns the folders of all complete checkpoints, the latest first."""
        self._finish()
        folders = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted((each for each in folders if each.name.isdecimal()), key=_step_of, reverse=True)

    def latest(self) -> Path | None:
        """Returns the folder of the last complete checkpoint, or None."""
        return next(iter(self._folders()), None)

    def save(self, state: TrainState, run_state: RunState, *, best: int = 0) -> None:
        """Starts to write a checkpoint of a state; replaces those of its step and of later ones.

        Args:
            state: the state, which may be given up to the next step at once.
            run_state: what else to remember.
            best: step of a checkpoint that is kept beside the two latest; 0 for none.
        """
        self._finish()
        manager = self._opened()
        step = int(state.step)
        self._kept.best = best
        # One of this step was written when the run was stopped before the evaluation, later ones are damaged.
        for later in [each for each in manager.all_steps() if each >= step]:
            manager.delete(later)
        # Copied, as the next step overwrites the state, and as Orbax refuses what `pmap` returns on several
        # hosts.
        copied = jax.tree.map(np.array, as_numpy(state))
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(copied), progress=ocp.args.JsonSave(dataclasses.asdict(run_state))
            ),
        )
        self._writing = self._background.submit(self._complete, manager, step)

    def _complete(self, manager: ocp.CheckpointManager, step: int) -> None:
        """Writes the digests of a checkpoint's files once all are there."""
        manager.wait_until_finished()
        if jax.process_index() == 0:
            folder = self._folder / str(step)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            sums = (f"{sha256_of(path)}  {path.relative_to(folder)}\n" for path in files)
            write_atomically(folder / _SUMS, "".join(sums))

    def restore(self, like: TrainState, say: Callable[[str], None]) -> tuple[TrainState, RunState] | None:
        """Returns the last checkpoint's state, NumPy arrays, and what goes with it; None if there is none.

        Args:
            like: a state of the same network and optimiser.
            say: told of each that is damaged and so passed over.

        Raises:
            ValueError: if there are checkpoints, and all are damaged or of another network or optimiser.
        """
        pattern = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), like)
        problems = []
        for folder in self._folders():
            try:
                restored = _read(folder, pattern)
            except ValueError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                say(f"{problem}; the run goes on from {folder}")
            return restored
        if problems:
            raise ValueError(f"{problems[0]}, and no other is whole; delete {self._folder} to start anew")
        return None

    def close(self) -> None:
        """Waits until everything is written."""
        self._finish()
        if self._manager is not None:
            self._manager.close()

    def _opened(self) -> ocp.CheckpointManager:
        if self._manager is None:
            options = ocp.CheckpointManagerOptions(
                preservation_policy=self._kept,
                cleanup_tmp_directories=True,
                lightweight_initialize=True,  # what it knows of earlier checkpoints are their steps
            )
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        return self._manager

    def _finish(self) -> None:
        """Waits until the last checkpoint is written; raises what prevented it."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()


def _step_of(folder: Path) -> int:
    return int(folder.name)


def _read(folder: Path, pattern: TrainState) -> tuple[TrainState, RunState]:
    """Reads a checkpoint.

    Args:
        folder: the checkpoint's.
        pattern: arrays of the shapes and types that are expected.

    Raises:
        ValueError: if it is damaged or of another network or optimiser; the message names the part.
    """
    part = folder
    try:
        _check_sums(folder)
        part = folder / "progress" / "metadata"  # as Orbax names it
        run_state = RunState(**json.loads(read_file(part)))
        part = folder / "state"
        with ocp.StandardCheckpointer() as checkpointer:
            return checkpointer.restore(part, pattern), run_state
    except Exception as error:  # Orbax raises plain ones
        if is_out_of_memory(error):
            raise
        raise ValueError(f"{part}: damaged ({in_one_line(error)[:200]})") from error


def _check_sums(folder: Path) -> None:
    """Raises ValueError or OSError for the first file of a checkpoint that is not as it was written.

    Those of earlier releases, and of runs that were killed between a checkpoint and its digests, have none.
    """
    sums = folder / _SUMS
    for line in read_file(sums).decode().splitlines() if sums.exists() else ():
        recorded, _, name = line.partition("  ")
        if sha256_of(folder / name) != recorded:
            raise ValueError(f"the sha256 of {name} is not the recorded one")


def as_numpy(tree: Any) -> Any:
    """Returns replicated arrays as NumPy arrays."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)
