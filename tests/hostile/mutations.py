"""Damages bytes and JSON at random, with a liking for what readers stumble over."""

import random
from collections.abc import Sequence
from typing import Any

NUMBERS = (
    0,
    1,
    -1,
    2,
    8,
    255,
    2**16,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**62,
    2**63 - 1,
    2**63,
    2**64,
    10**400,
)


def mutate(generator: random.Random, content: bytes, words: Sequence[bytes] = ()) -> bytes:
    """Returns `content` after one to four edits.

    Args:
        generator: makes the choices.
        content: any bytes.
        words: what the format consists of; they are put in, and in place of something.
    """
    for _ in range(generator.choice((1, 1, 2, 4))):
        at = generator.randrange(len(content) + 1)
        head, tail = content[:at], content[at:]
        length = generator.choice((1, 1, 2, 4, 8, 16, 64))
        word = generator.choice(words) if words else generator.randbytes(length)
        number = generator.choice(NUMBERS) & (256**length - 1)
        match generator.randrange(9):
            case 0 | 1:
                content = head + generator.randbytes(1) + tail[1:]
            case 2:
                content = head + bytes([(tail[:1] or b"\0")[0] ^ 1 << generator.randrange(8)]) + tail[1:]
            case 3:
                content = head + number.to_bytes(length, generator.choice(("little", "big"))) + tail[length:]
            case 4:
                content = head + tail[length:]
            case 5:
                content = head + word + tail
            case 6:
                content = head + word + tail[len(word) :]
            case 7:
                content = head + tail[:length] * generator.choice((2, 3, 100)) + tail[length:]
            case 8:
                content = head if generator.random() < 0.2 else tail[length:] + head
    return content


def mutate_json(generator: random.Random, value: Any, strings: Sequence[str] = ()) -> Any:
    """Returns a copy of what JSON holds in which one thing, at any depth, is another or gone.

    Args:
        generator: makes the choices.
        value: the document.
        strings: some that are put in.
    """
    if isinstance(value, dict | list) and value and generator.random() < 0.85:
        key = generator.choice(list(value) if isinstance(value, dict) else range(len(value)))
        changed = value.copy()
        if generator.random() < 0.2:
            other = changed.pop(key)
            if isinstance(changed, dict) and generator.random() < 0.5:
                changed[generator.choice((*strings, key[::-1], key + "\0"))] = other
        else:
            changed[key] = mutate_json(generator, value[key], strings)
        return changed
    return generator.choice(
        (
            *(*NUMBERS, *strings, 0.5, float("nan"), float("inf"), 1e300, True, None, "", "\0", "\x1b[2J\n"),
            *("x" * 5000, [], {}, [[]], [value] * 3, {"a": value}, [0] * 100, "\ud800", value),
        )
    )
