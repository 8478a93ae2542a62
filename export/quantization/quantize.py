"""Quantize a float32 ONNX model to int8 with calibration samples, in QDQ form.

    int8 = quantize(model, x[:256], trainable="head", labels=range(10))

Activations become asymmetric int8, weights symmetric int8 per output channel, biases int32. QuantizeLinear and
DequantizeLinear stand where onnxruntime fuses each layer into one integer kernel (docs/arithmetic.md): nothing between
a layer and the activation it takes up, equal parameters on both sides of what only moves values. Layers that are to
learn on the device, and all that follows them, stay float32.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from ..classes import names
from ..errors import QuantizeError, of_libraries
from ..graph.finite import causes
from ..graph.limits import MOST_NODES
from . import accuracy, features
from .calibrate import Array, NotFinite, Range, Runner, calibrate
from .choose import choose
from .corrections import correct_biases, equalize
from .qdq import Quantizer
from .selection import choose_nodes, find_layers, find_marks, find_nodes
from .simplify import simplify

#: method of calibration that picks one of the others for each value
AUTO = "auto"
#: dB at the worst output that features in float32 must gain
GAIN = 3.0
#: nodes of a float graph that is quantized: each may become four, with the codes of its weights and of its result
MOST_QUANTIZED = MOST_NODES // 4 - 1
KEY_METHODS = "edgeprop.calibration"
KEY_TRAINABLE, KEY_LOSS, KEY_LABELS = "edgeprop.trainable", "edgeprop.loss", "edgeprop.labels"


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
    scale_inputs: str = "auto",
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
    scale_inputs : "auto": where features in different units would drown in one int8 scale, what normalises them in the
        graph stays float32, or each gets a scale of its own in float32 before the first layer (`features`), if the
        outputs gain by it; "never"

    Returns
    -------
    ModelProto in QDQ form, opset 13 or later. Nodes and initializers keep their names; value `v` has its codes in
    `v.int8`. `metadata_props` holds trainable and labels as JSON lists and the loss, under the KEY_* names.

    Raises
    ------
    QuantizeError : the model is quantized already, an option is unknown, a pattern fits no layer (all are listed);
        NotTakenError where onnx or onnxruntime does not accept the model
    CalibrationError : the samples do not fit, or give no finite ranges
    """
    asked = Asked(
        method, percentile, per_channel, keep_float, trainable, io, equalization, bias_correction, scale_inputs
    )
    with of_libraries():
        return quantize_as(model, calibration, asked, loss, None if labels is None else names(labels)).model


@dataclass(frozen=True)
class Asked:
    """Options of `quantize` that say how."""

    method: str = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    keep_float: str | Sequence[str] = ()
    trainable: str | Sequence[str] | None = None
    io: str = "float"
    equalization: bool = False
    bias_correction: bool = True
    scale_inputs: str = "auto"

    def check(self) -> None:
        """Raise QuantizeError for a value that no option has."""
        for name, known in (("io", ("float", "int8")), ("scale_inputs", ("auto", "never"))):
            given = getattr(self, name)
            if given not in known:
                raise QuantizeError(f'{name}={given!r}: choose "{known[0]}" or "{known[1]}"')


@dataclass
class Quantized:
    """A quantized model, and what it was made from.

    model : what `quantize` returns
    normal : the float32 model whose values were rounded
    trainable : names of the layers that train
    comparable : the model with float inputs and outputs
    feeds : the calibration samples by input name
    reference : the float32 model whose features are not scaled
    measured : accuracy by output, on all samples; None where it was not measured
    ranges, shifts : by value and by layer, what the codes and the corrected biases were made from
    """

    model: onnx.ModelProto
    normal: onnx.ModelProto
    trainable: list[str]
    comparable: onnx.ModelProto
    feeds: Mapping[str, Array]
    reference: onnx.ModelProto
    measured: accuracy.Accuracy | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    shifts: Mapping[str, Array] | None = None


def quantize_as(
    model: onnx.ModelProto,
    calibration: Array | Mapping[str, Array],
    asked: Asked,
    loss: str | None = None,
    labels: Sequence[Any] | None = None,
) -> Quantized:
    """`quantize`, with what it was made from; parameters and errors as there."""
    asked.check()
    if is_quantized(model):
        raise QuantizeError("the model is quantized already: export it as it is, without calibration samples")
    try:
        return _quantized(model, calibration, asked, loss, labels)
    except NotFinite as error:
        told = causes(model)  # as its own constants are called
        raise NotFinite(error.what, told) if told else error from None


def check_length(normal: onnx.ModelProto) -> None:
    """Refuse a graph that would have more nodes in int8 than are taken, before minutes of work.

    Raises
    ------
    QuantizeError : it has
    """
    count = len(normal.graph.node)
    if count > MOST_QUANTIZED:
        cure = "leave all of it in float32 (quantized=False, --float), simplify it (onnxsim, onnxslim), or split it"
        raise QuantizeError(f"the model has {count:,} nodes, at most {MOST_QUANTIZED:,} are quantized: {cure}")


def _quantized(
    model: onnx.ModelProto,
    calibration: Array | Mapping[str, Array],
    asked: Asked,
    loss: str | None,
    labels: Sequence[Any] | None,
) -> Quantized:
    """`quantize_as`, of a model that is float32."""
    normal, chosen = prepare(model, calibration, asked.trainable, asked.equalization)
    check_length(normal)
    feeds = Runner(normal, []).check(calibration)
    found = quantize_normal(normal, feeds, chosen, asked, loss, labels)
    mark(found.model, find_marks(found.normal, asked.trainable), loss, labels)
    return found


def quantize_normal(
    normal: onnx.ModelProto,
    feeds: Mapping[str, Array],
    trainable: list[str],
    asked: Asked,
    loss: str | None = None,
    labels: Sequence[Any] | None = None,
) -> Quantized:
    """The model of `prepare` quantized as asked, its features in float32 where that helps."""
    found = _attempt(normal, feeds, trainable, asked)
    if asked.scale_inputs == "auto" and asked.io == "float":
        return _front_if_better(found, feeds, asked, loss, labels)
    return found


def _attempt(normal: onnx.ModelProto, feeds: Mapping[str, Array], trainable: list[str], asked: Asked) -> Quantized:
    """The model quantized as asked, without a look at what it costs."""
    build = Build(normal, feeds, trainable, asked.keep_float, asked.per_channel, asked.bias_correction)
    ranges, picked = find_ranges(build, asked.method, asked.percentile)
    comparable = build(ranges)
    result = build(ranges, int8_io=True) if asked.io == "int8" else comparable
    if picked:
        onnx.helper.set_model_props(result, {**_properties(result), KEY_METHODS: _counted(result, picked)})
    return Quantized(result, normal, trainable, comparable, feeds, normal, ranges=ranges, shifts=build.shifts)


def _front_if_better(
    plain: Quantized, feeds: Mapping[str, Array], asked: Asked, loss: str | None, labels: Sequence[Any] | None
) -> Quantized:
    """With the inputs' features normalised or scaled in float32, where int8 takes them badly and that helps."""
    best = plain
    for front in _fronts(plain, feeds, asked):
        if plain.measured is None:
            plain.measured = accuracy.measure(plain.normal, plain.comparable, feeds, loss, labels)
        if accuracy.is_good(best.measured or {}):
            break
        tried = _attempt(front(), feeds, plain.trainable, asked)
        tried.reference = plain.normal
        tried.measured = accuracy.measure(plain.normal, tried.comparable, feeds, loss, labels)
        if accuracy.is_better(tried.measured, best.measured or {}, GAIN):
            best = tried
    return best


def _fronts(plain: Quantized, feeds: Mapping[str, Array], asked: Asked) -> Iterator[Callable[[], onnx.ModelProto]]:
    """Makers of the model with its features in float32: as it normalises them, then with a scale for each as well."""
    layers = (plain.trainable, asked.keep_float)
    normal = plain.normal
    kept = features.keep_front(normal, *layers)
    if kept is not None:
        normal = kept
        yield lambda: normal
    if features.differing(plain.normal, feeds, *layers):
        yield lambda: features.scale_features(normal, feeds, *layers)


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
        work = Quantizer(net.graph, chosen, ranges, self.per_channel, int8_io, kept)
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
    else:
        kept.pop(KEY_TRAINABLE, None)
    if loss is not None:  # where nothing trains it tells what the answers are meant for
        kept[KEY_LOSS] = loss
    if labels is not None:
        kept[KEY_LABELS] = json.dumps(names(labels), ensure_ascii=False)
    onnx.helper.set_model_props(model, kept)
    return model


def _properties(model: onnx.ModelProto) -> dict[str, str]:
    """Metadata by key."""
    return {p.key: p.value for p in model.metadata_props}
