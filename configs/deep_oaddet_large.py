"""Deep-OADDet for x2, the third of four published stages: clean real pairs captured for x2 and x3, L1.

Command: realsr-train --config=deep_oaddet_large --workdir=runs/deep_oaddet_large
Starts from: the latest weights of deep_oaddet_aim.
Data: the washed AIM 2020 pairs of data/AIM/X2 and data/AIM/X3 (x2_clean_img_id.txt, x3_clean_img_id.txt);
    HR images of the latter are reduced to twice the size of LR.
Cost: 404,840 steps of 32 patches of 128x128, in 349 epochs (published as --epochs 350); not measured here.
Expected: the published code gives no figure for this stage.
"""

from realsr_jax.configs.deep_oaddet_aim import get_config as previous_stage
from realsr_jax.data.sources import Aim


def get_config():
    """Returns the run."""
    return previous_stage().replace(
        train=(
            Aim(clean_list="data/AIM/x2_clean_img_id.txt"),
            Aim(clean_list="data/AIM/x3_clean_img_id.txt", captured_scale=3),
        ),
        start_from="runs/deep_oaddet_aim/latest",
    )
