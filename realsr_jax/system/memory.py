"""How much of the host's memory is free."""

import contextlib
import os
from pathlib import Path


def available_memory(root: Path = Path("/")) -> int:
    """Returns the bytes that this process may still take, by the machine and its container's limit.

    Args:
        root: the folder that ``proc`` and ``sys`` stand in.
    """
    free = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]  # where nothing better is known
    with contextlib.suppress(OSError, ValueError):
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")] or free
    groups = root / "sys/fs/cgroup"
    for limit, used, stat in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with contextlib.suppress(OSError, ValueError):  # no such file; "max"
            left = int((groups / limit).read_text()) - int((groups / used).read_text())
            # Pages of files are given back when they are needed.
            stats = dict(line.split() for line in (groups / stat).read_text().splitlines())
            free.append(left + int(stats.get("inactive_file", 0)))
    return max(min(free), 0)
