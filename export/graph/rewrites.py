"""What exporters write in several or in other operators, in those that the lowering knows."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as passes

#: beyond this Softplus(x) is x in float32, up to its last digit
_SOFTPLUS_IS_X = 15.0
_LOWEST = float(np.finfo(np.float32).min)
_EQUATION = re.compile(r"([a-zA-Z]+),([a-zA-Z]+)->([a-zA-Z]+)")


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


def _replace(
    graph: ir.Graph, node: ir.Node, steps: Sequence[tuple[str, Sequence[ir.Value | None], Mapping[str, Any]]]
) -> None:
    """Put nodes in the place of one, each but the last known to the next as None."""
    output, last = node.outputs[0], None
    for i, (kind, inputs, attributes) in enumerate(steps):
        new = ir.node(kind, [last if value is None else value for value in inputs], attributes)
        ends = i == len(steps) - 1
        new.name = node.name if ends else f"{node.name or output.name}.{kind}"
        last = new.outputs[0]
        last.name = output.name if ends else f"{output.name}.{kind}"
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


# ---- Where -----------------------------------------------------------------------------------------------------------


def _where(graph: ir.Graph, node: ir.Node) -> None:
    """PyTorch's Softplus, which is x where that is large; a choice by a constant mask, as of causal attention."""
    condition, one, other = node.inputs
    mask = constant_of(condition)
    if mask is not None:
        _mask(graph, node, mask, one, other)
        return
    greater = condition.producer() if condition is not None else None
    softplus = other.producer() if other is not None else None
    if greater is None or softplus is None or (greater.op_type, softplus.op_type) != ("Greater", "Softplus"):
        return
    bound = constant_of(greater.inputs[1])
    far = bound is not None and bound.size == 1 and float(bound.ravel()[0]) >= _SOFTPLUS_IS_X
    if far and greater.inputs[0] is one and softplus.inputs[0] is one:
        _replace(graph, node, [("Softplus", [one], {})])


def _mask(
    graph: ir.Graph, node: ir.Node, mask: np.ndarray[Any, np.dtype[Any]], one: ir.Value | None, other: ir.Value | None
) -> None:
    """x where the mask says so, else a constant: x * mask + constant."""
    x, value, keep = (one, constant_of(other), mask) if constant_of(one) is None else (other, constant_of(one), ~mask)
    if x is None or value is None or value.dtype != np.float32:
        return
    name = str(node.name or node.outputs[0].name)
    kept = add_constant(graph, f"{name}.mask", keep.astype(np.float32))
    added = add_constant(
        graph, f"{name}.else", np.where(keep, np.float32(0), np.maximum(value, _LOWEST)).astype(np.float32)
    )
    _replace(graph, node, [("Mul", [x, kept], {}), ("Add", [None, added], {})])


def _add(graph: ir.Graph, node: ir.Node) -> None:
    """A mask of minus infinity before a Softmax: the lowest number does the same, and is one."""
    users = [use.node.op_type for use in node.outputs[0].uses()]
    if not users or not set(users) <= {"Softmax", "LogSoftmax"} or node.outputs[0].is_graph_output():
        return
    for index, value in enumerate(node.inputs):
        array = constant_of(value)
        if value is not None and array is not None and np.isneginf(array).any():
            finite = add_constant(graph, f"{value.name}.finite", np.maximum(array, np.float32(_LOWEST)))
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
    steps: list[tuple[str, Sequence[ir.Value | None], Mapping[str, Any]]] = [("MatMul", operands, {})]
    if result != y:
        steps.append(("Transpose", [None], {"perm": [result.index(letter) for letter in y]}))
    _replace(graph, node, steps)


def _transposed(graph: ir.Graph, node: ir.Node, index: int, have: list[str], want: list[str]) -> ir.Value | None:
    """An operand with its axes in another order, folded where it is a constant."""
    value = node.inputs[index]
    if have == want or value is None:
        return value
    perm = [have.index(letter) for letter in want]
    array = constant_of(value)
    if array is not None:
        return add_constant(graph, f"{value.name}.transposed", np.ascontiguousarray(array.transpose(perm)))
    moved = ir.node("Transpose", [value], {"perm": perm}, name=f"{node.name or node.outputs[0].name}.{index}")
    moved.outputs[0].name = f"{node.outputs[0].name}.operand{index}"
    moved.outputs[0].type = value.type
    graph.insert_before(node, moved)
    return moved.outputs[0]


# ---- Products of codes -----------------------------------------------------------------------------------------------


def _float_product(graph: ir.Graph, node: ir.Node) -> None:
    """onnxruntime's product of two computed codes with a float32 result, as in attention: a MatMul of real values."""
    a, b, a_scale, b_scale, a_zero, b_zero, bias = (*node.inputs, *[None] * 7)[:7]
    if constant_of(b) is not None or a_scale is None or constant_of(a_scale) is None or constant_of(b_scale) is None:
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
    "Add": _add,
    "Einsum": _einsum,
    "ScatterND": _scatter,
    "Where": _where,
    "com.microsoft.MatMulIntegerToFloat": _float_product,
}
