"""The sides ``openvino`` and ``onnxruntime`` of `torch_peer.py`, which exports the networks for them.

Both in their best form on CPUs: static shapes, all cores, OpenVINO for latency and in the case's dtype, ONNX
Runtime with all optimisations; a photo in one pass. PyTorch, whose memory is not theirs, is another process.
"""

import functools
import importlib.util
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from realsr_jax.benchmark.cases import Case
from realsr_jax.benchmark.conversation import Arrays, Side, serve
from realsr_jax.system.processes import count_cores

Network = Callable[[np.ndarray], np.ndarray]
"""Maps float32 [n, 3, h, w] to float32 [n, 3, h * scale, w * scale]."""


def make_side(name: str, dtypes: tuple[str, ...]) -> Side:
    wanted = [package for package in (name, "onnx", "onnxscript") if not importlib.util.find_spec(package)]
    missing = f"pip install {' '.join(wanted)}, or this project with its extra peers" if wanted else ""
    return Side(
        name, (sys.executable, __file__, name), ("tile", "photo"), dtypes, on_gpu=False, missing=missing
    )


SIDES = (make_side("openvino", ("float32", "bfloat16")), make_side("onnxruntime", ("float32",)))


def prepare(case: Case, folder: Path, weights: Arrays, inputs: Arrays, *, side: str) -> Callable[[], Any]:
    """Makes a case ready; see `realsr_jax.benchmark.conversation.serve`."""
    file = folder / "network.onnx"
    if not file.exists():  # the other side has not exported it
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(export, case, dict(weights), inputs["lr"].shape, file).result()
    network = {"openvino": open_in_openvino, "onnxruntime": open_in_onnxruntime}[side](file, case.dtype)
    if case.task == "tile":  # already is where the network finds it
        tiles = place(inputs["lr"])
        return lambda: network(tiles).transpose(0, 2, 3, 1)
    return lambda: network(place(inputs["lr"])).transpose(0, 2, 3, 1)[0]


def place(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)


def export(case: Case, weights: Arrays, shape: tuple[int, ...], file: Path) -> None:
    import torch_peer

    torch_peer.export(case, weights, shape, file)


def open_in_openvino(file: Path, dtype: str) -> Network:
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[dtype],
        "INFERENCE_NUM_THREADS": count_cores(),
    }
    request = openvino.Core().compile_model(file, "CPU", options).create_infer_request()
    return lambda lr: request.infer({0: lr}, share_inputs=True, share_outputs=True)[0]


def open_in_onnxruntime(file: Path, dtype: str) -> Network:
    import onnxruntime

    assert dtype == "float32"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = count_cores()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (lr,) = session.get_inputs()
    return lambda images: session.run(None, {lr.name: images})[0]


if __name__ == "__main__":
    serve(functools.partial(prepare, side=sys.argv[1]))
