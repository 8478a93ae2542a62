"""What a layer is."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from .._common import Array, Shape
from ..initializers import Initializer, get_initializer
from ..onnx_builder import GraphBuilder


class Layer:
    """A step of a network: `forward`, the `backward` right under it, and its ONNX form.

    To write one: `setup` checks the input's shape, adds parameters and returns the output's shape; `forward` keeps in
    `self._saved` what `backward` needs when ``training`` is set; `backward` takes the loss's gradient with respect to
    the output, fills ``self.grads`` if the layer is trainable and returns dx, which it may leave out (None) if
    `need_dx` is off. Neither may change its argument in place. A layer of several inputs takes them as
    ``forward(a, b)`` and returns a tuple from `backward`.

    Attributes
    ----------
    name : str
        Unique in its network; ONNX nodes and initializers carry it (``head``, ``head.weight``).
    trainable : bool
        Off freezes the layer: it keeps no activations and gets no gradient.
    need_dx : bool
        Whether something before this layer waits for dx. The container sets it before each forward.
    params, grads, buffers : dict of str to array
        Weights, the loss's gradients with respect to them, and state that is not trained (running statistics).
    in_shapes, out_shape : tuple
        Shapes without the batch, known after `build`.
    """

    kind: ClassVar[str] = "layer"

    def __init__(self, name: str | None = None) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"name={name!r}: give a non-empty string, or nothing for a name of its own")
        self.name = name or self.kind
        self.named_by_user = name is not None
        self.trainable = True
        self.need_dx = True
        self.params: dict[str, Array] = {}
        self.grads: dict[str, Array] = {}
        self.buffers: dict[str, Array] = {}
        self.in_shapes: tuple[Shape, ...] = ()
        self.out_shape: Shape = ()
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self._saved: Any = None
        self._rng: np.random.Generator = np.random.default_rng(0)

    def build(self, *in_shapes: Shape, rng: np.random.Generator, dtype: Any = np.float32) -> Shape:
        """Create the parameters for inputs of these shapes (without batch) and return the output's shape.

        Raises
        ------
        ValueError
            If the layer cannot take such an input; the message names the layer, the shape and the cure.
        """
        self.params, self.grads, self.buffers, self._saved = {}, {}, {}, None
        self.dtype, self._rng, self.in_shapes = np.dtype(dtype), rng, in_shapes
        try:
            self.out_shape = self.setup(*in_shapes)
        except ValueError as error:
            raise ValueError(f"layer {self.name!r} ({type(self).__name__}): {error}") from None
        return self.out_shape

    def setup(self, *in_shapes: Any) -> Shape:
        """Check the input's shape, add parameters, return the output's shape. The default changes no shape."""
        return tuple(in_shapes[0])

    def forward(self, *args: Any, **kwargs: Any) -> Array:
        """Compute the output from the input (N, ...)."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def backward(self, dy: Array) -> Any:
        """Compute dx (and the parameters' gradients) from dy, both shaped like the output and input of `forward`."""
        raise TypeError(f"{type(self).__name__} defines no backward")

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Add this layer's nodes to `graph` and return the name of the output value."""
        raise TypeError(f"{type(self).__name__} has no ONNX form")

    def add_param(self, name: str, shape: Shape, init: str | Initializer, fan_in: int = 1, fan_out: int = 1) -> None:
        """Create parameter `name` and its gradient, of the given shape."""
        value = np.asarray(get_initializer(init)(shape, fan_in, fan_out, self._rng))
        if value.shape != shape or not np.isfinite(value).all():
            raise ValueError(f"the initializer of {name} must return finite values of shape {shape}")
        self.params[name] = np.array(value, dtype=self.dtype, order="C")
        self.grads[name] = np.zeros(shape, self.dtype)

    def clear_gradients(self) -> None:
        """Set the gradients to zero, for a backward pass that does not reach the layer."""
        for grad in self.grads.values():
            grad[...] = 0

    @property
    def learns(self) -> bool:
        """Whether training changes anything in this layer."""
        return self.trainable and bool(self.params)

    @property
    def n_params(self) -> int:
        """Number of weights in `params`."""
        return sum(math.prod(p.shape) for p in self.params.values())

    def sublayers(self) -> list[Layer]:
        """Return the layers inside this one (containers only)."""
        return []

    def reseed(self, seeds: np.random.SeedSequence) -> None:
        """Restart the layer's own random numbers (dropout masks)."""
        self._rng = np.random.default_rng(seeds)

    def reset_state(self) -> None:
        """Forget what one forward hands to the next (stateful recurrent layers)."""

    def _recall(self) -> Any:
        """Return what forward saved."""
        if self._saved is None:
            raise RuntimeError(f"layer {self.name!r}: backward needs a forward(x, training=True) before it")
        return self._saved

    def __getstate__(self) -> dict[str, Any]:
        """Leave activations out of copies and pickles."""
        return {**self.__dict__, "_saved": None}

    def describe(self) -> str:
        """Return the settings worth showing in a summary, as ``a=1, b=2``."""
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"
