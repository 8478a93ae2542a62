"""Convolutions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._common import Array, Shape, batch_first, batch_last, pair, require_int
from ..initializers import Initializer, get_initializer
from .bands import Bands
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
        weight = self.params["weight"].reshape(self.filters, -1)
        y = np.empty((self.filters, *self.windows.out, len(x)), x.dtype)
        for rows in self.windows.row_blocks(len(padded), len(x)):
            block = y[:, rows].reshape(self.filters, -1)  # a view
            np.matmul(weight, self.windows.gather(padded, rows), out=block)
            if self.use_bias:
                block += self.params["bias"][:, None]
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
        dcols = self.params["weight"].reshape(self.filters, -1).T @ dy.reshape(self.filters, -1)
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
        bands = Bands(self.windows)
        matrices = bands.matrices(self._weight())
        y = np.empty((len(padded), self.multiplier, *self.windows.out, len(x)), x.dtype)
        for part in bands.channel_blocks(len(padded), len(x)):
            np.matmul(matrices[part], bands.rows(padded[part])[:, None], out=bands.split(y[part]))
            if self.use_bias:
                y[part] += self.params["bias"].reshape(-1, self.multiplier, 1, 1, 1)[part]
        if training:
            self._saved = (padded if self.trainable else None, padded.shape)
        return batch_first(y.reshape(-1, *self.windows.out, len(x)))

    def backward(self, dy: Array) -> Array | None:
        """Map dy (N, C*multiplier, out_h, out_w) to dx (N, C, H, W)."""
        padded, padded_shape = self._recall()
        c, _, _, n = padded_shape
        bands = Bands(self.windows)
        dy = np.ascontiguousarray(batch_last(dy)).reshape(c, self.multiplier, *self.windows.out, n)
        matrices = bands.matrices(self._weight())
        dmatrices = np.empty_like(matrices)
        dpadded = np.zeros(padded_shape, dy.dtype) if self.need_dx else None
        for part in bands.channel_blocks(c, n):
            dparts = bands.split(dy[part])
            if self.trainable:
                rows = bands.rows(padded[part])[:, None]
                np.sum(dparts @ rows.swapaxes(-1, -2), axis=(2, 3), keepdims=True, out=dmatrices[part])
            if dpadded is not None:
                for k in range(self.multiplier):
                    bands.add_rows(matrices[part, k].swapaxes(-1, -2) @ dparts[:, k], dpadded[part])
        if self.trainable:
            bands.add_up(dmatrices, self.grads["weight"].reshape(c, self.multiplier, *self.kernel))
            if self.use_bias:
                np.sum(dy.reshape(c * self.multiplier, -1), axis=1, out=self.grads["bias"])
        return None if dpadded is None else batch_first(self.windows.crop(dpadded))

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
