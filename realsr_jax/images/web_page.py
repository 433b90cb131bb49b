"""Web pages that are one file: pictures as data, shared look and helpers, and a document put in."""

import base64
import html
import json
from importlib import resources
from typing import Any

import numpy as np

from realsr_jax.images.encoding import encode
from realsr_jax.images.metadata import Metadata
from realsr_jax.images.photo import check_writable


def data_uri(image: np.ndarray, *, format: str, quality: int) -> str:
    """Encodes a picture for use in a page.

    Args:
        image: uint8 [h, w, 3].
        format: PNG, WEBP or JPEG.
        quality: 1 to 100, without meaning for PNG.

    Raises:
        ImageError: if the format cannot hold it.
    """
    check_writable(format, width=image.shape[1], height=image.shape[0], has_alpha=False)
    data = encode(np.ascontiguousarray(image), Metadata(), format=format, quality=quality)
    return f"data:image/{format.lower()};base64,{base64.b64encode(data).decode()}"


def fill_page(package: str, stem: str, title: str, document: dict[str, Any]) -> str:
    """Puts what a page shows into the frame, look and helpers that all share.

    Args:
        package: full name of the package where the page's own parts are.
        stem: their name without suffix: ``.html``, ``.css`` and ``.js``.
        title: the page's, as text.
        document: what the script finds as JSON in the element ``data``.

    Raises:
        ValueError: if the document holds infinite numbers or NaN.
    """

    def read(package: str, name: str) -> str:
        return resources.files(package).joinpath(name).read_text(encoding="utf-8")

    shared = "realsr_jax.images"
    page = read(shared, "web_page.html")
    for place, content in {
        "<!-- title -->": html.escape(title),
        "<!-- body -->": read(package, f"{stem}.html"),
        "/* style */": read(shared, "web_page.css") + read(package, f"{stem}.css"),
        "/* script */": read(shared, "web_page.js") + read(package, f"{stem}.js"),
        # Last, as data may hold anything. A "<" could end their element; in JSON it stands in strings only.
        "/* data */": json.dumps(document, allow_nan=False).replace("<", "\\u003c"),
    }.items():
        assert page.count(place) == 1
        page = page.replace(place, content)
    return page
