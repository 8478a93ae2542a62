"""What exporters write in several or in other operators, in those that the lowering knows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

#: beyond this Softplus(x) is x in float32, up to its last digit
_SOFTPLUS_IS_X = 15.0
_LOWEST = float(np.finfo(np.float32).min)
#: operator, inputs, attributes of a new node
Step = tuple[str, Sequence[ir.Value | None], Mapping[str, Any]]
_EQUATION = re.compile(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)")


def drop_identities(model: ir.Model) -> None:
    """Remove Identity, but those between two outputs of the graph: one value cannot have both names."""
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


def _array(value: ir.Value | None) -> np.ndarray[Any, np.dtype[Any]] | None:
    return None if value is None or value.const_value is None else np.asarray(value.const_value.numpy())


def _constant(graph: ir.Graph, name: str, array: np.ndarray[Any, np.dtype[Any]]) -> ir.Value:
    name = next(
        n for n in itertools.chain([name], (f"{name}.{i}" for i in itertools.count())) if n not in graph.initializers
    )
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.initializers[name] = value
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
    last.shape = output.shape
    output.replace_all_uses_with(last, replace_graph_outputs=True)
    graph.remove(node, safe=True)


# ---- Conditions ------------------------------------------------------------------------------------------------------

#: operators behind which a value may be infinite or no number, and those behind which it is a number again
_MAY_OVERFLOW = {"Div", "Exp", "Log", "Pow", "Reciprocal", "Sqrt"}
_NUMBERS = {"Conv", "ConvTranspose", "Gemm", "HardSigmoid", "MatMul", "Sigmoid", "Softmax", "Tanh"}


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


def _as_number(graph: ir.Graph, node: ir.Node, condition: ir.Value | None) -> ir.Value | None:
    """1 where a condition holds and 0 elsewhere, computed in front of a node; None where that is no comparison."""
    known = _array(condition)
    if known is not None:
        return _constant(graph, f"{node.name or node.outputs[0].name}.condition", known.astype(np.float32))
    source = condition.producer() if condition is not None else None
    if source is None:
        return None
    if source.op_type in ("Not", "And", "Or"):
        parts = [_as_number(graph, node, value) for value in source.inputs]
        if any(part is None for part in parts):
            return None
        if source.op_type == "Not":
            return _steps_before(graph, node, [("Sub", [_one(graph), parts[0]], {})])
        return _steps_before(graph, node, [("Mul" if source.op_type == "And" else "Max", parts, {})])
    if source.op_type not in _COMPARISONS or ir.DataType.FLOAT not in {v.dtype for v in source.inputs if v is not None}:
        return None
    swap, equal, negate = _COMPARISONS[source.op_type]
    sides = source.inputs[::-1] if swap else source.inputs
    steps: list[Step] = [
        ("Sub", sides, {}),
        ("Sign", [None], {}),
        ("Abs" if equal else "Relu", [None], {}),
    ]
    return _steps_before(graph, node, [*steps, *([("Sub", [_one(graph), None], {})] if negate else [])])


#: comparison of a and b -> by b - a in place of a - b, whether any difference counts, whether it then does not hold
_COMPARISONS = {
    "Equal": (False, True, True),
    "Greater": (False, False, False),
    "GreaterOrEqual": (True, False, True),
    "Less": (True, False, False),
    "LessOrEqual": (False, False, True),
}


def _one(graph: ir.Graph) -> ir.Value:
    return _constant(graph, "one", np.ones((), np.float32))


def _is_finite(value: ir.Value | None) -> bool:
    """Whether a value is finite where what its layers compute is: 0 * infinity is no number."""
    todo, seen = [value], set()
    while todo:
        source = value.producer() if (value := todo.pop()) is not None else None
        if source is None or source in seen or source.op_type in _NUMBERS:
            continue
        seen.add(source)
        divisor = _array(source.inputs[1]) if source.op_type in ("Div", "Pow") else None
        power = source.op_type == "Pow" and divisor is not None and (divisor >= 0).all() and (divisor % 1 == 0).all()
        if source.op_type in _MAY_OVERFLOW and not power and not (source.op_type == "Div" and divisor is not None):
            return False
        todo += source.inputs
    return True


def _choice(graph: ir.Graph, node: ir.Node, condition: ir.Value | None, one: ir.Value, other: ir.Value) -> None:
    """One of two values by a comparison: a LeakyRelu or ThresholdedRelu where that is what it says, else their sum,
    each times 1 or 0."""
    if _is_old(graph) or _rectifier(graph, node, condition, one, other):
        return
    if not (_is_finite(one) and _is_finite(other)):
        return
    mask = _as_number(graph, node, condition)
    if mask is None:
        return
    rest = _steps_before(graph, node, [("Sub", [_one(graph), mask], {})])
    parts = [
        _steps_before(graph, node, [("Mul", [_bounded(graph, value), factor], {})])
        for value, factor in ((one, mask), (other, rest))
        if not _is_zero(value)
    ]
    _replace(graph, node, [("Add" if len(parts) == 2 else "Identity", parts, {})])


def _rectifier(graph: ir.Graph, node: ir.Node, condition: ir.Value | None, one: ir.Value, other: ir.Value) -> bool:
    """x > 0 ? x : alpha * x, with any of the comparisons; x > alpha ? x : 0."""
    source = condition.producer() if condition is not None else None
    kinds = {"Greater": True, "GreaterOrEqual": True, "Less": False, "LessOrEqual": False}
    if source is None or source.op_type not in kinds:
        return False
    x, bound = source.inputs[0], _array(source.inputs[1])
    if bound is None or bound.size != 1:
        return False
    high, low = (one, other) if kinds[source.op_type] else (other, one)
    if high is not x:
        return False
    level = float(bound.ravel()[0])
    if source.op_type in ("Greater", "LessOrEqual") and _is_zero(low):
        _replace(graph, node, [("ThresholdedRelu", [x], {"alpha": level})])
        return True
    scaled = low.producer()
    if level != 0 or scaled is None or scaled.op_type != "Mul" or x not in scaled.inputs:
        return False
    factor = _array(scaled.inputs[1 - list(scaled.inputs).index(x)])
    if factor is None or factor.size != 1:
        return False
    _replace(graph, node, [("LeakyRelu", [x], {"alpha": float(factor.ravel()[0])})])
    return True


def _is_old(graph: ir.Graph) -> bool:
    """Whether ONNX has no ThresholdedRelu or Sign yet."""
    return graph.opset_imports.get("", 0) < 10


def _is_zero(value: ir.Value) -> bool:
    array = _array(value)
    return array is not None and array.size == 1 and not array.any()


def _bounded(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """A constant without infinities, as of masks."""
    array = _array(value)
    if array is None or not np.isinf(array).any():
        return value
    return _constant(graph, f"{value.name}.finite", np.clip(array, _LOWEST, -_LOWEST))


def _cast(graph: ir.Graph, node: ir.Node) -> None:
    """A comparison as a number."""
    source, target = node.inputs[0], node.attributes.get_int("to", 0)
    if source is None or (source.dtype, target) != (ir.DataType.BOOL, ir.DataType.FLOAT) or _is_old(graph):
        return
    mask = _as_number(graph, node, source)
    if mask is not None:
        _replace(graph, node, [("Identity", [mask], {})])


# ---- Where -----------------------------------------------------------------------------------------------------------


def _where(graph: ir.Graph, node: ir.Node) -> None:
    """PyTorch's Softplus, which is x where that is large; a choice by a constant mask, as of causal attention, or by a
    comparison."""
    condition, one, other = node.inputs
    mask = _array(condition)
    if mask is not None:
        _mask(graph, node, mask, one, other)
        return
    if one is None or other is None:
        return
    greater = condition.producer() if condition is not None else None
    softplus = other.producer()
    bound = _array(greater.inputs[1]) if greater is not None and greater.op_type == "Greater" else None
    far = bound is not None and bound.size == 1 and float(bound.ravel()[0]) >= _SOFTPLUS_IS_X
    is_softplus = softplus is not None and softplus.op_type == "Softplus" and softplus.inputs[0] is one
    if far and is_softplus and greater is not None and greater.inputs[0] is one:
        _replace(graph, node, [("Softplus", [one], {})])
        return
    _choice(graph, node, condition, one, other)


def _mask(
    graph: ir.Graph, node: ir.Node, mask: np.ndarray[Any, np.dtype[Any]], one: ir.Value | None, other: ir.Value | None
) -> None:
    """x where the mask says so, else a constant: x * mask + constant."""
    x, value, keep = (one, _array(other), mask) if _array(one) is None else (other, _array(one), ~mask)
    if x is None or value is None or value.dtype != np.float32:
        return
    name = str(node.name or node.outputs[0].name)
    kept = _constant(graph, f"{name}.mask", keep.astype(np.float32))
    added = _constant(
        graph, f"{name}.else", np.where(keep, np.float32(0), np.maximum(value, _LOWEST)).astype(np.float32)
    )
    _replace(graph, node, [("Mul", [x, kept], {}), ("Add", [None, added], {})])


def _add(graph: ir.Graph, node: ir.Node) -> None:
    """A mask of minus infinity before a Softmax: the lowest number does the same, and is one."""
    users = [use.node.op_type for use in node.outputs[0].uses()]
    if not users or not set(users) <= {"Softmax", "LogSoftmax"} or node.outputs[0].is_graph_output():
        return
    for index, value in enumerate(node.inputs):
        array = _array(value)
        if value is not None and array is not None and np.isneginf(array).any():
            finite = _constant(graph, f"{value.name}.finite", np.maximum(array, np.float32(_LOWEST)))
            node.replace_input_with(index, finite)


# ---- Einsum ----------------------------------------------------------------------------------------------------------


def _einsum(graph: ir.Graph, node: ir.Node) -> None:
    """A product of two operands that is a MatMul between Transposes."""
    equation = _EQUATION.fullmatch(node.attributes.get_string("equation", "").replace(" ", ""))
    if equation is None or len(node.inputs) != 2:
        return
    a, b, y = (list(part) for part in equation.groups())
    if any(len(set(part)) != len(part) for part in (a, b, y)) or set(y) - {*a, *b}:
        return
    summed = [letter for letter in a if letter in b and letter not in y]
    batch = [letter for letter in y if letter in a and letter in b]
    rows = [letter for letter in a if letter not in b]
    columns = [letter for letter in b if letter not in a]
    fits = len(summed) == 1 and len(columns) == 1 and set(rows + columns) <= set(y)
    if not fits or not rows or (batch and len(rows) != 1):
        return
    left, right, result = [*batch, *rows, *summed], [*batch, *summed, *columns], [*batch, *rows, *columns]
    operands = [_transposed(graph, node, i, have, want) for i, (have, want) in enumerate(((a, left), (b, right)))]
    steps: list[Step] = [("MatMul", operands, {})]
    if result != y:
        steps.append(("Transpose", [None], {"perm": [result.index(letter) for letter in y]}))
    _replace(graph, node, steps)


def _transposed(graph: ir.Graph, node: ir.Node, index: int, have: list[str], want: list[str]) -> ir.Value | None:
    """An operand with its axes in another order, folded where it is a constant."""
    value = node.inputs[index]
    if have == want or value is None:
        return value
    perm = [have.index(letter) for letter in want]
    array = _array(value)
    if array is not None:
        return _constant(graph, f"{value.name}.transposed", np.ascontiguousarray(array.transpose(perm)))
    moved = ir.node("Transpose", [value], {"perm": perm}, name=f"{node.name or node.outputs[0].name}.{index}")
    moved.outputs[0].name = f"{node.outputs[0].name}.operand{index}"
    moved.outputs[0].type = value.type
    graph.insert_before(node, moved)
    return moved.outputs[0]


# ---- Products with a stack of constant matrices ----------------------------------------------------------------------


def _stacked_product(graph: ir.Graph, node: ir.Node) -> None:
    """A MatMul with a constant matrix for every head, as of learned queries: a convolution in groups over one point."""
    for index, (constant, value) in enumerate((tuple(node.inputs), tuple(node.inputs)[::-1])):
        weight = _array(constant)
        if constant is None or weight is None or weight.ndim < 3 or value is None or _array(value) is not None:
            continue
        sizes = _sizes(value)
        lead = (1,) * (len(sizes) - weight.ndim) + weight.shape[:-2]
        if weight.dtype != np.float32 or len(lead) != len(sizes) - 2 or 0 in sizes[1:]:
            return
        if all(size == 1 for size in lead):
            matrix = _constant(graph, f"{constant.name}.matrix", weight.reshape(weight.shape[-2:]))
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
    kernel = _constant(graph, f"{name}.weight", np.ascontiguousarray(weight.reshape(groups * out, n, 1)))
    flat = _constant(graph, f"{name}.flat", np.array([0, groups * n, points], np.int64))
    full = _constant(graph, f"{name}.full", np.array([0, *sizes[1:-2], out, points], np.int64))
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
    index, sizes = _array(node.inputs[1]), _sizes(node.inputs[0])
    if index is None or node.attributes.get_int("batch_dims", 0) != 0 or not index.size or 0 in sizes:
        return
    picked = sizes[: index.shape[-1]]
    if len(picked) != index.shape[-1] or (index < -np.array(picked)).any() or (index >= picked).any():
        return
    flat = np.ravel_multi_index(tuple(np.moveaxis(index % picked, -1, 0)), picked)
    name = str(node.name or node.outputs[0].name)
    joined = _constant(graph, f"{name}.joined", np.array([prod(picked), *sizes[len(picked) :]], np.int64))
    rows = _constant(graph, f"{name}.rows", flat.astype(np.int64))
    _replace(graph, node, [("Reshape", [node.inputs[0], joined], {}), ("Gather", [None, rows], {"axis": 0})])


# ---- Attention -------------------------------------------------------------------------------------------------------


def _attention(graph: ir.Graph, node: ir.Node) -> None:
    """Attention of opset 23, of as many heads of keys as of queries and without a cache, as the products it stands for."""
    q, k, v, mask = (*node.inputs, *[None] * 4)[:4]
    sizes = [_sizes(value) for value in (q, k, v)]
    get = node.attributes
    known = len({len(size) for size in sizes}) == 1 and not any(0 in size[1:] for size in sizes)
    if not known or len(sizes[0]) not in (3, 4) or get.get_float("softcap", 0.0) != 0:
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
    name = str(node.name or node.outputs[0].name)
    if split:
        apart = _constant(graph, f"{name}.heads", np.array([0, 0, heads, -1], np.int64))
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
        ("Mul", [q, _constant(graph, f"{name}.scale", np.asarray(scale))], {}),
        ("MatMul", [None, k], {}),
        *([("Add", [None, _constant(graph, f"{name}.mask", added)], {})] if added is not None else []),
        ("Softmax", [None], {"axis": -1}),
        ("MatMul", [None, v], {}),
    ]
    if split:
        joined = _constant(graph, f"{name}.joined", np.array([0, 0, -1], np.int64))
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
    array = _array(mask)
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
    if _array(b) is not None or a_scale is None or _array(a_scale) is None or _array(b_scale) is None:
        return
    real = []
    for index, (codes, scale, zero) in enumerate(((a, a_scale, a_zero), (b, b_scale, b_zero))):
        given = [value for value in (codes, scale, zero) if value is not None]
        step = ir.node("DequantizeLinear", given, name=f"{node.name or node.outputs[0].name}.{index}")
        step.outputs[0].name = f"{node.outputs[0].name}.operand{index}"
        step.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        step.outputs[0].shape = codes.shape if codes is not None else None
        graph.insert_before(node, step)
        real.append(step.outputs[0])
    _replace(graph, node, [("MatMul", real, {}), *([("Add", [None, bias], {})] if bias is not None else [])])


# ---- Assignment to a slice -------------------------------------------------------------------------------------------


def _scatter(graph: ir.Graph, node: ir.Node) -> None:
    """`data[:, 2:5] = updates`, as PyTorch writes it: what is before, the updates, and what is behind, joined."""
    data, indices, updates = node.inputs[0], _array(node.inputs[1]), node.inputs[2]
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
        _constant(graph, f"{name}.{i}", np.array([value], np.int64)) for i, value in enumerate((start, stop, axis))
    ]
    piece = ir.node("Slice", [source, *bounds], name=name)
    piece.outputs[0].name, piece.outputs[0].type = f"{name}.slice", source.type
    graph.insert_before(node, piece)
    return piece.outputs[0]


_RULES: dict[str, Callable[[ir.Graph, ir.Node], None]] = {
    "Add": _add,
    "Attention": _attention,
    "Cast": _cast,
    "Einsum": _einsum,
    "GatherND": _gather_nd,
    "MatMul": _stacked_product,
    "ScatterND": _scatter,
    "Where": _where,
    "com.microsoft.MatMulIntegerToFloat": _float_product,
}
