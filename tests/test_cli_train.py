"""``realsr-train``: the command line, and each wrong one answered in one line."""

import json
import os
import re
import shlex

import golden
import numpy as np
import pytest

from realsr_jax import images
from realsr_jax.cli import train

WORK = "--workdir=w"
RUN = "--config=run.py"
CONFIG = """
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.data.sources import HrFolder
from realsr_jax.train.train_config import TrainConfig


def get_config():
    photos = HrFolder("photos")
    model = EDSRConfig(n_resblocks=1, n_feats=4)
    return TrainConfig(model, (photos,), HrFolder("photos"), patch_size=16, batch_size=4,
                       epochs=1, steps_per_epoch=2, workers=0, decoded_dir="none", protocol="benchmark")
"""


@pytest.fixture(autouse=True)
def run_and_photos(working_folder, tmp_path):
    (tmp_path / "run.py").write_text(CONFIG)
    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        photo = images.Photo(golden.photo(24, 28), images.Metadata(), "PNG")
        images.write_photo(photo, tmp_path / "photos" / f"{name}.png")


def run(*args):
    return train.run(["realsr-train", *args])


def _shown(capsys, *args):
    assert run(RUN, "--show", *args) == 0
    text, _, steps = capsys.readouterr().out.rpartition("steps: ")
    return json.loads(text) | {"steps": steps.rstrip("\n")}


@pytest.mark.parametrize(
    ("args", "status", "words"),
    [
        ([], 2, "--config is missing: name a bundled configuration"),
        (["--config.batch_size=3"], 2, "--config is missing"),
        (["--lists"], 2, "Unknown command line flag 'lists'. Did you mean: list ?"),
        ([WORK], 2, "--config is missing"),
        (
            ["--config=run", WORK],
            2,
            "--config=run: did you mean run.py? no such file, nor one of the bundled",
        ),
        (["--config=nope"], 2, "realsr-train: --config=nope: no such file, nor one of the bundled"),
        (["--config=aim2020_testset"], 2, "describes no training run"),
        ([RUN], 2, "--workdir is missing: name a directory for the run"),
        ([RUN, WORK, "--nope=1"], 2, "Unknown command line flag 'nope'"),
        ([RUN, WORK, "more"], 2, "unexpected argument 'more'"),
        (
            [RUN, "--config.batchsize=3"],
            2,
            "--config is TrainConfig, which has the fields model",
        ),
        ([RUN, "--config.modle.scale=3"], 2, "which has the fields model, "),
        (
            [RUN, "--config.model.scal=3"],
            2,
            "--config.model is EDSRConfig, which has",
        ),
        ([RUN, "--config.train[1].hr=x"], 2, "--config.train is a list of 1, whose entries are [0]"),
        ([RUN, "--config.train[x].hr=x"], 2, "--config.train is a list of 1, whose entries are [0]"),
        (
            [RUN, "--config.train.hr=x"],
            2,
            "--config.train is a list of 1, whose entries are [0]",
        ),
        ([RUN, "--config.train[0].lr=x"], 2, "is HrFolder, which has the fields hr, border"),
        ([RUN, "--config.epochs.x=1"], 2, "--config.epochs is 1 "),
        ([RUN, "--config.train=x"], 2, "or choose another in a configuration file"),
        ([RUN, "--config.optimizer=SGD"], 2, "--config.optimizer is Adam; override its fields"),
        ([RUN, "--config.valid=photos"], 2, "or choose another in a configuration file, or 'none'"),
        (
            [RUN, "--config.batch_size=many"],
            2,
            "--config.batch_size=many: expected a whole number",
        ),
        ([RUN, "--config.ema_decay=x"], 2, "--config.ema_decay=x: could not convert"),
        ([RUN, "--config.remat=perhaps"], 2, "--config.remat=perhaps: "),
        ([RUN, WORK, "--config.dtype=bf16"], 2, "dtype is 'bf16', did you mean bfloat16? expected 'float32'"),
        ([RUN, WORK, "--config.model.scale=5"], 2, "scale is 5, expected 2, 3 or 4"),
        (
            [RUN, WORK, "--config.batch_size=6", "--config.accumulate=4"],
            1,
            "batch_size is 6, which 4 parts cannot share evenly; the nearest sizes are 4 or 8",
        ),
        ([RUN, WORK, "--config.train[0].hr=gone"], 1, "gone"),
        ([RUN, "--workdir=run.py"], 2, "--workdir=run.py: is a file; name a folder"),
        ([RUN, "--workdir=run.py/w"], 2, "--workdir=run.py/w: cannot be made, "),
        ([RUN, "--config.patchsize=3"], 2, "did you mean --config.patch_size? --config is TrainConfig, "),
        (
            [RUN, "--config.learning_rate=1"],
            2,
            "--config.learning_rate=1: did you mean --config.schedule.learning_rate? --config is",
        ),
        ([RUN, "--config.LearnRate=1"], 2, "did you mean --config.schedule.learning_rate? "),
        ([RUN, "--config.hr=x"], 2, "did you mean --config.train[0].hr or --config.valid.hr? "),
        ([RUN, "--config.train.hr=x"], 2, "did you mean --config.train[0].hr or --config.valid.hr? "),
        (["--config=clean"], 2, "--config=clean: did you mean clean_x2? no such file, nor "),
        ([RUN, "--config.bach_size=3"], 2, "--config.bach_size=3: did you mean --config.batch_size? "),
        ([RUN, "--batch_size=3"], 2, "--batch_size=3: is no flag, did you mean --config.batch_size=3?"),
        ([RUN, "--model.scale=3"], 2, "--model.scale=3: is no flag, did you mean --config.model.scale=3?"),
        ([RUN, "--patchsize", "3"], 2, "--patchsize: is no flag, did you mean --config.patch_size?"),
        ([RUN, "--learning_rate=1"], 2, "did you mean --config.schedule.learning_rate=1?"),
        ([RUN, "--workdirs=w"], 2, "Unknown command line flag 'workdirs'. Did you mean: workdir ?"),
        (
            [RUN, WORK, f"--config.seed={2**63}"],
            2,
            "--config=run.py: TrainConfig: seed is 9223372036854775808, ",
        ),
        ([RUN, WORK, "--config.epochs=1.5"], 2, "--config.epochs=1.5: expected a whole number"),
        ([RUN, WORK, f"--config.epochs={2**30}"], 2, "expected fewer than 2**31 steps in all"),
        (
            [RUN, WORK, "--config.schedule.decay_at=(1,'a')"],
            2,
            "StepDecay: decay_at is (1, 'a'), expected a list, each a whole number",
        ),
        (
            [RUN, WORK, "--config.train[0].hr=photos/*[z-a].png"],
            1,
            "photos/*[z-a].png: no image file matches this pattern; expected HR images",
        ),
        ([RUN, WORK, "--process_id=0"], 2, "must be given together"),
        ([RUN, WORK, "--config.start_from=gone"], 1, "gone: no such"),
    ],
)
def test_wrong_command_lines(capsys, args, status, words):
    assert run(*args) == status
    captured = capsys.readouterr()
    assert captured.err.startswith("realsr-train: ")
    assert words in captured.err
    assert captured.err.count("\n") == 1


def test_places_that_cannot_be_written(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert run(RUN, WORK) == 2
    assert capsys.readouterr().err == "realsr-train: --workdir=w: cannot be made (Permission denied)\n"
    assert run(RUN, "--workdir=photos") == 2
    assert capsys.readouterr().err == "realsr-train: --workdir=photos: no permission to write there\n"
    assert not (tmp_path / "w").exists()


def test_missing_data_leave_no_directory(capsys, tmp_path):
    assert run(RUN, WORK, "--config.train[0].hr=gone") == 1
    assert not (tmp_path / "w").exists()
    (tmp_path / "w").mkdir()
    assert run(RUN, WORK, "--config.train[0].hr=gone") == 1
    assert (tmp_path / "w").exists()


def test_help(capsys):
    assert run("--help") == 0
    assert "--workdir=DIR" in capsys.readouterr().out


def test_commands_of_the_help_name_what_there_is(tmp_path):
    (tmp_path / "run.py").rename(tmp_path / "my_run.py")
    commands = re.findall(r"^  realsr-train (.*)$", str(train.__doc__).replace("\\\n", ""), re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        assert run(*shlex.split(command), "--show") == 0, command


def test_overrides(capsys):
    shown = _shown(
        capsys,
        "--config.train[0].hr=elsewhere",
        "--config.losses[0].weight=2",
        "--config.schedule.learning_rate=5e-5",
        "--config.schedule.decay_at=(3,4)",
        "--config.remat",
        "--noconfig.skip_bad_images",
        "--config.valid.border=mirror",
    )
    folder = {"class": "HrFolder", "border": "clamp", "reduction": 1.0}
    assert shown["train"] == [folder | {"hr": "elsewhere"}]
    assert shown["losses"][0]["weight"] == 2
    assert shown["schedule"]["learning_rate"] == 5e-5
    assert shown["schedule"]["decay_at"] == [3, 4]
    assert (shown["remat"], shown["skip_bad_images"]) == (True, False)
    assert shown["valid"] == folder | {"hr": "photos", "border": "mirror"}
    assert _shown(capsys, "--config.valid=none")["valid"] is None


def test_a_run_its_continuation_and_another_run(capsys, tmp_path):
    args = (RUN, WORK, "--config.valid=none", "--config.train[0].hr=photos/*.png")
    assert run(*args) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith(
        "EDSR, 1,259 parameters, from scratch\n2 training pairs on 4 cpu device(s)\n"
    )
    assert captured.out.endswith("\ncomplete; weights in w/latest, use --weights=w\n")
    assert not (tmp_path / "w" / "best").exists()
    assert run(*args) == 0
    captured = capsys.readouterr()
    assert "continued after step 2\n" in captured.out
    assert captured.out.endswith(
        "\nalready complete after step 2; weights in w/latest, use --weights=w; "
        "--config.epochs=M continues it\n"
    )
    assert run(*args, "--config.seed=1", "--config.model.n_feats=5") == 1
    assert capsys.readouterr().err.startswith(
        "realsr-train: w: holds a run with another model, seed 0 (now 1); use another --workdir"
    )
    assert run(RUN, "--workdir=x", "--config.start_from=w/latest", "--config.seed=1") == 0
    assert "1,259 parameters, from w/latest\n" in capsys.readouterr().out


def test_bad_images_are_listed(capsys, tmp_path):
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    assert run(RUN, WORK) == 1
    captured = capsys.readouterr()
    assert "realsr-train: 1 problem with the images; repair or remove them" in captured.err
    assert "bad.png" in captured.err
    assert "Traceback" not in captured.err


def test_loss_that_is_not_finite(capsys):
    assert run(RUN, WORK, "--config.schedule.learning_rate=1e30", "--config.epochs=4") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("realsr-train: step ")
    assert captured.err.count("\n") == 1
    assert "a.png" in captured.err
    assert "last good checkpoint: " in captured.err


def test_show_counts_the_steps(capsys, tmp_path):
    assert _shown(capsys)["steps"] == "2"
    # Two photos, batches of 4: the least of 100 steps an epoch
    assert _shown(capsys, "--config.steps_per_epoch=0", "--config.epochs=3")["steps"] == "300"
    unknown = _shown(capsys, "--config.steps_per_epoch=0", "--config.train[0].hr=gone")["steps"]
    assert unknown == "unknown until the data are there"


def test_overrides_reach_every_class(capsys):
    shown = _shown(
        capsys,
        "--config.model.n_feats=32",
        "--config.model.edge_padding=False",
        "--config.optimizer.b1=0.8",
        "--config.optimizer.weight_decay=1e-4",
        "--config.schedule.gamma=0.1",
        "--noconfig.augment",
        "--config.save_every_epoch",
    )
    assert (shown["model"]["n_feats"], shown["model"]["edge_padding"]) == (32, False)
    assert (shown["optimizer"]["b1"], shown["optimizer"]["weight_decay"]) == (0.8, 1e-4)
    assert shown["schedule"]["gamma"] == 0.1
    assert (shown["augment"], shown["save_every_epoch"]) == (False, True)


@pytest.mark.slow
def test_profile_and_command_line_in_the_weights(capsys, tmp_path):
    photos = tmp_path / "photos"
    override = f"--config.train[0].hr={photos}"
    assert run(RUN, WORK, "--profile=p", "--config.epochs=5", override, "--config.valid=none") == 0
    assert capsys.readouterr().err == ""
    assert list(tmp_path.glob("p/plugins/profile/*/*.xplane.pb"))
    provenance = json.loads((tmp_path / "w" / "latest" / "model.json").read_text())["provenance"]
    assert provenance["command"] == (
        "realsr-train --config=run.py --workdir=w --config.epochs=5 '--config.train[0].hr=photos' "
        "--config.valid=none"
    )


def test_a_configuration_file_that_fails(capsys, tmp_path):
    (tmp_path / "run.py").write_text(CONFIG.replace("patch_size", "patch_sise"))
    assert run(RUN, WORK) == 2
    error = capsys.readouterr().err
    assert "--config=run.py: line 10: TypeError: " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs=1", "epochs=1.5", "TrainConfig: epochs is 1.5, expected a whole number"),
        ("epochs=1", "remat=1", "TrainConfig: remat is 1, expected True or False"),
        ("epochs=1", "seed='1'", "TrainConfig: seed is '1', expected a whole number"),
        (
            "(photos,)",
            "'photos'",
            "TrainConfig: train is 'photos', expected a list, each of the class Source",
        ),
        ("(photos,)", "('photos',)", "TrainConfig: train is ('photos',), expected a list, each of the class"),
        ("(photos,)", "[HrFolder(3)]", "HrFolder: hr is 3, expected a text"),
        ('HrFolder("photos"), p', "'photos', p", "valid is 'photos', expected of the class Source or None"),
        ("epochs=1", "losses='L1'", "losses is 'L1', expected a list, each of the class Weighted"),
        ("n_feats=4", "n_feats='4'", "EDSRConfig: n_feats is '4', expected a whole number"),
        ("epochs=1", "schedule=1e-4", "schedule is 0.0001, expected of the class Schedule"),
    ],
)
def test_a_configuration_file_with_values_of_the_wrong_kind(capsys, tmp_path, old, new, words):
    (tmp_path / "run.py").write_text(CONFIG.replace(old, new, 1))
    assert run(RUN, WORK) == 2
    error = capsys.readouterr().err
    assert error.startswith("realsr-train: --config=run.py: ")
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("patch_size", "patchsize", "'patchsize'; did you mean patch_size?"),
        ("patch_size=16", "learning_rate=1e-4", "it is a field of StepDecay(learning_rate=...), Cosine(lea"),
        ("HrFolder(", "Noise(", "; from realsr_jax.data.camera import Noise"),
        ("HrFolder(", "PairFolder(", "; from realsr_jax.data.sources import PairFolder"),
        ("def get", "from realsr_jax.losses import Ssim\n\n\ndef get", "; did you mean SSIM?"),
        (
            "def get",
            "from realsr_jax import losses\nlosses.CharBonier\n\n\ndef get",
            "; did you mean Charbonn",
        ),
        ("EDSRConfig(n_res", "EDSRConfig(n_rez", "'n_rezblocks'; did you mean n_resblocks?"),
        ("EDSRConfig(n_res", "Quux(n_res", "'Quux' is not defined; realsr-train --list names what there is"),
    ],
)
def test_a_configuration_file_that_guesses(capsys, tmp_path, old, new, words):
    (tmp_path / "run.py").write_text(CONFIG.replace(old, new))
    assert run(RUN, WORK) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_list_names_all_there_is(capsys):
    assert run("--list") == 0
    text = capsys.readouterr().out
    for name in ("clean_x2", "oaddet_aim", "own_photos_x2"):
        assert f"\n  {name} " in text
    for call in (
        "EDSRConfig(n_resblocks=32, n_feats=256, scale=2, res_scale=0.1, edge_padding=True)",
        "HrFolder(hr='', border='clamp', reduction=1.0)",
        "Mixed(parts)",
        "ValidationSet(name, source, protocol='aim')",
        "Noise(share=0.7, sigma=(0.0, 8.0), photon=(0.0, 1.0), correlated=0.5, chroma=(1.0, 2.0))",
        "ClipL1(clip_min=0.0, clip_max=10.0)",
        "StepDecay(learning_rate=0.0001, decay_at=(), gamma=0.5)",
        "AdamW(b1=0.9, b2=0.999, eps=1e-08, weight_decay=0.01)",
    ):
        assert re.search(rf"^  {re.escape(call)}\n      \S", text, re.MULTILINE), call
    assert "early_jpeg=Jpeg(share=0.0, quality=(60, 100), " in text  # not that of Jpeg()


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("clean_x2", "https://github.com/gianni-rosato/gb82-image-set"),
        ("clean_x2_stage1", "https://github.com/gianni-rosato/gb82-image-set"),
        ("real_pairs_x2", "https://github.com/ngchc/CameraSR"),
        ("trial_l1", "https://www2.eecs.berkeley.edu/"),
        ("oaddet_div2k", "https://data.vision.ee.ethz.ch/cvl/DIV2K/"),
        ("oaddet_aim", "https://1drv.ms/"),
    ],
)
def test_missing_data_have_an_address(capsys, name, address):
    assert run(f"--config={name}", WORK) == 1
    error = capsys.readouterr().err
    assert address in error
    assert error.count("\n") == 1
    if name == "clean_x2_stage1":  # data of one's own have none
        assert run(f"--config={name}", WORK, "--config.train[0].hr=gone") == 1
        assert "http" not in capsys.readouterr().err


def test_show_refuses_what_cannot_be(capsys):
    assert run("--config=oaddet_aim", "--show", "--config.batch_size=0") == 2
    assert "batch_size is 0, expected at least 1" in capsys.readouterr().err


def test_a_batch_can_be_looked_at(tmp_path, capsys):
    config = CONFIG.replace("HrFolder(", "Mixed((Degraded(", 1).replace('"photos")', '"photos"), 1))', 1)
    config = config.replace("import HrFolder", "import Degraded, HrFolder, Mixed")
    (tmp_path / "run.py").write_text(config)
    camera = "--config.train[0].parts[0].source.camera"
    assert run(RUN, "--show_batch=shown", f"{camera}.clean=0", f"{camera}.noise.sigma=5,5") == 0
    assert "4 patches of the first step in shown" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "shown").iterdir()) == [f"00{i}.png" for i in range(4)]
    picture = images.read_photo(tmp_path / "shown" / "000.png").rgb_8_bit()
    assert picture.shape[1] == 576 and picture.shape[0] > 288
    assert (picture[288:] == 255).mean() > 0.5 and (picture[288:] == 0).any()
    lr, hr = picture[:288, :288], picture[:288, 288:]
    np.testing.assert_array_equal(lr[::36, ::36], lr[35::36, 35::36])  # pixels of 2 x 18
    np.testing.assert_array_equal(hr[::18, ::18], hr[17::18, 17::18])
    assert not (tmp_path / "w").exists()
