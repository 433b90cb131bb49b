"""Kills a command at random moments, starts it again, and compares what it leaves with an unbroken run's.

python tests/hostile/kills.py NAMES COUNT [SEED]         names of `commands.COMMANDS` with commas, or all
"""

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parents[1] / place) for place in ("", "scripts")]
import commands


@dataclasses.dataclass
class Tally:
    """What kills did.

    Attributes:
        kills: how many.
        half_written: files that were not complete after a kill.
        leftovers: what is there after the command has been run to its end and is not after an unbroken run.
        differing: files that differ then, or another exit status.
    """

    kills: int = 0
    half_written: list[str] = dataclasses.field(default_factory=list)
    leftovers: list[str] = dataclasses.field(default_factory=list)
    differing: list[str] = dataclasses.field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """All that should not be."""
        return self.half_written + self.leftovers + self.differing

    def __str__(self) -> str:
        """Returns the row of a table, and the first faults."""
        row = (
            f"{self.kills} kills, {len(self.half_written)} half-written, {len(self.leftovers)} left over, "
            f"{len(self.differing)} resumed runs that differ"
        )
        return "\n".join([row, *self.faults[:20]])


def kill_often(command: commands.Command, count: int, *, folder: Path, seed: int) -> Tally:
    """Kills a command within the last four fifths of its time; half of the kills hit a run that goes on.

    Args:
        command: which.
        count: how often.
        folder: holds ``inputs``; the command works in another folder there.
        seed: of the moments.
    """
    tally, chance, work = Tally(), random.Random(seed), folder / "work"
    _run_to_end(command, work)  # so that all is compiled
    started = time.monotonic()
    status, errors = _run_to_end(command, work)
    duration = time.monotonic() - started
    expected = commands.left(work)
    shutil.rmtree(work)
    command.prepare(work)
    given = {name: (work / name).read_bytes() for name in visible(work)}
    while tally.kills < count:
        process = _start(command, work)
        try:
            process.communicate(timeout=chance.uniform(0.2, 1.0) * duration)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            tally.kills += 1
        where = f"kill {tally.kills}"
        for name in visible(work):
            known = (expected.get(name), given.get(name))
            if (work / name).read_bytes() not in known and not commands.is_whole(work / name):
                tally.half_written.append(f"{where}: {name}")
        if chance.random() < 0.5 and tally.kills < count:
            continue
        ended, told = _run_to_end(command, work, is_new=False)
        found = commands.left(work)
        tally.leftovers += [f"{where}: {name}" for name in found.keys() - expected.keys()]
        tally.differing += [
            f"{where}: {name}" for name, content in expected.items() if found.get(name) != content
        ]
        if ended != status or "Traceback" in told:
            tally.differing.append(f"{where}: status {ended}, not {status}: {told[-500:]}; at first {errors}")
        shutil.rmtree(work)
        command.prepare(work)
    return tally


def _start(command: commands.Command, work: Path) -> subprocess.Popen:
    # Of its own session, so that its worker processes are killed with it.
    return command.start(
        work, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def _run_to_end(command: commands.Command, work: Path, *, is_new: bool = True) -> tuple[int, str]:
    """Runs a command; returns its exit status and what it said to standard error."""
    if is_new:
        shutil.rmtree(work, ignore_errors=True)
        command.prepare(work)
    process = _start(command, work)
    told = process.communicate()[1]
    return process.returncode, told


def visible(work: Path) -> list[str]:
    """Returns the files that are not named as temporary ones."""

    def is_aside(part: str) -> bool:
        return part.startswith(".") or part in commands.UNLIKE or part.endswith(".unfinished")

    names = (path.relative_to(work) for path in work.rglob("*") if path.is_file())
    return [str(name) for name in names if not any(map(is_aside, name.parts))]


def _main(names: str, count: str, seed: str = "0") -> None:
    for chosen in commands.COMMANDS if names == "all" else names.split(","):
        with tempfile.TemporaryDirectory() as folder:
            commands.make_inputs(Path(folder))
            tally = kill_often(commands.COMMANDS[chosen], int(count), folder=Path(folder), seed=int(seed))
            print(f"{chosen}: {tally}", flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
