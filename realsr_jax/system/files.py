"""Files and folders that appear complete or not at all, locks, and whether a place can be written to."""

import contextlib
import ctypes
import errno
import fcntl
import functools
import os
import shutil
import socket
import stat
import time
import uuid
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final

from realsr_jax.system.errors import UsageError

_TEMPORARY: Final = ".realsr-"
_RANDOM: Final = 32  # hexadecimal digits that end the name
_MOVED_ASIDE: Final = "old"
_DAY: Final = 86400.0  # seconds


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """Opens a file for reading, and nothing else: a pipe would be waited for, a device read without end.

    Raises:
        OSError: if it cannot be read, or is a pipe, a device or a socket; it names `path`.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # of folders, `open` says what they are
        kind = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}.get(stat.S_IFMT(mode), "device")
        raise OSError(errno.EINVAL, f"Is a {kind}, not a file", str(path))
    return open(path, "rb")


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Returns the content of a file; see `open_file`."""
    with open_file(path) as file:
        return file.read()


def write_atomically(path: Path, data: bytes | str) -> None:
    """Writes a file under another name and renames it.

    Args:
        path: where; an existing file is replaced.
        data: its content; text becomes UTF-8.

    Raises:
        OSError: if it cannot be written; it names `path`.
    """
    with replacing_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing_file(path: Path) -> Iterator[BinaryIO]:
    """Opens a file beside `path` that takes its place on success and is removed on failure.

    Raises:
        OSError: if it cannot be written; it names `path`.
    """
    try:
        with _temporary_file(path.parent) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave an empty file under the final name
            os.replace(file.name, path)
    except OSError as error:  # which names the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Makes a folder beside `path` that takes its place on success and is removed on failure.

    Where the system can, both are exchanged in one step, so that whoever opens a file in `path` finds one.
    Elsewhere the one that is there is moved aside first, and back if the new one cannot follow.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(path.parent) as temporary:
        new, old = temporary / "new" / path.name, temporary / _MOVED_ASIDE / path.name
        for folder in (new, old.parent):
            folder.mkdir(parents=True)
        yield new
        _put_in_place(new, path, old)


@contextlib.contextmanager
def temporary_folder(place: Path) -> Iterator[Path]:
    """Makes a folder in a folder for as long as the context lasts; see `remove_leftovers`."""
    with _temporary_file(place) as lock:
        folder = _folder_of(Path(lock.name))
        folder.mkdir()
        try:
            yield folder
        finally:
            _clear(folder)


@functools.cache
def remove_leftovers(place: Path) -> None:
    """Removes what killed processes left in a folder, and puts back what they had moved aside.

    Whatever writes there does that first, once in a process. What a living process writes stays: each
    temporary file is locked as long as its process lives, and a temporary folder has such a file beside it.
    Where locks may hold for one host only, those of other hosts stay for a day; where there are none, all.
    """
    for path in place.glob(f"{_TEMPORARY}*.tmp"):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            age = time.time() - os.fstat(file.fileno()).st_mtime
            if path.stem[:-_RANDOM] == _name_here() or age > _DAY:
                _clear(_folder_of(path))
                path.unlink(missing_ok=True)


def _name_here() -> str:
    """Returns how the names of this host's temporary files begin."""
    return f"{_TEMPORARY}{socket.gethostname()}-"


def _folder_of(lock: Path) -> Path:
    return lock.with_suffix(".dir")


@contextlib.contextmanager
def _temporary_file(place: Path) -> Iterator[BinaryIO]:
    """Opens a new file in a folder for as long as the context lasts."""
    remove_leftovers(place)
    while True:
        with (place / f"{_name_here()}{uuid.uuid4().hex}.tmp").open("xb") as file:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            if not os.path.exists(file.name):  # a process removed it that was quicker to lock it
                continue
            try:
                yield file
                return
            finally:
                Path(file.name).unlink(missing_ok=True)


def _clear(temporary: Path) -> None:
    """Removes a temporary folder; what was moved aside into it goes back if its place is free."""
    for old in (temporary / _MOVED_ASIDE).glob("*"):
        path = temporary.with_name(old.name)
        with contextlib.suppress(OSError):  # another process was quicker
            if not path.exists():
                os.rename(old, path)
    shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(new: Path, path: Path, old: Path) -> None:
    """Gives a folder its name; one that has it now is in the place of `new` or `old` afterwards."""
    while True:
        try:
            return os.rename(new, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if _exchange(new, path):
            return None
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, old)


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two folders in one step; returns False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)  # of Linux; not all file systems exchange
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, bytes(one), here, bytes(other), exchange) == 0


@contextlib.contextmanager
def locked(path: Path, *, otherwise: str = "") -> Iterator[None]:
    """Keeps other processes out, where the file system knows locks.

    Args:
        path: a file that is made if it is not there, and stays.
        otherwise: message of the ValueError raised if another process is inside; empty to wait for it.
    """
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if otherwise else 0))
        except BlockingIOError as error:
            raise ValueError(otherwise) from error
        except OSError:
            pass
        yield


def file_state(path: str | os.PathLike[str]) -> tuple[object, ...]:
    """Tells a file from others, and from itself before a change, without reading it."""
    absolute = os.path.abspath(path)
    try:
        state = os.stat(path)
    except OSError as error:
        return absolute, error.errno
    return absolute, state.st_size, state.st_mtime_ns


def cache_folder(name: str) -> Path:
    """Returns the folder of that name in this package's part of the user's cache.

    Raises:
        RuntimeError: if the user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "realsr_jax", name)


def check_output_file(text: str, shown: str) -> Path:
    """Returns the path of a file that is to be written.

    Args:
        text: the path, ``~`` for the user's home.
        shown: what messages call it, such as ``--json=scores.json``.

    Raises:
        UsageError: if that will not work, which is better known before hours of work than after.
    """
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        raise UsageError(f"{shown}: is a folder; name a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{shown}: the folder {path.parent} does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{shown}: no permission to write there")
    return path


def check_output_folder(text: str, shown: str) -> Path:
    """Returns the path of a folder to write to, which need not exist; see `check_output_file`."""
    path = Path(os.path.expanduser(text))
    place = next(folder for folder in (path, *path.absolute().parents) if os.path.exists(folder))
    if not place.is_dir():
        reason = "is a file; name a folder" if place is path else f"cannot be made, {place} is a file"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = "no permission to write there" if place is path else "cannot be made (Permission denied)"
    else:
        return path
    raise UsageError(f"{shown}: {reason}")
