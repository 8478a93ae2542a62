"""Normalize within a sample: layer, group and instance normalization, the same in training and inference."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common import Array, Shape, require_axis, require_int, require_number
from ..onnx_builder import GraphBuilder
from .base import Layer, register

__all__ = ["GroupNorm", "InstanceNorm", "LayerNorm"]


def normalize(x: Array, axes: tuple[int, ...], eps: float) -> tuple[Array, Array]:
    """Return x with mean 0 and deviation 1 over the axes, and the inverse deviations (axes of length 1)."""
    normal = x - x.mean(axis=axes, keepdims=True)
    inv_std = 1 / np.sqrt(np.square(normal).mean(axis=axes, keepdims=True) + x.dtype.type(eps))
    normal *= inv_std
    return normal, inv_std


def normalize_backward(dnormal: Array, normal: Array, inv_std: Array, axes: tuple[int, ...]) -> Array:
    """Return dx; mean and deviation depend on x too, hence the two means."""
    dx = dnormal - dnormal.mean(axis=axes, keepdims=True)
    dx -= normal * (dnormal * normal).mean(axis=axes, keepdims=True)
    dx *= inv_std
    return np.asarray(dx)


@register("layer_norm", "LayerNormalization")
class LayerNorm(Layer):
    """Give each sample mean 0 and deviation 1 over its last axes, times `weight`, plus `bias` (Ba, Kiros & Hinton 2016).

    weight and bias have the shape of those axes.

    Parameters
    ----------
    axis : int
        The first of them, numbered with the batch's: 1 takes in the whole sample, -1 only the last axis.
    eps : float
        Added to the variance.
    """

    shows = "axis={axis}, eps={eps:g}"

    def __init__(self, axis: int = -1, *, eps: float = 1e-5, name: str | None = None) -> None:
        super().__init__(name)
        self.axis, self.eps = axis, require_number(eps, "LayerNorm eps", 0.0, open_low=True)

    def setup(self, in_shape: Shape) -> Shape:
        first = require_axis(self.axis, in_shape)
        self.axes = tuple(range(first, len(in_shape) + 1))
        self.add_param("weight", in_shape[first - 1 :], "ones")
        self.add_param("bias", in_shape[first - 1 :], "zeros")
        return in_shape

    def compute(self, x: Array) -> tuple[Array, ...]:
        normal, inv_std = normalize(x, self.axes, self.eps)
        return normal * self.params["weight"] + self.params["bias"], normal, inv_std

    def dparams(self, dy: Array, normal: Array, inv_std: Array) -> None:
        others = tuple(range(self.axes[0]))
        np.sum(dy * normal, axis=others, out=self.grads["weight"])
        np.sum(dy, axis=others, out=self.grads["bias"])

    def dx(self, dy: Array, normal: Array, inv_std: Array) -> Array:
        return normalize_backward(dy * self.params["weight"], normal, inv_std, self.axes)

    def onnx_attributes(self) -> dict[str, Any]:
        return {"axis": self.axis, "epsilon": self.eps}


@register("group_norm")
class GroupNorm(Layer):
    """Give each group of a sample's channels mean 0 and deviation 1, each channel its `weight` and `bias` (Wu & He 2018).

    Inputs (N, C, H, W) or (N, C, L); weight and bias (C,).

    Parameters
    ----------
    groups : int
        A divisor of C; 1 takes all channels together.
    eps : float
        Added to the variance.
    """

    shows = "{groups}, eps={eps:g}"

    def __init__(self, groups: int, *, eps: float = 1e-5, name: str | None = None) -> None:
        super().__init__(name)
        self.groups = require_int(groups, "GroupNorm groups")
        self.eps = require_number(eps, f"{type(self).__name__} eps", 0.0, open_low=True)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W) or (C, L)."""
        if len(in_shape) < 2:
            raise ValueError(f"takes images (channels, height, width) or lines (channels, length), got {in_shape}")
        if in_shape[0] % self.groups:
            raise ValueError(f"{in_shape[0]} channels do not make {self.groups} groups: give a divisor")
        self.axes = tuple(range(2, len(in_shape) + 2))  # of (N, groups, C / groups, ...)
        self.add_param("weight", (in_shape[0],), "ones")
        self.add_param("bias", (in_shape[0],), "zeros")
        return in_shape

    def _grouped(self, x: Array) -> Array:
        """View (N, C, ...) as (N, groups, C / groups, ...)."""
        return x.reshape(len(x), self.groups, -1, *x.shape[2:])

    def _per_channel(self, values: Array) -> Array:
        """View (C,) as (C, 1, ...)."""
        return values.reshape(-1, *(1 for _ in self.in_shapes[0][1:]))

    def compute(self, x: Array) -> tuple[Array, ...]:
        normal, inv_std = normalize(self._grouped(x), self.axes, self.eps)
        scaled = normal.reshape(x.shape) * self._per_channel(self.params["weight"])
        return np.asarray(scaled + self._per_channel(self.params["bias"])), normal, inv_std

    def dparams(self, dy: Array, normal: Array, inv_std: Array) -> None:
        others = (0, *range(2, dy.ndim))
        np.sum(dy * normal.reshape(dy.shape), axis=others, out=self.grads["weight"])
        np.sum(dy, axis=others, out=self.grads["bias"])

    def dx(self, dy: Array, normal: Array, inv_std: Array) -> Array:
        dnormal = self._grouped(dy * self._per_channel(self.params["weight"]))
        return normalize_backward(dnormal, normal, inv_std, self.axes).reshape(dy.shape)

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write InstanceNormalization of the groups, Mul and Add: GroupNormalization comes with a later opset."""
        neutral = {"ones": np.ones(self.groups), "zeros": np.zeros(self.groups)}  # scale and shift of each group
        ones, zeros = graph.constants(self.name, neutral)
        shapes = {"groups": (0, self.groups, -1), "shape": (0, *self.in_shapes[0])}
        groups, shape = (graph.integers(f"{self.name}.{k}", v) for k, v in shapes.items())
        grouped = graph.node("Reshape", self.name, [inputs[0], groups], part="grouped")
        normal = graph.node("InstanceNormalization", self.name, [grouped, ones, zeros], part="normal", epsilon=self.eps)
        whole = graph.node("Reshape", self.name, [normal, shape], part="whole")
        weight, bias = (graph.constant(f"{self.name}.{k}", self._per_channel(v)) for k, v in self.params.items())
        return graph.node("Add", self.name, [graph.node("Mul", self.name, [whole, weight], part="scaled"), bias])


@register("instance_norm", "InstanceNormalization")
class InstanceNorm(GroupNorm):
    """Give each channel of a sample mean `bias` and deviation `weight` (Ulyanov, Vedaldi & Lempitsky 2016).

    Inputs (N, C, H, W) or (N, C, L); weight and bias (C,).

    Parameters
    ----------
    eps : float
        Added to the variance.
    """

    shows = "eps={eps:g}"

    def __init__(self, *, eps: float = 1e-5, name: str | None = None) -> None:
        super().__init__(1, eps=eps, name=name)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W) or (C, L)."""
        self.groups = in_shape[0]
        return super().setup(in_shape)

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write InstanceNormalization."""
        return Layer.to_onnx(self, graph, *inputs)

    def onnx_attributes(self) -> dict[str, Any]:
        return {"epsilon": self.eps}
