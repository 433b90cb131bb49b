"""``realsr-train``: trains a network as a configuration file says."""

import dataclasses
import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags

from realsr_jax.cli import command
from realsr_jax.cli.inference_flags import load_config
from realsr_jax.train.train_config import TrainConfig

_HELP = """\
realsr-train: trains a network on all devices; started again with the same directory, it continues.

  realsr-train --config=oaddet_aim --workdir=runs/oaddet_aim
  realsr-train --config=default_x2 --workdir=runs/mine "--config.train[0].hr=photos/" \\
      --config.valid.hr=photos_valid/
  realsr-train --config=my_run.py --workdir=runs/my_run --config.start_from=weights/oaddet

  --config=NAME|PATH     a bundled configuration, or a Python file with get_config()
  --config.FIELD=VALUE   overrides a field, such as --config.schedule.learning_rate=5e-5; --show lists them.
                         --config.valid=none trains without evaluation
  --workdir=DIR          what the run leaves: weights in DIR/best and DIR/latest, checkpoints, log.jsonl,
                         curves.png, tensorboard; DIR serves as --weights of the other commands
  --show                 print the configuration, with its overrides, and stop

Several hosts run the same command on a shared DIR; SLURM and Kubernetes are recognised with --distributed,
elsewhere name the first host:
  --distributed          take part in a run of several processes
  --coordinator=HOST:PORT   where process 0 listens
  --num_processes=N      how many there are
  --process_id=I         which this is, from 0

Ctrl-C and SIGTERM save a checkpoint and end the run.
Exit status: 0 if the run is complete, 1 if it failed, 2 if the command line is wrong, 3 if it was stopped.
"""


_MISSING_CONFIG = "--config is missing: name a bundled configuration, such as default_x2, or a Python file"

_FIELDS = tuple(field.name for field in dataclasses.fields(TrainConfig))

_IN_FLAGS = (int, float, str, bool, tuple[int, ...])
"""Types of the fields that a flag can override."""


def _define_flags(values: flags.FlagValues, argv: Sequence[str]) -> None:
    from ml_collections import config_flags

    if not any(re.match(r"--?config(=|$)", arg) for arg in argv[1:]):
        raise command.UsageError(_MISSING_CONFIG)
    overrides = [arg for arg in argv[1:] if re.match(r"--?(no)?config\.", arg)]
    without_valid = [arg for arg in argv if not re.match(r"--?config\.valid(=|$)", arg)]

    def load(name: str) -> TrainConfig:
        try:
            config = _load(name)
            for arg in overrides:
                _check_override(config, arg)
            return config
        except ValueError as error:  # absl would put the flag in front of the message once more
            raise flags.Error(str(error)) from error

    config_flags.DEFINE_config_dataclass(
        "config", TrainConfig(), flag_values=values, sys_argv=without_valid, parse_fn=load
    )
    flags.DEFINE_string("config.valid", None, "Only 'none'.", flag_values=values)
    flags.DEFINE_string("workdir", None, "The run's directory.", flag_values=values)
    flags.DEFINE_bool("show", False, "Print the configuration.", flag_values=values)
    flags.DEFINE_bool("distributed", False, "Several processes.", flag_values=values)
    flags.DEFINE_string("coordinator", None, "Address of process 0.", flag_values=values)
    flags.DEFINE_integer("num_processes", None, "How many.", lower_bound=1, flag_values=values)
    flags.DEFINE_integer("process_id", None, "Which.", lower_bound=0, flag_values=values)
    for arg in argv[1:]:
        if re.match(rf"--?({'|'.join(_FIELDS)})(=|$)", arg):
            raise command.UsageError(
                f"{arg}: is a field of the configuration, write --config.{arg.lstrip('-')}"
            )


def _load(name: str) -> TrainConfig:
    config = load_config(name)
    if not isinstance(config, TrainConfig):
        raise command.UsageError(f"--config={name}: describes no training run")
    return config


def _check_override(config: TrainConfig, arg: str) -> None:
    """Raises UsageError, in plain words, for an override of what the configuration does not have."""
    flag, _, value = arg.partition("=")
    if re.fullmatch(r"--?config\.valid", flag):
        if value.lower() != "none" and arg != flag:
            raise command.UsageError(
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
                raise command.UsageError(f"{arg}: {reached} has {count or 'no'} entries, counted from 0")
            target, kind = target[int(step[1:-1])], None
            reached += step
        else:
            fields = (
                {field.name: field.type for field in dataclasses.fields(target)}
                if _has_fields(target)
                else {}
            )
            if step not in fields:
                close = difflib.get_close_matches(step, fields, 1)
                guess = f"did you mean {reached}.{close[0]}? " if close else ""
                raise command.UsageError(f"{arg}: {guess}{reached} {_described(target, fields)}")
            target, kind = getattr(target, step), fields[step]
            reached += f".{step}"
    if kind not in _IN_FLAGS:
        raise command.UsageError(
            f"{arg}: {reached} {_described(target, {})}; override its fields, or choose another in a "
            "configuration file"
        )


def _has_fields(target: Any) -> bool:
    return dataclasses.is_dataclass(target) and not isinstance(target, type)


def _described(target: Any, fields: dict[str, Any]) -> str:
    """Says what an override met instead of the field that it names."""
    if isinstance(target, tuple):
        return f"is a list of {len(target)}, whose entries are [0], [1] and so on"
    if fields:
        return f"is {type(target).__name__}, which has the fields {', '.join(fields)}"
    return f"is {type(target).__name__ if _has_fields(target) else repr(target)}"


def _main(values: flags.FlagValues) -> int:
    config = values.config
    if values["config.valid"].value is not None:
        config.valid = None
    if values.show:
        import json

        from realsr_jax.train.run_config import describe

        command.say(json.dumps(describe(config), indent=2))
        return 0
    workdir = command.output_folder(values, "workdir")
    if workdir is None:
        raise command.UsageError("--workdir is missing: name a directory for the run")
    try:
        config.validate()
    except (ValueError, TypeError, AttributeError) as error:
        raise command.UsageError(str(error)) from error
    with command.ended_by_interrupt("realsr-train"):  # until the first step; then `train` notes the signal
        _join_processes(values)
        command.start_jax()

        from realsr_jax.train.loop import train

        result = train(config, workdir, say=command.say)
    return 0 if result.is_complete else 3


def _join_processes(values: flags.FlagValues) -> None:
    """Joins the other processes of the run, if there are any."""
    named = [
        name for name in ("coordinator", "num_processes", "process_id") if values[name].value is not None
    ]
    if not named and not values.distributed:
        return
    if named and len(named) < 3:
        raise command.UsageError("--coordinator, --num_processes and --process_id must be given together")
    import jax

    try:
        jax.distributed.initialize(
            coordinator_address=values.coordinator,
            num_processes=values.num_processes,
            process_id=values.process_id,
        )
    except Exception as error:  # of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise command.UsageError(
            f"the processes cannot be joined: {reason}; give --coordinator, --num_processes and --process_id"
        ) from error


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    arguments = sys.argv if argv is None else list(argv)
    return command.run("realsr-train", _HELP, lambda values: _define_flags(values, arguments), _main, argv)


if __name__ == "__main__":
    sys.exit(run())
