"""The configuration in a run's directory, against which a continued run is checked."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, Final

from realsr_jax.system.files import read_file, write_atomically
from realsr_jax.train.train_config import TrainConfig

CONFIG_FILE: Final = "config.json"

_MAY_CHANGE: Final = frozenset(
    {
        "epochs",
        "more_valid",
        "dtype",
        "remat",
        "accumulate",
        "max_bad_batches",
        "skip_bad_images",
        "checkpoint_every",
        "log_every",
        "save_every_epoch",
        "workers",
        "decoded_dir",
    }
)
"""Fields that a continued run may have otherwise."""


def write_run_config(config: TrainConfig, workdir: Path) -> None:
    """Writes a run's configuration, with the length of its epochs, into its directory."""
    write_atomically(workdir / CONFIG_FILE, json.dumps(describe(config), indent=2) + "\n")


def read_run_config(config: TrainConfig, workdir: Path) -> dict[str, Any]:
    """Returns the description of the run in a directory, after comparing it with the run that continues it.

    Args:
        config: of the run that continues it. As long as its `steps_per_epoch` is 0, that is not compared.
        workdir: the run's directory.

    Returns:
        The description as `describe` makes it, fields that the file does not know at their defaults; that of
        `config` if there is no file.

    Raises:
        ValueError: if the directory holds another run.
    """
    path, wanted = workdir / CONFIG_FILE, describe(config)
    try:
        found = _completed(json.loads(read_file(path)), config)
        if not isinstance(found, dict) or found.get("class") != wanted["class"]:
            raise ValueError(f"expected a description of {wanted['class']}, as --show prints it")
        if type(found["epochs"]) is not int or not 1 <= found["epochs"] < 2**31:
            raise ValueError(f"epochs is {found['epochs']!r:.60}, expected a whole number from 1")
    except FileNotFoundError:
        return wanted
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged ({error}); delete it to continue the run") from error
    bound = wanted.keys() - _MAY_CHANGE - (set() if config.steps_per_epoch else {"steps_per_epoch"})
    changed = sorted(name for name in bound if found.get(name) != wanted[name])
    if changed == ["steps_per_epoch"]:
        raise ValueError(
            f"{workdir}: holds a run whose epochs have {found['steps_per_epoch']} steps, and now they have "
            f"{config.steps_per_epoch}: training data were added or removed, or an earlier "
            "release counted otherwise; put them back, or continue with "
            f"--config.steps_per_epoch={found['steps_per_epoch']}"
        )
    if changed:
        differences = ", ".join(_difference(name, found.get(name), wanted[name]) for name in changed)
        raise ValueError(
            f"{workdir}: holds a run with {differences}; use another --workdir, which can "
            f"start from this run with --config.start_from={workdir}"
        )
    return found


def _completed(found: Any, config: Any) -> Any:
    """Adds the fields that a configuration has gained since it was described, at their defaults."""
    if isinstance(found, list) and isinstance(config, (list, tuple)) and len(found) == len(config):
        return [_completed(*entries) for entries in zip(found, config, strict=True)]
    if not isinstance(found, dict) or not dataclasses.is_dataclass(config):
        return found
    if found.get("class") != type(config).__name__:
        return found
    completed = {name: _completed(value, getattr(config, name, None)) for name, value in found.items()}
    for field in dataclasses.fields(config):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        completed.setdefault(field.name, describe(default))
    return completed


def _difference(name: str, found: Any, wanted: Any) -> str:
    if found is None or isinstance(found, (dict, list)):
        return f"another {name}"
    return f"{name} {found!r} (now {wanted!r})"


def without_folders(text: str) -> str:
    """Returns a text with absolute paths cut to their last parts, for others to read."""
    return re.sub(r"(?<![\w.*-])~?/(?:[^'\",]*/)?(?=[^/])", "", text)


def describe(config: Any) -> Any:
    """Returns a configuration as JSON can hold it, each dataclass with its name as "class"."""
    if dataclasses.is_dataclass(config):
        fields = {field.name: describe(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {"class": type(config).__name__} | fields
    if isinstance(config, (list, tuple)):
        return [describe(entry) for entry in config]
    return config
