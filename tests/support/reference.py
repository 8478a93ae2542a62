"""The ops in plain NumPy and float64, written to be read: what the C runtime is compared with.

Arrays have the batch axis first and are NHWC; `a` are the attributes of the C struct of the same op. A backward takes dy of
what the op computes before its fused clamp and returns the gradients in the order of the op's inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tests.support import reference_movement

Array = np.ndarray[Any, np.dtype[Any]]
Attrs = dict[str, Any]


def clamp(v: Array, a: Attrs) -> Array:
    """The fused activation."""
    return np.minimum(np.maximum(v, a["lo"]), a["hi"])


def clamp_backward(v: Array, dy: Array, a: Attrs) -> Array:
    """Its gradient: 0 where the clamp holds."""
    return np.where((v > a["lo"]) & (v < a["hi"]), dy, 0)


def taps(a: Attrs) -> Iterator[tuple[int, int, int, int, int, int]]:
    """All (oy, ox, ky, kx, iy, ix) where tap (ky, kx) of the window of output (oy, ox) is inside, at (iy, ix)."""
    for oy, ox in np.ndindex(a["out_h"], a["out_w"]):
        for ky, kx in np.ndindex(a["kernel_h"], a["kernel_w"]):
            iy = oy * a["stride_h"] - a["pad_top"] + ky * a["dilation_h"]
            ix = ox * a["stride_w"] - a["pad_left"] + kx * a["dilation_w"]
            if 0 <= iy < a["in_h"] and 0 <= ix < a["in_w"]:
                yield oy, ox, ky, kx, iy, ix


def _groups(a: Attrs) -> Iterator[tuple[slice, slice]]:
    """Input and output channels of each group."""
    gi, go = a["in_c"] // a["groups"], a["out_c"] // a["groups"]
    for g in range(a["groups"]):
        yield slice(g * gi, (g + 1) * gi), slice(g * go, (g + 1) * go)


def conv2d(x: Array, w: Array, b: Array, a: Attrs) -> Array:
    """w (out_c, kernel_h, kernel_w, in_c / groups)."""
    y = np.zeros((len(x), a["out_h"], a["out_w"], a["out_c"])) + b
    for oy, ox, ky, kx, iy, ix in taps(a):
        for i, o in _groups(a):
            y[:, oy, ox, o] += x[:, iy, ix, i] @ w[o, ky, kx].T
    return y


def conv2d_backward(x: Array, w: Array, b: Array, dy: Array, a: Attrs) -> tuple[Array, Array, Array]:
    """dx, dw, db."""
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for oy, ox, ky, kx, iy, ix in taps(a):
        for i, o in _groups(a):
            dx[:, iy, ix, i] += dy[:, oy, ox, o] @ w[o, ky, kx]
            dw[o, ky, kx] += dy[:, oy, ox, o].T @ x[:, iy, ix, i]
    return dx, dw, dy.sum((0, 1, 2))


def depthwise_conv2d(x: Array, w: Array, b: Array, a: Attrs) -> Array:
    """w (kernel_h, kernel_w, out_c)."""
    y = np.zeros((len(x), a["out_h"], a["out_w"], a["out_c"])) + b
    for oy, ox, ky, kx, iy, ix in taps(a):
        for k in range(a["out_c"]):
            y[:, oy, ox, k] += x[:, iy, ix, k * a["in_c"] // a["out_c"]] * w[ky, kx, k]
    return y


def depthwise_conv2d_backward(x: Array, w: Array, b: Array, dy: Array, a: Attrs) -> tuple[Array, Array, Array]:
    """dx, dw, db."""
    dx, dw = np.zeros(x.shape), np.zeros(w.shape)
    for oy, ox, ky, kx, iy, ix in taps(a):
        for k in range(a["out_c"]):
            c = k * a["in_c"] // a["out_c"]
            dx[:, iy, ix, c] += dy[:, oy, ox, k] * w[ky, kx, k]
            dw[ky, kx, k] += (dy[:, oy, ox, k] * x[:, iy, ix, c]).sum()
    return dx, dw, dy.sum((0, 1, 2))


def dense(x: Array, w: Array, b: Array, a: Attrs) -> Array:
    """x (n, rows, n_in), w (n_out, n_in)."""
    return x @ w.T + b


def dense_backward(x: Array, w: Array, b: Array, dy: Array, a: Attrs) -> tuple[Array, Array, Array]:
    """dx, dw, db."""
    return dy @ w, np.einsum("nro,nri->oi", dy, x), dy.sum((0, 1))


def affine(x: Array, scale: Array, offset: Array, a: Attrs) -> Array:
    """x (n, rows, channels)."""
    return x * scale + offset


def affine_backward(x: Array, scale: Array, offset: Array, dy: Array, a: Attrs) -> tuple[Array, Array, Array]:
    """dx, dscale, doffset."""
    return dy * scale, (dy * x).sum((0, 1)), dy.sum((0, 1))


def max_pool2d(x: Array, a: Attrs) -> Array:
    """Padding never wins."""
    y = np.full((len(x), a["out_h"], a["out_w"], a["channels"]), -np.inf)
    for oy, ox, _, _, iy, ix in taps(a):
        y[:, oy, ox] = np.maximum(y[:, oy, ox], x[:, iy, ix])
    return y


def max_pool2d_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """The first maximum of a window, row by row, takes it all."""
    y, dx = max_pool2d(x, a), np.zeros(x.shape)
    given = np.zeros(y.shape, bool)
    for oy, ox, _, _, iy, ix in taps(a):
        takes = (x[:, iy, ix] == y[:, oy, ox]) & ~given[:, oy, ox]
        dx[:, iy, ix] += np.where(takes, dy[:, oy, ox], 0)
        given[:, oy, ox] |= takes
    return (dx,)


def _divisors(a: Attrs) -> Array:
    """(out_h, out_w): taps that count, at least 1."""
    padded = dict(a)
    if a["count_include_pad"]:
        padded |= {"pad_top": 0, "pad_left": 0}
        padded["in_h"] += a["pad_top"] + a["pad_bottom"]
        padded["in_w"] += a["pad_left"] + a["pad_right"]
    counts = np.zeros((a["out_h"], a["out_w"]))
    for oy, ox, *_ in taps(padded):
        counts[oy, ox] += 1
    return np.maximum(counts, 1)


def average_pool2d(x: Array, a: Attrs) -> Array:
    """0 where a window sees nothing."""
    y = np.zeros((len(x), a["out_h"], a["out_w"], a["channels"]))
    for oy, ox, _, _, iy, ix in taps(a):
        y[:, oy, ox] += x[:, iy, ix]
    return y / _divisors(a)[..., None]


def average_pool2d_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """dx."""
    dx, share = np.zeros(x.shape), dy / _divisors(a)[..., None]
    for oy, ox, _, _, iy, ix in taps(a):
        dx[:, iy, ix] += share[:, oy, ox]
    return (dx,)


def add(x: Array, z: Array, a: Attrs) -> Array:
    """x + z."""
    return x + z


def add_backward(x: Array, z: Array, dy: Array, a: Attrs) -> tuple[Array, Array]:
    """dy, dy."""
    return dy, dy


def clip(x: Array, a: Attrs) -> Array:
    """The clamp itself does it."""
    return x


def clip_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """dy."""
    return (dy,)


copy, copy_backward = clip, clip_backward


def leaky_relu(x: Array, a: Attrs) -> Array:
    """alpha * x below 0."""
    return np.where(x < 0, a["alpha"] * x, x)


def leaky_relu_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """At 0 the slope is alpha."""
    return (np.where(x > 0, dy, a["alpha"] * dy),)


def sigmoid(x: Array, a: Attrs) -> Array:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def sigmoid_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """y (1 - y) dy."""
    y = sigmoid(x, a)
    return (y * (1 - y) * dy,)


def tanh(x: Array, a: Attrs) -> Array:
    """tanh(x)."""
    return np.tanh(x)


def tanh_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """(1 - y^2) dy."""
    return ((1 - np.tanh(x) ** 2) * dy,)


def softmax(x: Array, a: Attrs) -> Array:
    """x (n, rows, channels)."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def softmax_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """y (dy - sum of y dy)."""
    y = softmax(x, a)
    return (y * (dy - (y * dy).sum(-1, keepdims=True)),)


def _sources(a: Attrs) -> Array:
    """Where each element of y is in a sample of x."""
    index = np.indices(a["dims"]).reshape(6, -1)
    return (index * np.array(a["strides"])[:, None]).sum(0)


def transpose(x: Array, a: Attrs) -> Array:
    """y (n, elements)."""
    return x.reshape(len(x), -1)[:, _sources(a)]


def transpose_backward(x: Array, dy: Array, a: Attrs) -> tuple[Array]:
    """dx."""
    dx = np.zeros((len(x), x[0].size))
    for i, source in enumerate(_sources(a)):
        dx[:, source] += dy.reshape(len(x), -1)[:, i]
    return (dx.reshape(x.shape),)


def quantize(x: Array, scale: float, zero_point: int, dtype: Any) -> Array:
    """ONNX QuantizeLinear in float32, NaN to the lowest code."""
    info = np.iinfo(dtype)
    v = np.rint(x.astype(np.float32) / np.float32(scale)).astype(np.float64) + zero_point
    return np.clip(np.nan_to_num(v, nan=info.min), info.min, info.max).astype(dtype)


def dequantize(x: Array, scale: float, zero_point: int) -> Array:
    """ONNX DequantizeLinear in float32."""
    return (x.astype(np.int32) - zero_point).astype(np.float32) * np.float32(scale)


#: forward and backward by the runtime's name of the op
OPS: dict[str, tuple[Callable[..., Array], Callable[..., tuple[Array, ...]]]] = {
    "conv2d_f32": (conv2d, conv2d_backward),
    "depthwise_conv2d_f32": (depthwise_conv2d, depthwise_conv2d_backward),
    "dense_f32": (dense, dense_backward),
    "affine_f32": (affine, affine_backward),
    "max_pool2d_f32": (max_pool2d, max_pool2d_backward),
    "average_pool2d_f32": (average_pool2d, average_pool2d_backward),
    "add_f32": (add, add_backward),
    "clip_f32": (clip, clip_backward),
    "leaky_relu_f32": (leaky_relu, leaky_relu_backward),
    "sigmoid_f32": (sigmoid, sigmoid_backward),
    "tanh_f32": (tanh, tanh_backward),
    "softmax_f32": (softmax, softmax_backward),
    "transpose": (transpose, transpose_backward),
    "copy": (copy, copy_backward),
    **reference_movement.OPS,
}
CLAMPED = {
    "conv2d_f32",
    "depthwise_conv2d_f32",
    "dense_f32",
    "affine_f32",
    "add_f32",
    "clip_f32",
    *reference_movement.CLAMPED,
}
