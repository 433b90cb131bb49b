"""Pairs that nearly fit: LR gets HR's colours, and patches come only from where both show the same."""

import pickle
import sys
from fractions import Fraction

import numpy as np
import pytest
import wash_faults

from realsr_jax import images
from realsr_jax.data import pair_fitting, pair_reading
from realsr_jax.data.batches import make_sample
from realsr_jax.data.errors import DataError
from realsr_jax.data.sources import PairFolder
from realsr_jax.data.training_pairs import open_pairs
from realsr_jax.ops.matlab_resize import imresize

HEIGHT, WIDTH = 112, 144  # of LR
GAIN, OFFSET = np.array([0.85, 1.08, 0.9]), np.array([10.0, 4.0, -6.0])


def _scene(seed, shift=0):
    """A pair of scale 2 with noise, whose HR content lies `shift` LR pixels further right than LR's."""
    random = np.random.default_rng(seed)
    wide = wash_faults.dead_leaves(2 * HEIGHT, 2 * (WIDTH + shift), random)
    lr = imresize(wide[:, 2 * shift :], Fraction(1, 2)) * 0.8 + 24  # so that nothing is near black or white
    lr += random.normal(0, 1.5, lr.shape)
    return np.rint(lr).astype(np.uint8), np.rint(wide[:, : 2 * WIDTH] * 0.8 + 24).astype(np.uint8)


def _write(folder, *pairs):
    """Writes pairs as 0.png and so on; returns the folders as a source takes them."""
    for number, pair in enumerate(pairs):
        for side, pixels in zip(("lr", "hr"), pair, strict=True):
            (folder / side).mkdir(exist_ok=True)
            photo = images.Photo(pixels, images.Metadata(), "PNG")
            images.write_photo(photo, folder / side / f"{number}.png")
    return {"lr": str(folder / "lr"), "hr": str(folder / "hr")}


def _recoloured(lr):
    return np.clip(np.rint(lr * GAIN + OFFSET), 0, 255).astype(np.uint8)


def _places(pairs, count, side=16):
    """Where the patches of a run's first samples lie in the only pair, in LR pixels: int [count, 2]."""
    lr, places = pairs[0].lr, []
    for number in range(count):
        patch = make_sample(pairs, number, patch_size=2 * side, seed=5, augment=False)["lr"]
        starts = np.argwhere((lr[: 1 - side, : 1 - side] == patch[0, 0]).all(2))
        (place,) = (s for s in starts if np.array_equal(lr[s[0] : s[0] + side, s[1] : s[1] + side], patch))
        places.append(place)
    return np.array(places)


@pytest.mark.parametrize("shift", [0, 1])
def test_fitting_undoes_a_gain_and_an_offset_in_each_channel(tmp_path, shift):
    lr, hr = _scene(1, shift)
    planted = _recoloured(lr)
    place = _write(tmp_path, (planted, hr))
    (pair,), _ = PairFolder(**place, fit_colours=True).list_pairs(2)
    fitted, same = pickle.loads(pickle.dumps(pair)).load()
    assert fitted.dtype == np.uint8
    np.testing.assert_array_equal(same, hr)
    wrong, left = (np.abs(image.astype(float) - lr).mean((0, 1)) for image in (planted, fitted))
    assert wrong.min() > 2 and left.max() < 1.2
    # Neither are the colours nor their contrast off as a whole.
    assert np.abs(fitted.mean((0, 1)) - lr.mean((0, 1))).max() < 0.8
    np.testing.assert_allclose(fitted.std((0, 1)) / lr.std((0, 1)), 1, atol=0.02)


def test_without_the_options_pairs_are_what_they_were(tmp_path):
    lr, hr = _scene(2, shift=3)
    place = _write(tmp_path, (_recoloured(lr), hr))
    (pair,), _ = PairFolder(**place).list_pairs(2)
    plain = pair_reading.unread_pair(pair_reading.read_pair, *pair.paths)
    assert pair.fingerprint == plain.fingerprint and pair.find_registered is None
    np.testing.assert_array_equal(pair.load()[0], _recoloured(lr))


@pytest.mark.parametrize(
    "fault, max_shift, margin", [("shift", 0.5, 8), ("half a pixel", 0.25, 16), ("object", 0.5, 8)]
)
def test_patches_keep_away_from_a_part_that_does_not_register(tmp_path, fault, max_shift, margin):
    lr, hr = _scene(3)
    if fault == "half a pixel":
        other = imresize(np.roll(hr, 1, axis=1), Fraction(1, 2))
    else:
        other = np.roll(lr, 2, axis=1) if fault == "shift" else _scene(9)[0]
    lr[:64, 80:] = other[:64, 80:]
    source = PairFolder(**_write(tmp_path, (lr, hr)), max_shift=max_shift)
    options = {"scale": 2, "patch_size": 32, "decoded_dir": str(tmp_path / "store")}
    pairs = open_pairs([source], **options)
    top, left = _places(pairs, 300).T
    # Only the outermost pixels of the part can be in a patch: what is measured there is of both parts.
    assert not ((top < 64 - margin) & (left + 16 > 80 + margin)).any()
    # All the rest is taken, but for what is near the part.
    assert top.max() > HEIGHT - 16 - 4 and left.max() > WIDTH - 16 - 4 and min(top.min(), left.min()) < 4
    assert ((top < 40) & (left < 40)).sum() > 20 and ((top > 80) & (left > 90)).sum() > 10
    # Without the option, patches are of everywhere.
    top, left = _places(open_pairs([PairFolder(source.lr, source.hr)], **options), 300).T
    assert ((top < 64) & (left + 16 > 96)).sum() > 50


def test_patches_are_the_same_from_a_store_and_from_files(tmp_path):
    lr, hr = _scene(4)
    lr[:50, :70] = np.roll(lr, 2, axis=1)[:50, :70]
    source = PairFolder(**_write(tmp_path, (_recoloured(lr), hr)), fit_colours=True, max_shift=0.5)
    samples = [
        make_sample(open_pairs([source], scale=2, decoded_dir=folder), number, patch_size=32, seed=1)
        for folder in (str(tmp_path / "store"), str(tmp_path / "store"), "none")
        for number in range(6)
    ]
    for number in range(12):
        for side in ("lr", "hr"):
            np.testing.assert_array_equal(samples[number][side], samples[number + 6][side])


def test_a_store_holds_what_was_made_with_the_same_options(tmp_path):
    lr, hr = _scene(5)
    lr[:64] = np.roll(lr, 1, axis=1)[:64]
    place = _write(tmp_path, (_recoloured(lr), hr))
    fits = [{}, {"fit_colours": True}, {"max_shift": 0.5}, {"max_shift": 3.0}]
    opened = [
        open_pairs([PairFolder(**place, **fit)], scale=2, decoded_dir=str(tmp_path / "store")) for fit in fits
    ]
    means = [pairs[0].lr.mean((0, 1)) for pairs in opened]
    assert np.abs(means[1] - means[0]).max() > 2
    np.testing.assert_array_equal(means[0], means[2])
    upper = slice(0, 40), slice(20, 60)
    assert [pairs.registers(0, *upper) for pairs in opened] == [True, True, False, True]
    assert len([path for path in (tmp_path / "store").iterdir() if path.is_dir()]) == 4


def test_pairs_that_cannot_be_fitted_are_named_and_the_others_used(tmp_path):
    flat = np.full((HEIGHT, WIDTH, 3), 90, np.uint8), np.full((2 * HEIGHT, 2 * WIDTH, 3), 90, np.uint8)
    lr, hr = _scene(6)
    moved = _scene(7, shift=3)
    place = _write(
        tmp_path, (lr, hr), flat, moved, (lr[:20, :20], hr[:40, :40]), (lr[:-1], hr), (lr, _scene(9)[1])
    )
    options = {"scale": 2, "patch_size": 32, "decoded_dir": str(tmp_path / "store"), "skip_bad": True}
    hr_of = [f"{place['hr']}/{number}.png" for number in range(6)]
    for _ in range(2):  # made, and from the store
        pairs = open_pairs([PairFolder(**place, max_shift=0.5)], **options)
        assert pairs.names == [hr_of[0]]
        assert [problem.partition(": ")[::2] for problem in pairs.problems] == [
            (hr_of[1], "too small or even to measure shifts"),
            (
                hr_of[2],
                "LR and HR register in too few places for patches of 32 pixels; leave it out, raise "
                "max_shift or lower --config.patch_size",
            ),
            (hr_of[3], "too small or even to measure shifts"),
            (hr_of[4], "HR is 288 x 224 pixels, expected 288 x 222, 2 times LR's 144 x 111"),
            (hr_of[5], "shows something else than LR"),
        ]
    pairs = open_pairs([PairFolder(**place, fit_colours=True)], **options)
    assert pairs.names == [hr_of[0], hr_of[2]]
    assert [problem.partition(": ")[::2] for problem in pairs.problems] == [
        (hr_of[1], "too small, even, dark or bright to fit LR's colours to HR's"),
        (hr_of[3], "too small, even, dark or bright to fit LR's colours to HR's"),
        (hr_of[4], "HR is 288 x 224 pixels, expected 288 x 222, 2 times LR's 144 x 111"),
        (hr_of[5], "shows something else than LR"),
    ]


def test_patches_of_another_size_than_was_checked_end_in_an_error(tmp_path):
    source = PairFolder(**_write(tmp_path, _scene(8, shift=3)), max_shift=0.5)
    pairs = open_pairs([source], scale=2, decoded_dir="none")
    with pytest.raises(ValueError, match=r"hr/0\.png: no patch of 32 pixels registers"):
        make_sample(pairs, 0, patch_size=32, seed=0)


@pytest.mark.parametrize("side", [1, 7, 8, 9, 20])
def test_enough_patches_are_counted_as_they_are_drawn(side, monkeypatch):
    height, width = 45, 30
    registered = np.ones((6, 4), bool)
    registered[1, 2] = registered[5, 0] = False
    pixels = registered.repeat(8, 0).repeat(8, 1)
    drawn = []
    for y, x in np.ndindex(height - side + 1, width - side + 1):
        drawn.append(pixels[y : y + side, x : x + side].all())
        assert pair_fitting.registers(registered, slice(y, y + side), slice(x, x + side)) == drawn[-1]
    share = np.mean(drawn)
    assert 0 < share < 1
    for least, expected in ((share, True), (share + 1e-6, False)):
        monkeypatch.setattr(pair_fitting, "_LEAST_SHARE", least)
        assert pair_fitting.has_patches(registered, (2 * height, 2 * width), 2 * side, 2) == expected


def test_says_that_opencv_is_missing(tmp_path, monkeypatch):
    place = _write(tmp_path, _scene(1))
    monkeypatch.delitem(sys.modules, "realsr_jax.wash.opencv")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(DataError, match=r"fit_colours and max_shift .*: OpenCV is missing; install it with"):
        PairFolder(**place, max_shift=0.5).list_pairs(2)
    assert len(PairFolder(**place).list_pairs(2)[0]) == 1


@pytest.mark.parametrize("shift", [-0.5, float("nan"), float("inf")])
def test_refuses(shift):
    with pytest.raises(ValueError, match=r"PairFolder: max_shift is .*, expected LR pixels, or 0"):
        PairFolder("lr", "hr", max_shift=shift).validate(2)
