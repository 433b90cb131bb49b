"""Where the time of a folder goes: prints each stage's seconds, and the device's share of the wall time.

python tests/scripts/measure_folder.py --photos=bsds500/train --count=50

Photos of many sizes (their sides cut to 40 to 100 %) are upscaled by the bundled network with default
settings. Then one photo is upscaled in new processes, with an empty compilation cache and with a filled one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from realsr_jax import images
from realsr_jax.cli import upscale
from realsr_jax.upscale import photo_upscaling, upscaler


class Stages:
    """Seconds spent in functions, by name, and when the device was busy."""

    def __init__(self):
        self.seconds = {}
        self.busy = []
        self.first_written = None
        self._lock = threading.Lock()

    def time(self, module, name: str) -> None:
        function = getattr(module, name)

        def timed(*args, **options):
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                ended = time.perf_counter()
                with self._lock:
                    self.seconds[name] = self.seconds.get(name, 0) + ended - started
                    if name == "write_photo" and self.first_written is None:
                        self.first_written = ended

        setattr(module, name, timed)

    def watch_device(self) -> None:
        make_run = upscaler.Upscaler._make_run

        def make_watched(upscaler):
            run = make_run(upscaler)

            def watched(*args):
                started = time.perf_counter()
                result = run(*args)
                threading.Thread(target=self._wait, args=(started, result)).start()
                return result

            return watched

        upscaler.Upscaler._make_run = make_watched

    def _wait(self, started: float, result) -> None:
        result.block_until_ready()
        self.busy.append((started, time.perf_counter()))

    def busy_seconds(self, since: float) -> float:
        total, end = 0.0, since
        for started, ended in sorted(self.busy):
            total += max(0.0, ended - max(started, end))
            end = max(end, ended)
        return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--count", type=int, default=50)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "photos"
        source.mkdir()
        for found in images.find_photos([str(arguments.photos)])[: arguments.count]:
            photo = images.read_photo(found.path)
            h, w = (int(n * rng.uniform(0.4, 1)) for n in photo.rgb.shape[:2])
            cut = images.Photo(photo.rgb[:h, :w], images.Metadata(), "PNG")
            images.write_photo(cut, source / f"{found.path.stem}.png")
        _measure_stages(source, Path(folder) / "out")
        one = next(source.iterdir())
        for cache in ("cold", "warm"):
            environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(Path(folder) / "cache")}
            started = time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "realsr_jax.cli.upscale",
                f"-i={one}",
                f"-o={folder}/{cache}.png",
            ]
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            print(f"one photo, {cache} compilation cache: {time.perf_counter() - started:.1f} s")


def _measure_stages(source: Path, output: Path) -> None:
    stages = Stages()
    for module, name in ((images, "read_photo"), (images, "write_photo"), (photo_upscaling, "upscale_photo")):
        stages.time(module, name)
    stages.watch_device()
    started = time.perf_counter()
    assert upscale.run(["realsr-upscale", f"--input={source}", f"--output={output}"]) == 0
    ended = time.perf_counter()
    first = stages.first_written
    busy = stages.busy_seconds(first)
    count = len(list(output.iterdir()))
    print(f"{count} photos in {ended - started:.1f} s, the first after {first - started:.1f} s")
    decode, encode = (stages.seconds[name] for name in ("read_photo", "write_photo"))
    print(f"decode {decode:.2f} s, encode {encode:.2f} s, in threads")
    print(f"after the first: {ended - first:.1f} s, device busy {busy:.1f} s, {busy / (ended - first):.0%}")


if __name__ == "__main__":
    main()
