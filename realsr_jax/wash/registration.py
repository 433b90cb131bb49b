"""Where the content of one image lies in another: one similarity for all, and local shifts beside it."""

import itertools
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from realsr_jax.wash.opencv import cv2, gradients

CELL: Final = 8
"""Side of the cells, in pixels, of which local measurements are made."""

_WINDOW: Final = 1.5  # standard deviation, in cells, of a local measurement's window
_COARSEST: Final = 160  # the search starts where the longer side is about so many pixels
_STEPS: Final = 3
_NEAR: Final = 2  # pixels of the coarsest level
_SMOOTHING: Final = 1.0
_SURROUND: Final = 6.0
_FLATTEST: Final = 3.0  # grey levels of contrast below which texture is taken for noise
_SURE: Final = 0.12  # pixels of uncertainty up to which a local shift may vote
_TAIL: Final = 4.685  # Tukey's constant
_LEAST_NOISE: Final = 1e-3  # of texture of unit contrast


class Similarity(NamedTuple):
    """A map from LR positions to HR's, both in LR pixels counted from the picture's centre.

    A position p belongs to ``p + shift + (zoom + rotation * i) * p``, read as complex numbers.

    Attributes:
        x: shift to the right.
        y: shift downwards.
        rotation: radians, from x to y.
        zoom: enlargement less 1.
    """

    x: float = 0.0
    y: float = 0.0
    rotation: float = 0.0
    zoom: float = 0.0

    def at(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the displacement at positions counted from the centre."""
        return (
            self.x + self.zoom * x - self.rotation * y,
            self.y + self.rotation * x + self.zoom * y,
        )

    def resized(self, new: int, old: int) -> "Similarity":
        """Returns the same map for images of ``new / old`` times the size."""
        return self._replace(x=self.x * new / old, y=self.y * new / old)

    def matrix(self, size: tuple[int, int]) -> np.ndarray:
        """Returns the 2 x 3 matrix on pixel coordinates of images of `size` (width, height)."""
        linear = np.array([[1 + self.zoom, -self.rotation], [self.rotation, 1 + self.zoom]])
        centre = np.array([(size[0] - 1) / 2, (size[1] - 1) / 2])
        return np.column_stack([linear, centre - linear @ centre + (self.x, self.y)])

    def largest(self, size: tuple[int, int]) -> float:
        """Returns the largest displacement in an image of `size`, which is at a corner, in pixels."""
        x, y = np.array([-1, 1, -1, 1]) * size[0] / 2, np.array([-1, -1, 1, 1]) * size[1] / 2
        return float(np.hypot(*self.at(x, y)).max())


@dataclass(frozen=True)
class Registration:
    """How two images of equal size fit.

    Attributes:
        similarity: the map that most local shifts agree on.
        uncertainty: standard deviation of its shift, in pixels; infinite if nothing could be measured.
        correlation: of the images' texture after the map is applied, -1 to 1.
        positions: float32 [n, 2], x and y in pixels of those cells' centres that have texture enough.
        shifts: float32 [n, 2], x and y by which these cells move beyond the map, in pixels.
        sigma: float32 [n], standard deviations of these shifts.
        confidence: float32 [n], 0 to 1.
        cells: how many cells there are, with and without texture.
    """

    similarity: Similarity
    uncertainty: float
    correlation: float
    positions: np.ndarray
    shifts: np.ndarray
    sigma: np.ndarray
    confidence: np.ndarray
    cells: int


@dataclass(frozen=True)
class _Cells:
    """Local measurements, float32 [rows, columns] each: shift, its uncertainty, correlation."""

    x: np.ndarray
    y: np.ndarray
    sigma: np.ndarray
    correlation: np.ndarray


def register(lr: np.ndarray, hr: np.ndarray) -> Registration:
    """Finds the similarity that maps LR onto HR, and what moves locally beyond it.

    Both are reduced to texture of equal contrast, so brightness and moderate differences of blur and noise do
    not matter. The search starts from the peak of the cross-correlation at low resolution; at each
    finer one, shifts of all cells are measured at once by least squares on gradients and the similarity
    is fitted to them with Tukey's weights, so that a moving object does not pull it away.

    Args:
        lr: float32 [h, w], grey, 0..255.
        hr: likewise, of the same size.

    Source: B. Lucas and T. Kanade, "An iterative image registration technique", 1981; J. Tukey's biweight.
    """
    levels = _pyramid(lr, hr)
    factor, *coarsest = levels[0]
    x, y = _search(*coarsest)
    found = _descend(levels, Similarity(x * factor, y * factor))
    if np.hypot(x, y) > _NEAR:
        # An object that moved far can have the higher peak; pairs of a camera are nearly aligned.
        other = _descend(levels, Similarity())
        found = max(found, other, key=lambda registration: registration.correlation)
    return found


def refine(lr: np.ndarray, hr: np.ndarray, start: Similarity) -> Registration:
    """Measures again from a similarity that is nearly right, such as after the blurs were made equal.

    Args:
        lr: float32 [h, w], grey, 0..255.
        hr: likewise, of the same size.
        start: from `register`.
    """
    return _descend([(1, _texture(lr), _texture(hr))], start)


def _descend(levels: list[tuple[int, np.ndarray, np.ndarray]], similarity: Similarity) -> Registration:
    """Improves a similarity from level to level; each has a factor and the textures of LR and HR."""
    uncertainty = np.inf
    for factor, lr, hr in levels:
        for _ in range(_STEPS):
            scaled = similarity.resized(1, factor)
            moved, covered = warp(hr, scaled)
            cells = _measure_cells(lr, moved, covered)
            similarity, uncertainty = _refine(scaled, cells, lr.shape, factor)
    return _summarise(similarity, uncertainty, *levels[-1][1:])


def warp(image: np.ndarray, similarity: Similarity, *, smooth: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Moves HR to where LR has it.

    Args:
        image: float32 [h, w] or [h, w, c].
        similarity: maps LR to HR.
        smooth: whether the image has no detail near the Nyquist limit, so that a short kernel will do.

    Returns:
        The moved image, and float32 [h, w] of 1 where it is known and 0 elsewhere.
    """
    height, width = image.shape[:2]
    matrix, size = similarity.matrix((width, height)), (width, height)
    kernel = cv2.INTER_CUBIC if smooth else cv2.INTER_LANCZOS4
    moved = cv2.warpAffine(
        image, matrix, size, flags=kernel | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT_101
    )
    inner = np.zeros((height, width), np.float32)
    inner[2:-2, 2:-2] = 1
    covered = cv2.warpAffine(inner, matrix, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return moved, covered * inner


def _pyramid(lr: np.ndarray, hr: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Returns factor and the textures of LR and HR at each resolution, the coarsest first."""
    factors = [1]
    while max(lr.shape) / (factors[0] * 3) > _COARSEST and min(lr.shape) / (factors[0] * 3) > 6 * CELL:
        factors.insert(0, factors[0] * 3)
    return [(factor, _texture(_reduce(lr, factor)), _texture(_reduce(hr, factor))) for factor in factors]


def _reduce(image: np.ndarray, factor: int) -> np.ndarray:
    """Reduces an image by a whole factor about its centre."""
    height, width = (side // factor for side in image.shape)
    top, left = (image.shape[0] - height * factor) // 2, (image.shape[1] - width * factor) // 2
    part = image[top : top + height * factor, left : left + width * factor]
    return cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)


def _texture(image: np.ndarray) -> np.ndarray:
    """Reduces an image to structure of some pixels, of about equal contrast everywhere."""
    smooth = cv2.GaussianBlur(image, (0, 0), _SMOOTHING)
    detail = smooth - cv2.GaussianBlur(smooth, (0, 0), _SURROUND)
    energy = cv2.GaussianBlur(detail * detail, (0, 0), 2 * _SURROUND)
    return detail / np.sqrt(energy + _FLATTEST**2)


def _search(lr: np.ndarray, hr: np.ndarray) -> tuple[float, float]:
    """Returns the shift from LR to HR at the peak of the cross-correlation, in whole pixels."""
    height, width = lr.shape
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    shape = (cv2.getOptimalDFTSize(height * 3 // 2), cv2.getOptimalDFTSize(width * 3 // 2))
    lr_waves, hr_waves = (np.fft.rfft2(image * window, shape) for image in (lr, hr))
    products = np.fft.irfft2(np.conj(lr_waves) * hr_waves, shape)
    far_y, far_x = height // 4, width // 4
    near = np.roll(products, (far_y, far_x), (0, 1))[: 2 * far_y + 1, : 2 * far_x + 1]
    y, x = np.unravel_index(int(near.argmax()), near.shape)
    return float(x - far_x), float(y - far_y)


def _measure_cells(lr: np.ndarray, hr: np.ndarray, covered: np.ndarray) -> _Cells:
    """Measures what shift remains in each cell, and how surely."""
    parts = (*gradients((lr + hr) / 2), lr - hr)
    products = [a * b for a, b in itertools.combinations_with_replacement(parts, 2)]
    xx, xy, xd, yy, yd, dd, ll, hh, area = _window_means([*products, lr * lr, hr * hr], covered)
    determinant = np.maximum(xx * yy - xy * xy, 1e-12)
    x, y = (yy * xd - xy * yd) / determinant, (xx * yd - xy * xd) / determinant
    weakest = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    noise = np.maximum(dd - x * xd - y * yd, _LEAST_NOISE)
    independent = 4 * np.pi * (_WINDOW * CELL) ** 2 * area / (4 * np.pi * _SMOOTHING**2)
    sigma = np.sqrt(noise / np.maximum(weakest * independent, 1e-12))
    correlation = (ll + hh - dd) / (2 * np.sqrt(ll * hh) + 1e-12)
    return _Cells(x, y, np.where(area > 0.5, sigma, np.inf), correlation)


def _window_means(products: list[np.ndarray], covered: np.ndarray) -> list[np.ndarray]:
    """Averages images over a Gaussian window around each cell, as far as known; and the known share."""
    rows, columns = covered.shape[0] // CELL, covered.shape[1] // CELL

    def means(image: np.ndarray) -> np.ndarray:
        inner = image[: rows * CELL, : columns * CELL]
        cells = cv2.resize(inner, (columns, rows), interpolation=cv2.INTER_AREA)
        return cv2.GaussianBlur(cells, (0, 0), _WINDOW, borderType=cv2.BORDER_CONSTANT)

    area = means(covered)
    return [*(means(product * covered) / np.maximum(area, 1e-6) for product in products), area]


def _centres(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns x and y of the cells' centres in pixels, [rows, columns] each."""
    x, y = (np.arange(count) * CELL + (CELL - 1) / 2 for count in (columns, rows))
    return np.meshgrid(x, y)


def _refine(
    similarity: Similarity, cells: _Cells, shape: tuple[int, int], factor: int
) -> tuple[Similarity, float]:
    """Adds to a similarity what the cells measured; returns it at full size, and its uncertainty."""
    votes = (cells.sigma < _SURE) & (cells.correlation > 0.3) & (np.hypot(cells.x, cells.y) < 4)
    if votes.sum() < 3:
        return similarity.resized(factor, 1), np.inf
    x, y = _centres(*cells.x.shape)
    x, y = (x - (shape[1] - 1) / 2)[votes], (y - (shape[0] - 1) / 2)[votes]
    shift = np.concatenate([cells.x[votes], cells.y[votes]])
    one, zero = np.ones_like(x), np.zeros_like(x)
    columns = np.concatenate([np.stack([one, zero, -y, x], axis=1), np.stack([zero, one, x, y], axis=1)])
    sigma = np.hypot(cells.sigma[votes], 0.03)
    solution, uncertainty = _fit(columns, shift, sigma)
    refined = Similarity(*map(float, np.add(similarity, solution)))
    return refined.resized(factor, 1), uncertainty * factor


def _fit(columns: np.ndarray, shift: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, float]:
    """Fits shifts with Tukey's weights: the solution and the uncertainty of its first two values."""
    count = len(sigma)
    # Rotation and zoom are held near zero where few cells cannot tell them from shifts.
    ridge = np.diag([0.0, 0.0, 1.0, 1.0]) * (1 / 0.02) ** 2
    median = np.median(shift.reshape(2, count), axis=1)
    residual = shift - np.repeat(median, count)
    solution, normal = np.zeros(4), ridge
    for _ in range(6):
        length = np.hypot(residual[:count], residual[count:])
        spread = max(1.4826 * float(np.median(length)) / 1.18, 0.05)
        inlier = np.clip(1 - (length / (_TAIL * spread)) ** 2, 0, None) ** 2
        weights = np.tile(inlier / sigma**2, 2)
        normal = (columns * weights[:, None]).T @ columns + ridge
        solution = np.linalg.solve(normal + 1e-9 * np.eye(4), (columns * weights[:, None]).T @ shift)
        residual = shift - columns @ solution
    covariance = np.linalg.inv(normal + 1e-9 * np.eye(4))
    # Windows overlap, so that neighbours are not independent.
    overlap = 4 * np.pi * _WINDOW**2
    return solution, float(np.sqrt(overlap * max(covariance[0, 0], covariance[1, 1])))


def _summarise(similarity: Similarity, uncertainty: float, lr: np.ndarray, hr: np.ndarray) -> Registration:
    """Measures what the similarity leaves."""
    moved, covered = warp(hr, similarity)
    cells = _measure_cells(lr, moved, covered)
    both = float((lr * moved * covered).sum())
    energies = float((lr * lr * covered).sum()) * float((moved * moved * covered).sum())
    sure = (cells.sigma < _SURE) & (cells.correlation > 0.3)
    x, y = _centres(*cells.x.shape)
    confidence = np.clip(cells.correlation, 0, 1) / (1 + (cells.sigma / (_SURE / 2)) ** 2)
    return Registration(
        similarity=similarity,
        uncertainty=uncertainty,
        correlation=both / (energies**0.5 + 1e-12),
        positions=np.stack([x[sure], y[sure]], axis=1).astype(np.float32),
        shifts=np.stack([cells.x[sure], cells.y[sure]], axis=1).astype(np.float32),
        sigma=cells.sigma[sure].astype(np.float32),
        confidence=confidence[sure].astype(np.float32),
        cells=sure.size,
    )
