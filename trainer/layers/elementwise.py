"""Apply element-wise activations, any shape: each class is a row with its function f and, under it, the derivative."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .._common import Array, lookup, require_number
from ..onnx_builder import GraphBuilder
from .base import Layer, register

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Clip",
    "HardSigmoid",
    "HardSwish",
    "LeakyReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
]


class Function(NamedTuple):
    """An element-wise function.

    f : y from x and the parameters; of a gate what x is multiplied by
    df : dx from dy, y and the parameters; of a gate the derivative of x * f(x) from x and f(x)
    parameters : the layer's attributes that both take, by the names of the operator's attributes
    """

    f: Callable[..., Any]
    df: Callable[..., Any]
    parameters: tuple[str, ...] = ()


class Elementwise(Layer):
    """An element-wise function whose derivative can be read from its output."""

    function: Function

    def _parameters(self) -> list[float]:
        return [getattr(self, name) for name in self.function.parameters]

    def compute(self, x: Array) -> tuple[Array, ...]:
        y = self.function.f(x, *self._parameters())
        return y, y

    def dx(self, dy: Array, *saved: Array) -> Array:
        return np.asarray(self.function.df(dy, *saved, *self._parameters()))

    def onnx_attributes(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.function.parameters}


class Gate(Elementwise):
    """x * gate(x): the derivative needs the input."""

    def compute(self, x: Array) -> tuple[Array, ...]:
        gate = self.function.f(x)
        return x * gate, x, gate

    def dx(self, dy: Array, *saved: Array) -> Array:
        return np.asarray(dy * self.function.df(*saved))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow, exact to the last digits on both sides; same shape and dtype as x."""
    z = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, x.dtype.type(1), z) / (1 + z))


@register("relu", "Relu")
class ReLU(Elementwise):
    """max(x, 0). The gradient is 0 where the output is 0."""

    function = Function(lambda x: np.maximum(x, 0), lambda dy, y: dy * (y > 0))


@register("sigmoid", "Sigmoid")
class Sigmoid(Elementwise):
    """1 / (1 + exp(-x))."""

    function = Function(sigmoid, lambda dy, y: dy * y * (1 - y))


@register("tanh", "Tanh")
class Tanh(Elementwise):
    """Hyperbolic tangent."""

    function = Function(np.tanh, lambda dy, y: dy * (1 - y * y))


@register("softplus", "Softplus")
class Softplus(Elementwise):
    """log(1 + exp(x)), without overflow."""

    function = Function(
        lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
        lambda dy, y: dy * -np.expm1(-y),
    )


@register("clip", "Clip")
class Clip(Elementwise):
    """min(max(x, low), high). The gradient is 0 where the output is low or high."""

    shows = "{low:g}, {high:g}"
    function = Function(
        lambda x, low, high: np.minimum(np.maximum(x, low), high),
        lambda dy, y, low, high: dy * ((y > y.dtype.type(low)) & (y < y.dtype.type(high))),  # as they stand in y
        ("low", "high"),
    )

    def __init__(self, low: float, high: float, *, name: str | None = None) -> None:
        super().__init__(name)
        self.low, self.high = require_number(low, "Clip low", -np.inf), require_number(high, "Clip high", -np.inf)
        if not self.low < self.high:
            raise ValueError(f"Clip low={low!r}, high={high!r}: low must be below high")

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Clip, whose limits are inputs."""
        limits = [graph.constant(f"{self.name}.min", self.low), graph.constant(f"{self.name}.max", self.high)]
        return graph.node("Clip", self.name, [*inputs, *limits])


@register("relu6")
class ReLU6(Clip):
    """min(max(x, 0), 6). The gradient is 0 where the output is 0 or 6."""

    shows = ""

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(0.0, 6.0, name=name)


@register("leaky_relu", "LeakyRelu")
class LeakyReLU(Elementwise):
    """X where x > 0, else alpha * x (Maas, Hannun & Ng 2013). The gradient at 0 is alpha."""

    shows = "{alpha:g}"
    function = Function(
        lambda x, alpha: np.where(x > 0, x, x * x.dtype.type(alpha)),
        lambda dy, y, alpha: np.where(y > 0, dy, dy * dy.dtype.type(alpha)),
        ("alpha",),
    )

    def __init__(self, alpha: float = 0.01, *, name: str | None = None) -> None:
        super().__init__(name)
        self.alpha = require_number(alpha, "LeakyReLU alpha")


@register("hard_sigmoid", "HardSigmoid")
class HardSigmoid(Elementwise):
    """min(max(alpha * x + beta, 0), 1) (Courbariaux, Bengio & David 2015), by default x / 6 + 1 / 2.

    The gradient is 0 where the output is 0 or 1.
    """

    shows = "{alpha:g}, {beta:g}"
    function = Function(
        lambda x, alpha, beta: np.minimum(np.maximum(x * alpha + beta, 0), 1),
        lambda dy, y, alpha, beta: dy * ((y > 0) & (y < 1)) * alpha,
        ("alpha", "beta"),
    )

    def __init__(self, alpha: float = 1 / 6, beta: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(name)
        self.alpha = require_number(alpha, "HardSigmoid alpha", open_low=True)
        self.beta = require_number(beta, "HardSigmoid beta", -np.inf)


def elu(x: Array, alpha: float, gamma: float = 1.0) -> Array:
    """Gamma times x where x > 0, else times alpha * (exp(x) - 1)."""
    return np.asarray(np.where(x > 0, x, np.expm1(np.minimum(x, 0)) * alpha) * gamma)


def elu_backward(dy: Array, y: Array, alpha: float, gamma: float = 1.0) -> Array:
    """Return dx of `elu`."""
    return np.asarray(dy * np.where(y > 0, y.dtype.type(gamma), y + alpha * gamma))


@register("elu", "Elu")
class ELU(Elementwise):
    """X where x > 0, else alpha * (exp(x) - 1) (Clevert, Unterthiner & Hochreiter 2016)."""

    shows = "{alpha:g}"
    gamma: ClassVar[float] = 1.0
    function = Function(elu, elu_backward, ("alpha",))

    def __init__(self, alpha: float = 1.0, *, name: str | None = None) -> None:
        super().__init__(name)
        self.alpha = require_number(alpha, "ELU alpha", open_low=True)


@register("selu", "Selu")
class SELU(ELU):
    """gamma * ELU(x), with alpha and gamma that drive values to mean 0 and deviation 1 (Klambauer et al. 2017)."""

    shows = ""
    gamma = 1.0507009873554804934
    function = Function(elu, elu_backward, ("alpha", "gamma"))

    def __init__(self, *, name: str | None = None) -> None:
        super().__init__(1.6732632423543772848, name=name)


@register("silu")
class SiLU(Gate):
    """x * sigmoid(x), also swish (Elfwing, Uchibe & Doya 2018)."""

    function = Function(sigmoid, lambda x, gate: gate * (1 + x * (1 - gate)))

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Mul by Sigmoid, as PyTorch does; ONNX has no operator for it."""
        return graph.node("Mul", self.name, [*inputs, graph.node("Sigmoid", self.name, inputs, part="sigmoid")])


@register("hard_swish", "HardSwish")
class HardSwish(Gate):
    """x * min(max(x / 6 + 1 / 2, 0), 1) (Howard et al. 2019). The gradient at -3 is 0, at 3 it is 1."""

    function = Function(
        lambda x: np.minimum(np.maximum(x / 6 + 0.5, 0), 1),
        lambda x, gate: gate + x * ((gate > 0) & (gate < 1)) / 6,
    )


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


GELU_FORMS = {"none": Function(normal_cdf, normal_cdf_slope), "tanh": Function(tanh_cdf, tanh_cdf_slope)}


@register("gelu")
class GELU(Gate):
    """x * Phi(x), Phi the normal distribution's cumulative function (Hendrycks & Gimpel 2016).

    Parameters
    ----------
    approximate : "none" or "tanh"
        Phi exactly, or as (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2.
    """

    def __init__(self, approximate: str = "none", *, name: str | None = None) -> None:
        super().__init__(name)
        self.approximate = approximate
        self.function = lookup(GELU_FORMS, approximate, "GELU approximation")

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
        return "" if self.approximate == "none" else repr(self.approximate)


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
