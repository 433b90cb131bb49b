"""What the user reads: lines on standard output, errors on standard error, and how far work has come."""

import contextlib
import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from realsr_jax.system.errors import legible

if TYPE_CHECKING:
    from tqdm import tqdm

_LINE_EVERY = 10.0  # seconds between lines where there is no terminal


def say(*lines: str) -> None:
    """Prints lines for the user to standard output, above a progress bar."""
    _write(lines, sys.stdout)


def complain(name: str, *lines: str) -> None:
    """Prints an error of the command `name` for the user to standard error, above a progress bar."""
    _write((f"{name}: {lines[0]}", *lines[1:]), sys.stderr)


def _write(lines: Iterable[str], stream: TextIO) -> None:
    text = "".join(f"{printable(line, stream)}\n" for line in lines)
    bars = sys.modules.get("tqdm")  # imported with the first bar only, so that commands start quickly
    with bars.tqdm.external_write_mode(stream) if bars else contextlib.nullcontext():
        try:
            stream.write(text)
            stream.flush()
        except OSError as error:
            _discard(stream)
            if stream is sys.stdout and not isinstance(error, BrokenPipeError):  # of which readers are aware
                _tell_of_loss(error.strerror or "cannot be written")


def _discard(stream: TextIO) -> None:
    """Empties the buffer of a stream that is full or that nobody reads any more."""
    with contextlib.suppress(OSError, ValueError):  # one without a number
        number = stream.fileno()
        kept, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        with contextlib.suppress(OSError):
            stream.flush()
        os.dup2(kept, number)
        for other in (kept, nowhere):
            os.close(other)


@functools.cache  # once is enough
def _tell_of_loss(reason: str) -> None:
    complain("standard output", f"{reason}; some lines are lost, results are not")


def open_missing_streams() -> None:
    """Makes standard streams that this process was started without lead nowhere.

    Otherwise files that are opened take their numbers, and what libraries remark is written into results.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number, so this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115


def silence_threads() -> None:
    """Keeps from the user what fails in threads of libraries and at exit: whoever waits for it tells it.

    Tensorstore's threads print a traceback for each array that does not fit on a disk.
    """

    def tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if threading.current_thread() is threading.main_thread():
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = tell
    sys.unraisablehook = lambda _: None


def flush_streams() -> None:
    """Writes what others have printed, as far as it can be: Python would end with status 120 otherwise."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _discard(stream)


def printable(text: str, stream: TextIO) -> str:
    """Escapes what a stream cannot print or a terminal would obey, as in the names of files."""
    encoding = stream.encoding or "utf-8"
    return legible(text).encode(encoding, "backslashreplace").decode(encoding)


def terminal_width() -> int:
    """Returns the columns of the terminal on standard error, 0 if there is none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 0


def make_bar(total: float, *, text: str, bar_format: str, initial: float = 0, unit: str = "") -> "tqdm":
    """Makes a progress bar that shows on terminals only and leaves nothing behind."""
    from tqdm import tqdm

    width = terminal_width()
    return tqdm(
        total=total,
        initial=initial,
        disable=width == 0,
        ncols=width,
        nrows=20,  # or tqdm shows nothing where a terminal does not tell its height
        miniters=0,
        desc=text,
        unit=unit,
        bar_format=bar_format,
        leave=False,
    )


class Progress:
    """Counts things that are done: a bar with the time left on a terminal, a line now and then elsewhere.

    It starts when it first hears of the total; what was done by then says nothing about the time left.
    """

    def __init__(self, doing: str, unit: str, *, tell: Callable[[str], None] | None = None) -> None:
        """Makes a reporter.

        Args:
            doing: what goes on, such as "decoding".
            unit: what is counted, in the plural, such as "pairs".
            tell: prints a line where there is no terminal; None to print nothing there.
        """
        self._doing, self._unit, self._tell = doing, unit, tell
        self._bar: tqdm | None = None
        self._told = time.monotonic()

    def __enter__(self) -> Self:
        """Returns the reporter."""
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()

    def update(self, done: int, total: int) -> None:
        """Tells that `done` of `total` are done."""
        if self._bar is None:
            text = "{desc} {percentage:3.0f}%|{bar}| {n:,} of {total:,} {unit}, {remaining} left"
            self._bar = make_bar(total, text=self._doing, bar_format=text, initial=done, unit=self._unit)
        if not self._bar.disable:
            self._bar.update(done - self._bar.n)
        elif self._tell is not None and time.monotonic() - self._told > _LINE_EVERY:
            self._told = time.monotonic()
            self._tell(f"{self._doing}: {done:,} of {total:,} {self._unit}")

    def each(self, results: Iterator, total: int, *, done: int = 0) -> Iterator:
        """Yields what an iterator yields, and counts it."""
        self.update(done, total)
        for result in results:
            done += 1
            self.update(done, total)
            yield result


@contextlib.contextmanager
def silent_libraries() -> Iterator[None]:
    """Keeps from the user what Pillow and imagecodecs remark on damaged files without naming them."""
    import logging
    import warnings

    loggers, handler = [logging.getLogger(name) for name in ("PIL", "imagecodecs")], logging.NullHandler()
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="PIL")
            yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
