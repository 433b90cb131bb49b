"""What ``fit_colours`` and ``max_shift`` of ``PairFolder`` do to real pairs.

python tests/scripts/measure_fitting.py "--lr=city100_crops/nikon/*L.webp" "--hr=city100_crops/nikon/*H.webp"

The images of a pair are of one size; LR is reduced by 2. The colour error is the mean absolute difference of
LR and reduced HR, both blurred, in grey levels.
"""

import argparse

import numpy as np

from realsr_jax.data.pair_reading import load_all
from realsr_jax.data.sources import PairFolder
from realsr_jax.wash.opencv import cv2

SCALE = 2
BLUR = 6.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", required=True)
    parser.add_argument("--hr", required=True)
    args = parser.parse_args()
    for fit_colours in (False, True):
        errors: list[float] = []
        _load(args, lambda images, into=errors: into.append(colour_error(*images)), fit_colours=fit_colours)
        print(f"fit_colours={fit_colours}: colour error {np.mean(errors):.2f}, at most {np.max(errors):.2f}")
    for max_shift in (0.25, 0.5, 1.0):
        checked = _load(args, lambda images: None, fit_colours=True, max_shift=max_shift)
        maps = list(checked.registered.values())
        skipped, total = sum((~blocks).sum() for blocks in maps), sum(blocks.size for blocks in maps)
        in_pairs = sum(not blocks.all() for blocks in maps)
        print(
            f"max_shift={max_shift}: {skipped} of {total} blocks skipped ({100 * skipped / total:.1f} %), in "
            f"{in_pairs} of {len(maps)} pairs"
        )


def colour_error(lr: np.ndarray, hr: np.ndarray) -> float:
    reduced = cv2.resize(hr, lr.shape[1::-1], interpolation=cv2.INTER_AREA)
    lr, hr = (cv2.GaussianBlur(image.astype(np.float32), (0, 0), BLUR) for image in (lr, reduced))
    return float(np.abs(lr - hr).mean())


def _load(args, keep, **fits):
    pairs, problems = PairFolder(lr=args.lr, hr=args.hr, reduce_lr=True, **fits).list_pairs(SCALE)
    checked = load_all(pairs, SCALE, lambda n_ready: None, keep)
    for problem in (*problems, *checked.problems.values()):
        print(problem)
    return checked


if __name__ == "__main__":
    main()
