"""Pairs of images, decoded once: a flat file of 8-bit pixels from which crops are read.

A store is a folder, named by what all its pairs are made of, with the file ``pixels.bin``, in which LR and HR
of each usable pair follow one another row by row, and ``index.json``, what was found out about the pairs.
"""

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from realsr_jax.data.checking import Checked, copy_crop, load_all
from realsr_jax.data.entries import DataError, Entry, Images

_VERSION: Final = 1
_OTHERWISE: Final = (
    "--config.decoded_dir=FOLDER keeps decoded images elsewhere, --config.decoded_dir=none keeps none"
)
_STALE_SECONDS: Final = 600
_TRIAL: Final = 32  # so many pairs give an estimate of the space that all take


class Store:
    """The pairs in a store's folder. Can be pickled, without the pixels."""

    def __init__(self, folder: Path, scale: int, checked: Checked) -> None:
        self.checked = checked
        self._folder = folder
        self._scale = scale
        self._ends = np.cumsum(3 * checked.lr_sizes.prod(1) * (1 + scale**2))

    @property
    def n_bytes(self) -> int:
        """Size of all pixels."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, index: int, rows: slice, columns: slice) -> Images:
        """Reads a crop; see `Readable.read`. Only the rows that it needs are read from disk."""
        scale = self._scale
        height, width = map(int, self.checked.lr_sizes[index])
        end = int(self._ends[index])
        middle = end - 3 * height * width * scale**2
        lr = self._pixels[middle - 3 * height * width : middle].reshape(height, width, 3)
        hr = self._pixels[middle:end].reshape(height * scale, width * scale, 3)
        return copy_crop(lr, hr, scale, rows, columns)

    @functools.cached_property
    def _pixels(self) -> np.ndarray:
        return np.asarray(np.memmap(self._folder / "pixels.bin", np.uint8, "r"))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_pixels"}


def open_store(
    entries: Sequence[Entry], scale: int, folder: Path, *, threads: int, progress: Callable[[int], None]
) -> Store:
    """Opens the store of a list of entries, which is made if there is none.

    It belongs to these entries as they are now: when a file changes, or one that could not be read can be, it
    is made anew. Processes that want to make the same one wait for the first. One that is killed leaves
    nothing that is used.

    Args:
        entries: the pairs.
        scale: of the network.
        folder: where stores are kept.
        threads: how many pairs are decoded at once.
        progress: called with the number of pairs decoded so far, if any must be.

    Raises:
        DataError: if the folder cannot be written or has too little space.
    """
    content = repr((_VERSION, scale, [entry.fingerprint for entry in entries]))
    target = folder / hashlib.sha256(content.encode()).hexdigest()[:24]
    store = _load_store(target, scale)
    if store is not None and not _is_cured(store, entries, scale):
        return store
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(target.with_suffix(".lock")):
            _remove_stale(target)
            store = _load_store(target, scale)
            if store is not None and _is_cured(store, entries, scale):
                shutil.rmtree(target)
                store = None
            if store is None:
                _build(entries, scale, target, threads, progress)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}; {_OTHERWISE}") from error
    store = _load_store(target, scale)
    if store is None:
        raise DataError(f"{target}: cannot be read back; {_OTHERWISE}")
    return store


def _load_store(target: Path, scale: int) -> Store | None:
    """Opens a store if it is there and complete."""
    try:
        index = json.loads((target / "index.json").read_text())
        sizes = np.array(index["lr_sizes"], np.int64).reshape(-1, 2)
        problems = {int(number): text for number, text in index["problems"].items()}
        store = Store(target, scale, Checked(sizes, problems))
        return store if (target / "pixels.bin").stat().st_size == store.n_bytes else None
    except (OSError, ValueError, KeyError):
        return None


def _is_cured(store: Store, entries: Sequence[Entry], scale: int) -> bool:
    """Returns whether a pair that could not be used can be now, as after a network drive came back."""
    failed = [entries[index] for index in store.checked.problems]
    return any(not isinstance(pair, str) for pair in load_all(failed, scale, threads=1))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes out, where the file system knows locks.

    Args:
        path: a file that is made if it is not there, and stays.
    """
    with path.open("a") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _remove_stale(target: Path) -> None:
    """Removes what killed builds left behind, but not what another host that ignores locks may be writing."""
    for path in target.parent.glob(f"{target.name}.*.tmp"):
        with contextlib.suppress(OSError):
            age = time.time() - max(part.stat().st_mtime for part in (path, *path.iterdir()))
            if f".{socket.gethostname()}." in path.name or age > _STALE_SECONDS:
                shutil.rmtree(path)


# ---------------------------------------------------------------------------------------------- building


def _build(
    entries: Sequence[Entry], scale: int, target: Path, threads: int, progress: Callable[[int], None]
) -> None:
    """Writes a store under another name and renames it."""
    temporary = target.with_name(f"{target.name}.{socket.gethostname()}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        index = _write_pixels(
            temporary / "pixels.bin", load_all(entries, scale, threads), len(entries), progress
        )
        (temporary / "index.json").write_text(json.dumps(index))
        if _load_store(target, scale) is None:
            shutil.rmtree(target, ignore_errors=True)
        with contextlib.suppress(OSError):  # a host that ignores locks was faster
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_pixels(
    path: Path, pairs: Iterator[Images | str], n_pairs: int, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Writes the pixels of all pairs and returns the store's index."""
    folder = path.parent.parent
    sizes, problems = [], {}
    n_bytes = 0
    try:
        with path.open("wb") as file:
            for index, pair in enumerate(pairs):
                if isinstance(pair, str):
                    problems[index] = pair
                    sizes.append((0, 0))
                else:
                    sizes.append(pair[0].shape[:2])
                    n_bytes += sum(file.write(np.ascontiguousarray(image).data) for image in pair)
                progress(index + 1)
                if index + 1 == _TRIAL:
                    _check_space(folder, n_bytes / _TRIAL * (n_pairs - _TRIAL))
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave a file of this size without content
    except OSError as error:
        raise DataError(
            f"{folder}: {error.strerror or error} after {n_bytes:,} bytes of decoded images; {_OTHERWISE}"
        ) from error
    return {"lr_sizes": sizes, "problems": problems}


def _check_space(folder: Path, expected: float) -> None:
    """Stops a build that has no chance, even if the other images are half as large as the first."""
    free = shutil.disk_usage(folder).free
    if free < expected / 2:
        raise DataError(
            f"{folder}: decoded images need {expected / 2**30:.1f} GiB more, but {free / 2**30:.1f} GiB "
            f"are free; {_OTHERWISE}"
        )
