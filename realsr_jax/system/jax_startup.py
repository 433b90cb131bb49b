"""Starting JAX on behalf of a command."""

import contextlib
import gc
import hashlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from realsr_jax.system.errors import UsageError, first_line
from realsr_jax.system.files import cache_folder, read_file, write_atomically
from realsr_jax.system.terminal import complain

_LEAST_SECONDS: Final = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
_DIGEST_BYTES: Final = 32


@contextlib.contextmanager
def ended_by_interrupt(name: str, message: Callable[[], str] = lambda: "interrupted") -> Iterator[None]:
    """Lets Ctrl-C end the process at once with a message, for work that leaves nothing behind.

    While JAX and Orbax start, they may swallow a KeyboardInterrupt or report it as something else.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(signum: int, _frame: object) -> None:
        complain(name, message())
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def start_jax(*, cpu_devices: int | None = None) -> None:
    """Starts JAX for a command.

    All that it compiles is kept on disk, where JAX would leave out what takes less than a second: on a fast
    machine that is all of a small photo's. GPU memory is taken as needed, where JAX would take three quarters
    at once. The user's environment may say otherwise.

    Args:
        cpu_devices: how many devices the CPU is made, unless the environment says so or JAX has started;
            None for one.

    Raises:
        UsageError: if there is no device.
    """
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    _import_jax()
    import jax

    if _LEAST_SECONDS not in os.environ:
        jax.config.update(_LEAST_SECONDS.lower(), 0.0)
    enable_compilation_cache()
    if cpu_devices is not None and not _environment_counts_devices():
        with contextlib.suppress(RuntimeError):  # JAX has started; what is there is used
            jax.config.update("jax_num_cpu_devices", cpu_devices)
    try:
        jax.local_devices()
    except Exception as error:  # assertions among them
        reason = f"{first_line(error)}; check JAX_PLATFORMS and the drivers"
        raise UsageError(f"JAX finds no device: {reason}") from error


def _import_jax() -> None:
    """Imports JAX and Flax, which makes hundreds of thousands of objects that all stay.

    Python's garbage collector would look at them again and again, a quarter of the time that this takes, and
    once more at exit.
    """
    if "flax" in sys.modules:
        return
    gc.disable()
    try:
        import flax.linen  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def _environment_counts_devices() -> bool:
    """Returns whether the user has said how many devices the CPU is."""
    flags = os.environ.get("XLA_FLAGS", "")
    return "JAX_NUM_CPU_DEVICES" in os.environ or "xla_force_host_platform_device_count" in flags


def enable_compilation_cache() -> None:
    """Lets JAX keep what it compiles, so that the next run need not, unless the user has decided on that.

    ``JAX_COMPILATION_CACHE_DIR`` or JAX's setting of that name is the user's word. Where the user's cache
    folder cannot be written, nothing is kept.
    """
    import jax

    is_set = jax.config.values["jax_compilation_cache_dir"] is not None
    if is_set or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    try:
        folder = cache_folder("xla")
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # the latter if there is no home
        return
    if os.access(folder, os.W_OK):
        _keep_programs_with_digests(folder)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        if _LEAST_SECONDS not in os.environ:
            jax.config.update(_LEAST_SECONDS.lower(), 0.0)


class _Programs:
    """Compiled programs in a folder, each in a file that begins with its sha256: one of JAX's caches.

    JAX's own runs a damaged program where the damage does not show, and never replaces one.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder  # the name by which JAX asks for it

    def get(self, key: str) -> bytes | None:
        """Returns a program, None if there is none or it is damaged."""
        try:
            content = read_file(self._file(key))
        except OSError:
            return None
        digest, program = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return program if digest == hashlib.sha256(program).digest() else None

    def put(self, key: str, value: bytes) -> None:
        """Writes a program in the place of one that may be there."""
        write_atomically(self._file(key), hashlib.sha256(value).digest() + value)

    def _file(self, key: str) -> Path:
        return self._path / f"{key}.program"


def _keep_programs_with_digests(folder: Path) -> None:
    """Lets JAX keep the programs of a folder in `_Programs`, unless the user limits the size of its cache."""
    import jax
    from jax._src import compilation_cache  # no public name for what keeps the programs

    others = getattr(compilation_cache, "get_file_cache", None)
    if others is None or jax.config.values["jax_compilation_cache_max_size"] != -1:
        return

    def get_file_cache(path: str) -> Any:
        return (_Programs(folder), path) if path == str(folder) else others(path)

    compilation_cache.get_file_cache = get_file_cache


@contextlib.contextmanager
def profiled(folder: Path | None) -> Iterator[None]:
    """Writes a profile of what runs inside, for TensorBoard or xprof, into a folder; None for no profile."""
    if folder is None:
        yield
        return
    import jax

    with jax.profiler.trace(str(folder)):
        yield
