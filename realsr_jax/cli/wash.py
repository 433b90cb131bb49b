"""realsr-wash: finds out which LR/HR pairs are fit for training, by measuring how well their images fit.

  realsr-wash --lr=X2/LR --hr=X2/HR --output=washed
  realsr-wash --lr='city100/*L.PNG' --hr='city100/*H.PNG' --output=washed
  realsr-wash --lr=LR --hr=HR --output=washed --keep=0.975 --align=washed/aligned
  srun realsr-wash --lr=LR --hr=HR --output=washed --distributed      (then without: the report)

Exit status: 0 if all went well, 1 if a file is broken or has no partner, 2 if the command line is wrong.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from realsr_jax.cli import command
from realsr_jax.cli.shard_flags import define_shard_flags, read_shard
from realsr_jax.system.errors import UsageError
from realsr_jax.system.processes import count_cores, in_processes
from realsr_jax.system.terminal import Progress, complain, say
from realsr_jax.wash.journal import Journal, Record
from realsr_jax.wash.tables import choose_shown, summarise, write_results
from realsr_jax.wash.verdict import Limits, Verdict, judge_all

_NAME = "realsr-wash"
_SHOWN = 60
_Judged = tuple[Record, Verdict]


def _define_flags(table: command.FlagTable) -> None:
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
    )
    table.note(
        "Lengths are in LR pixels. Figures that cannot be measured, as of a flat picture, count as bad."
    )
    for limit in dataclasses.fields(Limits):
        default = getattr(Limits, limit.name)
        table.number(limit.name, f"{limit.metadata['text']} ({default:g})", default)
    define_shard_flags(
        table,
        "only measure one part of the pairs, into a journal of its own in --output, which all share; once "
        "all are measured, the same command without this judges, aligns and reports",
    )


def _main(values: flags.FlagValues) -> int:
    command.required(values, lr="name LR images", hr="name HR images", output="name a folder for the results")
    if values.keep is not None and not 0 < values.keep <= 1:  # not a number included
        what = "more than all" if values.keep > 1 else "nothing"
        raise UsageError(f"--keep={values.keep:g} keeps {what}; expected a share such as 0.975")
    given: dict[str, Any] = {limit.name: values[limit.name].value for limit in dataclasses.fields(Limits)}
    limits = Limits(**given)
    output, align = (command.output_folder(values, name) for name in ("output", "align"))
    assert output is not None
    shard = read_shard(values)
    pairs, problems = _list_pairs(values.lr, values.hr)
    if shard is None or shard.index == 0:  # once is enough
        for problem in problems:
            complain(_NAME, problem)

    from realsr_jax.wash.pair_files import commonest_scale

    workers = values.workers or count_cores()
    scale = values.scale or commonest_scale(pairs)
    if scale is None:
        if commonest_scale([dataclasses.replace(pair, lr=pair.hr, hr=pair.lr) for pair in pairs]):
            raise UsageError(
                f"--lr={values.lr} holds the larger images; give them as --hr, the others as --lr"
            )
        raise UsageError("no pair's HR is a whole number of times as large as its LR; pass --scale")
    if align is not None:
        _check_align(align, pairs)
    output.mkdir(parents=True, exist_ok=True)
    own = pairs if shard is None else [pairs[item] for item in shard.choose(_sizes(pairs))]
    records = _measure(own, Journal(output, pairs, scale, shard=shard), scale, workers)
    unreadable = [record.problem for record in records if record.fault == "unreadable"]
    for problem in unreadable:
        complain(_NAME, problem)
    if shard is not None:
        say(
            f"shard {shard}: {len(own):,} of {len(pairs):,} pairs; once all parts are measured, the same "
            f"command without --{'distributed' if values.distributed else 'shard'} judges them"
        )
        return 1 if unreadable else 0
    verdicts = judge_all(records, limits, keep=values.keep)
    judged = list(zip(records, verdicts, strict=True))
    write_results(output, records, verdicts)
    say(*summarise(verdicts))
    if align is not None:
        _align(judged, limits, scale, align, workers)
    _write_sheet(judged, scale, output / "index.html", workers)
    say(f"lists, tables and page: {output}")
    return 1 if problems or unreadable else 0


def _list_pairs(lr: str, hr: str) -> tuple[list[Record], list[str]]:
    """Matches the files; each pair gets the name by which a clean list can name it."""
    from realsr_jax.data.matching import find_keyed, match_pairs, name_of

    hr_images = find_keyed(hr, "HR images")
    names = {image.path: name_of(image.key) for image in hr_images}
    matched, problems = match_pairs(find_keyed(lr, "LR images"), hr_images)
    pairs: dict[str, Record] = {}
    for lr_path, hr_path in matched:
        key = names[hr_path]
        name = hr_path.name if name_of(hr_path.stem) == key else f"{key}{hr_path.suffix}"
        if name.splitlines() != [name.strip()] or name_of(Path(name).stem) != key or not name.isprintable():
            problems.append(f"{hr_path}: no list can hold this name; rename it")
        elif name in pairs:
            problems.append(f"{hr_path}: no list can tell it from {pairs[name].hr}; rename one")
        else:
            pairs[name] = Record(name, str(lr_path), str(hr_path))
    lr, hr = map(os.path.expanduser, (lr, hr))
    if not pairs:
        raise UsageError(f"--lr={lr} and --hr={hr}: no files of the same name")
    same = [pair.hr for pair in pairs.values() if os.path.realpath(pair.lr) == os.path.realpath(pair.hr)]
    if same:
        raise UsageError(
            f"--lr={lr} and --hr={hr}: {same[0]} would be its own LR; name two folders, or patterns such as "
            "'photos/*_LR.png' and 'photos/*_HR.png'"
        )
    return list(pairs.values()), problems


def _in_workers(
    doing: str, task: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], workers: int, done: int = 0
) -> Iterator[Any]:
    """Yields what a task makes of each job, under a progress bar on which `done` others already count."""
    with Progress(doing, "pairs") as progress:
        made = in_processes(task, jobs, processes=workers)
        yield from progress.each(made, len(jobs) + done, done=done)


def _sizes(pairs: Sequence[Record]) -> list[int]:
    """Returns the sizes of HR's files, 0 of those that are gone."""
    return [os.path.getsize(pair.hr) if os.path.exists(pair.hr) else 0 for pair in pairs]


def _measure(pairs: Sequence[Record], journal: Journal, scale: int, workers: int) -> list[Record]:
    """Measures the pairs that the journal does not hold yet; returns their records in order."""
    from realsr_jax.wash.pair_files import measure_files

    missing = [(pair, scale) for pair in pairs if pair.name not in journal.records]
    started = time.monotonic()
    for record in _in_workers("measuring", measure_files, missing, workers, len(pairs) - len(missing)):
        journal.add(record)
    seconds = max(time.monotonic() - started, 1e-3)
    if missing:
        say(
            f"scale {scale}: measured {len(missing)} pairs in {seconds:.0f} s "
            f"({len(missing) / seconds:.2f} a second, {workers} processes)",
            "",
        )
    return [journal.records[pair.name] for pair in pairs]


def _check_align(folder: Path, pairs: Sequence[Record]) -> None:
    """Refuses to write among the pairs.

    Raises:
        UsageError: if that is what was asked.
    """
    sources = {Path(path).parent.resolve() for pair in pairs for path in (pair.lr, pair.hr)}
    if sources & {(folder / side).resolve() for side in ("LR", "HR")}:
        raise UsageError(f"--align={folder}: holds the pairs themselves; name another folder")


def _align(judged: Sequence[_Judged], limits: Limits, scale: int, folder: Path, workers: int) -> None:
    """Writes corrected pairs in place of an earlier run's, which may be clean or beyond help by now."""
    from realsr_jax.wash.pair_files import align_files, aligned_files

    for side in ("LR", "HR"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    jobs = []
    for record, verdict in judged:
        for path in aligned_files(record, folder):
            path.unlink(missing_ok=True)
        if verdict.is_correctable:
            jobs.append((record, scale, verdict.faults, limits, folder))
    left_out = list(filter(None, _in_workers("aligning", align_files, jobs, workers)))
    for problem in left_out:
        complain(_NAME, problem)
    say("", f"aligned {len(jobs) - len(left_out)} of {len(jobs)} pairs that only need that: {folder}")


def _write_sheet(judged: Sequence[_Judged], scale: int, path: Path, workers: int) -> None:
    """Writes the page of the worst pairs and those nearest to the limits."""
    from realsr_jax.wash.contact_sheet import write_sheet
    from realsr_jax.wash.pair_files import make_entry

    shown = [judged[index] for index in choose_shown([verdict for _, verdict in judged], _SHOWN)]
    jobs = [(record, scale, verdict) for record, verdict in shown if record.fault != "unreadable"]
    entries = list(filter(None, _in_workers("page", make_entry, jobs, workers)))
    is_clean = {record.name: verdict.is_clean for record, verdict in judged}
    title = f"{len(judged)} pairs of scale {scale}"
    write_sheet(path, entries, is_clean=is_clean, scale=scale, title=title)


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run(_NAME, __doc__, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
