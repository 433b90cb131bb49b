"""Configurations that cannot exist are refused with the reason, and sizes become tilings."""

import re

import pytest

from realsr_jax.models import build_model
from realsr_jax.models.deep_oaddet import DeepOADDetConfig
from realsr_jax.models.drln import DRLNConfig
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.models.oaddet import OADDetConfig
from realsr_jax.upscaling.inference_config import InferenceConfig, ModelRun, bicubic_scale
from realsr_jax.upscaling.tilings import FittedTiles, QuarterTiles, UniformTiles, WholeImage, make_tilings

RUN = ModelRun("weights")


@pytest.mark.parametrize(
    ("config_class", "fields", "reason"),
    [
        (OADDetConfig, {"scale": 3}, "n_feats is 128, expected a multiple of 9 at scale 3"),
        (OADDetConfig, {"scale": 4, "n_feats": 24}, "n_feats is 24, expected a multiple of 16 at scale 4"),
        (OADDetConfig, {"scale": 5, "n_feats": 25}, "scale is 5, expected 2, 3 or 4"),
        (OADDetConfig, {"n_resblocks": 0}, "n_resblocks is 0, expected at least 1"),
        (OADDetConfig, {"n_feats": 4}, "n_feats is 4, expected at least 8"),
        (OADDetConfig, {"n_feats": -128}, "n_feats is -128, expected at least 8"),
        (DeepOADDetConfig, {"scale": 3}, "n_feats is 128, expected a multiple of 9"),
        (DeepOADDetConfig, {"scale": 1}, "scale is 1, expected 2, 3 or 4"),
        (DeepOADDetConfig, {"n_resblocks": -1}, "n_resblocks is -1, expected at least 1"),
        (EDSRConfig, {"n_resblocks": 0}, "n_resblocks is 0, expected at least 1"),
        (EDSRConfig, {"n_feats": 0}, "n_feats is 0, expected at least 1"),
        (EDSRConfig, {"n_resblocks": 257}, "n_resblocks is 257, expected at least 1 and at most 256 (publ"),
        (EDSRConfig, {"n_feats": 1025}, "n_feats is 1025, expected at least 1 and at most 1024 (published"),
        (OADDetConfig, {"n_resblocks": 257}, "n_resblocks is 257, expected at least 1 and at most 256"),
        (OADDetConfig, {"n_feats": 2048}, "n_feats is 2048, expected at least 8, since channel attention "),
        (EDSRConfig, {"res_scale": float("inf")}, "res_scale is inf, expected more than 0 and at most 100"),
        (EDSRConfig, {"scale": 8}, "scale is 8, expected 2, 3 or 4"),
        (EDSRConfig, {"res_scale": 0}, "res_scale is 0, expected more than 0"),
        (EDSRConfig, {"res_scale": float("nan")}, "res_scale is nan, expected more than 0"),
        (DRLNConfig, {"scale": 5}, "scale is 5, expected 2, 3, 4 or 8"),
        (UniformTiles, {"size": 7, "overlap": 0}, "size is 7, expected at least 8"),
        (UniformTiles, {"size": 63}, "overlap is 32, expected 0 to half the tile, 31"),
        (UniformTiles, {"overlap": -1}, "overlap is -1, expected 0 to half the tile, 128"),
        (QuarterTiles, {"chop_size": 0}, "chop_size is 0, expected at least 1"),
        (QuarterTiles, {"shave_size": -1}, "shave_size is -1, expected at least 0"),
        (ModelRun, {"weights": "weights", "tilings": ()}, "tilings is (), expected at least one"),
        (ModelRun, {"weights": "weights", "weight": 0.0}, "weight is 0.0, expected more than 0"),
        (InferenceConfig, {"runs": ()}, "runs is (), expected at least one network"),
        (InferenceConfig, {"runs": (RUN,), "guided_radius": 0}, "guided_radius is 0, expected at least 1"),
        (InferenceConfig, {"runs": (RUN,), "guided_eps": 0.0}, "guided_eps is 0.0, expected more than 0"),
        (
            InferenceConfig,
            {"runs": (RUN,), "dtype": "float16"},
            "dtype is 'float16', did you mean bfloat16? expected 'float32', 'tensorfloat32', 'bfloat16' or",
        ),
    ],
)
def test_what_cannot_exist_is_refused(config_class, fields, reason):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{config_class.__name__}: {reason}')}"):
        config_class(**fields)


@pytest.mark.parametrize(
    ("config_class", "fields"),
    [
        (OADDetConfig, {"n_resblocks": 1, "n_feats": 8}),
        (OADDetConfig, {"n_feats": 9, "scale": 3}),
        (DeepOADDetConfig, {"n_feats": 16, "scale": 4}),
        (EDSRConfig, {"n_resblocks": 1, "n_feats": 1, "scale": 3, "res_scale": 1e-3}),
        (DRLNConfig, {"scale": 8}),
        (UniformTiles, {"size": 8, "overlap": 4}),
        (QuarterTiles, {"chop_size": 1, "shave_size": 0}),
        (InferenceConfig, {"runs": (RUN,), "dtype": "bfloat16"}),
    ],
)
def test_what_can_exist_is_accepted(config_class, fields):
    config = config_class(**fields)
    assert {name: getattr(config, name) for name in fields} == fields
    assert config == config_class(**fields)
    assert hash(config) == hash(config_class(**fields))


@pytest.mark.parametrize(
    ("config", "field", "value"),
    [
        (OADDetConfig(), "scale", 3),
        (DeepOADDetConfig(), "n_resblocks", 0),
        (EDSRConfig(), "res_scale", -0.1),
        (DRLNConfig(), "scale", 6),
    ],
)
def test_changed_config_is_validated_again(config, field, value):
    build_model(config)
    setattr(config, field, value)
    with pytest.raises(ValueError, match=rf"^{type(config).__name__}: "):
        build_model(config)


def test_models_of_the_same_sizes_differ():
    sizes = {"n_resblocks": 4, "n_feats": 16}
    assert OADDetConfig(**sizes) != DeepOADDetConfig(**sizes)


@pytest.mark.parametrize(
    ("sizes", "tilings"),
    [
        ({}, [FittedTiles()]),
        ({"tile_overlap": (8, 16)}, [FittedTiles(8), FittedTiles(16)]),
        ({"tile_size": 64, "tile_overlap": 0}, [UniformTiles(64, 0)]),
        ({"tile_size": None}, [WholeImage()]),
        ({"tile_size": [64, 96]}, [UniformTiles(64, 32), UniformTiles(96, 32)]),
        ({"tile_size": (64, None), "tile_overlap": (8, 0)}, [UniformTiles(64, 8), WholeImage()]),
        ({"chop_size": 500}, [QuarterTiles(500, 80)]),
        ({"chop_size": (450, 450), "shave_size": (80, 10)}, [QuarterTiles(450, 80), QuarterTiles(450, 10)]),
        ({"chop_size": [450, 250], "shave_size": 50}, [QuarterTiles(450, 50), QuarterTiles(250, 50)]),
        ({"chop_size": 9, "tile_size": None}, [QuarterTiles(9, 80)]),
    ],
)
def test_sizes_become_tilings(sizes, tilings):
    assert make_tilings(**sizes) == tuple(tilings)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"tile_size": (64, 96, 128), "tile_overlap": (8, 16)}, "tile_size has 3 entries and tile_overlap 2"),
        ({"tile_size": 64, "tile_overlap": (8, 16)}, "tile_size has 1 entries and tile_overlap 2"),
        ({"chop_size": (450, 450), "shave_size": ()}, "chop_size has 2 entries and shave_size 0"),
        ({"tile_size": ()}, "tile_size is empty, expected at least one size"),
        ({"chop_size": [], "shave_size": []}, "chop_size is empty, expected at least one size"),
        ({"tile_size": (64, 4)}, "UniformTiles: size is 4, expected at least 8"),
        ({"tile_size": 0}, "UniformTiles: size is 0, expected at least 8"),
        ({"chop_size": 0}, "QuarterTiles: chop_size is 0, expected at least 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        make_tilings(**sizes)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ({"tile_size": 256, "chop_size": 450}, "excludes tile_size"),
        ({"tile_overlap": 32, "chop_size": 450}, "excludes tile_size"),
        ({"shave_size": 10}, "shave_size needs a chop_size"),
    ],
)
def test_sizes_of_different_tilings_are_refused(sizes, reason):
    with pytest.raises(ValueError, match=reason):
        make_tilings(**sizes)


@pytest.mark.parametrize(
    ("name", "scale"), [("bicubic", 2), ("bicubic_x4", 4), ("bicubic_x5", None), ("a", None)]
)
def test_bicubic_scale(name, scale):
    assert bicubic_scale(name) == scale
