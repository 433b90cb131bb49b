"""Training data: pairs of images from disk or TFDS, decoded once, and batches of crops of them."""

from realsr_jax.data.batches import batch_names, make_batches
from realsr_jax.data.pair_reading import DataError
from realsr_jax.data.training_pairs import TrainingPair, TrainingPairs, open_pairs

__all__ = ["DataError", "TrainingPair", "TrainingPairs", "batch_names", "make_batches", "open_pairs"]
