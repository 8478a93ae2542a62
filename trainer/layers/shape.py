"""Layers that only change the shape."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .._common import Array, Shape, batch_first, batch_last
from .base import Layer

if TYPE_CHECKING:
    from ..onnx_export import GraphBuilder


class Flatten(Layer):
    """(N, C, H, W) to (N, C*H*W), channel by channel, row by row."""

    kind = "flatten"

    def setup(self, in_shape: Shape) -> Shape:
        """Take any shape."""
        return (math.prod(in_shape),)

    def forward(self, x: Array, training: bool = False) -> Array:
        """Map (N, ...) to (N, features)."""
        return np.transpose(batch_last(x).reshape(*self.out_shape, len(x)))

    def backward(self, dy: Array) -> Array | None:
        """Map dy (N, features) to dx (N, ...)."""
        return batch_first(dy.T.reshape(*self.in_shapes[0], len(dy))) if self.need_dx else None

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Flatten."""
        return graph.node("Flatten", self, list(inputs), axis=1)
