"""realsr-train: trains a network on all devices; started again with the same directory, it continues.

  realsr-train --config=oaddet_aim --workdir=runs/oaddet_aim
  realsr-train --config=default_x2 --workdir=runs/mine "--config.train[0].hr=photos/" \\
      --config.valid.hr=photos_valid/
  realsr-train --config=my_run.py --workdir=runs/my_run --config.start_from=weights/oaddet

Ctrl-C and SIGTERM save a checkpoint and end the run.
Exit status: 0 if the run is complete, 1 if it failed, 2 if the command line is wrong, 3 if it was stopped.
"""

import contextlib
import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from absl import flags

from realsr_jax.cli import command
from realsr_jax.cli.config_files import load_config
from realsr_jax.system.errors import UsageError, did_you_mean
from realsr_jax.system.jax_startup import ended_by_interrupt, start_jax
from realsr_jax.system.terminal import say
from realsr_jax.train.run_config import describe, without_folders
from realsr_jax.train.train_config import TrainConfig

_PROCESSES: Final = ("coordinator", "num_processes", "process_id")

_FIELDS: Final = tuple(field.name for field in dataclasses.fields(TrainConfig))

_IN_FLAGS: Final = (int, float, str, bool, tuple[int, ...])
"""Types of the fields that a flag can override."""


def _define_flags(table: command.FlagTable, argv: Sequence[str]) -> None:
    table.section("Run")
    _define_config(table, argv)
    table.text(
        "workdir",
        "DIR",
        "what the run leaves: weights in DIR/best (of the highest score) and DIR/latest, checkpoints, log.jsonl, "
        "curves.png, tensorboard; DIR serves as --weights of the other commands",
    )
    table.switch(
        "show", "print the configuration, with its overrides, and the steps of the whole run, and stop"
    )
    table.text(
        "profile", "DIR", "write a profile of five steps, the fourth on, for TensorBoard or xprof, into DIR"
    )
    table.section("Several hosts (all run the same command on a shared DIR)")
    table.switch("distributed", "take part in a run of several processes, as SLURM or Kubernetes tells")
    table.text("coordinator", "HOST:PORT", "elsewhere: where process 0 listens")
    table.whole("num_processes", "how many there are", least=1)
    table.whole("process_id", "which this is, from 0", least=0)


def _define_config(table: command.FlagTable, argv: Sequence[str]) -> None:
    """Defines --config and the overrides of its fields that the command line holds."""
    from ml_collections import config_flags

    table.describe("--config=NAME|PATH", "a bundled configuration, or a Python file with get_config()")
    table.describe(
        "--config.FIELD=VALUE",
        "overrides a field, such as --config.schedule.learning_rate=5e-5; --show lists them. "
        "--config.valid=none trains without evaluation",
    )
    for arg in argv[1:]:
        if re.match(rf"--?({'|'.join(_FIELDS)})(=|$)", arg):
            raise UsageError(f"{arg}: is a field of the configuration, write --config.{arg.lstrip('-')}")
    if argv[1:] and not any(re.match(r"--?config(=|$)", arg) for arg in argv[1:]):
        _miss_config()
    without_valid = [arg for arg in argv if not re.match(r"--?config\.valid(=|$)", arg)]
    config_flags.DEFINE_config_dataclass(
        "config",
        TrainConfig(),
        flag_values=table.values,
        sys_argv=without_valid,
        parse_fn=partial(_load, overrides=[arg for arg in argv[1:] if re.match(r"--?(no)?config\.", arg)]),
    )
    flags.DEFINE_string("config.valid", None, "Only 'none'.", flag_values=table.values)


def _miss_config() -> None:
    raise UsageError(
        "--config is missing: name a bundled configuration, such as default_x2, or a Python file"
    )


def _load(name: str, overrides: Sequence[str]) -> TrainConfig:
    """Returns a configuration, once it is known that it has what is to be overridden."""
    try:
        config = load_config(name)
        if not isinstance(config, TrainConfig):
            raise UsageError(f"--config={name}: describes no training run")
        for arg in overrides:
            _check_override(config, arg)
        return config
    except ValueError as error:  # absl would put the flag in front of the message once more
        raise flags.Error(str(error)) from error


def _check_override(config: TrainConfig, arg: str) -> None:
    """Raises UsageError, in plain words, for an override of what the configuration does not have."""
    flag, _, value = arg.partition("=")
    if re.fullmatch(r"--?config\.valid", flag):
        if value.lower() != "none" and arg != flag:
            raise UsageError(
                f"{arg}: expected 'none'; override single fields, such as --config.valid.hr, or name other "
                "data in a configuration file"
            )
        return
    target: Any = config
    kind: Any = TrainConfig
    reached = "--config"
    for step in re.findall(r"\[[^\]]*\]|[^.\[]+", flag.partition("config.")[2]):
        if step.startswith("["):
            count = len(target) if isinstance(target, tuple) else 0
            if step[1:-1] not in map(str, range(count)):
                raise UsageError(f"{arg}: {reached} has {count or 'no'} entries, counted from 0")
            target, kind = target[int(step[1:-1])], None
            reached += step
        else:
            fields = _fields_of(target)
            if step not in fields:
                guess = did_you_mean(f"{reached}.{step}", [f"{reached}.{name}" for name in fields])
                raise UsageError(f"{arg}: {guess}{reached} {_described(target)}")
            target, kind = getattr(target, step), fields[step]
            reached += f".{step}"
    if kind not in _IN_FLAGS:
        raise UsageError(
            f"{arg}: {reached} is {_shown(target)}; override its fields, or choose another in a "
            "configuration file"
        )


def _fields_of(target: Any) -> dict[str, Any]:
    """Returns the types of a configuration's fields by their names; none of something else."""
    if not dataclasses.is_dataclass(target):
        return {}
    return {field.name: field.type for field in dataclasses.fields(target)}


def _shown(target: Any) -> str:
    return type(target).__name__ if dataclasses.is_dataclass(target) else repr(target)


def _described(target: Any) -> str:
    """Says what an override met instead of the field that it names."""
    if isinstance(target, tuple):
        return f"is a list of {len(target)}, whose entries are [0], [1] and so on"
    fields = _fields_of(target)
    return f"is {_shown(target)}" + (f", which has the fields {', '.join(fields)}" if fields else "")


def _main(values: flags.FlagValues, argv: Sequence[str]) -> int:
    if not values["config"].present:
        _miss_config()
    config = values.config
    if values["config.valid"].value is not None:
        config.valid = None
    if values.show:
        return _show(config)
    command.required(values, workdir="name a directory for the run")
    workdir, profile = (command.output_folder(values, name) for name in ("workdir", "profile"))
    assert workdir is not None
    try:
        config.validate()
    except (ValueError, TypeError, AttributeError) as error:
        raise UsageError(str(error)) from error
    # Until the first step; then `train` notes the signal.
    with ended_by_interrupt("realsr-train"), _joined(values):
        start_jax()

        from realsr_jax.train.loop import train

        told = [without_folders(arg) for arg in argv[1:] if re.match(r"--?(no)?(config\b|workdir)", arg)]
        typed = shlex.join(["realsr-train", *told])
        result = train(config, workdir, say=say, command=typed, profile=profile)
    return 0 if result.is_complete else 3


def _show(config: TrainConfig) -> int:
    import json

    steps = config.expected_steps()
    say(json.dumps(describe(config), indent=2))
    say(f"steps: {'unknown until the data are there' if steps is None else steps}")
    return 0


def _joined(values: flags.FlagValues) -> contextlib.AbstractContextManager[None]:
    """Joins the other processes of the run, if there are any."""
    place = [values[name].value for name in _PROCESSES]
    if any(value is not None for value in place) and None in place:
        raise UsageError("--coordinator, --num_processes and --process_id must be given together")
    if None in place and not values.distributed:
        return contextlib.nullcontext()
    from realsr_jax.system.peers import joined

    return joined(*place)


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = list(sys.argv if argv is None else argv)
    status = command.run(
        "realsr-train", __doc__, _define_flags, lambda values: _main(values, arguments), argv
    )
    if status in (1, 2) and "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized():
        os._exit(status)  # at a regular exit, JAX would wait for the other processes
    return status


if __name__ == "__main__":
    sys.exit(run())
