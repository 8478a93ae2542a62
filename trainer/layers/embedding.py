"""Embed whole numbers: a vector for each from a table that trains."""

from __future__ import annotations

import numpy as np

from .._common import Array, Shape, require_int
from ..initializers import Initializer, get_initializer
from ..onnx_builder import GraphBuilder
from .base import Layer, register

__all__ = ["Embedding"]


@register("embedding")
class Embedding(Layer):
    """Row x of `weight`: whole numbers (N, ...) in [0, rows) to vectors (N, ..., width) (Bengio et al. 2003).

    weight (rows, width). Numbers travel in the network's floats, which hold them exactly up to 2**24; an input of the
    network that goes nowhere else is an int64 input in ONNX. No gradient goes back through it.

    Parameters
    ----------
    rows, width : int
        Size of the vocabulary; length of a vector.
    init : str or callable
        How the weight starts, see `INITIALIZERS`.
    """

    shows = "{rows}, {width}"

    def __init__(
        self, rows: int, width: int, *, init: str | Initializer = "glorot_uniform", name: str | None = None
    ) -> None:
        super().__init__(name)
        self.rows, self.width = require_int(rows, "Embedding rows"), require_int(width, "Embedding width")
        self.init = init
        get_initializer(init)

    def setup(self, in_shape: Shape) -> Shape:
        self.add_param("weight", (self.rows, self.width), self.init, fan_in=self.rows, fan_out=self.width)
        return (*in_shape, self.width)

    def compute(self, x: Array) -> tuple[Array, Array]:
        """Map (N, ...) to (N, ..., width).

        Raises
        ------
        ValueError
            If a number is not in [0, rows).
        """
        index = np.rint(x).astype(np.intp)
        if index.size and (index.min() < 0 or index.max() >= self.rows):
            raise ValueError(
                f"layer {self.name!r}: numbers lie in [{index.min()}, {index.max()}], it has rows 0 to {self.rows - 1}"
            )
        return np.asarray(self.params["weight"][index]), index

    def dparams(self, dy: Array, index: Array) -> None:
        dweight = self.grads["weight"]
        dweight[...] = 0
        np.add.at(dweight, index.reshape(-1), dy.reshape(-1, self.width))

    def dx(self, dy: Array) -> Array:
        return np.zeros(dy.shape[:-1], dy.dtype)

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write Gather, after a Cast that falls away at the network's own input."""
        index = graph.node("Cast", self.name, list(inputs), part="index", to=graph.onnx.TensorProto.INT64)
        return graph.node("Gather", self.name, [*graph.constants(self.name, self.params), index], axis=0)
