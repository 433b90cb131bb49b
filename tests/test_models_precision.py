"""What the names of number formats mean: in the program for a GPU, and on each kind of device."""

import collections
import re
import types

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realsr_jax.losses import L1, Weighted
from realsr_jax.models import build_model, precision
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.models.precision import Precision, check_dtype, resolve_precision
from realsr_jax.train.step import make_loss
from realsr_jax.weights import load_weights

CPU = types.SimpleNamespace(platform="cpu")


def _gpu(capability="9.0"):
    return types.SimpleNamespace(platform="gpu", compute_capability=capability)


@pytest.mark.parametrize(
    ("name", "guess"),
    [("float16", "did you mean bfloat16? "), ("Float32", "did you mean float32? "), ("int8", "")],
)
def test_other_names_are_refused(name, guess):
    with pytest.raises(ValueError) as caught:
        resolve_precision(name, EDSRConfig(), CPU)
    assert str(caught.value) == (
        f"dtype is {name!r}, {guess}expected 'float32', 'tensorfloat32', 'bfloat16' or 'auto'"
    )
    for known in ("float32", "tensorfloat32", "bfloat16", "auto"):
        check_dtype(known)


@pytest.mark.parametrize(
    ("name", "config", "device", "has_bfloat16", "expected"),
    [
        *(
            (name, OADDetConfig(), _gpu("7.5"), True, name)
            for name in ("float32", "tensorfloat32", "bfloat16")
        ),
        ("float32", EDSRConfig(), CPU, True, "float32"),
        ("tensorfloat32", EDSRConfig(), CPU, True, "float32"),
        ("bfloat16", OADDetConfig(), CPU, False, "bfloat16"),
        ("auto", EDSRConfig(), CPU, True, "bfloat16"),
        ("auto", EDSRConfig(), CPU, False, "float32"),
        ("auto", OADDetConfig(), CPU, True, "float32"),
        ("auto", EDSRConfig(), _gpu(), False, "bfloat16"),
        ("auto", DRLNConfig(), _gpu("8.0"), False, "tensorfloat32"),
        ("auto", OADDetConfig(), _gpu(), False, "tensorfloat32"),
        ("auto", EDSRConfig(), _gpu("7.5"), True, "float32"),
        ("auto", EDSRConfig(), _gpu("gfx90a"), False, "bfloat16"),
    ],
)
def test_what_names_are_on_a_device(monkeypatch, name, config, device, has_bfloat16, expected):
    monkeypatch.setattr(precision, "_cpu_has_bfloat16", lambda: has_bfloat16)
    resolved = resolve_precision(name, config, device)
    assert resolved.name == expected
    assert resolved.dtype == (jnp.bfloat16 if expected == "bfloat16" else np.float32)


@pytest.mark.parametrize("config", [EDSRConfig(n_resblocks=1, n_feats=64), OADDetConfig(1, 8)])
@pytest.mark.parametrize("name", ["float32", "tensorfloat32", "bfloat16"])
def test_products_in_a_program_for_gpus(config, name):
    chosen = Precision(name)
    model = build_model(config, dtype=chosen.dtype)
    lr, hr = (jax.ShapeDtypeStruct((4, side, side, 3), np.float32) for side in (64, 128))
    params = jax.eval_shape(model.init, jax.random.key(0), lr)["params"]
    step = jax.jit(jax.grad(make_loss(model, (Weighted(L1()),)), has_aux=True))
    with chosen.tracing():
        lowered = step.trace(params, {"lr": lr, "hr": hr}).lower(lowering_platforms=("cuda",))
    found = collections.Counter()
    for line in lowered.as_text().splitlines():
        if re.search(r"stablehlo\.(convolution|dot_general)", line):
            is_float32 = "bf16" not in line
            precisions = re.findall(r"precision (\w+)>|precision = \[(\w+)", line)
            kinds = {kind for pair in precisions for kind in pair if kind} or {"DEFAULT"}
            assert len(kinds) == 1
            found[is_float32, *kinds] += 1
    wanted = {"float32": "HIGHEST", "tensorfloat32": "HIGH", "bfloat16": "DEFAULT"}[name]
    assert {kind for is_float32, kind in found if is_float32} == {wanted}
    assert sum(found.values()) > 10
    assert any(not is_float32 for is_float32, _ in found) == (name == "bfloat16")


def test_bfloat16_is_close_with_the_bundled_weights():
    """As "auto" promises: a quarter of a grey level RMS."""
    config, params = load_weights("default")
    lr = golden.photo(40, 48)[None].astype(np.float32)
    srs = [
        build_model(config, dtype=Precision(name).dtype).apply({"params": params}, lr)
        for name in ("float32", "bfloat16")
    ]
    difference = np.asarray(srs[1]) - np.asarray(srs[0])
    assert 0 < np.sqrt(np.mean(difference**2)) < 0.25
