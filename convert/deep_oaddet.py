"""Deep-OADDet's checkpoints, which are OADDet's but for the head."""

from collections.abc import Iterator

from realsr_jax.convert.oaddet import attention, make_layout, oriented
from realsr_jax.convert.rules import Rule, conv
from realsr_jax.models.deep_oaddet import DeepOADDetConfig


def _head() -> Iterator[Rule]:
    yield from conv("head.0", "head/enter")
    for i in range(6):
        yield from oriented(f"head.{i + 2}", f"head/module_{i}", attend=i >= 2)
    yield from attention("head.8", "head/attention")
    yield from conv("head.10", "head/exit")


DEEP_OADDET_LAYOUT = make_layout(DeepOADDetConfig, _head, exit_key="head.10.weight")
