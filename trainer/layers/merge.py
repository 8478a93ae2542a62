"""Layers of several inputs."""

from __future__ import annotations

import numpy as np

from .._common import Array, Shape, require_axis
from ..onnx_builder import GraphBuilder
from .base import Layer


def unbroadcast(d: Array, shape: Shape) -> Array:
    """Sum d (N, ...) over the axes along which an input (N, *shape) of as many axes was repeated."""
    axes = tuple(axis for axis, size in enumerate(shape, start=1) if size != d.shape[axis])
    return d.sum(axis=axes, keepdims=True) if axes else d


class _Merge(Layer):
    """Element-wise, of two inputs of one shape, or of shapes that differ where one of them is 1 (broadcasting)."""

    onnx_op = ""

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

    def _keep(self, training: bool, *saved: Array) -> None:
        if training:
            self._saved = saved if self.need_dx else ()

    def _give(self, da: Array, db: Array) -> tuple[Array, Array]:
        """Return the inputs' gradients in their own shapes."""
        return unbroadcast(da, self.in_shapes[0]), unbroadcast(db, self.in_shapes[1])

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write the operator of two inputs."""
        return graph.node(self.onnx_op, self.name, list(inputs))


class Add(_Merge):
    """a + b. Its gradient goes to both unchanged."""

    kind, onnx_op = "add", "Add"

    def forward(self, a: Array, b: Array, training: bool = False) -> Array:
        """Compute a + b."""
        return np.asarray(a + b)

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """Return (da, db)."""
        return self._give(dy, dy)


class Subtract(_Merge):
    """a - b. The gradient goes to a unchanged, to b negated."""

    kind, onnx_op = "subtract", "Sub"

    def forward(self, a: Array, b: Array, training: bool = False) -> Array:
        """Compute a - b."""
        return np.asarray(a - b)

    def backward(self, dy: Array) -> tuple[Array, Array]:
        """Return (da, db)."""
        return self._give(dy, -dy)


class Multiply(_Merge):
    """a * b. Each factor gets the gradient times the other."""

    kind, onnx_op = "multiply", "Mul"

    def forward(self, a: Array, b: Array, training: bool = False) -> Array:
        """Compute a * b."""
        self._keep(training, a, b)
        return np.asarray(a * b)

    def backward(self, dy: Array) -> tuple[Array, Array] | tuple[None, None]:
        """Return (da, db)."""
        if not self.need_dx:
            return None, None
        a, b = self._recall()
        return self._give(dy * b, dy * a)


class Divide(_Merge):
    """a / b."""

    kind, onnx_op = "divide", "Div"

    def forward(self, a: Array, b: Array, training: bool = False) -> Array:
        """Compute a / b."""
        y = np.asarray(a / b)
        self._keep(training, b, y)
        return y

    def backward(self, dy: Array) -> tuple[Array, Array] | tuple[None, None]:
        """Return (da, db)."""
        if not self.need_dx:
            return None, None
        b, y = self._recall()
        da = dy / b
        return self._give(da, da * -y)


class Minimum(_Merge):
    """The lesser of a and b, which gets the gradient; of equals it is a."""

    kind, onnx_op = "minimum", "Min"

    def forward(self, a: Array, b: Array, training: bool = False) -> Array:
        """Compute min(a, b)."""
        self._keep(training, a <= b)
        return np.asarray(np.minimum(a, b))

    def backward(self, dy: Array) -> tuple[Array, Array] | tuple[None, None]:
        """Return (da, db)."""
        if not self.need_dx:
            return None, None
        (first,) = self._recall()
        return self._give(dy * first, dy * ~first)


class Maximum(_Merge):
    """The greater of a and b, which gets the gradient; of equals it is a."""

    kind, onnx_op = "maximum", "Max"

    def forward(self, a: Array, b: Array, training: bool = False) -> Array:
        """Compute max(a, b)."""
        self._keep(training, a >= b)
        return np.asarray(np.maximum(a, b))

    def backward(self, dy: Array) -> tuple[Array, Array] | tuple[None, None]:
        """Return (da, db)."""
        if not self.need_dx:
            return None, None
        (first,) = self._recall()
        return self._give(dy * first, dy * ~first)


class Concat(Layer):
    """Inputs one after the other along an axis: by default channels, (N, C1, ...) and (N, C2, ...) to (N, C1+C2, ...).

    Parameters
    ----------
    axis : int
        Numbered with the batch's, which is 0.
    """

    kind = "concat"

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

    def forward(self, *xs: Array, training: bool = False) -> Array:
        """Map arrays (N, ...) to one."""
        return np.concatenate(xs, axis=self.axis)

    def backward(self, dy: Array) -> tuple[Array, ...]:
        """Return each input's part of dy."""
        return tuple(np.split(dy, self.ends, axis=self.axis))

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Concat."""
        return graph.node("Concat", self.name, list(inputs), axis=self.axis)

    def describe(self) -> str:
        """Return the settings."""
        return f"axis={self.axis}"


class MatMul(Layer):
    """Matrix product of two inputs (N, ..., i, k) and (N, ..., k, j), as in attention; axes in between broadcast."""

    kind = "matmul"

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

    def forward(self, a: Array, b: Array, training: bool = False) -> Array:
        """Map (N, ..., i, k) and (N, ..., k, j) to (N, ..., i, j)."""
        if training:
            self._saved = (a, b) if self.need_dx else ()
        return np.asarray(np.matmul(a, b))

    def backward(self, dy: Array) -> tuple[Array, Array] | tuple[None, None]:
        """Return (da, db)."""
        if not self.need_dx:
            return None, None
        a, b = self._recall()
        da, db = np.matmul(dy, b.swapaxes(-1, -2)), np.matmul(a.swapaxes(-1, -2), dy)
        return unbroadcast(da, self.in_shapes[0]), unbroadcast(db, self.in_shapes[1])

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write MatMul."""
        return graph.node("MatMul", self.name, list(inputs))
