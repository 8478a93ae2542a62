"""Make one-dimensional layers, over lines (N, C, L), of those over images: images of one row."""

from __future__ import annotations

from typing import Any, ClassVar

from .._common import Array, Shape, require_int
from .base import Layer
from .windows import Padding, check_padding


class OnLines(Layer):
    """Comes before a layer over images (N, C, H, W) among the bases, and makes it one over lines (N, C, L)."""

    rank: ClassVar[int] = 1

    def setup(self, in_shape: Shape) -> Shape:
        """Take (C, L)."""
        if len(in_shape) != 2:
            raise ValueError(f"takes lines of shape (channels, length), got {in_shape}")
        channels, _, length = super().setup((in_shape[0], 1, in_shape[1]))
        return (channels, length)

    def forward(self, x: Array, training: bool = False) -> Array:
        """Map (N, C, L) to (N, C', L')."""
        return super().forward(x[:, :, None], training)[:, :, 0]

    def backward(self, dy: Array) -> Any:
        """Map dy (N, C', L') to dx (N, C, L)."""
        dx = super().backward(dy[:, :, None])
        return None if dx is None else dx[:, :, 0]


def along(value: int, what: str) -> tuple[int, int]:
    """Return `value`, a length along the line, as (height, width) of an image of one row."""
    return (1, require_int(value, what))


def line_padding(padding: str | int | tuple[int, int]) -> Padding:
    """Return "valid", "same", int or (left, right) as the padding of an image of one row."""
    if isinstance(padding, (tuple, list)) and len(padding) != 2:
        raise ValueError(f"padding={padding!r}: give 'valid', 'same', an integer >= 0 or (left, right)")
    padding = check_padding(padding)  # type: ignore[assignment]
    if isinstance(padding, str):
        return padding
    left, right = (padding, padding) if isinstance(padding, int) else padding
    return (0, int(left), 0, int(right))
