"""The four networks against the golden results of the published code; PyTorch is not needed."""

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realsr_jax.convert.rules import to_flax
from realsr_jax.models import NETWORKS, build_model
from realsr_jax.ops import minimal_filtering

MODELS = sorted(path.stem for path in (golden.DATA / "manifests").glob("*.json"))


def make_config(name, **overrides):
    """Returns the configuration of a golden model; the golden EDSRs have a residual factor of 1."""
    manifest = golden.manifest(name)
    fixed = {"res_scale": 1.0} if manifest["architecture"] == "edsr" else {}
    fields = fixed | manifest["config"] | overrides
    return NETWORKS[manifest["architecture"]].config_class(**fields)


def upscale(config, weights, lr, *, dtype=jnp.float32):
    """Upscales [h, w, 3] with weights in PyTorch's layout."""
    params = {"params": to_flax(config, weights)}
    return np.asarray(jax.jit(build_model(config, dtype=dtype).apply)(params, lr[None].astype(np.float32))[0])


@pytest.mark.parametrize("name", MODELS)
def test_results_are_those_of_the_published_code(name):
    case = golden.case(f"model_{name}")
    sr = upscale(make_config(name), golden.state_dict(name, int(case["seed"])), case["lr"])
    np.testing.assert_allclose(sr, case["sr"], atol=0.001)


@pytest.mark.parametrize(
    "name", ["edsr_baseline_x2", *(pytest.param(name, marks=pytest.mark.slow) for name in ("oaddet", "drln"))]
)
def test_minimal_filtering_gives_the_results_of_the_published_code(name, monkeypatch):
    monkeypatch.setattr(minimal_filtering, "pays", lambda *_: True)  # the golden images are small
    case = golden.case(f"model_{name}")
    sr = upscale(make_config(name), golden.state_dict(name, int(case["seed"])), case["lr"])
    np.testing.assert_allclose(sr, case["sr"], atol=0.001)


def test_zero_padded_edsr_is_that_of_the_published_code():
    case = golden.case("model_edsr_baseline_x2_zeropad")
    config = make_config("edsr_baseline_x2", edge_padding=False)
    sr = upscale(config, golden.state_dict("edsr_baseline_x2", int(case["seed"])), case["lr"])
    np.testing.assert_allclose(sr, case["sr"], atol=0.001)
