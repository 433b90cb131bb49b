"""Plans against the published recursion, written out as recursion, and against first principles."""

import numpy as np
import pytest

from realsr_jax.upscaling import tile_fitting
from realsr_jax.upscaling.tile_plans import make_plan, shared_shapes, tile_shape
from realsr_jax.upscaling.tilings import FittedTiles, QuarterTiles, UniformTiles, WholeImage


def _network(tile, scale):
    """Something whose result depends on where a pixel lies within the tile, as a real network's does."""
    h, w, _ = tile.shape
    enlarged = tile.repeat(scale, 0).repeat(scale, 1)
    return enlarged * (1 + 0.1 * np.arange(h * scale)[:, None, None]) + np.arange(w * scale)[None, :, None]


def _chop(x, scale, chop, shave):
    """The published recursion on quarters, which are kept large enough to cover their half."""
    h, w, _ = x.shape
    hq, wq = (min(max(n // 2 + shave, (n + 1) // 2), n) for n in (h, w))
    quarters = [x[:hq, :wq], x[:hq, w - wq :], x[h - hq :, :wq], x[h - hq :, w - wq :]]
    is_tile = h * w < 4 * chop * chop
    a, b, c, d = (_network(q, scale) if is_tile else _chop(q, scale, chop, shave) for q in quarters)
    top, left = h * scale // 2, w * scale // 2
    bottom, right = h * scale - top, w * scale - left
    upper = np.concatenate([a[:top, :left], b[:top, b.shape[1] - right :]], axis=1)
    lower = np.concatenate([c[-bottom:, :left], d[-bottom:, d.shape[1] - right :]], axis=1)
    return np.concatenate([upper, lower])


def _apply(plan, x, scale, *, mirrored_rows=False):
    h, w, c = x.shape
    tile_h, tile_w = plan.tile_shape
    result = np.zeros((max(h, tile_h) * scale, max(w, tile_w) * scale, c))
    row_ramps = plan.rows.ramps[int(mirrored_rows)]
    for i, j in plan.tiles:
        top, left = plan.rows.starts[i], plan.columns.starts[j]
        tile = x[top : top + tile_h, left : left + tile_w]
        tile = np.pad(tile, ((0, tile_h - tile.shape[0]), (0, tile_w - tile.shape[1]), (0, 0)))
        upscaled = _network(tile[::-1], scale)[::-1] if mirrored_rows else _network(tile, scale)
        ramps = row_ramps[i][:, None, None] * plan.columns.ramps[0, j][None, :, None]
        result[top * scale :, left * scale :][: tile_h * scale, : tile_w * scale] += upscaled * ramps
    return result[: h * scale, : w * scale]


def _random_cases(count):
    rng = np.random.default_rng(0)
    while count:
        h, w = (int(n) for n in rng.integers(1, 120, 2))
        scale, shave = int(rng.integers(2, 5)), int(rng.integers(0, 9))
        chop = int(rng.integers(2 * shave + 2, 40))
        count -= 1
        yield h, w, scale, chop, shave


@pytest.mark.parametrize("mirrored_rows", [False, True])
def test_quarter_plan_equals_recursion(mirrored_rows):
    rng = np.random.default_rng(1)
    for h, w, scale, chop, shave in _random_cases(300):
        x = rng.random((h, w, 3))
        plan = make_plan(h, w, scale=scale, tiling=QuarterTiles(chop, shave))
        expected = _chop(x[::-1], scale, chop, shave)[::-1] if mirrored_rows else _chop(x, scale, chop, shave)
        actual = _apply(plan, x, scale, mirrored_rows=mirrored_rows)
        np.testing.assert_array_equal(actual, expected, err_msg=f"{h}x{w} x{scale}, {chop}/{shave}")


def test_image_is_quartered_at_least_once():
    assert len(make_plan(40, 64, scale=2, tiling=QuarterTiles(400, 10)).tiles) == 4


def test_recursion_without_end_is_refused():
    with pytest.raises(ValueError, match="shave_size 20 is too large: a 40x40 tile"):
        make_plan(200, 200, scale=2, tiling=QuarterTiles(10, 20))


def test_uniform_tiles_cover_the_image_with_ramps_that_sum_to_one():
    rng = np.random.default_rng(2)
    for _ in range(300):
        h, w = (int(n) for n in rng.integers(1, 300, 2))
        scale, size = int(rng.integers(2, 5)), int(rng.integers(8, 60))
        overlap = int(rng.integers(0, size // 2 + 1))
        plan = make_plan(h, w, scale=scale, tiling=UniformTiles(size, overlap))
        assert plan.tile_shape == (min(size, h), min(size, w))
        for axis, length in ((plan.rows, h), (plan.columns, w)):
            total = np.zeros(length * scale)
            for start, ramp in zip(axis.starts, axis.ramps[0], strict=True):
                assert 0 <= start <= length - axis.length
                assert ramp.min() >= 0
                total[start * scale : (start + axis.length) * scale] += ramp
            np.testing.assert_allclose(total, 1, atol=1e-6)
            assert all(b - a <= size - overlap for a, b in zip(axis.starts, axis.starts[1:], strict=False))


def test_outer_quarter_of_the_overlap_is_discarded():
    axis = make_plan(100, 300, scale=2, tiling=UniformTiles(100, 40)).columns
    for i, start in enumerate(axis.starts):
        kept = np.flatnonzero(axis.ramps[0, i])
        assert kept[0] >= (20 if start > 0 else 0)
        assert kept[-1] < (180 if start + 100 < 300 else 200)


def computed(plan, h, w):
    """How many pixels pass the network for each of the image."""
    return len(plan.tiles) * plan.tile_shape[0] * plan.tile_shape[1] / (h * w)


def test_fitted_tiles_waste_little():
    """Squares, 3:2, 16:9, panoramas, one pixel more than a tile may have, on 1 to 16 cores."""
    rng = np.random.default_rng(3)
    sizes = [(256, 256), (257, 257), (300, 451), (321, 481), (301, 301), (1080, 1920), (3000, 4000)]
    ratios = np.exp(rng.uniform(np.log(0.2), np.log(5), 200))
    pixels = np.exp(rng.uniform(np.log(256**2), np.log(24e6), 200))
    sizes += [(int((p / r) ** 0.5) + 1, int((p * r) ** 0.5) + 1) for p, r in zip(pixels, ratios, strict=True)]
    for h, w in sizes:
        if min(h, w) < 256:
            continue
        for cores in (1, 2, 4, 16):
            shape = tile_shape(h, w, FittedTiles(16), at_once=cores)
            assert shape[0] <= h and shape[1] <= w
            assert shape[0] * shape[1] <= FittedTiles.area
            plan = make_plan(h, w, scale=2, tiling=FittedTiles(16), shape=shape)
            assert computed(plan, h, w) <= (1.15 if h * w >= 2**20 else 1.25), (h, w, cores, shape)


def test_fitted_tiles_cover_the_image_with_ramps_that_sum_to_one():
    rng = np.random.default_rng(4)
    for _ in range(100):
        h, w = (int(n) for n in rng.integers(1, 900, 2))
        overlap = int(rng.integers(0, 33))
        plan = make_plan(h, w, scale=3, tiling=FittedTiles(overlap, area=int(rng.integers(64, 200**2))))
        for axis, length in ((plan.rows, h), (plan.columns, w)):
            total = np.zeros(length * 3)
            for start, ramp in zip(axis.starts, axis.ramps[0], strict=True):
                total[start * 3 : (start + axis.length) * 3] += ramp
            np.testing.assert_allclose(total, 1, atol=1e-6)


def test_tiles_of_a_length_of_millions_are_found_among_few(monkeypatch):
    tried = []
    costs = tile_fitting._costs
    monkeypatch.setattr(tile_fitting, "_costs", lambda *args: tried.append(len(args[1])) or costs(*args))
    for length in (33, 65, 1000, 4321):
        for overlap in (0, 8, 32, 100):
            cuts = (-(-(length + (n - 1) * overlap) // n) for n in range(2, length + 2))
            every = {-(-side // 8) * 8 for side in cuts}
            least = max(2 * overlap, 32)
            expected = {length, *(side for side in every if least <= side < length)}
            assert set(tile_fitting._sides(length, overlap)) == expected
    tile_fitting.fit_tiles(1, 2**31 - 1, overlap=16, area=300**2)
    assert max(tried) < 100_000


def test_compiled_shapes_are_used_again():
    tiling = FittedTiles(16)
    first = tile_shape(2000, 3000, tiling)
    assert tile_shape(1990, 2995, tiling, in_use={first}) == first
    assert tile_shape(256, 256, tiling, in_use={first}) == (256, 256)
    three = {first, (256, 256), (88, 96)}
    assert tile_shape(100, 100, tiling, in_use=three) == (88, 96)
    assert tile_shape(80, 100, tiling, in_use=three) == (80, 100)


def pixels_of(size, shape, overlap):
    """How many pixels tiles of a shape compute, counted by laying them; None if one is too large."""
    tiles = 1
    for length, side in zip(size, shape, strict=True):
        if side > length:
            return None
        end, along = side, 1
        while end < length:
            end += side - overlap
            along += 1
        tiles *= along
    return tiles * shape[0] * shape[1]


@pytest.mark.parametrize(("low", "high", "waste"), [(300, 1500, 1.35), (1500, 4000, 1.25)])
def test_a_folder_of_photos_shares_three_shapes(low, high, waste):
    rng = np.random.default_rng(5)
    for _ in range(10):
        sizes = [(int(h), int(w)) for h, w in rng.integers(low, high, (20, 2))]
        shapes = shared_shapes(sizes, FittedTiles(16))
        assert len(shapes) == 3
        assert shapes == shared_shapes(sizes[::-1], FittedTiles(16))
        computed = 0
        for h, w in sizes:
            shape = tile_shape(h, w, FittedTiles(16), shared=shapes)
            costs = [pixels_of((h, w), each, 16) for each in shapes]
            assert pixels_of((h, w), shape, 16) == min(cost for cost in costs if cost is not None)
            computed += pixels_of((h, w), shape, 16)
        assert computed <= waste * sum(h * w for h, w in sizes)


def test_images_that_share_have_their_own_shapes_where_these_are_few():
    sizes = [(300, 451), (600, 800), (1080, 1920)]
    own = {tile_shape(h, w, FittedTiles(16), at_once=2) for h, w in sizes}
    assert set(shared_shapes(sizes, FittedTiles(16), at_once=2)) == own


def test_small_images_share_shapes_no_larger_than_themselves():
    sizes = [(20 + 3 * i, 90 - 2 * i) for i in range(20)]
    for tiling in (UniformTiles(32, 8), UniformTiles(512, 16), FittedTiles(8)):
        shapes = shared_shapes(sizes, tiling)
        assert len(shapes) <= 3
        for h, w in sizes:
            shape = tile_shape(h, w, tiling, shared=shapes)
            assert shape in shapes
            assert shape[0] <= h and shape[1] <= w


def test_shared_shapes_cover_every_image():
    rng = np.random.default_rng(6)
    for _ in range(150):
        overlap = int(rng.choice([4, 8, 16, 32]))
        most = int(rng.choice([20, 80, 400]))
        sizes = [(int(h), int(w)) for h, w in rng.integers(1, most, (int(rng.integers(2, 25)), 2))]
        tiling = FittedTiles(overlap) if rng.random() < 0.7 else UniformTiles(max(2 * overlap, 40), overlap)
        shapes = shared_shapes(sizes, tiling)
        for h, w in sizes:
            shape = tile_shape(h, w, tiling, shared=shapes)
            assert shape[0] <= h and shape[1] <= w
            plan = make_plan(h, w, scale=1, tiling=tiling, shape=shape)
            for axis, length in ((plan.rows, h), (plan.columns, w)):
                total = np.zeros(length)
                for start, ramp in zip(axis.starts, axis.ramps[0], strict=True):
                    total[start : start + axis.length] += ramp
                np.testing.assert_allclose(total, 1, atol=1e-6, err_msg=f"{(h, w)} by {shape}, {tiling}")


@pytest.mark.parametrize("overlap", [16, 32])
def test_icons_do_not_make_tiles_of_photos_small(overlap):
    for icons in ([16, 20, 24], [16, 32, 48], range(16, 65, 4), [9, 10, 11, 12, 15]):
        sizes = [*((side, side) for side in icons), (2000, 3000), (1500, 1000), (300, 451)]
        shapes = shared_shapes(sizes, FittedTiles(overlap))
        for h, w in sizes[-3:]:
            shape = tile_shape(h, w, FittedTiles(overlap), shared=shapes)
            assert pixels_of((h, w), shape, overlap) <= 2.5 * h * w


def test_no_more_tiles_than_needed():
    assert len(make_plan(256, 256, scale=2, tiling=UniformTiles(256, 32)).tiles) == 1
    assert len(make_plan(257, 480, scale=2, tiling=UniformTiles(256, 32)).tiles) == 4
    assert make_plan(1, 1, scale=2, tiling=UniformTiles(256, 32)).rows.starts == (0,)


def test_whole_image_is_one_tile():
    plan = make_plan(17, 23, scale=3, tiling=WholeImage())
    assert plan.tile_shape == (17, 23)
    assert plan.tiles == [(0, 0)]
    assert plan.rows.ramps.shape == (2, 1, 51)
    assert (plan.columns.ramps == 1).all()
