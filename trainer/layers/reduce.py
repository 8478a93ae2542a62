"""Reduce axes to a sum, a mean or a maximum."""

from __future__ import annotations

import math

import numpy as np

from .._common import Array, Shape, require_axis
from ..onnx_builder import GraphBuilder
from .base import Layer, register

__all__ = ["ReduceMax", "ReduceMean", "ReduceSum"]


class _Reduce(Layer):
    """One value for all along some axes."""

    axes_are_an_input = False  # in ONNX, at the trainer's opset

    def __init__(self, *axes: int, keepdims: bool = False, name: str | None = None) -> None:
        super().__init__(name)
        if not axes:
            raise ValueError(f"{type(self).__name__}: give at least one axis, such as {type(self).__name__}(2)")
        self.axes, self.keepdims = axes, bool(keepdims)

    def setup(self, in_shape: Shape) -> Shape:
        self.places = tuple(sorted({require_axis(axis, in_shape) for axis in self.axes}))
        self.count = math.prod(in_shape[place - 1] for place in self.places)
        kept = [1 if place in self.places else n for place, n in enumerate(in_shape, start=1)]
        self.kept_shape = tuple(kept)
        return (
            self.kept_shape
            if self.keepdims
            else tuple(n for place, n in enumerate(in_shape, start=1) if place not in self.places)
        )

    def _spread(self, d: Array) -> Array:
        """Repeat d (N, *out_shape) along the axes that went (a view)."""
        n = len(d)
        return np.broadcast_to(d.reshape(n, *self.kept_shape), (n, *self.in_shapes[0]))

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write the operator, whose axes are an input or an attribute."""
        kind, keepdims = self.onnx_op, int(self.keepdims)
        if self.axes_are_an_input:
            values = [*inputs, graph.integers(f"{self.name}.axes", self.places)]
            return graph.node(kind, self.name, values, keepdims=keepdims)
        return graph.node(kind, self.name, list(inputs), axes=list(self.places), keepdims=keepdims)

    def describe(self) -> str:
        return ", ".join(map(str, self.axes)) + (", keepdims=True" if self.keepdims else "")


@register("reduce_sum", "ReduceSum")
class ReduceSum(_Reduce):
    """Sum over axes, ``ReduceSum(2, 3)``; see `ReduceMean`."""

    axes_are_an_input = True

    def compute(self, x: Array) -> Array:
        return np.asarray(x.sum(axis=self.places, keepdims=self.keepdims))

    def dx(self, dy: Array) -> Array:
        return self._spread(dy)


@register("reduce_mean", "ReduceMean")
class ReduceMean(_Reduce):
    """Mean over axes: (N, C, H, W) to (N, C) by ``ReduceMean(2, 3)``.

    Parameters
    ----------
    *axes : int
        Numbered with the batch's, which is 0 and stays.
    keepdims : bool
        Whether they stay as axes of length 1.
    """

    def compute(self, x: Array) -> Array:
        return np.asarray(x.mean(axis=self.places, keepdims=self.keepdims))

    def dx(self, dy: Array) -> Array:
        return self._spread(dy / self.count)


@register("reduce_max", "ReduceMax")
class ReduceMax(_Reduce):
    """Largest value over axes, ``ReduceMax(2, 3)``; see `ReduceMean`. Equal maxima share the gradient."""

    def compute(self, x: Array) -> tuple[Array, ...]:
        y = np.asarray(x.max(axis=self.places, keepdims=self.keepdims))
        return y, x, y

    def dx(self, dy: Array, x: Array, y: Array) -> Array:
        top = x == self._spread(y)
        share = dy.reshape(len(dy), *self.kept_shape) / top.sum(axis=self.places, keepdims=True, dtype=dy.dtype)
        return np.asarray(top * share)
