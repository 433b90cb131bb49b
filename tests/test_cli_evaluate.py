"""``realsr-evaluate`` end to end: matching, figures, outputs, bad files and wrong command lines."""

import json
import subprocess
import sys
from pathlib import Path

import golden
import imagecodecs
import numpy as np
import pytest
from browser import data_of
from PIL import Image

from realsr_jax.cli import command, evaluate
from realsr_jax.convert.rules import to_flax
from realsr_jax.evaluate import image_pairs, report_page
from realsr_jax.evaluate import protocols as evaluation
from realsr_jax.images import ImageError
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.system.errors import UsageError
from realsr_jax.upscaling import photo_upscaling as inference
from realsr_jax.upscaling.tilings import QuarterTiles
from realsr_jax.weights import save_weights

pytestmark = pytest.mark.usefixtures("working_folder")

HEIGHT, WIDTH = 20, 24
FIELDS = ("psnr_rgb", "psnr_y", "ssim", "aim_score")


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A weights directory of a tiny network at scale 2."""
    folder = tmp_path_factory.mktemp("weights") / "edsr_tiny"
    config = EDSRConfig(n_resblocks=2, n_feats=8, scale=2, res_scale=1.0)
    save_weights(folder, config, to_flax(config, golden.state_dict("edsr_tiny")), provenance={})
    return folder


def run(*args):
    return evaluate.run(["realsr-evaluate", *map(str, args)])


def save(path, samples):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(samples).save(path)
    return samples


def save_pair(name, seed=0, extra=0):
    """Writes an LR and an HR image and returns them."""
    lr = save(f"lr/{name}x2.png", golden.photo(HEIGHT, WIDTH, seed=seed))
    hr = golden.photo(2 * HEIGHT + extra, 2 * WIDTH, seed=seed + 100)
    return lr, save(f"hr/{name}.png", hr)


def bicubic(lr, scale=2):
    return inference.BicubicUpscaler(scale)(lr)


def figures(sr, hr, **options):
    return evaluation.as_json(evaluation.score(sr, hr, **({"scale": 2, "protocol": "aim"} | options)))


# Figures


def test_bicubic(capsys):
    pairs = [save_pair(name, seed, extra=seed % 2) for seed, name in enumerate(("a", "b"))]
    assert run("--lr=lr", "--hr=hr", "--weights=bicubic", "--json=scores.json") == 0
    expected = [figures(bicubic(lr), hr) for lr, hr in pairs]
    written = json.loads(Path("scores.json").read_text())
    assert [image["name"] for image in written["images"]] == ["a", "b"]
    assert [image["scores"] for image in written["images"]] == expected
    assert [image["bicubic"] for image in written["images"]] == expected
    for field in FIELDS:
        mean = sum(scores[field] for scores in expected) / 2
        assert written["means"]["mean"][field] == pytest.approx(mean)
        assert written["means"]["gain"][field] == 0
    rules = {
        name: written[name] for name in ("protocol", "scale", "border", "ssim_of", "n_images", "n_scored")
    }
    assert rules == {
        "protocol": "aim", "scale": 2, "border": 8, "ssim_of": "RGB", "n_images": 2, "n_scored": 2
    }  # fmt: skip
    assert written["problems"] == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "bicubic: protocol aim, scale 2, 8 border pixels left out"
    assert lines[1].split() == ["image", "PSNR-RGB", "PSNR-Y", "SSIM-RGB", "AIM", "score"]
    first = expected[0]
    assert lines[2].split() == [
        *("a", f"{first['psnr_rgb']:.2f}", f"{first['psnr_y']:.2f}"),
        *(f"{first['ssim']:.4f}", f"{first['aim_score']:.4f}"),
    ]
    assert [line.split()[0] for line in lines[2:]] == ["a", "b", "mean", "bicubic", "gain", "means"]
    assert lines[-1] == "means of 2 images"
    assert not list(Path().glob("*.tmp"))


def test_network_with_benchmark_protocol(weights, capsys):
    lr, hr = save_pair("a")
    flags = (f"--weights={weights}", "--chop_size=8", "--shave_size=2", "--self_ensemble")
    assert run("--lr=lr", "--hr=hr", *flags, "--protocol=benchmark", "--json=scores.json") == 0
    upscaler = inference.Upscaler(
        *inference.load_weights(weights), tilings=(QuarterTiles(8, 2),), self_ensemble=True
    )
    written = json.loads(Path("scores.json").read_text())
    assert written["border"] == 2
    expected = figures(upscaler(lr), hr, protocol="benchmark")
    assert written["images"][0]["scores"] == pytest.approx(expected)
    baseline = figures(bicubic(lr), hr, protocol="benchmark")
    assert written["means"]["bicubic"] == pytest.approx(baseline)
    assert written["means"]["gain"]["psnr_y"] == pytest.approx(expected["psnr_y"] - baseline["psnr_y"])
    assert "SSIM-Y" in capsys.readouterr().out


def smoothed(sr, **options):
    return inference.smooth(np.rint(np.clip(sr, 0, 255)).astype(np.uint8), **options).astype(np.float32)


def test_guided_filter_and_config():
    lr, hr = save_pair("a")
    Path("run.py").write_text(
        "from realsr_jax.upscaling.inference_config import InferenceConfig, ModelRun\n"
        "def get_config():\n"
        "    return InferenceConfig((ModelRun('bicubic'),), guided_filter=True)\n"
    )
    assert run("--lr=lr", "--hr=hr", "--config=run.py", "--json=scores.json") == 0
    written = json.loads(Path("scores.json").read_text())
    assert written["images"][0]["scores"] == figures(smoothed(bicubic(lr)), hr)
    assert written["images"][0]["bicubic"] == figures(bicubic(lr), hr)


def test_results_alone(capsys):
    _, hr = save_pair("a")
    sr = save("sr/a_x2_SR.png", golden.photo(2 * HEIGHT, 2 * WIDTH, seed=7))
    assert run("--sr=sr", "--hr=hr", "--scale=2", "--json=scores.json") == 0
    written = json.loads(Path("scores.json").read_text())
    assert written["images"] == [{"name": "a", "scores": figures(sr, hr)}]
    assert list(written["means"]) == ["mean"]
    assert "bicubic" not in capsys.readouterr().out


def test_results_with_lr_tell_the_scale():
    hr = save("hr/a.png", golden.photo(60, 66))
    lr = save("lr/a.png", golden.photo(20, 22, seed=1))
    sr = save("sr/a.png", golden.photo(60, 66, seed=2))
    assert run("--sr=sr", "--lr=lr", "--hr=hr", "--json=scores.json") == 0
    written = json.loads(Path("scores.json").read_text())
    assert (written["scale"], written["border"]) == (3, 9)
    assert written["images"][0]["scores"] == figures(sr, hr, scale=3)
    assert written["images"][0]["bicubic"] == figures(bicubic(lr, 3), hr, scale=3)


def test_border_needs_no_scale(capsys):
    hr = save("hr.png", golden.photo(40, 40))
    sr = save("sr.png", golden.photo(40, 40, seed=1))
    assert run("--sr=sr.png", "--hr=hr.png", "--border=3", "--json=scores.json") == 0
    written = json.loads(Path("scores.json").read_text())
    assert (written["scale"], written["border"]) == (None, 3)
    assert written["images"][0]["scores"] == figures(sr, hr, border=3)
    assert "scale unknown, 3 border pixels left out" in capsys.readouterr().out


def test_identical_images(capsys):
    hr = save("hr/a.png", golden.photo(40, 40))
    save("sr/a.png", hr)
    assert run("--sr=sr", "--hr=hr", "--scale=2", "--json=scores.json") == 0
    assert json.loads(Path("scores.json").read_text())["means"]["mean"]["psnr_y"] == "inf"
    assert capsys.readouterr().out.splitlines()[2].split() == ["a", "inf", "inf", "1.0000", "inf"]


def test_alpha_grey_and_16_bits():
    hr = golden.photo(40, 40)
    sr = golden.photo(40, 40, seed=1)
    alpha = np.full((40, 40, 1), 128, np.uint8)
    save("hr/alpha.png", np.concatenate([hr, alpha], axis=-1))
    save("sr/alpha.png", sr)
    save("hr/grey.png", hr[..., 0])
    save("sr/grey.png", sr)
    save("hr/deep.png", hr)
    Path("sr/deep.png").write_bytes(imagecodecs.png_encode(sr.astype(np.uint16) * 257 + 60))
    assert run("--sr=sr", "--hr=hr", "--scale=2", "--json=scores.json") == 0
    images = json.loads(Path("scores.json").read_text())["images"]
    scores = {image["name"]: image["scores"] for image in images}
    assert scores["alpha"] == figures(sr, hr)
    assert scores["deep"] == figures(sr, hr)
    assert scores["grey"] == figures(sr, np.repeat(hr[..., :1], 3, axis=-1), is_grey=True)


@pytest.mark.parametrize("lr_is_grey", [True, False])
def test_grey_images_are_scored_by_their_own_luma(lr_is_grey):
    lr, hr = golden.photo(HEIGHT, WIDTH)[..., 0], golden.photo(2 * HEIGHT, 2 * WIDTH, seed=1)[..., 0]
    save("lr/a.png", lr if lr_is_grey else np.repeat(lr[..., None], 3, axis=-1))
    save("hr/a.png", hr)
    flags = ("--lr=lr", "--hr=hr", "--weights=bicubic", "--protocol=benchmark", "--json=scores.json")
    assert run(*flags) == 0
    sr = evaluation.to_8_bit(bicubic(np.repeat(lr[..., None], 3, axis=-1)))[..., 0]
    error = (sr.astype(np.float64) - hr)[2:-2, 2:-2]
    expected = 10 * np.log10(255**2 / np.mean(error**2))
    for scores in json.loads(Path("scores.json").read_text())["images"][0].values():
        if isinstance(scores, dict):
            assert scores["psnr_y"] == pytest.approx(expected) == scores["psnr_rgb"]
    save("hr/a.png", np.repeat(hr[..., None], 3, axis=-1))
    assert run(*flags) == 0
    as_rgb = json.loads(Path("scores.json").read_text())["images"][0]["scores"]["psnr_y"]
    assert as_rgb - expected == pytest.approx(1.32, abs=0.005)


# Matching


def touch(*paths):
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def matched(**inputs):
    pairs, problems, n_images = image_pairs.match_images({role: [paths] for role, paths in inputs.items()})
    names = [(pair.name, pair.hr.name, *(p.name for p in (pair.lr, pair.sr) if p)) for pair in pairs]
    return names, problems, n_images


@pytest.mark.parametrize(
    ("hr", "other"),
    [
        ("000001.png", "000001.png"),
        ("0801.png", "0801x2.png"),
        ("baby.png", "babyx4.png"),
        ("baby.png", "baby_x2_SR.png"),
        ("img_001.bmp", "IMG_001_X3.webp".replace("IMG", "img")),
        ("000001_HR.png", "000001_LR.jpg"),
        ("Canon_001_HR.png", "Canon_001_LR2.png"),
        ("a_SRF_2_HR.png", "a_SRF_2_LR.png"),
        ("a_x2_HR.png", "a_LR.png"),
        ("x2.png", "x2.png"),
        ("_HR.png", "_HR.png"),
    ],
)
def test_endings(hr, other):
    touch(f"hr/{hr}", "hr/else.png", f"lr/{other}", "lr/else.png")
    pairs, problems, _ = matched(hr="hr", lr="lr")
    assert problems == []
    assert (hr, other) in [pair[1:] for pair in pairs]


def test_patterns_with_a_star():
    """What the star stands for is the name, as in training and washing; other patterns are lists of files."""
    touch("a/1L.png", "a/1H.png", "a/2L.png", "a/2H.png", "a/2H.txt", "b/c/2H.png")
    assert matched(hr="a/*H.png", lr="a/*L.png") == (
        [("1H", "1H.png", "1L.png"), ("2H", "2H.png", "2L.png")],
        [],
        2,
    )
    assert matched(hr="*/**/2H.png", sr="b/c")[0] == [("2H", "2H.png", "2H.png")]
    with pytest.raises(UsageError, match=r"^a/\*M.png: no image file matches this pattern; expected LR im"):
        matched(hr="a/*H.png", lr="a/*M.png")


def test_names_that_only_look_like_endings():
    touch("hr/box2.png", "hr/box3.png", "lr/box2x2.png", "lr/box3x2.png")
    pairs, problems, _ = matched(hr="hr", lr="lr")
    assert [pair[1:] for pair in pairs] == [("box2.png", "box2x2.png"), ("box3.png", "box3x2.png")]
    assert problems == []


def test_leftovers_are_named():
    touch("hr/a_HR.png", "hr/b_HR.png", "hr/c.png", "hr/c_HR.png")
    touch("lr/a.png", "lr/d.png", "lr/c_LR.png", "sr/a.png", "sr/b.png", "sr/cx2.png")
    pairs, problems, n_images = matched(hr="hr", lr="lr", sr="sr")
    assert pairs == [("a", "a_HR.png", "a.png", "a.png"), ("c", "c.png", "c_LR.png", "cx2.png")]
    assert n_images == 4
    assert problems == [
        "hr/b_HR.png: no LR image matches it by name",
        "hr/c_HR.png: lr/c_LR.png, which matches it by name, is already hr/c.png's; rename one",
        "lr/d.png: no HR image matches it by name",
        "hr/c_HR.png: sr/cx2.png, which matches it by name, is already hr/c.png's; rename one",
    ]


def test_ambiguous_names():
    touch("hr/a.png", "hr/b.png", "lr/ax2.png", "lr/ax3.png", "lr/b.png")
    pairs, problems, _ = matched(hr="hr", lr="lr")
    assert [pair[0] for pair in pairs] == ["b"]
    assert problems == ["hr/a.png: both lr/ax2.png and lr/ax3.png match it by name; rename one"]


def test_one_file_each_matches_whatever_the_names():
    touch("truth.png", "photo.jpg")
    assert matched(hr="truth.png", lr="photo.jpg") == ([("truth", "truth.png", "photo.jpg")], [], 1)


def test_no_match_at_all():
    touch("hr/a.png", "hr/b.png", "lr/c.png")
    with pytest.raises(
        UsageError, match=r"^--hr=hr and --lr=lr: no files of the same name \(hr/a.png: no LR"
    ):
        matched(hr="hr", lr="lr")


# Bad files


def test_bad_neighbours(capsys):
    lr, hr = save_pair("a")
    for name in ("b", "c", "d", "e"):
        save_pair(name)
    Path("lr/bx2.png").write_bytes(b"junk")
    save("hr/c.png", golden.photo(2 * HEIGHT + 2, 2 * WIDTH))
    Path("hr/d.png").unlink()
    save("lr/ex2.png", golden.photo(10, 10))
    save("hr/e.png", golden.photo(20, 20))
    flags = ("--lr=lr", "--hr=hr", "--weights=bicubic", "--json=scores.json", "--report=report")
    assert run(*flags) == 1
    captured = capsys.readouterr()
    problems = [
        "lr/dx2.png: no HR image matches it by name",
        "lr/bx2.png: not a PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC or GIF image",
        "lr/cx2.png is 24 x 20 and hr/c.png: HR is 48 x 42, expected 48 x 40 or less than 2 pixels more",
        "hr/e.png and lr/ex2.png: images are too small: expected at least 27x27, got 20x20",
    ]
    assert captured.err.splitlines() == [f"realsr-evaluate: {problem}" for problem in problems]
    assert "means of 1 of 4 images" in captured.out
    written = json.loads(Path("scores.json").read_text())
    assert (written["n_scored"], written["n_images"]) == (1, 4)
    assert written["means"]["mean"] == figures(bicubic(lr), hr)
    assert written["problems"] == problems
    assert "1 of 4 images" in Path("report/index.html").read_text()


def test_all_files_are_bad(capsys):
    touch("hr/a.png", "sr/a.png")
    assert run("--sr=sr", "--hr=hr", "--scale=2", "--json=scores.json", "--report=report") == 1
    captured = capsys.readouterr()
    assert captured.err == "realsr-evaluate: hr/a.png: the file is empty\n"
    assert "no image could be scored" in captured.out
    assert json.loads(Path("scores.json").read_text())["means"] == {}
    assert not Path("report").exists()


def test_sizes_that_do_not_fit(capsys):
    save("hr/a.png", golden.photo(40, 40))
    save("lr/a.png", golden.photo(20, 20))
    save("sr/a.png", golden.photo(40, 39))
    assert run("--sr=sr", "--hr=hr", "--scale=1") == 1
    assert "sr/a.png is 39 x 40 and hr/a.png: HR is 40 x 40, expected 39 x 40\n" in capsys.readouterr().err
    assert run("--sr=sr", "--lr=lr", "--hr=hr") == 2
    assert "sr/a.png is 39 x 40 and lr/a.png 20 x 20, which is no whole scale" in capsys.readouterr().err
    assert run("--sr=sr", "--lr=lr", "--hr=hr", "--scale=2") == 1
    assert "sr/a.png is 39 x 40, expected 40 x 40 at scale 2 of lr/a.png" in capsys.readouterr().err


def test_device_out_of_memory(monkeypatch, capsys):
    def fail(*args, **options):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory\ntrace")

    monkeypatch.setattr(inference, "upscale_photo", fail)
    save_pair("a")
    assert run("--lr=lr", "--hr=hr", "--weights=bicubic") == 1
    assert "hr/a.png and lr/ax2.png: the device's memory does not suffice" in capsys.readouterr().err


# Outputs


def test_report(capsys):
    save_pair("a")
    assert run("--lr=lr", "--hr=hr", "--weights=bicubic", "--report=report") == 0
    assert "report: report/index.html" in capsys.readouterr().out
    assert [path.name for path in Path("report").iterdir()] == ["index.html"]
    assert run("--lr=lr", "--hr=hr", "--weights=bicubic", "--report=report") == 0


def test_guided_filter_flags():
    lr, hr = save_pair("a")
    flags = ("--weights=bicubic", "--guided_filter", "--guided_radius=3", "--guided_eps=40")
    assert run("--lr=lr", "--hr=hr", *flags, "--json=scores.json") == 0
    written = json.loads(Path("scores.json").read_text())["images"][0]["scores"]
    assert written == figures(smoothed(bicubic(lr), radius=3, eps=40.0), hr)
    assert written != figures(smoothed(bicubic(lr)), hr)


def test_score_survives_pictures_that_no_page_can_hold(monkeypatch, capsys):
    for name in ("a", "b", "c"):
        save_pair(name)
    encode = report_page._data_uri

    def fail_once(*args, **options):
        monkeypatch.setattr(report_page, "_data_uri", encode)
        raise ImageError("70000 x 40 is too large for JPEG; PNG can hold it")

    monkeypatch.setattr(report_page, "_data_uri", fail_once)
    assert run("--lr=lr", "--hr=hr", "--weights=bicubic", "--json=scores.json", "--report=report") == 0
    captured = capsys.readouterr()
    assert captured.err == (
        "realsr-evaluate: hr/a.png: scored, but the report cannot show its pictures: "
        "70000 x 40 is too large for JPEG\n"
    )
    assert [line.split()[0] for line in captured.out.splitlines()[2:5]] == ["a", "b", "c"]
    assert "means of 3 images" in captured.out
    written = json.loads(Path("scores.json").read_text())
    assert (written["n_scored"], written["problems"]) == (3, [])
    shown = data_of(Path("report/index.html"))
    assert shown["means"] == written["means"]
    assert [image["scores"] for image in shown["images"]] == [image["scores"] for image in written["images"]]
    assert ["images" in image for image in shown["images"]] == [False, True, True]


# Command lines


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("", "--hr is missing"),
        ("--hr=hr", "name --lr to score a network, or --sr"),
        ("--hr=hr --sr=hr", "the scale, on which the border depends, is unknown: pass --scale"),
        ("--hr=hr --sr=hr --weights=bicubic", "--weights runs a network, which cannot stand beside --sr"),
        ("--hr=hr --sr=hr --self_ensemble", "--self_ensemble runs a network"),
        ("--hr=hr --lr=lr --weights=bicubic --scale=2", "--scale cannot stand beside --weights"),
        ("--hr=hr --lr=lr --weights=bicubic --chop_size=x", "--chop_size=x: expected whole numbers"),
        ("--hr=hr --lr=lr --weights=nothing", "nothing"),
        ("--hr=hr --lr=none --weights=bicubic", "none: no such file or folder"),
        ("--hr=hr --lr=lr --weights=bicubic --border=-1", "--border"),
        ("--hr=hr --lr=lr --weights=bicubic --protocol=psnr", "--protocol"),
        ("--hr=hr --lr=lr --weights=bicubic --json=hr", "--json=hr: is a folder; name a file"),
        ("--hr=hr --lr=lr --weights=bicubic --json=no/a.json", "the folder no does not exist"),
        ("--hr=hr --lr=lr --weights=bicubic --report=hr/a.png", "--report=hr/a.png: is a file"),
        ("--hr=hr --sr=junk --lr=lr", "no pair of LR and SR images can be read"),
        ("hr", "unexpected argument 'hr'"),
    ],
)  # fmt: skip
def test_wrong_command_lines(args, message, capsys):
    save_pair("a")
    touch("junk/a.png")
    assert run(*args.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("realsr-evaluate: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_folder_without_permission(monkeypatch, capsys):
    save_pair("a")
    Path("report").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: False)
    for flag in ("--report=report", "--json=scores.json"):
        assert run("--lr=lr", "--hr=hr", "--weights=bicubic", flag) == 2
        assert f"{flag}: no permission to write there" in capsys.readouterr().err


def test_help_names_every_flag(capsys):
    table = command.FlagTable()
    evaluate._define_flags(table)
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 110
    for name in table.values:
        assert f"--{name}" in text or f"--no{name}" in text


def test_help_and_errors_need_no_jax():
    save_pair("a")
    script = """
import sys
from realsr_jax.cli import evaluate
assert evaluate.run(["x", "--help"]) == 0
assert evaluate.run(["x", "--hr=hr"]) == evaluate.run(["x", "--hr=hr", "--lr=no", "--weights=bicubic"]) == 2
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"jax", "flax", "orbax"}, loaded
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 2
