"""Validate class names against the outputs and the loss of a model."""

from __future__ import annotations

from typing import Any

import onnx

from .classes import check_count, names
from .errors import ExportError
from .marks import metadata


def class_names(
    labels: Any, model: onnx.ModelProto, loss: str | None, output: str | None = None, trains: bool = False
) -> list[str]:
    """Labels as texts, as many as the model has classes: two where one score tells yes from no.

    Parameters
    ----------
    labels : as `classes.names` takes them
    loss : what the device minimises, where that was said
    output : name of the output that the loss looks at, where that was said; else any may be it where something trains

    Raises
    ------
    ExportError : labels without an order, without a name, too few or too many, or the same twice
    """
    texts = names(labels)
    values = list(model.graph.output)
    named = [value for value in values if value.name == output] or (values if trains else values[:1])
    shapes = [[dim.dim_value for dim in value.type.tensor_type.shape.dim] or [0] for value in named]
    if set(shapes[0][1:] or shapes[0]) == {1} and len(texts) == 1 and _is_binary(model, loss):
        raise ExportError(
            f"one label for a score that tells two classes apart: labels=['not {texts[0]}', '{texts[0]}']"
        )
    check_count(texts, shapes)
    return texts


def _is_binary(model: onnx.ModelProto, loss: str | None) -> bool:
    """True where the loss, or a Sigmoid at the end, makes an output the likelihood of a yes."""
    loss = loss or metadata(model).get("loss")
    if loss is not None:
        return loss == "sigmoid_cross_entropy"
    made_by = {name: node for node in model.graph.node for name in node.output}
    node = made_by.get(model.graph.output[0].name)
    while node is not None and node.op_type in ("Identity", "QuantizeLinear", "DequantizeLinear", "Reshape", "Flatten"):
        node = made_by.get(node.input[0])
    return node is not None and node.op_type == "Sigmoid"
