"""Weights directories: ``model.json``, which describes the network, beside Orbax parameters.

A directory is written under another name and renamed when it is complete. JAX and Orbax are imported where
they are needed, so that the command line can look at a description without starting them.
"""

import dataclasses
import datetime
import difflib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from realsr_jax.config import DeepOADDetConfig, DRLNConfig, EDSRConfig, ModelConfig, OADDetConfig

FORMAT_VERSION = 1

ARCHITECTURES: dict[str, type[ModelConfig]] = {
    "oaddet": OADDetConfig,
    "deep_oaddet": DeepOADDetConfig,
    "edsr": EDSRConfig,
    "drln": DRLNConfig,
}
"""The networks by the names under which ``model.json`` and the command line know them."""

BUNDLED: dict[str, Path] = {"default": Path(__file__).resolve().parent / "bundled" / "default"}
"""Weights that are part of the package, by the names that stand for them wherever weights are asked for."""


class WeightsError(ValueError):
    """A weights directory that cannot be used; the message is one line that names it."""


def architecture_name(config: ModelConfig) -> str:
    """Returns the name under which ``model.json`` and the command line know a network."""
    return next(name for name, config_class in ARCHITECTURES.items() if type(config) is config_class)


def save_weights(path: Path, config: ModelConfig, params: Any, *, provenance: dict[str, str]) -> None:
    """Writes a weights directory, or nothing.

    Args:
        path: the directory; existing weights are replaced.
        config: the network.
        params: its parameters, as `build_model(config).init(...)["params"]` nests them.
        provenance: where they come from, such as the source file's name and sha256.

    Raises:
        WeightsError: if `path` is something else than a weights directory, or cannot be written.
    """
    import jax
    import orbax.checkpoint as ocp

    if path.exists() and not is_weights(path):
        raise WeightsError(f"{path}: exists and is no weights directory, so it is not replaced")
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        try:
            # Not StandardCheckpointer, whose threads go on writing when it fails.
            options = ocp.options.MultiprocessingOptions()
            if jax.process_count() > 1:  # only this process writes, so Orbax must not wait for the others
                me = jax.process_index()
                options = ocp.options.MultiprocessingOptions(primary_host=me, active_processes={me})
            handler = ocp.StandardCheckpointHandler(multiprocessing_options=options)
            with ocp.Checkpointer(handler, multiprocessing_options=options) as checkpointer:
                checkpointer.save(staging / "params", args=ocp.args.StandardSave(params))
        except Exception as error:  # Orbax raises plain ones
            raise WeightsError(f"{path}: cannot be written ({_first_line(error)})") from error
        description = {
            "format_version": FORMAT_VERSION,
            "architecture": architecture_name(config),
            "fields": dataclasses.asdict(config),
            "provenance": provenance | {"date": datetime.date.today().isoformat()},
            "files": {
                file.relative_to(staging).as_posix(): sha256_of(file)
                for file in sorted(staging.rglob("*"))
                if file.is_file()
            },
        }
        (staging / "model.json").write_text(json.dumps(description, indent=2) + "\n")
        staging.chmod(0o777 & ~_umask())
        _move_into_place(staging, path)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _move_into_place(staging: Path, path: Path) -> None:
    if not path.exists():
        os.replace(staging, path)
        return
    retired = staging.with_name(f"{staging.name}.old")
    os.replace(path, retired)
    try:
        os.replace(staging, path)
    except BaseException:
        os.replace(retired, path)
        raise
    shutil.rmtree(retired)


def sha256_of(file: Path) -> str:
    """Returns the sha256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_description(path: str | Path) -> ModelConfig:
    """Returns the configuration of the network in a weights directory, as `load_weights` finds it.

    Raises:
        WeightsError: if the directory does not exist or its ``model.json`` is missing or damaged.
    """
    return _read_description(_locate(path))[0]


def _locate(path: str | Path) -> Path:
    """Returns the weights directory that a bundled name or a training run's directory stands for."""
    if path in BUNDLED:
        return BUNDLED[str(path)]
    path = Path(path)
    choices = (path / "best", path / "latest")
    return path if is_weights(path) else next(filter(is_weights, choices), path)


def _read_description(path: Path) -> tuple[ModelConfig, dict[str, str]]:
    """Returns a network's configuration, and the sha256 of each file where they are recorded."""
    if path.is_file():
        raise WeightsError(
            f"{path}: is a file; convert it first: realsr-convert --input={path} --output=weights/{path.stem}"
        )
    if not path.is_dir():
        raise WeightsError(
            f"{path}: no such weights directory; make one with realsr-convert{_built_in(path)}"
        )
    file = path / "model.json"
    try:
        description = json.loads(file.read_text())
        version, name = description["format_version"], str(description["architecture"])
        fields, digests = dict(description["fields"]), dict(description.get("files", {}))
    except FileNotFoundError:
        if (path / "checkpoints").is_dir():
            raise WeightsError(
                f"{path}: a training run that has no weights yet; it leaves some after each epoch"
            ) from None
        raise WeightsError(
            f"{path}: no weights directory, it holds no model.json; make one with realsr-convert"
        ) from None
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{file}: damaged, convert the checkpoint again ({_first_line(error)})") from error
    if version != FORMAT_VERSION:
        raise WeightsError(f"{file}: format version {version}, this release reads {FORMAT_VERSION}")
    if name not in ARCHITECTURES:
        raise WeightsError(
            f"{file}: unknown architecture {name!r}, expected one of {', '.join(ARCHITECTURES)}"
        )
    try:
        return ARCHITECTURES[name](**fields), digests
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{file}: {error}") from error


def _built_in(path: Path) -> str:
    """Says which names could have been meant, where what does not exist looks like a name."""
    if len(path.parts) > 1:
        return ""
    close = difflib.get_close_matches(path.name, [*BUNDLED, "bicubic"], 1)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    return f" (built in: 'default' and, to upscale or evaluate, 'bicubic'{guess})"


def load_weights(path: str | Path) -> tuple[ModelConfig, Any]:
    """Reads a weights directory.

    Args:
        path: the directory; or a training run's, of which the best weights are read, or else the latest; or
            one of the names in `BUNDLED` (``./default`` is a directory of that name).

    Returns:
        The network's configuration and its parameters, float32 NumPy arrays.

    Raises:
        WeightsError: if the directory is missing, damaged or does not fit its description.
    """
    path = _locate(path)
    config, digests = _read_description(path)
    _check_files(path, digests)

    import jax
    import jax.numpy as jnp
    import numpy as np
    import orbax.checkpoint as ocp

    from realsr_jax.models import build_model

    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    try:
        params = jax.eval_shape(build_model(config).init, jax.random.key(0), lr)["params"]
        # NumPy arrays as patterns keep Orbax from placing the parameters on a device.
        abstract = jax.tree.map(lambda p: np.empty(p.shape, p.dtype), params)
        folder = path.resolve() / "params"
        with ocp.StandardCheckpointer() as checkpointer:
            _check_shapes(checkpointer.metadata(folder).item_metadata, abstract)
            return config, checkpointer.restore(folder, abstract)
    except Exception as error:  # Orbax raises plain ones
        raise WeightsError(
            f"{path}: its parameters cannot be read, convert the checkpoint again ({_first_line(error)})"
        ) from error


def _check_files(path: Path, digests: dict[str, str]) -> None:
    """Finds damage in the files of a weights directory, part of which Orbax would load as other numbers."""
    for name, digest in digests.items():
        try:
            is_intact = sha256_of(path / name) == digest
        except OSError as error:
            raise WeightsError(f"{path}: its file {name} cannot be read ({error.strerror})") from error
        if not is_intact:
            raise WeightsError(f"{path}: its file {name} is damaged, convert the checkpoint again")


def _check_shapes(stored: Any, expected: Any) -> None:
    """Compares shapes before Orbax does, which prints a traceback for each array that it is still reading."""
    import jax

    if stored is None:  # Orbax finds no parameters, and says so when it is asked for them.
        return
    found, wanted = (
        {
            jax.tree_util.keystr(path, simple=True, separator="/"): tuple(array.shape)
            for path, array in jax.tree.leaves_with_path(tree)
        }
        for tree in (stored.tree, expected)
    )
    for name in sorted(found.keys() | wanted.keys()):
        actual, shape = found.get(name, "absent"), wanted.get(name, "absent")
        if actual != shape:
            raise ValueError(f"{name} is {actual}, expected {shape}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def is_weights(path: Path) -> bool:
    """Whether a path is a weights directory, by the look of it."""
    return (path / "model.json").is_file()
