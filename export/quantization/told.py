"""Quantize, and tell what came of it: what int8 does to the answers first, then what was asked and could not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from ..classes import names
from ..errors import of_libraries
from . import features
from .accuracy import Accuracy, faults, measure, spread
from .analysis import snr
from .calibrate import Array
from .corrections import equalizable
from .cures import Patient, cure
from .quantize import Asked, Quantized, is_quantized, quantize_as
from .rules import FUSED_ANYHOW
from .selection import can_train, choose_nodes, find_nodes, is_layer

#: samples that the layers' signal-to-noise ratios come from
SNR_SAMPLES = 256
#: nodes of a graph for which cures are looked for by trying them, which quantizes it several times
MOST_TRIED = 500
#: layers named in a note before the rest are counted
_NAMED = 4


@dataclass
class Told:
    """A quantized model and what to say of it.

    Attributes
    ----------
    found : the model, and the float one it was made from
    accuracy : by output, on the calibration samples
    snr : dB by layer
    ruined : a sentence for each output whose answers int8 changes, with the cure; they come before all else
    notes : what else is to be said, a sentence each
    """

    found: Quantized
    accuracy: Accuracy
    snr: dict[str, float]
    ruined: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def quantize_and_tell(
    model: onnx.ModelProto,
    calibration: Array | Mapping[str, Array],
    asked: Asked,
    loss: str | None = None,
    labels: Sequence[Any] | None = None,
    *,
    find_cure: bool = True,
) -> Told:
    """`quantize`, judged on the calibration samples; parameters and errors as there.

    find_cure : where answers are ruined, also quantize in other ways to find one that helps
    """
    labels = None if labels is None else names(labels)
    with of_libraries():
        return _told(quantize_as(model, calibration, asked, loss, labels), asked, loss, labels, find_cure)


def _told(found: Quantized, asked: Asked, loss: str | None, labels: Sequence[Any] | None, find_cure: bool) -> Told:
    """What came of quantizing."""
    accuracy = found.measured or measure(found.reference, found.comparable, found.feeds, loss, labels)
    noise = snr(found.normal, found.model, spread(found.feeds, SNR_SAMPLES))
    ruined = faults(accuracy)
    if ruined and find_cure and len(found.normal.graph.node) <= MOST_TRIED:
        ruined[0] += f"; {cure(Patient(found, asked, accuracy, noise, loss, labels))}"
    elif ruined and find_cure:
        ruined[0] += "; cure: leave all of it in float32 (quantized=False, --float), or some layers (--float LAYER)"
    return Told(found, accuracy, noise, ruined, [*_of_features(found), *_of_samples(found), *_of_options(found, asked)])


# ---- What was asked and could not be ---------------------------------------------------------------------------------


def not_quantizing(options: Mapping[str, Any], defaults: Mapping[str, Any], because: str) -> list[str]:
    """A note of options that say how to quantize where nothing is."""
    given = [name for name, value in options.items() if name in defaults and value != defaults[name]]
    if not given:
        return []
    says = "says" if len(given) == 1 else "say"
    return [f"{', '.join(given)} {says} how to quantize, and nothing was quantized: {because}"]


def as_it_is(model: onnx.ModelProto, options: Mapping[str, Any], calibrated: bool) -> list[str]:
    """Notes of a model that is exported without quantizing it."""
    how = {name: value for name, value in vars(Asked()).items() if name != "trainable"}
    if is_quantized(model):
        because = "the model is quantized already"
        unused = ["the model is quantized already and stays so: the calibration samples were not used"]
        return [*(unused if calibrated else []), *not_quantizing(options, how, because)]
    because = "quantized=False (--float) was asked for" if calibrated else "there are no calibration samples"
    return not_quantizing(options, how, because)


def _of_features(found: Quantized) -> list[str]:
    """Notes of features that int8 would have drowned."""
    what, instead = (
        "the features of the input differ much in their ranges",
        "(scale_inputs='never', --scale-inputs never, leaves them)",
    )
    if features.is_scaled(found.normal):
        return [f"{what}: each is scaled in float32 before the first int8 layer {instead}"]
    names = _listed(features.normalising(found.normal))
    return [f"int8 takes the inputs badly: {names} before the first layer stays float32 {instead}"] if names else []


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _of_samples(found: Quantized) -> list[str]:
    """Notes of samples that say nothing of the ranges."""
    notes = []
    cure = "give a few hundred typical inputs"
    for name, array in found.feeds.items():
        if array.dtype.kind != "f":
            continue
        if not array.any():
            notes.append(f"the calibration samples of {name!r} are all 0, so the ranges are guesses: {cure}")
        elif np.ptp(array) == 0:
            notes.append(f"the calibration samples of {name!r} are all {array.flat[0]:.6g}: {cure}")
        elif len(array) == 1:
            notes.append(f"there is one calibration sample of {name!r}, which says little of the ranges: {cure}")
        elif (array == array[:1]).all():
            notes.append(f"the calibration samples of {name!r} are {len(array)} times the same: {cure}")
    return notes


def _of_options(found: Quantized, asked: Asked) -> list[str]:
    """Notes of layers that stay float32 unasked, and of options without effect."""
    graph = ir.from_proto(found.normal).graph
    kept = find_nodes(graph, asked.keep_float)
    chosen = choose_nodes(graph, found.trainable, kept)
    notes = [*_stays_float(graph, found, kept, chosen.nodes), *_stays_integer(graph, kept, chosen.nodes)]
    if asked.equalization and not equalizable(found.reference, found.trainable):
        notes.append("equalization found no two convolutions, one right behind the other, to even out")
    if asked.method not in ("percentile", "auto") and asked.percentile != Asked.percentile:
        notes.append(f"percentile={asked.percentile:g} is of method='percentile', and the method is {asked.method!r}")
    if asked.io == "int8":
        notes += _float_ends(found.model)
    if asked.io == "int8" and asked.scale_inputs == "auto" and features.unscalable(found.reference, found.feeds):
        notes.append("the features of an int8 input share one scale though their ranges differ much: scale them before")
    return notes


def _stays_float(graph: ir.Graph, found: Quantized, kept: set[str], chosen: set[ir.Node]) -> list[str]:
    """Layers that stay float32 though nobody asked for it, and that nothing became int8."""
    coded = any(node.op_type == "QuantizeLinear" for node in found.model.graph.node)
    behind = _behind(graph, set(found.trainable))
    left = [
        node
        for node in graph
        if (can_train(node) or is_layer(node)) and node not in chosen and node not in behind and node.name not in kept
    ]
    names = [f"{node.op_type} {str(node.name)!r}" for node in left]
    listed = _listed(names)
    if coded:
        stays = "stays" if len(names) == 1 else "stay"
        return [f"{listed} {stays} float32: there is no int8 form of it"] if names else []
    why = f"there is no int8 form of {listed}" if names else "all of it learns, was kept float32 or has no int8 form"
    return [f"nothing was quantized, the calibration samples had no use: {why}"]


def _behind(graph: ir.Graph, trainable: set[str]) -> set[ir.Node]:
    """Layers that learn, and all that depends on them."""
    values: set[ir.Value] = set()
    found: set[ir.Node] = set()
    for node in graph:
        if node.name in trainable or any(value in values for value in node.inputs):
            found.add(node)
            values.update(node.outputs)
    return found


def _stays_integer(graph: ir.Graph, kept: set[str], chosen: set[ir.Node]) -> list[str]:
    """Nodes that were to stay float32 and become integer kernels between int8 values all the same."""
    found = [
        str(node.name)
        for node in graph
        if node.name in kept
        and node.op_type in FUSED_ANYHOW
        and node.inputs[0] is not None
        and node.inputs[0].producer() in chosen
        and any(use.node in chosen for output in node.outputs for use in output.uses())
    ]
    return (
        [f"keep_float does not reach {', '.join(found)}, integer between int8 layers: keep a neighbour too"]
        if found
        else []
    )


def _float_ends(model: onnx.ModelProto) -> list[str]:
    """Inputs and outputs that stay float32 though int8 ones were asked for."""
    ends = [*model.graph.input, *model.graph.output]
    names = [end.name for end in ends if end.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    if not names:
        return []
    return [f"io='int8' does not reach {', '.join(names)}: what is there is computed in float32"]
