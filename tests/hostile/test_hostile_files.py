"""Checkpoints and weights directories, damaged and crafted: refused in time, within memory, and never run.

Everyday runs try a few hundred; REALSR_MUTATIONS=200000 with `-m slow` is the long form.
"""

import os
import shutil
from collections import OrderedDict

import checkpoint_cases
import driver
import jax
import numpy as np
import pytest
import safetensors.numpy
import torch
import weights_cases

from realsr_jax.convert.rules import to_torch
from realsr_jax.convert.writer import write_safetensors
from realsr_jax.models import parameter_shapes
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.weights import save_weights

CONFIG = EDSRConfig(n_resblocks=1, n_feats=4, scale=2, res_scale=1.0)
PARAMS = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, np.float32), parameter_shapes(CONFIG))
LONG = int(os.environ.get("REALSR_MUTATIONS", "20000"))


def save_originals(folder):
    """Writes what PyTorch makes of a network, of odd layouts and of a training run, in each format."""
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 2)).sum().backward()
    optimizer.step()
    base = torch.arange(6.0)
    trees = {
        "network": {key: torch.from_numpy(array) for key, array in to_torch(CONFIG, PARAMS).items()},
        "layouts": OrderedDict(
            a=base.view(2, 3).T,
            b=base[2:4].half(),
            c=base[:1].expand(3, 3),
            d=torch.tensor(1.5),
            e=torch.zeros(0, 3),
            f=torch.tensor([1, 2], dtype=torch.uint16),
            g=torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16)),
        ),
        "training": {
            "epoch": 3,
            "params_ema": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "psnr": np.float64(31.5),
            "seen": {1, 2},
        },
    }
    for name, tree in trees.items():
        torch.save(tree, folder / f"{name}.zip")
        torch.save(tree, folder / f"{name}.pt", _use_new_zipfile_serialization=False)
        torch.save(tree, folder / f"{name}_4.zip", pickle_protocol=4)
    write_safetensors(folder / "network.safetensors", to_torch(CONFIG, PARAMS))
    arrays = {"a": np.ones((2, 3), np.float16), "b": np.zeros((0, 2), np.int64), "c": np.ones((), np.uint8)}
    (folder / "layouts.safetensors").write_bytes(safetensors.numpy.save(arrays, {"format": "pt"}))


def assert_harmless(tally, capsys):
    with capsys.disabled():
        print(f"\n{tally}")
    assert not tally.faults, str(tally)


@pytest.mark.parametrize("count", [400, pytest.param(LONG, marks=pytest.mark.slow)])
def test_damaged_checkpoints(tmp_path, count, capsys):
    (tmp_path / "originals").mkdir()
    save_originals(tmp_path / "originals")
    tally = driver.run_cases("checkpoint_cases:damaged", range(count), folder=tmp_path, seconds=2, mib=32)
    assert_harmless(tally, capsys)
    assert tally.counts["accepted"] > count // 100  # else the damage is so great that nothing is tried
    assert tally.counts["refused"] > count // 4


@pytest.mark.parametrize("mib", [1, pytest.param(16, marks=pytest.mark.slow)])
def test_crafted_checkpoints(tmp_path, mib, capsys):
    """Read or refused within two seconds for each MiB and in 32 times the file's size."""
    (tmp_path / "crafted").mkdir()
    for number, make in enumerate(checkpoint_cases.CRAFTED.values()):
        (tmp_path / "crafted" / str(number)).write_bytes(make(mib * 2**20))
    numbers = range(len(checkpoint_cases.CRAFTED))
    tally = driver.run_cases(
        "checkpoint_cases:crafted", numbers, folder=tmp_path, seconds=2 * mib, mib=32 * mib
    )
    assert_harmless(tally, capsys)


@pytest.fixture
def folder(tmp_path):
    """A folder with weights, and a file beside them that is none of their business."""
    save_weights(tmp_path / "weights", CONFIG, PARAMS, provenance={"source": "a.pt"})
    shutil.copy(tmp_path / "weights" / "params.safetensors", tmp_path / "secret")
    return tmp_path


@pytest.mark.parametrize("count", [200, pytest.param(LONG // 4, marks=pytest.mark.slow)])
def test_damaged_weights(folder, count, capsys):
    tally = driver.run_cases("weights_cases:damaged", range(count), folder=folder, seconds=10, mib=64)
    assert_harmless(tally, capsys)
    assert min(tally.counts["accepted"], tally.counts["refused"]) > count // 20


def test_absurd_sizes_of_a_network_are_refused_early(folder, capsys):
    numbers = range(len(weights_cases.ABSURD))
    tally = driver.run_cases("weights_cases:absurd", numbers, folder=folder, seconds=2, mib=64)
    assert_harmless(tally, capsys)
    assert not tally.counts["accepted"]


def test_weights_read_no_file_elsewhere(folder, capsys):
    tally = driver.run_cases("weights_cases:elsewhere", range(2), folder=folder, seconds=2, mib=64)
    assert_harmless(tally, capsys)
