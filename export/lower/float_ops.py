"""Lower float32 layers, pools and activations, one function each."""

from __future__ import annotations

from math import inf, prod

import numpy as np
import onnx_ir as ir

from ..errors import ONE_SAMPLE, Refusal
from ..program.program import Op
from ..program.traits import TRAITS
from .context import Context, Layer, no_limits
from .layout import Factor, Value, permute_array, significant
from .windows import Window, spatial_axes, window

#: ops whose weights can take up a scale and an offset behind them
_FOLDABLE = {"conv2d_f32", "depthwise_conv2d_f32", "dense_f32", "affine_f32", "conv_transpose2d_f32", "group_norm_f32"}
#: how far, in units of their spread, values may be moved in one op with their scale: (x - mean) / scale keeps the digits that
#: x / scale - mean / scale loses
_NEAR = 64.0


def require_float(*values: Value) -> None:
    """Refuse an integer operand of a float operator."""
    if any(value.dtype != "f32" for value in values):
        raise Refusal("it works on integers", "float32, or a QuantizeLinear/DequantizeLinear group around it")


# ---- Conv, Gemm, MatMul ----------------------------------------------------------------------------------------------


def convolution_kind(groups: int, in_c: int) -> str:
    """`depthwise_conv2d` where every group is one channel, else `conv2d`."""
    return "depthwise_conv2d" if groups == in_c and groups > 1 else "conv2d"


def convolution_weight(weight: np.ndarray, kind: str) -> np.ndarray:
    """ONNX weights (out_c, in_c/groups, kh, kw) in device layout; a missing kh is 1."""
    if weight.ndim == 3:
        weight = weight[:, :, None, :]
    if kind == "depthwise_conv2d":
        return np.transpose(weight[:, 0], (1, 2, 0))
    return np.transpose(weight, (0, 2, 3, 1))


def convolution_shape(node: ir.Node, value: Value, weight: np.ndarray) -> tuple[Window, str, dict[str, int]]:
    """Geometry, kind and attributes of a convolution. Raises Refusal where the shapes do not fit."""
    spatial_axes(value)
    groups = node.attributes.get_int("group", 1)
    in_c, out_c = value.shape[1], weight.shape[0]
    if weight.ndim != len(value.shape) or weight.shape[1] * groups != in_c or out_c % groups:
        raise Refusal(f"weights {weight.shape} do not fit input {value.shape}", "weights (out_c, in_c/groups, kh, kw)")
    geometry = window(node, value, weight.shape[2:])
    attrs = {**geometry.attrs(), "in_c": in_c, "out_c": out_c, "groups": groups}
    return geometry, convolution_kind(groups, in_c), attrs


def conv(ctx: Context, node: ir.Node) -> None:
    """Conv, 1-D or 2-D, any groups."""
    value = ctx.value(node)
    require_float(value)
    weight = ctx.needed(node, 1, "weight")
    geometry, kind, attrs = convolution_shape(node, value, weight)
    bias = ctx.needed(node, 2, "bias") if len(node.inputs) > 2 and node.inputs[2] is not None else None
    source = ctx.ordered(value, spatial_axes(value))
    device_weight = convolution_weight(weight, kind)
    weighted(
        ctx, node, f"{kind}_f32", source, device_weight, bias, (geometry.out_h, geometry.out_w, len(weight)), attrs
    )
    output = ctx.ops[-1].outputs[0]
    shape = (1, len(weight), *geometry.spatial)
    ctx.result(node.outputs[0], shape, spatial_axes(value), output)


def weighted(
    ctx: Context,
    node: ir.Node,
    kind: str,
    source: str,
    weight: np.ndarray,
    bias: np.ndarray | None,
    shape: tuple[int, ...],
    attrs: dict[str, int],
) -> Op:
    """Emit a conv or dense op with its weights, and note the layer."""
    channels = shape[-1]
    names = [str(node.name), str(node.inputs[1].name)]  # type: ignore[union-attr]
    weights = [ctx.const(names[1], weight, "f32")]
    if bias is None:
        bias_name = ctx.const(f"{names[0] or names[1]}.bias", np.zeros(channels), "f32")
    else:
        names.append(str(node.inputs[2].name))  # type: ignore[union-attr]
        bias_name = ctx.const(names[-1], np.broadcast_to(bias.reshape(-1), (channels,)), "f32")
        weights.append(bias_name)
    output = ctx.activation(node.outputs[0].name, shape)
    op = ctx.emit(kind, node, [source, weights[0], bias_name], output, **attrs, **no_limits())
    ctx.layers[output] = Layer(op, names, weights, channels)
    return op


def dense_weight(ctx: Context, value: Value, weight: np.ndarray) -> tuple[str, np.ndarray, int]:
    """Tensor to read, weights (n_out, n_in) with columns in its memory order, rows. `weight` is (n_in, n_out)."""
    if weight.ndim != 2 or weight.shape[0] != value.shape[-1]:
        raise Refusal(f"weights {weight.shape} do not fit input {value.shape}", "a constant matrix (n_in, n_out)")
    source, last, order = ctx.columns(value)
    return source, permute_columns(weight.T, last, order), value.count // value.shape[-1]


def permute_columns(weight: np.ndarray, last: list[list[Factor]], order: list[Factor]) -> np.ndarray:
    """Weights (n_out, n_in) with the columns moved from ONNX order to memory order."""
    index = permute_array(np.arange(weight.shape[1]), last, order)
    return np.ascontiguousarray(weight[:, index])


def _dense(ctx: Context, node: ir.Node, weight: np.ndarray, bias: np.ndarray | None) -> None:
    value = ctx.value(node)
    require_float(value)
    source, columns, rows = dense_weight(ctx, value, weight)
    n_out, n_in = columns.shape
    shape = (n_out,) if rows == 1 else (rows, n_out)
    op = weighted(ctx, node, "dense_f32", source, columns, bias, shape, {"n_in": n_in, "n_out": n_out, "rows": rows})
    full = (*value.shape[:-1], n_out)
    ctx.result(node.outputs[0], full, range(len(full)), op.outputs[0])


def gemm_operands(ctx: Context, node: ir.Node) -> tuple[np.ndarray, np.ndarray | None]:
    """Weights (n_in, n_out) and bias (n_out) of a Gemm, with transB, alpha and beta applied."""
    get = node.attributes
    if get.get_int("transA", 0):
        raise Refusal("it transposes its input (transA)", "transA = 0")
    weight = ctx.needed(node, 1, "weight")
    weight = weight.T if get.get_int("transB", 0) else weight
    alpha, beta = np.float32(get.get_float("alpha", 1.0)), np.float32(get.get_float("beta", 1.0))
    weight = weight if alpha == 1 else weight * alpha
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return weight, None
    bias = ctx.needed(node, 2, "bias")
    if bias.size not in (1, weight.shape[1]) or (bias.ndim > 1 and bias.shape[-1] != bias.size):
        raise Refusal(f"its bias {bias.shape} differs from row to row", "a bias of shape (n_out,)")
    return weight, (bias if beta == 1 else bias * beta)


def gemm(ctx: Context, node: ir.Node) -> None:
    """Gemm with constant weights."""
    _dense(ctx, node, *gemm_operands(ctx, node))


def matmul(ctx: Context, node: ir.Node) -> None:
    """MatMul with a constant matrix on the right; an Add behind it becomes its bias."""
    _dense(ctx, node, ctx.needed(node, 1, "right operand"), None)


# ---- Scale and offset: BatchNormalization, Add, Sub, Mul, Div with a constant ----------------------------------------


def batch_normalization(ctx: Context, node: ir.Node) -> None:
    """BatchNormalization as a scale and an offset, folded into the layer before it where there is one."""
    if len([o for o in node.outputs if o.uses()]) > 1:
        raise Refusal("its statistics are read", "export in evaluation mode (model.eval())")
    scale, shift, mean, var = (ctx.needed(node, i, "statistics").astype(np.float64) for i in range(1, 5))
    factor = scale / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
    value = ctx.value(node)
    shape = (1, -1) + (1,) * (len(value.shape) - 2)
    affine(ctx, node, value, factor.reshape(shape), (shift - mean * factor).reshape(shape))


def add(ctx: Context, node: ir.Node) -> None:
    """Add of a constant."""
    left, right = (ctx.constant(value) for value in node.inputs)
    if right is not None:
        affine(ctx, node, ctx.value(node), np.ones(()), right)
    elif left is not None:
        affine(ctx, node, ctx.value(node, 1), np.ones(()), left, 1)


def sub(ctx: Context, node: ir.Node) -> None:
    """Sub with a constant on one side."""
    left, right = (ctx.constant(value) for value in node.inputs)
    if right is not None:
        affine(ctx, node, ctx.value(node), np.ones(()), -right)
    elif left is not None:
        affine(ctx, node, ctx.value(node, 1), -np.ones(()), left, 1)


def mul(ctx: Context, node: ir.Node) -> None:
    """Mul by a constant."""
    left, right = (ctx.constant(value) for value in node.inputs)
    if right is not None:
        affine(ctx, node, ctx.value(node), right, np.zeros(()))
    elif left is not None:
        affine(ctx, node, ctx.value(node, 1), left, np.zeros(()), 1)


def div(ctx: Context, node: ir.Node) -> None:
    """Div by a constant."""
    divisor = ctx.needed(node, 1, "divisor").astype(np.float64)
    affine(ctx, node, ctx.value(node), 1 / divisor, np.zeros(()))


def same_rank(a: Value, b: Value) -> tuple[Value, Value]:
    """Two values of one shape, with leading axes of size 1 added to the shorter. Raises Refusal on broadcasting."""
    rank = max(len(a.shape), len(b.shape))
    padded = [
        v.view([[Factor(1)] for _ in range(rank - len(v.shape))] + v.dims, v.exclusive) if len(v.shape) < rank else v
        for v in (a, b)
    ]
    if padded[0].shape != padded[1].shape:
        raise Refusal(
            f"its operands {a.shape} and {b.shape} differ in shape", "operands of one shape, or a constant one"
        )
    return padded[0], padded[1]


def emit_add(ctx: Context, node: ir.Node, a: Value, b: Value, kind: str, limits: dict[str, float]) -> str:
    """Emit an add of two values of one shape, in the memory order of one of them."""
    a, b = same_rank(a, b)
    first, second = ctx.match(a, b)
    dtype = "f32" if kind.endswith("f32") else "i8"
    output = ctx.activation(node.outputs[0].name, ctx.tensors[first].shape, dtype)
    ctx.emit(kind, node, [first, second], output, count=a.count, alpha=0.0, **limits)
    if ctx.tensors[first] is ctx.tensors[a.storage.tensor]:
        ctx.like(node.outputs[0], a, output, a.dtype)
    else:
        ctx.result(node.outputs[0], a.shape, range(len(a.shape)), output, a.dtype)
    return output


def suffix(sizes: list[int], least: int) -> int:
    """Smallest product of trailing sizes that is at least `least`."""
    return next((prod(sizes[at:]) for at in range(len(sizes), -1, -1) if prod(sizes[at:]) >= least), prod(sizes))


def smallest_period(flat: np.ndarray, sizes: list[int]) -> int:
    """Fewest trailing elements, at a border of axes, of which `flat` is a repetition."""
    for at in range(len(sizes), -1, -1):
        period = prod(sizes[at:])
        rows = flat.reshape(-1, period)
        if np.array_equal(rows, np.broadcast_to(rows[:1], rows.shape)):
            return period
    return flat.size


def affine(ctx: Context, node: ir.Node, value: Value, scale: np.ndarray, offset: np.ndarray, index: int = 0) -> None:
    """y = x * scale + offset with constants that broadcast to x: folded into x's layer, else an affine_f32.

    index : which input of the node x is
    """
    require_float(value)
    try:
        if np.broadcast_shapes(value.shape, scale.shape, offset.shape) != value.shape:
            rank = max(scale.ndim, offset.ndim) - len(value.shape)
            value = value.view([[Factor(1)] for _ in range(rank)] + value.dims, value.exclusive)
        if scale.size == offset.size == 1:  # needs no memory order, so leaves an open one open
            _scale_and_shift(ctx, node, value, [a.astype(np.float64).reshape(1) for a in (scale, offset)], index)
            return
        ctx.settle_for(value, max((scale, offset), key=np.size).shape)
        flats = [ctx.in_order(value, value.shape, a.astype(np.float64)) for a in (scale, offset)]
    except ValueError as error:
        raise Refusal(f"its constant does not broadcast to {value.shape}", "a constant per channel") from error
    sizes = [factor.size for factor in significant(value.storage.order.settled())]
    natural = max(scale.size, offset.size)  # a BatchNorm whose statistics happen to be equal still has channels
    period = max([smallest_period(flat, sizes) for flat in flats] + [suffix(sizes, natural)])
    _scale_and_shift(ctx, node, value, [flat[:period] for flat in flats], index)


def _scale_and_shift(ctx: Context, node: ir.Node, value: Value, flats: list[np.ndarray], index: int) -> None:
    """`affine` with constants in memory order, of which the value's last elements hold a whole number."""
    if not (ctx.is_exclusive(node, index) and _fold(ctx, node, value, flats)):
        _emit_affine(ctx, node, value, flats)


def _constant_names(ctx: Context, node: ir.Node) -> list[str]:
    return [str(node.name)] + [str(v.name) for v in node.inputs if v is not None and ctx.constant(v) is not None]


def _fold(ctx: Context, node: ir.Node, value: Value, flats: list[np.ndarray]) -> bool:
    """Fold a scale and an offset into the layer that wrote the value. False where there is none to take them."""
    layer = ctx.layers.get(value.storage.tensor)
    names = _constant_names(ctx, node)
    if layer is None or layer.op.kind not in _FOLDABLE or layer.channels % flats[0].size:
        return False
    if layer.op.attrs["lo"] != -inf or layer.op.attrs["hi"] != inf:
        return False
    if layer.op.kind == "conv_transpose2d_f32" and layer.op.attrs["groups"] != 1:
        return False  # the last axis of its weights is not all of the output's channels
    if ctx.marks(names) and not ctx.marks(layer.names) and np.any(flats[0] != 1):
        return False  # a BatchNorm that trains behind a layer that does not
    scale, offset = (np.tile(flat, layer.channels // flat.size) for flat in flats)
    weight, bias = (ctx.tensors[name] for name in layer.op.inputs[1:])
    assert weight.data is not None
    assert bias.data is not None
    if layer.op.kind == "affine_f32" and np.all(weight.data == 1) and np.abs(bias.data * scale).max(initial=0) > _NEAR:
        return False
    along = (slice(None),) + (None,) * (weight.data.ndim - 1)
    by_row = layer.op.kind in ("conv2d_f32", "dense_f32")
    has_bias = bias.name in layer.weights or node.op_type not in ("Mul", "Div")
    new_weight = weight.data if np.all(scale == 1) else weight.data * (scale[along] if by_row else scale)
    new_bias = bias.data * scale + offset
    bias_name = bias.name if bias.name in layer.weights or len(names) != 2 else names[1]
    _replace(ctx, layer, 1, weight.name, new_weight)
    _replace(ctx, layer, 2, bias_name, new_bias)
    layer.names += names
    layer.weights = layer.op.inputs[1 : 3 if has_bias else 2]
    ctx.values[node.outputs[0]] = value
    ctx.rename(value.storage, str(node.outputs[0].name))
    return True


def _replace(ctx: Context, layer: Layer, index: int, name: str, array: np.ndarray) -> None:
    """Give a layer other weights; the old tensor goes unless another op reads it."""
    old = layer.op.inputs[index]
    layer.op.inputs[index] = ""
    if not any(old in op.inputs for op in ctx.ops):
        del ctx.tensors[old]
    layer.op.inputs[index] = ctx.const(name, array, "f32")


def _emit_affine(ctx: Context, node: ir.Node, value: Value, flats: list[np.ndarray]) -> None:
    names = _constant_names(ctx, node)
    source = value.storage.tensor
    channels = flats[0].size
    label = names[0] or str(node.outputs[0].name)
    weights = [ctx.const(f"{label}.{what}", flat, "f32") for what, flat in zip(("scale", "offset"), flats, strict=True)]
    output = ctx.activation(node.outputs[0].name, ctx.tensors[source].shape)
    rows = value.count // channels
    op = ctx.emit("affine_f32", node, [source, *weights], output, rows=rows, channels=channels, **no_limits())
    ctx.layers[output] = Layer(op, names, weights, channels)
    ctx.like(node.outputs[0], value, output)


# ---- Activations -----------------------------------------------------------------------------------------------------


def relu(ctx: Context, node: ir.Node) -> None:
    """Relu, fused into the op before it where it is the only reader."""
    clamp(ctx, node, 0.0, inf)


def clip(ctx: Context, node: ir.Node) -> None:
    """Clip with constant bounds."""
    bounds = [node.attributes.get_float("min", -inf), node.attributes.get_float("max", inf)]
    for i in (1, 2):
        if len(node.inputs) > i and node.inputs[i] is not None:
            bounds[i - 1] = float(ctx.needed(node, i, "bound"))
    clamp(ctx, node, *bounds)


def clamp(ctx: Context, node: ir.Node, lo: float, hi: float) -> None:
    """min(max(x, lo), hi)."""
    lo = min(lo, hi)
    value = ctx.value(node)
    require_float(value)
    op = ctx.producer(value.storage.tensor)
    if op is not None and TRAITS[op.kind].clamps and ctx.is_exclusive(node):
        op.attrs["lo"] = min(max(op.attrs["lo"], lo), hi)
        op.attrs["hi"] = min(max(op.attrs["hi"], lo), hi)
        ctx.values[node.outputs[0]] = value
        ctx.rename(value.storage, str(node.outputs[0].name))
        return
    _unary(ctx, node, "clip_f32", lo=lo, hi=hi)


def _unary(ctx: Context, node: ir.Node, kind: str, **attrs: float) -> None:
    value = ctx.value(node)
    require_float(value)
    source = value.storage.tensor
    output = ctx.activation(node.outputs[0].name, ctx.tensors[source].shape)
    ctx.emit(kind, node, [source], output, **{"count": value.count, "alpha": 0.0, **no_limits(), **attrs})
    ctx.like(node.outputs[0], value, output)


def leaky_relu(ctx: Context, node: ir.Node) -> None:
    """LeakyRelu."""
    _unary(ctx, node, "leaky_relu_f32", alpha=node.attributes.get_float("alpha", 0.01))


def sigmoid(ctx: Context, node: ir.Node) -> None:
    """Sigmoid."""
    _unary(ctx, node, "sigmoid_f32")


def tanh(ctx: Context, node: ir.Node) -> None:
    """Tanh."""
    _unary(ctx, node, "tanh_f32")


def softmax_axes(ctx: Context, node: ir.Node, value: Value, opset: int) -> tuple[list[int], list[int]]:
    """Axes a Softmax leaves alone, and those it normalises over."""
    rank = len(value.shape)
    axis = node.attributes.get_int("axis", 1 if opset < 13 else -1) % rank
    over = list(range(axis, rank)) if opset < 13 else [axis]
    if ctx.batched and 0 in over and rank > 1:
        raise Refusal("it normalises over the batch axis", ONE_SAMPLE)
    return [i for i in range(rank) if i not in over], over


def softmax(ctx: Context, node: ir.Node) -> None:
    """Softmax over one axis (opset 13), or over all from one on (before)."""
    value = ctx.value(node)
    require_float(value)
    kept, over = softmax_axes(ctx, node, value, ctx.opset)
    source = ctx.ordered(value, kept + over)
    output = ctx.activation(node.outputs[0].name, ctx.tensors[source].shape)
    channels = prod(value.shape[i] for i in over)
    ctx.emit("softmax_f32", node, [source], output, rows=value.count // channels, channels=channels)
    ctx.result(node.outputs[0], value.shape, kept + over, output)


# ---- Pools -----------------------------------------------------------------------------------------------------------


def pool_attrs(node: ir.Node, value: Value) -> tuple[Window, dict[str, int]]:
    """Geometry and attributes of MaxPool or AveragePool."""
    if len(node.outputs) > 1 and node.outputs[1].uses():
        raise Refusal("its second output (indices) is read", "MaxPool with one output")
    geometry = window(node, value, node.attributes.get_ints("kernel_shape") or [])
    extra = {"channels": value.shape[1], "pad_bottom": geometry.pad_bottom, "pad_right": geometry.pad_right}
    return geometry, {
        **geometry.attrs(),
        **extra,
        "count_include_pad": node.attributes.get_int("count_include_pad", 0),
    }


def pool(ctx: Context, node: ir.Node, kind: str, dtype: str = "f32", scale: float = 0.0, zero_point: int = 0) -> None:
    """Emit a pool over the spatial axes."""
    value = ctx.value(node)
    axes = spatial_axes(value)
    geometry, attrs = pool_attrs(node, value)
    source = ctx.ordered(value, axes)
    shape = (geometry.out_h, geometry.out_w, value.shape[1])
    output = ctx.activation(node.outputs[0].name, shape, dtype, scale, zero_point)
    ctx.emit(kind, node, [source], output, **attrs)
    ctx.result(node.outputs[0], (1, value.shape[1], *geometry.spatial), axes, output, value.dtype)


def max_pool(ctx: Context, node: ir.Node) -> None:
    """MaxPool of float32, or of codes."""
    value = ctx.value(node)
    if value.dtype == "f32":
        pool(ctx, node, "max_pool2d_f32")
        return
    if value.dtype == "i32":
        raise Refusal("it works on 32-bit integers", "float32, int8 or uint8")
    source = ctx.tensors[value.storage.tensor]
    pool(ctx, node, "max_pool2d_s8", "i8", source.scale, source.zero_point)


def average_pool(ctx: Context, node: ir.Node) -> None:
    """AveragePool of float32."""
    require_float(ctx.value(node))
    pool(ctx, node, "average_pool2d_f32")


def global_average_pool(ctx: Context, node: ir.Node) -> None:
    """GlobalAveragePool."""
    value = ctx.value(node)
    require_float(value)
    _mean(ctx, node, value, list(range(2, len(value.shape))), keepdims=True)


def axes_of(ctx: Context, node: ir.Node, rank: int, index: int = 1) -> list[int] | None:
    """Axes given as an attribute (older opsets) or an input, none negative; None where not given."""
    given = node.attributes.get_ints("axes", None)
    if given is None and len(node.inputs) > index and node.inputs[index] is not None:
        given = [int(i) for i in ctx.needed(node, index, "axes").ravel()]
    return None if given is None else sorted(int(axis) % rank for axis in given)


def reduce_mean(ctx: Context, node: ir.Node) -> None:
    """ReduceMean over axes other than the batch, as an average pool."""
    value = ctx.value(node)
    require_float(value)
    axes = axes_of(ctx, node, len(value.shape))
    if not axes:
        if node.attributes.get_int("noop_with_empty_axes", 0):
            raise Refusal("it has no axes", "ReduceMean with axes")
        axes = list(range(len(value.shape)))
    if ctx.batched and 0 in axes:
        raise Refusal("it averages over the batch axis", ONE_SAMPLE)
    _mean(ctx, node, value, axes, bool(node.attributes.get_int("keepdims", 1)))


def _mean(ctx: Context, node: ir.Node, value: Value, axes: list[int], keepdims: bool) -> None:
    """Average over `axes`: a pool whose kernel is the whole image that they make."""
    kept = [axis for axis in range(len(value.shape)) if axis not in axes]
    source = ctx.ordered(value, axes + kept)
    height = value.shape[axes[0]]
    width = prod(value.shape[axis] for axis in axes[1:])
    channels = prod(value.shape[axis] for axis in kept)
    output = ctx.activation(node.outputs[0].name, (1, 1, channels) if keepdims else (channels,))
    ctx.emit("average_pool2d_f32", node, [source], output, **whole_window(height, width, channels))
    if keepdims:
        shape = [1 if axis in axes else size for axis, size in enumerate(value.shape)]
        ctx.result(node.outputs[0], shape, range(len(shape)), output)
    else:
        ctx.result(node.outputs[0], [value.shape[axis] for axis in kept], range(len(kept)), output)


def whole_window(height: int, width: int, channels: int) -> dict[str, int]:
    """Attributes of a pool whose one window is the whole image."""
    ones = dict.fromkeys(["out_h", "out_w", "stride_h", "stride_w", "dilation_h", "dilation_w"], 1)
    zeros = dict.fromkeys(["pad_top", "pad_left", "count_include_pad", "pad_bottom", "pad_right"], 0)
    sizes = {"in_h": height, "in_w": width, "channels": channels, "kernel_h": height, "kernel_w": width}
    return {**sizes, **ones, **zeros}
