"""``realsr-prepare``: builds data sets for training, or makes LR images of HR images."""

import contextlib
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from absl import flags
from tqdm import tqdm

from realsr_jax.cli import command
from realsr_jax.upscale.photo_files import silent_pillow
from realsr_jax.system.terminal import terminal_width

_NAME: Final = "realsr-prepare"

_HELP = """\
realsr-prepare: builds data sets for training, or makes LR images by MATLAB's bicubic rule.

  realsr-prepare --dataset=aim_x2_washed --manual_dir=downloads --data_dir=data/tfds
  realsr-prepare --make_lr=2 --hr=DIV2K/HR --lr=DIV2K/LR_bicubic/X2

Data sets (one of TFDS, stored as array_record without TensorFlow, for the training source Tfds)
  --dataset=NAME        aim_x2, aim_x3, aim_x4         AIM 2020 RealSR, 19,000 pairs
                        aim_x2_washed, and x3, x4      its clean pairs: 18,475, 18,643 and 18,652
                        aim_x2_washed_large            the clean x2 and the clean x3 pairs, whose HR images
                                                       are reduced: 37,118
                        div2k_x2, div2k_x3, div2k_x4   DIV2K, bicubic LR: 800 pairs, 100 for validation
  --manual_dir=DIR      the unpacked downloads: X2/HR, X2/LR, X2/valid/HR, X2/valid/LR of AIM, or
                        DIV2K_train_HR, DIV2K_train_LR_bicubic/X2, DIV2K_valid_... of DIV2K; in DIR or in
                        DIR/AIM or DIR/DIV2K. What is missing is listed, with the address where it is
  --data_dir=DIR        where data sets are stored, by default that of TFDS

  Every image is decoded once and its size compared with its partner's; all that is wrong is listed. The data
  set appears complete or not at all. The same command continues an interrupted or failed run, and makes no
  shard of 100 pairs again that is finished, unless its images changed. A complete data set is kept as it is;
  to make it again, remove its folder.

LR images (8-bit PNG files with the names of the HR images; as MATLAB's imresize, values are rounded half up)
  --make_lr=N           the scale
  --hr=DIR              HR images. What they have beyond a multiple of the scale is cut off first, below and
                        right, as for the classic sets. 16 bits are rounded to 8, transparency is left out
  --lr=DIR              folder for the LR images
  --border=NAME         clamp: the border pixel is repeated, as in the classic sets (Set5, DIV2K)
                        mirror: the image is mirrored at its border, as in newer MATLAB
  --skip_existing       leave out images whose LR image exists: resumes an interrupted run

Exit status: 0 if all went well, 1 if something is missing or bad, 2 if the command line is wrong.
"""

_DATASET_FLAGS: Final = ("manual_dir", "data_dir")
_LR_FLAGS: Final = ("hr", "lr", "border", "skip_existing")


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("dataset", None, "The data set to build.", flag_values=values)
    flags.DEFINE_string("manual_dir", None, "Folder of the downloads.", flag_values=values)
    flags.DEFINE_string("data_dir", "", "Folder of data sets.", flag_values=values)
    flags.DEFINE_integer("make_lr", None, "Scale of LR images.", lower_bound=2, flag_values=values)
    flags.DEFINE_string("hr", None, "Folder of HR images.", flag_values=values)
    flags.DEFINE_string("lr", None, "Folder for LR images.", flag_values=values)
    flags.DEFINE_enum("border", "clamp", ["clamp", "mirror"], "Beyond the border.", flag_values=values)
    flags.DEFINE_bool("skip_existing", False, "Leave out existing LR images.", flag_values=values)


def _main(values: flags.FlagValues) -> int:
    if (values.dataset is None) == (values.make_lr is None):
        raise command.UsageError("name either --dataset to build a data set, or --make_lr to make LR images")
    mode, other, misplaced, needed = (
        ("--dataset", "--make_lr", _LR_FLAGS, ("manual_dir",))
        if values.make_lr is None
        else ("--make_lr", "--dataset", _DATASET_FLAGS, ("hr", "lr"))
    )
    for name in misplaced:
        if values[name].present:
            raise command.UsageError(f"--{name} belongs to {other}, it cannot stand beside {mode}")
    missing = [f"--{name}" for name in needed if not values[name].value]
    if missing:
        raise command.UsageError(f"{' and '.join(missing)} must be given with {mode}")
    with silent_pillow():
        return _prepare(values) if values.make_lr is None else _make_lr(values)


# ------------------------------------------------------------------------------------------- data sets


def _prepare(values: flags.FlagValues) -> int:
    from realsr_jax.data.tfds_names import TFDS_NAMES

    if values.dataset not in TFDS_NAMES:
        close = difflib.get_close_matches(values.dataset, TFDS_NAMES, 1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise command.UsageError(
            f"--dataset={values.dataset}: {guess}the data sets are {', '.join(TFDS_NAMES)}"
        )
    _check_folder(values.manual_dir, "manual_dir")
    if values.data_dir:
        command.output_folder(values, "data_dir")

    from realsr_jax.data import tfds_preparation as preparing

    with contextlib.ExitStack() as stack:
        bar = None

        def progress(n_checked: int, n_all: int) -> None:
            nonlocal bar
            if bar is None:  # what was finished before says nothing about the time left
                bar = stack.enter_context(_make_bar("pairs", n_all, initial=n_checked))
            elif not bar.disable:
                bar.update(n_checked - bar.n)

        prepared = preparing.prepare(
            values.dataset,
            manual_dir=values.manual_dir,
            data_dir=values.data_dir,
            published=preparing.PUBLISHED,
            progress=progress,
            report=_complain,
        )
    counts = ", ".join(f"{split} {count:,}" for split, count in prepared.counts.items())
    state = "built" if prepared.is_new else "there already"
    command.say(f"{prepared.name}: {state}; pairs: {counts}; {prepared.folder}")
    place = f", data_dir={values.data_dir!r}" if values.data_dir else ""
    command.say(f"source of a training configuration: Tfds({prepared.name!r}{place})")
    return 0


# ------------------------------------------------------------------------------------------- LR images


def _make_lr(values: flags.FlagValues) -> int:
    hr, lr = Path(values.hr).expanduser(), Path(values.lr).expanduser()
    _check_folder(values.hr, "hr")
    command.output_folder(values, "lr")

    from realsr_jax.system.processes import n_threads
    from realsr_jax.data.lr_images import LrJob, LrResult, make_lr_images, plan_lr_images

    jobs = plan_lr_images(hr, lr)
    todo = [job for job in jobs if not (values.skip_existing and job.lr.is_file())]
    lr.mkdir(parents=True, exist_ok=True)
    bar = _make_bar("images", len(todo))
    n_failed = 0

    def report(job: LrJob, result: LrResult) -> None:
        nonlocal n_failed
        n_failed += result.problem is not None
        for line in (*result.remarks, *filter(None, [result.problem])):
            _complain(line)
        bar.update(1)

    with bar:
        make_lr_images(todo, scale=values.make_lr, border=values.border, threads=n_threads(), report=report)
    kept = f", {len(jobs) - len(todo)} existed already" if len(todo) < len(jobs) else ""
    failed = f", {n_failed} failed" if n_failed else ""
    command.say(
        f"{len(todo) - n_failed} of {len(todo)} images reduced by {values.make_lr}{kept}{failed}; {lr}"
    )
    return 1 if n_failed else 0


# ---------------------------------------------------------------------------------------------- both


def _check_folder(text: str, flag: str) -> None:
    """Raises UsageError if a folder to read from is not there."""
    path = Path(os.path.expanduser(text))
    if not path.is_dir():
        reason = "is a file; name a folder" if path.exists() else "no such folder"
        raise command.UsageError(f"--{flag}={text}: {reason}")


def _complain(line: str) -> None:
    """Prints a problem, above the progress bar."""
    with tqdm.external_write_mode(sys.stderr):
        command.complain(_NAME, line)


def _make_bar(unit: str, total: int, *, initial: int = 0) -> tqdm:
    """Makes a progress bar with the time left, which shows on terminals only."""
    width = terminal_width()
    return tqdm(
        total=total,
        initial=initial,
        disable=width == 0,
        ncols=width,
        nrows=20,  # or tqdm shows nothing where a terminal does not tell its height
        bar_format="{percentage:3.0f}%|{bar}| {n:,} of {total:,} {unit}, {remaining} left",
        unit=unit,
        leave=False,
    )


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run(_NAME, _HELP, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
