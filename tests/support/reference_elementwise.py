"""The element-wise ops in plain NumPy and float64: each function with its derivative; what they are and what goes in as in
reference.py."""

from __future__ import annotations

from collections.abc import Callable
from math import erf as _erf_of
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Attrs = dict[str, Any]
Pair = tuple[Callable[..., Array], Callable[..., tuple[Array, ...]]]

erf = np.vectorize(_erf_of, otypes=[float])


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def softplus(x: Array) -> Array:
    """log(1 + exp(x))."""
    return np.logaddexp(x, 0)


def normal_below(x: Array) -> Array:
    """The normal distribution."""
    return (1 + erf(x / np.sqrt(2))) / 2


def normal_density(x: Array) -> Array:
    """Its density."""
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def gelu_bend(x: Array) -> Array:
    """The tanh inside of the approximation."""
    return np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))


def gelu_tanh_slope(x: Array) -> Array:
    """Of 0.5 x (1 + bend)."""
    t = gelu_bend(x)
    return (1 + t) / 2 + x / 2 * (1 - t * t) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)


def mish_slope(x: Array) -> Array:
    """Of x tanh(softplus(x))."""
    t = np.tanh(softplus(x))
    return t + x * (1 - t * t) * sigmoid(x)


#: of one element: y and dy/dx from x and the attributes
UNARY: dict[str, tuple[Callable[[Array, Attrs], Array], Callable[[Array, Attrs], Array]]] = {
    "elu_f32": (
        lambda x, a: np.where(x > 0, a["gamma"] * x, a["alpha"] * np.expm1(a["beta"] * x)),
        lambda x, a: np.where(x > 0, a["gamma"], a["alpha"] * a["beta"] * np.exp(a["beta"] * x)),
    ),
    "gelu_f32": (lambda x, a: x * normal_below(x), lambda x, a: normal_below(x) + x * normal_density(x)),
    "gelu_tanh_f32": (lambda x, a: x / 2 * (1 + gelu_bend(x)), lambda x, a: gelu_tanh_slope(x)),
    "silu_f32": (
        lambda x, a: x * sigmoid(a["alpha"] * x),
        lambda x, a: sigmoid(a["alpha"] * x) * (1 + a["alpha"] * x * sigmoid(-a["alpha"] * x)),
    ),
    "hard_sigmoid_f32": (
        lambda x, a: np.clip(a["alpha"] * x + a["beta"], 0, 1),
        lambda x, a: np.where((a["alpha"] * x + a["beta"] > 0) & (a["alpha"] * x + a["beta"] < 1), a["alpha"], 0),
    ),
    "hard_swish_f32": (
        lambda x, a: x * np.clip(x / 6 + 0.5, 0, 1),
        lambda x, a: np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5)),
    ),
    "softplus_f32": (lambda x, a: softplus(x), lambda x, a: sigmoid(x)),
    "softsign_f32": (lambda x, a: x / (1 + abs(x)), lambda x, a: 1 / (1 + abs(x)) ** 2),
    "mish_f32": (lambda x, a: x * np.tanh(softplus(x)), lambda x, a: mish_slope(x)),
    "abs_f32": (lambda x, a: abs(x), lambda x, a: np.sign(x)),
    "exp_f32": (lambda x, a: np.exp(x), lambda x, a: np.exp(x)),
    "log_f32": (lambda x, a: np.log(x), lambda x, a: 1 / x),
    "sqrt_f32": (lambda x, a: np.sqrt(x), lambda x, a: 0.5 / np.sqrt(x)),
    "reciprocal_f32": (lambda x, a: 1 / x, lambda x, a: -1 / x**2),
    "pow_f32": (lambda x, a: x ** a["alpha"], lambda x, a: a["alpha"] * x ** (a["alpha"] - 1)),
    "sign_f32": (lambda x, a: np.sign(x), lambda x, a: 0 * x),
    "erf_f32": (lambda x, a: erf(x), lambda x, a: 2 / np.sqrt(np.pi) * np.exp(-x * x)),
    "thresholded_relu_f32": (lambda x, a: np.where(x > a["alpha"], x, 0 * x), lambda x, a: 1.0 * (x > a["alpha"])),
}


def _half(first: Array, second: Array) -> Array:
    """1 where the first is larger, half where both are equal."""
    return np.where(first > second, 1.0, np.where(first < second, 0.0, 0.5))


#: of two: y, dy/da, dy/db
BINARY: dict[str, tuple[Callable[[Array, Array], Array], ...]] = {
    "add_broadcast_f32": (lambda a, b: a + b, lambda a, b: 1 + 0 * a, lambda a, b: 1 + 0 * b),
    "sub_f32": (lambda a, b: a - b, lambda a, b: 1 + 0 * a, lambda a, b: -1 + 0 * b),
    "mul_f32": (lambda a, b: a * b, lambda a, b: b, lambda a, b: a),
    "div_f32": (lambda a, b: a / b, lambda a, b: 1 / b, lambda a, b: -a / b**2),
    "min_f32": (np.minimum, lambda a, b: _half(b, a), lambda a, b: _half(a, b)),
    "max_f32": (np.maximum, lambda a, b: _half(a, b), lambda a, b: _half(b, a)),
}


def _unary(value: Callable[[Array, Attrs], Array], slope: Callable[[Array, Attrs], Array]) -> Pair:
    return value, lambda x, dy, a: (slope(x, a) * dy,)


def places(a: Attrs, which: str) -> Array:
    """Where each element of y finds the operand `a` or `b` in its sample."""
    index = np.indices(a["dims"]).reshape(6, -1)
    return (index * np.array(a[f"{which}_strides"])[:, None]).sum(0)


def _gathered(x: Array, z: Array, a: Attrs) -> tuple[Array, Array]:
    return x.reshape(len(x), -1)[:, places(a, "a")], z.reshape(len(z), -1)[:, places(a, "b")]


def _binary(value: Callable[..., Array], *slopes: Callable[..., Array]) -> Pair:
    def backward(x: Array, z: Array, dy: Array, a: Attrs) -> tuple[Array, ...]:
        u, v = _gathered(x, z, a)
        result = []
        for operand, which, slope in zip((x, z), "ab", slopes, strict=True):
            d = np.zeros((len(operand), operand[0].size))
            each = slope(u, v) * dy.reshape(len(dy), -1)
            for sample in range(len(each)):
                np.add.at(d[sample], places(a, which), each[sample])
            result.append(d.reshape(operand.shape))
        return tuple(result)

    return lambda x, z, a: value(*_gathered(x, z, a)), backward


def prelu(x: Array, slope: Array, a: Attrs) -> Array:
    """x (n, rows, channels), slope (channels)."""
    return np.where(x < 0, slope * x, x)


def prelu_backward(x: Array, slope: Array, dy: Array, a: Attrs) -> tuple[Array, Array]:
    """dx, dslope; at 0 the slope is the channel's."""
    return np.where(x > 0, dy, slope * dy), (dy * np.minimum(x, 0)).sum((0, 1))


def log_softmax(x: Array, a: Attrs) -> Array:
    """x (n, rows, channels)."""
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def log_softmax_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """dy - softmax * sum of dy."""
    return (dy - np.exp(log_softmax(x, a)) * dy.sum(-1, keepdims=True),)


OPS: dict[str, Pair] = {
    **{name: _unary(*pair) for name, pair in UNARY.items()},
    **{name: _binary(*three) for name, three in BINARY.items()},
    "prelu_f32": (prelu, prelu_backward),
    "log_softmax_f32": (log_softmax, log_softmax_backward),
}
CLAMPED = set(BINARY)
