"""Convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._common import Array, Shape, batch_first, batch_last, pair, require_int
from ..initializers import Initializer, get_initializer
from .base import Layer
from .windows import Padding, Windows, check_padding

if TYPE_CHECKING:
    from ..onnx_export import GraphBuilder


class Conv2D(Layer):
    """Convolution (cross-correlation, as everywhere in this field) of images (N, C, H, W).

    One matrix product over all windows of the batch (Chellapilla, Puri & Simard 2006). weight (filters, C, kh, kw),
    bias (filters,), output (N, filters, out_h, out_w).

    Parameters
    ----------
    filters : int
        Number of output channels.
    kernel, stride : int or (height, width)
        Size of a window and distance between windows.
    padding : "valid", "same", int, (height, width) or (top, left, bottom, right)
        Zeros around the image. "same" gives ceil(size / stride) outputs, the odd pixel below and to the right.
    bias : bool
        Whether to add a bias; leave it out before BatchNorm.
    init : str or callable
        How the weight starts, see `INITIALIZERS`; the bias starts at 0.
    """

    kind = "conv2d"

    def __init__(
        self,
        filters: int,
        kernel: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: Padding = "valid",
        bias: bool = True,
        init: str | Initializer = "he_normal",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.filters = require_int(filters, "Conv2D filters")
        self.kernel, self.stride = pair(kernel, "Conv2D kernel"), pair(stride, "Conv2D stride")
        self.padding, self.use_bias, self.init = check_padding(padding), bool(bias), init
        get_initializer(init)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W)."""
        self.windows = Windows.over(in_shape, self.kernel, self.stride, self.padding)
        area, channels = self.kernel[0] * self.kernel[1], in_shape[0]
        shape = (self.filters, channels, *self.kernel)
        self.add_param("weight", shape, self.init, fan_in=channels * area, fan_out=self.filters * area)
        if self.use_bias:
            self.add_param("bias", (self.filters,), "zeros")
        return (self.filters, *self.windows.out)

    def forward(self, x: Array, training: bool = False) -> Array:
        """Map (N, C, H, W) to (N, filters, out_h, out_w)."""
        padded = self.windows.pad(batch_last(x))  # (C, H, W, N)
        cols = self.windows.gather(padded)  # (C*kh*kw, out_h*out_w*N)
        y = self.params["weight"].reshape(self.filters, -1) @ cols
        if self.use_bias:
            y += self.params["bias"][:, None]
        if training:
            self._saved = (cols if self.trainable else None, padded.shape)
        return batch_first(y.reshape(self.filters, *self.windows.out, len(x)))

    def backward(self, dy: Array) -> Array | None:
        """Map dy (N, filters, out_h, out_w) to dx (N, C, H, W)."""
        cols, padded_shape = self._recall()
        dy = batch_last(dy).reshape(self.filters, -1)  # (filters, out_h*out_w*N)
        if self.trainable:
            np.matmul(dy, cols.T, out=self.grads["weight"].reshape(self.filters, -1))
            if self.use_bias:
                np.sum(dy, axis=1, out=self.grads["bias"])
        if not self.need_dx:
            return None
        dcols = self.params["weight"].reshape(self.filters, -1).T @ dy
        return batch_first(self.windows.crop(self.windows.scatter(dcols, padded_shape)))

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Conv."""
        return graph.node("Conv", self, [*inputs, *graph.params(self)], **graph.window_attributes(self.windows))

    def describe(self) -> str:
        """Return the settings."""
        return f"{self.filters}, {self.kernel}, stride={self.stride}, padding={self.padding!r}"


class DepthwiseConv2D(Layer):
    """One filter (or `multiplier` filters) per channel, channels kept apart (Sifre 2014; Howard et al. 2017).

    weight (C*multiplier, 1, kh, kw), bias (C*multiplier,); input (N, C, H, W), output (N, C*multiplier, out_h, out_w);
    output channel ``c*multiplier + k`` looks at input channel c. The parameters are those of `Conv2D`.
    """

    kind = "depthwise_conv2d"

    def __init__(
        self,
        kernel: int | tuple[int, int],
        *,
        multiplier: int = 1,
        stride: int | tuple[int, int] = 1,
        padding: Padding = "valid",
        bias: bool = True,
        init: str | Initializer = "he_normal",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.multiplier = require_int(multiplier, "DepthwiseConv2D multiplier")
        self.kernel = pair(kernel, "DepthwiseConv2D kernel")
        self.stride = pair(stride, "DepthwiseConv2D stride")
        self.padding, self.use_bias, self.init = check_padding(padding), bool(bias), init
        get_initializer(init)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W)."""
        self.windows = Windows.over(in_shape, self.kernel, self.stride, self.padding)
        area, filters = self.kernel[0] * self.kernel[1], in_shape[0] * self.multiplier
        self.add_param("weight", (filters, 1, *self.kernel), self.init, fan_in=area, fan_out=area * self.multiplier)
        if self.use_bias:
            self.add_param("bias", (filters,), "zeros")
        return (filters, *self.windows.out)

    def forward(self, x: Array, training: bool = False) -> Array:
        """Map (N, C, H, W) to (N, C*multiplier, out_h, out_w)."""
        padded = self.windows.pad(batch_last(x))  # (C, H, W, N)
        c, _, _, n = padded.shape
        y = np.zeros((c, self.multiplier, *self.windows.out, n), x.dtype)
        for channel in range(c):  # one channel at a time stays in the cache
            self._forward_channel(padded[channel], self.params["weight"], channel, y[channel])
        if self.use_bias:
            y += self.params["bias"].reshape(c, self.multiplier, 1, 1, 1)
        if training:
            self._saved = (padded if self.trainable else None, padded.shape)
        return batch_first(y.reshape(-1, *self.windows.out, n))

    def backward(self, dy: Array) -> Array | None:
        """Map dy (N, C*multiplier, out_h, out_w) to dx (N, C, H, W)."""
        padded, padded_shape = self._recall()
        dy = np.ascontiguousarray(batch_last(dy))  # (C*multiplier, out_h, out_w, N)
        if self.trainable and self.use_bias:
            np.sum(dy.reshape(len(dy), -1), axis=1, out=self.grads["bias"])
        dpadded = np.zeros(padded_shape, dy.dtype) if self.need_dx else None
        for o, dy_o in enumerate(dy):
            channel = o // self.multiplier
            if self.trainable:
                self._dweight_channel(padded[channel], dy_o, self.grads["weight"][o, 0])
            if dpadded is not None:
                self._dx_channel(self.params["weight"][o, 0], dy_o, dpadded[channel])
        return None if dpadded is None else batch_first(self.windows.crop(dpadded))

    def _forward_channel(self, padded: Array, weight: Array, channel: int, y: Array) -> None:
        """Add channel (H, W, N) times its filters to y (multiplier, out_h, out_w, N)."""
        product = np.empty_like(y[0])
        for k in range(self.multiplier):
            w = weight[channel * self.multiplier + k, 0]
            for i, j, rows, columns in self.windows.taps:
                y[k] += np.multiply(padded[rows, columns], w[i, j], out=product)

    def _dweight_channel(self, padded: Array, dy: Array, dweight: Array) -> None:
        """Fill dweight (kh, kw) from one channel (H, W, N) and dy (out_h, out_w, N)."""
        flat = dy.reshape(-1)
        for i, j, rows, columns in self.windows.taps:
            dweight[i, j] = padded[rows, columns].reshape(-1) @ flat

    def _dx_channel(self, weight: Array, dy: Array, dpadded: Array) -> None:
        """Add dy (out_h, out_w, N) times weight (kh, kw) to dpadded (H, W, N)."""
        product = np.empty_like(dy)
        for i, j, rows, columns in self.windows.taps:
            dpadded[rows, columns] += np.multiply(dy, weight[i, j], out=product)

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Conv with group = C."""
        attributes = graph.window_attributes(self.windows)
        return graph.node("Conv", self, [*inputs, *graph.params(self)], group=self.in_shapes[0][0], **attributes)

    def describe(self) -> str:
        """Return the settings."""
        return f"{self.kernel}, multiplier={self.multiplier}, stride={self.stride}, padding={self.padding!r}"
