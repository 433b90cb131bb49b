"""Cores, threads and worker processes."""

import math
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Final, TypeVar

_MOST_THREADS: Final = 16

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def count_cores() -> int:
    """Returns how many processor cores this process may use, by its affinity and its container's limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, math.ceil(cgroup_limit() or cores))


def cgroup_limit(root: Path = Path("/")) -> float | None:
    """Returns how much processor time the control groups of this process, a container's mostly, grant it.

    Args:
        root: the folder that ``proc`` and ``sys`` stand in.

    Returns:
        The time in cores, such as 1.5; None where there is no limit.
    """
    files = {2: ("cpu.max",), 1: ("cpu.cfs_quota_us", "cpu.cfs_period_us")}
    quotas = (_quota(group, files[version]) for group, version in control_groups("cpu", root))
    return min(filter(None, quotas), default=None)


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[tuple[Path, int]]:
    """Yields the folders of this process's control groups that may limit it, with their version, 1 or 2.

    Args:
        controller: "cpu" or "memory".
        root: the folder that ``proc`` and ``sys`` stand in.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            folder, version = root / "sys/fs/cgroup", 2
        elif controller in controllers.split(","):
            folder, version = root / "sys/fs/cgroup" / controller, 1
        else:
            continue
        # The groups around one limit it too. A container may know its group by the host's path and see it in
        # the place of the topmost.
        group = Path(path.lstrip("/"))
        yield from ((folder / place, version) for place in (group, *group.parents))


def _quota(folder: Path, files: Sequence[str]) -> float | None:
    """Returns the limit of one control group, in cores; None if it has none: "max" or below 0."""
    try:
        quota, period = " ".join((folder / file).read_text() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None


def count_threads() -> int:
    """Returns how many threads decode images where nobody asks for a number."""
    return min(count_cores(), _MOST_THREADS)


def in_threads(
    function: Callable[[_Item], _Result], items: Iterable[_Item], threads: int, *, ahead: int | None = None
) -> Iterator[_Result]:
    """Applies a function to items, several at once in threads, as decoders release Python's lock.

    Args:
        function: of one item.
        items: its arguments.
        threads: how many.
        ahead: how many items are taken before the first result is waited for; None for twice `threads`.

    Yields:
        The results in order.
    """
    pool = ThreadPoolExecutor(threads)
    running: deque[Future[_Result]] = deque()
    try:
        for item in items:
            running.append(pool.submit(function, item))
            if len(running) == (ahead or 2 * threads):
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def in_processes(
    task: Callable[..., _Result], arguments: Sequence[tuple[Any, ...]], *, processes: int
) -> Iterator[_Result]:
    """Calls a function with each of many arguments in processes.

    Args:
        task: a function of a module.
        arguments: its positional arguments, call by call.
        processes: how many.

    Yields:
        The results in order.

    Raises:
        RuntimeError: if a process dies or has too little memory.
    """
    # A process for each core has no use for a library's threads.
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    # Forking is no choice beside the threads of whatever this process has imported.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max(1, min(processes, len(arguments))), context, start_worker)
    try:
        for future in [pool.submit(task, *values) for values in arguments]:
            yield future.result()
    except (BrokenProcessPool, MemoryError) as error:
        raise RuntimeError(
            "a worker process ended, probably for lack of memory; run the same command with fewer --workers, "
            "it goes on where it stopped"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def start_worker(*_: int) -> None:
    """Lets a worker process end with its parent only: Ctrl-C is the parent's matter, and so is its death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
