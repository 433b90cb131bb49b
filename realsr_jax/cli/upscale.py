"""``realsr-upscale``: upscales photos and folders of photos."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from realsr_jax.cli import command
from realsr_jax.cli.inference_flags import (
    NETWORK_HELP,
    define_inference_flags,
    read_inference_flags,
    read_paths,
)

_HELP = f"""\
realsr-upscale: upscales photos; colours, transparency, 16 bits, EXIF, colour profile and resolution are kept.

  realsr-upscale --input=photos/ --output=out/
  realsr-upscale -i photo.jpg -o large.png --weights=weights/edsr --self_ensemble
  realsr-upscale -i photos/ -o out/ --config=aim2020_testset        (the published test-set run)

Files
  -i, --input=PATHS     files and folders, comma-separated; PNG, JPEG, WebP, TIFF, BMP
                        (a name with a comma wants quotes of its own: -i '"a,b.jpg"')
  -o, --output=PATH     a folder, where results keep their names; or a file, for one input file
  --recursive           also folders inside folders; the results mirror them
  --skip_existing       leave out photos whose result exists: resumes an interrupted folder
  --format=NAME         png, jpg, webp, tiff or bmp; by default the input's
  --suffix=TEXT         added to the results' names, as in photo_x2.png for --suffix=_x2
  --quality=N           of JPEG and WebP, 1 to 100 (95)

{NETWORK_HELP}
Exit status: 0 if every photo was upscaled, 1 if one was not, 2 if the command line is wrong.
"""

_FORMATS = {
    "png": "PNG",
    "jpg": "JPEG",
    "jpeg": "JPEG",
    "webp": "WEBP",
    "tif": "TIFF",
    "tiff": "TIFF",
    "bmp": "BMP",
}


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_list("input", None, "Files and folders.", short_name="i", flag_values=values)
    flags.DEFINE_string("output", None, "Folder or file.", short_name="o", flag_values=values)
    flags.DEFINE_bool("recursive", False, "Search folders inside folders.", flag_values=values)
    flags.DEFINE_bool("skip_existing", False, "Leave out photos whose result exists.", flag_values=values)
    flags.DEFINE_enum("format", None, sorted(_FORMATS), "Format of the results.", flag_values=values)
    flags.DEFINE_string("suffix", "", "Added to the results' names.", flag_values=values)
    flags.DEFINE_integer("quality", 95, "JPEG and WebP quality.", 1, 100, flag_values=values)
    define_inference_flags(values)


def _main(values: flags.FlagValues) -> int:
    inputs, output = read_paths(values, "input"), values.output
    if not inputs:
        raise command.UsageError("--input is missing: name photos or folders, separated by commas")
    if not output:
        raise command.UsageError(
            "--output is missing: name a folder for the results, or a file for one photo"
        )
    config = read_inference_flags(values)

    from realsr_jax.cli.photo_jobs import plan_jobs, run_jobs

    jobs = plan_jobs(
        inputs,
        Path(os.path.expanduser(output)),
        recursive=values.recursive,
        format=None if values.format is None else _FORMATS[values.format],
        extension=None if values.format is None else f".{values.format}",
        suffix=values.suffix,
        skip_existing=values.skip_existing,
    )
    return run_jobs(jobs, config, tile_batch=values.tile_batch, quality=values.quality)


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run("realsr-upscale", _HELP, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
