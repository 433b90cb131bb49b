"""realsr-convert: turns a PyTorch checkpoint into weights, or weights into a checkpoint or an ONNX file.

  realsr-convert --input=AIM_DDET_X2.pt --output=weights/oaddet
  realsr-convert --to_torch --input=weights/oaddet --output=oaddet.pt
  realsr-convert --to_onnx --input=default --output=default.onnx
  realsr-convert --show=weights/oaddet

The network, its sizes, scale and padding are read off the file, in either of PyTorch's formats (.pt, .pth) or
.safetensors. Nothing in the file is executed and PyTorch is not needed.

Exit status: 0 if it worked, 1 if a file cannot be used, 2 if the command line is wrong.
"""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from absl import flags

from realsr_jax.cli import command
from realsr_jax.convert import LAYOUTS
from realsr_jax.models import network_name, network_of
from realsr_jax.models.network import ModelConfig
from realsr_jax.system.errors import UsageError, did_you_mean
from realsr_jax.system.files import remove_leftovers
from realsr_jax.system.terminal import say
from realsr_jax.weights import (
    BUNDLED,
    is_part_of_weights,
    is_weights,
    load_weights,
    read_description,
    save_weights,
    sha256_of,
)

_OVERRIDES: Final = {"padding": "edge_padding", "res_scale": "res_scale"}
"""The fields of configurations that flags override."""


def _define_flags(table: command.FlagTable) -> None:
    table.section("Files")
    table.text(
        "input", "PATH", "the checkpoint; with --to_... weights: a directory, run or 'default'", short="i"
    )
    table.text(
        "output", "PATH", "the weights directory; with --to_... a .pt, .safetensors or .onnx file", short="o"
    )
    table.switch("to_torch", "convert back, with the keys of the original code")
    table.switch(
        "to_onnx",
        "write an ONNX file for other programs: RGB on 0..1, [1, 3, height, width]; needs '.[onnx]'",
    )
    table.switch("overwrite", "replace an existing output")
    table.text("show", "PATH", "say what a checkpoint or weights (a directory, run or 'default') are; alone")
    table.section("What is detected can be overridden")
    table.choice("model", list(LAYOUTS), f"the network: {', '.join(LAYOUTS)}")
    table.whole("scale", "refuse the checkpoint unless it has this scale")
    table.choice("padding", ("edge", "zero"), "edge (AIM 2020 checkpoints) or zero (original EDSR)")
    table.number("res_scale", "EDSR's residual factor; by default 0.1 with 256 features, else 1")


def _main(values: flags.FlagValues) -> int:
    # Conversion computes nothing: JAX, where it is imported, must not occupy a GPU that others use.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if values.show is not None:
        _refuse(values, "--show", "input", "output", "to_torch", "to_onnx", "overwrite")
        _refuse(values, "--show", "model", "scale", *_OVERRIDES)
        _show(os.path.expanduser(values.show))
        return 0
    command.required(values, input="see realsr-convert --help", output="see realsr-convert --help")
    source, target = os.path.expanduser(values.input), Path(os.path.expanduser(values.output))
    if source not in BUNDLED and not os.path.exists(source):
        hint = did_you_mean(source, BUNDLED).strip()
        raise UsageError(f"{source}: no such file or directory{hint and f'; {hint}'}")
    remove_leftovers(target.parent)  # a kill may have left it under another name
    if target.exists() and not values.overwrite:
        raise UsageError(f"{target}: exists already; pass --overwrite to replace it")
    if values.to_torch:
        _refuse(values, "--to_torch", "to_onnx")
    write = _write_checkpoint if values.to_torch else _write_onnx if values.to_onnx else _convert
    try:
        write(source, target, values)
    except OSError as error:
        raise ValueError(f"{target}: cannot be written ({error.strerror or error})") from error
    return 0


def _refuse(values: flags.FlagValues, beside: str, *names: str) -> None:
    """Raises UsageError if one of the flags was given."""
    for name in names:
        if values[name].present:
            raise UsageError(f"--{name} has no meaning with {beside}")


def _convert(source: str, target: Path, values: flags.FlagValues) -> None:
    from realsr_jax.convert.rules import to_flax

    if source in BUNDLED or os.path.isdir(source):
        raise UsageError(f"{source}: is a directory; to convert weights back, pass --to_torch or --to_onnx")
    if target.exists() and not is_weights(target):
        raise UsageError(f"{target}: is no weights directory, so --overwrite does not replace it")
    config, state_dict, provenance = _read_checkpoint(Path(source), values.model, values.scale)
    config = _override(config, values)
    save_weights(target, config, to_flax(config, state_dict), provenance=provenance)
    known_as = f", the official {provenance['known_as']}" if "known_as" in provenance else ""
    say(f"{source}: {network_name(config)}{known_as}", str(config), f"written to {target}")


def _read_checkpoint(
    source: Path, model: str | None = None, scale: int | None = None
) -> tuple[ModelConfig, Any, dict[str, str]]:
    """Returns the network in a file, its state dict, which fits, and what is known of the file."""
    from realsr_jax.convert.detection import check, detect
    from realsr_jax.convert.reader import CheckpointError, read_state_dict
    from realsr_jax.convert.rules import layout_of

    try:
        state_dict = read_state_dict(source)
        config = detect(state_dict, model)
        if scale not in (None, config.scale):
            raise CheckpointError(f"has scale {config.scale}, not {scale}")
        check(config, state_dict)
    except CheckpointError as error:
        error.lines[0] = f"{source}: {error.lines[0]}"
        raise
    provenance = {"source": source.name, "sha256": sha256_of(source)}
    known_as = layout_of(config).official_files.get(provenance["sha256"])
    return config, state_dict, provenance | ({"known_as": known_as} if known_as else {})


def _override(config: ModelConfig, values: flags.FlagValues) -> ModelConfig:
    changes: dict[str, Any] = {
        field: values[flag].value for flag, field in _OVERRIDES.items() if values[flag].present
    }
    for flag, field in _OVERRIDES.items():
        if field in changes and not hasattr(config, field):
            title = network_of(config).title
            raise UsageError(f"--{flag}: {values.input} is {title}, which has no such option")
    if "edge_padding" in changes:
        changes["edge_padding"] = changes["edge_padding"] == "edge"
    try:
        return dataclasses.replace(config, **changes)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _write_checkpoint(source: str, target: Path, values: flags.FlagValues) -> None:
    from realsr_jax.convert.rules import to_torch
    from realsr_jax.convert.writer import write_safetensors, write_torch

    _check_way_back(source, target, values, "--to_torch", (".pt", ".pth", ".safetensors"))
    config, params = load_weights(source)
    write = write_safetensors if target.suffix == ".safetensors" else write_torch
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target, to_torch(config, params))
    say(f"{source}: {config}", f"written to {target}")


def _write_onnx(source: str, target: Path, values: flags.FlagValues) -> None:
    _check_way_back(source, target, values, "--to_onnx", (".onnx",))
    if importlib.util.find_spec("jax2onnx") is None:
        raise UsageError("--to_onnx needs jax2onnx; install it with: pip install jax2onnx (the extra 'onnx')")
    from realsr_jax.convert.onnx_writer import write_onnx

    config, params = load_weights(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_onnx(target, config, params, properties=read_description(source).provenance)
    say(
        f"{source}: {config}",
        f"written to {target}: float32 RGB on 0..1, [1, 3, height, width] to "
        f"[1, 3, {config.scale} * height, {config.scale} * width]",
    )


def _check_way_back(
    source: str, target: Path, values: flags.FlagValues, flag: str, suffixes: tuple[str, ...]
) -> None:
    """Raises UsageError unless weights are to become a file with one of the suffixes."""
    _refuse(values, f"{flag}: {source} tells it", "model", "scale", *_OVERRIDES)
    if os.path.isfile(source):
        raise UsageError(f"{source}: is a file; to convert a checkpoint, leave out {flag}")
    if target.is_dir() or target.suffix not in suffixes:
        *others, last = suffixes
        named = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"{target}: expected a file to write, named {named}")


def _show(path: str) -> None:
    """Prints what a checkpoint, a weights directory or what stands for one is."""
    import jax

    from realsr_jax.convert.rules import to_flax

    if path not in BUNDLED and os.path.isfile(path) and not is_part_of_weights(Path(path)):
        config, state_dict, provenance = _read_checkpoint(Path(path))
        params, kind = to_flax(config, state_dict), "checkpoint, of which every tensor fits"
    else:
        description = read_description(path)
        config, params = load_weights(path)
        provenance, kind = description.provenance, f"weights in {description.path}"
    facts = {
        "network": f"{network_of(config).title} ({network_name(config)})",
        **vars(config),
        "parameters": f"{sum(map(np.size, jax.tree.leaves(params))):,}",
        **provenance,
    }
    say(f"{path}: {kind}", *(f"  {name}: {value}" for name, value in facts.items()))


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run("realsr-convert", __doc__, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
