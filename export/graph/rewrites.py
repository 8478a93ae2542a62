"""Replace patterns that exporters emit by the operators that they stand for."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

#: key of `meta` of nodes whose operands are such that they give numbers
FINITE = "edgeprop.finite"
#: key of `meta` of constants that are no weights
FIXED = "edgeprop.fixed"
#: beyond this Softplus(x) is x in float32, up to its last digit
_SOFTPLUS_IS_X = 15.0
#: opset in which ONNX got ThresholdedRelu
_RECTIFIERS_SINCE = 10
_LOWEST = float(np.finfo(np.float32).min)
#: may give NaN or infinity, which a weighted sum does not hide as a choice does
_NOT_FINITE = {"Acos", "Asin", "Div", "Exp", "Log", "Pow", "Reciprocal", "ReduceLogSum", "Sqrt", "Tan"}
#: behind these a value is a number again where what its layers compute is
_FINITE = {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "DequantizeLinear"}
_FINITE |= {"HardSigmoid", "Sigmoid", "Softmax", "Tanh"}
#: operator, inputs, attributes of a new node
Step = tuple[str, Sequence[ir.Value | None], Mapping[str, Any]]


def drop_identities(model: ir.Model) -> None:
    """Remove Identity, but those between two outputs of the graph: one value cannot have both names.

    A graph with others inside keeps all: there one may stand between a value from outside and an output.
    """
    if any(isinstance(a.value, ir.Graph) for node in model.graph for a in node.attributes.values()):
        return
    names = [str(value.name) for value in model.graph.outputs]
    passes.IdentityEliminationPass()(model)
    for i, (value, name) in enumerate(zip(list(model.graph.outputs), names, strict=True)):
        if value.name != name:
            copy = ir.node("Identity", [value], name=name)
            copy.outputs[0].name, copy.outputs[0].type, copy.outputs[0].shape = name, value.type, value.shape
            model.graph.append(copy)
            model.graph.outputs[i] = copy.outputs[0]


def rewrite(graph: ir.Graph) -> None:
    """Apply every rule to every node."""
    for node in list(graph):
        rule = _RULES.get(node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}")
        if rule is not None:
            rule(graph, node)


def constant_of(value: ir.Value | None) -> np.ndarray[Any, np.dtype[Any]] | None:
    """The array of a constant, else None."""
    return None if value is None or value.const_value is None else np.asarray(value.const_value.numpy())


def add_constant(graph: ir.Graph, name: str, array: np.ndarray[Any, np.dtype[Any]]) -> ir.Value:
    """A new initializer, of this name or one like it."""
    name = next(
        n for n in itertools.chain([name], (f"{name}.{i}" for i in itertools.count())) if n not in graph.initializers
    )
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.initializers[name] = value
    return value


def add_fixed(graph: ir.Graph, name: str, array: np.ndarray[Any, np.dtype[Any]]) -> ir.Value:
    """`add_constant` of what is no weight, so that a layer of it does not learn."""
    value = add_constant(graph, name, array)
    value.meta[FIXED] = True
    return value


def _replace(graph: ir.Graph, node: ir.Node, steps: Sequence[Step]) -> None:
    """Put nodes in the place of one, each but the last known to the next as None."""
    output, last = node.outputs[0], None
    for i, (kind, inputs, attributes) in enumerate(steps):
        new = ir.node(kind, [last if value is None else value for value in inputs], attributes)
        ends = i == len(steps) - 1
        label = f"{kind}.{i}" if kind in [step[0] for step in steps[:i]] else kind
        new.name = node.name if ends else f"{node.name or output.name}.{label}"
        last = new.outputs[0]
        last.name = output.name if ends else f"{output.name}.{label}"
        last.type = output.type
        graph.insert_before(node, new)
    assert last is not None
    replace_node(graph, node, last)


def replace_node(graph: ir.Graph, node: ir.Node, value: ir.Value) -> None:
    """Let a value stand for the output of a node, with its name, type and shape."""
    output = node.outputs[0]
    value.name, value.shape, value.type = output.name, output.shape, output.type
    output.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _steps_before(graph: ir.Graph, node: ir.Node, steps: Sequence[Step]) -> ir.Value | None:
    """Nodes put in front of one, each known to the next as None; the last one's output."""
    last: ir.Value | None = None
    for kind, inputs, attributes in steps:
        new = ir.node(kind, [last if value is None else value for value in inputs], attributes)
        new.name = f"{node.name or node.outputs[0].name}.{kind}.{len(graph)}"
        last = new.outputs[0]
        last.name, last.type = f"{new.name}.y", ir.TensorType(ir.DataType.FLOAT)
        graph.insert_before(node, new)
    return last


# ---- Where -----------------------------------------------------------------------------------------------------------


def _where(graph: ir.Graph, node: ir.Node) -> None:
    """PyTorch's Softplus, which is x where that is large; rectifiers; a choice by a constant mask, as of causal attention."""
    condition, one, other = node.inputs
    mask = constant_of(condition)
    if mask is not None:
        _mask(graph, node, mask, one, other)
        return
    _finite_before_softmax(graph, node)
    one, other = node.inputs[1:]
    source = condition.producer() if condition is not None else None
    if source is not None and one is not None and other is not None and not _softplus(graph, node, source, one, other):
        _rectifier(graph, node, source, one, other)


def _softplus(graph: ir.Graph, node: ir.Node, source: ir.Node, one: ir.Value, other: ir.Value) -> bool:
    """x > 20 ? x : Softplus(x)."""
    softplus, bound = other.producer(), constant_of(source.inputs[1]) if source.op_type == "Greater" else None
    if bound is None or bound.size != 1 or float(bound.ravel()[0]) < _SOFTPLUS_IS_X or source.inputs[0] is not one:
        return False
    if softplus is None or softplus.op_type != "Softplus" or softplus.inputs[0] is not one:
        return False
    _replace(graph, node, [("Softplus", [one], {})])
    return True


def _rectifier(graph: ir.Graph, node: ir.Node, source: ir.Node, one: ir.Value, other: ir.Value) -> None:
    """x > 0 ? x : alpha * x, with any of the comparisons; x > alpha ? x : 0."""
    kinds = {"Greater": True, "GreaterOrEqual": True, "Less": False, "LessOrEqual": False}
    if source.op_type not in kinds or graph.opset_imports.get("", 0) < _RECTIFIERS_SINCE:
        return
    x, bound = source.inputs[0], constant_of(source.inputs[1])
    if bound is None or bound.size != 1:
        return
    high, low = (one, other) if kinds[source.op_type] else (other, one)
    if high is not x:
        return
    level = float(bound.ravel()[0])
    if source.op_type in ("Greater", "LessOrEqual") and _is_zero(low):
        _replace(graph, node, [("ThresholdedRelu", [x], {"alpha": level})])
        return
    scaled = low.producer()
    if level != 0 or scaled is None or scaled.op_type != "Mul" or x not in scaled.inputs:
        return
    factor = constant_of(scaled.inputs[1 - list(scaled.inputs).index(x)])
    if factor is None or factor.size != 1:
        return
    _replace(graph, node, [("LeakyRelu", [x], {"alpha": float(factor.ravel()[0])})])


def _is_zero(value: ir.Value) -> bool:
    array = constant_of(value)
    return array is not None and array.size == 1 and not array.any()


def is_finite(value: ir.Value | None) -> bool:
    """Whether a value is no NaN or infinity that the choice is there to hide, as far as the operators tell."""
    todo, seen = [value], set()
    while todo:
        node = source.producer() if (source := todo.pop()) is not None else None
        if node is None or node in seen or node.op_type in _FINITE:
            continue
        constant = constant_of(node.inputs[1]) if node.op_type in ("Div", "Pow") else None
        power = node.op_type == "Pow" and constant is not None and bool(((constant >= 0) & (constant % 1 == 0)).all())
        quotient = node.op_type == "Div" and constant is not None and bool(constant.all())
        if node.op_type in _NOT_FINITE and not (power or quotient or node.meta.get(FINITE, False)):
            return False
        seen.add(node)
        todo += node.inputs
    return True


def _mask(
    graph: ir.Graph, node: ir.Node, mask: np.ndarray[Any, np.dtype[Any]], one: ir.Value | None, other: ir.Value | None
) -> None:
    """x where the mask says so, else a constant: x * mask + constant."""
    x, value, keep = (one, constant_of(other), mask) if constant_of(one) is None else (other, constant_of(one), ~mask)
    if x is None or value is None or value.dtype != np.float32 or np.isnan(value).any() or not is_finite(x):
        return
    if np.isinf(value).any() and node.outputs[0].is_graph_output():
        return
    name = str(node.name or node.outputs[0].name)
    kept = add_fixed(graph, f"{name}.mask", keep.astype(np.float32))
    added = add_fixed(graph, f"{name}.else", np.where(keep, np.float32(0), np.clip(value, _LOWEST, -_LOWEST)))
    _replace(graph, node, [("Mul", [x, kept], {}), ("Add", [None, added], {})])


def _finite_before_softmax(graph: ir.Graph, node: ir.Node) -> None:
    """A mask of minus infinity before a Softmax: the lowest number does the same, and is one."""
    users = [use.node.op_type for use in node.outputs[0].uses()]
    if not users or not set(users) <= {"Softmax", "LogSoftmax"} or node.outputs[0].is_graph_output():
        return
    for index, value in enumerate(node.inputs):
        array = constant_of(value)
        if value is not None and array is not None and np.isneginf(array).any():
            finite = add_constant(graph, f"{value.name}.finite", np.maximum(array, np.float32(_LOWEST)))
            node.replace_input_with(index, finite)


# ---- Products with a stack of constant matrices ----------------------------------------------------------------------


def _stacked_product(graph: ir.Graph, node: ir.Node) -> None:
    """A MatMul with a constant matrix for every head, as of learned queries: a convolution in groups over one point."""
    for index, (constant, value) in enumerate((tuple(node.inputs), tuple(node.inputs)[::-1])):
        weight = constant_of(constant)
        if constant is None or weight is None or weight.ndim < 3 or value is None or constant_of(value) is not None:
            continue
        sizes = _sizes(value)
        lead = (1,) * (len(sizes) - weight.ndim) + weight.shape[:-2]
        if weight.dtype != np.float32 or len(lead) != len(sizes) - 2 or 0 in sizes[1:]:
            return
        if all(size == 1 for size in lead):
            matrix = add_constant(graph, f"{constant.name}.matrix", weight.reshape(weight.shape[-2:]))
            node.replace_input_with(index, matrix)
        elif lead[0] == 1 and list(lead[1:]) == sizes[1:-2]:
            _in_groups(graph, node, value, sizes, weight, on_the_left=index == 0)
        return


def _in_groups(
    graph: ir.Graph,
    node: ir.Node,
    value: ir.Value,
    sizes: list[int],
    weight: np.ndarray[Any, np.dtype[Any]],
    on_the_left: bool,
) -> None:
    """The product of weight (1, groups.., out, n) and value (N, groups.., n, points), or of both turned round."""
    name, groups = str(node.name or node.outputs[0].name), prod(sizes[1:-2])
    swapped = [*range(len(sizes) - 2), len(sizes) - 1, len(sizes) - 2]
    if not on_the_left:
        weight = np.swapaxes(weight, -1, -2)
    out, n = weight.shape[-2:]
    points = sizes[-1] if on_the_left else sizes[-2]
    kernel = add_constant(graph, f"{name}.weight", np.ascontiguousarray(weight.reshape(groups * out, n, 1)))
    flat = add_constant(graph, f"{name}.flat", np.array([0, groups * n, points], np.int64))
    full = add_constant(graph, f"{name}.full", np.array([0, *sizes[1:-2], out, points], np.int64))
    steps: list[Step] = [
        ("Reshape", [value if on_the_left else None, flat], {}),
        ("Conv", [None, kernel], {"group": groups, "kernel_shape": [1]}),
        ("Reshape", [None, full], {}),
    ]
    if not on_the_left:
        steps = [("Transpose", [value], {"perm": swapped}), *steps, ("Transpose", [None], {"perm": swapped})]
    _replace(graph, node, steps)


# ---- GatherND --------------------------------------------------------------------------------------------------------


def _gather_nd(graph: ir.Graph, node: ir.Node) -> None:
    """`x[rows, columns]` with constant indices, as of a resize: a Gather along the axes picked from, seen as one."""
    index, sizes = constant_of(node.inputs[1]), _sizes(node.inputs[0])
    if index is None or node.attributes.get_int("batch_dims", 0) != 0 or not index.size or 0 in sizes:
        return
    picked = sizes[: index.shape[-1]]
    if len(picked) != index.shape[-1] or (index < -np.array(picked)).any() or (index >= picked).any():
        return
    flat = np.ravel_multi_index(tuple(np.moveaxis(index % picked, -1, 0)), picked)
    name = str(node.name or node.outputs[0].name)
    joined = add_constant(graph, f"{name}.joined", np.array([prod(picked), *sizes[len(picked) :]], np.int64))
    rows = add_constant(graph, f"{name}.rows", flat.astype(np.int64))
    _replace(graph, node, [("Reshape", [node.inputs[0], joined], {}), ("Gather", [None, rows], {"axis": 0})])


# ---- Attention -------------------------------------------------------------------------------------------------------


#: attributes of Attention that are heeded, or that change nothing in float32
_ATTENTION = {
    "is_causal",
    "kv_num_heads",
    "q_num_heads",
    "qk_matmul_output_mode",
    "scale",
    "softcap",
    "softmax_precision",
}


def _attention(graph: ir.Graph, node: ir.Node) -> None:
    """Attention of opset 23, of as many heads of keys as of queries and without a cache, as the products it stands for."""
    q, k, v, mask = (*node.inputs, *[None] * 4)[:4]
    sizes = [_sizes(value) for value in (q, k, v)]
    get = node.attributes
    known = len({len(size) for size in sizes}) == 1 and not any(0 in size[1:] for size in sizes)
    if not known or len(sizes[0]) not in (3, 4) or get.get_float("softcap", 0.0) != 0:
        return
    if set(get) - _ATTENTION:  # windows, as of opset 25
        return
    if any(value is not None for value in node.inputs[4:]) or any(output.uses() for output in node.outputs[1:]):
        return
    split = len(sizes[0]) == 3
    heads, others = (
        ((get.get_int("q_num_heads", 0), get.get_int("kv_num_heads", 0))) if split else (sizes[0][1], sizes[1][1])
    )
    added = _attention_mask(mask, sizes[0][-2], sizes[1][-2], bool(get.get_int("is_causal", 0)))
    if heads != others or not heads or (mask is not None and added is None):
        return
    if added is not None and (added == _LOWEST).all(-1).any():
        return  # a query that sees no key gives 0, where the softmax of equal scores would not
    name = str(node.name or node.outputs[0].name)
    if split:
        apart = add_constant(graph, f"{name}.heads", np.array([0, 0, heads, -1], np.int64))
        turns = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]]
        q, k, v = (
            _steps_before(graph, node, [("Reshape", [value, apart], {}), ("Transpose", [None], {"perm": turn})])
            for value, turn in zip((q, k, v), turns, strict=True)
        )
    else:
        k = _steps_before(graph, node, [("Transpose", [k], {"perm": [0, 1, 3, 2]})])
    width = sizes[0][-1] // (heads if split else 1)
    scale = np.float32(get.get_float("scale", 0.0) or width**-0.5)
    steps: list[Step] = [
        ("Mul", [q, add_fixed(graph, f"{name}.scale", np.asarray(scale))], {}),
        ("MatMul", [None, k], {}),
        *([("Add", [None, add_fixed(graph, f"{name}.mask", added)], {})] if added is not None else []),
        ("Softmax", [None], {"axis": -1}),
        ("MatMul", [None, v], {}),
    ]
    if split:
        joined = add_constant(graph, f"{name}.joined", np.array([0, 0, -1], np.int64))
        steps += [("Transpose", [None], {"perm": [0, 2, 1, 3]}), ("Reshape", [None, joined], {})]
    _replace(graph, node, steps)


def _sizes(value: ir.Value | None) -> list[int]:
    """Sizes of the axes, 0 for one that may vary; none where they are not known."""
    shape = value.shape if value is not None else None
    return [size if isinstance(size, int) else 0 for size in shape] if shape is not None else []


def _attention_mask(
    mask: ir.Value | None, rows: int, columns: int, causal: bool
) -> np.ndarray[Any, np.dtype[Any]] | None:
    """What is added to the scores: of a constant mask and of what is still to come."""
    array = constant_of(mask)
    if array is None and not causal:
        return None
    added = np.zeros((1, 1), np.float32)
    if array is not None:
        added = np.where(array, np.float32(0), _LOWEST) if array.dtype == bool else np.maximum(array, _LOWEST)
    elif mask is not None:
        return None
    if causal:
        added = np.where(np.tri(rows, columns, dtype=bool), added, _LOWEST)
    return added.astype(np.float32)


# ---- Products of codes -----------------------------------------------------------------------------------------------


def _float_product(graph: ir.Graph, node: ir.Node) -> None:
    """onnxruntime's product of two computed codes with a float32 result, as in attention: a MatMul of real values."""
    a, b, a_scale, b_scale, a_zero, b_zero, bias = (*node.inputs, *[None] * 7)[:7]
    if constant_of(b) is not None or a_scale is None or constant_of(a_scale) is None or constant_of(b_scale) is None:
        return
    operands = ((a, a_scale, a_zero), (b, b_scale, b_zero))
    real = [
        _dequantized(graph, node, i, [value for value in given if value is not None])
        for i, given in enumerate(operands)
    ]
    _replace(graph, node, [("MatMul", real, {}), *([("Add", [None, bias], {})] if bias is not None else [])])


def _choice_of_codes(graph: ir.Graph, node: ir.Node) -> None:
    """onnxruntime's Where of codes with scales of their own: that of the real values, which are rounded once more."""
    condition, x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = node.inputs
    real = [
        _dequantized(graph, node, i, tuple(given))
        for i, given in enumerate(((x, x_scale, x_zero), (y, y_scale, y_zero)))
    ]
    chosen = _steps_before(graph, node, [("Where", [condition, *real], {})])
    assert chosen is not None
    chosen.shape = node.outputs[0].shape
    _replace(graph, node, [("QuantizeLinear", [chosen, scale, zero], {})])


def _dequantized(graph: ir.Graph, node: ir.Node, index: int, given: Sequence[ir.Value | None]) -> ir.Value:
    """The real values of an operand's codes, given with its scale and zero point; a constant where they are."""
    arrays = [constant_of(value) for value in given]
    if all(array is not None for array in arrays):
        codes, scale, zero = (np.asarray(array, np.float32) for array in arrays)
        return add_constant(graph, f"{node.name or node.outputs[0].name}.operand{index}", (codes - zero) * scale)
    step = ir.node("DequantizeLinear", list(given), name=f"{node.name or node.outputs[0].name}.{index}")
    step.outputs[0].name = f"{node.outputs[0].name}.operand{index}"
    step.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    step.outputs[0].shape = given[0].shape if given[0] is not None else None
    graph.insert_before(node, step)
    return step.outputs[0]


# ---- Assignment to a slice -------------------------------------------------------------------------------------------


def _scatter(graph: ir.Graph, node: ir.Node) -> None:
    """`data[:, 2:5] = updates`, as PyTorch writes it: what is before, the updates, and what is behind, joined."""
    data, indices, updates = node.inputs[0], constant_of(node.inputs[1]), node.inputs[2]
    shape = data.shape.numpy() if data is not None and data.shape is not None and data.shape.is_static() else None
    if indices is None or shape is None or node.attributes.get_string("reduction", "none") != "none":
        return
    grid, depth = indices.shape[:-1], indices.shape[-1]
    if len(grid) != depth or 0 in grid:
        return
    first = indices.reshape(-1, depth)[0]
    if not np.array_equal(indices, np.moveaxis(np.indices(grid), 0, -1) + first) or first.min() < 0:
        return
    part = [axis for axis in range(depth) if grid[axis] != shape[axis]]
    if len(part) > 1:
        return
    axis = part[0] if part else 0
    start, stop = int(first[axis]), int(first[axis]) + grid[axis]
    pieces = [_sliced(graph, node, axis, 0, start), updates, _sliced(graph, node, axis, stop, shape[axis])]
    _replace(graph, node, [("Concat", [piece for piece in pieces if piece is not None], {"axis": axis})])


def _sliced(graph: ir.Graph, node: ir.Node, axis: int, start: int, stop: int) -> ir.Value | None:
    """Elements start .. stop of a node's first input along an axis; None where there are none."""
    source = node.inputs[0]
    assert source is not None
    if start >= stop:
        return None
    name = f"{node.name or node.outputs[0].name}.{start}"
    bounds = [
        add_constant(graph, f"{name}.{i}", np.array([value], np.int64)) for i, value in enumerate((start, stop, axis))
    ]
    piece = ir.node("Slice", [source, *bounds], name=name)
    piece.outputs[0].name, piece.outputs[0].type = f"{name}.slice", source.type
    graph.insert_before(node, piece)
    return piece.outputs[0]


_RULES: dict[str, Callable[[ir.Graph, ir.Node], None]] = {
    "Add": _finite_before_softmax,
    "Attention": _attention,
    "GatherND": _gather_nd,
    "MatMul": _stacked_product,
    "ScatterND": _scatter,
    "Where": _where,
    "com.microsoft.MatMulIntegerToFloat": _float_product,
    "com.microsoft.QLinearWhere": _choice_of_codes,
}
