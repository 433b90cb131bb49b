"""Each of the project's commands on tiny inputs, as a process, and what it leaves."""

import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import golden
import jax
import numpy as np
import torch
import wash_faults
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image

import realsr_jax
from realsr_jax.convert.rules import to_torch
from realsr_jax.models import parameter_shapes
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.weights import save_weights

_RUN = """
import importlib, sys
_, module, before, *arguments = sys.argv
exec(before)
sys.argv = [module, *arguments]
if __name__ == "__main__":
    sys.exit(importlib.import_module(f"realsr_jax.{module}").run())
"""
_TINY_SETS = """
from realsr_jax.data import sources, tfds_builders
sources.PUBLISHED_COUNTS["aim"] = 6
tfds_builders._PAIRS_PER_SHARD = 2
"""
_TINY_CASES = """
from realsr_jax.benchmark import cases
small = cases.make_cases
def make_cases(**chosen):
    return [cases.dataclasses.replace(case, size=(48, 48)) for case in small(**chosen)]
cases.make_cases = make_cases
"""
_TRAINING = """
from realsr_jax.data.sources import HrFolder
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.train.train_config import TrainConfig


def get_config():
    photos = HrFolder("../inputs/aim/X2/HR")
    model = EDSRConfig(n_resblocks=1, n_feats=4)
    return TrainConfig(model, (photos,), photos, patch_size=16, batch_size=4, epochs=6, steps_per_epoch=4,
                       checkpoint_every=3, workers=0, decoded_dir="none", protocol="benchmark")
"""


@dataclasses.dataclass(frozen=True)
class Command:
    """A command that works in a folder of its own, beside the folder ``inputs``.

    Attributes:
        module: what it is in, below `realsr_jax`.
        arguments: with spaces between them.
        given: the folder of the inputs whose content is in its own folder from the start; empty for none.
        before: Python code that is run first.
    """

    module: str
    arguments: str
    given: str = ""
    before: str = ""

    def prepare(self, folder: Path) -> None:
        """Makes the folder that it works in."""
        folder.mkdir(exist_ok=True)
        if self.given:
            shutil.copytree(folder.parent / "inputs" / self.given, folder, dirs_exist_ok=True)

    def start(self, folder: Path, more: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen:
        """Starts it in its folder; `more` belongs to the environment, the rest goes to `Popen`."""
        (folder / "tmp").mkdir(exist_ok=True)
        inherited = {"JAX_COMPILATION_CACHE_DIR": str(folder.parent / "xla"), **os.environ}
        environment = {name: value for name, value in inherited.items() if name != "XLA_FLAGS"} | {
            "PYTHONPATH": str(Path(realsr_jax.__file__).parents[1]),
            "JAX_PLATFORMS": "cpu",
            "TMPDIR": str(folder / "tmp"),
        }
        arguments = [sys.executable, "-c", _RUN, self.module, self.before, *self.arguments.split()]
        prefix: Sequence[str] = options.pop("prefix", ())
        return subprocess.Popen([*prefix, *arguments], cwd=folder, env=environment | (more or {}), **options)


COMMANDS = {
    "convert": Command("convert.command", "-i ../inputs/net.pt -o weights --overwrite"),
    "convert_over": Command("convert.command", "-i ../inputs/net.pt -o weights --overwrite", "others"),
    "to_torch": Command("convert.command", "--to_torch -i ../inputs/others/weights -o net.pt --overwrite"),
    "upscale": Command("cli.upscale", "../inputs/lr -o out"),
    "upscale_over": Command("cli.upscale", "../inputs/lr -o lr --overwrite --report=look", "pairs"),
    "evaluate": Command(
        "cli.evaluate", "--lr=../inputs/lr --hr=../inputs/hr --json=scores.json --report=report"
    ),
    "make_lr": Command("cli.prepare", "--make_lr=2 --hr=../inputs/hr --lr=lr"),
    "dataset": Command(
        "cli.prepare", "--dataset=aim_x2 --manual_dir=../inputs/aim --data_dir=data", before=_TINY_SETS
    ),
    "wash": Command(
        "cli.wash", "--lr=../inputs/pairs/lr --hr=../inputs/pairs/hr --output=out --align=out --workers=2"
    ),
    "benchmark": Command(
        "cli.benchmark",
        "--networks=default --tasks=tile --dtype=float32 --repeats=1 --json=speed.json",
        before=_TINY_CASES,
    ),
    "train": Command("cli.train", "--config=../inputs/run.py --workdir=w"),
}
"""The commands; photos among their inputs are damaged, so that they have something to say."""


def make_inputs(folder: Path) -> None:
    """Makes the folder ``inputs`` in a folder."""
    inputs = folder / "inputs"
    for place in ("lr", "hr", "pairs/lr", "pairs/hr", "aim/X2/LR", "aim/X2/HR"):
        (inputs / place).mkdir(parents=True)
    for number in range(6):
        hr = golden.photo(64, 72, seed=number)
        lr = np.asarray(Image.fromarray(hr).resize((36, 32), Image.Resampling.BICUBIC))
        leaves, other = (
            wash_faults.dead_leaves(200, 260, np.random.default_rng(seed)) for seed in (number, number + 10)
        )
        planted = wash_faults.plant(leaves, other, "shift", number / 2, 2, np.random.default_rng(number))
        for place, samples in {
            "lr": lr,
            "hr": hr,
            "aim/X2/LR": lr,
            "aim/X2/HR": hr,
            "pairs/lr": planted.lr,
            "pairs/hr": planted.hr,
        }.items():
            Image.fromarray(samples).save(inputs / place / f"{number:06}.png")
    for place in ("lr", "hr", "pairs/lr", "pairs/hr"):
        content = (inputs / place / "000000.png").read_bytes()
        (inputs / place / "damaged.png").write_bytes(content[:200])
    config = EDSRConfig(n_resblocks=16, n_feats=64)
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), parameter_shapes(config))
    torch.save(
        {key: torch.from_numpy(array) for key, array in to_torch(config, params).items()}, inputs / "net.pt"
    )
    others = jax.tree.map(lambda leaf: leaf + 1, params)
    save_weights(inputs / "others" / "weights", config, others, provenance={"source": "others.pt"})
    (inputs / "run.py").write_text(_TRAINING)


UNLIKE = ("tensorboard", "checkpoints", "tmp")
"""Folders whose content differs between runs that nothing happens to."""


def left(folder: Path) -> dict[str, bytes]:
    """Returns all that a command has left, by path, without what tells times."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_dir() or set(name.parts[:-1]) & {"tensorboard"} or "checkpoints" in name.parts[:-2]:
            continue
        found[str(name)] = b"" if set(name.parts) & set(UNLIKE) else _without_times(path)
    return found | {f"{path.relative_to(folder)}/": b"" for path in folder.glob("*/checkpoints/*")}


def _without_times(path: Path) -> bytes:
    content = path.read_bytes()
    if path.name == "speed.json":
        return b""
    if "array_record" in path.name:  # whose records have their fields in any order
        return b"".join(bytes(sorted(record)) for record in ArrayRecordReader(str(path)).read_all())
    if path.suffix != ".jsonl":
        return content
    lines = [json.loads(line) for line in content.splitlines()]
    kept = [
        {key: value for key, value in line.items() if key not in ("patches_per_second", "waiting")}
        for line in lines
    ]
    texts = map(json.dumps, kept)
    if path.name == "journal.jsonl":  # a pair that cannot be read is noted in each run
        texts = dict.fromkeys(texts)
    return "\n".join(texts).encode()


def is_whole(path: Path) -> bool:
    """Whether a file that a command has left is complete, by itself or by what lies beside it."""
    content = path.read_bytes()
    try:
        if path.suffix == ".json":
            json.loads(content)
        elif path.suffix == ".jsonl":
            list(map(json.loads, content.splitlines()))
        elif path.suffix == ".png":
            Image.open(io.BytesIO(content)).load()
        elif "array_record" in path.name:
            ArrayRecordReader(str(path)).read_all()
        elif path.suffix == ".safetensors":
            description = json.loads(path.with_name("model.json").read_bytes())
            return hashlib.sha256(content).hexdigest() == description["sha256"]
        else:
            return False
    except (OSError, ValueError, RuntimeError):
        return False
    return True
