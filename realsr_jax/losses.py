"""Training losses: means over images [n, h, w, c] or [h, w, c] with values 0..255.

The functions compute them; a class for each, with its parameters as fields, names it in a configuration.
"""

import dataclasses
from collections.abc import Callable
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

WINDOW_SIZE = 11
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
# Halving rounds up, so one pixel more than `WINDOW_SIZE - 1` doubled is enough.
MS_SSIM_SMALLEST = (WINDOW_SIZE - 1) * 2 ** (len(MS_SSIM_WEIGHTS) - 1) + 1

Array = TypeVar("Array", jax.Array, np.ndarray)


def l1(sr: ArrayLike, hr: ArrayLike) -> jax.Array:
    """Returns the mean absolute error.

    Args:
        sr: Restored images [n, h, w, c] or [h, w, c], any real dtype, 0..255.
        hr: True images of the same shape.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If the shapes differ or are not those of images.
    """
    sr, hr = _image_batches(sr, hr)
    return _absolute(sr - hr).mean()


def mse(sr: ArrayLike, hr: ArrayLike) -> jax.Array:
    """Returns the mean squared error.

    Args:
        sr: Restored images [n, h, w, c] or [h, w, c], any real dtype, 0..255.
        hr: True images of the same shape.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If the shapes differ or are not those of images.
    """
    sr, hr = _image_batches(sr, hr)
    return jnp.square(sr - hr).mean()


def clip_l1(sr: ArrayLike, hr: ArrayLike, *, clip_min: float = 1.0, clip_max: float = 10.0) -> jax.Array:
    """Returns the mean of the absolute errors, each clipped to `clip_min..clip_max`.

    Errors outside have no gradient: small ones are good enough, large ones are taken for misaligned pairs.

    Args:
        sr: Restored images [n, h, w, c] or [h, w, c], any real dtype, 0..255.
        hr: True images of the same shape.
        clip_min: Smallest error that counts, in grey levels.
        clip_max: Largest error that counts, in grey levels.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If the shapes differ or are not those of images, or the limits are not in order.

    Source:
        AIM 2020 Real Image Super-Resolution challenge, team AiAiR, "Clip L1 loss".
    """
    if clip_min > clip_max:
        raise ValueError(f"clip_min must not exceed clip_max: expected at most {clip_max}, got {clip_min}")
    sr, hr = _image_batches(sr, hr)
    return jnp.clip(_absolute(sr - hr), clip_min, clip_max).mean()


def charbonnier(sr: ArrayLike, hr: ArrayLike, *, eps: float = 0.255) -> jax.Array:
    """Returns the mean of ``sqrt(error**2 + eps**2)``: the absolute error, but smooth around 0.

    Args:
        sr: Restored images [n, h, w, c] or [h, w, c], any real dtype, 0..255.
        hr: True images of the same shape.
        eps: The error below which it is nearly flat, in grey levels; more than 0.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If the shapes differ or are not those of images, or `eps` is not more than 0.

    Source:
        Lai et al., "Fast and Accurate Image Super-Resolution with Deep Laplacian Pyramid Networks", 2018,
        equation 6; its eps is 0.001 for values 0..1.
    """
    if eps <= 0:
        raise ValueError(f"eps is {eps}, expected more than 0")
    sr, hr = _image_batches(sr, hr)
    return jnp.sqrt(jnp.square(sr - hr) + eps**2).mean()


def ssim_loss(sr: ArrayLike, hr: ArrayLike) -> jax.Array:
    """Returns `1 - ssim`, the mean over images, channels and all windows inside the image.

    Args:
        sr: Restored images [n, h, w, c] or [h, w, c], any real dtype, 0..255, at least 11x11.
        hr: True images of the same shape.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If the shapes differ, are not those of images, or are smaller than the window.

    Source:
        Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004,
        equation 13, with the Gaussian window of section III-C.
    """
    sr, hr = _image_batches(sr, hr, smallest=WINDOW_SIZE)
    similarity, _ = structural_similarity(sr, hr, _blur)
    return 1 - similarity.mean()


def ms_ssim_loss(sr: ArrayLike, hr: ArrayLike) -> jax.Array:
    """Returns `1 - ms_ssim`, where five scales are multiplied and then averaged over images and channels.

    Args:
        sr: Restored images [n, h, w, c] or [h, w, c], any real dtype, 0..255, at least 161x161.
        hr: True images of the same shape.

    Returns:
        A float32 scalar.

    Raises:
        ValueError: If the shapes differ, are not those of images, or are smaller than the window at the
            coarsest scale.

    Source:
        Wang et al., "Multi-scale Structural Similarity for Image Quality Assessment", 2003, equation 7.
    """
    sr, hr = _image_batches(sr, hr, smallest=MS_SSIM_SMALLEST)
    product = jnp.ones(())
    for level, weight in enumerate(MS_SSIM_WEIGHTS):
        if level > 0:
            sr, hr = _halve(sr), _halve(hr)
        similarity, contrast = structural_similarity(sr, hr, _blur)
        is_last = level == len(MS_SSIM_WEIGHTS) - 1
        term = (similarity if is_last else contrast).mean((1, 2))
        product *= _clipped_power(term, weight)
    return 1 - product.mean()


class Loss:
    """Base of the losses that a configuration can name.

    Attributes:
        function: computes it of both images and the fields of the class.
        smallest_patch: side of the smallest HR patch, in pixels, that the loss takes.
    """

    function: ClassVar[Callable[..., jax.Array]]
    smallest_patch: ClassVar[int] = 1

    def __call__(self, sr: jax.Array, hr: jax.Array) -> jax.Array:
        """Returns a float32 scalar for images [n, h, w, c] or [h, w, c] of 0..255."""
        return self.function(sr, hr, **vars(self))


@dataclasses.dataclass
class L1(Loss):
    """Mean absolute error."""

    function = staticmethod(l1)


@dataclasses.dataclass
class MSE(Loss):
    """Mean squared error."""

    function = staticmethod(mse)


@dataclasses.dataclass
class ClipL1(Loss):
    """Absolute error clipped to a range, the published way to live with misaligned pairs.

    Attributes:
        clip_min: smallest error that counts, in grey levels.
        clip_max: largest error that counts, in grey levels.
    """

    clip_min: float = 0.0
    clip_max: float = 10.0
    function = staticmethod(clip_l1)


@dataclasses.dataclass
class Charbonnier(Loss):
    """Absolute error that is smooth around 0.

    Attributes:
        eps: the error below which it is nearly flat, in grey levels.
    """

    eps: float = 0.255
    function = staticmethod(charbonnier)


@dataclasses.dataclass
class SSIM(Loss):
    """One minus the structural similarity."""

    smallest_patch: ClassVar[int] = WINDOW_SIZE
    function = staticmethod(ssim_loss)


@dataclasses.dataclass
class MSSSIM(Loss):
    """One minus the multi-scale structural similarity."""

    smallest_patch: ClassVar[int] = MS_SSIM_SMALLEST
    function = staticmethod(ms_ssim_loss)


@dataclasses.dataclass
class Weighted:
    """One term of the training loss.

    Attributes:
        loss: which.
        weight: its factor.
    """

    loss: Loss
    weight: float = 1.0


def structural_similarity(sr: Array, hr: Array, blur: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Returns the SSIM map and its contrast-structure factor, for values 0..255.

    Args:
        sr: Restored images, JAX or NumPy, any shape that `blur` takes.
        hr: True images of the same shape and kind.
        blur: Weighted local mean, see `gaussian_window`.

    Returns:
        Two arrays of the blurred images' shape, at most 1; the first is the second times the luminance
        factor.

    Source:
        Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004,
        equation 13 with K = (0.01, 0.03).
    """
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_sr, mean_hr = blur(sr), blur(hr)
    mean_product, mean_squares = mean_sr * mean_hr, mean_sr**2 + mean_hr**2
    covariance = blur(sr * hr) - mean_product
    variances = blur(sr**2 + hr**2) - mean_squares
    contrast = (2 * covariance + c2) / (variances + c2)
    return (2 * mean_product + c1) / (mean_squares + c1) * contrast, contrast


def gaussian_window() -> np.ndarray:
    """Returns the one-dimensional SSIM window: float64 [11], standard deviation 1.5, sum 1."""
    offsets = np.arange(WINDOW_SIZE) - WINDOW_SIZE // 2
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    return window / window.sum()


def check_images(sr_shape: tuple[int, ...], hr_shape: tuple[int, ...], *, smallest: int = 1) -> None:
    """Checks two image shapes.

    Args:
        sr_shape: Shape of the restored images.
        hr_shape: Shape of the true images.
        smallest: Smallest height and width that is accepted.

    Raises:
        ValueError: If the shapes differ, are not [n, h, w, c] or [h, w, c], or are too small.
    """
    if sr_shape != hr_shape:
        raise ValueError(f"sr and hr must have the same shape: expected {hr_shape}, got {sr_shape}")
    if len(sr_shape) not in (3, 4):
        raise ValueError(f"images must be [n, h, w, c] or [h, w, c]: expected 3 or 4 axes, got {sr_shape}")
    if 0 in sr_shape:
        raise ValueError(f"images must not be empty: expected positive sizes, got {sr_shape}")
    height, width = sr_shape[-3:-1]
    if min(height, width) < smallest:
        raise ValueError(
            f"images are too small: expected at least {smallest}x{smallest}, got {height}x{width}"
        )


def _image_batches(sr: ArrayLike, hr: ArrayLike, *, smallest: int = 1) -> tuple[jax.Array, jax.Array]:
    """Returns both as float32 [n, h, w, c]."""
    check_images(np.shape(sr), np.shape(hr), smallest=smallest)
    sr, hr = jnp.asarray(sr, jnp.float32), jnp.asarray(hr, jnp.float32)
    return sr.reshape(-1, *sr.shape[-3:]), hr.reshape(-1, *hr.shape[-3:])


def _absolute(x: jax.Array) -> jax.Array:
    """Returns `|x|` with the gradient 0 at 0, as in PyTorch; that of `jnp.abs` is 1 there."""
    return x * jnp.sign(x)


def _blur(x: jax.Array) -> jax.Array:
    """Returns the windowed means of [n, h, w, c] where the window lies inside: [n, h - 10, w - 10, c]."""
    window = jnp.asarray(gaussian_window(), x.dtype)
    planes = jnp.moveaxis(x, -1, 1)
    n, c, height, width = planes.shape
    planes = planes.reshape(n * c, 1, height, width)
    for shape in ((1, 1, WINDOW_SIZE, 1), (1, 1, 1, WINDOW_SIZE)):
        # Variances are small differences of large squares: the reduced precision of GPUs would lose them.
        planes = lax.conv_general_dilated(
            planes, window.reshape(shape), (1, 1), "VALID", precision=lax.Precision.HIGHEST
        )
    return jnp.moveaxis(planes.reshape(n, c, *planes.shape[2:]), 1, -1)


def _halve(x: jax.Array) -> jax.Array:
    """Returns the means of 2x2 pixels; the first row or column of an odd size is paired with zeros."""
    # Published: a zero on both sides of an odd size. The last one has no partner and drops out.
    x = jnp.pad(x, ((0, 0), (x.shape[1] % 2, 0), (x.shape[2] % 2, 0), (0, 0)))
    n, height, width, c = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, c).mean((2, 4))


def _clipped_power(x: jax.Array, exponent: float) -> jax.Array:
    """Returns `max(x, 0) ** exponent`, with the gradient zero instead of NaN for `x <= 0`."""
    is_positive = x > 0
    return jnp.where(is_positive, jnp.where(is_positive, x, 1.0) ** exponent, 0.0)
