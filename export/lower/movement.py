"""Lower data movement: Slice, Split, Pad, Gather, Expand, Tile, DepthToSpace and their like.

They work axis by axis on the memory order that a value has (`memory_axes`), whatever its ONNX axes are called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from ..errors import ONE_SAMPLE, Refusal
from ..program.program import DTYPES
from .context import Context, Layer, no_limits
from .layout import Factor, Order, Storage, Value, new_dims, regroup, significant
from .operator import Operator, operator

Array = np.ndarray[Any, np.dtype[Any]]

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
        raise Refusal(f"it {what} the batch axis", ONE_SAMPLE)


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
    by_tables(ctx, node, value, tables)


# ---- Gather ----------------------------------------------------------------------------------------------------------


def by_tables(ctx: Context, node: ir.Node, value: Value, tables: dict[int, Array]) -> None:
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
        by_tables(ctx, node, value, {axis: flat})
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
    mode = node.attributes.get_string("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise Refusal(f"its mode is {mode}", "DCR or CRD")
    v = materialized(ctx, value, [n, c, h // b, b, w // b, b])
    d = v.dims
    channels = d[3] + d[5] + d[1] if mode == "DCR" else d[1] + d[3] + d[5]
    ctx.values[node.outputs[0]] = v.view([d[0], channels, d[2], d[4]], ctx.is_exclusive(node))


def _blocks(node: ir.Node, value: Value) -> tuple[int, tuple[int, ...]]:
    if len(value.shape) != 4:
        raise Refusal(f"its input has {len(value.shape)} axes", "an input of shape (N, C, H, W)")
    return node.attributes.get_int("blocksize", 1) or 1, value.shape


OPERATORS: dict[str, Operator] = {
    "DepthToSpace": operator(depth_to_space),
    "Expand": operator(expand, "box"),
    "Gather": operator(gather, "gather", "box", "embedding_f32"),
    "Pad": operator(pad, "box", "gather"),
    "Slice": operator(slice_, "box"),
    "SpaceToDepth": operator(space_to_depth),
    "Split": operator(split, "box"),
    "Tile": operator(tile, "box"),
}
