"""OADDet's checkpoints; Deep-OADDet's differ in the head."""

import math
from collections.abc import Callable, Iterator

from realsr_jax.convert.rules import (
    CheckpointLayout,
    Rule,
    StateDict,
    conv,
    count_layers,
    dense,
    mean_colours,
)
from realsr_jax.models.layers import RGB_MEAN
from realsr_jax.models.oaddet import OADDetConfig


def attention(key: str, path: str) -> Iterator[Rule]:
    """Yields the rules of channel attention, whose second gate the published code never uses."""
    for mlp, gate in (("mlp0", "gate"), ("mlp1", "unused_gate")):
        for number, name in ((1, "squeeze"), (3, "excite")):
            yield from dense(f"{key}.ChannelGate.{mlp}.{number}", f"{path}/{gate}/{name}")


def oriented(key: str, path: str, *, attend: bool) -> Iterator[Rule]:
    """Yields the rules of an orientation-aware module, or of feature extraction if it does not attend."""
    for torch_name, name in (("dia_conv", "square"), ("hor_conv", "wide"), ("ver_conv", "tall")):
        yield from conv(f"{key}.{torch_name}", f"{path}/oriented/{name}")
    if attend:
        yield from attention(f"{key}.conv.0", f"{path}/attention")
    yield from conv(f"{key}.conv.{2 if attend else 1}", f"{path}/fuse")


def make_layout(
    config_class: type[OADDetConfig], head: Callable[[], Iterator[Rule]], *, exit_key: str
) -> CheckpointLayout:
    """Returns the layout of a network that is OADDet but for its head.

    Args:
        config_class: of the network.
        head: yields the rules of the head.
        exit_key: key of the head's last kernel.
    """

    def rules(config: OADDetConfig) -> Iterator[Rule]:
        yield from head()
        yield from _rules_after_head(config.n_resblocks)

    def read_config(state_dict: StateDict) -> OADDetConfig:
        shape = state_dict["body_down.1.weight"].shape
        n_resblocks = count_layers(state_dict, r"body\.(\d+)\.(?:\w+_conv|conv\.\d+)\..+")
        return config_class(n_resblocks=n_resblocks, n_feats=shape[0], scale=math.isqrt(shape[1] // 3))

    return CheckpointLayout(
        rules=rules,
        recognised_by=("dynamic_kernel0.kernel_conv.0.weight", exit_key, "body_down.1.weight"),
        read_config=read_config,
        mean_shift_forms=lambda _: (mean_colours(RGB_MEAN),),
    )


def _rules_after_head(n_resblocks: int) -> Iterator[Rule]:
    yield from conv("body_down.1", "body/enter")
    for i in range(n_resblocks):
        yield from oriented(f"body.{i}", f"body/module_{i}", attend=i >= n_resblocks // 4 * 3)
    yield from conv(f"body.{n_resblocks}", "body/end")
    yield from conv("body_tail.1", "body/tail1")
    yield from conv("body_tail.3", "body/tail2")
    for i, size in enumerate((5, 7, 3)):
        yield from conv(f"dynamic_kernel{i}.kernel_conv.0", f"filter_{size}/hidden")
        yield from conv(f"dynamic_kernel{i}.kernel_conv.2", f"filter_{size}/kernels")
    yield from conv("tail.0", "tail1")
    yield from conv("tail.2", "tail2")


def _head() -> Iterator[Rule]:
    yield from conv("head.0", "head/enter")
    for i in range(3):
        yield from oriented(f"head.{2 * i + 2}", f"head/extract_{i}", attend=False)
    yield from attention("head.7", "head/attention")
    yield from conv("head.9", "head/exit")


OADDET_LAYOUT = make_layout(OADDetConfig, _head, exit_key="head.9.weight")
