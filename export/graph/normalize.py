"""Normalize a graph for the lowering: one sample, constants folded, QDQ groups fused as onnxruntime fuses them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes
from onnxscript.optimizer import fold_constants_ir

from . import reference
from .batch import one_sample, set_first_axis
from .importer import Imported, opsets
from .limits import LOOPS, MOST_AXES, MOST_FOLDED, folded_elements
from .recurrence import unroll_scans
from .rewrites import drop_identities, rewrite
from .spelled import spell_out
from .uses import RANDOM

#: never folded: they say where integers end and floats begin
_QUANTIZATION = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"}
_NEVER_FOLDED = _QUANTIZATION | RANDOM


@dataclass
class Normal:
    """A graph in normal form.

    model : for one sample: the batch axis is 1
    proto : the same as a ModelProto, for running parts of it
    quantized : whether it holds integer operators
    """

    model: ir.Model
    proto: onnx.ModelProto
    quantized: bool


def normalize(imported: Imported) -> Normal:
    """Bring a model into normal form.

    Constant expressions (shape arithmetic, transposed weights) are folded, Identity and unused nodes removed, Pad
    moved into the Conv or pool behind it; the steps of a Scan stand one after the other. A graph with QuantizeLinear goes
    through onnxruntime's own fusion before that is read, so integer groups come out as QLinearConv, QGemm, ...

    Raises
    ------
    ValueError : onnxruntime does not accept a quantized graph, or nodes and constants do not fit one another
    MixedSamples : the samples of a batch of fixed size cannot be taken apart
    """
    try:
        return _normalize(imported)
    except ValueError:
        raise
    except Exception as error:  # the libraries that read and fold graphs raise of all kinds
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        told = f"{error} ({root})" if root is not error else str(error)
        raise ValueError(f"the model's nodes and constants do not fit one another: {told}") from error


def _normalize(imported: Imported) -> Normal:
    proto = onnx.ModelProto()
    proto.CopyFrom(imported.proto)
    if imported.batch in (0, 1):
        set_first_axis(proto.graph, imported.batch)
    proto = _fold(proto)
    if imported.batch is not None and imported.batch > 1:
        proto = _fold(one_sample(proto, imported.batch))
    quantized = any("Quantize" in node.op_type or "QLinear" in node.op_type for node in proto.graph.node)
    if quantized:
        try:
            proto = reference.fuse(proto)
        except Exception as error:
            raise ValueError(f"onnxruntime does not accept the quantized model: {error}") from error
        proto = onnx.shape_inference.infer_shapes(proto)
    model = ir.from_proto(proto)
    unroll_scans(model.graph)
    rewrite(model.graph)
    spell_out(model.graph)
    drop_identities(model)
    fold_pads(model.graph)
    passes.RemoveUnusedNodesPass()(model)
    passes.TopologicalSortPass()(model)
    return Normal(model, ir.to_proto(model), quantized)


def _fold(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants and drop what is not used, with shapes inferred for batch 1."""
    model = ir.from_proto(proto)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    origins = _moved_weights(model.graph)
    fold_all(model, "com.microsoft" not in opsets(proto))
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    drop_identities(model)
    passes.RemoveUnusedNodesPass()(model)
    for name, origin in origins.items():
        if name in model.graph.initializers and origin not in model.graph.initializers:
            model.graph.initializers[name].name = origin
    return ir.to_proto(model)


def fold_all(model: ir.Model, infer: bool = True) -> None:
    """Compute what is constant, until nothing is left to compute.

    Parameters
    ----------
    infer : whether shapes are inferred, which operators that are not ONNX's own do not allow
    """
    while True:  # what onnxruntime works out, such as amounts of padding, is what shapes behind it wait for
        fold_constants_ir(
            model,
            onnx_shape_inference=infer,
            input_size_limit=1 << 28,
            output_size_limit=1 << 28,
            should_fold=lambda node: False if not may_fold(node) else None,
        )
        if not _fold_with_onnxruntime(model.graph):
            break


def may_fold(node: ir.Node) -> bool:
    """Whether a node of constants is computed: not what differs from run to run, what may run for any time, or what has
    more elements than a device could hold."""
    if node.op_type in _NEVER_FOLDED or node.op_type in LOOPS:
        return False
    known = {
        str(value.name): array
        for value in node.inputs
        if value is not None and (array := small_array_of(value)) is not None
    }
    shapes = {
        str(value.name): tuple(value.shape.numpy())
        for value in node.inputs
        if value is not None and value.const_value is not None and value.shape is not None
    }
    if not shapes:
        return True
    wanted = onnx.NodeProto(op_type=node.op_type, input=["" if v is None else str(v.name) for v in node.inputs])
    count = folded_elements(wanted, shapes, known)
    return count is None or count <= MOST_FOLDED


def small_array_of(value: ir.Value | None) -> np.ndarray | None:
    """The array of an initialiser of few elements, such as sizes."""
    if value is None or value.const_value is None or value.const_value.size > MOST_AXES:
        return None
    return array_of(value)


def _fold_with_onnxruntime(graph: ir.Graph) -> bool:
    """Fold what the folding by reference code left, such as amounts of padding that PyTorch works out in the graph.

    Returns whether there was something.
    """
    folded = False
    for node in list(graph):
        known = {str(value.name): array_of(value) for value in node.inputs if value is not None}
        opaque = not may_fold(node) or any(isinstance(a.value, ir.Graph) for a in node.attributes.values())
        if opaque or not known or any(array is None for array in known.values()):
            continue
        if any(value.is_graph_output() for value in node.outputs):
            continue
        constants = {name: array for name, array in known.items() if array is not None}
        versions = dict(graph.opset_imports)
        try:
            arrays = [
                reference.run_nodes([ir.to_proto(node)], constants, {}, str(o.name), versions) for o in node.outputs
            ]
        except Exception:  # onnxruntime has no such operator; the lowering says so where the value is needed
            continue
        for output, array in zip(node.outputs, arrays, strict=True):
            name = f"{output.name}.folded"
            tensor = ir.tensor(array, name=name)
            value = ir.Value(
                name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype)
            )
            graph.initializers[name] = value
            output.replace_all_uses_with(value)
        graph.remove(node, safe=True)
        folded = True
    return folded


def _moved_weights(graph: ir.Graph) -> dict[str, str]:
    """Values that are an initialiser transposed or reshaped, with its name: once folded, they are called by that."""
    return {
        str(node.outputs[0].name): str(source.name)
        for node in graph
        if node.op_type in ("Transpose", "Reshape")
        and (source := node.inputs[0]) is not None
        and array_of(source) is not None
    }


# ---- Pad -------------------------------------------------------------------------------------------------------------

#: input that holds the zero point of x, for operators that may take up a Pad; None: the padding is 0.0
_PADDABLE: dict[str, int | None] = {"Conv": None, "QLinearConv": 2}


def fold_pads(graph: ir.Graph) -> None:
    """Move constant zero padding of the spatial axes into the convolutions that read it."""
    for node in list(graph):
        if node.op_type != "Pad" or node.outputs[0].is_graph_output():
            continue
        amounts = _padding(node)
        users = [usage.node for usage in node.outputs[0].uses()]
        if amounts is None or not all(_takes(user, node) for user in users):
            continue
        for user in users:
            _add_padding(user, amounts)
            user.replace_input_with(0, node.inputs[0])
        graph.remove(node, safe=True)


def _padding(node: ir.Node) -> list[int] | None:
    """ONNX pads of the spatial axes (begins, ends), or None where the Pad does more than that."""
    if node.attributes.get_string("mode", "constant") != "constant" or (len(node.inputs) > 3 and node.inputs[3]):
        return None
    given = node.attributes.get_ints("pads") or array_of(node.inputs[1] if len(node.inputs) > 1 else None)
    if given is None:
        return None
    pads = [int(p) for p in given]
    rank = len(pads) // 2
    if min(pads) < 0 or any(pads[axis] or pads[axis + rank] for axis in (0, 1)):
        return None
    return pads[2:rank] + pads[rank + 2 :]


def _takes(user: ir.Node, pad: ir.Node) -> bool:
    """Whether `user` pads with the value that `pad` does, and reads it as its x."""
    if user.op_type not in _PADDABLE or user.inputs[0] is not pad.outputs[0]:
        return False
    if user.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    given = array_of(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] is not None else np.zeros(())
    at = _PADDABLE[user.op_type]
    zero = np.zeros(()) if at is None else array_of(user.inputs[at])
    return given is not None and zero is not None and float(given.ravel()[0]) == float(zero.ravel()[0])


def _add_padding(user: ir.Node, amounts: list[int]) -> None:
    user.attributes.pop("auto_pad", None)  # VALID, which would hide the pads
    old = user.attributes.get_ints("pads") or [0] * len(amounts)
    user.attributes["pads"] = ir.AttrInt64s("pads", [a + b for a, b in zip(old, amounts, strict=True)])


def array_of(value: ir.Value | None) -> np.ndarray | None:
    """The array of an initialiser, else None."""
    if value is None or value.const_value is None:
        return None
    return np.asarray(value.const_value.numpy())
