"""Lower Concat, of float32 and of quantized values."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx
import onnx_ir as ir

from ..errors import Refusal
from ..graph import reference
from ..program.program import DTYPES
from . import int8_ops
from .context import Context, no_limits
from .layout import Storage, Value
from .movement import Array, keep_batch, memory_axes, output_like
from .operator import Operator, operator

#: the runtime's concat has a bit of ep_node.accumulate for each input
_MOST_INPUTS = 8


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


OPERATORS: dict[str, Operator] = {
    "Concat": operator(concat, "concat"),
    "com.microsoft.QLinearConcat": operator(qlinear_concat, "concat", "lut_s8"),
}
