"""What networks make of photos that have no true image, side by side on a page."""

import dataclasses
import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from realsr_jax.evaluate.report_page import encode_pictures, worst_region, write_comparison
from realsr_jax.images import Photo
from realsr_jax.upscaling.assembly import OnProgress
from realsr_jax.upscaling.inference_config import InferenceConfig
from realsr_jax.upscaling.output_size import OutputSize
from realsr_jax.upscaling.photo_upscaling import interpolator, load_inference, upscale_photo
from realsr_jax.upscaling.upscaler import ImageUpscaler

MOST_SHOWN: Final = 200
"""Photos on a page, which holds their pictures: beyond that, browsers and memory suffer."""

_MOST_SIDE: Final = 1024
_BORDER: Final = 8
"""At the border, networks and interpolation see nothing beyond it, each in its way."""

_STRIDE: Final = 4
"""Differences of large pictures are looked for in every fourth row and column."""


class Comparison:
    """Collects results, bicubic interpolation and, of several networks, what each makes; threads may add."""

    def __init__(self, config: InferenceConfig, size: OutputSize, *, tile_batch: int | None = None):
        """Makes a comparison of an inference run's results, which are of a size."""
        self._config = config
        self._size = size
        self._tile_batch = tile_batch
        self._images: dict[str, dict[str, Any]] = {}
        self._n_added = 0
        self._lock = threading.Lock()
        names = [run.weights for run in config.runs]
        self._labels = {"bicubic": "Bicubic"}
        if len(names) > 1:
            self._labels |= {f"network{index}": name for index, name in enumerate(names)}
        options = [f"{name} {getattr(config, name):g}" for name in ("strength", "denoise")]
        changed = [text for text in options if not text.endswith(" 1")]
        self._labels["sr"] = ", ".join([names[0] if len(names) == 1 else "Mean of all", *changed])

    def add(self, name: str, photo: Photo, result: Photo, progress: OnProgress) -> None:
        """Adds a photo and its result, unless there are as many as a page shows.

        Args:
            name: of the photo.
            photo: the photo.
            result: what was made of it.
            progress: called with the fraction of each picture that is done.

        Raises:
            ImageError: if the pictures cannot be encoded.
        """
        with self._lock:
            self._n_added += 1
            if self._n_added > MOST_SHOWN:
                return
        others: dict[str, ImageUpscaler] = {"bicubic": interpolator(self._config.runs[0].scale)}
        if len(self._config.runs) > 1:
            with self._lock:
                others |= self._networks
        pictures = {
            kind: upscale_photo(
                photo, upscaler, format=result.format, size=self._size, progress=progress
            ).rgb_8_bit()
            for kind, upscaler in others.items()
        } | {"sr": result.rgb_8_bit()}
        border = min(_BORDER, min(result.rgb.shape[:2]) // 4)
        encoded = encode_pictures(_shown_part(pictures), border=border, reference="bicubic")
        with self._lock:
            self._images[name] = encoded

    @functools.cached_property
    def _networks(self) -> dict[str, ImageUpscaler]:
        """The networks of an ensemble, each alone."""
        return {
            f"network{index}": load_inference(
                dataclasses.replace(self._config, runs=(run,), strength=1.0), tile_batch=self._tile_batch
            )
            for index, run in enumerate(self._config.runs)
        }

    @property
    def n_left_out(self) -> int:
        """How many results the page does not show."""
        return max(self._n_added - MOST_SHOWN, 0)

    def write(self, folder: Path) -> Path | None:
        """Writes the page; returns its path, or None where there is nothing to show.

        Raises:
            OSError: if it cannot be written.
        """
        if not self._images:
            return None
        subject = ", ".join(self._labels.values())
        images = sorted(self._images.items())
        return write_comparison(folder, subject, self._labels, images)


def _shown_part(pictures: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Cuts pictures to the part in which result and interpolation differ most, if they are large."""
    sr = pictures["sr"]
    if max(sr.shape[:2]) <= _MOST_SIDE:
        return dict(pictures)
    every = slice(None, None, _STRIDE)
    coarse = (pictures[kind][every, every] for kind in ("sr", "bicubic"))
    top, left, size = (_STRIDE * each for each in worst_region(*coarse, size=_MOST_SIDE // _STRIDE))
    return {kind: picture[top : top + size, left : left + size] for kind, picture in pictures.items()}
