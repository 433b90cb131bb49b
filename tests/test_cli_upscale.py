"""``realsr-upscale`` end to end: in this process where that will do, in its own where it matters."""

import base64
import fcntl
import importlib.util
import io
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import golden
import imagecodecs
import jax
import numpy as np
import pytest
from browser import data_of
from PIL import ExifTags, Image, ImageCms, TiffTags

from realsr_jax import images, ops
from realsr_jax.cli import command, shard_flags, upscale
from realsr_jax.convert.rules import to_flax
from realsr_jax.evaluate import comparison
from realsr_jax.images import formats, limits, photo_jobs
from realsr_jax.metrics import psnr
from realsr_jax.models.edsr import EDSRConfig
from realsr_jax.ops.matlab_resize import imresize
from realsr_jax.system.shards import Shard
from realsr_jax.upscaling import job_report, photo_files, photo_upscaling
from realsr_jax.upscaling.tilings import QuarterTiles, UniformTiles
from realsr_jax.upscaling.upscaler import BicubicUpscaler, load_upscaler
from realsr_jax.weights import save_weights

pytestmark = pytest.mark.usefixtures("working_folder")

HEIGHT, WIDTH = 12, 16
COMMAND = (sys.executable, "-m", "realsr_jax.cli.upscale")


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Weights directories of a tiny network at scale 2 and one at scale 3."""
    folder = tmp_path_factory.mktemp("weights")
    for name, scale in (("edsr_tiny", 2), ("edsr_tiny_x3", 3)):
        config = EDSRConfig(n_resblocks=2, n_feats=8, scale=scale, res_scale=1.0)
        params = to_flax(config, golden.state_dict(name))
        save_weights(folder / name, config, params, provenance={"source": "test"})
    return folder


def run(*args):
    return upscale.run(["realsr-upscale", *map(str, args)])


def save(path, samples=None, **options):
    """Writes a photo, by default one of the usual size and content."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(golden.photo(HEIGHT, WIDTH) if samples is None else samples).save(path, **options)
    return path


def load(path):
    with Image.open(path) as image:
        return np.asarray(image)


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


_resize = jax.jit(ops.resize_bicubic, static_argnums=1)


def enlarged(samples):
    """What plain interpolation by 2 makes of samples [h, w] or [h, w, c]."""
    top = np.iinfo(samples.dtype).max
    planes = samples.reshape(*samples.shape[:2], -1) / np.float32(top // 255)
    result = np.asarray(_resize(planes[None], 2))[0] * (top // 255)
    return np.rint(np.clip(result, 0, top)).astype(samples.dtype).reshape(2 * HEIGHT, 2 * WIDTH, -1).squeeze()


# Every format and kind of pixel

GREY = golden.photo(HEIGHT, WIDTH)[..., 0]
RGB = golden.photo(HEIGHT, WIDTH)
ALPHA = np.full((HEIGHT, WIDTH), 255, np.uint8)
ALPHA[:, :4], ALPHA[:, 4:6] = 100, 200
DEEP = (RGB.astype(np.uint16) << 8) + np.arange(WIDTH, dtype=np.uint16)[:, None] * 13
MODES = {
    "grey": GREY,
    "grey and alpha": np.dstack([GREY, ALPHA]),
    "RGB": RGB,
    "RGBA": np.dstack([RGB, ALPHA]),
    "deep grey": DEEP[..., 0].copy(),
    "deep RGB": DEEP,
    "deep RGBA": np.dstack([DEEP, ALPHA.astype(np.uint16) * 257]),
}
FORMAT_MODES = [
    *(("png", mode) for mode in MODES),
    *(("tif", mode) for mode in MODES),
    *(("webp", mode) for mode in ("RGB", "RGBA")),
    *(("bmp", mode) for mode in ("grey", "RGB")),
    *(("jpg", mode) for mode in ("grey", "RGB")),
    *(("avif", mode) for mode in ("grey", "RGB", "RGBA")),
]


@pytest.mark.parametrize(("suffix", "mode"), FORMAT_MODES)
def test_formats_and_modes(suffix, mode):
    samples = MODES[mode]
    source = Path(f"in.{suffix}")
    if samples.dtype == np.uint16:
        encode = imagecodecs.png_encode if suffix == "png" else imagecodecs.tiff_encode
        options = {} if suffix == "png" else {"photometric": "rgb" if samples.ndim == 3 else "minisblack"}
        if mode == "deep RGBA" and suffix == "tif":
            options["extrasample"] = "unassalpha"
        source.write_bytes(encode(samples, **options))
    else:
        save(source, samples, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    assert run("-i", source, "-o", "out", "--weights=bicubic", "--quality=100") == 0
    decode = {"png": imagecodecs.png_decode, "tif": imagecodecs.tiff_decode}.get(suffix)
    result = decode(Path(f"out/in.{suffix}").read_bytes()) if decode else load(f"out/in.{suffix}")
    expected = enlarged(load(source) if suffix in ("jpg", "avif") else samples)
    assert result.dtype == samples.dtype
    assert result.shape == expected.shape
    tolerance = {"jpg": 6, "webp": 40, "avif": 12}.get(suffix, int(samples.dtype == np.uint16))
    assert np.abs(result.astype(int) - expected).max() <= tolerance
    if samples.dtype == np.uint16:
        assert len(np.unique(result)) > 256


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_palette_and_bilevel(suffix):
    palette = Image.fromarray(RGB).quantize(16)
    palette.save(f"palette.{suffix}")
    Image.fromarray(GREY > 128).save(f"bits.{suffix}")
    assert run("-i", f"palette.{suffix},bits.{suffix}", "-o", "out", "--weights=bicubic") == 0
    np.testing.assert_array_equal(load(f"out/palette.{suffix}"), enlarged(np.asarray(palette.convert("RGB"))))
    np.testing.assert_array_equal(
        load(f"out/bits.{suffix}"), enlarged((GREY > 128).astype(np.uint8) * np.uint8(255))
    )


def test_transparent_palette():
    palette = Image.fromarray(RGB).quantize(16)
    palette.save("a.png", transparency=3)
    assert run("-i", "a.png", "-o", "out", "--weights=bicubic") == 0
    with Image.open("out/a.png") as image:
        assert (image.mode, image.size) == ("RGBA", (2 * WIDTH, 2 * HEIGHT))


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(suffix, capsys):
    cmyk = Image.fromarray(RGB).convert("CMYK")
    cmyk.save(f"a.{suffix}", **({"quality": 100, "subsampling": 0} if suffix == "jpg" else {}))
    assert run("-i", f"a.{suffix}", "-o", "out", "--weights=bicubic", "--quality=100") == 0
    with Image.open(f"out/a.{suffix}") as image:
        assert (image.mode, image.size) == ("RGB", (2 * WIDTH, 2 * HEIGHT))
    expected = enlarged(np.asarray(cmyk.convert("RGB"))).astype(int)
    assert np.abs(load(f"out/a.{suffix}") - expected).max() <= (25 if suffix == "jpg" else 0)
    assert capsys.readouterr().err == f"realsr-upscale: a.{suffix}: CMYK becomes RGB\n"


def test_no_dark_fringe_around_transparency():
    """Colours under transparent pixels, mostly black, must not reach the visible ones."""
    samples = np.full((HEIGHT, WIDTH, 4), 200, np.uint8)
    samples[:, : WIDTH // 2] = 0
    samples[:, WIDTH // 2 :, 3] = 255
    save("a.png", samples)
    assert run("-i", "a.png", "-o", "out", "--weights=bicubic") == 0
    result = load("out/a.png")
    assert (result[..., :3][result[..., 3] > 0] == 200).all()
    assert (result[:, : WIDTH - 4, 3] == 0).all()
    assert (result[:, WIDTH + 4 :, 3] == 255).all()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
def test_upright_and_with_metadata(suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Maker", 6
    options = {"lossless": True} if suffix == "webp" else {}
    options = {"quality": 100, "subsampling": 0} if suffix == "jpg" else options
    options = {"quality": 100, "subsampling": "4:4:4"} if suffix == "avif" else options
    source = save(f"a.{suffix}", RGB, exif=exif.tobytes(), icc_profile=profile, dpi=(300, 300), **options)
    assert run("-i", source, "-o", "out", "--weights=bicubic", "--quality=100") == 0
    with Image.open(f"out/a.{suffix}") as image:
        assert image.size == (2 * HEIGHT, 2 * WIDTH)
        assert image.getexif()[ExifTags.Base.Make] == "Maker"
        assert image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert image.info["icc_profile"] == profile
        if suffix not in ("webp", "avif"):
            assert np.allclose([float(value) for value in image.info["dpi"]], 300, atol=0.1)
        upright = np.rot90(enlarged(load(source) if suffix == "jpg" else RGB), -1).astype(int)
        assert np.abs(np.asarray(image) - upright).max() <= {"jpg": 6, "webp": 40, "avif": 12}.get(suffix, 0)


def test_the_first_frame_of_a_gif_becomes_png(capsys):
    frames = [Image.fromarray(rgb).quantize(256) for rgb in (RGB, RGB[::-1].copy())]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    assert run("a.gif", "--weights=bicubic") == 0
    captured = capsys.readouterr()
    assert captured.err == "realsr-upscale: a.gif: only the first of 2 frames or pages is used\n"
    assert "a.gif -> a_x2.png" in captured.out
    with Image.open("a.gif") as image:
        np.testing.assert_array_equal(load("a_x2.png")[..., :3], enlarged(np.asarray(image.convert("RGB"))))


def test_content_that_contradicts_the_name_is_written_under_the_right_one(capsys):
    save("photos/a.png").rename("photos/a.jpg")
    save("photos/b.JPG")
    save("photos/c.jpeg", format="WEBP")
    assert run("photos", "--weights=bicubic") == 0
    assert files_in("photos_x2") == ["a.png", "b.JPG", "c.webp"]
    with Image.open("photos_x2/a.png") as png, Image.open("photos_x2/c.webp") as webp:
        assert (png.format, webp.format) == ("PNG", "WEBP")
    assert sorted(capsys.readouterr().err.splitlines()) == [
        "realsr-upscale: photos/a.jpg: is PNG and not JPEG; its result is photos_x2/a.png",
        "realsr-upscale: photos/c.jpeg: is WEBP and not JPEG; its result is photos_x2/c.webp",
    ]
    save("photos/a.png", RGB[:5])  # which is not in the way
    assert run("photos", "--weights=bicubic", "--overwrite") == 0
    assert files_in("photos_x2") == ["a.jpg.png", "a.png", "b.JPG", "c.webp"]
    assert load("photos_x2/a.png").shape == (10, 2 * WIDTH, 3)
    assert run("photos/a.jpg", "-o", "d.jpg", "--weights=bicubic") == 0  # as it was asked for
    with Image.open("d.jpg") as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize(
    ("mode", "colour", "rgb"),
    [
        ("RGBA", "white", (255, 255, 255)),
        ("RGBA", "#102030", (16, 32, 48)),
        ("deep RGBA", "red", (255, 0, 0)),
        ("grey and alpha", "gray", (128, 128, 128)),
        ("grey and alpha", "blue", (0, 0, 255)),
    ],
)
def test_background(mode, colour, rgb):
    samples = MODES[mode]
    if samples.dtype == np.uint16:
        Path("a.png").write_bytes(imagecodecs.png_encode(samples))
    else:
        save("a.png", samples)
    assert run("a.png", "-o", "out.bmp", "--weights=bicubic", f"--background={colour}") == 0
    unit = samples.astype(float) / np.iinfo(samples.dtype).max
    on = unit[..., -1:] * unit[..., :-1] * 255 + (1 - unit[..., -1:]) * np.array(rgb)
    with Image.open("out.bmp") as image:
        assert image.mode == ("L" if colour == "gray" else "RGB")
        result = np.asarray(image.convert("RGB")).astype(int)
    expected = enlarged(np.broadcast_to(np.rint(on), (HEIGHT, WIDTH, 3)).astype(np.uint8))
    assert np.abs(result - expected).max() <= 2
    assert run("a.png", "-o", "out.jpg", "--weights=bicubic", f"--background={colour}") == 0


@pytest.mark.parametrize("white", [1.0, 65535.0])
@pytest.mark.parametrize("alpha", [False, True])
def test_float_tiff(white, alpha):
    values = (MODES["RGBA"][..., : 4 if alpha else 3] / np.float32(255)).astype(np.float32)
    values[5, 5, :3], values[6, 6, :3] = 1.25, -0.125  # which sharpening does
    options = {"extrasample": "unassalpha"} if alpha else {}
    data = imagecodecs.tiff_encode(values * np.float32(white), photometric="rgb", **options)
    Path("a.tif").write_bytes(data)
    assert run("a.tif", "--weights=bicubic") == 0
    assert run("a.tif", "-o", "b.png", "--weights=bicubic") == 0
    result = imagecodecs.tiff_decode(Path("a_x2.tif").read_bytes()) / white
    expected = np.asarray(_resize(values[None] * 255, 2))[0] / 255
    np.testing.assert_allclose(result[..., :3], expected[..., :3], atol=1e-5)
    np.testing.assert_allclose(result[..., 3:], np.clip(expected[..., 3:], 0, 1), atol=1e-5)
    png = imagecodecs.png_decode(Path("b.png").read_bytes())
    assert png.dtype == np.uint16
    assert np.abs(png - np.clip(expected, 0, 1) * 65535.0).max() <= 1


def test_floats_of_no_known_range(capsys):
    for name, value in (("a", 200.0), ("b", np.nan), ("c", 1e6)):
        Path(f"{name}.tif").write_bytes(imagecodecs.tiff_encode(np.full((4, 4), value, np.float32)))
    assert run("a.tif", "b.tif", "c.tif", "--weights=bicubic") == 1
    error = capsys.readouterr().err
    assert "a.tif: its numbers, 200 to 200, are neither those of 0 to 1 nor those of 0 to 65535\n" in error
    assert "b.tif: some of its pixels are not numbers\n" in error
    assert "c.tif: its numbers, 1e+06 to 1e+06, are neither" in error


@pytest.mark.parametrize("mode", ["grey", "RGB", "RGBA", "deep RGB"])
def test_heic(mode):
    heif = pytest.importorskip("pillow_heif")
    samples = MODES[mode]
    name = {1: "L", 3: "RGB", 4: "RGBA"}[np.atleast_3d(samples).shape[-1]]
    name += ";16" if samples.dtype == np.uint16 else ""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    source = heif.from_bytes(name, (WIDTH, HEIGHT), samples.tobytes())
    source.save("a.heic", quality=100, chroma=444, exif=exif.tobytes())
    assert run("a.heic", "--weights=bicubic", "--quality=100") == 0

    def read(path):
        image = heif.open_heif(path, convert_hdr_to_8bit=False)
        return np.asarray(image), image.info

    result, info = read("a_x2.heic")
    assert result.dtype == samples.dtype
    assert b"Maker" in info["exif"]
    expected = enlarged(read("a.heic")[0])
    assert np.abs(result.astype(int) - expected).max() <= 12 * (np.iinfo(samples.dtype).max // 255)
    assert run("a.heic", "-o", "b.png", "--weights=bicubic") == 0


@pytest.fixture
def without_heif(monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "pillow_heif" else find_spec(n))
    formats.has_heif.cache_clear()
    yield
    formats.has_heif.cache_clear()


@pytest.mark.usefixtures("without_heif")
def test_what_heic_needs_is_named_where_it_is_missing(capsys):
    save("photos/a.png")
    for name in "bc":
        Path(f"photos/{name}.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    shutil.copy("photos/b.HEIC", "d.jpg")
    assert run("photos", "--weights=bicubic") == 0
    assert capsys.readouterr().out.endswith("\nleft out: 2 .heic (pip install pillow-heif)\n")
    assert run("photos/a.png", "photos/b.HEIC", "--weights=bicubic") == 1
    assert capsys.readouterr().out.endswith("\nleft out: 1 .heic (pip install pillow-heif)\n")
    for named in ("photos/b.HEIC", "d.jpg"):
        assert run(named, "--weights=bicubic") == 1
        line = (
            f"realsr-upscale: {named}: HEIC needs a package that is not installed: pip install pillow-heif\n"
        )
        assert capsys.readouterr().err == line
    assert run("photos/a.png", "--format=heic", "--weights=bicubic") == 2
    assert capsys.readouterr().err.startswith("realsr-upscale: HEIC needs a package that is not installed")


# Names


def test_folder_is_mirrored():
    for name in ("a.png", "b.JPG", "sub/c.png", "sub/deep/d.webp", ".hidden/e.png", ".f.png"):
        save(f"photos/{name}")
    Path("photos/notes.txt").write_text("no photo")
    assert run("-i", "photos", "-o", "flat", "--weights=bicubic") == 0
    assert files_in("flat") == ["a.png", "b.JPG"]
    assert run("-i", "photos", "-o", "out", "--weights=bicubic", "--recursive") == 0
    assert files_in("out") == ["a.png", "b.JPG", "sub/c.png", "sub/deep/d.webp"]


def test_several_inputs_and_names():
    save("one/a.png")
    save("b.png")
    assert run("--input=one,b.png", "--output=out", "--weights=bicubic", "--suffix=_x2", "--format=jpg") == 0
    assert files_in("out") == ["a_x2.jpg", "b_x2.jpg"]
    with Image.open("out/a_x2.jpg") as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize("name", upscale._FORMATS)
def test_format(name):
    if name == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    save("a.b.png")
    assert run("-i", "a.b.png", "-o", "out", "--weights=bicubic", f"--format={name}") == 0
    with Image.open(f"out/a.b.{name}") as image:
        assert image.format == images.SUFFIXES[f".{name}"]
        assert image.size == (2 * WIDTH, 2 * HEIGHT)


def test_single_file_output_takes_the_format_of_its_suffix():
    save("a.png")
    assert run("-i", "a.png", "-o", "new/folder/large.JPG", "--weights=bicubic") == 0
    with Image.open("new/folder/large.JPG") as image:
        assert image.format == "JPEG"
    assert run("-i", "a.png", "-o", "b.tif", "--weights=bicubic", "--format=tiff") == 0


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_quality_reaches_the_file(suffix):
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    save("a.png", noise)
    sizes = []
    for quality in (5, 95):
        output = f"{quality}.{suffix}"
        assert run("-i", "a.png", "-o", output, "--weights=bicubic", f"--quality={quality}") == 0
        sizes.append(Path(output).stat().st_size)
    assert sizes[1] > 1.5 * sizes[0]


def test_home_and_odd_names(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    save("my  photos/ä b.png")
    save(os.fsdecode(b"my  photos/\xff.png"))
    assert run("-i", "~/my  photos", "-o", "~/out", "--weights=bicubic") == 0
    assert len(files_in("out")) == 2
    assert "\\udcff.png" in capsys.readouterr().out


# Not overwriting


def test_beside_a_photo_the_result_has_another_name(capsys):
    before = save("photos/a.png").read_bytes()
    assert run("photos", "-o", "photos", "--weights=bicubic") == 0
    assert files_in("photos") == ["a.png", "a_x2.png"]
    assert Path("photos/a.png").read_bytes() == before
    assert run("photos", "-o", "photos", "--weights=bicubic", "--suffix=", "--overwrite") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "photos/a.png: its result photos/a.png would replace a photo of the input; use --suffix" in error
    assert Path("photos/a.png").read_bytes() == before


def test_replacing_a_photo_through_a_link_is_refused(capsys):
    save("real/a.png")
    Path("photos").mkdir()
    Path("photos/a.png").symlink_to(Path("real/a.png").resolve())
    Path("elsewhere").symlink_to("real")
    assert run("-i", "photos", "-o", "real", "--weights=bicubic") == 2
    assert capsys.readouterr().err.count("would replace a photo") == 1
    assert run("-i", "real", "-o", "elsewhere", "--weights=bicubic") == 0  # the photo's own folder
    assert files_in("real") == ["a.png", "a_x2.png"]


def test_only_the_photo_in_danger_is_left_out(capsys):
    save("a.png")
    save("other/a.png")
    save("other/b.png")
    assert run("-i", "a.png,other", "-o", ".", "--weights=bicubic") == 1
    assert capsys.readouterr().err.startswith("realsr-upscale: other/a.png: its result a.png would replace")
    assert load("a_x2.png").shape == load("b.png").shape == (2 * HEIGHT, 2 * WIDTH, 3)


def test_colliding_names(capsys):
    save("photos/a.jpg")
    save("photos/a.png")
    assert run("-i", "photos", "-o", "out", "--weights=bicubic", "--format=png") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(
        "realsr-upscale: photos/a.png: its result out/a.png is already that of photos/a.jpg"
    )
    assert captured.err.count("\n") == 1
    assert files_in("out") == ["a.png"]


def test_file_named_twice_is_upscaled_once(capsys):
    save("photos/a.png")
    assert run("-i", "photos,photos/a.png,./photos/a.png", "-o", "out", "--weights=bicubic") == 0
    assert "1 of 1 photos" in capsys.readouterr().out


def test_results_that_exist_are_kept(capsys):
    save("photos/a.png")
    save("photos/b.png")
    Path("out").mkdir()
    Path("out/a.png").write_bytes(b"kept")
    assert run("photos", "-o", "out", "--weights=bicubic") == 0
    assert Path("out/a.png").read_bytes() == b"kept"
    assert load("out/b.png").shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert ", out/a.png exists already (--overwrite replaces it)\n" in capsys.readouterr().out
    assert run("photos", "-o", "out", "--weights=bicubic") == 0
    line = "nothing to do, 2 results exist already (--overwrite replaces them)\n"
    assert capsys.readouterr().out == line
    assert run("photos", "-o", "out", "--weights=bicubic", "--overwrite") == 0
    assert load("out/a.png").shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert "exist" not in capsys.readouterr().out


# Several processes


def share_of(capsys):
    """The last line that was printed."""
    return capsys.readouterr().out.splitlines()[-1]


def test_shards_upscale_each_photo_once(monkeypatch, capsys):
    names = [f"{number}.png" for number in range(7)]
    for number, name in enumerate(names):
        save(f"photos/{name}", golden.photo(HEIGHT + 4 * number, WIDTH))
    written = []
    write = images.write_photo

    def write_and_tell(photo, path, **options):
        written.append(path.name)
        write(photo, path, **options)

    monkeypatch.setattr(images, "write_photo", write_and_tell)
    parts = []
    for part in (3, 1, 2):
        before = len(written)
        assert run("photos", "-o", "out", "--weights=bicubic", f"--shard={part}/3") == 0
        parts.append(written[before:])
        assert share_of(capsys) == f"shard {part}/3: {len(parts[-1])} of 7 photos"
    assert sorted(written) == names
    assert min(map(len, parts)) >= 2
    (Path("out") / parts[0][0]).unlink()  # a process was lost
    assert run("photos", "-o", "out", "--weights=bicubic", "--shard=3/3") == 0
    assert written[7:] == parts[0][:1]
    assert run("photos", "-o", "out", "--weights=bicubic") == 0
    assert len(written) == 8


def test_shards_of_results_beside_their_photos():
    """A process that starts late sees results of the others, which are no photos."""
    for name in "abcde":
        save(f"{name}.jpg")
    for part in (1, 2):
        assert run("*.jpg", "--weights=bicubic", "--scale=1.5", f"--shard={part}/2") == 0
    assert files_in(".") == sorted(f"{name}{end}.jpg" for name in "abcde" for end in ("", "_x1.5"))


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_shards_see_names_that_collide_in_the_whole_folder(order, capsys):
    save("photos/a.jpg")
    save("photos/a.png", golden.photo(64, 64))
    save("photos/b.png", golden.photo(60, 64))
    options = ("-o", "out", "--weights=bicubic", "--format=png")
    assert sorted(run("photos", *options, f"--shard={part}/2") for part in order) == [0, 1]
    err = capsys.readouterr().err
    assert "photos/a.png: its result out/a.png is already that of photos/a.jpg" in err
    assert err.count("\n") == 1
    assert load("out/a.png").shape == (2 * HEIGHT, 2 * WIDTH, 3)


def test_a_cluster_tells_the_shard(monkeypatch, capsys):
    monkeypatch.setattr(shard_flags, "shard_of_cluster", lambda: Shard(1, 2))
    for name in "abc":
        save(f"photos/{name}.png")
    assert run("photos", "-o", "out", "--weights=bicubic", "--distributed") == 0
    assert share_of(capsys) == "shard 2/2: 1 of 3 photos"


def test_more_shards_than_photos(capsys):
    save("photos/a.png")
    assert run("photos", "-o", "out", "--weights=bicubic", "--shard=2/2") == 0
    assert capsys.readouterr().out == "nothing to do\nshard 2/2: 0 of 1 photo\n"


def test_each_shard_has_its_own_report():
    for name in "ab":
        save(f"photos/{name}.png")
    for part in (1, 2):
        assert run("photos", "-o", "out", "--weights=bicubic", "--report=look", f"--shard={part}/2") == 0
    assert files_in("look") == ["shard_1_of_2/index.html", "shard_2_of_2/index.html"]


def test_all_shards_choose_the_same_tiles(monkeypatch):
    """Otherwise results would depend on how many processes there are."""
    listed = []
    monkeypatch.setattr(
        photo_upscaling, "_sizes", lambda photos: listed.append([path.name for path in photos]) or set()
    )
    for name in "abc":
        save(f"photos/{name}.png")
    for part in (1, 2):
        assert run("photos", "-o", "out", "--weights=bicubic", f"--shard={part}/2") == 0
    assert listed == [["a.png", "b.png", "c.png"]] * 2


# What people type


def test_the_result_of_a_photo_stands_beside_it(weights):
    save("photos/a.b.jpg")
    assert run("photos/a.b.jpg", "--weights=bicubic") == 0
    assert run("photos/a.b.jpg", f"--weights={weights}/edsr_tiny_x3", "--format=png") == 0
    assert files_in("photos") == ["a.b.jpg", "a.b_x2.jpg", "a.b_x3.png"]
    assert load("photos/a.b_x3.png").shape == (3 * HEIGHT, 3 * WIDTH, 3)


@pytest.mark.parametrize("name", ["photos", "photos/", "./photos", "photos/sub/.."])
def test_the_results_of_a_folder_stand_in_a_folder_beside_it(name):
    save("photos/a.png")
    save("photos/sub/b.png")
    assert run(name, "--weights=bicubic", "--recursive") == 0
    assert files_in("photos_x2") == ["a.png", "sub/b.png"]
    assert files_in("photos") == ["a.png", "sub/b.png"]


def test_the_folder_one_is_in(monkeypatch):
    save("photos/a.png")
    monkeypatch.chdir("photos")
    assert run(".", "--weights=bicubic") == 0
    assert files_in("..") == ["photos/a.png", "photos_x2/a.png"]


def test_files_folders_patterns_and_flags_in_any_order():
    for name in ("a,b.png", "c.png", "one/d.png", "two/e.png", "f1.png", "f2.png", "f3.png", "[g].png"):
        save(name)
    args = ("c.png", "--weights=bicubic", "one", "--input=a,b.png", "f[12].*", "-i", "two,f3.png", "[g].png")
    assert run(*args, "-o", "out") == 0
    names = ["[g].png", "a,b.png", "c.png", "d.png", "e.png", "f1.png", "f2.png", "f3.png"]
    assert files_in("out") == names


def test_a_pattern_through_folders():
    save("photos/a/b.png")
    save("photos/c.png")
    assert run("photos/**/*.png", "--weights=bicubic") == 0
    assert files_in("photos") == ["a/b.png", "a/b_x2.png", "c.png", "c_x2.png"]


@pytest.mark.parametrize(
    "command_line",
    [
        ("*.png",),
        ("photos",),
        ("photos*",),
        (".", "--recursive", "-o", "out"),
        ("**/*.*",),
        ("*", "-o", "out"),
        ("photos", "*.png", "--format=jpg"),
        ("*.png", "--suffix=_big"),
        ("photos", "-o", "photos/out", "--recursive"),
        ("photos", "-o", "photos", "--recursive"),
    ],
    ids=str,
)
def test_results_of_an_earlier_run_are_not_upscaled_again(command_line, capsys):
    save("a.png")
    save("photos/b.png")
    save("photos/c.png")
    assert run(*command_line, "--weights=bicubic") == 0
    before = files_in(".")
    assert len(before) > 3
    capsys.readouterr()
    assert run(*command_line, "--weights=bicubic") == 0
    assert files_in(".") == before
    assert capsys.readouterr().out.startswith("nothing to do, ")


def test_results_by_other_scales_and_formats_are_no_photos(capsys):
    photos = ["a.png", "b_x2.png", "c.png", "c_x.png", "cx2.png"]
    for name in (*photos, "a_x4.jpg", "a_x0.5.png", "a_90x60.png", "a_33w.png", "a_12MP.png", "a_0.5MP.png"):
        save(f"photos/{name}")
    assert run("photos", "--weights=bicubic") == 0
    assert files_in("photos_x2") == photos
    assert capsys.readouterr().out.endswith("\nleft out: 6 results of an earlier run\n")
    assert run("photos/a_x4.jpg", "--weights=bicubic") == 0  # named alone, it is what is wanted
    assert Path("photos/a_x4_x2.jpg").exists()


def test_what_is_left_out_is_said(capsys):
    save("photos/a.png")
    save("photos/one/b.png")
    save("photos/.two/c.png")
    for name in ("a.mov", "b.MOV", "c.raw", "notes", ".hidden.txt"):
        Path("photos", name).write_bytes(b"no photo")
    assert run("photos", "--weights=bicubic") == 0
    line = "left out: 2 .mov, 1 .raw, 1 without suffix, 1 subfolder (--recursive)\n"
    assert capsys.readouterr().out.endswith(f"\n{line}")
    assert run("photos", "--weights=bicubic", "--recursive") == 0
    assert capsys.readouterr().out.endswith("left out: 2 .mov, 1 .raw, 1 without suffix\n")


def test_an_output_folder_that_is_named_too_is_told(capsys):
    save("a.png")
    save("photos/b.png")
    for _ in range(2):
        assert run("a.png", "photos", "-o", "photos", "--weights=bicubic") == 0
        assert capsys.readouterr().out.endswith("\nleft out: photos, the folder of the results\n")
    assert files_in("photos") == ["a.png", "b.png"]


def test_many_kinds_of_files_are_told_in_one_line(capsys):
    save("photos/a.png")
    for i in range(9):
        for j in range(9 - i):
            Path(f"photos/{j}.{'abcdefghi'[i]}").touch()
    assert run("photos", "--weights=bicubic") == 0
    line = "left out: 9 .a, 8 .b, 7 .c, 6 .d, 5 .e, 4 .f, 6 others\n"
    assert capsys.readouterr().out.endswith(line)


def test_named_files_that_are_no_photos(capsys):
    """As of cp, the status tells of them; a photo is one under any name, and its result has the right one."""
    save("a.png").rename("photo.dat")
    save("sub/b.png")
    Path("c.txt").write_bytes(b"no photo")
    Path("empty").mkdir()
    assert run("photo.dat", "c.txt", "sub", "empty", "-o", "out", "--weights=bicubic") == 1
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.endswith("left out: 1 .txt, 1 folder without photos\n")
    assert files_in("out") == ["b.png", "photo.png"]
    assert run("c.txt", "-o", "out", "--weights=bicubic") == 1
    assert "c.txt: not a PNG, JPEG" in capsys.readouterr().err


def test_a_folder_of_folders_is_explained(capsys):
    save("photos/sub/a.png")
    assert run("photos", "--weights=bicubic") == 2
    error = capsys.readouterr().err
    assert error.startswith("realsr-upscale: photos: no PNG, JPEG, WebP, ")
    assert error.endswith(" files in this folder, but 1 subfolder (--recursive)\n")


# Failing


def test_broken_file_among_good_ones(capsys):
    for name in ("a.png", "c.png", "d.png"):
        save(f"photos/{name}")
    data = save("photos/b.png").read_bytes()
    Path("photos/b.png").write_bytes(data[: len(data) // 2])
    Path("photos/c.png").write_bytes(b"not a picture")
    assert run("-i", "photos", "-o", "out", "--weights=bicubic") == 1
    captured = capsys.readouterr()
    lines = sorted(captured.err.splitlines())
    assert len(lines) == 2
    assert lines[0].startswith("realsr-upscale: photos/b.png: broken or cut off")
    assert (
        lines[1] == "realsr-upscale: photos/c.png: not a PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC or GIF image"
    )
    assert files_in("out") == ["a.png", "d.png"]
    line = r"\d\d:\d\d:\d\d photos/(.)\.png -> out/\1\.png, 16x12 to 32x24, 1 of 4 photos.*"
    assert re.fullmatch(line, captured.out.splitlines()[0])
    assert re.match(r"2 of 4 photos, in \d+ s, see out/, ", captured.out.splitlines()[-1])
    assert captured.out.endswith(", 2 failed\n")


def test_what_is_no_file_is_named_and_not_waited_for(capsys):
    save("photos/a.png")
    os.mkfifo("photos/b.png")
    Path("photos/c.png").symlink_to("/dev/zero")
    Path("photos/d.png").symlink_to("e.png")
    Path("photos/e.png").symlink_to("d.png")
    for photos in (["photos"], sorted(map(str, Path("photos").iterdir()))):
        assert run(*photos, "-o", "out", "--weights=bicubic", "--overwrite") == 1
        assert sorted(capsys.readouterr().err.splitlines()) == [
            "realsr-upscale: photos/b.png: is a pipe, not a file",
            "realsr-upscale: photos/c.png: is a device, not a file",
            "realsr-upscale: photos/d.png: too many levels of symbolic links",
            "realsr-upscale: photos/e.png: too many levels of symbolic links",
        ]
        assert files_in("out") == ["a.png"]


def test_names_that_a_terminal_would_obey(capsys):
    name = "a\x1b[2J\nrealsr-upscale: all went well\u202e.png"
    save(f"photos/{name}")
    save("photos/b\n.png").write_bytes(b"no picture")
    assert run("photos", "-o", "out", "--weights=bicubic") == 1
    captured = capsys.readouterr()
    assert files_in("out") == [name]
    assert captured.err.startswith(r"realsr-upscale: photos/b\n.png: not a PNG, JPEG")
    assert r"photos/a\x1b[2J\nrealsr-upscale: all went well\u202e.png -> out/a" in captured.out
    assert captured.err.count("\n") == 1
    assert (captured.out + captured.err).replace("\n", "").isprintable()


def test_lack_of_memory_is_one_line(monkeypatch, capsys):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(photo_jobs, "plan_jobs", fail)
    assert run(save("a.png")) == 1
    assert capsys.readouterr().err == "realsr-upscale: too large for this machine's memory\n"


def test_result_that_does_not_fit_into_the_memory(monkeypatch, capsys):
    save("a.png")
    save("b.png", np.zeros((1100, 1000, 3), np.uint8))
    monkeypatch.setattr(limits, "available_memory", lambda: 12_000_000)
    assert run("a.png", "b.png", "-o", "out", "--weights=bicubic") == 1
    reason = (
        "2000 x 2200 pixels, 4.4 megapixels, are more than the 2.0 that fit into this machine's free memory"
    )
    assert capsys.readouterr().err == f"realsr-upscale: b.png: {reason}\n"
    assert files_in("out") == ["a.png"]


def test_all_failed(capsys):
    Path("a.png").write_bytes(b"")
    assert run("-i", "a.png", "-o", "out", "--weights=bicubic") == 1
    captured = capsys.readouterr()
    assert captured.err == "realsr-upscale: a.png: the file is empty\n"
    assert captured.out == "0 of 1 photos, 1 failed\n"


def test_a_path_with_two_spaces_is_named_once(capsys):
    Path("my  photos").mkdir()
    Path("my  photos/a.png").write_bytes(b"")
    assert run("-i", "my  photos/a.png", "-o", "out", "--weights=bicubic") == 1
    assert capsys.readouterr().err == "realsr-upscale: my  photos/a.png: the file is empty\n"


def test_file_that_vanishes_after_listing(monkeypatch, capsys):
    save("photos/a.png")
    save("photos/b.png")
    plan = photo_jobs.plan_jobs

    def plan_and_lose(*args, **kwargs):
        jobs = plan(*args, **kwargs)
        Path("photos/a.png").unlink()
        return jobs

    monkeypatch.setattr(photo_jobs, "plan_jobs", plan_and_lose)
    assert run("-i", "photos", "-o", "out", "--weights=bicubic") == 1
    assert capsys.readouterr().err == "realsr-upscale: photos/a.png: no such file or directory\n"
    assert files_in("out") == ["b.png"]


def fail_on_low_photos(monkeypatch, error):
    """Lets the upscaling of photos of five rows raise an error; returns the function without it."""
    real = photo_upscaling.upscale_photo

    def fail(photo, **kwargs):
        if len(photo.rgb) == 5:
            raise error
        return real(photo, **kwargs)

    monkeypatch.setattr(photo_upscaling, "upscale_photo", fail)
    return real


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "too large for this machine's memory"),
        (RuntimeError("INTERNAL: it broke\nat some place"), "INTERNAL: it broke"),
        (RuntimeError(), "RuntimeError"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory"),
            "pass a smaller --tile_batch, --tile_size or --chop_size",
        ),
        (
            RuntimeError("INTERNAL: Failed to determine best cudnn convolution algorithm for:\n%x = f32[1]"),
            "pass a smaller --tile_batch, --tile_size or --chop_size",
        ),
        (ValueError("shave_size 80 is too large"), "shave_size 80 is too large"),
    ],
    ids=repr,
)
def test_network_that_fails_on_one_photo(monkeypatch, capsys, error, line):
    save("photos/a.png", RGB[:5])
    save("photos/b.png")
    fail_on_low_photos(monkeypatch, error)
    assert run("-i", "photos", "-o", "out", "--weights=bicubic") == 1
    message = capsys.readouterr().err
    assert message.startswith("realsr-upscale: photos/a.png: ")
    assert message.endswith(f"{line}\n")
    assert message.count("\n") == 1
    assert files_in("out") == ["b.png"]


def test_format_that_cannot_hold_the_photo(capsys):
    save("a.png", np.dstack([RGB, ALPHA]))
    assert run("-i", "a.png", "-o", "a.jpg", "--weights=bicubic") == 1
    error = capsys.readouterr().err
    reason = "JPEG cannot hold transparency; pass --background=white, or another --format"
    assert error == f"realsr-upscale: a.png: {reason}\n"
    assert not Path("a.jpg").exists()


def test_write_that_fails_leaves_nothing(monkeypatch, capsys):
    save("photos/a.png")
    save("photos/b.png")
    replace = os.replace

    def fail_for_a(source, target):
        if Path(target).name == "a.png":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_for_a)
    assert run("-i", "photos", "-o", "out", "--weights=bicubic") == 1
    assert capsys.readouterr().err == "realsr-upscale: photos/a.png: out/a.png: no space left on device\n"
    assert files_in("out") == ["b.png"]


def test_damaged_metadata_is_not_worth_a_word(capsys):
    data = save("a.tif", dpi=(300, 300)).read_bytes()
    x_resolution = struct.pack("<HHI", ExifTags.Base.XResolution, TiffTags.RATIONAL, 1)
    at = data.index(x_resolution) + len(x_resolution)
    Path("a.tif").write_bytes(data[:at] + struct.pack("<I", 2**31) + data[at + 4 :])
    assert run("-i", "a.tif", "-o", "out", "--weights=bicubic") == 0
    assert capsys.readouterr().err == ""
    np.testing.assert_array_equal(load("out/a.tif"), enlarged(RGB))


def test_only_the_first_page_is_upscaled(capsys):
    page = Image.fromarray(RGB)
    page.save("a.tif", save_all=True, append_images=[page, page])
    assert run("-i", "a.tif", "-o", "out", "--weights=bicubic") == 0
    error = capsys.readouterr().err
    assert error == "realsr-upscale: a.tif: only the first of 3 frames or pages is used\n"


def test_interrupt_leaves_complete_files_only(monkeypatch, capsys):
    for name in "abcd":
        save(f"photos/{name}.png")
    save("photos/c.png", RGB[:5])
    real = fail_on_low_photos(monkeypatch, KeyboardInterrupt())
    assert run("-i", "photos", "-o", "out", "--weights=bicubic") == 130
    names = files_in("out")  # the fourth may be complete, or not begun
    assert names in (["a.png", "b.png"], ["a.png", "b.png", "d.png"])
    line = f"interrupted after {len(names)} of 4 photos; the same command goes on from here"
    assert capsys.readouterr().err.splitlines()[-1] == f"realsr-upscale: {line}"
    for name in names:
        assert load(f"out/{name}").shape == (2 * HEIGHT, 2 * WIDTH, 3)
    monkeypatch.setattr(photo_upscaling, "upscale_photo", real)
    assert run("-i", "photos", "-o", "out", "--weights=bicubic") == 0
    n_left = 4 - len(names)
    assert f"{n_left} of {n_left} photos" in capsys.readouterr().out


def test_reading_and_writing_beside_the_network(monkeypatch):
    for name in "abc":
        save(f"photos/{name}.png")
    second_read, third_started = threading.Event(), threading.Event()
    waited = []
    read, upscale_photo, write = images.read_photo, photo_upscaling.upscale_photo, images.write_photo

    def read_photo(path):
        if path.name == "b.png":
            second_read.set()
        return read(path)

    def watched_upscale(*args, **kwargs):
        if not waited:
            waited.append(second_read.wait(10))
        elif len(waited) == 1:
            third_started.set()
        return upscale_photo(*args, **kwargs)

    def write_photo(photo, path, **kwargs):
        if path.name == "a.png":
            waited.append(third_started.wait(10))
        write(photo, path, **kwargs)

    monkeypatch.setattr(images, "read_photo", read_photo)
    monkeypatch.setattr(photo_upscaling, "upscale_photo", watched_upscale)
    monkeypatch.setattr(images, "write_photo", write_photo)
    assert run("-i", "photos", "-o", "out", "--weights=bicubic") == 0
    assert waited == [True, True]


def test_photos_wait_for_memory_before_they_are_decoded(monkeypatch):
    for name in "abcd":
        save(f"photos/{name}.png")
    held, most = set(), []
    read, write = images.read_photo, images.write_photo

    def read_photo(path):
        held.add(path.name)
        most.append(len(held))
        return read(path)

    def write_photo(photo, path, **kwargs):
        write(photo, path, **kwargs)
        held.remove(path.name)

    monkeypatch.setattr(images, "read_photo", read_photo)
    monkeypatch.setattr(images, "write_photo", write_photo)
    # Too little for two, whose results have four times the pixels and are there three times.
    monkeypatch.setattr(photo_files, "available_memory", lambda: 3 * 2 * 12 * 3 * HEIGHT * WIDTH)
    assert run("photos", "-o", "out", "--weights=bicubic") == 0
    assert most == [1, 1, 1, 1]


@pytest.mark.parametrize("option", ["--scale=2", "--width=50"])
@pytest.mark.parametrize("width", [(3, 1, 0), (2, 4, 0x353535)], ids=["nothing", "text"])
def test_a_tiff_without_width_among_good_photos(width, option, capsys):
    entries = [(256, *width), (257, 3, 1, 5), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8)]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    save("photos/a.png")
    Path("photos/b.tif").write_bytes(
        b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + directory + bytes(50)
    )
    assert run("photos", "-o", "out", "--weights=bicubic", option) == 1
    assert files_in("out") == ["a.png"]
    error = capsys.readouterr().err
    assert error.startswith("realsr-upscale: photos/b.tif: ")
    assert error.count("\n") == 1


# Command lines that are wrong


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("-o out --weights=bicubic", "name photos or folders, such as realsr-upscale photo.jpg"),
        ("", "name photos or folders, such as realsr-upscale photo.jpg"),
        ("--input= -o out --weights=bicubic", "--input=: has an empty entry"),
        ("-i a.png, -o out --weights=bicubic", "--input=a.png,: has an empty entry"),
        ("-i a.png -o out --weights=nowhere", "nowhere: no such weights directory; make one with realsr-con"),
        ("-i a.png -o out --weights=photos", "photos: no weights directory, it holds no model.json"),
        ("-i a.png -o out --weights=W,", "has an empty entry"),
        ("-i a.png -o out --weights=W,W", "twice; to let it count more, use --ensemble_weights"),
        ("-i a.png -o out --weights=W,W_x3", "networks of different scales cannot be averaged: "),
        ("-i a.png -o out --weights=W_x3,bicubic", "_x3 by 3, bicubic by 2"),
        ("-i nothing.png -o out --weights=bicubic", "nothing.png: no such file or folder"),
        ("-i empty -o out --weights=bicubic", "empty: no PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC or GI"),
        ("-i photos -o one.png --weights=bicubic", "one.png: expected a folder for the results"),
        ("-i a.png,photos -o one.png --weights=bicubic", "one.png: expected a folder for the results"),
        ("nothing*.png -o out --weights=bicubic", "nothing*.png: nothing matches this pattern"),
        ("-i photos -o note --weights=bicubic", "--output=note: is a file; name a folder"),
        ("-i a.png -o b.png --weights=bicubic --suffix=_x2", "b.png: --suffix and --format cannot change"),
        ("-i a.png -o b.png --weights=bicubic --format=jpg", "b.png: --suffix and --format cannot change"),
        ("-i a.png -o out --weights=bicubic --suffix=x/y", "--suffix=x/y: cannot contain /"),
        ("-i a.png -o note/out --weights=bicubic", "--output=note/out: cannot be made, "),
        ("a.png b.png -o out --weights=bicubic", "b.png: no such file or folder"),
        ("-i a.png -o out --weights=bicubic --wieghts=x", "Unknown command line flag 'wieghts'"),
        ("a.png --weights=bicubic --background=blau", "--background=blau: expected white, '#102030' or"),
        ("-i a.png -o out --weights=bicubic --format=gif", "--format=gif: value should be one of"),
        ("-i a.png -o out --weights=bicubic --quality=0", "--quality=0: 0 is not an integer in the range"),
        ("-i a.png -o out --weights=bicubic --quality=x", "--quality=x: expected a whole number"),
        ("-i a.png -o out --weights=bicubic --tile_batch=0", "--tile_batch=0"),
        ("-i a.png -o out --weights=bicubic --dtype=float16", "--dtype=float16: value should be one of"),
        ("-i a.png -o x.gif --weights=bicubic", "x.gif: the suffix must be one of .png"),
        ("-i a.png -o out --weights=a.png", "a.png: is a file; convert it first: realsr-convert"),
        ("-i a.png -o out --weights=W --tile_size=x", "--tile_size=x: expected whole numbers, separated by"),
        ("-i a.png -o out --weights=W --tile_size=4", "--tile_size=4: --tile_size is 4, expected at"),
        ("-i a.png -o out --weights=W --tile_size=10", "=10: --tile_overlap is 32, expected 0 to half the"),
        ("-i a.png -o out --shard=3/2", "--shard='3/2' is no part; expected one such as 3/8"),
        ("-i a.png -o out --shard=1/2 --distributed", "--shard and --distributed both say which part"),
        ("-i a.png -o out --weights=W --chop_size=0", "--chop_size=0: --chop_size is 0, expected at least 1"),
        ("-i a.png -o out --weights=W --tile_overlap=200", "overlap is 200, expected 0 to half the tile"),
        ("-i a.png -o out --weights=W --tile_size=64,96 --tile_overlap=8,8,8", "has 2 entries and tile_over"),
        ("-i a.png -o out --weights=W --chop_size=9 --tile_size=64", "chop_size excludes tile_size"),
        ("-i a.png -o out --weights=W --chop_size=9 --tile_overlap=8", "chop_size excludes tile_size"),
        ("-i a.png -o out --weights=W --shave_size=8", "shave_size needs a chop_size"),
        ("-i a.png -o out --weights=W --ensemble_weights=1,2", "has 2 numbers for 1 networks"),
        ("-i a.png -o out --weights=W --ensemble_weights=x", "--ensemble_weights=x: expected numbers"),
        ("-i a.png -o out --weights=W,bicubic --ensemble_weights=1,0", "expected numbers above 0"),
        ("-i a.png -o out --weights=W,bicubic --ensemble_weights=inf,1", "expected numbers above 0"),
        ("-i a.png -o out --weights=W,bicubic --ensemble_weights=1,nan", "expected numbers above 0"),
        ("-i a.png -o out --weights=W --strength=1.5", "strength is 1.5, expected a number from 0 to 1"),
        ("-i a.png -o out --weights=W --denoise=0.5", "--denoise is of the network 'default' and not of"),
        ("-i a.png -o out --denoise=-1", "denoise is -1.0, expected a number from 0 to 1"),
        ("-i a.png -o out --weights=W --strength=nan", "strength is nan, expected a number from 0 to 1"),
        ("-i a.png -o out --config=nowhere", "--config=nowhere: no such file, nor one of the bundled config"),
        ("-i a.png -o out --config=nowhere.py", "--config=nowhere.py: no such file"),
        ("-i a.png -o out --config=aim2020_testset", "4 of 4 networks are missing: weights/edsr, "),
        ("-i a.png -o out --config=aim2020_testset --weights=W,W", "names 2 directories, --config=aim2020"),
        ("-i a.png -o out --config=aim2020_testset --self_ensemble", "--self_ensemble cannot stand beside"),
        ("-i a.png -o out --config=broken.py", "--config=broken.py: line 1: ZeroDivisionError: division"),
        ("-i a.png -o out --config=syntax.py", "--config=syntax.py: line 1: SyntaxError: invalid syntax"),
        ("-i a.png -o out --config=empty.py", "--config=empty.py: has no function get_config()"),
        ("-i a.png -o out --config=other.py", "--config=other.py: describes no inference run"),
        ("-i a.png -o out --config=note", "--config=note"),
    ],
)  # fmt: skip
def test_wrong_command_lines(args, message, weights, capsys):
    save("a.png")
    save("photos/a.png")
    Path("empty").mkdir()
    Path("note").write_text("no photo")
    for name, text in {
        "broken.py": "1 / 0",
        "syntax.py": "def",
        "empty.py": "",
        "other.py": "def get_config():\n    return 3",
    }.items():
        Path(name).write_text(text)
    words = args.replace("W", str(weights / "edsr_tiny")).split()
    assert run(*words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("realsr-upscale: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not Path("out").exists()


def test_the_published_run_says_which_networks_are_missing(weights, capsys):
    save("a.png")
    for name in ("edsr", "oaddet"):
        shutil.copytree(weights / "edsr_tiny", f"weights/{name}")
    assert run("-i", "a.png", "-o", "out", "--config=aim2020_testset") == 2
    assert capsys.readouterr().err == (
        "realsr-upscale: --config=aim2020_testset: "
        "2 of 4 networks are missing: weights/drln, weights/deep_oaddet; "
        "convert their files: realsr-convert --input=AIM_DRLN_X2.pt --output=weights/drln; "
        "realsr-convert --input=AIM_WDDET_X2.pt --output=weights/deep_oaddet\n"
    )


def test_a_failing_config_is_told_by_line_and_with_debug_by_traceback(capsys):
    save("a.png")
    text = "def get_config():\n\n    return helper()\n\ndef helper():\n    return missing\n"
    Path("my.py").write_text(text)
    arguments = ("-i", "a.png", "-o", "out", "--config=my.py")
    line = "realsr-upscale: --config=my.py: line 6: NameError: name 'missing' is not defined\n"
    assert run(*arguments) == 2
    assert capsys.readouterr().err == line
    assert run(*arguments, "--debug") == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert 'my.py", line 6, in helper' in error
    assert error.endswith(line)


def test_folder_without_permission(monkeypatch, capsys):
    save("a.png")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for output in ("out", "out/b.png"):
        assert run("-i", "a.png", "-o", output, "--weights=bicubic") == 2
        assert capsys.readouterr().err == (
            "realsr-upscale: --output=out: cannot be made (Permission denied)\n"
        )


def test_damaged_weights(weights, tmp_path, capsys):
    """The description does not fit the parameters."""
    save("a.png")
    shutil.copytree(weights / "edsr_tiny", tmp_path / "damaged")
    description = tmp_path / "damaged" / "model.json"
    text = description.read_text()
    assert '"n_resblocks": 2' in text
    description.write_text(text.replace('"n_resblocks": 2', '"n_resblocks": 1'))
    assert run("-i", "a.png", "-o", "out", "--weights=damaged") == 1
    error = capsys.readouterr().err
    assert error.startswith("realsr-upscale: damaged/params.safetensors: does not fit model.json")
    assert error.count("\n") == 1


# Networks


def test_network(weights, capsys):
    save("a.png")
    save("b.png", golden.photo(HEIGHT + 9, WIDTH - 5, seed=1))
    command_line = ("-o", "out", f"--weights={weights}/edsr_tiny", "--tile_size=16", "--tile_overlap=4")
    assert run("-i", "a.png,b.png", *command_line) == 0
    upscaler = photo_upscaling.Upscaler(
        *photo_upscaling.load_weights(weights / "edsr_tiny"), tilings=(UniformTiles(16, 4),)
    )
    for name in ("a.png", "b.png"):
        expected = np.rint(np.clip(upscaler(load(name)), 0, 255))
        np.testing.assert_array_equal(load(f"out/{name}"), expected)
    assert "2 of 2 photos" in capsys.readouterr().out


@pytest.fixture
def loaded(monkeypatch):
    """Collects the runs that the command wants loaded, for which plain interpolation stands in."""
    configs = []

    def load_inference(config, *, tile_batch, photos, size):
        assert all(photo.is_file() for photo in photos)
        configs.append((config, tile_batch))
        return photo_upscaling.BicubicUpscaler()

    monkeypatch.setattr(photo_upscaling, "load_inference", load_inference)
    return configs


def test_flags_reach_the_run(weights, loaded):
    save("a.png")
    assert run(
        *("-i", "a.png", "-o", "out", f"--weights={weights}/edsr_tiny,bicubic", "--ensemble_weights=3,1"),
        *("--noround_each", "--self_ensemble", "--dtype=bfloat16", "--guided_filter", "--tile_batch=3"),
        *("--chop_size=450,300", "--shave_size=80,10"),
    ) == 0  # fmt: skip
    ((config, tile_batch),) = loaded
    assert [run.weights for run in config.runs] == [f"{weights}/edsr_tiny", "bicubic"]
    assert [run.weight for run in config.runs] == [3.0, 1.0]
    assert all(run.tilings == (QuarterTiles(450, 80), QuarterTiles(300, 10)) for run in config.runs)
    assert all(run.self_ensemble for run in config.runs)
    assert (config.round_each, config.dtype, config.guided_filter, tile_batch) == (False, "bfloat16", True, 3)


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0])
def test_strength_lies_between_bicubic_and_the_network(strength, weights):
    save("a.png")
    lr = load("a.png")
    network = f"--weights={weights}/edsr_tiny"
    assert run("-i", "a.png", "-o", "out.png", network, f"--strength={strength}") == 0
    sr, bicubic = load_upscaler(weights / "edsr_tiny")(lr), BicubicUpscaler(2)(lr)
    expected = np.clip(strength * sr + (1 - strength) * bicubic, 0, 255)
    np.testing.assert_allclose(load("out.png"), expected, atol=0.51)


def test_strength_of_several_networks(weights):
    save("a.png")
    networks = f"--weights={weights}/edsr_tiny,bicubic"
    assert run("-i", "a.png", "-o", "out.png", networks, "--ensemble_weights=3,1", "--strength=0.5") == 0
    upscalers = load_upscaler(weights / "edsr_tiny"), BicubicUpscaler(2)
    network, bicubic = (np.rint(np.clip(upscaler(load("a.png")), 0, 255)) for upscaler in upscalers)
    expected = 0.5 * (3 * network + bicubic) / 4 + 0.5 * bicubic
    np.testing.assert_allclose(load("out.png"), expected, atol=0.51)


def picture(uri):
    data = base64.b64decode(uri.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)))


def test_report_shows_results_and_interpolation(weights, capsys):
    for name in "ab":
        save(f"photos/{name}.png")
    Path("photos/c.png").write_bytes(b"broken")
    network = f"{weights}/edsr_tiny"
    assert run("photos", "-o", "out", f"--weights={network}", "--report=page", "--scale=1.5") == 1
    assert capsys.readouterr().out.endswith("report: page/index.html\n")
    data = data_of(Path("page/index.html"))
    assert [image["name"] for image in data["images"]] == ["photos/a.png", "photos/b.png"]
    assert data["labels"] == {"bicubic": "Bicubic", "sr": network}
    shown = data["images"][0]["images"]
    np.testing.assert_array_equal(picture(shown["sr"]), load("out/a.png"))
    assert run("photos/a.png", "-o", "bicubic.png", "--weights=bicubic", "--scale=1.5") == 0
    np.testing.assert_array_equal(picture(shown["bicubic"]), load("bicubic.png"))
    capsys.readouterr()
    assert run("photos/a.png", "-o", "out", f"--weights={network}", "--report=again", "--scale=1.5") == 0
    assert capsys.readouterr().out.endswith("report: there are no new results to show\n")
    assert not Path("again").exists()


def test_report_shows_each_of_several_networks(weights):
    save("a.png")
    network = f"{weights}/edsr_tiny"
    assert run("a.png", "-o", "one.png", f"--weights={network}") == 0
    assert run("a.png", "-o", "out.jpg", f"--weights={network},bicubic", "--report=page") == 0
    data = data_of(Path("page/index.html"))
    assert data["labels"] == {
        "bicubic": "Bicubic",
        "network0": network,
        "network1": "bicubic",
        "sr": "Mean of all",
    }
    shown = data["images"][0]["images"]
    assert list(shown) == ["bicubic", "network0", "network1", "sr"]
    np.testing.assert_array_equal(picture(shown["network0"]), load("one.png"))


@pytest.mark.slow
def test_report_shows_the_part_of_large_photos_where_they_differ_most():
    photo = np.full((700, 600, 3), 90, np.uint8)
    photo[600:640, 500:560] = golden.photo(40, 60)
    save("a.png", photo)
    assert run("a.png", "-o", "out.png", "--weights=bicubic", "--guided_filter", "--report=page") == 0
    (image,) = data_of(Path("page/index.html"))["images"]
    assert (image["width"], image["height"]) == (1024, 1024)
    assert picture(image["images"]["sr"]).std() > 5  # where it is flat, it would be 0


def test_guided_filter_of_a_config(weights):
    save("a.png")
    Path("run.py").write_text(
        "from realsr_jax.upscaling.inference_config import InferenceConfig, ModelRun\n"
        "def get_config():\n"
        "    run = ModelRun('bicubic')\n"
        "    return InferenceConfig((run,), guided_filter=True, guided_radius=2, guided_eps=50.0)\n"
    )
    assert run("-i", "a.png", "-o", "1.png", "--config=run.py") == 0
    flags = ("--guided_filter", "--guided_radius=2", "--guided_eps=50")
    assert run("-i", "a.png", "-o", "2.png", "--weights=bicubic", *flags) == 0
    assert run("-i", "a.png", "-o", "3.png", "--config=run.py", "--guided_radius=5") == 0
    assert Path("1.png").read_bytes() == Path("2.png").read_bytes() != Path("3.png").read_bytes()


def test_bundled_config_with_other_weights(weights, loaded):
    save("a.png")
    directories = [f"{weights}/edsr_tiny", "bicubic", f"{weights}/edsr_tiny", "bicubic"]
    flags = ("--config=aim2020_testset", f"--weights={','.join(directories)}", "--dtype=bfloat16")
    assert run("-i", "a.png", "-o", "out", *flags) == 0
    ((config, _),) = loaded
    assert [run.weights for run in config.runs] == directories
    assert [run.self_ensemble for run in config.runs] == [True, True, False, False]
    assert config.runs[1].tilings == (QuarterTiles(450, 50), QuarterTiles(250, 100))
    assert config.dtype == "bfloat16"


def test_config_by_path(weights):
    save("a.png")
    Path("my-run.py").write_text(
        "from realsr_jax.upscaling.inference_config import InferenceConfig, ModelRun\n"
        "from realsr_jax.upscaling.tilings import QuarterTiles\n"
        "def get_config():\n"
        f"    tiny = ModelRun({str(weights / 'edsr_tiny')!r}, (QuarterTiles(8, 2),), self_ensemble=True)\n"
        "    return InferenceConfig((tiny, ModelRun('bicubic', weight=3.0)))\n"
    )
    assert run("-i", "a.png", "-o", "out", "--config=my-run.py") == 0
    tiny = photo_upscaling.Upscaler(
        *photo_upscaling.load_weights(weights / "edsr_tiny"),
        tilings=(QuarterTiles(8, 2),),
        self_ensemble=True,
    )
    parts = [np.rint(np.clip(part(RGB), 0, 255)) for part in (tiny, photo_upscaling.BicubicUpscaler())]
    expected = np.rint((parts[0] + 3 * parts[1]) / 4)
    np.testing.assert_array_equal(load("out/a.png"), expected)


@pytest.mark.parametrize("options", [{}, {"radius": 3}, {"eps": 1000.0}, {"radius": 2, "eps": 0.5}], ids=str)
def test_guided_filter(options):
    save("a.png")
    flags = [f"--guided_{name}={value}" for name, value in options.items()]
    assert run("-i", "a.png", "-o", "out", "--weights=bicubic", "--guided_filter", *flags) == 0
    sr = np.rint(np.clip(photo_upscaling.BicubicUpscaler()(RGB), 0, 255))
    expected = np.asarray(ops.guided_filter(sr, sr, **({"radius": 10, "eps": 10.0} | options)))
    assert np.abs(load("out/a.png") - np.clip(expected, 0, 255)).max() <= 0.52


def test_profile():
    save("a.png")
    assert run("-i", "a.png", "-o", "out", "--weights=bicubic", "--profile=profile") == 0
    assert [name for name in files_in("profile") if name.endswith(".xplane.pb")]
    assert files_in("out") == ["a.png"]


# Size


@pytest.mark.parametrize(
    ("option", "name", "shape"),
    [
        ("--scale=4", "a_x4.png", (40, 80, 3)),
        ("--scale=1.5", "a_x1.5.png", (15, 30, 3)),
        ("--scale=0.5", "a_x0.5.png", (5, 10, 3)),
        ("--size=100x30", "a_100x30.png", (30, 60, 3)),
        ("--width=33", "a_33w.png", (17, 33, 3)),
        ("--megapixels=0.005", "a_0.005MP.png", (50, 100, 3)),
    ],
)
def test_results_of_any_size(option, name, shape):
    save("a.png", golden.photo(10, 20))
    assert run("a.png", "--weights=bicubic", option) == 0
    assert load(name).shape == shape


def test_a_folder_of_any_orientation_fits_a_box():
    for name, size in (("a", (10, 20)), ("b", (20, 10)), ("c", (9, 9))):
        save(f"photos/{name}.png", golden.photo(*size))
    assert run("photos", "--weights=bicubic", "--size=36x30") == 0
    shapes = [load(f"photos_36x30/{name}.png").shape[:2] for name in "abc"]
    assert shapes == [(18, 36), (30, 15), (30, 30)]


def test_photos_that_are_reduced_only_are_counted(capsys):
    for name, size in (("a", (10, 20)), ("b", (10, 30)), ("c", (10, 31))):
        save(f"photos/{name}.png", golden.photo(*size))
    assert run("photos", "--weights=bicubic", "--width=30") == 0
    assert "\n3 of 3 photos, 1 reduced only, without a network, in " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--size=big"], "--size: 'big' is no size, expected WIDTHxHEIGHT such as 3840x2160"),
        (["--size=0x5"], "--size is (0, 5), expected at least 1x1"),
        (["--scale=0"], "--scale is 0.0, expected a number above 0"),
        (["--scale=1000"], "--scale is 1000.0"),
        (["--megapixels=-1"], "--megapixels is -1.0, expected a number above 0"),
        (["--scale=2", "--width=50"], "scale and width exclude each other"),
    ],
)
def test_sizes_that_cannot_be(options, reason, capsys):
    save("a.png", golden.photo(10, 20))
    assert run("a.png", "--weights=bicubic", *options) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1
    assert files_in(".") == ["a.png"]


# As a process of its own


def test_help_and_errors_need_no_jax():
    save("a.png")
    script = """
import sys
from realsr_jax.cli import command, shard_flags, upscale
assert upscale.run(["x", "--help"]) == upscale.run(["x", "-h"]) == 0
assert upscale.run(["x", "--quality=x"]) == upscale.run(["x"]) == 2
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"jax", "flax", "orbax", "numpy", "PIL", "scipy", "tqdm"}, loaded
assert upscale.run(["x", "-i", "nothing", "-o", "out", "--weights=bicubic"]) == 2
assert upscale.run(["x", "a.png", "-o", "a.txt", "--weights=bicubic"]) == 2
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"jax", "flax", "orbax"}, loaded
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--guided_filter" in done.stdout
    assert done.stderr.count("\n") == 4


def test_help_names_every_flag(capsys):
    table = command.FlagTable()
    upscale._define_flags(table)
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 110
    for name in table.values:
        if len(name) > 1:
            assert f"--{name}" in text or f"--no{name}" in text


def test_closed_output_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "--help"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_interrupt_ends_the_process_by_the_signal():
    save("a.png")
    Path("slow.py").write_text(
        "import pathlib, time\ndef get_config():\n    pathlib.Path('started').touch()\n    time.sleep(60)\n"
    )
    # What a shell runs in the background ignores the signal, and so would all that it starts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*COMMAND, "-i", "a.png", "-o", "out", "--config=slow.py"], stderr=subprocess.PIPE
    )
    signal.signal(signal.SIGINT, before)
    while process.poll() is None and not Path("started").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.stderr.read() == b"realsr-upscale: interrupted\n"
    process.stderr.close()
    assert process.wait() == -signal.SIGINT


def on_terminal(args, *, columns=100, stdout=None):
    """Runs the command on a terminal and returns its exit status and what it printed there."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    environment = os.environ | {"TQDM_MININTERVAL": "0", "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen(
        [*COMMAND, *args], stdout=stdout or follower, stderr=follower, stdin=follower, env=environment
    )
    os.close(follower)
    printed = io.BytesIO()
    while True:
        try:
            chunk = os.read(leader, 4096)
        except OSError:  # how Linux says that the other side is closed
            break
        if not chunk:
            break
        printed.write(chunk)
    os.close(leader)
    return process.wait(), printed.getvalue().decode()


def test_progress_bar_on_a_terminal():
    for name in ("a.png", "b.png", "d.png"):
        save(f"photos/{name}")
    Path("photos/c.png").write_bytes(b"junk")
    with Path("log").open("wb") as log:
        status, printed = on_terminal(["-i", "photos", "-o", "out", "--weights=bicubic"], stdout=log)
    assert status == 1
    assert "| 0 of 4 photos, starting" in printed
    assert "| 2 of 4 photos, 16x12 to 32x24" in printed
    assert (
        "realsr-upscale: photos/c.png: not a PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC or GIF image\r\n"
        in printed
    )
    assert "Warning" not in printed
    assert max(len(frame) for frame in printed.replace("\n", "\r").split("\r")) <= 100
    log = Path("log").read_text().splitlines()
    assert re.search(r" photos/(.)\.png -> out/\1\.png, 16x12 to 32x24, 1 of 4 photos", log[0])
    assert log[-1].startswith("3 of 4 photos, in ")


def test_the_bar_replaces_lines_of_routine():
    save("a.png")
    arguments = ["-i", "a.png", "-o", "out", "--weights=bicubic"]
    status, printed = on_terminal(arguments, columns=0)
    assert status == 0
    assert "1 of 1 photos, in 0 s, see out/a.png\r\n" in re.sub("in . s", "in 0 s", printed)
    assert "a.png ->" not in printed
    status, printed = on_terminal([*arguments])
    assert status == 0
    assert "nothing to do, out/a.png exists already (--overwrite replaces it)\r\n" in printed
    assert "Traceback" not in printed


@pytest.fixture
def report(monkeypatch):
    """A report on three photos as large as a camera's, and a clock that the test sets."""
    clock = [1000.0]
    monkeypatch.setattr(job_report, "monotonic", lambda: clock[0])
    for name in "abc":
        Path(f"{name}.png").write_bytes(bytes(1000))
    jobs = tuple(photo_jobs.Job(Path(f"{name}.png"), Path(f"{name}_x2.png")) for name in "abc")
    return job_report.JobReport("x", photo_jobs.Plan(jobs, jobs)), jobs, clock


def test_time_left_does_not_count_compilation(report, capsys):
    report, jobs, clock = report
    large = images.Photo(np.broadcast_to(np.uint8(0), (4000, 6000, 3)), images.Metadata(), "PNG")
    report.started(jobs[0], large, (8000, 12000))
    clock[0] += 600  # compiling
    assert "left" not in report._state()
    report.progressed(jobs[0], 0.5)
    clock[0] += 20
    report.progressed(jobs[0], 1.0)
    report.succeeded(jobs[0])
    line = " a.png -> a_x2.png, 24 MP to 96 MP, 1 of 3 photos, 80 s left\n"
    assert capsys.readouterr().out.endswith(line)
    report.failed(jobs[1], "broken")  # there is less to do
    assert report._state() == "1 of 3 photos, 40 s left"
    report.say_summary()
    line = "1 of 3 photos, 24 MP to 96 MP, in 10 min, see a_x2.png, 1 failed\n"
    assert capsys.readouterr().out == line


def test_never_silent_for_long_without_a_terminal(report, capsys):
    report, jobs, clock = report
    with report:
        for state in (
            "0 of 3 photos, starting (11 s; the",
            "17 %, 0 of 3 photos",
            "33 %, 0 of 3 photos, 88 s left",
        ):
            clock[0] += 11
            told, until = "", time.time() + 5
            while state not in told and time.time() < until:
                time.sleep(0.05)
                told += capsys.readouterr().out
            assert state in told
            assert told.count("\n") == 1
            report.progressed(jobs[0], report._progress[jobs[0]].done + 0.5)


LARGE_AFTER_SMALL = """
import sys, time
from pathlib import Path
from realsr_jax.cli import upscale
from realsr_jax.system.jax_startup import start_jax

start_jax()
from realsr_jax.upscaling import photo_upscaling

upscale_photo = photo_upscaling.upscale_photo

def wait_for_small(photo, *args, **options):
    while photo.samples.shape[0] > 100 and not Path("photos_x2/0.png").exists():
        time.sleep(0.01)
    return upscale_photo(photo, *args, **options)

photo_upscaling.upscale_photo = wait_for_small
sys.exit(upscale.run())
"""
"""The command, in which tiles of large photos do not come before those of the small one in the queue."""


@pytest.mark.parametrize(("args", "goes_on"), [((), True), (("--overwrite",), False)])
def test_ctrl_c_says_how_to_go_on(args, goes_on):
    for name in "ab":
        save(f"photos/{name}.png", golden.photo(700, 700))
    save("photos/0.png")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    options = ["--tile_size=32", "--tile_overlap=8", "--self_ensemble", *args]
    arguments = [sys.executable, "-c", LARGE_AFTER_SMALL, "photos", *options]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, before)
    assert any(b" photos/0.png -> photos_x2/0.png" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    on = "; the same command goes on from here" if goes_on else ""
    stopping, interrupted = error.decode().splitlines()
    assert stopping.startswith("realsr-upscale: stopping as soon as")
    assert interrupted == f"realsr-upscale: interrupted after 1 of 3 photos{on}"
    assert process.returncode == -signal.SIGINT
    assert files_in("photos_x2") == ["0.png"]


@pytest.mark.parametrize(
    "option",
    ["--scale=1.5", "--scale=0.5", "--size=90x90", "--width=33", "--megapixels=0.002", "--suffix=_big"],
)
@pytest.mark.parametrize("inputs", ["*.png", "photos*"])
def test_the_same_command_with_any_size_takes_its_results_for_results(option, inputs, capsys):
    for name in ("a.png", "photos/a.png"):
        save(name)
    for _ in range(2):
        assert run(inputs, "--weights=bicubic", option) == 0
    files = [str(path) for path in Path().rglob("*.png")]
    assert len(files) == 3
    assert "nothing to do" in capsys.readouterr().out


def test_a_page_is_written_of_what_was_done_before_an_interrupt(monkeypatch):
    for name in "ab":
        save(f"photos/{name}.png")
    add = comparison.Comparison.add

    def interrupted(self, name, *arguments):
        if name == "photos/b.png":
            raise KeyboardInterrupt
        add(self, name, *arguments)

    monkeypatch.setattr(comparison.Comparison, "add", interrupted)
    monkeypatch.setattr(photo_files, "count_threads", lambda: 0)  # one after the other
    assert run("photos", "--weights=bicubic", "--report=look") == 130
    assert files_in("photos_x2") == ["a.png", "b.png"]
    page = Path("look/index.html").read_text()
    assert "photos/a.png" in page and "photos/b.png" not in page


@pytest.mark.parametrize("scale", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_folder_of_many_sizes_compiles_few_programs(weights, caplog, scale):
    """Twenty photos of twenty sizes, some transparent: few programs for all passes of the network."""
    for i in range(20):
        samples = golden.photo(20 + 3 * i, 90 - 2 * i)
        if i % 3 == 0:
            samples = np.dstack([samples, samples[..., :1] // 2])
        save(f"photos/{i}.png", samples)
    jax.config.update("jax_log_compiles", True)
    try:
        with caplog.at_level("WARNING"):
            options = f"--weights={weights}/edsr_tiny", "--tile_size=32", "--tile_overlap=8"
            assert run("-i", "photos", "-o", "out", f"--scale={scale}", *options) == 0
    finally:
        jax.config.update("jax_log_compiles", False)
    messages = [record.getMessage() for record in caplog.records]
    compiled = [message for message in messages if "Finished XLA compilation" in message]
    assert 2 <= sum("upscale_tiles" in message for message in compiled) <= 6
    assert len(files_in("out")) == 20


def test_the_default_network_helps_on_a_camera_photo_and_clean_on_a_reduced_one():
    photos = golden.DATA / "readme"
    true = load(photos / "church_true.png")
    shutil.copy(photos / "church.png", "camera.png")
    save("reduced.png", imresize(true, 0.5))
    gains = {}
    for name in ("camera.png", "reduced.png"):
        scores = []
        for weights in ((), ("--weights=clean",), ("--weights=bicubic",)):
            assert run(name, "-o", "sr.png", "--overwrite", *weights) == 0
            scores.append(psnr(load("sr.png"), true, border=8))
        gains[name] = [score - scores[-1] for score in scores[:-1]]
    default, clean = gains["camera.png"]
    assert default > 1.0
    assert default > clean + 0.7
    default, clean = gains["reduced.png"]
    assert default > 2
    assert clean > default + 0.2
