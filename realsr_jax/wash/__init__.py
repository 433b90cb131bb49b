"""Washing real LR/HR pairs: measuring how well the two images of each pair fit, and judging by that."""
