"""How much of the host's memory is free."""

import contextlib
import os
from pathlib import Path

from realsr_jax.system.processes import control_groups


def available_memory(root: Path = Path("/")) -> int:
    """Returns the bytes that this process may still take, by the machine and its container's limit.

    Args:
        root: the folder that ``proc`` and ``sys`` stand in.
    """
    free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]  # where nothing better is known
    with contextlib.suppress(OSError, ValueError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")] or free
    files = {2: ("memory.max", "memory.current"), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes")}
    for group, version in control_groups("memory", root):
        with contextlib.suppress(OSError, ValueError):  # no such file; "max"
            limit, used = (int((group / file).read_text()) for file in files[version])
            free.append(limit - used + _reclaimable(group))
    return max(min(free), 0)


def _reclaimable(group: Path) -> int:
    """Returns the bytes of a group's cached files, which are given back when they are needed."""
    with contextlib.suppress(OSError, ValueError):
        stats = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(stats.get("total_inactive_file", stats.get("inactive_file", 0)))
    return 0
