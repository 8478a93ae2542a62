"""Drop values at random while training."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common import Array, require_number
from ..onnx_builder import GraphBuilder
from .base import Layer, register

__all__ = ["Dropout"]


@register("dropout")
class Dropout(Layer):
    """In training, zero each value with probability `rate` and divide the others by 1 - rate; else do nothing.

    Inverted dropout (Srivastava et al. 2014). It leaves no trace in ONNX. Any shape.
    """

    shows = "{rate:g}"

    def __init__(self, rate: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(name)
        self.rate = require_number(rate, "Dropout rate", 0.0, 1.0)

    def compute(self, x: Array) -> Any:
        return x

    def compute_training(self, x: Array) -> tuple[Array, Array]:
        # Drawn in the order of x in memory, so that mask and x meet row by row.
        order = np.argsort([-stride for stride in x.strides], kind="stable")
        draw = self._rng.random([x.shape[axis] for axis in order], dtype=np.float32).transpose(np.argsort(order))
        mask = (draw >= self.rate) * x.dtype.type(1 / (1 - self.rate))
        return np.asarray(x * mask), mask

    def dx(self, dy: Array, mask: Array) -> Array:
        return dy * mask

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write nothing: inference does not drop."""
        return inputs[0]
