"""OpenCV, which no other package needs."""

try:
    import cv2
except ImportError as error:
    raise RuntimeError("OpenCV is missing; install it with: pip install opencv-python-headless") from error

__all__ = ["cv2"]

cv2.setNumThreads(1)  # whole pairs are measured in parallel, in processes
