"""The canvas: what tiles contribute to an image is added, rounded and handed to the host, on the device.

The canvas holds the rows that tiles in work contribute to, not the image: rows that are complete leave it in
bands, by copies that the host does not wait for, as integers where a file wants integers.
"""

import collections
import functools
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from realsr_jax.upscaling.feeders import Device

_LEAST_WIDTH: Final = 512


class Canvas:
    """The rows of an image that are not complete yet, on one device.

    Contributions come in the order of their first row. Each network of an ensemble has its plane; planes are
    averaged when rows leave.
    """

    def __init__(
        self,
        result: np.ndarray,
        *,
        tile_height: int,
        width: int,
        shares: np.ndarray,
        round_each: bool,
        device: Device,
    ):
        """Makes an empty canvas.

        Args:
            result: uint8, uint16 or float32 [h, w, c] on the host, which is filled; integers are rounded to
                their whole range, which stands for 0..255, and of one channel where contributions have three
                they are these channels' mean.
            tile_height: the most rows of a contribution.
            width: columns of the image and its contributions, at least those of the result.
            shares: float32, how much each plane counts; they sum to their number.
            round_each: round each plane to 8 bits before they are averaged.
            device: where it is.
        """
        self.device = device
        self._result = result
        self._size = tile_height, max(_LEAST_WIDTH, 1 << (width - 1).bit_length())
        self._shares = shares
        self._finish = functools.partial(
            _finish, dtype=result.dtype, channels=result.shape[2], round_each=round_each
        )
        self._rows: jax.Array | None = None
        self._top = 0
        self._copies: collections.deque[tuple[int, int, jax.Array, jax.Array]] = collections.deque()

    def add(
        self, contributions: jax.Array, index: int, *, plane: int, top: int, left: int, turns: int
    ) -> None:
        """Adds a tile.

        Args:
            contributions: float32 [n, h, w, c] of several tiles, on this device.
            index: which of them.
            plane: of the network.
            top: its first row in the image, which no later one may be above of.
            left: its first column.
            turns: quarter turns counter-clockwise by which the image was turned for it.
        """
        self.finish_rows(top)
        if self._rows is None:
            shape = (len(self._shares), *self._size, contributions.shape[-1])
            self._rows = jax.device_put(np.zeros(shape, np.float32), self.device)
        self._rows = _add(self._rows, contributions, np.array([index, plane, left], np.int32), turns=turns)

    def finish_rows(self, end: int) -> None:
        """Hands the rows above `end` to the host; they are complete."""
        while self._top < end:
            assert self._rows is not None
            count = min(end - self._top, self._size[0])
            band, is_finite, self._rows = self._finish(self._rows, self._shares, np.int32(count))
            band.copy_to_host_async()
            self._copies.append((self._top, count, band, is_finite))
            self._top += count
            if len(self._copies) > 1:  # the host is one band behind
                self._receive()

    def close(self) -> None:
        """Receives what is still on its way.

        Raises:
            FloatingPointError: if the image, of integers, has values that are not finite.
        """
        while self._copies:
            self._receive()
        self._rows = None

    def _receive(self) -> None:
        top, count, band, is_finite = self._copies.popleft()
        if not is_finite and self._result.dtype != np.float32:
            raise FloatingPointError("the result has values that are not finite")
        target = self._result[top : top + count]
        target[...] = np.asarray(band)[: len(target), : target.shape[1]]


def round_to(image: jax.Array, dtype: Any, *, channels: int) -> jax.Array:
    """Turns grey levels into numbers of a file's type.

    Args:
        image: float32 [h, w, c], 0..255, not clipped.
        dtype: uint8, uint16 or float32.
        channels: c, or 1 for their mean.

    Returns:
        [h, w, channels]; integers are clipped and rounded to their whole range, ties to even.
    """
    if image.shape[-1] > channels:
        image = image.mean(axis=-1, keepdims=True)
    if dtype == np.float32:
        return image
    most = np.iinfo(dtype).max
    return jnp.clip(jnp.rint(image * (most // 255)), 0, most).astype(dtype)


@functools.partial(jax.jit, donate_argnums=0, static_argnames="turns")
def _add(rows: jax.Array, contributions: jax.Array, place: jax.Array, *, turns: int) -> jax.Array:
    index, plane, left = place
    contribution = jax.lax.dynamic_index_in_dim(contributions, index, keepdims=False)
    contribution = jnp.rot90(contribution, -turns)[None]
    start = (plane, 0, left, 0)
    before = jax.lax.dynamic_slice(rows, start, contribution.shape)
    return jax.lax.dynamic_update_slice(rows, before + contribution, start)


@functools.partial(jax.jit, donate_argnums=0, static_argnames=("dtype", "channels", "round_each"))
def _finish(
    rows: jax.Array, shares: jax.Array, count: jax.Array, *, dtype: Any, channels: int, round_each: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the image's rows, of which the first `count` are complete; whether all are finite; the rest."""
    planes = jnp.rint(jnp.clip(rows, 0, 255)) if round_each else rows
    # Equal shares are 1: the sum of whole numbers is exact, and so are ties in the mean.
    band = jnp.sum(planes * shares[:, None, None, None], axis=0) / jnp.sum(shares)
    is_finite = jnp.isfinite(rows).all()
    band = round_to(band, dtype, channels=channels)
    left = jnp.arange(rows.shape[1])[:, None, None] < rows.shape[1] - count
    return band, is_finite, jnp.where(left, jnp.roll(rows, -count, axis=1), 0)
