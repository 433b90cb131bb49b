"""Errors that users read: one line that says what is wrong and what to do."""

import dataclasses
import difflib
import types
from collections.abc import Iterable
from typing import Any, Final, Union, get_args, get_origin

MEMORY_TEXT = "too large for this machine's memory"
"""What is said of a file that does not fit into the host's memory."""

DEVICE_MEMORY_TEXT = (
    "the device's memory does not suffice; pass a smaller --tile_batch, --tile_size or --chop_size"
)
"""What is said of an image that cannot be upscaled in a device's memory."""


class UsageError(ValueError):
    """A wish that cannot be met; the message is what the user reads."""


class ListError(ValueError):
    """What is wrong in one line, and one more for each problem.

    Attributes:
        lines: the lines, those of the problems indented.
    """

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.lines = [message, *(f"  {problem}" for problem in problems)]
        super().__init__("\n".join(self.lines))


def require(condition: bool, config: object, field: str, expected: str) -> None:
    """Raises ValueError naming a configuration, its field and what was expected, unless `condition` holds."""
    if not condition:
        actual = getattr(config, field)
        raise ValueError(f"{type(config).__name__}: {field} is {actual!r}, expected {expected}")


_IN_WORDS: Final[dict[Any, str]] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a text",
    type(None): "None",
}


def require_types(config: Any) -> None:
    """Raises ValueError, as `require` does, for the first value in a dataclass that its field cannot hold.

    Values that are dataclasses, or lists of them, are looked into. Whole numbers are numbers; a list may
    stand for a tuple.
    """
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        require(_fits(value, field.type), config, field.name, _in_words(field.type))
        for part in value if isinstance(value, (list, tuple)) else (value,):
            if dataclasses.is_dataclass(part):
                require_types(part)


def _fits(value: Any, kind: Any) -> bool:
    inside = get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return any(_fits(value, each) for each in inside)
    if get_origin(kind) is tuple:
        kinds = inside[:1] * len(value) if inside[-1] is ... and isinstance(value, (list, tuple)) else inside
        return isinstance(value, (list, tuple)) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return not isinstance(kind, type) or isinstance(value, kind)


def _in_words(kind: Any) -> str:
    inside = get_args(kind)
    if get_origin(kind) is tuple:
        length = "" if inside[-1] is ... else f" of {len(inside)}"
        return f"a list{length}, each {_in_words(inside[0])}"
    if inside:
        return " or ".join(map(_in_words, inside))
    return _IN_WORDS.get(kind) or f"of the class {getattr(kind, '__name__', kind)}"


def reason_of(error: Exception, otherwise: str) -> str:
    """Says in one line what an exception means; `otherwise` if it is not about the file system."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[0].lower() + error.strerror[1:]
    return f"{otherwise} ({in_one_line(error)})"


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message, or its kind if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def legible(text: str) -> str:
    """Returns a text in which what a terminal would obey, or cannot show, is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_one_line(error: BaseException) -> str:
    """Returns an error's whole message in one line, or its kind if it has none."""
    lines = (line.strip() for line in str(error).splitlines())
    return " ".join(filter(None, lines)) or type(error).__name__


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns ``"did you mean X? "`` for the known word that is most like one, else nothing."""
    close = closest_name(word, known)
    return f"did you mean {close}? " if close else ""


def closest_name(word: str, known: Iterable[str]) -> str:
    """Returns the known word that is most like one, whatever its capitals and hyphens; empty if none is."""
    plain = {_plain(name): name for name in known}
    close = difflib.get_close_matches(_plain(word), list(plain), 1)
    return plain[close[0]] if close else ""


def _plain(name: str) -> str:
    return name.casefold().replace("_", "").replace("-", "")


_OUT_OF_MEMORY: Final = (
    "resource_exhausted",
    "out of memory",
    "out_of_memory",  # CUDA_ERROR_OUT_OF_MEMORY
    "outofmemory",  # hipErrorOutOfMemory
    "failed to allocate",
    "alloc_failed",  # CUDNN_STATUS_ALLOC_FAILED, CUBLAS_STATUS_ALLOC_FAILED
    "failed to determine best cudnn convolution algorithm",  # often all that is said where scratch is lacking
)
"""What XLA, its allocators, CUDA and cuDNN say where memory does not suffice, in lower case."""


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether an error means that memory, the host's or a device's, does not suffice."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)


def explain_failure(error: Exception) -> str:
    """Says in one line why an image could not be read, upscaled, scored or written."""
    if isinstance(error, MemoryError):
        return MEMORY_TEXT
    if isinstance(error, ValueError):  # what this package refuses, it explains
        return str(error)
    return DEVICE_MEMORY_TEXT if is_out_of_memory(error) else first_line(error)
