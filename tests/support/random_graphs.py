"""Random ONNX graphs out of the operators that the exporter takes: the same seed gives the same graph.

A graph grows node by node from values that are there, each run in onnxruntime as it is added: so every shape is known,
and what overflows, is empty or mixes the samples of a batch is not added at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from edgeprop.export.graph.definition import as_defined

Array = np.ndarray[Any, np.dtype[Any]]

#: a value larger than this is not built upon: its rounding errors would hide those looked for
LARGEST = 300.0
OPSET = 21


def session(proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """onnxruntime on one thread, of a form that it computes as ONNX defines it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        as_defined(proto).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


class Unfit(Exception):
    """A node that cannot be added here."""


@dataclass
class Graph:
    """A graph in the making.

    batch : size of the first axis of every value, the same for all; None: shapes are those of the one sample
    fixed : the batch has a size, of which shapes inside the graph may speak
    """

    random: np.random.Generator
    batch: int | None
    fixed: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, Array] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    # ---- Random choices

    def chance(self, share: float) -> bool:
        """True in that share of all cases."""
        return bool(self.random.random() < share)

    def size(self, low: int, high: int) -> int:
        """An integer, both ends included."""
        return int(self.random.integers(low, high + 1))

    def one(self, choices: Sequence[Any]) -> Any:
        """One of them."""
        return choices[int(self.random.integers(len(choices)))]

    def normal(self, *shape: int) -> Array:
        """float32, normal."""
        return self.random.standard_normal(shape).astype(np.float32)

    def pick(self, rank: Sequence[int] = (1, 2, 3, 4, 5), shape: tuple[int, ...] | None = None) -> str:
        """A value, most often one of the last.

        Raises
        ------
        Unfit : none has that rank or shape
        """
        fit = [n for n, v in self.values.items() if (v.shape == shape if shape is not None else v.ndim in rank)]
        if not fit:
            raise Unfit
        return str(fit[max(-len(fit), -1 - int(self.random.exponential(1.5)))])

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a value."""
        return self.values[name].shape

    def axis(self, name: str) -> int:
        """An axis that may be treated in any way, so not that of the batch; at times counted from the end."""
        rank = self.values[name].ndim
        if rank <= (self.batch is not None):
            raise Unfit
        axis = self.size(0 if self.batch is None else 1, rank - 1)
        return axis - rank if self.chance(0.3) else axis

    # ---- Growing

    def constant(self, array: Any, dtype: Any = np.float32) -> str:
        """An initializer. Returns its name."""
        name = f"w{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype)
        return name

    def input(self, shape: tuple[int, ...]) -> str:
        """A graph input. Returns its name."""
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.values[name] = self.normal(*shape)
        return name

    def add(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> list[str]:
        """A node, if it runs. Returns the names of its outputs.

        Raises
        ------
        Unfit : it does not run, or gives what cannot be built upon
        """
        number = len(self.nodes)
        names = [f"v{number}" if i == 0 else f"v{number}_{i}" for i in range(outputs)]
        node = helper.make_node(op, list(inputs), names, name=f"{op.lower()}{number}", **attributes)
        given = {name: self.values[name] for name in inputs if name in self.values}
        weights = {name: self.constants[name] for name in inputs if name in self.constants}
        try:
            results = session(_model([node], given, names, weights)).run(names, given)
        except Exception as error:  # onnxruntime's kinds have no common base
            raise Unfit(str(error)) from error
        for result in results:
            alike = self.batch is None or (result.ndim > 0 and result.shape[0] == self.batch)
            if not result.size or not alike or not np.isfinite(result).all() or np.abs(result).max() > LARGEST:
                raise Unfit
            if result.size > 4000 * (self.batch or 1) or result.ndim > 5:
                raise Unfit
        self.nodes.append(node)
        self.values.update(zip(names, results, strict=True))
        self.used.update(given)
        return names

    def grow(self, makers: Sequence[Callable[[Graph], Any]], count: int) -> None:
        """Add about `count` nodes."""
        for _ in range(8 * count):
            if len(self.nodes) >= count:
                return
            before = (len(self.nodes), dict(self.values), set(self.used))
            try:
                self.one(makers)(self)
            except Unfit:
                del self.nodes[before[0] :]
                self.values, self.used = before[1], before[2]

    def finished(self, outputs: Sequence[str], varying: bool) -> onnx.ModelProto:
        """The model. `varying`: the batch axis has a name in place of a size."""
        read = {name for node in self.nodes for name in node.input}
        weights = {name: array for name, array in self.constants.items() if name in read}
        return _model(self.nodes, self.inputs, outputs, weights, "N" if varying else None)


def _model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Array],
    outputs: Sequence[str],
    weights: dict[str, Array],
    batch: str | None = None,
) -> onnx.ModelProto:
    dims = lambda array: [batch, *array.shape[1:]] if batch else list(array.shape)  # noqa: E731
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims(array)) for name, array in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)


# ---- Layers with weights ---------------------------------------------------------------------------------------------


def _geometry(g: Graph, rank: int) -> dict[str, Any]:
    """Strides, dilations and padding of a window over `rank` axes."""
    ints = lambda low, high: [g.size(low, high) for _ in range(rank)]  # noqa: E731
    result: dict[str, Any] = {"strides": ints(1, 3)}
    auto = g.one(["NOTSET"] * 3 + ["SAME_UPPER", "SAME_LOWER", "VALID"])
    if auto != "NOTSET":
        return result | {"auto_pad": auto}
    return result | {"pads": ints(0, 2) + ints(0, 2), "dilations": ints(1, 2)}


def conv(g: Graph) -> None:
    """Conv, also depthwise and grouped, one- and two-dimensional."""
    x = g.pick((3, 4))
    channels, rank = g.shape(x)[1], g.values[x].ndim - 2
    groups = g.one([n for n in range(1, channels + 1) if channels % n == 0])
    kernel = [g.size(1, 3) for _ in range(rank)]
    out = groups * g.size(1, 3)
    weight = g.constant(g.normal(out, channels // groups, *kernel) / np.sqrt(channels // groups * prod(kernel)))
    bias = [g.constant(g.normal(out))] if g.chance(0.7) else []
    y = g.add("Conv", [x, weight, *bias], kernel_shape=kernel, group=groups, **_geometry(g, rank))[0]
    if g.chance(0.4):
        _normalize_batch(g, y)
    if g.chance(0.4):
        activation(g)


def conv_transpose(g: Graph) -> None:
    """ConvTranspose, with what may be cut off or added at its end."""
    x = g.pick((3, 4))
    channels, rank = g.shape(x)[1], g.values[x].ndim - 2
    groups = g.one([n for n in range(1, channels + 1) if channels % n == 0])
    kernel, strides = [g.size(1, 3) for _ in range(rank)], [g.size(1, 3) for _ in range(rank)]
    each = g.size(1, 3)
    weight = g.constant(g.normal(channels, each, *kernel) / np.sqrt(channels * prod(kernel)))
    bias = [g.constant(g.normal(groups * each))] if g.chance(0.7) else []
    ends: dict[str, Any] = {"dilations": [g.size(1, 2) for _ in range(rank)]}
    if g.chance(0.5):
        ends["pads"] = [g.size(0, k - 1) for k in kernel * 2]
    if g.chance(0.3):
        ends["output_padding"] = [g.size(0, s - 1) for s in strides]
    if g.chance(0.2):
        ends = {"auto_pad": g.one(["SAME_UPPER", "SAME_LOWER", "VALID"])}
    g.add("ConvTranspose", [x, weight, *bias], strides=strides, group=groups, kernel_shape=kernel, **ends)


def gemm(g: Graph) -> None:
    """Gemm with its factors, both ways round."""
    x = g.pick((2,))
    inner, outer = g.shape(x)[1], g.size(1, 6)
    turned = g.chance(0.5)
    weight = g.constant(g.normal(*((outer, inner) if turned else (inner, outer))) / np.sqrt(inner))
    shapes = [(outer,), (1, outer), (1,), (), (1, 1)]
    bias = [g.constant(g.normal(*g.one(shapes)))] if g.chance(0.7) else []
    factors = {"alpha": g.one([1.0, 0.5, -2.0]), "beta": g.one([1.0, 0.25])} if g.chance(0.3) else {}
    g.add("Gemm", [x, weight, *bias], transB=int(turned), **factors)


def matmul(g: Graph) -> None:
    """MatMul with weights, at times followed by a bias."""
    x = g.pick((2, 3, 4))
    inner, outer = g.shape(x)[-1], g.size(1, 5)
    y = g.add("MatMul", [x, g.constant(g.normal(inner, outer) / np.sqrt(inner))])[0]
    if g.chance(0.5):
        bias = g.constant(g.normal(*g.one([(outer,), (1, outer), (1,)])))
        g.add("Add", [y, bias] if g.chance(0.5) else [bias, y])


def matmul_left(g: Graph) -> None:
    """MatMul with weights in front."""
    x = g.pick((2, 3, 4))
    if g.batch is not None and g.values[x].ndim < 3:
        raise Unfit
    inner = g.shape(x)[-2]
    g.add("MatMul", [g.constant(g.normal(g.size(1, 4), inner) / np.sqrt(inner)), x])


def matmul_both(g: Graph) -> None:
    """MatMul of two activations, as attention has it."""
    a = g.pick((3, 4))
    rank = g.values[a].ndim
    b = g.pick((rank,))
    for name in (a, b):
        if g.shape(name)[:-2] != g.shape(a)[:-2] and g.chance(0.8):
            b = a
    if g.shape(a)[-1] != g.shape(b)[-2]:
        turned = [*range(rank - 2), rank - 1, rank - 2]
        b = g.add("Transpose", [b], perm=turned)[0]
    scaled = g.add("Mul", [a, g.constant(1 / np.sqrt(g.shape(a)[-1]))])[0]
    y = g.add("MatMul", [scaled, b])[0]
    if g.chance(0.5):
        g.add("Softmax", [y], axis=-1)


def prelu(g: Graph) -> None:
    """PRelu with a slope for each channel, or one for all."""
    x = g.pick((2, 3, 4))
    shape = g.shape(x)
    slopes = [(1,), shape[1:2] + (1,) * (len(shape) - 2), (1,) * len(shape), shape[-1:]]
    g.add("PRelu", [x, g.constant(np.abs(g.normal(*g.one(slopes))) * 0.3)])


# ---- Normalization ---------------------------------------------------------------------------------------------------


def _normalize_batch(g: Graph, x: str) -> None:
    channels = g.shape(x)[1]
    arrays = [g.normal(channels), g.normal(channels), g.normal(channels), np.abs(g.normal(channels)) + 0.3]
    g.add("BatchNormalization", [x, *(g.constant(a) for a in arrays)], epsilon=g.one([1e-5, 1e-2]))


def batch_norm(g: Graph) -> None:
    """BatchNormalization of any rank."""
    _normalize_batch(g, g.pick((2, 3, 4)))


def other_norm(g: Graph) -> None:
    """Layer-, instance- and group normalization, whose statistics come from the sample."""
    x = g.pick((2, 3, 4))
    shape = g.shape(x)
    kind = g.one(["LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization"])
    epsilon = g.one([1e-5, 1e-2])
    if kind == "LpNormalization":
        if g.chance(0.5):
            raise Unfit
        g.add(kind, [x], axis=g.axis(x), p=2)
    elif kind == "LayerNormalization":
        axis = g.size(1, len(shape) - 1)
        if prod(shape[axis:]) < 3:
            raise Unfit
        scale = [g.constant(g.normal(*shape[axis:])) for _ in range(g.size(1, 2))]
        g.add(kind, [x, *scale], axis=axis - len(shape) if g.chance(0.5) else axis, epsilon=epsilon)
    else:
        channels = shape[1]
        groups = g.one([n for n in range(1, channels + 1) if channels % n == 0])
        if len(shape) < 3 or prod(shape[2:]) * (channels // groups if kind[0] == "G" else 1) < 3:
            raise Unfit
        attributes = {"num_groups": groups} if kind[0] == "G" else {}
        g.add(kind, [x, g.constant(g.normal(channels)), g.constant(g.normal(channels))], epsilon=epsilon, **attributes)


# ---- Pools and reductions --------------------------------------------------------------------------------------------


def pool(g: Graph) -> None:
    """MaxPool, AveragePool and the global ones."""
    x = g.pick((3, 4))
    rank = g.values[x].ndim - 2
    kind = g.one(["MaxPool", "MaxPool", "AveragePool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"])
    if kind.startswith("Global"):
        g.add(kind, [x])
        return
    kernel = [g.size(1, 3) for _ in range(rank)]
    window = _geometry(g, rank)
    if window.get("auto_pad", "V")[0] == "S" and any(s > k for s, k in zip(window["strides"], kernel, strict=True)):
        raise Unfit  # onnxruntime refuses that or, without shapes, begins inside
    if "pads" in window:
        window["pads"] = [g.size(0, k - 1) for k in kernel * 2]
    if g.chance(0.3):
        window["ceil_mode"] = 1
    if kind == "AveragePool" and g.chance(0.5):
        window["count_include_pad"] = 1
    g.add(kind, [x], kernel_shape=kernel, **window)


def reduction(g: Graph) -> None:
    """Reduce* over any axes."""
    x = g.pick((2, 3, 4))
    first = 0 if g.batch is None else 1
    axes = [a for a in range(first, g.values[x].ndim) if g.chance(0.5)] or [g.values[x].ndim - 1]
    if g.chance(0.3):
        axes = [a - g.values[x].ndim for a in axes][::-1]
    keep = int(g.chance(0.6))
    kind = g.one(["ReduceMean", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare"])
    g.add(kind, [x, g.constant(axes, np.int64)], keepdims=keep)


# ---- Element by element ----------------------------------------------------------------------------------------------

_PLAIN = ["Relu", "Relu", "Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Softsign", "Mish", "Abs", "Neg", "Erf"]
_WITH_ALPHA = ["LeakyRelu", "Elu", "Selu", "HardSigmoid", "ThresholdedRelu", "Celu"]


def activation(g: Graph) -> None:
    """Any activation, with its parameters or without."""
    x = g.pick()
    kind = g.one([*_PLAIN, *_WITH_ALPHA, "Gelu", "Clip", "Clip", "Softmax", "Softmax", "LogSoftmax", "silu"])
    if kind in _WITH_ALPHA:
        given = {"alpha": g.one([0.1, 0.3, 1.0])} if g.chance(0.6) else {}
        g.add(kind, [x], **given)
    elif kind == "Gelu":
        g.add(kind, [x], approximate=g.one(["none", "tanh"]))
    elif kind == "Clip":
        limits = [g.constant(-0.5), g.constant(0.7)]
        g.add(kind, [x, *g.one([limits, limits[:1], ["", limits[1]]])])
    elif kind in ("Softmax", "LogSoftmax"):
        g.add(kind, [x], axis=g.axis(x))
    elif kind == "silu":
        y = g.add("Sigmoid", [x])[0]
        g.add("Mul", [x, y] if g.chance(0.5) else [y, x])
    else:
        g.add(kind, [x])


def of_positive(g: Graph) -> None:
    """Functions that want positive numbers."""
    x = g.add("Add", [g.add("Abs", [g.pick()])[0], g.constant(0.5)])[0]
    kind = g.one(["Sqrt", "Log", "Reciprocal", "Pow"])
    g.add(kind, [x, g.constant(g.one([0.5, 1.5, 3.0, -1.0]))] if kind == "Pow" else [x])


def squared(g: Graph) -> None:
    """Pow and Exp of what may be negative."""
    x = g.add("Tanh", [g.pick()])[0] if g.chance(0.5) else g.pick()
    if g.chance(0.5):
        g.add("Exp", [x])
    else:
        g.add("Pow", [x, g.constant(g.one([2.0, 3.0, 1.0]))])


_BINARY = ["Add", "Add", "Sub", "Mul", "Mul", "Div", "Max", "Min"]


def _apart(g: Graph, value: str) -> str:
    """A divisor far from zero."""
    return g.add("Add", [g.add("Abs", [value])[0], g.constant(0.5)])[0]


def with_constant(g: Graph) -> None:
    """A value and a constant that broadcasts, of its rank or lower, either one in front."""
    x, op = g.pick(), g.one(_BINARY)
    shape = [s if g.chance(0.5) else 1 for s in g.shape(x)]
    if g.batch is not None:
        shape[0] = 1
    while shape and (shape[0] == 1) and g.chance(0.5):
        del shape[0]
    array = g.normal(*shape)
    if op == "Div":
        array = np.sign(array) * (np.abs(array) + 0.5)
    front = g.chance(0.4)
    if front and op == "Div":
        x = _apart(g, x)
    w = g.constant(array)
    g.add(op, [w, x] if front else [x, w])


def with_wider_constant(g: Graph) -> None:
    """A value that broadcasts to a constant's larger shape."""
    x, op = g.pick(), g.one(["Add", "Sub", "Mul", "Max", "Min"])
    shape = [g.size(2, 3) if s == 1 and i and g.chance(0.5) else s for i, s in enumerate(g.shape(x))]
    if g.batch is not None:
        shape[0] = 1
    w = g.constant(g.normal(*shape))
    g.add(op, [w, x] if g.chance(0.5) else [x, w])


def with_value(g: Graph) -> None:
    """Two values of one shape: residual sums, products, a value with itself."""
    a = g.pick()
    b = g.pick(shape=g.shape(a))
    op = g.one(_BINARY)
    if op == "Div":
        b = _apart(g, b)
    g.add(op, [a, b])


def with_reduced(g: Graph) -> None:
    """A value and what is left of another one after a reduction: gates as squeeze-and-excitation has them."""
    a = g.pick((2, 3, 4))
    first = 0 if g.batch is None else 1
    axes = [i for i in range(first, g.values[a].ndim) if g.chance(0.5)]
    b = g.add("ReduceMean", [g.pick(shape=g.shape(a)), g.constant(axes, np.int64)], keepdims=1)[0]
    if g.chance(0.5):
        b = g.add(g.one(["Sigmoid", "Relu", "Tanh"]), [b])[0]
    op = g.one(_BINARY)
    if op == "Div":
        b = _apart(g, b)
    g.add(op, [a, b] if g.chance(0.7) or op == "Div" else [b, a])


def with_any(g: Graph) -> None:
    """Two values that happen to broadcast, whatever their ranks."""
    a, b = g.pick(), g.pick()
    if g.batch is not None and g.values[a].ndim != g.values[b].ndim:
        raise Unfit
    g.add(g.one(["Add", "Sub", "Mul", "Max", "Min"]), [a, b])


def many(g: Graph) -> None:
    """Sum, Mean, Max, Min of several operands."""
    a = g.pick()
    others = [g.pick(shape=g.shape(a)) for _ in range(g.size(0, 2))]
    extra = [g.constant(g.normal(*g.shape(a)[-1:]))] if g.chance(0.3) and g.values[a].ndim > 1 else []
    g.add(g.one(["Sum", "Mean", "Max", "Min"]), [a, *others, *extra])


# ---- Movement --------------------------------------------------------------------------------------------------------


def concat(g: Graph) -> None:
    """Concat, also of a value with itself or a constant."""
    a = g.pick()
    axis = g.axis(a)
    rest = lambda s: s[: axis % len(s)] + s[axis % len(s) + 1 :]  # noqa: E731
    fit = [n for n, v in g.values.items() if v.ndim == g.values[a].ndim and rest(v.shape) == rest(g.shape(a))]
    parts = [a] + [str(g.one(fit)) for _ in range(g.size(0, 2))]
    if g.batch in (None, 1) and g.chance(0.15):
        parts.append(g.constant(g.normal(*g.shape(a))))
    g.random.shuffle(parts)
    g.add("Concat", [str(p) for p in parts], axis=axis)


def split(g: Graph) -> None:
    """Split, even or not."""
    x = g.pick()
    axis = g.axis(x)
    size = g.shape(x)[axis]
    if size < 2:
        raise Unfit
    if g.chance(0.5):
        first = g.size(1, size - 1)
        g.add("Split", [x, g.constant([first, size - first], np.int64)], 2, axis=axis)
    else:
        g.add("Split", [x], 2, axis=axis, num_outputs=2)


def slice_(g: Graph) -> None:
    """Slice, backward too, with ends past the range."""
    x = g.pick()
    rank = g.values[x].ndim
    axes = [a for a in range(0 if g.batch is None else 1, rank) if g.chance(0.5)]
    if not axes:
        raise Unfit
    starts, ends, steps = [], [], []
    for axis in axes:
        size, step = g.shape(x)[axis], g.one([1, 1, 1, 2, 3, -1, -2])
        low = g.size(0, size - 1)
        starts.append(g.one([low, low - size]) if step > 0 else g.one([size - 1 - low // 2, 2**31, -1]))
        ends.append(g.one([size, 2**63 - 1, low + 1, -1]) if step > 0 else g.one([-(2**31), -size - 1, 0]))
        steps.append(step)
    axes = [a - rank if g.chance(0.3) else a for a in axes]
    g.add("Slice", [x, *(g.constant(v, np.int64) for v in (starts, ends, axes, steps))])


def pad(g: Graph) -> None:
    """Pad in every mode, also by negative amounts."""
    x = g.pick((2, 3, 4))
    shape = g.shape(x)
    mode = g.one(["constant", "constant", "reflect", "edge", "wrap"])
    low = -1 if mode == "constant" and g.chance(0.2) else 0
    most = [2 if mode in ("constant", "edge") else max(0, min(2, s - 1)) for s in shape]
    pads = [g.size(max(low, -(s // 3)), m) if g.chance(0.6) else 0 for s, m in zip(shape, most, strict=True)]
    pads += [g.size(0, m) if g.chance(0.6) else 0 for m in most]
    if g.batch is not None:
        pads[0] = pads[len(shape)] = 0
    fill = [g.constant(g.one([0.0, 1.5, -2.0]))] if mode == "constant" and g.chance(0.5) else []
    g.add("Pad", [x, g.constant(pads, np.int64), *fill], mode=mode)


def reshape(g: Graph) -> None:
    """Reshape, with 0 for a size that stays and -1 for what is left; Flatten."""
    x = g.pick()
    shape = g.shape(x)
    if g.chance(0.3):
        g.add("Flatten", [x], axis=1 if g.batch is not None else g.size(0, len(shape)))
        return
    start = 0 if g.batch is None else 1
    left = prod(shape[start:])
    sizes: list[int] = []
    while left > 1 and len(sizes) < 3:
        sizes.append(g.one([n for n in range(1, left + 1) if left % n == 0]))
        left //= sizes[-1]
    sizes = [*sizes, left] if left > 1 or not sizes else sizes
    g.random.shuffle(sizes)
    front = [g.batch if g.fixed and g.chance(0.5) else 0] if start else []
    new = [*front, *(int(s) for s in sizes)]
    if g.chance(0.4):
        new[g.size(start, len(new) - 1)] = -1
    g.add("Reshape", [x, g.constant(new, np.int64)])


def transpose(g: Graph) -> None:
    """Transpose, the batch where it is."""
    x = g.pick((2, 3, 4, 5))
    rank = g.values[x].ndim
    start = 0 if g.batch is None else 1
    perm = [*range(start), *(int(a) for a in start + g.random.permutation(rank - start))]
    g.add("Transpose", [x], perm=perm)


def squeeze(g: Graph) -> None:
    """Squeeze and Unsqueeze."""
    x = g.pick()
    shape = g.shape(x)
    start = 0 if g.batch is None else 1
    ones = [a for a in range(start, len(shape)) if shape[a] == 1]
    if ones and g.chance(0.6):
        g.add("Squeeze", [x, g.constant(ones[: g.size(1, len(ones))], np.int64)])
    else:
        at = g.size(start, len(shape))
        g.add("Unsqueeze", [x, g.constant([at - len(shape) - 1 if g.chance(0.3) else at], np.int64)])


def gather(g: Graph) -> None:
    """Gather of constant indices: one, several, a matrix, negative ones."""
    x = g.pick()
    axis = g.axis(x)
    size = g.shape(x)[axis]
    shape = g.one([(), (g.size(1, 4),), (2, 2)])
    g.add("Gather", [x, g.constant(g.random.integers(-size, size, shape), np.int64)], axis=axis)


def expand(g: Graph) -> None:
    """Expand and Tile."""
    x = g.pick((2, 3, 4))
    shape = g.shape(x)
    if g.chance(0.5):
        repeats = [g.size(1, 2) for _ in shape]
        if g.batch is not None:
            repeats[0] = 1
        g.add("Tile", [x, g.constant(repeats, np.int64)])
    else:
        new = [g.size(1, 3) if s == 1 and i else g.one([s, 1]) for i, s in enumerate(shape)]
        if g.batch is not None:
            new[0] = 1
        g.add("Expand", [x, g.constant(new, np.int64)])


def depth(g: Graph) -> None:
    """DepthToSpace, both modes, and SpaceToDepth."""
    x = g.pick((4,))
    if g.chance(0.5):
        g.add("DepthToSpace", [x], blocksize=2, mode=g.one(["DCR", "CRD"]))
    else:
        g.add("SpaceToDepth", [x], blocksize=2)


def resize(g: Graph) -> None:
    """Resize, by factors and to sizes."""
    x = g.pick((3, 4))
    shape = g.shape(x)
    mode = g.one(["nearest", "linear"])
    ways = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    given: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": g.one(ways)}
    if mode == "nearest":
        given["nearest_mode"] = g.one(["floor", "round_prefer_floor", "ceil", "round_prefer_ceil"])
    if g.chance(0.5):
        scales = g.constant([1, 1, *(g.one([2.0, 3.0, 0.5, 1.5]) for _ in shape[2:])])
        g.add("Resize", [x, "", scales], **given)
    else:
        if g.batch not in (None, 1):
            raise Unfit
        sizes = g.constant([*shape[:2], *(g.size(1, 2 * s) for s in shape[2:])], np.int64)
        g.add("Resize", [x, "", "", sizes], **given)


WEIGHTS = [conv, conv, conv, conv_transpose, gemm, gemm, matmul, matmul_left, prelu]
NORMS = [batch_norm, other_norm]
POOLS = [pool, pool, reduction]
ELEMENTS = [activation, activation, activation, of_positive, squared]
BINARY = [with_constant, with_constant, with_wider_constant, with_value, with_value, with_reduced, with_any, many]
MOVES = [concat, split, slice_, pad, reshape, reshape, transpose, transpose, squeeze, gather, expand, depth, resize]
MAKERS = [*WEIGHTS, *NORMS, *POOLS, *ELEMENTS, *BINARY, *MOVES, matmul_both]

#: with more of what works in place, on values that a gradient is computed from
_TRAINED = [*MAKERS, *ELEMENTS, *ELEMENTS, prelu]

#: samples while a graph of varying batch grows: no other axis is likely to be of that size
_GROWING = 13
#: shapes of one sample of an input
_SAMPLES = [(4, 6, 5), (3, 8, 8), (2, 5, 7), (6, 9), (4, 8), (5, 4), (12,), (7,), (4, 1, 6), (1, 6, 6), (3, 2, 4, 3)]


@dataclass
class Case:
    """A graph with samples.

    model : the graph
    inputs : by name
    """

    model: onnx.ModelProto
    inputs: dict[str, Array]


def _runs(proto: onnx.ModelProto) -> bool:
    """False where the whole has shapes that onnxruntime's inference gets wrong, as of a ceil_mode pool."""
    try:
        session(proto)
    except Exception:  # onnxruntime's kinds have no common base
        return False
    return True


def draw(seed: int) -> Case:
    """A graph of any operators, with one to three inputs and one to four outputs, some of them read inside too."""
    random = np.random.default_rng(seed)
    batch = [None, 1, _GROWING, _GROWING][int(random.integers(4))]
    g = Graph(random, batch, fixed=batch == _GROWING and random.random() < 0.2)
    for _ in range(int(g.one([1, 1, 1, 2, 3]))):
        sample = g.one(_SAMPLES)
        g.input((batch or 1, *sample))
        if g.chance(0.3):
            g.input((batch or 1, *sample))
    g.grow(MAKERS, g.size(2, 12))
    ends = [n for node in g.nodes for n in node.output if n not in g.used]
    inner = [n for node in g.nodes for n in node.output if n in g.used and g.chance(0.08)]
    unread = [name for name in g.inputs if name not in g.used]
    for name in unread:
        del g.inputs[name]
    samples = g.size(2, 3) if batch == _GROWING and not g.fixed else _GROWING
    inputs = {name: array[:samples] for name, array in g.inputs.items()}
    varying = batch == _GROWING and not g.fixed
    proto = g.finished([*ends, *inner], varying)
    return Case(proto, inputs) if g.nodes and _runs(proto) else draw(seed + 10**9)


def draw_trained(seed: int) -> Case:
    """A graph of one input whose every loose end goes through a Gemm of its own into the one output (n, 3)."""
    random = np.random.default_rng(seed)
    g = Graph(random, _GROWING)
    g.input((_GROWING, *g.one(_SAMPLES)))
    g.grow(_TRAINED, g.size(2, 10))
    ends = []
    for end in [n for n in g.values if n not in g.used]:
        flat = g.add("Flatten", [end], axis=1)[0]
        width = g.shape(flat)[1]
        weights = [g.constant(g.normal(3, width) / np.sqrt(width)), g.constant(g.normal(3))]
        ends += g.add("Gemm", [flat, *weights], transB=1)
    g.add("Sum", ends) if len(ends) > 1 else g.add("Mul", [ends[0], g.constant([2.0])])
    proto = g.finished([g.nodes[-1].output[0]], varying=True)
    return Case(proto, {"x0": g.inputs["x0"][: g.size(2, 3)]}) if _runs(proto) else draw_trained(seed + 10**9)
