"""Scale input features of different units to one range in float32, before the first int8 layer.

One int8 scale for a table of sensors is the scale of the largest: beside a pressure of 100,000 Pa a current of
1 mA is nothing. Where the graph itself normalises them, that stays float32 and int8 begins behind it. Else a feature's
own scale and offset, x * s + o in float32, bring all to -1 .. 1; the first layer's weights take the inverse, so that the
network computes what it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from ..graph.operators import ELEMENTWISE
from .calibrate import Array, Runner
from .rules import RULES
from .selection import NORMALISES, SCALES, bias_behind, choose_nodes, find_nodes, is_layer
from .simplify import constant, new_constant, set_constant

#: a feature with fewer of the 255 codes than this for its whole range is hardly there
FEWEST_CODES = 16
#: operators that hand a feature on, or give it another unit
_FRONT = frozenset(ELEMENTWISE) | frozenset(
    {"BatchNormalization", "Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "PRelu", "Reshape", "Slice"}
    | {"Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
    | {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Pad", "Resize"}
)


def is_scaled(model: onnx.ModelProto) -> bool:
    """Whether a model scales its features before the first layer by nodes that `scale_features` added."""
    return any(node.doc_string == SCALES for node in model.graph.node)


def normalising(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that `keep_front` left in float32."""
    return [node.name for node in model.graph.node if node.doc_string == NORMALISES]


def keep_front(
    model: onnx.ModelProto, trainable: Sequence[str] = (), keep_float: str | Sequence[str] = ()
) -> onnx.ModelProto | None:
    """The model with what computes on the inputs feature by feature marked to stay float32, as `choose_nodes` sees it.

    What only moves values behind it is left to int8. None where nothing of that kind would become int8. Parameters as of
    `differing`.
    """
    net = ir.from_proto(model)
    values = _front_values(net.graph)
    front = [
        node
        for node in choose_nodes(net.graph, trainable, find_nodes(net.graph, keep_float)).nodes
        if node.outputs[0] in values and (node.op_type not in RULES or not RULES[node.op_type].moves)
    ]
    for node in front:
        node.doc_string = NORMALISES
    return ir.to_proto(net) if front else None


@dataclass
class _Front:
    """A value that layers read, computed from the inputs feature by feature.

    layers : they, all with the features along one axis
    axis : of the value, counting features
    low, high : (features,) the range of each
    """

    value: ir.Value
    layers: list[ir.Node]
    axis: int
    low: Array
    high: Array

    def differ(self) -> bool:
        """Whether one int8 scale would leave a feature that varies hardly any codes."""
        extent = self.high - self.low
        whole = max(float(self.high.max()), 0.0) - min(float(self.low.min()), 0.0)
        return bool(((extent > 0) & (extent * 255 < FEWEST_CODES * whole)).any())


def differing(
    model: onnx.ModelProto,
    samples: Mapping[str, Array],
    trainable: Sequence[str] = (),
    keep_float: str | Sequence[str] = (),
) -> bool:
    """Whether features in front of some int8 layer differ so much in their ranges that one scale does not fit all.

    Parameters
    ----------
    model : float32, simplified
    samples : by input name
    trainable, keep_float : what stays float32 anyway, as `choose_nodes` takes it
    """
    return any(front.differ() for front in _fronts(ir.from_proto(model), model, samples, trainable, keep_float))


def unscalable(model: onnx.ModelProto, samples: Mapping[str, Array]) -> bool:
    """Whether some input's features differ in their ranges, wherever they go."""
    for value in model.graph.input:
        array = samples.get(value.name)
        if array is None or array.ndim < 2 or array.dtype.kind != "f":
            continue
        axis = 1 if array.ndim > 3 else array.ndim - 1
        low, high = _by_feature(array, axis)
        if _Front(ir.Value(name=value.name), [], axis, low, high).differ():
            return True
    return False


def scale_features(
    model: onnx.ModelProto,
    samples: Mapping[str, Array],
    trainable: Sequence[str] = (),
    keep_float: str | Sequence[str] = (),
) -> onnx.ModelProto:
    """Scale features that differ before the layers that read them, and the weights of these by the inverse.

    Parameters as of `differing`.
    """
    net = ir.from_proto(model)
    for front in _fronts(net, model, samples, trainable, keep_float):
        if front.differ():
            _scale(net.graph, front)
    return onnx.shape_inference.infer_shapes(ir.to_proto(net))


def _fronts(
    net: ir.Model,
    model: onnx.ModelProto,
    samples: Mapping[str, Array],
    trainable: Sequence[str],
    keep_float: str | Sequence[str],
) -> list[_Front]:
    """Values in front of layers that become int8, with the ranges of their features."""
    readers: dict[tuple[ir.Value, int], list[ir.Node]] = {}
    values = _front_values(net.graph)
    for node in choose_nodes(net.graph, trainable, find_nodes(net.graph, keep_float)).nodes:
        value = node.inputs[0]
        if is_layer(node) and value in values and value.shape is not None:
            axis = 1 if node.op_type == "Conv" else len(value.shape) - 1
            readers.setdefault((value, axis), []).append(node)
    if not readers:
        return []
    ranges = _ranges(model, samples, {str(value.name): axis for value, axis in readers})
    order = {node: i for i, node in enumerate(net.graph)}
    return [
        _Front(value, sorted(layers, key=order.__getitem__), axis, *ranges[str(value.name)])
        for (value, axis), layers in readers.items()
        if str(value.name) in ranges
    ]


def _front_values(graph: ir.Graph) -> set[ir.Value]:
    """Inputs, and what comes from them feature by feature."""
    found = {value for value in graph.inputs if value.dtype == ir.DataType.FLOAT}
    for node in graph:
        computed = [i for i in node.inputs if i is not None and constant(i) is None]
        if node.op_type in _FRONT and computed and all(i in found for i in computed):
            found.update(node.outputs)
    return found


def _by_feature(array: Array, axis: int) -> tuple[Array, Array]:
    others = tuple(a for a in range(array.ndim) if a != axis)
    return array.min(others).astype(np.float64), array.max(others).astype(np.float64)


def _ranges(
    model: onnx.ModelProto, samples: Mapping[str, Array], axes: Mapping[str, int]
) -> dict[str, tuple[Array, Array]]:
    """Smallest and largest value of every feature of the values named."""
    runner = Runner(model, list(axes))
    found: dict[str, tuple[Array, Array]] = {}
    for batch in runner.run(runner.check(samples)):
        for name, array in batch.items():
            low, high = _by_feature(array, axes[name])
            before = found.get(name, (low, high))
            found[name] = np.minimum(low, before[0]), np.maximum(high, before[1])
    return found


def _scale(graph: ir.Graph, front: _Front) -> None:
    """x * scale + offset before the layers of a front, whose weights and biases undo it."""
    centre = (front.low + front.high) / 2 if all(map(_takes_offset, front.layers)) else np.zeros_like(front.low)
    reach = np.maximum(front.high - centre, centre - front.low)
    # a constant feature is no smaller than its own value, lest the offset lose it in rounding
    reach = np.where(reach > 0, reach, np.maximum(np.abs(centre), 1.0))
    scale = (1 / reach).astype(np.float32)
    offset = (-centre * scale.astype(np.float64)).astype(np.float32)
    scaled = _append(graph, front, "Mul", front.value, scale, ".by_feature")
    if centre.any():
        scaled = _append(graph, front, "Add", scaled, offset, ".scaled")
    for layer in front.layers:
        _undo(layer, 1 / scale.astype(np.float64), -offset.astype(np.float64) / scale)
        layer.replace_input_with(0, scaled)


def _takes_offset(layer: ir.Node) -> bool:
    """Whether a layer's bias can take a constant per feature: padding would need one of its own."""
    pads = layer.attributes.get_ints("pads") or []
    same = layer.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return layer.op_type != "Conv" or (not any(pads) and not same)


def _append(graph: ir.Graph, front: _Front, op: str, x: ir.Value, array: Array, suffix: str) -> ir.Value:
    name = f"{front.value.name}{suffix}"
    rank = len(front.value.shape or ())
    operand = array.reshape([-1 if a == front.axis else 1 for a in range(1, rank)])
    node = ir.node(op, [x, new_constant(graph, f"{name}.{'factor' if op == 'Mul' else 'offset'}", operand)], name=name)
    node.doc_string = SCALES
    output = node.outputs[0]
    output.name, output.shape, output.type = name, front.value.shape, ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(front.layers[0], node)
    return output


def _undo(layer: ir.Node, factor: Array, offset: Array) -> None:
    """Let a layer read (x - offset) / factor in place of x."""
    weight = constant(layer.inputs[1])
    assert weight is not None
    exact = weight.astype(np.float64)
    if layer.op_type == "Conv":
        groups = layer.attributes.get_int("group", 1)
        of_input = factor.reshape(groups, -1).repeat(len(weight) // groups, 0)  # (out_c, in_c / groups)
        moved = offset.reshape(groups, -1).repeat(len(weight) // groups, 0)
        added = (exact.reshape(*of_input.shape, -1).sum(2) * moved).sum(1)
        scaled = exact * of_input.reshape(*of_input.shape, *[1] * (weight.ndim - 2))
    else:
        transposed = layer.op_type == "Gemm" and layer.attributes.get_int("transB", 0) == 1
        added = (exact if transposed else exact.T) @ offset
        scaled = exact * (factor if transposed else factor[:, None])
    set_constant(layer, 1, scaled, f"{layer.name}.weight")
    if added.any():
        _add_bias(layer, added)


def _add_bias(layer: ir.Node, added: Array) -> None:
    """Let a layer add so much to each output channel; a MatMul by the Add behind it."""
    node, at = layer, 2
    if layer.op_type == "MatMul":
        node = bias_behind(layer) or _adder(layer, len(added))
        at = next(i for i, value in enumerate(node.inputs) if constant(value) is not None)
    bias = constant(node.inputs[at]) if len(node.inputs) > at else None
    set_constant(node, at, added + (0 if bias is None else bias.astype(np.float64)), f"{layer.name}.bias")


def _adder(layer: ir.Node, channels: int) -> ir.Node:
    """An Add of zeros behind a layer, under whose name what reads the layer finds the sum."""
    graph, old = layer.graph, layer.outputs[0]
    assert graph is not None
    add = ir.node("Add", [old, new_constant(graph, f"{layer.name}.bias", np.zeros(channels, np.float32))])
    add.name, output = f"{layer.name}.add", add.outputs[0]
    output.shape, output.type = old.shape, old.type
    old.replace_all_uses_with(output, replace_graph_outputs=True)
    add.replace_input_with(0, old)
    graph.insert_after(layer, add)
    output.name, old.name = old.name, f"{old.name}.product"
    return add
