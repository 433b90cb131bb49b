"""The data sets that ``realsr-prepare`` builds, and what TFDS calls them."""

import re
from typing import Final

TFDS_NAMES: Final = {
    **{f"aim_x{scale}": f"aim_real_sr/x{scale}" for scale in (2, 3, 4)},
    **{f"aim_x{scale}_washed": f"aim_real_sr/x{scale}_washed" for scale in (2, 3, 4)},
    "aim_x2_washed_large": "aim_real_sr/x2_washed_large",
    **{f"div2k_x{scale}": f"div2k/bicubic_x{scale}" for scale in (2, 3, 4)},
}
"""TFDS's name and configuration, by the name that the command knows."""


def scale_of(config_name: str) -> int | None:
    """Returns the scale that a configuration's name tells, as ``bicubic_x2`` and ``x2_washed`` do."""
    named = re.search(r"(?:^|_)x(\d+)(?:_|$)", config_name)
    return int(named[1]) if named else None
