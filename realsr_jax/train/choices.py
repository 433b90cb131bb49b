"""What a training configuration can be made of, by name, for those who write one."""

import dataclasses
import re
from collections.abc import Iterator

from realsr_jax import losses
from realsr_jax.data.camera import Camera
from realsr_jax.data.sources import Part, Source
from realsr_jax.models import NETWORKS
from realsr_jax.system.errors import did_you_mean
from realsr_jax.train.optimizers import Optimizer, Schedule
from realsr_jax.train.train_config import TrainConfig, ValidationSet


def choices() -> dict[str, list[type]]:
    """Returns all classes that a configuration is made of but for `TrainConfig`, by what they are for."""
    camera = Camera()
    parts = [getattr(camera, field.name) for field in dataclasses.fields(camera)]
    return {
        "Networks, for model=": [network.config_class for network in NETWORKS.values()],
        "Sources, for train=(..., ...) and valid=": list(_below(Source)),
        "Further validation sets, for more_valid=(..., ...)": [ValidationSet],
        "Degradations, for Degraded(camera=Camera(noise=Noise(...)))": [
            Camera,
            *dict.fromkeys(type(part) for part in parts if dataclasses.is_dataclass(part)),
        ],
        "Losses, for losses=(Weighted(L1()), Weighted(SSIM(), 20.0))": list(_below(losses.Loss)),
        "Schedules, for schedule=": list(_below(Schedule)),
        "Optimisers, for optimizer=": list(_below(Optimizer)),
    }


def list_choices() -> str:
    """Returns `choices` as text: modules, and of each class its fields and what it is."""
    lines = []
    for title, classes in choices().items():
        modules = ", ".join(dict.fromkeys(each.__module__ for each in classes))
        lines += ["", f"{title} (from {modules})"]
        for each in classes:
            fields = ", ".join(map(_with_default, dataclasses.fields(each)))  # pyright: ignore[reportArgumentType]
            lines += [f"  {each.__name__}({fields})", f"      {_summary(each)}"]
    return "\n".join(lines).strip("\n")


def explain_name(error: Exception) -> str:
    """Says which name or field an error in a configuration file is about was probably meant; or nothing."""
    text = str(error)
    if field := re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", text):
        return _explain_field(*field.groups())
    pattern = r"cannot import name '(\w+)'|^name '(\w+)' is not defined|module '.*' has no attribute '(\w+)'"
    if not (name := re.search(pattern, text)):
        return ""
    word = next(filter(None, name.groups()))
    if not word[0].isupper():  # no class was meant
        return ""
    known = {each.__name__: each for each in _all_classes()}
    if word in known:
        return f"from {known[word].__module__} import {word}"
    guess = did_you_mean(word, known).strip()
    return guess or "realsr-train --list names what there is"


def _explain_field(owner: str, word: str) -> str:
    """Says which field was meant by one that a class does not have."""
    fields = {each.__name__: [field.name for field in dataclasses.fields(each)] for each in _all_classes()}
    if guess := did_you_mean(word, fields.get(owner, ())):
        return guess.strip()
    others = [f"{name}({word}=...)" for name, names in fields.items() if word in names]
    if others:
        return f"it is a field of {', '.join(others)}"
    return f"{owner} has the fields {', '.join(fields[owner])}" if owner in fields else ""


def _all_classes() -> list[type]:
    chosen = [each for classes in choices().values() for each in classes]
    return [*chosen, TrainConfig, losses.Weighted, Part]


def _below(base: type) -> Iterator[type]:
    """Yields the subclasses of a class, theirs after each."""
    for each in base.__subclasses__():
        yield each
        yield from _below(each)


def _with_default(field: dataclasses.Field) -> str:
    """Returns a field as it stands in a call."""
    if field.default is not dataclasses.MISSING:
        return f"{field.name}={field.default!r}"
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        plain = type(value)
        return f"{field.name}={f'{plain.__name__}()' if value == plain() else repr(value)}"
    return field.name


def _summary(each: type) -> str:
    return (each.__doc__ or "").partition("\n")[0]
