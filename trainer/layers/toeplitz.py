"""Multiply depthwise windows as banded Toeplitz matrices: a row of windows is a band of the image times one of them.

A band is as many rows of the image as a window is high. Written as one vector, it becomes a row of windows by a matrix
that holds the filter once per window, each time further right; zeros fill the rest. That is more arithmetic than a
filter needs, but BLAS does it many times faster than NumPy adds up shifted images.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .._common import Array
from . import windows as layout
from .windows import Windows

WIDEST = 8  # windows of a matrix: the wider, the more zeros


class Bands:
    """How the windows of an image (C, H, W, N) split into matrices.

    Attributes
    ----------
    width, blocks : int
        Windows of a matrix, and matrices of a row; their product is the number of windows in a row.
    span : int
        Columns of the image under the windows of a matrix.
    """

    def __init__(self, windows: Windows) -> None:
        columns = windows.out[1]
        self.windows = windows
        self.width = max(width for width in range(1, WIDEST + 1) if columns % width == 0)
        self.blocks = columns // self.width
        self.span = windows.stride[1] * (self.width - 1) + windows.kernel[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(width, kh*span) of a matrix."""
        return self.width, self.windows.kernel[0] * self.span

    def channel_blocks(self, channels: int, n: int) -> Iterator[slice]:
        """Yield slices of channels, all of them in turn, whose bands stay in the cache."""
        step = max(1, layout.BLOCK // (self.windows.out[0] * self.blocks * self.windows.kernel[0] * self.span * n))
        for start in range(0, channels, step):
            yield slice(start, min(start + step, channels))

    def matrices(self, weight: Array) -> Array:
        """Write filters (C, M, kh, kw) as banded matrices (C, M, 1, 1, width, kh*span)."""
        c, m, kh, _ = weight.shape
        banded = np.zeros((c, m, self.width, kh, self.span), weight.dtype)
        for window, columns in enumerate(self._columns()):
            banded[:, :, window, :, columns] = weight
        return banded.reshape(c, m, 1, 1, *self.shape)

    def add_up(self, dmatrices: Array, dweight: Array) -> None:
        """Fill dweight (C, M, kh, kw) from the gradients of `matrices`: each weight stands there once per window."""
        parts = dmatrices.reshape(*dweight.shape[:2], self.width, self.windows.kernel[0], self.span)
        dweight[...] = sum(parts[:, :, window, :, columns] for window, columns in enumerate(self._columns()))

    def _columns(self) -> list[slice]:
        """Where the windows of a matrix lie in its span."""
        stride, width = self.windows.stride[1], self.windows.kernel[1]
        return [slice(stride * window, stride * window + width) for window in range(self.width)]

    def split(self, y: Array) -> Array:
        """View y (C, M, out_h, out_w, N) as (C, M, out_h, blocks, width, N)."""
        return y.reshape(*y.shape[:3], self.blocks, self.width, y.shape[-1])

    def rows(self, padded: Array) -> Array:
        """Bands (C, out_h, blocks, kh*span, N) of (C, H, W, N). A view if a matrix takes in whole rows, else a copy."""
        c, _, _, n = padded.shape
        dc, dh, dw, dn = padded.strides
        (sh, sw), kh = self.windows.stride, self.windows.kernel[0]
        shape = (c, self.windows.out[0], self.blocks, kh, self.span, n)
        strides = (dc, dh * sh, dw * sw * self.width, dh, dw, dn)
        return as_strided(padded, shape, strides, writeable=False).reshape(*shape[:3], -1, n)

    def add_rows(self, drows: Array, dpadded: Array) -> None:
        """Add the gradients of `rows` (C, out_h, blocks, kh*span, N) up into dpadded (C, H, W, N)."""
        c, oh, _, _, n = drows.shape
        (sh, sw), kh = self.windows.stride, self.windows.kernel[0]
        parts = drows.reshape(c, oh, self.blocks, kh, self.span, n)
        for i in range(kh):
            lines = slice(i, i + sh * (oh - 1) + 1, sh)
            for block in range(self.blocks):
                start = block * self.width * sw
                dpadded[:, lines, start : start + self.span] += parts[:, :, block, i]
