"""Chains of element-wise float nodes between one DequantizeLinear and one QuantizeLinear: functions of one code."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from .context import Context

#: operators of one value, element by element
_UNARY = set(
    """Relu LeakyRelu Elu Selu Celu Sigmoid Tanh HardSigmoid HardSwish Softplus Softsign Gelu Mish Erf Exp Log Sqrt Abs Neg
    Reciprocal Clip PRelu ThresholdedRelu Floor Ceil Round Sign Sin Cos Identity QuickGelu Swish""".split()
)
#: of two values, one of which is a constant of one element
_BINARY = set("Add Sub Mul Div Pow Min Max".split())


@dataclass
class Chain:
    """A DequantizeLinear and the nodes between it and its QuantizeLinear (perhaps none: a requantization)."""

    dequantize: ir.Node
    nodes: list[ir.Node]


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
        output = chain.dequantize.outputs[0]
        if not output.is_graph_output() and all(usage.node in taken for usage in output.uses()):
            ctx.skip.add(chain.dequantize)


def _chain(ctx: Context, quantize: ir.Node) -> Chain | None:
    value, nodes = quantize.inputs[0], list[ir.Node]()
    while value is not None and (node := value.producer()) is not None:
        if node.op_type == "DequantizeLinear":
            scale = ctx.constant(node.inputs[1])
            return Chain(node, nodes) if scale is not None and scale.size == 1 and _computed(ctx, node) else None
        if not ctx.sole(value) or not _is_elementwise(ctx, node):
            return None
        nodes.insert(0, node)
        value = next(v for v in node.inputs if ctx.constant(v) is None)
    return None


def _computed(ctx: Context, node: ir.Node) -> bool:
    return ctx.constant(node.outputs[0]) is None


def _is_elementwise(ctx: Context, node: ir.Node) -> bool:
    """True for a function of one value, element by element."""
    if node.op_type not in _UNARY | _BINARY:
        return False
    constants = [ctx.constant(value) for value in node.inputs if value is not None]
    computed = sum(array is None for array in constants)
    return computed == 1 and all(array is None or array.size == 1 for array in constants)
