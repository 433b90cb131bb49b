"""Starting JAX on behalf of a command."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from realsr_jax.system.errors import UsageError, first_line
from realsr_jax.system.files import cache_folder
from realsr_jax.system.terminal import complain


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
        reason = f"{first_line(error)}; check JAX_PLATFORMS and the drivers"
        raise UsageError(f"JAX finds no device: {reason}") from error


def _enable_compilation_cache() -> None:
    """Lets JAX keep what it compiles, so that the next run need not.

    ``JAX_COMPILATION_CACHE_DIR`` names another folder than the user's cache folder. Where this cannot be
    written, nothing is kept.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = cache_folder("xla")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the latter if there is no home
        return
    if os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))


@contextlib.contextmanager
def profiled(folder: Path | None) -> Iterator[None]:
    """Writes a profile of what runs inside, for TensorBoard or xprof, into a folder; None for no profile."""
    if folder is None:
        yield
        return
    import jax

    with jax.profiler.trace(str(folder)):
        yield
