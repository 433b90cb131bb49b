"""The checkpoint reader and writers against PyTorch itself, and against damaged and hostile files."""

import errno
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
import torch

from realsr_jax.convert.reader import CheckpointError, read_state_dict, unwrap
from realsr_jax.convert.writer import write_safetensors, write_torch

WRITERS = [write_torch, write_safetensors]


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.contiguous().numpy()


def assert_identical(actual, expected):
    assert list(actual) == list(expected)
    for name, array in expected.items():
        assert actual[name].dtype == array.dtype, name
        assert actual[name].shape == array.shape, name
        assert actual[name].flags.c_contiguous, name
        assert actual[name].tobytes() == array.tobytes(), name


def save(path, tree, zipped=True, protocol=2):
    torch.save(tree, path, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return path


def write_archive(path, pickled, members=None, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in {"data.pkl": pickled, **(members or {})}.items():
            archive.writestr(f"archive/{name}", content)
    return path


def refusal(path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert message.isprintable()
    return message


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.pth"


@pytest.fixture(params=[True, False], ids=["zip", "stream"])
def zipped(request):
    return request.param


DTYPES = [
    *(torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.bool),
    *(
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint16,
        torch.uint32,
        torch.uint64,
    ),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_reads_dtype(path, zipped, dtype):
    tensor = torch.tensor([0, 1, 1, 0, 1, 1]).to(dtype).reshape(2, 3)
    assert_identical(read_state_dict(save(path, {"a": tensor}, zipped)), {"a": to_numpy(tensor)})


def test_reads_layouts(path, zipped):
    base = torch.arange(120, dtype=torch.float32).reshape(2, 3, 4, 5)
    tensors = {
        "whole": base,
        "transposed": base.permute(3, 1, 0, 2),
        "sliced": base[1:, ::2, 1:3, 4:],
        "shared": base.view(-1)[7:31],
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 50),
        "channels_last": base.contiguous(memory_format=torch.channels_last),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4),
        "one": base[:1, :1, :1, :1],
        "parameter": torch.nn.Parameter(torch.ones(3)),
    }
    expected = {name: to_numpy(tensor) for name, tensor in tensors.items()}
    assert_identical(read_state_dict(save(path, tensors, zipped)), expected)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_module_state(path, zipped, protocol):
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = network.state_dict()
    assert state._metadata
    expected = {name: to_numpy(tensor) for name, tensor in state.items()}
    assert_identical(read_state_dict(save(path, state, zipped, protocol)), expected)


def test_reads_training_checkpoint(path, zipped):
    network = torch.nn.Linear(2, 3)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    tree = {
        "epoch": 7,
        "best": torch.tensor(31.5),
        "psnr": np.float64(31.5),
        "history": np.arange(3.0),
        "device": torch.device("cpu"),
        "dtype": torch.float32,
        "size": torch.Size([1, 2]),
        "seen": {1, 2},
        "optimizer": optimizer.state_dict(),
        "state_dict": OrderedDict(
            (f"module.{name}", tensor) for name, tensor in network.state_dict().items()
        ),
    }
    expected = {name: to_numpy(tensor) for name, tensor in network.state_dict().items()}
    assert_identical(read_state_dict(save(path, tree, zipped)), expected)


def test_reads_storage_views_of_old_streams(path):
    """Before 0.4 a storage could be a view of another: its persistent id ends in (key, offset, size)."""
    stream = save(path, {"a": torch.arange(6.0)}, zipped=False).read_bytes()
    # The id ends with the device's memo, the count 6, None for the view, and the tuple.
    assert stream.count(b"K\x06Nt") == 1
    view = b"K\x06(X\x01\x00\x00\x00vK\x02K\x04tt"
    path.write_bytes(stream.replace(b"K\x06Nt", view).replace(b"K\x06\x85", b"K\x04\x85"))
    assert_identical(read_state_dict(path), {"a": np.arange(2, 6, dtype=np.float32)})


def test_reads_ordered_dict_of_python_2(path):
    pairs = b"ccollections\nOrderedDict\n]](U\x01aK\x01ea\x85R."
    assert "'a'" in refusal(write_archive(path, b"\x80\x02" + pairs))


def test_reads_without_checksums(path):
    torch.serialization.set_crc32_options(False)
    try:
        save(path, {"a": torch.ones(3)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert_identical(read_state_dict(path), {"a": np.ones(3, np.float32)})


WEIGHT, OTHER = np.ones((2, 2)), np.zeros((2, 2))


@pytest.mark.parametrize(
    "tree",
    [
        {"state_dict": {"a": WEIGHT}, "epoch": 1, "best": np.array(3.0)},
        {"params": {"a": OTHER}, "params_ema": {"a": WEIGHT}},
        {"model": {"state_dict": {"module.a": WEIGHT}}, "loss": [1.0]},
        {"model_state_dict": {"module.model.a": WEIGHT}},
        {"net": {"model.module.a": WEIGHT}},
        {"netG": {"a": WEIGHT}, "netD": {"a": OTHER}},
        {"my_weights": {"a": WEIGHT}, "optimizer": {"state": {0: {"exp_avg": OTHER}}}},
        {"a": WEIGHT, "version": 3, 4: OTHER},
    ],
)
def test_unwraps(tree):
    found = unwrap(tree)
    assert list(found) == ["a"]
    assert found["a"] is WEIGHT


def test_keeps_prefix_not_shared_by_all():
    assert set(unwrap({"module.a": WEIGHT, "b": WEIGHT})) == {"module.a", "b"}


@pytest.mark.parametrize(
    ("tree", "found"),
    [({"epoch": 3, 4: 1}, "'epoch', int"), ([WEIGHT], "type list"), ({}, "an empty dict"), (3, "type int")],
)
def test_names_what_was_found_instead(tree, found):
    with pytest.raises(CheckpointError, match=found):
        unwrap(tree)


def test_refuses_several_sets_of_weights():
    with pytest.raises(CheckpointError, match="'first', 'second'"):
        unwrap({"first": {"a": WEIGHT}, "second": {"a": OTHER}})


def test_unwraps_cycles_and_deep_nesting():
    cycle: dict = {"other": {}}
    cycle["model"] = cycle
    deep: dict = {}
    for _ in range(100_000):
        deep = {"model": deep}
    for tree in (cycle, deep):
        with pytest.raises(CheckpointError, match="holds no weights"):
            unwrap(tree)


def special_values() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    bits = {
        "float32": np.array([0x7FC00001, 0xFFA00002, 0x80000000, 0x00000001], np.uint32).view(np.float32),
        "float16": np.array([0x7E01, 0xFD02, 0x8000, 0x0001], np.uint16).view(np.float16),
        "bfloat16": np.array([0x7FC1, 0xFFA2, 0x8000, 0x0001], np.uint16).view(ml_dtypes.bfloat16),
        "float64": np.array([0x7FF8000000000001, 1 << 63, 1], np.uint64).view(np.float64),
    }
    integers = {name: generator.integers(0, 100, (3, 2)).astype(name) for name in ("uint8", "int8", "int16")}
    return {
        **bits,
        **integers,
        "int32": np.arange(-3, 3, dtype=np.int32).reshape(1, 2, 3, 1),
        "int64": np.array([-(2**63), 2**63 - 1]),
        "bool": np.array([True, False]),
        "scalar": np.array(-0.0, np.float32),
        "empty": np.zeros((3, 0, 2), np.float32),
        "größe.名": np.ones(1, np.float32),
    }


def in_order_of(write, arrays):
    """A safetensors file knows no order of its tensors, so they are read in that of their names."""
    return dict(sorted(arrays.items())) if write is write_safetensors else arrays


@pytest.mark.parametrize("write", WRITERS)
def test_written_file_reads_bit_exactly(path, write):
    expected = special_values()
    write(path, expected)
    assert_identical(read_state_dict(path), in_order_of(write, expected))


def test_torch_loads_what_is_written(path):
    expected = special_values()
    write_torch(path, expected)
    for weights_only in (True, False):
        loaded = torch.load(path, weights_only=weights_only)
        assert type(loaded) is OrderedDict
        assert_identical({name: to_numpy(tensor) for name, tensor in loaded.items()}, expected)
        assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in loaded.values())
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
    assert path.read_bytes().index(expected["int64"].tobytes()) % 64 == 0


@pytest.mark.parametrize("write", WRITERS)
def test_writes_any_layout(path, write):
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    layouts = {"transposed": base.T, "sliced": base[::-1, ::2], "swapped": base.astype(">f4")}
    write(path, layouts)
    expected = {name: np.ascontiguousarray(array.astype("<f4")) for name, array in layouts.items()}
    assert_identical(read_state_dict(path), in_order_of(write, expected))


@pytest.mark.parametrize("write", WRITERS)
def test_failed_write_leaves_the_old_file(path, write, monkeypatch):
    write(path, {"a": np.ones(1, np.float32)})
    before = path.read_bytes()
    with pytest.raises(ValueError, match="for 'a', got"):
        write(path, {"a": np.array(["text"])})

    def fail(*_):
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, {"a": np.zeros(9, np.float32)})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_runs_no_pickled_code(path, tmp_path, zipped, protocol):
    marker = tmp_path / "marker"
    save(path, {"state_dict": {"a": torch.ones(1)}, "extra": Attack(marker)}, zipped, protocol)
    assert ".system' object" in refusal(path)
    assert not marker.exists()


def test_refuses_pickled_class_by_name(path, zipped):
    save(path, {"model": torch.nn.Linear(1, 1)}, zipped)
    message = refusal(path)
    assert message.startswith("holds a pickled 'torch.nn.modules.linear.Linear' object")
    assert "torch.save(model.state_dict(), ...)" in message


STORAGE = "X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\0\0\0\0{numel}"
TENSOR = "ctorch._utils\n_rebuild_tensor_v2\n((" + STORAGE + "tQ{rest}tR"


def tensor_pickle(numel="K\x04", offset="K\0", shape="K\x04\x85", strides="K\x01\x85", tail="\x89}"):
    tensor = TENSOR.format(numel=numel, rest=offset + shape + strides + tail)
    return ("\x80\x02}X\x01\0\0\0a" + tensor + "s.").encode("latin-1")


def test_handmade_tensor_is_valid(path):
    write_archive(path, tensor_pickle(), {"data/0": bytes(16)})
    assert_identical(read_state_dict(path), {"a": np.zeros(4, np.float32)})


HUGE = "\x8a\x08" + "\0" * 7 + "\x40"
WRAPPING = "\x8a\x08" + "\0" * 7 + "\x04"
NEGATIVE = "J\xff\xff\xff\xff"
HOSTILE_TENSORS = {
    "numel too large": {"numel": HUGE},
    "numel negative": {"numel": NEGATIVE},
    "numel no int": {"numel": "N"},
    "offset beyond": {"offset": "K\x01"},
    "offset huge": {"offset": HUGE},
    "offset negative": {"offset": NEGATIVE},
    "offset bool": {"offset": "\x88"},
    "shape huge": {"shape": HUGE + "\x85", "strides": "K\0\x85"},
    "shape empty and huge": {"shape": "K\0" + HUGE + "\x86", "strides": "K\x01K\x01\x86"},
    "shape negative": {"shape": NEGATIVE + "\x85"},
    "shape no tuple": {"shape": "X\x01\0\0\0a"},
    "shape of floats": {"shape": "G" + "\0" * 8 + "\x85"},
    "too many dimensions": {"shape": "(" + "K\x01" * 65 + "t", "strides": "(" + "K\x01" * 65 + "t"},
    "stride beyond": {"strides": "K\x02\x85"},
    "stride huge": {"strides": HUGE + "\x85"},
    "stride whose bytes wrap round to 0": {"shape": "K\x11\x85", "strides": WRAPPING + "\x85"},
    "stride negative": {"strides": NEGATIVE + "\x85", "offset": "K\x03"},
    "stride missing": {"strides": ")"},
    "too few arguments": {"tail": "", "strides": ""},
}


@pytest.mark.parametrize("change", HOSTILE_TENSORS.values(), ids=HOSTILE_TENSORS.keys())
def test_refuses_hostile_tensor(path, change):
    refusal(write_archive(path, tensor_pickle(**change), {"data/0": bytes(16)}))


def test_refuses_more_memory_than_the_file_has(path):
    shape, strides = 3 * "K\x40" + "\x87", 3 * "K\0" + "\x87"  # 2**18 times the same element
    write_archive(path, tensor_pickle(shape=shape, strides=strides), {"data/0": bytes(16)})
    assert "far larger than the file" in refusal(path)


DEEP = b"\x80\x02" + b")" + b"\x85" * 200_000
HOSTILE_PICKLES = {
    "empty": b"",
    "no stop": b"\x80\x02}",
    "stack underflow": b"\x80\x02R.",
    "memo far away": b"\x80\x02}r\xff\xff\xff\xffh\x00.",
    "string longer than the file": b"\x80\x02X\xff\xff\xff\x7fa.",
    "bytes longer than the file": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fa.",
    "deep tuple": DEEP + b".",
    "deep tuple as key": b"\x80\x02}" + DEEP[2:] + b"Ns.",
    "storage called": b"\x80\x02ctorch\nFloatStorage\n(tR.",
    "tensor from nothing": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(tR.",
    "size of nothing": b"\x80\x02ctorch\nSize\n(tR.",
    "call of a string": b"\x80\x02X\x01\0\0\0a)R.",
    "state of a name": b"\x80\x02ctorch\nSize\n}X\x01\0\0\0aNsb.",
    "dotted name": b"\x80\x04\x8c\x05torch\x8c\x0cSize.__new__\x93.",
    "name with line breaks": b"\x80\x04\x8c\x03a\nb\x8c\x03c\rd\x93.",
    "not UTF-8": b"\x80\x02c\xff\n\xff\n.",
    "persistent id": b"\x80\x02X\x01\0\0\0aQ.",
    "keyed by number": b"\x80\x02}K\x01K\x02s.",
    "extension registry": b"\x80\x02\x82\x01.",
    "instance": b"\x80\x02(ios\nsystem\n.",
}


@pytest.mark.parametrize("pickled", HOSTILE_PICKLES.values(), ids=HOSTILE_PICKLES.keys())
def test_refuses_hostile_pickle(path, pickled):
    refusal(write_archive(path, pickled))


def test_refuses_copies_without_bound(path):
    """One list of pairs made into a dict over and over: a short file, but memory by the square of it."""
    pairs = b"](" + b"](K\0K\0e" * 500 + b"eq\x01"
    copies = b"h\0h\x01\x85R" * 500
    write_archive(path, b"\x80\x02ccollections\nOrderedDict\nq\0" + pairs + copies + b".")
    assert "without bound" in refusal(path)


STRANGERS = {
    "empty": (b"", "is empty"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(99), "JPEG"),
    "text": (b"hello, this is a readme\n", "is not a PyTorch"),
    "html": (b"\n<!DOCTYPE html><html>", "web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs pointer"),
    "gzip": (b"\x1f\x8b" + bytes(30), "gzip"),
    "tar": (bytes(257) + b"ustar\0" + bytes(300), "tar"),
    "pickle": (pickle.dumps({"a": 1}), "not one of torch.save"),
    "zip": (b"PK\3\4" + bytes(50), "damaged or incomplete zip"),
}


@pytest.mark.parametrize(("content", "message"), STRANGERS.values(), ids=STRANGERS.keys())
def test_refuses_other_files(path, content, message):
    path.write_bytes(content)
    assert message in refusal(path)


def test_refuses_other_archives(path, tmp_path):
    assert "TorchScript" in refusal(write_archive(path, b"", {"constants.pkl": b"", "code/a.py": b""}))
    assert "big-endian" in refusal(write_archive(path, tensor_pickle(), {"byteorder": b"big"}))
    bomb = write_archive(path, tensor_pickle(), {"data/0": bytes(1_000_000)}, zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(bomb)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "text")
    assert "no PyTorch checkpoint" in refusal(path)
    assert "cannot be read" in refusal(tmp_path / "missing.pth")
    assert "cannot be read" in refusal(tmp_path)


def test_refuses_flipped_weight(path):
    content = bytearray(save(path, {"a": torch.full((4,), 7.0)}).read_bytes())
    content[content.index(np.full(4, 7, np.float32).tobytes())] ^= 1
    path.write_bytes(content)
    assert "(Bad CRC-32 for file 'weights/data/0')" in refusal(path)


def safetensors_bytes(header, size):
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + bytes(size)


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_reads_safetensors_metadata(path):
    path.write_bytes(
        safetensors_bytes({"__metadata__": {"format": "pt"}, "b": entry(begin=8, end=16), "a": entry()}, 16)
    )
    assert_identical(read_state_dict(path), {"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)})


@pytest.mark.parametrize(
    ("header", "size"),
    [
        ({"a": entry()}, 7),
        ({"a": entry()}, 9),
        ({"a": entry(begin=-8, end=0)}, 8),
        ({"a": entry(begin=8, end=16)}, 16),
        ({"a": entry(), "b": entry(begin=4, end=12)}, 12),
        ({"a": entry(shape=(3,))}, 8),
        ({"a": entry(shape=(-1, -2))}, 8),
        ({"a": entry(shape=(0, 2**62), end=0)}, 0),
        ({"a": entry(shape=(0, 2**40), end=0)}, 0),
        ({"a": entry(shape=(2.0,))}, 8),
        ({"a": entry(shape=(1,) * 65 + (2,))}, 8),
        ({"a": entry(dtype="F4")}, 8),
        ({"a": entry(dtype="F8_E8M0", shape=(8,))}, 8),
        ({"a\n\x1b[2J": entry(begin=8, end=16)}, 16),
        ({"a": {"dtype": "F32"}}, 8),
        ({"a": 3}, 0),
        ({}, 0),
        (b"{", 0),
        (b'{"a":' + b"[" * 100_000, 0),
        (b"{\xff}", 0),
    ],
)
def test_refuses_hostile_safetensors(path, header, size):
    path.write_bytes(safetensors_bytes(header, size))
    refusal(path)


@pytest.mark.parametrize("length", [8, 99_999_999, 2**39, 2**63])
def test_refuses_safetensors_whose_header_is_longer_than_the_file(path, length):
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    refusal(path)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_safetensors_keep_short_floats(path, dtype):
    expected = {"a": np.array([[0.5, -1.5, 448.0]], dtype)}
    write_safetensors(path, expected)
    assert_identical(read_state_dict(path), expected)


def test_pipes_are_not_waited_for(path):
    os.mkfifo(path)
    assert refusal(path) == "cannot be read: Is a pipe, not a file"
