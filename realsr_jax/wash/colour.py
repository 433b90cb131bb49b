"""How the colours of two registered images differ."""

from typing import Final, NamedTuple

import numpy as np

from realsr_jax.wash.opencv import cv2

_CHANNELS: Final = ("red", "green", "blue")
_STEP: Final = 4
_DARKEST: Final = 4
_BRIGHTEST: Final = 250
_BINS: Final = 32
_FEWEST: Final = 8
_ERROR: Final = 0.5  # grey levels by which a bin may be wrong however many pixels it has
_SMOOTHING: Final = 4.0
_EDGE: Final = 0.02  # of the difference between neighbours
# What is expected of healthy pairs, as standard deviations: the tone curve's exponent and the offsets differ
# slightly. Where an image has too little contrast to tell them from a gain, it counts as a gain.
_GAMMA: Final = 0.03
_OFFSET: Final = 1.0
_GAIN: Final = 0.2
_ANY_OFFSET: Final = 20.0  # of pairs that are corrected, whatever is healthy


class Curves(NamedTuple):
    """What makes LR's colours of HR's: ``gain * 255 * (hr / 255) ** gamma + offset``.

    Attributes:
        gain: float [3], of red, green and blue.
        offset: float [3], in grey levels.
        gamma: of all channels.
    """

    gain: np.ndarray
    offset: np.ndarray
    gamma: float


def compare_colours(
    lr: np.ndarray, hr: np.ndarray, trusted: np.ndarray, *, blur: float
) -> tuple[dict[str, float], Curves | None]:
    """Compares smoothed images where they are even, without what is nearly black or white in either.

    Near edges, colours differ by blur and sharpening; the flattest parts tell them best.

    Pixels are gathered by their brightness; the medians of the bins, which moved objects do not disturb, are
    fitted by weighted least squares with what is expected of healthy pairs as a prior.

    Args:
        lr: float32 [h, w, 3], 0..255.
        hr: likewise, moved onto LR.
        trusted: float32 [h, w], 1 where both are known and show the same.
        blur: by how much they differed in blur, in pixels; sharpening, which changes the contrast of
            structures of a few times this size, is no fault of the colours.

    Returns:
        ``ratio``, ``gain``, ``gamma``, ``colour_error``, and for each channel ``gain_red``, ``offset_red``
        and so on, see `Figures`: LR is nearly ``gain * 255 * (hr / 255) ** gamma + offset``. The error is
        that of the worst channel where the picture is even. And the curves by which LR is corrected, of
        which offsets need not be small. Nothing and None if too little can be compared.
    """
    size = max(1, lr.shape[1] // _STEP), max(1, lr.shape[0] // _STEP)
    lr, hr, known = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (lr, hr, trusted))
    lr, hr = (cv2.GaussianBlur(image, (0, 0), max(0.5, _SMOOTHING * abs(blur) / _STEP)) for image in (lr, hr))
    usable = known > 0.99
    for image in (lr, hr):
        usable &= (image.max(2) < _BRIGHTEST) & (image.max(2) > _DARKEST)
    if usable.sum() < 2 * _FEWEST:
        return {}, None
    lr, hr, slopes = lr[usable].astype(np.float64), hr[usable].astype(np.float64), _slopes(lr + hr)[usable]
    bins = [_bin(lr[:, channel], hr[:, channel], slopes) for channel in range(3)]
    gain, offset, gamma = _fit_curves(bins, _OFFSET)
    errors = (lr - (255 * gain * (np.maximum(hr, 0.5) / 255) ** gamma + offset)) ** 2
    even = errors[slopes <= np.median(slopes)]
    # Without the largest tenth, which is objects that moved.
    error = np.sqrt(np.mean(np.sort(even, axis=0)[: max(1, len(even) * 9 // 10)], axis=0)).max()
    ratio = lr.sum(0) / np.maximum(hr.sum(0), 1e-6)
    channels = {f"gain_{name}": float(value) for name, value in zip(_CHANNELS, gain, strict=True)}
    channels |= {f"offset_{name}": float(value) for name, value in zip(_CHANNELS, offset, strict=True)}
    figures = channels | {
        "ratio": float(ratio[np.abs(ratio - 1).argmax()]),
        "gain": 100 * float(np.abs(gain - 1).max()),
        "gamma": gamma,
        "colour_error": float(error),
    }
    return figures, _fit_curves(bins, _ANY_OFFSET)


def recolour(lr: np.ndarray, curves: Curves) -> np.ndarray:
    """Gives LR HR's colours.

    Args:
        lr: uint8 or float32 [h, w, 3], 0..255.
        curves: what is undone.

    Returns:
        float32 [h, w, 3], not clipped above.
    """
    gain, offset = (np.asarray(values, np.float32) for values in (curves.gain, curves.offset))
    return 255 * np.maximum((lr - offset) / (255 * gain), 0) ** np.float32(1 / curves.gamma)


def _slopes(image: np.ndarray) -> np.ndarray:
    """Returns how much each pixel differs from its neighbours, [h, w]."""
    kernel = np.ones((3, 3), np.uint8)
    return (cv2.dilate(image, kernel) - cv2.erode(image, kernel)).max(2)


def _bin(lr: np.ndarray, hr: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gathers pixels of like brightness: HR's mean, the median difference and a weight for each bin."""
    # By the mean of both, as noise in either alone would seem to reduce the contrast.
    order = np.argsort(lr + hr)
    difference = lr - hr
    level, median, weight = [], [], []
    for group in np.array_split(order, max(1, min(_BINS, len(order) // _FEWEST))):
        even = group[np.argsort(slopes[group])[: max(_FEWEST // 2, len(group) // 4)]]
        middle = np.median(difference[even])
        spread = np.median(np.abs(difference[even] - middle))
        level.append(hr[even].mean())
        median.append(middle)
        weight.append(1 / (_ERROR**2 + 3 * spread**2 / len(even) + (_EDGE * slopes[even].mean()) ** 2))
    return np.array(level), np.array(median), np.array(weight)


def _fit_curves(bins: list[tuple[np.ndarray, np.ndarray, np.ndarray]], offset: float) -> Curves:
    """Fits each channel's gain, near 1, and offset, as near 0 as is said, and the exponent of all, near 1."""
    rows = []
    for channel, (level, _, _) in enumerate(bins):
        columns = np.zeros((len(level), 7))
        columns[:, channel] = level
        columns[:, 3 + channel] = 1
        columns[:, 6] = level * np.log(np.maximum(level, 0.5) / 255)
        rows.append(columns)
    a = np.concatenate(rows)
    _, b, weights = (np.concatenate(values) for values in zip(*bins, strict=True))
    w = weights
    prior = np.diag(1 / np.array([_GAIN] * 3 + [offset] * 3 + [_GAMMA]) ** 2)
    solution = np.zeros(7)
    for _ in range(3):
        solution = np.linalg.solve((a * w[:, None]).T @ a + prior, (a * w[:, None]).T @ b)
        # Bins that an object has changed differ from the others' curve.
        far = np.abs(b - a @ solution) * np.sqrt(weights)
        w = weights / np.maximum(1, far / 2) ** 2
    return Curves(1 + solution[:3], solution[3:6], 1 + float(solution[6]))
