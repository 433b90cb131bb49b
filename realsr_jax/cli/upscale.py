"""realsr-upscale: upscales photos; transparency, 16 bits, EXIF, colour profile and resolution are kept.

  realsr-upscale photo.jpg                      writes photo_x2.jpg beside it
  realsr-upscale photos/                        writes the folder photos_x2 beside it
  realsr-upscale photos/*.jpg more/ -o out/     writes into out/, under the same names
  realsr-upscale photo.jpg -o large.png --weights=weights/edsr --self_ensemble
  realsr-upscale photos/ --config=aim2020_testset        (the published test-set run)
  srun realsr-upscale photos/ -o out/ --distributed      (each process its part)

Results that exist are kept, so that the same command goes on where it was stopped; --overwrite replaces them.
Results of earlier runs are no photos where their originals are named too, nor is the output folder: both are
left out, which is said.
Exit status: 0 if every photo was upscaled, 1 if one that was named was not, 2 if the command line is wrong.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from absl import flags

from realsr_jax.cli import command
from realsr_jax.cli.inference_flags import define_inference_flags, read_inference_flags
from realsr_jax.cli.shard_flags import define_shard_flags, read_shard
from realsr_jax.system.errors import UsageError
from realsr_jax.system.jax_startup import profiled, start_jax
from realsr_jax.system.terminal import say
from realsr_jax.upscaling.output_size import OutputSize, parse_size

if TYPE_CHECKING:
    from realsr_jax.evaluate.comparison import Comparison
    from realsr_jax.upscaling.inference_config import InferenceConfig

_FORMATS: Final = ("avif", "bmp", "heic", "jpeg", "jpg", "png", "tif", "tiff", "webp")


def _define_flags(table: command.FlagTable) -> None:
    table.section("Files")
    table.paths(
        "input",
        "PATHS",
        "files, folders and quoted patterns such as 'photos/**/*.jpg', with spaces between them (after "
        "--input=, commas); PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC (pip install pillow-heif), GIF",
        short="i",
    )
    table.text(
        "output",
        "PATH",
        "a folder, where results keep their names; or a file, for one photo (beside what was named: "
        "photo_x2.jpg, photos_x2/)",
        short="o",
    )
    table.switch("recursive", "also folders inside folders; the results mirror them")
    table.switch("overwrite", "replace results that exist")
    table.number("scale", "size of the results over that of the photos, such as 4 or 1.5 (the network's)")
    table.text("size", "WIDTHxHEIGHT", "results just fit into this, such as 3840x2160")
    table.whole("width", "of the results in pixels", None, 1)
    table.number("megapixels", "of the results")
    table.choice(
        "format", _FORMATS, "png, jpg, webp, tiff, bmp, avif or heic; by default the input's (of GIF, png)"
    )
    table.text(
        "suffix", "TEXT", "added to the results' names (_x2, or the network's scale, beside the photo itself)"
    )
    table.whole("quality", "of JPEG, WebP, AVIF and HEIC, 1 to 100 (95)", 95, 1, 100)
    table.text(
        "background", "COLOUR", "lay transparent photos on white, '#102030' or the like, as JPEG demands"
    )
    table.text(
        "report",
        "DIR",
        "index.html to judge the results by eye: before/after slider and zoom, bicubic interpolation and, of "
        "several networks, which then run twice, each beside the result; of large photos, where these differ "
        "most",
    )
    table.text("profile", "DIR", "write a profile of the run, for TensorBoard or xprof, into a folder")
    define_inference_flags(table)
    define_shard_flags(
        table,
        "upscale one part of the photos, the same whenever and wherever it is asked for, so that the same "
        "command finishes the part of a process that was lost",
    )


def _read_size(values: flags.FlagValues) -> OutputSize:
    try:
        size = None if values.size is None else parse_size(values.size)
    except ValueError as error:
        raise UsageError(f"--size: {error}") from error
    try:
        return OutputSize(scale=values.scale, size=size, width=values.width, megapixels=values.megapixels)
    except ValueError as error:
        raise UsageError(str(error).replace("OutputSize: ", "--")) from error


def _main(values: flags.FlagValues) -> int:
    if not values.input:
        raise UsageError("name photos or folders, such as realsr-upscale photo.jpg (more: --help)")
    size = _read_size(values)
    background = _read_colour(values)
    config = read_inference_flags(values)
    shard = read_shard(values)

    from realsr_jax.images.photo_jobs import plan_jobs
    from realsr_jax.images.photo_listing import counted
    from realsr_jax.upscaling.photo_files import run_jobs

    plan = plan_jobs(
        command.read_paths(values, "input"),
        Path(os.path.expanduser(values.output)) if values.output else None,
        label=size.label(config.runs[0].scale),
        recursive=values.recursive,
        extension=None if values.format is None else f".{values.format}",
        suffix=values.suffix,
        overwrite=values.overwrite,
        shard=shard,
    )
    report, profile = (command.output_folder(values, name) for name in ("report", "profile"))
    if shard is not None:  # each process has its own page
        report, profile = (folder and folder / shard.file_name for folder in (report, profile))
    comparison = (
        _make_comparison(config, size, values.tile_batch) if report is not None and plan.todo else None
    )
    try:
        with profiled(profile):
            status = run_jobs(
                plan,
                config,
                size=size,
                tile_batch=values.tile_batch,
                quality=values.quality,
                background=background,
                on_result=None if comparison is None else comparison.add,
            )
    finally:
        if report is not None:
            place = None if comparison is None else comparison.write(report)
            more = f", without {comparison.n_left_out} more" if comparison and comparison.n_left_out else ""
            say(f"report: {place or 'there are no new results to show'}{more}")
    if shard is not None:
        say(f"shard {shard}: {len(plan.jobs):,} of {counted(len(plan.listed), 'photo')}")
    return status


def _make_comparison(config: "InferenceConfig", size: OutputSize, tile_batch: int | None) -> "Comparison":
    start_jax()
    from realsr_jax.evaluate.comparison import Comparison

    return Comparison(config, size, tile_batch=tile_batch)


def _read_colour(values: flags.FlagValues) -> tuple[int, int, int] | None:
    """Returns the colour of --background in RGB, if there is one."""
    if values.background is None:
        return None
    from realsr_jax.images.photo import read_colour

    try:
        return read_colour(values.background)
    except ValueError as error:
        raise UsageError(f"--background={error}") from error


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run("realsr-upscale", __doc__, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
