"""Hostile checkpoints: damaged at random, and crafted to take far more time or memory than their size allows.

The cases of `damaged` read their originals from the files in the folder in which they run.
"""

import contextlib
import functools
import io
import json
import math
import pickle
import random
import struct
import zipfile
from pathlib import Path

import mutations

from realsr_jax.convert import detection
from realsr_jax.convert.reader import CheckpointError, read_state_dict
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.oaddet import OADDetConfig


def prepare():
    """Spares the tracing of networks and the comparison with published ones, which take most of the time."""
    detection.parameter_shapes = functools.cache(detection.parameter_shapes)
    detection._published_configs = lambda: [EDSRConfig(1, 4, 2, 1.0), OADDetConfig(1, 8, 2)]
    detection._unknown_architecture({})  # traces both, in no case's time


FLOATS = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n"
ATTACKS = (
    *(b"cposix\nsystem\n(X\x04\0\0\0truetR", b"ccanary\nsing\n)R", b"(X\x04\0\0\0trueicanary\nsing\n"),
    *(b"\x8c\x06canary\x8c\x04sing\x93", b"c__builtin__\neval\n(X\x0d\0\0\0import canarytR"),
    *(b"csubprocess\nPopen\n\x85R", b"ctorch.load\n\x85R", b"\x82\x01", b"ccanary\nSing\n)\x81}b"),
)
WORDS = (
    *(
        b"}",
        b"]",
        b")",
        b"(",
        b"t",
        b"\x85",
        b"\x86",
        b"\x87",
        b"R",
        b"b",
        b"s",
        b"u",
        b"a",
        b"e",
        b"Q",
        b"0",
    ),
    *(
        b"N",
        b"\x88",
        b"\x94",
        b"q\0",
        b"h\0",
        b"h\1",
        b"h\2",
        b"K\3",
        b"J\xff\xff\xff\xff",
        b"\x81",
        b".",
        b"2",
    ),
    *(
        b"\x8a\x08" + b"\xff" * 7 + b"\x3f",
        b"\x8b\xff\xff\xff\x7f",
        b"X\x01\0\0\x000",
        b"X\x08\0\0\x00params\0\n",
    ),
    *(FLOATS, REBUILD, ORDERED, b"ctorch\nSize\n", b"ctorch\nUntypedStorage\n", b"ctorch\nfloat8_e5m2\n"),
    *ATTACKS,
)


def damaged(number: int) -> bool:
    """Reads one of the files here after random damage, and has what was read recognised."""
    generator = random.Random(number)
    originals = sorted(Path("originals").iterdir())
    original = originals[number % len(originals)]
    content = original.read_bytes()
    if original.suffix == ".zip" and generator.random() < 0.8:
        content = _damage_inside(generator, content)
    elif original.suffix == ".safetensors" and generator.random() < 0.7:
        content = _damage_header(generator, content)
    else:
        content = mutations.mutate(generator, content, WORDS)
    file = Path("damaged.pt")
    file.unlink(missing_ok=True)  # or file systems write to the disk at once what replaces a file
    file.write_bytes(content)
    return read(file)


def read(file: Path) -> bool:
    """Reads a checkpoint and recognises it; returns whether it could be read, and checks what was."""
    try:
        state_dict = read_state_dict(file)
    except CheckpointError as error:
        _check_message(str(error))
        return False
    assert all(array.flags.c_contiguous for array in state_dict.values())
    assert sum(array.nbytes for array in state_dict.values()) <= 8 * file.stat().st_size
    try:
        detection.check(detection.detect(state_dict), state_dict)
    except CheckpointError as error:
        for line in str(error).split("\n"):
            _check_message(line)
    return True


def _check_message(message: str) -> None:
    assert message.isprintable() and len(message) < 5000, repr(message)


def _damage_inside(generator: random.Random, content: bytes) -> bytes:
    """Damages members of a zip archive and makes it valid again, checksums included."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = list(members)
    pickled = next(name for name in names if name.endswith("data.pkl"))
    name = pickled if generator.random() < 0.9 else generator.choice(names)
    members[name] = mutations.mutate(generator, members[name], WORDS)
    if generator.random() < 0.05:
        members[generator.choice(("../canary", "a/data/\0", "constants.pkl", "a/byteorder"))] = b"big"
    return archived(members)


def archived(members: dict[str, bytes]) -> bytes:
    """Returns a zip archive as torch.save makes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, part in members.items():
            archive.writestr(zipfile.ZipInfo(name), part)
    return buffer.getvalue()


def _damage_header(generator: random.Random, content: bytes) -> bytes:
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    for _ in range(generator.choice((1, 1, 3))):
        header = mutations.mutate_json(generator, header, ("F32", "BF16", "F8_E8M0", "../secret"))
    with contextlib.suppress(ValueError):
        return with_header(
            json.dumps(header, ensure_ascii=False).encode(errors="surrogatepass"), content[end:]
        )
    return content


def with_header(header: bytes, data: bytes) -> bytes:
    """Returns a safetensors file."""
    return struct.pack("<Q", len(header)) + header + data


# ------------------------------------------------------------------------------------------- crafted files

BIG = b"\x8b" + struct.pack("<I", 100_000) + b"\1" * 100_000
"""The instruction that puts a number of 100,000 bytes on the stack."""

ID = b"(X\x07\0\0\0storage" + FLOATS + b"X\x01\0\0\x000X\x03\0\0\0cpu"
TENSOR = REBUILD + b"(" + ID + b"K\1tQK\0%s%s\x89" + ORDERED + b")RtR"


def _fill(before: bytes, again: bytes, after: bytes, size: int) -> bytes:
    """Repeats something so often that all has a size."""
    return before + again * ((size - len(before) - len(after)) // len(again)) + after


def _zipped(before: bytes, again: bytes, size: int, after: bytes = b".") -> bytes:
    pickled = _fill(b"\x80\x02" + before, again, after, size - 1000)
    return archived({"a/data.pkl": pickled, "a/data/0": bytes(4)})


def _stream(pickled: bytes, keys: bytes = b"\x80\x02].", data: bytes = b"") -> bytes:
    start = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})
    return b"".join(pickle.dumps(part, 2) for part in start) + pickled + keys + data


def _in_stream(before: bytes, again: bytes, size: int, after: bytes = b".") -> bytes:
    return _stream(_fill(b"\x80\x02" + before, again, after, size - 200))


def _text(size: int) -> bytes:
    return b"X" + struct.pack("<I", size) + b"a" * size


def _colliding_names(size: int) -> bytes:
    numbers = (b"\x8a\x0c" + (k * (2**61 - 1)).to_bytes(12, "little") + b"N" for k in range(size // 15))
    return archived({"a/data.pkl": b"\x80\x02}(" + b"".join(numbers) + b"u."})


def _equal_keys(size: int) -> bytes:
    """Many storages whose keys are equal, but not the same string."""
    text = _text(size // 3)
    key = ID.replace(b"X\x01\0\0\x000", text) + b"K\0tQ."
    pickled = _fill(b"\x80\x02](" + text + b"q\1", b"h\1", b"e.", size // 15 + len(text))
    return _stream(b"\x80\x02" + key, pickled, bytes(8 * (size // 30)))


def _members(size: int, *, at_one_place: bool) -> bytes:
    content = archived({"a": b""} if at_one_place else {f"{i:x}": b"" for i in range(size // 90)})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        start = archive.start_dir
    directory = content[start:-22]
    directory *= max((size - start) // len(directory), 1)
    count = len(directory) // 47 if at_one_place else size // 90
    count = min(count, 65535)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(directory), start, 0)
    return content[:start] + directory + end


def _names_in_header(size: int) -> bytes:
    entry = b'"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return with_header(b"{" + b",".join(entry % i for i in range(size // 56)) + b"}", b"")


def _sizes_in_header(size: int) -> bytes:
    entry = b'{"a":{"dtype":"U8","shape":[%s],"data_offsets":[0,1]}}'
    return with_header(entry % b",".join([b"1"] * (size // 2)), b"\0")


def _many_weights(size: int) -> bytes:
    """Names for one and the same tensor, which has a third of the file."""
    count = size // 3 // 4
    number = b"J" + struct.pack("<i", count)
    tensor = TENSOR.replace(b"K\1tQ", number + b"tQ") % (number + b"\x85", b"K\1\x85")
    names = b"".join(b"X\x06\0\0\0%06xh\x09" % i for i in range(size // 3 // 13))
    pickled = b"\x80\x02}(X\x01\0\0\0a" + tensor + b"q\x09" + names + b"u."
    return archived({"a/data.pkl": pickled, "a/data/0": bytes(4 * count)})


def _blocks(size: int) -> bytes:
    """EDSR with one feature and very many blocks."""
    layers = {"head.0": (1, 3), "tail.0.0": (4, 1), "tail.1": (3, 1)}
    layers |= {f"body.{i // 2}.body.{i % 2 * 2}": (1, 1) for i in range(size // 250)}
    entry, end, entries = '"%s":{"dtype":"F32","shape":%s,"data_offsets":[%d,%d]}', 0, []
    for name, channels in layers.items():
        for part, shape in (("weight", [*channels, 3, 3]), ("bias", list(channels[:1]))):
            start, end = end, end + 4 * math.prod(shape)
            entries.append(entry % (f"{name}.{part}", json.dumps(shape), start, end))
    return with_header(("{" + ",".join(entries) + "}").encode(), bytes(end))


def _nested_mappings(size: int) -> bytes:
    """Eight mappings, each of which has the next one under very many names."""
    pickled = b"\x80\x02}q\0"
    for level in range(8):
        names = (b"X\5\0\0\0%05xh" % i + bytes([level]) for i in range(size // 8 // 12))
        pickled += b"}q" + bytes([level + 1]) + b"(" + b"".join(names) + b"u"
    return archived({"a/data.pkl": pickled + b"."})


CRAFTED = {
    "numbers without bound": lambda size: _in_stream(ID + BIG + b"tq\1", b"h\1Q", size),
    "a long reference to a storage": lambda size: _zipped(
        ID + b"K\1N" + b"N" * (size // 3) + b"tq\1", b"h\1Q0", size
    ),
    "long arguments": lambda size: _zipped(
        TENSOR[: TENSOR.index(b"%s")]
        + b"K\1\x85K\1\x85\x89NN"
        + b"N" * (size // 3)
        + b"tq\1"
        + REBUILD
        + b"q\2",
        b"h\2h\1R0",
        size,
    ),
    "a long shape": lambda size: _zipped(
        TENSOR[: TENSOR.index(b"%s")] + b"(" + b"K\1" * (size // 6) + b"tq\3h\3\x89Ntq\1" + REBUILD + b"q\2",
        b"h\2h\1R0",
        size,
    ),
    "64 dimensions": lambda size: _zipped(
        TENSOR[: TENSOR.index(b"%s")] + b"(" + b"K\1" * 64 + b"tq\3h\3\x89Ntq\1" + REBUILD + b"q\2",
        b"h\2h\1R",
        size,
    ),
    "names that collide": _colliding_names,
    "a huge number for a name": lambda size: _zipped(
        b"}" + b"\x8b" + struct.pack("<I", size // 2) + b"\1" * (size // 2) + b"q\1", b"h\1Ns", size
    ),
    "equal long names": lambda size: _zipped(
        b"}" + _text(size // 3) + b"q\1" + _text(size // 3) + b"q\2Ns", b"h\1Nsh\2Ns", size
    ),
    "equal long keys": _equal_keys,
    "empty mappings": lambda size: _zipped(b"", b"}", size),
    "empty mappings, kept": lambda size: _in_stream(b"", b"}\x94", size),
    "empty lists": lambda size: _zipped(b"", b"]", size),
    "marks": lambda size: _zipped(b"", b"(", size),
    "remembered": lambda size: _zipped(b"N", b"\x94", size),
    "deep tuple": lambda size: _zipped(b")", b"\x85", size),
    "short strings": lambda size: _zipped(b"]", b"U\2xya", size),
    "copies": lambda size: _zipped(
        ORDERED + b"q\0](" + b"](U\1aK\0e" * (size // 20) + b"eq\1", b"h\0h\1\x85R", size
    ),
    "copies of mappings": lambda size: _zipped(ORDERED + b"q\0}U\1aNs\x85q\1", b"h\0h\1R", size),
    "members": lambda size: _members(size, at_one_place=False),
    "members at one place": lambda size: _members(size, at_one_place=True),
    "names in a header": _names_in_header,
    "sizes in a header": _sizes_in_header,
    "lists in a header": lambda size: with_header(b'{"a":' + b"[" * size, b""),
    "weights that are one": _many_weights,
    "nested mappings": _nested_mappings,
    "blocks": _blocks,
    "random zip": lambda size: b"PK\3\4" + random.Random(0).randbytes(size),
    "random pickle": lambda size: b"\x80\2" + random.Random(0).randbytes(size),
    "zeros": lambda size: bytes(size),
}
"""Makes a file of about a size, of which the reader must neither need much time nor much memory."""


def crafted(number: int) -> bool:
    """Reads the file of that number among those in the folder `crafted`."""
    return read(Path("crafted", str(number)))
