"""EDSR's checkpoints: those fine-tuned for AIM 2020, and the official ones, which pad zeros."""

from collections.abc import Iterator, Sequence

from realsr_jax.convert.rules import (
    CheckpointLayout,
    Rule,
    StateDict,
    conv,
    count_layers,
    mean_colours,
    mean_convolutions,
    read_scale,
    upsampler,
)
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.layers import RGB_MEAN

OFFICIAL_FILES = {
    "1bc9523228fdc3b0a5ddb0d7062001e22b31bbb398ae09cfdefb97e8ee06e171": "EDSR baseline x2",
    "abf2a44e7a137228efa42a4264a23e12603168d43ac7596b1adef40c649b9240": "EDSR baseline x3",
    "6b446fab734f4de74448d2fd1f3f990f5bae726e49dc7eff2ae9cefe444a1723": "EDSR baseline x4",
    "0edfb8a3772c94485c939f81a8aeefe02cccdfbf45243c6d22b39c29eb7d46de": "EDSR x2 (paper size)",
    "ea3ef2c6449845ac3bda7290480af76a53e5006beff60bf89c84ca62f986eeca": "EDSR x3 (paper size)",
    "4f62e9ef1a4ec6a7d3da4ed837116cec641e4e1566f98187151d813e83a0c1c8": "EDSR x4 (paper size)",
}
"""Names of the files that EDSR's authors published, by sha256."""


def _rules(config: EDSRConfig) -> Iterator[Rule]:
    yield from conv("head.0", "head")
    for i in range(config.n_resblocks):
        yield from conv(f"body.{i}.body.0", f"body_{i}_conv1")
        yield from conv(f"body.{i}.body.2", f"body_{i}_conv2")
    yield from conv(f"body.{config.n_resblocks}", "body_end")
    yield from upsampler("tail.0", config.scale, spacing=2)
    yield from conv("tail.1", "tail")


def _read_config(state_dict: StateDict) -> EDSRConfig:
    n_feats = state_dict["head.0.weight"].shape[0]
    return EDSRConfig(
        n_resblocks=count_layers(state_dict, r"body\.(\d+)\.body\.[02]\.\w+"),
        n_feats=n_feats,
        scale=read_scale(state_dict, "tail.0", n_feats),
        res_scale=0.1 if n_feats == 256 else 1.0,
        edge_padding="sub_mean.weight" not in state_dict,
    )


def _mean_shift_forms(config: EDSRConfig) -> Sequence[StateDict]:
    forms = mean_colours(RGB_MEAN), mean_convolutions(RGB_MEAN)
    return forms if config.edge_padding else forms[::-1]


EDSR_LAYOUT = CheckpointLayout(
    rules=_rules,
    recognised_by=("head.0.weight", "body.0.body.0.weight", "tail.0.0.weight", "tail.1.weight"),
    read_config=_read_config,
    mean_shift_forms=_mean_shift_forms,
    official_files=OFFICIAL_FILES,
)
