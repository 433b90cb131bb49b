"""Weights directories: ``model.json``, which describes the network, beside Orbax parameters.

A directory is written under another name and renamed when it is complete. JAX and Orbax are imported where
they are needed, so that the command line can look at a description without starting them.
"""

import dataclasses
import datetime
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from realsr_jax.config import DeepOADDetConfig, DRLNConfig, EDSRConfig, ModelConfig, OADDetConfig

FORMAT_VERSION = 1

_ARCHITECTURES: dict[str, type] = {
    "oaddet": OADDetConfig,
    "deep_oaddet": DeepOADDetConfig,
    "edsr": EDSRConfig,
    "drln": DRLNConfig,
}


class WeightsError(ValueError):
    """A weights directory that cannot be used; the message is one line that names it."""


def architecture_name(config: ModelConfig) -> str:
    """Returns the name under which ``model.json`` and the command line know a network."""
    return next(name for name, config_class in _ARCHITECTURES.items() if type(config) is config_class)


def save_weights(path: Path, config: ModelConfig, params: Any, *, provenance: dict[str, str]) -> None:
    """Writes a weights directory, or nothing.

    Args:
        path: the directory; an existing one is replaced.
        config: the network.
        params: its parameters, as `build_model(config).init(...)["params"]` nests them.
        provenance: where they come from, such as the source file's name and sha256.
    """
    import orbax.checkpoint as ocp

    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    description = {
        "format_version": FORMAT_VERSION,
        "architecture": architecture_name(config),
        "fields": dataclasses.asdict(config),
        "provenance": provenance | {"date": datetime.date.today().isoformat()},
    }
    staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(staging / "params", params)
        (staging / "model.json").write_text(json.dumps(description, indent=2) + "\n")
        staging.chmod(0o777 & ~_umask())
        if path.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            os.replace(path, retired)
            os.replace(staging, path)
            shutil.rmtree(retired)
        else:
            os.replace(staging, path)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_description(path: str | Path) -> ModelConfig:
    """Returns the configuration of the network in a weights directory.

    Raises:
        WeightsError: if the directory does not exist or its ``model.json`` is missing or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise WeightsError(f"{path}: no such weights directory; make one with realsr-convert")
    file = path / "model.json"
    try:
        description = json.loads(file.read_text())
        version, name = description["format_version"], description["architecture"]
        fields = description["fields"]
    except FileNotFoundError:
        raise WeightsError(
            f"{path}: no weights directory, it holds no model.json; make one with realsr-convert"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{file}: damaged, convert the checkpoint again ({error})") from error
    if version != FORMAT_VERSION:
        raise WeightsError(f"{file}: format version {version}, this release reads {FORMAT_VERSION}")
    if name not in _ARCHITECTURES:
        raise WeightsError(
            f"{file}: unknown architecture {name!r}, expected one of {', '.join(_ARCHITECTURES)}"
        )
    try:
        return _ARCHITECTURES[name](**fields)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{file}: {error}") from error


def load_weights(path: str | Path) -> tuple[ModelConfig, Any]:
    """Reads a weights directory.

    Returns:
        The network's configuration and its float32 parameters on the first local device.

    Raises:
        WeightsError: if the directory is missing, damaged or does not fit its description.
    """
    config = read_description(path)

    import jax
    import jax.numpy as jnp
    import orbax.checkpoint as ocp

    from realsr_jax.models import build_model

    lr = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    params = jax.eval_shape(build_model(config).init, jax.random.key(0), lr)["params"]
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=sharding), params)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            return config, checkpointer.restore(Path(path).resolve() / "params", abstract)
    except (ValueError, KeyError, TypeError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        raise WeightsError(
            f"{path}: its parameters cannot be read, convert the checkpoint again ({reason})"
        ) from error


def is_weights(path: Path) -> bool:
    """Whether a path is a weights directory, by the look of it."""
    return (path / "model.json").is_file()
