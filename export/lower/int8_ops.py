"""Lower integer operators, as onnxruntime fuses them: QLinearConv, QGemm, QLinearAdd, ... one function each.

Codes are int8 on the device. uint8 codes of the graph lie there 128 lower, with their zero points; what every kernel
computes is the same but for Add (docs/arithmetic.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from math import inf, prod

import numpy as np
import onnx_ir as ir

from ..errors import Refusal
from ..graph import reference
from ..graph.islands import HIGHEST, LOWEST
from .context import Context, no_limits, proto_of
from .float_ops import convolution_shape, convolution_weight, dense_weight, permute_columns, pool_attrs, softmax_axes
from .fusion import Chain
from .layout import Storage, Value
from .shape_ops import MOVES, moved
from .windows import spatial_axes

INT32_MAX = 2**31 - 1  # what sums of products are kept in
PRODUCT_MAX = 128 * 128  # the largest product of two codes

Scale = tuple[float, int, str]  # scale, zero point on the device, dtype of the codes in the graph


# ---- Scales and zero points ------------------------------------------------------------------------------------------


def parameters(ctx: Context, node: ir.Node, index: int) -> Scale:
    """Scale and zero point at inputs index, index + 1, which must be constants, and one for the whole tensor.

    Raises
    ------
    Refusal : they are computed, or differ between channels, or the scale is none
    """
    scale = ctx.needed(node, index, "scale")
    has_zero = len(node.inputs) > index + 1 and node.inputs[index + 1] is not None
    zero = ctx.needed(node, index + 1, "zero point") if has_zero else np.zeros((), np.uint8)
    scale, zero = uniform(scale), uniform(zero)
    if scale.size != 1 or zero.size != 1:
        raise Refusal("its activations are quantized per channel", "one scale for the whole tensor")
    if zero.dtype not in (np.int8, np.uint8):
        raise Refusal(f"its codes are {zero.dtype}", "int8 or uint8")
    if not 0 < float(scale.reshape(())) < inf:
        raise Refusal(f"its scale is {float(scale.reshape(())):g}", "a scale above 0")
    unsigned = zero.dtype == np.uint8
    return float(scale.reshape(())), int(zero.reshape(())) - 128 * unsigned, "u8" if unsigned else "i8"


def uniform(array: np.ndarray) -> np.ndarray:
    """One value where all of an array are equal, else the array."""
    flat = array.reshape(-1)
    return flat[:1] if flat.size and (flat == flat[0]).all() else array


def coded(ctx: Context, value: Value, scale: Scale) -> Value:
    """The value as codes of this scale and zero point: the tensor is told, or copied where it has others."""
    if value.dtype not in ("i8", "u8"):
        raise Refusal("its input is not quantized", "a QuantizeLinear before it")
    tensor = ctx.tensors[value.storage.tensor]
    if tensor.scale == 0:
        tensor.scale, tensor.zero_point = scale[:2]
    if (tensor.scale, tensor.zero_point) == scale[:2]:
        return value
    name = ctx.activation(f"{tensor.name}.as", tensor.shape, "i8", *scale[:2])
    ctx.emit("copy", None, [tensor.name], name, count=value.count, alpha=0.0, **no_limits()).name = name
    value.storage.order.tensors.append(name)
    return Value(Storage(name, value.storage.order), value.dims, value.dtype, False)


def limits(scale: Scale, node: ir.Node | None = None) -> dict[str, float]:
    """`lo`, `hi` of an integer op: saturation before the zero point is added, and the bounds a node may have."""
    low, high = float(-128 - scale[1]), float(127 - scale[1])
    if node is None:
        return {"lo": low, "hi": high}
    bounds = [node.attributes.get_float(name, inf * sign) for name, sign in ((LOWEST, -1), (HIGHEST, 1))]
    lo, hi = (float(min(max(np.float32(bound) / np.float32(scale[0]), low), high)) for bound in bounds)
    return {"lo": lo, "hi": hi}


def codes_output(ctx: Context, node: ir.Node, shape: tuple[int, ...], scale: Scale) -> str:
    """A new tensor of codes for a node's output."""
    return ctx.activation(node.outputs[0].name, shape, "i8", *scale[:2])


# ---- Conv, Gemm, MatMul ----------------------------------------------------------------------------------------------


@dataclass
class Weights:
    """Constant weights of an integer layer.

    codes : less their zero point, in ONNX layout; int16, as that may need 9 bits
    scale : (n,) or (1,)
    zeros : (n,) int8: codes + zeros fit int8, where codes alone do not; None where they do
    """

    codes: np.ndarray
    scale: np.ndarray
    zeros: np.ndarray | None


def weights(ctx: Context, node: ir.Node, index: int, channel: int, channels: int) -> Weights:
    """Weights at `index` with their scales (from index + 1) and zero points (index + 2); `channel`: axis of `channels`."""
    weight = ctx.needed(node, index, "weight")
    scale = ctx.needed(node, index + 1, "weight scale").reshape(-1).astype(np.float32)
    given = len(node.inputs) > index + 2 and node.inputs[index + 2] is not None
    zero = ctx.needed(node, index + 2, "weight zero point").reshape(-1) if given else np.zeros(1, int)
    if zero.size not in (1, channels) or scale.size not in (1, channels):
        raise Refusal(f"it has {max(scale.size, zero.size)} scales for {channels} channels", "one, or one of each")
    zero = np.broadcast_to(zero.astype(np.int16), (channels,))
    along = [-1 if axis == channel % weight.ndim else 1 for axis in range(weight.ndim)]
    codes = weight.astype(np.int16) - zero.reshape(along)
    if codes.min(initial=0) >= -128 and codes.max(initial=0) <= 127:
        return Weights(codes, scale, None)
    return Weights(codes, scale, (zero - 128 * (weight.dtype == np.uint8)).astype(np.int8))


def emit_layer(
    ctx: Context,
    node: ir.Node,
    source: str,
    weight: tuple[Weights, np.ndarray, np.ndarray],
    bias: np.ndarray | None,
    scales: tuple[Scale, Scale],
    op: tuple[str, tuple[int, ...], dict[str, int]],
) -> str:
    """Emit an integer layer. Returns its output.

    weight : as the graph has it; codes in device layout, and as (n, taps)
    scales : of x and y; op : kind without "_s8", shape of y, attributes
    """
    given, device, rows = weight
    x, y = scales
    kind, shape, attrs = op
    n = len(rows)
    total = (np.zeros(n, np.int64) if bias is None else bias.reshape(-1).astype(np.int64)) - x[1] * rows.sum(1)
    if np.abs(total).max(initial=0) > INT32_MAX:
        raise Refusal("its bias does not fit int32", "a smaller bias")
    taps = rows.shape[1] * (1 if given.zeros is None else 2)  # a weight less its zero point needs a bit more
    if np.abs(total).max(initial=0) + taps * PRODUCT_MAX > INT32_MAX:
        cure = f"fewer than {INT32_MAX // PRODUCT_MAX:,}, or this layer in float32 (keep_float)"
        raise Refusal(f"it adds up {rows.shape[1]:,} products of codes, and such a sum may pass 32 bits", cure)
    multiplier = np.float32(x[0]) * given.scale / np.float32(y[0])
    label = str(node.name or node.outputs[0].name)
    names = [
        ctx.const(f"{label}.weight", device, "i8"),
        ctx.const(f"{label}.bias", total, "i32"),
        ctx.const(f"{label}.multiplier", np.broadcast_to(multiplier, (n,)), "f32"),
    ]
    if given.zeros is not None:
        names.append(ctx.const(f"{label}.zeros", given.zeros, "i8"))
    output = codes_output(ctx, node, shape, y)
    ctx.emit(f"{kind}_s8", node, [source, *names], output, **attrs, **limits(y, node))
    return output


def qlinear_conv(ctx: Context, node: ir.Node) -> None:
    """QLinearConv: x, w and y with a scale and zero point each, then the bias."""
    x, y = parameters(ctx, node, 1), parameters(ctx, node, 6)
    value = coded(ctx, ctx.value(node), x)
    weight = weights(ctx, node, 3, 0, len(ctx.needed(node, 3, "weight")))
    geometry, kind, attrs = convolution_shape(node, value, weight.codes)
    bias = ctx.needed(node, 8, "bias") if len(node.inputs) > 8 and node.inputs[8] is not None else None
    source = ctx.ordered(value, spatial_axes(value))
    n = len(weight.codes)
    rows = weight.codes.reshape(n, -1).astype(np.int64)
    device = weight.codes
    if weight.zeros is not None:
        kind = "conv2d_zero"
        device = device + weight.zeros.reshape(-1, *[1] * (device.ndim - 1))
    device = convolution_weight(device, kind)
    shape = (geometry.out_h, geometry.out_w, n)
    output = emit_layer(ctx, node, source, (weight, device, rows), bias, (x, y), (kind, shape, attrs))
    ctx.result(node.outputs[0], (1, n, *geometry.spatial), spatial_axes(value), output, y[2])


def qgemm(ctx: Context, node: ir.Node) -> None:
    """com.microsoft QGemm: a and b with scale and zero point, bias, then y's; without y's the output is float32."""
    if node.attributes.get_int("transA", 0) or node.attributes.get_float("alpha", 1.0) != 1.0:
        raise Refusal("it has transA or alpha", "transA = 0, alpha = 1")
    transposed = bool(node.attributes.get_int("transB", False))
    bias = ctx.needed(node, 6, "bias") if len(node.inputs) > 6 and node.inputs[6] is not None else None
    has_scale = len(node.inputs) > 7 and node.inputs[7] is not None
    _dense(ctx, node, bias, parameters(ctx, node, 7) if has_scale else None, transposed)


def qlinear_matmul(ctx: Context, node: ir.Node) -> None:
    """QLinearMatMul with constant weights."""
    _dense(ctx, node, None, parameters(ctx, node, 6))


def _dense(ctx: Context, node: ir.Node, bias: np.ndarray | None, y: Scale | None, transposed: bool = False) -> None:
    """A dense layer of inputs a and b; `transposed`: b is (n_out, n_in)."""
    x = parameters(ctx, node, 1)
    value = coded(ctx, ctx.value(node), x)
    array = ctx.needed(node, 3, "weight")
    if array.ndim != 2:
        raise Refusal(f"weights {array.shape} are no matrix", "a constant matrix (n_in, n_out)")
    given = weights(ctx, node, 3, 0 if transposed else 1, array.shape[0 if transposed else 1])
    weight = given.codes.T if transposed else given.codes
    if bias is not None and bias.reshape(-1).size not in (1, weight.shape[-1]):
        raise Refusal(f"its bias {bias.shape} differs from row to row", "a bias of shape (n_out,)")
    if y is None:
        scale = np.float32(x[0]) * given.scale
        real = None if bias is None else bias.reshape(-1).astype(np.float64) * scale
        dequantized_dense(ctx, node, value, weight * given.scale, real)
        return
    source, columns, rows = dense_weight(ctx, value, weight)
    n_out, n_in = columns.shape
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1), (n_out,))
    op = ("dense", (n_out,) if rows == 1 else (rows, n_out), {"n_in": n_in, "n_out": n_out, "rows": rows})
    device = columns
    if given.zeros is not None:
        op = ("conv2d_zero", op[1], _as_convolution(rows, n_in, n_out))
        device = columns + given.zeros[:, None]
    output = emit_layer(ctx, node, source, (given, device, columns.astype(np.int64)), bias, (x, y), op)
    full = (*value.shape[:-1], n_out)
    ctx.result(node.outputs[0], full, range(len(full)), output, y[2])


def _as_convolution(rows: int, n_in: int, n_out: int) -> dict[str, int]:
    """Attributes of a dense layer as a convolution of one tap over its rows."""
    ones = ["in_w", "out_w", "kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w", "groups"]
    attrs = {**dict.fromkeys(ones, 1), "pad_top": 0, "pad_left": 0}
    return {**attrs, "in_h": rows, "out_h": rows, "in_c": n_in, "out_c": n_out}


def matmul_integer_to_float(ctx: Context, node: ir.Node) -> None:
    """com.microsoft MatMulIntegerToFloat of constant scales: an integer MatMul whose output is float32."""
    a_scale, w_scale = ctx.needed(node, 2, "input scale"), ctx.needed(node, 3, "weight scale").reshape(-1)
    zeros = [ctx.constant(v) for v in node.inputs[4:6]] + [None, None]
    zero = zeros[0] if zeros[0] is not None else np.zeros((), np.uint8)
    unsigned = zero.dtype == np.uint8
    x: Scale = (float(a_scale.reshape(())), int(zero.reshape(())) - 128 * unsigned, "u8" if unsigned else "i8")
    weight = ctx.needed(node, 1, "weight").astype(np.float64) - (0 if zeros[1] is None else zeros[1].astype(np.float64))
    bias = ctx.constant(node.inputs[6]) if len(node.inputs) > 6 else None
    dequantized_dense(ctx, node, coded(ctx, ctx.value(node), x), weight * w_scale, bias)


def dequantized_dense(ctx: Context, node: ir.Node, value: Value, weight: np.ndarray, bias: np.ndarray | None) -> None:
    """An integer layer with a float32 output: dequantize, then a float dense layer."""
    if weight.ndim != 2 or weight.shape[0] != value.shape[-1]:
        raise Refusal(f"weights {weight.shape} do not fit input {value.shape}", "a constant matrix (n_in, n_out)")
    source, last, order = ctx.columns(value)
    codes = ctx.tensors[source]
    real = ctx.activation(f"{codes.name}.real", codes.shape)
    ctx.emit("dequantize", node, [source], real, count=value.count, alpha=0.0, **no_limits())
    n_in, n_out = weight.shape
    rows = value.count // n_in
    label = str(node.name or node.outputs[0].name)
    names = [
        ctx.const(f"{label}.weight", permute_columns(weight.T, last, order), "f32"),
        ctx.const(
            f"{label}.bias", np.zeros(n_out) if bias is None else np.broadcast_to(bias.reshape(-1), (n_out,)), "f32"
        ),
    ]
    output = ctx.activation(node.outputs[0].name, (n_out,) if rows == 1 else (rows, n_out))
    ctx.emit("dense_f32", node, [real, *names], output, n_in=n_in, n_out=n_out, rows=rows, **no_limits())
    full = (*value.shape[:-1], n_out)
    ctx.result(node.outputs[0], full, range(len(full)), output)


# ---- Pools, Softmax ---------------------------------------------------------------------------------------------


def qlinear_average_pool(ctx: Context, node: ir.Node) -> None:
    """com.microsoft QLinearAveragePool."""
    x, y = parameters(ctx, node, 1), parameters(ctx, node, 3)
    if node.attributes.get_int("channels_last", 0):
        raise Refusal("it is channels-last", "NCHW")
    value = coded(ctx, ctx.value(node), x)
    axes = spatial_axes(value)
    geometry, attrs = pool_attrs(node, value)
    if attrs["dilation_h"] != 1 or attrs["dilation_w"] != 1:
        raise Refusal("it is dilated, which onnxruntime ignores", "dilations of 1")
    if geometry.is_whole():  # onnxruntime computes it as a global pool, whose rounding differs
        _global_pool(ctx, node, value, list(range(2, len(value.shape))), 1, y)
        return
    source = ctx.ordered(value, axes)
    attrs["count_include_pad"] |= 2 * (y[2] == "u8")
    output = codes_output(ctx, node, (geometry.out_h, geometry.out_w, value.shape[1]), y)
    ctx.emit("average_pool2d_s8", node, [source], output, **attrs)
    ctx.result(node.outputs[0], (1, value.shape[1], *geometry.spatial), axes, output, y[2])


def qlinear_global_average_pool(ctx: Context, node: ir.Node) -> None:
    """com.microsoft QLinearGlobalAveragePool."""
    x, y = parameters(ctx, node, 1), parameters(ctx, node, 3)
    value = coded(ctx, ctx.value(node), x)
    last = bool(node.attributes.get_int("channels_last", 0))
    rank = len(value.shape)
    spatial = list(range(1, rank - 1)) if last else list(range(2, rank))
    _global_pool(ctx, node, value, spatial, rank - 1 if last else 1, y)


def _global_pool(ctx: Context, node: ir.Node, value: Value, spatial: list[int], channel: int, y: Scale) -> None:
    """Emit the average over the axes `spatial`, which stay with size 1."""
    size = prod(value.shape[axis] for axis in spatial)
    source = ctx.ordered(value, [*spatial, channel])
    output = codes_output(ctx, node, (1, 1, value.shape[channel]), y)
    ctx.emit("global_average_pool_s8", node, [source], output, size=size, channels=value.shape[channel])
    shape = tuple(1 if axis in spatial else s for axis, s in enumerate(value.shape))
    ctx.result(node.outputs[0], shape, range(len(shape)), output, y[2])


def softmax_table(x_scale: float, channels: int) -> np.ndarray:
    """(256,) float32: exp of a code's distance below the row's largest, all scaled up; index 255 the largest."""
    scale = float(np.float32(x_scale))
    largest = np.float32(np.finfo(np.float32).max) / np.float32(channels)
    shift = max(0.0, float(np.float32(math.log(float(largest)))) - 5.0) / scale
    return np.array([math.exp((i - 255 + shift) * scale) for i in range(256)]).astype(np.float32)


def qlinear_softmax(ctx: Context, node: ir.Node) -> None:
    """com.microsoft QLinearSoftmax."""
    x, y = parameters(ctx, node, 1), parameters(ctx, node, 3)
    value = coded(ctx, ctx.value(node), x)
    kept, over = softmax_axes(ctx, node, value, node.attributes.get_int("opset", 13))
    channels = prod(value.shape[i] for i in over)
    source = ctx.ordered(value, kept + over)
    table = ctx.const(f"{node.name or node.outputs[0].name}.table", softmax_table(x[0], channels), "f32")
    output = codes_output(ctx, node, ctx.tensors[source].shape, y)
    ctx.emit("softmax_s8", node, [source, table], output, rows=value.count // channels, channels=channels)
    ctx.result(node.outputs[0], value.shape, kept + over, output, y[2])


# ---- Tables ----------------------------------------------------------------------------------------------------------


def qlinear_unary(ctx: Context, node: ir.Node) -> None:
    """QLinearSigmoid, QLinearLeakyRelu: a function of one code."""
    table_op(ctx, node, [node], 0, parameters(ctx, node, 1), parameters(ctx, node, 3))


def table_op(ctx: Context, node: ir.Node, nodes: list[ir.Node], index: int, x: Scale, y: Scale) -> None:
    """Emit a lut_s8 for `nodes`, evaluated by onnxruntime on all 256 codes; input `index` of the first is the code."""
    first = nodes[0]
    value = coded(ctx, ctx.value(first, index), x)
    emit_table(ctx, node, value, _table(ctx, nodes, str(first.inputs[index].name), x, {}), y)  # type: ignore[union-attr]


def emit_table(ctx: Context, node: ir.Node, value: Value, table: np.ndarray, y: Scale) -> None:
    """Emit a lut_s8 whose output is that of `node`."""
    name = ctx.const(f"{node.name or node.outputs[0].name}.table", table, "i8")
    source = value.storage.tensor
    output = codes_output(ctx, node, ctx.tensors[source].shape, y)
    ctx.emit("lut_s8", node, [source, name], output, count=value.count, alpha=0.0, **no_limits())
    ctx.like(node.outputs[0], value, output, y[2])


def _table(ctx: Context, nodes: list[ir.Node], code: str, x: Scale, names: dict[str, str]) -> np.ndarray:
    """(256,) int8: output code of every input code, lowest first. `names`: values that are to be read as others."""
    codes = np.arange(256).astype(np.uint8) if x[2] == "u8" else np.arange(-128, 128).astype(np.int8)
    inside = {str(output.name) for node in nodes for output in node.outputs}
    arrays = {
        str(value.name): array
        for node in nodes
        for value in node.inputs
        if value is not None
        and str(value.name) not in inside | {code} | set(names)
        and (array := ctx.constant(value)) is not None
    }
    opsets = dict(ctx.normal.model.graph.opset_imports)
    protos = [proto_of(node) for node in nodes]
    for proto in protos:
        proto.input[:] = [names.get(name, name) for name in proto.input]
    result = reference.run_nodes(protos, arrays, {code: codes}, str(nodes[-1].outputs[0].name), opsets)
    return (result.astype(np.int32).reshape(256) - (128 if result.dtype == np.uint8 else 0)).astype(np.int8)


# ---- Between integers and floats -------------------------------------------------------------------------------------


def quantize_linear(ctx: Context, node: ir.Node) -> None:
    """QuantizeLinear: of a float value, or the end of a chain that is a function of one code."""
    y = parameters(ctx, node, 1)
    chain = ctx.chains.get(node)
    if isinstance(chain, Chain):
        _chain(ctx, node, chain, y)
        return
    value = ctx.value(node)
    if value.dtype != "f32":
        raise Refusal("its input is quantized already", "float32")
    source = value.storage.tensor
    output = codes_output(ctx, node, ctx.tensors[source].shape, y)
    ctx.emit("quantize", node, [source], output, count=value.count, alpha=0.0, lo=-inf, hi=inf)
    ctx.like(node.outputs[0], value, output, y[2])


def _chain(ctx: Context, node: ir.Node, chain: Chain, y: Scale) -> None:
    """A table for the element-wise nodes, on codes moved by those that move."""
    source = chain.dequantize
    x = parameters(ctx, source, 1)
    value = coded(ctx, ctx.value(source), x)
    values = {twin.outputs[0]: value for twin in (source, *chain.twins)}
    names: dict[str, str] = {}
    for step in chain.nodes:
        inputs = [value for value in step.inputs if value is not None and value in values]
        if step.op_type in MOVES:
            names[str(step.outputs[0].name)] = names.get(str(inputs[0].name), str(inputs[0].name))
            values[step.outputs[0]] = moved(ctx, step, values[inputs[0]])
        else:
            values[step.outputs[0]] = values[inputs[0]]
    nodes = [step for step in (source, *chain.twins, *chain.nodes, node) if step.op_type not in MOVES]
    value = values[node.inputs[0]]  # type: ignore[index]
    emit_table(ctx, node, value, _table(ctx, nodes, str(source.inputs[0].name), x, names), y)  # type: ignore[union-attr]


def dequantize_linear(ctx: Context, node: ir.Node) -> None:
    """DequantizeLinear of codes that were computed."""
    if ctx.constant(node.outputs[0]) is not None:
        return
    value = coded(ctx, ctx.value(node), parameters(ctx, node, 1))
    source = value.storage.tensor
    output = ctx.activation(node.outputs[0].name, ctx.tensors[source].shape)
    ctx.emit("dequantize", node, [source], output, count=value.count, alpha=0.0, lo=-inf, hi=inf)
    ctx.like(node.outputs[0], value, output)
