"""Lower an ONNX graph to a Program: a table with one small function for every ONNX operator.

`lower` is the whole of it: import, normal form, one function per node, then ports, trainable weights and loss.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from ..classes import check_count, names
from ..errors import ONE_SAMPLE, Refusal, UnsupportedError, UnsupportedNode
from ..graph import spelled
from ..graph.batch import MixedSamples, check_apart, cuts, only_one, samples_apart
from ..graph.codes import move_codes
from ..graph.finite import causes
from ..graph.importer import Imported, load
from ..graph.islands import take_islands
from ..graph.normalize import Normal, normalize
from ..marks import Marks, metadata
from ..program.program import Op, Port, Program, Tensor
from ..writers.c_text import identifier
from . import (
    binary_codes,
    casts,
    concat,
    dynamic,
    elementwise,
    float_ops,
    int8_ops,
    movement,
    norms,
    products,
    recurrent,
    reductions,
    resize,
    shape_ops,
    streaming,
)
from .context import DTYPE_OF, Context, no_limits
from .fusion import find_chains
from .layout import Order, Storage, Value, new_dims, port_permutation, significant
from .operator import Operator, merged, operator
from .sparse import make_sparse
from .training import mark_trainable

__all__ = ["UnsupportedError", "UnsupportedNode", "lower", "supported_operators"]

_LAYERS: dict[str, Operator] = {
    "AveragePool": operator(float_ops.average_pool, "average_pool2d_f32"),
    "BatchNormalization": operator(float_ops.batch_normalization, "affine_f32"),
    "Clip": operator(float_ops.clip, "clip_f32"),
    "Conv": operator(float_ops.conv, "conv2d_f32", "depthwise_conv2d_f32", "dynamic_conv2d_f32"),
    "DequantizeLinear": operator(int8_ops.dequantize_linear, "dequantize"),
    "Gemm": operator(float_ops.gemm, "dense_f32", "sparse_dense_f32", "matmul_f32"),
    "GlobalAveragePool": operator(float_ops.global_average_pool, "average_pool2d_f32"),
    "LeakyRelu": operator(float_ops.leaky_relu, "leaky_relu_f32"),
    "MaxPool": operator(float_ops.max_pool, "max_pool2d_f32", "max_pool2d_s8"),
    "QLinearConv": operator(int8_ops.qlinear_conv, "conv2d_s8", "depthwise_conv2d_s8", "conv2d_zero_s8"),
    "QuantizeLinear": operator(int8_ops.quantize_linear, "quantize", "lut_s8"),
    "ReduceMean": operator(float_ops.reduce_mean, "average_pool2d_f32"),
    "Relu": operator(float_ops.relu, "clip_f32"),
    "Sigmoid": operator(float_ops.sigmoid, "sigmoid_f32"),
    "Softmax": operator(float_ops.softmax, "softmax_f32"),
    "Tanh": operator(float_ops.tanh, "tanh_f32"),
    "com.microsoft.QGemm": operator(int8_ops.qgemm, "dense_s8", "conv2d_zero_s8"),
    "com.microsoft.QLinearAveragePool": operator(int8_ops.qlinear_average_pool, "average_pool2d_s8"),
    "com.microsoft.QLinearGlobalAveragePool": operator(int8_ops.qlinear_global_average_pool, "global_average_pool_s8"),
    "com.microsoft.QLinearLeakyRelu": operator(int8_ops.qlinear_unary, "lut_s8"),
    "com.microsoft.QLinearSigmoid": operator(int8_ops.qlinear_unary, "lut_s8"),
    "com.microsoft.QLinearSoftmax": operator(int8_ops.qlinear_softmax, "softmax_s8"),
}
#: ONNX operator (with its domain where it is not ONNX's own) -> how it is lowered, and what it becomes
OPERATORS = merged(
    _LAYERS,
    shape_ops.MOVES,
    elementwise.OPERATORS,
    recurrent.OPERATORS,
    casts.OPERATORS,
    concat.OPERATORS,
    movement.OPERATORS,
    products.OPERATORS,
    reductions.OPERATORS,
    resize.OPERATORS,
    norms.OPERATORS,
    dynamic.OPERATORS,
    binary_codes.OPERATORS,
)

_TRUTH = "comparisons of float32, or of indices of a table with a constant, read by Where or cast to float32"
#: for operators that are not in the table: the nearest form that is
NEAREST = {
    "ArgMax": "the scores themselves as output, the largest of which the caller takes",
    "ArgMin": "the scores themselves as output, the smallest of which the caller takes",
    "Cast": "float32 throughout",
    "Attention": "as many heads of keys as of queries, a constant mask that leaves every query a key, no softcap, cache, window",
    "CumSum": f"at most {spelled.MOST_STEPS} steps of float32 along an axis that is neither the batch axis nor the only one",
    "Einsum": "products of two operands at a time of one batch axis, no sums within one, no weights for each step of an axis",
    "Equal": _TRUTH,
    "Greater": _TRUTH,
    "GreaterOrEqual": _TRUTH,
    "If": "a condition that is constant when the model is exported",
    "Less": _TRUTH,
    "LessOrEqual": _TRUTH,
    "Loop": "the loop unrolled, or LSTM, GRU, RNN",
    "NonMaxSuppression": "boxes and scores as outputs, for the caller to sift",
    "Not": _TRUTH,
    "NonZero": "values of a size that is known when the model is exported",
    **dict.fromkeys(
        ("Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),
        "the network in evaluation mode, the mean in place of a sample, or the noise as an input",
    ),
    "OneHot": "int64 or int32 indices, the new axis last, float32 values or all cast to it",
    "Scan": "a number of steps that is known and not too large, or LSTM, GRU, RNN",
    "ScatterND": "constant indices of one slice, as x[:, 2:5] = y writes them",
    "TopK": "the scores themselves as output, which the caller sorts",
    "ReduceProd": f"at most {spelled.MOST_FACTORS} factors of float32",
    "Where": "two finite values by a comparison, or Relu, Clip, Min or Max: of Log, Sqrt, Div and the like none may be hidden",
    "ai.onnx.ml.Binarizer": "the scores themselves as output",
    "ai.onnx.ml.LabelEncoder": "the scores themselves as output",
    "ai.onnx.ml.Normalizer": "L1 or L2 (Normalizer(norm='l2')), or StandardScaler",
    "ai.onnx.ml.SVMClassifier": "LogisticRegression or MLPClassifier",
    "ai.onnx.ml.SVMRegressor": "MLPRegressor",
    "ai.onnx.ml.TreeEnsembleClassifier": "LogisticRegression or MLPClassifier",
    "ai.onnx.ml.TreeEnsembleRegressor": "MLPRegressor",
    "com.microsoft.DynamicQuantizeLSTM": "a float32 LSTM: quantize_dynamic(op_types_to_quantize=['MatMul', 'Conv'])",
    "ai.onnx.ml.ZipMap": "tensors as outputs (skl2onnx's option zipmap=False)",
}
_ELSE = "see edgeprop.export.lower.supported_operators()"


def supported_operators() -> list[str]:
    """ONNX operators the exporter takes, in alphabetical order; integer ones come as QDQ groups or as they are."""
    return sorted(name for name in OPERATORS if not name.startswith(norms.DOMAIN))


def lower(
    model: onnx.ModelProto | bytes | str | Path,
    *,
    name: str | None = None,
    trainable: str | Sequence[str] | None = None,
    loss: str | None = None,
    labels: Sequence[object] | Mapping[Any, Any] | None = None,
    states: Mapping[str, str] | None = None,
    sparse: str = "auto",
    loss_output: str | None = None,
) -> Program:
    """Make the device's Program of an ONNX model.

    Parameters
    ----------
    model : a path, the bytes of an ONNX file, or a ModelProto; float32, or quantized in QDQ or QOperator form
    name : of the program, a C identifier; from the file's name, else the graph's, where not given
    trainable : layers that learn on the device, by the name of their ONNX node or weight or by whole components of it
        (`fc` means `/fc/Gemm` and `fc.weight`), shell patterns allowed; `last`, `last:2`; `bias` for the biases of all
        layers, `fc.bias` for that of one; what the model's metadata says where not given
    loss : `softmax_cross_entropy`, `sigmoid_cross_entropy`, `mse` or `hinge`; from the metadata, else from a final
        Softmax or Sigmoid, where not given
    labels : names of the classes, as `save` takes them; from the metadata where not given
    states : graph inputs that are the state of a stream, with the graph output that is the state after a step; from the
        metadata where not given, {} for none
    sparse : which float32 dense layers store their non-zero weights alone: "auto", frozen ones of few; "never"; "always",
        also trainable ones, whose zeros then stay zero
    loss_output : of several outputs the one that the loss looks at, which becomes the device's first; from the metadata,
        else the first that depends on the trainable layers, where not given

    Returns
    -------
    Program without a plan. Tensors carry the names of the ONNX values they hold (after fusing, the last one's).

    Raises
    ------
    UnsupportedError : nodes that do not fit the device, all of them in one message
    ValueError : the file is no valid ONNX model, or `trainable`, `loss` do not fit it
    """
    imported = load(model)
    return lower_with_values(
        imported,
        name=name,
        trainable=trainable,
        loss=loss,
        labels=labels,
        states=states,
        sparse=sparse,
        loss_output=loss_output,
    )[0]


def lower_with_values(
    imported: Imported,
    *,
    name: str | None = None,
    trainable: str | Sequence[str] | None = None,
    loss: str | None = None,
    labels: Sequence[object] | Mapping[Any, Any] | None = None,
    states: Mapping[str, str] | None = None,
    sparse: str = "auto",
    loss_output: str | None = None,
) -> tuple[Program, Context]:
    """`lower`, with the Context beside the Program: it knows which tensor holds which ONNX value, and how."""
    refused: list[Exception] = []
    labels = None if labels is None else names(labels)
    for attempt in _ways(imported):
        try:
            program, ctx = _lower(attempt, name, trainable, loss, labels, states, sparse, loss_output)
            if attempt.batch != imported.batch and attempt.batch == 1:
                program.notes.append("its batch axis is fixed at 1: onnxruntime runs it with one sample and no more")
            return program, ctx
        except (UnsupportedError, MixedSamples) as error:
            refused.append(error)
        except ValueError:
            if not refused:
                raise
    told = [error for error in refused if isinstance(error, UnsupportedError)]
    raise min(told, key=lambda error: len(error.nodes)) if told else refused[0]  # of the way that comes nearest


def _check_samples(proto: onnx.ModelProto) -> None:
    """Refuse what would mean something else once the batch is one sample."""
    if nodes := cuts(proto):
        why = "it slices the batch axis"
        raise UnsupportedError(
            [UnsupportedNode(node.name or node.output[0], "Slice", why, ONE_SAMPLE) for node in nodes]
        )
    check_apart(proto)


def _ways(imported: Imported) -> Iterator[Imported]:
    """How to look at the axes of a graph, the likeliest way first.

    With the batch in front of all values; else, for one sample, with the first axis as one like the others, where each
    sample of a larger batch gets what it gets alone; else the whole batch as one sample; else, where onnxruntime takes no
    more than one sample, one.
    """
    yield imported
    if imported.batch == 1 or (imported.batch is not None and samples_apart(imported.proto, imported.batch)):
        yield replace(imported, batched=False)
    if imported.batch:
        yield replace(imported, batch=None)
    if imported.batch == 0 and (fixed := only_one(imported.proto)) is not None:
        for batched in (True, False):
            yield replace(imported, proto=fixed, batch=1, batched=batched)


def _lower(
    imported: Imported,
    name: str | None,
    trainable: str | Sequence[str] | None,
    loss: str | None,
    labels: Sequence[str] | None,
    states: Mapping[str, str] | None,
    sparse: str,
    loss_output: str | None,
) -> tuple[Program, Context]:
    said = metadata(imported.proto)
    wanted = said.get("trainable", []) if trainable is None else trainable
    marks = Marks([wanted] if isinstance(wanted, str) else list(wanted))
    pairs = dict(said.get("states", {}) if states is None else states)
    streaming.check_names(imported.proto.graph, pairs)
    recurrent.check_batch(imported)
    if imported.batch == 0:
        _check_samples(imported.proto)
    ctx = lower_graph(normalize(imported), imported, marks)
    program = Program(
        name=name or identifier((Path(imported.source).stem or imported.proto.graph.name).lower()),
        ops=ctx.ops,
        tensors=ctx.tensors,
        inputs=_input_ports(ctx, imported, pairs),
        outputs=_output_ports(ctx, imported, pairs.values()),
        states=streaming.states(ctx, pairs),
        labels=names(said.get("labels", [])) if labels is None else list(labels),
        source=imported.source,
        source_hash=imported.source_hash,
    )
    looks_at, streams = loss_output or said.get("loss_output"), said.get("states", {})
    mark_trainable(ctx, program, marks, loss or said.get("loss"), looks_at, streams)
    if program.labels:
        check_count(program.labels, [program.outputs[0].shape])
    recurrent.keep_for_learning(program, said.get("truncate", 0))
    make_sparse(program, sparse)
    _drop_unused(program)
    _spread_scales(program)
    _check_finite(program, imported)
    return program, ctx


def _check_finite(program: Program, imported: Imported) -> None:
    """Refuse weights that are NaN or infinite, with the model's constants that they come from."""
    for tensor in program.tensors.values():
        if tensor.data is None or tensor.data.dtype != np.float32 or np.isfinite(tensor.data).all():
            continue
        cure = "what the model's constants become when they are computed; look at the nodes around it"
        raise ValueError(
            f"tensor '{tensor.name}' has values that are NaN or infinite: {causes(imported.proto) or cure}"
        )


def lower_graph(normal: Normal, imported: Imported, marks: Marks) -> Context:
    """Lower every node of a graph. Raises UnsupportedError with all that were refused."""
    take_islands(normal.model.graph)
    move_codes(normal.model.graph)
    norms.fuse_norms(normal.model.graph)
    passes.RemoveUnusedNodesPass()(normal.model)
    ctx = Context(normal, marks, batched=imported.batch is not None and imported.batched)
    bad = [refused for value in normal.model.graph.inputs if (refused := _input(ctx, value))]
    both = [str(value.name) for value in normal.model.graph.outputs if value.is_graph_input()]
    bad += [
        UnsupportedNode(name, "output", "it is an input too", "an output of its own, by an Identity") for name in both
    ]
    if not bad:
        find_chains(ctx)
        elementwise.find_gates(ctx)
    for node in normal.model.graph:
        refused = _lower_node(ctx, node)
        if refused is not None:
            bad.append(refused)
    if bad:
        raise UnsupportedError(bad)
    return ctx


def operator_key(node: ir.Node) -> str:
    """Name of a node's operator in OPERATORS."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


#: raised where a node is not what its operator's specification asks for, which onnx's checker does not look at
_MALFORMED = (ArithmeticError, AssertionError, AttributeError, IndexError, TypeError, ValueError)


def _lower_node(ctx: Context, node: ir.Node) -> UnsupportedNode | None:
    """Lower one node; what was refused, if it was. Behind a refused node, shapes the graph declares stand in."""
    key = operator_key(node)
    if node in ctx.skip or node.op_type == "Constant" or all(ctx.constant(o) is not None for o in node.outputs):
        return None
    name = str(node.name or node.outputs[0].name)
    nearest = NEAREST.get(key, NEAREST.get(node.op_type, _ELSE))
    try:
        if node in ctx.failed:
            raise Refusal(f"onnxruntime cannot compute this constant ({ctx.failed[node]})", "a form that it runs")
        if key not in OPERATORS:
            raise Refusal("the device has no such operator", nearest)
        OPERATORS[key](ctx, node)
        if any(output in ctx.values and ctx.values[output].count == 0 for output in node.outputs):
            raise Refusal("its output has no elements", "axes of 1 or more")
    except KeyError as error:
        if isinstance(error.args[0], ir.Value):
            return None  # something before it was refused, and its shape is not known
        raise
    except Refusal as refusal:
        for output in node.outputs:
            _stand_in(ctx, output)
        return UnsupportedNode(name, key, refusal.why, refusal.nearest)
    except _MALFORMED as error:
        why = f"its inputs and attributes do not fit one another ({type(error).__name__}: {error})"
        return UnsupportedNode(name, key, why, "a model that onnxruntime runs")
    return None


def _on_device(dtype: str) -> str:
    """Type of the tensor that holds a value of this ONNX type."""
    return "i8" if dtype == "u8" else dtype


def _stand_in(ctx: Context, value: ir.Value) -> None:
    """A value for what was refused, so that the nodes behind it are looked at too."""
    shape = [d if isinstance(d, int) else None for d in value.shape] if value.shape is not None else [None]
    if any(size is None for size in shape) or value.dtype not in DTYPE_OF:
        return
    dims = new_dims([size or 0 for size in shape])
    dtype = DTYPE_OF[value.dtype]
    tensor = ctx.activation(value.name, [size or 0 for size in shape], _on_device(dtype))
    ctx.values[value] = Value(Storage(tensor, Order([f for axis in dims for f in axis])), dims, dtype, False)


# ---- Ports -----------------------------------------------------------------------------------------------------------


def _input(ctx: Context, value: ir.Value) -> UnsupportedNode | None:
    """Make a graph input a value whose memory order is still open."""
    if value.dtype not in DTYPE_OF:
        return UnsupportedNode(
            str(value.name), "input", f"it is {value.dtype}", "float32, int8 or uint8; int32 or int64 as indices"
        )
    shape = [int(d) for d in value.shape] if value.shape is not None else []  # type: ignore[arg-type]
    if prod(shape) == 0:
        return UnsupportedNode(str(value.name), "input", "it has no elements", "axes of 1 or more")
    dims = new_dims(shape)
    dtype = DTYPE_OF[value.dtype]
    tensor = ctx.activation(value.name, shape[1:] if ctx.batched else shape, _on_device(dtype))
    ctx.values[value] = Value(Storage(tensor, Order(None, dims, tensors=[tensor])), dims, dtype)
    return None


def _input_ports(ctx: Context, imported: Imported, states: Collection[str]) -> list[Port]:
    ports = []
    for value in ctx.normal.model.graph.inputs:
        if value.name in states:
            continue
        known = ctx.values[value]
        ctx.settle(known, known.factors(range(len(known.dims))))
        tensor = known.storage.tensor
        if known.dtype == "u8":
            known.storage.tensor = f"{value.name}.codes"
            tensor = _unsigned(ctx, tensor, str(value.name), before=True)
        ports.append(_port(ctx, imported, str(value.name), tensor, known.shape, known.storage.order.perm))
    return ports


def _port(
    ctx: Context, imported: Imported, name: str, tensor: str, shape: tuple[int, ...], perm: tuple[int, ...]
) -> Port:
    """A port with its batch axis in front; a graph without one gets an axis of 1."""
    if imported.batch is None:
        return Port(name, tensor, (1, *shape), (0, *(axis + 1 for axis in perm)))
    if not shape or shape[0] != 1:
        raise Refusal(f"its shape {shape} has no batch axis in front", "outputs of shape (N, ...)")
    return Port(name, tensor, (imported.batch, *shape[1:]), (0, *(axis for axis in perm if axis)))


def _output_ports(ctx: Context, imported: Imported, states: Collection[str]) -> list[Port]:
    ports, bad = [], []
    for value in ctx.normal.model.graph.outputs:
        if value.name in states:
            continue
        try:
            ports.append(_output_port(ctx, imported, value))
        except Refusal as refusal:
            bad.append(UnsupportedNode(str(value.name), "output", refusal.why, refusal.nearest))
    if bad:
        raise UnsupportedError(bad)
    return ports


def _output_port(ctx: Context, imported: Imported, value: ir.Value) -> Port:
    if value not in ctx.values:
        raise Refusal("it does not depend on the inputs", "an output that is computed")
    known = ctx.values[value]
    ctx.settle(known, known.factors(range(len(known.dims))))
    perm = port_permutation(known.dims, known.storage.order.settled())
    tensor = known.storage.tensor
    if perm is None or (ctx.batched and perm[0] != 0):
        tensor = ctx.ordered(known, range(len(known.dims)))
        perm = tuple(range(len(known.dims)))
    if ctx.producer(tensor) is None:
        tensor = streaming.copy(ctx, tensor, str(value.name))
    sizes = [known.shape[axis] for axis in perm]
    if significant(known.storage.order.settled()) and len(ctx.tensors[tensor].shape) != len(sizes) - ctx.batched:
        ctx.tensors[tensor].shape = tuple(sizes[1:] if ctx.batched else sizes)
    if known.dtype == "u8":
        known.storage.tensor = f"{value.name}.codes"
        tensor = _unsigned(ctx, tensor, str(value.name), before=False)
    return _port(ctx, imported, str(value.name), tensor, known.shape, perm)


def _unsigned(ctx: Context, inner: str, name: str, before: bool) -> str:
    """A uint8 port of a tensor whose codes lie 128 lower: a table between the two."""
    codes = ctx.tensors.pop(inner)
    codes.name = f"{name}.codes"
    for op in ctx.ops:
        op.inputs = [codes.name if i == inner else i for i in op.inputs]
        op.outputs = [codes.name if o == inner else o for o in op.outputs]
    ctx.tensors[codes.name] = codes
    port = ctx.activation(name, codes.shape, "u8", codes.scale, codes.zero_point + 128)
    flip = (np.arange(256) - 128).astype(np.int8) ^ np.int8(-128)
    table = ctx.const("uint8.table", flip, "i8")
    source, output = (port, codes.name) if before else (codes.name, port)
    op = Op("lut_s8", name, [source, table], [output], {"count": codes.count, "alpha": 0.0, **no_limits()})
    ctx.ops.insert(0 if before else len(ctx.ops), op)
    return port


#: ops whose output has the codes of their input
_SAME_CODES = {"box", "concat", "copy", "gather", "max_pool2d_s8", "transpose"}


def _spread_scales(program: Program) -> None:
    """Codes whose scale no op names get it from the ops that hand them on; 1 where nothing knows it."""
    moves = [op for op in program.ops if op.kind in _SAME_CODES]
    pairs = [(name, op.outputs[0]) for op in moves for name in op.inputs if program.tensors[name].is_activation]
    for source, output in [*reversed(pairs), *pairs]:
        a, b = program.tensors[source], program.tensors[output]
        known, other = (a, b) if a.scale else (b, a)
        if known.scale and not other.scale:
            other.scale, other.zero_point = known.scale, known.zero_point
    for tensor in program.tensors.values():
        if tensor.is_activation and tensor.dtype in ("i8", "u8") and not tensor.scale:
            tensor.scale = 1.0


def _drop_unused(program: Program) -> None:
    """Remove ops and tensors nothing depends on."""
    needed = {port.tensor for port in program.outputs} | {state.next for state in program.states}
    kept: list[Op] = []
    for op in reversed(program.ops):
        if needed.intersection(op.outputs):
            kept.append(op)
            needed.update(op.inputs, op.outputs)
    needed.update(port.tensor for port in program.inputs)
    needed.update(state.tensor for state in program.states)
    program.ops[:] = kept[::-1]
    tensors: dict[str, Tensor] = {k: t for k, t in program.tensors.items() if k in needed}
    program.tensors.clear()
    program.tensors.update(tensors)
