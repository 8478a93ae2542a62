"""Normalization, sparse and dynamically quantized layers in plain NumPy, as `reference.py` has the other ops."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Attrs = dict[str, Any]


def _normalized(x: Array, a: Attrs) -> tuple[Array, Array]:
    """x without mean and scale (n * rows, size, groups, width), and 1 / sqrt(variance + epsilon)."""
    grouped = x.reshape(-1, a["size"], a["groups"], a["channels"] // a["groups"])
    centered = grouped - (grouped.mean((1, 3), keepdims=True) if a["center"] else 0)
    variance = (centered**2).mean((1, 3), keepdims=True) + a["epsilon"]
    inverse = np.where(variance > 0, 1 / np.sqrt(np.where(variance > 0, variance, 1)), 0)
    return centered * inverse, inverse


def group_norm(x: Array, scale: Array, bias: Array, a: Attrs) -> Array:
    """x (n, rows, size, channels)."""
    return (_normalized(x, a)[0].reshape(-1, a["channels"]) * scale + bias).reshape(x.shape)


def group_norm_backward(x: Array, scale: Array, bias: Array, dy: Array, a: Attrs) -> tuple[Array, Array, Array]:
    """dx, dscale, dbias."""
    z, inverse = _normalized(x, a)
    g = (dy.reshape(-1, a["channels"]) * scale).reshape(z.shape)
    mean_g = g.mean((1, 3), keepdims=True) if a["center"] else 0
    dx = (g - mean_g - z * (g * z).mean((1, 3), keepdims=True)) * inverse
    flat = dy.reshape(-1, a["channels"])
    return dx.reshape(x.shape), (flat * z.reshape(flat.shape)).sum(0), flat.sum(0)


def to_rows(weight: Array) -> tuple[Array, Array, Array]:
    """values, starts, columns of a matrix (n_out, n_in), as sparse_dense_f32 has them."""
    rows, columns = np.nonzero(weight)
    starts = np.searchsorted(rows, np.arange(len(weight) + 1)).astype(np.int32)
    return weight[rows, columns], starts, columns.astype("<u2").view(np.uint8).reshape(-1, 2)


def from_rows(values: Array, starts: Array, columns: Array, a: Attrs) -> Array:
    """The matrix again."""
    weight = np.zeros((a["n_out"], a["n_in"]))
    rows = np.repeat(np.arange(a["n_out"]), np.diff(starts.astype(np.int64)))
    weight[rows, columns.astype(np.uint8).reshape(-1).view("<u2")] = values
    return weight


def sparse_dense(x: Array, values: Array, bias: Array, starts: Array, columns: Array, a: Attrs) -> Array:
    """x (n, rows, n_in)."""
    return x @ from_rows(values, starts, columns, a).T + bias


def sparse_dense_backward(
    x: Array, values: Array, bias: Array, starts: Array, columns: Array, dy: Array, a: Attrs
) -> tuple[Array, Array, Array]:
    """dx, dvalues, dbias."""
    flat_x, flat_dy = x.reshape(-1, a["n_in"]), dy.reshape(-1, a["n_out"])
    rows = np.repeat(np.arange(a["n_out"]), np.diff(starts.astype(np.int64)))
    dweight = flat_dy.T @ flat_x
    dvalues = dweight[rows, columns.astype(np.uint8).reshape(-1).view("<u2")]
    return dy @ from_rows(values, starts, columns, a), dvalues, flat_dy.sum(0)


def dynamic_codes(x: Array) -> tuple[Array, np.float32, int]:
    """ONNX DynamicQuantizeLinear in float32: codes, scale, zero point."""
    lo, hi = min(np.float32(0), x.min()), max(np.float32(0), x.max())
    scale = np.float32(hi - lo) / np.float32(255) if hi > lo else np.float32(1)
    zero = int(np.rint(np.clip(np.float32(0) - np.float32(lo) / scale, 0, 255)))
    return np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.uint8), scale, zero


def dynamic_dense(x: Array, weight: Array, bias: Array, w_scale: Array, zeros: Array, a: Attrs) -> Array:
    """x (n, rows, n_in) -> (n, rows, n_out), float32 as the device rounds it."""
    result = []
    for sample in x.astype(np.float32).reshape(len(x), a["rows"], a["n_in"]):
        codes, scale, zero = dynamic_codes(sample)
        sums = (codes.astype(np.int64) - zero) @ (weight.astype(np.int64) - zeros[:, None]).T
        result.append(sums.astype(np.float32) * (scale * w_scale.astype(np.float32)) + bias.astype(np.float32))
    return np.array(result)
