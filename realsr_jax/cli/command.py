"""What all commands share: flags with their help beside them, and errors of one line."""

import contextlib
import os
import re
import signal
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from absl import flags

import realsr_jax
from realsr_jax.system.errors import MEMORY_TEXT, ListError, UsageError, first_line
from realsr_jax.system.files import check_output_file, check_output_folder
from realsr_jax.system.terminal import (
    complain,
    flush_streams,
    open_missing_streams,
    say,
    silence_threads,
    silent_libraries,
)

_COLUMN: Final = 24
_WIDTH: Final = 110


class FlagTable:
    """Defines a command's flags; ``--help`` prints them in this order, in sections.

    Attributes:
        argv: the command line, program name first, for flags that depend on it.
        values: where absl keeps what was given.
        paths_flag: the flag that arguments which belong to no flag count for, None to refuse them.
    """

    paths_flag: str | None = None

    def __init__(self, argv: Sequence[str] = ("",)) -> None:
        self.argv = argv
        self.values = flags.FlagValues()
        self._lines: list[str] = []

    def section(self, title: str) -> None:
        """Starts a part of the help."""
        self._lines += ["", title]

    def note(self, text: str) -> None:
        """Adds a paragraph to the help."""
        self._lines += textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")

    def text(
        self, name: str, shown: str, help_text: str, default: str | None = None, short: str = ""
    ) -> None:
        """Defines a flag that takes a text, shown as ``--name=shown``."""
        flags.DEFINE_string(name, default, help_text, short_name=short or None, flag_values=self.values)
        self.describe(f"--{name}={shown}", help_text, short)

    def texts(
        self, name: str, shown: str, help_text: str, default: Sequence[str] | None = None, short: str = ""
    ) -> None:
        """Defines a flag that takes several texts, separated by commas."""
        flags.DEFINE_list(name, default, help_text, short_name=short or None, flag_values=self.values)
        self.describe(f"--{name}={shown}", help_text, short)

    def paths(self, name: str, shown: str, help_text: str, short: str) -> None:
        """Defines the paths that a command is about: its arguments, and what this flag adds to them."""
        flags.DEFINE_multi_string(name, [], help_text, short_name=short, flag_values=self.values)
        self.paths_flag = name
        self.values.set_gnu_getopt(True)
        self.describe(f"{shown}, -{short}, --{name}={shown}", help_text)

    def switch(self, name: str, help_text: str, default: bool = False) -> None:
        """Defines a flag that is on or off; one that is on is shown as what switches it off."""
        flags.DEFINE_bool(name, default, help_text, flag_values=self.values)
        self.describe(f"--no{name}" if default else f"--{name}", help_text)

    def choice(self, name: str, choices: Sequence[str], help_text: str, default: str | None = None) -> None:
        """Defines a flag that takes one of a few names."""
        flags.DEFINE_enum(name, default, list(choices), help_text, flag_values=self.values)
        self.describe(f"--{name}=NAME", help_text)

    def whole(
        self,
        name: str,
        help_text: str,
        default: int | None = None,
        least: int | None = None,
        most: int | None = None,
    ) -> None:
        """Defines a flag that takes a whole number."""
        flags.DEFINE_integer(name, default, help_text, least, most, flag_values=self.values)
        self.describe(f"--{name}=N", help_text)

    def number(self, name: str, help_text: str, default: float | None = None) -> None:
        """Defines a flag that takes a number."""
        flags.DEFINE_float(name, default, help_text, flag_values=self.values)
        self.describe(f"--{name}=X", help_text)

    def describe(self, form: str, help_text: str, short: str = "") -> None:
        """Adds a flag's line to the help."""
        start = f"  -{short}, {form}" if short else f"  {form}"
        lines = textwrap.wrap(help_text, _WIDTH - _COLUMN)
        first = start.ljust(_COLUMN) if len(start) < _COLUMN else f"{start}\n{' ' * _COLUMN}"
        self._lines.append(first + f"\n{' ' * _COLUMN}".join(lines))

    def help(self) -> str:
        """Returns the part of the help that is about flags."""
        return "\n".join(self._lines).strip("\n")


def run(
    name: str,
    description: str | None,
    define_flags: Callable[[FlagTable], None],
    main: Callable[[flags.FlagValues], int],
    argv: Sequence[str] | None,
) -> int:
    """Parses flags and runs a command.

    Args:
        name: the command's, for error messages.
        description: what ``--help`` prints above the flags.
        define_flags: defines the command's flags.
        main: the command; returns its exit status.
        argv: the command line, program name first; None for this process's own, which Ctrl-C then ends.

    Returns:
        0 on success, 1 if the command failed, 2 if the command line is wrong, 130 on Ctrl-C.
    """
    args = list(sys.argv if argv is None else argv)
    shows_all = bool(os.environ.get("REALSR_DEBUG")) or any(
        re.fullmatch(r"--?debug(=true)?", arg) for arg in args[1:]
    )
    open_missing_streams()
    if argv is None and not shows_all:
        silence_threads()
    try:
        values = _parse(name, args, description or "", define_flags)
        with silent_libraries():
            return 0 if values is None else main(values)
    except KeyboardInterrupt as interrupt:
        complain(name, str(interrupt) or "interrupted")
        if argv is None:
            # Shells stop a loop only if its command ends by the signal itself. Besides, XLA crashes at a
            # regular exit while a device is still computing.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        return 130
    except (ValueError, OSError, RuntimeError, MemoryError, flags.Error) as error:
        if shows_all:
            with contextlib.suppress(OSError):
                traceback.print_exc()
        return _explain(name, error)
    finally:
        flush_streams()


def _parse(
    name: str, argv: list[str], description: str, define_flags: Callable[[FlagTable], None]
) -> flags.FlagValues | None:
    """Returns what a command line says, or None if it asks for help or the version, which this prints."""
    if any(arg in ("-V", "--version") for arg in argv[1:]):
        say(f"{name} {realsr_jax.__version__}")
        return None
    wants_help = any(arg in ("-h", "-help", "--help", "--helpfull", "--helpshort") for arg in argv[1:])
    table = FlagTable(argv[:1] if wants_help else argv)
    define_flags(table)
    table.section("Trouble")
    table.switch("debug", "show the traceback of an error, as REALSR_DEBUG=1 does for all commands")
    table.describe("--version", "print the version", "V")
    if wants_help:
        say(*description.strip().splitlines(), "", *table.help().splitlines())
        return None
    extra = table.values(argv)[1:]
    if table.paths_flag is not None:
        listed = [path for text in table.values[table.paths_flag].value or () for path in _split(text)]
        table.values[table.paths_flag].value = [*listed, *extra]
    elif extra:
        raise flags.Error(f"unexpected argument {extra[0]!r}; commas, not spaces, separate a flag's values")
    return table.values


def _split(text: str) -> list[str]:
    """Returns the paths that a flag lists, separated by commas; a file with a comma in its name is one."""
    path = os.path.expanduser(text)
    return [text] if os.path.lexists(path) else text.split(",")


def _explain(name: str, error: Exception) -> int:
    """Prints a line on an error; returns the exit status that goes with it."""
    if isinstance(error, flags.Error):
        reason = re.sub(r"invalid literal for int\(\).*", "expected a whole number", str(error))
        complain(name, f"{' '.join(reason.split())} (see {name} --help)")
    elif isinstance(error, MemoryError):
        complain(name, MEMORY_TEXT)
    elif isinstance(error, ListError):
        complain(name, *error.lines)
    elif isinstance(error, ValueError):  # what the library refuses, it explains
        complain(name, str(error))
    elif isinstance(error, OSError):
        complain(name, f"{error.filename or 'input/output'}: {error.strerror or error}")
    else:  # such as JAX's, when a device cannot be used
        complain(name, first_line(error))
    return 2 if isinstance(error, flags.Error | UsageError) else 1


def output_file(values: flags.FlagValues, name: str) -> Path | None:
    """Returns the file that a flag names to be written, if it names one; see `check_output_file`."""
    text = values[name].value
    return check_output_file(text, f"--{name}={text}") if text else None


def output_folder(values: flags.FlagValues, name: str) -> Path | None:
    """Returns the folder that a flag names to be written to, if it names one; see `check_output_folder`."""
    text = values[name].value
    return check_output_folder(text, f"--{name}={text}") if text else None


def required(values: flags.FlagValues, **what: str) -> None:
    """Raises UsageError for the first of the flags that was not given; `what` says what each must name."""
    for name, text in what.items():
        if not values[name].value:
            raise UsageError(f"--{name} is missing: {text}")


def read_paths(values: flags.FlagValues, name: str) -> list[str]:
    """Returns the paths that a flag lists, the user's home in place of ``~``.

    Raises:
        UsageError: if one of several is empty.
    """
    paths: list[Any] = values[name].value or []
    if not all(paths):
        raise UsageError(f"--{name}={','.join(paths)}: has an empty entry")
    return [os.path.expanduser(path) for path in paths]
