"""Batches: crops that are right, chances that are even, and the same whoever makes them."""

import itertools
import subprocess
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest

from realsr_jax import images
from realsr_jax.data.batches import batch_names, make_batches, make_sample
from realsr_jax.data.sources import PairFolder
from realsr_jax.data.training_pairs import open_pairs

SIZES = [(8, 13), (9, 9), (16, 10), (8, 8), (10, 11)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pairs of scale 2 whose HR is LR with each pixel repeated, plus an offset for each position in it."""
    folder = tmp_path_factory.mktemp("images")
    offsets = np.tile(np.array([[1, 2], [3, 4]], np.uint8), (16, 16))[..., None]
    for number, (height, width) in enumerate(SIZES):
        lr = np.random.default_rng(number).integers(0, 200, (height, width, 3), dtype=np.uint8)
        hr = lr.repeat(2, 0).repeat(2, 1) + offsets[: 2 * height, : 2 * width]
        for side, pixels in (("lr", lr), ("hr", hr)):
            (folder / side).mkdir(exist_ok=True)
            photo = images.Photo(pixels, images.Metadata(), "PNG")
            images.write_photo(photo, folder / side / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def pairs(folder):
    source = PairFolder(str(folder / "lr"), str(folder / "hr"))
    return open_pairs([source], scale=2, patch_size=16, decoded_dir=str(folder / "decoded"))


def _batches(pairs, **options):
    defaults = {"patch_size": 8, "batch_size": 4, "n_steps": 6, "seed": 7}
    return list(make_batches(pairs, **(defaults | options)))


def _assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys() == {"lr", "hr"}
        for side in batch:
            np.testing.assert_array_equal(batch[side], other[side])


def _find(pair, lr, hr):
    """Finds a crop in a pair: yields each fitting (left-right, up-down, transposed) and position."""
    side = len(lr)
    for transposed, up_down, left_right in itertools.product([False, True], repeat=3):
        small, large = (image.swapaxes(0, 1) if transposed else image for image in (lr, hr))
        small, large = (image[::-1] if up_down else image for image in (small, large))
        small, large = (image[:, ::-1] if left_right else image for image in (small, large))
        for y, x in itertools.product(*(range(length - side + 1) for length in pair.lr.shape[:2])):
            if np.array_equal(small, pair.lr[y : y + side, x : x + side]):
                assert np.array_equal(large, pair.hr[2 * y : 2 * (y + side), 2 * x : 2 * (x + side)])
                yield (left_right, up_down, transposed), (y, x)


def test_crops_are_parts_of_the_named_images_and_all_chances_are_even(pairs):
    flips, places = Counter(), Counter()
    n_steps, batch_size = 60, 10
    for step, batch in enumerate(_batches(pairs, n_steps=n_steps, batch_size=batch_size)):
        assert batch["lr"].shape == (batch_size, 4, 4, 3) and batch["hr"].shape == (batch_size, 8, 8, 3)
        assert batch["lr"].dtype == batch["hr"].dtype == np.uint8
        assert type(batch["lr"]) is np.ndarray
        names = batch_names(pairs, step, batch_size=batch_size, seed=7)
        for name, lr, hr in zip(names, batch["lr"], batch["hr"], strict=True):
            index = pairs.names.index(name)
            ((flip, place),) = _find(pairs[index], lr, hr)
            flips[flip] += 1
            places[index, place] += 1
    count = n_steps * batch_size
    assert len(flips) == 8
    for number in range(3):
        share = sum(n for flip, n in flips.items() if flip[number]) / count
        assert abs(share - 0.5) < 0.1
    for index, (height, width) in enumerate(SIZES):  # every position up to the last row and column occurs
        of_image = [place for number, place in places if number == index]
        assert {0, height - 4} <= {y for y, _ in of_image}
        assert {0, width - 4} <= {x for _, x in of_image}


def test_every_epoch_takes_every_image_once_in_another_order(pairs):
    names = [name for step in range(10) for name in batch_names(pairs, step, batch_size=3, seed=1)]
    epochs = [tuple(names[start : start + 5]) for start in range(0, 30, 5)]
    assert all(sorted(epoch) == sorted(pairs.names) for epoch in epochs)
    assert len(set(epochs)) > 3


def test_a_patch_can_be_the_whole_image(pairs):
    whole = pairs[3]
    for number in range(20):
        sample = make_sample(pairs, number, patch_size=16, seed=0)
        assert sample["lr"].shape == (8, 8, 3)
        if batch_names(pairs, number, batch_size=1, seed=0) == [whole.name]:
            assert sorted(sample["hr"].ravel()) == sorted(whole.hr.ravel())


def test_depends_on_the_seed_only(pairs):
    batches = _batches(pairs)
    _assert_equal(batches, _batches(pairs))
    _assert_equal(batches, _batches(pairs, read_threads=1))
    other = _batches(pairs, seed=8)
    assert any(not np.array_equal(a["lr"], b["lr"]) for a, b in zip(batches, other, strict=True))
    lr = np.concatenate([batch["lr"] for batch in batches])
    assert len(np.unique(lr.reshape(len(lr), -1), axis=0)) > 20


def test_without_augmentation_patches_are_the_same_crops_as_they_are(pairs):
    flipped = 0
    for number in range(40):
        options = {"patch_size": 8, "seed": 3}
        plain = make_sample(pairs, number, augment=False, **options)
        augmented = make_sample(pairs, number, **options)
        pair = pairs[pairs.names.index(batch_names(pairs, number, batch_size=1, seed=3)[0])]
        ((flips, place),) = _find(pair, augmented["lr"], augmented["hr"])
        flipped += any(flips)
        assert list(_find(pair, plain["lr"], plain["hr"])) == [((False, False, False), place)]
    assert flipped > 20
    batches = _batches(pairs, augment=False, seed=3, batch_size=2)
    np.testing.assert_array_equal(batches[1]["lr"][1], make_sample(pairs, 3, augment=False, **options)["lr"])


@pytest.mark.parametrize("start", [0, 1, 5, 6, 9])
def test_a_later_start_skips(pairs, start):
    _assert_equal(_batches(pairs, start=start), _batches(pairs)[start:])


def test_decoding_every_time_makes_the_same(folder, pairs):
    source = PairFolder(str(folder / "lr"), str(folder / "hr"))
    files = open_pairs([source], scale=2, decoded_dir="none")
    _assert_equal(_batches(pairs), _batches(files))


def test_processes_make_blocks_of_one_batch(pairs):
    parts = [_batches(pairs, process_index=index, process_count=2) for index in range(2)]
    joined = [{side: np.concatenate([a[side], b[side]]) for side in a} for a, b in zip(*parts, strict=True)]
    _assert_equal(joined, _batches(pairs))


def test_workers_make_the_same(pairs):
    _assert_equal(_batches(pairs, workers=2, start=1), _batches(pairs, start=1))


def test_close_ends_the_iterator(pairs):
    batches = make_batches(pairs, patch_size=8, batch_size=4, n_steps=9, seed=0)
    next(batches)
    batches.close()
    batches.close()
    assert list(batches) == []


def test_errors_of_workers_reach_the_caller(folder, tmp_path):
    source = PairFolder(str(folder / "lr"), str(tmp_path / "hr"))
    (tmp_path / "hr").mkdir()
    for number in range(len(SIZES)):
        (tmp_path / "hr" / f"{number}.png").write_bytes((folder / "hr" / f"{number}.png").read_bytes())
    pairs = open_pairs([source], scale=2, decoded_dir="none")
    for path in (tmp_path / "hr").iterdir():
        path.unlink()
    with pytest.raises(images.ImageError, match=r"hr/\d\.png: no such file"):
        _batches(pairs, workers=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 7}, "patch_size is 7, expected a multiple of the scale, 2"),
        ({"patch_size": 18}, "patch_size is 18, but an image has 16 pixels"),
        ({"batch_size": 5, "process_count": 2}, "batch_size is 5, expected a multiple of the processes, 2"),
    ],
)
def test_refuses(pairs, options, message):
    with pytest.raises(ValueError, match=message):
        _batches(pairs, **options)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("", marks=pytest.mark.slow),
        pytest.param("assert len(list(batches)) == 3", marks=pytest.mark.slow),
        "raise RuntimeError('on purpose')",
        "os.kill(os.getpid(), signal.SIGINT)",
    ],
)
def test_a_plain_script_can_use_workers_and_end_at_any_time(folder, tmp_path, end):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os
            import signal
            from realsr_jax.data.batches import make_batches
            from realsr_jax.data.training_pairs import open_pairs
            from realsr_jax.data.sources import PairFolder

            if __name__ == "__main__":
                signal.signal(signal.SIGINT, signal.default_int_handler)
                source = PairFolder({str(folder / "lr")!r}, {str(folder / "hr")!r})
                pairs = open_pairs([source], scale=2, decoded_dir={str(folder / "decoded")!r})
                batches = make_batches(
                    pairs, patch_size=8, batch_size=2, n_steps=4, seed=0, workers=2
                )
                batch = next(batches)
                print(batch["hr"].shape, flush=True)
                {end}
            """
        )
    )
    command = [sys.executable, "-W", "error", str(script)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.stdout == "(2, 8, 8, 3)\n"
    if end.startswith(("raise", "os.kill")):
        assert result.stderr.startswith("Traceback") and result.stderr.count("Traceback") == 1
    else:
        assert (result.returncode, result.stderr) == (0, "")
