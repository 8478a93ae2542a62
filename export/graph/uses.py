"""Find what nodes read, subgraphs included, which may read any value of the graphs around them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import AttributeProto

#: operators whose values differ from run to run
RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def inner_graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The graphs that a node has as attributes: branches, bodies of loops."""
    found = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found.append(attribute.g)
        found += attribute.graphs
    return found


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and all those of the graphs inside them."""
    todo = list(nodes)
    while todo:
        node = todo.pop()
        yield node
        for graph in inner_graphs(node):
            todo += graph.node


def reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, itself or in a graph inside it, whose own values may be among them."""
    found = set(node.input)
    for inner in all_nodes([node]):
        found.update(inner.input)
        found.update(output.name for graph in inner_graphs(inner) for output in graph.output)
    return found - {""}


def keep_what_is_read(graph: onnx.GraphProto) -> None:
    """Remove the nodes that no output of the graph needs."""
    wanted = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(reads(node))
            kept.append(node)
    if len(kept) < len(graph.node):
        kept.reverse()
        del graph.node[:]
        graph.node.extend(kept)
