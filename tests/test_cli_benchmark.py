import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_reference
from torch.utils.flop_counter import FlopCounterMode

import realsr_jax
from realsr_jax.benchmark import cases
from realsr_jax.benchmark.cases import TASKS, Case, make_cases
from realsr_jax.benchmark.conversation import Side, SideError, ask_for_sides, read_case
from realsr_jax.benchmark.timing import OURS, OURS_ALONE, OURS_IN_FLOAT32, Timing, compare, run_case
from realsr_jax.cli import benchmark
from realsr_jax.models import NETWORKS
from realsr_jax.models.layers import Conv
from realsr_jax.models.oaddet import OADDET, OADDetConfig

SMALL = {"n_resblocks": 1, "n_feats": 8}
PEER = Path(__file__).parent / "scripts" / "torch_peer.py"
BEST, PUBLISHED, OPENVINO, ONNXRUNTIME = SIDES = ask_for_sides(str(PEER))
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 44, 3), np.uint8)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "case",
    [
        slow(Case("tile", "oaddet", (24, 20), batch=2, fields=SMALL)),
        slow(Case("tile", "edsr", (24, 20), fields=SMALL | {"res_scale": 0.5})),
        slow(Case("ensemble", "deep_oaddet", (30, 26), fields=SMALL)),
        slow(Case("ensemble", "edsr", (30, 26), fields=SMALL)),
        slow(Case("step", "oaddet", (32, 32), batch=4, fields=SMALL)),
        slow(Case("step", "edsr", (32, 32), batch=4, fields=SMALL)),
    ],
    ids=lambda case: f"{case.task}-{case.network}",
)
def test_sides_agree(case, tmp_path):
    timings = run_case(case, [OURS, BEST, PUBLISHED], folder=tmp_path, photo=PHOTO, repeats=2)
    assert list(timings) == ["realsr_jax", "best", "published"]
    for timing in timings.values():
        assert len(timing.seconds) == 2
        assert 0 < timing.median <= timing.first_seconds + timing.median
        assert timing.peak_bytes > 50e6
        assert timing.flops == cases.count_flops(case)
        assert timing.is_same
    assert timings["best"].difference[0] < 0.01
    assert (tmp_path / "best.npy").exists()


@pytest.mark.slow
def test_bundled_network_in_bfloat16_is_compared_with_float32(tmp_path):
    case = Case("photo", "default", (30, 26), dtype="bfloat16")
    timings = run_case(case, [OURS_IN_FLOAT32, OURS, BEST], folder=tmp_path, photo=PHOTO, repeats=1)
    upscaled = realsr_jax.load_upscaler("default")(PHOTO[:30, -26:])
    np.testing.assert_allclose(np.load(tmp_path / "realsr_jax_float32.npy"), upscaled, atol=1e-3)
    for name in ("realsr_jax", "best"):
        assert timings[name].is_same
        assert 0.01 < timings[name].difference[1] < 2  # bfloat16, not float32


@pytest.mark.slow
def test_folder_through_the_command(tmp_path):
    case = Case("folder", "default", (20, 24), batch=3)
    timings = run_case(case, [OURS, OURS_ALONE], folder=tmp_path, photo=PHOTO, repeats=1)
    assert timings["computation_alone"].is_same
    assert timings["computation_alone"].median < timings["realsr_jax"].median
    assert np.load(tmp_path / "realsr_jax.npy").size == 3 * case.result_pixels
    upscaler = realsr_jax.load_upscaler("default")
    first = np.rint(np.clip(upscaler(PHOTO[: case.photo_sizes[0][0], : case.photo_sizes[0][1]]), 0, 255))
    np.testing.assert_allclose(np.load(tmp_path / "realsr_jax.npy")[: first.size], first.ravel(), atol=1)


@pytest.mark.parametrize("side", [OPENVINO, ONNXRUNTIME], ids=lambda side: side.name)
@pytest.mark.parametrize(
    "case",
    [
        slow(Case("photo", "default", (30, 26))),
        slow(Case("tile", "oaddet", (24, 20), batch=2, fields=SMALL)),
        slow(Case("tile", "deep_oaddet", (24, 20), fields=SMALL)),
        slow(Case("tile", "edsr", (24, 20), fields=SMALL)),
    ],
    ids=lambda case: f"{case.task}-{case.network}",
)
def test_exported_networks_agree(side, case, tmp_path):
    if side.missing:
        pytest.skip(side.missing)
    timings = run_case(case, [OURS, side], folder=tmp_path, photo=PHOTO, repeats=1)
    assert timings[side.name].is_same
    assert timings[side.name].difference[0] < 0.01


@pytest.mark.slow
def test_another_result_is_noticed(tmp_path):
    case = Case("tile", "oaddet", (24, 20), fields=SMALL)
    lying = tmp_path / "lying.py"
    lying.write_text(
        "from realsr_jax.benchmark import conversation, jax_side\n"
        "def prepare(*arguments):\n"
        "    run = jax_side.prepare(*arguments, side='lying')\n"
        "    return lambda: run() + 1\n"
        "conversation.serve(prepare)\n"
    )
    sides = [OURS, Side("lying", (sys.executable, str(lying)))]
    timings = run_case(case, sides, folder=tmp_path, photo=PHOTO, repeats=1)
    assert timings["lying"].difference == pytest.approx((1, 1), rel=1e-3)
    assert not timings["lying"].is_same
    difference, is_same = compare(case, np.ones(3), np.array([1, np.nan, 1]))
    assert not is_same
    assert Timing([1.0], 1.0, 1.0, 0.0, 1, 1.0, difference, is_same).as_json()["difference"] == [None, None]


def test_side_that_fails_is_named(tmp_path):
    failing = Side("failing", (sys.executable, "-c", "raise SystemExit('no such device')"))
    with pytest.raises(SideError, match=r"^failing: matrix, product 8x8, float32: no such device$") as caught:
        run_case(Case("product", "", (8, 8)), [OURS, failing], folder=tmp_path, photo=PHOTO, repeats=1)
    assert caught.value.side == failing


def test_flops_of_a_convolution():
    x = jax.ShapeDtypeStruct((1, 16, 16, 32), jnp.float32)
    conv = Conv(64, (3, 3), edge_padding=True)
    params = jax.eval_shape(conv.init, jax.random.key(0), x)
    lowered = jax.jit(conv.apply).trace(params, x).lower(lowering_platforms=("cuda",))
    counted = lowered.cost_analysis()["flops"]
    assert counted == pytest.approx(2 * 9 * 32 * 64 * 16 * 16, rel=0.01)


@pytest.mark.parametrize("network, fields", [("edsr", {"n_resblocks": 5, "scale": 4}), ("oaddet", {})])
def test_flops_of_a_network(network, fields):
    config = NETWORKS[network].config_class(**SMALL | fields)
    module = torch_reference.MODELS[network](**SMALL | fields)
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, 64, 64))
    # The counter knows convolutions only; XLA leaves out what zero padding makes zero.
    assert cases._flops_per_pixel(config) * 64**2 == pytest.approx(counter.get_total_flops(), rel=0.1)


def test_flops_of_cases():
    tile = cases.count_flops(Case("tile", "oaddet", (64, 64), fields=SMALL))
    assert cases._flops_per_pixel(OADDetConfig(**SMALL)) * 64**2 == tile
    step = Case("step", "oaddet", (128, 128), batch=3, fields=SMALL)
    assert cases.count_flops(step) == pytest.approx(9 * tile)
    photo = Case("ensemble", "oaddet", (100, 120), fields=SMALL)
    # Four quarters of 100x120, which overlap by 80 or 10 pixels on each side.
    pixels = 2 * 4 * (100 * 120 + 60 * 70)
    assert cases.count_flops(photo) == pytest.approx(tile / 64**2 * pixels)
    whole = cases.count_flops(Case("photo", "oaddet", (100, 120), fields=SMALL))
    assert whole == pytest.approx(tile / 64**2 * 100 * 120)
    folder = Case("folder", "oaddet", (100, 120), batch=2, fields=SMALL)
    assert cases.count_flops(folder) == pytest.approx(tile / 64**2 * (50 * 60 + 100 * 120))
    assert cases.count_flops(Case("product", "", (100, 100))) == 8 * 2e6


def test_cases():
    options = {"networks": ["edsr", "default", "drln"], "on_gpu": False}
    quick = make_cases(**options, tasks=TASKS, dtypes=["float32", "bfloat16"], is_full=False)
    assert [(case.task, case.network) for case in quick[::2]] == [
        ("product", ""),
        ("tile", "default"),
        ("photo", "default"),
        ("folder", "default"),
        ("step", "default"),
        ("tile", "edsr"),
        ("tile", "drln"),
        ("ensemble", "edsr"),
        ("step", "edsr"),
    ]
    assert [case.dtype for case in quick] == ["float32", "bfloat16"] * 9
    full = make_cases(**options, tasks=["ensemble"], dtypes=["float32"], is_full=True)
    assert [(case.network, case.size) for case in full[1:]] == [("edsr", (320, 480)), ("drln", (320, 480))]


def test_folder_has_photos_of_20_sizes():
    (case,) = make_cases(
        networks=["default"], tasks=["folder"], dtypes=["float32"], on_gpu=False, is_full=False
    )[1:]
    inputs = cases.make_inputs(case, cases.synthetic_photo())
    assert [rgb.shape[:2] for rgb in inputs.values()] == case.photo_sizes
    assert len(set(case.photo_sizes)) == case.batch == len(inputs) == 20
    assert case.result_pixels == 4 * sum(rgb.shape[0] * rgb.shape[1] for rgb in inputs.values())


def test_command(tmp_path, monkeypatch, capsys):
    def small_cases(**options):
        assert options["networks"] == ["edsr"]
        assert options["dtypes"] == ["float32"]
        return [Case("product", "", (64, 64)), Case("tile", "edsr", (24, 20), fields=SMALL)]

    monkeypatch.setattr(benchmark, "make_cases", small_cases)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = tmp_path / "speed.json"
    arguments = ["--networks=edsr", "--dtype=float32", "--repeats=2", f"--json={path}", f"--peer={PEER}"]
    arguments.append("--sides=best,realsr_jax")
    assert benchmark.run(["realsr-benchmark", *arguments]) == 0
    captured = capsys.readouterr()
    rows = [line.split(" | ") for line in captured.out.splitlines() if line.startswith("| ")]
    assert [row[1] for row in rows[2:]] == ["realsr_jax", "best"]
    assert "\nmatrix, product 64x64, float32: realsr_jax " in captured.out
    assert captured.err == ""
    document = json.loads(path.read_text())
    assert document["machine"]["jax"].startswith("jax ")
    tile = document["cases"][1]
    assert tile["case"] == "edsr, tile 20x24, float32"
    assert len(tile["sides"]["best"]["seconds"]) == 2
    shown = float(rows[2][2].split()[0])
    assert shown == pytest.approx(tile["sides"]["realsr_jax"]["median"], rel=0.01)


def test_dtypes_of_the_device(monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "has_fast_bfloat16", lambda _: True)
    assert benchmark._find_dtypes(jax.devices()[0]) == ["float32", "bfloat16"]
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(benchmark, "has_fast_bfloat16", lambda _: False)
    assert benchmark._find_dtypes(jax.devices()[0]) == ["float32"]
    assert capsys.readouterr().out.startswith("bfloat16 is left out: ")


def test_without_a_peer(capsys):
    assert benchmark._find_sides(None, None) == [OURS_IN_FLOAT32, OURS, OURS_ALONE]
    assert capsys.readouterr().out.startswith("realsr_jax runs alone; --peer=FILE names a script")
    assert benchmark.run(["realsr-benchmark", "--sides=best", "--networks=edsr", "--tasks=tile"]) == 2
    expected = (
        "--sides=best: needs --peer=FILE; tests/scripts/torch_peer.py in a clone of the repository is one"
    )
    captured = capsys.readouterr()
    assert captured.err == f"realsr-benchmark: {expected}\n" and captured.out == ""


def test_sides_of_a_peer(tmp_path, capsys):
    peer = tmp_path / "peer.py"
    here, elsewhere = Side("here", ("a",)), Side("elsewhere", ("b",), missing="pip install it")
    peer.write_text(f"print({json.dumps([dataclasses.asdict(here), dataclasses.asdict(elsewhere)])!r})")
    ours = [OURS_IN_FLOAT32, OURS, OURS_ALONE]
    assert benchmark._find_sides(str(peer), None) == [*ours, here]
    assert capsys.readouterr().out == "elsewhere is left out: pip install it\n"
    assert benchmark._find_sides(str(peer), ["here"]) == [here]
    for sides, message in [
        ("realsr_jax,elsewhere", "--sides=elsewhere: pip install it"),
        ("other", "--sides=other: expected some of realsr_jax, here, elsewhere"),
    ]:
        assert benchmark.run(["realsr-benchmark", f"--peer={peer}", f"--sides={sides}"]) == 2
        captured = capsys.readouterr()
        assert captured.err == f"realsr-benchmark: {message}\n" and captured.out == ""


def test_sides_that_are_not_installed_say_so():
    assert [side.name for side in SIDES] == ["best", "published", "openvino", "onnxruntime"]
    for side in (OPENVINO, ONNXRUNTIME):
        packages = [side.name, "onnx", "onnxscript"]
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        assert side.missing.startswith(f"pip install {' '.join(missing)}, or" if missing else "")
        assert bool(side.missing) == bool(missing)


@pytest.mark.parametrize(
    "program, reason",
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("print('hello')", "names no sides (see realsr_jax.benchmark.conversation)"),
        ("print([1])", "names no sides (see realsr_jax.benchmark.conversation)"),
    ],
)
def test_peer_that_cannot_say_its_sides(program, reason, tmp_path, capsys):
    peer = tmp_path / "peer.py"
    peer.write_text(program)
    assert benchmark.run(["realsr-benchmark", f"--peer={peer}"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"realsr-benchmark: --peer={peer}: {reason}\n" and captured.out == ""


def test_peer_without_its_clone(tmp_path, capsys):
    for name in ("torch_peer.py", "onnx_peer.py"):
        shutil.copy(PEER.with_name(name), tmp_path)
    assert benchmark.run(["realsr-benchmark", f"--peer={tmp_path / 'torch_peer.py'}"]) == 2
    captured = capsys.readouterr()
    assert "No module named 'torch_reference'" in captured.err and captured.err.count("\n") == 1
    assert captured.out == ""


def test_what_peers_import_leaves_jax_out():
    program = (
        "import sys, realsr_jax.benchmark.conversation as c, realsr_jax.upscaling.tile_plans; "
        "case = c.Case('ensemble', 'edsr', (8, 8), fields={'scale': 2}); case.ensemble, case.scale; "
        "c.Case('tile', 'default', (8, 8)).architecture; "
        "print([name for name in ('jax', 'flax') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_network_without_a_published_ensemble(monkeypatch):
    assert Case("ensemble", "edsr", (30, 26)).ensemble.self_ensemble
    monkeypatch.setitem(NETWORKS, "toy", OADDET)
    options = {"networks": ["toy"], "dtypes": ["float32"], "on_gpu": False, "is_full": True}
    assert [case.task for case in make_cases(**options, tasks=TASKS)] == ["product", "tile", "step"]


def test_inputs_of_the_default_photo():
    photo = cases.synthetic_photo()
    assert photo.shape == (512, 512, 3) and photo.dtype == np.uint8
    assert photo.std() > 50
    np.testing.assert_array_equal(cases.synthetic_photo(), photo)
    inputs = cases.make_inputs(Case("step", "oaddet", (128, 128), batch=3), photo)
    assert inputs["hr"].shape == (3, 128, 128, 3) and inputs["lr"].shape == (3, 64, 64, 3)
    assert len(np.unique(inputs["hr"], axis=0)) == 3


def test_failing_side_leaves_the_others(monkeypatch, capsys):
    failing = Side("failing", (sys.executable, "-c", "raise SystemExit('no such device')"))
    (result,) = benchmark._run_cases([Case("product", "", (8, 8))], [OURS, failing], PHOTO, 1)
    assert not result["is_good"]
    assert list(result["sides"]) == ["realsr_jax"]
    assert (
        capsys.readouterr().err == "realsr-benchmark: failing: matrix, product 8x8, float32: no such device\n"
    )


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--networks=vdsr", "expected some of default, oaddet, deep_oaddet, edsr, drln"),
        ("--tasks=", "expected some of tile, photo, ensemble, folder, step"),
        ("--dtype=float16", "dtype"),
        ("--json=no/speed.json", "the folder no does not exist"),
        ("--photo=no.png", "no.png"),
        ("--repeats=0", "repeats"),
        ("--peer=no.py", "--peer=no.py: is not a file"),
    ],
)
def test_wrong_command_lines(flag, message, capsys):
    assert benchmark.run(["realsr-benchmark", flag]) in (1, 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_nothing_to_run(capsys):
    assert benchmark.run(["realsr-benchmark", "--networks=edsr", "--tasks=photo", "--dtype=float32"]) == 2
    expected = "--networks=edsr --tasks=photo: nothing to run; photo and folder want default"
    assert capsys.readouterr().err == f"realsr-benchmark: {expected}\n"


def test_case_survives_json():
    case = Case("step", "edsr", (32, 48), batch=2, fields=SMALL)
    assert read_case(json.loads(json.dumps(dataclasses.asdict(case)))) == case
