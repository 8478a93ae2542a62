"""Multiply by a matrix of weights: the fully connected layer."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common import Array, Shape, require_int
from ..initializers import Initializer, get_initializer
from .base import Layer, register

__all__ = ["Dense"]


@register("dense", "Gemm")
class Dense(Layer):
    """``y = x @ weight.T + bias``, x (N, n_in), y (N, n_out), weight (n_out, n_in), bias (n_out,).

    Parameters
    ----------
    units : int
        n_out.
    bias : bool
        Whether to add a bias.
    init : str or callable
        How the weight starts, see `INITIALIZERS`; the bias starts at 0.
    """

    def __init__(
        self, units: int, *, bias: bool = True, init: str | Initializer = "he_normal", name: str | None = None
    ) -> None:
        super().__init__(name)
        self.units = require_int(units, "Dense units")
        self.use_bias, self.init = bool(bias), init
        get_initializer(init)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (n_in,)."""
        if len(in_shape) != 1:
            raise ValueError(f"takes inputs of shape (n_in,), got {in_shape}: put Flatten() before it")
        n_in = in_shape[0]
        self.add_param("weight", (self.units, n_in), self.init, fan_in=n_in, fan_out=self.units)
        if self.use_bias:
            self.add_param("bias", (self.units,), "zeros")
        return (self.units,)

    def compute(self, x: Array) -> tuple[Array, Array]:
        y: Array = self._weight() @ x.T  # (n_out, N): the batch innermost, as everywhere
        if self.use_bias:
            y += self.params["bias"][:, None]
        return np.transpose(y), x

    def dparams(self, dy: Array, x: Array) -> None:
        np.matmul(dy.T, x, out=self.grads["weight"])
        if self.use_bias:
            np.sum(dy, axis=0, out=self.grads["bias"])

    def dx(self, dy: Array) -> Array:
        return np.transpose(self._weight().T @ dy.T)

    def _weight(self) -> Array:
        """The weight (n_out, n_in) that counts."""
        return self.params["weight"]

    def onnx_attributes(self) -> dict[str, Any]:
        return {"transB": 1}

    def describe(self) -> str:
        return f"{self.units}" + ("" if self.use_bias else ", bias=False")
