"""The published run on the AIM 2020 test set: four networks, each with its tilings, averaged in 8 bits.

    realsr-upscale --config=aim2020_testset AIM2020_test/ -o out/

Needs the four converted checkpoints in weights/edsr, weights/drln, weights/oaddet and weights/deep_oaddet, or
named in this order by --weights=DIR,DIR,DIR,DIR. convert/README.md has the command for each.

Source: the test script of the published solution.
"""

from realsr_jax.upscaling.inference_config import InferenceConfig, ModelRun
from realsr_jax.upscaling.tilings import QuarterTiles


def get_config() -> InferenceConfig:
    """Returns the run."""
    edsr, drln = (QuarterTiles(500, 50),), (QuarterTiles(450, 50), QuarterTiles(250, 100))
    crops = (QuarterTiles(450, 80), QuarterTiles(450, 80), QuarterTiles(450, 10), QuarterTiles(450, 10))
    return InferenceConfig(
        runs=(
            ModelRun("weights/edsr", edsr, self_ensemble=True, checkpoint="AIM_EDSR_X2.pt"),
            ModelRun("weights/drln", drln, self_ensemble=True, checkpoint="AIM_DRLN_X2.pt"),
            ModelRun("weights/oaddet", crops, checkpoint="AIM_DDET_X2.pt"),
            ModelRun("weights/deep_oaddet", crops, checkpoint="AIM_WDDET_X2.pt"),
        )
    )
