"""realsr-evaluate: scores a network, or a folder of results, against true images.

  realsr-evaluate --lr=valid/LR --hr=valid/HR --report=report
  realsr-evaluate --lr=Set5/LR_bicubic/X2 --hr=Set5/HR_X2 --weights=bicubic --protocol=benchmark
  realsr-evaluate --lr='photos/*_small.png' --hr='photos/*_large.png'
  realsr-evaluate --sr=results --hr=valid/HR --scale=2 --json=scores.json

Exit status: 0 if every image was scored, 1 if one was not, 2 if the command line is wrong.
"""

import functools
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from absl import flags

from realsr_jax.cli import command
from realsr_jax.cli.inference_flags import define_inference_flags, read_inference_flags
from realsr_jax.system.errors import UsageError
from realsr_jax.system.files import write_atomically
from realsr_jax.system.jax_startup import ended_by_interrupt, start_jax
from realsr_jax.system.terminal import complain, say
from realsr_jax.upscaling.inference_config import InferenceConfig

if TYPE_CHECKING:
    from realsr_jax.evaluate.image_pairs import ImagePair
    from realsr_jax.evaluate.protocols import Evaluation
    from realsr_jax.evaluate.scoring import Upscale

_NAME = "realsr-evaluate"


def _define_flags(table: command.FlagTable) -> None:
    table.section("Files (files, folders and quoted patterns, comma-separated)")
    table.note(
        "Matched by name, less endings such as _HR, _LR, _SR and x2; under a pattern with one star, by what "
        "that stands for."
    )
    table.texts(
        "hr",
        "PATHS",
        "true images; what they have beyond a multiple of the scale is cut off, below and right",
    )
    table.texts(
        "lr", "PATHS", "small images: what the network upscales; beside --sr, for the bicubic baseline"
    )
    table.texts("sr", "PATHS", "restored images, in place of a network")
    table.whole("scale", "beside --sr without --lr: the factor between LR and HR", least=1)
    table.section("Scores (on 8-bit values; 16 bits are rounded, transparency is ignored)")
    table.choice(
        "protocol",
        ("aim", "benchmark"),
        "aim: SSIM of RGB, a border of scale + 6 pixels is left out, the AIM score decides; benchmark, as "
        "for Set5: SSIM of the luma, a border of scale, PSNR-Y decides (of grey HR, the luma is its values)",
        "aim",
    )
    table.whole("border", "leave out N pixels on each side instead", least=0)
    table.section("Output")
    table.text("json", "FILE", 'all figures; what is infinite, as of identical images, is the string "inf"')
    table.text(
        "report",
        "DIR",
        "index.html with figures and pictures, about 1 MB a megapixel: before/after slider, zoom on the "
        "region of the greatest error; one file, to be opened from anywhere",
    )
    define_inference_flags(table)


def _main(values: flags.FlagValues) -> int:
    inputs = {role: paths for role in ("hr", "lr", "sr") if (paths := command.read_paths(values, role))}
    config = _read_config(values, inputs)
    json_path, report = command.output_file(values, "json"), command.output_folder(values, "report")

    from realsr_jax.evaluate.image_pairs import match_images

    pairs, left_over, n_images = match_images(inputs)
    plan = _make_plan(values, inputs, config, pairs, n_images)
    for problem in left_over:
        complain(_NAME, problem)
    upscale, interpolate = _load(config, plan, pairs, values.tile_batch) if "lr" in inputs else (None, None)

    from realsr_jax.evaluate.report_page import write_report
    from realsr_jax.evaluate.scoring import score_pairs

    done, problems = score_pairs(
        pairs, plan, upscale=upscale, interpolate=interpolate, with_pictures=report is not None
    )
    problems = [*left_over, *problems]
    if json_path is not None:
        document = done.as_json() | {"problems": problems}
        write_atomically(json_path, json.dumps(document, indent=2, allow_nan=False) + "\n")
    if report is not None and done.results:
        say(f"report: {write_report(report, done)}")
    return 1 if problems else 0


def _read_config(values: flags.FlagValues, inputs: Mapping[str, Sequence[str]]) -> InferenceConfig | None:
    """Returns the networks to score, or None if there are results already.

    Raises:
        UsageError: if flags are missing or contradict each other.
    """
    command.required(values, hr="name the true images or their folder")
    if "sr" in inputs:
        network = command.FlagTable()
        define_inference_flags(network)
        for name in network.values:
            if values[name].present:
                raise UsageError(f"--{name} runs a network, which cannot stand beside --sr")
        return None
    if "lr" not in inputs:
        raise UsageError("name --lr to score a network, or --sr to score its results")
    if values.scale is not None:
        raise UsageError("--scale cannot stand beside --weights or --config, which decide it")
    return read_inference_flags(values)


def _make_plan(
    values: flags.FlagValues,
    inputs: Mapping[str, Sequence[str]],
    config: InferenceConfig | None,
    pairs: "Sequence[ImagePair]",
    n_images: int,
) -> "Evaluation":
    """Returns an evaluation without results; scale and border from wherever they can be known."""
    from realsr_jax.evaluate.protocols import Evaluation, Protocol
    from realsr_jax.evaluate.scoring import scale_of_results

    if config is not None:
        scale, subject = config.runs[0].scale, ",".join(run.weights for run in config.runs)
    else:
        scale = scale_of_results(pairs) if values.scale is None and "lr" in inputs else values.scale
        subject = ",".join(inputs["sr"])
    protocol, border = Protocol(values.protocol), values.border
    if border is None:
        if scale is None:
            raise UsageError(
                "the scale, on which the border depends, is unknown: pass --scale, --lr or --border"
            )
        border = protocol.border(scale)
    return Evaluation(subject, protocol, scale, border, (), n_images)


def _load(
    config: InferenceConfig | None,
    plan: "Evaluation",
    pairs: "Sequence[ImagePair]",
    tile_batch: int | None,
) -> tuple["Upscale | None", "Upscale"]:
    """Returns what makes SR of LR, if there is a network, and what interpolates."""
    with ended_by_interrupt(_NAME):
        start_jax()
        from realsr_jax.upscaling import photo_upscaling as upscaling

        assert plan.scale is not None
        upscale = functools.partial(upscaling.upscale_photo, format="PNG")
        interpolate = functools.partial(upscale, upscaler=upscaling.interpolator(plan.scale))
        if config is None:
            return None, interpolate
        photos = (pair.lr for pair in pairs if pair.lr is not None)
        upscaler = upscaling.load_inference(config, tile_batch=tile_batch, photos=photos)
        smoothing = upscaling.make_smoothing(config)
    return functools.partial(upscale, upscaler=upscaler, smoothing=smoothing), interpolate


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run(_NAME, __doc__, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
