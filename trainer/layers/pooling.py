"""Pool windows or whole channels to their maximum or mean."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .._common import Array, Shape, batch_first, batch_last, pair
from .base import Layer, register
from .conv1d import OnLines, along, line_padding
from .windows import Padding, Windows, check_padding

__all__ = ["AveragePool1D", "AveragePool2D", "GlobalAveragePool", "GlobalMaxPool", "MaxPool1D", "MaxPool2D"]


class _Pool2D(Layer):
    """A pool over windows, by default side by side."""

    rank: ClassVar[int] = 2
    shows = "{kernel}, stride={stride}, padding={padding!r}"

    def __init__(
        self,
        kernel: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] | None = None,
        padding: Padding = "valid",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.kernel = pair(kernel, f"{type(self).__name__} kernel")
        self.stride = self.kernel if stride is None else pair(stride, f"{type(self).__name__} stride")
        self.padding = check_padding(padding)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W)."""
        self.windows = Windows.over(in_shape, self.kernel, self.stride, self.padding)
        self.padded_shape = self.windows.padded(in_shape)
        top, left, bottom, right = self.windows.pads
        if max(top, bottom) >= self.kernel[0] or max(left, right) >= self.kernel[1]:
            raise ValueError(f"pads {self.windows.pads} would leave windows without a pixel: pad less than the kernel")
        return (in_shape[0], *self.windows.out)

    def onnx_attributes(self) -> dict[str, Any]:
        return self.windows.onnx_attributes(self.rank)


@register("max_pool2d", "MaxPool")
class MaxPool2D(_Pool2D):
    """Largest value of each window; images (N, C, H, W) to (N, C, out_h, out_w).

    Of equal maxima the first one, in row-major order of the window, gets the gradient.

    Parameters
    ----------
    kernel, stride : int or (height, width)
        Size of a window and distance between windows (default: the kernel).
    padding : see `Conv2D`
        Padded pixels never win.
    """

    def compute(self, x: Array) -> Any:
        return self._largest(x, remember=False)[0]

    def compute_training(self, x: Array) -> tuple[Array, Array]:
        return self._largest(x, remember=self.need_dx)

    def _largest(self, x: Array, remember: bool) -> tuple[Array, Array]:
        """Return the largest values (N, C, out_h, out_w) and, to remember, their places in the windows."""
        padded = self.windows.pad(batch_last(x), -np.inf)  # (C, H, W, N)
        (_, _, rows, columns), *others = self.windows.taps
        y = padded[:, rows, columns].copy()
        first = np.zeros(y.shape if remember else 0, np.int8 if len(others) < 128 else np.int16)
        for place, (_, _, rows, columns) in enumerate(others, start=1):
            tap = padded[:, rows, columns]
            if remember:
                tap = tap.copy()  # read twice, and contiguous memory is read faster
                # Places rise, so the last one to win is the largest: quicker than a masked copy.
                np.maximum(first, (tap > y).view(np.int8) * first.dtype.type(place), out=first)
            np.maximum(y, tap, out=y)
        return batch_first(y), first

    def dx(self, dy: Array, first: Array) -> Array:
        dy = batch_last(dy)
        dpadded = np.zeros((*self.padded_shape, dy.shape[-1]), dy.dtype)
        for place, (_, _, rows, columns) in enumerate(self.windows.taps):
            tap = dpadded[:, rows, columns]
            if self.windows.apart:  # each pixel lies in one window at most: nothing to add to
                np.multiply(dy, first == place, out=tap)
            else:
                tap += dy * (first == place)
        return batch_first(self.windows.crop(dpadded))


@register("average_pool2d", "AveragePool")
class AveragePool2D(_Pool2D):
    """Mean of each window; images (N, C, H, W) to (N, C, out_h, out_w).

    Parameters
    ----------
    kernel, stride : int or (height, width)
        Size of a window and distance between windows (default: the kernel).
    padding : see `Conv2D`
        Padded pixels are left out of the mean.
    count_include_pad : bool
        Count padded pixels as zeros in the mean instead.
    """

    def __init__(self, kernel: int | tuple[int, int], *, count_include_pad: bool = False, **kwargs: Any) -> None:
        super().__init__(kernel, **kwargs)
        self.count_include_pad = bool(count_include_pad)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W)."""
        out_shape = super().setup(in_shape)
        counted = np.ones((1, *in_shape[1:], 1))
        padded = self.windows.pad(counted, float(self.count_include_pad))
        taps = [padded[:, rows, columns] for _, _, rows, columns in self.windows.taps]
        self.counts = np.sum(taps, axis=0).astype(self.dtype)  # (1, out_h, out_w, 1)
        return out_shape

    def compute(self, x: Array) -> Array:
        padded = self.windows.pad(batch_last(x))  # (C, H, W, N)
        y = np.zeros((len(padded), *self.windows.out, len(x)), x.dtype)
        for _, _, rows, columns in self.windows.taps:
            y += padded[:, rows, columns]
        y /= self.counts
        return batch_first(y)

    def dx(self, dy: Array) -> Array:
        share = (batch_last(dy) / self.counts).astype(dy.dtype, copy=False)
        dpadded = np.zeros((*self.padded_shape, len(dy)), dy.dtype)
        for _, _, rows, columns in self.windows.taps:
            dpadded[:, rows, columns] += share
        return batch_first(self.windows.crop(dpadded))

    def onnx_attributes(self) -> dict[str, Any]:
        return {**super().onnx_attributes(), "count_include_pad": int(self.count_include_pad)}


class _OnLines(OnLines):
    """A pool over lines: the arguments of one over images of one row."""

    def __init__(
        self,
        kernel: int,
        *,
        stride: int | None = None,
        padding: str | int | tuple[int, int] = "valid",
        **settings: Any,
    ) -> None:
        what = type(self).__name__
        window = along(kernel, f"{what} kernel")
        step = window if stride is None else along(stride, f"{what} stride")
        super().__init__(window, stride=step, padding=line_padding(padding), **settings)  # type: ignore[call-arg, arg-type]


@register("max_pool1d")
class MaxPool1D(_OnLines, MaxPool2D):
    """`MaxPool2D` of lines: (N, C, L) to (N, C, out_l). Settings are one number each; padding may be (left, right)."""


@register("average_pool1d")
class AveragePool1D(_OnLines, AveragePool2D):
    """`AveragePool2D` of lines: (N, C, L) to (N, C, out_l). Settings are one number each; padding may be (left, right)."""


class _GlobalPool(Layer):
    """One value of each channel: (N, C, H, W) to (N, C, 1, 1), as in ONNX, or (N, C, L) to (N, C, 1)."""

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, H, W) or (C, L)."""
        if len(in_shape) < 2:
            raise ValueError(f"takes images (channels, height, width) or lines (channels, length), got {in_shape}")
        return (in_shape[0], *(1 for _ in in_shape[1:]))


@register("global_average_pool", "GlobalAveragePool")
class GlobalAveragePool(_GlobalPool):
    """Mean of each channel: (N, C, H, W) to (N, C, 1, 1), (N, C, L) to (N, C, 1); Flatten() makes it (N, C)."""

    def compute(self, x: Array) -> Array:
        return batch_first(batch_last(x).mean(axis=tuple(range(1, x.ndim - 1)), keepdims=True))

    def dx(self, dy: Array) -> Array:
        shape = self.in_shapes[0]
        dx = np.empty((*shape, len(dy)), dy.dtype)
        dx[...] = batch_last(dy) / math.prod(shape[1:])
        return batch_first(dx)


@register("global_max_pool", "GlobalMaxPool")
class GlobalMaxPool(_GlobalPool):
    """Largest value of each channel: (N, C, H, W) to (N, C, 1, 1), (N, C, L) to (N, C, 1).

    Of equal maxima the first one gets the gradient.
    """

    def compute(self, x: Array) -> tuple[Array, Array]:
        rows = batch_last(x).reshape(x.shape[1], -1, len(x))  # (C, M, N), M values per channel
        first = rows.argmax(axis=1)[:, None]
        return batch_first(np.take_along_axis(rows, first, axis=1).reshape(*self.out_shape, len(x))), first

    def dx(self, dy: Array, first: Array) -> Array:
        shape, n = self.in_shapes[0], len(dy)
        dx = np.zeros((shape[0], math.prod(shape[1:]), n), dy.dtype)
        np.put_along_axis(dx, first, batch_last(dy).reshape(shape[0], 1, n), axis=1)
        return batch_first(dx.reshape(*shape, n))
