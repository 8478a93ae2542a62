"""Names of classes: texts in the order of the outputs, from what users have them in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from numbers import Integral
from typing import Any

import numpy as np
import onnx

from .errors import ExportError
from .lower.training import metadata


def class_names(
    labels: Any, model: onnx.ModelProto, loss: str | None, output: str | None = None, trains: bool = False
) -> list[str]:
    """Labels as texts, as many as the model has classes: two where one score tells yes from no.

    Parameters
    ----------
    labels : a sequence in the order of the outputs, or a mapping of names to indices or of indices to names
    loss : what the device minimises, where that was said
    output : name of the output that the loss looks at, where that was said; else any may be it where something trains

    Raises
    ------
    ExportError : labels without an order, without a name, too few or too many, or the same twice
    """
    texts = [_name_of(label) for label in _in_order(labels)]
    values = list(model.graph.output)
    named = [value for value in values if value.name == output] or (values if trains else values[:1])
    sizes = [value.type.tensor_type.shape.dim[-1:] for value in named]
    counts = [dims[0].dim_value if dims else 0 for dims in sizes]
    if counts[0] == 1 and len(texts) == 1 and _is_binary(model, loss):
        raise ExportError(
            f"one label for a score that tells two classes apart: labels=['not {texts[0]}', '{texts[0]}']"
        )
    if all(counts) and not any(len(texts) in ({1, 2} if count == 1 else {count}) for count in counts):
        raise ExportError(f"{len(texts)} labels for an output of {counts[0]} values: give one label per class")
    if len(set(texts)) != len(texts):
        raise ExportError(
            f"labels {sorted({t for t in texts if texts.count(t) > 1})} come twice: give each class its own"
        )
    return texts


def _in_order(labels: Any) -> list[Any]:
    """Labels in the order of the outputs: a mapping's by its indices; a set has none."""
    if isinstance(labels, str | bytes):
        return [labels]
    if isinstance(labels, Mapping):
        by_index = _by_index(labels)
        if sorted(by_index) != list(range(len(by_index))):
            raise ExportError(f"labels of indices {sorted(by_index)}: give one name for each of 0 .. {len(labels) - 1}")
        return [by_index[i] for i in range(len(by_index))]
    if isinstance(labels, Set) or not isinstance(labels, Iterable):
        why = "has no order" if isinstance(labels, Set) else "holds no names"
        raise ExportError(f"labels as {type(labels).__name__} {why}: give a list of names in the order of the outputs")
    return list(labels)


def _by_index(labels: Mapping[Any, Any]) -> dict[int, Any]:
    """Index to name, of a mapping one way or the other."""
    texts = [*labels, *labels.values()]
    if all(isinstance(text, str) for text in texts) and all(key.isdecimal() for key in labels):
        labels = {int(key): name for key, name in labels.items()}  # JSON knows no other keys
    whole = [
        all(isinstance(i, Integral) and not isinstance(i, bool) for i in part) for part in (labels, labels.values())
    ]
    if whole[0] == whole[1]:
        what = "maps numbers to numbers, which leaves open which are names" if whole[0] else "holds no indices"
        raise ExportError(f"labels as {type(labels).__name__} {what}: give a list of names in the order of the outputs")
    pairs = labels.items() if whole[0] else [(index, name) for name, index in labels.items()]
    found = {int(index): name for index, name in pairs}
    if len(found) != len(labels):
        raise ExportError("labels give two names to one index: give each class its own")
    return found


def _name_of(label: Any) -> str:
    """A name as text."""
    if isinstance(label, bytes):
        return label.decode("utf-8")
    text = str(label)
    is_none = label is None or text in ("nan", "<NA>", "NaT") or np.ndim(label) > 0
    if not text or (is_none and not isinstance(label, str)):
        raise ExportError(f"{text or repr(label)} among the labels is no name of a class: give one text per class")
    return text


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
