"""Weights directories: ``model.json``, which describes the network, beside ``params.safetensors``.

A directory is written under another name and renamed when it is complete.
"""

import dataclasses
import datetime
import hashlib
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from realsr_jax.models import NETWORKS, network_name, parameter_shapes
from realsr_jax.models.network import ModelConfig
from realsr_jax.system.errors import did_you_mean, first_line
from realsr_jax.system.files import replacing_folder

FORMAT_VERSION: Final = 2
DESCRIPTION_FILE: Final = "model.json"
PARAMS_FILE: Final = "params.safetensors"

BUNDLED: Final[dict[str, Path]] = {"default": Path(__file__).resolve().parent / "bundled" / "default"}
"""Weights that are part of the package, by the names that stand for them wherever weights are asked for."""

SEPARATOR: Final = "/"
"""Between the parts of a parameter's path in ``params.safetensors``."""

_NETWORK: Final = "network"
"""Key of the metadata in ``params.safetensors`` that repeat architecture and fields: where they agree with
``model.json``, the arrays need not be compared with the network, which takes a second for the large ones."""


class WeightsError(ValueError):
    """A weights directory that cannot be used; the message is one line that names it."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What ``model.json`` says of a network.

    Attributes:
        path: the weights directory.
        architecture: the network's name in `models.NETWORKS`.
        fields: of its configuration.
        provenance: where the weights come from, as far as known: ``source`` file and its ``sha256``,
            ``licence``, ``training_data``, ``command``, scores, ``date``.
        sha256: of ``params.safetensors``.
    """

    path: Path
    architecture: str
    fields: dict[str, Any]
    provenance: dict[str, str]
    sha256: str

    @property
    def scale(self) -> int:
        """Output size over input size."""
        return self.config().scale

    def config(self) -> ModelConfig:
        """Returns the network's configuration.

        Raises:
            WeightsError: if no such network exists.
        """
        try:
            return NETWORKS[self.architecture].config_class(**self.fields)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{self.path / DESCRIPTION_FILE}: {error}") from error


def save_weights(path: Path, config: ModelConfig, params: Any, *, provenance: dict[str, str]) -> None:
    """Writes a weights directory, or nothing.

    Args:
        path: the directory; existing weights are replaced.
        config: the network.
        params: its parameters, as `build_model(config).init(...)["params"]` nests them.
        provenance: where they come from, see `Description`; today's date is added.

    Raises:
        WeightsError: if `path` is something else than a weights directory, or cannot be written.
    """
    if path.exists() and not is_weights(path):
        raise WeightsError(f"{path}: exists and is no weights directory, so it is not replaced")
    try:
        with replacing_folder(path) as folder:
            arrays = {name: np.ascontiguousarray(array) for name, array in _flat(params).items()}
            network = {"architecture": network_name(config), "fields": dataclasses.asdict(config)}
            content = safetensors.numpy.save(arrays, {_NETWORK: json.dumps(network)})
            (folder / PARAMS_FILE).write_bytes(content)
            document = {
                "format_version": FORMAT_VERSION,
                **network,
                "provenance": provenance | {"date": datetime.date.today().isoformat()},
                "sha256": sha256_of(folder / PARAMS_FILE),
            }
            (folder / DESCRIPTION_FILE).write_text(json.dumps(document, indent=2) + "\n")
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written ({_reason(error)})") from error


def read_description(path: str | Path) -> Description:
    """Returns what is said of the network in a weights directory, as `load_weights` finds it.

    Raises:
        WeightsError: if the directory does not exist or its ``model.json`` is missing or damaged.
    """
    path = _locate(path)
    if path.is_file():
        raise WeightsError(
            f"{path}: is a file; convert it first: realsr-convert --input={path} --output=weights/{path.stem}"
        )
    if not path.is_dir():
        raise WeightsError(f"{path}: no such weights directory; make one with realsr-convert{_built_in(path)}")
    file = path / DESCRIPTION_FILE
    try:
        document = json.loads(file.read_text())
        version, name = document["format_version"], str(document["architecture"])
        description = Description(
            path, name, dict(document["fields"]), dict(document["provenance"]), str(document.get("sha256", ""))
        )
    except FileNotFoundError:
        if (path / "checkpoints").is_dir():
            raise WeightsError(
                f"{path}: a training run that has no weights yet; it leaves some after each epoch"
            ) from None
        raise WeightsError(
            f"{path}: no weights directory, it holds no {DESCRIPTION_FILE}; make one with realsr-convert"
        ) from None
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WeightsError(f"{file}: damaged ({first_line(error)}); {_remedy(None)}") from error
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{file}: format version {version}, this release reads {FORMAT_VERSION}; {_remedy(description)}"
        )
    if name not in NETWORKS:
        raise WeightsError(f"{file}: unknown architecture {name!r}, expected one of {', '.join(NETWORKS)}")
    return description


def load_weights(path: str | Path) -> tuple[ModelConfig, Any]:
    """Reads a weights directory.

    Args:
        path: the directory; or a training run's, of which the best weights are read, or else the latest; or
            one of the names in `BUNDLED` (``./default`` is a directory of that name).

    Returns:
        The network's configuration and its parameters, float32 NumPy arrays.

    Raises:
        WeightsError: if the directory is missing, damaged or does not fit its description; the message says
            what is wrong.
    """
    description = read_description(path)
    config, file = description.config(), description.path / PARAMS_FILE
    try:
        if description.sha256 and sha256_of(file) != description.sha256:
            raise WeightsError(f"{file}: damaged, its sha256 is not the recorded one; {_remedy(description)}")
        with safe_open(file, "numpy") as opened:
            metadata, arrays = opened.metadata() or {}, {name: opened.get_tensor(name) for name in opened.keys()}
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{file}: cannot be read ({_reason(error)}); {_remedy(description)}") from error
    network = {"architecture": description.architecture, "fields": description.fields}
    if not description.sha256 or metadata.get(_NETWORK) != json.dumps(network):
        _check_arrays(file, arrays, _flat(parameter_shapes(config)))
    return config, _nested(arrays)


def _locate(path: str | Path) -> Path:
    """Returns the weights directory that a bundled name or a training run's directory stands for."""
    if path in BUNDLED:
        return BUNDLED[str(path)]
    path = Path(path)
    choices = (path / "best", path / "latest")
    return path if is_weights(path) else next(filter(is_weights, choices), path)


def _remedy(description: Description | None) -> str:
    """Says how to come by the weights again, as far as it is known where they came from."""
    known = {} if description is None else description.provenance
    if "source" in known:
        return f"convert {known['source']} again with realsr-convert"
    if "trained_in" in known:
        return f"copy it again from the run {known['trained_in']}, or train again"
    return "copy it again from where it came"


def _check_arrays(file: Path, arrays: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    """Raises WeightsError, with the first difference, unless all arrays are those of the network."""
    for name in sorted(arrays.keys() | expected.keys()):
        actual, wanted = (
            f"{found[name].dtype} {tuple(found[name].shape)}" if name in found else "absent"
            for found in (arrays, expected)
        )
        if actual != wanted:
            raise WeightsError(f"{file}: does not fit {DESCRIPTION_FILE}: {name} is {actual}, expected {wanted}")


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings by their paths."""
    if not hasattr(tree, "items"):
        return {path: tree}
    start = f"{path}{SEPARATOR}" if path else ""
    return {name: leaf for key, branch in tree.items() for name, leaf in _flat(branch, f"{start}{key}").items()}


def _nested(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Undoes `_flat`."""
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, leaf = name.split(SEPARATOR)
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
        branch[leaf] = array
    return tree


def _built_in(path: Path) -> str:
    """Says which names could have been meant, where what does not exist looks like a name."""
    if len(path.parts) > 1:
        return ""
    guess = did_you_mean(path.name, [*BUNDLED, "bicubic"])
    return f" ({guess}built in: 'default' and, to upscale or evaluate, 'bicubic')"


def sha256_of(file: Path) -> str:
    """Returns the sha256 of a file's content, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)


def is_weights(path: Path) -> bool:
    """Whether a path is a weights directory, by the look of it."""
    return (path / DESCRIPTION_FILE).is_file()
