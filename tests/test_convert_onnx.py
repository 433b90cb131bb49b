"""ONNX files, run by ONNX Runtime, against the golden results of the published code and our own."""

import importlib.util

import golden
import jax
import numpy as np
import pytest

from realsr_jax import __version__
from realsr_jax.convert.command import run
from realsr_jax.convert.rules import to_flax
from realsr_jax.models import NETWORKS, build_model
from realsr_jax.weights import load_weights, save_weights

MISSING = [name for name in ("jax2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}: pip install '.[peers,onnx]'"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def export(source, folder):
    """Returns ONNX Runtime's session of weights that the command wrote as ONNX."""
    import onnxruntime

    target = folder / "new" / "network.onnx"
    assert run(["realsr-convert", "--to_onnx", f"--input={source}", f"--output={target}"]) == 0
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(target, options)


def upscale(session, lr):
    """Upscales [h, w, 3] in grey levels, as a program does that knows nothing but the convention."""
    image = np.ascontiguousarray(lr.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
    (sr,) = session.run(["output"], {"input": image})
    return 255 * sr[0].transpose(1, 2, 0)


@pytest.mark.parametrize(
    "name", ["edsr_tiny", "edsr_tiny_x3", "edsr_baseline_x4", "oaddet_small", "deep_oaddet_small", "drln"]
)
def test_results_are_those_of_the_published_code_at_any_size(name, tmp_path, capfd):
    case, manifest = golden.case(f"model_{name}"), golden.manifest(name)
    fields = {"res_scale": 1.0} if manifest["architecture"] == "edsr" else {}
    config = NETWORKS[manifest["architecture"]].config_class(**fields | manifest["config"])
    params = to_flax(config, golden.state_dict(name, int(case["seed"])))
    save_weights(tmp_path / "weights", config, params, provenance={"source": "a.pt"})
    session = export(tmp_path / "weights", tmp_path)
    assert capfd.readouterr().err == ""
    np.testing.assert_allclose(upscale(session, case["lr"]), case["sr"], atol=0.001)
    for size in ((7, 12), (1, 2)):
        lr = golden.photo(*size)
        expected = build_model(config).apply({"params": params}, lr[None].astype(np.float32))
        np.testing.assert_allclose(upscale(session, lr), np.asarray(expected)[0], atol=0.01)


def test_the_file_says_what_it_is(tmp_path, capsys):
    import onnx

    session = export("default", tmp_path)
    assert (
        "float32 RGB on 0..1, [1, 3, height, width] to [1, 3, 2 * height, 2 * width]"
        in capsys.readouterr().out
    )
    config, params = load_weights("default")
    (lr,), (sr,) = session.get_inputs(), session.get_outputs()
    assert (lr.name, lr.type, lr.shape) == ("input", "tensor(float)", [1, 3, "h", "w"])
    assert (sr.name, sr.type, sr.shape[:2]) == ("output", "tensor(float)", [1, 3])
    model = onnx.load(tmp_path / "new" / "network.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.producer_version) == ("realsr_jax", __version__)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert (
        facts.items()
        >= {"network": "EDSR", "scale": "2", "value_range": "0..1", "layout": "NCHW, RGB"}.items()
    )
    assert facts["licence"] == "Apache-2.0"
    # Each weight is there once, and blocks are layers in a row rather than a loop.
    n_weights = sum(np.prod(array.dims) for array in model.graph.initializer)
    assert n_weights == pytest.approx(sum(map(np.size, jax.tree.leaves(params))), abs=2000)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == 2 * config.n_resblocks + 4
    assert not {"Scan", "Loop", "If", "ScatterND"} & set(kinds)
