"""Shared by all tests: four fake CPU devices, so that code for several devices runs as such.

Most of the time goes into compiling, so LLVM does not optimise, unless XLA_FLAGS say otherwise, and what one
test compiled is there for the next, in all processes of a run.
"""

import os
import shutil
import tempfile

import browser
import pytest

os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0 "
    + os.environ.get("XLA_FLAGS", "")
)


def pytest_configure(config):
    """Makes the run's compilation cache, which the processes of pytest-xdist inherit."""
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="realsr-tests-")
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(scope="module")
def chromium():
    """A running browser; without one, the test is skipped."""
    if browser.CHROMIUM is None:
        pytest.skip(browser.MISSING)
    with browser.running() as running:
        yield running


@pytest.fixture
def working_folder(tmp_path, monkeypatch):
    """Runs a command's test in a new folder."""
    monkeypatch.chdir(tmp_path)
