"""Fuse element-wise nodes between one DequantizeLinear and one QuantizeLinear into a lookup table."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ..graph.operators import ELEMENTWISE
from .context import Context
from .shape_ops import MOVES


@dataclass
class Chain:
    """A DequantizeLinear and the nodes between it and its QuantizeLinear, in order (perhaps none: a requantization).

    twins : more of the same codes, as onnxruntime makes one for every reader
    """

    dequantize: ir.Node
    nodes: list[ir.Node]
    twins: list[ir.Node]


def find_chains(ctx: Context) -> None:
    """Note every chain in ctx.chains under its QuantizeLinear, and the nodes inside in ctx.skip."""
    graph = ctx.normal.model.graph
    for node in graph:
        chain = _chain(ctx, node) if node.op_type == "QuantizeLinear" else None
        if chain is not None:
            ctx.chains[node] = chain
            ctx.skip.update(chain.nodes)
    taken = set(ctx.chains) | ctx.skip
    for chain in list(ctx.chains.values()):
        for node in (chain.dequantize, *chain.twins):
            output = node.outputs[0]
            if not output.is_graph_output() and all(usage.node in taken for usage in output.uses()):
                ctx.skip.add(node)


def _chain(ctx: Context, quantize: ir.Node) -> Chain | None:
    inside: set[ir.Node] = set()
    sources: set[ir.Node] = set()
    todo = [quantize.inputs[0]]
    while todo:
        value = todo.pop()
        array = ctx.constant(value)
        if value is None or (array is not None and array.size == 1):
            continue
        node = value.producer()
        if node is None or array is not None:
            return None
        if node.op_type == "DequantizeLinear":
            sources.add(node)
        elif node.op_type in MOVES:
            inside.add(node)
            todo.append(node.inputs[0])
        elif node.op_type not in ELEMENTWISE:
            return None
        elif node not in inside:
            inside.add(node)
            todo.extend(node.inputs)
    if len({tuple(node.inputs) for node in sources}) != 1 or any(_leaks(node, inside | {quantize}) for node in inside):
        return None
    if any(node.op_type in MOVES for node in inside) and not all(_is_unary(ctx, node) for node in inside):
        return None  # two branches that move differently
    dequantize, *twins = (node for node in ctx.normal.model.graph if node in sources)
    scale = ctx.constant(dequantize.inputs[1])
    if scale is None or scale.size != 1:
        return None
    return Chain(dequantize, [node for node in ctx.normal.model.graph if node in inside], twins)


def _is_unary(ctx: Context, node: ir.Node) -> bool:
    """True if just one input is computed."""
    return sum(value is not None and ctx.constant(value) is None for value in node.inputs) == 1


def _leaks(node: ir.Node, inside: set[ir.Node]) -> bool:
    """True if something outside reads what a node computes."""
    return any(o.is_graph_output() or any(use.node not in inside for use in o.uses()) for o in node.outputs)
