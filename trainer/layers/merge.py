"""Merge several inputs: element by element, one after the other, as a matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common import Array, Shape, require_axis
from .base import Layer, register

__all__ = ["Add", "Concat", "Divide", "MatMul", "Maximum", "Minimum", "Multiply", "Subtract"]


def unbroadcast(d: Array, shape: Shape) -> Array:
    """Sum d (N, ...) over the axes along which an input (N, *shape) of as many axes was repeated."""
    axes = tuple(axis for axis, size in enumerate(shape, start=1) if size != d.shape[axis])
    return d.sum(axis=axes, keepdims=True) if axes else d


class _Merge(Layer):
    """Element-wise, of two inputs of one shape, or of shapes that differ where one of them is 1 (broadcasting)."""

    def setup(self, *in_shapes: Shape) -> Shape:
        """Take two shapes with as many axes."""
        try:
            if len(in_shapes) == 2 and len(in_shapes[0]) == len(in_shapes[1]):
                return np.broadcast_shapes(*in_shapes)
        except ValueError:
            pass
        shapes = " and ".join(str(s) for s in in_shapes)
        raise ValueError(
            f"takes two inputs of one shape, or with 1 where they differ, got {shapes}: "
            "change a stride, padding or channel count"
        )

    def _give(self, da: Array, db: Array) -> tuple[Array, Array]:
        """Return the inputs' gradients in their own shapes."""
        return unbroadcast(da, self.in_shapes[0]), unbroadcast(db, self.in_shapes[1])


@register("add", "Add")
class Add(_Merge):
    """a + b. Its gradient goes to both unchanged."""

    def compute(self, a: Array, b: Array) -> Array:
        return np.asarray(a + b)

    def dx(self, dy: Array) -> tuple[Array, Array]:
        return self._give(dy, dy)


@register("subtract", "Sub")
class Subtract(_Merge):
    """a - b. The gradient goes to a unchanged, to b negated."""

    def compute(self, a: Array, b: Array) -> Array:
        return np.asarray(a - b)

    def dx(self, dy: Array) -> tuple[Array, Array]:
        return self._give(dy, -dy)


@register("multiply", "Mul")
class Multiply(_Merge):
    """a * b. Each factor gets the gradient times the other."""

    def compute(self, a: Array, b: Array) -> tuple[Array, ...]:
        return np.asarray(a * b), a, b

    def dx(self, dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        return self._give(dy * b, dy * a)


@register("divide", "Div")
class Divide(_Merge):
    """a / b."""

    def compute(self, a: Array, b: Array) -> tuple[Array, ...]:
        y = np.asarray(a / b)
        return y, b, y

    def dx(self, dy: Array, b: Array, y: Array) -> tuple[Array, Array]:
        da = dy / b
        return self._give(da, da * -y)


class _Choice(_Merge):
    """One of the two inputs, element by element, which gets the gradient."""

    def dx(self, dy: Array, first: Array) -> tuple[Array, Array]:
        return self._give(dy * first, dy * ~first)


@register("minimum", "Min")
class Minimum(_Choice):
    """The lesser of a and b, which gets the gradient; of equals it is a."""

    def compute(self, a: Array, b: Array) -> tuple[Array, ...]:
        return np.asarray(np.minimum(a, b)), a <= b


@register("maximum", "Max")
class Maximum(_Choice):
    """The greater of a and b, which gets the gradient; of equals it is a."""

    def compute(self, a: Array, b: Array) -> tuple[Array, ...]:
        return np.asarray(np.maximum(a, b)), a >= b


@register("concat", "Concat")
class Concat(Layer):
    """Inputs one after the other along an axis: by default channels, (N, C1, ...) and (N, C2, ...) to (N, C1+C2, ...).

    Parameters
    ----------
    axis : int
        Numbered with the batch's, which is 0.
    """

    shows = "axis={axis}"

    def __init__(self, axis: int = 1, *, name: str | None = None) -> None:
        super().__init__(name)
        self.axis = axis

    def setup(self, *in_shapes: Shape) -> Shape:
        """Take shapes that differ along the axis alone."""
        place = require_axis(self.axis, in_shapes[0]) - 1
        rests = {(*shape[:place], *shape[place + 1 :]) for shape in in_shapes}
        if len(rests) > 1 or len({len(shape) for shape in in_shapes}) > 1:
            shapes = " and ".join(str(s) for s in in_shapes)
            raise ValueError(f"takes inputs that differ along axis {self.axis} alone, got {shapes}")
        lengths = [shape[place] for shape in in_shapes]
        self.ends = np.cumsum(lengths)[:-1]
        return (*in_shapes[0][:place], sum(lengths), *in_shapes[0][place + 1 :])

    def compute(self, *xs: Array) -> Array:
        return np.concatenate(xs, axis=self.axis)

    def dx(self, dy: Array) -> tuple[Array, ...]:
        return tuple(np.split(dy, self.ends, axis=self.axis))

    def onnx_attributes(self) -> dict[str, Any]:
        return {"axis": self.axis}


@register("matmul", "MatMul")
class MatMul(Layer):
    """Matrix product of two inputs (N, ..., i, k) and (N, ..., k, j), as in attention; axes in between broadcast."""

    def setup(self, *in_shapes: Shape) -> Shape:
        """Take (..., i, k) and (..., k, j)."""
        try:
            a, b = in_shapes
            if len(a) == len(b) >= 2 and a[-1] == b[-2]:
                return (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1])
        except ValueError:
            pass
        shapes = " and ".join(str(s) for s in in_shapes)
        raise ValueError(f"takes two inputs of shapes (..., i, k) and (..., k, j), got {shapes}")

    def compute(self, a: Array, b: Array) -> tuple[Array, ...]:
        return np.asarray(np.matmul(a, b)), a, b

    def dx(self, dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
        da, db = np.matmul(dy, b.swapaxes(-1, -2)), np.matmul(a.swapaxes(-1, -2), dy)
        return unbroadcast(da, self.in_shapes[0]), unbroadcast(db, self.in_shapes[1])
