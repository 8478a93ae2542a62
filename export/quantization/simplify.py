"""Bring a float graph into the form the quantizer knows: layers with a bias, and an activation right behind each.

Constants are folded, per-channel affine steps (BatchNormalization, a bias in an Add of its own, a scale in a Mul) go
into the Conv or Gemm before them, MatMul with a constant becomes Gemm, a mean over the image becomes
GlobalAveragePool, and Relu or Clip moves up to the layer whose range it limits. What the graph computes stays the
same but for rounding, and so do its inputs, outputs and dynamic batch axis.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from ..errors import UnsupportedError, UnsupportedNode
from ..graph.importer import load
from ..graph.normalize import fold_all
from ..graph.rewrites import drop_identities
from ..graph.rewrites import rewrite as rewrite_foreign
from ..graph.spelled import spell_out_layers
from .calibrate import Array

MIN_OPSET = 13  # the oldest whose QuantizeLinear has an axis

#: operators that move or pick values, so that an element-wise step commutes with them if it never decreases
MOVES = ("MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
ACTIVATIONS = ("Relu", "Clip")


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in the quantizer's form; see the module's text.

    Parameters
    ----------
    model : float32, of any opset that onnx can convert to 13

    Raises
    ------
    ValueError : the opset is older than 13 and onnx cannot convert the model
    """
    net = ir.from_proto(modern(load(model).proto))
    name_nodes(net.graph)
    fold_constants(net)
    rewrite_foreign(net.graph)
    spell_out_layers(net.graph)
    for rewrite in REWRITES:
        for node in list(net.graph):
            if node.graph is not None:
                rewrite(node)
    passes.RemoveUnusedNodesPass()(net)
    passes.TopologicalSortPass()(net)
    return onnx.shape_inference.infer_shapes(ir.to_proto(net))


def modern(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with shapes inferred, in opset 13 if it was older."""
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), MIN_OPSET)
    if version < MIN_OPSET:
        model.ir_version = max(model.ir_version, 7)  # one in which initializers need not be inputs
        try:
            model = onnx.version_converter.convert_version(model, MIN_OPSET)
        except Exception as error:
            what = f"opset {version} of the model does not convert to {MIN_OPSET} ({error})"
            raise ValueError(f"{what}: export it with opset {MIN_OPSET} or later") from error
    return onnx.shape_inference.infer_shapes(model)


def name_nodes(graph: ir.Graph) -> None:
    """Give nodes without a name that of their output."""
    for node in graph:
        if not node.name:
            node.name = node.outputs[0].name


def fold_constants(net: ir.Model) -> None:
    """Compute what does not depend on the inputs, dequantization of stored weights included; drop Identity."""
    lift = passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    lift(net)
    for node in list(net.graph):
        if node.op_type == "DequantizeLinear":
            _dequantize_stored(node)
    fold_all(net)
    lift(net)
    drop_identities(net)


def _dequantize_stored(node: ir.Node) -> None:
    """Replace the DequantizeLinear of an initializer by float32 values: models stored small, to be run in float32."""
    parts = [constant(i) for i in node.inputs]
    if parts[0] is None or parts[1] is None or parts[1].ndim > 1:
        return
    along = [-1 if a == node.attributes.get_int("axis", 1) % max(parts[0].ndim, 1) else 1 for a in range(parts[0].ndim)]
    zero = parts[2] if len(parts) > 2 and parts[2] is not None else np.zeros_like(parts[1])
    shaped = [p.reshape(along) if p.ndim else p for p in (parts[1], zero)]
    values = ((parts[0].astype(np.int64) - shaped[1].astype(np.int64)) * shaped[0]).astype(np.float32)
    graph, output = node.graph, node.outputs[0]
    assert graph is not None
    stored = new_constant(graph, f"{output.name}", values)
    output.replace_all_uses_with(stored, replace_graph_outputs=True)
    graph.remove(node, safe=True)


# ---- Reading and changing --------------------------------------------------------------------------------------------


def constant(value: ir.Value | None) -> Array | None:
    """The array of an initializer, else None."""
    return None if value is None or value.const_value is None else np.asarray(value.const_value.numpy())


def shape_of(value: ir.Value | None) -> list[int | None] | None:
    """Sizes of the axes, None where one may vary; None where the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return [d if isinstance(d, int) else None for d in value.shape]


def sole_user(value: ir.Value) -> ir.Node | None:
    """The only node that reads a value, None if there are several or the value is an output."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def set_constant(node: ir.Node, index: int, array: Array, name: str) -> None:
    """Make a new float32 initializer a node's input, under `name` or, if that is taken, a longer one."""
    graph = node.graph
    assert graph is not None
    old = node.inputs[index] if index < len(node.inputs) else None
    if old is not None and len(old.uses()) == 1 and not old.is_graph_output():
        name = str(old.name)
        node.replace_input_with(index, None)
        graph.initializers.pop(name, None)
    value = new_constant(graph, name, np.asarray(array, np.float32))
    if index >= len(node.inputs):
        node.resize_inputs(index + 1)
    node.replace_input_with(index, value)


def new_constant(graph: ir.Graph, name: str, array: Array) -> ir.Value:
    """Add an initializer, under `name` or, if that is taken, a longer one."""
    while name in graph.initializers:
        name += "_"
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    graph.register_initializer(value)
    return value


def bypass(node: ir.Node, value: ir.Value) -> None:
    """Let those who read a node's output read `value` instead, under the output's name, and remove the node."""
    graph, output = node.graph, node.outputs[0]
    assert graph is not None
    name = output.name
    output.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    value.name = name
    value.shape, value.type = output.shape, output.type


# ---- Rewrites: each looks at one node and changes the graph around it, or does nothing -------------------------------


def drop_dropout(node: ir.Node) -> None:
    """Dropout does nothing in inference.

    Raises
    ------
    UnsupportedError : it is in training; onnxruntime would leave it out later on
    """
    if node.op_type != "Dropout":
        return
    flag = node.inputs[2] if len(node.inputs) > 2 else None
    on = constant(flag)
    if flag is not None and (on is None or on.any()):
        why = "it drops values (training_mode)"
        raise UnsupportedError([UnsupportedNode(str(node.name), node.op_type, why, "Dropout in inference")])
    if not node.outputs[0].is_graph_output() and node.inputs[0] is not None:
        node.outputs[0].replace_all_uses_with(node.inputs[0])
        node.graph.remove(node, safe=True)  # type: ignore[union-attr]


def matmul_to_gemm(node: ir.Node) -> None:
    """MatMul of (batch, n_in) with a constant (n_in, n_out)."""
    if node.op_type != "MatMul":
        return
    x, weight = shape_of(node.inputs[0]), constant(node.inputs[1])
    if x is not None and len(x) == 2 and weight is not None and weight.ndim == 2:
        node.op_type = "Gemm"


def plain_gemm(node: ir.Node) -> None:
    """Gemm with alpha = beta = 1 and a bias of (n_out,)."""
    if node.op_type != "Gemm":
        return
    for index, key in ((1, "alpha"), (2, "beta")):
        array = constant(node.inputs[index]) if index < len(node.inputs) else None
        factor = node.attributes.get_float(key, 1.0)
        if array is None or factor == 1.0:
            continue
        set_constant(node, index, array * np.float32(factor), str(node.inputs[index].name))  # type: ignore[union-attr]
        node.attributes.pop(key)
    bias = constant(node.inputs[2]) if len(node.inputs) > 2 else None
    channels = out_channels(node)
    if bias is not None and channels is not None and bias.size in (1, channels) and bias.shape != (channels,):
        flat = np.broadcast_to(bias.reshape(-1), (channels,))
        set_constant(node, 2, flat, str(node.inputs[2].name))  # type: ignore[union-attr]


def out_channels(node: ir.Node) -> int | None:
    """Number of output channels of a Conv or Gemm with constant weights, else None."""
    weight = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if weight is None else int(weight.shape[channel_axis(node)])


def channel_axis(node: ir.Node) -> int:
    """The axis of a Conv's, Gemm's or MatMul's weight that counts output channels."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and node.attributes.get_int("transB") == 1):
        return 0
    return 1


def clip_bounds(node: ir.Node) -> tuple[float, float]:
    """Smallest and largest output of Relu or Clip; (0, 0), which is no range, if a bound is computed."""
    if node.op_type == "Relu":
        return 0.0, np.inf
    bounds = []
    for index, default in ((1, -np.inf), (2, np.inf)):
        value = node.inputs[index] if index < len(node.inputs) else None
        array = constant(value)
        if value is not None and array is None:
            return 0.0, 0.0
        bounds.append(default if array is None else float(array.reshape(-1)[0]))
    return bounds[0], bounds[1]


def fold_affine(node: ir.Node) -> None:
    """A per-channel scale and offset behind a Conv or Gemm goes into its weight and bias."""
    if node.op_type not in ("BatchNormalization", "Add", "Sub", "Mul", "Div"):
        return
    source = next((i for i in node.inputs if i is not None and constant(i) is None), None)
    layer = source.producer() if source is not None else None
    if layer is None or source is None or layer.op_type not in ("Conv", "Gemm") or sole_user(source) is not node:
        return
    channels = out_channels(layer)
    bias = constant(layer.inputs[2]) if len(layer.inputs) > 2 else None
    if channels is None or (bias is None and len(layer.inputs) > 2 and layer.inputs[2] is not None):
        return
    found = _affine(node, source, channels)
    if found is None:
        return
    scale, offset = found
    weight = constant(layer.inputs[1])
    assert weight is not None
    shape = np.ones(weight.ndim, int)
    shape[channel_axis(layer)] = channels
    old = np.zeros(channels) if bias is None else np.broadcast_to(bias.reshape(-1), (channels,))
    name = str(layer.inputs[1].name)  # type: ignore[union-attr]
    if not np.all(scale == 1.0):
        set_constant(layer, 1, weight * scale.reshape(shape), name)
    set_constant(layer, 2, old * scale + offset, f"{layer.name}.bias")
    bypass(node, source)


def _affine(node: ir.Node, source: ir.Value, channels: int) -> tuple[Array, Array] | None:
    """Scale and offset (channels,) in float64 of a node that reads `source`, None if it is not that."""
    if node.op_type == "BatchNormalization":
        parts = [constant(i) for i in node.inputs[1:5]]
        if any(part is None for part in parts) or any(o.uses() for o in node.outputs[1:]):
            return None
        gamma, beta, mean, var = (np.asarray(part, np.float64) for part in parts)
        scale = gamma / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
        return scale, beta - mean * scale
    first, second = node.inputs
    operand = constant(second if first is source else first)
    rank = len(shape_of(source) or ())
    if operand is None or not rank or operand.ndim > rank or (node.op_type in ("Sub", "Div") and first is not source):
        return None
    full = operand.reshape((1,) * (rank - operand.ndim) + operand.shape).astype(np.float64)
    if full.size not in (1, channels) or full.shape[1] != full.size:
        return None
    values, ones = np.broadcast_to(full.reshape(-1), (channels,)), np.ones(channels)
    zeros = np.zeros(channels)
    if node.op_type == "Div" and not np.all(values):
        return None
    rows = {"Add": (ones, values), "Sub": (ones, -values), "Mul": (values, zeros)}
    return rows[node.op_type] if node.op_type in rows else (1 / values, zeros)


def mean_to_pool(node: ir.Node) -> None:
    """ReduceMean over height and width of (N, C, H, W)."""
    x = shape_of(node.inputs[0]) if node.op_type == "ReduceMean" else None
    if x is None or len(x) != 4:
        return
    given = node.attributes.get_ints("axes") or (constant(node.inputs[1]) if len(node.inputs) > 1 else None)
    if given is None or sorted(int(a) % 4 for a in given) != [2, 3]:
        return
    keep = node.attributes.get_int("keepdims", 1)
    source, output, graph = node.inputs[0], node.outputs[0], node.graph
    assert graph is not None
    pool = ir.node("GlobalAveragePool", [source], name=node.name)
    pool.outputs[0].name = f"{output.name}.pooled"
    pool.outputs[0].shape, pool.outputs[0].type = ir.Shape([x[0], x[1], 1, 1]), output.type
    flat = [] if keep else [ir.node("Flatten", [pool.outputs[0]], name=f"{node.name}.flatten")]
    graph.insert_after(node, [pool, *flat])
    last = (flat or [pool])[-1]
    bypass(node, last.outputs[0])


def hoist_activation(node: ir.Node) -> None:
    """Relu or Clip behind MaxPool, Flatten, ... moves up to the layer, which can then take it up."""
    source = node.inputs[0] if node.op_type in ACTIVATIONS else None
    if source is None or any(constant(i) is None for i in node.inputs[1:] if i is not None):
        return
    top: ir.Node | None = None
    while (mover := source.producer()) is not None and mover.op_type in MOVES and sole_user(source) is not None:
        top, source = mover, mover.inputs[0]
        assert source is not None
        if len(source.uses()) != 1 or source.is_graph_output():
            return
    if top is None or source.producer() is None:
        return
    bounds = node.inputs[1:]
    bypass(node, node.inputs[0])  # type: ignore[arg-type]
    raised = ir.node(node.op_type, [source, *bounds], name=node.name, version=node.version)
    raised.outputs[0].name = f"{source.name}.{node.op_type.lower()}"
    raised.outputs[0].shape, raised.outputs[0].type = source.shape, source.type
    top.graph.insert_before(top, raised)  # type: ignore[union-attr]
    top.replace_input_with(0, raised.outputs[0])


REWRITES: tuple[Callable[[ir.Node], None], ...] = (
    drop_dropout,
    matmul_to_gemm,
    plain_gemm,
    fold_affine,
    mean_to_pool,
    hoist_activation,
)
