"""Flags that say which networks run and how, and the configuration they make."""

import dataclasses
import math
import os
from typing import Any, Final

from absl import flags

from realsr_jax.cli.command import FlagTable, read_paths
from realsr_jax.cli.config_files import load_config
from realsr_jax.models.precision import DTYPES
from realsr_jax.system.errors import UsageError
from realsr_jax.upscaling.inference_config import DEFAULT, InferenceConfig, ModelRun
from realsr_jax.upscaling.tilings import Tiling, make_tilings

_SIZES: Final = ("tile_size", "tile_overlap", "chop_size", "shave_size")

_CONFIG_DECIDES: Final = (*_SIZES, "self_ensemble", "ensemble_weights")
"""Flags that cannot stand beside --config, which says as much for each network."""

_WHOLE_RUN: Final = (
    "round_each",
    "denoise",
    "strength",
    "guided_filter",
    "guided_radius",
    "guided_eps",
    "dtype",
)
"""Flags of the names of fields in `InferenceConfig`."""


def define_inference_flags(table: FlagTable) -> None:
    """Defines the flags."""
    table.section("Network")
    table.texts(
        "weights",
        "DIRS",
        "'default', for photos as they are found, or 'clean', for faithful images such as scans and renders, "
        "which come with the package; a weights directory made by realsr-convert; or the directory of a "
        "training run; several, comma-separated, are averaged; 'bicubic' is plain interpolation by 2, as a "
        "baseline ('bicubic_x4' by 4)",
    )
    table.texts("ensemble_weights", "W", "how much each of several networks counts, such as 2,1,1 (equal)")
    table.switch(
        "round_each",
        "average several networks' results in float, not rounded to 8 bits first as published",
        True,
    )
    table.number("denoise", "0 to 1: how far the default network removes noise and compression (1)", 1.0)
    table.number("strength", "0 to 1: from plain bicubic interpolation to all that the network does (1)", 1.0)
    table.switch("self_ensemble", "average over the eight flips and transposes: better, 8 times slower")
    table.choice(
        "dtype",
        DTYPES,
        "float32; tensorfloat32, a GPU's shorter products; bfloat16, shorter numbers; or auto, the fastest "
        "of them on this device within a quarter of a grey level RMS of float32",
        "float32",
    )
    table.switch("guided_filter", "smooth the result with the published guided filter")
    table.whole("guided_radius", "half the side of its window, in pixels (10)", 10, 1)
    table.number("guided_eps", "its regularisation, in squared grey levels; larger is smoother (10)", 10.0)
    table.text(
        "config",
        "NAME",
        "a whole run, by bundled name or path of a Python file; with --weights, these directories take the "
        "place of the configuration's",
    )
    table.section("Tiles (LR pixels; several sizes, comma-separated, are averaged: crop-ensemble)")
    table.texts(
        "tile_size",
        "N",
        "side of square tiles (tiles that fit the image); 0 runs the whole image in one pass",
    )
    table.texts("tile_overlap", "N", "what neighbours share, blended (what the network sees, at most 32)")
    table.texts(
        "chop_size",
        "N",
        "the published quarter tiling instead, such as --chop_size=450,450 --shave_size=80,10",
    )
    table.texts("shave_size", "N", "by how much tiles of that reach past the half (80)")
    table.whole(
        "tile_batch",
        "tiles that a device runs at once (1 for each core of a CPU, on accelerators what the memory holds)",
        least=1,
    )


def read_inference_flags(values: flags.FlagValues) -> InferenceConfig:
    """Returns the run that the flags describe, with weights directories that exist.

    Raises:
        UsageError: if the flags contradict each other, or name what does not exist or fit together.
    """
    try:
        config = InferenceConfig(_runs(values)) if values.config is None else _from_config(values)
        given = {name: values[name].value for name in _WHOLE_RUN if values[name].present}
        config = dataclasses.replace(config, **given)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _check_published(config, values.config)
    scales: dict[str, int] = {}
    problems: list[str] = []
    for run in config.runs:
        try:
            scales[run.weights] = run.scale
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("; ".join(problems))
    if config.denoise < 1 and DEFAULT not in scales:
        raise UsageError(f"--denoise is of the network {DEFAULT!r} and not of {', '.join(scales)}")
    if len(set(scales.values())) > 1:
        differing = ", ".join(f"{weights} by {scale}" for weights, scale in scales.items())
        raise UsageError(f"networks of different scales cannot be averaged: {differing}")
    return config


def _runs(values: flags.FlagValues) -> tuple[ModelRun, ...]:
    directories = read_paths(values, "weights") or [DEFAULT]
    for directory in directories:
        if directories.count(directory) > 1:
            raise UsageError(
                f"--weights names {directory} twice; to let it count more, use --ensemble_weights"
            )
    shares = _numbers(values, "ensemble_weights", float) or (1.0,) * len(directories)
    if len(shares) != len(directories):
        raise UsageError(f"--ensemble_weights has {len(shares)} numbers for {len(directories)} networks")
    if not all(0 < share < math.inf for share in shares):
        raise UsageError(f"{_shown(values, 'ensemble_weights')}: expected numbers above 0")
    tilings = _tilings(values)
    return tuple(
        ModelRun(directory, tilings, values.self_ensemble, share)
        for directory, share in zip(directories, shares, strict=True)
    )


def _tilings(values: flags.FlagValues) -> tuple[Tiling, ...]:
    sizes = {name: _numbers(values, name, int) for name in _SIZES if values[name].value is not None}
    if "tile_size" in sizes:
        sizes["tile_size"] = tuple(size or None for size in sizes["tile_size"])
    try:
        return make_tilings(**sizes)
    except ValueError as error:
        given = " ".join(_shown(values, name) for name in sizes)
        reason = str(error).replace("UniformTiles: ", "--tile_").replace("QuarterTiles: ", "--")
        raise UsageError(f"{given}: {reason}") from error


def _numbers(values: flags.FlagValues, name: str, kind: type) -> tuple[Any, ...]:
    try:
        return tuple(kind(text) for text in values[name].value or ())
    except ValueError:
        wanted = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{_shown(values, name)}: expected {wanted}, separated by commas") from None


def _shown(values: flags.FlagValues, name: str) -> str:
    """Returns a list flag as the user writes it."""
    return f"--{name}={','.join(values[name].value or ())}"


def _check_published(config: InferenceConfig, name: str | None) -> None:
    """Raises UsageError that says which published networks are missing, and how each is made."""
    missing = [run for run in config.runs if run.checkpoint and not os.path.exists(run.weights)]
    if missing:
        directories = ", ".join(run.weights for run in missing)
        commands = "; ".join(
            f"realsr-convert --input={run.checkpoint} --output={run.weights}" for run in missing
        )
        raise UsageError(
            f"--config={name}: {len(missing)} of {len(config.runs)} networks are missing: {directories}; "
            f"convert their files: {commands}"
        )


def _from_config(values: flags.FlagValues) -> InferenceConfig:
    for name in _CONFIG_DECIDES:
        if values[name].present:
            raise UsageError(f"--{name} cannot stand beside --config, which decides it for each network")
    config = load_config(values.config)
    if not isinstance(config, InferenceConfig):
        raise UsageError(f"--config={values.config}: describes no inference run")
    directories = read_paths(values, "weights")
    if directories:
        if len(directories) != len(config.runs):
            raise UsageError(
                f"--weights names {len(directories)} directories, "
                f"--config={values.config} needs {len(config.runs)}, "
                f"in place of {', '.join(run.weights for run in config.runs)}"
            )
        pairs = zip(config.runs, directories, strict=True)
        runs = tuple(dataclasses.replace(run, weights=weights, checkpoint="") for run, weights in pairs)
        config = dataclasses.replace(config, runs=runs)
    return config
