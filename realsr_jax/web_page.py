"""Web pages that are one file: pictures as data, shared look and helpers, and a document put in."""

import base64
import json
from importlib import resources
from typing import Any

import numpy as np

from realsr_jax.images import Metadata, check_writable, encode


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


def fill_page(package: str, stem: str, document: dict[str, Any]) -> str:
    """Puts style, script and data into a page.

    Args:
        package: full name of the package where the page's parts are.
        stem: their name without suffix: ``.html``, and ``.css`` and ``.js``, before which come the shared
            ``web_page.css`` and ``web_page.js``.
        document: what the script finds as JSON in the element ``data``.

    Raises:
        ValueError: if the document holds infinite numbers or NaN.
    """
    own, shared = resources.files(package), resources.files("realsr_jax")
    page = own.joinpath(f"{stem}.html").read_text(encoding="utf-8")
    style, script = (
        shared.joinpath(f"web_page.{suffix}").read_text(encoding="utf-8")
        + own.joinpath(f"{stem}.{suffix}").read_text(encoding="utf-8")
        for suffix in ("css", "js")
    )
    # A "<" could end the script element that the data stand in; within JSON it stands in strings only.
    data = json.dumps(document, allow_nan=False).replace("<", "\\u003c")
    # The data last, as they may hold anything.
    for place, content in (("/* style */", style), ("/* script */", script), ("/* data */", data)):
        assert page.count(place) == 1
        page = page.replace(place, content)
    return page
