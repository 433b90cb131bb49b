"""realsr-upscale: upscales photos; transparency, 16 bits, EXIF, colour profile and resolution are kept.

  realsr-upscale --input=photos/ --output=out/
  realsr-upscale -i photo.jpg -o large.png --weights=weights/edsr --self_ensemble
  realsr-upscale -i photos/ -o out/ --config=aim2020_testset        (the published test-set run)

Exit status: 0 if every photo was upscaled, 1 if one was not, 2 if the command line is wrong.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from absl import flags

from realsr_jax.cli import command
from realsr_jax.cli.inference_flags import define_inference_flags, read_inference_flags
from realsr_jax.system.jax_startup import profiled

_FORMATS: Final = ("bmp", "jpeg", "jpg", "png", "tif", "tiff", "webp")


def _define_flags(table: command.FlagTable) -> None:
    table.section("Files")
    table.texts(
        "input",
        "PATHS",
        "files and folders, comma-separated; PNG, JPEG, WebP, TIFF, BMP (a name with a comma wants quotes of "
        "its own: -i '\"a,b.jpg\"')",
        short="i",
    )
    table.text(
        "output", "PATH", "a folder, where results keep their names; or a file, for one input file", short="o"
    )
    table.switch("recursive", "also folders inside folders; the results mirror them")
    table.switch("skip_existing", "leave out photos whose result exists: resumes an interrupted folder")
    table.choice("format", _FORMATS, "png, jpg, webp, tiff or bmp; by default the input's")
    table.text(
        "suffix", "TEXT", "added to the results' names, as in photo_x2.png for --suffix=_x2", default=""
    )
    table.whole("quality", "of JPEG and WebP, 1 to 100 (95)", 95, 1, 100)
    table.text("profile", "DIR", "write a profile of the run, for TensorBoard or xprof, into a folder")
    define_inference_flags(table)


def _main(values: flags.FlagValues) -> int:
    command.required(
        values,
        input="name photos or folders, separated by commas",
        output="name a folder for the results, or a file for one photo",
    )
    config = read_inference_flags(values)

    from realsr_jax.images.photo_jobs import plan_jobs
    from realsr_jax.upscale.photo_files import run_jobs

    jobs = plan_jobs(
        command.read_paths(values, "input"),
        Path(os.path.expanduser(values.output)),
        recursive=values.recursive,
        extension=None if values.format is None else f".{values.format}",
        suffix=values.suffix,
        skip_existing=values.skip_existing,
    )
    with profiled(command.output_folder(values, "profile")):
        return run_jobs(jobs, config, tile_batch=values.tile_batch, quality=values.quality)


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run("realsr-upscale", __doc__, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
