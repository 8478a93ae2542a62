"""Dropout."""

from __future__ import annotations

import numpy as np

from .._common import Array, require_number
from ..onnx_builder import GraphBuilder
from .base import Layer


class Dropout(Layer):
    """In training, zero each value with probability `rate` and divide the others by 1 - rate; else do nothing.

    Inverted dropout (Srivastava et al. 2014). It leaves no trace in ONNX. Any shape.
    """

    kind = "dropout"

    def __init__(self, rate: float = 0.5, *, name: str | None = None) -> None:
        super().__init__(name)
        self.rate = require_number(rate, "Dropout rate", 0.0, 1.0)

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        if not training:
            return x
        # Drawn in the order of x in memory, so that mask and x meet row by row.
        order = np.argsort([-stride for stride in x.strides], kind="stable")
        draw = self._rng.random([x.shape[axis] for axis in order], dtype=np.float32).transpose(np.argsort(order))
        mask = (draw >= self.rate) * x.dtype.type(1 / (1 - self.rate))
        self._saved = mask if self.need_dx else ()
        return np.asarray(x * mask)

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        mask = self._recall()
        return dy * mask if self.need_dx else None

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write nothing: inference does not drop."""
        return inputs[0]

    def describe(self) -> str:
        """Return the settings."""
        return f"{self.rate:g}"
