"""Apply the activations that are not one function of each element: softmax along an axis, PReLU with its weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common import Array, Shape, require_axis, require_number
from .base import Layer, register

__all__ = ["LogSoftmax", "PReLU", "Softmax"]


@register("softmax", "Softmax")
class Softmax(Layer):
    """exp(x) / sum(exp(x)) along an axis, numbered with the batch's.

    `SoftmaxCrossEntropy` takes logits: behind a last Softmax `fit` looks at what that is given.
    """

    shows = "axis={axis}"

    def __init__(self, axis: int = -1, *, name: str | None = None) -> None:
        super().__init__(name)
        self.axis = axis

    def setup(self, in_shape: Shape) -> Shape:
        require_axis(self.axis, in_shape)
        return in_shape

    def compute(self, x: Array) -> tuple[Array, ...]:
        e = np.exp(x - x.max(axis=self.axis, keepdims=True))
        y = e / e.sum(axis=self.axis, keepdims=True)
        return y, y

    def dx(self, dy: Array, y: Array) -> Array:
        return np.asarray(y * (dy - (dy * y).sum(axis=self.axis, keepdims=True)))

    def onnx_attributes(self) -> dict[str, Any]:
        return {"axis": self.axis}


@register("log_softmax", "LogSoftmax")
class LogSoftmax(Softmax):
    """log(softmax(x)) along an axis, numbered with the batch's."""

    def compute(self, x: Array) -> tuple[Array, ...]:
        shifted = x - x.max(axis=self.axis, keepdims=True)
        y = shifted - np.log(np.exp(shifted).sum(axis=self.axis, keepdims=True))
        return y, y

    def dx(self, dy: Array, y: Array) -> Array:
        return np.asarray(dy - np.exp(y) * dy.sum(axis=self.axis, keepdims=True))


@register("prelu", "PRelu")
class PReLU(Layer):
    """X where x > 0, else alpha * x, with an alpha per channel that is trained (He, Zhang, Ren & Sun 2015).

    alpha (C, 1, 1) for images (N, C, H, W), (C,) for (N, C). The gradient at 0 is alpha.

    Parameters
    ----------
    alpha : float
        Where all start.
    """

    shows = "{alpha:g}"

    def __init__(self, alpha: float = 0.25, *, name: str | None = None) -> None:
        super().__init__(name)
        self.alpha = require_number(alpha, "PReLU alpha", -np.inf)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, ...)."""
        self.add_param("alpha", (in_shape[0], *(1 for _ in in_shape[1:])), lambda shape, *_: np.full(shape, self.alpha))
        return in_shape

    def compute(self, x: Array) -> tuple[Array, ...]:
        return np.where(x > 0, x, x * self.params["alpha"]), x

    def dparams(self, dy: Array, x: Array) -> None:
        axes, dalpha = (0, *range(2, x.ndim)), self.grads["alpha"]
        dalpha[...] = (dy * np.minimum(x, 0)).sum(axis=axes).reshape(dalpha.shape)

    def dx(self, dy: Array, x: Array) -> Array:
        return np.where(x > 0, dy, dy * self.params["alpha"])
