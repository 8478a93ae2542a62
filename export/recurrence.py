"""Recurrent operators in the form that the lowering reads: time in front, no loops.

RNN, GRU and LSTM of layout 1, which onnxruntime does not run, become those of layout 0 between Transposes. A Scan
becomes its body, once for every step.
"""

from __future__ import annotations

import onnx
from onnx import helper

CELLS = ("RNN", "GRU", "LSTM")
#: axes of X, the states and Y_h, Y_c between layouts 0 and 1; axes of Y from layout 0 to 1
_SWAP, _Y = [1, 0, 2], [2, 0, 1, 3]


def is_cell(node: onnx.NodeProto) -> bool:
    """Whether a node is a recurrent operator."""
    return node.op_type in CELLS and node.domain in ("", "ai.onnx")


def time_first(graph: onnx.GraphProto) -> bool:
    """Rewrite recurrent operators of layout 1 in place; True if there were any."""
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        layout = next((a for a in node.attribute if a.name == "layout"), None)
        if not is_cell(node) or layout is None or layout.i != 1:
            nodes.append(node)
            continue
        nodes += _time_first(node)
    changed = len(nodes) > len(graph.node)
    if changed:
        del graph.node[:]
        graph.node.extend(nodes)
    return changed


def _time_first(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A cell of layout 1 in layout 0, with a Transpose before and behind whatever has a batch axis."""
    cell = onnx.NodeProto()
    cell.CopyFrom(node)
    name = node.name or next(filter(None, node.output))
    kept = [a for a in cell.attribute if a.name != "layout"]
    del cell.attribute[:]
    cell.attribute.extend(kept)
    before, behind = [], []
    for index in (0, 5, 6):
        if index < len(node.input) and node.input[index]:
            cell.input[index] = f"{node.input[index]}.{name}.time_first"
            before.append(_transpose(node.input[index], cell.input[index], _SWAP))
    for index, output in enumerate(node.output):
        if output:
            cell.output[index] = f"{output}.time_first"
            behind.append(_transpose(cell.output[index], output, _SWAP if index else _Y))
    return [*before, cell, *behind]


def _transpose(source: str, output: str, perm: list[int]) -> onnx.NodeProto:
    return helper.make_node("Transpose", [source], [output], name=f"{output}.transpose", perm=perm)
