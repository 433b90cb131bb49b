"""The contact sheet: what is in the file, and how a person overturns verdicts on it and saves lists."""

import errno
import io
import itertools
import json
import re
import subprocess
import sys
from base64 import b64decode
from pathlib import Path

import browser
import golden
import numpy as np
import pytest
from browser import data_of
from PIL import Image

from realsr_jax.wash.contact_sheet import Detail, encode_entry, write_sheet
from realsr_jax.wash.verdict import WORST, Verdict

HOSTILE = '</script><img src=x onerror="boom()">&amp; \'"`${boom()}\\ <!-- süß 日本 \U0001f408.png'
KINDS = ("lr", "hr", "difference")
TITLE = "a <b>set</b> & more"
README = Path(__file__).parent / "data" / "readme"
SCALE = 2
HEIGHT, WIDTH = 300, 400  # of LR
BOX = (0.25, 0.2, 0.5, 0.4)
MIDDLE = (BOX[0] + BOX[2] / 2, BOX[1] + BOX[3] / 2)
SHIFTS = np.array(
    [(0.25, 0.5, 1.5, 0, 1), (0.75, 0.5, 0, -0.75, 0.42), (0.5, 0.25, np.nan, 0, 0.9)], np.float32
)

# Names and severities of the shown pairs, the worst first; those above 1 are rejected.
SHOWN = {"b.png": WORST, HOSTILE: 3.0, "d.png": 1.25, "a.png": 0.875, "c.png": 0.5}
WORST_FIRST = list(SHOWN)
CLEAN = sorted(["a.png", "c.png", *(f"{index:03d}.png" for index in range(0, 40, 2))])
REJECTED = sorted(["b.png", "d.png", HOSTILE, *(f"{index:03d}.png" for index in range(1, 11, 2))])


PICTURES = [
    {kind: golden.photo(60, 80, seed=3 * seed + index) for index, kind in enumerate(KINDS)}
    for seed in range(len(SHOWN))
]


def detail(kind, seed=0):
    """The part of a picture in `BOX`."""
    factor = SCALE if kind == "hr" else 1
    rows, columns = round(BOX[3] * HEIGHT * factor), round(BOX[2] * WIDTH * factor)
    return Detail(BOX, golden.photo(rows, columns, seed=seed))


DETAILS = {"lr": detail("lr", 1), "hr": detail("hr", 2)}
FIGURES = {"shift": "0.12, -0.31 LR px", "<i>7</i>": "&lt;"}


def make_entry(name, severity, pictures=PICTURES[0], shifts=SHIFTS, figures=FIGURES, details=DETAILS):
    verdict = Verdict(severity <= 1, "shift", "shift <1.32> LR px (limit 0.60)", severity, frozenset())
    return encode_entry(name, verdict, figures, (HEIGHT, WIDTH), pictures, details, shifts)


ENTRIES = [
    make_entry(name, severity, pictures)
    for (name, severity), pictures in zip(SHOWN.items(), PICTURES, strict=True)
]


def write(path, entries=ENTRIES[::-1], *, clean=CLEAN, rejected=REJECTED):
    is_clean = dict.fromkeys(rejected, False) | dict.fromkeys(clean, True)
    write_sheet(path, entries, is_clean=is_clean, scale=SCALE, title=TITLE)
    return path


@pytest.fixture(scope="module")
def sheet(tmp_path_factory):
    """The path of a sheet on five of the pairs, given in another order."""
    return write(tmp_path_factory.mktemp("sheet") / "sheet.html")


# The file


def test_content(sheet):
    assert [path.name for path in sheet.parent.iterdir()] == ["sheet.html"]
    text = sheet.read_text("utf-8")
    assert re.findall("https?:(?!//www.w3.org/2000/svg)", text) == []
    assert "<img src=x" not in text
    assert len(re.findall("</script>", text)) == 2
    data = data_of(sheet)
    assert data["title"] == TITLE
    assert [entry["name"] for entry in data["entries"]] == WORST_FIRST
    assert [entry["severity"] for entry in data["entries"]] == list(SHOWN.values())
    assert [entry["isClean"] for entry in data["entries"]] == [False, False, False, True, True]
    assert data["pairs"] == sorted([[name, True] for name in CLEAN] + [[name, False] for name in REJECTED])
    np.testing.assert_allclose(data["entries"][0]["shifts"], SHIFTS[:2], atol=5e-4)


def test_pictures(sheet):
    for pictures, shown in zip(PICTURES, data_of(sheet)["entries"], strict=True):
        assert (shown["width"], shown["height"]) == (WIDTH, HEIGHT)
        whole = [(shown["images"][kind], pictures[kind]) for kind in KINDS]
        parts = [(shown["details"][kind]["image"], DETAILS[kind].pixels) for kind in DETAILS]
        for encoded, given in whole + parts:
            start, data = encoded.split(",")
            assert start == "data:image/webp;base64"
            picture = np.asarray(Image.open(io.BytesIO(b64decode(data))).convert("RGB"), np.float64)
            assert np.abs(picture - given).mean() < 0.2 * given.std()
        assert [shown["details"][kind]["box"] for kind in DETAILS] == [list(BOX)] * 2


def test_120_pairs_take_less_than_20_megabytes(tmp_path):
    lr, hr = (
        np.asarray(Image.open(README / name).convert("RGB")) for name in ("church.png", "church_true.png")
    )
    pictures = dict.fromkeys(KINDS, hr[:225, :300])
    details = {"lr": Detail(BOX, lr), "hr": Detail(BOX, hr)}
    shifts = np.random.default_rng(0).random((100, 5), np.float32)
    entries = [make_entry(name, 0, pictures, shifts, details=details) for name in CLEAN[:4]]
    assert 30 * write(tmp_path / "sheet.html", entries).stat().st_size < 20e6


def test_nothing_to_show(tmp_path):
    data = data_of(write(tmp_path / "sheet.html", [], clean=[], rejected=[]))
    assert data["entries"] == data["pairs"] == []


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "sheet.html"
    path.write_text("before")

    def fail(*args):
        raise OSError(errno.ENOSPC, "disk full", *args)

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match=re.escape(str(path))):
        write(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "before"


def test_needs_neither_jax_nor_opencv():
    script = "import sys, realsr_jax.wash.contact_sheet; sys.exit(bool({'jax', 'cv2'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", script], check=True)


# In a browser


@pytest.fixture
def open_page(chromium, sheet):
    """Opens pages, and sees in the end that they were quiet and asked nobody for anything."""
    pages = []

    def open_page(path=sheet, **options):
        page = browser.Page(chromium, path, **({"width": 1280, "height": 800} | options))
        pages.append(page)
        page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
        return page

    yield open_page
    for page in pages:
        page.evaluate("localStorage.clear()")
        page.expect_quiet()
        page.close()


def card(name, inside=""):
    """The selector of a pair's card or of something in it."""
    return f"article:nth-of-type({WORST_FIRST.index(name) + 1}) {inside}"


def text(page, selector):
    return page.evaluate(f"document.querySelector({json.dumps(selector)}).innerText")


def style(page, selector, name):
    return page.evaluate(f"getComputedStyle(document.querySelector({json.dumps(selector)}))['{name}']")


def verdict(page, name):
    """The verdict that a card shows, and whether its button is pressed."""
    pressed = page.evaluate(f"document.querySelector('{card(name, '.overturn')}').ariaPressed")
    return text(page, card(name, ".badge")), pressed == "true"


def shown_cards(page):
    return page.evaluate(
        "[...document.querySelectorAll('article')].filter((card) => card.offsetHeight > 0)"
        ".map((card) => card.querySelector('h2').textContent)"
    )


def counts(page):
    return [int(number) for number in re.findall(r"\d+", text(page, "#counts"))]


def saved(page, folder, kind):
    """The text that "Save clean.txt" (or rejected) downloads."""
    name, content = page.download(f"#save-{kind}", folder)
    assert name == f"{kind}.txt"
    return content


def as_list(names):
    return "".join(f"{name}\n" for name in sorted(names))


def test_cards(open_page):
    page = open_page()
    assert shown_cards(page) == WORST_FIRST
    assert counts(page) == [len(CLEAN), len(REJECTED), 0]
    assert page.evaluate("[document.title, document.querySelector('h1').textContent]") == [TITLE, TITLE]
    assert text(page, "#scope").startswith("5 of 30 pairs")
    for name, severity in SHOWN.items():
        assert verdict(page, name) == ("Clean" if severity <= 1 else "Rejected", False)
        assert text(page, card(name, ".severity")) == f"severity {severity:.2f}"
        assert text(page, card(name, "dl")).split("\n") == ["shift", "0.12, -0.31 LR px", "<i>7</i>", "&lt;"]
    assert text(page, card("d.png", ".reason")) == "shift <1.32> LR px (limit 0.60)"
    captions = "[...document.querySelectorAll('article:first-of-type figcaption')].map((c) => c.textContent)"
    assert page.evaluate(captions) == ["LR", "HR", "1 LR px"]
    assert page.evaluate("document.querySelectorAll('script, style').length") == 3


def test_lists_of_an_untouched_page_are_the_given_ones(open_page, tmp_path):
    page = open_page()
    assert saved(page, tmp_path, "clean") == as_list(CLEAN)
    assert saved(page, tmp_path, "rejected") == as_list(REJECTED)


def test_overturned_by_click(open_page, tmp_path):
    page = open_page()
    for name in ("d.png", HOSTILE, "c.png", "a.png", "a.png"):
        page.click(card(name, ".overturn"))
    assert verdict(page, "d.png") == verdict(page, HOSTILE) == ("Clean", True)
    assert verdict(page, "c.png") == ("Rejected", True)
    assert verdict(page, "a.png") == ("Clean", False)
    assert counts(page) == [len(CLEAN) + 1, len(REJECTED) - 1, 3]
    assert saved(page, tmp_path, "clean") == as_list({*CLEAN, "d.png", HOSTILE} - {"c.png"})
    assert saved(page, tmp_path, "rejected") == as_list({*REJECTED, "c.png"} - {"d.png", HOSTILE})


def test_empty_list(open_page, tmp_path):
    page = open_page(write(tmp_path / "sheet.html", [make_entry("a", 2)], clean=[], rejected=["a"]))
    assert saved(page, tmp_path, "clean") == ""
    page.click(".overturn")
    assert saved(page, tmp_path, "clean") == "a\n"
    assert saved(page, tmp_path, "rejected") == ""


def test_overturned_by_keyboard(open_page):
    page = open_page()
    page.press(" ")
    page.press("k")
    assert counts(page)[2] == 0
    page.press("j")
    page.press("j")
    page.press(" ")
    assert [verdict(page, name)[1] for name in WORST_FIRST] == [False, True, False, False, False]
    page.press("ArrowDown")
    page.press("Enter")
    page.press("ArrowUp")
    page.press("k")
    page.press("k")
    page.press("Enter")
    page.press("j")
    page.press(" ")
    assert [verdict(page, name)[1] for name in WORST_FIRST] == [True, False, True, False, False]
    for _ in range(9):
        page.press("j")
    page.evaluate("document.querySelector('[value=all]').focus()")
    page.press(" ")
    assert counts(page)[2] == 2
    page.evaluate("document.activeElement.blur()")
    page.press(" ")
    assert [verdict(page, name)[1] for name in WORST_FIRST] == [True, False, True, False, True]


def test_stepped_to_card_is_below_the_bar(open_page):
    page = open_page(height=500)
    for name in WORST_FIRST[:4]:
        page.press("j")
        assert page.evaluate("document.querySelector('.current h2').textContent") == name
    assert page.evaluate("scrollY") > 0
    for key in "jkkkk":
        page.press(key)
        bar, top, bottom = (
            page.evaluate(f"document.querySelector('{selector}').getBoundingClientRect().{side}")
            for selector, side in (("#bar", "bottom"), (".current", "top"), (".current", "bottom"))
        )
        assert bar < top < bottom < 500
    assert style(page, ".current .overturn", "outlineStyle") == "solid"


def test_overturned_survives_a_reload(open_page, tmp_path):
    page = open_page()
    page.click(card("d.png", ".overturn"))
    page.click(card(HOSTILE, ".overturn"))
    page.reload()
    assert [verdict(page, name)[1] for name in WORST_FIRST] == [False, True, True, False, False]
    assert counts(page) == [len(CLEAN) + 2, len(REJECTED) - 2, 2]
    other = open_page(write(tmp_path / "sheet.html", rejected=[*REJECTED, "z.png"]))
    assert counts(other) == [len(CLEAN), len(REJECTED) + 1, 0]


def test_reset(open_page):
    page = open_page()
    assert page.evaluate("document.getElementById('reset').disabled")
    page.click(card("d.png", ".overturn"))
    page.evaluate("window.confirm = () => false")
    page.click("#reset")
    assert counts(page)[2] == 1
    page.evaluate("window.confirm = () => true")
    page.click("#reset")
    assert verdict(page, "d.png") == ("Rejected", False)
    page.reload()
    assert counts(page) == [len(CLEAN), len(REJECTED), 0]


@pytest.mark.parametrize("kept", ["not JSON", "{}", "7", "null", '"b.png"', '["no such name", 5]'])
def test_nonsense_in_storage(open_page, kept):
    page = open_page()
    page.click(card("d.png", ".overturn"))
    page.evaluate(f"localStorage.setItem(localStorage.key(0), {json.dumps(kept)})")
    page.reload()
    assert shown_cards(page) == WORST_FIRST
    assert counts(page)[2] == 0


def test_without_storage(open_page, tmp_path):
    page = open_page()
    page.evaluate("Storage.prototype.setItem = () => { throw new Error('quota') }")
    assert not page.evaluate("document.getElementById('volatile').offsetHeight")
    page.click(card("d.png", ".overturn"))
    assert page.evaluate("document.getElementById('volatile').offsetHeight")
    assert "d.png\n" in saved(page, tmp_path, "clean")


def test_filters(open_page):
    page = open_page()
    page.click(card("c.png", ".overturn"))
    expected = {"rejected": WORST_FIRST[:3], "borderline": WORST_FIRST[3:], "overturned": ["c.png"]}
    for value, names in expected.items():
        page.click(f"label:has([value={value}])")
        assert shown_cards(page) == names
    page.click(card("c.png", ".overturn"))
    assert shown_cards(page) == ["c.png"]
    assert not page.evaluate("document.getElementById('empty').offsetHeight")
    page.click("label:has([value=all])")
    page.press("ArrowLeft")
    assert shown_cards(page) == []
    assert page.evaluate("document.getElementById('empty').offsetHeight")
    page.press("ArrowUp")
    page.press("j")
    page.press("j")
    page.press(" ")
    assert shown_cards(page) == WORST_FIRST[3:]
    assert verdict(page, "c.png") == ("Rejected", True)


def panes(page, name):
    """Which pictures are in the places of LR and of HR, as their captions say, too."""
    shown = [
        page.evaluate(
            f"[...document.querySelectorAll('{card(name, f'.{place} .plane')}')]"
            ".filter((plane) => getComputedStyle(plane).visibility === 'visible')"
            ".map((plane) => plane.classList[1]).join()"
        )
        for place in ("lr", "hr")
    ]
    captions = [text(page, f"{card(name, f'.{place}')} figcaption") for place in ("lr", "hr")]
    assert captions == [kind.upper() for kind in shown]
    return shown


def test_blinks_by_click(open_page):
    page = open_page()
    page.click(card("d.png", ".lr .stage"))
    assert panes(page, "d.png") == ["hr", "lr"]
    page.hover(card("d.png", ".hr .stage"))
    page.click(card("d.png", ".hr .stage"))
    assert [panes(page, name) for name in WORST_FIRST] == [["lr", "hr"]] * 5


def test_blinks_by_key(open_page):
    page = open_page()
    page.press("b")
    assert panes(page, "b.png") == ["hr", "lr"]
    page.press("b")
    page.press("j")
    page.press("b")
    assert panes(page, "b.png") == ["lr", "hr"]
    assert panes(page, HOSTILE) == ["hr", "lr"]


def box_of(page, selector):
    """Left and upper end, width and height in the window."""
    return page.evaluate(
        f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height] })()"
    )


def looked_at(page, name, place, kind):
    """What is in the middle of a pane, as shares of a picture's width and height."""
    pane, plane = (box_of(page, card(name, f".{place} {part}")) for part in (".stage", f".plane.{kind}"))
    return [(pane[i] + pane[2 + i] / 2 - plane[i]) / plane[2 + i] for i in (0, 1)]


ZOOMS = [2, 4, 8, 16]


def test_zoom_is_one_for_all_and_by_whole_pixels(open_page):
    page = open_page()
    assert text(page, "#level") == "LR pixel \u00d7 4"
    page.press("-")
    for zoom in ZOOMS:
        assert text(page, "#level") == f"LR pixel \u00d7 {zoom}"
        for name in WORST_FIRST:
            for place, kind in itertools.product(("lr", "hr"), repeat=2):
                left, top, width, height = box_of(page, card(name, f".{place} .plane.{kind}"))
                assert (width, height) == (zoom * WIDTH, zoom * HEIGHT)
                detail = box_of(page, card(name, f".{place} .plane.{kind} img + img"))
                expected = [left + BOX[0] * width, top + BOX[1] * height, BOX[2] * width, BOX[3] * height]
                assert detail == pytest.approx(expected, abs=0.02)
        assert style(page, card("d.png", ".lr .plane.hr img + img"), "imageRendering") == "pixelated"
        page.click("#zoom-in")
    assert page.evaluate("document.getElementById('zoom-in').disabled")
    for _ in range(9):
        page.press("-")
    assert text(page, "#level") == "whole picture"
    pane, plane = (box_of(page, card("d.png", f".lr {part}")) for part in (".stage", ".plane.lr"))
    assert plane[3] == pytest.approx(pane[3], abs=0.1)
    assert plane[0] + plane[2] / 2 == pytest.approx(pane[0] + pane[2] / 2, abs=1)


def test_pixels_are_shown_as_they_are(open_page, tmp_path):
    """Every other LR column is white; at 8 screen pixels to one, the middle of the pane shows so."""
    lr = np.zeros((120, 200, 3), np.uint8)
    lr[:, ::2] = 255
    hr = lr.repeat(2, 0).repeat(2, 1)
    details = {"lr": Detail(BOX, lr), "hr": Detail(BOX, hr)}
    page = open_page(write(tmp_path / "sheet.html", [make_entry("a.png", 0.5, details=details)]))
    page.press("+")
    for place in ("lr", "hr"):
        picture = Image.open(io.BytesIO(b64decode(page.picture_of(f"article .{place} .stage"))))
        row = np.asarray(picture.convert("L"), int)[picture.height // 2]
        (edges,) = np.nonzero(np.abs(np.diff(row)) > 200)
        assert len(edges) > 20
        assert set(np.diff(edges)) == {8}


@pytest.mark.parametrize("place", ["lr", "hr"])
def test_dragged_together(open_page, place):
    page = open_page()
    stage = card("d.png", f".{place} .stage")
    start = page.point_of(stage)
    page.drag(start, {"x": start["x"] - 40, "y": start["y"] + 20})
    for pane, kind in itertools.product(("lr", "hr"), repeat=2):
        expected = [MIDDLE[0] + 40 / 4 / WIDTH, MIDDLE[1] - 20 / 4 / HEIGHT]
        assert looked_at(page, "d.png", pane, kind) == pytest.approx(expected, abs=0.6 / 4 / HEIGHT)
        assert looked_at(page, "a.png", pane, kind) == pytest.approx(MIDDLE, abs=0.6 / 4 / HEIGHT)
    assert panes(page, "d.png") == ["lr", "hr"]  # a drag is no click
    for _ in range(9):
        page.drag(start, {"x": start["x"] + 90, "y": start["y"] + 60})
    pane, plane = (box_of(page, card("d.png", f".hr {part}")) for part in (".stage", ".plane.hr"))
    assert plane[:2] == pane[:2]  # the end of the picture


def test_the_map_shows_and_moves_what_panes_show(open_page):
    page = open_page()

    def framed():
        stage, frame = (box_of(page, card("d.png", f".map {part}")) for part in (".stage", ".frame"))
        return [(frame[i] + frame[2 + i] / 2 - stage[i]) / stage[2 + i] for i in (0, 1)], frame[2] / stage[2]

    middle, share = framed()
    assert middle == pytest.approx(MIDDLE, abs=0.01)
    assert share == pytest.approx(box_of(page, card("d.png", ".lr .stage"))[2] / 4 / WIDTH, abs=0.01)
    page.click(card("d.png", ".map .stage"), 0.7, 0.3)
    assert looked_at(page, "d.png", "hr", "hr") == pytest.approx([0.7, 0.3], abs=0.01)
    assert framed()[0] == pytest.approx([0.7, 0.3], abs=0.02)
    assert panes(page, "d.png") == ["lr", "hr"]


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
def test_five_pairs_a_screen(open_page, width, height):
    page = open_page(width=width, height=height)
    page.press("j")
    for _ in WORST_FIRST[1:]:
        page.press("j")
    whole = page.evaluate(
        "[...document.querySelectorAll('article')].map((card) => card.getBoundingClientRect())"
        ".filter((box) => box.top > document.getElementById('bar').offsetHeight && box.bottom <= innerHeight)"
        ".length"
    )
    assert whole == 5
    _, _, pane_width, pane_height = box_of(page, card("b.png", ".lr .stage"))
    assert pane_width > 200
    assert pane_height >= 128


def test_the_clicked_card_is_the_one_keys_act_on(open_page):
    page = open_page()
    page.click(card("a.png", "dl"))
    page.press(" ")
    page.press("j")
    page.press("Enter")
    assert [verdict(page, name)[1] for name in WORST_FIRST] == [False, False, False, True, True]


def test_arrows(open_page):
    page = open_page()
    paths = page.evaluate(
        f"[...document.querySelectorAll('{card('d.png', '.line')}')]"
        ".map((path) => [path.parentElement.getAttribute('opacity'), path.getAttribute('d')])"
    )
    arrows = {float(opacity): np.array(re.findall(r"-?[\d.]+", path), float) for opacity, path in paths}
    assert set(arrows) == {1.0, 0.5}
    width, height = page.evaluate(
        f"(() => {{ const box = document.querySelector('{card('d.png', 'svg')}').viewBox.baseVal;"
        "return [box.width, box.height] })()"
    )
    assert width / height == pytest.approx(WIDTH / HEIGHT)
    np.testing.assert_allclose(arrows[1.0][:2], [0.25 * width, 0.5 * height], atol=0.05)
    np.testing.assert_allclose(arrows[0.5][:2], [0.75 * width, 0.5 * height], atol=0.05)
    right, up = arrows[1.0][2:4], arrows[0.5][2:4]
    assert right[0] > 10
    assert right[1] == up[0] == 0
    assert up[1] == pytest.approx(-right[0] / 2, abs=0.1)
    ruler, stage = (
        page.evaluate(f"document.querySelector('{card('d.png', part)}').getBoundingClientRect().width")
        for part in (".ruler", ".map .stage")
    )
    pixels = float(text(page, card("d.png", ".map figcaption")).removesuffix(" LR px"))
    assert pixels == 1
    assert ruler / pixels == pytest.approx(right[0] / 1.5 * stage / width, rel=0.02)


@pytest.mark.parametrize(("shift", "note"), [(0, "0.2 LR px"), (0.55, "0.5 LR px"), (730, "500 LR px")])
def test_scale_notes(open_page, tmp_path, shift, note):
    shifts = np.array([(x, 0.5, shift, 0, 1) for x in (0.2, 0.5, 0.8)], np.float32)
    page = open_page(write(tmp_path / "sheet.html", [make_entry("a.png", 0.5, shifts=shifts)]))
    assert text(page, ".map figcaption") == note


def test_no_shifts(open_page, tmp_path):
    entry = make_entry("a.png", 0.5, shifts=np.zeros((0, 5), np.float32), figures={})
    page = open_page(write(tmp_path / "sheet.html", [entry]))
    assert text(page, ".map figcaption") == "no shifts measured"


def test_every_control_has_a_name(open_page):
    page = open_page()
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "radio", "radiogroup", "group", "region", "heading", "article", "DescriptionList"}
    named = [
        (node["role"]["value"], node.get("name", {}).get("value"))
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in roles
    ]
    assert all(name for _, name in named), named
    assert ("button", f"Overturn {HOSTILE}") in named
    assert ("article", "d.png") in named
    assert ("DescriptionList", "Figures of d.png") in named
    assert {("button", "Zoom in"), ("button", "Zoom out")} <= set(named)


def contrast(page, selector):
    """WCAG's contrast of an element's text against the nearest opaque background."""
    colours = page.evaluate(
        f"(() => {{ let element = document.querySelector({json.dumps(selector)});"
        "const colours = [getComputedStyle(element).color];"
        "while (colours.length < 2) {"
        "  const colour = getComputedStyle(element).backgroundColor;"
        "  if (!colour.startsWith('rgba')) colours.push(colour);"
        "  element = element.parentElement;"
        "} return colours })()"
    )
    levels = []
    for colour in colours:
        rgb = np.array(re.findall(r"\d+", colour), float) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        levels.append(linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    return max(levels) / min(levels)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(open_page, scheme):
    page = open_page(scheme=scheme)
    page.click(card("d.png", ".overturn"))
    page.click(card("a.png", ".lr .stage"))
    selectors = [
        *("#hint", "#scope", "#counts .clean strong", "#counts .rejected strong", "#counts span", "kbd"),
        *(":checked + span", "#save-clean", "#level", "dt", "dd", ".map figcaption"),
        *(card("d.png", ".lr figcaption"), card("a.png", ".lr figcaption")),
        *(card("d.png", part) for part in (".badge", ".overturn", ".flag", ".reason")),
        *(card("b.png", part) for part in (".badge", ".overturn", ".severity")),
        card("a.png", ".severity"),
    ]
    poor = {selector: contrast(page, selector) for selector in selectors}
    assert {selector: ratio for selector, ratio in poor.items() if ratio < 4.5} == {}
    red, green, blue = map(int, re.findall(r"\d+", style(page, "body", "backgroundColor")))
    assert (max(red, green, blue) < 64) == (scheme == "dark")


def test_phone(open_page):
    page = open_page(width=360, height=640, is_touch=True)
    page.tap(card("d.png", ".lr .stage"))
    page.wait_for("document.querySelectorAll('.swapped').length")
    assert panes(page, "d.png") == ["hr", "lr"]
    page.tap(card(HOSTILE, ".overturn"))
    page.wait_for("overturned.size === 1")
    assert page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]") == [360, 360]
    outside = "[...document.querySelectorAll('body *:not(.stage *)')]"  # of what is zoomed
    assert max(page.evaluate(f"{outside}.map((e) => e.getBoundingClientRect().right)")) <= 360
    assert page.evaluate("document.getElementById('bar').offsetHeight") < 640 / 4
    assert page.evaluate("document.getElementById('bar').getBoundingClientRect().top") == 0


def test_print(open_page):
    page = open_page(scheme="dark")
    page.call("Emulation.setEmulatedMedia", media="print")
    for selector in ("#filter", "#zoom", ".buttons", ".overturn", "#hint"):
        assert style(page, selector, "display") == "none"
    assert style(page, "#bar", "position") == "static"
    assert style(page, "article", "breakInside") == "avoid"
    assert style(page, "body", "backgroundColor") == "rgb(255, 255, 255)"
