"""What all commands share: parsing flags, help, and errors of one line."""

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from absl import flags


class UsageError(ValueError):
    """A wish that cannot be met; the message is what the user reads."""


def say(message: str) -> None:
    """Prints a message for the user to standard output."""
    sys.stdout.write(printable(message, sys.stdout) + "\n")
    sys.stdout.flush()


def complain(name: str, message: str) -> None:
    """Prints an error for the user to standard error."""
    sys.stderr.write(printable(f"{name}: {message}\n", sys.stderr))
    sys.stderr.flush()


def printable(text: str, stream: TextIO) -> str:
    """Escapes what a stream cannot print, such as file names in another encoding."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def run(
    name: str,
    help_text: str,
    define_flags: Callable[[flags.FlagValues], None],
    main: Callable[[flags.FlagValues], int],
    argv: Sequence[str] | None,
) -> int:
    """Parses flags and runs a command.

    Args:
        name: the command's, for error messages.
        help_text: what ``--help`` prints.
        define_flags: defines the command's flags.
        main: the command; returns its exit status.
        argv: the command line, program name first; None for this process's own, which Ctrl-C then ends.

    Returns:
        0 on success, 1 if the command failed, 2 if the command line is wrong, 130 on Ctrl-C.
    """
    status = _run(name, help_text, define_flags, main, sys.argv if argv is None else argv)
    if status == 130 and argv is None:
        # Shells stop a loop only if its command ends by the signal itself. Besides, XLA crashes at a regular
        # exit while a device is still computing.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    return status


def _run(
    name: str,
    help_text: str,
    define_flags: Callable[[flags.FlagValues], None],
    main: Callable[[flags.FlagValues], int],
    argv: Sequence[str],
) -> int:
    try:
        if any(arg in ("-h", "-help", "--help", "--helpfull", "--helpshort") for arg in argv[1:]):
            say(help_text)
            return 0
        values = flags.FlagValues()
        define_flags(values)
        extra = values(list(argv))[1:]
        if extra:
            raise flags.Error(
                f"unexpected argument {extra[0]!r}; commas, not spaces, separate a flag's values"
            )
        return main(values)
    except flags.Error as error:
        complain(name, f"{_reworded(error)} (see {name} --help)")
        return 2
    except UsageError as error:
        complain(name, str(error))
        return 2
    except ValueError as error:  # what the library refuses, it explains
        complain(name, str(error))
        return 1
    except BrokenPipeError:  # whoever read the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        complain(name, f"{error.filename or 'input/output'}: {error.strerror or error}")
        return 1
    except RuntimeError as error:  # such as JAX's, when a device cannot be used
        complain(name, (str(error).strip() or type(error).__name__).splitlines()[0])
        return 1
    except KeyboardInterrupt:
        complain(name, "interrupted")
        return 130


def _reworded(error: flags.Error) -> str:
    """Says in one line of plain words what absl means."""
    missing = re.findall(r"Flag (--\w+) must have a value other than None", str(error))
    if missing:
        return f"{' and '.join(missing)} must be given"
    reason = re.sub(r"invalid literal for int\(\).*", "expected a whole number", str(error))
    return " ".join(reason.split())


def processors() -> int:
    """Returns how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def output_file(values: flags.FlagValues, name: str) -> Path | None:
    """Returns the file that a flag names to be written, if it names one.

    Raises:
        UsageError: if that will not work, which is better known before hours of work than after.
    """
    text = values[name].value
    if not text:
        return None
    path, shown = Path(os.path.expanduser(text)), f"--{name}={text}"
    if path.is_dir():
        raise UsageError(f"{shown}: is a folder; name a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{shown}: the folder {path.parent} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{shown}: no permission to write there")
    return path


def output_folder(values: flags.FlagValues, name: str) -> Path | None:
    """Returns the folder that a flag names to be written to, if it names one; it need not exist.

    Raises:
        UsageError: likewise.
    """
    text = values[name].value
    if not text:
        return None
    path, shown = Path(os.path.expanduser(text)), f"--{name}={text}"
    place = next(folder for folder in (path, *path.absolute().parents) if os.path.exists(folder))
    if not place.is_dir():
        reason = "is a file; name a folder" if place is path else f"cannot be made, {place} is a file"
        raise UsageError(f"{shown}: {reason}")
    if not os.access(place, os.W_OK | os.X_OK):
        reason = "no permission to write there" if place is path else "cannot be made (Permission denied)"
        raise UsageError(f"{shown}: {reason}")
    return path


@contextlib.contextmanager
def ended_by_interrupt(name: str) -> Iterator[None]:
    """Lets Ctrl-C end the process at once, for work that leaves nothing behind.

    While JAX and Orbax start, they may swallow a KeyboardInterrupt or report it as something else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(signum: int, _frame: object) -> None:
        complain(name, "interrupted")
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start_jax() -> None:
    """Starts JAX, with a cache of what it compiles on disk.

    Raises:
        UsageError: if there is no device.
    """
    import jax

    _enable_compilation_cache()
    try:
        jax.local_devices()
    except Exception as error:  # assertions among them
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"JAX finds no device: {reason}; check JAX_PLATFORMS and the drivers") from error


def _enable_compilation_cache() -> None:
    """Lets JAX keep what it compiles, so that the next run need not.

    ``JAX_COMPILATION_CACHE_DIR`` names another folder than the user's cache folder. Where this cannot be
    written, nothing is kept.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "realsr_jax" / "xla"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the latter if there is no home
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
