"""``realsr-upscale``: upscales photos and folders of photos."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from realsr_jax.cli import command
from realsr_jax.cli.inference_flags import define_inference_flags, read_inference_flags, read_paths

_HELP = """\
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

Network
  --weights=DIRS        'default', the network that comes with the package; or a weights directory made by
                        realsr-convert, or the directory of a training run; several, comma-separated, are
                        averaged; 'bicubic' is plain interpolation by 2, as a baseline ('bicubic_x4' by 4)
  --ensemble_weights=W  how much each of several networks counts, such as 2,1,1 (equal)
  --noround_each        average several networks' results in float, not rounded to 8 bits first as published
  --self_ensemble       average over the eight flips and transposes: better, 8 times slower
  --dtype=TYPE          float32, or bfloat16 for accelerators, within a grey level of it
  --guided_filter       smooth the result with the published guided filter
  --config=NAME         a whole run, by bundled name or path of a Python file; with --weights, these
                        directories take the place of the configuration's

Tiles (LR pixels; several sizes, comma-separated, are averaged: crop-ensemble)
  --tile_size=N         side of uniform tiles (256); 0 runs the whole image in one pass
  --tile_overlap=N      what neighbouring tiles share, blended (32)
  --chop_size=N         the published quarter tiling instead, such as --chop_size=450,450 --shave_size=80,10
  --shave_size=N        by how much quarters reach past the half (80)
  --tile_batch=N        tiles that a device runs at once (1 on CPUs, 4 on accelerators)

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
