"""Where two registered images show different things."""

from typing import Final

import numpy as np

from realsr_jax.wash.opencv import cv2, gradients

_REACH: Final = 3  # of the fitted kernel
_SAMPLES: Final = 12_000
_FINE: Final = 0.8
_WINDOW: Final = 2.5
_TOLERATED: Final = 0.5  # pixels of shift that explain a difference
_NOISE: Final = 3.0
_UNUSUAL: Final = 2.5  # times what is typical of the picture
_MOST_UNUSUAL: Final = 3.0
_TAIL: Final = 4.685


def predict(lr: np.ndarray, hr: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Makes of HR what LR should be: blur, brightness and a slight tone curve are fitted.

    A kernel of 7 x 7 pixels and a polynomial of the brightness are fitted by least squares with Tukey's
    weights, so that moved objects have no say; differences count less where the image changes fast.

    Args:
        lr: float32 [h, w], grey, 0..255.
        hr: likewise, moved onto LR.
        covered: float32 [h, w], 1 where both are known.

    Returns:
        float32 [h, w].
    """
    tones = (cv2.GaussianBlur(hr, (0, 0), 1.5) - 128) / 128
    rows, columns = _sample(covered)
    features = _features(hr, tones, rows, columns)
    wanted = lr[rows, columns].astype(np.float64)
    slopes = np.sqrt(_slopes(hr))[rows, columns]
    # Prefers the kernel that changes nothing, where the image does not tell.
    prior = np.zeros(features.shape[1])
    prior[(2 * _REACH + 1) ** 2 // 2] = 1
    ridge = np.full(features.shape[1], 0.1 * len(wanted))
    ridge[-3:] = 1e-6
    weights = np.ones_like(wanted)
    coefficients = prior
    for _ in range(4):
        weighted = features * weights[:, None]
        coefficients = np.linalg.solve(
            weighted.T @ features + np.diag(ridge), weighted.T @ wanted + ridge * prior
        )
        residual = wanted - features @ coefficients
        noise = max(1.4826 * float(np.median(np.abs(residual))), 1.0)
        weights = np.clip(1 - (residual / (_TAIL * np.hypot(noise, 0.3 * slopes))) ** 2, 0, None) ** 2
    kernel, curve = coefficients[:-3].reshape(2 * _REACH + 1, -1), coefficients[-3:]
    blurred = cv2.filter2D(hr, cv2.CV_32F, kernel.astype(np.float32), borderType=cv2.BORDER_REFLECT_101)
    return blurred + (curve[0] + tones * tones * (curve[1] + curve[2] * tones)).astype(np.float32)


def measure_difference(lr: np.ndarray, predicted: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Measures how much two images differ beyond noise and what a small shift explains.

    Args:
        lr: float32 [h, w], grey, 0..255.
        predicted: likewise, as `predict` returns it.
        covered: float32 [h, w], 1 where both are known.

    Returns:
        float32 [h, w], 0 where unknown: the difference over the largest that noise and a shift by half a
        pixel explain.
    """
    fine = cv2.GaussianBlur(lr - predicted, (0, 0), _FINE) * covered
    energy = cv2.GaussianBlur(fine * fine, (0, 0), _WINDOW)
    smooth = cv2.GaussianBlur(predicted, (0, 0), _FINE)
    slopes = cv2.GaussianBlur(_slopes(smooth), (0, 0), _WINDOW)
    flat = slopes <= np.percentile(slopes[::4, ::4], 30)
    noise = max(float(np.median(energy[flat])), 0.3)
    excess = np.sqrt(energy / (_NOISE**2 * noise + _TOLERATED**2 * slopes))
    typical = _typical(excess, smooth, slopes, covered)
    return excess / np.clip(_UNUSUAL * typical, 1, _MOST_UNUSUAL) * covered


def _typical(excess: np.ndarray, tones: np.ndarray, slopes: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """Returns for each pixel the median of its like, in brightness and texture, in the same picture.

    Noise that depends on the brightness and lenses that differ make all such pixels differ alike.
    """
    kinds = [
        np.searchsorted(np.quantile(image[::3, ::3], [0.25, 0.5, 0.75]), image).astype(np.uint8)
        for image in (tones, slopes)
    ]
    kind = 4 * kinds[0] + kinds[1]
    few, known = excess[::3, ::3], covered[::3, ::3] > 0
    medians = np.array(
        [np.median(few[chosen]) if (chosen := known & (kind[::3, ::3] == k)).any() else 0 for k in range(16)],
        np.float32,
    )
    return cv2.blur(medians[kind], (9, 9))


def find_differing(difference: np.ndarray) -> np.ndarray:
    """Returns where compact regions differ, uint8 [h, w], 0 or 1; see `measure_difference`."""
    differs = (difference > 1).astype(np.uint8)
    return cv2.morphologyEx(differs, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))


def differing_share(difference: np.ndarray, covered: np.ndarray) -> float:
    """Returns the share of the picture, 0 to 1, that differs in compact regions."""
    return float(find_differing(difference).sum() / max(covered.sum(), 1))


def _slopes(image: np.ndarray) -> np.ndarray:
    """Returns the squared gradient of each pixel."""
    x, y = gradients(image)
    return x * x + y * y


def _sample(covered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows and columns of scattered known pixels, away from the border."""
    inner = covered.copy()
    inner[:_REACH] = inner[-_REACH:] = 0
    inner[:, :_REACH] = inner[:, -_REACH:] = 0
    places = np.flatnonzero(inner)
    chosen = np.random.default_rng(0).choice(places, min(_SAMPLES, len(places)), replace=False)
    rows, columns = np.unravel_index(np.sort(chosen), covered.shape)
    return rows, columns


def _features(hr: np.ndarray, tones: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Returns what the samples' values are made of, [n, 49 + 3]: neighbours, and powers of the brightness."""
    offsets = range(-_REACH, _REACH + 1)
    neighbours = [hr[rows + y, columns + x] for y in offsets for x in offsets]
    tone = tones[rows, columns]
    return np.stack([*neighbours, np.ones_like(tone), tone**2, tone**3], axis=1).astype(np.float64)
