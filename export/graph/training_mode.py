"""Nodes that compute otherwise while a network trains: an exporter that was not told of inference leaves them so."""

from __future__ import annotations

import onnx

from ..errors import UnsupportedError, UnsupportedNode
from .uses import all_nodes


def check_inference(proto: onnx.ModelProto, opset: int) -> None:
    """Refuse BatchNormalization that takes the statistics of its batch, before a pass folds it or drops what it shows.

    Raises
    ------
    UnsupportedError : naming the nodes
    """
    bad = [
        UnsupportedNode(
            node.name or node.output[0],
            node.op_type,
            "it is in training mode",
            "export in evaluation mode (model.eval())",
        )
        for node in all_nodes(proto.graph.node)
        if node.op_type == "BatchNormalization" and node.domain in ("", "ai.onnx") and _trains(node, opset)
    ]
    if bad:
        raise UnsupportedError(bad)


def _trains(node: onnx.NodeProto, opset: int) -> bool:
    """Until opset 13 the outputs tell: more of them than the first there are in training alone."""
    if opset < 14:
        return any(node.output[1:])
    return any(given.name == "training_mode" and given.i for given in node.attribute)
