"""Shared by all tests: four fake CPU devices, so that code for several devices runs as such."""

import os

import browser
import pytest

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"


@pytest.fixture(scope="module")
def chromium():
    """A running browser; without one, the test is skipped."""
    if browser.CHROMIUM is None:
        pytest.skip(browser.MISSING)
    with browser.running() as running:
        yield running


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """Runs a command's test in a new folder, with a compilation cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
