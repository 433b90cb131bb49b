"""DRLN's checkpoints."""

from collections.abc import Iterator

from realsr_jax.convert.rules import CheckpointLayout, Rule, conv, mean_convolutions, read_scale, upsampler
from realsr_jax.models.drln import FEATURES, GROUPS, DRLNConfig
from realsr_jax.models.layers import UNIT_RGB_MEAN


def _rules(config: DRLNConfig) -> Iterator[Rule]:
    yield from conv("head", "head")
    for number in range(1, sum(GROUPS) + 1):
        yield from _block(f"b{number}", f"block_{number}")
        yield from conv(f"c{number}.body.0", f"compress_{number}")
    yield from upsampler("upsample.up.body", config.scale, spacing=3)
    yield from conv("tail", "tail")


def _block(key: str, path: str) -> Iterator[Rule]:
    for i in range(3):
        yield from conv(f"{key}.r{i + 1}.body.0", f"{path}/residual_{i}/conv1")
        yield from conv(f"{key}.r{i + 1}.body.2", f"{path}/residual_{i}/conv2")
    yield from conv(f"{key}.g.body.0", f"{path}/compress")
    for i, dilation in enumerate((3, 5, 7)):
        yield from conv(f"{key}.ca.c{i + 1}.body.0", f"{path}/attention/dilated_{dilation}")
    yield from conv(f"{key}.ca.c4.body.0", f"{path}/attention/excite")


DRLN_LAYOUT = CheckpointLayout(
    rules=_rules,
    recognised_by=("b1.r1.body.0.weight", "c1.body.0.weight", "upsample.up.body.0.weight"),
    read_config=lambda state_dict: DRLNConfig(scale=read_scale(state_dict, "upsample.up.body", FEATURES)),
    mean_shift_forms=lambda _: (mean_convolutions(UNIT_RGB_MEAN, suffix=".shifter"),),
)
