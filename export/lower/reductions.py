"""Lower reductions other than the mean, which is a pool."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import onnx_ir as ir

from ..errors import Refusal
from . import float_ops
from .context import Context
from .movement import keep_batch, memory_axes, output_like
from .operator import Operator, operator

#: `which` of reduce_f32, EP_REDUCE_* in edgeprop_ops.h
_REDUCTIONS = {"ReduceSum": 0, "ReduceMax": 1, "ReduceMin": 2, "ReduceL1": 3, "ReduceL2": 4, "ReduceSumSquare": 5}


def reduce(ctx: Context, node: ir.Node) -> None:
    """ReduceSum, ReduceMax, ReduceMin, ReduceL1, ReduceL2 and ReduceSumSquare over axes other than the batch; ReduceMax
    of codes too."""
    value = ctx.value(node)
    coded = node.op_type == "ReduceMax" and value.dtype in ("i8", "u8")  # as onnxruntime fuses it
    if not coded:
        float_ops.require_float(value)
    rank = len(value.shape)
    axes = float_ops.axes_of(ctx, node, rank)
    if not axes and bool(node.attributes.get_int("noop_with_empty_axes", 0)):
        if node.op_type not in ("ReduceSum", "ReduceMax", "ReduceMin"):  # the others take each element's size or square
            raise Refusal("it has no axes", f"{node.op_type} with axes, or Abs or Mul in its place")
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
    output = output_like(ctx, node, 0, source, [value.shape[i] for i in kept] or [1])
    if coded:  # windows one below the other
        outer, size, inner = sizes
        windows = {"out_h": outer, "kernel_h": size, "stride_h": size}
        ctx.emit("max_pool2d_s8", node, [source], output, **float_ops.whole_window(outer * size, 1, inner) | windows)
    else:
        attrs = dict(zip(("outer", "size", "inner"), sizes, strict=True))
        ctx.emit("reduce_f32", node, [source], output, **attrs, which=_REDUCTIONS[node.op_type])
    if bool(node.attributes.get_int("keepdims", 1)):
        shape = [1 if i in axes else n for i, n in enumerate(value.shape)]
        ctx.result(node.outputs[0], shape, kept, output, value.dtype)
    else:
        left = sorted(kept)
        order = [left.index(i) for i in kept]
        ctx.result(node.outputs[0], [value.shape[i] for i in left], order, output, value.dtype)


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


OPERATORS: dict[str, Operator] = {
    "GlobalMaxPool": operator(global_max_pool, "max_pool2d_f32", "max_pool2d_s8"),
    **dict.fromkeys(_REDUCTIONS, operator(reduce, "reduce_f32")),
    "ReduceMax": operator(reduce, "reduce_f32", "max_pool2d_s8"),
}
