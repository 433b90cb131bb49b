"""What all commands share: parsing flags, help, and errors of one line."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags


class UsageError(ValueError):
    """A wish that cannot be met; the message is what the user reads."""


def say(message: str) -> None:
    """Prints a message for the user to standard output."""
    sys.stdout.write(message + "\n")
    sys.stdout.flush()


def complain(name: str, message: str) -> None:
    """Prints an error for the user to standard error."""
    sys.stderr.write(f"{name}: {message}\n")
    sys.stderr.flush()


def run(
    name: str,
    help_text: str,
    define_flags: Callable[[flags.FlagValues], None],
    main: Callable[[flags.FlagValues], int],
    argv: Sequence[str],
) -> int:
    """Parses flags and runs a command.

    Args:
        name: the command's, for error messages.
        help_text: what ``--help`` prints.
        define_flags: defines the command's flags.
        main: the command; returns its exit status.
        argv: the command line, program name first.

    Returns:
        0 on success, 1 if the command failed, 2 if the command line is wrong, 130 on Ctrl-C.
    """
    if any(arg in ("-h", "-help", "--help", "--helpfull", "--helpshort") for arg in argv[1:]):
        say(help_text)
        return 0
    values = flags.FlagValues()
    define_flags(values)
    try:
        extra = values(list(argv))[1:]
        if extra:
            raise flags.Error(f"unexpected argument {extra[0]!r}")
    except flags.Error as error:
        complain(name, f"{str(error).strip()}\nTry '{name} --help'.")
        return 2
    try:
        return main(values)
    except UsageError as error:
        complain(name, str(error))
        return 2
    except ValueError as error:  # what the library refuses, it explains
        complain(name, str(error))
        return 1
    except OSError as error:
        complain(name, f"{error.filename or 'input/output'}: {error.strerror or error}")
        return 1
    except KeyboardInterrupt:
        complain(name, "interrupted")
        return 130


def enable_compilation_cache() -> None:
    """Lets JAX keep what it compiles, so that only the first run of a command waits for it.

    ``JAX_COMPILATION_CACHE_DIR`` names another folder than the user's cache folder.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "realsr_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))
