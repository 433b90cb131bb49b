"""Flags that say which networks run and how, and the configuration they make."""

import dataclasses
import importlib
import importlib.machinery
import importlib.util
import math
import os
import re
import types
from pathlib import Path
from typing import Any

from absl import flags

from realsr_jax.cli.command import FlagTable, read_paths
from realsr_jax.system.errors import UsageError
from realsr_jax.upscale.inference_config import InferenceConfig, ModelRun, bicubic_scale
from realsr_jax.upscale.tilings import Tiling, make_tilings
from realsr_jax.weights import read_description

_CONFIG_DECIDES = (
    "tile_size",
    "tile_overlap",
    "chop_size",
    "shave_size",
    "self_ensemble",
    "ensemble_weights",
)
"""Flags that cannot stand beside --config, which says as much for each network."""


def define_inference_flags(table: FlagTable) -> None:
    """Defines the flags."""
    table.section("Network")
    table.texts(
        "weights",
        "DIRS",
        "'default', the network that comes with the package; or a weights directory made by realsr-convert, or "
        "the directory of a training run; several, comma-separated, are averaged; 'bicubic' is plain "
        "interpolation by 2, as a baseline ('bicubic_x4' by 4)",
    )
    table.texts("ensemble_weights", "W", "how much each of several networks counts, such as 2,1,1 (equal)")
    table.switch(
        "round_each", "average several networks' results in float, not rounded to 8 bits first as published", True
    )
    table.switch("self_ensemble", "average over the eight flips and transposes: better, 8 times slower")
    table.choice(
        "dtype",
        ("float32", "bfloat16"),
        "float32, or bfloat16 for accelerators, within a grey level of it",
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
    table.texts("tile_size", "N", "side of uniform tiles (256); 0 runs the whole image in one pass")
    table.texts("tile_overlap", "N", "what neighbouring tiles share, blended (32)")
    table.texts(
        "chop_size", "N", "the published quarter tiling instead, such as --chop_size=450,450 --shave_size=80,10"
    )
    table.texts("shave_size", "N", "by how much quarters reach past the half (80)")
    table.whole("tile_batch", "tiles that a device runs at once (1 on CPUs, 4 on accelerators)", least=1)


def read_inference_flags(values: flags.FlagValues) -> InferenceConfig:
    """Returns the run that the flags describe, with weights directories that exist.

    Raises:
        UsageError: if the flags contradict each other, or name what does not exist or fit together.
    """
    try:
        config = _from_config(values) if values.config is not None else _from_flags(values)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    scales: list[int] = []
    problems: list[str] = []
    for run in config.runs:
        try:
            scales.append(bicubic_scale(run.weights) or read_description(run.weights).scale)
        except ValueError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("; ".join(problems))
    if len(set(scales)) > 1:
        parts = (f"{run.weights} by {scale}" for run, scale in zip(config.runs, scales, strict=True))
        raise UsageError(f"networks of different scales cannot be averaged: {', '.join(parts)}")
    return config


def _from_flags(values: flags.FlagValues) -> InferenceConfig:
    directories = read_paths(values, "weights") or ["default"]
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
    return InferenceConfig(
        runs=tuple(
            ModelRun(directory, tilings, values.self_ensemble, share)
            for directory, share in zip(directories, shares, strict=True)
        ),
        round_each=values.round_each,
        guided_filter=values.guided_filter,
        guided_radius=values.guided_radius,
        guided_eps=values.guided_eps,
        dtype=values.dtype,
    )


def _tilings(values: flags.FlagValues) -> tuple[Tiling, ...]:
    names = ("tile_size", "tile_overlap", "chop_size", "shave_size")
    sizes = {name: _numbers(values, name, int) for name in names if values[name].value is not None}
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
        runs = zip(config.runs, directories, strict=True)
        config = dataclasses.replace(
            config, runs=tuple(dataclasses.replace(run, weights=weights) for run, weights in runs)
        )
    names = ("round_each", "guided_filter", "guided_radius", "guided_eps", "dtype")
    given = {name: values[name].value for name in names if values[name].present}
    return dataclasses.replace(config, **given)


def load_config(name: str) -> Any:
    """Returns what ``get_config()`` of a configuration gives.

    Args:
        name: a bundled configuration's name, or the path of a Python file.

    Raises:
        UsageError: if there is none, or it fails.
    """
    bundled = Path(str(importlib.util.find_spec("realsr_jax.configs").origin)).parent  # pyright: ignore[reportOptionalMemberAccess]
    is_bundled = re.fullmatch(r"[a-z]\w*", name) and (bundled / f"{name}.py").is_file()
    path = Path(os.path.expanduser(name))
    if not is_bundled and not path.is_file():
        names = ", ".join(sorted(file.stem for file in bundled.glob("[!_]*.py")))
        raise UsageError(f"--config={name}: no such file, nor one of the bundled configurations: {names}")
    try:
        module = importlib.import_module(f"realsr_jax.configs.{name}") if is_bundled else _run_file(path)
        return module.get_config()
    except Exception as error:  # a user's file can fail in any way
        raise UsageError(f"--config={name}: {type(error).__name__}: {error}") from error


def _run_file(path: Path) -> types.ModuleType:
    """Returns the module that a Python file makes, whatever its suffix."""
    loader = importlib.machinery.SourceFileLoader(f"realsr_jax_config_{path.stem}", str(path))
    module = types.ModuleType(loader.name)
    module.__file__ = str(path)
    loader.exec_module(module)
    return module
