"""realsr-prepare: builds data sets for training, or makes LR images by MATLAB's bicubic rule.

  realsr-prepare --dataset=aim_x2_washed --manual_dir=downloads --data_dir=data/tfds
  realsr-prepare --make_lr=2 --hr=DIV2K/HR --lr=DIV2K/LR_bicubic/X2

Data sets are those of TFDS, stored as array_record without TensorFlow, for the training source Tfds. Every
image is decoded once and its size compared with its partner's; all that is wrong is listed. The data set
appears complete or not at all. The same command continues an interrupted or failed run, and makes no shard of
100 pairs again that is finished, unless its images changed. A complete data set is kept as it is; to make it
again, remove its folder.

  aim_x2, aim_x3, aim_x4          AIM 2020 RealSR, 19,000 pairs
  aim_x2_washed, and x3, x4       its clean pairs: 18,475, 18,643 and 18,652
  aim_x2_washed_large             the clean x2 and the clean x3 pairs, whose HR images are reduced: 37,118
  div2k_x2, div2k_x3, div2k_x4    DIV2K, bicubic LR: 800 pairs, 100 for validation

LR images are PNG files with the names of the HR images, of 8 or 16 bits as these; as in MATLAB's imresize,
values are rounded half up.

Exit status: 0 if all went well, 1 if something is missing or bad, 2 if the command line is wrong.
"""

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from absl import flags

from realsr_jax.cli import command
from realsr_jax.system.errors import UsageError
from realsr_jax.system.processes import count_threads, in_threads
from realsr_jax.system.terminal import Progress, complain

_NAME: Final = "realsr-prepare"
_FLAGS_OF: Final = {
    "dataset": ("manual_dir", "data_dir"),
    "make_lr": ("hr", "lr", "border", "skip_existing"),
}


def _define_flags(table: command.FlagTable) -> None:
    table.section("Data sets")
    table.text("dataset", "NAME", "one of those above")
    table.text(
        "manual_dir",
        "DIR",
        "the unpacked downloads: X2/HR, X2/LR, X2/valid/HR, X2/valid/LR of AIM, or DIV2K_train_HR, "
        "DIV2K_train_LR_bicubic/X2, DIV2K_valid_... of DIV2K; in DIR or in DIR/AIM or DIR/DIV2K. What is "
        "missing is listed, with the address where it is",
    )
    table.text("data_dir", "DIR", "where data sets are stored, by default that of TFDS", "")
    table.section("LR images")
    table.whole("make_lr", "the scale", None, 2)
    table.text(
        "hr",
        "DIR",
        "HR images. What they have beyond a multiple of the scale is cut off first, below and right, as for "
        "the classic sets. 16 bits stay 16, transparency is left out",
    )
    table.text("lr", "DIR", "folder for the LR images")
    table.choice(
        "border",
        ["clamp", "mirror"],
        "clamp: the border pixel is repeated, as in the classic sets (Set5, DIV2K); mirror: the image is "
        "mirrored at its border, as in newer MATLAB",
        "clamp",
    )
    table.switch("skip_existing", "leave out images whose LR image exists: resumes an interrupted run")


def _main(values: flags.FlagValues) -> int:
    if (values.dataset is None) == (values.make_lr is None):
        raise UsageError("name either --dataset to build a data set, or --make_lr to make LR images")
    mode, other, needed = "dataset", "make_lr", ("manual_dir",)
    if values.make_lr is not None:
        mode, other, needed = "make_lr", "dataset", ("hr", "lr")
    for name in _FLAGS_OF[other]:
        if values[name].present:
            raise UsageError(f"--{name} belongs to --{other}, it cannot stand beside --{mode}")
    missing = [f"--{name}" for name in needed if not values[name].value]
    if missing:
        raise UsageError(f"{' and '.join(missing)} must be given with --{mode}")
    return _prepare(values) if mode == "dataset" else _make_lr(values)


def _prepare(values: flags.FlagValues) -> int:
    """Builds a data set."""
    manual_dir = _folder(values, "manual_dir")
    command.output_folder(values, "data_dir")

    from realsr_jax.data.tfds_builders import prepare_dataset

    with Progress("checking", "pairs") as progress:
        prepared = prepare_dataset(
            values.dataset,
            manual_dir=manual_dir,
            data_dir=values.data_dir,
            progress=progress.update,
            report=functools.partial(complain, _NAME),
        )
    counts = ", ".join(f"{split} {count:,}" for split, count in prepared.counts.items())
    state = "built" if prepared.is_new else "there already"
    command.say(f"{prepared.name}: {state}; pairs: {counts}; {prepared.folder}")
    place = f", data_dir={values.data_dir!r}" if values.data_dir else ""
    command.say(f"source of a training configuration: Tfds({prepared.name!r}{place})")
    return 0


def _make_lr(values: flags.FlagValues) -> int:
    """Makes LR images; a bad file does not stop the others."""
    hr, lr = _folder(values, "hr"), Path(values.lr).expanduser()
    command.output_folder(values, "lr")

    from realsr_jax.data.lr_images import make_lr_image, plan_lr_images

    plan = plan_lr_images(hr, lr)
    todo = [paths for paths in plan.items() if not (values.skip_existing and paths[0].is_file())]
    lr.mkdir(parents=True, exist_ok=True)
    make = functools.partial(make_lr_image, scale=values.make_lr, border=values.border)
    n_made = 0
    with Progress("reducing", "images") as progress:
        for result in progress.each(in_threads(make, todo, count_threads()), len(todo)):
            n_made += result.is_made
            for line in result.remarks:
                complain(_NAME, line)
    kept = f", {len(plan) - len(todo)} existed already" if len(todo) < len(plan) else ""
    failed = f", {len(todo) - n_made} failed" if n_made < len(todo) else ""
    command.say(f"{n_made} of {len(todo)} images reduced by {values.make_lr}{kept}{failed}; {lr}")
    return 1 if failed else 0


def _folder(values: flags.FlagValues, flag: str) -> Path:
    """Returns the folder to read from that a flag names; raises UsageError if it is not there."""
    text = str(values[flag].value)
    path = Path(os.path.expanduser(text))
    if not path.is_dir():
        reason = "is a file; name a folder" if path.exists() else "no such folder"
        raise UsageError(f"--{flag}={text}: {reason}")
    return path


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run(_NAME, __doc__, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
