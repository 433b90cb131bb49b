"""How commands start: what they import and keep, and how many cores they find."""

import os
import subprocess
import sys

import golden
import pytest
from PIL import Image

import realsr_jax
from realsr_jax.cli import upscale
from realsr_jax.system import processes
from realsr_jax.system.memory import available_memory

# Upscaling has no use for these, and each takes a good part of a second.
VAIN = (
    *("array_record", "cv2", "etils.ecolab", "flax.nnx", "flax.training", "grain", "IPython", "matplotlib"),
    *("ml_collections", "optax", "orbax", "pandas", "scipy", "tensorboardX", "tensorflow", "tensorstore"),
    *("tensorflow_datasets", "torch"),
    *(f"realsr_jax.{package}" for package in ("benchmark", "convert", "data", "evaluate", "train", "wash")),
)


def run_python(code, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "XLA_"))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(golden.photo(12, 16)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def upscale_in_its_own_process(photo, **environment):
    """Returns what a process imported to upscale a photo with the default network."""
    arguments = ["x", str(photo), "-o", str(photo.parent / "out"), "--overwrite"]
    code = (
        "import sys; from realsr_jax.cli import upscale\n"
        f"assert upscale.run({arguments}) == 0\n"
        "print(*sys.modules)"
    )
    return run_python(code, **environment).splitlines()[-1].split()


def test_upscaling_imports_only_what_it_needs_and_compiles_nothing_twice(photo, tmp_path):
    folder = tmp_path / "realsr_jax" / "xla"
    imported = upscale_in_its_own_process(photo, XDG_CACHE_HOME=str(tmp_path))
    assert "flax.linen" in imported
    assert [name for name in imported if any(f"{name}.".startswith(f"{vain}.") for vain in VAIN)] == []
    programs = {file.name for file in folder.iterdir()}
    assert programs
    upscale_in_its_own_process(photo, XDG_CACHE_HOME=str(tmp_path))
    assert {file.name for file in folder.iterdir()} == programs


def test_damaged_programs_are_compiled_and_kept_anew(photo, tmp_path):
    upscale_in_its_own_process(photo, XDG_CACHE_HOME=str(tmp_path))
    files = sorted((tmp_path / "realsr_jax" / "xla").iterdir())
    damaged = {}
    for number, file in enumerate(files):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        damaged[file] = bytes(content[: len(content) // (1 + number % 2)])
        file.write_bytes(damaged[file])
    upscale_in_its_own_process(photo, XDG_CACHE_HOME=str(tmp_path))
    assert [file for file in files if file.read_bytes() == damaged[file]] == []
    replaced = {file: file.stat().st_mtime_ns for file in files}
    upscale_in_its_own_process(photo, XDG_CACHE_HOME=str(tmp_path))
    assert {file: file.stat().st_mtime_ns for file in files} == replaced


def test_a_flag_error_and_a_missing_photo_do_not_start_jax(tmp_path):
    code = (
        "import sys; from realsr_jax.cli import upscale\n"
        "assert upscale.run(['x', '--version']) == 0\n"
        f"assert upscale.run(['x', '-i', '{tmp_path}/none.png', '-o', 'out']) == 2\n"
        f"assert upscale.run(['x', '-i', 'a.png', '-o', 'out', '--weights={tmp_path}/none']) == 2\n"
        "print(*sys.modules)"
    )
    version, imported = run_python(code).splitlines()
    assert version == f"realsr-upscale {realsr_jax.__version__}"
    assert not {"jax", "flax"} & set(imported.split())


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_version_beside_other_flags(flag, capsys):
    assert upscale.run(["x", "--input=a.png", flag]) == 0
    assert capsys.readouterr().out == f"realsr-upscale {realsr_jax.__version__}\n"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, "false 0.0"),
        ({"XLA_PYTHON_CLIENT_PREALLOCATE": "true"}, "true 0.0"),
        ({"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "2"}, "false 2.0"),
    ],
    ids=("nothing said", "memory", "cache"),
)
def test_settings_of_jax_give_way_to_the_users(tmp_path, environment, shown):
    code = (
        "from realsr_jax.system.jax_startup import start_jax; start_jax()\n"
        "import gc, os, jax; assert gc.isenabled()\n"
        "print(os.environ['XLA_PYTHON_CLIENT_PREALLOCATE'], "
        "jax.config.jax_persistent_cache_min_compile_time_secs)"
    )
    assert run_python(code, XDG_CACHE_HOME=str(tmp_path), **environment).strip() == shown


@pytest.mark.parametrize(
    ("environment", "setting", "kept"),
    [
        ({}, None, "{cache}/realsr_jax/xla 0.0"),
        ({"XDG_CACHE_HOME": "/dev/null"}, None, "None 1.0"),
        ({"JAX_COMPILATION_CACHE_DIR": "/mine"}, None, "/mine 1.0"),
        ({"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "5"}, None, "{cache}/realsr_jax/xla 5.0"),
        ({}, "/set", "/set 1.0"),
    ],
)
def test_compilation_cache_gives_way_to_the_users(tmp_path, environment, setting, kept):
    code = (
        "import jax\nfrom realsr_jax.system.jax_startup import enable_compilation_cache\n"
        f"if {setting!r}: jax.config.update('jax_compilation_cache_dir', {setting!r})\n"
        "enable_compilation_cache()\n"
        "print(jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs)"
    )
    shown = run_python(code, **({"XDG_CACHE_HOME": str(tmp_path)} | environment))
    assert shown.strip() == kept.format(cache=tmp_path)


# Files below /, as they stand in a process of one kind or another
NAMESPACE = {"proc/self/cgroup": "0::/\n"}
HYBRID = "12:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc\n1:name=systemd:/docker/abc\n0::/docker/abc\n"
V1 = "sys/fs/cgroup/cpu"
LIMITS = {
    "not on Linux": ({}, None),
    "version 2, none": (NAMESPACE | {"sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "version 2, the host itself": (NAMESPACE, None),
    "version 2, in a container": (NAMESPACE | {"sys/fs/cgroup/cpu.max": "150000 100000\n"}, 1.5),
    "version 2, another period": (NAMESPACE | {"sys/fs/cgroup/cpu.max": "10000 5000\n"}, 2.0),
    "version 2, a service": (
        {
            "proc/self/cgroup": "0::/system.slice/a.service\n",
            "sys/fs/cgroup/system.slice/a.service/cpu.max": "400000 100000\n",
        },
        4.0,
    ),
    "version 2, the group around it": (
        {
            "proc/self/cgroup": "0::/a.slice/b.scope\n",
            "sys/fs/cgroup/a.slice/b.scope/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/a.slice/cpu.max": "50000 100000\n",
        },
        0.5,
    ),
    "version 1, none": (
        {
            "proc/self/cgroup": HYBRID,
            f"{V1}/docker/abc/cpu.cfs_quota_us": "-1\n",
            f"{V1}/docker/abc/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "version 1, seen from the host": (
        {
            "proc/self/cgroup": HYBRID,
            f"{V1}/docker/abc/cpu.cfs_quota_us": "250000\n",
            f"{V1}/docker/abc/cpu.cfs_period_us": "100000\n",
        },
        2.5,
    ),
    "version 1, in a container": (
        {
            "proc/self/cgroup": HYBRID,
            f"{V1}/cpu.cfs_quota_us": "300000\n",
            f"{V1}/cpu.cfs_period_us": "100000\n",
        },
        3.0,
    ),
    "damaged": (NAMESPACE | {"sys/fs/cgroup/cpu.max": "\n"}, None),
}


@pytest.mark.parametrize(("files", "limit"), LIMITS.values(), ids=LIMITS.keys())
def test_limits_of_containers(tmp_path, files, limit):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processes.cgroup_limit(tmp_path) == limit


def memory_group(folder, limit, used, cache=0, version=2):
    names = (
        ("memory.max", "memory.current")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    )
    values = {
        names[0]: f"{limit}\n",
        names[1]: f"{used}\n",
        "memory.stat": f"anon 5\ninactive_file {cache}\n",
    }
    return {f"sys/fs/cgroup/{folder}{name}": text for name, text in values.items()}


MEMINFO = {"proc/meminfo": "MemTotal:  900 kB\nMemFree:  100 kB\nMemAvailable:  500 kB\n"}
SERVICE = MEMINFO | {"proc/self/cgroup": "0::/a.slice/b.service\n"}
V1_MEMORY = MEMINFO | {"proc/self/cgroup": "4:memory:/docker/abc\n2:cpu:/docker/abc\n"}
FREE = {
    "the machine's": (MEMINFO, 500 << 10),
    "a container's": (MEMINFO | NAMESPACE | memory_group("", 200 << 10, 150 << 10), 50 << 10),
    "with the cache": (MEMINFO | NAMESPACE | memory_group("", 200 << 10, 150 << 10, 70 << 10), 120 << 10),
    "no limit": (MEMINFO | NAMESPACE | memory_group("", "max", 150 << 10), 500 << 10),
    "a service's": (SERVICE | memory_group("a.slice/b.service/", 200 << 10, 10 << 10), 190 << 10),
    "the group's around it": (
        SERVICE
        | memory_group("a.slice/b.service/", 200 << 10, 10 << 10)
        | memory_group("a.slice/", 300 << 10, 230 << 10),
        70 << 10,
    ),
    "version 1": (V1_MEMORY | memory_group("memory/docker/abc/", 90 << 10, 50 << 10, version=1), 40 << 10),
    "version 1, in a container": (
        V1_MEMORY | memory_group("memory/", 90 << 10, 60 << 10, version=1),
        30 << 10,
    ),
    "more in use than granted": (MEMINFO | NAMESPACE | memory_group("", 100 << 10, 150 << 10), 0),
}


@pytest.mark.parametrize(("files", "free"), FREE.values(), ids=FREE.keys())
def test_memory_that_is_free(tmp_path, files, free):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == free


@pytest.mark.parametrize(("limit", "cores"), [(None, 4), (8.0, 4), (4.0, 4), (2.5, 3), (0.1, 1)])
def test_cores_are_those_of_affinity_and_limit(monkeypatch, limit, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5, 6})
    monkeypatch.setattr(processes, "cgroup_limit", lambda: limit)
    assert processes.count_cores() == cores


def test_cores_without_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    monkeypatch.setattr(processes, "cgroup_limit", lambda: None)
    assert processes.count_cores() == 1
