"""Weights directories: what is written is what is read, and damage is told in one line."""

import dataclasses
import datetime
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import realsr_jax.weights
from realsr_jax.models import network_name, parameter_shapes
from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.system import files
from realsr_jax.weights import (
    BUNDLED,
    FORMAT_VERSION,
    WeightsError,
    is_weights,
    load_weights,
    read_description,
    save_weights,
)

CONFIG = EDSRConfig(n_resblocks=2, n_feats=8, scale=2, res_scale=0.5, edge_padding=False)


def make_params(config, seed=0):
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: generator.standard_normal(leaf.shape, np.float32), parameter_shapes(config)
    )


PARAMS = make_params(CONFIG)


def assert_loads(path, config, params):
    loaded_config, loaded = load_weights(path)
    assert loaded_config == config
    assert type(loaded_config) is type(config)
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for actual, expected in zip(jax.tree.leaves(loaded), jax.tree.leaves(params), strict=True):
        assert actual.dtype == np.float32
        assert isinstance(actual, np.ndarray)
        assert np.asarray(actual).tobytes() == np.asarray(expected).tobytes()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "weights"
    save_weights(path, CONFIG, PARAMS, provenance={"source": "größe.pt", "sha256": "0" * 64})
    return path


@pytest.fixture
def weights(original, tmp_path):
    """A copy of the weights directory, to be damaged."""
    return shutil.copytree(original, tmp_path / "weights")


def change_description(weights, **changes):
    file = weights / "model.json"
    description = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in description.items() if value is not ...}))


def refusal(load, path) -> str:
    """Returns the one line of a WeightsError, which names the path."""
    with pytest.raises(WeightsError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    return message


def snapshot(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_mode) for path in [folder, *folder.rglob("*")]}


@pytest.mark.parametrize(
    "config",
    [
        OADDetConfig(n_resblocks=1, n_feats=8, scale=2),
        DeepOADDetConfig(n_resblocks=1, n_feats=9, scale=3),
        CONFIG,
        EDSRConfig(n_resblocks=1, n_feats=1, scale=4, res_scale=1.0),
    ],
    ids=repr,
)
def test_round_trip_is_exact(tmp_path, config):
    params = make_params(config)
    jax.tree.leaves(params)[0].flat[:4] = [-0.0, 1e-45, np.inf, 3.4e38]
    save_weights(tmp_path / "weights", config, params, provenance={})
    assert read_description(tmp_path / "weights").config() == config
    assert_loads(tmp_path / "weights", config, params)


def test_saves_device_arrays(tmp_path):
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), ("x",))
    replicated = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    for place in (jax.local_devices()[-1], replicated):
        save_weights(tmp_path / "weights", CONFIG, jax.device_put(PARAMS, place), provenance={})
        assert_loads(tmp_path / "weights", CONFIG, PARAMS)


def test_description(original):
    description = json.loads((original / "model.json").read_text())
    assert description["format_version"] == FORMAT_VERSION
    assert description["architecture"] == "edsr"
    assert description["fields"] == dataclasses.asdict(CONFIG)
    assert description["provenance"] == {
        "source": "größe.pt",
        "sha256": "0" * 64,
        "date": datetime.date.today().isoformat(),
    }
    file = original / "params.safetensors"
    assert description["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert sorted(original.iterdir()) == [original / "model.json", file]
    read = read_description(original)
    assert (read.path, read.architecture, read.scale) == (original, "edsr", 2)
    assert read.provenance == description["provenance"]
    assert is_weights(original)
    assert not is_weights(original.parent)


def test_architecture_names():
    configs = [OADDetConfig(), DeepOADDetConfig(), EDSRConfig(), DRLNConfig()]
    assert [network_name(config) for config in configs] == ["oaddet", "deep_oaddet", "edsr", "drln"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        save_weights(tmp_path / "weights", CONFIG, PARAMS, provenance={})
    finally:
        os.umask(before)
    assert (tmp_path / "weights").stat().st_mode & 0o777 == 0o750


def test_relative_paths_and_new_parents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_weights(Path("new/parents/weights"), CONFIG, PARAMS, provenance={})
    assert_loads("new/parents/weights", CONFIG, PARAMS)
    monkeypatch.chdir(tmp_path / "new/parents/weights")
    assert_loads(".", CONFIG, PARAMS)
    assert_loads(Path("../weights"), CONFIG, PARAMS)


def test_replaces_weights(weights):
    (weights / "leftover").touch()
    config = EDSRConfig(n_resblocks=1, n_feats=3, scale=3)
    params = make_params(config, seed=1)
    save_weights(weights, config, params, provenance={})
    assert_loads(weights, config, params)
    assert [path.name for path in weights.parent.iterdir()] == ["weights"]
    assert not (weights / "leftover").exists()


def test_replaces_what_a_link_points_to(weights):
    link = weights.with_name("link")
    link.symlink_to(weights)
    params = make_params(CONFIG, seed=1)
    save_weights(link, CONFIG, params, provenance={})
    assert link.is_symlink()
    assert_loads(weights, CONFIG, params)


def test_replaces_nothing_else(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "photo.png").touch()
    for path in (tmp_path / "photos", tmp_path / "photos" / "photo.png"):
        with pytest.raises(WeightsError, match="is no weights directory, so it is not replaced"):
            save_weights(path, CONFIG, PARAMS, provenance={})
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "photos", tmp_path / "photos" / "photo.png"]


@pytest.mark.parametrize("exchanges", [True, False])
def test_failed_save_keeps_the_old_weights(weights, monkeypatch, exchanges):
    rename, config = os.rename, EDSRConfig(n_resblocks=1, n_feats=3, scale=3)

    def fail_for_new(source, target):
        if (
            Path(target) == weights
            and Path(source).parent.name == "new"
            and (exchanges or not weights.exists())
        ):
            raise OSError("disk gone")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_for_new)
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    with pytest.raises(WeightsError, match=r"weights: cannot be written \(disk gone\)"):
        save_weights(weights, config, make_params(config), provenance={})
    assert_loads(weights, CONFIG, PARAMS)
    assert [path.name for path in weights.parent.iterdir()] == ["weights"]


def test_replaces_where_folders_cannot_be_exchanged(weights, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    test_replaces_weights(weights)


def test_failed_write_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=f"^{tmp_path}/file/weights: cannot be written") as caught:
        save_weights(tmp_path / "file" / "weights", CONFIG, PARAMS, provenance={})
    assert str(caught.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_parameters_of_another_network_are_not_written(tmp_path):
    with pytest.raises(WeightsError, match=r"does not fit model.json: body_0_conv1/bias is absent"):
        save_weights(tmp_path / "weights", CONFIG, {"tail": {"bias": np.zeros(3, np.float32)}}, provenance={})
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------ what is damaged

DESCRIPTIONS = {
    "empty": ("", "damaged"),
    "cut short": ('{"format_version": 1, "archi', "damaged"),
    "no text": (b"\xff\xfe\x00", "damaged"),
    "list": ("[]", "damaged"),
    "number": ("3", "damaged"),
    "nested deeply": ("[" * 100_000, "damaged"),
    "another program's": ('{"modelTopology": {}, "weightsManifest": []}', "damaged"),
}


@pytest.mark.parametrize(("content", "message"), DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
def test_damaged_description(weights, content, message):
    (weights / "model.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    for load in (read_description, load_weights):
        assert message in refusal(load, weights)


CHANGES = {
    "newer": ({"format_version": 3}, "format version 3, this release reads 2; update realsr-jax"),
    "older": (
        {"format_version": 1},
        "format version 1, this release reads 2; convert the checkpoint again, continue the training run",
    ),
    "older, trained": (
        {"format_version": 1, "provenance": {"trained_in": "runs/a"}},
        "this release reads 2; convert the checkpoint again, continue the training run",
    ),
    "no version": ({"format_version": ...}, "damaged"),
    "unknown architecture": (
        {"architecture": "rcan"},
        "unknown architecture 'rcan', expected one of oaddet, deep_oaddet, edsr, drln",
    ),
    "architecture of a wrong type": ({"architecture": ["edsr"]}, "unknown architecture"),
    "no fields": ({"fields": ...}, "damaged"),
    "fields of a wrong type": ({"fields": 3}, "damaged"),
    "unknown field": ({"fields": {"n_feats": 8, "n_heads": 2}}, "n_heads"),
    "impossible field": ({"fields": {"scale": 5}}, "scale is 5, expected 2, 3 or 4"),
    "field of a wrong type": ({"fields": {"n_feats": "8"}}, "model.json: "),
    "provenance of a wrong type": ({"provenance": 3}, "damaged"),
}


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES.keys())
def test_unusable_description(weights, changes, message):
    change_description(weights, **changes)
    for load in (lambda path: read_description(path).config(), load_weights):
        assert message in refusal(load, weights)


def test_missing_description(weights):
    (weights / "model.json").unlink()
    for load in (read_description, load_weights):
        assert "holds no model.json; make one with realsr-convert" in refusal(load, weights)
        assert refusal(load, weights / "nowhere").endswith("directory; make one with realsr-convert")
        assert refusal(load, Path("defualt")).endswith(
            "(did you mean default? built in: 'default', 'clean' and, to upscale or evaluate, 'bicubic')"
        )
        file = weights / "params.safetensors"
        assert refusal(load, file / "below").endswith("directory; make one with realsr-convert")
        assert f"{file}: is a file; convert it first: realsr-convert --input={file}" in refusal(load, file)
    (weights / "model.json").mkdir()
    assert "model.json: cannot be read (Is a directory)" in refusal(load_weights, weights)


def test_a_part_of_a_weights_directory(weights):
    for name in ("params.safetensors", "model.json"):
        message = refusal(load_weights, weights / name)
        assert message.endswith(f"{name}: is a part of the weights directory {weights}; name the directory")


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [flip, lambda content: content[:-1], lambda content: b""])
def test_damaged_parameters(weights, damage):
    file = weights / "params.safetensors"
    content = file.read_bytes()
    file.write_bytes(damage(content))
    again = "convert größe.pt again with realsr-convert"
    expected = f"{file}: damaged, its sha256 is not the recorded one; {again}"
    assert refusal(load_weights, weights) == expected
    change_description(weights, provenance={})
    assert refusal(load_weights, weights).endswith("recorded one; copy it again from where it came")
    file.write_bytes(content)
    assert_loads(weights, CONFIG, PARAMS)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: b"", lambda content: b"x" * 9]
)
def test_damaged_parameters_without_a_digest(weights, damage):
    file = weights / "params.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    change_description(weights, sha256=...)
    message = refusal(load_weights, weights)
    assert message.startswith(f"{file}: damaged (")
    assert message.endswith("); convert größe.pt again with realsr-convert")


def test_missing_parameters(weights):
    file = weights / "params.safetensors"
    file.unlink()
    assert refusal(load_weights, weights) == (
        f"{file}: is missing; convert größe.pt again with realsr-convert"
    )
    change_description(weights, sha256=...)
    assert f"{file}: is missing; " in refusal(load_weights, weights)
    assert read_description(weights).config() == CONFIG
    file.mkdir()
    assert refusal(load_weights, weights).startswith(f"{file}: cannot be read (")


def test_what_must_not_be_read_is_not_called_damaged(weights, monkeypatch):
    def deny(file):
        raise PermissionError(errno.EACCES, "Permission denied", str(file))

    monkeypatch.setattr(realsr_jax.weights, "open_file", deny)
    file = weights / "model.json"
    for load in (read_description, load_weights):
        assert refusal(load, weights) == f"{file}: cannot be read (Permission denied)"
    monkeypatch.undo()
    monkeypatch.setattr(realsr_jax.weights, "sha256_of", deny)
    file = weights / "params.safetensors"
    assert refusal(load_weights, weights) == f"{file}: cannot be read (Permission denied)"


@pytest.mark.parametrize("name", ["model.json", "params.safetensors"])
def test_pipes_are_not_waited_for(weights, name):
    (weights / name).unlink()
    os.mkfifo(weights / name)
    assert "cannot be read (Is a pipe, not a file)" in refusal(load_weights, weights)


def test_parameters_of_another_type(weights):
    for dtype in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2):
        content = safetensors.numpy.save({"head/bias": np.zeros(8, dtype)})
        (weights / "params.safetensors").write_bytes(content)
        change_description(weights, sha256=hashlib.sha256(content).hexdigest())
        refusal(load_weights, weights)


MISFITS = {
    "wider": ({"n_feats": 9}, r"body_0_conv1/bias is float32 \(8,\), expected float32 \(9,\)"),
    "shallower": ({"n_resblocks": 1}, r"body_1_conv1/bias is float32 \(8,\), expected absent"),
    "deeper": ({"n_resblocks": 3}, r"body_2_conv1/bias is absent, expected float32 \(8,\)"),
    "larger scale": ({"scale": 4}, r"upsample/conv_1/bias is absent, expected float32 \(32,\)"),
    "broken width": ({"n_feats": 8.5}, "8.5"),
}


@pytest.mark.parametrize(("fields", "message"), MISFITS.values(), ids=MISFITS.keys())
def test_parameters_that_do_not_fit(weights, fields, message):
    change_description(weights, fields=dataclasses.asdict(CONFIG) | fields)
    assert re.search(message, refusal(load_weights, weights))
    change_description(weights, sha256=...)
    assert re.search(message, refusal(load_weights, weights))


def test_unrecorded_files_do_not_matter(weights):
    (weights / ".DS_Store").touch()
    (weights / "params").mkdir()
    (weights / "params" / "notes.txt").touch()
    assert_loads(weights, CONFIG, PARAMS)
    change_description(weights, sha256=...)
    assert_loads(weights, CONFIG, PARAMS)


def test_loading_writes_nothing(weights):
    for path in [*weights.rglob("*"), weights]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = snapshot(weights)
    try:
        assert_loads(weights, CONFIG, PARAMS)
        assert snapshot(weights) == before
    finally:
        for path in [weights, *weights.rglob("*")]:
            path.chmod(0o755)


# ---------------------------------------------------------------------------------------- other processes


def run_python(code, *arguments, devices=1) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        env=os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"},
    )


SAVE = """
import os, signal, sys
from pathlib import Path
import realsr_jax.weights
from test_weights import CONFIG, make_params
from realsr_jax.weights import save_weights
def die(*arguments, **options):
    os.kill(os.getpid(), signal.SIGKILL)
{kill}
save_weights(Path(sys.argv[1]), CONFIG, make_params(CONFIG, seed=1), provenance={{}})
"""


def test_loads_on_other_device_counts(tmp_path):
    process = run_python(SAVE.format(kill=""), tmp_path / "weights")
    assert (process.returncode, process.stderr) == (0, "")
    assert len(jax.local_devices()) == 4
    assert_loads(tmp_path / "weights", CONFIG, make_params(CONFIG, seed=1))


def test_loads_on_one_device_what_four_saved(original):
    code = """if True:
        import jax, sys
        from test_weights import CONFIG, PARAMS, assert_loads
        assert len(jax.devices()) == 1
        assert_loads(sys.argv[1], CONFIG, PARAMS)
    """
    process = run_python(code, original)
    assert (process.returncode, process.stderr) == (0, "")


KILLS = {
    "before the parameters": "realsr_jax.weights.safetensors.numpy.save = die",
    "after the parameters": "realsr_jax.weights.sha256_of = die",
    "before the description": "Path.write_text = die",
    "before the renaming": "os.rename = die",
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS.keys())
def test_killed_save(tmp_path, kill):
    """It leaves nothing under the name asked for, and nothing incomplete that would load."""
    path = tmp_path / "weights"
    process = run_python(SAVE.format(kill=kill), path)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert not path.exists()
    for leftover in tmp_path.iterdir():
        assert leftover.name.startswith(".realsr-")
        refusal(load_weights, leftover)
    save_weights(path, CONFIG, PARAMS, provenance={})
    assert_loads(path, CONFIG, PARAMS)
    assert [left.name for left in tmp_path.iterdir()] == ["weights"]


def test_killed_replacement_keeps_the_old_weights(weights):
    process = run_python(SAVE.format(kill="os.rename = die"), weights)
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert_loads(weights, CONFIG, PARAMS)


def test_reads_description_without_jax(original):
    code = """if True:
        import sys
        from realsr_jax.weights import is_weights, read_description
        print(read_description(sys.argv[1]).fields)
        assert not {"jax", "orbax", "flax"} & sys.modules.keys()
    """
    process = run_python(code, original)
    assert (process.stdout, process.stderr) == (f"{dataclasses.asdict(CONFIG)}\n", "")


def test_a_training_run_stands_for_its_best_weights_or_else_the_latest(tmp_path):
    latest, best = EDSRConfig(n_resblocks=1, n_feats=4), EDSRConfig(n_resblocks=2, n_feats=4)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "run: a training run that has no weights yet" in refusal(load_weights, tmp_path / "run")
    save_weights(tmp_path / "run" / "latest", latest, make_params(latest), provenance={})
    assert load_weights(tmp_path / "run")[0] == latest
    save_weights(tmp_path / "run" / "best", best, make_params(best), provenance={})
    assert load_weights(tmp_path / "run")[0] == read_description(tmp_path / "run").config() == best
    assert load_weights(tmp_path / "run" / "latest")[0] == latest


def test_the_bundled_networks_are_small_alike_and_found_by_name():
    for name in ("default", "clean"):
        config, params = load_weights(name)
        assert config.scale == read_description(name).scale == 2
        assert config == load_weights("default")[0]  # or their parameters could not be mixed
        assert jax.tree.structure(params) == jax.tree.structure(make_params(config))
        assert {"licence", "training_data", "command", "scores", "limits"} <= read_description(
            name
        ).provenance.keys()
    files = [file for folder in BUNDLED.values() for file in folder.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 8 * 2**20


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [("scale", 2.0, "int"), ("edge_padding", "no", "bool"), ("res_scale", None, "float")],
)
def test_a_field_of_another_type_is_named(tmp_path, name, value, kind):
    save_weights(tmp_path / "weights", CONFIG, PARAMS, provenance={})
    file = tmp_path / "weights" / "model.json"
    document = json.loads(file.read_text())
    document["fields"][name] = value
    file.write_text(json.dumps(document))
    with pytest.raises(WeightsError, match=rf"model.json: {name} is {value!r}, expected {kind}$"):
        load_weights(tmp_path / "weights")
