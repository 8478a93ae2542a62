"""Wire layers by name: the one container, run forward in order and backward in reverse.

`Graph` holds any directed acyclic graph as rows ``layer, sources -> value``. `Sequential` and `Residual` are two short
ways to write such rows; whatever a Graph can do (train, freeze, save, be a layer of another) they can.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ._common import Array, lookup, require_int, shape_cure, spawn, unmasked
from .layers import LAYERS
from .layers.base import Layer
from .layers.merge import Add
from .onnx_builder import GraphBuilder
from .onnx_export import to_model
from .summary import format_summary

if TYPE_CHECKING:
    import onnx


class Parameter(NamedTuple):
    """A weight array by name, with the loss's gradient with respect to it (both of one shape, live)."""

    name: str
    value: Array
    grad: Array


@dataclass(frozen=True)
class Row:
    """Value `name` is what `layer` makes of the values `sources`."""

    name: str
    layer: Layer
    sources: tuple[str, ...]


class Graph(Layer):
    """Layers wired by name.

    Parameters
    ----------
    inputs : sequence of str
        Names of the inputs.
    nodes : mapping of str to (layer, source, ...)
        Each node's layer and where its inputs come from: inputs or nodes further up. A layer without a name of its own
        takes the node's.
    outputs : sequence of str, optional
        Nodes whose values are the outputs; by default the last node alone. Of several, `forward` and `predict` return
        tuples, and `backward` takes one.

    Raises
    ------
    ValueError
        If a source or output is unknown, a name comes twice, a layer object is used twice, or a layer is a network of
        several outputs.

    Examples
    --------
    >>> f = Graph(["x", "y", "z"], {"q": (Add(), "x", "y"), "f": (Multiply(), "q", "z")})   # doctest: +SKIP
    """

    kind = "graph"
    outputs: tuple[str, ...]
    out_shape: Any  # of several outputs a tuple of shapes
    ends: tuple[str, ...] | None = None  # values taken in place of the outputs while a loss looks at logits
    token: object = None  # changes with every build: an optimizer sees by it whose weights its state belongs to

    def __init__(
        self,
        inputs: Sequence[str],
        nodes: Mapping[str, tuple[Any, ...]],
        *,
        outputs: Sequence[str] = (),
        name: str | None = None,
    ) -> None:
        rows = []
        for value, (layer, *sources) in nodes.items():
            layer = as_layer(layer)
            if not layer.named_by_user:
                layer.name, layer.named_by_user = value, True
            rows.append(Row(value, layer, tuple(sources)))
        self._wire(tuple(inputs), rows, name, tuple(outputs))

    def _wire(self, inputs: tuple[str, ...], rows: list[Row], name: str | None, outputs: tuple[str, ...] = ()) -> None:
        """Set up from rows; what every kind of container ends its constructor with."""
        super().__init__(name)
        known = set(inputs)
        for row in rows:
            missing = [source for source in row.sources if source not in known]
            if missing:
                raise ValueError(f"node {row.name!r} takes {missing[0]!r}: neither an input nor a node above it")
            if row.name in known:
                raise ValueError(f"the name {row.name!r} is used twice")
            if isinstance(row.layer, Graph) and len(row.layer.outputs) > 1:
                raise ValueError(f"node {row.name!r} is a network of several outputs: put its nodes here instead")
            known.add(row.name)
        if not rows:
            raise ValueError("a network needs at least one layer")
        self.inputs, self.rows, self.built = inputs, rows, False
        self.outputs = check_outputs(outputs or (rows[-1].name,), rows)
        last = {source: place for place, row in enumerate(rows) for source in row.sources}
        last.update(dict.fromkeys(self.outputs, len(rows)))
        self._expiries = [[s for s in set(row.sources) if last[s] == place] for place, row in enumerate(rows)]
        self._assign_names()

    def _assign_names(self) -> None:
        """Give unnamed layers ``<kind>_<count>``, and check that names and layers are unique."""
        layers = list(self.walk())
        if len({id(layer) for layer in layers}) < len(layers):
            raise ValueError("a layer object is used twice: create one for each place")
        taken = Counter(layer.name for layer in layers if layer.named_by_user)
        twice = [name for name, count in taken.items() if count > 1]
        if twice:
            raise ValueError(f"two layers are named {twice[0]!r}: names must be unique, they become ONNX node names")
        counts: Counter[str] = Counter()
        for layer in layers:
            if layer.named_by_user:
                continue
            counts[layer.kind] += 1
            while f"{layer.kind}_{counts[layer.kind]}" in taken:
                counts[layer.kind] += 1
            layer.name = f"{layer.kind}_{counts[layer.kind]}"

    # Looking inside

    def sublayers(self) -> list[Layer]:
        """Return the layers directly inside, in order."""
        return [row.layer for row in self.rows]

    def walk(self) -> Iterator[Layer]:
        """Yield every layer inside, containers before what they contain."""
        pending = list(reversed(self.sublayers()))
        while pending:
            layer = pending.pop()
            yield layer
            pending.extend(reversed(layer.sublayers()))

    def leaves(self) -> list[Layer]:
        """Return every layer inside that is not a container."""
        return [layer for layer in self.walk() if not layer.sublayers()]

    def __getitem__(self, key: str | int) -> Layer:
        """Return a layer by name (at any depth) or by place (at this one)."""
        if isinstance(key, str):
            return lookup({layer.name: layer for layer in self.walk()}, key, "layer")
        return self.sublayers()[key]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def trainable(self) -> bool:
        """Whether any layer inside is trainable; setting it sets all of them."""
        return any(layer.trainable for layer in self.sublayers())

    @trainable.setter
    def trainable(self, value: bool) -> None:
        if "rows" in self.__dict__:  # not while the container itself is being set up
            for layer in self.sublayers():
                layer.trainable = value

    @property
    def learns(self) -> bool:
        """Whether training changes anything inside."""
        return any(layer.learns for layer in self.sublayers())

    @property
    def n_params(self) -> int:
        """Number of weights inside."""
        return sum(layer.n_params for layer in self.sublayers())

    # Building and running

    def build(self, *in_shapes: Any, seed: int = 0, rng: np.random.Generator | None = None, dtype: Any = None) -> Any:
        """Create all parameters for inputs of these shapes (without batch) and return the output's (or their tuple).

        Parameters
        ----------
        in_shapes : tuple of int
            One per input: (C, H, W) or (features,).
        seed : int
            Same seed, same weights. Each layer draws from a stream of its own.
        rng, dtype :
            For containers inside containers.

        Raises
        ------
        ValueError
            If a layer cannot take the shape it gets; the message names it.
        """
        shapes = tuple(tuple(require_int(n, "input shape") for n in as_shape(shape)) for shape in in_shapes)
        if len(shapes) != len(self.inputs):
            raise ValueError(f"{len(self.inputs)} inputs ({', '.join(self.inputs)}) but {len(shapes)} shapes")
        self.dtype = np.dtype(self.dtype if dtype is None else dtype)
        rng = rng or np.random.default_rng(seed)
        known, self.built = dict(zip(self.inputs, shapes, strict=True)), False
        for row, stream in zip(self.rows, spawn(rng, len(self.rows)), strict=True):
            known[row.name] = row.layer.build(*(known[s] for s in row.sources), rng=stream, dtype=self.dtype)
        self.in_shapes, self.out_shape, self.built = shapes, self._pick_outputs(known), True
        self.token = object()
        return self.out_shape

    def _pick_outputs(self, values: Mapping[str, Any], names: tuple[str, ...] | None = None) -> Any:
        """Return what `values` holds of the output (or of `names` in their place), or a tuple for several outputs."""
        picked = tuple(values[name] for name in names or self.outputs)
        return picked if len(picked) > 1 else picked[0]

    def forward(self, *xs: Any, training: bool = False) -> Any:
        """Compute the output (N, ...) from the inputs (N, ...); builds the network if that has not happened.

        With ``training`` it runs as in training (dropout drops, batch norm uses the batch) and keeps what `backward`
        needs.

        Raises
        ------
        ValueError
            If an input has the wrong shape.
        """
        xs = tuple(np.asarray(x, self.dtype) for x in xs)
        self._check_shapes(xs)
        if training:
            self._plan_backward()
        values = dict(zip(self.inputs, xs, strict=True))
        for row, expired in zip(self.rows, self._expiries, strict=True):
            values[row.name] = row.layer.forward(*(values[s] for s in row.sources), training=training)
            for name in expired:
                if self.ends is None or name not in self.ends:
                    del values[name]
        return self._pick_outputs(values, self.ends)

    def backward(self, dy: Any) -> Any:
        """Fill the gradients of all trainable layers from dy, shaped like the output.

        For several outputs dy is a tuple; None stands for an output without a gradient. Layers that none reaches get
        zeros.

        Returns dx (a tuple for several inputs), or None if `need_dx` is off. Then no layer above the first trainable
        one is visited.
        """
        dys = dy if len(self.outputs) > 1 else (dy,)
        grads: dict[str, Array] = {}
        for name, d in zip(self.ends or self.outputs, dys, strict=True):
            if d is not None:
                dy = np.asarray(d, self.dtype)
                grads[name] = grads[name] + dy if name in grads else dy
        for row in reversed(self.rows):
            dout = grads.pop(row.name, None)
            if dout is None and row.layer.learns:
                row.layer.clear_gradients()
            if dout is None or not (row.layer.need_dx or row.layer.learns):
                continue
            dxs = row.layer.backward(dout)
            for source, dx in zip(row.sources, dxs if isinstance(dxs, tuple) else (dxs,), strict=True):
                if dx is not None and source in self._wanted:
                    grads[source] = grads[source] + dx if source in grads else dx
        if not self.need_dx:
            return None
        dinputs = tuple(grads.get(name) for name in self.inputs)
        return dinputs if len(dinputs) > 1 else dinputs[0]

    def clear_gradients(self) -> None:
        """Set the gradients of all layers inside to zero."""
        for layer in self.sublayers():
            layer.clear_gradients()

    def _plan_backward(self) -> None:
        """Decide which values need a gradient: those that depend on something that learns (or on a wanted input)."""
        self._wanted = set(self.inputs) if self.need_dx else set()
        for row in self.rows:
            row.layer.need_dx = any(source in self._wanted for source in row.sources)
            if row.layer.need_dx or row.layer.learns:
                self._wanted.add(row.name)

    def _check_shapes(self, xs: tuple[Array, ...]) -> None:
        """Build at the first forward; later refuse inputs of another shape."""
        shapes = tuple(x.shape[1:] for x in xs)
        if not self.built and len(shapes) == len(self.inputs):
            self.build(*shapes)
        if shapes != self.in_shapes:
            wanted = " and ".join(str(("N", *shape)).replace("'", "") for shape in self.in_shapes)
            given = " and ".join(str(x.shape) for x in xs)
            one = len(xs) == len(self.in_shapes) == 1
            cure = (
                shape_cure(xs[0].shape, self.in_shapes[0], "x") if one else "give samples of these shapes, batch first"
            )
            raise ValueError(f"the network takes inputs of shape {wanted}, got {given}: {cure}")

    def predict(self, *xs: Any, batch_size: int = 256) -> Any:
        """Return the network's output for x, in inference mode.

        Parameters
        ----------
        xs : array (N, ...)
            One per input; N may be 0.
        batch_size : int
            Samples computed at a time; bounds the memory.

        Returns
        -------
        array (N, ...)
            Raw outputs: for a classifier its logits. A tuple for several outputs.

        Raises
        ------
        ValueError
            If x has the wrong shape or holds NaN or infinity.
        """
        require_int(batch_size, "batch_size")
        arrays = [check_finite(x, self.dtype, name) for x, name in zip(xs, self.inputs, strict=True)]
        self._check_shapes(tuple(arrays))
        n = len(arrays[0])
        shapes = self.out_shape if len(self.outputs) > 1 else (self.out_shape,)
        ys = {name: np.empty((n, *shape), self.dtype) for name, shape in zip(self.outputs, shapes, strict=True)}
        for start in range(0, n, batch_size):
            part = self.forward(*(a[start : start + batch_size] for a in arrays))
            for y, value in zip(ys.values(), part if len(ys) > 1 else (part,), strict=True):
                y[start : start + batch_size] = value
        return self._pick_outputs(ys)

    # State

    def parameters(self, trainable_only: bool = False) -> list[Parameter]:
        """Return (name, value, grad) of every weight, e.g. ``head.weight``; the arrays are live, not copies."""
        return [
            Parameter(f"{layer.name}.{key}", value, layer.grads[key])
            for layer in self.leaves()
            for key, value in layer.params.items()
            if layer.trainable or not trainable_only
        ]

    def _state(self) -> dict[str, Array]:
        """Return weights and buffers by name, live."""
        state = {p.name: p.value for p in self.parameters()}
        for layer in self.leaves():
            state.update({f"{layer.name}.{key}": value for key, value in layer.buffers.items()})
        return state

    def state_dict(self) -> dict[str, Array]:
        """Return copies of all weights and running statistics by name."""
        return {name: value.copy() for name, value in self._state().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over weights and running statistics; either all of them fit and are taken, or nothing changes.

        Raises
        ------
        ValueError
            If the network is not built, or names or shapes differ, or a value is not finite.
        """
        own = self._state()
        if not self.built:
            raise ValueError("build the network before loading weights: net.build(input_shape)")
        if set(own) != set(state):
            missing, extra = sorted(set(own) - set(state)), sorted(set(state) - set(own))
            raise ValueError(f"the weights are of another network: missing {missing}, unknown {extra}")
        for name, value in own.items():
            new = np.asarray(state[name])
            if new.shape != value.shape or not np.isfinite(new).all():
                raise ValueError(f"{name}: needs finite values of shape {value.shape}, got shape {new.shape}")
        for name, value in own.items():
            value[...] = state[name]

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write weights and running statistics as a NumPy .npz file at exactly this path."""
        self._require_built("saving weights")
        with open(path, "wb") as file:
            np.savez(file, **self._state())  # type: ignore[arg-type]

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Read what `save_weights` wrote; raises ValueError as `load_state_dict` does."""
        with np.load(path) as state:
            self.load_state_dict(dict(state))

    def astype(self, dtype: Any) -> Graph:
        """Convert all weights to float32 or float64 in place and return the network."""
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype={dtype!r}: a network computes in float32, or in float64 for checks")
        for layer in (self, *self.walk()):
            layer.dtype, layer._saved = np.dtype(dtype), None
            for table in (layer.params, layer.grads, layer.buffers):
                table.update({key: value.astype(dtype) for key, value in table.items()})
        return self

    def reseed(self, seeds: np.random.SeedSequence | int) -> None:
        """Restart the random numbers of all layers (dropout masks)."""
        seeds = seeds if isinstance(seeds, np.random.SeedSequence) else np.random.SeedSequence(seeds)
        for layer, child in zip(self.sublayers(), seeds.spawn(len(self)), strict=True):
            layer.reseed(child)

    def reset_state(self) -> None:
        """Let stateful recurrent layers start from zeros again."""
        for layer in self.sublayers():
            layer.reset_state()

    def _require_built(self, action: str) -> None:
        if not self.built:
            raise ValueError(f"{action} needs a built network: call net.build(input_shape), predict or fit first")

    # Showing and saving

    def summary(self) -> str:
        """Return a table of layers: name, type and settings, output shape, parameters, whether it trains."""
        return format_summary(self.leaves(), self.built)

    def to_onnx(self, graph: GraphBuilder | None = None, *inputs: str) -> Any:
        """Return the network as an ``onnx.ModelProto`` in float32 with a dynamic batch; see `save_onnx`.

        (With `graph`, as inside another network, add the nodes to it and return the output's name, or their tuple.)

        Raises
        ------
        ValueError
            If the network is not built.
        ImportError
            If the onnx package is missing.
        """
        if graph is None:
            self._require_built("saving ONNX")
            return to_model(self)
        values = dict(zip(self.inputs, inputs, strict=True))
        for row in self.rows:
            values[row.name] = row.layer.to_onnx(graph, *(values[s] for s in row.sources))
        return self._pick_outputs(values)

    def save_onnx(self, path: str | os.PathLike[str]) -> onnx.ModelProto:
        """Write the network as float32 ONNX with a dynamic batch, and return the model.

        Nodes are named after layers (``head``), initializers after their parameters (``head.weight``), the graph's
        input and output ``input`` and ``output``, several of them as here. The model has passed ``onnx.checker``; equal
        networks give equal bytes.

        Raises
        ------
        ValueError
            If the network is not built.
        ImportError
            If the onnx package is missing: ``pip install edgeprop[export]``.
        """
        model = self.to_onnx()
        with open(path, "wb") as file:
            file.write(model.SerializeToString(deterministic=True))
        return model  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(layer) for layer in self.sublayers())})"


class Sequential(Graph):
    """Layers one after the other.

    Parameters
    ----------
    *layers : Layer or str
        A string is a layer without settings, by its name in `LAYERS`: ``"relu"``.

    Examples
    --------
    >>> net = Sequential(Conv2D(8, 3), "relu", MaxPool2D(2), Flatten(), Dense(10, name="head"))   # doctest: +SKIP
    """

    kind = "sequential"

    def __init__(self, *layers: Layer | str, name: str | None = None) -> None:
        self._wire(("x",), chain(layers, "x"), name)


class Residual(Graph):
    """``body(x) + shortcut(x)`` (He, Zhang, Ren & Sun 2016).

    Parameters
    ----------
    *body : Layer or str
        Layers one after the other.
    shortcut : Layer, optional
        What x goes through on the other way (a `Sequential` for several layers); nothing if left out.
    merge : Layer, optional
        What joins the two, instead of `Add`: ``Multiply()`` makes a gate.
    """

    kind = "residual"

    def __init__(
        self, *body: Layer | str, shortcut: Layer | None = None, merge: Layer | None = None, name: str | None = None
    ) -> None:
        if not body:
            raise ValueError("Residual needs at least one layer in its body")
        rows = chain(body, "x")
        ends = [rows[-1].name, "x"]
        if shortcut is not None:
            rows.append(Row("shortcut", as_layer(shortcut), ("x",)))
            ends[1] = "shortcut"
        rows.append(Row("sum", merge or Add(), tuple(ends)))
        self._wire(("x",), rows, name)


def check_outputs(outputs: tuple[str, ...], rows: Sequence[Row]) -> tuple[str, ...]:
    """Return the outputs' names if each is that of a node and comes once; else raise ValueError."""
    nodes = {row.name: row for row in rows}
    for name in outputs:
        lookup(nodes, name, "output")
    if len(set(outputs)) < len(outputs):
        raise ValueError(f"outputs {outputs} name a node twice")
    return outputs


def chain(layers: Sequence[Layer | str], source: str) -> list[Row]:
    """Return rows that run `layers` one after the other, starting from value `source`."""
    names = [source, *(f"{source}{place}" for place in range(1, len(layers) + 1))]
    return [Row(names[i + 1], as_layer(layer), (names[i],)) for i, layer in enumerate(layers)]


def as_layer(layer: Any) -> Layer:
    """Return `layer`, or a new layer of that name.

    Raises
    ------
    ValueError
        If it is neither a layer, nor the name of one that needs no settings.
    """
    if isinstance(layer, Layer):
        return layer
    if not isinstance(layer, str):
        cure = f": create it, {layer.__name__}(...)" if isinstance(layer, type) else ""
        raise ValueError(f"{layer!r} is not a layer{cure}")
    try:
        return lookup(LAYERS, layer, "layer")()
    except TypeError:
        raise ValueError(f"layer {layer!r} needs settings: write {LAYERS[layer].__name__}(...)") from None


def as_shape(shape: Any) -> tuple[Any, ...]:
    """Return `shape` as a tuple; an integer is a vector's length."""
    return (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)


def check_finite(x: Any, dtype: Any, name: str = "x") -> Array:
    """Return x as an array of `dtype` with a batch axis.

    Raises
    ------
    ValueError
        If it is no array of numbers, some are masked, or it holds NaN or infinity.
    """
    x = unmasked(x, name)
    try:
        given = np.asarray(x)
        if given.dtype.kind not in "biufO":
            raise TypeError(f"they are {given.dtype}")
        array = given.astype(dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not an array of numbers: {error}") from None
    if array.ndim < 1:
        raise ValueError(f"{name} has no batch axis: give an array of shape (N, ...)")
    if not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1)))
        raise ValueError(f"{name} holds NaN or infinity in {bad} of {len(array)} samples: remove or repair them")
    return array
