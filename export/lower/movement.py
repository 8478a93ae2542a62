"""Lowering of operators that move, gather, reduce and resize, of products of two computed matrices, and of ConvTranspose.

All but the last work axis by axis on the memory order that a value has (`memory_axes`), whatever its ONNX axes are called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
import onnx_ir as ir

from .. import reference
from ..errors import Refusal
from ..layout import Factor, Order, Storage, Value, new_dims, regroup, significant
from ..program import DTYPES
from . import float_ops, int8_ops
from .context import Context, Layer, no_limits, proto_of
from .windows import spatial_axes

Array = np.ndarray

#: the runtime's concat has a bit of ep_node.accumulate for each input
_MOST_INPUTS = 8
#: kinds of reduce_f32 in edgeprop_ops.h
_REDUCTIONS = {"ReduceSum": 0, "ReduceMax": 1, "ReduceMin": 2, "ReduceL1": 3, "ReduceL2": 4, "ReduceSumSquare": 5}


# ---- Axes in memory --------------------------------------------------------------------------------------------------


def memory_axes(ctx: Context, value: Value) -> list[int]:
    """The ONNX axes in the order in which memory has them; as they are where an axis is scattered over memory.

    A graph input whose order is open gets channels last if it is an image.
    """
    rank = len(value.dims)
    usual = [0, 2, 3, 1] if rank == 4 else list(range(rank))
    ctx.settle(value, value.factors(usual))
    have = significant(value.storage.order.settled())
    place = {factor: i for i, factor in enumerate(have)}
    first = [min((place[f] for f in significant(axis)), default=-1) for axis in value.dims]
    order = sorted(range(rank), key=lambda axis: first[axis])
    return order if significant(value.factors(order)) == have else list(range(rank))


def strides_of(shape: Sequence[int]) -> list[int]:
    """Elements from one index of an axis to the next."""
    return [prod(shape[k + 1 :]) for k in range(len(shape))]


def keep_batch(ctx: Context, touches: bool, what: str) -> None:
    """Refuse what would mix samples."""
    if ctx.batched and touches:
        raise Refusal(f"it {what} the batch axis", "axes of 1 or more")


def output_like(ctx: Context, node: ir.Node, index: int, source: str, shape: Sequence[int]) -> str:
    """A tensor for an output that holds elements of tensor `source` as they are."""
    t = ctx.tensors[source]
    return ctx.activation(node.outputs[index].name, shape, t.dtype, t.scale, t.zero_point)


def materialized(ctx: Context, value: Value, shape: Sequence[int]) -> Value:
    """A value seen with another shape, moved in memory where its factors cannot be regrouped."""
    try:
        return value.view(regroup(value, shape), value.exclusive)
    except ValueError:
        tensor = ctx.ordered(value, range(len(value.dims)))
        dims = new_dims(shape)
        return Value(Storage(tensor, Order([axis[0] for axis in dims])), dims, value.dtype, False)


# ---- Boxes -----------------------------------------------------------------------------------------------------------


@dataclass
class Side:
    """One axis of a box: its size, and the steps and first index in x and in y."""

    size: int
    x_step: int
    x_first: int
    y_first: int
    y_size: int


def emit_box(ctx: Context, node: ir.Node, index: int, value: Value, sides: dict[int, Side], fill: float = 0.0) -> None:
    """Emit a box op for output `index`: `sides` of some ONNX axes, the others whole."""
    order = memory_axes(ctx, value)
    source = ctx.ordered(value, order)
    shape = [value.shape[axis] for axis in order]
    chosen = [sides.get(axis, Side(n, 1, 0, 0, n)) for axis, n in zip(order, shape, strict=True)]
    y_shape = [side.y_size for side in chosen]
    x_steps, y_steps = strides_of(shape), strides_of(y_shape)
    axes = [(s.size, s.x_step * x, y) for s, x, y in zip(chosen, x_steps, y_steps, strict=True)]
    x_offset = sum(s.x_first * step for s, step in zip(chosen, x_steps, strict=True))
    y_offset = sum(s.y_first * step for s, step in zip(chosen, y_steps, strict=True))
    output = output_like(ctx, node, index, source, y_shape)
    box(ctx, node, source, output, axes, x_offset, y_offset, fill)
    full = [sides[axis].y_size if axis in sides else n for axis, n in enumerate(value.shape)]
    ctx.result(node.outputs[index], full, order, output, value.dtype)


def box(
    ctx: Context,
    node: ir.Node,
    source: str,
    output: str,
    axes: list[tuple[int, int, int]],
    x_offset: int = 0,
    y_offset: int = 0,
    fill: float = 0.0,
) -> None:
    """Emit a box op over `axes` (size, stride in x, stride in y), neighbours joined where both allow it."""
    joined: list[tuple[int, int, int]] = []
    for size, x, y in axes:
        if size == 1:
            continue
        if joined and joined[-1][1] == x * size and joined[-1][2] == y * size:
            joined[-1] = (joined[-1][0] * size, x, y)
        else:
            joined.append((size, x, y))
    if len(joined) > 6:
        raise Refusal("it needs a box of more than 6 axes", "fewer axes")
    joined = [(1, 0, 0)] * (6 - len(joined)) + joined
    dims, x_strides, y_strides = (tuple(column) for column in zip(*joined, strict=True))
    attrs = {"dims": dims, "x_strides": x_strides, "y_strides": y_strides, "x_offset": x_offset, "y_offset": y_offset}
    size = DTYPES[ctx.tensors[source].dtype].itemsize
    ctx.emit("box", node, [source], output, **attrs, size=size, fill=float(fill))


def _integers(ctx: Context, node: ir.Node, name: str, index: int) -> list[int] | None:
    """Numbers given as an attribute (older opsets) or as a constant input; None where not given."""
    given = node.attributes.get_ints(name, None)
    if given is not None:
        return [int(i) for i in given]
    if len(node.inputs) <= index or node.inputs[index] is None:
        return None
    return [int(i) for i in ctx.needed(node, index, name).ravel()]


def slice_(ctx: Context, node: ir.Node) -> None:
    """Slice with constant starts, ends, axes and steps of either sign."""
    value = ctx.value(node)
    rank = len(value.shape)
    starts, ends = _integers(ctx, node, "starts", 1) or [], _integers(ctx, node, "ends", 2) or []
    axes = [a % rank for a in _integers(ctx, node, "axes", 3) or range(len(starts))]
    steps = _integers(ctx, node, "steps", 4) or [1] * len(starts)
    sides: dict[int, Side] = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step == 0:
            raise Refusal("it has a step of 0", "steps other than 0")
        first, _, count = _slice_range(value.shape[axis], start, end, step)
        keep_batch(ctx, axis == 0 and (start != 0 or end < 2**31 - 1 or step != 1), "slices")
        if count < 1:
            raise Refusal("it takes nothing", "a slice of at least one element")
        sides[axis] = Side(count, step, first, 0, count)
    _take(ctx, node, 0, value, sides)


def _slice_range(size: int, start: int, end: int, step: int) -> tuple[int, int, int]:
    """First index, step and count of what a slice takes."""
    first, stop, step = slice(start, end, step).indices(size)
    return first, step, len(range(first, stop, step))


def _take(ctx: Context, node: ir.Node, index: int, value: Value, sides: dict[int, Side]) -> None:
    """A slice: free of cost where it takes everything."""
    if all((s.size, s.x_step, s.x_first) == (value.shape[axis], 1, 0) for axis, s in sides.items()):
        ctx.values[node.outputs[index]] = value.view(value.dims, False)
        return
    emit_box(ctx, node, index, value, sides)


def split(ctx: Context, node: ir.Node) -> None:
    """Split into parts of given or equal sizes."""
    value = ctx.value(node)
    axis = node.attributes.get_int("axis", 0) % len(value.shape)
    keep_batch(ctx, axis == 0, "splits")
    size, parts = value.shape[axis], len(node.outputs)
    each = -(-size // parts)
    sizes = _integers(ctx, node, "split", 1) or [min(each, size - i * each) for i in range(parts)]
    if sum(sizes) != size or len(sizes) != parts or min(sizes) < 1:
        raise Refusal(f"it splits {size} into {sizes}", "parts of at least one element that make up the axis")
    first = 0
    for index, part in enumerate(sizes):
        _take(ctx, node, index, value, {axis: Side(part, 1, first, 0, part)})
        first += part


def expand(ctx: Context, node: ir.Node) -> None:
    """Expand to a constant shape."""
    value = ctx.value(node)
    target = [int(i) for i in ctx.needed(node, 1, "shape").ravel()]
    rank = max(len(target), len(value.shape))
    if ctx.batched and rank > len(value.shape):
        raise Refusal("it adds axes before the batch axis", "a shape of as many axes as its input")
    _broadcast(ctx, node, value, [1] * (rank - len(target)) + target)


def _broadcast(ctx: Context, node: ir.Node, value: Value, target: list[int]) -> None:
    value = value.view([[Factor(1)] for _ in range(len(target) - len(value.dims))] + value.dims, False)
    sides = {}
    for axis, (have, want) in enumerate(zip(value.shape, target, strict=True)):
        if have == 1 and want != 1:
            keep_batch(ctx, axis == 0, "repeats")
            sides[axis] = Side(want, 0, 0, 0, want)
        elif want not in (1, have):
            raise Refusal(f"it makes {target} of {value.shape}", "a shape that its input broadcasts to")
    if sides:
        emit_box(ctx, node, 0, value, sides)
    else:
        ctx.values[node.outputs[0]] = value


def tile(ctx: Context, node: ir.Node) -> None:
    """Tile with constant repeats."""
    value = ctx.value(node)
    repeats = [int(i) for i in ctx.needed(node, 1, "repeats").ravel()]
    if len(repeats) != len(value.shape) or min(repeats, default=1) < 1:
        raise Refusal(f"it repeats {value.shape} {repeats} times", "a repeat of 1 or more for every axis")
    keep_batch(ctx, repeats[:1] != [1], "repeats")
    order = memory_axes(ctx, value)
    source = ctx.ordered(value, order)
    shape, times = [value.shape[axis] for axis in order], [repeats[axis] for axis in order]
    y_shape = [n * r for n, r in zip(shape, times, strict=True)]
    axes = []
    for n, r, x, y in zip(shape, times, strides_of(shape), strides_of(y_shape), strict=True):
        axes += [(r, 0, n * y), (n, x, y)]
    output = output_like(ctx, node, 0, source, y_shape)
    box(ctx, node, source, output, axes)
    ctx.result(node.outputs[0], [n * r for n, r in zip(value.shape, repeats, strict=True)], order, output, value.dtype)


# ---- Pad -------------------------------------------------------------------------------------------------------------


def pad(ctx: Context, node: ir.Node) -> None:
    """Pad by constant amounts, which may be negative: with a constant, the edge, or mirrored."""
    value = ctx.value(node)
    rank = len(value.shape)
    given = _integers(ctx, node, "pads", 1) or []
    axes = _integers(ctx, node, "axes", 3)
    axes = list(range(rank)) if axes is None else [axis % rank for axis in axes]
    if len(given) != 2 * len(axes):
        raise Refusal(f"it has {len(given)} pads for {len(axes)} axes", "two pads for each axis")
    amounts = {
        axis: (given[i], given[i + len(axes)]) for i, axis in enumerate(axes) if given[i] or given[i + len(axes)]
    }
    keep_batch(ctx, 0 in amounts, "pads")
    mode = node.attributes.get_string("mode", "constant")
    if mode == "constant":
        _pad_constant(ctx, node, value, amounts)
    else:
        _pad_indices(ctx, node, value, amounts, mode or "")


def _pad_constant(ctx: Context, node: ir.Node, value: Value, amounts: dict[int, tuple[int, int]]) -> None:
    fill = node.attributes.get_float("value", 0.0) or 0.0
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        fill = float(ctx.needed(node, 2, "constant value").reshape(()))
    fill -= 128 if value.dtype == "u8" else 0
    sides = {}
    for axis, (before, behind) in amounts.items():
        size = value.shape[axis]
        taken = size - max(-before, 0) - max(-behind, 0)
        if taken < 1:
            raise Refusal("it crops away all elements", "smaller negative pads")
        sides[axis] = Side(taken, 1, max(-before, 0), max(before, 0), size + before + behind)
    if sides:
        emit_box(ctx, node, 0, value, sides, fill)
    else:
        ctx.alias(node, value.dims)


def _pad_indices(ctx: Context, node: ir.Node, value: Value, amounts: dict[int, tuple[int, int]], mode: str) -> None:
    if mode not in ("edge", "reflect", "wrap"):
        raise Refusal(f"its mode is {mode}", "constant, edge, reflect or wrap")
    tables = {}
    for axis, (before, behind) in amounts.items():
        size = value.shape[axis]
        left = np.arange(size)[max(-before, 0) : size - max(-behind, 0)]
        if left.size < 1:
            raise Refusal("it crops away all elements", "smaller negative pads")
        if mode != "edge" and max(before, behind) >= left.size + (mode == "wrap"):
            raise Refusal(f"it pads by more than there is to {mode}", "smaller pads, or edge")
        tables[axis] = np.pad(left, (max(before, 0), max(behind, 0)), mode)  # type: ignore[call-overload]
    _by_tables(ctx, node, value, tables)


# ---- Gather ----------------------------------------------------------------------------------------------------------


def _by_tables(ctx: Context, node: ir.Node, value: Value, tables: dict[int, Array]) -> None:
    """Pick along some axes, one after the other, the smallest result first."""
    order = memory_axes(ctx, value)
    tensor = ctx.ordered(value, order)
    shape = list(value.shape)
    for axis in sorted(tables, key=lambda a: tables[a].size / shape[a]):
        tensor = _pick(ctx, node, tensor, [shape[a] for a in order], order.index(axis), tables[axis])
        shape[axis] = tables[axis].size
    if tables:
        ctx.result(node.outputs[0], shape, order, tensor, value.dtype)
    else:
        ctx.alias(node, value.dims)


def _pick(ctx: Context, node: ir.Node, source: str, shape: list[int], at: int, table: Array) -> str:
    """Emit a gather along axis `at` of a tensor of this memory shape."""
    index = ctx.const(f"{node.name or node.outputs[0].name}.index", table, "i32")
    result = [*shape[:at], table.size, *shape[at + 1 :]]
    output = output_like(ctx, node, 0, source, result)
    sizes = {"outer": prod(shape[:at]), "in": shape[at], "out": table.size, "inner": prod(shape[at + 1 :])}
    ctx.emit("gather", node, [source, index], output, **sizes, size=DTYPES[ctx.tensors[source].dtype].itemsize)
    return output


def gather(ctx: Context, node: ir.Node) -> None:
    """Gather by constant indices; or rows of a constant table by computed ones."""
    if ctx.constant(node.inputs[0]) is not None:
        _embedding(ctx, node)
        return
    value = ctx.value(node)
    if ctx.constant(node.inputs[1]) is None:
        raise Refusal("its data and its indices are both computed", "constant indices, or a constant table")
    index = ctx.needed(node, 1, "indices").astype(np.int64)
    axis = node.attributes.get_int("axis", 0) % len(value.shape)
    keep_batch(ctx, axis == 0, "picks from")
    size = value.shape[axis]
    if index.size == 0 or index.min() < -size or index.max() >= size:
        raise Refusal(f"its indices are not within {size}", f"indices of {-size} to {size - 1}")
    flat = np.where(index < 0, index + size, index).reshape(-1)
    if flat.size == 1 or len(set(np.diff(flat))) == 1:
        step = int(flat[1] - flat[0]) if flat.size > 1 else 1
        _take(ctx, node, 0, value, {axis: Side(flat.size, step, int(flat[0]), 0, flat.size)})
    else:
        _by_tables(ctx, node, value, {axis: flat})
    found = ctx.values[node.outputs[0]]
    shape = [*value.shape[:axis], *index.shape, *value.shape[axis + 1 :]]
    if list(found.shape) != shape:
        ctx.values[node.outputs[0]] = materialized(ctx, found, shape)


def _embedding(ctx: Context, node: ir.Node) -> None:
    """Rows of a constant table, which may train."""
    table = ctx.needed(node, 0, "table")
    value = ctx.value(node, 1)
    if node.attributes.get_int("axis", 0) % table.ndim != 0:
        raise Refusal("it picks from another axis than the first of a constant", "axis = 0")
    if value.dtype != "i32":
        raise Refusal(f"its indices are {value.dtype}", "int32 or int64 indices")
    if table.dtype not in (np.float32, np.float64, np.int8, np.uint8):
        raise Refusal(f"its table is {table.dtype}", "a float32 table")
    ids = ctx.ordered(value, range(len(value.shape)))
    names = [str(node.name), str(node.inputs[0].name)]  # type: ignore[union-attr]
    rows, width = value.count, prod(table.shape[1:])
    shape = (*value.shape, *table.shape[1:])
    weight = ctx.const(names[1], table.reshape(len(table), width), "f32")
    coded = table.dtype in (np.int8, np.uint8)
    output = ctx.activation(None if coded else node.outputs[0].name, (rows, width))
    attrs = {"rows": rows, "vocabulary": len(table), "width": width}
    op = ctx.emit("embedding_f32", node, [ids, weight], output, **attrs)
    if not coded:
        ctx.layers[output] = Layer(op, names, [weight], width)
        ctx.result(node.outputs[0], shape, range(len(shape)), output)
        return
    unsigned = table.dtype == np.uint8
    codes = ctx.activation(node.outputs[0].name, (rows, width), "i8", 1.0, -128 * unsigned)
    ctx.emit("quantize", node, [output], codes, count=rows * width, alpha=0.0, **no_limits())
    ctx.result(node.outputs[0], shape, range(len(shape)), codes, "u8" if unsigned else "i8")


# ---- Concat ----------------------------------------------------------------------------------------------------------


def concat(ctx: Context, node: ir.Node) -> None:
    """Concat of values of one type; constants may stand between them."""
    parts = [(i, ctx.constant(i)) for i in node.inputs if i is not None]
    parts = [(i, c) for i, c in parts if c is None or c.size]
    values = [ctx.values[i] if c is None else None for i, c in parts]
    _concat(ctx, node, values, [c for _, c in parts], node.attributes.get_int("axis", 1))


def qlinear_concat(ctx: Context, node: ir.Node) -> None:
    """com.microsoft QLinearConcat: scale and zero point of y, then x, scale and zero point of each input.

    onnxruntime maps the codes of an input whose scale or zero point differs from y's through a table, and so do we.
    """
    y = int8_ops.parameters(ctx, node, 0)
    values: list[Value | None] = []
    constants: list[Array | None] = []
    for at in range(2, len(node.inputs), 3):
        x = int8_ops.parameters(ctx, node, at + 1)
        codes = ctx.constant(node.inputs[at])
        table = _requantization(ctx, node, at, x, y)
        if codes is not None:
            stored = codes.astype(np.int32) - 128 * (codes.dtype == np.uint8)
            constants.append(table[stored + 128])
            values.append(None)
            continue
        value = int8_ops.coded(ctx, ctx.value(node, at), x)
        values.append(value if x[:2] == y[:2] else _through_table(ctx, node, value, table, y))
        constants.append(None)
    _concat(ctx, node, values, constants, node.attributes.get_int("axis", 0), y)


def _requantization(ctx: Context, node: ir.Node, at: int, x: int8_ops.Scale, y: int8_ops.Scale) -> Array:
    """(256,) int8: codes of y for all codes of the input at `at`, lowest first, by onnxruntime."""
    unsigned = x[2] == "u8"
    codes = np.arange(256).astype(np.uint8) if unsigned else np.arange(-128, 128).astype(np.int8)
    names = [str(node.inputs[i].name) for i in (0, 1, at + 1, at + 2)]  # type: ignore[union-attr]
    arrays = {name: ctx.needed(node, i, "scale") for name, i in zip(names, (0, 1, at + 1, at + 2), strict=True)}
    one = onnx.helper.make_node(
        "QLinearConcat", [*names[:2], "codes", *names[2:]], ["y"], domain="com.microsoft", axis=0
    )
    opsets = dict(ctx.normal.model.graph.opset_imports)
    found = reference.run_nodes([one], arrays, {"codes": codes}, "y", opsets)
    return (found.astype(np.int32) - 128 * unsigned).astype(np.int8)


def _through_table(ctx: Context, node: ir.Node, value: Value, table: Array, y: int8_ops.Scale) -> Value:
    """Codes of a value with the scale and zero point of y."""
    source = value.storage.tensor
    label = f"{node.name or node.outputs[0].name}"
    name = ctx.const(f"{label}.table", table, "i8")
    output = ctx.activation(f"{label}.codes", ctx.tensors[source].shape, "i8", *y[:2])
    ctx.emit("lut_s8", node, [source, name], output, count=value.count, alpha=0.0, **no_limits())
    value.storage.order.tensors.append(output)
    return Value(Storage(output, value.storage.order), value.dims, value.dtype, False)


def _concat(
    ctx: Context,
    node: ir.Node,
    values: list[Value | None],
    constants: list[Array | None],
    axis: int,
    scale: int8_ops.Scale | None = None,
) -> None:
    """Concatenate in the memory order of the first value that has one."""
    known = [v for v in values if v is not None]
    rank = len(known[0].shape)
    axis %= rank
    keep_batch(ctx, axis == 0, "joins samples along")
    dtype = known[0].dtype
    if any(v.dtype != dtype for v in known):
        raise Refusal("its inputs are of different types", "inputs of one type")
    settled = [v for v in known if v.storage.order.factors is not None]
    order = memory_axes(ctx, max(settled or known, key=lambda v: v.count))
    at = order.index(axis)
    whole = [i for i in range(rank) if i != axis]
    shape = list(known[0].shape)
    sources, sizes = [], []
    for value, constant in zip(values, constants, strict=True):
        part = value.shape if value is not None else constant.shape  # type: ignore[union-attr]
        if len(part) != rank or any(part[i] != shape[i] for i in whole):
            raise Refusal(f"it joins {tuple(shape)} and {tuple(part)}", "inputs that differ in the joined axis alone")
        sizes.append(part[axis])
        sources.append(
            ctx.ordered(value, order) if value is not None else _constant_part(ctx, node, constant, order, dtype)
        )
    outer = prod(shape[i] for i in order[:at])
    shape[axis] = sum(sizes)
    output = _join(ctx, node, sources, outer, [prod(shape[i] for i in order[at + 1 :]) * n for n in sizes])
    if scale is not None:
        ctx.tensors[output].scale, ctx.tensors[output].zero_point = scale[:2]
    ctx.tensors[output].shape = tuple(shape[i] for i in order)
    ctx.result(node.outputs[0], shape, order, output, dtype)


def _constant_part(ctx: Context, node: ir.Node, array: Array | None, order: list[int], dtype: str) -> str:
    assert array is not None
    device = {"u8": "i8"}.get(dtype, dtype)
    if array.dtype == np.uint8:
        array = array.astype(np.int32) - 128
    return ctx.const(f"{node.name or node.outputs[0].name}.part", array.transpose(order), device)


def _join(ctx: Context, node: ir.Node, sources: list[str], outer: int, inner: list[int]) -> str:
    """Emit concat ops, groups of neighbours first where there are too many inputs for one."""
    while len(sources) > _MOST_INPUTS:
        groups = range(0, len(sources), _MOST_INPUTS)
        sources, inner = (
            [_join(ctx, node, sources[i : i + _MOST_INPUTS], outer, inner[i : i + _MOST_INPUTS]) for i in groups],
            [sum(inner[i : i + _MOST_INPUTS]) for i in groups],
        )
    if len(sources) == 1 and ctx.tensors[sources[0]].is_activation:
        return sources[0]
    first = next((t for s in sources if (t := ctx.tensors[s]).is_activation), ctx.tensors[sources[0]])
    output = output_like(ctx, node, 0, first.name, (outer, sum(inner)))
    ctx.emit("concat", node, sources, output, outer=outer, size=DTYPES[first.dtype].itemsize)
    return output


# ---- Depth and space -------------------------------------------------------------------------------------------------


def depth_to_space(ctx: Context, node: ir.Node) -> None:
    """DepthToSpace: a regrouping of axes, which moves nothing by itself."""
    value = ctx.value(node)
    b, (n, c, h, w) = _blocks(node, value)
    if c % (b * b):
        raise Refusal(f"its {c} channels are no multiple of {b * b}", "blocksize * blocksize channels, or more")
    if node.attributes.get_string("mode", "DCR") == "DCR":
        v = materialized(ctx, value, [n, b, b, c // (b * b), h, w])
        d = v.dims
        dims = [d[0], d[3], d[4] + d[1], d[5] + d[2]]
    else:
        v = materialized(ctx, value, [n, c // (b * b), b, b, h, w])
        d = v.dims
        dims = [d[0], d[1], d[4] + d[2], d[5] + d[3]]
    ctx.values[node.outputs[0]] = v.view(dims, ctx.is_exclusive(node))


def space_to_depth(ctx: Context, node: ir.Node) -> None:
    """SpaceToDepth: a regrouping of axes, which moves nothing by itself."""
    value = ctx.value(node)
    b, (n, c, h, w) = _blocks(node, value)
    if h % b or w % b:
        raise Refusal(f"its image ({h}, {w}) is no multiple of {b}", "a blocksize that divides height and width")
    v = materialized(ctx, value, [n, c, h // b, b, w // b, b])
    d = v.dims
    ctx.values[node.outputs[0]] = v.view([d[0], d[3] + d[5] + d[1], d[2], d[4]], ctx.is_exclusive(node))


def _blocks(node: ir.Node, value: Value) -> tuple[int, tuple[int, ...]]:
    if len(value.shape) != 4:
        raise Refusal(f"its input has {len(value.shape)} axes", "an input of shape (N, C, H, W)")
    return node.attributes.get_int("blocksize", 1) or 1, value.shape


# ---- Reductions ------------------------------------------------------------------------------------------------------


def reduce(ctx: Context, node: ir.Node) -> None:
    """ReduceSum, ReduceMax, ReduceMin, ReduceL1, ReduceL2 and ReduceSumSquare over axes other than the batch."""
    value = ctx.value(node)
    float_ops.require_float(value)
    rank = len(value.shape)
    axes = float_ops.axes_of(ctx, node, rank)
    if not axes and node.attributes.get_int("noop_with_empty_axes", 0):
        ctx.alias(node, value.dims)
        return
    axes = axes or list(range(rank))
    keep_batch(ctx, 0 in axes, "reduces")
    order = memory_axes(ctx, value)
    before, behind = _around(order, axes, value.shape)
    if before is None:
        before, behind = [], [axis for axis in order if axis not in axes]
    source = ctx.ordered(value, [*before, *axes_between(order, axes), *behind])
    sizes = [prod(value.shape[i] for i in part) for part in (before, axes, behind)]
    kept = before + behind
    output = ctx.activation(node.outputs[0].name, [value.shape[i] for i in kept] or [1])
    attrs = dict(zip(("outer", "size", "inner"), sizes, strict=True))
    ctx.emit("reduce_f32", node, [source], output, **attrs, which=_REDUCTIONS[node.op_type])
    if node.attributes.get_int("keepdims", 1):
        ctx.result(node.outputs[0], [1 if i in axes else n for i, n in enumerate(value.shape)], kept, output)
    else:
        left = sorted(kept)
        ctx.result(node.outputs[0], [value.shape[i] for i in left], [left.index(i) for i in kept], output)


def axes_between(order: list[int], axes: list[int]) -> list[int]:
    """Some axes in memory order."""
    return [axis for axis in order if axis in axes]


def _around(order: list[int], axes: list[int], shape: Sequence[int]) -> tuple[list[int] | None, list[int]]:
    """Axes that lie before and behind `axes` in memory; None where others lie between them."""
    places = [i for i, axis in enumerate(order) if axis in axes and shape[axis] != 1]
    if not places:
        return [axis for axis in order if axis not in axes], []
    inside = order[places[0] : places[-1] + 1]
    if any(axis not in axes and shape[axis] != 1 for axis in inside):
        return None, []
    before = [axis for axis in order[: places[-1] + 1] if axis not in axes]
    return before, [axis for axis in order[places[-1] + 1 :] if axis not in axes]


def global_max_pool(ctx: Context, node: ir.Node) -> None:
    """GlobalMaxPool of float32 or of codes: a pool whose one window is the whole image."""
    value = ctx.value(node)
    rank = len(value.shape)
    if value.dtype == "i32":
        raise Refusal("it works on 32-bit integers", "float32, int8 or uint8")
    source = ctx.ordered(value, [*range(2, rank), 0, 1])
    height, width, channels = value.shape[2], prod(value.shape[3:]), value.shape[0] * value.shape[1]
    output = output_like(ctx, node, 0, source, (1, 1, channels))
    kind = "max_pool2d_f32" if value.dtype == "f32" else "max_pool2d_s8"
    ctx.emit(kind, node, [source], output, **float_ops.whole_window(height, width, channels))
    ctx.result(node.outputs[0], (*value.shape[:2], *[1] * (rank - 2)), range(rank), output, value.dtype)


# ---- Resize ----------------------------------------------------------------------------------------------------------


def resize(ctx: Context, node: ir.Node) -> None:
    """Resize and Upsample: nearest of float32 or codes, linear and cubic of float32, axis by axis.

    What an output element takes from the input is asked of onnxruntime, axis by axis, so all of its coordinate and
    rounding modes are there.
    """
    value = ctx.value(node)
    mode = node.attributes.get_string("mode", "nearest") or "nearest"
    policy = node.attributes.get_string("keep_aspect_ratio_policy", "stretch")
    if node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize":
        raise Refusal("it crops (tf_crop_and_resize)", "Slice and Resize")
    if policy != "stretch":
        raise Refusal(f"its keep_aspect_ratio_policy is {policy}", "stretch, with the sizes it comes to")
    factors = _resize_factors(ctx, node, value)
    axes = [axis for axis, (scale, size) in factors.items() if size != value.shape[axis] or scale not in (None, 1)]
    keep_batch(ctx, 0 in axes, "resizes")
    matrices = {axis: _resize_matrix(ctx, node, value.shape[axis], factors[axis]) for axis in axes}
    picks = {
        axis: m.argmax(1) for axis, m in matrices.items() if ((m == 1).sum(1) == 1).all() and (m != 0).sum() == len(m)
    }
    if len(picks) == len(matrices):
        _by_tables(ctx, node, value, picks)
    elif value.dtype != "f32":
        raise Refusal(
            f"it interpolates codes ({mode})",
            "nearest, or a float32 Resize between DequantizeLinear and QuantizeLinear",
        )
    else:
        _by_matrices(ctx, node, value, matrices)


def _resize_factors(ctx: Context, node: ir.Node, value: Value) -> dict[int, tuple[float | None, int]]:
    """Scale (None: from the sizes) and output size by axis."""
    rank = len(value.shape)
    axes = [axis % rank for axis in node.attributes.get_ints("axes") or range(rank)]
    if node.op_type == "Upsample" or ctx.opset < 11:
        given = node.attributes.get_floats("scales", None)
        scales = np.asarray(given, np.float32) if given is not None else ctx.needed(node, 1, "scales")
        sizes = None
    else:
        at = {
            name: i for i, name in ((2, "scales"), (3, "sizes")) if len(node.inputs) > i and node.inputs[i] is not None
        }
        scales = ctx.needed(node, 2, "scales") if "scales" in at else np.zeros(0)
        sizes = ctx.needed(node, 3, "sizes") if "sizes" in at and not scales.size else None
    if sizes is not None:
        return {axis: (None, int(size)) for axis, size in zip(axes, sizes.ravel(), strict=True)}
    return {
        axis: (float(scale), int(np.floor(np.float32(value.shape[axis]) * np.float32(scale))))
        for axis, scale in zip(axes, scales.ravel(), strict=True)
    }


def _resize_matrix(ctx: Context, node: ir.Node, size: int, factor: tuple[float | None, int]) -> Array:
    """(out, in): what each output element along one axis is made of, by onnxruntime resizing an identity matrix."""
    scale, out = factor
    if out < 1:
        raise Refusal("it leaves nothing of an axis", "a larger scale")
    old = node.op_type == "Upsample" or ctx.opset < 11
    proto = proto_of(node)
    kept = [a for a in proto.attribute if a.name not in ("scales", "axes", "keep_aspect_ratio_policy")]
    eye = np.eye(size, dtype=np.float32).reshape(1, size, 1, size)
    constants = {"scales": np.array([1, 1, 1, 1 if scale is None else scale], np.float32)}
    inputs = ["x", "scales"] if old else ["x", "", "scales"]
    if scale is None:
        constants, inputs = {"sizes": np.array([1, size, 1, out], np.int64)}, ["x", "", "", "sizes"]
    one = onnx.helper.make_node(node.op_type, inputs, ["y"])
    one.attribute.extend(kept)
    if old and node.attributes.get_floats("scales", None) is not None:
        one.attribute.append(onnx.helper.make_attribute("scales", constants.pop("scales").tolist()))
        del one.input[1:]
    opsets = dict(ctx.normal.model.graph.opset_imports)
    try:
        found = reference.run_nodes([one], constants, {"x": eye}, "y", opsets)
    except Exception as error:
        raise Refusal(f"onnxruntime does not resize with these attributes: {error}", "nearest or linear") from error
    return found.reshape(size, -1).T


def _by_matrices(ctx: Context, node: ir.Node, value: Value, matrices: dict[int, Array]) -> None:
    """Emit a resample_f32 for every axis, the one that shrinks most first."""
    order = memory_axes(ctx, value)
    tensor = ctx.ordered(value, order)
    shape = list(value.shape)
    for axis in sorted(matrices, key=lambda a: len(matrices[a]) / shape[a]):
        at, matrix = order.index(axis), matrices[axis]
        label = f"{node.name or node.outputs[0].name}"
        index, weight = _taps(matrix)
        names = [ctx.const(f"{label}.index", index, "i32"), ctx.const(f"{label}.weight", weight, "f32")]
        before, behind = (prod(shape[i] for i in part) for part in (order[:at], order[at + 1 :]))
        sizes = {"outer": before, "in": shape[axis], "out": len(matrix), "inner": behind, "taps": index.shape[1]}
        shape[axis] = len(matrix)
        output = ctx.activation(node.outputs[0].name, [shape[i] for i in order])
        ctx.emit("resample_f32", node, [tensor, *names], output, **sizes)
        tensor = output
    ctx.result(node.outputs[0], shape, order, tensor)


def _taps(matrix: Array) -> tuple[Array, Array]:
    """Indices and weights (out, taps) of the elements of each row that are not 0."""
    taps = max(int((matrix != 0).sum(1).max()), 1)
    index = np.sort(np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps], axis=1)
    return index, np.take_along_axis(matrix, index, 1)


# ---- Products of two matrices ----------------------------------------------------------------------------------------


def matmul(ctx: Context, node: ir.Node) -> None:
    """MatMul: with a constant on either side a dense layer, else a product of two computed matrices."""
    left, right = (ctx.constant(i) for i in node.inputs)
    if right is not None and right.ndim == 2:
        float_ops.matmul(ctx, node)
        return
    if left is not None and left.ndim == 2:
        _constant_left(ctx, node, left)
        return
    if left is not None or right is not None:
        raise Refusal("its constant is no matrix", "a constant of two axes, or two computed values")
    a, b = ctx.value(node, 0), ctx.value(node, 1)
    float_ops.require_float(a, b)
    emit_matmul(ctx, node, a, b, "matmul_f32", no_limits())


def _constant_left(ctx: Context, node: ir.Node, weight: Array) -> None:
    """W . x as x^T . W^T: a dense layer over the axis before the last, seen as the last."""
    value = ctx.value(node, 1)
    float_ops.require_float(value)
    rank = len(value.shape)
    if rank < 2 + ctx.batched:
        raise Refusal("it multiplies a constant with the batch axis", "the constant on the right")
    swapped = value.view([*value.dims[:-2], value.dims[-1], value.dims[-2]], value.exclusive)
    source, columns, rows = float_ops.dense_weight(ctx, swapped, weight.T)
    n_out, n_in = columns.shape
    names = [str(node.name), str(node.inputs[0].name)]  # type: ignore[union-attr]
    tensors = [ctx.const(names[1], columns, "f32"), ctx.const(f"{names[0] or names[1]}.bias", np.zeros(n_out), "f32")]
    output = ctx.activation(node.outputs[0].name, (rows, n_out))
    op = ctx.emit("dense_f32", node, [source, *tensors], output, n_in=n_in, n_out=n_out, rows=rows, **no_limits())
    ctx.layers[output] = Layer(op, names, tensors[:1], n_out)
    shape = (*value.shape[:-2], n_out, value.shape[-1])
    ctx.result(node.outputs[0], shape, [*range(rank - 2), rank - 1, rank - 2], output)


def qlinear_matmul(ctx: Context, node: ir.Node) -> None:
    """QLinearMatMul: with constant weights a dense layer, else a product of two computed matrices."""
    if ctx.constant(node.inputs[3]) is not None:
        int8_ops.qlinear_matmul(ctx, node)
        return
    a_scale, b_scale, y = (int8_ops.parameters(ctx, node, i) for i in (1, 4, 6))
    a, b = int8_ops.coded(ctx, ctx.value(node, 0), a_scale), int8_ops.coded(ctx, ctx.value(node, 3), b_scale)
    if a.shape[-1] > 16384:
        raise Refusal(f"it sums {a.shape[-1]} products", "16384 at most")
    emit_matmul(ctx, node, a, b, "matmul_s8", int8_ops.limits(y), y)


def emit_matmul(
    ctx: Context,
    node: ir.Node,
    a: Value,
    b: Value,
    kind: str,
    limits: dict[str, float],
    scale: int8_ops.Scale | None = None,
) -> None:
    """Emit a product over the last two axes; the leading ones broadcast."""
    if min(len(a.shape), len(b.shape)) < 2 + ctx.batched:
        raise Refusal(f"it multiplies {a.shape} by {b.shape}", "operands of shape (N, ..., rows, columns)")
    if a.shape[-1] != b.shape[-2]:
        raise Refusal(f"it multiplies {a.shape} by {b.shape}", "shapes that fit")
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows, count, columns = a.shape[-2], a.shape[-1], b.shape[-1]
    batch = prod(lead)
    if prod(b.shape[:-2]) == 1:
        rows, batch = rows * prod(a.shape[:-2]), 1
    else:
        a, b = _with_lead(ctx, node, a, lead), _with_lead(ctx, node, b, lead)
    left = ctx.ordered(a, range(len(a.shape)))
    right, transposed = _second(ctx, b, always=kind == "matmul_s8")
    shape = (*lead, a.shape[-2], columns)
    output = ctx.activation(
        node.outputs[0].name, shape, "f32" if scale is None else "i8", *((0.0, 0) if scale is None else scale[:2])
    )
    sizes = {"batch": batch, "rows": rows, "count": count, "columns": columns, "transposed": transposed}
    ctx.emit(kind, node, [left, right], output, **sizes, **limits)
    ctx.result(node.outputs[0], shape, range(len(shape)), output, "f32" if scale is None else scale[2])


def _second(ctx: Context, b: Value, always: bool) -> tuple[str, int]:
    """The second matrix as it lies if the op can read that, and whether it lies transposed."""
    rank = len(b.shape)
    natural = list(range(rank))
    swapped = [*natural[:-2], rank - 1, rank - 2]
    ctx.settle(b, b.factors(swapped if always else natural))
    have = significant(b.storage.order.settled())
    transposed = always or (have != significant(b.factors(natural)) and have == significant(b.factors(swapped)))
    return ctx.ordered(b, swapped if transposed else natural), int(transposed)


def _with_lead(ctx: Context, node: ir.Node, value: Value, lead: tuple[int, ...]) -> Value:
    """A value with its leading axes broadcast."""
    target = (*lead, *value.shape[-2:])
    if value.shape == target:
        return value
    value = value.view([[Factor(1)] for _ in range(len(target) - len(value.dims))] + value.dims, False)
    source = ctx.ordered(value, range(len(target)))
    steps = strides_of(value.shape)
    axes = [
        (want, 0 if have == 1 else x, y)
        for have, want, x, y in zip(value.shape, target, steps, strides_of(target), strict=True)
    ]
    output = output_like(ctx, node, 0, source, target)
    box(ctx, node, source, output, axes)
    dims = new_dims(target)
    return Value(Storage(output, Order([axis[0] for axis in dims])), dims, value.dtype, False)


# ---- ConvTranspose ---------------------------------------------------------------------------------------------------


def conv_transpose(ctx: Context, node: ir.Node) -> None:
    """ConvTranspose, 1-D or 2-D, any groups."""
    value = ctx.value(node)
    float_ops.require_float(value)
    weight = ctx.needed(node, 1, "weight")
    axes = spatial_axes(value)
    groups = node.attributes.get_int("group", 1)
    if weight.ndim != len(value.shape) or weight.shape[0] != value.shape[1] or weight.shape[0] % groups:
        raise Refusal(f"weights {weight.shape} do not fit input {value.shape}", "weights (in_c, out_c/groups, kh, kw)")
    out, begin = _transposed_window(node, value.shape[2:], weight.shape[2:])
    out_c = weight.shape[1] * groups
    bias = ctx.needed(node, 2, "bias") if len(node.inputs) > 2 and node.inputs[2] is not None else None
    rank = len(out)
    pair = lambda numbers, first: (first, *numbers) if rank == 1 else tuple(numbers)  # noqa: E731
    fields = {
        "in": pair(value.shape[2:], 1),
        "out": pair(out, 1),
        "kernel": pair(weight.shape[2:], 1),
        "stride": pair(node.attributes.get_ints("strides") or [1] * rank, 1),
        "dilation": pair(node.attributes.get_ints("dilations") or [1] * rank, 1),
    }
    attrs = {f"{name}_{axis}": int(n) for name, both in fields.items() for axis, n in zip("hw", both, strict=True)}
    top, left = pair(begin, 0)
    attrs |= {"pad_top": top, "pad_left": left, "in_c": value.shape[1], "out_c": out_c, "groups": groups}
    device = (weight if rank == 2 else weight[:, :, None, :]).transpose(0, 2, 3, 1)
    source = ctx.ordered(value, axes)
    shape = (*pair(out, 1), out_c)
    op = float_ops.weighted(ctx, node, "conv_transpose2d_f32", source, device, bias, shape, attrs)
    ctx.result(node.outputs[0], (1, out_c, *out), axes, op.outputs[0])


def _transposed_window(node: ir.Node, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """Output sizes and the padding in front, as onnxruntime has them."""
    get, rank = node.attributes, len(sizes)
    strides, dilations = get.get_ints("strides") or [1] * rank, get.get_ints("dilations") or [1] * rank
    extra = get.get_ints("output_padding") or [0] * rank
    given = get.get_ints("pads") or [0] * (2 * rank)
    wanted = get.get_ints("output_shape") or []
    wanted = list(wanted)[-rank:] if wanted else [None] * rank
    mode = get.get_string("auto_pad", "NOTSET") or "NOTSET"
    out, begin = [], []
    for i, (size, k, s, d, more) in enumerate(zip(sizes, kernel, strides, dilations, extra, strict=True)):
        full = (size - 1) * s + more + (k - 1) * d + 1
        low, high = (given[i], given[i + rank]) if mode == "NOTSET" else (0, 0)
        target = wanted[i] if wanted[i] is not None else min(size * s, full) if mode.startswith("SAME") else None
        if target is not None:
            total = max(full - target, 0)
            low = total // 2 if mode == "SAME_UPPER" else total - total // 2
        else:
            target = full - low - high
        if target < 1 or low < 0 or high < 0:
            raise Refusal(f"its output would have size {target}, with pads {low} and {high}", "pads of 0 or more")
        out.append(int(target))
        begin.append(int(low))
    return out, begin


OPERATORS: dict[str, Callable[[Context, ir.Node], None]] = {
    "Concat": concat,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Gather": gather,
    "GlobalMaxPool": global_max_pool,
    "MatMul": matmul,
    "Pad": pad,
    "QLinearMatMul": qlinear_matmul,
    **dict.fromkeys(_REDUCTIONS, reduce),
    "Resize": resize,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Tile": tile,
    "Upsample": resize,
    "com.microsoft.QLinearConcat": qlinear_concat,
}
