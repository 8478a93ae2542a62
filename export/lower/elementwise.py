"""Lower element-wise operators: unary functions, binary ones with NumPy's broadcasting, products of quantized values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, reduce
from math import inf, prod, sqrt

import numpy as np
import onnx_ir as ir

from ..errors import Refusal
from . import float_ops, int8_ops
from .context import Context, Layer, no_limits
from .float_ops import require_float
from .layout import Factor, Order, Storage, Value, new_dims, permute_array, refine, significant
from .operator import Operator, operator

Parameters = Callable[[ir.Node], dict[str, float]]
Operand = Value | np.ndarray

# ---- One element -----------------------------------------------------------------------------------------------------


def _none(node: ir.Node) -> dict[str, float]:
    return {}


def _elu(node: ir.Node) -> dict[str, float]:
    return {"alpha": node.attributes.get_float("alpha", 1.0), "beta": 1.0, "gamma": 1.0}


def _selu(node: ir.Node) -> dict[str, float]:
    gamma = node.attributes.get_float("gamma", 1.05070102214813232421875)
    return {"alpha": gamma * node.attributes.get_float("alpha", 1.67326319217681884765625), "beta": 1.0, "gamma": gamma}


def _celu(node: ir.Node) -> dict[str, float]:
    alpha = node.attributes.get_float("alpha", 1.0)
    return {"alpha": alpha, "beta": 1 / alpha, "gamma": 1.0}


def _hard_sigmoid(node: ir.Node) -> dict[str, float]:
    return {"alpha": node.attributes.get_float("alpha", 0.2), "beta": node.attributes.get_float("beta", 0.5)}


def _alpha(default: float) -> Parameters:
    return lambda node: {"alpha": node.attributes.get_float("alpha", default)}


def unary(ctx: Context, node: ir.Node, kind: str, parameters: Parameters = _none) -> None:
    """A function of one element, laid out as its input."""
    _emit_unary(ctx, node, ctx.value(node), kind, parameters(node))


def _emit_unary(ctx: Context, node: ir.Node, value: Value, kind: str, given: dict[str, float]) -> None:
    require_float(value)
    source = value.storage.tensor
    output = ctx.activation(node.outputs[0].name, ctx.tensors[source].shape)
    attrs = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0, **given}
    ctx.emit(kind, node, [source], output, count=value.count, **attrs)
    ctx.like(node.outputs[0], value, output)


def elu(ctx: Context, node: ir.Node, parameters: Parameters) -> None:
    """Elu, Selu or Celu, whose backward tells the side by the sign of y."""
    if min(node.attributes.get_float("alpha", 1.0), node.attributes.get_float("gamma", 1.0)) <= 0:
        raise Refusal("its alpha or gamma is not positive", "alpha and gamma above 0")
    unary(ctx, node, "elu_f32", parameters)


def gelu(ctx: Context, node: ir.Node) -> None:
    """Gelu, exact or by tanh."""
    unary(ctx, node, "gelu_tanh_f32" if node.attributes.get_string("approximate", "none") == "tanh" else "gelu_f32")


def fast_gelu(ctx: Context, node: ir.Node) -> None:
    """com.microsoft FastGelu without a bias."""
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        raise Refusal("it adds a bias", "the bias in the layer before it")
    unary(ctx, node, "gelu_tanh_f32")


def power(ctx: Context, node: ir.Node) -> None:
    """Pow with a constant exponent."""
    exponent = ctx.needed(node, 1, "exponent")
    if exponent.size != 1:
        raise Refusal("its exponents differ from element to element", "one constant exponent")
    value, e = _padded(ctx.value(node), exponent.ndim), float(exponent.reshape(()))
    kinds = {0.5: "sqrt_f32", -1.0: "reciprocal_f32"}
    _emit_unary(ctx, node, value, kinds.get(e, "pow_f32"), {} if e in kinds else {"alpha": e})


def neg(ctx: Context, node: ir.Node) -> None:
    """Neg, which a layer before it takes up."""
    float_ops.affine(ctx, node, ctx.value(node), -np.ones(()), np.zeros(()))


def log_softmax(ctx: Context, node: ir.Node) -> None:
    """LogSoftmax over one axis (opset 13), or over all from one on (before)."""
    float_ops.softmax(ctx, node)
    ctx.ops[-1].kind = "log_softmax_f32"


def prelu(ctx: Context, node: ir.Node) -> None:
    """PRelu with constant slopes, which can train."""
    value, slope = ctx.value(node), ctx.needed(node, 1, "slope")
    require_float(value)
    try:
        ctx.settle_for(value, slope.shape)
        flat = ctx.in_order(value, value.shape, slope)
    except ValueError as error:
        raise Refusal(f"its slopes {slope.shape} do not broadcast to {value.shape}", "a slope per channel") from error
    sizes = [factor.size for factor in significant(value.storage.order.settled())]
    channels = max(float_ops.smallest_period(flat, sizes), float_ops.suffix(sizes, slope.size))
    names = [str(node.name), str(node.inputs[1].name)]  # type: ignore[union-attr]
    weight = ctx.const(names[1], flat[:channels], "f32")
    source = value.storage.tensor
    output = ctx.activation(node.outputs[0].name, ctx.tensors[source].shape)
    op = ctx.emit("prelu_f32", node, [source, weight], output, rows=value.count // channels, channels=channels)
    ctx.layers[output] = Layer(op, names, [weight], channels)
    ctx.like(node.outputs[0], value, output)


# ---- Two operands ----------------------------------------------------------------------------------------------------


def _padded(value: Value, rank: int) -> Value:
    """A value with leading axes of size 1 up to a rank."""
    more = rank - len(value.dims)
    return value if more <= 0 else value.view([[Factor(1)] for _ in range(more)] + value.dims, value.exclusive)


def _steps(factors: list[Factor]) -> dict[Factor, int]:
    """Distance in elements of each factor of a tensor that holds these."""
    return {factor: prod(f.size for f in factors[i + 1 :]) for i, factor in enumerate(factors)}


def _merged(rows: Sequence[Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """`dims`, `a_strides`, `b_strides` of (size, stride, stride), slowest first, with axes that continue each other joined.

    Raises
    ------
    Refusal : more than six are left
    """
    axes: list[tuple[int, ...]] = []
    for size, a, b in rows:
        if axes and axes[-1][1:] == (a * size, b * size):
            axes[-1] = (axes[-1][0] * size, a, b)
        else:
            axes.append((size, a, b))
    if len(axes) > 6:
        raise Refusal("its operands are broadcast over more than 6 axes", "fewer axes")
    axes = [(1, 0, 0)] * (6 - len(axes)) + axes
    return dict(zip(("dims", "a_strides", "b_strides"), zip(*axes, strict=True), strict=True))


class Constants:
    """How constant operands become tensors: float32, or codes with a scale."""

    def __init__(self, ctx: Context, label: str, dtype: str = "f32", scale: Sequence[int8_ops.Scale] = ()) -> None:
        self.ctx, self.label, self.dtype, self.scale = ctx, label, dtype, scale

    def tensor(self, index: int, flat: np.ndarray) -> str:
        name = self.ctx.const(f"{self.label}.{'ab'[index]}", flat, self.dtype)
        if self.scale:
            self.ctx.tensors[name].scale, self.ctx.tensors[name].zero_point = self.scale[index][:2]
        return name


def _follow(ctx: Context, leader: Value, other: Operand) -> tuple[str | np.ndarray, dict[Factor, int]]:
    """`other` laid out along a leader that has all of the result's elements: its tensor, or a constant's elements, and its
    strides by factor of the leader."""
    if isinstance(other, np.ndarray):
        axes = [axis for axis, size in enumerate(other.shape) if size != 1]
        mine = significant(leader.factors(axes))
        factors = [f for f in significant(leader.storage.order.settled()) if f in mine]
        flat = permute_array(other.reshape([other.shape[a] for a in axes]), [leader.dims[a] for a in axes], factors)
        return flat, _steps(factors)
    pairs = refine(leader, other)
    if pairs is None:
        raise Refusal("its operands are reshaped in ways that do not fit each other", "fewer Reshapes before it")
    partner = dict(pairs)
    factors = [f for f in significant(leader.storage.order.settled()) if f in partner]
    return ctx.reordered(other, [partner[f] for f in factors]), _steps(factors)


def _lead(ctx: Context, operands: Sequence[Operand], shape: tuple[int, ...]) -> Value | None:
    """The operand whose memory order the result takes, decided if it was open; None if none has all elements."""
    full = [v for v in operands if isinstance(v, Value) and v.shape == shape]
    if not full:
        return None
    leader = next((v for v in full if v.storage.order.factors is not None), full[0])
    others = [v for v in operands if v is not leader]
    if leader.storage.order.factors is None:
        ctx.settle_for(leader, others[0].shape if others else shape)
    return leader


def broadcast(
    ctx: Context, node: ir.Node, a: Operand, b: Operand, kind: str, constants: Constants, **attrs: float
) -> Value:
    """Emit an op of two operands, values or constants. Returns what it computes.

    Raises
    ------
    Refusal : the shapes do not broadcast, or over too many axes
    """
    shapes = [tuple(v.shape) for v in (a, b)]
    try:
        shape = tuple(int(size) for size in np.broadcast_shapes(*shapes))
    except ValueError as error:
        raise Refusal(f"its operands {shapes[0]} and {shapes[1]} do not broadcast", "shapes that do") from error
    if ctx.batched and shape and shape[0] != 1:
        raise Refusal("its constant differs from sample to sample", "a constant whose first axis is 1")
    rank = len(shape)
    operands = [
        _padded(v, rank) if isinstance(v, Value) else v.reshape((1,) * (rank - v.ndim) + v.shape) for v in (a, b)
    ]
    leader = _lead(ctx, operands, shape)
    plain = leader or _plain(shape)
    for v in operands:  # may split factors, which the strides of all operands are by
        if isinstance(v, Value):
            refine(plain, v)
    followed = [_follow(ctx, plain, v) for v in operands]
    factors = significant(plain.storage.order.settled())
    names = [v if isinstance(v, str) else constants.tensor(i, v) for i, (v, _) in enumerate(followed)]
    axes = _merged([(f.size, *(steps.get(f, 0) for _, steps in followed)) for f in factors])
    device_shape = ctx.tensors[leader.storage.tensor].shape if leader is not None else shape
    output = ctx.activation(node.outputs[0].name, device_shape, constants.dtype)
    if kind == "add_broadcast_f32" and all(isinstance(v, Value) and v.shape == shape for v in operands):
        ctx.emit("add_f32", node, names, output, count=prod(shape), alpha=0.0, **no_limits())
    else:
        ctx.emit(kind, node, names, output, **{**axes, "alpha": 0.0, **no_limits(), **attrs})
    plain.storage.order.tensors.append(output)
    dtype = next(v.dtype for v in operands if isinstance(v, Value))
    return Value(Storage(output, plain.storage.order), plain.dims, dtype)


def _plain(shape: tuple[int, ...]) -> Value:
    """No tensor's value, whose axes lie in ONNX order: for operands none of which has all elements."""
    dims = new_dims(shape)
    return Value(Storage("", Order([factor for axis in dims for factor in axis])), dims)


def _operands(ctx: Context, node: ir.Node) -> list[Operand]:
    """Every input as a float value or constant."""
    found: list[Operand] = []
    for i, value in enumerate(node.inputs):
        array = ctx.constant(value)
        found.append(ctx.value(node, i) if array is None else array.astype(np.float32))
    require_float(*(v for v in found if isinstance(v, Value)))
    return found


def combine(ctx: Context, node: ir.Node, kind: str, mean: bool = False) -> None:
    """Any number of operands, two at a time."""
    operands = _operands(ctx, node)
    label = str(node.name or node.outputs[0].name)
    step = lambda a, b: broadcast(ctx, node, a, b, kind, Constants(ctx, label))  # noqa: E731
    if len(operands) == 1:
        ctx.alias(node, ctx.value(node).dims)
        return
    if len(operands) > 2:
        operands = sorted(operands, key=lambda v: isinstance(v, np.ndarray))  # so that a constant meets a value
    result = reduce(step, operands)
    assert isinstance(result, Value)
    if mean:
        share = np.full((1,) * len(result.dims), 1 / len(operands), np.float32)
        result = broadcast(ctx, node, result, share, "mul_f32", Constants(ctx, f"{label}.mean"))
    if ctx.tensors[result.storage.tensor].name != node.outputs[0].name and node.outputs[0].name not in ctx.tensors:
        ctx.rename(result.storage, str(node.outputs[0].name))
    ctx.values[node.outputs[0]] = result


def _by_constant(ctx: Context, node: ir.Node) -> bool:
    """True if just one operand is computed, and the result has its elements: a scale and an offset do it."""
    arrays = [ctx.constant(value) for value in node.inputs]
    if len(arrays) != 2 or (arrays[0] is None) == (arrays[1] is None):
        return False
    at = 0 if arrays[0] is None else 1
    array, value = arrays[1 - at], ctx.value(node, at)
    assert array is not None
    try:
        return prod(np.broadcast_shapes(value.shape, array.shape)) == value.count
    except ValueError:
        return False


def arithmetic(ctx: Context, node: ir.Node, affine: Callable[[Context, ir.Node], None], kind: str) -> None:
    """Add, Sub, Mul: with a constant by `affine`, which folds it into a layer, else an op of two operands."""
    if _by_constant(ctx, node):
        affine(ctx, node)
    else:
        combine(ctx, node, kind)


def mul(ctx: Context, node: ir.Node) -> None:
    """Mul; by its own Sigmoid it is a Silu, by its own HardSigmoid a HardSwish."""
    gate = ctx.chains.get(node)
    if isinstance(gate, Gate):
        _emit_unary(ctx, node, ctx.values[gate.source], gate.kind, {"alpha": gate.alpha})
    else:
        arithmetic(ctx, node, float_ops.mul, "mul_f32")


def div(ctx: Context, node: ir.Node) -> None:
    """Div; between codes a factor in place of a divisor would round differently."""
    if _by_constant(ctx, node) and ctx.constant(node.inputs[1]) is not None and not ctx.normal.quantized:
        float_ops.div(ctx, node)
    else:
        combine(ctx, node, "div_f32")


def extremum(ctx: Context, node: ir.Node, kind: str) -> None:
    """Max or Min; of a value and one number it is a clamp, which fuses."""
    bound = ctx.constant(node.inputs[1]) if len(node.inputs) == 2 else None
    if bound is not None and bound.size == 1 and ctx.constant(node.inputs[0]) is None:
        value = ctx.value(node)
        if bound.ndim <= len(value.dims):
            number = float(bound.reshape(()))
            float_ops.clamp(ctx, node, *((number, inf) if kind == "max_f32" else (-inf, number)))
            return
    combine(ctx, node, kind)


# ---- Activations written as several nodes ----------------------------------------------------------------------------


class Gate:
    """A Mul that is an activation: which, of which value."""

    def __init__(self, kind: str, source: ir.Value, alpha: float = 0.0) -> None:
        self.kind, self.source, self.alpha = kind, source, alpha


def find_gates(ctx: Context) -> None:
    """Note Silu, HardSwish and Gelu that are written out, in ctx.chains under their last node; skip the others."""
    for node in ctx.normal.model.graph:
        if node.op_type != "Mul" or node.domain or node in ctx.skip:
            continue
        found = _gate(ctx, node) or _erf_gelu(ctx, node)
        if found is not None and not ctx.skip.intersection(found[1]):
            ctx.chains[node] = found[0]
            ctx.skip.update(found[1])


def _producer(ctx: Context, value: ir.Value | None, *kinds: str) -> ir.Node | None:
    """The node of one of these kinds whose only reader is asked for."""
    node = value.producer() if value is not None and ctx.sole(value) else None
    return node if node is not None and node.op_type in kinds and not node.domain else None


def _number(ctx: Context, value: ir.Value | None) -> float | None:
    array = ctx.constant(value)
    return float(array.reshape(())) if array is not None and array.size == 1 else None


def _by_number(ctx: Context, node: ir.Node) -> tuple[ir.Value | None, float] | None:
    """What a node of two inputs takes with a number: the other input, the number (Div: its reciprocal)."""
    numbers = [_number(ctx, value) for value in node.inputs]
    if numbers[1] is not None and numbers[0] is None and numbers[1] != 0:
        return node.inputs[0], 1 / numbers[1] if node.op_type == "Div" else numbers[1]
    if node.op_type != "Div" and numbers[0] is not None and numbers[1] is None:
        return node.inputs[1], numbers[0]
    return None


def _gate(ctx: Context, mul: ir.Node) -> tuple[Gate, list[ir.Node]] | None:
    """x * Sigmoid(x), x * Sigmoid(alpha * x), x * HardSigmoid(x / 6 + 1/2)."""
    for source, other in (tuple(mul.inputs), tuple(mul.inputs)[::-1]):
        node = _producer(ctx, other, "Sigmoid", "HardSigmoid")
        if node is None or source is None or ctx.constant(source) is not None:
            continue
        if node.op_type == "HardSigmoid":
            get = node.attributes.get_float
            usual = abs(get("alpha", 0.2) - 1 / 6) < 1e-6 and get("beta", 0.5) == 0.5
            if usual and node.inputs[0] is source:
                return Gate("hard_swish_f32", source), [node]
            continue
        if node.inputs[0] is source:
            return Gate("silu_f32", source, 1.0), [node]
        inner = _producer(ctx, node.inputs[0], "Mul")
        scaled = _by_number(ctx, inner) if inner is not None else None
        if inner is not None and scaled is not None and scaled[0] is source:
            return Gate("silu_f32", source, scaled[1]), [node, inner]
    return None


def _erf_gelu(ctx: Context, last: ir.Node) -> tuple[Gate, list[ir.Node]] | None:
    """x * (1 + Erf(x / sqrt(2))) * 0.5, the half before or behind."""
    factors: list[ir.Value | None] = []
    taken: list[ir.Node] = []
    half = False
    todo = list(last.inputs)
    while todo:
        value = todo.pop()
        node = _producer(ctx, value, "Mul", "Add")
        if _number(ctx, value) == 0.5 and not half:
            half = True
        elif node is not None and node.op_type == "Mul" and len(factors) + len(todo) < 4:
            taken.append(node)
            todo += node.inputs
        else:
            factors.append(value)
    if not half or len(factors) != 2:
        return None
    for source, sum_ in (tuple(factors), tuple(factors)[::-1]):
        add = _producer(ctx, sum_, "Add")
        one = _by_number(ctx, add) if add is not None else None
        erf = _producer(ctx, one[0], "Erf") if one is not None and one[1] == 1 else None
        scale = _producer(ctx, erf.inputs[0], "Mul", "Div") if erf is not None else None
        inner = _by_number(ctx, scale) if scale is not None else None
        if inner is not None and inner[0] is source and source is not None and abs(inner[1] - sqrt(0.5)) < 1e-6:
            return Gate("gelu_f32", source), [*taken, add, erf, scale]  # type: ignore[list-item]
    return None


OPERATORS: dict[str, Operator] = {
    "Abs": operator(partial(unary, kind="abs_f32")),
    "Add": operator(
        partial(arithmetic, affine=float_ops.add, kind="add_broadcast_f32"),
        "add_f32",
        "add_broadcast_f32",
        "affine_f32",
    ),
    "Celu": operator(partial(elu, parameters=_celu), "elu_f32"),
    "Div": operator(div, "div_f32", "affine_f32", "reciprocal_f32"),
    "Elu": operator(partial(elu, parameters=_elu), "elu_f32"),
    "Erf": operator(partial(unary, kind="erf_f32")),
    "Exp": operator(partial(unary, kind="exp_f32")),
    "Gelu": operator(gelu, "gelu_f32", "gelu_tanh_f32"),
    "HardSigmoid": operator(partial(unary, kind="hard_sigmoid_f32", parameters=_hard_sigmoid)),
    "HardSwish": operator(partial(unary, kind="hard_swish_f32")),
    "Log": operator(partial(unary, kind="log_f32")),
    "LogSoftmax": operator(log_softmax, "log_softmax_f32"),
    "Max": operator(partial(extremum, kind="max_f32"), "max_f32", "clip_f32"),
    "Mean": operator(
        partial(combine, kind="add_broadcast_f32", mean=True), "add_f32", "add_broadcast_f32", "mul_f32", "affine_f32"
    ),
    "Min": operator(partial(extremum, kind="min_f32"), "min_f32", "clip_f32"),
    "Mish": operator(partial(unary, kind="mish_f32")),
    "Mul": operator(
        mul, "mul_f32", "affine_f32", "silu_f32", "hard_swish_f32", "gelu_f32", "gelu_tanh_f32", "mish_f32"
    ),
    "Neg": operator(neg, "affine_f32"),
    "PRelu": operator(prelu, "prelu_f32", "leaky_relu_f32"),
    "Pow": operator(power, "pow_f32", "sqrt_f32", "mul_f32"),
    "Reciprocal": operator(partial(unary, kind="reciprocal_f32")),
    "Selu": operator(partial(elu, parameters=_selu), "elu_f32"),
    "Sign": operator(partial(unary, kind="sign_f32")),
    "Softplus": operator(partial(unary, kind="softplus_f32")),
    "Softsign": operator(partial(unary, kind="softsign_f32")),
    "Sqrt": operator(partial(unary, kind="sqrt_f32")),
    "Sub": operator(partial(arithmetic, affine=float_ops.sub, kind="sub_f32"), "sub_f32", "affine_f32"),
    "Sum": operator(partial(combine, kind="add_broadcast_f32"), "add_f32", "add_broadcast_f32", "affine_f32"),
    "Swish": operator(partial(unary, kind="silu_f32", parameters=_alpha(1.0))),
    "ThresholdedRelu": operator(partial(unary, kind="thresholded_relu_f32", parameters=_alpha(1.0))),
    "com.microsoft.FastGelu": operator(fast_gelu, "gelu_tanh_f32"),
    "com.microsoft.Gelu": operator(gelu, "gelu_f32"),
    "com.microsoft.QuickGelu": operator(partial(unary, kind="silu_f32", parameters=_alpha(1.702))),
}
