"""Pictures with a text under them."""

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_LINE = 14  # pixels
_EDGE = 4


def with_caption(image: np.ndarray, text: str) -> np.ndarray:
    """Writes a text under a picture, in as many lines as it takes, black on white.

    Args:
        image: uint8 [h, w, 3].
        text: what to write; characters outside Latin-1 appear as question marks.

    Returns:
        uint8 [H, w, 3] whose first h rows are the picture.
    """
    font = ImageFont.load_default_imagefont()
    readable = text.encode("latin-1", "replace").decode("latin-1")
    width = image.shape[1]
    lines = textwrap.wrap(readable, max(int((width - 2 * _EDGE) / font.getlength("0")), 1))
    strip = Image.new("RGB", (width, _LINE * len(lines) + 2 * _EDGE), "white")
    draw = ImageDraw.Draw(strip)
    for number, line in enumerate(lines):
        draw.text((_EDGE, _EDGE + _LINE * number), line, fill="black", font=font)
    return np.concatenate([image, np.asarray(strip)])
