"""Speed and memory of the networks, beside those of PyTorch: cases, workers and the session that times them.

Each side runs in a process of its own, so that its memory can be told; only the sides import JAX or PyTorch.
"""
