"""Convolutions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .._common import Array, Shape, batch_first, batch_last, pair, require_int
from ..initializers import Initializer, get_initializer
from .bands import Bands
from .base import Layer
from .windows import Padding, Windows, check_padding

if TYPE_CHECKING:
    from ..onnx_export import GraphBuilder


def convolve(padded: Array, windows: Windows, weight: Array, bias: Array | None = None) -> Array:
    """Map images (C, H, W, N), padded, to (F, out_h, out_w, N) by weight (F, C, kh, kw) and bias (F,)."""
    c, _, _, n = padded.shape
    matrix = weight.reshape(len(weight), -1)
    y = np.empty((len(weight), *windows.out, n), padded.dtype)
    for rows in windows.row_blocks(c, n):
        block = y[:, rows].reshape(len(weight), -1)  # a view
        np.matmul(matrix, windows.gather(padded, rows), out=block)
        if bias is not None:
            block += bias[:, None]
    return y


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
        y = convolve(padded, self.windows, self.params["weight"], self.params.get("bias"))
        if training:
            self._saved = (padded if self.trainable else None, padded.shape)
        return batch_first(y)

    def backward(self, dy: Array) -> Array | None:
        """Map dy (N, filters, out_h, out_w) to dx (N, C, H, W)."""
        padded, padded_shape = self._recall()
        dy = np.ascontiguousarray(batch_last(dy))  # (filters, out_h, out_w, N)
        if self.trainable:
            self._fill_gradients(padded, dy)
        if not self.need_dx:
            return None
        weight, turned = self.params["weight"], self.windows.turned
        # To add up windows takes about three times as long as to gather them.
        if turned and self.filters * math.prod(turned.out) <= 3 * weight.shape[1] * math.prod(self.windows.out):
            return batch_first(convolve(turned.pad(dy), turned, weight[:, :, ::-1, ::-1].swapaxes(0, 1)))
        dcols = weight.reshape(self.filters, -1).T @ dy.reshape(self.filters, -1)
        return batch_first(self.windows.crop(self.windows.scatter(dcols, padded_shape)))

    def _fill_gradients(self, padded: Array, dy: Array) -> None:
        """Gather the windows again, which takes less time than to bring a copy of all of them from memory."""
        # Transposed: BLAS is up to twice as fast with the longer side first.
        dweight_t = np.zeros((len(padded) * self.kernel[0] * self.kernel[1], self.filters), dy.dtype)
        for rows in self.windows.row_blocks(len(padded), dy.shape[-1]):
            dweight_t += self.windows.gather(padded, rows) @ dy[:, rows].reshape(self.filters, -1).T
        self.grads["weight"].reshape(self.filters, -1)[...] = dweight_t.T
        if self.use_bias:
            np.sum(dy.reshape(self.filters, -1), axis=1, out=self.grads["bias"])

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Conv."""
        return graph.node("Conv", self, [*inputs, *graph.params(self)], **graph.window_attributes(self.windows))

    def describe(self) -> str:
        """Return the settings."""
        return f"{self.filters}, {self.kernel}, stride={self.stride}, padding={self.padding!r}"


def convolve_depthwise(padded: Array, windows: Windows, weight: Array, bias: Array | None = None) -> Array:
    """Map images (C, H, W, N), padded, to (C, M, out_h, out_w, N) by weight (C, M, kh, kw) and bias (C, M)."""
    bands, (c, _, _, n) = Bands(windows), padded.shape
    matrices = bands.matrices(weight)
    y = np.empty((c, weight.shape[1], *windows.out, n), padded.dtype)
    for block in bands.channel_blocks(c, n):
        np.matmul(matrices[block], bands.rows(padded[block])[:, None], out=bands.split(y[block]))
        if bias is not None:
            y[block] += bias[block, :, None, None, None]
    return y


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
        bias = self.params["bias"].reshape(-1, self.multiplier) if self.use_bias else None
        y = convolve_depthwise(padded, self.windows, self._weight(), bias)
        if training:
            self._saved = (padded if self.trainable else None, padded.shape)
        return batch_first(y.reshape(-1, *self.windows.out, len(x)))

    def backward(self, dy: Array) -> Array | None:
        """Map dy (N, C*multiplier, out_h, out_w) to dx (N, C, H, W)."""
        padded, padded_shape = self._recall()
        dy = np.ascontiguousarray(batch_last(dy))  # (C*multiplier, out_h, out_w, N)
        if self.trainable:
            self._fill_gradients(padded, dy)
        if not self.need_dx:
            return None
        turned = self.windows.turned
        if turned and self.multiplier == 1:
            return batch_first(convolve_depthwise(turned.pad(dy), turned, self._weight()[..., ::-1, ::-1])[:, 0])
        return batch_first(self.windows.crop(self._scatter(dy, padded_shape)))

    def _fill_gradients(self, padded: Array, dy: Array) -> None:
        """Fill the gradients from the input (C, H, W, N) and dy (C*multiplier, out_h, out_w, N)."""
        bands, (c, _, _, n) = Bands(self.windows), padded.shape
        parts = bands.split(dy.reshape(c, self.multiplier, *self.windows.out, n))
        dmatrices = np.empty((c, self.multiplier, 1, 1, *bands.shape), dy.dtype)
        for block in bands.channel_blocks(c, n):
            rows = bands.rows(padded[block])[:, None]
            np.sum(parts[block] @ rows.swapaxes(-1, -2), axis=(2, 3), keepdims=True, out=dmatrices[block])
        bands.add_up(dmatrices, self.grads["weight"].reshape(c, self.multiplier, *self.kernel))
        if self.use_bias:
            np.sum(dy.reshape(len(dy), -1), axis=1, out=self.grads["bias"])

    def _scatter(self, dy: Array, padded_shape: Shape) -> Array:
        """Return the gradient of the padded input (C, H, W, N)."""
        bands, (c, _, _, n) = Bands(self.windows), padded_shape
        parts = bands.split(dy.reshape(c, self.multiplier, *self.windows.out, n))
        matrices = bands.matrices(self._weight()).swapaxes(-1, -2)
        dpadded = np.zeros(padded_shape, dy.dtype)
        for block in bands.channel_blocks(c, n):
            for k in range(self.multiplier):
                bands.add_rows(matrices[block, k] @ parts[block, k], dpadded[block])
        return dpadded

    def _weight(self) -> Array:
        """The weight as (C, multiplier, kh, kw)."""
        return self.params["weight"].reshape(-1, self.multiplier, *self.kernel)

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Conv with group = C."""
        attributes = graph.window_attributes(self.windows)
        return graph.node("Conv", self, [*inputs, *graph.params(self)], group=self.in_shapes[0][0], **attributes)

    def describe(self) -> str:
        """Return the settings."""
        return f"{self.kernel}, multiplier={self.multiplier}, stride={self.stride}, padding={self.padding!r}"
