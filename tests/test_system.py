"""Memory errors in all their words, and how many devices and cores there are."""

import os
import subprocess
import sys
import types

import pytest

from realsr_jax.system import peers
from realsr_jax.system.errors import is_out_of_memory


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
