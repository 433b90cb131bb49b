"""Training data: pairs of images from disk or TFDS, decoded once, and batches of crops of them."""
