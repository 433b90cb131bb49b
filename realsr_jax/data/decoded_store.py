"""Pairs of images, decoded once: a flat file of pixels, of 8 or 16 bits, from which crops are read.

A store is a folder, named by what all its pairs are made of, with the file ``pixels.bin``, in which LR and HR
of each usable pair follow one another row by row, and ``index.json``, what was found out about the pairs.
"""

import contextlib
import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np

from realsr_jax.data.errors import DataError
from realsr_jax.data.pair_reading import (
    CheckedPairs,
    PairImages,
    UnreadPair,
    check_space,
    load_all,
    load_pair,
)
from realsr_jax.system.files import locked, temporary_folder

_VERSION: Final = 2
_16_BITS: Final = np.dtype("<u2")
_OTHERWISE: Final = (
    "--config.decoded_dir=FOLDER keeps decoded images elsewhere, --config.decoded_dir=none keeps none"
)
_TRIAL: Final = 32  # so many pairs give an estimate of the space that all take


class DecodedStore:
    """The pairs in a store's folder. Can be pickled, without the pixels.

    Attributes:
        checked: what is known of them.
        n_bytes: size of all pixels.
    """

    def __init__(self, folder: Path, scale: int, checked: CheckedPairs) -> None:
        self.checked = checked
        self._folder = folder
        self._scale = scale
        self._ends = np.cumsum(3 * checked.lr_sizes.prod(1) * checked.itemsizes * (1 + scale**2))
        self.n_bytes = int(self._ends[-1]) if len(self._ends) else 0

    def load(self, index: int) -> PairImages:
        """Returns a pair as views of the file, of which the rows that are looked at are read from disk."""
        scale = self._scale
        height, width = map(int, self.checked.lr_sizes[index])
        n_bytes = 3 * height * width * int(self.checked.itemsizes[index])  # of LR
        end = int(self._ends[index])
        middle = end - n_bytes * scale**2
        lr, hr = self._pixels[middle - n_bytes : middle], self._pixels[middle:end]
        if self.checked.itemsizes[index] == 2:
            lr, hr = lr.view(_16_BITS), hr.view(_16_BITS)
        return lr.reshape(height, width, 3), hr.reshape(height * scale, width * scale, 3)

    @functools.cached_property
    def _pixels(self) -> np.ndarray:
        return np.asarray(np.memmap(self._folder / "pixels.bin", np.uint8, "r"))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_pixels"}


def open_store(
    unread: Sequence[UnreadPair], scale: int, folder: Path, progress: Callable[[int], None]
) -> DecodedStore:
    """Opens the store of a list of pairs, which is made if there is none.

    It belongs to these pairs as they are now: when a file changes, or one that could not be read can be, it
    is made anew. Processes that want to make the same one wait for the first. One that is killed leaves
    nothing that is used.

    Args:
        unread: the pairs.
        scale: of the network.
        folder: where stores are kept.
        progress: called with the number of pairs decoded so far, if any must be.

    Raises:
        DataError: if the folder cannot be written or has too little space.
    """
    content = repr((_VERSION, scale, [pair.fingerprint for pair in unread]))
    target = folder / hashlib.sha256(content.encode()).hexdigest()[:24]
    store = _read_store(target, scale)
    if _is_current(store, unread, scale):
        return store
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(target.with_suffix(".lock")):
            if not _is_current(_read_store(target, scale), unread, scale):
                _build(unread, scale, target, progress)
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror or error}; {_OTHERWISE}") from error
    store = _read_store(target, scale)
    if store is None:
        raise DataError(f"{target}: cannot be read back; {_OTHERWISE}")
    return store


def _read_store(target: Path, scale: int) -> DecodedStore | None:
    """Opens a store if it is there and complete."""
    try:
        index = json.loads((target / "index.json").read_text())
        sizes = np.array(index["lr_sizes"], np.int64).reshape(-1, 2)
        itemsizes = np.array(index["itemsizes"], np.int64)
        problems = {int(number): text for number, text in index["problems"].items()}
        registered = {int(number): _map_of(text) for number, text in index.get("registered", {}).items()}
        store = DecodedStore(target, scale, CheckedPairs(sizes, itemsizes, problems, registered))
        return store if (target / "pixels.bin").stat().st_size == store.n_bytes else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _is_current(
    store: DecodedStore | None, unread: Sequence[UnreadPair], scale: int
) -> TypeGuard[DecodedStore]:
    """Returns whether a store is there and no pair can be used that could not (a network drive came back)."""
    return store is not None and all(
        isinstance(load_pair(unread[i], scale), str) for i in store.checked.problems
    )


# ---------------------------------------------------------------------------------------------- building


def _build(unread: Sequence[UnreadPair], scale: int, target: Path, progress: Callable[[int], None]) -> None:
    """Writes a store under another name and renames it; one that is there is outdated or broken."""
    shutil.rmtree(target, ignore_errors=True)
    with temporary_folder(target.parent) as temporary:
        made = temporary / "store"
        made.mkdir()
        index = _write_pixels(made / "pixels.bin", unread, scale, progress, folder=target.parent)
        (made / "index.json").write_text(json.dumps(index))
        with contextlib.suppress(OSError):  # a host that ignores locks was faster
            made.rename(target)


def _write_pixels(
    path: Path, unread: Sequence[UnreadPair], scale: int, progress: Callable[[int], None], *, folder: Path
) -> dict[str, Any]:
    """Writes the pixels of all pairs and returns the store's index."""
    try:
        with path.open("wb") as file:

            def keep(images: PairImages) -> None:
                for image in images:
                    file.write(
                        np.ascontiguousarray(image, _16_BITS if image.itemsize == 2 else np.uint8).data
                    )

            def note(n_done: int) -> None:
                progress(n_done)
                if n_done == _TRIAL:  # the other images may be half as large as the first
                    needed = file.tell() / _TRIAL * (len(unread) - _TRIAL) / 2
                    check_space(folder, needed, "decoded images", _OTHERWISE)

            checked = load_all(unread, scale, note, keep)
            file.flush()
            os.fsync(file.fileno())  # or a power cut could leave a file of this size without content
    except OSError as error:
        n_bytes = path.stat().st_size if path.exists() else 0
        raise DataError(
            f"{folder}: {error.strerror or error} after {n_bytes:,} bytes of decoded images; {_OTHERWISE}"
        ) from error
    registered = {number: _text_of(blocks) for number, blocks in checked.registered.items()}
    return {
        "lr_sizes": checked.lr_sizes.tolist(),
        "itemsizes": checked.itemsizes.tolist(),
        "problems": checked.problems,
        "registered": registered,
    }


def _text_of(blocks: np.ndarray) -> str:
    """Writes which blocks register as rows of hexadecimal digits behind their length."""
    rows = (np.packbits(row).tobytes().hex() for row in blocks)
    return " ".join((str(blocks.shape[1]), *rows))


def _map_of(text: str) -> np.ndarray:
    """Reads what `_text_of` wrote."""
    length, *rows = text.split()
    packed = np.frombuffer(bytes.fromhex("".join(rows)), np.uint8).reshape(len(rows), -1)
    return np.unpackbits(packed, axis=1, count=int(length)).astype(bool)
