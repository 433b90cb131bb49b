"""The configuration in a run's directory, against which a continued run is checked."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

from realsr_jax.system.files import write_atomically
from realsr_jax.train.train_config import TrainConfig

_MAY_CHANGE = frozenset(
    {
        "epochs",
        "dtype",
        "remat",
        "accumulate",
        "max_bad_batches",
        "skip_bad_images",
        "checkpoint_every",
        "log_every",
        "workers",
        "decoded_dir",
    }
)
"""Fields that a continued run may have otherwise."""


def check_description(config: TrainConfig, workdir: Path, *, is_new: bool) -> None:
    """Compares a configuration with that of the run in a directory; the first process writes it there.

    Args:
        config: of the run that starts or continues.
        workdir: its directory.
        is_new: whether the run has no checkpoint yet, so that nothing binds it.

    Raises:
        ValueError: if the directory holds another run.
    """
    path = workdir / "config.json"
    wanted = describe(config)
    try:
        found = wanted if is_new else json.loads(path.read_text())
    except FileNotFoundError:
        found = wanted
    except ValueError as error:
        raise ValueError(f"{path}: damaged ({error}); delete it to continue the run") from error
    changed = sorted(name for name in wanted if name not in _MAY_CHANGE and found.get(name) != wanted[name])
    if changed:
        differences = ", ".join(_difference(name, found.get(name), wanted[name]) for name in changed)
        raise ValueError(
            f"{workdir}: holds a run with {differences}; use another --workdir, which can "
            f"start from this run with --config.start_from={workdir}"
        )
    if jax.process_index() == 0:
        write_atomically(path, json.dumps(wanted, indent=2) + "\n")


def _difference(name: str, found: Any, wanted: Any) -> str:
    if found is None or isinstance(found, (dict, list)):
        return f"another {name}"
    return f"{name} {found!r} (now {wanted!r})"


def describe(config: Any) -> Any:
    """Returns a configuration as JSON can hold it, each dataclass with its name as "class"."""
    if dataclasses.is_dataclass(config):
        fields = {field.name: describe(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {"class": type(config).__name__} | fields
    if isinstance(config, (list, tuple)):
        return [describe(entry) for entry in config]
    return config
