"""The bundled configurations: each can be run as it stands, and the published stages have their numbers."""

import ast
import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from realsr_jax.cli import train as command
from realsr_jax.cli.config_files import load_config
from realsr_jax.data.sources import Aim, Degraded, Div2k, HrFolder, Mixed, PairFolder, Tfds
from realsr_jax.losses import L1, SSIM, Weighted
from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.train.optimizers import Adam, StepDecay
from realsr_jax.train.train_config import TrainConfig, published_epoch
from realsr_jax.upscaling.inference_config import InferenceConfig
from realsr_jax.weights import load_weights

FOLDER = Path(__file__).resolve().parent.parent / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))
INFERENCE = ["aim2020_testset"]
TRAINING = [name for name in NAMES if name not in INFERENCE]


class Stage(NamedTuple):
    """A row of the published table; the published loop ends one epoch before `epochs`."""

    model: type
    data: str
    start_from: str
    batch_size: int
    patch_size: int
    learning_rate: float
    decay_at: tuple[int, ...]
    epochs: int
    loss: Weighted


LOSS = Weighted(L1(), 1.0)
LOSS_SSIM = Weighted(SSIM(), 20.0)
LATE = (100, 200, 300)
D, A, W, WL = "div2k", "aim", "washed", "washed large"
OA, DEEP = OADDetConfig, DeepOADDetConfig
PUBLISHED = {
    "oaddet_div2k": Stage(OA, D, "", 32, 96, 1e-4, (100, 200), 300, LOSS),
    "oaddet_aim": Stage(OA, A, "runs/oaddet_div2k/best", 32, 128, 5e-5, (150, 300, 450, 600), 600, LOSS),
    "oaddet_ssim": Stage(OA, W, "runs/oaddet_aim/latest", 4, 420, 1e-6, (100,), 100, LOSS_SSIM),
    "deep_oaddet_div2k": Stage(DEEP, D, "", 32, 96, 1e-4, (30,), 30, LOSS),
    "deep_oaddet_aim": Stage(DEEP, W, "runs/deep_oaddet_div2k/best", 32, 128, 5e-5, LATE, 350, LOSS),
    "deep_oaddet_large": Stage(DEEP, WL, "runs/deep_oaddet_aim/latest", 32, 128, 5e-5, LATE, 350, LOSS),
    "deep_oaddet_ssim": Stage(DEEP, W, "runs/deep_oaddet_large/latest", 4, 400, 1e-5, (100,), 100, LOSS_SSIM),
    "edsr_aim": Stage(EDSRConfig, W, "weights/edsr_x2", 24, 128, 1e-4, (150,), 300, LOSS),
    "edsr_finetune1": Stage(EDSRConfig, W, "runs/edsr_aim/best", 16, 200, 1e-5, (150,), 300, LOSS),
    "edsr_finetune2": Stage(EDSRConfig, W, "runs/edsr_finetune1/best", 16, 200, 1e-6, (150,), 300, LOSS),
    "edsr_finetune3": Stage(EDSRConfig, W, "runs/edsr_finetune2/best", 16, 200, 1e-7, (150,), 100, LOSS),
    "drln_aim": Stage(DRLNConfig, W, "weights/drln_x2", 24, 128, 1e-4, (150,), 300, LOSS),
    "drln_finetune1": Stage(DRLNConfig, W, "runs/drln_aim/best", 16, 200, 1e-5, (150,), 300, LOSS),
    "drln_finetune2": Stage(DRLNConfig, W, "runs/drln_finetune1/best", 16, 200, 1e-6, (150,), 300, LOSS),
    "drln_finetune3": Stage(DRLNConfig, W, "runs/drln_finetune2/best", 16, 200, 1e-7, (150,), 100, LOSS),
}
X2_LIST, X3_LIST = "data/AIM/x2_clean_img_id.txt", "data/AIM/x3_clean_img_id.txt"
SOURCES = {
    D: (Div2k("data/DIV2K", 1, 800),),
    A: (Aim("data/AIM", "train", "", 0),),
    W: (Aim("data/AIM", "train", X2_LIST, 0),),
    WL: (Aim("data/AIM", "train", X2_LIST, 0), Aim("data/AIM", "train", X3_LIST, 3)),
}


N_STEPS = {
    "oaddet_div2k": 1000 * 299,
    "oaddet_aim": 355_806,
    "oaddet_ssim": 457_281,
    "deep_oaddet_div2k": 1000 * 29,
    "deep_oaddet_aim": 201_722,
    "deep_oaddet_large": 404_840,
    "deep_oaddet_ssim": 457_281,
    "edsr_aim": 230_230,
    "edsr_finetune1": 345_345,
    "edsr_finetune2": 345_345,
    "edsr_finetune3": 114_345,
    "drln_aim": 230_230,
    "drln_finetune1": 345_345,
    "drln_finetune2": 345_345,
    "drln_finetune3": 114_345,
}
"""Steps that the published code takes, from its loader's rule and the published counts of pairs."""


def docstring(name):
    return ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text())) or ""


@pytest.mark.parametrize("name", TRAINING)
def test_a_training_run_loads_by_name_and_can_be_made(name):
    config = load_config(name)
    assert type(config) is TrainConfig
    config.validate()
    assert load_config(name) is not config


@pytest.mark.parametrize("name", INFERENCE)
def test_an_inference_run_loads_by_name(name):
    assert type(load_config(name)) is InferenceConfig


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_stage_has_the_published_numbers(name):
    stage, config = PUBLISHED[name], load_config(name)
    valid = Div2k("data/DIV2K", 801, 810) if stage.data == D else Aim("data/AIM", "valid")
    assert config == TrainConfig(
        model=stage.model(scale=2),
        train=SOURCES[stage.data],
        valid=valid,
        start_from=stage.start_from,
        losses=(stage.loss,),
        optimizer=Adam(b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0),
        schedule=StepDecay(stage.learning_rate, stage.decay_at, gamma=0.5),
        batch_size=stage.batch_size,
        patch_size=stage.patch_size,
        epochs=stage.epochs - 1,
        steps_per_epoch=0,
        remat=stage.loss == LOSS_SSIM,
        protocol="aim",
    )


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_a_published_stage_takes_the_published_number_of_steps(name, capsys):
    assert command.run(["realsr-train", f"--config={name}", "--show"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"steps: {N_STEPS[name]}"


@pytest.mark.parametrize(
    ("n_pairs", "batch_size", "steps"),
    [(800, 32, 1000), (19_000, 32, 594), (1, 16, 1000), (16_000, 16, 1000), (15_999, 16, 1000), (7, 3, 999)],
)
def test_an_epoch_is_as_long_as_the_published_one(n_pairs, batch_size, steps):
    """The published loader repeats the list of pairs, and its last batch may be smaller."""
    repeated = list(range(n_pairs)) * max(batch_size * 1000 // n_pairs, 1)
    batches = [repeated[start : start + batch_size] for start in range(0, len(repeated), batch_size)]
    assert len(batches) == published_epoch(n_pairs, batch_size) == steps


@pytest.mark.parametrize(
    ("n_pairs", "batch_size", "steps", "reason"),
    [
        (50, 16, 100, "the least, as one pass over 50 pairs takes 4"),
        (1, 16, 100, "the least, as one pass over 1 pair takes 1"),
        (1600, 16, 100, "one pass over 1,600 pairs"),
        (1601, 16, 101, "one pass over 1,601 pairs"),
    ],
)
def test_an_epoch_of_own_photos_is_as_long_as_they_last(n_pairs, batch_size, steps, reason):
    config = TrainConfig(train=(HrFolder("x"), PairFolder("y", "z")), batch_size=batch_size)
    assert config.epoch_for(n_pairs) == (steps, reason)
    assert config.replace(steps_per_epoch=7).epoch_for(n_pairs) == (7, "as configured")
    for published in (Aim(), Div2k(), Tfds("aim_real_sr/x2")):
        config.train = (published,)
        assert config.epoch_for(n_pairs)[0] == published_epoch(n_pairs, batch_size)
    config.train = (Aim(), HrFolder("x"))
    assert config.epoch_for(n_pairs)[0] == steps


@pytest.mark.parametrize("name", TRAINING)
def test_a_stage_starts_from_the_same_network(name):
    config = load_config(name)
    run = re.fullmatch(r"runs/(\w+)/(best|latest)", config.start_from)
    if run:
        previous = load_config(run[1])
        assert f"--workdir=runs/{run[1]}\n" in docstring(run[1])
        assert previous.model == config.model
        assert run[2] == "latest" or previous.valid is not None
    elif config.start_from and name in PUBLISHED:
        assert re.search(rf"realsr-convert --input=\S+ --output={config.start_from}$", docstring(name), re.M)
    else:
        assert config.start_from in ("", "default")


@pytest.mark.parametrize("name", ["real_pairs_x2", "own_photos_x2"])
def test_the_default_network_can_be_trained_further(name):
    assert load_config(name).model == load_config("default_x2").model == load_weights("default")[0]
    assert load_config(name).start_from == "default"


@pytest.mark.parametrize("name", TRAINING)
def test_a_file_is_short_and_says_what_its_run_needs(name):
    assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 40
    text = docstring(name)
    assert re.search(rf"^Command: realsr-train --config={name} --workdir=runs/{name}$", text, re.M)
    for heading in ("Data", "Cost", "Expected"):
        assert re.search(rf"^{heading}: \S", text, re.M), heading


@pytest.mark.parametrize(
    "name",
    [
        *sorted(PUBLISHED),
        "trial_l1",
        "trial_ssim",
        "real_pairs_x2",
        "clean_x2_stage1",
        "clean_x2",
        "default_x2_stage1",
        "default_x2",
    ],
)
def test_the_stated_cost_is_that_of_the_run(name):
    config = load_config(name)
    side = config.patch_size
    cost = f"Cost: {config.expected_steps():,} steps of {config.batch_size} patches of {side}x{side}"
    assert cost in docstring(name)


@pytest.mark.parametrize("name", TRAINING)
def test_training_and_validation_share_no_images(name):
    config = load_config(name)
    sources = [part.source for source in config.train if isinstance(source, Mixed) for part in source.parts]
    for source in sources or config.train:
        match source, config.valid:
            case Div2k(), Div2k():
                assert source.last < config.valid.first
            case Aim(), Aim():
                assert (source.split, config.valid.split) == ("train", "valid")
            case (HrFolder(), HrFolder()) | (Degraded(), Degraded()):
                assert (source.hr, config.valid.hr) in [
                    (f"{folder}/{train}", f"{folder}/{valid}")
                    for folder, train, valid in (
                        ("data/bsds500/train", "*[0-79].jpg", "*8.jpg"),
                        ("data/clean", "*[0-8a-z].webp", "*9.webp"),
                    )
                ] + [("photos", "photos_valid")]
            case PairFolder(), Degraded():
                assert Path(source.hr).parents[1] not in Path(config.valid.hr).parents
            case PairFolder(), PairFolder():
                names = [[Path(place).name for place in (s.lr, s.hr)] for s in (source, config.valid)]
                assert names == [["*[1-9]L.PNG", "*[1-9]H.PNG"], ["*0L.PNG", "*0H.PNG"]]
            case _:
                pytest.fail(f"{name} trains on {source} and validates on {config.valid}")


def test_the_second_trial_only_changes_how_it_trains():
    first, second = load_config("trial_l1"), load_config("trial_ssim")
    changed = {
        field.name
        for field in dataclasses.fields(first)
        if getattr(first, field.name) != getattr(second, field.name)
    }
    assert changed == {"start_from", "losses", "schedule"}
    assert second.losses == (Weighted(SSIM(), 20.0),)
    assert second.schedule.learning_rate < first.schedule.learning_rate
