"""Flags for several processes that share the work of one command."""

from absl import flags

from realsr_jax.cli.command import FlagTable
from realsr_jax.system.errors import UsageError
from realsr_jax.system.shards import Shard, parse_shard, shard_of_cluster


def define_shard_flags(table: FlagTable, part: str) -> None:
    """Defines the flags; `part` says what one process does and what becomes of it."""
    table.section("Many machines (all run the same command on the same files)")
    table.text("shard", "I/N", f"{part}; 3/8 is the third of eight parts, which are about the same size")
    table.switch(
        "distributed",
        "the same, with the part that SLURM or Open MPI tells, or Kubernetes (to an indexed job; pip install "
        "'jax[k8s]')",
    )


def read_shard(values: flags.FlagValues) -> Shard | None:
    """Returns the part that the flags name, None for the whole.

    Raises:
        UsageError: if there is no such part.
    """
    if values.shard is None:
        return shard_of_cluster() if values.distributed else None
    if values.distributed:
        raise UsageError("--shard and --distributed both say which part; give one of them")
    try:
        return parse_shard(values.shard)
    except ValueError as error:
        raise UsageError(f"--shard={error}") from error
