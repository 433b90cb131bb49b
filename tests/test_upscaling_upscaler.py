"""Upscalers against golden cases of the published inference, and tilings against each other."""

import logging

import golden
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import realsr_jax
from realsr_jax.convert.detection import detect
from realsr_jax.convert.rules import to_flax
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.upscaling import tile_network
from realsr_jax.upscaling import upscaler as upscaler_module
from realsr_jax.upscaling.tile_network import TileNetwork, contribute
from realsr_jax.upscaling.tilings import FittedTiles, QuarterTiles, UniformTiles, WholeImage
from realsr_jax.upscaling.upscaler import Upscaler
from realsr_jax.weights import save_weights

TINY = EDSRConfig(n_resblocks=2, n_feats=8, res_scale=1.0)


def _load(name, **options):
    state_dict = golden.state_dict(name)
    config = detect(state_dict)
    return Upscaler(config, to_flax(config, state_dict), **options)


@pytest.mark.parametrize(
    ("number", "tile_batch"),
    [*((i, 1) for i in range(10)), pytest.param(3, 4, marks=pytest.mark.slow), (7, 4)],
)
def test_golden_tilings(number, tile_batch):
    case = golden.case(f"tiles_{number:02d}")
    tilings = (WholeImage(),)
    if case["chop"]:
        tilings = tuple(
            QuarterTiles(int(chop), int(shave))
            for chop, shave in zip(case["chop_size"], case["shave_size"], strict=True)
        )
    upscaler = _load(
        str(case["model"]), tilings=tilings, self_ensemble=bool(case["self_ensemble"]), tile_batch=tile_batch
    )
    np.testing.assert_allclose(upscaler(case["lr"]), case["sr"], atol=0.001)


def test_uniform_tiles_leave_no_seams():
    """The tiny network sees 8 pixels far, less than the discarded quarter of the overlap: no seams at all."""
    lr = golden.photo(70, 101)
    whole = _load("edsr_tiny", tilings=(WholeImage(),))(lr)
    tiled = _load("edsr_tiny", tilings=(UniformTiles(64, 32),))(lr)
    np.testing.assert_allclose(tiled, whole, atol=0.001)


@pytest.mark.parametrize(
    "shape", [(1, 1), (5, 90), *(pytest.param((side, 64), marks=pytest.mark.slow) for side in (63, 64))]
)
def test_images_smaller_than_a_tile(shape):
    lr = golden.photo(*shape)
    sr = _load("oaddet_small", tilings=(UniformTiles(64, 16),))(lr)
    assert sr.shape == (2 * shape[0], 2 * shape[1], 3)
    assert np.isfinite(sr).all()


@pytest.mark.parametrize(
    "shape",
    [(1, 1), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((5, 7), (13, 32))), (31, 20)],
)
@pytest.mark.parametrize("tiling", [UniformTiles(32, 16), FittedTiles()])
def test_images_smaller_than_a_tile_are_computed_whole(shape, tiling):
    lr = golden.photo(*shape)
    whole = _load("edsr_tiny", tilings=(WholeImage(),))
    np.testing.assert_allclose(_load("edsr_tiny", tilings=(tiling,))(lr), whole(lr), atol=0.001)


def test_results_do_not_depend_on_what_is_compiled():
    upscaler, lr = _load("edsr_tiny"), golden.photo(70, 45)
    alone = upscaler(lr)
    for shape in ((40, 40), (33, 56), (90, 33), (120, 150)):
        upscaler(golden.photo(*shape))
    np.testing.assert_allclose(upscaler(lr), alone, atol=0.001)


@pytest.mark.slow
def test_crop_ensembles_of_small_images_are_whole_whatever_is_compiled():
    tilings = (UniformTiles(64, 16), UniformTiles(48, 16))
    upscaler = _load("edsr_tiny", tilings=tilings)
    for shape in ((25, 30), (30, 25), (36, 30), (35, 35)):
        lr = golden.photo(*shape)
        whole = _load("edsr_tiny", tilings=(WholeImage(),) * 2)
        np.testing.assert_allclose(upscaler(lr), whole(lr), atol=0.001)


def test_batches_are_powers_of_two_within_what_is_asked_for_and_what_there_is(monkeypatch):
    sizes, run = [], TileNetwork.__call__

    def watched(self, tiles, device, **options):
        sizes.append(len(tiles.pixels))
        return run(self, tiles, device, **options)

    monkeypatch.setattr(TileNetwork, "__call__", watched)
    lr = golden.photo(32, 80)  # three tiles
    for tile_batch, expected in ((1, [1, 1, 1]), (3, [2, 1]), (8, [2, 1]), (1000, [2, 1])):
        _load("edsr_tiny", tilings=(UniformTiles(32, 8),), tile_batch=tile_batch)(lr)
        assert sorted(sizes, reverse=True) == expected
        sizes.clear()


@pytest.mark.slow
def test_image_of_a_tile_equals_the_whole_image():
    lr = golden.photo(64, 64)
    tiled = _load("oaddet_small", tilings=(UniformTiles(64, 16),))(lr)
    np.testing.assert_allclose(tiled, _load("oaddet_small", tilings=(WholeImage(),))(lr), atol=0.001)


@pytest.mark.slow
def test_crop_ensemble_of_uniform_tiles_turns_the_image():
    lr = golden.photo(50, 40)
    whole = _load("oaddet_small", tilings=(WholeImage(),))
    turned = [np.rot90(whole(np.rot90(lr, i)), -i) for i in range(3)]
    ensemble = _load("oaddet_small", tilings=(WholeImage(),) * 3)(lr)
    np.testing.assert_allclose(ensemble, np.mean(turned, axis=0), atol=0.001)


def test_self_ensemble_is_the_mean_over_flips_and_transposes():
    lr = golden.photo(20, 26)
    whole = _load("oaddet_small", tilings=(WholeImage(),))
    results = []
    for turns in range(4):
        for mirrored in (False, True):
            seen = np.rot90(lr[:, ::-1] if mirrored else lr, turns)
            sr = np.rot90(whole(seen), -turns)
            results.append(sr[:, ::-1] if mirrored else sr)
    ensemble = _load("oaddet_small", tilings=(WholeImage(),), self_ensemble=True)(lr)
    np.testing.assert_allclose(ensemble, np.mean(results, axis=0), atol=0.001)


@pytest.mark.slow
def test_self_ensemble_with_uniform_tiles_has_no_seams():
    lr = golden.photo(70, 101)
    whole = _load("edsr_tiny", tilings=(WholeImage(),), self_ensemble=True)(lr)
    tiled = _load("edsr_tiny", tilings=(UniformTiles(64, 32),), self_ensemble=True)(lr)
    np.testing.assert_allclose(tiled, whole, atol=0.001)


@pytest.mark.parametrize("flips_in_sequence", [False, True])
def test_jit_equals_eager(flips_in_sequence):
    tiles = jnp.asarray(golden.photo(12, 9), jnp.float32)[None]
    rows, columns = jnp.linspace(0, 1, 48).reshape(2, 1, 24), jnp.linspace(1, 0, 36).reshape(2, 1, 18)

    def run(tiles):
        def network(x):
            return jax.image.resize(x, (x.shape[0], 2 * x.shape[1], 2 * x.shape[2], 3), "linear")

        return contribute(
            network, tiles, rows, columns, self_ensemble=True, flips_in_sequence=flips_in_sequence
        )

    np.testing.assert_allclose(jax.jit(run)(tiles), run(tiles), rtol=1e-5)


def test_devices_share_the_tiles(monkeypatch):
    """The tests run with four fake devices; the same on one of them gives the same image."""
    lr = golden.photo(100, 90)
    alone = _load("edsr_tiny", tilings=(UniformTiles(32, 8),))(lr)
    used, run = set(), TileNetwork.__call__

    def watched(self, tiles, device, **options):
        used.add(device)
        return run(self, tiles, device, **options)

    monkeypatch.setattr(upscaler_module, "upscaling_devices", lambda: tuple(jax.devices()))
    monkeypatch.setattr(TileNetwork, "__call__", watched)
    for _ in range(2):  # two images have their canvases on two devices
        np.testing.assert_array_equal(_load("edsr_tiny", tilings=(UniformTiles(32, 8),))(lr), alone)
    assert used == set(jax.devices())


@pytest.fixture
def limit_memory(monkeypatch):
    """Makes upscalers fail as JAX does if a device shall run more LR pixels at once than a limit."""

    def limit(pixels, message="RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."):
        def call(self, tiles, device, **options):
            at_once = 8 if self.self_ensemble and not self._in_sequence() else 1
            if np.prod(tiles.pixels.shape[:3]) * at_once > pixels:
                raise jax.errors.JaxRuntimeError(message)
            return original(self, tiles, device, **options)

        monkeypatch.setattr(TileNetwork, "__call__", call)

    original = TileNetwork.__call__
    return limit


@pytest.mark.parametrize(
    ("pixels", "tiling", "options", "remedies"),
    [
        pytest.param(
            *(128**2, UniformTiles(128, 32), {"tile_batch": 4}, ["tile_batch 2", "tile_batch 1"]),
            marks=pytest.mark.slow,
        ),
        (75**2, UniformTiles(256, 60), {"tile_batch": 2}, ["tile_batch 1", UniformTiles(75, 37)]),
        (75**2, WholeImage(), {}, [UniformTiles(75, 32)]),
        pytest.param(2000, QuarterTiles(130, 4), {}, [QuarterTiles(65, 4)], marks=pytest.mark.slow),
        pytest.param(
            64**2,
            UniformTiles(64, 8),
            {"tile_batch": 8, "self_ensemble": True},
            ["one flip after the other", "tile_batch 4", "tile_batch 2", "tile_batch 1"],
            marks=pytest.mark.slow,
        ),
    ],
    ids=["batch", "tile", "whole", "quarters", "flips"],
)
def test_less_is_done_at_once_where_memory_does_not_suffice(
    pixels, tiling, options, remedies, limit_memory, caplog
):
    lr = golden.photo(120, 150)
    at_last = tiling if isinstance(remedies[-1], str) else remedies[-1]
    expected = _load("edsr_tiny", tilings=[at_last], **options)(lr)
    limit_memory(pixels)
    upscaler = _load("edsr_tiny", tilings=[tiling], **options)
    for _ in range(2):  # the second image finds what the first one learned
        np.testing.assert_allclose(upscaler(lr), expected, atol=0.001)
    told = [record.args[0] for record in caplog.records if record.name == "realsr_jax"]
    assert told == [str(remedy) for remedy in remedies]


@pytest.mark.slow
def test_tiles_that_need_more_than_the_memory_are_made_smaller(monkeypatch, caplog):
    """On a CPU nothing refuses them: the system would end the process."""
    lr = golden.photo(200, 240)
    needs = []

    def fake_need(program):
        needs.append(memory_of(program))
        return needs[-1]

    memory_of = tile_network._memory_of
    monkeypatch.setattr(tile_network, "_memory_of", fake_need)
    expected = _load("edsr_tiny", tilings=[UniformTiles(30000, 16)])(lr)
    monkeypatch.setattr(tile_network, "available_memory", lambda: needs[0] // 2)
    sr = _load("edsr_tiny", tilings=[UniformTiles(30000, 16)])(lr)
    np.testing.assert_allclose(sr, expected, atol=0.01)
    assert [record.args[0] for record in caplog.records if record.name == "realsr_jax"] == [
        str(UniformTiles(120, 16))
    ]


def test_cudnn_without_memory_is_recognised(limit_memory, caplog):
    limit_memory(128**2, "INTERNAL: Failed to determine best cudnn convolution algorithm for: ...")
    _load("edsr_tiny", tilings=[UniformTiles(128, 32)], tile_batch=2)(golden.photo(120, 150))
    assert [record.args[0] for record in caplog.records if record.name == "realsr_jax"] == ["tile_batch 1"]


def test_other_errors_of_the_device_are_not_about_memory(limit_memory, caplog):
    limit_memory(128**2, "INTERNAL: it broke")
    with pytest.raises(jax.errors.JaxRuntimeError, match="it broke"):
        _load("edsr_tiny", tilings=[UniformTiles(128, 32)], tile_batch=2)(golden.photo(120, 150))
    assert not [record for record in caplog.records if record.name == "realsr_jax"]


def test_too_little_memory_for_anything(limit_memory):
    limit_memory(0)
    with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        _load("edsr_tiny", tilings=[UniformTiles(128, 32)], tile_batch=2)(golden.photo(120, 150))


@pytest.mark.parametrize("tiling", [UniformTiles(32, 8), FittedTiles(8), FittedTiles(8, area=32**2)])
def test_twenty_sizes_compile_at_most_three_programs(tiling, caplog):
    upscaler = _load("edsr_tiny", tilings=(tiling,))
    sizes = [(20 + 7 * i, 90 - 3 * i) for i in range(20)]
    upscaler.prepare(sizes)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for size in sizes:
            upscaler(golden.photo(*size))
    compiled = [r.getMessage() for r in caplog.records if "Finished XLA compilation" in r.getMessage()]
    assert 1 <= len([message for message in compiled if "upscale_tiles" in message]) <= 3, compiled


@pytest.mark.slow
def test_announced_images_look_the_same():
    """Portraits and landscapes through a crop-ensemble, whose second tiling sees them turned."""
    sizes = [(40, 90), (90, 40), (44, 70), (61, 50), (75, 58), (38, 80)]
    announced, alone = (_load("edsr_tiny", tilings=(FittedTiles(32), UniformTiles(64, 32))) for _ in range(2))
    announced.prepare(sizes)
    for size in sizes:
        lr = golden.photo(*size)
        np.testing.assert_allclose(announced(lr), alone(lr), atol=0.001)


def test_float_input_and_progress():
    lr = golden.photo(40, 50)
    upscaler = _load("edsr_tiny", tilings=(UniformTiles(32, 8), UniformTiles(16, 4)))
    shares = []
    np.testing.assert_array_equal(upscaler(lr, progress=shares.append), upscaler(lr.astype(np.float32)))
    assert shares == sorted(shares)
    assert shares[-1] == 1


@pytest.mark.parametrize(
    ("lr", "reason"),
    [
        (np.zeros((4, 4), np.uint8), "shape"),
        (np.zeros((4, 4, 4), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4, 3), np.float64), "float64"),
        (np.full((4, 4, 3), 0.9, np.float32), "up to 0.9: say what white is"),
    ],
)
def test_what_is_no_image_is_refused(lr, reason):
    with pytest.raises(ValueError, match=reason):
        _load("edsr_tiny")(lr)


@pytest.mark.parametrize("options", [{"dtype": "float16"}, {"tilings": ()}, {"tile_batch": 0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        _load("edsr_tiny", **options)


def test_load_upscaler(tmp_path):
    """The public way, from a weights directory, with the options of each tiling."""
    save_weights(tmp_path / "tiny", TINY, to_flax(TINY, golden.state_dict("edsr_tiny")), provenance={})
    lr = golden.photo(61, 50)
    whole = realsr_jax.load_upscaler(str(tmp_path / "tiny"), tile_size=None)
    assert whole.scale == 2
    assert whole.model_config == TINY
    case = golden.case("tiles_01")
    chopped = realsr_jax.load_upscaler(tmp_path / "tiny", chop_size=(24, 40), shave_size=(5, 10))
    np.testing.assert_allclose(chopped(case["lr"]), case["sr"], atol=0.001)
    tiled = realsr_jax.load_upscaler(tmp_path / "tiny", tile_size=48, tile_overlap=24)
    np.testing.assert_allclose(tiled(lr), whole(lr), atol=0.001)


@pytest.mark.slow
def test_bfloat16_stays_close_and_float32_outside():
    lr = golden.photo(40, 50)
    precise = _load("oaddet_small")(lr)
    coarse = _load("oaddet_small", dtype="bfloat16")(lr)
    assert coarse.dtype == np.float32
    assert np.sqrt(np.mean((coarse - precise) ** 2)) < 1
