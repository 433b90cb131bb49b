"""Configurations of training and inference runs: Python files with ``get_config()``."""

import ast
import dataclasses
import os
import re
import runpy
import traceback
from pathlib import Path
from typing import Any, Final

from realsr_jax import configs
from realsr_jax.system.errors import UsageError, did_you_mean, in_one_line, require_types

_FOLDER: Final = Path(str(configs.__file__)).parent


def bundled_configs() -> list[str]:
    """Returns the names of the bundled configurations, sorted."""
    return sorted(file.stem for file in _FOLDER.glob("[!_]*.py"))


def read_docstring(name: str) -> str:
    """Returns what a configuration's file, named as for `load_config`, says of it; empty if nothing."""
    return ast.get_docstring(ast.parse(_find(name).read_text())) or ""


def load_config(name: str) -> Any:
    """Returns what ``get_config()`` of a configuration gives.

    Args:
        name: a bundled configuration's name, or the path of a Python file, whatever its suffix.

    Raises:
        UsageError: if there is none, or it fails; the message names the line.
    """
    path = _find(name)
    if not path.is_file():
        names = bundled_configs()
        is_near = Path(f"{path}.py").is_file()
        meant = f"did you mean {name}.py? " if is_near else did_you_mean(name, names)
        raise UsageError(
            f"--config={name}: {meant}no such file, nor one of the bundled configurations: {', '.join(names)}"
        )
    try:
        content = runpy.run_path(str(path))
        if "get_config" not in content:
            raise UsageError(f"--config={name}: has no function get_config()")
        config = content["get_config"]()
    except UsageError:
        raise
    except Exception as error:  # a user's file can fail in any way
        from realsr_jax.train.choices import explain_name

        text = str(error.msg) if isinstance(error, SyntaxError) else in_one_line(error)
        meant = explain_name(error)
        text += f"; {meant}" if meant else ""
        raise UsageError(f"--config={name}: {_place(error, path)}: {text}") from error
    try:
        if dataclasses.is_dataclass(config):
            require_types(config)
    except ValueError as error:
        raise UsageError(f"--config={name}: {error}") from error
    return config


def _find(name: str) -> Path:
    """Returns where a configuration's file is, or would be."""
    path = _FOLDER / f"{name}.py"
    is_bundled = re.fullmatch(r"[a-z]\w*", name) and path.is_file()
    return path if is_bundled else Path(os.path.expanduser(name))


def _place(error: Exception, path: Path) -> str:
    """Returns the last line of a file that an error went through, if it did, and the error's kind."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f"line {lines[-1]}: {type(error).__name__}" if lines else type(error).__name__
