import golden
import numpy as np
import pytest
import torch
import torch_reference

PARAMETERS = {
    "oaddet": 16_484_511,
    "deep_oaddet": 21_926_255,
    "edsr": 40_729_603,
    "edsr_baseline_x2": 1_369_859,
    "edsr_baseline_x3": 1_554_499,
    "edsr_baseline_x4": 1_517_571,
    "drln": 34_430_155,
    "drln_x3": 34_614_795,
    "drln_x4": 34_577_867,
}
SMALL = (
    "oaddet_small",
    "oaddet_small_x4",
    "deep_oaddet_small",
    "edsr_tiny",
    "edsr_tiny_x3",
    "edsr_baseline_x2",
    "edsr_baseline_x4",
    "drln",
)


def run(model, image):
    x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        return model(x)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("name", SMALL)
def test_models_are_those_of_the_published_code(name):
    case = golden.case(f"model_{name}")
    model = torch_reference.load(name, seed=int(case["seed"]))
    np.testing.assert_allclose(run(model, case["lr"]), case["sr"], atol=5e-4)


def test_zero_padded_edsr_is_that_of_the_published_code():
    case = golden.case("model_edsr_baseline_x2_zeropad")
    model = torch_reference.load("edsr_baseline_x2", seed=int(case["seed"]), padding="zero")
    np.testing.assert_allclose(run(model, case["lr"]), case["sr"], atol=5e-4)


@pytest.mark.parametrize("name", ["oaddet_small", "deep_oaddet_small"])
def test_gathered_patches_give_the_same(name):
    image = golden.photo(7, 5)
    shifted, gathered = (torch_reference.load(name, gathered=gathered) for gathered in (False, True))
    np.testing.assert_allclose(run(shifted, image), run(gathered, image), atol=5e-4)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts_and_keys(name):
    manifest = golden.manifest(name)
    with torch.device("meta"):
        model = torch_reference.build(name)
    assert torch_reference.count_parameters(model) == PARAMETERS[name] == manifest["parameters"]
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    assert shapes == {key: entry["shape"] for key, entry in manifest["state_dict"].items()}


@pytest.mark.parametrize("name", ["oaddet_small", "edsr_tiny"])
def test_mean_shifts_start_with_their_values(name):
    weights = golden.state_dict(name)
    for key, value in torch_reference.build(name).state_dict().items():
        if "mean" in key:
            np.testing.assert_allclose(value, weights[key], rtol=1e-6)


@pytest.mark.parametrize("key", [key for key in golden.case("bicubic") if key.startswith("out_")])
def test_bicubic_is_that_of_the_published_code(key):
    case = golden.case("bicubic")
    _, size, factor = key.split("_")
    scale = {"x2": 2, "x3": 3, "x4": 4, "half": 0.5}[factor]
    resized = run(lambda x: torch_reference.resize_bicubic(x, scale), case[f"in_{size}"])
    # At x3 a tie may be rounded the other way.
    np.testing.assert_allclose(resized, case[key], atol=1.01 / 255 if scale == 3 else 1e-6)
    assert np.mean(np.abs(resized - case[key]) > 1e-3) < 0.005


def test_dynamic_filter_trains():
    torch.manual_seed(0)
    dynamic_filter = torch_reference.DynamicFilter(4, size=3, hidden=8)
    image, features = torch.rand(1, 3, 5, 6), torch.rand(1, 4, 5, 6)
    dynamic_filter(image, features).sum().backward()
    gradients = [parameter.grad.clone() for parameter in dynamic_filter.parameters()]
    dynamic_filter.zero_grad()
    dynamic_filter.gathered = True
    dynamic_filter(image, features).sum().backward()
    for shifted, gathered in zip(gradients, dynamic_filter.parameters(), strict=True):
        torch.testing.assert_close(shifted, gathered.grad)
