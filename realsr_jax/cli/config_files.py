"""Configurations of training and inference runs: Python files with ``get_config()``."""

import os
import re
import runpy
import traceback
from pathlib import Path
from typing import Any

from realsr_jax import configs
from realsr_jax.system.errors import UsageError, in_one_line


def load_config(name: str) -> Any:
    """Returns what ``get_config()`` of a configuration gives.

    Args:
        name: a bundled configuration's name, or the path of a Python file, whatever its suffix.

    Raises:
        UsageError: if there is none, or it fails; the message names the line.
    """
    folder = Path(str(configs.__file__)).parent
    path = folder / f"{name}.py"
    if not (re.fullmatch(r"[a-z]\w*", name) and path.is_file()):
        path = Path(os.path.expanduser(name))
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in folder.glob("[!_]*.py")))
        raise UsageError(f"--config={name}: no such file, nor one of the bundled configurations: {names}")
    try:
        content = runpy.run_path(str(path))
        if "get_config" not in content:
            raise UsageError(f"--config={name}: has no function get_config()")
        return content["get_config"]()
    except UsageError:
        raise
    except Exception as error:  # a user's file can fail in any way
        text = str(error.msg) if isinstance(error, SyntaxError) else in_one_line(error)
        raise UsageError(f"--config={name}: {_place(error, path)}: {text}") from error


def _place(error: Exception, path: Path) -> str:
    """Returns the last line of a file that an error went through, if it did, and the error's kind."""
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f"line {lines[-1]}: {type(error).__name__}" if lines else type(error).__name__
