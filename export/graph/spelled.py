"""Decompose operators that the runtime lacks into ones that it has.

Truth values are float32 there, 0 or 1: a comparison is a difference that is clipped steeply, a choice a weighted sum.
What depends on an index alone is a row of a table. Sums that run along an axis are products with a triangle of ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from .rewrites import FINITE, add_constant, add_fixed, constant_of, is_finite, replace_node

Array = np.ndarray[Any, np.dtype[Any]]
#: makes of every positive number that float32 has, but for those below 2 ** -126, at least 1
_STEEP = np.float32(2.0**127)
#: opset in which ONNX got Sign
_SIGN_SINCE = 9
_LOWEST, _LEAST = np.finfo(np.float32).min, np.finfo(np.float32).tiny
_INDICES = (ir.DataType.INT32, ir.DataType.INT64)
#: steps of a running sum: more would make a table of many kilobytes
MOST_STEPS = 256
#: factors of a product over an axis, each a Slice and a Mul
MOST_FACTORS = 32


def spell_out_layers(graph: ir.Graph) -> None:
    """Rewrite the nodes that are layers in other words, so that they are quantized as layers are."""
    for node in list(graph):
        if node.op_type in _LAYERS and node.domain in ("", "ai.onnx"):
            _RULES[node.op_type](_Spelling(graph, node))


def spell_out(graph: ir.Graph) -> None:
    """Rewrite every node that there is a rule for, in the order in which they are computed."""
    truth = _Truth(graph)
    for node in list(graph):
        rule = _RULES.get(node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}")
        if rule is not None:
            rule(_Spelling(graph, node))
        elif node.domain in ("", "ai.onnx"):
            truth.take(node)
    truth.finish()


class _Spelling:
    """A node on its way to becoming others: `add` makes them, `end` puts the last in its place."""

    def __init__(self, graph: ir.Graph, node: ir.Node) -> None:
        self.graph, self.node = graph, node
        self.opset = graph.opset_imports.get("", 1)
        self.name = str(node.name or node.outputs[0].name)
        self.count = 0

    def value(self, index: int) -> ir.Value | None:
        """An operand, None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def shape(self, index: int = 0) -> list[int] | None:
        """Sizes of an operand; None where one is not known."""
        return sizes(self.value(index))

    def constant(self, what: str, array: Any) -> ir.Value:
        """A new constant that is no weight."""
        return add_fixed(self.graph, f"{self.name}.{what}", np.asarray(array))

    def weight(self, what: str, array: Array) -> ir.Value:
        """A new constant that is one of the model's, in another shape."""
        return add_constant(self.graph, f"{self.name}.{what}", array)

    def add(self, kind: str, *inputs: ir.Value | None, domain: str = "", **attributes: Any) -> ir.Value:
        """The output of a new node before this one."""
        made = ir.node(kind, list(inputs), attributes, domain=domain, name=f"{self.name}.{kind}{self.count or ''}")
        made.outputs[0].name = f"{self.node.outputs[0].name}.{kind}{self.count or ''}"
        made.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        self.count += 1
        self.graph.insert_before(self.node, made)
        return made.outputs[0]

    def axes(self, kind: str, value: ir.Value, axes: Sequence[int], since: int = 13, **attributes: Any) -> ir.Value:
        """`add` of a node with axes, which were an attribute before opset `since`."""
        if self.opset >= since:
            return self.add(kind, value, self.constant("axes", np.array(axes, np.int64)), **attributes)
        return self.add(kind, value, axes=list(axes), **attributes)

    def end(self, value: ir.Value) -> None:
        """Let a value that `add` gave stand for the node's first output."""
        maker = value.producer()
        assert maker is not None
        maker.name = self.node.name
        replace_node(self.graph, self.node, value)


def sizes(value: ir.Value | None) -> list[int] | None:
    """The sizes of a value's axes; None where one is not known."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return [int(n) for n in value.shape]  # type: ignore[arg-type]


# ---- Reductions ------------------------------------------------------------------------------------------------------


def _axes(s: _Spelling) -> list[int] | None:
    """The axes that a reduction is over, none negative; None where they are not known."""
    shape, given = s.shape(), list(s.node.attributes.get_ints("axes") or [])
    if s.value(1) is not None:
        found = constant_of(s.value(1))
        if found is None:
            return None
        given = [int(axis) for axis in found.ravel()]
    if shape is None or (not given and bool(s.node.attributes.get_int("noop_with_empty_axes", 0))):
        return None
    return [axis % len(shape) for axis in given] if given else list(range(len(shape)))


def _finish_reduction(s: _Spelling, value: ir.Value, axes: Sequence[int]) -> None:
    """The end of a reduction whose axes are still there, as 1."""
    s.end(value if s.node.attributes.get_int("keepdims", 1) else s.axes("Squeeze", value, axes))


def _log_sum(s: _Spelling) -> None:
    axes = _axes(s)
    if axes is not None:
        _finish_reduction(s, s.add("Log", s.axes("ReduceSum", s.value(0), axes, keepdims=1)), axes)  # type: ignore[arg-type]


def _log_sum_exp(s: _Spelling) -> None:
    """The largest is taken away before, so that nothing overflows."""
    axes, x = _axes(s), s.value(0)
    if axes is None or x is None:
        return
    largest = s.axes("ReduceMax", x, axes, 18, keepdims=1)
    powers = s.add("Exp", s.add("Sub", x, largest))  # at most 1, one of them 1
    logarithm = s.add("Log", s.axes("ReduceSum", powers, axes, keepdims=1))
    for value in (powers, logarithm):
        value.producer().meta[FINITE] = True  # type: ignore[union-attr]
    _finish_reduction(s, s.add("Add", logarithm, largest), axes)


def _product(s: _Spelling) -> None:
    axes, x, shape = _axes(s), s.value(0), s.shape()
    if axes is None or x is None or shape is None or max(shape[axis] for axis in axes) > MOST_FACTORS:
        return
    for axis in axes:
        parts = [_part(s, x, axis, i) for i in range(shape[axis])]
        while len(parts) > 1:
            pairs = [s.add("Mul", a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
            parts = pairs + parts[len(pairs) * 2 :]
        x = parts[0]
    _finish_reduction(s, x, axes)


def _part(s: _Spelling, x: ir.Value, axis: int, at: int) -> ir.Value:
    """One step of an axis, which stays."""
    if s.opset < 10:
        return s.add("Slice", x, starts=[at], ends=[at + 1], axes=[axis])
    bounds = [s.constant(f"{what}.{at}", np.array([n], np.int64)) for what, n in (("start", at), ("end", at + 1))]
    return s.add("Slice", x, *bounds, s.constant("axis", np.array([axis], np.int64)))


def _running_sum(s: _Spelling) -> None:
    """CumSum: a product with a triangle of ones."""
    axis, shape, x = constant_of(s.value(1)), s.shape(), s.value(0)
    if axis is None or shape is None or x is None or x.dtype != ir.DataType.FLOAT:
        return
    at = int(axis.reshape(())) % len(shape)
    count = shape[at]
    if count > MOST_STEPS or len(shape) < 2 or (at == 0 and count == 1):  # 1: the batch axis
        return
    ones = np.triu(np.ones((count, count), np.float32), s.node.attributes.get_int("exclusive", 0))
    triangle = s.constant("triangle", ones.T.copy() if s.node.attributes.get_int("reverse", 0) else ones)
    if at == len(shape) - 1:
        s.end(s.add("MatMul", x, triangle))
        return
    perm = [axis for axis in range(len(shape)) if axis != at] + [at]
    back = [perm.index(axis) for axis in range(len(shape))]
    s.end(s.add("Transpose", s.add("MatMul", s.add("Transpose", x, perm=perm), triangle), perm=back))


def _normalization_by_sum(s: _Spelling) -> None:
    """LpNormalization with p = 1."""
    x = s.value(0)
    if s.node.attributes.get_int("p", 2) != 1 or x is None:
        return
    total = s.axes("ReduceL1", x, [s.node.attributes.get_int("axis", -1)], 18, keepdims=1)
    s.end(s.add("Div", x, s.add("Max", total, s.constant("least", np.array([_LEAST], np.float32)))))


def _of_codes(s: _Spelling) -> None:
    """ReduceMin of codes: float32 holds them all exactly."""
    x = s.value(0)
    if x is None or x.dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
        return
    one, zero = s.constant("one", np.float32(1)), s.constant("zero", np.zeros((), x.dtype.numpy()))
    given = {name: s.node.attributes[name].value for name in s.node.attributes}
    real = s.add(s.node.op_type, s.add("DequantizeLinear", x, one, zero), *s.node.inputs[1:], **given)
    s.end(s.add("QuantizeLinear", real, one, zero))


# ---- Products and powers ---------------------------------------------------------------------------------------------


def _vector(s: _Spelling) -> None:
    """MatMul with a constant vector: a matrix of one column or row, whose axis goes again."""
    for index, shape, axis in ((1, (-1, 1), -1), (0, (1, -1), -2)):
        array, other = constant_of(s.value(index)), s.value(1 - index)
        rank = len(other.shape) if other is not None and other.shape is not None else 0
        if array is not None and array.ndim == 1 and rank > 1:
            matrix = s.weight("matrix", array.reshape(shape))
            operands = [other, matrix] if index else [matrix, other]
            s.end(s.axes("Squeeze", s.add("MatMul", *operands), [rank + axis]))
            return


def _computed_bias(s: _Spelling) -> None:
    """Gemm of a constant matrix and a bias that is computed: an Add of its own."""
    bias, weight = s.value(2), constant_of(s.value(1))
    if bias is None or weight is None or not _is_computed(bias):
        return
    given = {name: s.node.attributes[name].value for name in s.node.attributes if name != "beta"}
    product, beta = s.add("Gemm", s.value(0), s.value(1), **given), s.node.attributes.get_float("beta", 1.0)
    s.end(s.add("Add", product, bias if beta == 1 else s.add("Mul", bias, s.constant("beta", np.float32(beta)))))


def _is_computed(value: ir.Value | None) -> bool:
    """Whether a value depends on an input of the graph."""
    todo = [value]
    while todo:
        value = todo.pop()
        if value is None or constant_of(value) is not None:
            continue
        node = value.producer()
        if node is None:
            return True
        todo += node.inputs
    return False


def _powers(s: _Spelling) -> None:
    """Pow with an exponent for every element: exp(e * log(x)), which is the same where none is whole."""
    exponents = constant_of(s.value(1))
    if exponents is None or exponents.size == 1 or exponents.dtype != np.float32:
        return
    if np.all(exponents == exponents.flat[0]) and exponents.ndim <= len(s.shape() or []):
        alone = s.constant("exponent", exponents.flat[0])
        if sizes(s.node.outputs[0]) == s.shape():
            s.end(s.add("Pow", s.value(0), alone))
    elif np.all(exponents > 0) and not np.any(exponents == np.rint(exponents)):
        s.end(s.add("Exp", s.add("Mul", s.add("Log", s.value(0)), s.constant("exponents", exponents))))


def _einsum(s: _Spelling) -> None:
    """Products and sums of two operands or more, two at a time."""
    if _dense_product(s):
        return
    sides = s.node.attributes.get_string("equation", "").replace(" ", "").split("->")
    terms = [list(term) for term in sides[0].split(",")]
    shapes = [s.shape(i) for i in range(len(s.node.inputs))]
    if len(sides) != 2 or len(terms) < 2 or "." in sides[0] or any(shape is None for shape in shapes):
        return
    if any(len(set(term)) != len(term) for term in terms) or len(set(sides[1])) != len(sides[1]):
        return
    size = {c: n for term, shape in zip(terms, shapes, strict=True) for c, n in zip(term, shape or [], strict=True)}
    computed = {term[0] for i, term in enumerate(terms) if term and constant_of(s.value(i)) is None}
    if len(computed) > 1 and all(size[c] == 1 for c in computed):
        return  # a sample with others of the batch
    steps, last, have = [], s.value(0), terms[0]
    for i, term in enumerate(terms[1:], 1):
        needed = {*sides[1], *(c for later in terms[i + 1 :] for c in later)}
        if any(c not in needed for c in set(have) ^ set(term)):
            return  # a sum within one operand
        shared = set(have) & set(term)
        if constant_of(s.value(i)) is not None and shared & needed and shared - needed:
            return  # a matrix of weights for each step of an axis
        steps.append((i, have, term, needed))
        have = _result(have, term, needed)
    if not set(sides[1]) <= set(have):
        return
    assert last is not None
    for i, left, term, needed in steps:
        last = _pair(s, last, left, s.value(i), term, needed, size)
    s.end(_permuted(s, last, have, list(sides[1]), always=True))


def _dense_product(s: _Spelling) -> bool:
    """`bi,io->bo`, of any leading axes, or `bi,oi->bo`, with a constant matrix: a MatMul, whatever the sizes are."""
    equation = s.node.attributes.get_string("equation", "").replace(" ", "")
    found = re.fullmatch(r"([a-zA-Z]+),([a-zA-Z])([a-zA-Z])->([a-zA-Z]+)", equation)
    weight = constant_of(s.value(1))
    if found is None or weight is None or len(s.node.inputs) != 2 or constant_of(s.value(0)) is not None:
        return False
    left, (first, second), result = found[1], (found[2], found[3]), found[4]
    if len(set(left)) != len(left) or first == second or len(left) < 2:
        return False
    for given, summed, made in ((weight, first, second), (weight.T, second, first)):
        if left[-1] == summed and made not in left and result == left[:-1] + made:
            matrix = s.value(1) if given is weight else s.weight("turned", np.ascontiguousarray(given))
            s.end(s.add("MatMul", s.value(0), matrix))
            return True
    return False


def _result(a: Sequence[str], b: Sequence[str], needed: set[str]) -> list[str]:
    """The axes of a product of two, as `_pair` gives them."""
    both = [c for c in a if c in b and c in needed]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    return [*both, *rows, *columns] if any(c not in needed for c in a) else [*a, *columns]


def _pair(
    s: _Spelling,
    a: ir.Value,
    left: list[str],
    b: ir.Value | None,
    right: list[str],
    needed: set[str],
    size: dict[str, int],
) -> ir.Value:
    """The product of two operands, summed over the axes that nobody needs."""
    assert b is not None
    both = [c for c in left if c in right and c in needed]
    summed = [c for c in left if c not in needed]
    rows, columns = [c for c in left if c not in right], [c for c in right if c not in left]
    if not summed:  # element by element, with axes of 1 where one has none
        shape = [*left, *columns]
        order = [c for c in shape if c in right]
        wide = _reshaped(s, a, [size[c] for c in left] + [1] * len(columns)) if columns else a
        other = _permuted(s, b, right, order)
        return s.add("Mul", wide, _reshaped(s, other, [size[c] if c in right else 1 for c in shape]))
    count, width = prod(size[c] for c in summed), prod(size[c] for c in columns)
    batch = [size[c] for c in both]
    tall = [prod(size[c] for c in rows)] if both else [size[c] for c in rows] or [1]
    one = _reshaped(s, _permuted(s, a, left, [*both, *rows, *summed]), [*batch, *tall, count])
    two = _reshaped(s, _permuted(s, b, right, [*both, *summed, *columns]), [*batch, count, width])
    return _reshaped(s, s.add("MatMul", one, two), [size[c] for c in (*both, *rows, *columns)])


def _permuted(
    s: _Spelling, value: ir.Value, have: Sequence[str], want: Sequence[str], always: bool = False
) -> ir.Value:
    if list(have) == list(want) and not always:
        return value
    perm = [have.index(c) for c in want]
    array = constant_of(value)
    if array is not None:
        return s.weight("turned", np.ascontiguousarray(array.transpose(perm)))
    return s.add("Transpose", value, perm=perm)


def _reshaped(s: _Spelling, value: ir.Value, shape: Sequence[int]) -> ir.Value:
    array = constant_of(value)
    if array is not None:
        return value if list(array.shape) == list(shape) else s.weight("shaped", array.reshape(shape))
    return s.add("Reshape", value, s.constant("shape", np.array(shape, np.int64)))


# ---- onnxruntime's own -----------------------------------------------------------------------------------------------


def _skip_norm(s: _Spelling) -> None:
    """SkipLayerNormalization: the norm of a sum, which may be the fourth output."""
    names = [bool(output.uses() or output.is_graph_output()) for output in s.node.outputs]
    if any(names[1:3]) or s.value(0) is None:
        return
    total = s.add("Add", s.value(0), s.value(1))
    if s.value(4) is not None:
        total = s.add("Add", total, s.value(4))
    if len(names) > 3 and names[3]:
        s.node.outputs[3].replace_all_uses_with(total, replace_graph_outputs=False)
        if s.node.outputs[3].is_graph_output():
            return
    epsilon = s.node.attributes.get_float("epsilon", 1e-12)
    given = [v for v in (s.value(2), s.value(3)) if v is not None]
    s.end(s.add("LayerNormalization", total, *given, axis=-1, epsilon=epsilon))


def _bias_gelu(s: _Spelling) -> None:
    total = s.add("Add", s.value(0), s.value(1))
    s.end(s.add("Gelu", total, domain="com.microsoft"))


# ---- Truth values ----------------------------------------------------------------------------------------------------


class _Truth:
    """Comparisons, and what is made of them, in float32: `known` has the number that stands for a truth value."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.known: dict[ir.Value, ir.Value] = {}
        self.done: list[ir.Node] = []

    def take(self, node: ir.Node) -> None:
        """Spell a node out if it is one of comparisons."""
        rule = _OF_TRUTH.get(node.op_type)
        if rule is not None:
            rule(self, _Spelling(self.graph, node))

    def finish(self) -> None:
        """Remove comparisons that nothing reads any more."""
        for node in reversed(self.done):
            if not any(output.uses() or output.is_graph_output() for output in node.outputs):
                self.graph.remove(node, safe=True)

    def note(self, s: _Spelling, value: ir.Value) -> None:
        self.known[s.node.outputs[0]] = value
        self.done.append(s.node)

    def number(self, s: _Spelling, index: int) -> ir.Value | None:
        """0 or 1 for a truth value; None where there is none."""
        value = s.value(index)
        array = constant_of(value)
        if array is not None and array.dtype == bool:
            return s.constant(f"truth{index}", array.astype(np.float32))
        return self.known.get(value) if value is not None else None

    def compare(self, s: _Spelling) -> None:
        """Greater, Less, Equal and so on."""
        constants = [array for array in map(constant_of, s.node.inputs) if array is not None]
        if not all(np.isfinite(array).all() for array in constants):
            return  # a difference to infinity is no number
        table = self.table(s, lambda ids, other: _COMPARED[s.node.op_type](ids, other))
        a, b = s.value(0), s.value(1)
        if table is not None:
            self.note(s, table)
        elif a is not None and b is not None and ir.DataType.FLOAT in (a.dtype, b.dtype):
            swap, opposite = _ORDER[s.node.op_type]
            a, b = (
                value if array is None else s.constant(f"bound{i}", array)
                for i, (value, array) in enumerate(((a, constant_of(a)), (b, constant_of(b))))
            )
            above = s.add("Sub", b, a) if swap else s.add("Sub", a, b)
            found = step(s, above, either=s.node.op_type == "Equal")
            self.note(s, opposed(s, found) if opposite else found)

    def table(self, s: _Spelling, function: Callable[[Array, Array], Array]) -> ir.Value | None:
        """A function of indices and a constant, as rows of a table of one column; None for other operands."""
        for index in range(2):
            ids, other = s.value(index), constant_of(s.value(1 - index))
            if ids is None or ids.dtype not in _INDICES or other is None or other.size != 1:
                continue
            rows = vocabulary(ids)
            if rows:
                numbers, bound = every_index(rows), np.full(2 * rows, other.reshape(()))
                found = function(numbers, bound) if index == 0 else function(bound, numbers)
                return looked_up(s, ids, found)
        return None

    def opposite(self, s: _Spelling) -> None:
        """Not."""
        x = self.number(s, 0)
        if x is not None:
            self.note(s, opposed(s, x))

    def join(self, s: _Spelling) -> None:
        """And, Or, Xor."""
        a, b = self.number(s, 0), self.number(s, 1)
        if a is None or b is None:
            return
        if s.node.op_type == "Xor":
            self.note(s, s.add("Abs", s.add("Sub", a, b)))
        else:
            self.note(s, s.add("Mul" if s.node.op_type == "And" else "Max", a, b))

    def cast(self, s: _Spelling) -> None:
        """Cast of a truth value to float32, and of an index, which is a row of a table too."""
        if s.node.attributes.get_int("to", 0) != int(ir.DataType.FLOAT):
            return
        x, found = s.value(0), self.number(s, 0)
        if found is not None:
            s.end(s.add("Identity", found))
        elif x is not None and x.dtype in _INDICES and constant_of(x) is None and (rows := vocabulary(x)):
            s.end(looked_up(s, x, every_index(rows)))

    def move(self, s: _Spelling) -> None:
        """Unsqueeze, Expand and others that only move values."""
        x = self.number(s, 0)
        if x is not None:
            given = {name: s.node.attributes[name].value for name in s.node.attributes}
            self.note(s, s.add(s.node.op_type, x, *s.node.inputs[1:], **given))

    def choose(self, s: _Spelling) -> None:
        """Where: a * c + b * (1 - c)."""
        chosen, condition = self.number(s, 0), constant_of(s.value(0))
        values = s.value(1), s.value(2)
        arrays = [constant_of(value) for value in values]
        if (
            chosen is None
            or not all(map(is_finite, values))
            or any(a is not None and np.isnan(a).any() for a in arrays)
        ):
            return
        if not any(value is not None and value.dtype == ir.DataType.FLOAT for value in values):
            return
        limited = any(array is not None and np.isinf(array).any() for array in arrays)
        if limited and s.node.outputs[0].is_graph_output():
            return
        other = opposed(s, chosen) if condition is None else s.constant("other", 1 - condition.astype(np.float32))
        parts = []
        for index, (factor, array) in enumerate(zip((chosen, other), arrays, strict=True)):
            if array is not None and array.size == 1 and not array.any():
                continue
            value = values[index] if array is None else s.constant(f"value{index}", np.clip(array, _LOWEST, -_LOWEST))
            parts.append(s.add("Mul", factor, value))
        if parts:
            s.end(parts[0] if len(parts) == 1 else s.add("Add", *parts))


def step(s: _Spelling, x: ir.Value, either: bool = False) -> ir.Value:
    """1 where x is positive, or where it is not 0 if `either`; else 0."""
    if s.opset >= _SIGN_SINCE:
        return s.add("Abs" if either else "Relu", s.add("Sign", x))
    bounds: dict[str, Any] = {"min": 0.0, "max": 1.0}  # the first Clip keeps the steep factor out of the layer before
    limited = s.add("Clip", s.add("Abs", x) if either else x, **bounds)
    return s.add("Clip", s.add("Mul", limited, s.constant("steep", _STEEP)), **bounds)


def opposed(s: _Spelling, x: ir.Value) -> ir.Value:
    """1 - x."""
    return s.add("Sub", s.constant("all", np.float32(1)), x)


def _one_hot(truth: _Truth, s: _Spelling) -> None:
    """OneHot of indices: rows of a table."""
    ids, depth, values = s.value(0), constant_of(s.value(1)), constant_of(s.value(2))
    shape = s.shape()
    if ids is None or ids.dtype not in _INDICES or depth is None or values is None or shape is None:
        return
    if s.node.attributes.get_int("axis", -1) not in (-1, len(shape)):
        return
    off, on = values.ravel().astype(np.float32)
    table = np.eye(int(depth.reshape(())), dtype=np.float32) * (on - off)
    found = s.add("Gather", s.constant("table", table), ids, axis=0)  # zeros where there is no such row
    if off != 0:
        found = s.add("Add", found, s.constant("off", off))
    casts = [use.node for use in s.node.outputs[0].uses()]
    if values.dtype == np.float32:
        s.end(found)
    elif casts and all(n.op_type == "Cast" and n.attributes.get_int("to", 0) == int(ir.DataType.FLOAT) for n in casts):
        for node in casts:
            _Spelling(truth.graph, node).end(_Spelling(truth.graph, node).add("Identity", found))
        truth.done.append(s.node)


def vocabulary(ids: ir.Value) -> int:
    """How many rows the smallest constant table has that is read with these indices; 0 where there is none."""
    tables = [
        use.node.inputs[0] for use in ids.uses() if use.node.op_type == "Gather" and use.idx == 1 and use.node.inputs[0]
    ]
    return min(
        (array.shape[0] for table in tables if (array := constant_of(table)) is not None and array.ndim), default=0
    )


def every_index(rows: int) -> Array:
    """What an index of a table of so many rows may be: from the start, and from the end."""
    return np.concatenate([np.arange(rows), np.arange(-rows, 0)])


def looked_up(s: _Spelling, ids: ir.Value, column: Array) -> ir.Value:
    """What stands in a column of `every_index`, for each index."""
    table = s.constant("table", _joined(np.asarray(column, np.float32)).reshape(-1, 1))
    row = s.add("Gather", table, ids, axis=0)
    shape = sizes(ids)
    assert shape is not None
    return s.axes("Squeeze", row, [len(shape)])


def _joined(column: Array) -> Array:
    """The shortest table where an index from the start and one from the end find what a column has for them.

    Their rows lie apart but for zeros, which they may share.
    """
    front, back = np.split(column, 2)
    used = max((int(i) + 1 for i in np.flatnonzero(front)), default=0), *(len(back) - np.flatnonzero(back))
    table = np.zeros(len(front) + max(used), column.dtype)
    table[: len(front)] = front
    table[len(table) - len(back) :] += back
    return table


_COMPARED: dict[str, Callable[[Array, Array], Array]] = {
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
}
#: comparison -> whether the right operand must be above the left one, and whether it is the opposite of that
_ORDER = {
    "Equal": (False, True),
    "Greater": (False, False),
    "GreaterOrEqual": (True, True),
    "Less": (True, False),
    "LessOrEqual": (False, True),
}
_OF_TRUTH: dict[str, Callable[[_Truth, _Spelling], None]] = {
    **dict.fromkeys(_ORDER, _Truth.compare),
    **dict.fromkeys(("And", "Or", "Xor"), _Truth.join),
    "Cast": _Truth.cast,
    "Not": _Truth.opposite,
    **dict.fromkeys(("Expand", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"), _Truth.move),
    "OneHot": _one_hot,
    "Where": _Truth.choose,
}
_RULES: dict[str, Callable[[_Spelling], None]] = {
    "CumSum": _running_sum,
    "Einsum": _einsum,
    "Gemm": _computed_bias,
    "LpNormalization": _normalization_by_sum,
    "MatMul": _vector,
    "Pow": _powers,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMin": _of_codes,
    "ReduceProd": _product,
    "com.microsoft.BiasGelu": _bias_gelu,
    "com.microsoft.SkipLayerNormalization": _skip_norm,
}
#: operators that are layers, or become these
_LAYERS = ("Einsum", "Gemm", "MatMul")


def spelled_out() -> list[str]:
    """Operators that become others, all of them or in some of their forms, in alphabetical order."""
    moved = {name for name, rule in _OF_TRUTH.items() if rule is _Truth.move}
    return sorted({*_RULES, *_OF_TRUTH} - moved, key=str.lower)
