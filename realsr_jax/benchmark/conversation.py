"""A process that runs one case as often as it is asked: the same conversation for all sides.

A line goes in, a line of JSON comes out. First the case goes in; then "run" as often as wanted; at last
"finish", after which the result lies in the session's folder.
"""

import dataclasses
import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from realsr_jax.benchmark.cases import Case

WEIGHTS = "{network}.npz"
"""A network's parameters in the folder: a state dict, by the keys of the published checkpoints."""

INPUTS = "inputs.npz"
"""Arrays in the folder: ``lr`` [n, h, w, 3], and ``hr`` for a step, uint8."""

RESULT = "{side}.npy"
"""A side's result in the folder."""


class Work(Protocol):
    """A case, ready to run."""

    def run(self) -> None:
        """Runs it once; returns when the device is done."""

    def result(self) -> np.ndarray:
        """Returns what the runs gave: the image [h, w, 3], the loss of each step, or nothing."""
        ...

    def peak_bytes(self) -> int | None:
        """Returns the most device memory that was used; None where that is the process's memory."""


def serve(name: str, make_work: Callable[[Case, Path], Work]) -> None:
    """Answers standard input until it ends.

    Args:
        name: of the side.
        make_work: makes a case, whose files lie in the given folder, ready.
    """
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    first = json.loads(sys.stdin.readline())
    folder = Path(first["folder"])
    work = make_work(read_case(first["case"]), folder)
    _answer(answers)
    for request in map(str.strip, sys.stdin):
        if request == "run":
            started = time.perf_counter()
            work.run()
            _answer(answers, seconds=time.perf_counter() - started)
        else:
            np.save(folder / RESULT.format(side=name), work.result())
            _answer(answers, peak_bytes=work.peak_bytes() or peak_process_bytes())


def read_case(fields: dict) -> Case:
    """Returns the case that `dataclasses.asdict` and JSON made fields of."""
    pairs = tuple((name, value) for name, value in fields["fields"])
    return dataclasses.replace(Case(**fields), size=tuple(fields["size"]), fields=pairs)


def _answer(stream, **values: float) -> None:
    stream.write(json.dumps(values) + "\n")
    stream.flush()


def peak_process_bytes() -> int:
    """Returns the most memory that this process has used."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; getrusage would count what the parent used before it started this process
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
