"""Activations, element by element, any shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._common import Array, require_number
from .base import Layer

if TYPE_CHECKING:
    from ..onnx_export import GraphBuilder


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
        return graph.node(self.onnx_op, self, list(inputs))


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


class ReLU6(_Activation):
    """min(max(x, 0), 6). The gradient is 0 where the output is 0 or 6."""

    kind, onnx_op = "relu6", "Clip"

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        return self._keep(np.minimum(np.maximum(x, 0), 6), training)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        y = self._recall()
        return dy * ((y > 0) & (y < 6)) if self.need_dx else None

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Clip between 0 and 6."""
        limits = [graph.constant(f"{self.name}.min", 0.0), graph.constant(f"{self.name}.max", 6.0)]
        return graph.node("Clip", self, [*inputs, *limits])


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
        return graph.node("LeakyRelu", self, list(inputs), alpha=self.alpha)

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
