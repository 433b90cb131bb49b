"""What a washing leaves behind: tables, lists of names and a summary."""

import csv
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from realsr_jax.system.files import write_atomically
from realsr_jax.wash.journal import Record
from realsr_jax.wash.verdict import Verdict

_BAR: Final = 40
_SIZES: Final = ("lr_width", "lr_height", "hr_width", "hr_height")
_BORDERS: Final = (0.25, 0.5, 0.75, 1.0, 1.5, 3.0, 10.0)


def write_results(folder: Path, records: Sequence[Record], verdicts: Sequence[Verdict]) -> None:
    """Writes ``pairs.csv``, ``pairs.jsonl``, ``clean.txt`` and ``rejected.txt``.

    Args:
        folder: where.
        records: what is known of each pair.
        verdicts: the judgement on each.

    Raises:
        OSError: if a file cannot be written.
    """
    rows = [_row(record, verdict) for record, verdict in zip(records, verdicts, strict=True)]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(folder / "pairs.csv", table.getvalue())
    write_atomically(folder / "pairs.jsonl", "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
    for verdict in ("clean", "rejected"):
        names = sorted(row["name"] for row in rows if row["verdict"] == verdict)
        write_atomically(folder / f"{verdict}.txt", "".join(f"{name}\n" for name in names))


def choose_shown(verdicts: Sequence[Verdict], count: int) -> list[int]:
    """Returns the indices of the worst pairs and then of those nearest to the limits, up to `count` each."""
    order = sorted(range(len(verdicts)), key=lambda index: -verdicts[index].severity)
    worst = [index for index in order if not verdicts[index].is_clean][:count]
    shown = set(worst)
    rest = [index for index in order if index not in shown]
    borderline = sorted(rest, key=lambda index: abs(math.log(max(verdicts[index].severity, 1e-6))))
    return worst + borderline[:count]


def summarise(verdicts: Sequence[Verdict]) -> list[str]:
    """Returns lines that say how many pairs are clean, why the others are not, and how severe all are."""
    rejected = [verdict for verdict in verdicts if not verdict.is_clean]
    lines = [
        f"{len(verdicts) - len(rejected)} of {len(verdicts)} pairs are clean "
        f"({100 * (1 - len(rejected) / len(verdicts)):.2f} %)"
    ]
    if rejected:
        reasons = Counter(verdict.fault for verdict in rejected).most_common()
        lines += ["", "rejected for", *_bars(reasons)]
    return [*lines, "", "severity (1 is the limit)", *_bars(_severities(verdicts))]


def _severities(verdicts: Sequence[Verdict]) -> list[tuple[str, int]]:
    counts = Counter(sum(verdict.severity > border for border in _BORDERS) for verdict in verdicts)
    starts, ends = [0, *_BORDERS], [*(f"to {border}" for border in _BORDERS), "and more"]
    ranges = (f"{start} {end}" for start, end in zip(starts, ends, strict=True))
    return [(label, counts[number]) for number, label in enumerate(ranges)]


def _bars(counts: Sequence[tuple[str, int]]) -> list[str]:
    most, width = max(count for _, count in counts), max(len(label) for label, _ in counts)
    digits = len(str(most))
    return [
        f"  {label:{width}}  {count:{digits}}  {'#' * math.ceil(_BAR * count / max(most, 1))}".rstrip()
        for label, count in counts
    ]


def _row(record: Record, verdict: Verdict) -> dict[str, Any]:
    return {
        "name": record.name,
        "verdict": "clean" if verdict.is_clean else "rejected",
        "fault": "" if verdict.is_clean else verdict.fault,
        "reason": verdict.rejection,
        "severity": float(f"{verdict.severity:.4g}"),
        **{name: getattr(record, name) for name in ("lr", "hr", *_SIZES)},
        **record.figures.as_json(),
    }
