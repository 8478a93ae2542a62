"""Rows of `conftest.CASES`: name, what stands before the head, shape of a sample, and for integers their bound."""

from __future__ import annotations

import copy
from collections.abc import Callable

from edgeprop import trainer as t

IMAGE, LINE, VECTOR = (2, 5, 4), (2, 7), (4,)


def two(layer: t.Layer, a: t.Layer | None = None, b: t.Layer | None = None) -> t.Graph:
    """A network of one input whose two branches `layer` joins."""
    a, b = a or t.Conv2D(2, 1), b or t.Conv2D(2, 1)
    return t.Graph(["x"], {"a": (a, "x"), "b": (b, "x"), "y": (layer, "a", "b")})


def narrow(layer: t.Layer) -> Callable[[], list[t.Layer]]:
    """`layer` of an image and of a value per channel, well away from 0."""

    def body() -> list[t.Layer]:
        return [two(copy.deepcopy(layer), b=t.Sequential(t.GlobalAveragePool(), t.Conv2D(2, 1), t.Softplus()))]

    return body


def attention() -> list[t.Layer]:
    nodes = {
        "q": (t.Conv1D(3, 1), "x"),
        "k": (t.Conv1D(3, 1), "x"),
        "q_t": (t.Transpose(0, 2, 1), "q"),
        "scores": (t.MatMul(), "q_t", "k"),
        "shares": (t.Softmax(), "scores"),
        "y": (t.MatMul(), "q", "shares"),
    }
    return [t.Graph(["x"], nodes)]


def inception() -> list[t.Layer]:
    nodes = {
        "one": (t.Conv2D(2, 1), "x"),
        "three": (t.Sequential(t.Conv2D(2, 1), "silu", t.Conv2D(2, 3, padding="same")), "x"),
        "pool": (t.Sequential(t.AveragePool2D(3, stride=1, padding="same"), t.Conv2D(1, 1)), "x"),
        "y": (t.Concat(), "one", "three", "pool"),
    }
    return [t.Graph(["x"], nodes)]


def halves() -> list[t.Layer]:
    nodes = {
        "first": (t.Slice(0, 3, axis=2), "x"),
        "last": (t.Slice(-3, None, axis=-2), "x"),
        "odd": (t.Slice(1, None, step=2, axis=2), "x"),
        "y": (t.Concat(axis=2), "first", "last", "odd"),
        "z": (t.Conv2D(2, 1), "y"),
    }
    return [t.Graph(["x"], nodes)]


def outer() -> list[t.Layer]:
    """Rows and columns of an image, each summed up, added with broadcasting both ways."""
    rows, columns = t.ReduceSum(3, keepdims=True), t.ReduceMax(2, keepdims=True)
    return [two(t.Add(), rows, columns), t.Tanh()]


def after_dense(layer: t.Layer, units: int = 6) -> Callable[[], list[t.Layer]]:
    return lambda: [t.Dense(units), copy.deepcopy(layer)]


ROWS = [
    ("conv dilation", lambda: [t.Conv2D(2, (3, 2), dilation=(2, 3), padding=(1, 0, 2, 1))], (2, 5, 5)),
    ("conv dilation stride", lambda: [t.Conv2D(2, 2, dilation=2, stride=(2, 1), padding="same")], IMAGE),
    ("conv groups", lambda: [t.Conv2D(6, 3, groups=2, padding=1)], (4, 4, 3)),
    ("conv groups stride", lambda: [t.Conv2D(4, 2, groups=4, stride=2, bias=False)], (4, 4, 3)),
    ("depthwise dilation", lambda: [t.DepthwiseConv2D(2, dilation=(2, 1), multiplier=2, padding=1)], IMAGE),
    ("depthwise dilation one", lambda: [t.DepthwiseConv2D(2, dilation=(1, 2))], IMAGE),
    ("conv1d", lambda: [t.Conv1D(3, 3), t.Tanh(), t.Conv1D(2, 2, stride=2, padding=(1, 0))], LINE),
    ("conv1d dilation groups", lambda: [t.Conv1D(4, 3, dilation=2, groups=2, padding="same")], LINE),
    ("depthwise1d", lambda: [t.DepthwiseConv1D(3, multiplier=2, dilation=2, padding=1)], LINE),
    ("transposed", lambda: [t.ConvTranspose2D(3, 3)], (2, 3, 2)),
    ("transposed stride", lambda: [t.ConvTranspose2D(2, (3, 2), stride=2, padding=(1, 0, 0, 1))], (2, 3, 2)),
    (
        "transposed settings",
        lambda: [t.ConvTranspose2D(4, 2, stride=(2, 3), output_padding=(1, 2), dilation=2, groups=2, bias=False)],
        (2, 2, 3),
    ),
    ("transposed same", lambda: [t.Conv2D(2, 1), t.ConvTranspose2D(1, 4, stride=2, padding="same")], (2, 3, 2)),
    ("transposed 1x1", lambda: [t.ConvTranspose2D(3, 1)], (2, 2, 3)),
    ("transposed1d", lambda: [t.ConvTranspose1D(3, 4, stride=2, padding=(1, 0), output_padding=1)], LINE),
    ("max pool1d", lambda: [t.MaxPool1D(3, stride=2, padding=(1, 0))], LINE),
    ("average pool1d", lambda: [t.AveragePool1D(2, padding="same")], LINE),
    ("average pool1d counts", lambda: [t.AveragePool1D(3, stride=1, padding=1, count_include_pad=True)], LINE),
    ("global max", lambda: [t.Conv2D(4, 2), t.GlobalMaxPool()], IMAGE),
    ("global max1d", lambda: [t.Conv1D(4, 2), t.GlobalMaxPool()], LINE),
    ("global average1d", lambda: [t.Conv1D(4, 2), t.GlobalAveragePool()], LINE),
    ("layer norm", lambda: [t.LayerNorm(), t.Tanh()], VECTOR),
    ("layer norm image", lambda: [t.Conv2D(2, 2), t.LayerNorm(1, eps=1e-3), t.Tanh()], IMAGE),
    ("layer norm line", lambda: [t.LayerNorm(-2), t.Tanh()], LINE),
    ("group norm", lambda: [t.Conv2D(4, 2), t.GroupNorm(2), t.Tanh()], IMAGE),
    ("group norm line", lambda: [t.GroupNorm(1, eps=1e-2), t.Tanh()], LINE),
    ("instance norm", lambda: [t.Conv2D(3, 2), t.InstanceNorm(), t.Tanh()], IMAGE),
    ("instance norm line", lambda: [t.InstanceNorm(), t.Tanh()], LINE),
    ("batch norm line", lambda: [t.Conv1D(3, 2), t.BatchNorm(), t.Tanh()], LINE),
    ("clip", after_dense(t.Clip(-0.7, 0.6), 24), VECTOR),
    ("prelu", after_dense(t.PReLU()), VECTOR),
    ("prelu image", lambda: [t.PReLU(0.1)], IMAGE),
    ("elu", after_dense(t.ELU(0.7)), VECTOR),
    ("selu", after_dense(t.SELU()), VECTOR),
    ("gelu", after_dense(t.GELU()), VECTOR),
    ("gelu tanh", after_dense(t.GELU("tanh")), VECTOR),
    ("silu", after_dense(t.SiLU()), VECTOR),
    ("hard sigmoid", after_dense(t.HardSigmoid(0.5, 0.3), 24), VECTOR),
    ("hard swish", after_dense(t.HardSwish(), 24), VECTOR),
    ("softplus", after_dense(t.Softplus()), VECTOR),
    ("softmax", after_dense(t.Softmax()), VECTOR),
    ("softmax channels", lambda: [t.Softmax(1)], IMAGE),
    ("log softmax", after_dense(t.LogSoftmax()), VECTOR),
    ("subtract", lambda: [two(t.Subtract())], IMAGE),
    ("subtract narrow", narrow(t.Subtract()), IMAGE),
    ("multiply narrow", narrow(t.Multiply()), IMAGE),
    ("divide narrow", narrow(t.Divide()), IMAGE),
    ("minimum", lambda: [two(t.Minimum())], IMAGE),
    ("maximum narrow", narrow(t.Maximum()), IMAGE),
    ("outer sum", outer, IMAGE),
    ("inception", inception, IMAGE),
    ("attention", attention, LINE),
    ("slices", halves, IMAGE),
    ("reshape", lambda: [t.Reshape(4, -1), t.Conv1D(2, 3), t.Reshape(2, 4, 2), t.Conv2D(2, 2)], IMAGE),
    ("squeeze", lambda: [t.Unsqueeze(2), t.Conv2D(3, (1, 2)), t.Squeeze(-2), t.Conv1D(2, 2)], LINE),
    ("transpose", lambda: [t.Conv2D(3, 2), t.Transpose(0, 3, 1, 2), t.Conv2D(2, 2)], IMAGE),
    ("pad constant", lambda: [t.Pad(((1, 0), (0, 2), (1, 1)), value=0.5), t.Conv2D(2, 2)], IMAGE),
    ("pad edge", lambda: [t.Pad(((0, 0), (1, 2), (0, 3)), "edge"), t.Conv2D(2, 2)], IMAGE),
    ("pad reflect", lambda: [t.Pad(((0, 0), (2, 1), (3, 0)), "reflect"), t.Conv2D(2, 2)], IMAGE),
    ("pad reflect line", lambda: [t.Pad(((0, 0), (2, 3)), "reflect")], LINE),
    ("resize", lambda: [t.Conv2D(2, 2), t.Resize((2, 3))], (1, 3, 3)),
    ("resize linear", lambda: [t.Resize(2, "linear"), t.Conv2D(2, 2)], (1, 3, 2)),
    ("resize line", lambda: [t.Resize(3), t.Conv1D(2, 2)], (2, 3)),
    ("resize linear line", lambda: [t.Resize(2, "linear")], (2, 4)),
    ("reduce mean", lambda: [t.Conv2D(4, 1), t.ReduceMean(2, 3)], IMAGE),
    ("reduce sum", lambda: [t.ReduceSum(-1), t.Tanh()], IMAGE),
    ("reduce max", lambda: [t.Conv2D(2, 1), t.ReduceMax(1, keepdims=True)], IMAGE),
    ("embedding", lambda: [t.Embedding(5, 3), t.Transpose(0, 2, 1), t.Conv1D(2, 2)], (4,), 5),
    ("sparse dense", lambda: [t.SparseDense(5), t.Tanh()], VECTOR),
]
