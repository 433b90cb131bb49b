"""realsr-benchmark: speed and memory of the networks at full size, here and on other sides of this machine.

  realsr-benchmark                                  (some minutes on 2 cores)
  realsr-benchmark --full --json=speed.json         (the sizes of the published figures)
  realsr-benchmark --networks=edsr --tasks=tile --peer=FILE --sides=realsr_jax,best

The sides run in turn, each in a process of its own, with the same weights and inputs, and their results are
compared. Columns: seconds, median (least to most); megapixels of result a second; arithmetic, counted as for
direct convolutions, and its share of what the device reaches in large matrix products, the faster side's, in
this run (minimal filtering on CPUs can exceed it); most memory, of the process or of the GPU; compilation,
what the first run took longer; ratio of realsr_jax's time to this side's, below 1 where realsr_jax is faster;
largest difference from realsr_jax's result, in grey levels, or of the loss in training.

Exit status: 0; 1 if a side failed or its results differ by more than rounding; 2 on a wrong command line.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from absl import flags

from realsr_jax.benchmark.cases import TASKS, Case, make_cases, synthetic_photo
from realsr_jax.benchmark.conversation import Side, SideError
from realsr_jax.benchmark.timing import OURS, Timing, run_case
from realsr_jax.cli import command
from realsr_jax.images import read_photo
from realsr_jax.models import NETWORKS
from realsr_jax.system.errors import UsageError
from realsr_jax.system.files import write_atomically
from realsr_jax.system.jax_startup import start_jax
from realsr_jax.system.processes import count_cores
from realsr_jax.system.terminal import complain, say

_HEADER: Final = """\
| case | side | seconds | MP/s | TFLOP/s | of peak | memory, GiB | compilation, s | ratio | difference |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""

_PEER_SIDES: Final = ("best", "published")


def _define_flags(table: command.FlagTable) -> None:
    table.section("What runs")
    table.texts("networks", "NAMES", f"{', '.join(NETWORKS)}; by default all", list(NETWORKS))
    tasks = "tile, photo (with the network's published ensemble), step (training: L1, Adam); by default all"
    table.texts("tasks", "NAMES", tasks, list(TASKS))
    table.switch(
        "full", "larger images, and all networks in all tasks, instead of the first in photo and step"
    )
    table.choice("dtype", ["float32", "bfloat16"], "float32 (on CPUs) or bfloat16 (on GPUs)")
    table.text("photo", "FILE", "of which inputs are cut; by default a synthetic picture")
    table.whole("repeats", "runs of each side after a first one, of which medians are taken (3)", 3, 1)
    table.text("json", "FILE", "all figures, written after each case")
    table.section("Other sides")
    peer = "a script, run as python FILE SIDE, that speaks as realsr_jax.benchmark.conversation says"
    table.text("peer", "FILE", peer)
    sides = f"{OURS.name} and any that the peer knows; with a peer {OURS.name},{','.join(_PEER_SIDES)}"
    table.texts("sides", "NAMES", sides)


def _main(values: flags.FlagValues) -> int:
    json_path = command.output_file(values, "json")
    networks, tasks = _some_of(values, "networks", list(NETWORKS)), _some_of(values, "tasks", TASKS)
    sides = _find_sides(values.peer, values.sides)
    photo = read_photo(os.path.expanduser(values.photo)).rgb_8_bit() if values.photo else synthetic_photo()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the sides need the GPU's memory
    start_jax()
    import jax

    device = jax.local_devices()[0]
    on_gpu = device.platform != "cpu"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible if on_gpu else ""
    dtype = values.dtype or ("bfloat16" if on_gpu else "float32")
    cases = make_cases(networks=networks, tasks=tasks, dtype=dtype, on_gpu=on_gpu, is_full=values.full)
    machine = _describe_machine({"gpu": device.device_kind} if on_gpu else {})
    say(f"{', '.join(machine.values())}; {dtype}; medians of {values.repeats} after a first run\n")
    document: dict[str, Any] = {"machine": machine, "dtype": dtype, "repeats": values.repeats, "cases": []}
    for figures in _run_cases(cases, sides, photo, values.repeats):
        document["cases"].append(figures)
        if json_path is not None:
            write_atomically(json_path, json.dumps(document, indent=2, allow_nan=False) + "\n")
    return 0 if all(figures["is_good"] for figures in document["cases"]) else 1


def _some_of(values: flags.FlagValues, name: str, known: Sequence[str]) -> list[str]:
    """Returns what a flag lists, some of the known words."""
    chosen: list[str] = values[name].value or []
    if not chosen or not set(chosen) <= set(known):
        expected = f"expected some of {', '.join(known)}, separated by commas"
        raise UsageError(f"--{name}={','.join(chosen)}: {expected}")
    return chosen


def _find_sides(peer: str | None, names: Sequence[str] | None) -> list[Side]:
    """Returns the sides, ours first; says in a line how to get others where it runs alone."""
    wanted = dict.fromkeys(names or [OURS.name, *(_PEER_SIDES if peer else ())])
    others = [name for name in wanted if name != OURS.name]
    script = os.path.expanduser(peer or "")
    if peer and not os.path.isfile(script):
        raise UsageError(f"--peer={peer}: is not a file")
    if others and not peer:
        raise UsageError(f"--sides={','.join(others)}: needs --peer=FILE, the script that runs them")
    if not others:
        say(f"{OURS.name} runs alone; --peer=FILE names a script that runs other sides, such as PyTorch's")
    return [OURS] * (OURS.name in wanted) + [Side(name, (sys.executable, script, name)) for name in others]


def _describe_machine(device: dict[str, str]) -> dict[str, str]:
    """Returns a device, and the processor and the versions that its figures belong to."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text() if info.exists() else "")
    cpu = named[1] if named else platform.processor() or platform.machine()
    host = {"cpu": f"{cpu} ({count_cores()} cores)", "python": f"Python {platform.python_version()}"}
    found = [*importlib.metadata.distributions(name="jax"), *importlib.metadata.distributions(name="torch")]
    return device | host | {package.name: f"{package.name} {package.version}" for package in found}


def _run_cases(
    cases: Sequence[Case], sides: Sequence[Side], photo: np.ndarray, repeats: int
) -> Iterator[dict[str, Any]]:
    """Prints the table row by row; yields what the JSON file says of each case."""
    peak = 0.0
    say(_HEADER)
    with tempfile.TemporaryDirectory(prefix="realsr-benchmark-") as folder:
        for case in cases:
            able, timings = list(sides), {}
            while able and not timings:
                try:
                    timings = run_case(case, able, folder=Path(folder), photo=photo, repeats=repeats)
                except SideError as error:
                    complain("realsr-benchmark", str(error))
                    able.remove(error.side)
            if case.task == "product" and timings:
                peak = max(timing.flops / timing.median for timing in timings.values())
            for name, timing in timings.items():
                say(f"| {' | '.join(_cells(case, name, timing, timings.get(OURS.name), peak))} |")
                if not timing.is_same:
                    complain("realsr-benchmark", f"{case.label}: {name} gives another result")
            is_good = len(timings) == len(sides) and all(timing.is_same for timing in timings.values())
            figures = {name: timing.as_json() for name, timing in timings.items()}
            yield {"case": case.label, **dataclasses.asdict(case), "sides": figures, "is_good": is_good}


def _cells(case: Case, name: str, timing: Timing, ours: Timing | None, peak: float) -> list[str]:
    speed = timing.flops / timing.median
    return [
        case.label,
        name,
        f"{timing.median:.3g} ({min(timing.seconds):.3g} to {max(timing.seconds):.3g})",
        f"{case.result_pixels / timing.median / 1e6:.3g}" if case.network else "",
        f"{speed / 1e12:.3g}",
        f"{speed / peak:.0%}" if peak else "",
        f"{timing.peak_bytes / 2**30:.2f}",
        f"{timing.compile_seconds:.1f}",
        f"{ours.median / timing.median:.2f}" if ours and name != OURS.name else "",
        f"{timing.difference[0]:.2g}" if timing.difference else "",
    ]


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run("realsr-benchmark", __doc__, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
