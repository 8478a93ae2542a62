"""Lower sums and products of quantized values: com.microsoft QLinearAdd and QLinearMul, with broadcasting."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from ..errors import Refusal
from . import int8_ops
from .context import Context
from .elementwise import Constants, broadcast
from .float_ops import emit_add
from .layout import Value
from .operator import Operator, operator

Operand = Value | np.ndarray


def _by_number(ctx: Context, node: ir.Node, scales: list[int8_ops.Scale]) -> bool:
    """With one constant code it is a function of the other operand's: a table, where that keeps its shape."""
    arrays = [ctx.constant(node.inputs[i]) for i in (0, 3)]
    number = next((i for i, array in enumerate(arrays) if array is not None and array.size == 1), None)
    if number is None or any(array is not None for i, array in enumerate(arrays) if i != number):
        return False
    at = 0 if number == 1 else 3
    if arrays[number].ndim > len(ctx.value(node, at).dims):  # type: ignore[union-attr]
        return False
    int8_ops.table_op(ctx, node, [node], at, scales[1 - number], scales[2])
    return True


def _repeats_along_rows(a: Operand, b: Operand) -> bool:
    """Whether onnxruntime's loop along the innermost axis takes one element of a and all of b."""
    rank = max(len(a.shape), len(b.shape))
    sizes = [(1,) * (rank - len(v.shape)) + tuple(v.shape) for v in (a, b)]
    inner = next(((p, q) for p, q in zip(*(s[::-1] for s in sizes), strict=True) if (p, q) != (1, 1)), (1, 1))
    return inner[0] == 1 and inner[1] > 1


def binary(ctx: Context, node: ir.Node, kind: str) -> None:
    """QLinearAdd (`add_broadcast_s8`) or QLinearMul (`mul_s8`)."""
    scales = [int8_ops.parameters(ctx, node, index) for index in (1, 4, 6)]
    if _by_number(ctx, node, scales):
        return
    operands = [_operand(ctx, node, i, scale) for i, scale in zip((0, 3), scales, strict=False)]
    if not any(isinstance(v, Value) for v in operands):
        raise Refusal("its inputs are constant", "a value computed from the graph's inputs")
    offset = 128.0 if scales[2][2] == "u8" else 0.0
    a, b = operands
    if kind == "add_broadcast_s8":
        if isinstance(a, Value) and isinstance(b, Value) and a.shape == b.shape:
            _plain_add(ctx, node, a, b, scales[2], offset)
            return
        if _repeats_along_rows(a, b):  # onnxruntime then exchanges them, and the order of its roundings
            a, b, scales = b, a, [scales[1], scales[0], scales[2]]
    constants = Constants(ctx, str(node.name or node.outputs[0].name), "i8", scales)
    result = broadcast(ctx, node, a, b, kind, constants, alpha=offset, **int8_ops.limits(scales[2]))
    result.dtype = scales[2][2]
    tensor = ctx.tensors[result.storage.tensor]
    tensor.scale, tensor.zero_point = scales[2][:2]
    ctx.values[node.outputs[0]] = result


def _plain_add(ctx: Context, node: ir.Node, a: Value, b: Value, y: int8_ops.Scale, offset: float) -> None:
    output = emit_add(ctx, node, a, b, "add_s8", int8_ops.limits(y))
    ctx.ops[-1].attrs["alpha"] = offset
    tensor = ctx.tensors[output]
    tensor.scale, tensor.zero_point = y[:2]


def _operand(ctx: Context, node: ir.Node, index: int, scale: int8_ops.Scale) -> Operand:
    """A computed value told its scale, or a constant's codes as int8, those of uint8 128 lower."""
    codes = ctx.constant(node.inputs[index])
    if codes is None:
        return int8_ops.coded(ctx, ctx.value(node, index), scale)
    return codes if codes.dtype == np.int8 else (codes.astype(np.int32) - 128).astype(np.int8)


OPERATORS: dict[str, Operator] = {
    "com.microsoft.QLinearAdd": operator(
        partial(binary, kind="add_broadcast_s8"), "add_s8", "add_broadcast_s8", "lut_s8"
    ),
    "com.microsoft.QLinearMul": operator(partial(binary, kind="mul_s8"), "mul_s8", "lut_s8"),
}
