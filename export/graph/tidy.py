"""Fill in what ONNX lets a file leave out: names of outputs that nobody reads, and sizes that are not known.

A Split with one of its parts unnamed has ended the process that onnxruntime ran in, and so has a Slice of an axis of -1
elements, as some exporters write one that may vary, where onnx infers its shape.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from .uses import all_nodes, inner_graphs

_OPTIONAL = onnx.defs.OpSchema.FormalParameterOption.Optional


def tidy(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model, or a copy of it that says more.

    - Every output of a node has a name but optional ones, which have none only where one with a name comes behind them:
      some operators allow no more outputs than they compute.
    - An axis of fewer than 0 elements is one of which nothing is said.
    """
    if not any("" in node.output for node in _nodes(proto)) and not any(_below_zero(proto)):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for dim in list(_below_zero(copy)):
        dim.ClearField("dim_value")
    versions = {opset.domain or "ai.onnx": opset.version for opset in copy.opset_import}
    taken = {name for node in _nodes(copy) for name in (*node.input, *node.output)}
    taken |= {value.name for graph in _graphs(copy) for value in (*graph.initializer, *graph.input, *graph.output)}
    for node in _nodes(copy):
        if "" in node.output:
            _name_outputs(node, versions, taken)
    return copy


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a model, those of graphs inside nodes and of functions too."""
    yield from all_nodes(proto.graph.node)
    for function in proto.functions:
        yield from all_nodes(function.node)


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """All graphs of a model."""
    yield proto.graph
    for node in _nodes(proto):
        yield from inner_graphs(node)


def _below_zero(proto: onnx.ModelProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    """Axes of values that are said to have fewer than 0 elements."""
    for graph in _graphs(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield from (dim for dim in value.type.tensor_type.shape.dim if dim.dim_value < 0)


def _name_outputs(node: onnx.NodeProto, versions: dict[str, int], taken: set[str]) -> None:
    """Give the outputs of a node names that nothing has; leave out optional ones at the end."""
    optional = _optional(node, versions)
    while node.output and node.output[-1] == "" and optional[len(node.output) - 1]:
        node.output.pop()
    stem = next(filter(None, node.output), node.name or node.op_type)
    for index, name in enumerate(node.output):
        if name == "" and not optional[index]:
            made = f"{stem}.unused{index}"
            while made in taken:
                made += "_"
            taken.add(made)
            node.output[index] = made


def _optional(node: onnx.NodeProto, versions: dict[str, int]) -> list[bool]:
    """Of each output, whether its operator may leave it out; of an operator that is not ONNX's own, any."""
    own = node.domain in ("", "ai.onnx")
    version = versions.get("ai.onnx", 0) if own else 0
    if not version or not onnx.defs.has(node.op_type, version):
        return [True] * len(node.output)
    formal = onnx.defs.get_schema(node.op_type, version).outputs
    return [bool(formal) and formal[min(i, len(formal) - 1)].option == _OPTIONAL for i in range(len(node.output))]
