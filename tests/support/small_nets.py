"""Small float32 nets, one for each kind of layer that a quantizer or an opset treats in its own way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]


class Net:
    """A graph in the making: each method adds one node behind the last one, and returns its output."""

    def __init__(self, shape: Sequence[int], opset: int = 17, seed: int = 0) -> None:
        self.random, self.opset, self.shape = np.random.default_rng(seed), opset, shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}

    def const(self, array: Any, dtype: Any = np.float32) -> str:
        """A new initializer."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype)
        return name

    def ints(self, *values: int) -> str:
        """A new initializer of int64."""
        return self.const(values, np.int64)

    def weight(self, *shape: int) -> str:
        """Weights as a trained layer has them: rows of different size."""
        values = self.random.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        return self.const(values * self.random.uniform(0.3, 2, (shape[0],) + (1,) * (len(shape) - 1)))

    def add(self, op: str, *inputs: str, n: int = 1, **attributes: Any) -> Any:
        """Add a node with `n` outputs."""
        k = len(self.nodes)
        outputs = [f"v{k}_{i}" for i in range(n)]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, name=f"{op}_{k}", **attributes))
        return outputs if n > 1 else outputs[0]

    def conv(self, x: str, c_in: int, c_out: int, k: int = 3, bias: bool = True, **attributes: Any) -> str:
        """Conv that keeps the size."""
        attributes = {"kernel_shape": [k, k], "pads": [k // 2] * 4, **attributes}
        weight = self.weight(c_out, c_in // attributes.get("group", 1), k, k)
        return str(self.add("Conv", x, weight, *([self.weight(c_out)] if bias else []), **attributes))

    def gemm(self, x: str, n_in: int, n_out: int) -> str:
        """Gemm with transB, as PyTorch writes it."""
        return str(self.add("Gemm", x, self.weight(n_out, n_in), self.weight(n_out), transB=1))

    def relu(self, x: str) -> str:
        """Relu."""
        return str(self.add("Relu", x))

    def model(self, *outputs: str, batch: int | str = "N") -> onnx.ModelProto:
        """The model, its outputs shaped by inference."""
        kind = onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", kind, [batch, *self.shape])],
            [helper.make_tensor_value_info(name, kind, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        return onnx.shape_inference.infer_shapes(made)


def mlp(opset: int) -> onnx.ModelProto:
    net = Net((10,), opset)
    h = net.relu(net.add("Add", net.add("MatMul", "x", net.weight(10, 16)), net.weight(16)))
    return net.model(net.gemm(net.relu(net.gemm(h, 16, 8)), 8, 4))


def cnn(opset: int) -> onnx.ModelProto:
    net = Net((2, 12, 12), opset)
    h = net.add("MaxPool", net.relu(net.conv("x", 2, 6)), kernel_shape=[2, 2], strides=[2, 2])
    h = net.add("AveragePool", net.relu(net.conv(h, 6, 8, strides=[2, 2])), kernel_shape=[2, 2], pads=[1, 0, 0, 1])
    return net.model(net.gemm(net.add("Flatten", h), 8 * 9, 5))


def clipped(opset: int) -> onnx.ModelProto:
    """ReLU6 behind convolutions, one depthwise, then the mean over the image."""
    net = Net((4, 8, 8), opset)

    def relu6(x: str) -> str:
        if opset < 11:
            return str(net.add("Clip", x, min=0.0, max=6.0))
        return str(net.add("Clip", x, net.const(0), net.const(6)))

    h = relu6(net.conv("x", 4, 6, 1))
    h = relu6(net.conv(h, 6, 6, group=6, strides=[2, 2]))
    h = net.add("GlobalAveragePool", relu6(net.conv(h, 6, 8, 1, bias=False)))
    return net.model(net.add("Softmax", net.gemm(net.add("Flatten", h), 8, 5), axis=1))


def residual(opset: int) -> onnx.ModelProto:
    net = Net((3, 6, 6), opset)
    h = net.relu(net.conv("x", 3, 4))
    h = net.relu(net.add("Add", h, net.conv(net.relu(net.conv(h, 4, 4)), 4, 4)))
    h = net.add("Add", net.conv(h, 4, 4, 1), h)
    return net.model(net.gemm(net.add("Flatten", net.add("GlobalAveragePool", h)), 4, 3))


def concat(opset: int) -> onnx.ModelProto:
    net = Net((3, 6, 6), opset)
    a, b = net.relu(net.conv("x", 3, 4, 1)), net.conv("x", 3, 2)
    pool = net.add("MaxPool", "x", kernel_shape=[3, 3], pads=[1] * 4)
    return net.model(net.conv(net.add("Concat", a, b, pool, axis=1), 9, 3, 1))


def gates(opset: int) -> onnx.ModelProto:
    """Squeeze and excite."""
    net = Net((3, 6, 6), opset)
    h = net.relu(net.conv("x", 3, 8))
    s = net.relu(net.conv(net.add("GlobalAveragePool", h), 8, 2, 1))
    h = net.add("Mul", h, net.add("Sigmoid", net.conv(s, 2, 8, 1)))
    return net.model(net.conv(h, 8, 3, 1))


def activations(opset: int) -> onnx.ModelProto:
    net = Net((3, 5, 5), opset)
    h = net.add("LeakyRelu", net.conv("x", 3, 4), alpha=0.1)
    h = net.add("Sigmoid", net.conv(h, 4, 4, 1))
    h = net.conv(h, 4, 4, 1)
    h = net.add("HardSwish", h) if opset >= 14 else net.add("Mul", h, net.add("HardSigmoid", h, alpha=1 / 6))
    h = net.add("Tanh", net.conv(h, 4, 4, 1))
    h = net.add("Elu", net.conv(h, 4, 4, 1))
    h = net.add("HardSigmoid", net.conv(h, 4, 4, 1))
    return net.model(net.conv(h, 4, 2, 1))


def silu(opset: int) -> onnx.ModelProto:
    net = Net((3, 5, 5), opset)
    h = net.conv("x", 3, 4)
    h = net.add("Mul", h, net.add("Sigmoid", h))
    slope = net.const(np.full((4, 1, 1), 0.2))
    return net.model(net.conv(net.add("PRelu", net.conv(h, 4, 4, 1), slope), 4, 2, 1))


def split(opset: int) -> onnx.ModelProto:
    """Two branches of the channels, shuffled."""
    net = Net((6, 4, 4), opset)
    h = net.relu(net.conv("x", 6, 8, 1))
    if opset < 13:
        a, b = net.add("Split", h, n=2, axis=1, split=[4, 4])
    else:
        a, b = net.add("Split", h, net.ints(4, 4), n=2, axis=1)
    h = net.add("Concat", a, net.relu(net.conv(b, 4, 4)), axis=1)
    h = net.add("Reshape", h, net.ints(-1, 2, 4, 4, 4))
    h = net.add("Reshape", net.add("Transpose", h, perm=[0, 2, 1, 3, 4]), net.ints(-1, 8, 4, 4))
    return net.model(net.conv(h, 8, 3, 1))


def resized(opset: int) -> onnx.ModelProto:
    net = Net((3, 4, 4), opset)
    h = net.relu(net.conv("x", 3, 4))
    if opset < 9:
        h = net.add("Upsample", h, scales=[1.0, 1.0, 2.0, 2.0])
    elif opset < 11:
        h = net.add("Upsample" if opset < 10 else "Resize", h, net.const([1, 1, 2, 2]), mode="nearest")
    else:
        options = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        roi = net.const([]) if opset < 13 else ""
        h = net.add("Resize", h, roi, net.const([1, 1, 2, 2]), mode="nearest", **options)
    return net.model(net.conv(h, 4, 2))


def padded(opset: int) -> onnx.ModelProto:
    net = Net((3, 5, 5), opset)
    h = net.relu(net.conv("x", 3, 4))
    pads = [0, 0, 1, 2, 0, 0, 2, 1]
    h = net.add("Pad", h, pads=pads) if opset < 11 else net.add("Pad", h, net.ints(*pads))
    h = net.conv(h, 4, 4, pads=[0] * 4)
    if opset < 10:
        h = net.add("Slice", h, axes=[2, 3], starts=[1, 0], ends=[5, 100])
    else:
        h = net.add("Slice", h, net.ints(1, 0), net.ints(5, 100), net.ints(2, 3))
    return net.model(net.conv(h, 4, 2, 1))


def transposed(opset: int) -> onnx.ModelProto:
    """An image of Keras: channels last at both ends."""
    net = Net((5, 5, 3), opset)
    h = net.relu(net.conv(net.add("Transpose", "x", perm=[0, 3, 1, 2]), 3, 4))
    h = net.conv(h, 4, 4)
    return net.model(net.add("Transpose", h, perm=[0, 2, 3, 1]))


def deconvolution(opset: int) -> onnx.ModelProto:
    net = Net((3, 4, 4), opset)
    h = net.relu(net.conv("x", 3, 4))
    h = net.add("ConvTranspose", h, net.weight(4, 3, 2, 2), net.weight(3), kernel_shape=[2, 2], strides=[2, 2])
    return net.model(net.conv(net.relu(h), 3, 2))


def temporal(opset: int) -> onnx.ModelProto:
    """1-D convolutions over time."""
    net = Net((4, 16), opset)
    h = net.relu(net.add("Conv", "x", net.weight(6, 4, 3), net.weight(6), dilations=[2], pads=[4, 0]))
    h = net.relu(net.add("Conv", h, net.weight(6, 1, 3), net.weight(6), group=6, pads=[2, 0]))
    h = net.add("AveragePool", h, kernel_shape=[4], strides=[4])
    return net.model(net.gemm(net.add("Flatten", h), 24, 3))


def attention(opset: int) -> onnx.ModelProto:
    net = Net((5, 8), opset)
    q, k, v = (net.add("Add", net.add("MatMul", "x", net.weight(8, 8)), net.weight(8)) for _ in range(3))
    scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 2, 1]))
    p = net.add("Softmax", net.add("Mul", scores, net.const(8**-0.5)), axis=-1 if opset >= 13 else 2)
    h = net.add("MatMul", net.add("MatMul", p, v), net.weight(8, 8))
    return net.model(net.add("Add", h, "x"))


def scaled(opset: int) -> onnx.ModelProto:
    """Products, differences and quotients with constants, as preprocessing has them."""
    net = Net((3, 5, 5), opset)
    h = net.add("Div", net.add("Sub", "x", net.const(np.full((1, 3, 1, 1), 0.4))), net.const(0.5))
    h = net.conv(h, 3, 4)
    h = net.add("Mul", h, net.const(net.random.uniform(0.5, 2, (1, 4, 1, 1))))
    h = net.relu(net.add("Add", h, net.const(net.random.standard_normal((1, 4, 1, 1)))))
    return net.model(net.conv(h, 4, 2, 1))


def normalized(opset: int) -> onnx.ModelProto:
    net = Net((3, 5, 5), opset)
    parts = [net.const(net.random.uniform(0.5, 2, 4)) for _ in range(4)]
    h = net.relu(net.add("BatchNormalization", net.conv("x", 3, 4), *parts))
    mean = {"axes": [2, 3]} if opset < 18 else {}
    h = net.add("ReduceMean", h, *([] if mean else [net.ints(2, 3)]), keepdims=0, **mean)
    return net.model(net.gemm(h, 4, 3))


NETS: dict[str, Callable[[int], onnx.ModelProto]] = {
    make.__name__: make
    for make in (
        mlp,
        cnn,
        clipped,
        residual,
        concat,
        gates,
        activations,
        silu,
        split,
        resized,
        padded,
        transposed,
        deconvolution,
        temporal,
        attention,
        scaled,
        normalized,
    )
}
