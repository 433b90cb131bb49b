"""What is known of pairs, on disk: one line of JSON each, from which a stopped run goes on."""

import base64
import dataclasses
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from realsr_jax.wash.figures import Figures

_VERSION: Final = 1  # of the measurements; older ones are made again
_NOTHING: Final = Figures()


@dataclass(frozen=True)
class Pair:
    """Two files.

    Attributes:
        name: what lists call the pair.
        lr: the LR image.
        hr: the HR image.
    """

    name: str
    lr: Path
    hr: Path


@dataclass(frozen=True)
class Record:
    """What is known of a pair.

    Attributes:
        name: what lists call the pair.
        lr: path of the LR image.
        hr: path of the HR image.
        lr_size: width and height, 0 if unreadable.
        hr_size: likewise.
        fault: "" if the pair could be measured, else "unreadable" or "sizes".
        problem: why it could not, in one line.
        figures: what was measured.
        lr_hash: tells LR's pixels from others.
        hr_hash: likewise for HR.
        thumbnail: 256 bytes, HR's grey in coarse squares.
    """

    name: str
    lr: str
    hr: str
    lr_size: tuple[int, int] = (0, 0)
    hr_size: tuple[int, int] = (0, 0)
    fault: str = ""
    problem: str = ""
    figures: Figures = _NOTHING
    lr_hash: str = ""
    hr_hash: str = ""
    thumbnail: bytes = b""


class Journal:
    """The records of a run, appended to a file as they come in."""

    def __init__(self, path: Path, pairs: Sequence[Pair], scale: int) -> None:
        """Opens a journal.

        Args:
            path: the file; made if there is none.
            pairs: what is to be measured. Records of these pairs hold if neither their files nor the scale
                have changed since.
            scale: HR's size over LR's.

        Raises:
            OSError: if the file cannot be read or written.
        """
        self._keys = {pair.name: _fingerprint(pair, scale) for pair in pairs}
        lines = _read_lines(path)
        self._records = {name: lines[key] for name, key in self._keys.items() if key in lines}
        is_cut_off = path.exists() and not path.read_bytes().endswith(b"\n")
        self._file = path.open("a", encoding="utf-8")
        if is_cut_off:  # by a kill, in the last line
            self._file.write("\n")

    @property
    def records(self) -> dict[str, Record]:
        """All records by name."""
        return dict(self._records)

    def add(self, record: Record) -> None:
        """Appends a record."""
        line = {"fingerprint": self._keys[record.name], "record": _to_json(record)}
        self._records[record.name] = record
        self._file.write(json.dumps(line, allow_nan=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def figures_json(figures: Figures) -> dict[str, float | None]:
    """Returns figures for JSON, six digits each, None for what is not a finite number."""
    return {
        name: float(f"{value:.6g}") if math.isfinite(value) else None
        for name, value in dataclasses.asdict(figures).items()
    }


def _fingerprint(pair: Pair, scale: int) -> str:
    states = []
    for path in (pair.lr, pair.hr):
        try:
            state = os.stat(path)
            states.append((os.path.abspath(path), state.st_size, state.st_mtime_ns))
        except OSError as error:
            states.append((os.path.abspath(path), error.errno))
    return repr((_VERSION, scale, states))


def _read_lines(path: Path) -> dict[str, Record]:
    """Reads the records that are whole, by fingerprint; what could not be read may have been mended since."""
    if not path.exists():
        return {}
    lines = {}
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
            record = _from_json(line["record"])
            if record.fault != "unreadable":
                lines[line["fingerprint"]] = record
        except (ValueError, KeyError, TypeError):
            continue
    return lines


def _to_json(record: Record) -> dict[str, Any]:
    return dataclasses.asdict(record) | {
        "figures": figures_json(record.figures),
        "thumbnail": base64.b64encode(record.thumbnail).decode(),
    }


def _from_json(values: dict[str, Any]) -> Record:
    figures = {name: math.nan if value is None else value for name, value in values["figures"].items()}
    return Record(
        **values
        | {
            "lr_size": tuple(values["lr_size"]),
            "hr_size": tuple(values["hr_size"]),
            "figures": Figures(**figures),
            "thumbnail": base64.b64decode(values["thumbnail"]),
        }
    )
