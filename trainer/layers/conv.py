"""Convolve images and lines, densely, in groups and depthwise."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .._common import Array, Shape, batch_first, batch_last, pair, require_int
from ..initializers import Initializer, get_initializer
from .base import Layer, register
from .conv1d import OnLines, along, line_padding
from .toeplitz import Bands
from .windows import Padding, Windows, check_padding

__all__ = ["Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D"]


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


def split(array: Array | None, groups: int) -> list[Any]:
    """Return views of `groups` equal parts along the first axis; of nothing, that many times nothing."""
    return [array] * groups if array is None or groups == 1 else np.split(array, groups)


def join(parts: list[Array]) -> Array:
    """Undo `split`; a single part is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def require_groups(groups: int, channels: int, filters: int) -> None:
    """Raise ValueError unless channels and filters can be dealt out to the groups."""
    if channels % groups or filters % groups:
        raise ValueError(f"{channels} channels and {filters} filters must both be multiples of groups={groups}")


@register("conv2d", "Conv")
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
    dilation : int or (height, width)
        Distance between neighbours in a window (Yu & Koltun 2016).
    groups : int
        Channels and filters in so many groups, each filter sees its group's channels (Krizhevsky et al. 2012); weight
        is (filters, C / groups, kh, kw) then.
    bias : bool
        Whether to add a bias; leave it out before BatchNorm.
    init : str or callable
        How the weight starts, see `INITIALIZERS`; the bias starts at 0.
    """

    shows = "{filters}, {kernel}, stride={stride}, padding={padding!r}"
    shows_unless: ClassVar[dict[str, Any]] = {"dilation": (1, 1), "groups": 1}
    rank: ClassVar[int] = 2  # axes of a window, as weights and ONNX count them

    def __init__(
        self,
        filters: int,
        kernel: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: Padding = "valid",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        init: str | Initializer = "he_normal",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.filters, self.groups = require_int(filters, "Conv2D filters"), require_int(groups, "Conv2D groups")
        self.kernel, self.stride = pair(kernel, "Conv2D kernel"), pair(stride, "Conv2D stride")
        self.dilation = pair(dilation, "Conv2D dilation")
        self.padding, self.use_bias, self.init = check_padding(padding), bool(bias), init
        get_initializer(init)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W)."""
        self.windows = Windows.over(in_shape, self.kernel, self.stride, self.padding, self.dilation)
        self.padded_shape = self.windows.padded(in_shape)
        require_groups(self.groups, in_shape[0], self.filters)
        area, channels, filters = math.prod(self.kernel), in_shape[0] // self.groups, self.filters // self.groups
        shape = (self.filters, channels, *self.kernel[-self.rank :])
        self.add_param("weight", shape, self.init, fan_in=channels * area, fan_out=filters * area)
        if self.use_bias:
            self.add_param("bias", (self.filters,), "zeros")
        return (self.filters, *self.windows.out)

    def compute(self, x: Array) -> tuple[Array, Array]:
        padded = self.windows.pad(batch_last(x))  # (C, H, W, N)
        bias = split(self.params.get("bias"), self.groups)
        groups = zip(split(padded, self.groups), split(self._weight(), self.groups), bias, strict=True)
        y = join([convolve(x, self.windows, weight, b) for x, weight, b in groups])
        return batch_first(y), padded

    def backward(self, dy: Array) -> Any:
        """Give `dparams` and `dx` the gradient dy as (filters, out_h, out_w, N)."""
        return super().backward(np.ascontiguousarray(batch_last(dy)))

    def dparams(self, dy: Array, padded: Array) -> None:
        groups = (split(array, self.groups) for array in (padded, dy, self.grads["weight"]))
        for group in zip(*groups, strict=True):
            self._fill_gradient(*group)
        if self.use_bias:
            np.sum(dy.reshape(self.filters, -1), axis=1, out=self.grads["bias"])

    def dx(self, dy: Array) -> Array:
        channels, *size = self.padded_shape
        shape = (channels // self.groups, *size, dy.shape[-1])
        groups = zip(split(dy, self.groups), split(self._weight(), self.groups), strict=True)
        return batch_first(join([self._dx(d, weight, shape) for d, weight in groups]))

    def _dx(self, dy: Array, weight: Array, padded_shape: Shape) -> Array:
        """Return dx (C, H, W, N) of a group, from dy (filters, out_h, out_w, N) and weight (filters, C, kh, kw)."""
        (filters, channels, _, _), turned = weight.shape, self.windows.turned
        # To add up windows takes about three times as long as to gather them.
        if turned and filters * math.prod(turned.out) <= 3 * channels * math.prod(self.windows.out):
            return convolve(turned.pad(dy), turned, weight[:, :, ::-1, ::-1].swapaxes(0, 1))
        dcols = weight.reshape(filters, -1).T @ dy.reshape(filters, -1)
        return self.windows.crop(self.windows.scatter(dcols, padded_shape))

    def _fill_gradient(self, padded: Array, dy: Array, dweight: Array) -> None:
        """Gather the windows again, which takes less time than to bring a copy of all of them from memory."""
        # Transposed: BLAS is up to twice as fast with the longer side first.
        dweight_t = np.zeros((len(padded) * self.kernel[0] * self.kernel[1], len(dy)), dy.dtype)
        for rows in self.windows.row_blocks(len(padded), dy.shape[-1]):
            dweight_t += self.windows.gather(padded, rows) @ dy[:, rows].reshape(len(dy), -1).T
        dweight.reshape(len(dy), -1)[...] = dweight_t.T

    def _weight(self) -> Array:
        """The weight as (filters, C / groups, kh, kw)."""
        weight = self.params["weight"]
        return weight.reshape(*weight.shape[:2], *self.kernel)

    def onnx_attributes(self) -> dict[str, Any]:
        return {**self.windows.onnx_attributes(self.rank), **({"group": self.groups} if self.groups > 1 else {})}


@register("conv1d")
class Conv1D(OnLines, Conv2D):
    """Convolution of lines (N, C, L): `Conv2D` on images of one row.

    weight (filters, C / groups, k), bias (filters,), output (N, filters, out_l). The parameters are those of `Conv2D`
    with one number each; padding is "valid", "same", int or (left, right).
    """

    def __init__(
        self,
        filters: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: str | int | tuple[int, int] = "valid",
        dilation: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(
            filters,
            along(kernel, "Conv1D kernel"),
            stride=along(stride, "Conv1D stride"),
            padding=line_padding(padding),
            dilation=along(dilation, "Conv1D dilation"),
            **settings,
        )


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


@register("depthwise_conv2d", "Conv")
class DepthwiseConv2D(Layer):
    """One filter (or `multiplier` filters) per channel, channels kept apart (Sifre 2014; Howard et al. 2017).

    weight (C*multiplier, 1, kh, kw), bias (C*multiplier,); input (N, C, H, W), output (N, C*multiplier, out_h, out_w);
    output channel ``c*multiplier + k`` looks at input channel c. The parameters are those of `Conv2D`.
    """

    shows = "{kernel}, multiplier={multiplier}, stride={stride}, padding={padding!r}"
    shows_unless: ClassVar[dict[str, Any]] = {"dilation": (1, 1)}
    rank: ClassVar[int] = 2

    def __init__(
        self,
        kernel: int | tuple[int, int],
        *,
        multiplier: int = 1,
        stride: int | tuple[int, int] = 1,
        padding: Padding = "valid",
        dilation: int | tuple[int, int] = 1,
        bias: bool = True,
        init: str | Initializer = "he_normal",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.multiplier = require_int(multiplier, "DepthwiseConv2D multiplier")
        self.kernel = pair(kernel, "DepthwiseConv2D kernel")
        self.stride = pair(stride, "DepthwiseConv2D stride")
        self.dilation = pair(dilation, "DepthwiseConv2D dilation")
        self.padding, self.use_bias, self.init = check_padding(padding), bool(bias), init
        get_initializer(init)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W)."""
        self.windows = Windows.over(in_shape, self.kernel, self.stride, self.padding, self.dilation)
        self.padded_shape = self.windows.padded(in_shape)
        area, shape = math.prod(self.kernel), (in_shape[0] * self.multiplier, 1, *self.kernel[-self.rank :])
        filters = shape[0]
        self.add_param("weight", shape, self.init, fan_in=area, fan_out=area * self.multiplier)
        if self.use_bias:
            self.add_param("bias", (filters,), "zeros")
        return (filters, *self.windows.out)

    def compute(self, x: Array) -> tuple[Array, Array]:
        padded = self.windows.pad(batch_last(x))  # (C, H, W, N)
        bias = self.params["bias"].reshape(-1, self.multiplier) if self.use_bias else None
        y = convolve_depthwise(padded, self.windows.filled, self._weight(), bias)
        return batch_first(y.reshape(-1, *self.windows.out, len(x))), padded

    def backward(self, dy: Array) -> Any:
        """Give `dparams` and `dx` the gradient dy as (C*multiplier, out_h, out_w, N)."""
        return super().backward(np.ascontiguousarray(batch_last(dy)))

    def dx(self, dy: Array) -> Array:
        turned = self.windows.filled.turned
        if turned and self.multiplier == 1:
            return batch_first(convolve_depthwise(turned.pad(dy), turned, self._weight()[..., ::-1, ::-1])[:, 0])
        return batch_first(self.windows.crop(self._scatter(dy)))

    def dparams(self, dy: Array, padded: Array) -> None:
        bands, (c, _, _, n) = Bands(self.windows.filled), padded.shape
        parts = bands.split(dy.reshape(c, self.multiplier, *self.windows.out, n))
        dmatrices = np.empty((c, self.multiplier, 1, 1, *bands.shape), dy.dtype)
        for block in bands.channel_blocks(c, n):
            rows = bands.rows(padded[block])[:, None]
            np.sum(parts[block] @ rows.swapaxes(-1, -2), axis=(2, 3), keepdims=True, out=dmatrices[block])
        dfilled = np.empty((c, self.multiplier, *self.windows.extent), dy.dtype)
        bands.add_up(dmatrices, dfilled)
        dweight = self.grads["weight"].reshape(c, self.multiplier, *self.kernel)
        dweight[...] = dfilled[..., :: self.dilation[0], :: self.dilation[1]]
        if self.use_bias:
            np.sum(dy.reshape(len(dy), -1), axis=1, out=self.grads["bias"])

    def _scatter(self, dy: Array) -> Array:
        """Return the gradient of the padded input (C, H, W, N)."""
        bands, c, n = Bands(self.windows.filled), self.padded_shape[0], dy.shape[-1]
        parts = bands.split(dy.reshape(c, self.multiplier, *self.windows.out, n))
        matrices = bands.matrices(self._weight()).swapaxes(-1, -2)
        dpadded = np.zeros((*self.padded_shape, n), dy.dtype)
        for block in bands.channel_blocks(c, n):
            for k in range(self.multiplier):
                bands.add_rows(matrices[block, k] @ parts[block, k], dpadded[block])
        return dpadded

    def _weight(self) -> Array:
        """The weight as (C, multiplier, h, w), with zeros in the gaps of dilated windows."""
        weight = self.params["weight"].reshape(-1, self.multiplier, *self.kernel)
        if self.dilation == (1, 1):
            return weight
        filled = np.zeros((*weight.shape[:2], *self.windows.extent), weight.dtype)
        filled[..., :: self.dilation[0], :: self.dilation[1]] = weight
        return filled

    def onnx_attributes(self) -> dict[str, Any]:
        return {"group": self.in_shapes[0][0], **self.windows.onnx_attributes(self.rank)}


@register("depthwise_conv1d")
class DepthwiseConv1D(OnLines, DepthwiseConv2D):
    """`DepthwiseConv2D` of lines (N, C, L): weight (C*multiplier, 1, k), output (N, C*multiplier, out_l).

    The parameters are those of `Conv1D`, and `multiplier`.
    """

    def __init__(
        self,
        kernel: int,
        *,
        stride: int = 1,
        padding: str | int | tuple[int, int] = "valid",
        dilation: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(
            along(kernel, "DepthwiseConv1D kernel"),
            stride=along(stride, "DepthwiseConv1D stride"),
            padding=line_padding(padding),
            dilation=along(dilation, "DepthwiseConv1D dilation"),
            **settings,
        )
