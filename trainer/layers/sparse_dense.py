"""Prune a fully connected layer, which then trains the weights that are left."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._common import Array, Shape, require_number
from ..onnx_builder import GraphBuilder
from .base import register
from .dense import Dense

__all__ = ["SparseDense", "prune"]


@register("sparse_dense")
class SparseDense(Dense):
    """`Dense` with a mask: ``y = x @ (mask * weight).T + bias``; what the mask leaves out stays zero through training.

    The mask (n_out, n_in) is all ones until `prune` changes it; it is saved with the weights. Parameters: see `Dense`.
    """

    def setup(self, in_shape: Shape) -> Shape:
        """Take (n_in,)."""
        out_shape = super().setup(in_shape)
        self.buffers = {"mask": np.ones_like(self.params["weight"])}
        return out_shape

    def _weight(self) -> Array:
        """The weight that counts: an optimizer's momentum may go on moving what has been pruned."""
        return self.params["weight"] * self.buffers["mask"]

    def dparams(self, dy: Array, x: Array) -> None:
        super().dparams(dy, x)
        self.grads["weight"] *= self.buffers["mask"]

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Gemm with transB=1 and zeros in its weight."""
        names = graph.constants(self.name, {**self.params, "weight": self._weight()})
        return graph.node("Gemm", self.name, [*inputs, *names], transB=1)


def prune(layer: SparseDense, sparsity: float) -> int:
    """Zero the weights of least magnitude for good (Han, Pool, Tran & Dally 2015), and return how many are left.

    Parameters
    ----------
    layer : SparseDense
        Built. What was pruned before stays pruned.
    sparsity : float
        Share of weights to be zero, in [0, 1).

    Raises
    ------
    ValueError
        If the layer is none with a mask, or not built, or sparsity lies outside.
    """
    if not isinstance(layer, SparseDense) or "mask" not in layer.buffers:
        raise ValueError(f"{layer!r}: pruning needs a SparseDense layer that is built")
    require_number(sparsity, "sparsity", 0.0, 1.0)
    weight, mask = layer.params["weight"], layer.buffers["mask"]
    magnitude: Any = np.where(mask > 0, np.abs(weight), -1)  # pruned ones come first
    order = np.argsort(magnitude, axis=None, kind="stable")
    mask.reshape(-1)[order[: round(sparsity * mask.size)]] = 0
    weight *= mask
    return int(np.count_nonzero(mask))
