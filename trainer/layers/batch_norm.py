"""Batch normalization."""

from __future__ import annotations

import numpy as np

from .._common import Array, Shape, batch_first, batch_last, require_number
from ..onnx_builder import GraphBuilder
from .base import Layer


def row_products(a: Array, b: Array) -> Array:
    """Sum of a * b over each row, (C, M) and (C, M) to (C,), without the product in between."""
    return np.asarray(np.matmul(a[:, None, :], b[:, :, None])[:, 0, 0])


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

    kind = "batch_norm"

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

    def forward(self, x: Array, training: bool = False) -> Array:
        """Compute y from x."""
        rows = batch_last(x).reshape(x.shape[1], -1)  # (C, M), M values per channel
        if training and self.trainable:
            normal, inv_std = self._normalize(rows)
            y = normal * self.params["weight"][:, None]
            y += self.params["bias"][:, None]
            self._saved = (normal, inv_std)
        else:
            mean, var = self.buffers["running_mean"], self.buffers["running_var"]
            inv_std = self._inverse_deviation(var)
            scale = self.params["weight"] * inv_std
            y = rows * scale[:, None]
            y += (self.params["bias"] - mean * scale)[:, None]
            if training:
                self._saved = (None, inv_std)
        return batch_first(y.reshape(*x.shape[1:], len(x)))

    def backward(self, dy: Array) -> Array | None:
        """Compute dx from dy."""
        normal, inv_std = self._recall()
        n, scale = len(dy), (self.params["weight"] * inv_std)[:, None]
        shape = (*dy.shape[1:], n)
        dy = batch_last(dy).reshape(len(inv_std), -1)
        if normal is None:  # fixed statistics: a straight line per channel
            return batch_first((dy * scale).reshape(shape)) if self.need_dx else None
        dweight, dbias = row_products(dy, normal), np.sum(dy, axis=1)
        self.grads["weight"][...], self.grads["bias"][...] = dweight, dbias
        if not self.need_dx:
            return None
        m = dy.shape[1]
        dx = normal * (dweight / -m)[:, None]
        dx += dy
        dx -= (dbias / m)[:, None]
        dx *= scale
        return batch_first(dx.reshape(shape))

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
        values = [*inputs, *graph.constants(self.name, self.params), *graph.constants(self.name, self.buffers)]
        return graph.node("BatchNormalization", self.name, values, epsilon=self.eps, momentum=1 - self.momentum)

    def describe(self) -> str:
        """Return the settings."""
        return f"momentum={self.momentum:g}, eps={self.eps:g}"
