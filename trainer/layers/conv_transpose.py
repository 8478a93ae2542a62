"""Convolve transposed: a convolution's gradient as the forward pass, and its forward pass as the gradient."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .._common import Array, Shape, batch_first, batch_last, pair, require_int
from ..initializers import Initializer, get_initializer
from .base import Layer, register
from .conv import convolve, join, require_groups, split
from .conv1d import OnLines, along, line_padding
from .windows import Padding, Windows, check_padding, dilated, resolve_padding

__all__ = ["ConvTranspose1D", "ConvTranspose2D"]


@register("conv_transpose2d", "ConvTranspose")
class ConvTranspose2D(Layer):
    """Each pixel of (N, C, H, W) lays the filters, scaled by itself, onto the output (Zeiler et al. 2010).

    weight (C, filters / groups, kh, kw), bias (filters,), output (N, filters, out_h, out_w) with
    ``out = (size - 1) * stride + dilation * (kernel - 1) + 1 + output_padding - pads``.

    Parameters
    ----------
    filters : int
        Number of output channels.
    kernel, stride, dilation : int or (height, width)
        As of the convolution whose gradient this is.
    padding : "valid", "same", int, (height, width) or (top, left, bottom, right)
        How much is cut off the output. "same" gives size * stride outputs.
    output_padding : int or (height, width)
        Rows below and columns to the right that get a larger output, less than the stride.
    groups : int
        See `Conv2D`.
    bias : bool
        Whether to add a bias.
    init : str or callable
        How the weight starts, see `INITIALIZERS`; the bias starts at 0.
    """

    shows = "{filters}, {kernel}, stride={stride}, padding={padding!r}"
    shows_unless: ClassVar[dict[str, Any]] = {"dilation": (1, 1), "groups": 1}
    rank: ClassVar[int] = 2

    def __init__(
        self,
        filters: int,
        kernel: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: Padding = "valid",
        output_padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        init: str | Initializer = "he_normal",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        what = type(self).__name__
        self.filters, self.groups = require_int(filters, f"{what} filters"), require_int(groups, f"{what} groups")
        self.kernel, self.stride = pair(kernel, f"{what} kernel"), pair(stride, f"{what} stride")
        self.dilation = pair(dilation, f"{what} dilation")
        self.output_padding = pair(output_padding, f"{what} output_padding", 0)
        if any(extra >= s for extra, s in zip(self.output_padding, self.stride, strict=True)):
            raise ValueError(f"output_padding={output_padding!r}: give less than the stride, {self.stride}")
        self.padding, self.use_bias, self.init = check_padding(padding), bool(bias), init
        get_initializer(init)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W)."""
        if len(in_shape) != 3:
            raise ValueError(f"takes images of shape (channels, height, width), got {in_shape}")
        require_groups(self.groups, in_shape[0], self.filters)
        extent = dilated(self.kernel, self.dilation)
        lengths = zip(in_shape[1:], self.stride, extent, self.output_padding, strict=True)
        self.full = tuple((n - 1) * s + k + extra for n, s, k, extra in lengths)  # before pads are cut off
        top, left, bottom, right = pads = self._pads(in_shape[1:])
        out = (self.full[0] - top - bottom, self.full[1] - left - right)
        if min(out) < 1:
            raise ValueError(f"pads {pads} cut off all of the output {self.full[0]}x{self.full[1]}: pad less")
        # The windows of the convolution that maps the output's shape to the input's.
        self.windows = Windows(self.kernel, self.stride, pads, (in_shape[1], in_shape[2]), self.dilation)
        self._add_params(in_shape[0])
        return (self.filters, *out)

    def _pads(self, size: Shape) -> tuple[int, int, int, int]:
        """Return (top, left, bottom, right)."""
        if self.padding != "same":
            return resolve_padding(self.padding, size, self.kernel, self.stride)
        cut = [full - n * s for full, n, s in zip(self.full, size, self.stride, strict=True)]
        if min(cut) < 0:
            raise ValueError(
                f"a {self.kernel} kernel with stride {self.stride} leaves gaps: 'same' needs kernel >= stride"
            )
        return (cut[0] // 2, cut[1] // 2, cut[0] - cut[0] // 2, cut[1] - cut[1] // 2)

    def _add_params(self, channels: int) -> None:
        """Add weight and bias; an output pixel sums about area / stride products per channel."""
        area, filters = math.prod(self.kernel), self.filters // self.groups
        fan_in = max(1, channels // self.groups * area // math.prod(self.stride))
        shape = (channels, filters, *self.kernel[-self.rank :])
        self.add_param("weight", shape, self.init, fan_in=fan_in, fan_out=filters * area)
        if self.use_bias:
            self.add_param("bias", (self.filters,), "zeros")

    def compute(self, x: Array) -> tuple[Array, Array]:
        n, x = len(x), np.ascontiguousarray(batch_last(x))  # (C, H, W, N)
        shape = (self.filters // self.groups, *self.full, n)
        groups = zip(split(self._weight(), self.groups), split(x, self.groups), strict=True)
        cols = (weight.reshape(len(weight), -1).T @ part.reshape(len(part), -1) for weight, part in groups)
        y = self.windows.crop(join([self.windows.scatter(part, shape) for part in cols]))
        if self.use_bias:
            y = y + self.params["bias"][:, None, None, None]
        return batch_first(y), x

    def backward(self, dy: Array) -> Any:
        """Give `dparams` and `dx` the gradient dy as it is and, padded, as (filters, full_h, full_w, N)."""
        return super().backward((dy, self.windows.pad(batch_last(dy))))

    def dparams(self, dys: tuple[Array, Array], x: Array) -> None:
        dy, padded = dys
        groups = (split(array, self.groups) for array in (x, padded, self.grads["weight"]))
        for group in zip(*groups, strict=True):
            self._fill_gradient(*group)
        if self.use_bias:
            np.sum(dy, axis=(0, 2, 3), out=self.grads["bias"])

    def dx(self, dys: tuple[Array, Array]) -> Array:
        groups = zip(split(dys[1], self.groups), split(self._weight(), self.groups), strict=True)
        return batch_first(join([convolve(padded, self.windows, weight) for padded, weight in groups]))

    def _fill_gradient(self, x: Array, padded: Array, dweight: Array) -> None:
        """Fill the gradient of a group from x (C, H, W, N) and dy (filters, full_h, full_w, N)."""
        total = np.zeros((len(x), padded.shape[0] * math.prod(self.kernel)), x.dtype)
        for rows in self.windows.row_blocks(len(padded), padded.shape[-1]):
            total += x[:, rows].reshape(len(x), -1) @ self.windows.gather(padded, rows).T
        dweight[...] = total.reshape(dweight.shape)

    def _weight(self) -> Array:
        """The weight as (C, filters / groups, kh, kw)."""
        weight = self.params["weight"]
        return weight.reshape(*weight.shape[:2], *self.kernel)

    def onnx_attributes(self) -> dict[str, Any]:
        extra = {"group": self.groups, "output_padding": [*self.output_padding[-self.rank :]]}
        return {**self.windows.onnx_attributes(self.rank), **extra}


@register("conv_transpose1d")
class ConvTranspose1D(OnLines, ConvTranspose2D):
    """`ConvTranspose2D` of lines (N, C, L): weight (C, filters / groups, k), output (N, filters, out_l).

    The parameters are those of `Conv1D`, and `output_padding`.
    """

    def __init__(
        self,
        filters: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: str | int | tuple[int, int] = "valid",
        output_padding: int = 0,
        dilation: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(
            filters,
            along(kernel, "ConvTranspose1D kernel"),
            stride=along(stride, "ConvTranspose1D stride"),
            padding=line_padding(padding),
            output_padding=(0, require_int(output_padding, "ConvTranspose1D output_padding", 0)),
            dilation=along(dilation, "ConvTranspose1D dilation"),
            **settings,
        )
