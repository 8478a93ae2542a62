"""Random cases of the int8 ops, each of which can be asked for ONNX Runtime's, NumPy's and the C runtime's answer.

Scales and zero points are drawn so that saturation, ties of rounding and the ends of the range turn up often.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.support import ort_arithmetic as reference
from tests.support import run_op
from tests.support.qdq import Graph
from tests.support.run_op import Arg

Array = np.ndarray[Any, Any]
f32 = np.float32


class Draw:
    """Random values for one case, all from one generator."""

    def __init__(self, seed: int, dtype: Any = np.int8) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = np.dtype(dtype)
        self.lo, self.hi = reference.limits(dtype)

    def size(self, lo: int, hi: int) -> int:
        """An integer from lo to hi."""
        return int(self.rng.integers(lo, hi + 1))

    def pair(self, lo: int, hi: int) -> list[int]:
        """Two integers from lo to hi."""
        return [self.size(lo, hi), self.size(lo, hi)]

    def codes(self, *shape: int) -> Array:
        """Activations: mostly uniform, sometimes only the two ends."""
        if self.rng.random() < 0.1:
            return self.rng.choice(np.array([self.lo, self.hi], self.dtype), shape)
        return self.rng.integers(self.lo, self.hi + 1, shape).astype(self.dtype)

    def weights(self, *shape: int) -> Array:
        """int8 weights over the whole range."""
        return self.rng.integers(-128, 128, shape).astype(np.int8)

    def zero(self) -> int:
        """A zero point: an end, the middle, or any."""
        return int(self.rng.choice([self.lo, self.hi, (self.lo + self.hi + 1) // 2, self.size(self.lo, self.hi)]))

    def scale(self, lo: float = -4, hi: float = 1) -> Any:
        """A scale: a power of two (ties!) or any."""
        exponent = self.rng.uniform(lo, hi)
        return f32(2.0 ** round(exponent * 3.32)) if self.rng.random() < 0.4 else f32(10.0**exponent)

    def output_scale(self, spread: float) -> Any:
        """A scale for results of this spread, from far too fine (saturates) to too coarse."""
        wanted = spread / 64 * 10 ** self.rng.uniform(-1, 1)
        return f32(2.0 ** round(float(np.log2(wanted)))) if self.rng.random() < 0.4 else f32(wanted)


def device(
    op: str,
    attrs: dict[str, Any],
    inputs: list[Arg],
    shape: tuple[int, ...],
    scale: float,
    zero: int,
    place_of: int = -1,
) -> Array:
    """The C runtime's int8 output of `shape` (batch first)."""
    y = Arg(np.empty(shape, np.int8), float(scale), zero, place_of=place_of)
    rc = run_op.call(op, attrs, inputs, [y], shape[0])
    assert rc == 0, rc
    return y.data


def signed(codes: Array) -> Array:
    """uint8 codes as the device has them: minus 128."""
    return (codes.astype(np.int32) - (128 if codes.dtype == np.uint8 else 0)).astype(np.int8)


def nhwc(x: Array) -> Array:
    """NCHW to NHWC."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1))


def folded(bias: Array | None, weights: Array, x_zero: int) -> Array:
    """The device's bias: the input's zero point folded in, over weights (out_c, all taps)."""
    b = np.zeros(len(weights), np.int64) if bias is None else bias.astype(np.int64)
    return np.asarray((b - x_zero * weights.astype(np.int64).sum(1)).astype(np.int32))


class Conv:
    """Conv, grouped and depthwise, between DQ and Q."""

    def __init__(self, seed: int, dtype: Any = np.int8) -> None:
        d = Draw(seed, dtype)
        self.dtype = d.dtype
        kind = d.size(0, 3)
        self.group = [1, d.size(2, 4), d.size(1, 40), d.size(2, 6)][kind]
        cg, og = [(d.size(1, 40), d.size(1, 40)), (d.size(1, 9), d.size(1, 20)), (1, 1), (1, d.size(2, 3))][kind]
        kernel = d.pair(1, 5)
        self.strides, self.dilations = d.pair(1, 3), d.pair(1, 2)
        self.pads = [d.size(0, 3) for _ in range(4)]
        image = [
            d.size(max(1, 1 + (k - 1) * s - p), 11) for k, s, p in zip(kernel, self.dilations, self.pads, strict=False)
        ]
        self.x = d.codes(d.size(1, 2), self.group * cg, *image)
        self.w = d.weights(self.group * og, cg, *kernel)
        self.zeros: Array | None = None
        self.xs, self.xz, self.yz = d.scale(), d.zero(), d.zero()
        n = len(self.w)
        self.ws = np.array([d.scale(-4, 0) for _ in range(n)]) if d.size(0, 2) else d.scale(-4, 0)
        taps = cg * kernel[0] * kernel[1]
        self.bias = d.rng.integers(-3000 * taps, 3000 * taps + 1, n).astype(np.int32) if d.size(0, 3) else None
        self.ys = d.output_scale(float(self.xs * np.mean(self.ws)) * 5500 * taps**0.5)

    def graph(self) -> tuple[Graph, str]:
        """The QDQ graph and its output."""
        g, zero = Graph(), np.zeros(self.ws.shape, np.int8)
        x = g.dequantize(g.feed("x", self.x), self.xs, self.dtype.type(self.xz))
        inputs = [x, g.dequantize(g.constant(self.w), self.ws, zero, axis=0)]
        if self.bias is not None:
            inputs.append(g.dequantize(g.constant(self.bias), f32(self.xs) * self.ws, axis=0))
        y = g.op("Conv", *inputs, strides=self.strides, pads=self.pads, dilations=self.dilations, group=self.group)
        return g, g.quantize(y, self.ys, self.dtype.type(self.yz))

    def numpy(self) -> Array:
        """The reference."""
        return reference.conv(
            self.x, self.xs, self.xz, self.centred(), self.ws, 0, self.bias, self.ys, self.yz,
            strides=self.strides, pads=self.pads, dilations=self.dilations, group=self.group,
        )  # fmt: skip

    def centred(self) -> Array:
        """The weights less their zero points."""
        return self.w if self.zeros is None else self.w.astype(np.int16) - self.zeros[:, None, None, None]

    def device(self) -> Array:
        """The C runtime's answer (NHWC)."""
        shape = self.numpy().shape
        off = 128 if self.dtype == np.uint8 else 0
        xz, yz, n = self.xz - off, self.yz - off, len(self.w)
        depthwise = self.w.shape[1] == 1 and self.group > 1 and self.zeros is None
        weight = np.ascontiguousarray(self.w.transpose(2, 3, 1, 0) if depthwise else self.w.transpose(0, 2, 3, 1))
        m = np.broadcast_to(reference.multiplier(self.xs, self.ws, self.ys), (n,)).astype(f32)
        constants = [weight, folded(self.bias, self.centred().reshape(n, -1), xz), np.ascontiguousarray(m)]
        attrs = {
            "in_h": self.x.shape[2], "in_w": self.x.shape[3], "in_c": self.x.shape[1],
            "out_h": shape[2], "out_w": shape[3], "out_c": shape[1],
            "kernel_h": self.w.shape[2], "kernel_w": self.w.shape[3],
            "stride_h": self.strides[0], "stride_w": self.strides[1],
            "dilation_h": self.dilations[0], "dilation_w": self.dilations[1],
            "pad_top": self.pads[0], "pad_left": self.pads[1], "groups": self.group,
            "lo": -128 - yz, "hi": 127 - yz,
        }  # fmt: skip
        inputs = [Arg(nhwc(signed(self.x)), float(self.xs), xz), *(Arg(c, constant=True) for c in constants)]
        op = "depthwise_conv2d_s8" if depthwise else "conv2d_s8"
        if self.zeros is not None:
            op = "conv2d_zero_s8"
            inputs.append(Arg(self.zeros, constant=True))
        return device(op, attrs, inputs, (shape[0], *shape[2:], shape[1]), self.ys, yz)


class ConvZero(Conv):
    """Conv whose weights have zero points: one, as onnxruntime takes them, or of every channel its own."""

    def __init__(self, seed: int, dtype: Any = np.int8, per_channel: bool = False) -> None:
        super().__init__(seed, dtype)
        d = Draw(seed + 1)
        zeros = d.weights(len(self.w)) if per_channel else np.full(len(self.w), d.zero(), np.int8)
        self.zeros = np.asarray(zeros, np.int8)
        self.ys = self.ys * f32(2)

    def graph(self) -> tuple[Graph, str]:
        """The QDQ graph and its output."""
        assert self.zeros is not None
        g, zero = Graph(), np.broadcast_to(self.zeros[0], self.ws.shape)
        x = g.dequantize(g.feed("x", self.x), self.xs, self.dtype.type(self.xz))
        inputs = [x, g.dequantize(g.constant(self.w), self.ws, np.ascontiguousarray(zero), axis=0)]
        if self.bias is not None:
            inputs.append(g.dequantize(g.constant(self.bias), f32(self.xs) * self.ws, axis=0))
        y = g.op("Conv", *inputs, strides=self.strides, pads=self.pads, dilations=self.dilations, group=self.group)
        return g, g.quantize(y, self.ys, self.dtype.type(self.yz))


class Dense:
    """Gemm, MatMul and MatMul + Add between DQ and Q."""

    def __init__(self, seed: int, dtype: Any = np.int8) -> None:
        d = Draw(seed, dtype)
        self.dtype = d.dtype
        self.kind = ["gemm", "gemm_transposed", "matmul_add"][d.size(0, 2)]
        rows, k, n = d.size(1, 4), d.size(1, 300), d.size(1, 40)
        self.x, self.w = d.codes(rows, k), d.weights(k, n)
        self.xs, self.xz, self.yz = d.scale(), d.zero(), d.zero()
        self.ws = np.array([d.scale(-4, 0) for _ in range(n)]) if d.size(0, 2) else d.scale(-4, 0)
        self.bias = d.rng.integers(-3000 * k, 3000 * k + 1, n).astype(np.int32) if d.size(0, 3) else None
        self.ys = d.output_scale(float(self.xs * np.mean(self.ws)) * 5500 * k**0.5)

    def graph(self) -> tuple[Graph, str]:
        """The QDQ graph and its output."""
        g, transposed = Graph(), self.kind == "gemm_transposed"
        x = g.dequantize(g.feed("x", self.x), self.xs, self.dtype.type(self.xz))
        weight = np.ascontiguousarray(self.w.T) if transposed else self.w
        w = g.dequantize(g.constant(weight), self.ws, np.zeros(self.ws.shape, np.int8), axis=0 if transposed else 1)
        bias = [] if self.bias is None else [g.dequantize(g.constant(self.bias), f32(self.xs) * self.ws, axis=0)]
        if self.kind == "matmul_add":
            y = g.op("MatMul", x, w)
            y = g.op("Add", y, *bias) if bias else y
        else:
            y = g.op("Gemm", x, w, *bias, transB=int(transposed))
        return g, g.quantize(y, self.ys, self.dtype.type(self.yz))

    def numpy(self) -> Array:
        """The reference."""
        return reference.gemm(self.x, self.xs, self.xz, self.w, self.ws, 0, self.bias, self.ys, self.yz)

    def device(self) -> Array:
        """The C runtime's answer, the rows as a batch or as one sample."""
        off = 128 if self.dtype == np.uint8 else 0
        (rows, k), n = self.x.shape, self.w.shape[1]
        m = np.ascontiguousarray(np.broadcast_to(reference.multiplier(self.xs, self.ws, self.ys), (n,)).astype(f32))
        weight = np.ascontiguousarray(self.w.T)
        constants = [weight, folded(self.bias, weight, self.xz - off), m]
        yz = self.yz - off
        batch = rows if k % 2 else 1
        attrs = {"n_in": k, "n_out": n, "rows": rows // batch, "lo": -128 - yz, "hi": 127 - yz}
        inputs = [Arg(signed(self.x), float(self.xs), self.xz - off), *(Arg(c, constant=True) for c in constants)]
        return device("dense_s8", attrs, inputs, (batch, rows // batch * n), self.ys, yz).reshape(rows, n)


class Pool:
    """MaxPool, AveragePool and GlobalAveragePool between DQ and Q."""

    def __init__(self, seed: int, dtype: Any = np.int8) -> None:
        d = Draw(seed, dtype)
        self.dtype = d.dtype
        self.kind = ["MaxPool", "AveragePool", "GlobalAveragePool"][d.size(0, 2)]
        self.kernel, self.strides = d.pair(1, 4), d.pair(1, 3)
        self.dilations = d.pair(1, 2) if self.kind == "MaxPool" else [1, 1]
        self.pads = [d.size(0, k - 1) for k in (*self.kernel, *self.kernel)]
        image = [d.size(1 + (k - 1) * s, 11) for k, s in zip(self.kernel, self.dilations, strict=True)]
        self.x = d.codes(d.size(1, 2), d.size(1, 40), *image)
        self.include_pad = d.size(0, 1)
        self.xs, self.xz, self.yz = d.scale(), d.zero(), d.zero()
        self.ys = d.output_scale(float(self.xs) * 100)
        if self.kind == "MaxPool":
            self.ys, self.yz = self.xs, self.xz

    def graph(self) -> tuple[Graph, str]:
        """The QDQ graph and its output."""
        g = Graph()
        attrs: dict[str, Any] = {"kernel_shape": self.kernel, "strides": self.strides, "pads": self.pads}
        if self.kind == "MaxPool":
            attrs["dilations"] = self.dilations
        elif self.kind == "AveragePool":
            attrs["count_include_pad"] = self.include_pad
        else:
            attrs = {}
        y = g.op(self.kind, g.dequantize(g.feed("x", self.x), self.xs, self.dtype.type(self.xz)), **attrs)
        return g, g.quantize(y, self.ys, self.dtype.type(self.yz))

    def numpy(self) -> Array:
        """The reference."""
        geometry: dict[str, Any] = {"kernel": self.kernel, "strides": self.strides, "pads": self.pads}
        if self.kind == "MaxPool":
            return reference.max_pool(self.x, dilations=self.dilations, **geometry)
        parameters = (self.x, self.xs, self.xz, self.ys, self.yz)
        if self.kind == "AveragePool":
            return reference.average_pool(*parameters, count_include_pad=bool(self.include_pad), **geometry)
        return reference.global_average_pool(*parameters)

    def device(self) -> Array:
        """The C runtime's answer (NHWC)."""
        n, c, oh, ow = self.numpy().shape
        off = 128 if self.dtype == np.uint8 else 0
        x = Arg(nhwc(signed(self.x)), float(self.xs), self.xz - off)
        if self.kind == "GlobalAveragePool":
            attrs: dict[str, Any] = {"size": self.x.shape[2] * self.x.shape[3], "channels": c}
            return device("global_average_pool_s8", attrs, [x], (n, 1, 1, c), self.ys, self.yz - off)
        attrs = {
            "in_h": self.x.shape[2], "in_w": self.x.shape[3], "channels": c, "out_h": oh, "out_w": ow,
            "kernel_h": self.kernel[0], "kernel_w": self.kernel[1],
            "stride_h": self.strides[0], "stride_w": self.strides[1],
            "dilation_h": self.dilations[0], "dilation_w": self.dilations[1],
            "pad_top": self.pads[0], "pad_left": self.pads[1],
            "count_include_pad": self.include_pad, "pad_bottom": self.pads[2], "pad_right": self.pads[3],
        }  # fmt: skip
        op = "max_pool2d_s8" if self.kind == "MaxPool" else "average_pool2d_s8"
        return device(op, attrs, [x], (n, oh, ow, c), self.ys, self.yz - off)


class Add:
    """Add of two quantized tensors, with or without a Relu that the Q makes redundant."""

    def __init__(self, seed: int, dtype: Any = np.int8) -> None:
        d = Draw(seed, dtype)
        self.dtype = d.dtype
        shape = (d.size(1, 3), d.size(2, 400))
        self.a, self.b = d.codes(*shape), d.codes(*shape)
        self.sa, self.sb, self.za, self.zb, self.zy = d.scale(-3, 0), d.scale(-3, 0), d.zero(), d.zero(), d.zero()
        self.sy = d.output_scale(float(self.sa + self.sb) * 100)
        self.relu = bool(d.size(0, 1))
        if self.relu:
            self.zy = d.lo
        self.place_of = d.size(-1, 1)

    def graph(self) -> tuple[Graph, str]:
        """The QDQ graph and its output."""
        g = Graph()
        a = g.dequantize(g.feed("a", self.a), self.sa, self.dtype.type(self.za))
        y = g.op("Add", a, g.dequantize(g.feed("b", self.b), self.sb, self.dtype.type(self.zb)))
        y = g.op("Relu", y) if self.relu else y
        return g, g.quantize(y, self.sy, self.dtype.type(self.zy))

    def numpy(self) -> Array:
        """The reference."""
        return reference.add(self.a, self.sa, self.za, self.b, self.sb, self.zb, self.sy, self.zy)

    def device(self) -> Array:
        """The C runtime's answer, also in place on either input."""
        off = 128 if self.dtype == np.uint8 else 0
        zy = self.zy - off
        attrs = {"count": self.a.shape[1], "alpha": off, "lo": -128 - zy, "hi": 127 - zy}
        inputs = [
            Arg(signed(self.a), float(self.sa), self.za - off),
            Arg(signed(self.b), float(self.sb), self.zb - off),
        ]
        return device("add_s8", attrs, inputs, self.a.shape, self.sy, zy, self.place_of)


class Mul:
    """Mul between DQ and Q, of one shape, or with either operand broadcast as a gate of channels is."""

    op = "mul_s8"

    def __init__(self, seed: int, dtype: Any = np.int8) -> None:
        d = Draw(seed, dtype)
        self.dtype = d.dtype
        shape = [d.size(1, 3), d.size(2, 12), d.size(2, 40)]
        shapes = [list(shape), list(shape)]
        narrow = d.size(0, 2)
        for axis in (1, 2):
            if narrow < 2 and d.size(0, 1):
                shapes[narrow][axis] = 1
        self.a, self.b = d.codes(*shapes[0]), d.codes(*shapes[1])
        self.sa, self.sb, self.za, self.zb, self.zy = d.scale(-3, 0), d.scale(-3, 0), d.zero(), d.zero(), d.zero()
        self.sy = d.output_scale(float(self.sa * self.sb) * 10000)
        full = [i for i in (0, 1) if shapes[i] == shape]
        self.place_of = int(d.rng.choice([-1, *full]))

    def graph(self) -> tuple[Graph, str]:
        """The QDQ graph and its output."""
        g = Graph()
        a = g.dequantize(g.feed("a", self.a), self.sa, self.dtype.type(self.za))
        y = g.op("Mul", a, g.dequantize(g.feed("b", self.b), self.sb, self.dtype.type(self.zb)))
        return g, g.quantize(y, self.sy, self.dtype.type(self.zy))

    def numpy(self) -> Array:
        """The reference."""
        return reference.mul(self.a, self.sa, self.za, self.b, self.sb, self.zb, self.sy, self.zy)

    def device(self) -> Array:
        """The C runtime's answer, also in place."""
        off = 128 if self.dtype == np.uint8 else 0
        zy = self.zy - off
        shape = np.broadcast_shapes(self.a.shape, self.b.shape)
        attrs: dict[str, Any] = {"dims": [1, 1, 1, 1, *shape[1:]], "alpha": off, "lo": -128 - zy, "hi": 127 - zy}
        for name, v in (("a", self.a), ("b", self.b)):
            steps = [int(np.prod(v.shape[k + 1 :])) if v.shape[k] > 1 else 0 for k in (1, 2)]
            attrs[f"{name}_strides"] = [0, 0, 0, 0, *steps]
        inputs = [
            Arg(signed(self.a), float(self.sa), self.za - off),
            Arg(signed(self.b), float(self.sb), self.zb - off),
        ]
        return device(self.op, attrs, inputs, shape, self.sy, zy, self.place_of)


class AddBroadcast(Mul):
    """The same of Add."""

    op = "add_broadcast_s8"

    def graph(self) -> tuple[Graph, str]:
        """The QDQ graph and its output."""
        g = Graph()
        a = g.dequantize(g.feed("a", self.a), self.sa, self.dtype.type(self.za))
        y = g.op("Add", a, g.dequantize(g.feed("b", self.b), self.sb, self.dtype.type(self.zb)))
        return g, g.quantize(y, self.sy, self.dtype.type(self.zy))

    def numpy(self) -> Array:
        """The reference."""
        return reference.add(self.a, self.sa, self.za, self.b, self.sb, self.zb, self.sy, self.zy)


class Softmax:
    """Softmax over the last axis between DQ and Q."""

    def __init__(self, seed: int, dtype: Any = np.int8) -> None:
        d = Draw(seed, dtype)
        self.dtype = d.dtype
        self.x = d.codes(d.size(1, 20), d.size(1, 60))
        self.xs, self.xz = d.scale(-3, 0), d.zero()
        usual = d.size(0, 1)
        self.ys = f32(1 / 256) if usual else f32(10.0 ** d.rng.uniform(-5, 0.2))
        self.yz = d.lo if usual else d.zero()
        self.place_of = d.size(-1, 0)

    def graph(self) -> tuple[Graph, str]:
        """The QDQ graph and its output."""
        g = Graph()
        y = g.op("Softmax", g.dequantize(g.feed("x", self.x), self.xs, self.dtype.type(self.xz)), axis=-1)
        return g, g.quantize(y, self.ys, self.dtype.type(self.yz))

    def numpy(self) -> Array:
        """The reference."""
        return reference.softmax(self.x, self.xs, self.ys, self.yz)

    def device(self) -> Array:
        """The C runtime's answer."""
        off = 128 if self.dtype == np.uint8 else 0
        table = Arg(reference.softmax_table(self.xs, self.x.shape[1]), constant=True)
        x = Arg(signed(self.x), float(self.xs), self.xz - off)
        attrs = {"rows": 1, "channels": self.x.shape[1]}
        return device("softmax_s8", attrs, [x, table], self.x.shape, self.ys, self.yz - off, self.place_of)


CASES = [Conv, Dense, Pool, Add, Softmax, Mul]
seeds = st.integers(0, 2**32 - 1)
