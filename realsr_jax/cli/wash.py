"""realsr-wash: finds out which LR/HR pairs are fit for training, by measuring how well their images fit.

  realsr-wash --lr=X2/LR --hr=X2/HR --output=washed
  realsr-wash --lr='city100/*L.PNG' --hr='city100/*H.PNG' --output=washed
  realsr-wash --lr=LR --hr=HR --output=washed --keep=0.975 --align=washed/aligned

Exit status: 0 if all went well, 1 if a file is broken or has no partner, 2 if the command line is wrong.
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from realsr_jax.cli import command
from realsr_jax.system.errors import UsageError
from realsr_jax.system.processes import count_cores, in_processes
from realsr_jax.system.terminal import Progress, complain, say
from realsr_jax.wash.verdict import CORRECTABLE, Limits, Verdict, judge_all

if TYPE_CHECKING:
    from realsr_jax.wash.journal import Record

_NAME = "realsr-wash"
_SHOWN = 60


def _define_flags(table: command.FlagTable, argv: Sequence[str]) -> None:
    del argv
    table.section("Files")
    table.text("lr", "PLACE", "LR images: a folder, or a pattern with one star")
    table.text(
        "hr", "PLACE", "HR images; matched by name, less endings such as _HR, _LR, x2, or by what the star is"
    )
    table.text(
        "output",
        "DIR",
        "clean.txt and rejected.txt, one name a line, as clean_list of the training data takes them; "
        "pairs.csv and pairs.jsonl, every figure of every pair; index.html, the worst and the nearest to the "
        "limits; journal.jsonl, from which the same command goes on after a stop, and which spares measuring "
        "anew where only limits change",
    )
    table.whole("scale", "HR size over LR size, by default what most sizes say", least=1)
    table.text(
        "align",
        "DIR",
        "write pairs whose only faults are shift, rotation, zoom or brightness into DIR/LR and DIR/HR: LR "
        "resampled onto HR, both cropped to what both show. They stay rejected; DIR is a data set of its own",
    )
    table.whole("workers", "processes; by default one per processor", least=1)
    table.section("Verdict")
    table.number(
        "keep",
        "keep this share of the pairs, such as 0.975, the best first, instead of going by the limits; by "
        '"severity", the largest figure over its limit',
        least=0,
        most=1,
    )
    table.note(
        "Lengths are in LR pixels. Figures that cannot be measured, as of a flat picture, count as bad."
    )
    for name, default, text in Limits.described():
        table.number(name, f"{text} ({default:g})", default)


def _main(values: flags.FlagValues) -> int:
    command.required(values, lr="name LR images", hr="name HR images", output="name a folder for the results")
    if values.keep is not None and not values.keep > 0:  # not a number included
        raise UsageError(f"--keep={values.keep:g} keeps nothing; expected a share such as 0.975")
    given: dict[str, Any] = {name: values[name].value for name, *_ in Limits.described()}
    limits = Limits(**given)
    output, align = (command.output_folder(values, name) for name in ("output", "align"))
    assert output is not None
    pairs, problems = _list_pairs(values.lr, values.hr)
    for problem in problems:
        complain(_NAME, problem)

    from realsr_jax.wash.pair_files import commonest_scale
    from realsr_jax.wash.tables import summarise, write_results

    processes = values.workers or count_cores()
    scale = values.scale or commonest_scale(pairs)
    if scale is None:
        raise UsageError("no pair's HR is a whole number of times as large as its LR; pass --scale")
    if align is not None:
        _check_align(align, pairs)
    output.mkdir(parents=True, exist_ok=True)
    records = _measure(pairs, scale, output / "journal.jsonl", processes)
    verdicts = judge_all(records, limits, keep=values.keep)
    write_results(output, records, verdicts)
    unreadable = [record.problem for record in records if record.fault == "unreadable"]
    for problem in unreadable:
        complain(_NAME, problem)
    say("\n".join(summarise(verdicts)))
    if align is not None:
        _align(records, verdicts, limits, scale, align, processes)
    _write_sheet(records, verdicts, scale, output / "index.html", processes)
    say(f"lists, tables and page: {output}")
    return 1 if problems or unreadable else 0


def _list_pairs(lr: str, hr: str) -> "tuple[list[Record], list[str]]":
    """Matches the files; each pair gets the name by which a clean list can name it."""
    from realsr_jax.data.matching import find_keyed, match_pairs, name_of
    from realsr_jax.wash.journal import Record

    hr_images = find_keyed(hr, "HR images")
    names = {image.path: name_of(image.key) for image in hr_images}
    matched, problems = match_pairs(find_keyed(lr, "LR images"), hr_images)
    pairs = []
    for lr_path, hr_path in matched:
        key = names[hr_path]
        name = hr_path.name if name_of(hr_path.stem) == key else f"{key}{hr_path.suffix}"
        if name.splitlines() != [name.strip()] or name_of(Path(name).stem) != key or not name.isprintable():
            problems.append(f"{hr_path}: no list can hold this name; rename it")
        else:
            pairs.append(Record(name, str(lr_path), str(hr_path)))
    if not pairs:
        lr, hr = map(os.path.expanduser, (lr, hr))
        raise UsageError(f"--lr={lr} and --hr={hr}: no files of the same name")
    return pairs, problems


def _measure(pairs: "Sequence[Record]", scale: int, path: Path, processes: int) -> "list[Record]":
    """Measures what the journal does not hold yet; returns all records in order."""
    from realsr_jax.wash.journal import Journal
    from realsr_jax.wash.pair_files import measure_files

    with Journal(path, pairs, scale) as journal, Progress("measuring", "pairs") as progress:
        missing = [(pair, scale) for pair in pairs if pair.name not in journal.records]
        started = time.monotonic()
        measured = in_processes(measure_files, missing, processes=processes)
        for record in progress.each(measured, len(pairs), done=len(pairs) - len(missing)):
            journal.add(record)
        seconds = time.monotonic() - started
        if missing:
            say(
                f"scale {scale}: measured {len(missing)} pairs in {seconds:.0f} s "
                f"({len(missing) / max(seconds, 1e-3):.2f} a second, {processes} processes)\n"
            )
        records = journal.records
        return [records[pair.name] for pair in pairs]


def _check_align(folder: Path, pairs: "Sequence[Record]") -> None:
    """Refuses to write among the pairs.

    Raises:
        UsageError: if that is what was asked.
    """
    sources = {Path(path).parent.resolve() for pair in pairs for path in (pair.lr, pair.hr)}
    if sources & {(folder / side).resolve() for side in ("LR", "HR")}:
        raise UsageError(f"--align={folder}: holds the pairs themselves; name another folder")


def _align(
    records: "Sequence[Record]",
    verdicts: Sequence[Verdict],
    limits: Limits,
    scale: int,
    folder: Path,
    processes: int,
) -> None:
    """Writes corrected pairs, and removes what stands there of pairs that are now clean or beyond help."""
    from realsr_jax.wash.pair_files import align_files, aligned_files

    todo = []
    for side in ("LR", "HR"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    for record, verdict in zip(records, verdicts, strict=True):
        if not verdict.is_clean and verdict.faults and verdict.faults <= CORRECTABLE:
            todo.append((record, scale, verdict.faults, limits, folder))
        else:
            for path in aligned_files(record, folder):
                path.unlink(missing_ok=True)
    with Progress("aligning", "pairs") as progress:
        aligned = progress.each(in_processes(align_files, todo, processes=processes), len(todo))
        left_out = sorted(problem for problem in aligned if problem)
    for problem in left_out:
        complain(_NAME, problem)
    say(f"\naligned {len(todo) - len(left_out)} of {len(todo)} pairs that only need that: {folder}")


def _write_sheet(
    records: "Sequence[Record]", verdicts: Sequence[Verdict], scale: int, path: Path, processes: int
) -> None:
    """Writes the page of the worst pairs and those nearest to the limits."""
    from realsr_jax.wash.contact_sheet import write_sheet
    from realsr_jax.wash.pair_files import make_entry
    from realsr_jax.wash.tables import choose_shown, pair_names

    shown = [index for index in choose_shown(verdicts, _SHOWN) if records[index].fault != "unreadable"]
    todo = [(records[index], scale, verdicts[index]) for index in shown]
    with Progress("page", "pairs") as progress:
        made = progress.each(in_processes(make_entry, todo, processes=processes), len(todo))
        entries = [entry for entry in made if entry is not None]
    entries.sort(key=lambda entry: (-entry.verdict.severity, entry.name))
    write_sheet(
        path,
        entries,
        clean=pair_names(records, verdicts, is_clean=True),
        rejected=pair_names(records, verdicts, is_clean=False),
        title=f"{len(records)} pairs of scale {scale}",
    )


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run(_NAME, __doc__, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
