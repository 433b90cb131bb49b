r"""realsr-train: trains a network on all devices; started again with the same directory, it continues.

  realsr-train --config=oaddet_aim --workdir=runs/oaddet_aim
  realsr-train --config=own_photos_x2 --workdir=runs/mine "--config.train[0].hr=photos/" \
      --config.valid.hr=photos_valid/
  realsr-train --config=my_run.py --workdir=runs/my_run --config.start_from=weights/oaddet

--list names what a configuration can be made of. Ctrl-C and SIGTERM save a checkpoint and end the run.
Exit status: 0 if the run is complete, 1 if it failed, 2 if the command line is wrong, 3 if it was stopped.
"""

import contextlib
import dataclasses
import logging
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, get_args

from absl import flags

from realsr_jax.cli import command
from realsr_jax.cli.config_files import bundled_configs, load_config, read_docstring
from realsr_jax.data.errors import DataError
from realsr_jax.system.errors import UsageError, closest_name
from realsr_jax.system.jax_startup import ended_by_interrupt, start_jax
from realsr_jax.system.processes import count_cores
from realsr_jax.system.terminal import say
from realsr_jax.train.run_config import describe, without_folders
from realsr_jax.train.train_config import TrainConfig

_NO_CONFIG: Final = (
    "--config is missing: name a bundled configuration, such as own_photos_x2, or a Python file (see --list)"
)

_IN_FLAGS: Final = (int, float, str, bool, tuple[int, ...], tuple[int, int], tuple[float, float])
"""Types of the fields that a flag can override."""


def _define_flags(table: command.FlagTable) -> None:
    table.section("Run")
    table.switch(
        "list",
        "print the bundled configurations, and the networks, sources, degradations, losses, schedules and "
        "optimisers that a configuration can name, with their fields, and stop",
    )
    _define_config(table)
    table.text(
        "workdir",
        "DIR",
        "what the run leaves: weights in DIR/best (of the highest score) and DIR/latest, checkpoints, "
        "log.jsonl, curves.png, tensorboard; DIR serves as --weights of the other commands",
    )
    table.switch(
        "show", "print the configuration, with its overrides, and the steps of the whole run, and stop"
    )
    table.text(
        "show_batch",
        "DIR",
        "write the patches of the first step, LR enlarged beside HR, with what was drawn to degrade each "
        "under it, into DIR, and stop",
    )
    table.text(
        "profile", "DIR", "write a profile of five steps, the fourth on, for TensorBoard or xprof, into DIR"
    )
    table.section("Several hosts (all run the same command on a shared DIR)")
    table.switch("distributed", "take part in a run of several processes, as SLURM or Kubernetes tells")
    table.text("coordinator", "HOST:PORT", "elsewhere: where process 0 listens")
    table.whole("num_processes", "how many there are", least=1)
    table.whole("process_id", "which this is, from 0", least=0)
    _check_guesses(table)


def _define_config(table: command.FlagTable) -> None:
    """Defines --config and the overrides of its fields that the command line holds."""
    from ml_collections import config_flags

    table.describe("--config=NAME|PATH", "a bundled configuration, or a Python file with get_config()")
    table.describe(
        "--config.FIELD=VALUE",
        "overrides a field, such as --config.schedule.learning_rate=5e-5; --show lists them. "
        "--config.valid=none trains without evaluation",
    )
    args = table.argv[1:]
    overrides = [arg for arg in args if re.match(r"--?(no)?config\.", arg)]
    if overrides and not any(re.match(r"--?config(=|$)", arg) for arg in args):
        raise UsageError(_NO_CONFIG)
    config_flags.DEFINE_config_dataclass(
        "config",
        TrainConfig(),
        flag_values=table.values,
        sys_argv=list(table.argv),
        parse_fn=partial(_load, overrides=overrides),
    )


def _check_guesses(table: command.FlagTable) -> None:
    """Raises UsageError for a field of the configuration that is written like a flag, well or nearly."""
    fields = _leaves(_paths(TrainConfig(), "--config"))
    for arg in table.argv[1:]:
        name = re.match(r"--?(\w+)(?=[=.[]|$)", arg)
        if name and (near := closest_name(name[1], [*fields, *table.values, "debug"])) in fields:
            raise UsageError(f"{arg}: is no flag, did you mean {fields[near]}{arg[name.end() :]}?")


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
    target, kind, reached = config, None, "--config"
    for step in re.findall(r"\[[^\]]*\]|[^.\[]+", flag.partition("config.")[2]):
        inside = _inside(target)
        if step not in inside:
            guess = _meant_field(config, reached, step, inside)
            raise UsageError(f"{arg}: {guess}{reached} is {_described(target, inside)}")
        target, kind = inside[step]
        reached += step if step.startswith("[") else f".{step}"
    choices = "a configuration file"
    if type(None) in get_args(kind):
        if value.lower() == "none":
            return
        choices = "a configuration file, or 'none'"
    if kind not in _IN_FLAGS:
        what = _described(target, {})
        raise UsageError(f"{arg}: {reached} is {what}; override its fields, or choose another in {choices}")


def _meant_field(config: TrainConfig, reached: str, step: str, inside: Collection[str]) -> str:
    """Says which field was probably meant by one that is not where an override looked for it; or nothing."""
    if step.startswith("["):
        return ""
    elsewhere = list(_paths(config, "--config"))
    meant = [path for path in elsewhere if path.endswith(f".{step}")]
    leaves = _leaves(elsewhere)
    if not meant and (near := closest_name(step, inside)):
        meant = [f"{reached}.{near}"]
    elif not meant and (near := closest_name(step, leaves)):
        meant = [leaves[near]]
    return f"did you mean {' or '.join(meant[:3])}? " if meant else ""


def _paths(target: Any, reached: str) -> Iterator[str]:
    """Yields the paths of all fields inside a configuration, by the names that overrides use."""
    for step, (entry, _) in _inside(target).items():
        path = reached + (step if step.startswith("[") else f".{step}")
        yield path
        yield from _paths(entry, path)


def _leaves(paths: Iterable[str]) -> dict[str, str]:
    """Returns the first of the paths of fields for each name that they end in."""
    return {path.rpartition(".")[2]: path for path in reversed(list(paths))}


def _inside(target: Any) -> dict[str, tuple[Any, Any]]:
    """Returns what a configuration consists of, by the names that overrides use, with the fields' types."""
    if isinstance(target, tuple):
        return {f"[{index}]": (entry, None) for index, entry in enumerate(target)}
    if not dataclasses.is_dataclass(target):
        return {}
    return {field.name: (getattr(target, field.name), field.type) for field in dataclasses.fields(target)}


def _described(target: Any, inside: Collection[str]) -> str:
    """Says what an override met instead of the field that it names."""
    if isinstance(target, tuple):
        return f"a list of {len(target)}, whose entries are {', '.join(inside)}"
    name = type(target).__name__ if dataclasses.is_dataclass(target) else repr(target)
    return f"{name}, which has the fields {', '.join(inside)}" if inside else name


def _main(values: flags.FlagValues, argv: Sequence[str]) -> int:
    if values["list"].value:
        return _list()
    if not values["config"].present:
        raise UsageError(_NO_CONFIG)
    config, named = values.config, _config_named(argv)
    try:
        config.validate()
    except ValueError as error:
        raise UsageError(f"--config={named}: {error}") from error
    if values.show:
        return _show(config)
    if folder := command.output_folder(values, "show_batch"):
        with _told_where_to_get_data(named):
            return _show_batch(config, folder)
    command.required(values, workdir="name a directory for the run")
    workdir, profile = (command.output_folder(values, name) for name in ("workdir", "profile"))
    told = [without_folders(arg) for arg in argv[1:] if re.match(r"--?(no)?(config\b|workdir)", arg)]
    # Until the first step; then `train` notes the signal.
    with (
        ended_by_interrupt("realsr-train"),
        _told_where_to_get_data(named),
        _joined(values) as n_cores,
    ):
        start_jax(cpu_devices=n_cores)  # each core computes its share of a batch

        from realsr_jax.train.loop import train

        logging.getLogger("absl").disabled = True  # what Orbax says of errors that it raises too
        typed = shlex.join(["realsr-train", *told])
        result = train(config, cast(Path, workdir), say=say, command=typed, profile=profile)
    return 0 if result.is_complete else 3


def _config_named(argv: Sequence[str]) -> str:
    """Returns what a command line, which holds it, gives for --config."""
    named = (re.fullmatch(r"--?config(?:=(.*))?", arg) for arg in argv)
    *_, last = (
        (argv[place + 1] if found[1] is None else found[1]) for place, found in enumerate(named) if found
    )
    return last


def _list() -> int:
    from realsr_jax.train.choices import list_choices

    say("Configurations, for --config=NAME, whose --show prints all fields (realsr_jax/configs/NAME.py)")
    for name in bundled_configs():
        say(f"  {name:20} {read_docstring(name).partition(chr(10))[0]}")
    say("", *list_choices().splitlines())
    return 0


@contextlib.contextmanager
def _told_where_to_get_data(name: str) -> Iterator[None]:
    """Adds to an error about missing data what the configuration's file says about them."""
    try:
        yield
    except DataError as error:
        data = re.search(r"^Data: (.*(?:\n .*)*)", read_docstring(name), re.MULTILINE)
        missing = [] if data is None else re.findall(r"\bdata/[\w/]*\w", data[1])
        is_about_it = any(place in str(error) and not os.path.exists(place) for place in missing)
        if data is None or not is_about_it or "http" in str(error):
            raise
        raise DataError(f"{error}; needed: {' '.join(data[1].split())}") from error


def _show(config: TrainConfig) -> int:
    import json

    steps = config.expected_steps()
    say(*json.dumps(describe(config), indent=2).splitlines())
    say(f"steps: {'unknown until the data are there' if steps is None else steps}")
    return 0


def _show_batch(config: TrainConfig, folder: Path) -> int:
    from realsr_jax.data.show_batch import write_batch
    from realsr_jax.train.loop import open_training_pairs

    pairs = open_training_pairs(config, config.train, say, patch_size=config.patch_size)
    options = {name: getattr(config, name) for name in ("patch_size", "batch_size", "seed", "augment")}
    say(f"{write_batch(pairs, folder, **options)} patches of the first step in {folder}")
    return 0


def _joined(values: flags.FlagValues) -> contextlib.AbstractContextManager[int]:
    """Joins the other processes of the run, if there are any; gives the number of cores for this one."""
    place = [values[name].value for name in ("coordinator", "num_processes", "process_id")]
    if None in place and place.count(None) < len(place):
        raise UsageError("--coordinator, --num_processes and --process_id must be given together")
    if None in place and not values.distributed:
        return contextlib.nullcontext(count_cores())
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
