"""The converter: detection, the table of rules, strictness, and the command from file to file."""

import dataclasses
import functools
import hashlib
import json
import re
import subprocess
import sys
from collections import Counter

import golden
import jax
import ml_dtypes
import numpy as np
import pytest
import torch
import torch_reference
from flax.traverse_util import flatten_dict

from realsr_jax.convert import detection
from realsr_jax.convert.command import run
from realsr_jax.convert.detection import check, detect
from realsr_jax.convert.edsr import OFFICIAL_FILES
from realsr_jax.convert.reader import CheckpointError, read_state_dict
from realsr_jax.convert.rules import layout_of, rules_for, to_flax, to_torch
from realsr_jax.convert.writer import write_safetensors, write_torch
from realsr_jax.models import network_name, network_of, parameter_shapes
from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.weights import load_weights, save_weights

CONFIGS = [
    *(
        oaddet(n_resblocks=n_resblocks, n_feats=n_feats, scale=scale)
        for oaddet in (OADDetConfig, DeepOADDetConfig)
        for n_resblocks, n_feats, scale in [(1, 8, 2), (4, 16, 4), (9, 9, 3)]
    ),
    *(
        EDSRConfig(
            n_resblocks=n_resblocks, n_feats=n_feats, scale=scale, res_scale=1.0, edge_padding=edge_padding
        )
        for n_resblocks, n_feats, scale in [(1, 1, 2), (2, 8, 3), (3, 5, 4), (21, 4, 2)]
        for edge_padding in (True, False)
    ),
    EDSRConfig(n_resblocks=1, n_feats=256, scale=2, res_scale=0.1, edge_padding=False),
    *(DRLNConfig(scale=scale) for scale in (2, 8)),  # x3 and x4 are among the manifests
]
MANIFESTS = sorted(path.stem for path in (golden.DATA / "manifests").glob("*.json"))


def make_reference(config) -> torch.nn.Module:
    """Returns the PyTorch network of a configuration with random weights."""
    torch.manual_seed(0)
    options = dataclasses.asdict(config)
    if isinstance(config, EDSRConfig):
        options["padding"] = "edge" if options.pop("edge_padding") else "zero"
    return torch_reference.MODELS[network_name(config)](**options)


def to_numpy(state_dict) -> dict[str, np.ndarray]:
    return {key: tensor.detach().numpy() for key, tensor in state_dict.items()}


def make_state_dict(config) -> dict[str, np.ndarray]:
    return to_numpy(make_reference(config).state_dict())


def assert_identical(actual, expected):
    assert actual.keys() == expected.keys()
    for key, array in expected.items():
        assert actual[key].dtype == array.dtype, key
        assert actual[key].shape == array.shape, key
        assert actual[key].tobytes() == array.tobytes(), key


def assert_same_params(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: a.tobytes() == b.tobytes(), actual, expected)))


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_detects_sizes_and_round_trips(config):
    reference = make_reference(config)
    state_dict = to_numpy(reference.state_dict())
    detected = detect(state_dict)
    assert detected == config
    check(detected, state_dict)
    back = to_torch(config, to_flax(config, state_dict))
    assert_identical(back, state_dict)
    reference.load_state_dict({key: torch.from_numpy(array) for key, array in back.items()}, strict=True)


@pytest.mark.parametrize("config", CONFIGS, ids=repr)
def test_rules_cover_every_parameter_once(config):
    rules = rules_for(config)
    paths = flatten_dict(parameter_shapes(config), sep="/").keys()
    assert Counter(rule.path for rule in rules) == Counter(paths)
    assert len({rule.key for rule in rules}) == len(rules)


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_used_once_and_detected(name):
    manifest = golden.manifest(name)
    state_dict = {
        key: np.array(entry["value"], np.float32)
        if "value" in entry
        else np.broadcast_to(np.float32(0), entry["shape"])
        for key, entry in manifest["state_dict"].items()
    }
    config = detect(state_dict)
    assert network_name(config) == manifest["architecture"]
    expected = {"res_scale": 1.0, "edge_padding": True} if isinstance(config, EDSRConfig) else {}
    assert dataclasses.asdict(config) == expected | manifest["config"]
    keys = [rule.key for rule in rules_for(config)] + list(layout_of(config).mean_shift_forms(config)[0])
    assert Counter(keys) == Counter(state_dict.keys())
    check(config, state_dict)
    for key, constant in layout_of(config).mean_shift_forms(config)[0].items():
        np.testing.assert_array_equal(constant, state_dict[key])


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("edsr_tiny", np.float16), ("edsr_tiny", ml_dtypes.bfloat16), ("drln", ml_dtypes.bfloat16)],
)
def test_accepts_a_mean_of_less_precision(name, dtype):
    entries = golden.manifest(name)["state_dict"].items()
    state_dict = {key: np.array(entry.get("value", 0), dtype) for key, entry in entries}
    state_dict = {key: np.broadcast_to(state_dict[key], entry["shape"]) for key, entry in entries}
    check(detect(state_dict), state_dict)


# ------------------------------------------------------------------------------------------- the command


class Command:
    """Runs the converter in this process, in a folder of its own."""

    def __init__(self, folder, capsys):
        self.folder, self._capsys = folder, capsys

    def __call__(self, *arguments) -> int:
        self._capsys.readouterr()
        status = run(["realsr-convert", *map(str, arguments)])
        self.out, self.err = self._capsys.readouterr()
        return status

    def convert(self, source, target="weights", *arguments) -> int:
        return self(f"--input={self.folder / source}", f"--output={self.folder / target}", *arguments)

    def refuse(self, status, source, target="weights", *arguments) -> str:
        """Returns the one line of a refusal that leaves everything as it was."""
        before = self.snapshot()
        assert self.convert(source, target, *arguments) == status
        assert self.snapshot() == before
        assert not self.out
        assert self.err.startswith("realsr-convert: ")
        assert self.err.endswith("\n")
        assert self.err[:-1].isprintable()
        return self.err[len("realsr-convert: ") : -1]

    def snapshot(self):
        return {
            path.relative_to(self.folder): path.read_bytes() if path.is_file() else None
            for path in self.folder.rglob("*")
        }

    def description(self, target="weights"):
        return json.loads((self.folder / target / "model.json").read_text())


@pytest.fixture
def command(tmp_path, capsys):
    return Command(tmp_path, capsys)


TINY = golden.state_dict("edsr_tiny")


@pytest.fixture
def source(tmp_path):
    write_torch(tmp_path / "edsr.pt", TINY)
    return tmp_path / "edsr.pt"


def test_converts(command, source):
    assert command.convert(source.name) == 0
    assert command.err == ""
    assert f"edsr.pt: edsr\n{EDSRConfig(n_resblocks=2, n_feats=8, scale=2, res_scale=1.0)}\n" in command.out
    description = command.description()
    assert description["architecture"] == "edsr"
    assert description["provenance"]["source"] == "edsr.pt"
    assert description["provenance"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    config, params = load_weights(command.folder / "weights")
    assert config == EDSRConfig(n_resblocks=2, n_feats=8, scale=2, res_scale=1.0)
    assert_same_params(jax.tree.map(np.asarray, params), to_flax(config, TINY))


def test_reads_short_flags_and_makes_folders(command, source):
    assert command("-i", source, "-o", command.folder / "new" / "folders" / "weights") == 0
    assert command.description("new/folders/weights")["architecture"] == "edsr"


def test_formats_give_the_same_parameters(command):
    tensors = {key: torch.from_numpy(array) for key, array in TINY.items()}
    torch.save(tensors, command.folder / "zip.pth")
    torch.save(tensors, command.folder / "stream.pt", _use_new_zipfile_serialization=False)
    write_safetensors(command.folder / "other.safetensors", TINY)
    for name in ("zip.pth", "stream.pt", "other.safetensors"):
        assert command.convert(name, name + ".weights") == 0
        config, params = load_weights(command.folder / (name + ".weights"))
        assert_same_params(jax.tree.map(np.asarray, params), to_flax(config, TINY))


def test_unwraps_prefixes_and_wrappers(command):
    tensors = {f"module.{key}": torch.from_numpy(array) for key, array in TINY.items()}
    zeros = {key: torch.zeros_like(tensor) for key, tensor in tensors.items()}
    for name, tree in {
        "plain": tensors,
        "state_dict": {"epoch": 7, "state_dict": tensors, "optimizer": {"state": {0: {"step": 3}}}},
        "model": {"model": tensors, "best": torch.tensor(31.0)},
        "params": {"params": tensors},
        "params_ema": {"params": zeros, "params_ema": tensors},
    }.items():
        torch.save(tree, command.folder / f"{name}.pth")
        assert command.convert(f"{name}.pth", name) == 0
        config, params = load_weights(command.folder / name)
        assert_same_params(jax.tree.map(np.asarray, params), to_flax(config, TINY))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_converts_other_precisions_to_float32(command, dtype):
    tensors = {key: torch.from_numpy(array).to(dtype) for key, array in TINY.items()}
    torch.save(tensors, command.folder / "other.pth")
    assert command.convert("other.pth") == 0
    config, params = load_weights(command.folder / "weights")
    expected = to_flax(config, {key: tensor.float().numpy() for key, tensor in tensors.items()})
    assert_same_params(jax.tree.map(np.asarray, params), expected)


@pytest.mark.parametrize(
    ("config", "suffix"),
    [
        (OADDetConfig(n_resblocks=4, n_feats=8, scale=2), ".pt"),
        (DeepOADDetConfig(n_resblocks=2, n_feats=9, scale=3), ".safetensors"),
        (EDSRConfig(n_resblocks=2, n_feats=6, scale=4, res_scale=1.0), ".pt"),
        (EDSRConfig(n_resblocks=2, n_feats=6, scale=3, res_scale=1.0, edge_padding=False), ".pt"),
        (EDSRConfig(n_resblocks=2, n_feats=6, scale=3, res_scale=1.0, edge_padding=False), ".safetensors"),
    ],
    ids=repr,
)
def test_converts_back_bit_exactly(command, config, suffix):
    reference = make_reference(config)
    state_dict = to_numpy(reference.state_dict())
    torch.save(reference.state_dict(), command.folder / "source.pth")
    assert command.convert("source.pth") == 0
    assert command.convert("weights", f"new/back{suffix}", "--to_torch") == 0
    assert command.err == ""
    back = command.folder / f"new/back{suffix}"
    assert_identical(read_state_dict(back), state_dict)
    if suffix == ".pt":
        tensors = torch.load(back, weights_only=True)
        assert reference.load_state_dict(tensors, strict=True)
        assert_identical(to_numpy(tensors), state_dict)
    assert command.convert(f"new/back{suffix}", "again") == 0
    assert command.description("again")["fields"] == command.description()["fields"]


def test_recognises_official_files(command, source, monkeypatch):
    assert len(OFFICIAL_FILES) == 6
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in OFFICIAL_FILES)
    sha256 = hashlib.sha256(source.read_bytes()).hexdigest()
    monkeypatch.setitem(OFFICIAL_FILES, sha256, "EDSR tiny x2")
    assert command.convert(source.name) == 0
    assert "edsr, the official EDSR tiny x2\n" in command.out
    assert command.description()["provenance"]["known_as"] == "EDSR tiny x2"


def test_padding_follows_the_mean_shift_unless_told(command):
    write_torch(command.folder / "edge.pt", TINY)
    write_torch(command.folder / "zero.pt", golden.with_mean_convolutions(TINY))
    for arguments, expected in {("edge.pt",): True, ("zero.pt",): False}.items():
        assert command.convert(*arguments, "detected", "--overwrite") == 0
        assert command.description("detected")["fields"]["edge_padding"] is expected
        for padding in ("edge", "zero"):
            assert command.convert(*arguments, "told", f"--padding={padding}", "--overwrite") == 0
            assert command.description("told")["fields"]["edge_padding"] is (padding == "edge")


def test_overrides(command, source):
    assert command.convert(source.name, "a", "--model=edsr", "--scale=2", "--res_scale=0.25") == 0
    assert command.description("a")["fields"]["res_scale"] == 0.25
    assert "edsr.pt: has scale 2, not 4" in command.refuse(1, source.name, "b", "--scale=4")
    message = command.refuse(1, source.name, "b", "--model=drln")
    assert "edsr.pt: is no DRLN: it lacks upsample.up.body.0.weight" in message
    assert "res_scale is 0.0, expected more than 0" in command.refuse(2, source.name, "b", "--res_scale=0")
    write_torch(
        command.folder / "oaddet.pt", make_state_dict(OADDetConfig(n_resblocks=1, n_feats=8, scale=2))
    )
    message = command.refuse(2, "oaddet.pt", "b", "--padding=zero")
    assert message.startswith("--padding: ")
    assert message.endswith("oaddet.pt is OADDet, which has no such option")


def test_model_flag_reports_on_what_would_not_be_recognised(command):
    without = ("tail.1.weight", "body.0.body.0.weight")
    write_torch(command.folder / "cut.pt", {k: v for k, v in TINY.items() if k not in without})
    assert "unknown architecture" in command.refuse(1, "cut.pt")
    assert command.convert("cut.pt", "weights", "--model=edsr") == 1
    assert command.err.splitlines()[1:] == [
        "  missing     body.0.body.0.weight (8, 8, 3, 3)",
        "  missing     tail.1.weight (3, 8, 3, 3)",
    ]


SIZES_OF_EACH = [
    EDSRConfig(n_resblocks=3, n_feats=4, scale=4, res_scale=1.0),
    OADDetConfig(n_resblocks=4, n_feats=8, scale=2),
    DeepOADDetConfig(n_resblocks=4, n_feats=8, scale=2),
    pytest.param(DRLNConfig(scale=4), marks=pytest.mark.slow),
]


@pytest.mark.parametrize("config", SIZES_OF_EACH, ids=repr)
def test_one_missing_tensor_is_all_that_is_reported(config, monkeypatch):
    """Whichever it is: it was counted, or told the network or its sizes, or neither."""
    monkeypatch.setattr(detection, "parameter_shapes", functools.cache(parameter_shapes))
    state_dict = {key: np.zeros(array.shape) for key, array in make_state_dict(config).items()}
    state_dict |= layout_of(config).mean_shift_forms(config)[0]
    some = list(state_dict)[:: 1 + len(state_dict) // 100]
    for key in {*some, *layout_of(config).recognised_by}:
        rest = {other: array for other, array in state_dict.items() if other != key}
        with pytest.raises(CheckpointError) as error:
            check(detect(rest), rest)
        first, *more = str(error.value).splitlines()
        if more:
            assert first == f"does not fit {config}:"
            assert more == [f"  missing     {key} {state_dict[key].shape}"]
        else:
            assert first == f"is no {network_of(config).title}: it lacks {key}"


def test_the_file_tells_its_one_missing_tensor(command):
    write_torch(command.folder / "cut.pt", {k: v for k, v in TINY.items() if k != "body.0.body.0.weight"})
    assert command.convert("cut.pt") == 1
    first, second = command.err.splitlines()
    assert first.endswith(f"cut.pt: does not fit {EDSRConfig(n_resblocks=2, n_feats=8, res_scale=1.0)}:")
    assert second == "  missing     body.0.body.0.weight (8, 8, 3, 3)"
    write_torch(command.folder / "cut.pt", {k: v for k, v in TINY.items() if k != "head.0.weight"})
    assert command.refuse(1, "cut.pt").endswith("cut.pt: is no EDSR: it lacks head.0.weight")


def test_reports_all_violations_at_once(command):
    nan = TINY["body.0.body.2.weight"].copy()
    nan[0, 0, 0, 0] = np.nan
    changed = {
        "head.0.bias": np.zeros(9, np.float32),
        "body.0.body.0.weight": np.zeros((8, 8, 3, 3), np.int64),
        "body.0.body.0.bias": np.zeros(8, np.complex64),
        "body.0.body.2.weight": nan,
        "body.0.body.2.bias": np.full(8, 1e300),
        "sub_mean.rgb_mean": np.zeros(3, np.float32),
        "add_mean.rgb_mean": np.zeros(3, np.complex64),
        "ema.decay": np.zeros((), np.float32),
        "line\nbreak\x1b[2J": np.zeros(2, np.float32),
    }
    state_dict = {key: array for key, array in TINY.items() if key != "body.1.body.0.bias"} | changed
    write_torch(command.folder / "broken.pt", state_dict)
    before = command.snapshot()
    assert command.convert("broken.pt") == 1
    assert command.snapshot() == before
    first, *problems = command.err.splitlines()
    assert first.startswith(f"realsr-convert: {command.folder}/broken.pt: does not fit EDSRConfig(")
    assert sorted(problems) == [
        "  misshapen   head.0.bias (9,), expected (8,)",
        "  missing     body.1.body.0.bias (8,)",
        "  not finite  body.0.body.2.bias holds NaN, infinity or numbers beyond float32",
        "  not finite  body.0.body.2.weight holds NaN, infinity or numbers beyond float32",
        "  not floats  add_mean.rgb_mean is complex64",
        "  not floats  body.0.body.0.bias is complex64",
        "  not floats  body.0.body.0.weight is int64",
        "  other mean  sub_mean.rgb_mean is 0, 0, 0, expected -114.4, -111.5, -103",
        "  unexpected  ema.decay ()",
        "  unexpected  line\\nbreak\\x1b[2J (2,)",
    ]


def test_refuses_another_mean_convolution():
    state_dict = golden.with_mean_convolutions(TINY)
    state_dict["sub_mean.weight"] = state_dict["sub_mean.weight"] / 0.28
    with pytest.raises(CheckpointError, match=r"other mean  sub_mean.weight is 3.571, 0, .*, expected 1, 0,"):
        check(detect(state_dict), state_dict)


def test_refuses_two_forms_of_the_mean_mixed():
    mixed = golden.with_mean_convolutions(TINY) | {"sub_mean.rgb_mean": TINY["sub_mean.rgb_mean"]}
    with pytest.raises(CheckpointError, match=r"unexpected  sub_mean.rgb_mean \(3,\)"):
        check(detect(mixed), mixed)


def zeros(**shapes) -> dict[str, np.ndarray]:
    return {key.replace("_", "."): np.zeros(shape, np.float32) for key, shape in shapes.items()}


UNKNOWN = {
    "related by name": (
        {**TINY, "extra.weight": np.zeros(4), "extra.bias": np.zeros(4)},
        ["body.0.body.0.weight", "tail.1.weight"],
        r"By its tensors' names, the nearest is EDSRConfig\(.*n_resblocks=16, n_feats=64, .*: of its 74 "
        r"names 14 are here, 60 are missing \(body.0.body.0.weight, .*\), and 4 others are here instead "
        r"\(body.2.weight, body.2.bias, extra.weight, \.\.\.\)",
    ),
    "related by shape": (
        zeros(enter_weight=(64, 3, 3, 3), enter_bias=(64,), leave_weight=(64, 48, 3, 3)),
        [],
        r"It shares no name with them; by shapes alone, the nearest is EDSRConfig\(.*n_resblocks=16, .*: of "
        r"its 74 shapes 2 are here, 72 are missing .*, and 1 others are here instead \(\(64, 48, 3, 3\)\)",
    ),
    "hostile name": (zeros(a=(7,)) | {"head.0.weight": np.zeros(1), "\x1b[2J": np.zeros(1)}, [], "x1b"),
}


@pytest.mark.parametrize(("state_dict", "without", "message"), UNKNOWN.values(), ids=UNKNOWN.keys())
def test_explains_unknown_architecture(command, state_dict, without, message):
    write_torch(command.folder / "other.pt", {k: v for k, v in state_dict.items() if k not in without})
    refusal = command.refuse(1, "other.pt")
    assert "other.pt: has an unknown architecture; realsr_jax runs oaddet, deep_oaddet, edsr, dr" in refusal
    assert re.search(message, refusal)


RDB, ATTENTION = "sub.0.RDB1.conv1.0", "layers.0.residual_group.blocks.0.attn"
OF_SPANDREL = {
    "ESRGAN": [
        ["model.0.weight", f"model.1.{RDB}.weight", "model.10.weight"],
        ["conv_first.weight", "body.0.rdb1.conv1.weight", "conv_body.weight", "conv_last.weight"],
        ["conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight", "trunk_conv.weight", "conv_last.weight"],
    ],
    "Real-ESRGAN Compact": [[f"body.{i}.weight" for i in range(35)]],
    "RCAN": [
        [
            *(
                "sub_mean.weight",
                "sub_mean.bias",
                "head.0.weight",
                "head.0.bias",
                "body.0.body.0.body.0.weight",
            ),
            *("body.0.body.0.body.3.conv_du.0.weight", "tail.0.0.weight", "tail.1.weight", "tail.1.bias"),
        ]
    ],
    "SwinIR": [["conv_first.weight", f"{ATTENTION}.relative_position_index", f"{ATTENTION}.qkv.weight"]],
    "HAT": [
        [
            *("relative_position_index_SA", "conv_first.weight", f"{ATTENTION}.qkv.weight"),
            "layers.0.residual_group.overlap_attn.qkv.weight",
        ]
    ],
    "DAT": [["conv_first.weight", "before_RG.1.weight", "layers.0.blocks.0.attn.attns.0.rpe_biases"]],
    "Omni-SR": [
        ["input.weight", "residual_layer.0.residual_layer.0.layer.0.fn.0.weight", "up.0.weight"],
    ],
    "SPAN": [["conv_1.sk.weight", "block_1.c1_r.sk.weight", "conv_cat.weight", "upsampler.0.weight"]],
    "PLKSR": [["feats.0.weight", "feats.1.lk.conv.weight", "feats.1.channel_mixer.0.weight"]],
}


@pytest.mark.parametrize(
    ("title", "keys"), [(title, keys) for title, files in OF_SPANDREL.items() for keys in files]
)
def test_names_what_another_program_runs(command, title, keys):
    tensors = {"params_ema": {key: torch.zeros(4, 3, 3, 3) for key in keys}}
    torch.save(tensors, command.folder / "other.pth")
    assert command.refuse(1, "other.pth").endswith(
        f"other.pth: holds a network of the kind {title}, which chaiNNer's spandrel runs; "
        "realsr_jax runs oaddet, deep_oaddet, edsr, drln"
    )


def test_says_when_nothing_is_related(command, monkeypatch):
    monkeypatch.setattr(detection, "_published_configs", lambda: [EDSRConfig(n_resblocks=1, n_feats=8)])
    write_torch(command.folder / "other.pt", zeros(a=(7,)))
    assert command.refuse(1, "other.pt").endswith(", and no tensor has a name or a shape of theirs")


IMPOSSIBLE = {
    "scale 8": (
        TINY | {"tail.0.2.weight": TINY["tail.0.0.weight"], "tail.0.4.weight": TINY["tail.0.0.weight"]},
        "is like EDSR, but no such network exists: EDSRConfig: scale is 8, expected 2, 3 or 4",
    ),
    "no features": (
        TINY | {"head.0.weight": np.zeros((0, 3, 3, 3), np.float32)},
        "is no EDSR: the tensors that tell its sizes have other shapes",
    ),
    "scalar": (
        TINY | {"head.0.weight": np.zeros((), np.float32)},
        "is no EDSR: the tensors that tell its sizes have other shapes",
    ),
    "scale 1": (
        make_state_dict(OADDetConfig(n_resblocks=1, n_feats=8, scale=2))
        | {"body_down.1.weight": np.zeros((8, 3, 3, 3), np.float32)},
        "is like OADDet, but no such network exists: OADDetConfig: scale is 1, expected 2, 3 or 4",
    ),
    "vector": (
        make_state_dict(OADDetConfig(n_resblocks=1, n_feats=8, scale=2))
        | {"body_down.1.weight": np.zeros(8, np.float32)},
        "is no OADDet: the tensors that tell its sizes have other shapes",
    ),
}


@pytest.mark.parametrize(("state_dict", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_refuses_impossible_sizes(command, state_dict, message):
    write_torch(command.folder / "odd.pt", state_dict)
    assert command.refuse(1, "odd.pt").endswith(f"odd.pt: {message}")


NO_CHECKPOINTS = {
    "empty": (b"", "is empty"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(99), "is a PNG image"),
    "text": (b"hello\n", "is not a PyTorch or safetensors checkpoint"),
    "web page": (b"<!doctype html>", "is a web page"),
}


@pytest.mark.parametrize(("content", "message"), NO_CHECKPOINTS.values(), ids=NO_CHECKPOINTS.keys())
def test_refuses_what_is_no_checkpoint(command, content, message):
    (command.folder / "source.pth").write_bytes(content)
    assert f"source.pth: {message}" in command.refuse(1, "source.pth")


def test_refuses_truncated_checkpoint(command, source):
    source.write_bytes(source.read_bytes()[:-1000])
    assert "edsr.pt: is a damaged or incomplete zip archive" in command.refuse(1, source.name)


def test_refuses_pickled_class_by_name(command):
    torch.save({"model": torch.nn.Linear(1, 1)}, command.folder / "whole.pth")
    message = command.refuse(1, "whole.pth")
    assert "whole.pth: holds a pickled 'torch.nn.modules.linear.Linear' object" in message


def test_refuses_missing_source_and_folder(command):
    assert command.refuse(2, "missing.pt").endswith("missing.pt: no such file or directory")
    (command.folder / "folder").mkdir()
    assert "folder: is a directory; to convert weights back, pass --to_torch" in command.refuse(2, "folder")
    assert "folder: no weights directory" in command.refuse(1, "folder", "out.pt", "--to_torch")


def test_converts_only_weights_back(command, source):
    assert "edsr.pt: is a file" in command.refuse(2, source.name, "out.pt", "--to_torch")
    assert "out.onnx: expected a file to write, named .pt" in command.refuse(2, ".", "out.onnx", "--to_torch")
    assert command.convert(source.name) == 0
    message = command.refuse(2, "weights", "out.pt", "--to_torch", "--padding=zero")
    assert message.startswith("--padding has no meaning with --to_torch")
    (command.folder / "folder").mkdir()
    message = command.refuse(2, "weights", "folder", "--to_torch", "--overwrite")
    assert "folder: expected a file to write" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output=b"], "--input"),
        (["--input=a"], "--output"),
        (["--input=a", "--output=b", "--model=rcan"], "--model=rcan"),
        (["--input=a", "--output=b", "--padding=same"], "--padding=same"),
        (["--input=a", "--output=b", "--scale=two"], "--scale=two"),
        (["--input=a", "--output=b", "--sacle=2"], "sacle"),
        (["--input=a", "--output=b", "c"], "unexpected argument 'c'"),
    ],
)
def test_refuses_wrong_command_line(command, arguments, message):
    assert command(*arguments) == 2
    assert message in command.err
    assert "realsr-convert --help" in command.err


def test_refuses_what_cannot_become_onnx(command, source, monkeypatch):
    assert "a.pt: expected a file to write, named .onnx" in command.refuse(2, ".", "a.pt", "--to_onnx")
    message = command.refuse(2, source.name, "a.onnx", "--to_onnx")
    assert message.endswith("edsr.pt: is a file; to convert a checkpoint, leave out --to_onnx")
    message = command.refuse(2, ".", "a.onnx", "--to_onnx", "--to_torch")
    assert message == "--to_onnx has no meaning with --to_torch"
    assert command.refuse(2, ".", "a.onnx", "--to_onnx", "--scale=2").startswith(
        "--scale has no meaning with"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = command.refuse(2, ".", "a.onnx", "--to_onnx")
    assert message == ("--to_onnx needs jax2onnx; install it with: pip install jax2onnx (the extra 'onnx')")


def test_keeps_existing_output(command, source):
    assert command.convert(source.name) == 0
    message = command.refuse(2, source.name)
    assert message.endswith("weights: exists already; pass --overwrite to replace it")
    assert command.convert("weights", "back.pt", "--to_torch") == 0
    assert "back.pt: exists already" in command.refuse(2, "weights", "back.pt", "--to_torch")


def test_overwrites_weights_and_nothing_else(command, source):
    assert command.convert(source.name) == 0
    write_torch(source, golden.state_dict("edsr_tiny_x3"))
    (command.folder / "weights" / "leftover").touch()
    assert command.convert(source.name, "weights", "--overwrite") == 0
    assert command.description()["fields"]["scale"] == 3
    assert sorted(path.name for path in (command.folder / "weights").iterdir()) == [
        "model.json",
        "params.safetensors",
    ]
    assert sorted(path.name for path in command.folder.iterdir()) == ["edsr.pt", "weights"]
    (command.folder / "photos").mkdir()
    (command.folder / "photos" / "photo.png").touch()
    for target in ("photos", source.name):
        message = command.refuse(2, source.name, target, "--overwrite")
        assert message.endswith(f"{target}: is no weights directory, so --overwrite does not replace it")
    assert command.convert("weights", "back.pt", "--to_torch") == 0
    assert command.convert("weights", "back.pt", "--to_torch", "--overwrite") == 0


def test_refused_checkpoint_keeps_what_it_would_overwrite(command, source):
    assert command.convert(source.name) == 0
    source.write_bytes(b"")
    assert "edsr.pt: is empty" in command.refuse(1, source.name, "weights", "--overwrite")


# ------------------------------------------------------------------------------------------------- --show


def facts(command, path) -> dict[str, str]:
    """Returns what --show says of a path, having changed nothing."""
    before = command.snapshot()
    assert command(f"--show={path}") == 0
    assert command.err == ""
    assert command.snapshot() == before
    first, *lines = command.out.splitlines()
    assert all(line.startswith("  ") for line in lines)
    return {"first": first} | dict(line.strip().split(": ", 1) for line in lines)


TINY_FACTS = {
    "network": "EDSR (edsr)",
    "scale": "2",
    "n_resblocks": "2",
    "n_feats": "8",
    "parameters": f"{golden.manifest('edsr_tiny')['parameters']:,}",
}


def test_shows_weights(command, source):
    provenance = {"licence": "CC0", "command": "realsr-train", "scores": "37 dB", "title": "a\x1b[2J\nb"}
    config = EDSRConfig(n_resblocks=2, n_feats=8, res_scale=1.0)
    save_weights(command.folder / "weights", config, to_flax(config, TINY), provenance=provenance)
    shown = facts(command, command.folder / "weights")
    assert shown["first"] == f"{command.folder}/weights: weights in {command.folder}/weights"
    assert shown.items() >= TINY_FACTS.items()
    assert shown.items() >= {"licence": "CC0", "command": "realsr-train", "scores": "37 dB"}.items()
    assert shown["title"] == "a\\x1b[2J\\nb"
    assert len(shown["date"]) == 10
    assert command.convert(source.name, "converted") == 0
    shown = facts(command, command.folder / "converted")
    assert shown["source"] == "edsr.pt"
    assert shown["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_shows_the_best_weights_of_a_run(command):
    for name, n_feats in (("best", 3), ("latest", 4)):
        config = EDSRConfig(n_resblocks=1, n_feats=n_feats)
        params = to_flax(config, make_state_dict(config))
        save_weights(command.folder / "run" / name, config, params, provenance={"epoch": name})
    shown = facts(command, command.folder / "run")
    assert shown["first"] == f"{command.folder}/run: weights in {command.folder}/run/best"
    assert (shown["n_feats"], shown["epoch"]) == ("3", "best")


@pytest.mark.parametrize(("name", "data"), [("default", "City100"), ("clean", "CLIC 2025")])
def test_shows_the_bundled_networks(command, name, data):
    shown = facts(command, name)
    assert shown["network"] == "EDSR (edsr)"
    assert data in shown["training_data"]
    assert shown["licence"] == "Apache-2.0"
    assert shown.keys() >= {"command", "scores", "limits", "date"}


@pytest.mark.parametrize("write", [write_torch, write_safetensors])
def test_shows_checkpoints(command, write, monkeypatch):
    file = command.folder / "edsr.file"
    write(file, TINY)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setitem(OFFICIAL_FILES, sha256, "EDSR tiny x2")
    shown = facts(command, file)
    assert shown["first"] == f"{file}: checkpoint, of which every tensor fits"
    assert shown.items() >= TINY_FACTS.items()
    assert shown.items() >= {"sha256": sha256, "known_as": "EDSR tiny x2"}.items()


def test_shows_why_something_cannot_be_used(command, source):
    def refuse(path):
        before = command.snapshot()
        assert command(f"--show={path}") == 1
        assert (command.snapshot(), command.out) == (before, "")
        return command.err

    assert "nowhere: no such weights directory" in refuse(command.folder / "nowhere")
    assert "defualt: no such weights directory" in refuse("defualt")
    assert "did you mean default?" in command.err
    assert f"{command.folder}: no weights directory" in refuse(command.folder)
    write_torch(command.folder / "cut.pt", {k: v for k, v in TINY.items() if k != "head.0.bias"})
    assert "  missing     head.0.bias (8,)" in refuse(command.folder / "cut.pt")
    source.write_bytes(b"")
    assert "edsr.pt: is empty" in refuse(source)
    write_torch(source, TINY)
    assert command.convert(source.name) == 0
    source.rename(command.folder / "weights" / source.name)
    assert facts(command, command.folder / "weights" / source.name).items() >= TINY_FACTS.items()
    file = command.folder / "weights" / "params.safetensors"
    assert f"is a part of the weights directory {file.parent}; name the directory" in refuse(file)
    file.write_bytes(file.read_bytes()[:-1])
    assert "its sha256 is not the recorded one; convert edsr.pt again" in refuse(file.parent)


@pytest.mark.parametrize(
    "flag", ["--input=a", "--output=a", "--to_torch", "--overwrite", "--scale=2", "--padding=zero"]
)
def test_show_stands_alone(command, flag):
    assert command("--show=default", flag) == 2
    assert f"{flag.split('=')[0]} has no meaning with --show" in command.err


def test_converts_bundled_weights_and_runs_back(command):
    assert command("--to_torch", "--input=default", f"--output={command.folder / 'default.pt'}") == 0
    config, params = load_weights("default")
    assert_identical(read_state_dict(command.folder / "default.pt"), to_torch(config, params))
    save_weights(command.folder / "run" / "latest", config, params, provenance={})
    assert command.convert("run", "run.safetensors", "--to_torch") == 0
    assert_identical(read_state_dict(command.folder / "run.safetensors"), to_torch(config, params))
    assert command("--to_torch", "--input=defautl", f"--output={command.folder / 'b.pt'}") == 2
    assert command.err.endswith("defautl: no such file or directory; did you mean default?\n")
    assert command("--input=default", f"--output={command.folder / 'b'}") == 2
    assert "default: is a directory; to convert weights back, pass --to_torch" in command.err


def run_python(code, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)], capture_output=True, text=True
    )


def test_converts_without_torch(command, source):
    code = """if True:
        import sys
        sys.modules["torch"] = None
        from realsr_jax.convert.command import run
        source, weights, back = sys.argv[1:]
        assert run(["realsr-convert", "-i", source, "-o", weights]) == 0
        assert run(["realsr-convert", "-i", weights, "-o", back, "--to_torch"]) == 0
    """
    process = run_python(code, source, command.folder / "weights", command.folder / "back.pt")
    assert (process.returncode, process.stderr) == (0, "")
    assert_identical(read_state_dict(command.folder / "back.pt"), TINY)


def test_help_and_refusals_do_not_start_jax(tmp_path):
    code = """if True:
        import sys
        from realsr_jax.convert.command import run
        assert run(["realsr-convert", "--help"]) == 0
        assert run(["realsr-convert", "--input=" + sys.argv[1], "--output=x"]) == 2
        sys.exit("jax" in sys.modules)
    """
    process = run_python(code, tmp_path / "missing.pt")
    assert process.returncode == 0, process.stderr
    for flag in (
        "--input",
        "--output",
        "--to_torch",
        "--to_onnx",
        "--overwrite",
        "--model",
        "--scale",
        "--padding",
        "--show",
    ):
        assert flag in process.stdout
