"""Lower Transpose, Reshape and their like, which only rename axes and cost nothing on the device by themselves."""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from ..errors import ONE_SAMPLE, Refusal
from .context import Context
from .float_ops import axes_of
from .layout import Factor, Value
from .operator import Operator, operator


def moved(ctx: Context, node: ir.Node, value: Value) -> Value:
    """What a node of this file makes of a value."""
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    before = ctx.values.get(source)
    ctx.values[source] = value
    MOVES[node.op_type](ctx, node)
    if before is None:
        del ctx.values[source]
    else:
        ctx.values[source] = before
    return ctx.values.pop(output)


def identity(ctx: Context, node: ir.Node) -> None:
    """Identity, and Dropout in inference."""
    if node.op_type == "Dropout" and len(node.inputs) > 2 and np.any(ctx.constant(node.inputs[2])):
        raise Refusal("it drops values (training_mode)", "Dropout in inference")
    if len([output for output in node.outputs[1:] if output.uses()]):
        raise Refusal("its mask is read", "Dropout with one output")
    value = ctx.value(node)
    ctx.alias(node, value.dims)


def transpose(ctx: Context, node: ir.Node) -> None:
    """Transpose: the axes change places, the elements do not."""
    value = ctx.value(node)
    rank = len(value.shape)
    perm = node.attributes.get_ints("perm") or list(range(rank))[::-1]
    moves = perm[0] != 0 and rank > 1 and ctx.batch.isdisjoint(value.dims[perm[0]])
    if ctx.batched and value.shape[0] == 1 and node.outputs[0].is_graph_output() and moves:
        raise Refusal("it moves the batch axis of an output", "perm that begins with 0")
    ctx.alias(node, [value.dims[axis] for axis in perm])


def reshape(ctx: Context, node: ir.Node) -> None:
    """Reshape to a constant shape."""
    value = ctx.value(node)
    target = [int(size) for size in ctx.needed(node, 1, "shape").ravel()]
    if not node.attributes.get_int("allowzero", 0):
        target = [value.shape[axis] if size == 0 else size for axis, size in enumerate(target)]
    if -1 in target:
        known = prod(size for size in target if size != -1)
        target[target.index(-1)] = value.count // max(known, 1)
    if prod(target) != value.count:
        raise Refusal(f"it makes {target} of {list(value.shape)}", "a shape with as many elements in every sample")
    ctx.reshape(node, target)


def flatten(ctx: Context, node: ir.Node) -> None:
    """Flatten."""
    value = ctx.value(node)
    rank = len(value.shape)
    axis = node.attributes.get_int("axis", 1)
    axis = axis + rank if axis < 0 else axis
    ctx.alias(node, [_joined(value.dims[:axis]), _joined(value.dims[axis:])])


def _joined(axes: list[list[Factor]]) -> list[Factor]:
    return [factor for axis in axes for factor in axis] or [Factor(1)]


def squeeze(ctx: Context, node: ir.Node) -> None:
    """Squeeze."""
    value = ctx.value(node)
    axes = axes_of(ctx, node, len(value.shape))
    if axes is None:
        axes = [axis for axis, size in enumerate(value.shape) if size == 1 and not (ctx.batched and axis == 0)]
    if ctx.batched and 0 in axes:
        raise Refusal("it removes the batch axis", ONE_SAMPLE)
    ctx.alias(node, [dim for axis, dim in enumerate(value.dims) if axis not in axes])


def unsqueeze(ctx: Context, node: ir.Node) -> None:
    """Unsqueeze."""
    value = ctx.value(node)
    given = node.attributes.get_ints("axes", None)
    count = len(given) if given is not None else ctx.needed(node, 1, "axes").size
    rank = len(value.shape) + count
    axes = axes_of(ctx, node, rank) or []
    rest = iter(value.dims)
    ctx.alias(node, [[Factor(1)] if axis in axes else next(rest) for axis in range(rank)])


#: operator -> the function that lowers it
MOVES: dict[str, Operator] = {
    "Dropout": operator(identity),
    "Flatten": operator(flatten),
    "Identity": operator(identity),
    "Reshape": operator(reshape),
    "Squeeze": operator(squeeze),
    "Transpose": operator(transpose),
    "Unsqueeze": operator(unsqueeze),
}
