"""Slide windows over images: the arithmetic of convolutions and pools (im2col, col2im). Arrays are (C, H, W, N)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .._common import Array, Shape, is_int, pair

Padding = str | int | tuple[int, int] | tuple[int, int, int, int]

BLOCK = 1 << 17  # elements that are gathered at a time: what stays in a second-level cache


@dataclass(frozen=True)
class Windows:
    """Where windows lie on an image.

    Attributes
    ----------
    kernel, stride, out : (height, width)
        Size of a window, distance between windows, number of windows.
    pads : (top, left, bottom, right)
        In ONNX's order.
    dilation : (height, width)
        Distance between neighbours in a window.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    out: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    @classmethod
    def over(
        cls,
        in_shape: Shape,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        padding: Padding,
        dilation: tuple[int, int] = (1, 1),
    ) -> Windows:
        """Lay windows over inputs of shape (C, H, W).

        Raises
        ------
        ValueError
            If the input is not an image or the window does not fit on it.
        """
        if len(in_shape) != 3:
            raise ValueError(f"takes images of shape (channels, height, width), got {in_shape}")
        size, extent = in_shape[1:], dilated(kernel, dilation)
        pads = resolve_padding(padding, size, extent, stride)
        padded = (size[0] + pads[0] + pads[2], size[1] + pads[1] + pads[3])
        if padded[0] < extent[0] or padded[1] < extent[1]:
            raise ValueError(
                f"a {extent[0]}x{extent[1]} window does not fit on a {size[0]}x{size[1]} image "
                f"with pads {pads}: use a smaller kernel, fewer pools before it, or padding"
            )
        out = tuple((p - k) // s + 1 for p, k, s in zip(padded, extent, stride, strict=True))
        return cls(kernel, stride, pads, (out[0], out[1]), dilation)

    @property
    def extent(self) -> tuple[int, int]:
        """Size of a window, gaps included."""
        return dilated(self.kernel, self.dilation)

    @cached_property
    def filled(self) -> Windows:
        """The same windows with their gaps taken in; filters get zeros there."""
        return self if self.dilation == (1, 1) else Windows(self.extent, self.stride, self.pads, self.out)

    @property
    def trivial(self) -> bool:
        """Whether each window is one pixel of the image, in order."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and not any(self.pads)

    @property
    def apart(self) -> bool:
        """Whether no two windows overlap."""
        return self.stride[0] >= self.extent[0] and self.stride[1] >= self.extent[1]

    def pad(self, x: Array, value: float = 0.0) -> Array:
        """Surround x (C, H, W, N) with `value`; returns x, contiguous, if there are no pads."""
        if not any(self.pads):
            return np.ascontiguousarray(x)
        top, left, bottom, right = self.pads
        c, h, w, n = x.shape
        padded = np.full((c, top + h + bottom, left + w + right, n), value, x.dtype)
        padded[:, top : top + h, left : left + w] = x
        return padded

    def padded(self, in_shape: Shape) -> Shape:
        """Return the shape (C, H, W) of an input after `pad`."""
        top, left, bottom, right = self.pads
        return (in_shape[0], top + in_shape[1] + bottom, left + in_shape[2] + right)

    def crop(self, padded: Array) -> Array:
        """Undo `pad` (a view)."""
        top, left, bottom, right = self.pads
        return padded[:, top : padded.shape[1] - bottom, left : padded.shape[2] - right]

    @cached_property
    def taps(self) -> list[tuple[int, int, slice, slice]]:
        """(i, j, rows, columns) for each place in the window, row by row.

        ``padded[:, rows, columns]`` (C, out_h, out_w, N) is that place in every window.
        """
        (kh, kw), (sh, sw), (oh, ow), (gh, gw) = self.kernel, self.stride, self.out, self.dilation
        rows = [slice(i, i + sh * (oh - 1) + 1, sh) for i in range(0, kh * gh, gh)]
        columns = [slice(j, j + sw * (ow - 1) + 1, sw) for j in range(0, kw * gw, gw)]
        return [(i, j, rows[i], columns[j]) for i in range(kh) for j in range(kw)]

    @cached_property
    def turned(self) -> Windows | None:
        """The windows over dy (C, out_h, out_w, N), one for each pixel of the image, that see where this pixel went.

        With filters turned by half a circle they give dx. There are none for strides, or pads as wide as the window.
        """
        (kh, kw), (top, left, bottom, right) = self.extent, self.pads
        pads = (kh - 1 - top, kw - 1 - left, kh - 1 - bottom, kw - 1 - right)
        if self.stride != (1, 1) or min(pads) < 0:
            return None
        size = (self.out[0] + kh - 1 - top - bottom, self.out[1] + kw - 1 - left - right)
        return Windows(self.kernel, self.stride, pads, size, self.dilation)

    def onnx_attributes(self, rank: int) -> dict[str, Any]:
        """Return kernel_shape, strides and pads of the last `rank` axes, and dilations where there are any."""
        first, last = self.pads[2 - rank : 2], self.pads[4 - rank :]
        attributes = {
            "kernel_shape": [*self.kernel[-rank:]],
            "strides": [*self.stride[-rank:]],
            "pads": [*first, *last],
        }
        if self.dilation != (1, 1):
            attributes["dilations"] = [*self.dilation[-rank:]]
        return attributes

    def row_blocks(self, channels: int, n: int) -> Iterator[slice]:
        """Yield slices of rows of windows, all rows in turn; what `gather` copies for one of them stays in the cache."""
        area = self.kernel[0] * self.kernel[1]
        step = self.out[0] if self.trivial else max(1, BLOCK // (channels * area * self.out[1] * n))
        for start in range(0, self.out[0], step):
            yield slice(start, min(start + step, self.out[0]))

    def gather(self, padded: Array, rows: slice) -> Array:
        """im2col of some rows of windows: (C, H, W, N) to (C*kh*kw, rows*out_w*N). A view for 1x1 windows, else a copy."""
        (kh, kw), (sh, sw), (oh, ow), (gh, gw) = self.kernel, self.stride, self.out, self.dilation
        c, _, _, n = padded.shape
        dc, dh, dw, dn = padded.strides
        strides = (dc, dh * gh, dw * gw, dh * sh, dw * sw, dn)
        view = as_strided(padded, (c, kh, kw, oh, ow, n), strides, writeable=False)
        return view[:, :, :, rows].reshape(c * kh * kw, -1)

    def scatter(self, cols: Array, padded_shape: Shape) -> Array:
        """col2im, the transpose of `gather`: add (C*kh*kw, out_h*out_w*N) up into (C, H, W, N)."""
        if self.trivial:
            return cols.reshape(padded_shape)
        c, _, _, n = padded_shape
        parts = cols.reshape(c, *self.kernel, *self.out, n)
        padded = np.zeros(padded_shape, cols.dtype)
        for i, j, rows, columns in self.taps:
            padded[:, rows, columns] += parts[:, i, j]
        return padded


def dilated(kernel: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    """Return the size of a window whose neighbours lie `dilation` apart."""
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


def check_padding(padding: Padding) -> Padding:
    """Return `padding` if it is one of the accepted forms.

    Raises
    ------
    ValueError
        If it is not "valid", "same", an integer, (height, width) or (top, left, bottom, right).
    """
    many = isinstance(padding, (tuple, list)) and len(padding) in (2, 4) and all(is_int(p, 0) for p in padding)
    if many or (isinstance(padding, str) and padding in ("valid", "same")) or is_int(padding, 0):
        return padding
    raise ValueError(
        f"padding={padding!r}: give 'valid', 'same', an integer >= 0, (height, width) or (top, left, bottom, right)"
    )


def resolve_padding(
    padding: Padding, size: Shape, kernel: tuple[int, int], stride: tuple[int, int]
) -> tuple[int, int, int, int]:
    """Return (top, left, bottom, right); "same" gives ceil(size / stride) windows, the odd pixel below and right."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        need = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(size, kernel, stride, strict=True)]
        return (need[0] // 2, need[1] // 2, need[0] - need[0] // 2, need[1] - need[1] // 2)
    if isinstance(padding, (tuple, list)) and len(padding) == 4:
        top, left, bottom, right = (int(p) for p in padding)
        return (top, left, bottom, right)
    h, w = pair(padding, "padding", 0)  # type: ignore[arg-type]
    return (h, w, h, w)
