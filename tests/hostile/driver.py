"""Runs cases in a child process with limits on time and memory, and counts how they end.

A case is a function of a number, which makes its input from it (so the number is the seed), in a module
beside this file. It returns whether its input was accepted, so False for what was refused as it should be;
whatever it raises counts as a crash. It runs in a folder of the caller's, who may have put files there. A
case that kills its process is counted, and the next one runs in a new process. What the module replaces in
the project for the sake of its cases, its ``prepare`` does, in the child alone. To see a case again, in such
a folder:

    python tests/hostile/driver.py MODULE:FUNCTION NUMBER
"""

import collections
import dataclasses
import faulthandler
import importlib
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen")
"""Events of Python's auditing that no input may cause; nor may it import "canary" or look a class up."""


@dataclasses.dataclass
class Tally:
    """How cases ended.

    Attributes:
        counts: of the endings "refused", "accepted", "crashed", "hung", "bloated" and "executed".
        faults: a line or traceback for each case that ended otherwise than refused or accepted.
        slowest: the longest CPU time of a case in seconds, and its number.
        largest: the most memory that a case took beyond what was taken before it in MiB, and its number.
    """

    counts: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: list[str] = dataclasses.field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    largest: tuple[float, int] = (0.0, -1)

    def enter(self, number: int, ending: str, note: str = "", seconds: float = 0, mib: float = 0) -> None:
        """Counts one case."""
        self.counts[ending] += 1
        if ending not in ("refused", "accepted"):
            self.faults.append(f"case {number} {ending}: {note}")
        self.slowest = max(self.slowest, (seconds, number))
        self.largest = max(self.largest, (mib, number))

    def __str__(self) -> str:
        """Returns the figures for a table, and the first faults."""
        endings = ("refused", "accepted", "crashed", "hung", "bloated", "executed")
        counts = ", ".join(f"{self.counts[ending]:,} {ending}" for ending in endings)
        extremes = f"at most {self.slowest[0]:.2f} s and {self.largest[0]:.0f} MiB"
        return "\n".join([f"{self.counts.total():,} tried, {counts}; {extremes}", *self.faults[:20]])


def run_cases(case: str, numbers: range, *, folder: Path, seconds: float, mib: float) -> Tally:
    """Runs cases one after the other.

    Args:
        case: ``module:function``.
        numbers: of the cases, in steps of one.
        folder: where they run.
        seconds: CPU time that a case may take; ten times that and a minute by the clock, if it waits.
        mib: memory that a case may take beyond what its process has already, in MiB.
    """
    tally, following = Tally(), numbers.start
    while following < numbers.stop:
        following = _run_until_one_dies(case, range(following, numbers.stop), tally, folder, seconds, mib)
    return tally


def _run_until_one_dies(
    case: str, numbers: range, tally: Tally, folder: Path, seconds: float, mib: float
) -> int:
    """Runs cases in one process; returns the number of the first that is still to be run."""
    arguments = [case, numbers.start, numbers.stop, seconds, mib]
    command = [sys.executable, Path(__file__).resolve(), *arguments]
    with (
        (folder / "stderr.txt").open("w+") as errors,
        subprocess.Popen(
            list(map(str, command)), cwd=folder, stdout=subprocess.PIPE, stderr=errors, bufsize=0
        ) as child,
    ):
        following, ready = numbers.start, False
        for line in _lines(child, patience=10 * seconds + 60):
            if ready:
                tally.enter(following, **json.loads(line))
                following += 1
            ready = True  # the first line only says that all is imported
        child.kill()
        status = child.wait()
        if following < numbers.stop:
            errors.seek(0)
            assert ready, errors.read()
            ending = "hung" if status in (-signal.SIGPROF, -signal.SIGKILL) else "crashed"
            tally.enter(following, ending, f"status {status}, {errors.read()[-2000:]}", seconds)
            following += 1
    return following


def _lines(child: subprocess.Popen, *, patience: float) -> Any:
    """Yields the lines that a process prints, until it ends or has kept silent for too long."""
    assert child.stdout is not None
    left = b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while selector.select(patience) and (read := child.stdout.read(2**16)):
            *lines, left = (left + read).split(b"\n")
            yield from lines


def _memory(field: str) -> float:
    """Returns a field of this process's memory in MiB: VmRSS, VmHWM (the most so far), VmSize."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if field in line)
    return int(line.split()[1]) / 1024


def _serve(case: Callable[[int], bool], numbers: range, seconds: float, mib: float) -> None:
    """Runs cases in this process and prints how each ended."""
    report = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no report
    faulthandler.enable()
    seen: list[str] = []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        looks_up = event == "pickle.find_class" or (event == "import" and arguments[0] == "canary")
        if looks_up or event.startswith(STARTS):
            seen.append(f"{event} {arguments!r}"[:300])

    sys.addaudithook(watch)
    report.write("ready\n")
    for number in numbers:
        seen.clear()
        Path("/proc/self/clear_refs").write_text("5")  # the most so far is what there is
        before, start = _memory("VmRSS"), time.process_time()
        # Beyond that the process is stopped, or one bad case would take the machine down.
        space = int((_memory("VmSize") + 4 * mib + 1024) * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (space, resource.RLIM_INFINITY))
        signal.setitimer(signal.ITIMER_PROF, seconds)  # whose signal ends the process, even inside C code
        try:
            ending, note = ("accepted" if case(number) else "refused"), ""
        except BaseException:
            ending, note = "crashed", traceback.format_exc()[-2000:]
        signal.setitimer(signal.ITIMER_PROF, 0)
        taken = _memory("VmHWM") - before
        if taken > mib:
            ending, note = "bloated", f"{taken:.0f} MiB"
        if seen:
            ending, note = "executed", seen[0]
        result = {"ending": ending, "note": note, "seconds": time.process_time() - start, "mib": taken}
        report.write(json.dumps(result) + "\n")


def _main(name: str, first: str, stop: str = "", seconds: str = "1000", mib: str = "100000") -> None:
    module, _, function = name.partition(":")
    cases = importlib.import_module(module)
    cases.prepare()
    case = getattr(cases, function)
    _serve(case, range(int(first), int(stop or int(first) + 1)), float(seconds), float(mib))


if __name__ == "__main__":
    _main(*sys.argv[1:])
