"""Convolution by minimal filtering against sums over the taps in float64."""

import jax
import numpy as np
import pytest

from realsr_jax import ops
from realsr_jax.ops import minimal_filtering as winograd

KERNELS = [(3, 3), (1, 5), (5, 1), (5, 5), (1, 3)]
SIZES = [(16, 16), (13, 22), (4, 5)]


def _case(kernel_size, size, *, c_in=16, c_out=18):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *size, c_in)).astype(np.float32)
    kernel = rng.normal(size=(*kernel_size, c_in, c_out)).astype(np.float32)
    return x, kernel, rng.normal(size=(2, *size, c_out)).astype(np.float32)


def _expected(x, kernel, dy, edge_padding):
    """Returns the convolution and its gradients, one tap at a time."""
    (kh, kw), (h, w) = kernel.shape[:2], x.shape[1:3]
    rows, columns = np.arange(-(kh // 2), h + kh // 2), np.arange(-(kw // 2), w + kw // 2)
    nearest = np.ix_(rows.clip(0, h - 1), columns.clip(0, w - 1))
    inside = np.outer((rows >= 0) & (rows < h), (columns >= 0) & (columns < w))[..., None]
    padded = x.astype(np.float64)[:, nearest[0], nearest[1]] * (1 if edge_padding else inside)
    y, d_padded, d_kernel = 0.0, np.zeros_like(padded), np.zeros(kernel.shape)
    for i, j in np.ndindex(kh, kw):
        tap = np.s_[:, i : i + h, j : j + w]
        y = y + padded[tap] @ kernel[i, j]
        d_padded[tap] += dy @ kernel[i, j].T
        d_kernel[i, j] = np.einsum("nhwc,nhwd->cd", padded[tap], dy.astype(np.float64))
    if not edge_padding:
        d_padded = d_padded * inside
    dx = np.zeros(x.shape)
    np.add.at(dx, np.s_[:, nearest[0], nearest[1]], d_padded)
    return y, dx, d_kernel


@pytest.mark.parametrize("strip_bytes", [winograd._STRIP_BYTES, 40_000], ids=["whole", "strips"])
@pytest.mark.parametrize("edge_padding", [False, True], ids=["zero", "edge"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kernel_size", KERNELS, ids=str)
def test_convolution_and_gradients(kernel_size, size, edge_padding, strip_bytes, monkeypatch):
    monkeypatch.setattr(winograd, "_STRIP_BYTES", strip_bytes)
    monkeypatch.setattr(winograd, "_LEAST_WORK", 0)
    x, kernel, dy = _case(kernel_size, size)
    assert winograd.gradient_pays(x.shape, kernel.shape)
    y, gradients = jax.vjp(lambda x, k: ops.conv2d(x, k, edge_padding=edge_padding), x, kernel)
    for found, expected in zip((y, *gradients(dy)), _expected(x, kernel, dy, edge_padding), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_needs_fewer_multiplications():
    x, kernel, _ = _case((3, 3), (32, 32), c_in=64, c_out=64)
    programs = [
        jax.jit(lambda x, k, f=f: f(x, k, edge_padding=False)).lower(x, kernel).compile()
        for f in (winograd.conv2d, ops._conv2d_directly)
    ]
    flops, directly = (program.cost_analysis()["flops"] for program in programs)
    assert flops < directly / 2


def test_other_platforms_convolve_directly(monkeypatch):
    monkeypatch.setattr(winograd, "_LEAST_WORK", 0)
    x, kernel, _ = _case((3, 3), (16, 16))
    program = jax.jit(ops.conv2d).trace(x, kernel).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in program and "dot_general" not in program
