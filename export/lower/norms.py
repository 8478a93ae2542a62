"""Lower normalizations: layer, group, instance and root-mean-square norms, all one op of the device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from ..errors import ONE_SAMPLE, Refusal
from ..graph.normalize import array_of
from .context import Context, Layer, no_limits
from .float_ops import axes_of, require_float
from .layout import Factor, Value, permute_array, significant
from .operator import Operator, operator

#: what `fuse_norms` puts in place of the nodes an exporter spelled a normalization out with
FUSED = "Normalization"
DOMAIN = "edgeprop"


@dataclass
class Place:
    """How a value lies for the op: (rows, size, groups, width), statistics over size and width.

    tensor : that holds the value in that order
    inner : the factors of `width`, or of groups and width, which scale and bias follow
    """

    tensor: str
    rows: int
    size: int
    groups: int
    channels: int
    inner: list[Factor]


def _sizes(factors: Iterable[Factor]) -> int:
    return prod(factor.size for factor in factors)


def _rows(ctx: Context, value: Value, kept: Sequence[int], over: Sequence[int]) -> Place:
    """A row for each element of the axes `kept`; the axes `over` in whatever order they have in memory."""
    first = significant(value.factors(kept))
    ctx.settle(value, value.factors([*kept, *over]))
    have = significant(value.storage.order.settled())
    if have[: len(first)] == first:
        tensor, inner = value.storage.tensor, have[len(first) :]
    else:
        inner = significant(value.factors(over))
        tensor = ctx.reordered(value, first + inner)
    return Place(tensor, _sizes(first), 1, 1, _sizes(inner), inner)


def _channels(ctx: Context, value: Value, kept: Sequence[int], over: Sequence[int]) -> Place:
    """Channels, the axes `kept`, behind the positions `over`, as images lie; other axes, as that of a batch, in front."""
    inner = significant(value.factors(kept))
    first = [axis for axis in range(len(value.dims)) if axis not in kept and axis not in over]
    tensor = ctx.ordered(value, [*first, *over, *kept])
    rows, channels = _sizes(value.factors(first)), _sizes(inner)
    return Place(tensor, rows, value.count // (rows * channels), channels, channels, inner)


def _anywhere(ctx: Context, value: Value, kept: Sequence[int], over: Sequence[int]) -> Place:
    """Where scale and bias are none yet: as the value lies, if the device can normalize it so."""
    ctx.settle(value, value.factors([*kept, *over]))
    wanted, have = significant(value.factors(kept)), significant(value.storage.order.settled())
    at = have.index(wanted[0]) if wanted else 0
    if at == 0 or have[at : at + len(wanted)] != wanted:
        return _rows(ctx, value, kept, over)
    groups, inner = _sizes(wanted), have[at:]
    return Place(value.storage.tensor, 1, _sizes(have[:at]), groups, _sizes(inner), inner)


def _emit(
    ctx: Context, node: ir.Node, value: Value, place: Place, arrays: Sequence[np.ndarray | None], **attrs: float
) -> None:
    """Emit the op with scale and bias (None: 1 and 0) in memory order; the result lies as its input does."""
    label = str(node.name or node.outputs[0].name)
    given = [str(v.name) for v in node.inputs[1:3] if v is not None]
    names = [given[i] if i < len(given) and a is not None else "" for i, a in enumerate(arrays)]
    data = [np.full(place.channels, 1.0 - i) if a is None else a for i, a in enumerate(arrays)]
    weights = [
        ctx.const(name or f"{label}.{what}", array, "f32")
        for name, what, array in zip(names, ("scale", "bias"), data, strict=True)
    ]
    output = ctx.activation(node.outputs[0].name, ctx.tensors[place.tensor].shape)
    sizes = {key: getattr(place, key) for key in ("rows", "size", "channels", "groups")}
    op = ctx.emit("group_norm_f32", node, [place.tensor, *weights], output, **sizes, **attrs, **no_limits())
    trained = weights if arrays[1] is not None else weights[:1]
    ctx.layers[output] = Layer(op, [label, *filter(None, names)], trained, place.channels)
    if place.tensor == value.storage.tensor:
        ctx.like(node.outputs[0], value, output)
    else:
        order = list(range(len(value.shape)))
        ctx.result(node.outputs[0], value.shape, _axes_in(ctx, value, place, order), output)


def _axes_in(ctx: Context, value: Value, place: Place, axes: Sequence[int]) -> list[int]:
    """The ONNX axes of a value that was transposed, in the order in which `place` has them."""
    inner = [axis for axis in axes if set(significant(value.dims[axis])) & set(place.inner)]
    return [axis for axis in axes if axis not in inner] + inner


def _start(ctx: Context, node: ir.Node) -> Value:
    value = ctx.value(node)
    require_float(value)
    if any(output.uses() for output in node.outputs[1:]):
        raise Refusal("its mean or variance is read", "a normalization with one output")
    return value


def _without_batch(ctx: Context, axes: Iterable[int]) -> None:
    if ctx.batched and 0 in axes:
        raise Refusal("it normalises over the batch axis", ONE_SAMPLE)


# ---- Operators -------------------------------------------------------------------------------------------------------


def layer_normalization(ctx: Context, node: ir.Node) -> None:
    """LayerNormalization, RMSNormalization and onnxruntime's SimplifiedLayerNormalization: over the last axes."""
    if any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
        raise Refusal("its mean or deviation is read", "its first output alone")
    value = _start(ctx, node)
    axis = node.attributes.get_int("axis", -1) % len(value.shape)
    over = list(range(axis, len(value.shape)))
    _without_batch(ctx, over)
    place = _rows(ctx, value, range(axis), over)
    given = [ctx.needed(node, 1, "scale")]
    given += [ctx.needed(node, 2, "bias")] if len(node.inputs) > 2 and node.inputs[2] is not None else []
    shape = value.shape[axis:]
    try:
        full = [np.broadcast_to(array, shape) for array in given]
    except ValueError as error:
        raise Refusal(f"its scale or bias does not broadcast to {shape}", f"scale and bias of {shape}") from error
    dims = value.dims[axis:]
    arrays: list[np.ndarray | None] = [permute_array(np.ascontiguousarray(a), dims, place.inner) for a in full]
    center = int(node.op_type == "LayerNormalization")
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    _emit(ctx, node, value, place, [*arrays, None][:2], center=center, epsilon=epsilon)


def group_normalization(ctx: Context, node: ir.Node) -> None:
    """GroupNormalization: scale and bias per group (opset 18) or per channel (21)."""
    value = _start(ctx, node)
    groups, channels = node.attributes.get_int("num_groups", 0), value.shape[1] if len(value.shape) > 1 else 0
    if groups < 1 or channels % groups:
        raise Refusal(f"{channels} channels are no multiple of {groups} groups", "groups that divide the channels")
    arrays = [ctx.needed(node, i, what).reshape(-1) for i, what in ((1, "scale"), (2, "bias"))]
    if any(array.size not in (groups, channels) for array in arrays):
        raise Refusal("its scale or bias fits neither groups nor channels", "one of each channel")
    place = _channels(ctx, value, [1], range(2, len(value.shape)))
    place.groups = groups
    full = [np.repeat(array, channels // array.size) for array in arrays]
    ordered = [permute_array(array, value.dims[1:2], place.inner) for array in full]
    _emit(ctx, node, value, place, ordered, center=1, epsilon=node.attributes.get_float("epsilon", 1e-5))


def instance_normalization(ctx: Context, node: ir.Node) -> None:
    """InstanceNormalization; also as PyTorch writes a GroupNorm, with groups for channels and neither scale nor bias."""
    value = _start(ctx, node)
    if len(value.shape) < 3:
        raise Refusal(f"its input has {len(value.shape)} axes", "an input of shape (N, C, ...)")
    scale, bias = (ctx.needed(node, i, what).reshape(-1) for i, what in ((1, "scale"), (2, "bias")))
    attrs = {"center": 1, "epsilon": node.attributes.get_float("epsilon", 1e-5)}
    over = list(range(2, len(value.shape)))
    if np.all(scale == 1) and np.all(bias == 0) and value.storage.order.factors is not None:
        _emit(ctx, node, value, _anywhere(ctx, value, [0, 1], over), (None, None), **attrs)
        return
    place = _channels(ctx, value, [1], over)
    arrays = [permute_array(array, value.dims[1:2], place.inner) for array in (scale, bias)]
    _emit(ctx, node, value, place, arrays, **attrs)


def mean_variance_normalization(ctx: Context, node: ir.Node) -> None:
    """MeanVarianceNormalization, without epsilon as in onnxruntime; and what `fuse_norms` made."""
    value = _start(ctx, node)
    rank = len(value.shape)
    axes = axes_of(ctx, node, rank, len(node.inputs)) or [0, 2, 3]
    _without_batch(ctx, axes)
    kept = [axis for axis in range(rank) if axis not in axes]
    attrs = {"center": node.attributes.get_int("center", 1), "epsilon": node.attributes.get_float("epsilon", 0.0)}
    _emit(ctx, node, value, _anywhere(ctx, value, kept, axes), (None, None), **attrs)


def lp_normalization(ctx: Context, node: ir.Node) -> None:
    """LpNormalization with p = 2: the root of the mean square, times the root of the count."""
    value = _start(ctx, node)
    if node.attributes.get_int("p", 2) != 2:
        raise Refusal("its p is 1", "p = 2")
    axis = node.attributes.get_int("axis", -1) % len(value.shape)
    _without_batch(ctx, [axis])
    place = _rows(ctx, value, [i for i in range(len(value.shape)) if i != axis], [axis])
    scale = np.full(place.channels, place.channels**-0.5)
    _emit(ctx, node, value, place, (scale, None), center=0, epsilon=0.0)
    ctx.layers.pop(ctx.ops[-1].outputs[0])  # it has no weights of its own


# ---- Spelled out -----------------------------------------------------------------------------------------------------


def fuse_norms(graph: ir.Graph) -> None:
    """Put one node in place of ReduceMean, Sub, Pow or Mul, ReduceMean, Add, Sqrt, Div (or Reciprocal and Mul).

    The scale and the bias behind them fold into the op like any constant factor. Without the first mean it is the
    root of the mean square.
    """
    for node in list(graph):
        found = _spelled_out(node)
        if found is None:
            continue
        x, axes, epsilon, center = found
        attributes: dict[str, list[int] | float] = {"axes": axes, "epsilon": epsilon, "center": center}
        fused = ir.node(FUSED, [x], attributes, domain=DOMAIN, name=node.name)
        output = fused.outputs[0]
        output.name, output.type, output.shape = node.outputs[0].name, node.outputs[0].type, node.outputs[0].shape
        graph.insert_before(node, fused)
        node.outputs[0].replace_all_uses_with(output, replace_graph_outputs=True)
        graph.remove(node, safe=True)


def _producer(value: ir.Value | None, *kinds: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in kinds and node.domain in ("", "ai.onnx") else None


def _spelled_out(node: ir.Node) -> tuple[ir.Value, list[int], float, int] | None:
    """x, axes, epsilon and whether the mean is taken off, where `node` ends a normalization."""
    pair = _numerator(node)
    root = _producer(pair[1], "Sqrt") if pair else None
    add = _producer(root.inputs[0], "Add") if root else None
    if pair is None or add is None:
        return None
    constants = [array_of(v) for v in add.inputs]
    if sum(array is not None and array.size == 1 for array in constants) != 1:
        return None
    at = 0 if constants[0] is not None else 1
    mean = _producer(add.inputs[1 - at], "ReduceMean")
    axes = _mean_axes(mean)
    if mean is None or axes is None or not _is_square(_producer(mean.inputs[0], "Pow", "Mul"), pair[0]):
        return None
    epsilon = float(np.ravel(constants[at])[0])  # type: ignore[arg-type]
    x = pair[0]
    sub = _producer(x, "Sub")
    off = _producer(sub.inputs[1], "ReduceMean") if sub else None
    if sub is not None and off is not None and off.inputs[0] is sub.inputs[0] and _mean_axes(off) == axes:
        return sub.inputs[0], axes, epsilon, 1  # type: ignore[return-value]
    return x, axes, epsilon, 0


def _numerator(node: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    """a and b of a / b, also as a * (1 / b)."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in ("Div", "Mul") or None in node.inputs:
        return None
    a, b = node.inputs
    if node.op_type == "Div":
        return a, b  # type: ignore[return-value]
    for left, right in ((a, b), (b, a)):
        inverse = _producer(right, "Reciprocal", "Div")
        if inverse is not None and inverse.op_type == "Reciprocal":
            return left, inverse.inputs[0]  # type: ignore[return-value]
        if inverse is not None and (one := array_of(inverse.inputs[0])) is not None and np.all(one == 1):
            return left, inverse.inputs[1]  # type: ignore[return-value]
    return None


def _is_square(node: ir.Node | None, of: ir.Value) -> bool:
    if node is None or node.inputs[0] is not of:
        return False
    exponent = array_of(node.inputs[1])
    return node.inputs[1] is of if node.op_type == "Mul" else exponent is not None and bool(np.all(exponent == 2))


def _mean_axes(node: ir.Node | None) -> list[int] | None:
    """Axes of a ReduceMean that keeps them; as they are written, but none negative."""
    if node is None or not node.attributes.get_int("keepdims", 1) or node.inputs[0].shape is None:  # type: ignore[union-attr]
        return None
    given = node.attributes.get_ints("axes", None)
    array = array_of(node.inputs[1]) if given is None and len(node.inputs) > 1 else given
    rank = len(node.inputs[0].shape)  # type: ignore[union-attr]
    return None if array is None else sorted(int(axis) % rank for axis in np.ravel(array))


OPERATORS: dict[str, Operator] = {
    "GroupNormalization": operator(group_normalization, "group_norm_f32"),
    "InstanceNormalization": operator(instance_normalization, "group_norm_f32"),
    "LayerNormalization": operator(layer_normalization, "group_norm_f32"),
    "LpNormalization": operator(lp_normalization, "group_norm_f32"),
    "MeanVarianceNormalization": operator(mean_variance_normalization, "group_norm_f32"),
    "RMSNormalization": operator(layer_normalization, "group_norm_f32"),
    "SimplifiedLayerNormalization": operator(layer_normalization, "group_norm_f32"),
    f"{DOMAIN}.{FUSED}": operator(mean_variance_normalization, "group_norm_f32"),
}
