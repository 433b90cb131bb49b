"""Numerics-critical pure functions on images and feature maps, NHWC.

Images are 0..255; a leading batch axis is required unless said otherwise.
"""

from realsr_jax.ops.bicubic import resize_bicubic
from realsr_jax.ops.convolution import conv2d
from realsr_jax.ops.dynamic_filter import dynamic_filter
from realsr_jax.ops.guided_filter import guided_filter
from realsr_jax.ops.rearrangement import pixel_shuffle, space_to_depth

__all__ = [
    "conv2d",
    "dynamic_filter",
    "guided_filter",
    "pixel_shuffle",
    "resize_bicubic",
    "space_to_depth",
]
