"""Measures how fast batches are made of 1-megapixel PNG pairs, from decoded images and from the files.

python tests/scripts/measure_data.py [--photos=FOLDER] [--workers=0] [--seconds=5]
"""

import argparse
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from realsr_jax import images
from realsr_jax.data.batches import make_batches
from realsr_jax.data.sources import PairFolder
from realsr_jax.data.training_pairs import open_pairs
from realsr_jax.ops.matlab_resize import imresize

N_IMAGES, HEIGHT, WIDTH = 12, 896, 1152
SCALE, PATCH_SIZE, BATCH_SIZE = 2, 96, 32


def _synthetic(seed: int) -> np.ndarray:
    """A noisy picture with structure of several sizes, which PNG compresses about as well as a photo."""
    random = np.random.default_rng(seed)
    total = random.normal(128, 3, (HEIGHT, WIDTH, 3))
    for step in (128, 32, 8):
        coarse = random.integers(0, 256, (HEIGHT // step, WIDTH // step, 3), dtype=np.uint8)
        total += (imresize(coarse, size=(HEIGHT, WIDTH)) - 128.0) * step**0.5 / 20
    return np.clip(total, 0, 255).astype(np.uint8)


def _photo(path: Path) -> np.ndarray:
    """A photo, brought to the size."""
    return imresize(images.read_photo(path).rgb_8_bit(), size=(HEIGHT, WIDTH))


def _write_pairs(folder: Path, photos: str) -> PairFolder:
    """Writes the PNG pairs and returns where they are."""
    paths = [found.path for found in images.find_photos([photos])] if photos else []
    for side in ("lr", "hr"):
        (folder / side).mkdir()
    for index in range(N_IMAGES):
        hr = _photo(paths[index % len(paths)]) if paths else _synthetic(index)
        lr = imresize(hr, Fraction(1, SCALE))
        for side, pixels in (("lr", lr), ("hr", hr)):
            photo = images.Photo(pixels, images.Metadata(), "PNG")
            images.write_photo(photo, folder / side / f"{index:04}.png")
    return PairFolder(lr=str(folder / "lr"), hr=str(folder / "hr"))


def _patches_per_second(source: PairFolder, decoded_dir: str, workers: int, seconds: float) -> float:
    started = time.perf_counter()
    pairs = open_pairs([source], scale=SCALE, patch_size=PATCH_SIZE, decoded_dir=decoded_dir)
    print(f"  opened in {time.perf_counter() - started:.2f} s")
    batches = make_batches(
        pairs, patch_size=PATCH_SIZE, batch_size=BATCH_SIZE, n_steps=10**6, seed=0, workers=workers
    )
    for _ in range(4 * workers + 4):  # workers start, and what they have prepared meanwhile is used up
        next(batches)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        next(batches)
        count += BATCH_SIZE
    return count / (time.perf_counter() - started)


def main() -> None:
    """Prints patches per second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", default="", help="folder of photos to make the images of")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = _write_pairs(Path(folder), arguments.photos)
        size = sum(path.stat().st_size for path in Path(folder, "hr").iterdir()) / N_IMAGES / 2**20
        print(f"{N_IMAGES} PNG pairs of {WIDTH} x {HEIGHT} pixels, HR {size:.1f} MiB on average")
        speeds = {}
        for name, decoded_dir in (("decoded", f"{folder}/decoded"), ("files", "none")):
            print(name)
            speeds[name] = _patches_per_second(source, decoded_dir, arguments.workers, arguments.seconds)
            print(f"  {speeds[name]:.0f} patches/s with {arguments.workers} workers")
        print(f"{speeds['decoded'] / speeds['files']:.0f} times faster")


if __name__ == "__main__":
    main()
