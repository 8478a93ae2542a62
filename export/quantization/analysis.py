"""Measure what each layer loses to int8: the signal-to-noise ratio of its output, quantized against float."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from .calibrate import Array, Runner
from .simplify import ACTIVATIONS, simplify


def snr(
    float_model: onnx.ModelProto, quantized_model: onnx.ModelProto, samples: Array | Mapping[str, Array]
) -> dict[str, float]:
    """Signal-to-noise ratio of every layer's output.

    10 log10(sum y^2 / sum (y - y_int8)^2), over all samples and elements. As a rule of thumb, 20 dB at the last layer
    is little noise, below 10 dB answers change. Errors of earlier layers are contained in those of later ones.

    Parameters
    ----------
    float_model : what was quantized
    quantized_model : what `quantize` made of it, without equalization (which scales the values inside)
    samples : (n, ...) of the input, or a dict by name; float also for an int8 input

    Returns
    -------
    dict of node name to dB, in the order of the graph; infinity where nothing differs. A layer with its activation is
    one row, under the layer's name.

    Raises
    ------
    CalibrationError : the samples do not fit
    """
    normal = simplify(float_model)
    pairs = value_pairs(normal, quantized_model)
    exact = Runner(normal, [value for value, _ in pairs.values()])
    rounded = Runner(quantized_model, [value for _, value in pairs.values()])
    pairs = {name: (a, b) for name, (a, b) in pairs.items() if a in exact.values and b in rounded.values}
    feeds = exact.check(samples)
    codes = quantize_inputs(quantized_model, feeds)
    signal, noise = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0.0)
    rounded.batch_size = exact.batch_size
    for real, approximate in zip(exact.run(feeds), rounded.run(codes), strict=True):
        for name, (a, b) in pairs.items():
            signal[name] += float(np.square(real[a], dtype=np.float64).sum())
            noise[name] += float(np.square(real[a] - approximate[b], dtype=np.float64).sum())
    return {name: decibels(signal[name], noise[name]) for name in pairs}


def output_snr(
    float_model: onnx.ModelProto, quantized_model: onnx.ModelProto, samples: Array | Mapping[str, Array]
) -> float:
    """Signal-to-noise ratio at the float outputs, in dB; that of the worst output where there are several.

    Parameters and errors as of `snr`.
    """
    names = [output.name for output in float_model.graph.output]
    exact = Runner(float_model, list(names))
    rounded = Runner(quantized_model, list(names))
    feeds = exact.check(samples)
    codes = quantize_inputs(quantized_model, feeds)
    signal, noise = dict.fromkeys(rounded.values, 0.0), dict.fromkeys(rounded.values, 0.0)
    for real, approximate in zip(exact.run(feeds), rounded.run(codes), strict=True):
        for name in noise.keys() & real.keys():
            signal[name] += float(np.square(real[name], dtype=np.float64).sum())
            noise[name] += float(np.square(real[name] - approximate[name], dtype=np.float64).sum())
    return min((decibels(signal[name], noise[name]) for name in noise), default=float("inf"))


def decibels(signal: float, noise: float) -> float:
    """Ratio of two powers in dB; infinity without noise."""
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(signal / noise)) if signal > 0 else float("-inf")


def value_pairs(normal: onnx.ModelProto, quantized: onnx.ModelProto) -> dict[str, tuple[str, str]]:
    """By layer: the name of its output in the simplified float model, and of its real value in the quantized one."""
    known = {output for node in quantized.graph.node for output in node.output}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in normal.graph.node:
        for value in node.input:
            users.setdefault(value, []).append(node)
    pairs, taken = {}, set()
    for node in normal.graph.node:
        if node.name in taken or not node.output[0]:  # an output may be left out, as a recurrent layer's states
            continue
        value, after = node.output[0], users.get(node.output[0], [])
        absorbs = len(after) == 1 and after[0].op_type in ACTIVATIONS and not known & set(_reals(value))
        if absorbs:
            value = after[0].output[0]
            taken.add(after[0].name)
        real = next((name for name in (*_reals(value), value) if name in known), None)
        if real is not None:
            pairs[node.name] = (value, real)
    return pairs


def _reals(value: str) -> tuple[str, str]:
    """Names under which a value can be read back from its codes."""
    return f"{value}.dequantized", f"{value}.by_channel"


def quantize_inputs(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Real samples as a model takes them: codes for those of its inputs that are int8."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer}
    integer = {v.name for v in model.graph.input if v.type.tensor_type.elem_type == onnx.TensorProto.INT8}
    readers = {n.input[0]: n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] in integer}
    result = dict(feeds)
    for name, node in readers.items():
        scale, zero = (onnx.numpy_helper.to_array(arrays[i]) for i in node.input[1:3])
        codes = np.rint(feeds[name] / scale) + zero.astype(np.int32)
        result[name] = np.clip(codes, -128, 127).astype(np.int8)
    return result
