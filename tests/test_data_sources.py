"""Which pairs of files a source stands for, and what is made of them."""

import os
import pickle
from fractions import Fraction
from pathlib import Path

import golden
import numpy as np
import pytest
from PIL import Image

from realsr_jax import images
from realsr_jax.data.errors import DataError
from realsr_jax.data.matching import KeyedFile, find_keyed, match_files, name_of
from realsr_jax.data.sources import Aim, Div2k, HrFolder, PairFolder
from realsr_jax.ops.matlab_resize import imresize

HR = golden.photo(12, 16)
LR = golden.photo(6, 8, seed=1)


def _write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write_photo(images.Photo(pixels, images.Metadata(), "PNG"), path)


def _loaded(source, scale=2):
    pairs, problems = source.list_pairs(scale)
    assert problems == []
    return [pair.load() for pair in pairs]


@pytest.mark.parametrize(
    ("lr_name", "hr_name"),
    [
        ("a.png", "a.png"),
        ("a_LR.png", "a_HR.png"),
        ("0001x2.png", "0001.png"),
        ("b_x4.png", "b.PNG"),
        ("b_lr_X2.png", "b_hr.png"),
        ("box.png", "box.png"),
        ("x2.png", "x2.png"),
        ("a.b_LR.png", "a.b.png"),
    ],
)
def test_matches_names(tmp_path, lr_name, hr_name):
    _write(tmp_path / "lr" / lr_name, LR)
    _write(tmp_path / "hr" / hr_name, HR)
    ((lr, hr),) = _loaded(PairFolder(str(tmp_path / "lr"), str(tmp_path / "hr")))
    np.testing.assert_array_equal(lr, LR)
    np.testing.assert_array_equal(hr, HR)


def test_patterns_match_by_what_the_star_stands_for(tmp_path):
    for number in (3, 21):
        _write(tmp_path / f"{number:03}L.PNG", LR + np.uint8(number))
        _write(tmp_path / f"{number:03}H.PNG", HR + np.uint8(number))
    (tmp_path / "notesL.txt").touch()
    pairs = _loaded(PairFolder(f"{tmp_path}/*L.PNG", f"{tmp_path}/*H.PNG"))
    np.testing.assert_array_equal([lr for lr, _ in pairs], [LR + np.uint8(3), LR + np.uint8(21)])
    np.testing.assert_array_equal([hr for _, hr in pairs], [HR + np.uint8(3), HR + np.uint8(21)])


def test_a_star_can_stand_for_a_folder_or_an_ending(tmp_path):
    for scene in "ab":
        _write(tmp_path / "[1]" / scene / "lr.png", LR)
        _write(tmp_path / "[1]" / scene / "hr.png", HR)
    assert len(_loaded(PairFolder(f"{tmp_path}/[1]/*/lr.png", f"{tmp_path}/[1]/*/hr.png"))) == 2
    assert len(_loaded(PairFolder(f"{tmp_path}/[1]/a/l*", f"{tmp_path}/[1]/b/h*"))) == 1


def test_files_without_partner_are_named(tmp_path):
    lr, hr = tmp_path / "lr", tmp_path / "hr"
    for name in ("a", "b_LR", "c_x2", "c_LR", "e", "e_LR", "f"):
        _write(lr / f"{name}.png", LR)
    for name in ("a_HR", "c", "d", "e", "f", "f_HR"):
        _write(hr / f"{name}.png", HR)
    pairs, problems = PairFolder(str(lr), str(hr)).list_pairs(2)
    assert [pair.name for pair in pairs] == [str(hr / f"{name}.png") for name in ("a_HR", "e", "f")]
    assert sorted(problems) == [
        f"{hr}/c.png: both {lr}/c_LR.png and {lr}/c_x2.png match it by name; rename one",
        f"{hr}/d.png: no LR image matches it by name",
        f"{hr}/f_HR.png: {lr}/f.png, which matches it by name, is already {hr}/f.png's; rename one",
        f"{lr}/b_LR.png: no HR image matches it by name",
        f"{lr}/e_LR.png: no HR image matches it by name",
    ]


def _benchmark(root):
    """Writes pairs in the layout in which the benchmark sets are published."""
    for name in ("baby", "box2", "img_001"):
        _write(root / "HR" / f"{name}.png", HR)
        _write(root / "LR_bicubic" / "X2" / f"{name}x2.png", LR)
    return PairFolder(str(root / "LR_bicubic" / "X2"), str(root / "HR"))


def test_the_published_benchmark_layout(tmp_path):
    pairs, problems = _benchmark(tmp_path).list_pairs(2)
    assert [Path(pair.name).stem for pair in pairs] == ["baby", "box2", "img_001"]
    assert problems == []
    assert name_of("box2") == "box2" and name_of("boxx2") == "boxx2"  # in HR's names, a bare x2 is no ending


def test_a_bare_x2_ends_no_name_of_an_hr_image(tmp_path):
    for lr, hr in (("a", "a"), ("box", "boxx2"), ("foxx2", "foxx2")):
        _write(tmp_path / "lr" / f"{lr}.png", LR)
        _write(tmp_path / "hr" / f"{hr}.png", HR)
    pairs, problems = PairFolder(str(tmp_path / "lr"), str(tmp_path / "hr")).list_pairs(2)
    assert [Path(pair.name).stem for pair in pairs] == ["a", "foxx2"]
    assert problems == [
        f"{tmp_path}/hr/boxx2.png: no LR image matches it by name",
        f"{tmp_path}/lr/box.png: no HR image matches it by name",
    ]


def test_clean_lists_name_pictures_of_the_benchmark_layout(tmp_path):
    source = _benchmark(tmp_path)
    source.clean_list = str(tmp_path / "clean.txt")
    Path(source.clean_list).write_text("box2.png\nbaby.png\n")
    pairs, problems = source.list_pairs(2)
    assert [Path(pair.name).stem for pair in pairs] == ["baby", "box2"]
    assert problems == []


def test_clean_list(tmp_path):
    for name in ("000001", "000002", "000003"):
        _write(tmp_path / "X2" / "LR" / f"{name}.png", LR)
        _write(tmp_path / "X2" / "HR" / f"{name}_HR.png", HR)
    _write(tmp_path / "X2" / "LR" / "unmatched.png", LR)
    clean = tmp_path / "clean.txt"
    clean.write_text("000003.png\n\n000001.png \r\n000009.png\n")
    pairs, problems = Aim(str(tmp_path), clean_list=str(clean)).list_pairs(2)
    assert [pair.name[-13:] for pair in pairs] == ["000001_HR.png", "000003_HR.png"]
    assert problems == [f"000009.png: named in {clean}, but there is no such image"]
    clean.write_text("other.png\n")
    with pytest.raises(
        DataError, match=r"clean\.txt: names no image of this data set, such as .*000001_HR\.png"
    ):
        Aim(str(tmp_path), clean_list=str(clean)).list_pairs(2)
    with pytest.raises(DataError, match=r"missing\.txt: no such file or directory; expected a list"):
        Aim(str(tmp_path), clean_list=str(tmp_path / "missing.txt")).list_pairs(2)
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match="is a pipe, not a file; expected a list of image names"):
        Aim(str(tmp_path), clean_list=str(tmp_path / "pipe.txt")).list_pairs(2)


def test_aim_takes_the_parent_of_its_folder(tmp_path):
    for side, pixels in (("LR", LR), ("HR", HR)):
        _write(tmp_path / "AIM" / "X2" / side / "0.png", pixels)
    for root in (tmp_path, tmp_path / "AIM"):
        ((_, hr),) = _loaded(Aim(str(root)))
        np.testing.assert_array_equal(hr, HR)


def test_published_counts():
    assert Aim(clean_list="x2.txt").published_count(2) == 18_475
    assert Aim(clean_list="x3.txt", captured_scale=3).published_count(2) == 18_643
    assert Aim().published_count(4) == 19_000
    assert Aim(split="valid").published_count(2) is None
    assert Div2k(first=801, last=810).published_count(2) == 10
    assert PairFolder("a", "b").published_count(2) is None


def test_aim_splits_and_captured_scale(tmp_path):
    hr = golden.photo(18, 27)
    for folder, pixels in (("X3/HR", hr), ("X3/LR", hr[:6, :9]), ("X2/valid/HR", HR), ("X2/valid/LR", LR)):
        _write(tmp_path / folder / "0.png", pixels)
    ((lr_image, hr_image),) = _loaded(Aim(str(tmp_path), captured_scale=3))
    np.testing.assert_array_equal(lr_image, hr[:6, :9])
    np.testing.assert_array_equal(hr_image, imresize(hr, Fraction(2, 3)))
    np.testing.assert_array_equal(_loaded(Aim(str(tmp_path), split="valid"))[0][1], HR)
    with pytest.raises(DataError, match=r"X2/LR: no such folder; expected AIM's LR images of scale 2"):
        Aim(str(tmp_path)).list_pairs(2)


@pytest.mark.parametrize("parent", ["", "DIV2K"])
def test_div2k(tmp_path, parent):
    for number in (1, 2, 801):
        _write(tmp_path / parent / "HR" / f"{number:04}.png", HR)
        _write(tmp_path / parent / "LR_bicubic" / "X2" / f"{number:04}x2.png", LR)
    assert len(_loaded(Div2k(str(tmp_path), 1, 2))) == 2
    assert len(_loaded(Div2k(str(tmp_path), 801, 801))) == 1
    (tmp_path / parent / "HR" / "0002.png").unlink()
    pairs, problems = Div2k(str(tmp_path), 1, 2).list_pairs(2)
    assert len(pairs) == 1
    assert problems == [f"{tmp_path / parent / 'HR' / '0002.png'}: no such file"]
    with pytest.raises(
        DataError,
        match=r"no pair of DIV2K's images 5 to 7 \(.*/0005x2\.png: no such file\); expected HR/0001",
    ):
        Div2k(str(tmp_path), 5, 7).list_pairs(2)


def test_div2k_as_published(tmp_path):
    for part, number in (("train", 800), ("valid", 801)):
        _write(tmp_path / f"DIV2K_{part}_HR" / f"{number:04}.png", HR)
        _write(tmp_path / f"DIV2K_{part}_LR_bicubic" / "X2" / f"{number:04}x2.png", LR)
    assert len(_loaded(Div2k(str(tmp_path), 800, 801))) == 2
    with pytest.raises(DataError, match=r"elsewhere: no pair of DIV2K.*; expected HR/0001\.png and "):
        Div2k(str(tmp_path / "elsewhere")).list_pairs(2)


@pytest.mark.parametrize("border", ["clamp", "mirror"])
def test_hr_folder_makes_lr(tmp_path, border):
    image = golden.photo(14, 17)
    _write(tmp_path / "0.png", image)
    ((lr, hr),) = _loaded(HrFolder(str(tmp_path), border=border), scale=3)
    np.testing.assert_array_equal(hr, image[:12, :15])
    np.testing.assert_array_equal(lr, imresize(image[:12, :15], Fraction(1, 3), border=border))


def test_hr_is_made_smaller_first(tmp_path):
    image = golden.photo(30, 46)
    _write(tmp_path / "0.png", image)
    ((lr, hr),) = _loaded(HrFolder(str(tmp_path), reduction=1.5))
    expected = np.asarray(Image.fromarray(image).resize((31, 20), Image.Resampling.LANCZOS))[:, :30]
    assert np.abs(hr.astype(int) - expected).max() <= 1  # Pillow rounds between its two passes
    np.testing.assert_array_equal(lr, imresize(hr, Fraction(1, 2)))


def test_what_is_no_file_is_told_and_not_waited_for(tmp_path):
    _write(tmp_path / "a.png", HR)
    os.mkfifo(tmp_path / "b.png")
    (tmp_path / "c.png").symlink_to("c.png")
    (tmp_path / "d.png").mkdir()
    for place in (tmp_path, tmp_path / "*.png"):
        good, *bad = HrFolder(str(place)).list_pairs(2)[0]
        assert good.load()[1].shape == HR.shape
        for pair, reason in zip(bad, ("is a pipe, not a file", "too many levels of symbolic"), strict=True):
            with pytest.raises(images.ImageError, match=reason):
                pair.load()


def test_reduce_lr(tmp_path):
    lr_image, hr_image = golden.photo(13, 17, seed=2), golden.photo(13, 17)
    _write(tmp_path / "0L.png", lr_image)
    _write(tmp_path / "0H.png", hr_image)
    source = PairFolder(f"{tmp_path}/*L.png", f"{tmp_path}/*H.png", reduce_lr=True)
    ((lr, hr),) = _loaded(source)
    np.testing.assert_array_equal(lr, imresize(lr_image[:12, :16], Fraction(1, 2)))
    np.testing.assert_array_equal(hr, hr_image[:12, :16])
    _write(tmp_path / "0L.png", lr_image[:6])
    with pytest.raises(images.ImageError, match=r"0L\.png: 17 x 6 pixels, but .*0H\.png has 17 x 13"):
        source.list_pairs(2)[0][0].load()


def test_grey_becomes_rgb_and_16_bits_stay(tmp_path):
    deep = HR.astype(np.uint16) * 257 + 3
    _write(tmp_path / "a.png", deep)
    grey = images.Photo(HR[..., [0, 0]], images.Metadata(), "PNG")
    images.write_photo(grey, tmp_path / "b.png")
    (_, of_deep), (_, of_grey) = _loaded(HrFolder(str(tmp_path)))
    np.testing.assert_array_equal(of_deep, deep)
    assert of_deep.dtype == np.uint16
    assert of_grey.dtype == np.uint8 and of_grey.shape == HR.shape


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing", r"missing: no such folder; expected HR images there"),
        ("empty", r"empty: no PNG, .* files in this folder; expected HR images there"),
        ("*.png", r"\*\.png: no image file matches this pattern; expected HR images"),
        ("*/*.png", r"a pattern can have one star only"),
    ],
)
def test_says_what_is_missing(tmp_path, place, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        HrFolder(f"{tmp_path}/{place}").list_pairs(2)


def test_fingerprints_tell_files_and_options_apart(tmp_path):
    _write(tmp_path / "a.png", HR)
    _write(tmp_path / "b.png", HR)
    pairs = [
        *HrFolder(str(tmp_path)).list_pairs(2)[0],
        *HrFolder(str(tmp_path), border="mirror").list_pairs(2)[0],
        *HrFolder(str(tmp_path), reduction=2).list_pairs(2)[0],
        *HrFolder(str(tmp_path)).list_pairs(3)[0],
    ]
    assert len({pair.fingerprint for pair in pairs}) == 8
    assert HrFolder(str(tmp_path)).list_pairs(2)[0][0].fingerprint == pairs[0].fingerprint
    assert pickle.loads(pickle.dumps(pairs[0])).fingerprint == pairs[0].fingerprint


def test_an_error_lists_its_problems_shortly_and_survives_pickling():
    error = DataError("wrong:", [f"{number:02}" for number in reversed(range(60))])
    lines = str(error).splitlines()
    assert lines[:3] == ["wrong:", "  00", "  01"] and lines[-1] == "  and 40 more" and len(lines) == 22
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) and copy.problems == error.problems


def test_what_a_class_of_characters_stands_for_tells_files_apart(tmp_path):
    for name in ("021", "022", "030"):
        _write(tmp_path / f"{name}H.png", HR)
        _write(tmp_path / f"{name}L.png", LR)
    source = PairFolder(lr=f"{tmp_path}/*[1-9]L.png", hr=f"{tmp_path}/*[1-9]H.png")
    pairs, problems = source.list_pairs(2)
    assert len(pairs) == 2
    assert not problems


def test_classes_of_characters_are_those_of_a_shell(tmp_path):
    for letter in "ab&[":
        _write(tmp_path / f"1{letter}.png", HR)
    found = {
        pattern: find_keyed(f"{tmp_path}/*{pattern}.png", "") for pattern in ("[[a&&]", "[!a-b]", "[z-a&]")
    }
    keys = {pattern: "".join(sorted(file.key[-1] for file in files)) for pattern, files in found.items()}
    assert keys == {"[[a&&]": "&[a", "[!a-b]": "&[", "[z-a&]": "&"}


def test_the_very_same_name_goes_first():
    hr = [KeyedFile("box-HR", Path("box-HR.png")), KeyedFile("box", Path("box.png"))]
    matched, problems = match_files(hr, [KeyedFile("box", Path("lr/box.png"))], "LR")
    assert matched == {Path("box.png"): Path("lr/box.png")}
    assert [problem.partition(":")[0] for problem in problems] == ["box-HR.png"]
