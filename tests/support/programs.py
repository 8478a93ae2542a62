"""Programs built by hand, for tests of the planner and the writers; and random ones."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from edgeprop.export.program.program import Op, Port, Program, Tensor

Array = np.ndarray[Any, np.dtype[Any]]


class Builder:
    """Adds ops one by one; each method returns the name of the tensor it makes. float32 unless said otherwise."""

    def __init__(self, name: str = "net", seed: int = 0) -> None:
        self.program = Program(name=name, ops=[], tensors={}, inputs=[], outputs=[])
        self.random = np.random.default_rng(seed)

    def _tensor(self, name: str, dtype: str, shape: tuple[int, ...], **more: Any) -> str:
        assert name not in self.program.tensors
        self.program.tensors[name] = Tensor(name, dtype, shape, **more)
        return name

    def _weight(self, name: str, shape: tuple[int, ...], trainable: bool = False) -> str:
        values = self.random.normal(0, 1 / np.sqrt(max(shape[-1], 1)), shape).astype(np.float32)
        return self._tensor(name, "f32", shape, data=values, trainable=trainable)

    def _op(self, kind: str, name: str, inputs: list[str], y: str, **attrs: Any) -> str:
        self.program.ops.append(Op(kind, name, inputs, [y], attrs))
        return y

    def shape(self, x: str) -> tuple[int, ...]:
        return self.program.tensors[x].shape

    def like(self, x: str, name: str) -> str:
        """A new activation of the same type, shape and quantization."""
        t = self.program.tensors[x]
        return self._tensor(name, t.dtype, t.shape, scale=t.scale, zero_point=t.zero_point)

    def input(self, shape: tuple[int, ...], name: str = "x", dtype: str = "f32", **more: Any) -> str:
        self._tensor(name, dtype, shape, **more)
        self.program.inputs.append(Port(name, name, (0, *shape), tuple(range(len(shape) + 1))))
        return name

    def output(self, x: str) -> str:
        shape = self.shape(x)
        self.program.outputs.append(Port(x, x, (0, *shape), tuple(range(len(shape) + 1))))
        return x

    def dense(self, x: str, n_out: int, name: str, trainable: bool = False, lo: float = -inf, hi: float = inf) -> str:
        n_in = self.program.tensors[x].count
        w = self._weight(f"{name}.weight", (n_out, n_in), trainable)
        b = self._weight(f"{name}.bias", (n_out,), trainable)
        y = self._tensor(f"{name}_out", "f32", (n_out,))
        return self._op("dense_f32", name, [x, w, b], y, n_in=n_in, n_out=n_out, rows=1, lo=lo, hi=hi)

    def conv(
        self,
        x: str,
        channels: int,
        name: str,
        trainable: bool = False,
        lo: float = -inf,
        hi: float = inf,
        stride: int = 1,
    ) -> str:
        """3 x 3, padded to keep the size at stride 1."""
        h, w, c = self.shape(x)
        attrs = _window(h, w, c, channels, stride)
        inputs = [
            x,
            self._weight(f"{name}.weight", (channels, 3, 3, c), trainable),
            self._weight(f"{name}.bias", (channels,), trainable),
        ]
        y = self._tensor(f"{name}_out", "f32", (attrs["out_h"], attrs["out_w"], channels))
        return self._op("conv2d_f32", name, inputs, y, **attrs, groups=1, lo=lo, hi=hi)

    def depthwise(self, x: str, name: str, trainable: bool = False, lo: float = -inf, hi: float = inf) -> str:
        h, w, c = self.shape(x)
        attrs = _window(h, w, c, c, 1)
        inputs = [
            x,
            self._weight(f"{name}.weight", (3, 3, c), trainable),
            self._weight(f"{name}.bias", (c,), trainable),
        ]
        y = self._tensor(f"{name}_out", "f32", (h, w, c))
        return self._op("depthwise_conv2d_f32", name, inputs, y, **attrs, groups=c, lo=lo, hi=hi)

    def affine(self, x: str, name: str, trainable: bool = False) -> str:
        *_, c = self.shape(x)
        inputs = [x, self._weight(f"{name}.scale", (c,), trainable), self._weight(f"{name}.offset", (c,), trainable)]
        rows = self.program.tensors[x].count // c
        return self._op("affine_f32", name, inputs, self.like(x, f"{name}_out"), rows=rows, channels=c, lo=-inf, hi=inf)

    def unary(self, kind: str, x: str, name: str, alpha: float = 0.0, lo: float = -inf, hi: float = inf) -> str:
        y = self.like(x, f"{name}_out")
        return self._op(kind, name, [x], y, count=self.program.tensors[x].count, alpha=alpha, lo=lo, hi=hi)

    def add(self, a: str, b: str, name: str, lo: float = -inf, hi: float = inf, kind: str = "add_f32") -> str:
        y = self.like(a, f"{name}_out")
        return self._op(kind, name, [a, b], y, count=self.program.tensors[a].count, alpha=0.0, lo=lo, hi=hi)

    def function(self, kind: str, x: str, name: str) -> str:
        """A function of one element without parameters."""
        attrs = {"count": self.program.tensors[x].count, "alpha": 0.0, "beta": 0.0, "gamma": 0.0}
        return self._op(kind, name, [x], self.like(x, f"{name}_out"), **attrs)

    def prelu(self, x: str, name: str, trainable: bool = False) -> str:
        *_, c = self.shape(x)
        inputs = [x, self._weight(f"{name}.slope", (c,), trainable)]
        rows = self.program.tensors[x].count // c
        return self._op("prelu_f32", name, inputs, self.like(x, f"{name}_out"), rows=rows, channels=c)

    def mul(self, a: str, b: str, name: str, lo: float = -inf) -> str:
        """Of one shape."""
        attrs = {"dims": (1,) * 5 + (self.program.tensors[a].count,), "alpha": 0.0, "lo": lo, "hi": inf}
        steps = (0,) * 5 + (1,)
        return self._op("mul_f32", name, [a, b], self.like(a, f"{name}_out"), **attrs, a_strides=steps, b_strides=steps)

    def softmax(self, x: str, name: str = "softmax") -> str:
        return self._op(
            "softmax_f32", name, [x], self.like(x, f"{name}_out"), rows=1, channels=self.program.tensors[x].count
        )

    def pool(self, x: str, name: str, kind: str = "max_pool2d_f32") -> str:
        """2 x 2."""
        h, w, c = self.shape(x)
        t = self.program.tensors[x]
        y = self._tensor(f"{name}_out", t.dtype, (h // 2, w // 2, c), scale=t.scale, zero_point=t.zero_point)
        attrs = {"in_h": h, "in_w": w, "channels": c, "out_h": h // 2, "out_w": w // 2, "kernel_h": 2, "kernel_w": 2}
        attrs |= {"stride_h": 2, "stride_w": 2, "dilation_h": 1, "dilation_w": 1, "pad_top": 0, "pad_left": 0}
        return self._op(kind, name, [x], y, **attrs, count_include_pad=0, pad_bottom=0, pad_right=0)

    def quantize(self, x: str, name: str, scale: float = 0.05, zero_point: int = -3) -> str:
        t = self.program.tensors[x]
        y = self._tensor(f"{name}_out", "i8", t.shape, scale=scale, zero_point=zero_point)
        return self._op("quantize", name, [x], y, count=t.count, alpha=0.0, lo=-inf, hi=inf)

    def dequantize(self, x: str, name: str) -> str:
        t = self.program.tensors[x]
        y = self._tensor(f"{name}_out", "f32", t.shape)
        return self._op("dequantize", name, [x], y, count=t.count, alpha=0.0, lo=-inf, hi=inf)

    def _weights_s8(self, name: str, shape: tuple[int, ...], channels: int) -> list[str]:
        w = self.random.integers(-127, 128, shape).astype(np.int8)
        b = self.random.integers(-500, 500, channels).astype(np.int32)
        m = self.random.uniform(0.001, 0.004, channels).astype(np.float32)
        return [
            self._tensor(f"{name}.weight", "i8", shape, data=w),
            self._tensor(f"{name}.bias", "i32", (channels,), data=b),
            self._tensor(f"{name}.multiplier", "f32", (channels,), data=m),
        ]

    def conv_s8(
        self,
        x: str,
        channels: int,
        name: str,
        stride: int = 1,
        kernel: tuple[int, int] = (3, 3),
        depthwise: bool = False,
    ) -> str:
        h, w, c = self.shape(x)
        attrs = _window(h, w, c, channels, stride, kernel)
        shape = (*kernel, channels) if depthwise else (channels, *kernel, c)
        inputs = [x, *self._weights_s8(name, shape, channels)]
        y = self._tensor(f"{name}_out", "i8", (attrs["out_h"], attrs["out_w"], channels), scale=0.05, zero_point=-5)
        kind = "depthwise_conv2d_s8" if depthwise else "conv2d_s8"
        return self._op(kind, name, inputs, y, **attrs, groups=c if depthwise else 1, lo=-123.0, hi=132.0)

    def dense_s8(self, x: str, n_out: int, name: str) -> str:
        n_in = self.program.tensors[x].count
        inputs = [x, *self._weights_s8(name, (n_out, n_in), n_out)]
        y = self._tensor(f"{name}_out", "i8", (n_out,), scale=0.05, zero_point=-5)
        return self._op("dense_s8", name, inputs, y, n_in=n_in, n_out=n_out, rows=1, lo=-123.0, hi=132.0)

    def global_pool_s8(self, x: str, name: str) -> str:
        h, w, c = self.shape(x)
        y = self._tensor(f"{name}_out", "i8", (c,), scale=0.05, zero_point=-5)
        return self._op("global_average_pool_s8", name, [x], y, size=h * w, channels=c)

    def learn(self, logits: str, loss: str = "softmax_cross_entropy") -> None:
        self.program.logits, self.program.loss = logits, loss


def _window(h: int, w: int, in_c: int, out_c: int, stride: int, kernel: tuple[int, int] = (3, 3)) -> dict[str, int]:
    """Attributes of a convolution with `same` padding."""
    (kernel_h, kernel_w), out_h, out_w = kernel, -(-h // stride), -(-w // stride)
    sizes = {"in_h": h, "in_w": w, "in_c": in_c, "out_h": out_h, "out_w": out_w, "out_c": out_c}
    steps = {"stride_h": stride, "stride_w": stride, "dilation_h": 1, "dilation_w": 1}
    pads = {"pad_top": (kernel_h - 1) // 2, "pad_left": (kernel_w - 1) // 2}
    return {**sizes, "kernel_h": kernel_h, "kernel_w": kernel_w, **steps, **pads}


def head() -> Program:
    """64 -> 10 dense and softmax: 650 weights, all of them trainable."""
    b = Builder("head")
    logits = b.dense(b.input((64,)), 10, "fc", trainable=True)
    b.output(b.softmax(logits))
    b.learn(logits)
    b.program.labels = [str(i) for i in range(10)]
    return b.program


def mlp() -> Program:
    """64-32-10 with a fused ReLU: 2,410 weights, all of them trainable."""
    b = Builder("mlp")
    hidden = b.dense(b.input((64,)), 32, "hidden", trainable=True, lo=0.0)
    logits = b.dense(hidden, 10, "fc", trainable=True)
    b.output(b.softmax(logits))
    b.learn(logits)
    return b.program


def rows() -> Program:
    """A trainable dense layer of three rows, as over the steps of a sequence, behind another and before one of one row."""
    b = Builder("rows")
    x = b.dense(b.input((3, 4), "steps"), 12, "mix", trainable=True)
    y = b._tensor("each", "f32", (3, 5))
    inputs = [x, b._weight("step.weight", (5, 4), True), b._weight("step.bias", (5,), True)]
    x = b._op("dense_f32", "step", inputs, y, n_in=4, n_out=5, rows=3, lo=0.0, hi=inf)
    logits = b.dense(x, 4, "fc", trainable=True)
    b.output(logits)
    b.learn(logits)
    return b.program


def cnn(trainable: bool = True) -> Program:
    """Int8 convolutions in front of a float32 head that may learn."""
    b = Builder("cnn")
    x = b.quantize(b.input((12, 12, 1), "image"), "to_int8")
    x = b.pool(b.conv_s8(x, 8, "conv1"), "pool1", "max_pool2d_s8")
    x = b.conv_s8(b.conv_s8(x, 8, "dw", depthwise=True), 16, "pw", kernel=(1, 1))
    x = b.dequantize(b.global_pool_s8(x, "pool2"), "to_float")
    logits = b.dense(x, 10, "fc", trainable=trainable)
    b.output(b.softmax(logits))
    if trainable:
        b.learn(logits)
    b.program.labels = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    b.program.source, b.program.source_hash = "cnn.onnx", "0123456789abcdef" * 4
    return b.program


def residual() -> Program:
    """A float32 net with a skip connection, a depthwise and an affine layer, trained from its second convolution on."""
    b = Builder("residual")
    x = b.conv(b.input((8, 8, 2)), 4, "stem", lo=0.0)
    a = b.conv(x, 4, "a", trainable=True, lo=0.0, hi=6.0)
    y = b.affine(b.depthwise(a, "b", trainable=True), "norm", trainable=True)
    x = b.unary("leaky_relu_f32", b.add(a, y, "sum"), "act", alpha=0.1)
    x = b.pool(b.pool(x, "max"), "mean", "average_pool2d_f32")
    logits = b.dense(b.unary("tanh_f32", x, "squash"), 5, "fc", trainable=True)
    b.output(b.softmax(logits))
    b.learn(logits)
    return b.program


def resnet8_int8() -> Program:
    """Shapes of MLPerf Tiny's image classification."""
    b = Builder("resnet8")
    x = b.conv_s8(b.input((32, 32, 3), "image", "i8", scale=1 / 255, zero_point=-128), 16, "stem")
    for i, channels in enumerate((16, 32, 64)):
        stride = 1 if i == 0 else 2
        y = b.conv_s8(b.conv_s8(x, channels, f"a{i}", stride), channels, f"b{i}")
        if i > 0:
            x = b.conv_s8(x, channels, f"skip{i}", stride, kernel=(1, 1))
        x = b.add(x, y, f"add{i}", lo=-123.0, hi=132.0, kind="add_s8")
    b.output(b.dense_s8(b.global_pool_s8(x, "pool"), 10, "fc"))
    return b.program


def ds_cnn_int8() -> Program:
    """Shapes of MLPerf Tiny's keyword spotting."""
    b = Builder("kws")
    x = b.input((49, 10, 1), "mfcc", "i8", scale=0.5847, zero_point=83)
    x = b.conv_s8(x, 64, "stem", stride=2, kernel=(10, 4))
    for i in range(4):
        x = b.conv_s8(b.conv_s8(x, 64, f"dw{i}", depthwise=True), 64, f"pw{i}", kernel=(1, 1))
    b.output(b.dense_s8(b.global_pool_s8(x, "pool"), 12, "fc"))
    return b.program


def vww_int8() -> Program:
    """Shapes of MLPerf Tiny's visual wake words: MobileNetV1, width 0.25, 96 x 96."""
    b = Builder("vww")
    x = b.conv_s8(b.input((96, 96, 3), "image", "i8", scale=1 / 255, zero_point=-128), 8, "stem", stride=2)
    widths = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)]
    for i, (channels, stride) in enumerate(widths):
        x = b.conv_s8(x, b.shape(x)[2], f"dw{i}", stride, depthwise=True)
        x = b.conv_s8(x, channels, f"pw{i}", kernel=(1, 1))
    b.output(b.dense_s8(b.global_pool_s8(x, "pool"), 2, "fc"))
    return b.program


def autoencoder_int8() -> Program:
    """Shapes of MLPerf Tiny's anomaly detection."""
    b = Builder("ad")
    x = b.input((640,), "spectrum", "i8", scale=0.391, zero_point=89)
    for i, width in enumerate((128, 128, 128, 128, 8, 128, 128, 128, 128, 640)):
        x = b.dense_s8(x, width, f"fc{i}")
    b.output(x)
    return b.program


def random_program(random: np.random.Generator, n_ops: int, learn: bool) -> Program:
    """A float32 graph of ops over (4, 4, 2) images with branches, ending in a dense layer on its last value."""
    b = Builder("random", int(random.integers(1 << 30)))
    values = [b.input((4, 4, 2), "x0")]
    if random.random() < 0.3:
        values.append(b.input((4, 4, 2), "x1"))
    for i in range(n_ops):
        values.append(_random_op(b, random, values, f"op{i}", learn))
        if random.random() < 0.1:
            b.output(values[-1])
    logits = b.dense(values[-1], 3, "fc", learn)
    b.output(b.softmax(logits))
    if learn:
        b.learn(logits)
        _freeze_unreached(b.program)
    return b.program


def _random_op(b: Builder, random: np.random.Generator, values: list[str], name: str, learn: bool) -> str:
    """One more op on values so far, rather the last ones."""

    def pick() -> str:
        return values[max(len(values) - int(random.geometric(0.5)), 0)]

    trainable = learn and bool(random.random() < 0.25)
    lo = 0.0 if random.random() < 0.4 else -inf
    makers = [
        lambda: b.conv(pick(), 2, name, trainable, lo),
        lambda: b.depthwise(pick(), name, trainable, lo),
        lambda: b.affine(pick(), name, trainable),
        lambda: b.add(pick(), pick(), name, lo),
        lambda: b.add(pick(), pick(), name, lo),
        lambda: b.unary("clip_f32", pick(), name, lo=0.0, hi=6.0),
        lambda: b.unary("leaky_relu_f32", pick(), name, alpha=0.1),
        lambda: b.unary("sigmoid_f32", pick(), name),
        lambda: b.unary("tanh_f32", pick(), name),
        lambda: b.unary("copy", pick(), name),
        lambda: b.function("gelu_f32", pick(), name),
        lambda: b.function("softplus_f32", pick(), name),
        lambda: b.prelu(pick(), name, trainable),
        lambda: b.mul(pick(), pick(), name, lo),
    ]
    return makers[int(random.integers(len(makers)))]()


def _freeze_unreached(program: Program) -> None:
    """Weights that the logits do not depend on cannot be trained."""
    reached = {program.logits}
    for op in reversed(program.ops):
        if op.outputs[0] in reached:
            reached.update(op.inputs)
    for tensor in program.trainable():
        tensor.trainable = tensor.name in reached
