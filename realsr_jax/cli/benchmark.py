"""``realsr-benchmark``: speed and memory of the networks, beside PyTorch's where that is installed."""

import dataclasses
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from realsr_jax.benchmark.cases import TASKS, make_cases
from realsr_jax.benchmark.timing import OURS, Side, SideError, Timing, run_case
from realsr_jax.cli import command
from realsr_jax.system.files import write_atomically
from realsr_jax.weights import ARCHITECTURES

if TYPE_CHECKING:
    import numpy as np

    from realsr_jax.benchmark.cases import Case

_HELP = """\
realsr-benchmark: speed and memory of the four networks at full size, beside PyTorch's on the same machine.

  realsr-benchmark                                  (some minutes on 2 cores)
  realsr-benchmark --full --json=speed.json         (the sizes of the published figures)
  realsr-benchmark --networks=edsr --tasks=tile --sides=realsr_jax

The sides run in turn, each in a process of its own, with the same weights and inputs, and their results are
compared. PyTorch's sides need PyTorch and a clone of the repository, installed with "pip install -e .";
without these the first side runs alone.

  --sides=NAMES         realsr_jax; best: PyTorch with channels_last, inference mode, all threads, on GPUs
                        bfloat16 by autocast and torch.compile; published: float32, NCHW, gathered dynamic
                        filters, one part of a photo after the other. By default all three
  --networks=NAMES      oaddet, deep_oaddet, edsr, drln; by default all
  --tasks=NAMES         tile; photo: with the network's published ensemble; step: of training, with L1 and
                        Adam. By default all
  --full                all networks in all tasks, on larger images; without it only the first network
                        upscales a photo and is trained
  --dtype=NAME          float32 or bfloat16 (by default float32 on CPUs, bfloat16 on GPUs)
  --photo=FILE          of which inputs are cut; by default the repository's, or else random pixels
  --repeats=N           runs of each side after a first one, of which medians are taken (3)
  --json=FILE           all figures

Columns: seconds, median (least to most); megapixels of result a second; arithmetic, counted as for direct
convolutions, and its share of what the device reaches in large matrix products, the faster side's, in this
run (minimal filtering on CPUs can exceed it); most memory, of the process or of the GPU; compilation, what
the first run took longer; ratio of realsr_jax's time to this side's, below 1 where realsr_jax is faster;
largest difference from realsr_jax's result, in grey levels, or of the loss in training.

Exit status: 0; 1 if a side failed or its results differ by more than rounding; 2 on a wrong command line.
"""

_HEADER = (
    "case",
    "side",
    "seconds",
    "MP/s",
    "TFLOP/s",
    "of peak",
    "memory, GiB",
    "compilation, s",
    "ratio",
    "difference",
)

_PEER_SIDES = ("best", "published")


def _define_flags(values: flags.FlagValues) -> None:
    sides = [OURS.name, *_PEER_SIDES]
    for name, choices in (("sides", sides), ("networks", list(ARCHITECTURES)), ("tasks", list(TASKS))):
        flags.DEFINE_list(name, choices, f"Some of {', '.join(choices)}.", flag_values=values)
        flags.register_validator(
            name,
            lambda chosen, choices=choices: bool(chosen) and set(chosen) <= set(choices),
            message=f"expected some of {', '.join(choices)}, separated by commas",
            flag_values=values,
        )
    flags.DEFINE_bool("full", False, "All networks in all tasks.", flag_values=values)
    flags.DEFINE_enum("dtype", None, ["float32", "bfloat16"], "Arithmetic.", flag_values=values)
    flags.DEFINE_string("photo", None, "Photo of which inputs are cut.", flag_values=values)
    flags.DEFINE_integer("repeats", 3, "Runs of each side.", lower_bound=1, flag_values=values)
    flags.DEFINE_string("json", None, "File for all figures.", flag_values=values)


def _main(values: flags.FlagValues) -> int:
    json_path = command.output_file(values, "json")
    photo = _read_photo(values.photo)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the sides need the GPU's memory
    command.start_jax()
    import jax

    on_gpu = jax.local_devices()[0].platform != "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = (
        os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] if on_gpu else ""
    )
    dtype = values.dtype or ("bfloat16" if on_gpu else "float32")
    cases = make_cases(
        networks=values.networks, tasks=values.tasks, dtype=dtype, on_gpu=on_gpu, is_full=values.full
    )
    sides = _find_sides(values.sides)
    machine = _describe_machine(jax.local_devices()[0].device_kind if on_gpu else None)
    command.say(f"{', '.join(machine.values())}; {dtype}; medians of {values.repeats} after a first run\n")
    results, is_good = [], True
    for result, is_case_good in _run_cases(cases, sides, photo, values.repeats):
        results.append(result)
        is_good = is_good and is_case_good
        if json_path is not None:
            document = {"machine": machine, "dtype": dtype, "repeats": values.repeats, "cases": results}
            write_atomically(json_path, json.dumps(document, indent=2, allow_nan=False) + "\n")
    return 0 if is_good else 1


def _run_cases(
    cases: Sequence["Case"], sides: Sequence[Side], photo: "np.ndarray", repeats: int
) -> Iterator[tuple[dict[str, Any], bool]]:
    """Prints the table row by row; yields what the JSON file says of each case, and whether all is well."""
    peak = 0.0
    command.say(_row(_HEADER) + "\n" + _row(["---"] * len(_HEADER)))
    with tempfile.TemporaryDirectory(prefix="realsr-benchmark-") as folder:
        for case in cases:
            able, is_good = list(sides), True
            timings: dict[str, Timing] = {}
            while able and not timings:
                try:
                    timings = run_case(case, able, folder=Path(folder), photo=photo, repeats=repeats)
                except SideError as error:
                    command.complain("realsr-benchmark", str(error))
                    able.remove(error.side)
                    is_good = False
            if case.task == "product" and timings:
                peak = max(timing.flops_per_second for timing in timings.values())
            for name, timing in timings.items():
                command.say(_row(_cells(case, name, timing, timings.get(OURS.name), peak)))
                if not timing.is_same:
                    command.complain("realsr-benchmark", f"{case.label}: {name} gives another result")
                    is_good = False
            sides_json = {
                name: dataclasses.asdict(timing)
                | {"median": timing.median, "compile_seconds": timing.compile_seconds}
                | {"difference": _finite(timing.difference)}
                for name, timing in timings.items()
            }
            yield {"case": case.label, **dataclasses.asdict(case), "sides": sides_json}, is_good


def _finite(values: Sequence[float] | None) -> list[float | None] | None:
    """Returns numbers that JSON can hold."""
    return None if values is None else [value if math.isfinite(value) else None for value in values]


def _cells(case: "Case", name: str, timing: Timing, ours: Timing | None, peak: float) -> list[str]:
    spread = f"{timing.median:.3g} ({min(timing.seconds):.3g} to {max(timing.seconds):.3g})"
    is_product = case.task == "product"
    return [
        case.label,
        name,
        spread,
        "" if is_product else f"{case.result_pixels / timing.median / 1e6:.3g}",
        f"{timing.flops_per_second / 1e12:.3g}",
        f"{timing.flops_per_second / peak:.0%}" if peak else "",
        f"{timing.peak_bytes / 2**30:.2f}",
        f"{timing.compile_seconds:.1f}",
        "" if ours is None or name == OURS.name else f"{ours.median / timing.median:.2f}",
        "" if timing.difference is None else f"{timing.difference[0]:.2g}",
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _find_sides(names: Sequence[str]) -> list[Side]:
    """Returns the sides that can run, ours first; says in a line why PyTorch's cannot."""
    sides = [OURS] if OURS.name in names else []
    wanted = [name for name in _PEER_SIDES if name in names]
    peer = _repository() / "tests" / "benchmark_peer.py"
    reason = ""
    if not peer.is_file():
        reason = "it needs a clone of the repository, installed there by pip install -e ."
    elif importlib.util.find_spec("torch") is None:
        reason = "PyTorch is not installed"
    if wanted and reason:
        command.complain("realsr-benchmark", f"without {' and '.join(wanted)}: {reason}")
    elif wanted:
        sides += [Side(name, (sys.executable, str(peer), name)) for name in wanted]
    if not sides:
        raise command.UsageError("no side is left to run")
    return sides


def _repository() -> Path:
    return Path(__file__).resolve().parents[2]


def _read_photo(path: str | None) -> "np.ndarray":
    """Returns uint8 [h, w, 3]."""
    import numpy as np

    from realsr_jax.images import read_photo

    default = _repository() / "tests" / "data" / "readme" / "cat.png"
    if path is None and not default.is_file():
        return np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    return read_photo(default if path is None else os.path.expanduser(path)).rgb_8_bit()


def _describe_machine(gpu: str | None) -> Mapping[str, str]:
    """Returns the device and the versions that a figure belongs to."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = next(iter(models), cpu)
    packages = {}
    for package in ("jax", "torch"):
        try:
            packages[package] = f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    device = {"gpu": gpu} if gpu else {}
    return (
        device
        | {"cpu": f"{cpu} ({command.processors()} cores)", "python": f"Python {platform.python_version()}"}
        | packages
    )


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run("realsr-benchmark", _HELP, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
