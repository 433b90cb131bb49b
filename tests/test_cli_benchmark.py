import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realsr_jax.benchmark import cases
from realsr_jax.benchmark.cases import Case, make_cases
from realsr_jax.benchmark.conversation import Side, SideError, read_case
from realsr_jax.benchmark.timing import OURS, Timing, compare, run_case
from realsr_jax.cli import benchmark
from realsr_jax.models import NETWORKS
from realsr_jax.models.layers import Conv
from realsr_jax.models.oaddet import OADDET, OADDetConfig
from realsr_jax.upscale.tilings import UniformTiles

SMALL = {"n_resblocks": 1, "n_feats": 8}
PEER = Path(__file__).parent / "scripts" / "torch_peer.py"
BEST, PUBLISHED = (Side(name, (sys.executable, str(PEER), name)) for name in ("best", "published"))
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 44, 3), np.uint8)


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "case",
    [
        slow(Case("tile", "oaddet", (24, 20), batch=2, fields=SMALL)),
        Case("tile", "edsr", (24, 20), fields=SMALL | {"res_scale": 0.5}),
        slow(Case("photo", "deep_oaddet", (30, 26), fields=SMALL)),
        Case("photo", "edsr", (30, 26), fields=SMALL),
        slow(Case("step", "oaddet", (32, 32), batch=4, fields=SMALL)),
        Case("step", "edsr", (32, 32), batch=4, fields=SMALL),
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


def test_another_result_is_noticed(tmp_path):
    case = Case("tile", "oaddet", (24, 20), fields=SMALL)
    lying = tmp_path / "lying.py"
    lying.write_text(
        "from realsr_jax.benchmark import conversation, jax_side\n"
        "def prepare(*arguments):\n"
        "    run = jax_side.prepare(*arguments)\n"
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
    with pytest.raises(SideError, match=r"^failing: matrix product, 8x8: no such device$") as caught:
        run_case(Case("product", "", (8, 8)), [OURS, failing], folder=tmp_path, photo=PHOTO, repeats=1)
    assert caught.value.side == failing


def test_flops_of_a_convolution():
    x = jax.ShapeDtypeStruct((1, 16, 16, 32), jnp.float32)
    conv = Conv(64, (3, 3), edge_padding=True)
    params = jax.eval_shape(conv.init, jax.random.key(0), x)
    lowered = jax.jit(conv.apply).trace(params, x).lower(lowering_platforms=("cuda",))
    counted = lowered.cost_analysis()["flops"]
    assert counted == pytest.approx(
        2 * 9 * 32 * 64 * 18 * 18, rel=0.12
    )  # on the padded image, less its border


def test_flops_of_cases():
    tile = cases.count_flops(Case("tile", "oaddet", (64, 64), fields=SMALL))
    assert cases._flops_per_pixel(OADDetConfig(**SMALL)) * 64**2 == tile
    step = Case("step", "oaddet", (128, 128), batch=3, fields=SMALL)
    assert cases.count_flops(step) == pytest.approx(9 * tile)
    photo = Case("photo", "oaddet", (100, 120), fields=SMALL)
    # Four quarters of 100x120, which overlap by 80 or 10 pixels on each side.
    pixels = 2 * 4 * (100 * 120 + 60 * 70)
    assert cases.count_flops(photo) == pytest.approx(tile / 64**2 * pixels)
    assert cases.count_flops(Case("product", "", (100, 100))) == 8 * 2e6


def test_cases():
    options = {"networks": ["edsr", "drln"], "dtype": "float32", "on_gpu": False}
    quick = make_cases(**options, tasks=["step", "tile"], is_full=False)
    assert [(case.task, case.network) for case in quick] == [
        ("product", ""),
        ("tile", "edsr"),
        ("tile", "drln"),
        ("step", "edsr"),
    ]
    full = make_cases(**options, tasks=["photo"], is_full=True)
    assert [(case.network, case.size) for case in full[1:]] == [("edsr", (320, 480)), ("drln", (320, 480))]


def test_command(tmp_path, monkeypatch, capsys):
    def small_cases(**options):
        assert options["networks"] == ["oaddet"]
        assert options["dtype"] == "float32"
        return [Case("product", "", (64, 64)), Case("tile", "oaddet", (24, 20), fields=SMALL)]

    monkeypatch.setattr(benchmark, "make_cases", small_cases)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = tmp_path / "speed.json"
    arguments = ["--networks=oaddet", "--repeats=2", f"--json={path}", f"--peer={PEER}"]
    assert benchmark.run(["realsr-benchmark", *arguments]) == 0
    captured = capsys.readouterr()
    rows = [line.split(" | ") for line in captured.out.splitlines() if line.startswith("| ")]
    assert [row[1] for row in rows[2:]] == ["realsr_jax", "best", "published"] * 2
    assert captured.err == ""
    document = json.loads(path.read_text())
    assert document["machine"]["jax"].startswith("jax ")
    tile = document["cases"][1]
    assert tile["case"] == "oaddet, tile 20x24"
    assert len(tile["sides"]["best"]["seconds"]) == 2
    shown = float(rows[5][2].split()[0].lstrip("| "))
    assert shown == pytest.approx(tile["sides"]["realsr_jax"]["median"], rel=0.01)


def test_without_a_peer(capsys):
    assert benchmark._find_sides(None, None) == [OURS]
    assert capsys.readouterr().out.startswith("realsr_jax runs alone; --peer=FILE names a script")
    assert benchmark.run(["realsr-benchmark", "--sides=best", "--networks=edsr", "--tasks=tile"]) == 2
    assert "--sides=best: needs --peer=FILE" in capsys.readouterr().err


def test_sides_of_a_peer():
    assert benchmark._find_sides(str(PEER), None) == [OURS, BEST, PUBLISHED]
    assert benchmark._find_sides(str(PEER), ["published", "other"]) == [
        PUBLISHED,
        Side("other", (sys.executable, str(PEER), "other")),
    ]


def test_peer_that_lacks_a_library_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "make_cases", lambda **_: [Case("product", "", (8, 8))])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    peer = tmp_path / "peer.py"
    peer.write_text("import no_such_library")
    arguments = [f"--peer={peer}", "--sides=realsr_jax,mine", "--repeats=1"]
    assert benchmark.run(["realsr-benchmark", *arguments]) == 1
    captured = capsys.readouterr()
    assert "mine: matrix product, 8x8: ModuleNotFoundError: No module named 'no_such_library'" in captured.err
    assert "| matrix product, 8x8 | realsr_jax |" in captured.out


def test_what_peers_import_leaves_jax_out():
    program = (
        "import sys, realsr_jax.benchmark.conversation as c, realsr_jax.upscale.tile_plans; "
        "case = c.Case('photo', 'edsr', (8, 8), fields={'scale': 2}); case.ensemble, case.scale; "
        "print([name for name in ('jax', 'flax') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "[]\n"


def test_network_without_a_published_ensemble(monkeypatch, tmp_path):
    assert Case("photo", "edsr", (30, 26)).ensemble.self_ensemble
    monkeypatch.setitem(NETWORKS, "toy", OADDET)
    case = Case("photo", "toy", (30, 26), fields=SMALL)
    assert case.ensemble.tilings == (UniformTiles(),) and not case.ensemble.self_ensemble
    tile = cases.count_flops(Case("tile", "oaddet", (256, 256), fields=SMALL))
    assert cases.count_flops(case) == pytest.approx(tile)


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
    assert capsys.readouterr().err == "realsr-benchmark: failing: matrix product, 8x8: no such device\n"


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--networks=vdsr", "expected some of oaddet, deep_oaddet, edsr, drln"),
        ("--tasks=", "expected some of tile, photo, step"),
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


def test_case_survives_json():
    case = Case("step", "edsr", (32, 48), batch=2, fields=SMALL)
    assert read_case(json.loads(json.dumps(dataclasses.asdict(case)))) == case
