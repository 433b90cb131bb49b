"""Plants faults in realistic LR/HR pairs and shows how many of them the washing catches.

python tests/scripts/wash_faults.py --photos=DIR [--city100=DIR] [--pairs=1000] [--seed=0] [--half=report]

Half of the pairs are clean: they have the blur, noise, compression, tone curve and small misalignment of a
careful shot. Photos are split in two halves by their order: limits were chosen on "tune", the figures that
count are those of "report".
"""

import argparse
import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from realsr_jax.images import find_photos, read_photo
from realsr_jax.wash.figures import Figures
from realsr_jax.wash.measure import measure_pair
from realsr_jax.wash.opencv import cv2
from realsr_jax.wash.verdict import Limits, Verdict, judge

FAULTS = {
    "shift": (0.25, 0.5, 1, 2, 4, 8),
    "rotation": (0.2, 0.5, 1),
    "object": (2, 5, 10, 20),
    "parallax": (0.5, 1, 2),
    "gain": (3, 6, 10, 15),
    "channel gain": (3, 6, 10, 15),
    "defocus": (1, 1.5, 2, 3),
    "swapped": (1,),
}
UNITS = {
    "shift": "LR px",
    "rotation": "degrees",
    "object": "% of the area",
    "parallax": "LR px, a third of the area",
    "gain": "%",
    "channel gain": "%",
    "defocus": "radius in LR's finest details",
    "swapped": "",
}
SCALES = (2, 2, 2, 2, 3, 4, 1, 1)
MARGIN = 3


@dataclass(frozen=True)
class Planted:
    """A pair, uint8 [h, w, 3] each, and what is wrong with it."""

    lr: np.ndarray
    hr: np.ndarray
    scale: int
    fault: str
    strength: float


def plant(
    photo: np.ndarray, other: np.ndarray, fault: str, strength: float, scale: int, random: np.random.Generator
) -> Planted:
    """Makes a pair of a photo as a camera would: blur, sampling, noise, tone curve and compression in LR."""
    scene = photo.astype(np.float32)
    if fault == "swapped":
        hr_scene = _fit(other, photo.shape).astype(np.float32)
    elif fault == "object":
        hr_scene = _with_object(scene, other, strength / 100, scale, random)
    else:
        hr_scene = scene
    lr_scene = scene
    if random.random() < 0.5:
        lr_scene, hr_scene = hr_scene, lr_scene
    moved = _moved(lr_scene, fault, strength, scale, random)
    if fault == "parallax":
        moved = _with_parallax(moved, strength * scale, scale, random)
    margin = int(np.ceil(MARGIN + (strength if fault == "shift" else 0))) * scale
    bottom, right = (margin + (side - 2 * margin) // scale * scale for side in scene.shape[:2])
    lr = _photographed(moved, scale, random)[margin:bottom, margin:right]
    lr = cv2.resize(lr, (lr.shape[1] // scale, lr.shape[0] // scale), interpolation=cv2.INTER_AREA)
    lr = _toned(lr, fault, strength, random)
    lr = _compressed(lr + random.normal(0, random.uniform(0.3, 4), lr.shape), int(random.integers(85, 99)))
    if fault == "defocus":
        # Where LR is as large as HR, its finest detail is about two pixels wide.
        hr_scene = _defocused(hr_scene, strength * max(scale, 2))
    hr = hr_scene[margin:bottom, margin:right]
    hr = _quantised(hr + random.normal(0, random.uniform(0, 1.5), hr.shape))
    return Planted(lr, hr, scale, fault, strength)


def plant_real(
    lr: np.ndarray,
    hr: np.ndarray,
    other: np.ndarray,
    fault: str,
    strength: float,
    random: np.random.Generator,
) -> Planted:
    """Plants a fault in a photographed pair of scale 1."""
    lr_scene, hr_scene = lr.astype(np.float32), hr.astype(np.float32)
    if fault == "swapped":
        hr_scene = other.astype(np.float32)
    elif fault == "object":
        hr_scene = _with_object(hr_scene, other, strength / 100, 1, random)
    elif fault == "defocus":
        hr_scene = _defocused(hr_scene, 2 * strength)
    if fault in ("shift", "rotation"):
        lr_scene = _moved(lr_scene, fault, strength, 1, random, natural=0)
    elif fault == "parallax":
        lr_scene = _with_parallax(lr_scene, strength, 1, random)
    elif "gain" in fault:
        lr_scene = lr_scene * _gains(fault, strength, random)
    return Planted(
        _quantised(lr_scene)[10:-10, 10:-10], _quantised(hr_scene)[10:-10, 10:-10], 1, fault, strength
    )


def _fit(image: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Turns and resizes another photo to a shape."""
    if (image.shape[0] > image.shape[1]) != (shape[0] > shape[1]):
        image = np.ascontiguousarray(image.swapaxes(0, 1))
    return cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def _moved(
    scene: np.ndarray,
    fault: str,
    strength: float,
    scale: int,
    random: np.random.Generator,
    natural: float = 0.2,
) -> np.ndarray:
    """Shifts and turns a scene: a little, as no tripod stands still, and as the fault asks."""
    direction = random.uniform(0, 2 * np.pi)
    length = strength if fault == "shift" else random.uniform(0, natural)
    angle = random.uniform(-0.04, 0.04) if natural else 0.0
    if fault == "rotation":
        angle = strength * random.choice([-1, 1])
    height, width = scene.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1)
    matrix[:, 2] += np.array([np.cos(direction), np.sin(direction)]) * length * scale
    return cv2.warpAffine(
        scene, matrix, (width, height), flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101
    )


def _photographed(scene: np.ndarray, scale: int, random: np.random.Generator) -> np.ndarray:
    """Blurs a scene by a turned Gaussian of unequal axes."""
    low, high = (0.25, 0.7) if scale > 1 else (0.8, 1.6)
    radii = random.uniform(low, high, 2) * scale
    angle = random.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    precision = turn @ np.diag(1 / radii**2) @ turn.T
    reach = int(np.ceil(3 * radii.max()))
    x, y = np.meshgrid(*[np.arange(-reach, reach + 1)] * 2)
    kernel = np.exp(-(precision[0, 0] * x * x + 2 * precision[0, 1] * x * y + precision[1, 1] * y * y) / 2)
    return cv2.filter2D(scene, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101)


def _toned(lr: np.ndarray, fault: str, strength: float, random: np.random.Generator) -> np.ndarray:
    """Applies a slight tone curve and differences of colour, and the fault's gain."""
    lr = 255 * np.clip(lr / 255, 0, 1) ** random.uniform(0.97, 1.03)
    lr = lr * random.uniform(0.99, 1.01, 3) + random.uniform(-1, 1, 3)
    return lr * _gains(fault, strength, random) if "gain" in fault else lr


def _gains(fault: str, strength: float, random: np.random.Generator) -> np.ndarray:
    gains = np.ones(3, np.float32)
    channel = slice(None) if fault == "gain" else int(random.integers(3))
    gains[channel] += random.choice([-1, 1]) * strength / 100
    return gains


def _with_object(
    scene: np.ndarray, other: np.ndarray, share: float, scale: int, random: np.random.Generator
) -> np.ndarray:
    """Puts something visible into a scene: of another photo, of another place, or a part that moved."""
    height, width = scene.shape[:2]
    changed = scene
    for _ in range(50):
        mask = _blob(height, width, share, scale, random)[..., None]
        kind = random.integers(3)
        if kind == 0:
            source = _fit(other, scene.shape).astype(np.float32)
        elif kind == 1:
            source = np.roll(scene, (height // 2, width // 2), (0, 1))
        else:
            angle, length = random.uniform(0, 2 * np.pi), random.uniform(3, 8) * scale
            offset = (round(np.sin(angle) * length), round(np.cos(angle) * length))
            source = np.roll(scene, offset, (0, 1))
        changed = scene + mask * (source - scene)
        error = cv2.GaussianBlur((changed - scene).mean(2), (0, 0), scale)
        if np.sqrt((error**2).sum() / mask.sum()) > 12:  # else nobody would see the object
            return changed
    return changed


def _with_parallax(scene: np.ndarray, length: float, scale: int, random: np.random.Generator) -> np.ndarray:
    """Moves a third of a scene, as what is nearer than the rest does when the camera moves."""
    height, width = scene.shape[:2]
    mask = cv2.GaussianBlur(_blob(height, width, 1 / 3, scale, random), (0, 0), 2.0 * scale)
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x, y = x + mask * np.float32(np.cos(angle) * length), y + mask * np.float32(np.sin(angle) * length)
    return cv2.remap(scene, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def _blob(height: int, width: int, share: float, scale: int, random: np.random.Generator) -> np.ndarray:
    """Returns float32 [h, w], 1 within a rounded shape that covers a share of the picture."""
    aspect = random.uniform(0.6, 1.6)
    radius = np.sqrt(share * height * width / np.pi)
    across, down = min(radius * aspect**0.5, 0.45 * width), min(radius / aspect**0.5, 0.45 * height)
    x0, y0 = (random.uniform(1.05 * r, side - 1.05 * r) for r, side in ((across, width), (down, height)))
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u, v = (x - x0) / across, (y - y0) / down
    angle = np.arctan2(v, u)
    wave = 1 + 0.15 * np.sin(random.integers(2, 5) * angle + random.uniform(0, 6))
    distance = (1 - np.hypot(u, v) / wave) * radius
    return np.clip(distance / (1.5 * scale) + 0.5, 0, 1).astype(np.float32)


def _defocused(scene: np.ndarray, radius: float) -> np.ndarray:
    """Blurs a scene by a disc."""
    reach = int(np.ceil(radius)) + 1
    x, y = np.meshgrid(*[np.arange(-reach, reach + 1)] * 2)
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1)
    return cv2.filter2D(scene, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT_101)


def _compressed(image: np.ndarray, quality: int) -> np.ndarray:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111]
    return cv2.imdecode(cv2.imencode(".jpg", _quantised(image)[..., ::-1], options)[1], cv2.IMREAD_COLOR)[
        ..., ::-1
    ]


def _quantised(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def dead_leaves(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Draws discs that cover each other, uint8 [h, w, 3]: a picture with the statistics of a photo.

    Source: A. Lee, D. Mumford and J. Huang, "Occlusion models for natural images", 2001.
    """
    image = np.full((2 * height, 2 * width, 3), 128, np.float32)
    for radius in sorted(min(3 / random.uniform(0.02, 1) ** 0.9, 0.4 * height) * 2 for _ in range(2500))[
        ::-1
    ]:
        centre = int(random.integers(2 * width)), int(random.integers(2 * height))
        colour = np.clip(random.uniform(20, 235) + random.normal(0, 25, 3), 10, 245)
        cv2.circle(image, centre, max(1, round(radius)), tuple(map(float, colour)), -1, cv2.LINE_8)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    grain = cv2.GaussianBlur(random.normal(0, 6, image.shape).astype(np.float32), (0, 0), 0.8)
    return _quantised(image + grain)


def plan(pairs: int) -> list[tuple[str, float]]:
    """Returns the fault and strength of each pair: every other one is clean, the faults take turns."""
    faults = [(fault, strength) for fault, steps in FAULTS.items() for strength in steps]
    return [faults[number // 2 % len(faults)] if number % 2 else ("", 0.0) for number in range(pairs)]


def plant_number(number: int, photos: Sequence[np.ndarray], pairs: int, seed: int) -> Planted:
    """Makes one of `pairs` pairs of photos; the same numbers give the same pair."""
    random = np.random.default_rng([seed, number])
    index = int(random.integers(len(photos)))
    other = photos[(index + int(random.integers(1, len(photos)))) % len(photos)]
    return plant(photos[index], other, *plan(pairs)[number], int(random.choice(SCALES)), random)


def plant_city(folder: str, seed: int) -> Iterator[Planted]:
    """Yields the photographed pairs of City100, clean and with every fault."""
    photos = [
        [read_photo(path).rgb_8_bit() for path in sorted(Path(folder).glob(f"*{side}.PNG"))] for side in "LH"
    ]
    for number, (lr, hr) in enumerate(zip(*photos, strict=True)):
        other = photos[1][(number + 1) % len(photos[1])]
        for fault, strength in [("", 0.0), *sorted(set(plan(1000)[1::2]))]:
            yield plant_real(lr, hr, other, fault, strength, np.random.default_rng([seed, number]))


Result = tuple[Planted, Figures, Verdict]


def measure(planted: Iterable[Planted]) -> list[Result]:
    """Measures and judges pairs by the default limits; keeps no pixels."""
    results = []
    for pair in planted:
        figures = measure_pair(pair.lr, pair.hr, pair.scale).figures
        few = dataclasses.replace(pair, lr=pair.lr[:0], hr=pair.hr[:0])
        results.append((few, figures, judge(figures, Limits())))
    return results


def area_under_curve(clean: Sequence[float], faulty: Sequence[float]) -> float:
    """Returns the probability that a faulty pair is more severe than a clean one; ties count half."""
    more = np.subtract.outer(np.array(faulty), np.array(clean))
    return float(((more > 0) + 0.5 * (more == 0)).mean())


def print_table(results: Sequence[Result], title: str) -> None:
    """Prints what became of the clean pairs and of each fault."""
    clean = [verdict for planted, _, verdict in results if not planted.fault]
    wrong = [verdict.reason for verdict in clean if not verdict.is_clean]
    print(f"\n{title}: {len(wrong)} of {len(clean)} clean pairs rejected", *wrong, sep="\n  ")
    print(f"\n{'fault':14}{'strength':>9}  {'':26}{'pairs':>6}{'caught':>8}{'AUC':>8}  named as")
    for fault, steps in FAULTS.items():
        for strength in steps:
            found = [v for p, _, v in results if (p.fault, p.strength) == (fault, strength)]
            if not found:
                continue
            caught = [verdict for verdict in found if not verdict.is_clean]
            area = area_under_curve([v.severity for v in clean], [v.severity for v in found])
            named = Counter(verdict.fault for verdict in caught).most_common(3)
            share = 100 * len(caught) / len(found)
            print(
                f"{fault:14}{strength:9}  {UNITS[fault]:26}{len(found):6}{share:7.1f}%{area:8.4f}  "
                + ", ".join(f"{name} {count}" for name, count in named)
            )


def main() -> None:
    """Plants, measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", required=True)
    parser.add_argument("--city100")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--half", choices=("tune", "report"), default="report")
    options = parser.parse_args()
    paths = [found.path for found in find_photos([options.photos])]
    photos = [np.array(read_photo(path).rgb_8_bit()) for path in paths[options.half == "report" :: 2]]
    started = time.perf_counter()
    numbers = range(options.pairs)
    results = measure(plant_number(number, photos, options.pairs, options.seed) for number in numbers)
    print_table(results, f"{options.pairs} pairs of {len(photos)} photos")
    if options.city100:
        print_table(measure(plant_city(options.city100, options.seed)), "photographed pairs of City100")
    print(f"\n{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
