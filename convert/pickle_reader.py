"""Interprets pickles without importing or calling anything that they name.

A pickle is a program, and `pickle.Unpickler` lets it act on the objects of this process. The small machine
here knows only the instructions that checkpoints need. It builds plain containers, numbers and strings, and
asks a `Vocabulary` what the names in the pickle mean.
"""

import pickletools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol, TypeVar, cast

MAX_INSTRUCTIONS = 10_000_000
"""Bounds memory: an instruction of one byte can make an object of about a hundred."""

_T = TypeVar("_T")

_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}

_PUSHING = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLE_LENGTHS = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class CheckpointError(ValueError):
    """A checkpoint that cannot be read or understood.

    The message is one line that continues the file's name, such as "is empty"; the caller adds the name.
    """


@dataclass(frozen=True, slots=True)
class Global:
    """A class or function that a pickle names: the name only, never the object itself."""

    name: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """Stands for a harmless object whose value does not matter."""

    name: str


class Vocabulary(Protocol):
    """What the names in a pickle mean."""

    def find(self, module: str, name: str) -> Global:
        """Returns the global of that name, or raises CheckpointError where it is not allowed."""
        ...

    def call(self, name: str, arguments: tuple[object, ...]) -> object:
        """Returns the value that stands for the result of calling the allowed global `name`."""
        ...

    def load_persistent(self, reference: object) -> object:
        """Returns the value that stands for an object kept outside the pickle."""
        ...


def quote(text: str) -> str:
    """Returns `text` quoted for a one-line message: control characters escaped, shortened if very long."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def expect(value: object, kind: type[_T]) -> _T:
    """Returns `value` if its type is exactly `kind` (so a bool is no int), else raises CheckpointError."""
    if type(value) is not kind:
        raise CheckpointError(f"is damaged: expected {kind.__name__}, found {type(value).__name__}")
    return cast(_T, value)


def update_mapping(mapping: dict[object, object], pairs: Iterable[tuple[object, object]]) -> None:
    """Enters those of `pairs` whose key is a string, bytes or a number.

    Other keys are of no use here, and hashing a deeply nested tuple would overflow the C stack.
    """
    mapping.update((key, value) for key, value in pairs if isinstance(key, str | bytes | int | float))


def load_pickle(stream: BinaryIO, vocabulary: Vocabulary) -> object:
    """Reads one pickle from `stream`, which is left just behind it.

    Args:
        stream: A stream over bytes in memory, so that reading too much allocates nothing.
        vocabulary: Decides which globals are allowed and what they stand for.

    Returns:
        A tree of dict, list, tuple, str, bytes, numbers, bool, None, `Global`, `Opaque` and what `vocabulary`
        returned. It may share nodes and contain cycles. Dict entries whose key is no string or number are
        left out, and so is the state of objects.

    Raises:
        CheckpointError: The pickle is damaged, or names something that is not allowed.
    """
    try:
        return _Machine(stream, vocabulary).run()
    except CheckpointError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError("is damaged or cut short: its pickle cannot be read") from error


class _Machine:
    """The stack machine of the pickle format, reduced to what checkpoints need."""

    def __init__(self, stream: BinaryIO, vocabulary: Vocabulary):
        self._stream = stream
        self._vocabulary = vocabulary
        self._stack: list[object] = []
        self._outer_stacks: list[list[object]] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        for _ in range(MAX_INSTRUCTIONS):
            opcode = _OPCODES[self._stream.read(1)]
            if opcode.name == "STOP":
                return self._stack.pop()
            if opcode.name == "GLOBAL":
                # The reader of pickletools undoes escapes, which the format does not have here.
                module, name = (self._stream.readline().decode().removesuffix("\n") for _ in range(2))
                self._stack.append(self._vocabulary.find(module, name))
                continue
            argument = opcode.arg.reader(self._stream) if opcode.arg else None
            if not (
                self._push_value(opcode.name, argument)
                or self._use_memo(opcode.name, argument)
                or self._fill_container(opcode.name)
                or self._make_object(opcode.name)
            ):
                raise CheckpointError(f"is damaged or pickled in an unusual way (instruction {opcode.name})")
        raise CheckpointError(f"holds a pickle of more than {MAX_INSTRUCTIONS} instructions")

    def _push_value(self, opcode: str, argument: object) -> bool:
        if opcode in _PUSHING:
            self._stack.append(argument)
        elif opcode in _CONSTANTS:
            self._stack.append(_CONSTANTS[opcode])
        elif opcode == "EMPTY_DICT":
            self._stack.append({})
        elif opcode == "EMPTY_LIST":
            self._stack.append([])
        elif opcode == "EMPTY_SET":
            self._stack.append(Opaque("set"))
        else:
            return False
        return True

    def _use_memo(self, opcode: str, argument: object) -> bool:
        match opcode:
            case "BINPUT" | "LONG_BINPUT":
                self._memo[cast(int, argument)] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "BINGET" | "LONG_BINGET":
                self._stack.append(self._memo[cast(int, argument)])
            case "POP":
                self._stack.pop()
            case "PROTO" | "FRAME":
                pass
            case _:
                return False
        return True

    def _fill_container(self, opcode: str) -> bool:
        match opcode:
            case "MARK":
                self._outer_stacks.append(self._stack)
                self._stack = []
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [self._stack.pop() for _ in range(_TUPLE_LENGTHS[opcode])]
                self._stack.append(tuple(reversed(items)))
            case "TUPLE":
                items = self._pop_marked()
                self._stack.append(tuple(items))
            case "APPEND":
                self._extend([self._stack.pop()])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._pop_marked())
            case "SETITEM":
                value, key = self._stack.pop(), self._stack.pop()
                self._update([key, value])
            case "SETITEMS":
                self._update(self._pop_marked())
            case _:
                return False
        return True

    def _make_object(self, opcode: str) -> bool:
        match opcode:
            case "STACK_GLOBAL":
                name, module = self._stack.pop(), self._stack.pop()
                self._stack.append(self._vocabulary.find(expect(module, str), expect(name, str)))
            case "REDUCE" | "NEWOBJ":
                arguments, function = expect(self._stack.pop(), tuple), expect(self._stack.pop(), Global)
                self._stack.append(self._vocabulary.call(function.name, arguments))
            case "BUILD":
                # Of all that is allowed, only what is ignored has a state: numpy's objects and the
                # `_metadata` of a state dict.
                self._stack.pop()
            case "BINPERSID":
                self._stack.append(self._vocabulary.load_persistent(self._stack.pop()))
            case _:
                return False
        return True

    def _pop_marked(self) -> list[object]:
        items, self._stack = self._stack, self._outer_stacks.pop()
        return items

    def _extend(self, items: list[object]) -> None:
        if not isinstance(self._stack[-1], Opaque):
            expect(self._stack[-1], list).extend(items)

    def _update(self, items: list[object]) -> None:
        if not isinstance(self._stack[-1], Opaque):
            update_mapping(expect(self._stack[-1], dict), zip(items[::2], items[1::2], strict=True))
