"""Group element-wise nodes that together are a function of one value: quantized, they become one lookup table.

x * Sigmoid(x), x * Clip(x + 3, 0, 6) / 6 or 0.5 * x * (1 + Erf(x / sqrt(2))) would lose twice where every step were
rounded to int8, and cost a table for each; as one float island between DequantizeLinear and QuantizeLinear they are one
table, exactly (docs/arithmetic.md).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx_ir as ir

from ..graph.operators import ELEMENTWISE
from .simplify import ACTIVATIONS, constant


@dataclass(frozen=True)
class Group:
    """Nodes that compute `last`'s output from `root` alone.

    root : the value read
    inner : the nodes before the last, whose outputs nobody else reads
    last : the node whose output is read
    """

    root: ir.Value
    inner: frozenset[ir.Node]
    last: ir.Node


def find_groups(graph: ir.Graph, allowed: Collection[ir.Node], layers: Collection[ir.Node]) -> list[Group]:
    """Groups of two nodes or more, each as large as it can be.

    Parameters
    ----------
    graph : simplified
    allowed : nodes that may be members
    layers : nodes that take up a Relu or Clip behind them, which then is worth more there
    """
    places = {node: i for i, node in enumerate(graph)}
    members = {node for node in allowed if _is_step(node) and not _is_taken_up(node, layers)}
    found: list[Group] = []
    taken: set[ir.Node] = set()
    for last in reversed(list(graph)):
        group = _grow(last, members - taken, places) if last in members and last not in taken else None
        if group is not None:
            found.append(group)
            taken |= {last, *group.inner}
    return found


def _grow(last: ir.Node, members: set[ir.Node], places: dict[ir.Node, int]) -> Group | None:
    """The largest group that ends with `last`."""
    inside, group = {last}, None
    edge = _computed(last)
    while True:
        if len(edge) == 1 and len(inside) > 1:
            group = Group(next(iter(edge)), frozenset(inside - {last}), last)
        nodes = [node for value in edge if (node := value.producer()) in members and _is_inside(value, inside)]
        if not nodes:
            return group
        latest = max(nodes, key=places.__getitem__)
        inside.add(latest)
        edge = (edge - set(latest.outputs)) | _computed(latest)


def _is_step(node: ir.Node) -> bool:
    """Whether a node works element by element, with no constants but single numbers."""
    arrays = [array for value in node.inputs if (array := constant(value)) is not None]
    return node.op_type in ELEMENTWISE and all(array.size == 1 for array in arrays) and len(_computed(node)) > 0


def _is_taken_up(node: ir.Node, layers: Collection[ir.Node]) -> bool:
    """Whether a Relu or Clip costs nothing, since the saturation of the layer before it does the same."""
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    return (
        before is not None and node.op_type in ACTIVATIONS and before in layers and len(before.outputs[0].uses()) == 1
    )


def _computed(node: ir.Node) -> set[ir.Value]:
    return {value for value in node.inputs if value is not None and constant(value) is None}


def _is_inside(value: ir.Value, inside: Collection[ir.Node]) -> bool:
    """Whether nobody else reads a value."""
    return not value.is_graph_output() and all(use.node in inside for use in value.uses())
