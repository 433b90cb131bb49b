"""realsr-benchmark: speed and memory of the networks, here and on other sides of this machine.

  realsr-benchmark                                  (some minutes on 2 cores)
  realsr-benchmark --full --json=speed.json         (the sizes of the published figures)
  realsr-benchmark --networks=default --tasks=tile,photo --peer=FILE --sides=realsr_jax,best

The sides run in turn, each in a process of its own, with the same weights and inputs, and their results are
compared. Columns: seconds, median (least to most); megapixels of result a second; arithmetic of realsr_jax's
network, counted as for direct convolutions, and its share of what the device reaches in large matrix
products, the faster side's, in this run (minimal filtering on CPUs can exceed it); most memory, of the
process or of the GPU; compilation, what the first run took longer; ratio of realsr_jax's time to this
side's, below 1 where realsr_jax is faster; largest difference from realsr_jax's result, in float32 also
where others compute in bfloat16, in grey levels, or of the loss in training. computation_alone is a folder's
photos in memory, with everything compiled.

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
from realsr_jax.benchmark.conversation import Side, SideError, ask_for_sides
from realsr_jax.benchmark.timing import OURS, OURS_ALONE, OURS_IN_FLOAT32, Timing, run_case
from realsr_jax.cli import command
from realsr_jax.images import read_photo
from realsr_jax.models import NETWORKS
from realsr_jax.models.precision import has_fast_bfloat16
from realsr_jax.system.errors import UsageError
from realsr_jax.system.files import temporary_folder, write_atomically
from realsr_jax.system.jax_startup import start_jax
from realsr_jax.system.processes import count_cores
from realsr_jax.system.terminal import complain, say
from realsr_jax.upscaling.inference_config import DEFAULT

_HEADER: Final = """\
| case | side | seconds | MP/s | TFLOP/s | of peak | memory, GiB | compilation, s | ratio | difference |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""

_NO_PEER: Final = "tests/scripts/torch_peer.py in a clone of the repository is one"


def _define_flags(table: command.FlagTable) -> None:
    table.section("What runs")
    networks = [DEFAULT, *NETWORKS]
    table.texts("networks", "NAMES", f"{', '.join(networks)}; by default all", networks)
    tasks = (
        "tile; photo (default settings) and folder (realsr-upscale as a process) of bundled networks; "
        "ensemble (the published one of a photo) of the others; step (training: L1, Adam); by default all"
    )
    table.texts("tasks", "NAMES", tasks, list(TASKS))
    table.switch(
        "full", "larger images, and all networks in all tasks, instead of the first in ensemble and step"
    )
    dtypes = "float32 or bfloat16; by default both where the device computes in bfloat16"
    table.choice("dtype", ["float32", "bfloat16"], dtypes)
    table.text("photo", "FILE", "of which inputs are cut; by default a synthetic picture")
    table.whole("repeats", "runs of each side after a first one, of which medians are taken (3)", 3, 1)
    table.text("json", "FILE", "all figures, written after each case")
    table.section("Other sides")
    peer = "a script that runs other sides and speaks as realsr_jax.benchmark.conversation says; "
    table.text("peer", "FILE", peer + _NO_PEER)
    table.texts(
        "sides", "NAMES", f"{OURS.name} and any that the peer knows; by default all that can run here"
    )


def _main(values: flags.FlagValues) -> int:
    json_path = command.output_file(values, "json")
    networks = _some_of(values, "networks", [DEFAULT, *NETWORKS])
    tasks = _some_of(values, "tasks", TASKS)
    sides = _find_sides(values.peer, values.sides)
    photo = read_photo(os.path.expanduser(values.photo)).rgb_8_bit() if values.photo else synthetic_photo()
    start_jax()
    import jax

    device = jax.local_devices()[0]
    on_gpu = device.platform != "cpu"
    # One device for all sides.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible if on_gpu else ""
    dtypes = [values.dtype] if values.dtype else _find_dtypes(device)
    cases = make_cases(networks=networks, tasks=tasks, dtypes=dtypes, on_gpu=on_gpu, is_full=values.full)
    if all(case.task == "product" for case in cases):
        asked = f"--networks={','.join(networks)} --tasks={','.join(tasks)}"
        raise UsageError(f"{asked}: nothing to run; photo and folder want {DEFAULT}")
    machine = _describe_machine({"gpu": device.device_kind} if on_gpu else {})
    say(f"{', '.join(machine.values())}; medians of {values.repeats} after a first run")
    document: dict[str, Any] = {"machine": machine, "repeats": values.repeats, "cases": []}
    for figures in _run_cases(cases, sides, photo, values.repeats):
        document["cases"].append(figures)
        if json_path is not None:
            write_atomically(json_path, json.dumps(document, indent=2, allow_nan=False) + "\n")
    return 0 if all(figures["is_good"] for figures in document["cases"]) else 1


def _find_dtypes(device: Any) -> list[str]:
    """Returns what the device computes in; says in a line that bfloat16 is left out where it is."""
    if has_fast_bfloat16(device):
        return ["float32", "bfloat16"]
    say("bfloat16 is left out: the device computes it no faster than float32 (CPUs need AVX512-BF16 or AMX)")
    return ["float32"]


def _some_of(values: flags.FlagValues, name: str, known: Sequence[str]) -> list[str]:
    """Returns what a flag lists, some of the known words."""
    chosen: list[str] = values[name].value or []
    if not chosen or not set(chosen) <= set(known):
        expected = f"expected some of {', '.join(known)}, separated by commas"
        raise UsageError(f"--{name}={','.join(chosen)}: {expected}")
    return chosen


def _find_sides(peer: str | None, names: Sequence[str] | None) -> list[Side]:
    """Returns the sides, ours first; says in a line what is left out."""
    script = os.path.expanduser(peer or "")
    if peer and not os.path.isfile(script):
        raise UsageError(f"--peer={peer}: is not a file; {_NO_PEER}")
    known = {side.name: side for side in (OURS, *(ask_for_sides(script) if peer else ()))}
    for name in names or ():
        if name not in known:
            remedy = f"expected some of {', '.join(known)}" if peer else f"needs --peer=FILE; {_NO_PEER}"
            raise UsageError(f"--sides={name}: {remedy}")
        if known[name].missing:
            raise UsageError(f"--sides={name}: {known[name].missing}")
    if not peer and not names:
        say(f"{OURS.name} runs alone; --peer=FILE names a script that runs other sides, such as PyTorch's")
    for side in known.values():
        if side.missing and not names:
            say(f"{side.name} is left out: {side.missing}")
    chosen = [side for side in known.values() if (side.name in names if names else not side.missing)]
    return [OURS_IN_FLOAT32, OURS, OURS_ALONE, *chosen[1:]] if OURS in chosen else chosen


def _describe_machine(device: dict[str, str]) -> dict[str, str]:
    """Returns a device, and the processor and the versions that its figures belong to."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text() if info.exists() else "")
    cpu = named[1] if named else platform.processor() or platform.machine()
    host = {"cpu": f"{cpu} ({count_cores()} cores)", "python": f"Python {platform.python_version()}"}
    names = ("jax", "torch", "openvino", "onnxruntime")
    found = [package for name in names for package in importlib.metadata.distributions(name=name)]
    return device | host | {package.name: f"{package.name} {package.version}" for package in found}


def _run_cases(
    cases: Sequence[Case], sides: Sequence[Side], photo: np.ndarray, repeats: int
) -> Iterator[dict[str, Any]]:
    """Prints what matrix products reach, then the table row by row; yields what JSON says of each."""
    peaks: dict[str, float] = {}
    has_header = False
    for case in cases:
        able = wanted = [side for side in sides if side.takes_part(case)]
        timings: dict[str, Timing] = {}
        while able and not timings:
            with temporary_folder(Path(tempfile.gettempdir())) as folder:
                try:
                    timings = run_case(case, able, folder=folder, photo=photo, repeats=repeats)
                except SideError as error:
                    complain("realsr-benchmark", str(error))
                    able = [side for side in able if side != error.side]
        if case.task == "product":
            reached = {name: timing.flops / timing.median for name, timing in timings.items()}
            peaks[case.dtype] = max(reached.values(), default=0.0)
            told = ", ".join(f"{name} {speed / 1e12:.3g} TFLOP/s" for name, speed in reached.items())
            say(f"{case.label}: {told}")
        elif timings:
            if not has_header:
                say("", *_HEADER.splitlines())
                has_header = True
            ours, peak = timings.get(OURS.name), peaks.get(case.dtype, 0.0)
            for name, timing in timings.items():
                say(f"| {' | '.join(_cells(case, name, timing, ours, peak))} |")
                if not timing.is_same:
                    complain("realsr-benchmark", f"{case.label}: {name} gives another result")
        is_good = len(timings) == len(wanted) and all(timing.is_same for timing in timings.values())
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
