"""Images that are damaged or shortened: refused in time and within memory, or read.

Everyday runs try a few hundred; REALSR_MUTATIONS=100000 with `-m slow` is the long form.
"""

import os

import driver
import image_cases
import pytest

LONG = int(os.environ.get("REALSR_MUTATIONS", "20000"))
LIMITS = {"seconds": 5, "mib": image_cases.MEMORY / 2**20 + 64}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with originals."""
    monkeypatch.chdir(tmp_path)
    originals = image_cases.make_originals()
    (tmp_path / "originals").mkdir()
    for name, content in originals.items():
        (tmp_path / "originals" / name).write_bytes(content)
        assert image_cases.read(content), name
        if name in image_cases.SHORTEN:  # by nothing: whatever is refused later is so for what is missing
            assert image_cases.read(image_cases.SHORTEN[name](content, 1.0)), name
    return tmp_path


def assert_harmless(tally, capsys):
    with capsys.disabled():
        print(f"\n{tally}")
    assert not tally.faults, str(tally)


@pytest.mark.parametrize("count", [600, pytest.param(LONG, marks=pytest.mark.slow)])
def test_damaged_images(folder, count, capsys):
    tally = driver.run_cases("image_cases:damaged", range(count), folder=folder, **LIMITS)
    assert_harmless(tally, capsys)
    assert min(tally.counts["accepted"], tally.counts["refused"]) > count // 10


@pytest.mark.parametrize("count", [200, pytest.param(LONG // 10, marks=pytest.mark.slow)])
def test_no_image_is_silently_incomplete(folder, count, capsys):
    tally = driver.run_cases("image_cases:shortened", range(count), folder=folder, **LIMITS)
    assert_harmless(tally, capsys)
