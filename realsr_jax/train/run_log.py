"""What a run leaves to look at: JSON lines, TensorBoard, and a picture of its curves."""

import io
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from realsr_jax.system.files import read_file, write_atomically


class RunLog:
    """Writes the records of a run into its directory, from one process only.

    ``log.jsonl`` has one object a line: ``step`` and ``epoch`` with ``loss``, ``loss/NAME``,
    ``learning_rate``, ``gradient_norm``, ``patches_per_second`` and ``waiting`` (share of the time spent
    waiting for data), or, after an evaluation (with ``step`` 0: before the first step), ``valid/score``,
    ``valid/bicubic`` (the score of plain interpolation), ``valid/psnr_rgb`` and so on, and the same of
    further sets by their names.
    """

    def __init__(self, workdir: Path, *, step: int, epoch: int, score_name: str, say: Callable[[str], None]):
        """Continues the records in a directory.

        Args:
            workdir: the run's directory.
            step: the last that counts; what lies beyond is dropped.
            epoch: the last whose evaluation counts.
            score_name: the name of the score for people.
            say: told of lines that are damaged and so left out.
        """
        from tensorboardX import SummaryWriter

        self._path = workdir / "log.jsonl"
        self._plot = workdir / "curves.png"
        self._score_name = score_name
        entries = [
            entry
            for entry in read_log(workdir, say)
            if 0 < step >= entry["step"] and ("valid/score" not in entry or entry["epoch"] <= epoch)
        ]
        write_atomically(self._path, "".join(json.dumps(entry) + "\n" for entry in entries))
        self._file = self._path.open("a")
        self._board = SummaryWriter(str(workdir / "tensorboard"), purge_step=step + 1)

    def write(self, *, step: int, epoch: int, values: Mapping[str, float]) -> None:
        """Records figures of a step."""
        self._file.write(json.dumps({"step": step, "epoch": epoch, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def show(self, *, step: int, name: str, image: np.ndarray) -> None:
        """Records an image, uint8 [h, w, 3]."""
        self._board.add_image(name, image, step, dataformats="HWC")

    def plot(self) -> None:
        """Draws the loss and the score over the steps into ``curves.png``."""
        self._board.flush()
        draw_curves(read_log(self._plot.parent), self._plot, score_name=self._score_name)

    def close(self) -> None:
        """Ends the records."""
        self._file.close()
        self._board.close()


def read_log(workdir: Path, say: Callable[[str], None] = lambda _: None) -> list[dict[str, Any]]:
    """Returns the entries of a run's log.

    Args:
        workdir: the run's directory.
        say: told of lines that are damaged and so left out; not of a last one that was cut off by a kill.
    """
    path = workdir / "log.jsonl"
    try:
        lines = read_file(path).decode(errors="replace").split("\n")
    except FileNotFoundError:
        return []
    entries = [_read_entry(line) for line in lines]
    damaged = [number for number, entry in enumerate(entries[:-1], 1) if entry is None]
    if damaged:
        say(
            f"{path}: {len(damaged)} damaged lines are left out, the first of which is line {damaged[0]}; "
            "expected an object with whole numbers step and epoch, and other numbers"
        )
    return list(filter(None, entries))


def _read_entry(line: str) -> dict[str, Any] | None:
    """Returns the entry on a line of the log, None if there is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not all(type(value) in (int, float) for value in entry.values()):
        return None
    return entry if type(entry.get("step")) is type(entry.get("epoch")) is int else None


def draw_curves(entries: list[dict[str, Any]], path: Path, *, score_name: str) -> None:
    """Draws loss and score over steps, and bicubic's score, as a PNG, whole or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    left = figure.add_subplot()
    training = [entry for entry in entries if "loss" in entry]
    left.plot([e["step"] for e in training], [e["loss"] for e in training], color="tab:blue", lw=1)
    left.set_xlabel("step")
    left.set_ylabel("training loss", color="tab:blue")
    losses = [e["loss"] for e in training]
    if losses and 0 < 4 * min(losses) < max(losses) < math.inf:
        left.set_yscale("log")
    left.grid(alpha=0.3)
    evaluations = [entry for entry in entries if "valid/score" in entry]
    if evaluations:
        right = left.twinx()
        steps = [e["step"] for e in evaluations]
        right.plot(steps, [e["valid/score"] for e in evaluations], color="tab:orange", marker=".")
        right.set_ylabel(f"validation {score_name}", color="tab:orange")
        bicubic = evaluations[-1].get("valid/bicubic", math.nan)  # runs of earlier releases have none
        if math.isfinite(bicubic):
            right.axhline(bicubic, color="tab:orange", ls="--", lw=1)
            place = (0.01, bicubic), right.get_yaxis_transform()
            right.text(*place[0], "bicubic", transform=place[1], color="tab:orange", va="bottom")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomically(path, picture.getvalue())
