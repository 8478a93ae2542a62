"""Define what a layer is: `Layer`, and the table `LAYERS` of those that have a name."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import numpy as np

from .._common import Array, Shape
from ..initializers import Initializer, get_initializer
from ..onnx_builder import GraphBuilder

__all__ = ["LAYERS", "Layer"]

LAYERS: dict[str, type[Layer]] = {}
Kind = TypeVar("Kind", bound="type[Layer]")


def register(kind: str, onnx_op: str = "") -> Callable[[Kind], Kind]:
    """Put the class below into `LAYERS` under that name; `onnx_op` is the operator that its `to_onnx` writes."""

    def add(layer: Kind) -> Kind:
        layer.kind, layer.onnx_op = kind, onnx_op or layer.onnx_op
        LAYERS[kind] = layer
        return layer

    return add


class Layer:
    """A step of a network: `compute`, its gradients `dparams` and `dx` right under it, and its ONNX form.

    To write one: `setup` checks the input's shape, adds parameters and returns the output's shape; `compute` returns the
    output, or a tuple of it and of what the gradients need; `dparams` fills ``self.grads`` and `dx` returns the loss's
    gradient with respect to the input, both from that with respect to the output and from what `compute` added (`dx` may
    leave that out). None of them may change its argument in place. With several inputs `compute` takes them one by one
    and `dx` returns a tuple. What is kept, and which gradient is wanted, `forward` and `backward` see to; a layer may
    define these two itself instead.

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
    onnx_op: ClassVar[str] = ""
    shows: ClassVar[str] = ""  # the settings that a summary shows, as a format of attributes: "{units}, axis={axis}"
    shows_unless: ClassVar[dict[str, Any]] = {}  # those it shows, by name, where they differ from the default

    _dx_takes_saved: ClassVar[bool] = False  # whether `dx` takes what `compute` added to its output

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = cls.dx is not Layer.dx and callable(cls.dx)
        cls._dx_takes_saved = own and len(inspect.signature(cls.dx).parameters) > 2  # self, dy and more

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

    def add_param(self, name: str, shape: Shape, init: str | Initializer, fan_in: int = 1, fan_out: int = 1) -> None:
        """Create parameter `name` and its gradient, of the given shape."""
        value = np.asarray(get_initializer(init)(shape, fan_in, fan_out, self._rng))
        if value.shape != shape or not np.isfinite(value).all():
            raise ValueError(f"the initializer of {name} must return finite values of shape {shape}")
        self.params[name] = np.array(value, dtype=self.dtype, order="C")
        self.grads[name] = np.zeros(shape, self.dtype)

    # Running

    def compute(self, *xs: Any, **named: Any) -> Any:
        """Return the output (N, ...), or a tuple of it and of what `dparams` and `dx` need, from the inputs (N, ...)."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def compute_training(self, *xs: Any, **named: Any) -> Any:
        """Do what `compute` does, in training, for layers in which that is something else."""
        return self.compute(*xs, **named)

    def dparams(self, dy: Any, *saved: Any) -> None:
        """Fill `grads` from dy (N, ...), the loss's gradient with respect to the output."""
        raise TypeError(f"{type(self).__name__} defines no dparams")

    def dx(self, dy: Any, *saved: Any) -> Any:
        """Return the loss's gradient with respect to the input (N, ...), from dy (N, ...)."""
        raise TypeError(f"{type(self).__name__} defines no backward")

    def forward(self, *args: Any, **kwargs: Any) -> Array:
        """Return the output (N, ...) for the inputs (N, ...).

        With ``training`` (by name, or last) it runs as in training and keeps what `backward` needs.
        """
        training = kwargs.pop("training", False)
        if args and isinstance(args[-1], (int, np.bool_)):
            *args, training = args  # type: ignore[assignment]
        result = (self.compute_training if training else self.compute)(*args, **kwargs)
        y, *saved = result if isinstance(result, tuple) else (result,)
        if training:
            wanted = self.learns or (self.need_dx and self._dx_takes_saved)
            self._saved = tuple(saved) if wanted else ()
        return y  # type: ignore[no-any-return]

    def backward(self, dy: Any) -> Any:
        """Fill `grads` if the layer learns, and return dx, or None (of several inputs a tuple) if `need_dx` is off."""
        if self.learns:
            self.dparams(dy, *self._recall())
        if not self.need_dx:
            return (None,) * len(self.in_shapes) if len(self.in_shapes) > 1 else None
        return self.dx(dy, *(self._recall() if self._dx_takes_saved else ()))

    def _recall(self) -> Any:
        """Return what forward saved."""
        if self._saved is None:
            raise RuntimeError(f"layer {self.name!r}: backward needs a forward(x, training=True) before it")
        return self._saved

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

    def __getstate__(self) -> dict[str, Any]:
        """Leave activations out of copies and pickles."""
        return {**self.__dict__, "_saved": None}

    # Showing and saving

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Add this layer's nodes to `graph`, by default one of `onnx_op`, and return the name of the output value."""
        if not self.onnx_op:
            raise TypeError(f"{type(self).__name__} has no ONNX form")
        values = [*inputs, *graph.constants(self.name, self.params)]
        return graph.node(self.onnx_op, self.name, values, **self.onnx_attributes())

    def onnx_attributes(self) -> dict[str, Any]:
        """Return the attributes of the operator."""
        return {}

    def describe(self) -> str:
        """Return the settings worth showing in a summary, as ``a=1, b=2``."""
        shown = [self.shows.format_map(vars(self))] if self.shows else []
        for key, default in self.shows_unless.items():
            value = getattr(self, key)
            if value != default:
                shown.append(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value!r}")
        return ", ".join(shown)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.describe()})"
