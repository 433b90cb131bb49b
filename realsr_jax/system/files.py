"""Files and folders that appear complete or not at all, locks, and whether a place can be written to."""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import uuid
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from realsr_jax.system.errors import UsageError


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
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave an empty file under the final name
        os.replace(temporary, path)
    except OSError as error:  # which names the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Makes a folder beside `path` that takes its place on success and is removed on failure.

    A folder that is there is moved aside first, to ``.NAME.*.old``, and back if the new one cannot follow.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    retired = staging.with_name(f"{staging.name}.old")
    staging.mkdir()
    try:
        yield staging
        if path.exists():
            os.replace(path, retired)
        os.replace(staging, path)
    except BaseException:
        if retired.exists() and not path.exists():
            os.replace(retired, path)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    shutil.rmtree(retired, ignore_errors=True)


def remove_half_written(path: Path) -> None:
    """Removes what a killed `replacing_folder` left beside a folder; puts back what it had moved aside."""
    for retired in path.parent.glob(f".{path.name}.*.old"):
        if not path.exists():
            os.replace(retired, path)
    for left in path.parent.glob(f".{path.name}.*"):
        shutil.rmtree(left, ignore_errors=True)


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
