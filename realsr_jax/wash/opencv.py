"""OpenCV, which no other package needs, and a filter made with it."""

import numpy as np

try:
    import cv2
except ImportError as error:
    raise RuntimeError("OpenCV is missing; install it with: pip install opencv-python-headless") from error

__all__ = ["cv2", "gradients"]

cv2.setNumThreads(1)  # whole pairs are measured in parallel, in processes


def gradients(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns how much float32 [h, w] grows to the right and downwards, per pixel, by Sobel's filters."""
    x, y = (cv2.Sobel(image, cv2.CV_32F, *order, ksize=3, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return x, y
