"""Training data: pairs of images from disk or TFDS, decoded once, and batches of crops of them."""

from realsr_jax.data.entries import DataError
from realsr_jax.data.imresize import imresize
from realsr_jax.data.pairs import Pair, Pairs, open_pairs
from realsr_jax.data.pipeline import batch_names, make_batches

__all__ = ["DataError", "Pair", "Pairs", "batch_names", "imresize", "make_batches", "open_pairs"]
