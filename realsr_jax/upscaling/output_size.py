"""How large results shall be: by a factor, to a width, into a box, or to a number of pixels."""

import dataclasses
import math
import re

from realsr_jax.system.errors import require

_MOST_SCALE = 64


@dataclasses.dataclass(frozen=True)
class OutputSize:
    """The size of results; by default the network's factor. At most one of the fields is set.

    Attributes:
        scale: factor of both sides, above 0.
        size: width and height that the result just fits into, in pixels.
        width: of the result in pixels.
        megapixels: of the result, in millions of pixels.
    """

    scale: float | None = None
    size: tuple[int, int] | None = None
    width: int | None = None
    megapixels: float | None = None

    def __post_init__(self):
        given = [name for name, value in dataclasses.asdict(self).items() if value is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: give one of them")
        fits = self.scale is None or 0 < self.scale <= _MOST_SCALE
        require(fits, self, "scale", f"a number above 0, at most {_MOST_SCALE}")
        require(self.size is None or min(self.size) >= 1, self, "size", "at least 1x1")
        require(self.width is None or self.width >= 1, self, "width", "at least 1")
        fits = self.megapixels is None or 0 < self.megapixels < math.inf
        require(fits, self, "megapixels", "a number above 0")

    def of(self, height: int, width: int, factor: int) -> tuple[int, int]:
        """Returns height and width of the result.

        Args:
            height: of the photo.
            width: of the photo.
            factor: the network's, for results whose size nobody asked for.
        """
        if self.size is not None:
            scale = min(self.size[0] / width, self.size[1] / height)
        elif self.width is not None:
            scale = self.width / width
        elif self.megapixels is not None:
            scale = math.sqrt(self.megapixels * 1e6 / (height * width))
        else:
            scale = factor if self.scale is None else self.scale
        # Half up, as people round; the longer side of a box is met exactly.
        return max(math.floor(height * scale + 0.5), 1), max(math.floor(width * scale + 0.5), 1)

    def label(self, factor: int) -> str:
        """Returns what names of results say of their size, such as "x2", "x1.5", "3840x2160" or "12MP"."""
        if self.size is not None:
            return f"{self.size[0]}x{self.size[1]}"
        if self.width is not None:
            return f"{self.width}w"
        if self.megapixels is not None:
            return f"{self.megapixels:g}MP"
        return f"x{factor if self.scale is None else self.scale:g}"


def parse_size(text: str) -> tuple[int, int]:
    """Reads width and height, such as "3840x2160".

    Raises:
        ValueError: if the text is not of this form.
    """
    match = re.fullmatch(r"\s*(\d{1,6})\s*[xX*]\s*(\d{1,6})\s*", text)
    if match is None:
        raise ValueError(f"{text!r} is no size, expected WIDTHxHEIGHT such as 3840x2160")
    return int(match[1]), int(match[2])


def count_passes(size: tuple[int, int], target: tuple[int, int], factor: int) -> int:
    """Returns how often a network enlarges an image for it to be at least as large as the target.

    Once where the target is as large as the image, which the network can still restore; never where it is
    smaller.

    Args:
        size: height and width of the image.
        target: height and width of the result.
        factor: of the network.
    """
    if factor == 1:  # a network that restores without enlarging
        return 1
    passes = 0 if any(want < have for have, want in zip(size, target, strict=True)) else 1
    while min(have * factor**passes / want for have, want in zip(size, target, strict=True)) < 1:
        passes += 1
    return passes


def count_between(
    size: tuple[int, int], target: tuple[int, int], factor: int, *, n_channels: int, itemsize: int
) -> int:
    """Returns the bytes that are held between an image and its result, which differ by more than one pass.

    Args:
        size: height and width of the image.
        target: height and width of the result.
        factor: of the network.
        n_channels: of both.
        itemsize: bytes of a sample of the image.
    """
    n_passes = count_passes(size, target, factor)
    last = math.prod(size) * factor ** (2 * n_passes)
    pixel = n_channels * max(itemsize, 2)
    before = last // factor**2 * pixel if n_passes > 1 else 0
    # What is larger than the result is reduced one channel after the other, in two copies of float32.
    return before if last == math.prod(target) else before + last * (pixel + 8)
