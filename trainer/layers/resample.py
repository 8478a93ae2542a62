"""Resample along axes, pads and enlarged images: a matrix per axis, whose transpose is the gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .._common import Array, Shape, is_int, require_int, require_number
from ..onnx_builder import GraphBuilder
from .base import Layer, register

__all__ = ["Pad", "Resize"]


class _AlongAxes(Layer):
    """y = x times one matrix (out, in) along each axis in `self.matrices`."""

    matrices: dict[int, Array]  # by axis, numbered with the batch's

    def _multiply(self, x: Array, matrices: dict[int, Array]) -> Array:
        for axis, matrix in matrices.items():
            x = np.moveaxis(np.tensordot(matrix.astype(x.dtype), x, (1, axis)), 0, axis)
        return x

    def compute(self, x: Array) -> Array:
        return self._multiply(x, self.matrices)

    def dx(self, dy: Array) -> Array:
        return self._multiply(dy, {axis: matrix.T for axis, matrix in self.matrices.items()})


@register("pad")
class Pad(_AlongAxes):
    """Surround each sample.

    Parameters
    ----------
    pads : sequence of (before, after)
        One pair for each axis but the batch's: ``((0, 0), (1, 1), (2, 2))`` for images (N, C, H, W).
    mode : "constant", "edge" or "reflect"
        With `value`; the outermost value; the values inside, mirrored at the outermost.
    """

    shows = "{pads}, {mode!r}"

    def __init__(
        self, pads: Sequence[Sequence[int]], mode: str = "constant", value: float = 0.0, *, name: str | None = None
    ) -> None:
        super().__init__(name)
        if not all(len(both) == 2 and all(is_int(n, 0) for n in both) for both in pads):
            raise ValueError(f"Pad pads={pads!r}: give a pair of integers >= 0 for each axis but the batch's")
        if mode not in ("constant", "edge", "reflect"):
            raise ValueError(f"Pad mode={mode!r}: give 'constant', 'edge' or 'reflect'")
        self.pads = tuple((int(before), int(after)) for before, after in pads)
        self.mode, self.value = mode, require_number(value, "Pad value", -np.inf)

    def setup(self, in_shape: Shape) -> Shape:
        """Take a shape of as many axes."""
        if len(self.pads) != len(in_shape):
            raise ValueError(f"{len(self.pads)} pairs of pads for samples of shape {in_shape}: give one per axis")
        if self.mode == "reflect" and any(max(both) >= n for both, n in zip(self.pads, in_shape, strict=True)):
            raise ValueError(f"pads {self.pads} mirror more than there is in {in_shape}: pad less than the size")
        self.matrices = {
            axis: np.pad(np.eye(n), (both, (0, 0)), self.mode)  # type: ignore[call-overload]
            for axis, (both, n) in enumerate(zip(self.pads, in_shape, strict=True), start=1)
            if any(both)
        }
        return tuple(before + n + after for (before, after), n in zip(self.pads, in_shape, strict=True))

    def compute(self, x: Array) -> Array:
        if self.mode == "constant":
            return np.pad(x, ((0, 0), *self.pads), constant_values=self.value)
        return super().compute(x)

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        before, after = zip((0, 0), *self.pads, strict=True)
        values = [*inputs, graph.integers(f"{self.name}.pads", [*before, *after])]
        if self.mode == "constant":
            values.append(graph.constant(f"{self.name}.value", self.value))
        return graph.node("Pad", self.name, values, mode=self.mode)


@register("resize")
class Resize(_AlongAxes):
    """Enlarge images (N, C, H, W) or lines (N, C, L) by whole factors.

    Parameters
    ----------
    scale : int, or one int per axis after the channels
        How many times larger.
    mode : "nearest" or "linear"
        Repeat values; or go straight from centre to centre (half pixels, as PyTorch with align_corners=False).
    """

    def __init__(self, scale: int | Sequence[int] = 2, mode: str = "nearest", *, name: str | None = None) -> None:
        super().__init__(name)
        if mode not in ("nearest", "linear"):
            raise ValueError(f"Resize mode={mode!r}: give 'nearest' or 'linear'")
        scales = scale if isinstance(scale, (tuple, list)) else [scale]
        self.scale = tuple(require_int(s, "Resize scale") for s in scales)
        self.mode = mode

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W) or (C, L)."""
        if len(in_shape) < 2:
            raise ValueError(f"takes images (channels, height, width) or lines (channels, length), got {in_shape}")
        self.scales = self.scale * (len(in_shape) - 1) if len(self.scale) == 1 else self.scale
        if len(self.scales) != len(in_shape) - 1:
            raise ValueError(f"{len(self.scales)} scales for samples of shape {in_shape}: one per axis after channels")
        matrix = np.repeat if self.mode == "nearest" else interpolation
        lengths = zip(in_shape[1:], self.scales, strict=True)
        self.matrices = {
            axis: np.asarray(matrix(np.eye(n), s, 0)) for axis, (n, s) in enumerate(lengths, start=2) if s > 1
        }
        return (in_shape[0], *(n * s for n, s in zip(in_shape[1:], self.scales, strict=True)))

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        scales = graph.constant(f"{self.name}.scales", np.array([1, 1, *self.scales], np.float32))
        if self.mode == "nearest":
            how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        else:
            how = {"coordinate_transformation_mode": "half_pixel"}
        return graph.node("Resize", self.name, [*inputs, "", scales], mode=self.mode, **how)

    def describe(self) -> str:
        return f"{self.scale if len(self.scale) > 1 else self.scale[0]}, {self.mode!r}"


def interpolation(eye: Array, scale: int, axis: int) -> Array:
    """Return the matrix (n*scale, n) that draws straight lines between the centres of n pixels; eye is (n, n)."""
    last = len(eye) - 1
    centres = (np.arange(len(eye) * scale) + 0.5) / scale - 0.5
    below = np.floor(centres).astype(int)
    share = (centres - below)[:, None]
    left, right = (eye[np.clip(place, 0, last)] for place in (below, below + 1))
    return np.asarray(left * (1 - share) + right * share)
