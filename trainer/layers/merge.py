"""Layers of several inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._common import Array, Shape
from .base import Layer

if TYPE_CHECKING:
    from ..onnx_export import GraphBuilder


class _Merge(Layer):
    """Element-wise, of two inputs of one shape."""

    onnx_op = ""

    def setup(self, *in_shapes: Shape) -> Shape:
        """Take two equal shapes."""
        if len(in_shapes) != 2 or in_shapes[0] != in_shapes[1]:
            shapes = " and ".join(str(s) for s in in_shapes)
            raise ValueError(f"takes two inputs of one shape, got {shapes}: change a stride, padding or channel count")
        return in_shapes[0]

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write the operator of two inputs."""
        return graph.node(self.onnx_op, self, list(inputs))


class Add(_Merge):
    """a + b. Its gradient goes to both unchanged."""

    kind, onnx_op = "add", "Add"

    def forward(self, a: Array, b: Array, training: bool = False) -> Array:
        """Compute a + b."""
        return np.asarray(a + b)

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """Return (da, db)."""
        return dy, dy


class Multiply(_Merge):
    """a * b. Each factor gets the gradient times the other."""

    kind, onnx_op = "multiply", "Mul"

    def forward(self, a: Array, b: Array, training: bool = False) -> Array:
        """Compute a * b."""
        if training:
            self._saved = (a, b) if self.need_dx else ()
        return np.asarray(a * b)

    def backward(self, dy: Array) -> tuple[Array, Array] | tuple[None, None]:
        """Return (da, db)."""
        if not self.need_dx:
            return None, None
        a, b = self._recall()
        return dy * b, dy * a
