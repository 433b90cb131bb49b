"""Interprets pickles without importing or calling anything that they name.

A pickle is a program, and `pickle.Unpickler` lets it act on the objects of this process. The small machine
here knows only the instructions that checkpoints need. It builds plain containers, numbers and strings, and
asks a `TorchVocabulary` what the names in the pickle mean.
"""

import pickletools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from realsr_jax.system.errors import ListError

if TYPE_CHECKING:
    from realsr_jax.convert.torch_objects import TorchVocabulary

MAX_NAME = 1000
"""Characters in the name of a tensor or storage, which dictionaries compare again and again."""

_T = TypeVar("_T")

_OPCODES = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}

_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}


class CheckpointError(ListError):
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


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "EMPTY_SET": Opaque("set")}


def quote(text: str) -> str:
    """Returns `text` quoted for a one-line message: control characters escaped, shortened if very long."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def expect(value: object, kind: type[_T]) -> _T:
    """Returns `value` if its type is exactly `kind` (so a bool is no int), else raises CheckpointError."""
    if type(value) is not kind:
        raise CheckpointError(f"is damaged: expected {kind.__name__}, found {type(value).__name__}")
    return cast(_T, value)


def expect_name(value: object) -> str:
    """Returns `value` if it is a string of at most `MAX_NAME` characters, else raises CheckpointError."""
    name = expect(value, str)
    if len(name) > MAX_NAME:
        raise CheckpointError(f"is damaged: a name in it has {len(name)} characters")
    return name


def update_mapping(mapping: dict[str, object], pairs: Iterable[tuple[object, object]]) -> None:
    """Enters those of `pairs` whose key is a string.

    Others are of no use here: numbers can be chosen to collide in a dictionary, and hashing a deeply nested
    tuple would overflow the C stack.
    """
    mapping.update((expect_name(key), value) for key, value in pairs if isinstance(key, str))


def load_pickle(stream: BinaryIO, vocabulary: "TorchVocabulary") -> object:
    """Reads one pickle from `stream`, which is left just behind it.

    Args:
        stream: A stream over bytes in memory, so that reading too much allocates nothing.
        vocabulary: Decides which globals are allowed and what they stand for, and how many instructions.

    Returns:
        A tree of dict, list, tuple, str, bytes, numbers, bool, None, `Global`, `Opaque` and what `vocabulary`
        returned. It may share nodes and contain cycles. Dict entries whose key is no string are left out, and
        so is the state of objects.

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
    """The stack machine of the pickle format, reduced to what checkpoints need.

    An instruction may take time in proportion to its own bytes and to what it removes from the stack, but not
    to the size of an object there, which two bytes can put on the stack again and again. What has to, counts
    its steps.
    """

    def __init__(self, stream: BinaryIO, vocabulary: "TorchVocabulary"):
        self._stream = stream
        self._vocabulary = vocabulary
        self._stack: list[Any] = []
        self._outer_stacks: list[list[Any]] = []
        self._memo: dict[int, object] = {}

    def run(self) -> object:
        while True:
            self._vocabulary.count_steps(1)
            opcode = _OPCODES[self._stream.read(1)]
            if opcode.name == "STOP":
                return self._stack.pop()
            if opcode.name == "GLOBAL":
                # The reader of pickletools undoes escapes, which the format does not have here.
                argument = [self._stream.readline().decode().removesuffix("\n") for _ in range(2)]
            else:
                argument = opcode.arg.reader(self._stream) if opcode.arg else None
            if not self._change(opcode.name, argument):
                made = self._make(opcode.name, argument)  # which may exchange the stack
                self._stack.append(made)

    def _change(self, opcode: str, argument: Any) -> bool:
        """Carries out an instruction that puts nothing on the stack; returns whether it is one."""
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            case "MARK":
                self._outer_stacks.append(self._stack)
                self._stack = []
            case "APPENDS" | "ADDITEMS" | "SETITEMS":
                self._fill(self._pop_marked())
            case "APPEND":
                self._fill([self._stack.pop()])
            case "SETITEM":
                value, key = self._stack.pop(), self._stack.pop()
                self._fill([key, value])
            case "POP" | "BUILD":
                # Of all that is allowed, only what is ignored has a state to build: numpy's objects and the
                # `_metadata` of a state dict.
                self._stack.pop()
            case _:
                return False
        return True

    def _make(self, opcode: str, argument: Any) -> object:
        """Returns what an instruction puts on the stack, in place of what it takes from there."""
        pop = self._stack.pop
        match opcode:
            case "EMPTY_DICT":
                return {}
            case "EMPTY_LIST":
                return []
            case "BINGET" | "LONG_BINGET":
                return self._memo[argument]
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                return tuple(reversed([pop() for _ in range(int(opcode[-1]))]))
            case "TUPLE":
                return tuple(self._pop_marked())
            case "GLOBAL":
                return self._vocabulary.find(*argument)
            case "STACK_GLOBAL":
                name, module = expect(pop(), str), expect(pop(), str)
                return self._vocabulary.find(module, name)
            case "REDUCE" | "NEWOBJ":
                arguments, function = expect(pop(), tuple), expect(pop(), Global)
                return self._vocabulary.call(function.name, arguments)
            case "BINPERSID":
                return self._vocabulary.load_persistent(pop())
        if opcode in _LITERALS:
            return argument
        if opcode in _CONSTANTS:
            return _CONSTANTS[opcode]
        raise CheckpointError(f"is damaged or pickled in an unusual way (instruction {opcode})")

    def _pop_marked(self) -> list[Any]:
        items, self._stack = self._stack, self._outer_stacks.pop()
        return items

    def _fill(self, items: list[Any]) -> None:
        """Adds items to the container on the stack; what is ignored takes anything."""
        container = self._stack[-1]
        if isinstance(container, dict):
            update_mapping(container, zip(items[::2], items[1::2], strict=True))
        elif not isinstance(container, Opaque):
            expect(container, list).extend(items)
