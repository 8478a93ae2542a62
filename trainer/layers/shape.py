"""Reshape, transpose or slice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._common import Array, Shape, batch_first, batch_last, is_int, require_axis, require_int
from ..onnx_builder import GraphBuilder
from .base import Layer, register

__all__ = ["Flatten", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"]


@register("flatten", "Flatten")
class Flatten(Layer):
    """(N, C, H, W) to (N, C*H*W), channel by channel, row by row."""

    def setup(self, in_shape: Shape) -> Shape:
        return (math.prod(in_shape),)

    def compute(self, x: Array) -> Array:
        return np.transpose(batch_last(x).reshape(*self.out_shape, len(x)))

    def dx(self, dy: Array) -> Array:
        return batch_first(dy.T.reshape(*self.in_shapes[0], len(dy)))

    def onnx_attributes(self) -> dict[str, Any]:
        return {"axis": 1}


@register("reshape")
class Reshape(Layer):
    """(N, ...) to (N, *shape), element after element in row-major order.

    Parameters
    ----------
    *shape : int
        Without the batch; one of them may be -1: what is left.
    """

    def __init__(self, *shape: int, name: str | None = None) -> None:
        super().__init__(name)
        if not all(is_int(n, 1) or (is_int(n, -1) and n == -1) for n in shape) or list(shape).count(-1) > 1:
            raise ValueError(f"Reshape{shape}: give integers >= 1, one of them may be -1")
        self.shape = tuple(int(n) for n in shape)

    def setup(self, in_shape: Shape) -> Shape:
        """Take any shape of as many elements."""
        size, known = math.prod(in_shape), abs(math.prod(self.shape))
        if size % known or (-1 not in self.shape and size != known):
            raise ValueError(f"{in_shape} has {size} elements, which do not fill {self.shape}")
        return tuple(size // known if n == -1 else n for n in self.shape)

    def compute(self, x: Array) -> Array:
        return batch_first(batch_last(x).reshape(*self.out_shape, len(x)))

    def dx(self, dy: Array) -> Array:
        return batch_first(batch_last(dy).reshape(*self.in_shapes[0], len(dy)))

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Reshape; 0 leaves the batch as it is."""
        return graph.node("Reshape", self.name, [*inputs, graph.integers(f"{self.name}.shape", (0, *self.out_shape))])

    def describe(self) -> str:
        return super().describe() or ", ".join(map(str, self.shape))


@register("squeeze")
class Squeeze(Reshape):
    """Drop an axis of length 1: (N, C, 1, L) to (N, C, L) by ``Squeeze(2)``; the axis is numbered with the batch's."""

    shows = "{axis}"

    def __init__(self, axis: int, *, name: str | None = None) -> None:
        super().__init__(-1, name=name)
        self.axis = axis

    def setup(self, in_shape: Shape) -> Shape:
        """Take a shape with 1 at the axis."""
        place = require_axis(self.axis, in_shape) - 1
        if in_shape[place] != 1:
            raise ValueError(f"axis {self.axis} of {('N', *in_shape)} is not of length 1")
        return (*in_shape[:place], *in_shape[place + 1 :])

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        return graph.node("Squeeze", self.name, [*inputs, graph.integers(f"{self.name}.axes", [self.axis])])


@register("unsqueeze")
class Unsqueeze(Reshape):
    """Put in an axis of length 1: (N, C, L) to (N, C, 1, L) by ``Unsqueeze(2)``; its number is that in the output."""

    shows = "{axis}"

    def __init__(self, axis: int, *, name: str | None = None) -> None:
        super().__init__(-1, name=name)
        self.axis = axis

    def setup(self, in_shape: Shape) -> Shape:
        place = require_axis(self.axis, (*in_shape, 1)) - 1
        return (*in_shape[:place], 1, *in_shape[place:])

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        return graph.node("Unsqueeze", self.name, [*inputs, graph.integers(f"{self.name}.axes", [self.axis])])


@register("transpose", "Transpose")
class Transpose(Layer):
    """Axes in another order: (N, C, L) to (N, L, C) by ``Transpose(0, 2, 1)``; the batch stays first.

    Parameters
    ----------
    *axes : int
        Axis i of the output is axis ``axes[i]`` of the input; the first is 0.
    """

    def __init__(self, *axes: int, name: str | None = None) -> None:
        super().__init__(name)
        if sorted(axes) != list(range(len(axes))) or axes[:1] != (0,):
            raise ValueError(f"Transpose{axes}: give every axis once, the batch's, 0, first")
        self.axes = axes

    def setup(self, in_shape: Shape) -> Shape:
        """Take a shape of as many axes."""
        if len(in_shape) != len(self.axes) - 1:
            raise ValueError(f"{('N', *in_shape)} does not have the {len(self.axes)} axes of {self.axes}")
        return tuple(in_shape[axis - 1] for axis in self.axes[1:])

    def compute(self, x: Array) -> Array:
        return np.transpose(x, self.axes)

    def dx(self, dy: Array) -> Array:
        return np.transpose(dy, np.argsort(self.axes))

    def onnx_attributes(self) -> dict[str, Any]:
        return {"perm": list(self.axes)}

    def describe(self) -> str:
        return ", ".join(map(str, self.axes))


@register("slice")
class Slice(Layer):
    """Part of an axis, ``x[:, start:stop:step]``; several of one value split it.

    Parameters
    ----------
    start, stop : int
        As in Python; negative ones count from the end, None goes to it.
    step : int
        At least 1.
    axis : int
        Numbered with the batch's, which is 0.
    """

    shows = "{start}, {stop}, step={step}, axis={axis}"

    def __init__(
        self, start: int, stop: int | None = None, *, step: int = 1, axis: int = 1, name: str | None = None
    ) -> None:
        super().__init__(name)
        self.start, self.stop, self.step, self.axis = start, stop, require_int(step, "Slice step"), axis

    def setup(self, in_shape: Shape) -> Shape:
        """Take any shape that has the axis and the part."""
        place = require_axis(self.axis, in_shape) - 1
        start, stop, step = slice(self.start, self.stop, self.step).indices(in_shape[place])
        length = len(range(start, stop, step))
        if length == 0:
            raise ValueError(f"nothing lies in {self.start}:{self.stop} of axis {self.axis} of {('N', *in_shape)}")
        self.part, self.bounds = (slice(None),) * (place + 1) + (slice(start, stop, step),), (start, stop)
        return (*in_shape[:place], length, *in_shape[place + 1 :])

    def compute(self, x: Array) -> Array:
        return x[self.part]

    def dx(self, dy: Array) -> Array:
        dx = batch_first(np.zeros((*self.in_shapes[0], len(dy)), dy.dtype))
        dx[self.part] = dy
        return dx

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        values = {"start": self.bounds[0], "stop": self.bounds[1], "axis": self.axis, "step": self.step}
        return graph.node(
            "Slice", self.name, [*inputs, *(graph.integers(f"{self.name}.{k}", [v]) for k, v in values.items())]
        )
