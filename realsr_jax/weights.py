"""Weights directories: ``model.json``, which describes the network, beside ``params.safetensors``.

A directory is written under another name and takes the place of one that is there when it is complete.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from realsr_jax.models import NETWORKS, network_name, parameter_shapes
from realsr_jax.models.network import ModelConfig
from realsr_jax.system.errors import did_you_mean, first_line, legible
from realsr_jax.system.files import open_file, replacing_folder

FORMAT_VERSION: Final = 2
DESCRIPTION_FILE: Final = "model.json"
PARAMS_FILE: Final = "params.safetensors"

_MAX_DESCRIPTION: Final = 2**20  # bytes
_SCALES: Final = (2, 3, 4, 8)  # of any network

_FOLDER: Final = Path(__file__).resolve().parent / "bundled"
BUNDLED: Final[dict[str, Path]] = {name: _FOLDER / name for name in ("default", "clean")}
"""Weights that are part of the package, by the names that stand for them wherever weights are asked for."""

_NETWORK: Final = "network"
"""Key of the metadata in ``params.safetensors`` that repeat architecture and fields: where they agree with
``model.json``, the arrays need not be compared with the network, which takes a second for the large ones."""


_OLDER: Final = (
    "convert the checkpoint again, continue the training run, which writes its weights anew, or let "
    "realsr-convert --to_torch of realsr_jax 0.1 make a checkpoint of it"
)
"""What to do with weights of an older format."""


class WeightsError(ValueError):
    """A weights directory that cannot be used; the message is one line that names it."""


@dataclasses.dataclass(frozen=True)
class Description:
    """What ``model.json`` says of a network.

    Attributes:
        path: the weights directory.
        architecture: the network's name in `models.NETWORKS`.
        fields: of its configuration.
        provenance: where the weights come from, as far as known: ``source``, the file that was converted, its
            ``sha256`` and the name it is ``known_as``; or ``trained_in``, the run, and its ``command``;
            ``licence``, ``training_data``, ``scores``; ``date``.
        sha256: of ``params.safetensors``.
    """

    path: Path
    architecture: str
    fields: dict[str, Any]
    provenance: dict[str, str]
    sha256: str

    @property
    def scale(self) -> int:
        """Output size over input size, as it is written; `config` tells whether such a network exists."""
        scale = self.fields.get("scale")
        if type(scale) is int and scale in _SCALES:
            return scale
        return self.config().scale  # which imports the network, and so JAX

    def config(self) -> ModelConfig:
        """Returns the network's configuration.

        Raises:
            WeightsError: if no such network exists.
        """
        config_class: Any = NETWORKS[self.architecture].config_class
        try:
            known = dataclasses.fields(config_class)
            if unknown := self.fields.keys() - {field.name for field in known}:
                raise ValueError(f"unknown field {min(map(repr, unknown))}")
            for field in known:
                value, kind = self.fields.get(field.name, field.default), type(field.default)
                if type(value) is not kind and not (kind is float and type(value) is int):
                    raise ValueError(f"{field.name} is {value!r:.60}, expected {kind.__name__}")
            return config_class(**self.fields)
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{self.path / DESCRIPTION_FILE}: {_reason(error)}") from error


def save_weights(path: Path, config: ModelConfig, params: Any, *, provenance: dict[str, str]) -> None:
    """Writes a weights directory, or nothing.

    Args:
        path: the directory; existing weights are replaced.
        config: the network.
        params: its parameters, as `build_model(config).init(...)["params"]` nests them.
        provenance: where they come from, see `Description`; today's date is added.

    Raises:
        WeightsError: if `path` is something else than a weights directory or cannot be written, or the
            parameters are not those of the network.
    """
    from flax.traverse_util import flatten_dict

    network = {"architecture": network_name(config), "fields": vars(config)}
    try:
        if path.exists() and not is_weights(path):
            raise WeightsError(f"{path}: exists and is no weights directory, so it is not replaced")
        with replacing_folder(path) as folder:
            flat: dict[str, Any] = flatten_dict(params, sep="/")
            arrays = {name: np.asarray(array, order="C") for name, array in flat.items()}
            _check_arrays(path / PARAMS_FILE, arrays, config)
            # Not `save_file`, which lets nobody else read the file.
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
    try:
        path = _locate(path)
        file = path / DESCRIPTION_FILE
        with open_file(file) as stream:
            content = stream.read(_MAX_DESCRIPTION + 1)
        if len(content) > _MAX_DESCRIPTION:
            raise ValueError(f"it has more than {_MAX_DESCRIPTION} bytes")
        document = json.loads(content)
        version, name = document["format_version"], str(document["architecture"])
        fields, provenance = dict(document["fields"]), dict(document["provenance"])
        sha256 = str(document.get("sha256", ""))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WeightsError(f"{path}: {_what_else(Path(path))}") from error
    except OSError as error:
        raise WeightsError(f"{error.filename}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        file = Path(path) / DESCRIPTION_FILE
        raise WeightsError(f"{file}: damaged ({_reason(error)}); {_remedy({})}") from error
    if version != FORMAT_VERSION:
        is_newer = isinstance(version, int) and version > FORMAT_VERSION
        remedy = "update realsr-jax" if is_newer else _OLDER
        raise WeightsError(
            f"{file}: format version {version!r:.60}, this release reads {FORMAT_VERSION}; {remedy}"
        )
    if name not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise WeightsError(f"{file}: unknown architecture {name!r:.60}, expected one of {known}")
    return Description(path, name, fields, provenance, sha256)


def _locate(path: str | Path) -> Path:
    """Returns the weights directory that a bundled name or a training run's directory stands for."""
    if path in BUNDLED:
        return BUNDLED[str(path)]
    path = Path(path)
    return next(filter(is_weights, (path, path / "best", path / "latest")), path)


def _what_else(path: Path) -> str:
    """Says what is wrong with a path that is no weights directory, and what to do."""
    if is_part_of_weights(path):
        return f"is a part of the weights directory {path.parent}; name the directory"
    if path.is_file():
        return f"is a file; convert it first: realsr-convert --input={path} --output=weights/{path.stem}"
    if (path / "checkpoints").is_dir():
        return "a training run that has no weights yet; it leaves some after each epoch"
    if path.is_dir():
        return f"no weights directory, it holds no {DESCRIPTION_FILE}; make one with realsr-convert"
    missing = "no such weights directory; make one with realsr-convert"
    if len(path.parts) > 1:
        return missing
    hint = did_you_mean(str(path), [*BUNDLED, "bicubic"])
    return f"{missing} ({hint}built in: 'default', 'clean' and, to upscale or evaluate, 'bicubic')"


def load_weights(path: str | Path) -> tuple[ModelConfig, Any]:
    """Reads a weights directory.

    Args:
        path: the directory; or a training run's, of which the best weights are read, or else the latest; or
            one of the names in `BUNDLED` (``./default`` is a directory of that name). What is replaced
            meanwhile is read again.

    Returns:
        The network's configuration and its parameters, float32 NumPy arrays.

    Raises:
        WeightsError: if the directory is missing, damaged or does not fit its description; the message says
            what is wrong.
    """
    while True:
        with _watched(_locate(path) / DESCRIPTION_FILE) as is_replaced:
            try:
                loaded = _load(read_description(path))
            except WeightsError:
                if not is_replaced():
                    raise
            else:
                if not is_replaced():
                    return loaded


@contextlib.contextmanager
def _watched(file: Path) -> Iterator[Callable[[], bool]]:
    """Yields what tells whether another file, or none, stands in the place of a file by now."""

    def identity(file: Path | int) -> tuple[int, int] | None:
        try:
            state = os.stat(file)
        except OSError:
            return None
        return state.st_dev, state.st_ino

    with contextlib.ExitStack() as stack:
        try:
            opened = stack.enter_context(open_file(file))  # so that no other file is given its number
            before = identity(opened.fileno())
        except OSError:
            before = identity(file)
        yield lambda: identity(file) != before


def _load(description: Description) -> tuple[ModelConfig, Any]:
    """Reads the parameters that belong to a description; see `load_weights`."""
    from flax.traverse_util import unflatten_dict

    config, file = description.config(), description.path / PARAMS_FILE
    remedy = _remedy(description.provenance)
    try:
        if description.sha256 not in ("", sha256_of(file)):
            raise WeightsError(f"{file}: damaged, its sha256 is not the recorded one; {remedy}")
        with safe_open(file, "numpy") as opened:
            names, metadata = opened.keys(), opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in names}
        params = unflatten_dict(arrays, sep="/")
    except WeightsError:
        raise
    except FileNotFoundError as error:
        raise WeightsError(f"{file}: is missing; {remedy}") from error
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read ({_reason(error)})") from error
    # The others come from types and sizes that NumPy does not know, and from a name that is part of another.
    except (SafetensorError, AttributeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise WeightsError(f"{file}: damaged ({_reason(error)}); {remedy}") from error
    network = {"architecture": description.architecture, "fields": description.fields}
    if not description.sha256 or metadata.get(_NETWORK) != json.dumps(network):
        _check_arrays(file, arrays, config)
    return config, params


def load_mixed(denoise: float) -> tuple[ModelConfig, Any]:
    """Returns the bundled network between "clean", which keeps noise, at 0 and "default" at 1.

    "default" was trained from "clean" on, so that a mean of their parameters is a network between them
    (Wang et al. 2019, Deep Network Interpolation).
    """
    from jax.tree_util import tree_map

    config, clean = load_weights("clean")
    _, default = load_weights("default")
    return config, tree_map(lambda a, b: a + np.float32(denoise) * (b - a), clean, default)


def _remedy(provenance: dict[str, str]) -> str:
    """Says how to come by weights again, as far as it is known where they came from."""
    if "source" in provenance:
        return f"convert {legible(str(provenance['source'])[:200])} again with realsr-convert"
    if "trained_in" in provenance:
        return f"copy it again from the run {legible(str(provenance['trained_in'])[:200])}, or train again"
    return "copy it again from where it came"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or legible(first_line(error))


def _check_arrays(file: Path, arrays: dict[str, np.ndarray], config: ModelConfig) -> None:
    """Raises WeightsError, with the first difference, unless all arrays are those of the network."""
    from flax.traverse_util import flatten_dict

    try:
        expected: dict[str, Any] = flatten_dict(parameter_shapes(config), sep="/")
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{file.with_name(DESCRIPTION_FILE)}: {config}: {_reason(error)}") from error
    for name in sorted(arrays.keys() | expected.keys()):
        actual, wanted = (
            f"{found[name].dtype} {tuple(found[name].shape)}" if name in found else "absent"
            for found in (arrays, expected)
        )
        if actual != wanted:
            message = f"does not fit {DESCRIPTION_FILE}: {legible(name[:200])} is {actual}, expected {wanted}"
            raise WeightsError(f"{file}: {message}")


def sha256_of(file: Path) -> str:
    """Returns the sha256 of a file's content, in hexadecimal."""
    with open_file(file) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_weights(path: Path) -> bool:
    """Whether a path is a weights directory, by the look of it."""
    return (path / DESCRIPTION_FILE).is_file()


def is_part_of_weights(path: Path) -> bool:
    """Whether a path is one of the files in a weights directory, by the look of it."""
    return path.name in (DESCRIPTION_FILE, PARAMS_FILE) and is_weights(path.parent)
