"""The report: what is in the file, and how it behaves in a browser, by mouse, keyboard and finger."""

import dataclasses
import errno
import re

import browser
import golden
import numpy as np
import pytest
from browser import data_of

from realsr_jax.evaluate import protocols as evaluation
from realsr_jax.evaluate.protocols import Evaluation, ImageResult, Protocol
from realsr_jax.evaluate.report_page import encode_pictures, worst_region, write_comparison, write_report
from realsr_jax.images import ImageError
from realsr_jax.system.files import write_atomically

BORDER = 8
TOO_LONG = 70_000
SIZES = {"plain": (96, 128), '</script><img src=x onerror="boom()">&amp;': (400, 360), "small": (40, 50)}
NAMES = list(SIZES)
KINDS = ("bicubic", "sr", "hr")


def distorted(hr, seed):
    """A picture with noise everywhere and more of it in one place."""
    noise = golden.photo(*hr.shape[:2], seed=seed).astype(np.int32) // 16 - 8
    y, x = hr.shape[0] // 2, hr.shape[1] // 3
    noise[y : y + 20, x : x + 17] *= 4
    return np.clip(hr + noise, 0, 255).astype(np.uint8)


def make_pictures(index):
    hr = golden.photo(*SIZES[NAMES[index]], seed=index)
    return {"sr": distorted(hr, 10 + index), "hr": hr, "bicubic": distorted(hr, 20 + index)}


PICTURES = [make_pictures(index) for index in range(len(SIZES))]


def loop_worst_region(sr, hr, size, border):
    """Tries every window."""
    height, width = hr.shape[:2]
    size = min(size, height - 2 * border, width - 2 * border)
    error = (sr.astype(int) - hr.astype(int)) ** 2
    best, place = -1, None
    for top in range(border, height - border - size + 1):
        for left in range(border, width - border - size + 1):
            total = error[top : top + size, left : left + size].sum()
            if total > best:
                best, place = total, (top, left, size)
    return place


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The path of a page on three images."""
    return make_report(tmp_path_factory.mktemp("report") / "page", PICTURES)


def make_report(folder, pictures):
    results = []
    for name, shown in zip(NAMES, pictures, strict=False):
        scores = [
            evaluation.score(shown[kind], shown["hr"], scale=2, protocol="aim")
            for kind in shown
            if kind != "hr"
        ]
        results.append(ImageResult(name, *scores))
        if shown["hr"].shape[1] < TOO_LONG:
            encoded = encode_pictures(shown, border=BORDER)
            results[-1] = dataclasses.replace(results[-1], pictures=encoded)
            continue
        with pytest.raises(ImageError, match="too large for JPEG"):
            encode_pictures(shown, border=BORDER)
    return write_report(folder, Evaluation("a <i>net</i>", Protocol.AIM, 2, BORDER, results, 4))


# The file


@pytest.mark.parametrize(("shape", "size", "border"), [((30, 41), 8, 0), ((30, 41), 8, 6), ((12, 20), 64, 0)])
def test_worst_region(shape, size, border):
    for seed in range(3):
        hr = golden.photo(*shape, seed=seed)
        sr = np.roll(hr, seed + 1, axis=1)
        expected = loop_worst_region(sr, hr, size, border)
        assert worst_region(sr, hr, size=size, border=border) == expected
    assert worst_region(hr, hr, size=size, border=border)[:2] == (border, border)


def test_content(report):
    assert [path.name for path in report.parent.iterdir()] == ["index.html"]
    text = report.read_text("utf-8")
    assert "http:" not in text
    assert "https:" not in text
    assert "boom()" in text
    assert "<img src=x" not in text
    assert len(re.findall("</script>", text)) == 2
    data = data_of(report)
    assert data["rules"] == "protocol aim, scale 2, 8 border pixels left out, 3 of 4 images"
    assert [image["name"] for image in data["images"]] == NAMES
    kinds = [image["images"]["sr"].partition(";")[0] for image in data["images"]]
    assert kinds == ["data:image/png", "data:image/webp", "data:image/png"]


def test_identical_images(tmp_path):
    hr = PICTURES[0]["hr"]
    data = data_of(make_report(tmp_path, [{"sr": hr, "hr": hr}]))
    assert data["means"]["mean"]["psnr_rgb"] == "inf"
    assert list(data["images"][0]["images"]) == ["sr", "hr"]


def test_beyond_webp(tmp_path):
    hr = np.zeros((30, 16400, 3), np.uint8)
    data = data_of(make_report(tmp_path, [{"sr": hr, "hr": hr}]))
    assert data["images"][0]["images"]["sr"].startswith("data:image/jpeg;")


@pytest.mark.parametrize("others", [0, 2])
def test_pictures_too_large_for_a_page(open_page, tmp_path, others):
    too_long = np.zeros((30, TOO_LONG, 3), np.uint8)
    path = make_report(tmp_path, [dict.fromkeys(KINDS, too_long), *PICTURES[1 : 1 + others]])
    assert ["images" in image for image in data_of(path)["images"]] == [False] + [True] * others
    page = open_page(path)
    names = "[...document.querySelectorAll('#scores tbody th')].map((cell) => cell.textContent)"
    assert page.evaluate(names) == NAMES[: 1 + others]
    assert page.evaluate("document.querySelectorAll('#scores tbody button').length") == others
    assert page.evaluate("document.querySelector('#scores tbody td').textContent") == "inf"
    assert page.evaluate("document.getElementById('viewer').hidden") == (others == 0)
    if others:
        page.click("#scores tbody tr:nth-child(1)")
        for index, button in ((1, "next"), (2, "previous"), (1, "previous")):
            assert page.evaluate("document.getElementById('name').textContent") == NAMES[index]
            page.click(f"#{button}")
        assert page.evaluate("document.getElementById('previous').disabled")


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "index.html"
    target.write_text("before")

    def fail(*args):
        raise OSError(errno.ENOSPC, "disk full", *args)

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full") as caught:
        write_atomically(target, "after")
    assert caught.value.filename == str(target)
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    assert target.read_text() == "before"


# In a browser


@pytest.fixture
def open_page(chromium, report):
    """Opens pages, and sees in the end that they were quiet and asked nobody for anything."""
    pages = []

    def open_page(path=report, **options):
        page = browser.Page(chromium, path, **({"width": 1280, "height": 800} | options))
        pages.append(page)
        wait_for_zooms(page)
        return page

    yield open_page
    for page in pages:
        page.expect_quiet()
        page.close()


def wait_for_zooms(page):
    """Waits until every picture is decoded and its zoom drawn."""
    page.evaluate("Promise.all([...Object.values(pictures), ...Object.values(crops)].map((p) => p.decode()))")
    page.wait_for("[...document.images].every((image) => image.complete)")
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")


def zooms(page):
    """Returns what the zooms show, uint8 [size, size, 3] by kind."""
    shown = page.evaluate(
        "Object.fromEntries([...document.querySelectorAll('#zooms canvas')].map((zoom) => {"
        "  const copy = new OffscreenCanvas(zoom.width, zoom.height).getContext('2d');"
        "  copy.drawImage(zoom, 0, 0);"
        "  return [zoom.id.slice(5), [...copy.getImageData(0, 0, zoom.width, zoom.height).data]];"
        "}))"
    )
    arrays = {kind: np.array(samples, np.uint8).reshape(-1, 4) for kind, samples in shown.items()}
    side = {kind: round(len(samples) ** 0.5) for kind, samples in arrays.items()}
    assert all((samples[:, 3] == 255).all() for samples in arrays.values())
    return {kind: array[:, :3].reshape(side[kind], side[kind], 3) for kind, array in arrays.items()}


def expect_zooms(page, index, top, left, size):
    shown = zooms(page)
    assert set(shown) == set(KINDS)
    for kind in KINDS:
        expected = PICTURES[index][kind][top : top + size, left : left + size]
        np.testing.assert_array_equal(shown[kind], expected)


def choose(page, index):
    page.click(f"#scores tbody tr:nth-child({index + 1}) button")
    wait_for_zooms(page)
    assert page.evaluate("document.getElementById('name').textContent") == NAMES[index]


def position(page):
    return page.evaluate("[region.x, region.y]")


def style(page, selector, name):
    return page.evaluate(f"getComputedStyle(document.querySelector('{selector}'))['{name}']")


def test_zooms_start_at_the_worst_region(open_page):
    page = open_page()
    for index, shown in enumerate(PICTURES):
        choose(page, index)
        expect_zooms(page, index, *loop_worst_region(shown["sr"], shown["hr"], 64, BORDER))
        assert "(worst)" in page.evaluate("document.getElementById('position').textContent")
        assert style(page, "#zooms canvas", "imageRendering") == "pixelated"


@pytest.mark.parametrize("width", [1280, 360])
def test_a_comparison_without_true_images(open_page, tmp_path, width):
    pictures = {kind: PICTURES[0][kind] for kind in ("bicubic", "sr")} | {"network0": PICTURES[0]["hr"]}
    labels = {"bicubic": "Bicubic", "network0": "runs/<a>", "sr": "Mean of all"}
    images = [(name, encode_pictures(pictures, reference="bicubic")) for name in ("a.jpg", "b.jpg")]
    page = open_page(write_comparison(tmp_path / "page", "runs/<a>", labels, images), width=width)
    headings = "[...document.querySelectorAll('thead th')].map((cell) => cell.textContent)"
    assert page.evaluate(headings) == ["Image"]
    assert page.evaluate("document.getElementById('figures').hidden")
    assert page.evaluate("document.getElementById('scores-heading').textContent") == "Photos"
    names = "[...document.querySelectorAll('#zooms figcaption')].map((each) => each.textContent)"
    assert page.evaluate(names) == list(labels.values())
    assert page.evaluate("[$('left').value, $('right').value]") == ["bicubic", "sr"]
    meaning = "The most different region is where Mean of all is farthest from bicubic interpolation."
    assert meaning in page.evaluate("$('hint').textContent")
    assert "(most different)" in page.evaluate("$('position').textContent")
    assert page.evaluate("$('worst').textContent") == "Back to the most different region"
    top, left, size = loop_worst_region(pictures["sr"], pictures["bicubic"], 64, 0)
    for kind, shown in zooms(page).items():
        np.testing.assert_array_equal(shown, pictures[kind][top : top + size, left : left + size])
    page.click("#next")
    assert page.evaluate("document.getElementById('name').textContent") == "b.jpg"
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_region_is_marked_where_it_is(open_page):
    page = open_page()
    shown = PICTURES[0]
    top, left, size = loop_worst_region(shown["sr"], shown["hr"], 64, BORDER)
    box, stage = (
        page.evaluate(f"(({{x, y, width}}) => [x, y, width])({selector}.getBoundingClientRect())")
        for selector in ("document.getElementById('region')", "document.getElementById('stage')")
    )
    scale = stage[2] / shown["hr"].shape[1]
    np.testing.assert_allclose(
        [(box[0] - stage[0]) / scale, (box[1] - stage[1]) / scale, box[2] / scale],
        [left, top, size],
        atol=0.1,
    )


@pytest.mark.parametrize("is_touch", [False, True])
def test_clicks_and_taps_move_all_zooms(open_page, is_touch):
    page = open_page(width=360, height=640, is_touch=True) if is_touch else open_page()
    press = page.tap if is_touch else page.click
    height, width = SIZES[NAMES[0]]
    press("#stage", 0.6, 0.4)
    page.wait_for("!isAtWorst()")
    x, y = position(page)
    assert abs(x + 32 - 0.6 * width) <= 1
    assert abs(y + 32 - 0.4 * height) <= 1
    expect_zooms(page, 0, y, x, 64)
    press("#stage", 0.01, 0.99)
    page.wait_for("region.x === 0")
    expect_zooms(page, 0, height - 64, 0, 64)
    press("#worst")
    page.wait_for("isAtWorst()")
    shown = PICTURES[0]
    expect_zooms(page, 0, *loop_worst_region(shown["sr"], shown["hr"], 64, BORDER))


def test_mouse_drags_the_region_and_the_divider(open_page):
    page = open_page()
    page.drag(page.point_of("#stage", 0.3, 0.3), page.point_of("#stage", 0.7, 0.6))
    height, width = SIZES[NAMES[0]]
    assert np.abs(np.array(position(page)) + 32 - [0.7 * width, 0.6 * height]).max() <= 1
    before = position(page)
    quarter = page.point_of("#stage", 0.25)["x"]
    start = page.point_of("#handle")
    page.drag(start, start | {"x": quarter})
    assert page.evaluate("document.getElementById('split').value") == "25"
    assert style(page, "#left-image", "clipPath") == "inset(0px 75% 0px 0px)"
    assert position(page) == before


def test_keyboard_moves_the_region(open_page):
    page = open_page()
    page.evaluate("moveRegion(20, 10)")
    page.evaluate("document.getElementById('stage').focus()")
    page.press("ArrowRight")
    page.press("ArrowDown")
    page.press("ArrowLeft", shift=True)
    assert position(page) == [27, 18]
    expect_zooms(page, 0, 18, 27, 64)
    for _ in range(5):
        page.press("ArrowUp")
    assert position(page) == [27, 0]


def test_slider_by_keyboard(open_page):
    page = open_page()
    page.evaluate("document.getElementById('split').focus()")
    before = page.picture_of("#stage")
    assert style(page, "#left-image", "clipPath") == "inset(0px 50% 0px 0px)"
    for _ in range(5):
        page.press("ArrowLeft")
    assert style(page, "#left-image", "clipPath") == "inset(0px 55% 0px 0px)"
    assert page.evaluate("document.getElementById('split').ariaValueText") == "45 % Bicubic, 55 % SR"
    assert page.picture_of("#stage") != before
    page.press("Home")
    assert style(page, "#left-image", "clipPath") == "inset(0px 100% 0px 0px)"


def test_focus_is_visible_along_the_way(open_page):
    page = open_page()
    reached = []
    for _ in range(30):
        page.press("Tab")
        focused = page.evaluate("document.activeElement.id || document.activeElement.textContent")
        reached.append(focused)
        if focused == "stage":
            assert style(page, "#stage", "outlineStyle") == "solid"
        assert page.evaluate("document.activeElement.matches(':focus-visible')")
        if focused == "split":
            break
    assert reached[:6] == ["table-frame", "Image", "PSNR-RGB", "PSNR-Y", "SSIM-RGB", "AIM score"]
    assert set(NAMES) < set(reached)
    assert {"next", "left", "right", "stage"} < set(reached)


def test_every_control_has_a_name(open_page):
    page = open_page()
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "slider", "combobox", "region", "group", "image", "heading", "table"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert all(name for role, name in named if role != "table"), named
    assert ("slider", "Divider between left and right") in named


def test_choosing_what_is_compared(open_page):
    page = open_page()
    page.evaluate("document.getElementById('right').focus()")
    page.press("ArrowDown")
    page.wait_for("document.getElementById('right').value === 'hr'")
    assert page.evaluate("document.getElementById('right-badge').textContent") == "HR"
    source = page.evaluate("document.getElementById('right-image').src")
    assert source == page.evaluate("report.images[0].images.hr")
    assert page.evaluate("document.getElementById('right-image').alt") == "plain, HR"


def test_previous_and_next(open_page):
    page = open_page()
    assert page.evaluate("document.getElementById('previous').disabled")
    page.click("#next")
    page.click("#next")
    assert page.evaluate("document.getElementById('name').textContent") == NAMES[2]
    assert page.evaluate("document.getElementById('next').disabled")
    assert page.evaluate("document.querySelectorAll('[aria-current=true]').length") == 1


def test_table_is_sorted_by_its_headings(open_page):
    page = open_page()

    def rows():
        return page.evaluate(
            "[...document.querySelectorAll('#scores tbody th')].map((cell) => cell.textContent)"
        )

    figures = {
        name: evaluation.score(shown["sr"], shown["hr"], scale=2, protocol="aim").psnr_y
        for name, shown in zip(NAMES, PICTURES, strict=True)
    }
    ascending = sorted(NAMES, key=figures.__getitem__)
    page.click("#scores thead th:nth-child(3) button")
    assert rows() == ascending
    assert page.evaluate("document.querySelector('[aria-sort]').ariaSort") == "ascending"
    page.click("#scores thead th:nth-child(3) button")
    assert rows() == ascending[::-1]
    frame = "document.getElementById('table-frame')"
    assert page.evaluate(f"{frame}.scrollWidth <= {frame}.clientWidth")
    page.evaluate("document.querySelector('#scores thead button').focus()")
    page.press("Enter")
    assert rows() == page.evaluate(
        "report.images.map((image) => image.name).sort(new Intl.Collator().compare)"
    )
    assert page.evaluate("document.querySelectorAll('[aria-sort]').length") == 1


def test_figures(open_page):
    page = open_page()
    text = page.evaluate("document.querySelector('#scores tfoot').innerText")
    scores = [
        [
            evaluation.score(image, shown["hr"], scale=2, protocol="aim")
            for image in (shown["sr"], shown["bicubic"])
        ]
        for shown in PICTURES
    ]
    mean, bicubic = (evaluation.mean_scores([pair[i] for pair in scores]) for i in (0, 1))
    assert text.splitlines()[0].split() == [
        *("Mean", f"{mean.psnr_rgb:.2f}", f"{mean.psnr_y:.2f}", f"{mean.ssim:.4f}", f"{mean.aim_score:.4f}")
    ]
    assert text.splitlines()[2].split()[:2] == ["Gain", f"{mean.psnr_rgb - bicubic.psnr_rgb:+.2f}"]
    assert page.evaluate("document.getElementById('subject').textContent") == "a <i>net</i>"


def test_identical_images_without_lr(open_page, tmp_path):
    hr = [shown["hr"] for shown in PICTURES]
    path = make_report(tmp_path, [{"sr": hr[0], "hr": hr[0]}, {"sr": PICTURES[1]["sr"], "hr": hr[1]}])
    page = open_page(path)
    page.click("#scores thead th:nth-child(2) button")
    figures = (
        "[...document.querySelectorAll('#scores tbody td:nth-child(2)')].map((cell) => cell.textContent)"
    )
    assert page.evaluate(figures)[1] == "inf"
    assert set(zooms(page)) == {"sr", "hr"}
    assert page.evaluate("document.getElementById('left').value") == "sr"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(open_page, scheme):
    page = open_page(width=360, height=640, is_touch=True, scheme=scheme)
    for index in range(len(NAMES)):
        page.tap(f"#scores tbody tr:nth-child({index + 1}) button")
        page.wait_for(f"current === {index}")
        wait_for_zooms(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate("window.innerWidth") == 360
        rights = "[...document.querySelectorAll('body *')].map((e) => e.getBoundingClientRect().right)"
        assert max(page.evaluate(rights)) <= 360
    red, green, blue = map(int, re.findall(r"\d+", style(page, "body", "backgroundColor")))
    assert (max(red, green, blue) < 64) == (scheme == "dark")
