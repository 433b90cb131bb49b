"""A network that only this file knows, added by a line in each registry, does what the others do."""

import dataclasses
from typing import Any

import flax.linen as nn
import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from test_convert import assert_identical

import realsr_jax
from realsr_jax import ops
from realsr_jax.cli import benchmark as benchmark_command
from realsr_jax.convert import LAYOUTS
from realsr_jax.convert import command as convert_command
from realsr_jax.convert.detection import check, detect
from realsr_jax.convert.reader import CheckpointError, read_state_dict
from realsr_jax.convert.rules import CheckpointLayout, conv, to_flax
from realsr_jax.losses import L1, Weighted
from realsr_jax.models import NETWORKS, build_model, network_name
from realsr_jax.models.layers import Conv
from realsr_jax.models.network import ModelConfig, Network
from realsr_jax.train.initial_params import initial_params
from realsr_jax.train.optimizers import Adam, StepDecay, make_optimizer
from realsr_jax.train.step import make_loss, make_state, train_step
from realsr_jax.weights import load_weights, save_weights


@dataclasses.dataclass(unsafe_hash=True)
class ToyConfig(ModelConfig):
    scale: int = 2
    kernel_size: int = 3


class ToyModule(nn.Module):
    config: ToyConfig
    dtype: Any
    remat: bool

    @nn.compact
    def __call__(self, lr):
        scale, size = self.config.scale, self.config.kernel_size
        x = Conv(3 * scale**2, (size, size), dtype=self.dtype, name="only")(lr)
        return ops.pixel_shuffle(x.astype(jnp.float32), scale)


def read_config(state_dict):
    shape = state_dict["toy.weight"].shape
    return ToyConfig(scale=int((shape[0] // 3) ** 0.5), kernel_size=shape[2])


TOY = Network(
    title="Toy",
    config_class=ToyConfig,
    module=ToyModule,
    checkpoints="none",
    parameters=12 * 3 * 9 + 12,
)
TOY_LAYOUT = CheckpointLayout(
    rules=lambda config: conv("toy", "only"), recognised_by=("toy.weight",), read_config=read_config
)


@pytest.fixture(autouse=True)
def toy():
    NETWORKS["toy"], LAYOUTS["toy"] = TOY, TOY_LAYOUT
    yield
    del NETWORKS["toy"], LAYOUTS["toy"]


@pytest.fixture
def state_dict():
    generator = np.random.default_rng(0)
    return {
        "toy.weight": generator.normal(0, 0.1, (27, 3, 5, 5)).astype(np.float32),
        "toy.bias": generator.normal(0, 1, 27).astype(np.float32),
    }


CONFIG = ToyConfig(scale=3, kernel_size=5)


def test_is_detected(state_dict):
    assert detect(state_dict) == CONFIG
    assert network_name(CONFIG) == "toy"
    check(CONFIG, state_dict)
    with pytest.raises(CheckpointError, match=r"does not fit ToyConfig.*\n  missing     toy.bias \(27,\)"):
        check(CONFIG, {"toy.weight": state_dict["toy.weight"]})


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_is_converted_both_ways(tmp_path, state_dict, suffix, capsys):
    torch.save({key: torch.from_numpy(array) for key, array in state_dict.items()}, tmp_path / "toy.pt")
    run = convert_command.run
    weights, back = tmp_path / "weights", tmp_path / f"back.{suffix}"
    assert run(["realsr-convert", f"--input={tmp_path}/toy.pt", f"--output={weights}"]) == 0
    assert load_weights(weights)[0] == CONFIG
    assert run(["realsr-convert", "--to_torch", f"--input={weights}", f"--output={back}"]) == 0
    assert_identical(read_state_dict(back), state_dict)
    for path in (weights, tmp_path / "toy.pt"):
        assert run(["realsr-convert", f"--show={path}"]) == 0
        assert "network: Toy (toy)\n  scale: 3\n  kernel_size: 5\n" in capsys.readouterr().out
    command = ["realsr-convert", f"--input={tmp_path}/toy.pt", f"--output={weights}2", "--padding=zero"]
    assert run(command) == 2
    assert "toy.pt is Toy, which has no such option" in capsys.readouterr().err


def test_upscales(tmp_path, state_dict):
    save_weights(tmp_path / "toy", CONFIG, to_flax(CONFIG, state_dict), provenance={})
    lr = golden.photo(13, 17)
    upscaler = realsr_jax.load_upscaler(tmp_path / "toy")
    assert (upscaler.scale, upscaler.model_config) == (3, CONFIG)
    assert upscaler(lr).shape == (39, 51, 3)
    sr = realsr_jax.load_upscaler(tmp_path / "toy", tile_size=None)(lr)
    x = torch.from_numpy(lr).float().permute(2, 0, 1)[None]
    weight, bias = (torch.from_numpy(array) for array in state_dict.values())
    x = torch.nn.functional.pixel_shuffle(torch.nn.functional.conv2d(x, weight, bias, padding=2), 3)
    np.testing.assert_allclose(sr, x[0].permute(1, 2, 0).numpy(), atol=0.001)


def test_is_trained():
    config = ToyConfig()
    params, _ = initial_params(config, seed=0)
    assert sum(array.size for array in jax.tree.leaves(params)) == TOY.parameters
    loss_fn = make_loss(build_model(config), (Weighted(L1()),))
    optimizer = make_optimizer(Adam())
    schedule = StepDecay().make(n_steps=9, steps_per_epoch=3)
    batch = {"lr": golden.photo(8, 8)[None], "hr": golden.photo(16, 16, seed=1)[None]}
    state, metrics = train_step(
        make_state(params, optimizer), batch, loss_fn=loss_fn, optimizer=optimizer, schedule=schedule
    )
    assert state.step == 1
    assert metrics["is_finite"] == 1
    assert loss_fn(state.params, batch)[0] < metrics["loss"]
    changes = jax.tree.map(lambda new, old: jnp.abs(new - old).max(), state.params, params)
    np.testing.assert_allclose(jax.tree.leaves(changes), StepDecay().learning_rate, rtol=1e-3)


def test_starts_from_weights_of_another_scale(tmp_path):
    save_weights(
        tmp_path / "toy", ToyConfig(scale=3), initial_params(ToyConfig(scale=3), seed=0)[0], provenance={}
    )
    params, sentence = initial_params(ToyConfig(), seed=0, start_from=str(tmp_path / "toy"))
    assert params["only"]["bias"].shape == (12,)
    assert "which upscales by 3; afresh for 2: only" in sentence


def test_refusals_list_it(state_dict):
    with pytest.raises(CheckpointError) as caught:
        detect({"enter.weight": np.zeros((12, 3, 3, 3)), "toy.bias": np.zeros(12)})
    message = str(caught.value)
    assert "realsr_jax runs oaddet, deep_oaddet, edsr, drln, toy. By its tensors' names, the near" in message
    assert f"the nearest is {ToyConfig()}: of its 2 names 1 are here, 1 are missing (toy.weight)" in message
    both = state_dict | golden.state_dict("edsr_tiny")
    with pytest.raises(CheckpointError, match=r"^could be any of edsr, toy: choose with --model$"):
        detect(both)
    assert detect(both, "toy") == CONFIG
    with pytest.raises(CheckpointError, match=r"^is no Toy: it lacks toy\.weight$"):
        detect({}, "toy")


@pytest.mark.parametrize("command", [convert_command, benchmark_command], ids=["convert", "benchmark"])
def test_help_lists_it(command, capsys):
    assert command.run(["command", "--help"]) == 0
    assert "oaddet, deep_oaddet, edsr, drln, toy" in capsys.readouterr().out
