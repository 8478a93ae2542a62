"""ONNX Runtime's 8-bit arithmetic in NumPy, bit for bit: the reference the C runtime is held against.

Each function is what one fused integer kernel of ONNX Runtime computes on x86 (see docs/arithmetic.md). Activations
may be int8 or uint8; images are NCHW and weights OIHW, as in ONNX. Written for being read, not for speed.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
f32 = np.float32
Scalar = float | np.floating[Any]


def limits(dtype: Any) -> tuple[int, int]:
    """Smallest and largest code of an integer type."""
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def fma(a: Any, b: Any, c: Any) -> Array:
    """a * b + c of float32 values, rounded once.

    The product of two float32 fits float64 exactly; the sum is rounded to odd in float64, so that the second rounding,
    to float32, gives what a single one would (Boldo and Melquiond 2008).
    """
    p = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    c64 = np.asarray(c, np.float64)
    s = p + c64
    bb = s - p
    error = (p - (s - bb)) + (c64 - bb)  # two-sum: s + error == p + c exactly
    bits = s.view(np.int64)
    fix = (error != 0) & ((bits & 1) == 0) & np.isfinite(s)
    away = (error > 0) == (s > 0)
    odd = np.where(fix, bits + np.where(away, 1, -1), bits).view(np.float64)
    return odd.astype(f32)


def requantize(acc: Array, multiplier: Array | Scalar, zero_point: int, dtype: Any) -> Array:
    """int32 sums to codes: (float)acc * m, clamped in float, rounded half to even, plus the zero point."""
    qmin, qmax = limits(dtype)
    v = acc.astype(np.int32).astype(f32) * np.asarray(multiplier, f32)
    v = np.clip(v, f32(qmin - zero_point), f32(qmax - zero_point))
    return (np.rint(v).astype(np.int32) + zero_point).astype(dtype)


def multiplier(x_scale: Scalar, w_scale: Array | Scalar, y_scale: Scalar) -> Array:
    """x_scale * w_scale / y_scale in float32, left to right (Conv, Gemm and MatMul alike)."""
    return np.asarray(f32(x_scale) * np.asarray(w_scale, f32) / f32(y_scale))


def _windows(x: Array, kernel: Any, strides: Any, pads: Any, dilations: Any, fill: float) -> Array:
    """Taps of each output: x (N, C, H, W) -> (KH, KW, N, C, OH, OW), `fill` where the padding is read."""
    n, c, h, w = x.shape
    padded = np.full((n, c, h + pads[0] + pads[2], w + pads[1] + pads[3]), fill, x.dtype)
    padded[:, :, pads[0] : pads[0] + h, pads[1] : pads[1] + w] = x
    oh = (padded.shape[2] - (kernel[0] - 1) * dilations[0] - 1) // strides[0] + 1
    ow = (padded.shape[3] - (kernel[1] - 1) * dilations[1] - 1) // strides[1] + 1
    out = np.empty((*kernel, n, c, oh, ow), x.dtype)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilations[0], j * dilations[1]
            bottom, right = top + (oh - 1) * strides[0] + 1, left + (ow - 1) * strides[1] + 1
            out[i, j] = padded[:, :, top : bottom : strides[0], left : right : strides[1]]
    return out


def conv(
    x: Array, x_scale: Scalar, x_zero: int, w: Array, w_scale: Array | Scalar, w_zero: int, bias: Array | None,
    y_scale: Scalar, y_zero: int, *, strides: Any = (1, 1), pads: Any = (0, 0, 0, 0), dilations: Any = (1, 1),
    group: int = 1,
) -> Array:  # fmt: skip
    """QLinearConv. x (N, C, H, W), w (M, C/group, KH, KW), bias (M,) int32, taken to be at x_scale * w_scale."""
    m, cg, kh, kw = w.shape
    taps = _windows(x.astype(np.int64) - x_zero, (kh, kw), strides, pads, dilations, 0)
    taps = taps.reshape(kh, kw, x.shape[0], group, cg, *taps.shape[-2:])
    weights = (w.astype(np.int64) - w_zero).reshape(group, m // group, cg, kh, kw)
    acc = np.einsum("ijngchw,gmcij->ngmhw", taps, weights).reshape(x.shape[0], m, *taps.shape[-2:])
    if bias is not None:
        acc = acc + bias.astype(np.int64)[:, None, None]
    scale = np.broadcast_to(multiplier(x_scale, w_scale, y_scale).reshape(-1, 1, 1), (m, 1, 1))
    return requantize(acc, scale, y_zero, x.dtype)


def gemm(
    x: Array, x_scale: Scalar, x_zero: int, w: Array, w_scale: Array | Scalar, w_zero: int, bias: Array | None,
    y_scale: Scalar, y_zero: int,
) -> Array:  # fmt: skip
    """QGemm and QLinearMatMul. x (rows, K), w (K, N), bias (N,) int32."""
    acc = (x.astype(np.int64) - x_zero) @ (w.astype(np.int64) - w_zero)
    if bias is not None:
        acc = acc + bias.astype(np.int64)
    return requantize(acc, multiplier(x_scale, w_scale, y_scale), y_zero, x.dtype)


def add(
    a: Array, a_scale: Scalar, a_zero: int, b: Array, b_scale: Scalar, b_zero: int, y_scale: Scalar, y_zero: int
) -> Array:
    """QLinearAdd as the AVX2 kernel does it: fused multiply-adds, the zero points folded into one constant."""
    qmin, qmax = limits(a.dtype)
    ra, rb = f32(a_scale) / f32(y_scale), f32(b_scale) / f32(y_scale)
    fixed = f32(y_zero) - fma(ra, f32(a_zero), rb * f32(b_zero))
    v = fma(a.astype(f32), ra, fma(b.astype(f32), rb, fixed))
    return np.clip(np.rint(v), qmin, qmax).astype(a.dtype)


def mul(
    a: Array, a_scale: Scalar, a_zero: int, b: Array, b_scale: Scalar, b_zero: int, y_scale: Scalar, y_zero: int
) -> Array:
    """QLinearMul: the product of the codes is exact, then a float32 factor, then the zero point, each rounded."""
    qmin, qmax = limits(a.dtype)
    product = (a.astype(np.int32) - a_zero) * (b.astype(np.int32) - b_zero)
    v = product.astype(f32) * (f32(a_scale) * f32(b_scale) / f32(y_scale)) + f32(y_zero)
    return np.clip(np.rint(v), qmin, qmax).astype(a.dtype)


def average_pool(
    x: Array, x_scale: Scalar, x_zero: int, y_scale: Scalar, y_zero: int, *, kernel: Any, strides: Any = (1, 1),
    pads: Any = (0, 0, 0, 0), count_include_pad: bool = False,
) -> Array:  # fmt: skip
    """QLinearAveragePool: a float32 sum of dequantized taps in row order, divided twice, rounded half to even."""
    qmin, qmax = limits(x.dtype)
    real = f32(x_scale) * (x.astype(np.int32) - x_zero).astype(f32)
    taps = _windows(real, kernel, strides, pads, (1, 1), 0.0)
    inside = _windows(np.ones((1, 1, *x.shape[2:]), np.int64), kernel, strides, pads, (1, 1), 0).sum((0, 1))
    total = np.zeros(taps.shape[2:], f32)
    for row in taps:
        for tap in row:
            total += tap
    count = np.int64(kernel[0] * kernel[1]) if count_include_pad else inside
    v = total / np.asarray(count).astype(f32) / f32(y_scale) + f32(y_zero)
    return np.asarray(np.clip(np.rint(v), qmin, qmax).astype(x.dtype))


def global_average_pool(x: Array, x_scale: Scalar, x_zero: int, y_scale: Scalar, y_zero: int) -> Array:
    """QLinearGlobalAveragePool: an integer sum, scaled once."""
    size = x.shape[2] * x.shape[3]
    acc = x.astype(np.int64).sum((2, 3), keepdims=True) - x_zero * size
    return requantize(acc, f32(x_scale) / (f32(y_scale) * f32(size)), y_zero, x.dtype)


def max_pool(
    x: Array, *, kernel: Any, strides: Any = (1, 1), pads: Any = (0, 0, 0, 0), dilations: Any = (1, 1)
) -> Array:
    """MaxPool on the codes themselves (scale and zero point stay)."""
    return np.asarray(_windows(x, kernel, strides, pads, dilations, limits(x.dtype)[0]).max((0, 1)))


def softmax_table(x_scale: Scalar, channels: int) -> Array:
    """(256,) float32: exp of a code's distance below the row's largest code, index 255 the largest itself.

    Scaled up, the same for all entries, so that small values keep their bits and a row's sum stays finite.
    """
    scale = float(f32(x_scale))
    largest = f32(np.finfo(f32).max) / f32(channels)
    shift = max(0.0, float(f32(math.log(float(largest)))) - 5.0) / scale
    return np.array([math.exp((i - 255 + shift) * scale) for i in range(256)]).astype(f32)


def softmax(x: Array, x_scale: Scalar, y_scale: Scalar, y_zero: int, table: Array | None = None) -> Array:
    """QLinearSoftmax over the last axis of x (rows, channels): a float32 sum in order, then float64."""
    qmin, qmax = limits(x.dtype)
    table = softmax_table(x_scale, x.shape[-1]) if table is None else table
    inverse = np.float64(np.floor(f32(1.0) / f32(y_scale)))
    codes = x.astype(np.int32)
    e = table[codes - codes.max(-1, keepdims=True) + 255]
    total = np.zeros(e.shape[:-1], f32)
    for k in range(e.shape[-1]):
        total += e[..., k]
    v = np.rint(e.astype(np.float64) * inverse / total[..., None].astype(np.float64)) + y_zero
    return np.asarray(np.clip(v, qmin, qmax).astype(x.dtype))
