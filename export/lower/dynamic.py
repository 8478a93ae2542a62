"""Lower dynamic quantization, as onnxruntime's quantize_dynamic writes it: integer layers with float32 around them.

The device makes the codes inside the layer that reads them, for every sample with a scale and zero point of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ..errors import Refusal
from .context import Context, no_limits
from .float_ops import convolution_shape, dense_weight, require_float
from .int8_ops import matmul_integer_to_float
from .layout import Value
from .operator import Operator, operator
from .windows import spatial_axes

_INTEGER = ("ConvInteger", "MatMulInteger")
_MOST = 32895  # products whose sum stays within int32


@dataclass
class Chain:
    """An integer layer with what makes its sums real numbers.

    nodes : the layer, its Cast, both Mul and an Add of a constant if there is one
    w_scale, bias : of the weights, and what is added; None: nothing
    """

    nodes: list[ir.Node]
    w_scale: np.ndarray
    bias: np.ndarray | None

    @property
    def output(self) -> ir.Value:
        """What the last node computes."""
        return self.nodes[-1].outputs[0]


def _only_user(value: ir.Value, kind: str) -> ir.Node | None:
    users = list(value.uses())
    fits = len(users) == 1 and not value.is_graph_output() and users[0].node.op_type == kind
    return users[0].node if fits else None


def _other(node: ir.Node, value: ir.Value) -> ir.Value | None:
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _chain(ctx: Context, layer: ir.Node, scale: ir.Value) -> Chain | None:
    """Cast and Mul behind an integer layer whose input has the computed scale `scale`; None: it is used otherwise."""
    cast = _only_user(layer.outputs[0], "Cast")
    mul = _only_user(cast.outputs[0], "Mul") if cast is not None else None
    if cast is None or mul is None or cast.attributes.get_int("to", 0) != ir.DataType.FLOAT:
        return None
    factor = _other(mul, cast.outputs[0])
    product = factor.producer() if factor is not None else None
    if product is None or product.op_type != "Mul" or scale not in product.inputs:
        return None
    w_scale = ctx.constant(_other(product, scale))
    if w_scale is None:
        return None
    nodes = [product, layer, cast, mul]
    add = _only_user(mul.outputs[0], "Add")
    bias = ctx.constant(_other(add, mul.outputs[0])) if add is not None else None
    if add is not None and bias is not None and bias.size > 1 and not _per_channel(layer, bias):
        bias = None
    return Chain([*nodes, add] if add is not None and bias is not None else nodes, w_scale, bias)


def _per_channel(layer: ir.Node, bias: np.ndarray) -> bool:
    """True if a bias is one number per output channel."""
    shape = bias.shape
    axis = len(shape) - 1 if layer.op_type == "MatMulInteger" else len(shape) - (len(layer.outputs[0].shape or ()) - 1)
    return 0 <= axis < len(shape) and shape[axis] == bias.size


def dynamic_quantize_linear(ctx: Context, node: ir.Node) -> None:
    """DynamicQuantizeLinear: emits nothing, the integer layers that read it make the codes themselves."""
    codes, scale, zero = node.outputs
    value = ctx.value(node)
    require_float(value)
    if any(output.is_graph_output() for output in node.outputs):
        raise Refusal("its codes are an output", "DynamicQuantizeLinear before MatMulInteger or ConvInteger")
    for usage in codes.uses():
        layer = usage.node
        chain = _chain(ctx, layer, scale) if layer.op_type in _INTEGER else None
        dynamic = layer.op_type == "MatMulIntegerToFloat" and layer.inputs[2] is scale and layer.inputs[4] is zero
        if chain is None and not dynamic:
            why = f"its codes go to a {layer.op_type} that is not followed by Cast and Mul with both scales"
            raise Refusal(why, "the form onnxruntime's quantize_dynamic writes")
        if chain is not None:
            if len(layer.inputs) < 3 or layer.inputs[2] is not zero:
                raise Refusal(f"{layer.op_type} reads another zero point", "the zero point of its own input")
            ctx.chains[layer] = chain
            ctx.skip.update(n for n in chain.nodes if n is not layer)


def _weight(ctx: Context, node: ir.Node, index: int, zero_index: int) -> tuple[np.ndarray, np.ndarray]:
    """int8 weights in ONNX's shape, and their zero points, one or one of each channel."""
    weight = ctx.needed(node, index, "weight")
    zeros = ctx.needed(node, zero_index, "weight's zero point") if _given(node, zero_index) else np.zeros(1)
    lower = 128 if weight.dtype == np.uint8 else 0
    return (weight.astype(np.int32) - lower).astype(np.int8), (zeros.reshape(-1).astype(np.int32) - lower).astype(
        np.int8
    )


def _given(node: ir.Node, index: int) -> bool:
    return len(node.inputs) > index and node.inputs[index] is not None


def _tensors(
    ctx: Context, node: ir.Node, weight: np.ndarray, bias: np.ndarray | None, scale: np.ndarray, zeros: np.ndarray
) -> list[str]:
    """Constants of a layer: weights, bias, scales and zero points, one of each channel."""
    label = str(node.name or node.outputs[0].name)
    channels = (len(weight),)
    offset = np.zeros(channels) if bias is None else np.broadcast_to(bias.reshape(-1), channels)
    return [
        ctx.const(str(node.inputs[1].name), weight, "i8"),  # type: ignore[union-attr]
        ctx.const(f"{label}.bias", offset, "f32"),
        ctx.const(f"{label}.scale", np.broadcast_to(scale.reshape(-1), channels), "f32"),
        ctx.const(f"{label}.zeros", np.broadcast_to(zeros, channels), "i8"),
    ]


def _limit(products: int) -> None:
    if products > _MOST:
        raise Refusal(f"it sums {products} products, which may pass 32 bits", f"at most {_MOST}")


def _dense(
    ctx: Context,
    node: ir.Node,
    value: Value,
    zero_index: int,
    scale: np.ndarray,
    bias: np.ndarray | None,
    output: ir.Value,
) -> None:
    """A dense layer whose weights and their zero point are inputs 1 and `zero_index` of a node."""
    require_float(value)
    weight, zeros = _weight(ctx, node, 1, zero_index)
    source, columns, rows = dense_weight(ctx, value, weight)
    n_out, n_in = columns.shape
    _limit(n_in)
    tensors = _tensors(ctx, node, columns, bias, scale, zeros)
    y = ctx.activation(output.name, (n_out,) if rows == 1 else (rows, n_out))
    attrs = {"n_in": n_in, "n_out": n_out, "rows": rows}
    ctx.emit("dynamic_dense_f32", node, [source, *tensors], y, **attrs, **no_limits())
    full = (*value.shape[:-1], n_out)
    ctx.result(output, full, range(len(full)), y)


def _source(ctx: Context, node: ir.Node) -> Value:
    """The float32 value whose codes an integer layer reads."""
    codes = node.inputs[0]
    producer = codes.producer() if codes is not None else None
    if producer is None or producer.op_type != "DynamicQuantizeLinear":
        raise Refusal("its input is not quantized dynamically", "DynamicQuantizeLinear before it, or a QDQ group")
    return ctx.value(producer)


def dynamic_quantize_matmul(ctx: Context, node: ir.Node) -> None:
    """com.microsoft DynamicQuantizeMatMul, which onnxruntime fuses DynamicQuantizeLinear .. Add into."""
    bias = ctx.needed(node, 4, "bias") if _given(node, 4) else None
    _dense(ctx, node, ctx.value(node), 3, ctx.needed(node, 2, "weight's scale"), bias, node.outputs[0])


def integer_to_float(ctx: Context, node: ir.Node) -> None:
    """com.microsoft MatMulIntegerToFloat of codes made at run time, which several layers may share; or of constant scales."""
    if ctx.constant(node.inputs[2]) is not None:
        matmul_integer_to_float(ctx, node)
        return
    value = _source(ctx, node)
    bias = ctx.needed(node, 6, "bias") if _given(node, 6) else None
    _dense(ctx, node, value, 5, ctx.needed(node, 3, "weight's scale"), bias, node.outputs[0])


def _chain_of(ctx: Context, node: ir.Node) -> Chain:
    chain = ctx.chains.get(node)
    if not isinstance(chain, Chain):
        raise Refusal(
            "its sums are not scaled as quantize_dynamic does", "DynamicQuantizeLinear .. Cast, Mul around it"
        )
    return chain


def matmul_integer(ctx: Context, node: ir.Node) -> None:
    """MatMulInteger between DynamicQuantizeLinear and Cast, Mul."""
    value, chain = _source(ctx, node), _chain_of(ctx, node)
    _dense(ctx, node, value, 3, chain.w_scale, chain.bias, chain.output)


def conv_integer(ctx: Context, node: ir.Node) -> None:
    """ConvInteger between DynamicQuantizeLinear and Cast, Mul."""
    value, chain = _source(ctx, node), _chain_of(ctx, node)
    require_float(value)
    weight, zeros = _weight(ctx, node, 1, 3)
    geometry, _, attrs = convolution_shape(node, value, weight)
    device = np.transpose(weight if weight.ndim == 4 else weight[:, :, None, :], (0, 2, 3, 1))
    _limit(device[0].size)
    source = ctx.ordered(value, spatial_axes(value))
    tensors = _tensors(ctx, node, device, chain.bias, chain.w_scale, zeros)
    y = ctx.activation(chain.output.name, (geometry.out_h, geometry.out_w, len(weight)))
    ctx.emit("dynamic_conv2d_f32", node, [source, *tensors], y, **attrs, **no_limits())
    ctx.result(chain.output, (1, len(weight), *geometry.spatial), spatial_axes(value), y)


OPERATORS: dict[str, Operator] = {
    "ConvInteger": operator(conv_integer, "dynamic_conv2d_f32"),
    "DynamicQuantizeLinear": operator(dynamic_quantize_linear),
    "MatMulInteger": operator(matmul_integer, "dynamic_dense_f32"),
    "com.microsoft.DynamicQuantizeMatMul": operator(dynamic_quantize_matmul, "dynamic_dense_f32"),
    "com.microsoft.MatMulIntegerToFloat": operator(integer_to_float, "dynamic_dense_f32"),
}
