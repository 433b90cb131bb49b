"""The published run on the AIM 2020 test set: four networks, each with its tilings, averaged in 8 bits.

    realsr-upscale --config=aim2020_testset AIM2020_test/ -o out/

Needs the four converted checkpoints in weights/edsr, weights/drln, weights/oaddet and weights/deep_oaddet, or
named in this order by --weights=DIR,DIR,DIR,DIR.

Source: the test script of the published solution.
"""

from realsr_jax.upscaling.inference_config import InferenceConfig, ModelRun
from realsr_jax.upscaling.tilings import QuarterTiles


def get_config() -> InferenceConfig:
    """Returns the run."""
    crops = (QuarterTiles(450, 80), QuarterTiles(450, 80), QuarterTiles(450, 10), QuarterTiles(450, 10))
    return InferenceConfig(
        runs=(
            ModelRun("weights/edsr", (QuarterTiles(500, 50),), self_ensemble=True),
            ModelRun("weights/drln", (QuarterTiles(450, 50), QuarterTiles(250, 100)), self_ensemble=True),
            ModelRun("weights/oaddet", crops),
            ModelRun("weights/deep_oaddet", crops),
        )
    )
