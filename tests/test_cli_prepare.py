"""``realsr-prepare`` end to end on tiny data sets: building, resuming, what is missing or bad, LR images."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import golden
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from test_ops_matlab_resize import _slow

from realsr_jax import images
from realsr_jax.cli import prepare
from realsr_jax.data import published_sets, tfds_builders
from realsr_jax.data.published_sets import TFDS_NAMES
from realsr_jax.data.sources import PUBLISHED_COUNTS, Tfds
from realsr_jax.data.training_pairs import open_pairs

pytestmark = pytest.mark.usefixtures("working_folder", "tiny")

N_AIM, N_TRAIN, N_VALID = 7, 4, 2
PUBLISHED = {
    "aim": N_AIM, "aim_x2_clean": 3, "aim_x3_clean": 2, "div2k_train": N_TRAIN, "div2k_validation": N_VALID
}  # fmt: skip
CLEAN = {2: ("000001", "000002", "000005"), 3: ("000000", "000006")}


@pytest.fixture
def tiny(monkeypatch):
    """Lets the published sets be tiny, and their shards too."""
    for name, count in PUBLISHED.items():
        monkeypatch.setitem(PUBLISHED_COUNTS, name, count)
    monkeypatch.setattr(tfds_builders, "_PAIRS_PER_SHARD", 2)


def run(*args):
    return prepare.run(["realsr-prepare", *map(str, args)])


def build(dataset, *args, manual_dir="manual"):
    return run(f"--dataset={dataset}", f"--manual_dir={manual_dir}", "--data_dir=data", *args)


def save(path, samples):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(samples).save(path)
    return samples


def save_pair(lr, hr, seed, scale):
    height, width = 5 + seed % 3, 6
    return (
        save(lr, golden.photo(height, width, seed=seed)),
        save(hr, golden.photo(height * scale, width * scale, seed=seed + 500)),
    )


def save_aim(scale=2, place="manual/AIM"):
    """Writes AIM's training pairs and clean list of a scale; returns the pairs by name."""
    folder = Path(place, f"X{scale}")
    made = {
        f"{i:06}": save_pair(folder / f"LR/{i:06}.png", folder / f"HR/{i:06}.png", i + 10 * scale, scale)
        for i in range(N_AIM)
    }
    if scale in CLEAN:
        Path(place, f"x{scale}_clean_img_id.txt").write_text(
            "".join(f"{name}.png\n" for name in CLEAN[scale])
        )
    return made


def save_div2k(numbers=(1, 2, 3, 4, 801, 802)):
    """Writes DIV2K as published; returns its pairs by number."""
    made = {}
    for number in numbers:
        part = "train" if number <= 800 else "valid"
        lr = f"manual/DIV2K_{part}_LR_bicubic/X2/{number:04}x2.png"
        made[number] = save_pair(lr, f"manual/DIV2K_{part}_HR/{number:04}.png", number, 2)
    return made


def folder_of(dataset):
    version = "2.0.0" if dataset.startswith("div2k") else "1.0.0"
    return Path("data", TFDS_NAMES[dataset], version)


def assert_readable(dataset, split, expected, scale=2):
    """Reads a data set as training does."""
    source = Tfds(TFDS_NAMES[dataset], split, "data")
    pairs = open_pairs([source], scale=scale, patch_size=2, decoded_dir="decoded")
    assert pairs.problems == []
    for pair, (lr, hr) in zip(pairs, expected, strict=True):
        np.testing.assert_array_equal(pair.lr, lr)
        np.testing.assert_array_equal(pair.hr, hr)


# ------------------------------------------------------------------------------------------- data sets


def test_aim(capsys):
    made = save_aim()
    valid = save_pair("manual/AIM/X2/valid/LR/a.png", "manual/AIM/X2/valid/HR/a.png", 9, 2)
    assert build("aim_x2") == 0
    output = capsys.readouterr()
    assert output.err == ""
    assert output.out.splitlines() == [
        "aim_real_sr/x2: built; pairs: train 7, validation 1; data/aim_real_sr/x2/1.0.0",
        "source of a training configuration: Tfds('aim_real_sr/x2', data_dir='data')",
    ]
    assert_readable("aim_x2", "train", list(made.values()))
    assert_readable("aim_x2", "validation", [valid])
    assert sorted(path.name for path in folder_of("aim_x2").iterdir()) == [
        *(f"aim_real_sr-train.array_record-{i:05}-of-00004" for i in range(4)),
        "aim_real_sr-validation.array_record-00000-of-00001",
        "dataset_info.json",
        "features.json",
    ]
    assert build("aim_x2") == 0
    assert "aim_real_sr/x2: there already; pairs: train 7, validation 1; " in capsys.readouterr().out


def test_washed_and_large_sets():
    x2, x3 = save_aim(2), save_aim(3)
    assert build("aim_x2_washed") == 0
    clean = [x2[name] for name in CLEAN[2]]
    assert_readable("aim_x2_washed", "train", clean)
    assert build("aim_x3_washed") == 0
    assert_readable("aim_x3_washed", "train", [x3[name] for name in CLEAN[3]], scale=3)
    assert build("aim_x2_washed_large") == 0
    reduced = []
    for name in CLEAN[3]:
        lr, hr = x3[name]
        size = (lr.shape[0] * 2, lr.shape[1] * 2)
        reduced.append((lr, _slow(hr, size, (2 / 3, 2 / 3), "clamp")))
    source = Tfds(TFDS_NAMES["aim_x2_washed_large"], "train", "data")
    pairs = open_pairs([source], scale=2, patch_size=2, decoded_dir="none")
    for pair, (lr, hr) in zip(pairs, clean + reduced, strict=True):
        np.testing.assert_array_equal(pair.lr, lr)
        assert np.abs(pair.hr.astype(int) - hr).max() <= 1  # of exact halves, the loop's order decides


def test_div2k():
    made = save_div2k()
    assert build("div2k_x2") == 0
    assert_readable("div2k_x2", "train", [made[i] for i in (1, 2, 3, 4)])
    assert_readable("div2k_x2", "validation", [made[i] for i in (801, 802)])


def test_div2k_in_the_layout_of_the_training_source():
    made = save_div2k()
    for path in Path("manual").rglob("*.png"):
        target = Path("other/DIV2K", *(part.replace("DIV2K_train_", "").replace("DIV2K_valid_", "")
                                       for part in path.parts[1:]))  # fmt: skip
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    assert build("div2k_x2", manual_dir="other") == 0
    assert_readable("div2k_x2", "train", [made[i] for i in (1, 2, 3, 4)])


def test_stored_files_are_the_published_ones():
    save_aim()
    assert build("aim_x2") == 0
    skip = {side: tfds.decode.SkipDecoding() for side in ("lr", "hr")}
    stored = tfds.builder_from_directory(folder_of("aim_x2")).as_data_source("train", decoders=skip)
    record = stored[4]
    assert record["name"] == b"000004"
    assert record["lr"] == Path("manual/AIM/X2/LR/000004.png").read_bytes()
    assert record["hr"] == Path("manual/AIM/X2/HR/000004.png").read_bytes()


# A process of its own: this one may have imported anything.
WITHOUT_TENSORFLOW = """
import sys
sys.modules["cv2"] = None  # which TFDS imports only where it is installed
from realsr_jax.cli import prepare
from realsr_jax.data.sources import PUBLISHED_COUNTS
PUBLISHED_COUNTS.update({"div2k_train": 4, "div2k_validation": 2})
assert prepare.run(["realsr-prepare", "--dataset=div2k_x2", "--manual_dir=manual", "--data_dir=data"]) == 0
assert not {"tensorflow", "torch"} & set(sys.modules)
"""


def test_does_without_tensorflow():
    save_div2k()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_TENSORFLOW], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


# --------------------------------------------------------------------------------------------- resuming

KILLED = """
import os, sys
from realsr_jax.data import tfds_builders
from realsr_jax.data.sources import PUBLISHED_COUNTS
PUBLISHED_COUNTS["aim"] = 7
tfds_builders._PAIRS_PER_SHARD = 2
def progress(n_checked, n_all):
    if n_checked == int(sys.argv[1]):
        os.kill(os.getpid(), 9)
tfds_builders.prepare_dataset("aim_x2", manual_dir="manual", data_dir="data", progress=progress)
"""


def kill_after(n_pairs):
    done = subprocess.run([sys.executable, "-c", KILLED, str(n_pairs)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


def states(folder):
    """Returns which file each finished shard is, by name; shards get their names when all are there."""
    found = (path for path in folder.iterdir() if path.name.isalnum() or "array_record" in path.name)
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in found}


def state_of(dataset, *numbers):
    """Returns which files a complete data set's shards of these numbers are."""
    built = states(folder_of(dataset))
    return {built[f"aim_real_sr-train.array_record-{number:05}-of-00004"] for number in numbers}


def test_killed_and_resumed(monkeypatch):
    made = save_aim()
    work = Path("data/aim_real_sr/x2/1.0.0.unfinished")
    kill_after(3)  # in the second shard of two pairs
    first = states(work)
    assert len(first) == 1
    assert list(work.glob(".*.tmp"))
    assert not folder_of("aim_x2").exists()
    kill_after(5)
    second = states(work)
    assert len(second) == 2
    assert first.items() <= second.items()
    decoded = []
    load_pair = tfds_builders.load_pair
    monkeypatch.setattr(
        tfds_builders, "load_pair", lambda pair, scale: decoded.append(pair.name) or load_pair(pair, scale)
    )
    assert build("aim_x2") == 0
    assert sorted(Path(name).stem for name in decoded) == ["000004", "000005", "000006"]
    assert set(first.values()) == state_of("aim_x2", 0)
    assert set(second.values()) == state_of("aim_x2", 0, 1)
    assert not work.exists()
    assert len(list(folder_of("aim_x2").iterdir())) == 4 + 2  # shards, dataset_info.json, features.json
    assert_readable("aim_x2", "train", list(made.values()))


def test_changed_images_are_checked_again():
    made = save_aim()
    kill_after(5)
    made["000001"] = save_pair("manual/AIM/X2/LR/000001.png", "manual/AIM/X2/HR/000001.png", 77, 2)
    assert build("aim_x2") == 0
    assert_readable("aim_x2", "train", list(made.values()))


def test_interrupted(monkeypatch, capsys):
    save_aim()

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tfds_builders, "_finish", interrupt)
        assert build("aim_x2") == 130
    assert capsys.readouterr().err == "realsr-prepare: interrupted\n"
    assert build("aim_x2") == 0


# ---------------------------------------------------------------------------------------- bad and missing


def errors(capsys):
    """Returns what the command complained about, as lines without its name."""
    return capsys.readouterr().err.removeprefix("realsr-prepare: ").splitlines()


def test_bad_images_are_all_named_and_nothing_is_built(capsys):
    made = save_aim()
    Path("manual/AIM/X2/HR/000000.png").write_bytes(b"no image")
    cut = Path("manual/AIM/X2/LR/000003.png")
    cut.write_bytes(cut.read_bytes()[:60])
    save("manual/AIM/X2/HR/000006.png", golden.photo(9, 9))
    assert build("aim_x2") == 1
    lines = errors(capsys)
    assert len(lines) == 4
    assert (
        lines[0] == "manual/AIM/X2/HR/000000.png: not a PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC or GIF image"
    )
    assert lines[1].startswith("realsr-prepare: manual/AIM/X2/LR/000003.png: broken or cut off")
    assert "000006.png: HR is 9 x 9 pixels, expected 12 x " in lines[2]
    assert lines[3] == (
        "realsr-prepare: 3 of 7 pairs cannot be used, so there is no data set; replace their files and start "
        "again, which continues from data/aim_real_sr/x2/1.0.0.unfinished"
    )
    assert not folder_of("aim_x2").exists()
    for name, seed in (("000000", 31), ("000003", 32), ("000006", 33)):
        pair = (f"manual/AIM/X2/LR/{name}.png", f"manual/AIM/X2/HR/{name}.png")
        made[name] = save_pair(*pair, seed, 2)
    before = states(Path("data/aim_real_sr/x2/1.0.0.unfinished"))
    assert len(before) == 1
    assert build("aim_x2") == 0
    assert set(before.values()) == state_of("aim_x2", 2)
    assert_readable("aim_x2", "train", list(made.values()))


AIM_X2 = "https://1drv.ms/u/s!AtE0puUOX2nNgW9bGUzZtoRksxwP?e=dP5yMD"
AIM_X3 = "https://1drv.ms/u/s!AtE0puUOX2nNgXA8gJT6YRTBhY7x?e=edRCqz"
LISTS = "https://github.com/HolmesShuan/AIM2020-Real-Super-Resolution/tree/master/washed_dataset"
DIV2K = "https://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K"
INCOMPLETE = "manual: incomplete (a folder AIM or DIV2K in it counts too), so the data set cannot be built:"


def test_everything_that_is_missing_is_listed(capsys):
    Path("manual").mkdir()
    no_list = (
        f"no such file or directory; expected a list of image names, one a line; download it from {LISTS}"
    )
    assert build("aim_x2_washed_large") == 1
    assert errors(capsys) == [
        INCOMPLETE,
        f"  manual/X2/HR: not there; unpack the x2 images from {AIM_X2} there",
        f"  manual/X2/LR: not there; unpack the x2 images from {AIM_X2} there",
        f"  manual/X3/HR: not there; unpack the x3 images from {AIM_X3} there",
        f"  manual/X3/LR: not there; unpack the x3 images from {AIM_X3} there",
        f"  manual/x2_clean_img_id.txt: {no_list}",
        f"  manual/x3_clean_img_id.txt: {no_list}",
    ]
    assert build("div2k_x2") == 1
    assert errors(capsys) == [
        INCOMPLETE,
        f"  manual/DIV2K_train_HR: not there; its images are in {DIV2K}_train_HR.zip",
        f"  manual/DIV2K_train_LR_bicubic/X2: not there; its images are in {DIV2K}_train_LR_bicubic_X2.zip",
        f"  manual/DIV2K_valid_HR: not there; its images are in {DIV2K}_valid_HR.zip",
        f"  manual/DIV2K_valid_LR_bicubic/X2: not there; its images are in {DIV2K}_valid_LR_bicubic_X2.zip",
    ]
    assert not Path("data").exists()


def test_missing_images_are_named(capsys):
    save_aim()
    save_div2k((1, 3, 801))
    for name in ("HR/000001", "LR/000003", "LR/000004", "LR/000006"):
        Path(f"manual/AIM/X2/{name}.png").unlink()
    assert build("aim_x2") == 1
    unpack = f"; unpack the x2 images from {AIM_X2} there"
    assert errors(capsys) == [
        INCOMPLETE,
        f"  manual/AIM/X2/HR: 1 of 7 images missing: 000001{unpack}",
        f"  manual/AIM/X2/LR: 3 of 7 images missing: 000003 to 000004, 000006{unpack}",
    ]
    assert build("aim_x2_washed") == 1
    assert errors(capsys)[1:] == [f"  manual/AIM/X2/HR: 1 of 3 images missing: 000001{unpack}"]
    assert build("div2k_x2") == 1
    lines = errors(capsys)
    assert len(lines) == 5
    assert "  manual/DIV2K_train_HR: 2 of 4 images missing: 0002, 0004; its images are in " in lines[1]
    assert "  manual/DIV2K_valid_LR_bicubic/X2: 1 of 2 images missing: 0802; its images are in " in lines[4]


def test_wrong_counts(capsys):
    save_aim()
    save_pair("manual/AIM/X2/LR/000008.png", "manual/AIM/X2/HR/000008.png", 1, 2)
    assert build("aim_x2") == 1
    assert errors(capsys)[1] == (
        "  manual/AIM/X2: pairs that are none of the 7 published ones: 000008; move them away"
    )
    clean_list = Path("manual/AIM/x2_clean_img_id.txt")
    clean_list.write_text("000001.png\n000002.png\n")
    assert build("aim_x2_washed") == 1
    assert errors(capsys)[1] == (
        f"  {clean_list}: names 2 images, expected 3; download it again from {LISTS}"
    )
    save("manual/AIM/X2/LR/extra.png", golden.photo(5, 6))
    assert build("aim_x2") == 1
    assert "  manual/AIM/X2/LR/extra.png: no HR image matches it by name" in errors(capsys)


def test_incomplete_data_set_of_another_time(monkeypatch, capsys):
    save_aim()
    assert build("aim_x2") == 0
    capsys.readouterr()
    monkeypatch.setitem(PUBLISHED_COUNTS, "aim", 8)
    assert build("aim_x2") == 1
    assert errors(capsys) == [
        "data/aim_real_sr/x2/1.0.0: has 7 pairs in the split train, expected 8; remove this folder and start "
        "again"
    ]


def test_published_counts(monkeypatch):
    monkeypatch.undo()  # of tiny sets
    expected = {
        **dict.fromkeys(("aim_x2", "aim_x3", "aim_x4"), 19_000),
        "aim_x2_washed": 18_475,
        "aim_x3_washed": 18_643,
        "aim_x4_washed": 18_652,
        "aim_x2_washed_large": 37_118,
        **dict.fromkeys(("div2k_x2", "div2k_x3", "div2k_x4"), 800),
    }
    counts = {name: published_sets.published_counts(name, Path("manual")) for name in TFDS_NAMES}
    assert {name: count["train"] for name, count in counts.items()} == expected
    assert counts["div2k_x2"]["validation"] == 100


def test_names_in_few_words():
    assert published_sets.list_names(["0003", "0001", "0002", "0009"]) == "0001 to 0003, 0009"
    assert published_sets.list_names(f"{i:04}" for i in range(0, 40, 2)).endswith(", 0022, and 8 more")
    assert published_sets.list_names(["b", "a", "0001"]) == "0001, a, b"


def test_no_room(monkeypatch, capsys):
    save_aim()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    assert build("aim_x2") == 1
    message = "1.0.0.unfinished: the images need at least 0.0 GiB more, but 0.0 GiB are free; make room"
    assert message in capsys.readouterr().err


# -------------------------------------------------------------------------------------------- LR images


def make(scale, *args, hr="hr", lr="lr"):
    return run(f"--make_lr={scale}", f"--hr={hr}", f"--lr={lr}", *args)


def load(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


@pytest.mark.parametrize("border", ["clamp", "mirror"])
@pytest.mark.parametrize("scale", [2, 4])
def test_lr_images_follow_matlabs_rule(scale, border, capsys):
    made = {"a": save("hr/a.png", golden.photo(17, 22, seed=1)), "b": save("hr/b.png", golden.photo(8, 9))}
    assert make(scale, f"--border={border}") == 0
    for name, hr in made.items():
        size = tuple(side // scale for side in hr.shape[:2])
        cropped = hr[: size[0] * scale, : size[1] * scale]
        expected = _slow(cropped, size, (1 / scale, 1 / scale), border)
        np.testing.assert_array_equal(load(f"lr/{name}.png"), expected)
    assert capsys.readouterr().out == f"2 of 2 images reduced by {scale}; lr\n"


def test_borders_differ_and_clamp_is_the_default():
    save("hr/a.png", golden.photo(16, 16, seed=1))
    for name, flags in (("default", ()), ("clamp", ["--border=clamp"]), ("mirror", ["--border=mirror"])):
        assert make(2, *flags, lr=name) == 0
    default, clamp, mirror = (load(f"{name}/a.png") for name in ("default", "clamp", "mirror"))
    np.testing.assert_array_equal(default, clamp)
    np.testing.assert_array_equal(clamp[2:-2, 2:-2], mirror[2:-2, 2:-2])
    assert (clamp != mirror).any()


def test_other_kinds_of_images(capsys):
    rgb = golden.photo(8, 8, seed=2)
    deep = images.Photo(rgb.astype(np.uint16) * 257 + 3, images.Metadata(), "PNG")
    Path("hr").mkdir()
    images.write_photo(deep, "hr/deep.png")
    alpha = np.full((8, 8, 1), 128, np.uint8)
    save("hr/clear.png", np.concatenate([rgb, alpha], -1))
    save("hr/opaque.png", np.concatenate([rgb, alpha + 127], -1))
    grey = save("hr/grey.png", rgb[..., 0])
    save("hr/photo.JPG", rgb)
    assert make(2) == 0
    expected = _slow(rgb, (4, 4), (0.5, 0.5), "clamp")
    for name in ("clear", "opaque"):
        np.testing.assert_array_equal(load(f"lr/{name}.png"), expected)
    np.testing.assert_array_equal(
        load("lr/grey.png"), _slow(grey[..., None], (4, 4), (0.5, 0.5), "clamp")[..., 0]
    )
    assert load("lr/photo.png").shape == (4, 4, 3)
    assert capsys.readouterr().err.splitlines() == [
        "realsr-prepare: hr/clear.png: its transparency is left out",
    ]
    reduced = images.read_photo("lr/deep.png").rgb
    assert reduced.dtype == np.uint16
    np.testing.assert_allclose(reduced / 257, expected, atol=1.25)  # in 8 bits each side is rounded


def test_bad_files_do_not_stop_the_others(capsys):
    save("hr/a.png", golden.photo(8, 8))
    Path("hr/b.png").write_bytes(b"no image")
    save("hr/c.png", golden.photo(1, 8))
    save("hr/d.png", golden.photo(8, 8))
    assert make(2) == 1
    output = capsys.readouterr()
    assert output.err.splitlines() == [
        "realsr-prepare: hr/b.png: not a PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC or GIF image",
        "realsr-prepare: hr/c.png: 8 x 1 pixels, smaller than the scale 2",
    ]
    assert output.out == "2 of 4 images reduced by 2, 2 failed; lr\n"
    assert sorted(os.listdir("lr")) == ["a.png", "d.png"]


def test_skip_existing(capsys):
    save("hr/a.png", golden.photo(8, 8))
    save("hr/b.png", golden.photo(8, 8))
    kept = save("lr/a.png", golden.photo(2, 2))
    assert make(2, "--skip_existing") == 0
    assert capsys.readouterr().out == "1 of 1 images reduced by 2, 1 existed already; lr\n"
    np.testing.assert_array_equal(load("lr/a.png"), kept)
    assert make(2) == 0
    assert load("lr/a.png").shape == (4, 4, 3)


def test_images_that_cannot_be_paired(capsys):
    save("hr/a.png", golden.photo(8, 8))
    assert make(2, lr="hr/../hr") == 1
    assert "hr/../hr: holds the HR images; name another folder" in capsys.readouterr().err
    save("hr/a.jpg", golden.photo(8, 8))
    assert make(2) == 1
    assert capsys.readouterr().err == (
        "realsr-prepare: hr/a.png: its LR image a.png is already that of hr/a.jpg; rename one\n"
    )
    assert not Path("lr").exists()


@pytest.mark.skipif("REALSR_SET5" not in os.environ, reason="REALSR_SET5 does not name the folder of Set5")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_makes_the_lr_images_of_set5(scale):
    root = Path(os.environ["REALSR_SET5"])
    assert make(scale, hr=root / f"HR_X{scale}") == 0
    published = sorted((root / f"LR_bicubic/X{scale}").glob("*.png"))
    assert len(published) == len(os.listdir("lr")) == 5
    for path in published:
        np.testing.assert_array_equal(load(f"lr/{path.stem.removesuffix(f'x{scale}')}.png"), load(path))


# ------------------------------------------------------------------------------------------ command line


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "name either --dataset to build a data set, or --make_lr"),
        (("--dataset=aim_x2", "--make_lr=2"), "name either --dataset"),
        (("--dataset=aim_x2",), "--manual_dir must be given with --dataset"),
        (("--make_lr=2",), "--hr and --lr must be given with --make_lr"),
        (("--dataset=aim_x2", "--manual_dir=.", "--border=mirror"), "--border belongs to --make_lr"),
        (("--make_lr=2", "--hr=.", "--lr=x", "--data_dir=x"), "--data_dir belongs to --dataset"),
        (
            ("--dataset=aim_x2_wash", "--manual_dir=."),
            "did you mean aim_x2_washed? the data sets are aim_x2,",
        ),
        (("--dataset=aim_x2", "--manual_dir=none"), "--manual_dir=none: no such folder"),
        (("--dataset=aim_x2", "--manual_dir=.", "--data_dir=file/data"), "cannot be made, "),
        (("--make_lr=2", "--hr=none", "--lr=x"), "--hr=none: no such folder"),
        (("--make_lr=2", "--hr=file", "--lr=x"), "--hr=file: is a file; name a folder"),
        (("--make_lr=2", "--hr=.", "--lr=file"), "--lr=file: is a file; name a folder"),
        (("--make_lr=1", "--hr=.", "--lr=x"), "make_lr"),
        (("--make_lr=2", "--hr=.", "--lr=x", "--border=wrap"), "border"),
    ],
)
def test_wrong_command_lines(args, message, capsys):
    Path("file").touch()
    assert run(*args) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_names_all_data_sets_and_flags(capsys):
    assert run("--help") == 0
    shown = capsys.readouterr().out
    for name in (*TFDS_NAMES, *prepare._FLAGS_OF["dataset"], *prepare._FLAGS_OF["make_lr"]):
        assert name.removesuffix("_washed") in shown
    assert max(map(len, shown.splitlines())) <= 110
