"""Cores, threads and worker processes."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

_MOST_THREADS: Final = 16

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def count_cores() -> int:
    """Returns how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
        ahead: how many items are taken at most before the first result is asked for; None for twice `threads`.

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


def start_worker(*_: int) -> None:
    """Lets a worker process end with its parent only: Ctrl-C is the parent's matter, and so is its death."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
