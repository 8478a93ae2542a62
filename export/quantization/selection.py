"""Select the layers that learn and the nodes that become integer ops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir

from ..errors import QuantizeError
from ..marks import Mark, meant, parse_mark
from .calibrate import Array
from .groups import Group, find_groups
from .rules import RULES
from .simplify import ACTIVATIONS, constant, out_channels, sole_user


def find_layers(model: onnx.ModelProto, wanted: str | Sequence[str] | None) -> list[str]:
    """Node names of the layers with weights that `wanted` means.

    Parameters
    ----------
    model : a model whose layers are Conv, Gemm, MatMul or others with constant weights
    wanted : a name, whole components of it, or a glob pattern, of the node or its weights ("head", "block3*", "fc" for
        "fc.weight" and "/fc/Gemm"); "last", "last:2" for the last one or two; "bias" for all that have one, "fc.bias",
        "last:2.bias" for some of those, of which then the bias alone trains; a list of these; None for nothing

    Raises
    ------
    QuantizeError : some of them fit no layer; the message names them and lists all layers
    """
    return list(_find_layers(model, wanted))


def find_marks(model: onnx.ModelProto, wanted: str | Sequence[str] | None) -> list[str]:
    """The layers of `find_layers` as the model's metadata has them: "fc.bias" where the bias alone trains."""
    return [f"{name}.bias" if bias else name for name, bias in _find_layers(model, wanted).items()]


def _find_layers(model: onnx.ModelProto, wanted: str | Sequence[str] | None) -> dict[str, bool]:
    """The layers meant, and whether of each the bias alone, in the order of the graph."""
    nodes = {str(node.name): node for node in ir.from_proto(model).graph if can_train(node)}
    known = {name: _aliases(node) for name, node in nodes.items()}
    found: dict[str, bool] = {}
    missing = []
    for text in _as_list(wanted):
        meaning = parse_mark(text)
        names = [name for name in meant(meaning, known) if not meaning.bias or _has_bias(nodes[name])]
        if not names:
            missing.append(text)
        found.update((name, meaning.bias and found.get(name, True)) for name in names)
    if missing:
        what = "layer with a bias" if all(parse_mark(text).bias for text in missing) else "layer"
        called = ", ".join(repr(text) for text in missing)
        raise QuantizeError(f"no {what} is called {called}; there are: {', '.join(known) or 'none'}")
    return {name: found[name] for name in known if name in found}


def _has_bias(node: ir.Node) -> bool:
    """Whether a layer adds something of its own."""
    place = {"RNN": 3, "GRU": 3, "LSTM": 3}.get(node.op_type, 2)
    return len(node.inputs) > place and constant(node.inputs[place]) is not None


def _as_list(wanted: str | Sequence[str] | None) -> list[str]:
    return [] if wanted is None else [wanted] if isinstance(wanted, str) else list(wanted)


def find_nodes(graph: ir.Graph, wanted: str | Sequence[str] | None) -> set[str]:
    """Names of the nodes, of any kind, that names or patterns mean; see `find_layers`."""
    known = {str(node.name): _aliases(node) for node in graph}
    found = {text: meant(Mark(text, text, False), known) for text in _as_list(wanted)}
    missing = [repr(text) for text, names in found.items() if not names]
    if missing:
        raise QuantizeError(f"no node is called {', '.join(missing)}; there are: {', '.join(known) or 'none'}")
    return {name for names in found.values() for name in names}


def is_layer(node: ir.Node) -> bool:
    """Whether a node has weights of its own."""
    weights = node.op_type in RULES and RULES[node.op_type].weights
    return weights and len(node.inputs) > 1 and constant(node.inputs[1]) is not None


#: operators with weights that train, though they stay float32, and the input that holds these
_TRAINS = {
    **dict.fromkeys(("LSTM", "GRU", "RNN", "ConvTranspose", "PRelu", "BatchNormalization"), 1),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "InstanceNormalization"), 1),
    "Gather": 0,
}


def can_train(node: ir.Node) -> bool:
    """Whether a node has weights that may train on the device."""
    at = _TRAINS.get(node.op_type)
    return is_layer(node) or (at is not None and len(node.inputs) > at and constant(node.inputs[at]) is not None)


def _aliases(node: ir.Node) -> list[str]:
    """Names by which a user may call a node: its own and its weights'."""
    return [str(node.name)] + [str(i.name) for i in node.inputs if i is not None and constant(i) is not None]


#: a constant as low as this says that a score does not count
_HIDDEN = -1e3
#: what may stand behind such a one, and would have its codes
_HANDS_ON = {"Flatten", "LogSoftmax", "Reshape", "Softmax", "Squeeze", "Transpose", "Unsqueeze"}


#: documentation of nodes that `features` added before a layer, and of those it found there
SCALES, NORMALISES = "edgeprop: scales features, in float32", "edgeprop: normalises features, in float32"


def exact_nodes(graph: ir.Graph) -> set[ir.Node]:
    """Nodes that scale or normalise features, and all before them: they stay float32 and read float32."""
    found: set[ir.Node] = set()
    waiting = [node for node in graph if node.doc_string in (SCALES, NORMALISES)]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [p for i in node.inputs if i is not None and (p := i.producer()) is not None]
    return found


@dataclass(frozen=True)
class Chosen:
    """What becomes integer ops.

    nodes : them; of a group the last
    groups : by its last node, the value a group of element-wise nodes is a function of
    biases : by MatMul, the Add behind it whose constant is its bias
    exact : nodes before these that are to read float32 values as they are
    """

    nodes: set[ir.Node]
    groups: dict[ir.Node, ir.Value]
    biases: dict[ir.Node, ir.Node]
    exact: set[ir.Node] = field(default_factory=set)


def choose_nodes(graph: ir.Graph, trainable: Sequence[str], keep_float: set[str]) -> Chosen:
    """The nodes that become integer ops.

    Not those the user keeps, nor trainable layers and what depends on them (gradients pass through it). What only moves
    values is quantized where it stands between quantized nodes.
    """
    held = set(trainable)
    behind: set[ir.Value] = set()
    chosen: set[ir.Node] = set()
    free: list[ir.Node] = []
    exact = exact_nodes(graph)
    for node in graph:
        if node.name in held or any(i in behind for i in node.inputs):
            behind.update(node.outputs)
        elif node.name not in keep_float and node not in exact:
            free.append(node)
            if _fits(node) and not RULES[node.op_type].moves:
                chosen.add(node)
    chosen -= _masked(graph)
    biases = {node: add for node in chosen if (add := bias_behind(node)) is not None and add in free}
    chosen.update(biases.values())
    groups = _choose_groups(graph, free, chosen, set(biases.values()))
    _choose_movers([node for node in free if node not in groups.members], chosen)
    return Chosen(chosen, groups.roots, biases, exact)


def _masked(graph: ir.Graph) -> set[ir.Node]:
    """Nodes that hide scores behind a very low constant, and the Softmax that reads them: no codes span both."""
    found: set[ir.Node] = set()
    for node in graph:
        arrays = [
            array for value in node.inputs if (array := constant(value)) is not None and array.dtype == np.float32
        ]
        hides = node.op_type in ("Add", "Where") and any(array.size and array.min() <= _HIDDEN for array in arrays)
        behind = node.op_type in _HANDS_ON and node.inputs[0] is not None and node.inputs[0].producer() in found
        if hides or behind:
            found.add(node)
    return found


@dataclass(frozen=True)
class _Groups:
    """Groups that became tables: the value each is a function of, by its last node, and all nodes in them."""

    roots: dict[ir.Node, ir.Value]
    members: set[ir.Node]


def _choose_groups(graph: ir.Graph, free: list[ir.Node], chosen: set[ir.Node], biases: set[ir.Node]) -> _Groups:
    """Leave of each group that holds a node of `chosen` the last one there."""
    layers = {node for node in chosen if RULES[node.op_type].absorbs}
    candidates: list[Group] = find_groups(graph, [node for node in free if node not in biases], layers)
    groups = [group for group in candidates if chosen & {group.last, *group.inner}]
    for group in groups:
        chosen -= group.inner
        chosen.add(group.last)
    members = {node for group in groups for node in (group.last, *group.inner)}
    return _Groups({group.last: group.root for group in groups}, members)


def _choose_movers(free: list[ir.Node], chosen: set[ir.Node]) -> None:
    """Add to `chosen` what moves values between its nodes."""
    movers = [node for node in free if _fits(node) and RULES[node.op_type].moves]
    for node in movers:  # behind integer code
        source = node.inputs[0]
        if source is not None and source.producer() in chosen:
            chosen.add(node)
    for node in reversed(movers):  # before integer code, and nothing else
        if node.op_type in ACTIVATIONS:
            continue
        users = [user for output in node.outputs for user in output.uses()]
        outside = any(output.is_graph_output() for output in node.outputs)
        if users and not outside and all(u.node in chosen for u in users):
            chosen.add(node)


def bias_behind(node: ir.Node) -> ir.Node | None:
    """The Add of one constant per output channel that alone reads a MatMul, which onnxruntime makes one Gemm with it."""
    add = sole_user(node.outputs[0]) if node.op_type == "MatMul" and is_layer(node) else None
    if add is None or add.op_type != "Add":
        return None
    bias = next((array for i in add.inputs if (array := constant(i)) is not None), None)
    return add if bias is not None and bias.shape == (out_channels(node),) else None


def _fits(node: ir.Node) -> bool:
    """Whether the rule for a node's operator applies: float32, with constants where it wants them."""
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if node.op_type == "PRelu" and ((slope := constant(node.inputs[1])) is None or slope.size != 1):
        return False  # of each channel another function
    first = node.inputs[0] if node.inputs else None
    if rule is None or first is None or (first.dtype is not None and first.dtype != ir.DataType.FLOAT):
        return False
    if node.op_type == "Resize" and node.attributes.get_string("mode", "nearest") != "nearest":
        return False  # it makes values that are no codes
    if node.op_type == "MatMul" and is_product(node):
        return True
    if rule.weights:
        return _has_weights(node)
    activations = node.inputs if rule.inputs is None else node.inputs[: rule.inputs]
    if any(i is None for i in activations):
        return False
    arrays = [array for i in activations if (array := constant(i)) is not None]
    return len(arrays) < len(activations) and all(_can_be_codes(array) for array in arrays)


def _can_be_codes(array: Array) -> bool:
    """Whether a constant operand is worth a tensor of codes; one number makes the operator a function of one value."""
    return array.dtype == np.float32 and array.size > 1 and bool(np.isfinite(array).all())


def is_product(node: ir.Node) -> bool:
    """Whether a MatMul is one of two computed values that the integer kernel takes."""
    ranks = [len(value.shape) if value is not None and value.shape is not None else 0 for value in node.inputs]
    return all(constant(value) is None for value in node.inputs) and min(ranks) > 2


def _has_weights(node: ir.Node) -> bool:
    """Whether a Conv, Gemm or MatMul is a plain layer: constant weights, one bias per output channel, no factors."""
    arrays = [array for i in node.inputs[1:3] if (array := constant(i)) is not None]
    if constant(node.inputs[0]) is not None or not arrays or len(arrays) < len(node.inputs) - 1:
        return False
    factors = [node.attributes.get_float(key, 1.0) for key in ("alpha", "beta")]
    plain = factors == [1.0, 1.0] and not node.attributes.get_int("transA", 0)
    matrix = node.op_type == "Conv" or arrays[0].ndim == 2
    return plain and matrix and arrays[0].ndim >= 2 and all(bias.shape == (out_channels(node),) for bias in arrays[1:])
