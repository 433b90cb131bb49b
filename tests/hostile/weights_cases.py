"""Hostile weights directories: damaged at random, with a digest that is right, wrong or absent."""

import functools
import hashlib
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import mutations

from realsr_jax import weights
from realsr_jax.weights import WeightsError, load_weights, read_description

STRINGS = (
    "edsr",
    "drln",
    "oaddet",
    "../secret",
    "/secret",
    "params.safetensors",
    "files",
    "n_feats",
    "F16",
    "BF16",
)
_opened: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and "secret" in str(arguments[0]):
        _opened.append(str(arguments[0]))


def prepare():
    """Spares tracing, which takes most of the time, takes the memory of JAX's start, and watches."""
    weights.parameter_shapes = functools.lru_cache(maxsize=64)(weights.parameter_shapes)
    weights.parameter_shapes(load_weights("default")[0])
    sys.addaudithook(_watch)


def damaged(number: int) -> bool:
    """Damages a copy of the directory `weights` here and loads it."""
    generator = random.Random(number)
    folder = Path("damaged")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree("weights", folder)
    description, params = folder / "model.json", folder / "params.safetensors"
    if number % 2:
        _damage_params(generator, params)
        _set_digest(generator, description, params)
    elif generator.random() < 0.3:
        description.write_bytes(mutations.mutate(generator, description.read_bytes()))
    else:
        document = json.loads(description.read_bytes())
        for _ in range(generator.choice((1, 1, 3))):
            document = mutations.mutate_json(generator, document, STRINGS)
        description.write_text(json.dumps(document))
    if generator.random() < 0.02:
        file = generator.choice((description, params))
        file.unlink()
        if generator.random() < 0.5:
            file.mkdir()
    return load(folder)


def load(folder: Path) -> bool:
    """Loads weights; returns whether that worked, and checks the message if it did not."""
    _opened.clear()
    try:
        assert read_description(folder).scale in (2, 3, 4, 8)
        load_weights(folder)
    except WeightsError as error:
        message = str(error)
        assert message.startswith(str(folder)) and message.isprintable() and len(message) < 1000, message
        return False
    finally:
        assert not _opened, _opened
    return True


def _damage_params(generator: random.Random, file: Path) -> None:
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    if generator.random() < 0.5:
        content = mutations.mutate(generator, content)
    else:
        header = mutations.mutate_json(generator, json.loads(content[8:end]), STRINGS)
        text = json.dumps(header).encode()
        content = len(text).to_bytes(8, "little") + text + content[end:]
    file.write_bytes(content)


def _set_digest(generator: random.Random, description: Path, params: Path) -> None:
    """Leaves the digest as it was, removes it or makes it right, so that what is behind it is tried too."""
    document = json.loads(description.read_bytes())
    choice = generator.random()
    if choice < 0.5:
        document["sha256"] = hashlib.sha256(params.read_bytes()).hexdigest()
    elif choice < 0.9:
        document["sha256"] = ""
    description.write_text(json.dumps(document))


ABSURD = {
    "blocks": {"n_resblocks": 30_000},
    "features": {"n_feats": 2**40},
    "digits": {"n_resblocks": 10**4000},
    "factor": {"res_scale": float("inf")},
    "scale": {"scale": 10**9},
    "a long text": {"n_feats": "8" * 900_000},
    "an escape sequence": {"\x1b[2J\n": 1},
    "many fields": {f"field_{i}": i for i in range(50_000)},
}
"""Fields that no network has."""


def absurd(number: int) -> bool:
    """Loads the directory `weights` here with fields that no network has."""
    folder = Path("absurd")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree("weights", folder)
    document = json.loads((folder / "model.json").read_bytes())
    document["fields"] |= list(ABSURD.values())[number]
    (folder / "model.json").write_text(json.dumps(document))
    return load(folder)


def elsewhere(number: int) -> bool:
    """Loads the directory `weights` here with a description that names files outside of it."""
    folder, secret = Path("elsewhere"), ("../secret", str(Path("secret").resolve()))[number]
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree("weights", folder)
    document = json.loads((folder / "model.json").read_bytes())
    for key in ("files", "params", "path", "source"):
        document[key] = document["provenance"][key] = {"params.safetensors": secret}
    (folder / "model.json").write_text(json.dumps(document))
    return load(folder)
