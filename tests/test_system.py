"""Memory errors in all their words, how many devices and cores there are, and shares of a list."""

import io
import os
import subprocess
import sys
import types

import numpy as np
import pytest

from realsr_jax.system import peers, terminal
from realsr_jax.system.errors import is_out_of_memory
from realsr_jax.system.shards import Shard, parse_shard


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5368709120 bytes."),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1.95GiB."),
        RuntimeError("Failed to allocate 25165824 bytes for new constant"),
        RuntimeError("INTERNAL: failed to allocate 2.25GiB (2415919104 bytes) from device: out of memory"),
        RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        RuntimeError("INTERNAL: CUDA error: : CUDA_ERROR_OUT_OF_MEMORY"),
        RuntimeError("INTERNAL: HIP error: hipErrorOutOfMemory"),
        RuntimeError("UNKNOWN: CUDNN_STATUS_ALLOC_FAILED in external/xla/cuda_dnn.cc(1)"),
        RuntimeError(
            "UNKNOWN: Failed to determine best cudnn convolution algorithm for:\n%cudnn-conv = (f32[1]) "
            "custom-call()\nOriginal error: UNKNOWN: CUDNN_STATUS_EXECUTION_FAILED"
        ),
    ],
    ids=lambda error: str(error)[:30],
)
def test_lack_of_memory(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("INTERNAL: CUDNN_STATUS_NOT_INITIALIZED"),
        RuntimeError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"),
        ValueError("lr has shape (1, 2), expected [h, w, 3]"),
    ],
)
def test_other_errors_are_no_lack_of_memory(error):
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    ("environment", "before", "count"),
    [
        ({}, "", 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, "", 2),
        ({"JAX_NUM_CPU_DEVICES": "2"}, "", 2),
        ({}, "jax.devices()", 1),
    ],
    ids=("nothing said", "a flag says", "a variable says", "started before"),
)
def test_devices_of_the_cpu(environment, before, count):
    code = (
        f"import jax; {before or 'pass'}\nfrom realsr_jax.system.jax_startup import start_jax\n"
        "start_jax(cpu_devices=3)\nprint(jax.device_count())"
    )
    inherited = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"JAX_PLATFORMS": "cpu"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == count


@pytest.mark.parametrize(("others", "share"), [(("here", "here"), 2), (("there", "here"), 3), ((), 7)])
def test_processes_of_a_machine_share_its_cores(monkeypatch, others, share):
    """Each process tells where it runs, which the others read."""
    told = []

    def read(key, _patience):
        host = ("here", *others)[int(key.rpartition("/")[2])]
        return told[0].replace("here", host)

    client = types.SimpleNamespace(
        key_value_set=lambda _, place: told.append(place), blocking_key_value_get=read
    )
    state = types.SimpleNamespace(client=client, process_id=0, num_processes=1 + len(others))
    monkeypatch.setattr("jax._src.distributed.global_state", state)
    monkeypatch.setattr(peers, "count_cores", lambda: 7)
    monkeypatch.setattr(peers.socket, "gethostname", lambda: "here")
    assert peers._share_cores() == share


@pytest.mark.parametrize("count", [1, 3, 8, 50])
def test_shards_share_a_list(count):
    sizes = [int(size) for size in np.random.default_rng(0).lognormal(10, 1, 40)] + [7, 7, 7, 0]
    parts = [Shard(index, count).choose(sizes) for index in range(count)]
    assert sorted(item for part in parts for item in part) == list(range(len(sizes)))
    assert all(part == sorted(part) for part in parts)
    loads = [sum(sizes[item] for item in part) for part in parts]
    assert max(loads) - min(loads) <= max(sizes)


def test_shards_of_equal_items_are_equal():
    assert [len(Shard(index, 3).choose([5] * 11)) for index in range(3)] == [4, 4, 3]


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "3/0", "a/b", "-1/8", "3/8/2", "", "1.0/2"])
def test_shards_that_cannot_be(text):
    with pytest.raises(ValueError, match="expected one such as 3/8"):
        parse_shard(text)


def test_a_shard_is_shown_as_it_is_given():
    assert str(parse_shard(" 3/8")) == "3/8"
    assert parse_shard("3/8") == Shard(2, 8)


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node[01-04]",
    "SLURM_NTASKS": "32",
    "SLURM_PROCID": "10",
    "SLURM_LOCALID": "2",
}


def ask_cluster(environment):
    """What `shard_of_cluster` says, or its error, and which GPUs JAX may look for."""
    code = (
        "import jax\nfrom realsr_jax.system.shards import shard_of_cluster\n"
        "try:\n    print(shard_of_cluster(), jax.config.values['jax_cuda_visible_devices'])\n"
        "except ValueError as error:\n    print(error)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "CUDA"))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | environment, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        (SLURM, "11/32 2"),
        (SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2,3"}, "11/32 2"),
        (SLURM | {"CUDA_VISIBLE_DEVICES": "2"}, "11/32 all"),  # SLURM has bound it to one
    ],
)
def test_slurm_tells_the_shard(environment, shown):
    assert ask_cluster(environment) == shown


def test_where_nothing_tells_the_shard():
    assert "start it by srun or as an indexed job of Kubernetes, or give --shard" in ask_cluster({})
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"}
    assert "or give --shard=$((JOB_COMPLETION_INDEX + 1))/N" in ask_cluster(pod)
    late = ask_cluster(SLURM | {"SLURM_PROCID": "32"})
    assert late.startswith("--distributed: this is process 32, from 0, of 32; ")


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("photos/Zürich 東京.png", "utf-8", "photos/Zürich 東京.png"),
        ("Zürich", "ascii", r"Z\xfcrich"),
        ("a\x1b[31m\r\n\x9b\u202e\udcff", "utf-8", r"a\x1b[31m\r\n\x9b\u202e\udcff"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_printed(text, encoding, shown, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr("sys.stdout", stream)
    terminal.say(text, text)
    assert stream.buffer.getvalue().decode(encoding) == f"{shown}\n{shown}\n"


def test_what_fails_in_threads_of_libraries_and_at_exit_is_not_printed():
    code = """
import atexit, sys, threading
from realsr_jax.system.terminal import silence_threads

def fail():
    raise OSError("no space")

def as_libraries_do():
    try:
        fail()
    except OSError:
        sys.excepthook(*sys.exc_info())

silence_threads()
atexit.register(fail)
thread = threading.Thread(target=as_libraries_do)
thread.start()
thread.join()
raise RuntimeError("told")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: told\n") and "no space" not in done.stderr
