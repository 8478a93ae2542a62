"""Normalize recurrent operators: time-major layout, Scan unrolled.

RNN, GRU and LSTM of layout 1, which onnxruntime does not run, become those of layout 0 between Transposes. A Scan
becomes its body, once for every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper

CELLS = ("RNN", "GRU", "LSTM")
#: nodes that the steps of a Scan may become together; the device counts its tensors in 16 bits
MOST_NODES = 16000
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


# ---- Scan ------------------------------------------------------------------------------------------------------------


def scanned(node: onnx.NodeProto) -> list[tuple[str, int]]:
    """The values that a cell or a Scan steps through, and the axis it does so along; none for other nodes."""
    if is_cell(node):
        return [(node.input[0], 0)]
    if node.op_type != "Scan" or node.domain not in ("", "ai.onnx"):
        return []
    given = {a.name: a for a in node.attribute}
    names = list(node.input)[-given["num_scan_inputs"].i :]
    axes = list(given["scan_input_axes"].ints) if "scan_input_axes" in given else [0] * len(names)
    return list(zip(names, axes, strict=True))


def unroll_scans(graph: ir.Graph) -> None:
    """Put the body of each Scan, once for every step, in its place, where the number of steps is known.

    Weights are shared by the steps. A Scan in a body of its own, one of opset 8 (which has a batch axis), or one that would
    make more than `MOST_NODES` nodes stays what it is.
    """
    for node in list(graph):
        if node.op_type == "Scan" and node.domain in ("", "ai.onnx") and graph.opset_imports.get("", 0) > 8:
            scan = _Scan(graph, node)
            if scan.steps and scan.steps * len(scan.body) <= MOST_NODES and not scan.nested:
                scan.unroll()


class _Scan:
    """One Scan on its way to becoming plain nodes."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self.graph, self.node = graph, node
        self.name = str(node.name or node.outputs[0].name)
        self.body: ir.Graph = node.attributes["body"].as_graph()
        count = node.attributes.get_int("num_scan_inputs", 1)
        self.states, self.inputs = list(node.inputs[:-count]), list(node.inputs[-count:])
        self.results = list(node.outputs[len(self.states) :])
        self.axes = self._ints("scan_input_axes", len(self.inputs))
        self.back = self._ints("scan_input_directions", len(self.inputs))
        self.steps = self._steps()
        self.nested = any(isinstance(a.value, ir.Graph) for n in self.body for a in n.attributes.values())
        self.shared: dict[ir.Value, ir.Value | None] = {}

    def _ints(self, key: str, count: int) -> list[int]:
        return list(self.node.attributes.get_ints(key, ()) or [0] * count)

    def _steps(self) -> int:
        """How many there are; 0: it is not known."""
        value = self.inputs[0]
        size = value.shape[self.axes[0]] if value is not None and value.shape is not None else None
        return size if isinstance(size, int) else 0

    def unroll(self) -> None:
        """Make the nodes of all steps, and what joins their outputs."""
        for value in self.body.initializers.values():
            self.shared[value] = self._constant(f"{self.name}.{value.name}", value.const_value)
        states, found = self.states, []
        for step in range(self.steps):
            outputs = self._step(step, states)
            states = outputs[: len(states)]
            found.append(outputs[len(states) :])
        for output, state in zip(self.node.outputs, states, strict=False):
            self._takes_place(output, state)
        axes = self._ints("scan_output_axes", len(self.results))
        back = self._ints("scan_output_directions", len(self.results))
        for i, output in enumerate(self.results):
            if output.uses() or output.is_graph_output():
                rows = [row[i] for row in found]
                self._takes_place(output, self._join(output, rows[::-1] if back[i] else rows, axes[i]))
        self.graph.remove(self.node, safe=True)

    def _step(self, step: int, states: list[ir.Value | None]) -> list[ir.Value | None]:
        """The body's outputs in one step."""
        of: dict[ir.Value, ir.Value | None] = dict(self.shared)
        of.update(zip(self.body.inputs, states, strict=False))
        for i, value in enumerate(self.inputs):
            at = self.steps - 1 - step if self.back[i] else step
            index = self._constant(f"{self.name}.{i}.at.{at}", ir.tensor(np.array(at, np.int64)))
            inner = self.body.inputs[len(states) + i]
            of[inner] = self._add("Gather", [value, index], f"{self.name}.{i}.{step}", {"axis": self.axes[i]}, inner)
        for node in self.body:
            if node.op_type == "Constant" and node.outputs[0] in self.shared:
                continue
            inputs = [of.get(v, v) if v is not None else None for v in node.inputs]
            copy = ir.Node(
                node.domain,
                node.op_type,
                inputs,
                list(node.attributes.values()),
                num_outputs=len(node.outputs),
                name=f"{node.name or node.outputs[0].name}.{step}",
                version=node.version,
            )
            for old, new in zip(node.outputs, copy.outputs, strict=True):
                new.name, new.type, new.shape = f"{old.name}.{step}" if old.name else "", old.type, old.shape
                of[old] = new
            self.graph.insert_before(self.node, copy)
            if node.op_type == "Constant":
                self.shared[node.outputs[0]] = copy.outputs[0]
        return [of.get(value, value) for value in self.body.outputs]

    def _join(self, output: ir.Value, rows: list[ir.Value | None], axis: int) -> ir.Value:
        more: list[ir.Value] = []
        given: dict[str, Any] = {"axes": [axis]}
        if self.graph.opset_imports.get("", 0) >= 13:
            more, given = [self._constant(f"{output.name}.axis", ir.tensor(np.array([axis], np.int64)))], {}
        parts = [
            self._add("Unsqueeze", [row, *more], f"{output.name}.{i}", given, output) for i, row in enumerate(rows)
        ]
        return self._add("Concat", parts, f"{output.name}.all", {"axis": axis}, output)

    def _add(
        self, kind: str, inputs: Sequence[ir.Value | None], name: str, attributes: dict[str, Any], like: ir.Value
    ) -> ir.Value:
        """A new node's output, of the type of `like`."""
        node = ir.node(kind, inputs, attributes, name=name)
        node.outputs[0].name, node.outputs[0].type = name, like.type
        self.graph.insert_before(self.node, node)
        return node.outputs[0]

    def _constant(self, name: str, tensor: ir.TensorProtocol | None) -> ir.Value:
        """An initializer of the graph, shared by all that ask for this name."""
        if name not in self.graph.initializers:
            assert tensor is not None
            kind = ir.TensorType(tensor.dtype)
            value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(tensor.numpy().shape), type=kind)
            self.graph.initializers[name] = value
        return self.graph.initializers[name]

    def _takes_place(self, output: ir.Value, value: ir.Value | None) -> None:
        """Let `value` stand for an output of the Scan; an output of the graph keeps its name."""
        assert value is not None
        if output.is_graph_output():
            alone = value.producer() is not None and value.producer().graph is self.graph  # type: ignore[union-attr]
            if not alone or value.is_graph_output():
                value = self._add("Identity", [value], f"{output.name}.end", {}, output)
            value.name, value.shape, value.type = output.name, output.shape, output.type
        output.replace_all_uses_with(value, replace_graph_outputs=True)
