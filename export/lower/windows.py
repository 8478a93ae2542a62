"""Resolve kernel, stride, padding and output size of a Conv or pool; 1-D ones become 2-D of height 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import onnx_ir as ir

from ..errors import Refusal
from .layout import Value


@dataclass
class Window:
    """Geometry of a sliding window over (in_h, in_w)."""

    in_h: int
    in_w: int
    out_h: int
    out_w: int
    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    pad_bottom: int
    pad_right: int
    spatial: tuple[int, ...]  # the output's spatial ONNX axes

    def is_whole(self) -> bool:
        """True if the one window is the whole image, without padding."""
        padded = self.pad_top or self.pad_left or self.pad_bottom or self.pad_right
        return not padded and (self.kernel_h, self.kernel_w) == (self.in_h, self.in_w)

    def attrs(self) -> dict[str, int]:
        """The fields every window op has."""
        names = "in_h in_w out_h out_w kernel_h kernel_w stride_h stride_w dilation_h dilation_w pad_top pad_left"
        return {name: getattr(self, name) for name in names.split()}


def spatial_axes(value: Value) -> tuple[int, ...]:
    """Axes to ask for to have an image (or sequence) channel-last: (2, 3, 1) or (2, 1).

    Raises
    ------
    Refusal : not a single sample of rank 3 or 4
    """
    if len(value.shape) not in (3, 4):
        raise Refusal(f"its input has {len(value.shape)} axes", "an input of shape (N, C, L) or (N, C, H, W)")
    if value.shape[0] != 1:
        raise Refusal("its input has a first axis that is not the batch", "an input of shape (N, C, H, W)")
    return (*range(2, len(value.shape)), 1)


def window(node: ir.Node, value: Value, kernel: Sequence[int]) -> Window:
    """Geometry of `node`, with `auto_pad` and `ceil_mode` resolved."""
    sizes = value.shape[2:]
    attributes = node.attributes
    strides = attributes.get_ints("strides") or [1] * len(sizes)
    dilations = attributes.get_ints("dilations") or [1] * len(sizes)
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    begin, end = _pads(node, sizes, strides, reach)
    rounding = ceil if attributes.get_int("ceil_mode", 0) else int
    out = []
    for size, stride, extent, low, high in zip(sizes, strides, reach, begin, end, strict=True):
        count = int(rounding((size + low + high - extent) / stride)) + 1
        if rounding is ceil and (count - 1) * stride >= size + low:
            count -= 1  # a window that would begin in the padding behind the input is not one
        if count < 1:
            raise Refusal(f"its kernel {list(kernel)} is larger than its input {list(sizes)}", "a smaller kernel")
        out.append(count)
    pairs = [pair(p, 1) for p in (sizes, out, kernel, strides, dilations)] + [pair(begin, 0), pair(end, 0)]
    (ih, iw), (oh, ow), (kh, kw), (sh, sw), (dh, dw), (top, left), (bottom, right) = pairs
    return Window(ih, iw, oh, ow, kh, kw, sh, sw, dh, dw, top, left, bottom, right, tuple(out))


def pair(values: Sequence[int], first: int) -> tuple[int, int]:
    """Values of both spatial axes; `first` for the height that a sequence does not have."""
    return (int(values[0]), int(values[1])) if len(values) == 2 else (first, int(values[0]))


def _pads(
    node: ir.Node, sizes: Sequence[int], strides: Sequence[int], reach: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and behind each axis."""
    mode = node.attributes.get_string("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        needed = [
            (ceil(size / stride) - 1) * stride + extent - size
            for size, stride, extent in zip(sizes, strides, reach, strict=True)
        ]
        if min(needed) < -2:  # onnxruntime begins inside the input then, others at its edge
            raise Refusal(f"its stride leaves out elements, and {mode} does not say which", "pads in place of auto_pad")
        total = [max(n, 0) for n in needed]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        return (small, large) if mode == "SAME_UPPER" else (large, small)
    given = list(node.attributes.get_ints("pads") or [0] * (2 * len(sizes)))
    if mode == "VALID":
        given = [0] * (2 * len(sizes))
    if min(given) < 0:
        raise Refusal("it crops (negative pads)", "pads of 0 or more")
    return given[: len(sizes)], given[len(sizes) :]
