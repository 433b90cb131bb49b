"""What a network is to the rest of the package: configuration, module and what was published of it."""

import dataclasses
from collections.abc import Callable
from typing import Any

from realsr_jax.system.errors import require, require_types


class ModelConfig:
    """Base of the networks' configurations, dataclasses: the class selects, its fields are the options.

    They are mutable, so that overrides from the command line reach every field, and hashable, so that linen
    modules can hold them; they are validated at construction and again where one is used.

    Attributes:
        scale: output size over input size.
    """

    scale: int

    def __post_init__(self):
        self.validate()

    @property
    def reach(self) -> int | None:
        """How many LR pixels to each side a result depends on at most; None where that is the whole image."""
        return None

    def validate(self) -> None:
        """Raises ValueError, with the reason, if no such network exists."""
        require_types(self)
        require(self.scale in (2, 3, 4), self, "scale", "2, 3 or 4")


def require_sizes(config: Any, *, least_feats: int = 1, why: str = "") -> None:
    """Raises ValueError, with the reason, if a network's blocks or features are none or absurdly many.

    Args:
        config: has `n_resblocks` and `n_feats`.
        least_feats: the fewest features.
        why: reason for them, which continues "at least 8".
    """
    blocks = "at least 1 and at most 256 (published: up to 40)"
    require(1 <= config.n_resblocks <= 256, config, "n_resblocks", blocks)
    features = f"at least {least_feats}{why} and at most 1024 (published: up to 256)"
    require(least_feats <= config.n_feats <= 1024, config, "n_feats", features)


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as the registry holds it.

    Attributes:
        title: its name for people.
        config_class: the class of its configurations; a new one has the published full size.
        module: makes the linen module of a configuration, the type of its features' arithmetic, and whether
            the backward pass computes features again (`build_model`).
        checkpoints: which released files hold it, for people.
        parameters: how many the full size has at scale 2.
        other_sizes: further published configurations, which refusals compare unknown files with.
        not_in_shapes: fields of the configuration on which no parameter depends.
        auto_dtype: what "auto" is on a device with hardware for it: the fastest of "bfloat16",
            "tensorfloat32" and "float32" whose results on photos were measured to differ from those of
            "float32" by less than a quarter of a grey level RMS.
    """

    title: str
    config_class: type[ModelConfig]
    module: Callable[..., Any]
    checkpoints: str
    parameters: int
    other_sizes: tuple[ModelConfig, ...] = ()
    not_in_shapes: tuple[str, ...] = ()
    auto_dtype: str = "float32"

    @property
    def sizes(self) -> tuple[ModelConfig, ...]:
        """All published configurations, the full size first."""
        return self.config_class(), *self.other_sizes
