"""``realsr-convert``: PyTorch checkpoint to weights directory and back."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from realsr_jax.cli import command
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.network import ModelConfig
from realsr_jax.weights import (
    ARCHITECTURES,
    architecture_name,
    is_weights,
    load_weights,
    save_weights,
    sha256_of,
)

_HELP = """\
realsr-convert: turns a PyTorch checkpoint into a weights directory, or a weights directory into a checkpoint.

  realsr-convert --input=AIM_DDET_X2.pt --output=weights/oaddet
  realsr-convert --to_torch --input=weights/oaddet --output=oaddet.pt

The network, its sizes, scale and padding are read off the file: OADDet, Deep-OADDet, EDSR and DRLN, in both
PyTorch formats (.pt, .pth) or .safetensors. Nothing in the file is executed and PyTorch is not needed.

  -i, --input=PATH     the checkpoint, or with --to_torch the weights directory
  -o, --output=PATH    the weights directory, or with --to_torch the file: .safetensors, or PyTorch's format
  --to_torch           convert back, with the keys of the original code
  --overwrite          replace an existing output

What is detected can be overridden:
  --model=NAME         oaddet, deep_oaddet, edsr or drln
  --scale=N            refuse the checkpoint unless it has this scale
  --padding=MODE       edge (AIM 2020 checkpoints) or zero (original EDSR); EDSR only
  --res_scale=X        EDSR's residual factor; by default 0.1 with 256 features, else 1
"""


def _define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string("input", None, "Checkpoint or weights directory.", short_name="i", flag_values=values)
    flags.DEFINE_string("output", None, "Weights directory or file.", short_name="o", flag_values=values)
    flags.DEFINE_bool("to_torch", False, "Convert back to PyTorch's layout.", flag_values=values)
    flags.DEFINE_bool("overwrite", False, "Replace an existing output.", flag_values=values)
    flags.DEFINE_enum("model", None, list(ARCHITECTURES), "The network.", flag_values=values)
    flags.DEFINE_integer("scale", None, "The scale.", flag_values=values)
    flags.DEFINE_enum("padding", None, ["edge", "zero"], "Padding of EDSR.", flag_values=values)
    flags.DEFINE_float("res_scale", None, "Residual factor of EDSR.", flag_values=values)


def _main(values: flags.FlagValues) -> int:
    # Conversion computes nothing: JAX, where it is imported, must not occupy a GPU that others use.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if not values.input or not values.output:
        raise command.UsageError("--input and --output must be given; see realsr-convert --help")
    source, target = Path(values.input).expanduser(), Path(values.output).expanduser()
    if not source.exists():
        raise command.UsageError(f"{source}: no such file or directory")
    if target.exists() and not values.overwrite:
        raise command.UsageError(f"{target}: exists already; pass --overwrite to replace it")
    try:
        _dispatch(source, target, values)
    except OSError as error:
        raise ValueError(f"{target}: cannot be written ({error.strerror or error})") from error
    return 0


def _dispatch(source: Path, target: Path, values: flags.FlagValues) -> None:
    if values.to_torch:
        for name in ("model", "scale", "padding", "res_scale"):
            if values[name].value is not None:
                raise command.UsageError(f"--{name} has no meaning with --to_torch: {source} tells it")
        if source.is_file():
            raise command.UsageError(f"{source}: is a file; to convert a checkpoint, leave out --to_torch")
        _convert_back(source, target)
    else:
        if source.is_dir():
            raise command.UsageError(f"{source}: is a directory; to convert weights back, pass --to_torch")
        if target.exists() and not is_weights(target):
            raise command.UsageError(f"{target}: is no weights directory, so --overwrite does not replace it")
        _convert(source, target, values)


def _convert(source: Path, target: Path, values: flags.FlagValues) -> None:
    from realsr_jax.convert.detect import OFFICIAL_EDSR, check, detect
    from realsr_jax.convert.reader import CheckpointError, read_state_dict
    from realsr_jax.convert.rules import to_flax

    try:
        state_dict = read_state_dict(source)
        config = detect(state_dict, ARCHITECTURES.get(values.model))
        if values.scale not in (None, config.scale):
            raise CheckpointError(f"has scale {config.scale}, not {values.scale}")
        config = _override(config, values)
        check(config, state_dict)
    except CheckpointError as error:
        raise CheckpointError(f"{source}: {error}") from error
    sha256 = sha256_of(source)
    provenance = {"source": source.name, "sha256": sha256}
    if sha256 in OFFICIAL_EDSR:
        provenance["known_as"] = OFFICIAL_EDSR[sha256]
    save_weights(target, config, to_flax(config, state_dict), provenance=provenance)
    known_as = f", the official {provenance['known_as']}" if "known_as" in provenance else ""
    command.say(f"{source}: {architecture_name(config)}{known_as}\n{config}\nwritten to {target}")


def _override(config: ModelConfig, values: flags.FlagValues) -> ModelConfig:
    changes: dict[str, bool | float] = {}
    if values.padding is not None:
        changes["edge_padding"] = values.padding == "edge"
    if values.res_scale is not None:
        changes["res_scale"] = values.res_scale
    if changes and not isinstance(config, EDSRConfig):
        raise command.UsageError(
            f"--padding and --res_scale are EDSR's, {values.input} is {architecture_name(config)}"
        )
    try:
        return dataclasses.replace(config, **changes)
    except ValueError as error:
        raise command.UsageError(str(error)) from error


def _convert_back(source: Path, target: Path) -> None:
    from realsr_jax.convert.rules import to_torch
    from realsr_jax.convert.writer import write_safetensors, write_torch

    if target.is_dir() or target.suffix not in (".pt", ".pth", ".safetensors"):
        raise command.UsageError(f"{target}: expected a file to write, named .pt, .pth or .safetensors")
    config, params = load_weights(source)
    write = write_safetensors if target.suffix == ".safetensors" else write_torch
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target, to_torch(config, params))
    command.say(f"{source}: {config}\nwritten to {target}")


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    return command.run("realsr-convert", _HELP, _define_flags, _main, argv)


if __name__ == "__main__":
    sys.exit(run())
