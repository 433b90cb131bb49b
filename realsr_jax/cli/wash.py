"""``realsr-wash``: finds out which LR/HR pairs are fit for training."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from realsr_jax.cli import command
from realsr_jax.wash.verdict import CORRECTABLE, Limits, Verdict, judge_all

if TYPE_CHECKING:
    from realsr_jax.wash.journal import Pair, Record

_NAME = "realsr-wash"
_SHOWN = 60

_HELP = """\
realsr-wash: finds out which LR/HR pairs are fit for training, by measuring how well their images fit.

  realsr-wash --lr=X2/LR --hr=X2/HR --output=washed
  realsr-wash --lr='city100/*L.PNG' --hr='city100/*H.PNG' --output=washed
  realsr-wash --lr=LR --hr=HR --output=washed --keep=0.975 --align=washed/aligned

Files
  --lr=PLACE            LR images: a folder, or a pattern with one star
  --hr=PLACE            HR images; matched by name, less endings such as _HR, _LR, x2, or by what the star is
  --output=DIR          clean.txt and rejected.txt, one name a line, as clean_list of the training data takes
                        them; pairs.csv and pairs.jsonl, every figure of every pair; index.html, the worst and
                        the nearest to the limits; journal.jsonl, from which the same command goes on after a
                        stop, and which spares measuring anew where only limits change
  --scale=N             HR size over LR size, by default what most sizes say
  --align=DIR           write pairs whose only faults are shift, rotation, zoom or brightness into DIR/LR and
                        DIR/HR: LR resampled onto HR, both cropped to what both show. They stay rejected;
                        DIR is a data set beside the clean one
  --workers=N           processes; by default one per processor

Verdict
  --keep=SHARE          keep this share of the pairs, such as 0.975, the best first, instead of going by the
                        limits; by "severity", the largest figure over its limit
  Lengths are in LR pixels. Figures that cannot be measured, as of a flat picture, count as bad.
{limits}

Exit status: 0 if all went well, 1 if a file is broken or has no partner, 2 if the command line is wrong.
"""


def _define_flags(values: flags.FlagValues) -> None:
    for name in ("lr", "hr", "output", "align"):
        flags.DEFINE_string(name, None, f"{name}.", flag_values=values)
    flags.DEFINE_integer("scale", None, "HR's size over LR's.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("workers", None, "Processes.", lower_bound=1, flag_values=values)
    flags.DEFINE_float("keep", None, "Share that is kept.", 0, 1, flag_values=values)
    for name, default, text in Limits.described():
        flags.DEFINE_float(name, default, text, flag_values=values)


def _help() -> str:
    lines = []
    for name, default, text in Limits.described():
        lines.append(f"  --{name}=X".ljust(24) + f"{text} ({default:g})")
    return _HELP.replace("{limits}", "\n".join(lines))


def _main(values: flags.FlagValues) -> int:
    for name, what in (("lr", "LR images"), ("hr", "HR images"), ("output", "a folder for the results")):
        if not values[name].value:
            raise command.UsageError(f"--{name} is missing: name {what}")
    if values.keep is not None and not values.keep > 0:  # not a number included
        raise command.UsageError(f"--keep={values.keep:g} keeps nothing; expected a share such as 0.975")
    limits = _read_limits(values)
    output, align = (command.output_folder(values, name) for name in ("output", "align"))
    assert output is not None
    pairs, problems = _list_pairs(*(os.path.expanduser(place) for place in (values.lr, values.hr)))
    for problem in problems:
        command.complain(_NAME, problem)

    from realsr_jax.wash.tables import summarise, write_results

    workers = values.workers or command.processors()
    scale = values.scale or _find_scale(pairs)
    if align is not None:
        _check_align(align, pairs)
    output.mkdir(parents=True, exist_ok=True)
    records = _measure(pairs, scale, output / "journal.jsonl", workers)
    verdicts = judge_all(records, limits, keep=values.keep)
    write_results(output, records, verdicts)
    for record in records:
        if record.fault == "unreadable":
            command.complain(_NAME, record.problem)
    command.say("\n".join(summarise(verdicts)))
    if align is not None:
        _align(pairs, verdicts, limits, scale, align, workers)
    _write_sheet(pairs, records, verdicts, scale, output / "index.html", workers)
    command.say(f"lists, tables and page: {output}")
    return 1 if problems or any(record.fault == "unreadable" for record in records) else 0


def _read_limits(values: flags.FlagValues) -> Limits:
    given: dict[str, Any] = {name: values[name].value for name, _, _ in Limits.described()}
    return Limits(**given)


def _list_pairs(lr: str, hr: str) -> "tuple[list[Pair], list[str]]":
    """Matches the files; each pair gets the name by which a clean list can name it."""
    from realsr_jax.data.matching import find_keyed, match, name_of
    from realsr_jax.wash.journal import Pair

    hr_images = find_keyed(hr, "HR images")
    keys = {image.path: image.key for image in hr_images}
    matched, problems = match(find_keyed(lr, "LR images"), hr_images)
    pairs = []
    for lr_path, hr_path in matched:
        key = keys[hr_path]
        name = hr_path.name if name_of(hr_path) == key else f"{key}{hr_path.suffix}"
        if name.splitlines() != [name.strip()] or name_of(Path(name)) != key or not name.isprintable():
            problems.append(f"{hr_path}: no list can hold this name; rename it")
        else:
            pairs.append(Pair(name, lr_path, hr_path))
    if not pairs:
        raise command.UsageError(f"--lr={lr} and --hr={hr}: no files of the same name")
    return pairs, problems


def _find_scale(pairs: "Sequence[Pair]") -> int:
    from realsr_jax.wash.pair_files import find_scale

    scale = find_scale(pairs)
    if scale is None:
        raise command.UsageError("no pair's HR is a whole number of times as large as its LR; pass --scale")
    return scale


def _measure(pairs: "Sequence[Pair]", scale: int, path: Path, workers: int) -> "list[Record]":
    """Measures what the journal does not hold yet; returns all records in order."""
    from realsr_jax.wash.journal import Journal
    from realsr_jax.wash.pair_files import measure_files, run_all

    journal = Journal(path, pairs, scale)
    try:
        known = journal.records
        missing = [(pair, scale) for pair in pairs if pair.name not in known]
        started = time.monotonic()
        with _progress(len(pairs), len(known), "measuring") as bar:
            for record in run_all(measure_files, missing, workers=workers):
                journal.add(record)
                bar.update()
        seconds = time.monotonic() - started
        if missing:
            command.say(
                f"scale {scale}: measured {len(missing)} pairs in {seconds:.0f} s "
                f"({len(missing) / max(seconds, 1e-3):.2f} a second, {workers} processes)\n"
            )
        records = journal.records
        return [records[pair.name] for pair in pairs]
    finally:
        journal.close()


def _progress(total: int, done: int, what: str) -> Any:
    from tqdm import tqdm

    # No bar where there is no terminal.
    return tqdm(total=total, initial=done, desc=what, unit="pair", disable=None, leave=False, smoothing=0.1)


def _check_align(folder: Path, pairs: "Sequence[Pair]") -> None:
    """Refuses to write among the pairs.

    Raises:
        UsageError: if that is what was asked.
    """
    sources = {path.parent.resolve() for pair in pairs for path in (pair.lr, pair.hr)}
    if sources & {(folder / side).resolve() for side in ("LR", "HR")}:
        raise command.UsageError(f"--align={folder}: holds the pairs themselves; name another folder")


def _align(
    pairs: "Sequence[Pair]",
    verdicts: Sequence[Verdict],
    limits: Limits,
    scale: int,
    folder: Path,
    workers: int,
) -> None:
    """Writes corrected pairs."""
    from realsr_jax.wash.pair_files import align_files, run_all

    todo = [
        (pair, scale, verdict.faults, limits, folder)
        for pair, verdict in zip(pairs, verdicts, strict=True)
        if not verdict.is_clean and verdict.faults and verdict.faults <= CORRECTABLE
    ]
    for side in ("LR", "HR"):
        (folder / side).mkdir(parents=True, exist_ok=True)
    kept = {pair.name for pair, *_ in todo}
    for pair in pairs:  # what was aligned before, and is now clean or beyond help
        if pair.name not in kept:
            for side in ("LR", "HR"):
                (folder / side / f"{Path(pair.name).stem}.png").unlink(missing_ok=True)
    left_out = []
    with _progress(len(todo), 0, "aligning") as bar:
        for problem in run_all(align_files, todo, workers=workers):
            left_out += [problem] if problem else []
            bar.update()
    for problem in sorted(left_out):
        command.complain(_NAME, problem)
    command.say(f"\naligned {len(todo) - len(left_out)} of {len(todo)} pairs that only need that: {folder}")


def _write_sheet(
    pairs: "Sequence[Pair]",
    records: "Sequence[Record]",
    verdicts: Sequence[Verdict],
    scale: int,
    path: Path,
    workers: int,
) -> None:
    """Writes the page of the worst pairs and those nearest to the limits."""
    from realsr_jax.wash.tables import choose_shown, names
    from realsr_jax.wash.contact_sheet import write_sheet
    from realsr_jax.wash.pair_files import make_entry, run_all

    shown = [index for index in choose_shown(verdicts, _SHOWN) if records[index].fault != "unreadable"]
    entries = []
    with _progress(len(shown), 0, "page") as bar:
        for entry in run_all(make_entry, [(pairs[i], scale, verdicts[i]) for i in shown], workers=workers):
            entries += [] if entry is None else [entry]
            bar.update()
    entries.sort(key=lambda entry: (-entry.severity, entry.name))
    write_sheet(
        path,
        entries,
        clean=names(records, verdicts, is_clean=True),
        rejected=names(records, verdicts, is_clean=False),
        title=f"{len(pairs)} pairs of scale {scale}",
    )


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run(_NAME, _help(), _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
