"""Small networks that between them hold every op of the runtime; `NETS` has one row each. They fit a Cortex-M0."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import parser

from edgeprop import trainer as t
from edgeprop.trainer import nets

OPSET = 20


@dataclass(frozen=True)
class Net:
    """A network, and how it is exported.

    Attributes
    ----------
    build : without arguments, the trainer's network or the ONNX model
    shape : of a sample, for calibration; () exports float32
    options : of `export.save`
    """

    build: Callable[[], t.Graph | onnx.ModelProto]
    shape: tuple[int, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def _onnx(text: str, weights: Mapping[str, tuple[int, ...] | np.ndarray]) -> onnx.ModelProto:
    """A model of a graph as ONNX writes it down, with seeded weights of these shapes, or these values."""
    model = parser.parse_model(f'<ir_version: 9, opset_import: ["": {OPSET}]>\n{text}')
    rng = np.random.default_rng(5)
    for name, value in weights.items():
        if isinstance(value, tuple):
            value = rng.normal(0, 1 / np.sqrt(np.prod(value[1:]) + 1), value).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.checker.check_model(model)
    return model


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _numbers(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


# ---- Float32 ----------------------------------------------------------------------------------------------------------


def elements() -> onnx.ModelProto:
    """Every function of one element, and every op of two with broadcasting."""
    text = """
    elements (float[1,12] x) => (float[1,3] y) {
        sums = Gemm <transB: int = 1> (x, w1, b1)
        h = Tanh(sums)
        magnitude = Abs(h)
        p = Add(magnitude, half)
        a1 = Elu(h)
        a2 = Gelu(h)
        a3 = Gelu <approximate: string = "tanh"> (h)
        s = Sigmoid(h)
        a4 = Mul(h, s)
        a5 = HardSigmoid(h)
        a6 = HardSwish(h)
        a7 = Softplus(h)
        a8 = Softsign(h)
        a = Concat <axis: int = 1> (a1, a2, a3, a4, a5, a6, a7, a8)
        c1 = Mish(h)
        quarter = Mul(h, fourth)
        c2 = Exp(quarter)
        c3 = Log(p)
        c4 = Sqrt(p)
        c5 = Reciprocal(p)
        c6 = Pow(p, power)
        c7 = Erf(h)
        c8 = ThresholdedRelu <alpha: float = 0.3> (h)
        c9 = Sign(h)
        c = Concat <axis: int = 1> (c1, c2, c3, c4, c5, c6, c7, c8, c9)
        d1 = PRelu(h, slope)
        d2 = LogSoftmax <axis: int = 1> (h)
        d3 = LeakyRelu <alpha: float = 0.1> (h)
        e1 = Softmax <axis: int = 1> (h)
        d5 = Clip(e1, low, high)
        d6 = Sigmoid(h)
        d = Concat <axis: int = 1> (d1, d2, d3, d5, d6)
        table = Reshape(h, square)
        row = Gemm <transB: int = 1> (x, w2, b2)
        line = Reshape(row, across)
        positive = Reshape(p, square)
        e2 = Add(table, line)
        e3 = Sub(table, line)
        e4 = Mul(e2, e3)
        e5 = Div(e4, positive)
        e6 = Min(e5, line)
        e7 = Max(e4, line)
        e = Concat <axis: int = 1> (e6, e7)
        flat = Reshape(e, long)
        all = Concat <axis: int = 1> (a, c, d, flat)
        f = Mul(all, tenth)
        y = Gemm <transB: int = 1> (f, w3, b3)
    }"""
    weights = {"w1": (12, 12), "b1": (12,), "w2": (4, 12), "b2": (4,), "w3": (3, 288), "b3": (3,), "slope": (12,)}
    numbers = {"half": 0.5, "fourth": 0.25, "power": 1.7, "low": 0.05, "tenth": 0.1, "high": 0.2}
    scalars = {name: np.array(value, np.float32) for name, value in numbers.items()}
    shapes = {"square": _ints(1, 3, 4), "across": _ints(1, 1, 4), "long": _ints(1, 24)}
    return _onnx(text, {**weights, **scalars, **shapes})


def maps() -> onnx.ModelProto:
    """Convolutions of every kind, norms, pools, what moves elements, and products of two activations."""
    text = """
    maps (float[1,2,5,4] x) => (float[1,3] y) {
        c = Conv <dilations: ints = [2, 1], pads: ints = [2, 0, 1, 1], kernel_shape: ints = [3, 2]> (x, wc, bc)
        g = Conv <group: int = 2, kernel_shape: ints = [1, 1]> (c, wg, bg)
        deep = Conv <group: int = 4, pads: ints = [1, 1, 1, 1], kernel_shape: ints = [3, 3]> (g, wd, bd)
        up = ConvTranspose <strides: ints = [2, 2], kernel_shape: ints = [2, 2]> (deep, wt, bt)
        large = Resize <mode: string = "linear"> (c, , scales)
        both = Concat <axis: int = 1> (up, large)
        norm = InstanceNormalization(both, wi, bi)
        average = AveragePool <kernel_shape: ints = [3, 2], strides: ints = [2, 2], pads: ints = [1, 0, 1, 0],
            count_include_pad: int = 1> (norm)
        most = MaxPool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (norm)
        cut = Slice(average, starts, ends, axes, steps)
        framed = Pad(cut, pads, border)
        lines = Reshape(most, shape)
        turned = Transpose <perm: ints = [0, 2, 1]> (lines)
        products = MatMul(lines, turned)
        evened = LayerNormalization <axis: int = -1> (products, wl, bl)
        total = ReduceSum <keepdims: int = 0> (evened, last)
        top = ReduceMax <keepdims: int = 0> (lines, last)
        some = Gather <axis: int = 1> (evened, which)
        one, two = Split <axis: int = 2, num_outputs: int = 2> (some)
        sum = Add(one, two)
        f1 = Flatten(sum)
        f2 = Flatten(framed)
        f = Concat <axis: int = 1> (f1, f2, total, top)
        y = Gemm <transB: int = 1> (f, wh, bh)
    }"""
    convolutions = {"wc": (4, 2, 3, 2), "bc": (4,), "wg": (4, 2, 1, 1), "bg": (4,), "wd": (4, 1, 3, 3), "bd": (4,)}
    others = {"wt": (4, 2, 2, 2), "bt": (2,), "wh": (3, 57), "bh": (3,)}
    norms = {"wi": (6,), "bi": (6,), "wl": (6,), "bl": (6,)}
    places = {"starts": _ints(0, 0), "ends": _ints(5, 4), "axes": _ints(2, 3), "steps": _ints(2, 2)}
    places |= {
        "pads": _ints(0, 0, 0, 1, 0, 0, 0, 0),
        "last": _ints(2),
        "which": _ints(5, 0, 5),
        "shape": _ints(1, 6, 16),
    }
    numbers = {"scales": _numbers(1, 1, 2, 2), "border": np.array(0.5, np.float32)}
    return _onnx(text, {**convolutions, **others, **norms, **places, **numbers})


def _built(net: t.Sequential, shape: tuple[int, ...]) -> t.Sequential:
    net.build(shape, seed=0)
    return net


def words() -> t.Sequential:
    """Places in a table of vectors, read from both sides."""
    return _built(t.Sequential(t.Embedding(12, 5), t.SimpleRNN(4, bidirectional=True), t.Dense(3)), (6,))


def sparse() -> t.Sequential:
    """Dense layers that lost most of their weights, and an average over channels normalized in groups."""
    net = t.Sequential(
        *(t.Conv1D(6, 3, stride=2), t.GroupNorm(2), t.BatchNorm(), t.ReLU(), t.GlobalAveragePool(), t.Flatten()),
        *(t.SparseDense(20, name="many"), t.ReLU(), t.SparseDense(3, name="few")),
    )
    _built(net, (3, 11))
    t.prune(net["many"], 0.7)
    t.prune(net["few"], 0.6)
    return net


def dynamic() -> onnx.ModelProto:
    """A convolution and a dense layer whose activations are quantized sample by sample."""
    from onnxruntime.quantization import quantize_dynamic

    text = """
    dynamic (float[1,3,6,5] x) => (float[1,3] y) {
        c = Conv <pads: ints = [1, 1, 1, 1], kernel_shape: ints = [3, 3]> (x, wc, bc)
        r = Relu(c)
        f = Flatten(r)
        y = MatMul(f, w)
    }"""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        onnx.save(_onnx(text, {"wc": (4, 3, 3, 3), "bc": (4,), "w": (120, 3)}), path)
        quantize_dynamic(path, Path(folder) / "dynamic.onnx")
        return onnx.load(Path(folder) / "dynamic.onnx")


# ---- int8 -------------------------------------------------------------------------------------------------------------


def maps_int8() -> onnx.ModelProto:
    """What int8 codes go through besides layers of weights: moves, pools, sums, products, tables."""
    text = """
    maps_int8 (float[1,3,6,5] x) => (float[1,3] y) {
        c = Conv <dilations: ints = [2, 1], pads: ints = [2, 0, 1, 1], kernel_shape: ints = [3, 2]> (x, wc, bc)
        s = Sigmoid(c)
        product = Mul(c, s)
        average = AveragePool <kernel_shape: ints = [3, 2], strides: ints = [2, 2], pads: ints = [1, 0, 1, 0],
            count_include_pad: int = 1> (product)
        most = MaxPool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (c)
        small = Resize <mode: string = "nearest"> (most, , scales)
        cut = Slice(c, starts, ends, axes, steps)
        framed = Pad(cut, pads)
        scaled = Mul(average, framed)
        joined = Concat <axis: int = 1> (scaled, framed)
        level = GlobalAveragePool(joined)
        both = Add(joined, level)
        whole = GlobalAveragePool(small)
        f1 = Flatten(whole)
        lines = Reshape(both, shape)
        turned = Transpose <perm: ints = [0, 2, 1]> (lines)
        products = MatMul(lines, turned)
        shares = Softmax <axis: int = -1> (products)
        one, two = Split <axis: int = 2, num_outputs: int = 2> (shares)
        sum = Add(one, two)
        f2 = Flatten(sum)
        f = Concat <axis: int = 1> (f1, f2)
        g = Gemm <transB: int = 1> (f, wg, bg)
        r = Relu(g)
        y = Gemm <transB: int = 1> (r, wh, bh)
    }"""
    weights = {"wc": (4, 3, 3, 2), "bc": (4,), "wg": (7, 36), "bg": (7,), "wh": (3, 7), "bh": (3,)}
    places = {"starts": _ints(0, 0), "ends": _ints(6, 4), "axes": _ints(2, 3), "steps": _ints(2, 2)}
    places |= {"pads": _ints(0, 0, 0, 0, 0, 0, 0, 0), "shape": _ints(1, 8, 6)}
    return _onnx(text, {**weights, **places, "scales": _numbers(1, 1, 2, 2)})


def zeros_int8() -> onnx.ModelProto:
    """A graph that comes quantized, with uint8 weights whose zero points are their own."""
    text = """
    zeros_int8 (float[1,3,6,5] x) => (float[1,20,3,3] y) {
        q = QuantizeLinear(x, sx, zx)
        c = QLinearConv <strides: ints = [2, 2], pads: ints = [1, 1, 1, 1], kernel_shape: ints = [3, 3]>
            (q, sx, zx, w, sw, zw, sy, zy, b)
        y = DequantizeLinear(c, sy, zy)
    }"""
    rng = np.random.default_rng(6)
    zero = {
        "zx": np.array(120, np.uint8),
        "zw": rng.integers(90, 160, 20).astype(np.uint8),
        "zy": np.array(100, np.uint8),
    }
    scale = {"sx": np.array(0.02, np.float32), "sw": np.full(20, 0.005, np.float32), "sy": np.array(0.03, np.float32)}
    weights = {
        "w": rng.integers(0, 256, (20, 3, 3, 3)).astype(np.uint8),
        "b": rng.integers(-900, 900, 20).astype(np.int32),
    }
    return _onnx(text, {**zero, **scale, **weights})


# ---- All of them -------------------------------------------------------------------------------------------------------

_LEARN = {"trainable": "*", "loss": "softmax_cross_entropy"}
_HEAD = {"trainable": "last", "loss": "softmax_cross_entropy"}
_FRAMES = {"in_shape": (5, 4), "units": 6, "classes": 3}
_FRAME = {"in_shape": (1, 4), "units": 6, "classes": 3, "stateful": True}
_TCN = {"classes": 3, "in_shape": (4, 13), "channels": (6, 5)}

NETS = {
    "elements": Net(elements, options=_LEARN),
    "maps": Net(maps, options=_LEARN),
    "words": Net(words, options=_LEARN),
    "sparse": Net(sparse, options={**_LEARN, "sparse": "always"}),
    "dynamic": Net(dynamic),
    "kws_gru": Net(lambda: nets.kws_gru(**_FRAMES), options=_LEARN),
    "kws_lstm": Net(lambda: nets.kws_lstm(**_FRAMES), options=_LEARN),
    "kws_gru_stream": Net(lambda: nets.kws_gru(**_FRAME), options=_LEARN),
    "kws_lstm_stream": Net(lambda: nets.kws_lstm(**_FRAME), options=_LEARN),
    "tcn": Net(lambda: nets.tcn(**_TCN), options=_LEARN),
    "tcn_int8": Net(lambda: nets.tcn(**_TCN), (4, 13), _HEAD),
    "zeros_int8": Net(zeros_int8),
    "maps_int8": Net(maps_int8, (3, 6, 5), _HEAD),
    "mobilenet_v2_int8": Net(lambda: nets.mobilenet_v2(3, (3, 8, 8), alpha=0.1, batch_norm=False), (3, 8, 8), _HEAD),
}

#: as large as they are used, for counts and sizes
LARGER = {
    "kws_gru_frame": Net(lambda: nets.kws_gru(in_shape=(1, 10), stateful=True)),
    "kws_gru_32": Net(lambda: nets.kws_gru(units=32), options=_LEARN),
    "tcn_49_int8": Net(nets.tcn, (10, 49), {"trainable": []}),
}
