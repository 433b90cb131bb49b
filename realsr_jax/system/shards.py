"""Which part of a list each of several processes takes, without a word between them."""

import heapq
import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from realsr_jax.system.errors import UsageError, first_line


@dataclass(frozen=True)
class Shard:
    """One of several parts of about the same size, shown as ``3/8``.

    Attributes:
        index: which, from 0.
        count: how many there are.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    @property
    def file_name(self) -> str:
        """What tells this part's files from the others'."""
        return f"shard_{self.index + 1}_of_{self.count}"

    def choose(self, sizes: Sequence[int]) -> list[int]:
        """Returns which items of a list are this part's, in order.

        Where all processes see the same sizes, each item is one process's.

        Args:
            sizes: of all items, by whatever tells how long they take.
        """
        parts = [(0, part) for part in range(self.count)]  # a heap: the one with the least comes first
        own = []
        for item in sorted(range(len(sizes)), key=lambda item: -sizes[item]):
            size, part = parts[0]
            heapq.heapreplace(parts, (size + sizes[item], part))
            if part == self.index:
                own.append(item)
        return sorted(own)


def parse_shard(text: str) -> Shard:
    """Reads a part such as ``3/8``, the third of eight.

    Raises:
        ValueError: if it is none.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"{text!r} is no part; expected one such as 3/8, from 1/8 to 8/8")
    return Shard(int(match[1]) - 1, int(match[2]))


def shard_of_cluster() -> Shard:
    """Returns the part of this process where a cluster tells which of how many it is, as it tells JAX.

    As in training, a process that shares its machine with others takes one GPU, which JAX must not have
    looked for yet.

    Raises:
        UsageError: if nothing tells it.
    """
    import jax
    from jax._src.clusters import ClusterEnv  # what `jax.distributed.initialize` asks; it has no public name

    otherwise = "start it by srun or as an indexed job of Kubernetes, or give --shard, such as --shard=1/8"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that only Kubernetes' interface needs
            _, count, index, devices = ClusterEnv.auto_detect_unset_distributed_params(
                "unused", None, None, None, None, None
            )
    except Exception as error:  # of many kinds
        raise UsageError(f"--distributed: {first_line(error)}; {otherwise}") from error
    if count is None or index is None:
        what = "nothing tells which of how many processes this is"
        if "JOB_COMPLETION_INDEX" in os.environ:
            what = "Kubernetes tells how many processes there are with pip install 'jax[k8s]'"
            otherwise = "or give --shard=$((JOB_COMPLETION_INDEX + 1))/N"
        raise UsageError(f"--distributed: {what}; {otherwise}")
    if index >= count:  # as where a job's completions are more than run at once
        raise UsageError(f"--distributed: this is process {index}, from 0, of {count}; {otherwise}")
    sees_one = "," not in os.environ.get("CUDA_VISIBLE_DEVICES", ",")
    if devices and not sees_one:
        for kind in ("cuda", "rocm"):
            jax.config.update(f"jax_{kind}_visible_devices", ",".join(map(str, devices)))
    return Shard(index, count)
