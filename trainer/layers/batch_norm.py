"""Normalize each channel over the batch (batch normalization)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common import Array, Shape, batch_first, batch_last, require_number
from ..onnx_builder import GraphBuilder
from .base import Layer, register

__all__ = ["BatchNorm"]


def channel_rows(x: Array) -> Array:
    """Return x (N, C, ...) as (C, M), the M values of each channel."""
    return batch_last(x).reshape(x.shape[1], -1)


def like(rows: Array, x: Array) -> Array:
    """View rows (C, M) in the shape of x (N, C, ...)."""
    return batch_first(rows.reshape(*x.shape[1:], len(x)))


def row_products(a: Array, b: Array) -> Array:
    """Sum of a * b over each row, (C, M) and (C, M) to (C,), without the product in between."""
    return np.asarray(np.matmul(a[:, None, :], b[:, :, None])[:, 0, 0])


def sums(dy: Array, normal: Array) -> tuple[Array, Array]:
    """Return the gradients of weight and bias (C,) from dy and the normalized input, both (C, M)."""
    return row_products(dy, normal), np.sum(dy, axis=1)


@register("batch_norm")
class BatchNorm(Layer):
    """Give each channel of (N, C), (N, C, L) or (N, C, H, W) mean `bias` and deviation `weight` (Ioffe & Szegedy 2015).

    Training normalises with the batch's mean and biased variance, and moves the running ones (with the unbiased
    variance) towards them: ``running += momentum * (batch - running)``. Inference, and a layer with
    ``trainable = False``, use the running ones and leave them alone.

    Parameters
    ----------
    momentum : float
        Weight of the newest batch in the running statistics.
    eps : float
        Added to the variance.
    """

    shows = "momentum={momentum:g}, eps={eps:g}"

    def __init__(self, *, momentum: float = 0.1, eps: float = 1e-5, name: str | None = None) -> None:
        super().__init__(name)
        self.momentum = require_number(momentum, "BatchNorm momentum", 0.0, 1.0 + 1e-12)
        self.eps = require_number(eps, "BatchNorm eps", 0.0, open_low=True)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C,), (C, L) or (C, H, W)."""
        if len(in_shape) not in (1, 2, 3):
            raise ValueError(f"takes (channels,), (channels, length) or (channels, height, width), got {in_shape}")
        shape = (in_shape[0],)
        self.add_param("weight", shape, "ones")
        self.add_param("bias", shape, "zeros")
        self.buffers = {"running_mean": np.zeros(shape, self.dtype), "running_var": np.ones(shape, self.dtype)}
        return in_shape

    def _scale(self, inv_std: Array) -> Array:
        return np.asarray(self.params["weight"] * inv_std)

    def compute(self, x: Array) -> Any:
        inv_std = self._inverse_deviation(self.buffers["running_var"])
        scale = self._scale(inv_std)
        y = channel_rows(x) * scale[:, None]
        y += (self.params["bias"] - self.buffers["running_mean"] * scale)[:, None]
        return like(y, x), None, inv_std

    def compute_training(self, x: Array) -> Any:
        if not self.trainable:
            return self.compute(x)
        normal, inv_std = self._normalize(channel_rows(x))
        y = normal * self.params["weight"][:, None]
        y += self.params["bias"][:, None]
        return like(y, x), normal, inv_std

    def dparams(self, dy: Array, normal: Array, inv_std: Array) -> None:
        self.grads["weight"][...], self.grads["bias"][...] = sums(channel_rows(dy), normal)

    def dx(self, dy: Array, normal: Array | None, inv_std: Array) -> Array:
        rows, scale = channel_rows(dy), self._scale(inv_std)[:, None]
        if normal is None:  # fixed statistics: a straight line per channel
            return like(rows * scale, dy)
        dweight, dbias = (self.grads["weight"], self.grads["bias"]) if self.trainable else sums(rows, normal)
        m = rows.shape[1]
        dx = normal * (dweight / -m)[:, None]
        dx += rows
        dx -= (dbias / m)[:, None]
        dx *= scale
        return like(dx, dy)

    def _normalize(self, rows: Array) -> tuple[Array, Array]:
        """Return (C, M) with mean 0 and deviation 1 a row, and the inverse deviations; move the running statistics."""
        m = rows.shape[1]
        if m < 2:
            raise ValueError(
                f"layer {self.name!r}: batch normalization needs more than one value per channel to train; "
                "use batches of two or more, or freeze the layer"
            )
        mean = rows.mean(axis=1)
        normal = rows - mean[:, None]
        var = row_products(normal, normal) / m
        self.buffers["running_mean"] += self.momentum * (mean - self.buffers["running_mean"])
        self.buffers["running_var"] += self.momentum * (var * (m / (m - 1)) - self.buffers["running_var"])
        inv_std = self._inverse_deviation(var)
        normal *= inv_std[:, None]
        return normal, inv_std

    def _inverse_deviation(self, var: Array) -> Array:
        return np.asarray(1 / np.sqrt(var + self.eps), self.dtype)

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write BatchNormalization; ONNX's momentum is the weight of the past."""
        values = [*inputs, *graph.constants(self.name, {**self.params, **self.buffers})]
        return graph.node("BatchNormalization", self.name, values, epsilon=self.eps, momentum=1 - self.momentum)
