"""The four networks against the PyTorch reference, their sizes and their fresh weights."""

import dataclasses

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_reference
from flax.traverse_util import flatten_dict
from test_golden_cases import MODELS, make_config, upscale

from realsr_jax.convert.rules import to_flax, to_torch
from realsr_jax.models import NETWORKS, build_model, place_parameters
from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.layers import Conv, Dense, OrientationAwareModule
from realsr_jax.models.oaddet import OADDetConfig

REFERENCES = {
    OADDetConfig: torch_reference.OADDet,
    DeepOADDetConfig: torch_reference.DeepOADDet,
    EDSRConfig: torch_reference.EDSR,
    DRLNConfig: torch_reference.DRLN,
}
SMALL = ["oaddet_small", "deep_oaddet_small", "edsr_tiny"]


def upscale_by_torch(model, lr):
    with torch.inference_mode():
        return model(to_nchw(lr))[0].permute(1, 2, 0).numpy()


def to_nchw(image):
    return torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]


def numpy_weights(model):
    return {key: value.detach().numpy() for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_published_code(name):
    config = make_config(name)
    lr = jax.ShapeDtypeStruct((1, 5, 4, 3), jnp.float32)
    shapes = jax.eval_shape(build_model(config).init, jax.random.key(0), lr)["params"]
    params = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), shapes)
    state_dict = to_torch(config, params)
    # A mean shift counts where it is a convolution, as it is in DRLN.
    count = sum(value.size for key, value in state_dict.items() if not key.endswith("rgb_mean"))
    manifest = golden.manifest(name)
    assert count == manifest["parameters"] == (NETWORKS[name].parameters if name in NETWORKS else count)
    shapes = {key: list(value.shape) for key, value in state_dict.items()}
    assert shapes == {key: entry["shape"] for key, entry in manifest["state_dict"].items()}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("oaddet_small", (1, 1)),
        ("deep_oaddet_small", (13, 5)),
        ("edsr_tiny", (1, 1)),
        ("edsr_tiny_x3", (13, 5)),
    ],
)
def test_other_weights_and_sizes_against_the_reference(name, size):
    lr = golden.photo(*size, seed=7)
    expected = upscale_by_torch(torch_reference.load(name, seed=7), lr)
    sr = upscale(make_config(name), golden.state_dict(name, seed=7), lr)
    np.testing.assert_allclose(sr, expected, atol=0.002)


def make_reference(config):
    """Returns a freshly initialised reference of the same sizes."""
    torch.manual_seed(0)
    sizes = dataclasses.asdict(config)
    if sizes.pop("edge_padding", True) is False:
        sizes["padding"] = "zero"
    return REFERENCES[type(config)](**sizes)


@pytest.mark.parametrize(
    "config",
    [
        OADDetConfig(n_resblocks=5, n_feats=18, scale=3),
        EDSRConfig(n_resblocks=1, n_feats=7, scale=4, res_scale=0.3),
        EDSRConfig(n_resblocks=2, n_feats=8, scale=3, edge_padding=False),
        DRLNConfig(scale=8),
    ],
    ids=repr,
)
def test_other_configs_against_the_reference(config):
    reference, lr = make_reference(config), golden.photo(3, 5)
    np.testing.assert_allclose(
        upscale(config, numpy_weights(reference), lr), upscale_by_torch(reference, lr), atol=0.002
    )


@pytest.mark.parametrize(
    "config",
    [OADDetConfig(n_resblocks=1, n_feats=8), EDSRConfig(n_resblocks=2, n_feats=8)],
    ids=repr,
)
def test_gradients_against_the_reference(config):
    reference, lr = make_reference(config), golden.photo(5, 6)
    hr = golden.photo(10, 12, seed=1).astype(np.float32)
    torch.mean((reference(to_nchw(lr)) - to_nchw(hr)) ** 2).backward()

    def loss(params):
        sr = build_model(config).apply({"params": params}, lr[None].astype(np.float32))
        return jnp.mean((sr - hr) ** 2)

    gradients = to_torch(config, jax.jit(jax.grad(loss))(to_flax(config, numpy_weights(reference))))
    for key, parameter in reference.named_parameters():
        expected = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
        tolerance = 1e-3 * np.abs(expected).max()
        np.testing.assert_allclose(gradients[key], expected, rtol=0, atol=tolerance, err_msg=key)


@pytest.mark.parametrize(
    "module",
    [Conv(40, (1, 5)), Dense(300), OrientationAwareModule(attention=True)],
    ids=lambda module: type(module).__name__,
)
def test_initial_weights_are_spread_as_pytorch_spreads_them(module):
    params = jax.jit(module.init)(jax.random.key(0), jnp.zeros((1, 2, 2, 32)))["params"]
    kernels = {path[:-1]: value for path, value in flatten_dict(params).items() if path[-1] == "kernel"}
    for path, value in flatten_dict(params).items():
        bound = np.prod(kernels[path[:-1]].shape[:-1]) ** -0.5
        assert np.abs(value).max() <= bound
        if value.size > 200:
            assert np.abs(value).max() > 0.98 * bound
            np.testing.assert_allclose([value.mean(), value.std()], [0, bound / 3**0.5], atol=0.1 * bound)


def test_convolution_of_several_inputs_is_that_of_their_concatenation():
    x = np.random.default_rng(0).normal(size=(1, 4, 5, 12)).astype(np.float32)
    conv = Conv(3, edge_padding=True)
    y, params = conv.init_with_output(jax.random.key(0), x)
    parts = np.split(x, [2, 7], axis=-1)
    assert jax.tree.map(jnp.shape, conv.init(jax.random.key(0), *parts)) == jax.tree.map(jnp.shape, params)
    np.testing.assert_allclose(conv.apply(params, *parts), y, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "at_images"),
    [
        ("edsr_tiny", {"head", "tail", "upsample/conv_0"}),
        ("oaddet_small", {"body/enter", "head/enter", "head/exit", "tail1", "tail2"}),
        pytest.param("drln", {"head", "tail"}, marks=pytest.mark.slow),
    ],
)
def test_placed_parameters_are_cast_once_and_change_nothing(name, at_images):
    config, case = make_config(name), golden.case(f"model_{name}")
    params = to_flax(config, golden.state_dict(name, int(case["seed"])))
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    placed = place_parameters(config, params, device, dtype="bfloat16")
    model, lr = build_model(config, dtype="bfloat16"), case["lr"][None].astype(np.float32)
    run = jax.jit(lambda params: model.apply({"params": params}, lr))
    np.testing.assert_array_equal(run(placed), run(params))
    in_full = place_parameters(config, params, device)
    assert {leaf.dtype for leaf in jax.tree.leaves(in_full)} == {jnp.dtype("float32")}
    layers = {"/".join(path[:-1]): leaf.dtype for path, leaf in flatten_dict(placed).items()}
    assert set(layers.values()) == {jnp.dtype("float32"), jnp.dtype("bfloat16")}
    in_float32 = {layer for layer, dtype in layers.items() if dtype == jnp.float32}
    assert {layer for layer in in_float32 if "attention" not in layer} == at_images


@pytest.mark.parametrize("name", [*SMALL, "edsr_baseline_x2", pytest.param("drln", marks=pytest.mark.slow)])
def test_bfloat16_is_near_float32(name):
    case = golden.case(f"model_{name}")
    weights = golden.state_dict(name, int(case["seed"]))
    sr = upscale(make_config(name), weights, case["lr"], dtype=jnp.bfloat16)
    assert sr.dtype == np.float32
    assert np.isfinite(sr).all()
    # It differs at all only if the arithmetic was done in bfloat16.
    assert 0.01 < np.sqrt(np.mean((sr - case["sr"]) ** 2)) < 1
