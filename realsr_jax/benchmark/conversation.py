"""Both ends of the conversation with a side: a process that runs one case as often as it is asked.

A line goes in, a line of JSON comes out. First ``{"case": ..., "folder": ..., "side": ...}`` goes in, the
case with all fields of its network's configuration; then "run" as often as wanted; at last "finish", after
which the result lies in the folder, as weights and inputs do from the start.
"""

import contextlib
import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from realsr_jax.benchmark.cases import Case
from realsr_jax.system.errors import UsageError

INPUTS = "inputs.npz"
"""Arrays in the folder, as `cases.make_inputs` gives them."""

WEIGHTS = "weights.npz"
"""The network's parameters in the folder: a state dict, by the keys of the published checkpoints."""

RESULT = "{side}.npy"
"""A side's result in the folder."""

Arrays = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Side:
    """One way to run the networks.

    Attributes:
        name: of the row, and of its files.
        command: starts its process.
        tasks: in which it takes part, of `cases.Task`.
        dtypes: of the cases in which it takes part.
        on_gpu: whether it takes part in cases for GPUs.
        missing: what must be installed first, in a line; "" if nothing.
    """

    name: str
    command: tuple[str, ...]
    tasks: tuple[str, ...] = ("product", "tile", "photo", "ensemble", "step")
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    on_gpu: bool = True
    missing: str = ""

    def takes_part(self, case: Case) -> bool:
        """Returns whether it runs a case."""
        return case.task in self.tasks and case.dtype in self.dtypes and (self.on_gpu or not case.on_gpu)


def tell_sides(sides: Iterable[Side]) -> None:
    """Prints the sides that a script knows: what it does without arguments."""
    print(json.dumps([dataclasses.asdict(side) for side in sides]))  # noqa: T201


def ask_for_sides(script: str) -> list[Side]:
    """Returns the sides that a script knows.

    Raises:
        UsageError: if the script does not say.
    """
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    try:
        told = json.loads(ended.stdout)
        return [Side(**{key: _as_tuple(value) for key, value in fields.items()}) for fields in told]
    except (ValueError, TypeError, AttributeError) as error:
        said = ended.stderr.strip() or "names no sides (see realsr_jax.benchmark.conversation)"
        raise UsageError(f"--peer={script}: {said.splitlines()[-1].strip()}") from error


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


class SideError(RuntimeError):
    """A side that cannot run a case; the message is one line."""

    def __init__(self, side: Side, message: str):
        """Keeps the side, so that the others can go on without it."""
        super().__init__(message)
        self.side = side


@contextlib.contextmanager
def started(side: Side, label: str) -> Iterator[Callable[[str], dict[str, float]]]:
    """Starts a side's process, which ends with the context.

    Args:
        side: which.
        label: of the case, for messages.

    Yields:
        A function that sends a line and returns the answer. It raises SideError if the process ends instead;
        the last line that it printed says why.
    """
    # Compilation is measured, so no side may find what it compiled before.
    fresh = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            side.command, bufsize=0, stdin=pipe, stdout=pipe, stderr=errors, env=environment | fresh
        ) as process,
    ):
        assert process.stdin and process.stdout
        requests, answers = process.stdin, process.stdout

        def ask(request: str) -> dict[str, float]:
            with contextlib.suppress(BrokenPipeError):
                requests.write(f"{request}\n".encode())
                if answer := answers.readline():
                    return json.loads(answer)
            status = process.wait()
            errors.seek(0)
            said = errors.read().strip() or f"exit status {status}; out of memory?"
            raise SideError(side, f"{side.name}: {label}: {said.splitlines()[-1].strip()}")

        try:
            yield ask
        finally:
            process.kill()


def read_case(fields: dict[str, Any]) -> Case:
    """Returns the case that `dataclasses.asdict` and JSON made fields of."""
    return dataclasses.replace(Case(**fields), size=tuple(fields["size"]))


def serve(
    prepare: Callable[[Case, Path, Arrays, Arrays], Callable[[], Any]],
    device_bytes: Callable[[], int | None] = lambda: None,
) -> None:
    """Answers standard input until it ends: what a side's process does.

    Args:
        prepare: makes a case ready, with a folder for its files, its weights and inputs (none for a matrix
            product), and returns a function that runs it once and returns when the device is done. This gives
            the tiles [n, h, w, 3], the photo [h, w, 3], the 8-bit values of all photos of a folder one after
            the other, or the loss of each step so far; or a function that fetches them, which is not timed.
            What a matrix product gives is not looked at.
        device_bytes: returns the most device memory that was used; None where that is the process's memory.
    """
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    opening = json.loads(sys.stdin.readline())
    case, folder, result = read_case(opening["case"]), Path(opening["folder"]), None
    run = prepare(case, folder, *(np.load(folder / name) for name in (WEIGHTS, INPUTS)))
    print("{}", file=answers, flush=True)
    for request in map(str.strip, sys.stdin):
        if request == "run":
            started_at = time.perf_counter()
            result = run()
            answer = {"seconds": time.perf_counter() - started_at}
        else:
            given = [] if case.task == "product" else result() if callable(result) else result
            np.save(folder / RESULT.format(side=opening["side"]), np.asarray(given, np.float32))
            answer = {"peak_bytes": device_bytes() or peak_process_bytes()}
        print(json.dumps(answer), file=answers, flush=True)


def peak_process_bytes() -> int:
    """Returns the most memory that this process has used."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; getrusage would count what the parent used before it started this process
        return int(re.findall(r"VmHWM:\s*(\d+) kB", status.read_text())[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
