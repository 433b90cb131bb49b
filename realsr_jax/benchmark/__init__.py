"""Speed and memory of the networks, here and on other sides: cases, the conversation with a side, and timing.

Each side runs in a process of its own, so that its memory can be told; what other sides import of this does
not import JAX.
"""
