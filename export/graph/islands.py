"""Fuse layers that onnxruntime leaves in float32 between DequantizeLinear and QuantizeLinear into integer ones.

That happens where a Relu or Clip does not coincide with the saturation of the QuantizeLinear behind it. Integer
arithmetic is smaller and faster, and the float sum has no defined order anyway; the result may be one step apart
(docs/arithmetic.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import onnx_ir as ir

from .normalize import array_of

#: attributes of a QLinearConv or QGemm made here: bounds in real numbers, that is before the output's scale
LOWEST, HIGHEST = "edgeprop_lowest", "edgeprop_highest"
_INTEGER = {"Conv": ("QLinearConv", ""), "Gemm": ("QGemm", "com.microsoft")}


@dataclass
class _Coded:
    """Codes with their scale and zero point, as a DequantizeLinear reads them."""

    code: ir.Value
    scale: ir.Value
    zero: ir.Value | None


def take_islands(graph: ir.Graph) -> None:
    """Replace DequantizeLinear, Conv or Gemm, Relu or Clip, QuantizeLinear by one integer node, wherever they stand."""
    for quantize in list(graph):
        if quantize.op_type == "QuantizeLinear" and len(quantize.inputs) > 2 and quantize.inputs[2] is not None:
            _take(graph, quantize)


def _take(graph: ir.Graph, quantize: ir.Node) -> None:
    layer, lowest, highest = _layer_before(quantize)
    if layer is None or lowest > highest:
        return
    x, weight = _coded(layer.inputs[0]), _coded(layer.inputs[1])
    if x is None or weight is None or x.zero is None or array_of(weight.code) is None:
        return
    bias = _integer_bias(graph, layer, x, weight)
    scale = array_of(x.scale)
    if bias is None or scale is None or scale.size != 1:
        return
    op, domain = _INTEGER[layer.op_type]
    ends = [quantize.inputs[1], quantize.inputs[2]]
    inputs = [x.code, x.scale, x.zero, weight.code, weight.scale, weight.zero]
    inputs += [*ends, *bias] if op == "QLinearConv" else [bias[0] if bias else None, *ends]
    attributes = [layer.attributes[name] for name in layer.attributes if name != "beta"]
    attributes += [ir.AttrFloat32(LOWEST, lowest), ir.AttrFloat32(HIGHEST, highest)]
    output = quantize.outputs[0]
    made = ir.Node(domain, op, inputs, attributes, num_outputs=1, name=layer.name)
    graph.insert_before(quantize, made)
    name = output.name
    ir.convenience.replace_all_uses_with(output, made.outputs[0], replace_graph_outputs=True)
    made.outputs[0].shape = output.shape
    if output.dtype is not None:
        made.outputs[0].dtype = output.dtype
    output.name, made.outputs[0].name = None, name


def _layer_before(quantize: ir.Node) -> tuple[ir.Node | None, float, float]:
    """The layer whose only reader, through Relu and Clip, is this QuantizeLinear, and the bounds they set."""
    lowest, highest = -inf, inf
    value = quantize.inputs[0]
    while value is not None and len(value.uses()) == 1 and not value.is_graph_output():
        node = value.producer()
        if node is None or node.op_type in _INTEGER:
            return node, lowest, highest
        bounds = _bounds(node)
        if bounds is None:
            break
        lowest, highest = (min(max(b, bounds[0]), bounds[1]) for b in (lowest, highest))
        value = node.inputs[0]
    return None, lowest, highest


def _bounds(node: ir.Node) -> tuple[float, float] | None:
    """What Relu or Clip limits to."""
    if node.op_type == "Relu":
        return 0.0, inf
    if node.op_type != "Clip":
        return None
    bounds = [node.attributes.get_float("min", -inf), node.attributes.get_float("max", inf)]
    for i, value in enumerate(node.inputs[1:3]):
        array = array_of(value)
        if value is not None and array is None:
            return None
        bounds[i] = bounds[i] if array is None else float(array.reshape(()))
    return bounds[0], bounds[1]


def _coded(value: ir.Value | None) -> _Coded | None:
    """The codes behind a value, if a DequantizeLinear gives it."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear":
        return None
    code, scale, zero = (*node.inputs, None)[:3]
    return None if code is None or scale is None else _Coded(code, scale, zero)


def _integer_bias(graph: ir.Graph, layer: ir.Node, x: _Coded, weight: _Coded) -> list[ir.Value] | None:
    """[int32 bias] at x_scale * w_scale, [] for none; None where it cannot be had."""
    bias = layer.inputs[2] if len(layer.inputs) > 2 else None
    if layer.op_type == "Gemm" and (
        layer.attributes.get_float("beta", 1.0),
        layer.attributes.get_float("alpha", 1.0),
    ) != (1, 1):
        return None
    if bias is None:
        return []
    coded, x_scale, w_scale = _coded(bias), array_of(x.scale), array_of(weight.scale)
    codes = array_of(coded.code) if coded is not None else None
    real = array_of(bias) if coded is None else None
    if coded is not None and codes is not None:
        scale = array_of(coded.scale)
        real = None if scale is None else codes * scale
    if real is None or x_scale is None or w_scale is None:
        return None
    values = np.rint(real.astype(np.float32) / (x_scale * w_scale).astype(np.float32)).astype(np.int32)
    return [_initializer(graph, f"{layer.name}.bias.int32", values)]


def _initializer(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    while name in graph.initializers:
        name += "_"
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.initializers[name] = value
    return value
