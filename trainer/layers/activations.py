"""Activations, any shape: element by element, but for softmax. Each function stands above its derivative."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from .._common import Array, Shape, is_int, lookup, require_number
from ..onnx_builder import GraphBuilder
from .base import Layer


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow, exact to the last digits on both sides; same shape and dtype as x."""
    z = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, x.dtype.type(1), z) / (1 + z))


class _Activation(Layer):
    """An element-wise function whose derivative can be read from its output."""

    onnx_op = ""

    def _keep(self, y: Array, training: bool) -> Array:
        if training:
            self._saved = y if self.need_dx else ()
        return y

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write the operator of the same name."""
        return graph.node(self.onnx_op, self.name, list(inputs))


class ReLU(_Activation):
    """max(x, 0). The gradient is 0 where the output is 0."""

    kind, onnx_op = "relu", "Relu"

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        return self._keep(np.maximum(x, 0), training)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        y = self._recall()
        return dy * (y > 0) if self.need_dx else None


class Clip(_Activation):
    """min(max(x, low), high). The gradient is 0 where the output is low or high."""

    kind, onnx_op = "clip", "Clip"

    def __init__(self, low: float, high: float, *, name: str | None = None) -> None:
        super().__init__(name)
        self.low, self.high = require_number(low, "Clip low", -np.inf), require_number(high, "Clip high", -np.inf)
        if not self.low < self.high:
            raise ValueError(f"Clip low={low!r}, high={high!r}: low must be below high")

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        return self._keep(np.minimum(np.maximum(x, self.low), self.high), training)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        y = self._recall()
        low, high = y.dtype.type(self.low), y.dtype.type(self.high)  # as they stand in y
        return dy * ((y > low) & (y < high)) if self.need_dx else None

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Clip."""
        limits = [graph.constant(f"{self.name}.min", self.low), graph.constant(f"{self.name}.max", self.high)]
        return graph.node("Clip", self.name, [*inputs, *limits])

    def describe(self) -> str:
        """Return the settings."""
        return f"{self.low:g}, {self.high:g}"


class ReLU6(Clip):
    """min(max(x, 0), 6). The gradient is 0 where the output is 0 or 6."""

    kind = "relu6"

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(0.0, 6.0, name=name)

    def describe(self) -> str:
        """Return the settings."""
        return ""


class LeakyReLU(_Activation):
    """X where x > 0, else alpha * x (Maas, Hannun & Ng 2013). The gradient at 0 is alpha."""

    kind, onnx_op = "leaky_relu", "LeakyRelu"

    def __init__(self, alpha: float = 0.01, *, name: str | None = None) -> None:
        super().__init__(name)
        self.alpha = require_number(alpha, "LeakyReLU alpha")

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        positive = x > 0
        self._keep(positive, training)
        return np.where(positive, x, x * x.dtype.type(self.alpha))

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        positive = self._recall()
        return np.where(positive, dy, dy * dy.dtype.type(self.alpha)) if self.need_dx else None

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write LeakyRelu."""
        return graph.node("LeakyRelu", self.name, list(inputs), alpha=self.alpha)

    def describe(self) -> str:
        """Return the settings."""
        return f"{self.alpha:g}"


class Sigmoid(_Activation):
    """1 / (1 + exp(-x))."""

    kind, onnx_op = "sigmoid", "Sigmoid"

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        return self._keep(sigmoid(x), training)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        y = self._recall()
        return dy * y * (1 - y) if self.need_dx else None


class Tanh(_Activation):
    """Hyperbolic tangent."""

    kind, onnx_op = "tanh", "Tanh"

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        return self._keep(np.tanh(x), training)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        y = self._recall()
        return dy * (1 - y * y) if self.need_dx else None


class HardSigmoid(_Activation):
    """min(max(alpha * x + beta, 0), 1) (Courbariaux, Bengio & David 2015), by default x / 6 + 1 / 2.

    The gradient is 0 where the output is 0 or 1.
    """

    kind = "hard_sigmoid"

    def __init__(self, alpha: float = 1 / 6, beta: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(name)
        self.alpha = require_number(alpha, "HardSigmoid alpha", open_low=True)
        self.beta = require_number(beta, "HardSigmoid beta", -np.inf)

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        return self._keep(np.minimum(np.maximum(x * self.alpha + self.beta, 0), 1), training)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        y = self._recall()
        return dy * ((y > 0) & (y < 1)) * self.alpha if self.need_dx else None

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write HardSigmoid."""
        return graph.node("HardSigmoid", self.name, list(inputs), alpha=self.alpha, beta=self.beta)

    def describe(self) -> str:
        """Return the settings."""
        return f"{self.alpha:g}, {self.beta:g}"


class ELU(_Activation):
    """X where x > 0, else alpha * (exp(x) - 1) (Clevert, Unterthiner & Hochreiter 2016)."""

    kind = "elu"
    gamma = 1.0

    def __init__(self, alpha: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(name)
        self.alpha = require_number(alpha, "ELU alpha", open_low=True)

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        return self._keep(np.where(x > 0, x, np.expm1(np.minimum(x, 0)) * self.alpha) * self.gamma, training)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        y = self._recall()
        return dy * np.where(y > 0, y.dtype.type(self.gamma), y + self.alpha * self.gamma) if self.need_dx else None

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Elu."""
        return graph.node("Elu", self.name, list(inputs), alpha=self.alpha)

    def describe(self) -> str:
        """Return the settings."""
        return f"{self.alpha:g}"


class SELU(ELU):
    """gamma * ELU(x), with alpha and gamma that drive values to mean 0 and deviation 1 (Klambauer et al. 2017)."""

    kind = "selu"
    gamma = 1.0507009873554804934

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(1.6732632423543772848, name=name)

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Selu."""
        return graph.node("Selu", self.name, list(inputs), alpha=self.alpha, gamma=self.gamma)

    def describe(self) -> str:
        """Return the settings."""
        return ""


class Softplus(_Activation):
    """log(1 + exp(x)), without overflow."""

    kind, onnx_op = "softplus", "Softplus"

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        return self._keep(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), training)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        y = self._recall()
        return dy * -np.expm1(-y) if self.need_dx else None


class Softmax(_Activation):
    """exp(x) / sum(exp(x)) along an axis, numbered with the batch's.

    `SoftmaxCrossEntropy` takes logits: behind a last Softmax `fit` looks at what that is given.
    """

    kind, onnx_op = "softmax", "Softmax"

    def __init__(self, axis: int = -1, *, name: str | None = None) -> None:
        super().__init__(name)
        self.axis = axis

    def setup(self, in_shape: Shape) -> Shape:
        """Take any shape that has the axis."""
        require_axis(self.axis, in_shape)
        return in_shape

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        e = np.exp(x - x.max(axis=self.axis, keepdims=True))
        return self._keep(e / e.sum(axis=self.axis, keepdims=True), training)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        y = self._recall()
        return y * (dy - (dy * y).sum(axis=self.axis, keepdims=True)) if self.need_dx else None

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write the operator of the same name."""
        return graph.node(self.onnx_op, self.name, list(inputs), axis=self.axis)

    def describe(self) -> str:
        """Return the settings."""
        return f"axis={self.axis}"


class LogSoftmax(Softmax):
    """log(softmax(x)) along an axis, numbered with the batch's."""

    kind, onnx_op = "log_softmax", "LogSoftmax"

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        shifted = x - x.max(axis=self.axis, keepdims=True)
        return self._keep(shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True)), training)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        y = self._recall()
        return dy - np.exp(y) * dy.sum(axis=self.axis, keepdims=True) if self.need_dx else None


class _Gate(Layer):
    """x * gate(x): the derivative needs the input.

    gate : what x is multiplied by, from x
    slope : the derivative of x * gate(x), from x and gate(x)
    """

    gate: Callable[[Array], Array]
    slope: Callable[[Array, Array], Array]

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        gate = self.gate(x)
        if training:
            self._saved = (x, gate) if self.need_dx else ()
        return x * gate

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        saved = self._recall()
        return dy * self.slope(*saved) if self.need_dx else None


class SiLU(_Gate):
    """x * sigmoid(x), also swish (Elfwing, Uchibe & Doya 2018)."""

    kind = "silu"

    @staticmethod
    def gate(x: Array) -> Array:
        """sigmoid(x)."""
        return sigmoid(x)

    @staticmethod
    def slope(x: Array, gate: Array) -> Array:
        """The derivative of x * sigmoid(x)."""
        return np.asarray(gate * (1 + x * (1 - gate)))

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Mul by Sigmoid, as PyTorch does; ONNX has no operator for it."""
        return graph.node("Mul", self.name, [*inputs, graph.node("Sigmoid", self.name, inputs, part="sigmoid")])


class HardSwish(_Gate):
    """x * min(max(x / 6 + 1 / 2, 0), 1) (Howard et al. 2019). The gradient at -3 is 0, at 3 it is 1."""

    kind = "hard_swish"

    @staticmethod
    def gate(x: Array) -> Array:
        """The hard sigmoid of x."""
        return np.minimum(np.maximum(x / 6 + 0.5, 0), 1)

    @staticmethod
    def slope(x: Array, gate: Array) -> Array:
        """The derivative of x * gate(x)."""
        return gate + x * ((gate > 0) & (gate < 1)) / 6

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write HardSwish."""
        return graph.node("HardSwish", self.name, list(inputs))


class GELU(_Gate):
    """x * Phi(x), Phi the normal distribution's cumulative function (Hendrycks & Gimpel 2016).

    Parameters
    ----------
    approximate : "none" or "tanh"
        Phi exactly, or as (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2.
    """

    kind = "gelu"

    def __init__(self, approximate: str = "none", *, name: str | None = None) -> None:
        super().__init__(name)
        self.approximate = approximate
        self.gate, self.slope = lookup(GELU_FORMS, approximate, "GELU approximation")

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write x * (1 + erf(x / sqrt(2))) * 0.5, or with tanh, in the steps that onnxruntime knows as one."""

        def step(op: str, part: str, *values: str, by: float | None = None) -> str:
            constant = [] if by is None else [graph.constant(f"{self.name}.{part}_by", by)]
            return graph.node(op, self.name, [*values, *constant], part=part)

        x = inputs[0]
        if self.approximate == "none":
            bent = step("Erf", "erf", step("Div", "scaled", x, by=math.sqrt(2)))
        else:
            cubed = step("Mul", "cubic", step("Pow", "cube", x, by=3.0), by=0.044715)
            inner = step("Mul", "scaled", step("Add", "sum", x, cubed), by=math.sqrt(2 / math.pi))
            bent = step("Tanh", "tanh", inner)
        product = step("Mul", "product", x, step("Add", "shifted", bent, by=1.0))
        return graph.node("Mul", self.name, [product, graph.constant(f"{self.name}.half", 0.5)])

    def describe(self) -> str:
        """Return the settings."""
        return "" if self.approximate == "none" else repr(self.approximate)


def normal_cdf(x: Array) -> Array:
    """Phi(x), the probability of a normal variable below x; same shape and dtype as x."""
    return np.asarray(0.5 * (1 + erf(x * math.sqrt(0.5))))


def normal_cdf_slope(x: Array, gate: Array) -> Array:
    """The derivative of x * Phi(x)."""
    return np.asarray(gate + x * np.exp(-0.5 * x * x) * math.sqrt(0.5 / math.pi))


def tanh_cdf(x: Array) -> Array:
    """Phi(x) approximately, by tanh."""
    return np.asarray(0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))))


def tanh_cdf_slope(x: Array, gate: Array) -> Array:
    """The derivative of x * tanh_cdf(x); that of (1 + tanh u) / 2 is 2 g (1 - g) u'."""
    inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return np.asarray(gate + x * 2 * gate * (1 - gate) * inner)


GELU_FORMS: dict[str, Any] = {"none": (normal_cdf, normal_cdf_slope), "tanh": (tanh_cdf, tanh_cdf_slope)}

ERF_END = 6.0  # from here on erf is 1 to the last digit


@cache
def erf_series(degree: int) -> Array:
    """Chebyshev coefficients of erf on [0, ERF_END]."""
    points = np.polynomial.chebyshev.chebpts1(degree + 1)
    values = [math.erf(v) for v in (points + 1) * (ERF_END / 2)]
    return np.polynomial.chebyshev.chebfit(points, values, degree)


def erf(x: Array) -> Array:
    """The error function, to about 3e-15 (float64) or 3e-7 (float32); same shape and dtype as x.

    NumPy has none: a Chebyshev series on the positive half (Clenshaw 1955), since erf is odd.
    """
    degree = 44 if x.dtype == np.float64 else 22
    t = np.minimum(np.abs(x), ERF_END) * (2 / ERF_END) - 1
    series = np.polynomial.chebyshev.chebval(t, erf_series(degree).astype(x.dtype))
    return np.asarray(np.copysign(series, x))


class PReLU(Layer):
    """X where x > 0, else alpha * x, with an alpha per channel that is trained (He, Zhang, Ren & Sun 2015).

    alpha (C, 1, 1) for images (N, C, H, W), (C,) for (N, C). The gradient at 0 is alpha.

    Parameters
    ----------
    alpha : float
        Where all start.
    """

    kind = "prelu"

    def __init__(self, alpha: float = 0.25, *, name: str | None = None) -> None:
        super().__init__(name)
        self.alpha = require_number(alpha, "PReLU alpha", -np.inf)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, ...)."""
        self.add_param("alpha", (in_shape[0], *(1 for _ in in_shape[1:])), lambda shape, *_: np.full(shape, self.alpha))
        return in_shape

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        if training:
            self._saved = x
        return np.where(x > 0, x, x * self.params["alpha"])

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        x = self._recall()
        if self.trainable:
            axes = (0, *range(2, x.ndim))
            self.grads["alpha"][...] = (dy * np.minimum(x, 0)).sum(axis=axes).reshape(self.grads["alpha"].shape)
        return np.where(x > 0, dy, dy * self.params["alpha"]) if self.need_dx else None

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write PRelu."""
        return graph.node("PRelu", self.name, [*inputs, *graph.constants(self.name, self.params)])

    def describe(self) -> str:
        """Return the settings."""
        return f"{self.alpha:g}"


def require_axis(axis: int, in_shape: Shape) -> int:
    """Return `axis` of inputs (N, *in_shape), numbered with the batch's, as a number from 1; else raise ValueError."""
    rank = len(in_shape) + 1
    if not is_int(axis, -rank) or axis >= rank or axis % rank == 0:
        raise ValueError(f"axis={axis!r}: give 1 to {rank - 1}, or from the end -1 to {1 - rank}, for (N, *{in_shape})")
    return int(axis) % rank
