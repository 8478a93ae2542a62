"""Quantize weights and biases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .calibrate import Array

#: largest |bias code|: leaves the sum of products of a 65,000-input layer room in int32
BIAS_LIMIT = float(1 << 30)
#: smallest weight scale times input scale: keeps multipliers among float32's normal numbers
SMALLEST_PRODUCT = 1e-30


@dataclass
class Weights:
    """A layer's weights as integers.

    codes : int8, of the weight's shape
    scale : float32, (channels,) or (): real weight = scale * code
    bias : int32 (channels,) in units of input scale * scale, or None
    """

    codes: Array
    scale: Array
    bias: Array | None


def quantize_weights(weight: Array, bias: Array | None, axis: int, x_scale: float, per_channel: bool) -> Weights:
    """Quantize a layer's weight, symmetric in -127 .. 127, and bias.

    The scale follows from the largest weight, but grows where the bias would not fit int32 at x_scale * scale, or where
    that product would leave float32's normal numbers.

    Parameters
    ----------
    weight, bias : float, bias (channels,) or None
    axis : of the weight, counting output channels
    x_scale : of the layer's input
    """
    weight = np.asarray(weight, np.float64)
    others = tuple(a for a in range(weight.ndim) if a != axis)
    largest = np.abs(weight).max(others)
    offset = np.zeros_like(largest) if bias is None else np.abs(np.asarray(bias, np.float64))
    if not per_channel:
        largest, offset = largest.max(), offset.max()
    scale = largest / 127
    dead = largest == 0  # no weight to represent: a scale that holds the bias to 20 bits
    scale = np.where(dead, np.where(offset > 0, offset / (x_scale * 2.0**20), 1.0), scale)
    scale = np.maximum(scale, offset / (x_scale * BIAS_LIMIT))
    scale = np.maximum(scale, SMALLEST_PRODUCT / x_scale).astype(np.float32)
    along = np.broadcast_to(scale, weight.shape[axis]).reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    codes = np.clip(np.rint(weight / along), -127, 127).astype(np.int8)
    return Weights(codes, scale, None if bias is None else quantize_bias(bias, x_scale, scale))


def quantize_bias(bias: Array, x_scale: float, scale: Array) -> Array:
    """int32 codes (channels,) of a bias at x_scale * scale."""
    unit = (np.float32(x_scale) * scale).astype(np.float64)
    codes: Array = np.clip(np.rint(np.asarray(bias, np.float64) / unit), -(2**31) + 1, 2**31 - 1).astype(np.int32)
    return codes
