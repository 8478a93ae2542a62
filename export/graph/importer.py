"""Import an ONNX model: read it, check it, note its source and how its batch axis behaves."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import onnx
import onnx.inliner
import onnx.version_converter

from ..errors import UnsupportedError, UnsupportedNode, first_cause
from .classical import to_tensors
from .constant_ends import drop_constant_outputs
from .ends import to_float_ends
from .files import read
from .limits import MOST_AXES, MOST_ELEMENTS, check_counts, check_ranges, check_sizes, make_shapes
from .recurrence import time_first
from .tidy import tidy
from .training_mode import check_inference
from .uses import all_nodes

#: oldest opset whose operators mean what the lowering takes them to mean (numpy-style broadcasting)
MIN_OPSET = 7
#: newest opset of which onnxruntime 1.32 runs all that the device has
NEWEST_RUN = 25
#: stands for the domain of operators that onnx's tools are to leave alone
_APART = "edgeprop.apart"


@dataclass
class Imported:
    """A checked model.

    proto : as it was given, apart from initialisers listed as inputs (IR version 3), which are dropped from the inputs,
        functions, which are inlined, and what `tidy`, `classical.to_tensors`, `ends.to_float_ends`
        and `recurrence.time_first` rewrite
    source : the file's name, or ""
    source_hash : sha256 of the ONNX bytes and of weights that stand beside them, hex
    batch : the first axis of every input and output: 0 where it may vary, its size where fixed; None: there is no batch
    batched : whether the first axis of values inside is the batch too, which nodes must then leave alone
    given : the model as it was given, but for its ends, as far as onnxruntime runs it
    notes : what was left out of it or is given otherwise, a sentence each
    files : all that it was read from
    """

    proto: onnx.ModelProto
    source: str
    source_hash: str
    batch: int | None
    batched: bool = True
    given: onnx.ModelProto | None = None
    notes: list[str] = field(default_factory=list)
    files: tuple[Path, ...] = ()


def load(model: onnx.ModelProto | bytes | str | os.PathLike[str], *, ends: bool = True) -> Imported:
    """Read and check a model.

    Parameters
    ----------
    model : a path, the bytes of a file, or a ModelProto (not changed); weights in files beside it are read from its folder or,
        where the path is a link, from that of the file it points at (`files`)
    ends : whether inputs that are cast to float32 and outputs that are labels may become others (`to_float_ends`)

    Raises
    ------
    ValueError : not an ONNX model, its weights are not beside it, the checker rejects it, or its opset is older than 7 or
        newer than onnx knows
    UnsupportedError : axes of inputs other than the first may vary, or a node is in training mode
    FileNotFoundError : no such file
    """
    whole = read(model)
    proto = whole.proto
    check_counts(proto)
    proto = tidy(proto)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    notes = to_tensors(copy)
    changed = to_float_ends(copy) if ends else []
    notes += changed
    if time_first(copy.graph) or changed:  # onnxruntime does not run them as they were, or gives something else
        proto = onnx.ModelProto()
        proto.CopyFrom(copy)
    if copy.functions:
        copy = _inlined(copy)
    newer = _as_new_as_its_operators(copy)
    if newer is not copy:
        copy = proto = newer
    check_ranges(copy)
    check_inference(copy, opsets(copy).get("", MIN_OPSET))
    _check_slices(copy)
    copy = _with_output_shapes(copy)
    _drop_initialized_inputs(copy)
    _check(copy)
    if ends:
        notes += drop_constant_outputs(copy)
    if opsets(copy).get("", 0) > NEWEST_RUN:
        copy = proto = _older(copy)
    batch = find_batch(copy.graph)
    return Imported(copy, whole.source, whole.digest, batch, given=proto, notes=notes, files=whole.files)


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own."""
    try:
        return onnx.inliner.inline_local_functions(proto)
    except Exception as error:  # onnx's own, of several kinds
        raise ValueError(f"onnx cannot inline the model's functions: {first_cause(error)}") from error


def _with_output_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Shapes of outputs that have none, which onnxruntime allows and the checker does not."""
    if all(value.type.tensor_type.HasField("shape") for value in proto.graph.output):
        return proto
    return onnx.shape_inference.infer_shapes(proto)


def _older(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset that onnxruntime runs, where it can be said in that."""
    try:
        return onnx.version_converter.convert_version(proto, NEWEST_RUN)
    except Exception:  # the converter has no way back for some operator: onnxruntime may run it all the same
        return proto


def _as_new_as_its_operators(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model in an opset that has all its operators: onnxruntime knows some before ONNX does, and its optimizer writes
    LayerNormalization into files of opset 12."""
    versions = opsets(proto)
    declared = versions.get("", MIN_OPSET)
    new = [n for n in all_nodes(proto.graph.node) if _is_own(n) and not _has(n, declared) and _has(n, NEWEST_RUN)]
    if not new or declared < MIN_OPSET:
        return proto
    wanted = next(v for v in range(declared, NEWEST_RUN + 1) if all(_has(node, v) for node in new))
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for node in all_nodes(copy.graph.node):  # the converter would look for their older forms
        if _is_own(node) and not _has(node, declared) and _has(node, NEWEST_RUN):
            node.domain = _APART
    copy.opset_import.append(onnx.helper.make_opsetid(_APART, 1))
    copy.ir_version = max(copy.ir_version, 4)
    try:
        copy = onnx.version_converter.convert_version(copy, wanted)
    except Exception:  # the converter does not know another operator: onnxruntime may run the model all the same
        return proto
    for node in all_nodes(copy.graph.node):
        if node.domain == _APART:
            node.domain = ""
    kept = [opset for opset in copy.opset_import if opset.domain != _APART]
    del copy.opset_import[:]
    copy.opset_import.extend(kept)
    return copy


def _is_own(node: onnx.NodeProto) -> bool:
    """Whether an operator is ONNX's own by its domain."""
    return node.domain in ("", "ai.onnx")


def _has(node: onnx.NodeProto, version: int) -> bool:
    """Whether an opset has the operator."""
    return bool(onnx.defs.has(node.op_type, version))


def _check(proto: onnx.ModelProto) -> None:
    opset, newest = opsets(proto).get("", MIN_OPSET), onnx.defs.onnx_opset_version()
    if opset < MIN_OPSET:
        raise ValueError(f"opset {opset} is too old: convert the model to opset 13 with onnx.version_converter")
    if opset > newest:
        raise ValueError(f"opset {opset} is newer than onnx {onnx.__version__} knows ({newest}): upgrade onnx")
    try:
        known = _known_parts(proto, opset)
        onnx.checker.check_model(_with_some_shapes(known))
        _check_shapes(known)
    except MemoryError as error:
        raise ValueError(
            "the model's values do not fit into memory: look at the sizes that its nodes ask for"
        ) from error
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ValueError(f"onnx.checker rejects the model: {first_cause(error)}") from error


def _check_shapes(known: onnx.ModelProto) -> None:
    """See that shapes fit one another, and that nothing has too many elements, whatever the file says of it."""
    check_sizes(make_shapes(known))
    if known.graph.value_info:
        bare = onnx.ModelProto()
        bare.CopyFrom(known)
        del bare.graph.value_info[:]
        check_sizes(make_shapes(bare))


def _check_slices(proto: onnx.ModelProto) -> None:
    """Refuse what has fewer than 0 elements, as behind a window larger than its input, before a Slice of it: there onnx would
    end the process."""
    if not any(node.op_type == "Slice" and _is_own(node) for node in all_nodes(proto.graph.node)):
        return
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    for node in all_nodes(bare.graph.node):
        if node.op_type == "Slice":
            node.domain = _APART
    bare.opset_import.append(onnx.helper.make_opsetid(_APART, 1))
    try:
        inferred = onnx.shape_inference.infer_shapes(bare)
    except Exception:  # it is told where all of the model is looked at
        return
    check_sizes(inferred)


def _known_parts(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model without what onnx refuses and onnxruntime may run: operators that ONNX does not have, domains that are not
    imported. The lowering names what it does not know."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    domains = set(opsets(proto))
    for node in all_nodes(copy.graph.node):
        if _is_own(node) and (not _has(node, opset) or onnx.defs.get_schema(node.op_type, opset).deprecated):
            node.domain = _APART
        if not _is_own(node) and node.domain not in domains:
            copy.opset_import.append(onnx.helper.make_opsetid(node.domain, 1))
            domains.add(node.domain)
    return copy


def _with_some_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same with shapes of the ends that have none, which the checker asks for."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.SetInParent()
    return copy


def opsets(proto: onnx.ModelProto) -> dict[str, int]:
    """Opset version by domain ("" for ONNX's own)."""
    return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in proto.opset_import}


def _drop_initialized_inputs(proto: onnx.ModelProto) -> None:
    """Take weights out of the inputs, where files before IR version 4 must list them and no other may."""
    graph = proto.graph
    known = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in known]
    del graph.input[:]
    graph.input.extend(inputs)
    proto.ir_version = max(proto.ir_version, 4)


def _dims(value: onnx.ValueInfoProto) -> list[int | None]:
    """Sizes of the axes, None where one may vary."""
    dims = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else None for d in dims]


def find_batch(graph: onnx.GraphProto) -> int | None:
    """How the first axis of the inputs behaves; see Imported.batch.

    Raises
    ------
    UnsupportedError : axes other than the first may vary, or an input has no shape
    """
    bad = [refused for value in graph.input if (refused := _refused(value))]
    if bad:
        raise UnsupportedError(bad)
    shapes = {value.name: _dims(value) for value in graph.input}
    first = {shape[0] if shape else 1 for shape in shapes.values()}
    if None in first:
        return 0
    if len(first) != 1 or any(not shape for shape in shapes.values()):
        return None
    size = first.pop()
    return size if size == 1 or _outputs_start_with(graph, size) else None


def _refused(value: onnx.ValueInfoProto) -> UnsupportedNode | None:
    """An input whose size is not known when the model is exported."""
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "of no type"
        return UnsupportedNode(value.name, "input", f"it is no tensor ({kind.removesuffix('_type')})", "tensors")
    if not value.type.tensor_type.HasField("shape"):
        return UnsupportedNode(value.name, "input", "it has no shape", "give it one before exporting")
    shape = value.type.tensor_type.shape.dim
    if len(shape) > MOST_AXES:
        return UnsupportedNode(value.name, "input", f"it has {len(shape)} axes", f"at most {MOST_AXES}")
    size = prod(n or 1 for n in _dims(value))
    if size > MOST_ELEMENTS:
        return UnsupportedNode(value.name, "input", f"it has {size} elements", f"at most {MOST_ELEMENTS}")
    varying = [axis for axis, size in enumerate(_dims(value)) if size is None and axis > 0]
    if not varying:
        return None
    names = [f"axis {axis}" + (f" ('{shape[axis].dim_param}')" if shape[axis].dim_param else "") for axis in varying]
    only = "only the first (batch) axis can, fix the others"
    return UnsupportedNode(value.name, "input", f"{', '.join(names)} may vary", only)


def _outputs_start_with(graph: onnx.GraphProto, size: int | None) -> bool:
    """Whether that may be so: a size that is not known may be it too."""
    for value in graph.output:
        dims = value.type.tensor_type.shape.dim
        if not value.type.tensor_type.HasField("shape"):
            continue
        if not dims or (dims[0].HasField("dim_value") and dims[0].dim_value != size):
            return False
    return True
