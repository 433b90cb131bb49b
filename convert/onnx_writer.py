"""Writes networks as ONNX, for programs that run such files, through jax2onnx (extra ``onnx``)."""

import contextlib
import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.extend import core

import realsr_jax
from realsr_jax.models import build_model, network_of
from realsr_jax.models.network import ModelConfig
from realsr_jax.system.files import write_atomically

OPSET = 17
"""Version of ONNX's operators, which programs of 2022 and later know."""


def write_onnx(path: Path, config: ModelConfig, params: Any, *, properties: Mapping[str, object]) -> None:
    """Writes a network with its parameters as one ONNX file.

    Its one input "input" is float32 [1, 3, h, w], RGB on 0..1, of any height and width; its one output
    "output" float32 [1, 3, h*scale, w*scale], not clipped. Tiles and their seams are the caller's.

    Args:
        path: The file, replaced in one step once all is written.
        config: The network.
        params: Its parameters, as `weights.load_weights` returns them.
        properties: Written into the file's metadata, beside the network, its scale and its range of values.
    """
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of shapes that are told at run time
    to_onnx = importlib.import_module("jax2onnx").to_onnx  # which few installations have
    (lr,) = jax.export.symbolic_args_specs((jax.ShapeDtypeStruct((1, 3, 8, 8), jnp.float32),), "1, 3, h, w")
    traced = jax.make_jaxpr(lambda lr: _upscale(config, params, lr))(lr)
    # What is traced again consists of JAX's own primitives, and what can be computed ahead is.
    traced = jax.make_jaxpr(lambda lr: _evaluate(traced, [lr]))(lr)
    model: Any = to_onnx(
        core.jaxpr_as_fun(traced),
        [lr],
        model_name=network_of(config).title,
        opset=OPSET,
        input_names=["input"],
        output_names=["output"],
    )
    model.producer_name, model.producer_version = "realsr_jax", realsr_jax.__version__
    facts = {
        "network": network_of(config).title,
        **vars(config),
        "value_range": "0..1",
        "layout": "NCHW, RGB",
        **properties,
    }
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=str(value))
    write_atomically(path, model.SerializeToString())


def _upscale(config: ModelConfig, params: Any, lr: jax.Array) -> jax.Array:
    """Upscales NCHW on 0..1, layer by layer as the network was published."""
    model: Any = build_model(config)
    if hasattr(model, "folded"):
        model = model.clone(folded=False)
    sr = model.apply({"params": params}, 255 * jnp.transpose(lr, (0, 2, 3, 1)))
    return jnp.transpose(sr, (0, 3, 1, 2)) / 255


def _evaluate(traced: Any, arguments: list[Any]) -> list[Any]:
    """Evaluates what was traced with arguments that may be traced again.

    Loops are unrolled, functions inlined, convolutions become XLA's; what depends on no argument is computed.
    """
    values: dict[Any, Any] = dict(zip(traced.jaxpr.constvars, traced.consts, strict=True))
    values |= zip(traced.jaxpr.invars, arguments, strict=True)

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else values[variable]

    for equation in traced.jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        lengths = [length for variable in equation.outvars for length in variable.aval.shape]
        known = bool(inputs) and not any(
            isinstance(value, Tracer) or jax.export.is_symbolic_dim(value) for value in [*inputs, *lengths]
        )
        with jax.ensure_compile_time_eval() if known else contextlib.nullcontext():
            outputs = _apply(equation, inputs, known=known)
        values |= zip(equation.outvars, outputs, strict=True)
    return [read(variable) for variable in traced.jaxpr.outvars]


def _apply(equation: Any, inputs: list[Any], *, known: bool) -> list[Any]:
    primitive, options = equation.primitive, equation.params
    match primitive.name:
        case "jit":
            return _evaluate(options["jaxpr"], inputs)
        case "custom_jvp_call":
            return _evaluate(options["call_jaxpr"], inputs)
        case "scan" if not known:
            n_constants, n_carried = options["num_consts"], options["num_carry"]
            constants, carried = inputs[:n_constants], inputs[n_constants : n_constants + n_carried]
            for i in range(options["length"]):  # only networks' blocks are scanned, which stack nothing
                each = [np.asarray(stack)[i] for stack in inputs[n_constants + n_carried :]]
                carried = _evaluate(options["jaxpr"], [*constants, *carried, *each])
            return carried
        case "realsr_conv2d" if not known:
            return [_convolve(inputs[0], inputs[1], edge_padding=options["edge_padding"])]
        case "pad" if not known:
            return [_pad(inputs[0], inputs[1], options["padding_config"])]
    outputs = primitive.bind(*inputs, **primitive.get_bind_params(options))
    return list(outputs) if primitive.multiple_results else [outputs]


def _pad(x: jax.Array, value: Any, margins: Any) -> jax.Array:
    """Pads as `jax.lax.pad` does, which jax2onnx 0.17 knows for known sizes only; it only adds."""
    for axis, (before, after, _) in enumerate(margins):
        sides = [
            [jnp.broadcast_to(value, (*x.shape[:axis], length, *x.shape[axis + 1 :]))] if length else []
            for length in (before, after)
        ]
        if before or after:
            x = jnp.concatenate([*sides[0], x, *sides[1]], axis)
    return x


def _convolve(x: jax.Array, kernel: Any, *, edge_padding: bool) -> jax.Array:
    """Convolves [n, h, w, c] in ONNX's own layout, with the kernel in its."""
    x, kernel = jnp.transpose(x, (0, 3, 1, 2)), np.transpose(np.asarray(kernel), (3, 2, 0, 1)).copy()
    margins = [size // 2 for size in kernel.shape[2:]]
    if edge_padding:
        for axis, margin in zip((2, 3), margins, strict=True):
            first, last = (jax.lax.slice_in_dim(x, *ends, axis=axis) for ends in ((0, 1), (-1, None)))
            x = jnp.concatenate([first] * margin + [x] + [last] * margin, axis)
    padding = "VALID" if edge_padding else [(margin, margin) for margin in margins]
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), padding)
    return jnp.transpose(y, (0, 2, 3, 1))
