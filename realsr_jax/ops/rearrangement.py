"""Moving pixels into channels and back."""

import jax


def space_to_depth(x: jax.Array, block: int) -> jax.Array:
    """Moves each block of pixels into channels: [n, h, w, c] -> [n, h/b, w/b, c*b*b].

    Channel ``c*b*b + dy*b + dx`` of the result is pixel ``(y*b + dy, x*b + dx)`` of channel c.
    """
    n, h, w, c = x.shape
    x = x.reshape(n, h // block, block, w // block, block, c)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(n, h // block, w // block, c * block * block)


def pixel_shuffle(x: jax.Array, block: int) -> jax.Array:
    """Undoes `space_to_depth`: [n, h, w, c*b*b] -> [n, h*b, w*b, c]."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, c // block**2, block, block)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(n, h * block, w * block, c // block**2)
