"""Opening pairs: what is checked, what is kept, and what is done again."""

import errno
import multiprocessing
import os
import pickle
import signal
from pathlib import Path
from types import SimpleNamespace

import golden
import numpy as np
import pytest

from realsr_jax import images
from realsr_jax.data import decoded_store as store
from realsr_jax.data import pair_reading
from realsr_jax.data.errors import DataError
from realsr_jax.data.sources import HrFolder, PairFolder
from realsr_jax.data.training_pairs import open_pairs


def _write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write_photo(images.Photo(pixels, images.Metadata(), "PNG"), path)


@pytest.fixture
def source(tmp_path):
    """Three usable pairs of scale 2."""
    for number, (height, width) in enumerate([(6, 9), (11, 5), (8, 8)]):
        _write(tmp_path / "lr" / f"{number}.png", golden.photo(height, width, seed=number))
        _write(tmp_path / "hr" / f"{number}.png", golden.photo(2 * height, 2 * width, seed=10 + number))
    return PairFolder(str(tmp_path / "lr"), str(tmp_path / "hr"))


@pytest.fixture
def reads(monkeypatch):
    """The paths of all images that are decoded."""
    paths = []

    def read(path):
        paths.append(str(path))
        return images.read_photo(path)

    monkeypatch.setattr(pair_reading, "read_photo", read)
    return paths


def _spoil(source):
    """Adds a pair of each kind that cannot be used."""
    for name, lr_size, hr_size in (("mismatched", (4, 6), (9, 12)), ("small", (3, 6), (6, 12))):
        _write(Path(source.lr, f"{name}.png"), golden.photo(*lr_size))
        _write(Path(source.hr, f"{name}.png"), golden.photo(*hr_size))
    _write(Path(source.lr, "alone.png"), golden.photo(4, 4))
    _write(Path(source.lr, "cut.png"), golden.photo(4, 4))
    whole = Path(source.hr, "0.png").read_bytes()
    Path(source.hr, "cut.png").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("decoded", ["store", "none"])
def test_pairs_hold_the_images(source, tmp_path, decoded):
    decoded_dir = decoded if decoded == "none" else str(tmp_path / decoded)
    ready = []
    pairs = open_pairs(
        [source, HrFolder(source.hr)], scale=2, decoded_dir=decoded_dir, progress=lambda *n: ready.append(n)
    )
    assert ready == [(number, 6) for number in range(1, 7)]
    assert len(pairs) == 6 and pairs.problems == []
    assert pairs.names == [f"{source.hr}/{number}.png" for number in (0, 1, 2)] * 2
    for copy in (pairs, pickle.loads(pickle.dumps(pairs))):
        for number, pair in enumerate(copy):
            hr = images.read_photo(pair.name).rgb
            np.testing.assert_array_equal(pair.hr, hr)
            assert pair.hr.dtype == pair.lr.dtype == np.uint8
            assert pair.lr.shape == (*copy.sizes[number], 3)
            if number < 3:
                np.testing.assert_array_equal(pair.lr, images.read_photo(f"{source.lr}/{number}.png").rgb)
    lr, hr = pairs.crop(1, slice(2, 5), slice(1, 5))
    np.testing.assert_array_equal(lr, pairs[1].lr[2:5, 1:5])
    np.testing.assert_array_equal(hr, pairs[1].hr[4:10, 2:10])
    assert [pair.name for pair in pairs][1:3] == pairs.names[1:3]
    with pytest.raises(IndexError):
        pairs[6]


@pytest.mark.parametrize("decoded", ["store", "none"])
def test_pairs_of_more_bits(tmp_path, decoded):
    """TIFF and PNG of 16 bits, one side of 8 bits, and 8 bits beside them."""
    random = np.random.default_rng(0)
    deep = {
        name: random.integers(0, 65536, (*shape, 3), dtype=np.uint16)
        for name, shape in {"lr/a.png": (4, 5), "hr/a.tif": (8, 10), "hr/b.png": (6, 6)}.items()
    }
    for name, pixels in deep.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        kind = "TIFF" if name.endswith("tif") else "PNG"
        images.write_photo(images.Photo(pixels, images.Metadata(), kind), tmp_path / name)
    shallow = {
        name: golden.photo(3 * n, 3 * n) for n, name in ((1, "lr/b.png"), (1, "lr/c.png"), (2, "hr/c.png"))
    }
    for name, pixels in shallow.items():
        _write(tmp_path / name, pixels)
    expected = deep | {name: pixels.astype(np.uint16) * 257 for name, pixels in shallow.items()}
    source = PairFolder(str(tmp_path / "lr"), str(tmp_path / "hr"))
    decoded_dir = decoded if decoded == "none" else str(tmp_path / decoded)
    for _ in range(2):  # the second time from what the first has left
        pairs = open_pairs([source, HrFolder(source.hr)], scale=2, decoded_dir=decoded_dir)
        assert pairs.dtype == np.uint16
        for pair, names in zip(
            pairs, ("lr/a.png hr/a.tif", "lr/b.png hr/b.png", "lr/c.png hr/c.png"), strict=False
        ):
            for image, name in zip((pair.lr, pair.hr), names.split(), strict=True):
                assert image.dtype == np.uint16
                np.testing.assert_array_equal(image, expected[name])
        assert np.abs(pairs[3].lr.mean() - pairs[3].hr.mean()) < 2500
        assert (pairs[3].lr % 257).any() and not (pairs[5].lr % 257).any()
        lr, hr = pairs.crop(0, slice(1, 3), slice(2, 4))
        np.testing.assert_array_equal(lr, deep["lr/a.png"][1:3, 2:4])
        np.testing.assert_array_equal(hr, deep["hr/a.tif"][2:6, 4:8])
    assert pickle.loads(pickle.dumps(pairs))[0].hr.dtype == np.uint16
    assert (
        open_pairs([HrFolder(str(tmp_path / "hr" / "c*"))], scale=2, decoded_dir=decoded_dir).dtype
        == np.uint8
    )


def test_pickled_pairs_have_no_pixels(source, tmp_path):
    pairs = open_pairs([source], scale=2, decoded_dir=str(tmp_path / "store"))
    size = len(pickle.dumps(pairs))
    assert pairs[0].hr.any()
    assert len(pickle.dumps(pairs)) == size < 1500


@pytest.mark.parametrize("decoded", ["store", "none"])
def test_reports_all_problems_at_once(source, tmp_path, decoded, reads):
    _spoil(source)
    decoded_dir = decoded if decoded == "none" else str(tmp_path / decoded)
    for attempt in range(2):
        reads.clear()
        with pytest.raises(DataError) as caught:
            open_pairs([source], scale=2, patch_size=8, decoded_dir=decoded_dir)
        first, *lines = str(caught.value).splitlines()
        assert first.startswith("4 problems") and "--config.skip_bad_images=True" in first
        assert "repair or remove them, or lower --config.patch_size, or leave" in first
        assert len(lines) == 4 and [line.strip() for line in lines] == caught.value.problems
        cut, mismatched, small, alone = lines
        assert f"{source.hr}/cut.png: " in cut
        assert (
            f"{source.hr}/mismatched.png: HR is 12 x 9 pixels, expected 12 x 8, 2 times LR's 6 x 4"
            in mismatched
        )
        assert f"{source.hr}/small.png: HR is 12 x 6 pixels, smaller than the patch size 8" in small
        assert f"{source.lr}/alone.png: no HR image" in alone
        read_again = {os.path.basename(path) for path in reads}
        unusable = {"cut.png", "mismatched.png"}
        assert (read_again == unusable) == (attempt == 1 and decoded == "store")
        assert unusable <= read_again


def test_leaves_out_what_cannot_be_used(source, tmp_path):
    _spoil(source)
    options = {"scale": 2, "decoded_dir": str(tmp_path / "store"), "skip_bad": True}
    pairs = open_pairs([source], patch_size=8, **options)
    assert len(pairs.problems) == 4
    assert [name[-5:] for name in pairs.names] == ["0.png", "1.png", "2.png"]
    np.testing.assert_array_equal(pairs[2].hr, images.read_photo(f"{source.hr}/2.png").rgb)
    assert len(open_pairs([source], patch_size=6, **options)) == 4
    with pytest.raises(DataError, match="no pair of images can be used") as caught:
        open_pairs([source], patch_size=64, **options)
    assert len(caught.value.problems) == 7


def test_decodes_once_and_again_after_a_change(source, tmp_path, reads):
    options = {"scale": 2, "decoded_dir": str(tmp_path / "store")}
    open_pairs([source], **options)
    assert len(reads) == 6
    pairs = open_pairs([source], patch_size=4, **options)
    assert pairs[0].hr.any() and len(reads) == 6
    _write(Path(source.hr, "1.png"), np.zeros((22, 10, 3), np.uint8))
    assert not open_pairs([source], **options)[1].hr.any()
    assert len(reads) == 12


def test_a_file_that_can_be_read_again_is_used(source, tmp_path, monkeypatch):
    options = {"scale": 2, "decoded_dir": str(tmp_path / "store"), "skip_bad": True}

    def read(path):
        if str(path) == f"{source.hr}/1.png":
            raise images.ImageError(f"{path}: Stale file handle")
        return images.read_photo(path)

    with monkeypatch.context() as patch:
        patch.setattr(pair_reading, "read_photo", read)
        assert len(open_pairs([source], **options)) == 2
    pairs = open_pairs([source], **options)
    assert len(pairs) == 3 and not pairs.problems
    np.testing.assert_array_equal(pairs[1].hr, images.read_photo(f"{source.hr}/1.png").rgb)


def test_keeps_decoded_images_in_the_cache(source, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    open_pairs([source], scale=2)
    assert list((tmp_path / "cache" / "realsr_jax" / "decoded").glob("*/pixels.bin"))


def test_a_build_that_ends_early_leaves_nothing(source, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    folder = tmp_path / "store"
    with pytest.raises(KeyboardInterrupt):
        open_pairs([source], scale=2, decoded_dir=str(folder), progress=stop)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


def build_until_killed(source, folder):
    open_pairs(
        [source], scale=2, decoded_dir=str(folder), progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    )


def test_ignores_and_removes_what_a_killed_build_left(source, tmp_path):
    folder = tmp_path / "store"
    child = multiprocessing.get_context("spawn").Process(target=build_until_killed, args=(source, folder))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert list(folder.glob(".*/*/pixels.bin"))
    pairs = open_pairs([source], scale=2, decoded_dir=str(folder))
    assert len(pairs[2].hr) == 16
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("broken", ["pixels.bin", "index.json"])
def test_replaces_a_broken_store(source, tmp_path, broken):
    folder = tmp_path / "store"
    open_pairs([source], scale=2, decoded_dir=str(folder))
    (path,) = folder.glob(f"*/{broken}")
    os.truncate(path, 5)
    np.testing.assert_array_equal(
        open_pairs([source], scale=2, decoded_dir=str(folder))[1].lr,
        images.read_photo(f"{source.lr}/1.png").rgb,
    )


def _open(source, folder):
    assert len(open_pairs([source], scale=2, decoded_dir=folder)[1].hr) == 22


def test_two_processes_at_once(source, tmp_path):
    context = multiprocessing.get_context("spawn")
    folder = str(tmp_path / "store")
    processes = [context.Process(target=_open, args=(source, folder)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert sorted(path.suffix for path in (tmp_path / "store").iterdir()) == ["", ".lock"]


def test_says_where_space_is_missing(source, tmp_path, monkeypatch):
    folder = tmp_path / "store"
    options = {"scale": 2, "decoded_dir": str(folder)}
    message = rf"{folder}: .*--config\.decoded_dir=FOLDER"
    monkeypatch.setattr(store, "_TRIAL", 1)
    with monkeypatch.context() as patch:
        patch.setattr(store.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
        with pytest.raises(
            DataError, match=message.replace(": ", ": decoded images need .* more, but .* are free")
        ):
            open_pairs([source], **options)
    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", _full_disk)
        with pytest.raises(DataError, match=message.replace(": ", ": No space left on device after 2,")):
            open_pairs([source], **options)
    assert [path.suffix for path in folder.iterdir()] == [".lock"]


def _full_disk(_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_says_when_the_folder_cannot_be_made(source, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file/store: Not a directory; .*decoded_dir=none"):
        open_pairs([source], scale=2, decoded_dir=str(tmp_path / "file" / "store"))


def test_unknown_errors_name_the_pair(tmp_path):
    def fail():
        raise KeyError("lr")

    pair = pair_reading.UnreadPair("record 7", "", fail)
    opened = store.open_store([pair], 2, tmp_path, progress=lambda _: None)
    assert opened.checked.problems == {0: "record 7: KeyError 'lr'"}
