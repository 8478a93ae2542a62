"""Drop outputs that do not depend on the inputs, such as a version number or a policy's deviation."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx

from . import reference
from .uses import RANDOM, all_nodes, keep_what_is_read, reads

#: elements of a value that a note spells out
_TOLD = 8


def drop_constant_outputs(proto: onnx.ModelProto) -> list[str]:
    """Leave such outputs out of a model, in place, where others are left.

    Returns
    -------
    A sentence for each, with its value
    """
    graph = proto.graph
    computed = _computed(graph)
    constant = [value.name for value in graph.output if value.name not in computed]
    if not constant or len(constant) == len(graph.output):
        return []
    notes = [f"output '{name}' is left out: {_value(proto, name)}" for name in constant]
    kept = [value for value in graph.output if value.name in computed]
    del graph.output[:]
    graph.output.extend(kept)
    keep_what_is_read(graph)
    return notes


def _computed(graph: onnx.GraphProto) -> set[str]:
    """The values that depend on an input, or on chance."""
    constants = {tensor.name for tensor in graph.initializer}
    found = {value.name for value in graph.input} - constants
    for node in graph.node:
        if not found.isdisjoint(reads(node)) or any(inner.op_type in RANDOM for inner in all_nodes([node])):
            found.update(node.output)
    return found


def _value(proto: onnx.ModelProto, name: str) -> str:
    """What an output always is, in words."""
    alone = onnx.ModelProto()
    alone.CopyFrom(proto)
    kept = [value for value in alone.graph.output if value.name == name]
    del alone.graph.output[:]
    alone.graph.output.extend(kept)
    del alone.graph.input[:]
    keep_what_is_read(alone.graph)
    try:
        array = np.asarray(reference.run(alone, {})[name])
    except Exception:  # onnxruntime's own: the value is of no use to the device anyway
        return "it does not depend on the inputs"
    return f"it is always {_spelled(array.ravel().tolist(), array.shape)}"


def _spelled(values: Iterable[object], shape: tuple[int, ...]) -> str:
    listed = list(values)
    texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in listed[:_TOLD]]
    if not shape:
        return texts[0]
    more = f", ... ({len(listed)} values)" if len(listed) > _TOLD else ""
    return f"[{', '.join(texts)}{more}]"
