"""Pairs a second that one core of ``realsr-wash`` measures, and where the time goes.

python tests/scripts/measure_wash.py --photo=city100/003H.PNG
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import wash_faults

from realsr_jax.images import Metadata, Photo, read_photo, write_photo
from realsr_jax.wash import measure
from realsr_jax.wash.journal import Record
from realsr_jax.wash.opencv import cv2
from realsr_jax.wash.pair_files import measure_files

SIDE = 1000
STAGES = (
    "register",
    "refine",
    "warp",
    "compare_sharpness",
    "predict",
    "measure_difference",
    "compare_colours",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photo", type=Path, required=True)
    photo = cv2.resize(read_photo(parser.parse_args().photo).rgb, (SIDE + 24, SIDE + 24))
    seconds = dict.fromkeys(STAGES, 0.0)
    for name in STAGES:
        setattr(measure, name, _timed(getattr(measure, name), name, seconds))
    for scale in (1, 2, 4):
        planted = wash_faults.plant(photo, photo, "", 0, scale, np.random.default_rng(0))
        with tempfile.TemporaryDirectory() as folder:
            pair = measure_pair_of(planted, Path(folder))
            measure_files(pair, scale)
            seconds.update(dict.fromkeys(STAGES, 0.0))
            started = time.perf_counter()
            for _ in range(5):
                assert measure_files(pair, scale).figures is not None
            total = (time.perf_counter() - started) / 5
        parts = ", ".join(f"{name} {value / 5:.2f}" for name, value in seconds.items())
        h, w = planted.hr.shape[:2]
        print(f"scale {scale}, HR {w}x{h}: {1 / total:.2f} pairs a second, {total:.2f} s each: {parts}")


def measure_pair_of(planted, folder: Path):
    paths = [folder / f"{side}.png" for side in ("lr", "hr")]
    for path, image in zip(paths, (planted.lr, planted.hr), strict=True):
        write_photo(Photo(np.ascontiguousarray(image), Metadata(), "PNG"), path)
    return Record("pair.png", *map(str, paths))


def _timed(function, name, seconds):
    def timed(*args, **options):
        started = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            seconds[name] += time.perf_counter() - started

    return timed


if __name__ == "__main__":
    main()
