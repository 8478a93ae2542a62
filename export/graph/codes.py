"""Move data-movement operators from between DequantizeLinear and QuantizeLinear onto the quantized values.

Where both have the same scale and zero point, moving the codes gives the same codes: (q - z) * s / s rounds to q - z.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from .normalize import array_of

#: operators whose output elements are elements of input 0 (Pad: or its constant)
_MOVERS = {"DepthToSpace", "Expand", "Gather", "GlobalMaxPool", "Pad", "Slice", "SpaceToDepth", "Tile"}
_SMALLEST_SCALE = 1e-30  # below which float32 may lose digits of a code


def move_codes(graph: ir.Graph) -> None:
    """Let movers between a DequantizeLinear and QuantizeLinears of its parameters work on codes, wherever they stand."""
    for node in list(graph):
        if node.op_type not in _MOVERS or node.outputs[0].is_graph_output():
            continue
        source = node.inputs[0].producer() if node.inputs[0] is not None else None
        users = [usage.node for usage in node.outputs[0].uses()]
        if source is None or source.op_type != "DequantizeLinear" or not users:
            continue
        if all(_same_parameters(source, user) for user in users) and _quantize_fill(graph, node, source):
            _take(node, source, users)


def _same_parameters(source: ir.Node, user: ir.Node) -> bool:
    """Whether `user` quantizes with the one scale and zero point that `source` dequantizes with."""
    if user.op_type != "QuantizeLinear" or len(source.inputs) < 3 or len(user.inputs) < 3:
        return False
    for i in (1, 2):
        a, b = array_of(source.inputs[i]), array_of(user.inputs[i])
        if a is None or b is None or a.size != 1 or b.size != 1 or a.dtype != b.dtype or a.item() != b.item():
            return False
    scale = array_of(source.inputs[1])
    return scale is not None and scale.item() > _SMALLEST_SCALE


def _quantize_fill(graph: ir.Graph, node: ir.Node, source: ir.Node) -> bool:
    """Give a Pad its constant as a code. False where that is computed."""
    if node.op_type != "Pad" or node.attributes.get_string("mode", "constant") != "constant":
        return True
    fill = np.float32(node.attributes.get_float("value", 0.0) or 0.0)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        given = array_of(node.inputs[2])
        if given is None or given.size != 1:
            return False
        fill = np.float32(given.item())
    scale, zero = array_of(source.inputs[1]), array_of(source.inputs[2])
    assert scale is not None
    assert zero is not None
    limits = np.iinfo(zero.dtype)
    code = np.clip(np.rint(fill / np.float32(scale.item())) + zero.item(), limits.min, limits.max).astype(zero.dtype)
    name = f"{node.name or node.outputs[0].name}.fill"
    while name in graph.initializers:
        name += "_"
    value = ir.Value(name=name, const_value=ir.tensor(np.asarray(code), name=name))
    graph.initializers[name] = value
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, value)
    return True


def _take(node: ir.Node, source: ir.Node, users: list[ir.Node]) -> None:
    """Read the codes, and stand in for the QuantizeLinears."""
    codes, output = source.inputs[0], node.outputs[0]
    node.replace_input_with(0, codes)
    for user in users:
        old = user.outputs[0]
        dtype = old.dtype or (codes.dtype if codes is not None else None)
        if dtype is not None:
            output.dtype = dtype
        ir.convenience.replace_all_uses_with(old, output, replace_graph_outputs=True)
    first = users[0].outputs[0]
    output.name, first.name = first.name, None
