"""From a float32 ONNX model and calibration samples to an int8 one, in QDQ form.

    int8 = quantize(model, x[:256], trainable="head", labels=range(10))

Activations become asymmetric int8, weights symmetric int8 per output channel, biases int32. QuantizeLinear and
DequantizeLinear stand where onnxruntime fuses each layer into one integer kernel (docs/arithmetic.md): nothing between
a layer and the activation it takes up, equal parameters on both sides of what only moves values. Layers that are to
learn on the device, and all that follows them, stay float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from ..lower.training import Mark, meant, parse_mark
from .calibrate import Affine, Array, CalibrationError, Range, calibrate
from .choose import choose
from .corrections import correct_biases, equalize
from .groups import Group, find_groups
from .simplify import ACTIVATIONS, channel_axis, clip_bounds, constant, new_constant, out_channels, simplify, sole_user

#: method of calibration that picks one of the others for each value
AUTO = "auto"
KEY_METHODS = "edgeprop.calibration"
KEY_TRAINABLE, KEY_LOSS, KEY_LABELS = "edgeprop.trainable", "edgeprop.loss", "edgeprop.labels"

#: largest |bias code|: leaves the sum of products of a 65,000-input layer room in int32
BIAS_LIMIT = float(1 << 30)
#: smallest weight scale times input scale: keeps multipliers among float32's normal numbers
SMALLEST_PRODUCT = 1e-30


class QuantizeError(ValueError):
    """A model or an option that cannot be quantized as asked."""


@dataclass(frozen=True)
class Rule:
    """How an operator is quantized.

    weights : it has constant weights in input 1, and perhaps a bias in input 2
    moves : it moves or picks codes, so its output has its input's parameters
    fixed : parameters of its output, whatever the calibration says
    inputs : how many of its inputs are activations; None: all
    absorbs : a Relu or Clip behind it costs nothing, since saturating codes does the same
    """

    weights: bool = False
    moves: bool = False
    fixed: Affine | None = None
    inputs: int | None = 1
    absorbs: bool = False


#: what onnxruntime makes an integer kernel of even where scales by channel keep it from that elsewhere
_FUSED_ANYHOW = ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid")
_PROBABILITY = Affine(1 / 256, -128)  # 0 .. 255/256
#: a MatMul of two computed values
_PRODUCT = Rule(inputs=None)

#: operators that become integer kernels or, of one element each, tables; all others stay float32
RULES: dict[str, Rule] = {
    "Conv": Rule(weights=True, absorbs=True),
    "Gemm": Rule(weights=True, absorbs=True),
    "MatMul": Rule(weights=True, absorbs=True),
    "Add": Rule(inputs=None, absorbs=True),
    "Mul": Rule(inputs=None, absorbs=True),
    "Concat": Rule(inputs=None),
    "AveragePool": Rule(absorbs=True),
    "GlobalAveragePool": Rule(absorbs=True),
    **dict.fromkeys(("Abs", "Celu", "Elu", "Erf", "Gelu", "HardSwish", "LeakyRelu", "Mish", "Neg", "PRelu"), Rule()),
    **dict.fromkeys(("Selu", "Sign", "Softplus", "Softsign", "Swish", "ThresholdedRelu"), Rule()),
    "HardSigmoid": Rule(fixed=_PROBABILITY),
    "Sigmoid": Rule(fixed=_PROBABILITY),
    "Tanh": Rule(fixed=Affine(1 / 128, 0)),
    "Softmax": Rule(fixed=_PROBABILITY),
    "Relu": Rule(moves=True),
    "Clip": Rule(moves=True),
    "MaxPool": Rule(moves=True),
    "Flatten": Rule(moves=True),
    "Reshape": Rule(moves=True),
    "Transpose": Rule(moves=True),
    "Squeeze": Rule(moves=True),
    "Unsqueeze": Rule(moves=True),
    "Slice": Rule(moves=True),
    "DepthToSpace": Rule(moves=True),
    "Expand": Rule(moves=True),
    "Gather": Rule(moves=True),
    "GlobalMaxPool": Rule(moves=True),
    "Pad": Rule(moves=True),
    "Resize": Rule(moves=True),
    "SpaceToDepth": Rule(moves=True),
    "Split": Rule(moves=True),
    "Tile": Rule(moves=True),
}


def quantize(
    model: onnx.ModelProto,
    calibration: Array | Mapping[str, Array],
    *,
    method: str = "minmax",
    percentile: float = 99.99,
    per_channel: bool = True,
    keep_float: str | Sequence[str] = (),
    trainable: str | Sequence[str] | None = None,
    loss: str | None = None,
    labels: Sequence[Any] | None = None,
    io: str = "float",
    equalization: bool = False,
    bias_correction: bool = True,
) -> onnx.ModelProto:
    """Quantize a float32 model to int8.

    Parameters
    ----------
    model : float32, any opset that converts to 13; not changed
    calibration : (n, ...) samples of the input, as the device will see them; a dict by name for several inputs
    method, percentile : how ranges are chosen, see `calibrate`; "auto" picks the method for each value by the noise in
        the outputs (`choose`), and notes them as JSON in the metadata under KEY_METHODS
    per_channel : a weight scale for every output channel, not one for the tensor
    keep_float : layers left float32: names or glob patterns of nodes. Between int8 values their result is rounded to
        int8 as before; average pools, Sigmoid, LeakyRelu and what moves values stay integer there
    trainable : layers that learn on the device, see `find_layers`; they and what follows them stay float32
    loss, labels : what the device minimises and the names of its classes; recorded beside `trainable`
    io : "float": inputs and outputs as they were; "int8": those that are quantized become int8 themselves
    equalization : even out channel ranges between neighbouring layers first (`corrections.equalize`)
    bias_correction : take the mean error of the rounded weights out of the biases (`corrections.correct_biases`)

    Returns
    -------
    ModelProto in QDQ form, opset 13 or later. Nodes and initializers keep their names; value `v` has its codes in
    `v.int8`. `metadata_props` holds trainable and labels as JSON lists and the loss, under the KEY_* names.

    Raises
    ------
    QuantizeError : the model is quantized already, an option is unknown, a pattern fits no layer (all are listed)
    CalibrationError : the samples do not fit, or give no finite ranges
    """
    if io not in ("float", "int8"):
        raise QuantizeError(f'io={io!r}: choose "float" or "int8"')
    if is_quantized(model):
        raise QuantizeError("the model is quantized already: export it as it is, without calibration samples")
    normal, chosen = prepare(model, calibration, trainable, equalization)
    build = Build(normal, calibration, chosen, keep_float, per_channel, bias_correction)
    ranges, picked = find_ranges(build, method, percentile)
    result = mark(build(ranges, int8_io=io == "int8"), find_marks(normal, trainable), loss, labels)
    if picked:
        onnx.helper.set_model_props(result, {**_properties(result), KEY_METHODS: _counted(result, picked)})
    return result


def find_ranges(build: Build, method: str, percentile: float) -> tuple[dict[str, Range], dict[str, str]]:
    """Ranges by value name and, where the method is "auto", the method of each."""
    if method == AUTO:
        return choose(build.normal, build.calibration, build, percentile)
    return calibrate(build.normal, build.calibration, method=method, percentile=percentile), {}


def prepare(
    model: onnx.ModelProto,
    calibration: Array | Mapping[str, Array],
    trainable: str | Sequence[str] | None = None,
    equalization: bool = False,
) -> tuple[onnx.ModelProto, list[str]]:
    """The float32 model whose values `quantize` rounds, value by value, and the names of the layers that train."""
    normal = simplify(model)
    chosen = find_layers(normal, trainable)
    return equalize(normal, fixed=chosen, samples=calibration) if equalization else normal, chosen


@dataclass
class Build:
    """Makes the quantized model from ranges; what does not depend on these is found once."""

    normal: onnx.ModelProto
    calibration: Array | Mapping[str, Array]
    trainable: Sequence[str]
    keep_float: str | Sequence[str]
    per_channel: bool
    bias_correction: bool
    shifts: Mapping[str, Array] | None = None

    def __call__(self, ranges: Mapping[str, Range], int8_io: bool = False) -> onnx.ModelProto:
        net = ir.from_proto(self.normal)
        keep = find_nodes(net.graph, self.keep_float)
        chosen = choose_nodes(net.graph, self.trainable, keep)
        kept = {node for node in net.graph if node.name in keep}
        work = _Quantizer(net.graph, chosen, ranges, self.per_channel, int8_io, kept)
        work.choose_parameters()
        if self.bias_correction:
            if self.shifts is None:
                self.shifts = correct_biases(self.normal, self.calibration, work.weight_errors())
            work.bias_shifts = self.shifts
        work.rewrite()
        passes.RemoveUnusedNodesPass()(net)
        passes.TopologicalSortPass()(net)
        return finish(net, self.normal)


def _counted(model: onnx.ModelProto, picked: Mapping[str, str]) -> str:
    """JSON of the method chosen for each value that has an int8 form."""
    coded = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    return json.dumps({name: method for name, method in picked.items() if coded & {name, f"{name}.float"}})


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether a model computes with integers already."""
    return any(node.op_type in _INTEGER for node in model.graph.node)


_INTEGER = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger"}


def finish(net: ir.Model, normal: onnx.ModelProto) -> onnx.ModelProto:
    """The model as a checked proto, with shapes."""
    result = ir.to_proto(net)
    del result.graph.value_info[:]
    result.producer_name = "edgeprop"
    result.ir_version = max(normal.ir_version, 7)
    result = onnx.shape_inference.infer_shapes(result)
    onnx.checker.check_model(result, full_check=True)
    return result


def mark(
    model: onnx.ModelProto, trainable: Sequence[str], loss: str | None = None, labels: Sequence[Any] | None = None
) -> onnx.ModelProto:
    """Record in a model (changed in place, and returned) what trains, with which loss, and the names of the classes."""
    kept = _properties(model)
    if trainable:
        kept[KEY_TRAINABLE] = json.dumps(list(trainable))
        if loss is not None:
            kept[KEY_LOSS] = loss
    else:
        kept.pop(KEY_TRAINABLE, None)
    if labels is not None:
        kept[KEY_LABELS] = json.dumps([str(label) for label in labels], ensure_ascii=False)
    onnx.helper.set_model_props(model, kept)
    return model


def _properties(model: onnx.ModelProto) -> dict[str, str]:
    """Metadata by key."""
    return {p.key: p.value for p in model.metadata_props}


# ---- Which layers ----------------------------------------------------------------------------------------------------


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


@dataclass(frozen=True)
class Chosen:
    """What becomes integer ops.

    nodes : them; of a group the last
    groups : by its last node, the value a group of element-wise nodes is a function of
    biases : by MatMul, the Add behind it whose constant is its bias
    """

    nodes: set[ir.Node]
    groups: dict[ir.Node, ir.Value]
    biases: dict[ir.Node, ir.Node]


def choose_nodes(graph: ir.Graph, trainable: Sequence[str], keep_float: set[str]) -> Chosen:
    """The nodes that become integer ops.

    Not those the user keeps, nor trainable layers and what depends on them (gradients pass through it). What only moves
    values is quantized where it stands between quantized nodes.
    """
    held = set(trainable)
    behind: set[ir.Value] = set()
    chosen: set[ir.Node] = set()
    free: list[ir.Node] = []
    for node in graph:
        if node.name in held or any(i in behind for i in node.inputs):
            behind.update(node.outputs)
        elif node.name not in keep_float:
            free.append(node)
            if _fits(node) and not RULES[node.op_type].moves:
                chosen.add(node)
    biases = {node: add for node in chosen if (add := _bias_behind(node)) is not None and add in free}
    chosen.update(biases.values())
    groups = _choose_groups(graph, free, chosen, set(biases.values()))
    _choose_movers([node for node in free if node not in groups.members], chosen)
    return Chosen(chosen, groups.roots, biases)


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


def _bias_behind(node: ir.Node) -> ir.Node | None:
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
    if node.op_type == "MatMul" and _is_product(node):
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


def _is_product(node: ir.Node) -> bool:
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


# ---- Weights ---------------------------------------------------------------------------------------------------------


@dataclass
class Weights:
    """A layer's weights as integers.

    codes : int8, of the weight's shape
    scale : float32, (channels,) or (): real weight = scale * code
    bias : int32 (channels,) in units of input scale * scale, or None
    """

    codes: Array
    scale: Array
    bias: Array | None


def quantize_weights(weight: Array, bias: Array | None, axis: int, x_scale: float, per_channel: bool) -> Weights:
    """Quantize a layer's weight, symmetric in -127 .. 127, and bias.

    The scale follows from the largest weight, but grows where the bias would not fit int32 at x_scale * scale, or where
    that product would leave float32's normal numbers.

    Parameters
    ----------
    weight, bias : float, bias (channels,) or None
    axis : of the weight, counting output channels
    x_scale : of the layer's input
    """
    weight = np.asarray(weight, np.float64)
    others = tuple(a for a in range(weight.ndim) if a != axis)
    largest = np.abs(weight).max(others)
    offset = np.zeros_like(largest) if bias is None else np.abs(np.asarray(bias, np.float64))
    if not per_channel:
        largest, offset = largest.max(), offset.max()
    scale = largest / 127
    dead = largest == 0  # no weight to represent: a scale that holds the bias to 20 bits
    scale = np.where(dead, np.where(offset > 0, offset / (x_scale * 2.0**20), 1.0), scale)
    scale = np.maximum(scale, offset / (x_scale * BIAS_LIMIT))
    scale = np.maximum(scale, SMALLEST_PRODUCT / x_scale).astype(np.float32)
    along = np.broadcast_to(scale, weight.shape[axis]).reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    codes = np.clip(np.rint(weight / along), -127, 127).astype(np.int8)
    return Weights(codes, scale, None if bias is None else quantize_bias(bias, x_scale, scale))


def quantize_bias(bias: Array, x_scale: float, scale: Array) -> Array:
    """int32 codes (channels,) of a bias at x_scale * scale."""
    unit = (np.float32(x_scale) * scale).astype(np.float64)
    codes: Array = np.clip(np.rint(np.asarray(bias, np.float64) / unit), -(2**31) + 1, 2**31 - 1).astype(np.int32)
    return codes


# ---- The graph -------------------------------------------------------------------------------------------------------


@dataclass
class _Quantizer:
    """One quantization: which nodes, with which parameters; then the surgery.

    params : of every value that has an int8 form
    absorbed : Relu and Clip nodes that saturation takes over, by the node before them
    superfluous : those that onnxruntime would leave behind a MatMul with a bias as a layer of its own
    operands : constant inputs that become codes with a scale
    """

    graph: ir.Graph
    chosen: Chosen
    ranges: Mapping[str, Range]
    per_channel: bool
    int8_io: bool
    kept: set[ir.Node] = field(default_factory=set)
    params: dict[ir.Value, Affine] = field(default_factory=dict)
    absorbed: dict[ir.Node, ir.Node] = field(default_factory=dict)
    superfluous: list[ir.Node] = field(default_factory=list)
    operands: list[tuple[ir.Node, int]] = field(default_factory=list)
    weights: dict[ir.Node, Weights] = field(default_factory=dict)
    bias_shifts: Mapping[str, Array] = field(default_factory=dict)

    # -- Parameters

    def choose_parameters(self) -> None:
        """Find what becomes int8 and its scale and zero point, in the order of the graph."""
        for node in self.graph:
            if node not in self.chosen.nodes:
                continue
            for value in self._activations(node):
                if value not in self.params:
                    self.params[value] = self._range(value).affine()
            if node not in self.absorbed.values() and node not in self.chosen.biases:
                self._choose_output(node)
            if self._rule(node).weights:
                self._choose_weights(node)
            elif self._rule(node).inputs is None and node not in self.chosen.biases.values():
                self.operands += [(node, i) for i, value in enumerate(node.inputs) if constant(value) is not None]

    def _rule(self, node: ir.Node) -> Rule:
        """A node's rule; the last of a group has one for whatever it is."""
        known = RULES.get(node.op_type, Rule())
        if node in self.chosen.groups:
            return Rule(fixed=known.fixed)
        return _PRODUCT if known.weights and not is_layer(node) else known

    def _activations(self, node: ir.Node) -> list[ir.Value]:
        """Inputs that need an int8 form; none for an absorbed activation or bias."""
        if node in self.absorbed.values() or node in self.chosen.biases.values():
            return []
        if node in self.chosen.groups:
            return [self.chosen.groups[node]]
        count = self._rule(node).inputs
        inputs = node.inputs if count is None else node.inputs[:count]
        return [i for i in inputs if i is not None and constant(i) is None]

    def _choose_output(self, node: ir.Node) -> None:
        rule, output = self._rule(node), node.outputs[0]
        if rule.fixed is not None:
            self.params[output] = rule.fixed
        elif rule.moves:
            for part in node.outputs:
                self.params[part] = self.params[node.inputs[0]]  # type: ignore[index]
        elif rule.absorbs and (activation := self._activation_behind(node)) is not None:
            self.absorbed[node] = activation
            low, high = clip_bounds(activation)
            params = self._range(activation.outputs[0]).clipped(low, high).affine(low, high)
            self.params[activation.outputs[0]] = params
            if node in self.chosen.biases.values():
                self.superfluous.append(activation)
        else:
            self.params[output] = self._range(output).affine()

    def _activation_behind(self, node: ir.Node) -> ir.Node | None:
        user = sole_user(node.outputs[0])
        if user is None or user not in self.chosen.nodes or user.op_type not in ACTIVATIONS:
            return None
        low, high = clip_bounds(user)
        return user if low <= 0 <= high and low < high else None

    def _range(self, value: ir.Value) -> Range:
        try:
            return self.ranges[str(value.name)]
        except KeyError:
            raise CalibrationError(f"value {value.name!r} has no range: is it float32?") from None

    def _choose_weights(self, node: ir.Node) -> None:
        weight = constant(node.inputs[1])
        _, bias = self._bias(node)
        assert weight is not None
        if not np.isfinite(weight).all() or (bias is not None and not np.isfinite(bias).all()):
            raise QuantizeError(f"{node.op_type} {node.name!r}: its weights hold NaN or infinity")
        x_scale = self.params[node.inputs[0]].scale  # type: ignore[index]
        self.weights[node] = quantize_weights(weight, bias, channel_axis(node), x_scale, self.per_channel)

    def _bias(self, node: ir.Node) -> tuple[tuple[ir.Node, int], Array | None]:
        """Where a layer's bias stands, its node and input, and the bias."""
        add = self.chosen.biases.get(node)
        if add is not None:
            index = next(i for i, value in enumerate(add.inputs) if constant(value) is not None)
            return (add, index), constant(add.inputs[index])
        return (node, 2), constant(node.inputs[2]) if len(node.inputs) > 2 else None

    def weight_errors(self) -> dict[str, tuple[str, Array]]:
        """By node name: the name of its input, and what rounding changed its weight by."""
        errors = {}
        for node, weights in self.weights.items():
            weight, axis = constant(node.inputs[1]), channel_axis(node)
            assert weight is not None
            along = np.broadcast_to(weights.scale, weight.shape[axis])
            along = along.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
            errors[str(node.name)] = (str(node.inputs[0].name), weights.codes * along - weight)  # type: ignore[union-attr]
        return errors

    # -- Surgery

    def rewrite(self) -> None:
        """Put QuantizeLinear and DequantizeLinear into the graph."""
        for node, weights in self.weights.items():
            self._store_weights(node, weights)
        for node, index in self.operands:
            self._store_operand(node, index)
        for value in list(self.params):
            self._insert_pair(value)
        for node in self.superfluous:
            node.outputs[0].replace_all_uses_with(node.inputs[0])  # type: ignore[arg-type]
            self.graph.remove(node, safe=True)

    def _insert_pair(self, value: ir.Value) -> None:
        """value -> QuantizeLinear -> DequantizeLinear -> all who read it, graph outputs included."""
        name, params = str(value.name), self.params[value]
        users = [(u.node, u.idx) for u in value.uses()]
        outside = value.is_graph_output()
        scale = new_constant(self.graph, f"{name}.scale", np.asarray(params.scale, np.float32))
        zero = new_constant(self.graph, f"{name}.zero_point", np.asarray(params.zero_point, np.int8))
        integer_input = value.is_graph_input() and self.int8_io
        codes = value
        if not integer_input:
            codes = self._append("QuantizeLinear", [value, scale, zero], f"{name}.int8", value, ir.DataType.INT8)
        else:
            value.type = ir.TensorType(ir.DataType.INT8)
        real = self._append("DequantizeLinear", [codes, scale, zero], f"{name}.dequantized", value, ir.DataType.FLOAT)
        apart = [use for use in users if self._stays_float(use[0])]
        separate = self._dequantized_by_channel(codes, value, params) if apart else real
        for user, index in users:
            user.replace_input_with(index, separate if (user, index) in apart else real)
        if outside:
            self._move_output(value, codes if self.int8_io else real, name)

    def _stays_float(self, node: ir.Node) -> bool:
        """Whether a node the user keeps can be kept from becoming an integer kernel."""
        return node in self.kept and node.op_type not in _FUSED_ANYHOW and not self._rule(node).moves

    def _dequantized_by_channel(self, codes: ir.Value, value: ir.Value, params: Affine) -> ir.Value:
        """Real values for a node that stays float32, by a DequantizeLinear with the same scale for every channel.

        From one with a single scale onnxruntime would make an integer kernel of the node, where a QuantizeLinear is
        behind it, or (WeightBiasQuantization) quantize a layer by itself with one scale for all its weights.
        """
        known = {i: size for i, size in enumerate(value.shape or []) if i and isinstance(size, int) and size > 1}
        axis, size = next(iter(known.items()), (None, 1))
        name = f"{value.name}.by_channel"
        scale = new_constant(self.graph, f"{name}.scale", np.full([size], params.scale, np.float32))
        zero = new_constant(self.graph, f"{name}.zero_point", np.full([size], params.zero_point, np.int8))
        attributes = {"axis": axis} if axis is not None else {}
        return self._append("DequantizeLinear", [codes, scale, zero], name, value, ir.DataType.FLOAT, attributes)

    def _append(
        self,
        op: str,
        inputs: list[ir.Value],
        name: str,
        like: ir.Value,
        dtype: ir.DataType,
        attributes: Mapping[str, Any] | None = None,
    ) -> ir.Value:
        node = ir.node(op, inputs, attributes or {}, name=name)
        output = node.outputs[0]
        output.name, output.shape, output.type = name, like.shape, ir.TensorType(dtype)
        self.graph.append(node)
        return output

    def _move_output(self, old: ir.Value, new: ir.Value, name: str) -> None:
        """Make `new` the graph output called `name`; what was called so becomes `name`.float."""
        for index, output in enumerate(self.graph.outputs):
            if output is old:
                self.graph.outputs[index] = new
        if not old.is_graph_input():
            old.name = f"{name}.float"
            new.name = name

    def _store_weights(self, node: ir.Node, weights: Weights) -> None:
        """Replace a layer's float weight and bias by integers and their DequantizeLinear."""
        x_scale = self.params[node.inputs[0]].scale  # type: ignore[index]
        bias = self._shifted_bias(node, weights, x_scale)
        self._replace(node, 1, weights.codes, weights.scale, channel_axis(node))
        if bias is not None:
            self._replace(*self._bias(node)[0], bias, np.float32(x_scale) * weights.scale, 0)

    def _store_operand(self, node: ir.Node, index: int) -> None:
        """Replace a constant operand by codes, whose scale follows from its smallest and largest element."""
        array = constant(node.inputs[index])
        assert array is not None
        scale, zero = Range(float(array.min()), float(array.max())).affine()
        codes = np.clip(np.rint(array / np.float32(scale)) + zero, -128, 127).astype(np.int8)
        self._replace(node, index, codes, np.asarray(scale, np.float32), 0, zero)

    def _shifted_bias(self, node: ir.Node, weights: Weights, x_scale: float) -> Array | None:
        shift = self.bias_shifts.get(str(node.name))
        if shift is None or weights.bias is None:
            return weights.bias
        _, bias = self._bias(node)
        assert bias is not None
        return quantize_bias(bias - shift, x_scale, weights.scale)

    def _replace(self, node: ir.Node, index: int, codes: Array, scale: Array, axis: int, zero: int = 0) -> None:
        old = node.inputs[index]
        assert old is not None
        name = str(old.name)
        node.replace_input_with(index, None)
        if not old.uses() and not old.is_graph_output():
            self.graph.initializers.pop(name, None)
        stored = new_constant(self.graph, name, codes)
        name = str(stored.name)
        scales = new_constant(self.graph, f"{name}.scale", scale.astype(np.float32))
        zeros = new_constant(self.graph, f"{name}.zero_point", np.full(scale.shape, zero, codes.dtype))
        attributes = {"axis": axis} if scale.ndim else {}
        dequantize = ir.node("DequantizeLinear", [stored, scales, zeros], attributes, name=f"{name}.dequantized")
        real = dequantize.outputs[0]
        real.name, real.shape, real.type = f"{name}.dequantized", old.shape, ir.TensorType(ir.DataType.FLOAT)
        self.graph.append(dequantize)
        node.replace_input_with(index, real)
