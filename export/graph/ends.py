"""Fit a graph's inputs and outputs to the device: drop a Cast behind an input, and an ArgMax or the like before an output.

An input of int16 samples or of uint8 pixels whose every reader is a Cast to float32 becomes a float32 input. Of an output
that is a label (ArgMax, TopK, a comparison) or a Cast of the result, the scores are the output instead; of ArgMin, whose
scores are distances, their negative, so that the label is that of the largest there too. Notes say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import onnx
from onnx import TensorProto, helper, numpy_helper

from .uses import inner_graphs, keep_what_is_read, reads

#: comparison -> what it asks of its left operand, and of its right one
_RELATIONS = {
    "Equal": ("equal to", "equal to"),
    "Greater": ("above", "below"),
    "GreaterOrEqual": ("at least", "at most"),
    "Less": ("below", "above"),
    "LessOrEqual": ("at most", "at least"),
}
#: what only says what to do with scores -> that, in words; the node and its constants by name are given
_DECISIONS: dict[str, Callable[[onnx.NodeProto, dict[str, onnx.TensorProto]], str]] = {
    "ArgMax": lambda node, _: f"take the {_of_equals(node)}largest{_along(node)}",
    "ArgMin": lambda node, _: f"take the {_of_equals(node)}smallest{_along(node)}",
    "Cast": lambda node, _: f"cast it to {_type_name(_attribute(node, 'to'))} where that is needed",
    **dict.fromkeys(_RELATIONS, lambda node, known: f"see whether it is {_relation(node, known)}"),
    "Not": lambda *_: "take the opposite",
    "OneHot": lambda *_: "spread that over the classes",
    "Sign": lambda *_: "take its sign",
    "TopK": lambda node, known: f"take the {_constant(node, known)} {_ends_of_order(node)}{_along(node)}",
}
#: between scores and a decision, where they may stand too
_BETWEEN = {"Identity", "Reshape", "Squeeze", "Flatten", "Unsqueeze"}
_FLOAT = TensorProto.FLOAT


def to_float_ends(proto: onnx.ModelProto) -> list[str]:
    """Rewrite the inputs and outputs of a model in place.

    Returns
    -------
    What is otherwise than in the model given, a sentence each
    """
    return [*_inputs(proto.graph), *_outputs(proto.graph)]


def _attribute(node: onnx.NodeProto, name: str) -> int | None:
    return next((a.i for a in node.attribute if a.name == name), None)


def _type_name(kind: int | None) -> str:
    return str(TensorProto.DataType.Name(kind or 0)).lower()


def _along(node: onnx.NodeProto) -> str:
    axis = _attribute(node, "axis")
    return f" along axis {0 if axis is None and node.op_type != 'TopK' else -1 if axis is None else axis}"


def _of_equals(node: onnx.NodeProto) -> str:
    return "last of the " if _attribute(node, "select_last_index") else ""


def _ends_of_order(node: onnx.NodeProto) -> str:
    return "smallest" if _attribute(node, "largest") == 0 else "largest"


def _relation(node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> str:
    return f"{_RELATIONS[node.op_type][node.input[0] in known]} {_constant(node, known)}"


def _constant(node: onnx.NodeProto, known: dict[str, onnx.TensorProto]) -> str:
    found = [numpy_helper.to_array(known[name]) for name in node.input if name in known]
    return f"{found[0].item():g}" if found and found[0].size == 1 else "a constant"


# ---- Inputs ----------------------------------------------------------------------------------------------------------


def _inputs(graph: onnx.GraphProto) -> Iterator[str]:
    """Inputs of other types that every reader casts to float32."""
    outputs = {value.name for value in graph.output}
    known = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        kind = value.type.tensor_type.elem_type
        readers = [node for node in graph.node if value.name in node.input]
        casts = [
            n for n in readers if n.op_type == "Cast" and _attribute(n, "to") == _FLOAT and n.output[0] not in outputs
        ]
        if (
            kind in (0, _FLOAT)
            or value.name in known
            or value.name in outputs
            or not readers
            or len(casts) != len(readers)
        ):
            continue
        if any(value.name in reads(node) for node in graph.node if inner_graphs(node)):
            continue
        value.type.tensor_type.elem_type = _FLOAT
        for node in casts:
            node.op_type = "Identity"
            del node.attribute[:]
        yield f"input '{value.name}' is float32, to which the model casts it: give the {_type_name(kind)} values as such"


# ---- Outputs ---------------------------------------------------------------------------------------------------------


def _outputs(graph: onnx.GraphProto) -> Iterator[str]:
    """Outputs that are decisions about scores: the scores are the output."""
    kept: dict[str, onnx.ValueInfoProto] = {}
    notes = []
    known = _Known(graph)
    for value in graph.output:
        source, words, negative = _scores(known, value.name)
        if source is None:
            kept.setdefault(value.name, value)
            continue
        told = f"output '{value.name}'"
        if source in {other.name for other in graph.output} or source in kept:
            notes.append(f"{told} is left out: {words} of '{source}'")
            continue
        made_of = f"'{source}', which it is made of"
        if negative:
            made_of, score, source = f"the negative of {made_of}", source, f"{source}.negative"
            words = words.replace("smallest", "largest")
            if source in kept:
                notes.append(f"{told} is left out: {words} of '{source}'")
                continue
            graph.node.append(helper.make_node("Neg", [score], [source], name=source))
        kept[source] = helper.make_tensor_value_info(source, _FLOAT, None)
        notes.append(f"{told} is left out, and {made_of}, is the output: {words}")
    if notes:
        del graph.output[:]
        graph.output.extend(kept.values())
        keep_what_is_read(graph)
    yield from notes


class _Known:
    """Of a graph: the node of each value, its constants, and the types that it tells of its values."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.producers = {output: node for node in graph.node for output in node.output}
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.constants |= {
            n.output[0]: n.attribute[0].t
            for n in graph.node
            if n.op_type == "Constant" and n.attribute and n.attribute[0].HasField("t")
        }
        self.types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.output)}

    def is_float(self, name: str) -> bool | None:
        """Whether a value is float32; None where the graph does not say."""
        return None if not self.types.get(name) else self.types[name] == _FLOAT


def _scores(graph: _Known, name: str) -> tuple[str | None, str, bool]:
    """The value that an output decides about, what it does with it, and whether with its negative; None where the output is
    a value of its own."""
    producers, known = graph.producers, graph.constants
    words: list[str] = []
    source, value, negative = None, name, False
    first = producers.get(name)
    if graph.is_float(name) and (first is None or first.op_type != "TopK"):
        return None, "", False
    while (node := producers.get(value)) is not None and node.domain in ("", "ai.onnx"):
        if node.op_type in _DECISIONS and not _is_cast_to_float(node):
            words.append(_DECISIONS[node.op_type](node, known))
        elif node.op_type not in _BETWEEN and not _is_cast_to_float(node):
            break
        computed = [given for given in node.input if given and given not in known]
        if len(computed) != 1:
            return None, "", False
        value = computed[0]
        if node.op_type in _DECISIONS:
            source, negative = value, node.op_type == "ArgMin"
    if source is None or source not in producers or graph.is_float(source) is False:
        return None, "", False
    return source, ", then ".join(reversed(words)), negative


def _is_cast_to_float(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and _attribute(node, "to") == _FLOAT
