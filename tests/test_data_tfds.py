"""TFDS data sets: built and read without TensorFlow, bit for bit, and errors that say what to do."""

import io
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.datasets.div2k import div2k_dataset_builder

from realsr_jax.data import tfds_builders
from realsr_jax.data.errors import DataError
from realsr_jax.data.sources import PUBLISHED_COUNTS, Tfds
from realsr_jax.data.tfds_builders import PairBuilder, prepare_dataset
from realsr_jax.data.tfds_reading import list_tfds
from realsr_jax.images import ImageError
from realsr_jax.ops.matlab_resize import imresize

N = 7
PUBLISHED = {"aim": N, "aim_x2_clean": 3, "aim_x3_clean": 2, "aim_x4_clean": 3}
"""How many pairs the tiny data set of these tests has."""


def write_pairs(folder, names, *, scale, seed=0, endings=("", "")):
    """Writes pairs of noise to LR and HR; returns them by name."""
    rng = np.random.default_rng(seed)
    pairs = {}
    for i, name in enumerate(names):
        sides = []
        for side, ending, factor in zip(("LR", "HR"), endings, (1, scale), strict=True):
            image = rng.integers(0, 256, ((4 + i) * factor, 5 * factor, 3), np.uint8)
            path = folder / side / f"{name}{ending}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
            sides.append(image)
        pairs[name] = tuple(sides)
    return pairs


def names(start=0, stop=N):
    return [f"{i:06}" for i in range(start, stop)]


@pytest.fixture(scope="module", autouse=True)
def tiny():
    """Lets the published sets be tiny."""
    with pytest.MonkeyPatch.context() as patch:
        for name, count in PUBLISHED.items():
            patch.setitem(PUBLISHED_COUNTS, name, count)
        yield


@pytest.fixture(scope="module")
def aim(tmp_path_factory):
    """The published layout, tiny: x2 with a validation set, x3 with endings; and where to build."""
    root = tmp_path_factory.mktemp("aim")
    made = {
        "x2": write_pairs(root / "manual/AIM/X2", names(), scale=2, seed=2),
        "valid": write_pairs(root / "manual/AIM/X2/valid", names(90, 92), scale=2, seed=5),
        "x3": write_pairs(root / "manual/AIM/X3", names(), scale=3, seed=3, endings=("_LR", "_HR")),
    }
    (root / "manual/AIM/x2_clean_img_id.txt").write_text("000005.png\n000001.png\n000002.png\n")
    (root / "manual/AIM/x3_clean_img_id.txt").write_text("000000.png\r\n000006.png\r\n\r\n")
    return SimpleNamespace(manual_dir=root / "manual", data_dir=root / "data", **made)


def build(aim, config):
    prepared = prepare_dataset(f"aim_{config}", manual_dir=aim.manual_dir, data_dir=aim.data_dir)
    assert prepared.folder.is_relative_to(aim.data_dir)
    assert prepared.name == f"aim_real_sr/{config}"
    return lambda split, scale=2: list_tfds(Tfds(f"aim_real_sr/{config}", split, str(aim.data_dir)), scale)


def assert_pairs(pairs, expected):
    assert len(pairs) == len(expected)
    for pair, images in zip(pairs, expected, strict=True):
        for loaded, image in zip(pair.load(), images, strict=True):
            assert loaded.dtype == np.uint8
            np.testing.assert_array_equal(loaded, image)


# ------------------------------------------------------------------------------------------ aim_real_sr


def test_all_pairs_come_back_bit_for_bit_in_order(aim, monkeypatch):
    monkeypatch.setattr(tfds_builders, "_PAIRS_PER_SHARD", 3)
    read = build(aim, "x2")
    folder = aim.data_dir / "aim_real_sr/x2/1.0.0"
    assert len(list(folder.glob("aim_real_sr-train.array_record-*-of-00003"))) == 3
    assert_pairs(read("train"), [aim.x2[name] for name in names()])
    assert_pairs(read("validation"), [aim.valid[name] for name in names(90, 92)])


def test_parts_of_a_split(aim):
    read = build(aim, "x2")
    pairs = [aim.x2[name] for name in names()]
    assert_pairs(read("train[5:]"), pairs[5:])
    assert_pairs(read("train[:50%]"), pairs[:4])
    assert_pairs(read("train[6:]+validation"), [pairs[6], *(aim.valid[name] for name in names(90, 92))])


def test_washed_pairs_are_those_on_the_list(aim):
    read = build(aim, "x2_washed")
    assert_pairs(read("train"), [aim.x2[name] for name in ("000001", "000002", "000005")])
    assert len(read("validation")) == 2


def test_file_names_may_end_in_lr_and_hr_and_there_may_be_no_validation_set(aim):
    read = build(aim, "x3_washed")
    assert_pairs(read("train", scale=3), [aim.x3[name] for name in ("000000", "000006")])
    with pytest.raises(DataError, match=r"^aim_real_sr/x3_washed: no split 'validation', only train and "):
        read("validation", scale=3)


def test_large_set_adds_x3_pairs_with_reduced_hr(aim):
    read = build(aim, "x2_washed_large")
    x2 = [aim.x2[name] for name in ("000001", "000002", "000005")]
    x3 = []
    for lr, hr in (aim.x3[name] for name in ("000000", "000006")):
        height, width = hr.shape[:2]
        x3.append((lr, imresize(hr, size=(height // 3 * 2, width // 3 * 2))))
        assert x3[-1][1].shape == (2 * lr.shape[0], 2 * lr.shape[1], 3)
    assert_pairs(read("train"), x2 + x3)
    assert_pairs(read("validation"), list(aim.valid.values()))


def test_stored_names(aim):
    build(aim, "x2_washed_large")
    builder = tfds.builder_from_directory(aim.data_dir / "aim_real_sr/x2_washed_large/1.0.0")
    skip = {side: tfds.decode.SkipDecoding() for side in ("lr", "hr")}
    stored = [record["name"].decode() for record in builder.as_data_source("train", decoders=skip)]
    assert stored == ["000001", "000002", "000005", "000000_x3", "000006_x3"]


def test_tfds_can_build_it_too(aim, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_builders, "_PAIRS_PER_SHARD", 3)
    builder = PairBuilder("aim_x2", str(tmp_path))
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=aim.manual_dir, try_download_gcs=False)
    )
    pairs = list_tfds(Tfds("aim_real_sr/x2", "train", str(tmp_path)), 2)
    assert_pairs(pairs, [aim.x2[name] for name in names()])


def test_prepared_data_are_kept(aim):
    build(aim, "x2")
    before = (aim.data_dir / "aim_real_sr/x2/1.0.0/dataset_info.json").stat().st_mtime_ns
    build(aim, "x2")
    assert (aim.data_dir / "aim_real_sr/x2/1.0.0/dataset_info.json").stat().st_mtime_ns == before


def test_pairs_are_listed_alike_and_told_apart(aim):
    read = build(aim, "x2")
    pairs, problems = Tfds("aim_real_sr/x2", "train", str(aim.data_dir)).list_pairs(2)
    assert problems == []
    assert [pair.fingerprint for pair in pairs] == [pair.fingerprint for pair in read("train")]
    fingerprints = [pair.fingerprint for split in ("train", "validation") for pair in read(split)]
    assert len(set(fingerprints)) == N + 2
    assert pairs[3].name == "aim_real_sr/x2/1.0.0 train, record 3"


# A process of its own: this one may have imported anything.
COMMAND_AND_READ = """
import pickle, sys
sys.modules["cv2"] = None  # which TFDS imports only where it is installed
import numpy as np
from realsr_jax.data.sources import PUBLISHED_COUNTS
from realsr_jax.data.tfds_builders import prepare_dataset

PUBLISHED_COUNTS["aim"] = 7
manual_dir, data_dir, pairs, result = sys.argv[1:]
prepare_dataset("aim_x3", manual_dir=manual_dir, data_dir=data_dir)
with open(pairs, "rb") as file:
    pairs = [pair.load() for pair in pickle.load(file)]
assert not {"tensorflow", "torch"} & set(sys.modules)
np.savez(result, *(image for pair in pairs for image in pair))
"""


def test_another_process_builds_and_reads_without_tensorflow(aim, tmp_path):
    pairs = build(aim, "x2")("train")
    (tmp_path / "pairs").write_bytes(pickle.dumps(pairs))
    result = tmp_path / "images.npz"
    paths = [aim.manual_dir, aim.data_dir, tmp_path / "pairs", result]
    command = [sys.executable, "-W", "error", "-c", COMMAND_AND_READ, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = [image for name in names() for image in aim.x2[name]]
    with np.load(result) as images:
        for loaded, image in zip(images.values(), expected, strict=True):
            np.testing.assert_array_equal(loaded, image)
    x3 = list_tfds(Tfds("aim_real_sr/x3", "train", str(aim.data_dir)), 3)
    assert_pairs(x3, list(aim.x3.values()))


# ----------------------------------------------------------------------------------------------- errors


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_not_prepared(tmp_path, monkeypatch):
    with pytest.raises(DataError) as error:
        list_tfds(Tfds("aim_real_sr/x2_washed", "train", str(tmp_path)), 2)
    assert one_line(error) == (
        f"aim_real_sr/x2_washed: not prepared in {tmp_path}; run realsr-prepare --dataset=aim_x2_washed "
        f"--manual_dir=FOLDER_OF_THE_DOWNLOADS --data_dir={tmp_path}"
    )
    with pytest.raises(DataError) as error:
        list_tfds(Tfds("aim_real_sr", "train", str(tmp_path)), 2)
    assert one_line(error).endswith("; add the configuration, as in aim_real_sr/x2")
    with pytest.raises(DataError) as error:
        list_tfds(Tfds("div2k/realistic_mild_x4", "train", str(tmp_path)), 4)
    assert f"tfds build div2k/realistic_mild_x4 --file_format=array_record --data_dir={tmp_path}" in (
        one_line(error)
    )
    with pytest.raises(DataError) as error:
        list_tfds(Tfds("a b c", "train", str(tmp_path)), 2)
    assert one_line(error).startswith("a b c: ")


def test_wrong_scale_and_split(aim):
    read = build(aim, "x2")
    with pytest.raises(DataError, match=r"^aim_real_sr/x2: pairs of scale 2, but the network's scale is 3$"):
        read("train", scale=3)
    for split in ("test", "train[", "train[:90%%]", ""):
        with pytest.raises(DataError) as error:
            read(split)
        assert "only train, validation and parts such as train[:90%]" in one_line(error)
    with pytest.raises(DataError, match="is empty"):
        read("train[:0]")


# ------------------------------------------------------------------------------------ data sets of TFDS


class Div2k(div2k_dataset_builder.Builder, skip_registration=True):
    name = "div2k"
    pkg_dir_path = tfds.core.tfds_path("datasets/div2k")
    url_infos = None  # TFDS needs importlib_resources for them, which it does not install


def test_div2k_of_tfds(tmp_path, monkeypatch):
    """TFDS's own builder, which downloads and walks folders with TensorFlow, on files that are there."""
    parts = {"train": names(1, 4), "valid": names(801, 803)}
    written, paths = {}, {}
    for part, numbers in parts.items():
        folder = tmp_path / "files" / part
        written[part] = write_pairs(folder, [name[2:] for name in numbers], scale=2, endings=("x2", ""))
        (folder / "HR").rename(folder / f"DIV2K_{part}_HR")
        paths |= {f"{part}_lr_url": str(folder / "LR"), f"{part}_hr_url": str(folder)}
    gfile = SimpleNamespace(walk=os.walk)
    monkeypatch.setattr(div2k_dataset_builder, "tf", SimpleNamespace(io=SimpleNamespace(gfile=gfile)))
    monkeypatch.setattr(tfds.download.DownloadManager, "download_and_extract", lambda *_: paths)
    builder = Div2k(config="bicubic_x2", data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))

    def key(pair):
        return pair[0].tobytes()

    for split, part in (("train", "train"), ("validation", "valid")):
        pairs = list_tfds(Tfds("div2k/bicubic_x2", split, str(tmp_path)), 2)
        loaded = sorted((pair.load() for pair in pairs), key=key)  # TFDS shuffles
        for pair, expected in zip(loaded, sorted(written[part].values(), key=key), strict=True):
            np.testing.assert_array_equal(pair[0], expected[0])
            np.testing.assert_array_equal(pair[1], expected[1])
    with pytest.raises(DataError, match="scale 2, but the network's scale is 4"):
        list_tfds(Tfds("div2k/bicubic_x2", "train", str(tmp_path)), 4)


class BrokenPairs(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Pairs whose third HR image is no image."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        sides = {side: tfds.features.Image() for side in ("lr", "hr")}
        features = tfds.features.FeaturesDict({**sides, "name": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _shard_iterators_per_split(self, dl_manager):
        lr, hr = io.BytesIO(), io.BytesIO()
        Image.new("RGB", (3, 2)).save(lr, "PNG")
        Image.new("RGB", (6, 4)).save(hr, "PNG")
        examples = [
            (str(i), {"lr": lr.getvalue(), "hr": b"no image" if i == 2 else hr.getvalue(), "name": f"{i:06}"})
            for i in range(3)
        ]
        return {"train": [lambda: iter(examples)]}


def test_broken_image_is_named(tmp_path):
    BrokenPairs(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    pairs = list_tfds(Tfds("broken_pairs", "train", str(tmp_path)), 2)
    assert pairs[1].load()[1].shape == (4, 6, 3)
    with pytest.raises(
        ImageError,
        match=r"train, record 2 \(000002\), hr: not a PNG, JPEG, WebP, TIFF, .* image$",
    ):
        pairs[2].load()


class LabelledPhotos(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Images, but no pairs."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict({"image": tfds.features.Image(), "label": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _shard_iterators_per_split(self, dl_manager):
        return {"train": [lambda: iter([("a", {"image": b"", "label": "a"})])]}


def test_data_set_of_another_kind(tmp_path):
    LabelledPhotos(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    with pytest.raises(DataError, match=r"^labelled_photos: no image feature lr and hr, only image, label$"):
        list_tfds(Tfds("labelled_photos", "train", str(tmp_path)), 2)


def test_data_set_in_another_format(aim, tmp_path):
    folder = prepare_dataset("aim_x2", manual_dir=aim.manual_dir, data_dir=tmp_path).folder
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DataError) as error:
        list_tfds(Tfds("aim_real_sr/x2", "train", str(tmp_path)), 2)
    assert one_line(error).startswith(
        f"aim_real_sr/x2: stored as tfrecord, not as array_record; remove {folder}"
    )
