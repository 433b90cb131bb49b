"""What is known of pairs, on disk: one line of JSON each, from which a stopped run goes on.

Several processes that share the pairs write a file each; whoever reads them reads all of a folder.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from realsr_jax.system.files import file_state, read_file
from realsr_jax.system.shards import Shard
from realsr_jax.wash.figures import Figures

_VERSION: Final = 2  # of the measurements; older ones are made again
_UNKNOWN: Final = Figures()


@dataclass(frozen=True)
class Record:
    """A pair and what is known of it: its files, and later the rest.

    Attributes:
        name: what lists call the pair.
        lr: path of the LR image.
        hr: path of the HR image.
        lr_width: in pixels, as all sizes; 0 if unread.
        lr_height: likewise.
        hr_width: likewise.
        hr_height: likewise.
        fault: "" if the pair could be measured, else "unreadable" or "sizes".
        problem: why it could not, in one line.
        figures: what was measured.
        lr_hash: tells LR's pixels from others.
        hr_hash: likewise for HR.
        thumbnail: 256 bytes in hexadecimal, HR's grey in coarse squares.
    """

    name: str
    lr: str
    hr: str
    lr_width: int = 0
    lr_height: int = 0
    hr_width: int = 0
    hr_height: int = 0
    fault: str = ""
    problem: str = ""
    figures: Figures = _UNKNOWN
    lr_hash: str = ""
    hr_hash: str = ""
    thumbnail: str = ""


class Journal:
    """The records of a run, appended to a file as they come in, beside which other processes' may stand.

    Attributes:
        records: what is known of the pairs, by name.
    """

    def __init__(
        self, folder: Path, pairs: Sequence[Record], scale: int, *, shard: Shard | None = None
    ) -> None:
        """Reads all journals of a folder.

        Args:
            folder: where they are.
            pairs: what is to be measured. What is known of these pairs holds if neither their files nor the
                scale have changed since.
            scale: HR's size over LR's.
            shard: the part that this process measures, which has a journal of its own.

        Raises:
            OSError: if a file cannot be read or written.
        """
        self._path = folder / f"journal{'' if shard is None else f'_{shard.file_name}'}.jsonl"
        self._keys = {pair.name: _fingerprint(pair, scale) for pair in pairs}
        known: dict[str, Record] = {}
        is_cut_off = False
        for path in sorted(folder.glob("journal*.jsonl")):
            content = read_file(path).decode(errors="replace")
            known |= _read_lines(content)
            if path == self._path:
                is_cut_off = content[-1:] not in ("", "\n")  # by a kill, in the last line
        # By the names and paths of now: another process may have run in another folder.
        self.records = {
            pair.name: dataclasses.replace(known[key], name=pair.name, lr=pair.lr, hr=pair.hr)
            for pair in pairs
            if (key := self._keys[pair.name]) in known
        }
        self._append("\n" if is_cut_off else "")

    def add(self, record: Record) -> None:
        """Appends a record."""
        key, values = self._keys[record.name], dataclasses.asdict(record)
        line = {"fingerprint": key, "record": values, "sha256": _digest(key, values)}
        self.records[record.name] = record
        self._append(json.dumps(line) + "\n")

    def _append(self, text: str) -> None:
        left = text.encode()
        with self._path.open("ab", buffering=0) as file:
            start = file.tell()
            try:
                while left:
                    left = left[file.write(left) :]
            except OSError:  # a full disk takes a part of the line
                file.truncate(start)
                raise


def _fingerprint(pair: Record, scale: int) -> str:
    return repr((_VERSION, scale, [file_state(path) for path in (pair.lr, pair.hr)]))


def _digest(key: str, values: Any) -> str:
    return hashlib.sha256(json.dumps([key, values]).encode()).hexdigest()


def _read_lines(content: str) -> dict[str, Record]:
    """Reads the undamaged records, by fingerprint; what could not be read may have been mended since."""
    lines = {}
    for text in content.splitlines():
        try:
            line = json.loads(text)
            key, values = line["fingerprint"], line["record"]
            if line["sha256"] == _digest(key, values) and values["fault"] != "unreadable":
                lines[key] = Record(**values | {"figures": Figures(**values["figures"])})
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return lines
