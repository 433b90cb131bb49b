"""Convolution by minimal filtering, and its transformations by JAX, against sums over the taps in float64."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from realsr_jax import ops
from realsr_jax.ops import convolution, minimal_filtering

KERNELS = [(3, 3), (1, 5), (5, 1), (5, 5)]
WAYS = pytest.mark.parametrize("pays", [True, False], ids=["minimal-filtering", "direct"])
PADDINGS = pytest.mark.parametrize("edge_padding", [False, True], ids=["zero", "edge"])


def _case(kernel_size, size, *, c_in=16, c_out=18, seed=0):
    rng = np.random.default_rng(seed)
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


def _assert_close(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@PADDINGS
@pytest.mark.parametrize(
    ("size", "strip_bytes"),
    [((16, 16), 2**20), ((13, 22), 40_000), ((4, 5), 2**20)],
    ids=["whole", "strips", "small"],
)
@pytest.mark.parametrize("kernel_size", KERNELS, ids=str)
def test_convolution_and_gradients(kernel_size, size, strip_bytes, edge_padding, monkeypatch):
    monkeypatch.setattr(minimal_filtering, "_STRIP_BYTES", strip_bytes)
    monkeypatch.setattr(minimal_filtering, "pays", lambda *_: True)
    x, kernel, dy = _case(kernel_size, size)

    @jax.jit  # a new function, so that it is lowered with these strips
    def run(x, kernel, dy):
        y, gradients = jax.vjp(lambda x, k: ops.conv2d(x, k, edge_padding=edge_padding), x, kernel)
        return y, *gradients(dy)

    _assert_close(run(x, kernel, dy), _expected(x, kernel, dy, edge_padding))


@WAYS
@PADDINGS
def test_directional_derivatives(edge_padding, pays, monkeypatch):
    monkeypatch.setattr(minimal_filtering, "pays", lambda *_: pays)
    x, kernel, dy = _case((3, 3), (7, 6))
    dx, d_kernel, _ = _case((3, 3), (7, 6), seed=1)

    def by_taps(x, kernel, dy):
        return _expected(x, kernel, dy, edge_padding)

    convolve = functools.partial(ops.conv2d, edge_padding=edge_padding)
    y, (_, tangent) = by_taps(x, kernel, dy)[0], jax.jvp(convolve, (x, kernel), (dx, d_kernel))
    d_y = by_taps(dx, kernel, dy)[0] + by_taps(x, d_kernel, dy)[0]
    _assert_close([tangent], [d_y])
    # The same of the gradient of half the sum of squares, forward and backward over backward.
    expected = [
        by_taps(x, d_kernel, y)[1] + by_taps(x, kernel, d_y)[1],
        by_taps(dx, kernel, y)[2] + by_taps(x, kernel, d_y)[2],
    ]
    gradient = jax.grad(lambda x, k: jnp.sum(convolve(x, k) ** 2) / 2, (0, 1))
    _assert_close(jax.jit(functools.partial(jax.jvp, gradient))((x, kernel), (dx, d_kernel))[1], expected)

    def along(x, kernel):
        return sum(jnp.vdot(a, b) for a, b in zip(gradient(x, kernel), (dx, d_kernel), strict=True))

    _assert_close(jax.jit(jax.grad(jax.checkpoint(along), (0, 1)))(x, kernel), expected)


@WAYS
@pytest.mark.parametrize(
    "axes",
    [(0, None), *(pytest.param(axes, marks=pytest.mark.slow) for axes in ((4, None), (None, 0))), (0, 2)],
    ids=str,
)
def test_vmap(axes, pays, monkeypatch):
    monkeypatch.setattr(minimal_filtering, "pays", lambda *_: pays)
    cases = [_case((3, 3), (5, 6), seed=seed) for seed in range(3)]
    arguments = [
        cases[0][i] if axis is None else np.stack([case[i] for case in cases], axis)
        for i, axis in enumerate(axes)
    ]
    each = [[case[i] if axis is not None else cases[0][i] for i, axis in enumerate(axes)] for case in cases]
    gradient = jax.grad(lambda x, k, dy: jnp.vdot(ops.conv2d(x, k, edge_padding=True), dy), (0, 1))
    dy = cases[0][2]
    expected = [np.stack(found) for found in zip(*(_expected(*one, dy, True) for one in each), strict=True)]
    _assert_close(
        [jax.vmap(functools.partial(ops.conv2d, edge_padding=True), axes)(*arguments)], expected[:1]
    )
    _assert_close(jax.jit(jax.vmap(gradient, (*axes, None)))(*arguments, dy), expected[1:])
    # What all share gets the sum of the gradients.
    total = jax.grad(lambda *a: jnp.vdot(jax.vmap(ops.conv2d, axes)(*a), jnp.stack([dy] * 3)), (0, 1))
    sums = [_expected(*one, dy, False)[1:] for one in each]
    for i, axis in enumerate(axes):
        found, parts = total(*arguments)[i], [gradients[i] for gradients in sums]
        _assert_close([found], [sum(parts) if axis is None else np.stack(parts, axis)])


@pytest.mark.skipif(jax.device_count() < 2, reason="needs several devices")
@pytest.mark.parametrize("way", ["pmap", "shard_map", "jit"])
def test_several_devices(way, monkeypatch):
    monkeypatch.setattr(minimal_filtering, "pays", lambda *_: True)
    x, kernel, dy = _case((3, 3), (9, 8))
    expected = _expected(x, kernel, dy, False)[2]
    gradient = jax.grad(lambda kernel, x, dy: jnp.vdot(ops.conv2d(x, kernel), dy))
    mesh = Mesh(np.array(jax.devices()[:2]), ("n",))
    cut, whole = PartitionSpec("n"), PartitionSpec()
    match way:
        case "pmap":
            summed = lambda *arguments: jax.lax.psum(gradient(*arguments), "n")  # noqa: E731
            run = jax.pmap(summed, "n", in_axes=(None, 0, 0), out_axes=None, devices=jax.devices()[:2])
            x, dy = x[:, None], dy[:, None]
        case "shard_map":  # sums the gradient of what all devices share
            run = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=(whole, cut, cut), out_specs=whole))
        case _:
            run = jax.jit(gradient, in_shardings=[NamedSharding(mesh, spec) for spec in (whole, cut, cut)])
    _assert_close([run(kernel, x, dy)], [expected])


@PADDINGS
@pytest.mark.parametrize("kernel_size", [(3, 3), (1, 5)], ids=str)
def test_bfloat16_is_multiplied_as_such_and_added_up_in_float32(kernel_size, edge_padding, monkeypatch):
    monkeypatch.setattr(minimal_filtering, "pays", lambda *_: True)
    monkeypatch.setattr(minimal_filtering, "_STRIP_BYTES", 100_000)
    rounded = [jnp.asarray(a, jnp.bfloat16) for a in _case(kernel_size, (21, 22), c_in=32, c_out=32)]

    def run(x, kernel, dy):
        y, gradients = jax.vjp(lambda x, k: ops.conv2d(x, k, edge_padding=edge_padding), x, kernel)
        return y, *gradients(dy)

    found = jax.jit(run)(*rounded)
    assert all(a.dtype == jnp.bfloat16 for a in found)
    expected = _expected(*(np.asarray(a, np.float64) for a in rounded), edge_padding)
    for a, b in zip(found, expected, strict=True):
        error = np.asarray(a, np.float64) - b
        assert np.sqrt(np.mean(error**2)) < 0.02 * np.sqrt(np.mean(b**2))


def test_table_is_read_by_type_kernel_channels_and_pixels(monkeypatch):
    monkeypatch.setattr(
        minimal_filtering, "LEAST_PIXELS", {("float32", "x", (3, 3)): {16: 4000, 64: 1000, 256: 100}}
    )

    def pays(wanted="x", dtype=jnp.float32, images=(2, 20, 25, 64), kernel=(3, 3, 64, 64)):
        return minimal_filtering.pays(wanted, dtype, images, kernel)

    assert pays()
    assert not pays(images=(1, 20, 25, 64))
    assert not pays(kernel=(3, 3, 64, 63)) and pays(images=(8, 20, 25, 64), kernel=(3, 3, 64, 63))
    assert not pays(images=(80, 20, 25, 64), kernel=(3, 3, 15, 64))
    assert not pays(dtype=jnp.bfloat16) and not pays(wanted="y") and not pays(kernel=(5, 5, 64, 64))


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("wanted", ["y", "x", "kernel"])
def test_compiled_program_against_the_direct_one(wanted, dtype, monkeypatch):
    """Guards what XLA makes of this way, on which its speed depends: how it fuses, copies and hoists."""
    image, kernel = (jax.ShapeDtypeStruct(shape, dtype) for shape in ((1, 96, 96, 64), (3, 3, 64, 64)))
    operands = {"y": (image, kernel), "x": (kernel, image), "kernel": (image, image)}[wanted]

    def compile_layers(pays, strip_bytes=minimal_filtering._STRIP_BYTES):
        """Compiles several layers, so that what is computed for all of them ahead of time shows."""
        monkeypatch.setattr(minimal_filtering, "pays", lambda *_: pays)
        monkeypatch.setattr(minimal_filtering, "_STRIP_BYTES", strip_bytes)

        def run(a, b):
            compute = functools.partial(convolution._on_cpu, wanted=wanted, size=(3, 3), edge_padding=False)
            return sum(compute(a + i, b) for i in range(4))

        return jax.jit(run).lower(*operands).compile()

    direct, whole, strips = compile_layers(False), compile_layers(True, 2**40), compile_layers(True)
    flops, direct_flops = (program.cost_analysis()["flops"] for program in (whole, direct))
    assert flops < 0.33 * direct_flops  # 0.25 of the products, and the transformations, each once
    memory, direct_memory = (program.memory_analysis().temp_size_in_bytes for program in (strips, direct))
    assert memory < direct_memory + 3 * image.size * image.dtype.itemsize + 3 * minimal_filtering._STRIP_BYTES
    # Each strip would convert the whole padded image.
    assert dtype == "float32" or not re.search(r"f32\[1,98,98,64\]\S* dynamic-", strips.as_text())


@PADDINGS
@pytest.mark.parametrize("size", [(13, 22), (4, 5)], ids=str)
@pytest.mark.parametrize("kernel_size", KERNELS, ids=str)
def test_convolution_and_gradients_of_other_platforms(kernel_size, size, edge_padding):
    x, kernel, dy = _case(kernel_size, size)
    found = [
        convolution._directly(*operands, wanted=wanted, size=kernel_size, edge_padding=edge_padding)
        for wanted, operands in {"y": (x, kernel), "x": (kernel, dy), "kernel": (x, dy)}.items()
    ]
    _assert_close(found, _expected(x, kernel, dy, edge_padding))


def test_other_platforms_convolve_directly(monkeypatch):
    monkeypatch.setattr(minimal_filtering, "pays", lambda *_: True)
    x, kernel, dy = _case((3, 3), (16, 16))

    def run(x, kernel, dy):
        y, gradients = jax.vjp(ops.conv2d, x, kernel)
        return y, *gradients(dy)

    def lower(platform):
        return (
            jax.jit(lambda *arguments: run(*arguments))
            .trace(x, kernel, dy)
            .lower(lowering_platforms=(platform,))
        )

    assert "stablehlo.convolution" not in lower("cpu").as_text()
    for name in ("convolve", "input_gradient", "kernel_gradient"):
        monkeypatch.setattr(
            minimal_filtering, name, lambda *_, name=name, **__: pytest.fail(f"{name} is traced")
        )
    program = lower("cuda").as_text()
    assert program.count("stablehlo.convolution") == 3 and "dot_general" not in program
