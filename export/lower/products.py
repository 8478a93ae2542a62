"""Lower MatMul, with a constant on either side or with none, and ConvTranspose."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from ..errors import Refusal
from . import float_ops, int8_ops
from .context import Context, Layer, no_limits
from .layout import Factor, Order, Storage, Value, new_dims, significant
from .movement import Array, box, output_like, strides_of
from .operator import Operator, operator
from .windows import pair, spatial_axes

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
    targets: list[int | None] = [int(n) for n in wanted[-rank:]] if wanted else [None for _ in range(rank)]
    mode = get.get_string("auto_pad", "NOTSET") or "NOTSET"
    out, begin = [], []
    for i, (size, k, s, d, more) in enumerate(zip(sizes, kernel, strides, dilations, extra, strict=True)):
        full = (size - 1) * s + more + (k - 1) * d + 1
        low, high = (given[i], given[i + rank]) if mode == "NOTSET" else (0, 0)
        target = targets[i] if targets[i] is not None else min(size * s, full) if mode.startswith("SAME") else None
        if target is not None and target >= full + s:  # fewer lie at the end, as of output_padding
            raise Refusal(f"its output_shape {target} is more than the {full} that it makes", "Pad behind it")
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


OPERATORS: dict[str, Operator] = {
    "ConvTranspose": operator(conv_transpose, "conv_transpose2d_f32"),
    "MatMul": operator(matmul, "dense_f32", "sparse_dense_f32", "matmul_f32"),
    "QLinearMatMul": operator(qlinear_matmul, "dense_s8", "conv2d_zero_s8", "matmul_s8"),
}
