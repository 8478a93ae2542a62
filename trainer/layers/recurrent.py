"""Run over sequences (N, T, F): recurrent layers, and a dense layer that does the same at every step.

All of them are trained by back-propagation through time with shared weights (Werbos 1990). Weights lie as ONNX wants
them: one leading axis for the directions, then the gates one under the other in ONNX's order.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .._common import Array, Shape, batch_first, require_int, require_number
from ..initializers import Initializer, get_initializer
from ..onnx_builder import GraphBuilder
from .base import Layer, register
from .dense import Dense
from .elementwise import sigmoid

__all__ = ["GRU", "LSTM", "SimpleRNN", "TimeDense"]


class Recurrent(Layer):
    """A recurrent layer. A subclass says what happens at one step, forward and back.

    Inputs (N, T, F); outputs (N, H), the last h, or (N, T, H), all of them (2 H with both directions, the forward one
    first; "last" is then what each direction ends with).

    weight (D, G H, F), recurrent_weight (D, G H, H), bias (D, 2 G H): the inputs' biases, then the recurrent ones.
    D directions, G gates, H units.

    Parameters
    ----------
    units : int
        H.
    return_sequences : bool
        Whether to return h of every step instead of the last one.
    bidirectional : bool
        Whether a second set of weights runs from the end to the start (Schuster & Paliwal 1997).
    stateful : bool
        Whether a forward goes on where the one before it ended, sample by sample; `reset_state` starts again, and `fit`
        does so with each epoch. The gradient does not go back past the forward. Its ONNX form has the state as an
        input and an output.
    truncate : int, optional
        Cut the sequence into parts of so many steps, which the gradient does not cross (truncated back-propagation
        through time, Williams & Peng 1990); learning on the device does so too.
    bias : bool
        Whether to add biases; they start at 0.
    init, recurrent_init : str or callable
        How weight and recurrent_weight start, gate by gate, see `INITIALIZERS`.
    """

    shows = "{units}"
    shows_unless: ClassVar[dict[str, Any]] = {
        "return_sequences": False,
        "bidirectional": False,
        "stateful": False,
        "truncate": None,
    }
    gates: ClassVar[int]
    states: ClassVar[tuple[str, ...]] = ("h",)

    def __init__(
        self,
        units: int,
        *,
        return_sequences: bool = False,
        bidirectional: bool = False,
        stateful: bool = False,
        truncate: int | None = None,
        bias: bool = True,
        init: str | Initializer = "glorot_uniform",
        recurrent_init: str | Initializer = "orthogonal",
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.units = require_int(units, f"{type(self).__name__} units")
        self.truncate = None if truncate is None else require_int(truncate, f"{type(self).__name__} truncate")
        self.return_sequences, self.bidirectional = bool(return_sequences), bool(bidirectional)
        self.directions = 1 + self.bidirectional
        self.stateful, self.use_bias = bool(stateful), bool(bias)
        if self.stateful and bidirectional:
            raise ValueError("a bidirectional layer needs the whole sequence: it cannot be stateful")
        self.init, self.recurrent_init = init, recurrent_init
        get_initializer(init), get_initializer(recurrent_init)
        self.reset_state()

    def setup(self, in_shape: Shape) -> Shape:
        """Take (T, F)."""
        if len(in_shape) != 2:
            raise ValueError(f"takes sequences of shape (steps, features), got {in_shape}")
        steps, features = in_shape
        for key, init, n_in in (
            ("weight", self.init, features),
            ("recurrent_weight", self.recurrent_init, self.units),
        ):
            self.add_param(key, (self.directions, self.gates * self.units, n_in), by_gate(init, self.units))
        if self.use_bias:
            self.add_param("bias", (self.directions, 2 * self.gates * self.units), "zeros")
        self.reset_state()
        width = self.directions * self.units
        return (steps, width) if self.return_sequences else (width,)

    # State

    def reset_state(self) -> None:
        """Make the next forward start from zeros."""
        self._state: Array | None = None

    def reseed(self, seeds: np.random.SeedSequence) -> None:
        """Restart random numbers and state: what follows depends on nothing before it."""
        super().reseed(seeds)
        self.reset_state()

    def _start(self, n: int) -> Array:
        """Return the states (len(states), H, n) to start from."""
        if self._state is None or not self.stateful:
            return np.zeros((len(self.states), self.units, n), self.dtype)
        if self._state.shape[-1] != n:
            raise ValueError(
                f"layer {self.name!r} keeps the state of {self._state.shape[-1]} samples, got {n}: give as many each "
                "time, or call reset_state()"
            )
        return np.asarray(self._state, self.dtype)

    # Running

    def compute(self, x: Array) -> tuple[Any, ...]:
        sequence = np.ascontiguousarray(np.transpose(x, (1, 2, 0)))  # (T, F, N): the batch innermost, as everywhere
        start = self._start(len(x))
        runs = []
        for d in range(self.directions):
            track, kept, end = self._run(d, sequence if d == 0 else sequence[::-1], start)
            runs.append((track, kept))
        if self.stateful:
            self._state = end
        return self._output([track for track, _ in runs]), sequence, runs

    def _output(self, tracks: list[Array]) -> Array:
        """Return h of every step or of the last one, from the track (T + 1, H, N) of each direction."""
        if not self.return_sequences:
            return np.transpose(np.concatenate([track[-1] for track in tracks]))
        # A track begins with what it started from, which comes last of one that runs back.
        parts = [track[1:] if d == 0 else track[::-1][:-1] for d, track in enumerate(tracks)]
        return batch_first(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))

    def _run(self, d: int, sequence: Array, start: Array) -> tuple[Array, list[Any], Array]:
        """Run direction d over (T, F, N) from states (S, H, N).

        Return h before and after each step (T + 1, H, N), what each step keeps, and the states at the end.
        """
        sums = np.matmul(self.params["weight"][d], sequence)  # (T, G H, N)
        bias, recurrent_bias = self._biases(d)
        sums += bias
        track = np.empty((len(sequence) + 1, self.units, sequence.shape[-1]), self.dtype)
        track[0], state, kept = start[0], start, []
        for t, part in enumerate(sums):
            state, keep = self.step(part, state, self.params["recurrent_weight"][d], recurrent_bias)
            track[t + 1] = state[0]
            kept.append(keep)
        return track, kept, state

    def _biases(self, d: int) -> Array:
        """Return the biases of direction d, of the inputs and of h, as (2, G H, 1)."""
        if not self.use_bias:
            return np.zeros((2, self.gates * self.units, 1), self.dtype)
        return np.asarray(self.params["bias"][d].reshape(2, -1, 1))

    def backward(self, dy: Array) -> Any:
        """Go back through time, and give `dparams` and `dx` what `_run_backward` returns for each direction."""
        _, runs = self._recall()
        dsteps = [
            self._run_backward(d, self._dtrack(d, dy, track), track, kept) for d, (track, kept) in enumerate(runs)
        ]
        return super().backward(dsteps)

    def _dtrack(self, d: int, dy: Array, track: Array) -> Array:
        """Return the gradient of each step's output (T, H, N), in the order of direction d, from dy (N, H) or (N, T, H)."""
        part = slice(d * self.units, (d + 1) * self.units)
        dtrack = np.zeros_like(track[1:])
        if self.return_sequences:
            dtrack[:] = np.transpose(dy[:, :, part], (1, 2, 0))[:: -1 if d else 1]
        else:
            dtrack[-1] = dy[:, part].T
        return dtrack

    def dparams(self, dsteps: list[tuple[Array, Array]], sequence: Array, runs: list[Any]) -> None:
        for d, ((dsums, drecurrent), (track, kept)) in enumerate(zip(dsteps, runs, strict=True)):
            self.grads["weight"][d] = over_time(dsums, sequence[::-1] if d else sequence)
            self.grads["recurrent_weight"][d] = self.recurrent_gradient(drecurrent, track, kept)
            if self.use_bias:
                sums = [np.sum(each, axis=(0, 2)) for each in (dsums, drecurrent)]
                self.grads["bias"][d] = np.concatenate(sums)

    def dx(self, dsteps: list[tuple[Array, Array]], sequence: Array, runs: list[Any]) -> Array:
        dsequence = np.zeros(sequence.shape, self.dtype)
        for d, (dsums, _) in enumerate(dsteps):
            dsequence[:: -1 if d else 1] += np.matmul(self.params["weight"][d].T, dsums)
        return batch_first(dsequence)

    def _run_backward(self, d: int, dtrack: Array, track: Array, kept: list[Any]) -> tuple[Array, Array]:
        """Go back through the steps of direction d, from dtrack (T, H, N), the gradient of each step's output.

        Return the gradients of what came from the input and of what came from h, each (T, G H, N).
        """
        steps, _, n = dtrack.shape
        dsums = np.empty((steps, self.gates * self.units, n), self.dtype)
        drecurrent = np.empty_like(dsums)
        dstate = np.zeros((len(self.states), self.units, n), self.dtype)
        recurrent = self.params["recurrent_weight"][d]
        for t in reversed(range(steps)):
            dstate[0] += dtrack[t]
            dsums[t], drecurrent[t], dstate = self.step_backward(dstate, track[t], kept[t], recurrent)
            if self.truncate and t % self.truncate == 0:
                dstate[:] = 0
        return dsums, drecurrent

    def recurrent_gradient(self, drecurrent: Array, track: Array, kept: list[Any]) -> Array:
        """Return the gradient (G H, H) of the recurrent weight of one direction."""
        return over_time(drecurrent, track[:-1])

    def step(self, sums: Array, state: Array, recurrent: Array, bias: Array) -> tuple[Array, Any]:
        """Return the next states (S, H, N) and what `step_backward` needs.

        sums (G H, N): from the input, with its bias. state (S, H, N). recurrent (G H, H), bias (G H, 1).
        """
        raise TypeError(f"{type(self).__name__} defines no step")

    def step_backward(self, dstate: Array, h: Array, kept: Any, recurrent: Array) -> tuple[Array, Array, Array]:
        """Return the gradients of sums and of what h added to them, each (G H, N), and of the states before the step.

        dstate (S, H, N): of the states after it. h (H, N): before it.
        """
        raise TypeError(f"{type(self).__name__} defines no step_backward")

    # ONNX

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write RNN, LSTM or GRU, whose time comes first, between what puts the batch first."""
        time = graph.node("Transpose", self.name, list(inputs), part="time", perm=[1, 0, 2])
        operands = [time, *graph.constants(self.name, self.params)]
        every, ends = f"{self.name}.every", [f"{self.name}.{state}.end" for state in self.states]
        outputs = [every] if self.return_sequences else ["", ends[0]]  # leave out what nobody reads
        if self.stateful:
            operands += [""] * (5 - len(operands)) + [self._state_in(graph, state) for state in self.states]
            outputs = [every if self.return_sequences else "", *ends]
        direction = "bidirectional" if self.directions == 2 else "forward"
        attributes = {"hidden_size": self.units, "direction": direction, **self.onnx_attributes()}
        graph.node(self.onnx_op, self.name, operands, outputs=outputs, **attributes)
        if self.truncate:
            graph.truncate[self.name] = self.truncate
        if self.stateful:
            for state, end in zip(self.states, ends, strict=True):
                self._state_out(graph, state, end)
        return self._batch_first(graph, every if self.return_sequences else ends[0])

    def _state_in(self, graph: GraphBuilder, state: str) -> str:
        """Add an input (N, 1, H) of the graph, and return it as (1, N, H)."""
        name = graph.state(f"{self.name}.{state}", ("batch", 1, self.units))
        return graph.node("Transpose", self.name, [name], part=f"{state}.start", perm=[1, 0, 2])

    def _state_out(self, graph: GraphBuilder, state: str, end: str) -> None:
        """Make what the cell ends with an output (N, 1, H) of the graph."""
        following = graph.states[f"{self.name}.{state}"][0]
        graph.node("Transpose", self.name, [end], part=f"{state}.next", outputs=[following], perm=[1, 0, 2])

    def _batch_first(self, graph: GraphBuilder, value: str) -> str:
        """Add nodes from (T, D, N, H) to (N, T, D H), or from (D, N, H) to (N, D H)."""
        perm, shape = ([2, 0, 1, 3], [0, 0, -1]) if self.return_sequences else ([1, 0, 2], [0, -1])
        batch = graph.node("Transpose", self.name, [value], part="batch", perm=perm)
        return graph.node("Reshape", self.name, [batch, graph.integers(f"{self.name}.shape", shape)], part="joined")


@register("simple_rnn", "RNN")
class SimpleRNN(Recurrent):
    """h = f(W x + b + R h + r), f tanh or ReLU (Elman 1990). One gate.

    Parameters
    ----------
    activation : "tanh" or "relu"
        f. The others are those of `Recurrent`.
    """

    gates = 1
    shows_unless: ClassVar[dict[str, Any]] = {**Recurrent.shows_unless, "activation": "tanh"}

    def __init__(self, units: int, *, activation: str = "tanh", **settings: Any) -> None:
        super().__init__(units, **settings)
        if activation not in ("tanh", "relu"):
            raise ValueError(f"activation={activation!r}: give 'tanh' or 'relu'")
        self.activation = activation

    def step(self, sums: Array, state: Array, recurrent: Array, bias: Array) -> tuple[Array, Any]:
        sums = sums + recurrent @ state[0] + bias
        h = np.tanh(sums) if self.activation == "tanh" else np.maximum(sums, 0)
        return h[None], h

    def step_backward(self, dstate: Array, h: Array, kept: Any, recurrent: Array) -> tuple[Array, Array, Array]:
        slope = 1 - kept * kept if self.activation == "tanh" else kept > 0
        dsums = dstate[0] * slope
        return dsums, dsums, (recurrent.T @ dsums)[None]

    def onnx_attributes(self) -> dict[str, Any]:
        return {"activations": [self.activation.title()] * self.directions}


@register("lstm", "LSTM")
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997) with forget gate (Gers, Schmidhuber & Cummins 2000).

    Gates i, o, f and candidate g, in this order: ``c = f c + i g``, ``h = o tanh(c)``.

    Parameters
    ----------
    forget_bias : float
        What the forget gate's bias starts at (Jozefowicz, Zaremba & Sutskever 2015). The others are those of
        `Recurrent`.
    """

    gates = 4
    shows_unless: ClassVar[dict[str, Any]] = {**Recurrent.shows_unless, "forget_bias": 1.0}
    states = ("h", "c")

    def __init__(self, units: int, *, forget_bias: float = 1.0, **settings: Any) -> None:
        super().__init__(units, **settings)
        self.forget_bias = require_number(forget_bias, "LSTM forget_bias", -np.inf)

    def setup(self, in_shape: Shape) -> Shape:
        """Take (T, F)."""
        out_shape = super().setup(in_shape)
        if self.use_bias:
            self.params["bias"][:, 2 * self.units : 3 * self.units] = self.forget_bias
        return out_shape

    def step(self, sums: Array, state: Array, recurrent: Array, bias: Array) -> tuple[Array, Any]:
        h, c = state
        sums = (sums + recurrent @ h + bias).reshape(4, self.units, -1)
        gates, g = sigmoid(sums[:3]), np.tanh(sums[3])
        i, o, f = gates
        after = np.empty_like(state)
        after[1] = f * c + i * g
        squashed = np.tanh(after[1])
        after[0] = o * squashed
        return after, (gates, g, c, squashed)

    def step_backward(self, dstate: Array, h: Array, kept: Any, recurrent: Array) -> tuple[Array, Array, Array]:
        gates, g, c, squashed = kept
        i, o, f = gates
        dh, dc = dstate[0], dstate[1] + dstate[0] * o * (1 - squashed * squashed)
        dsums = np.stack([dc * g, dh * squashed, dc * c, dc * i])
        dsums[:3] *= gates * (1 - gates)
        dsums[3] *= 1 - g * g
        dsums = dsums.reshape(4 * self.units, -1)
        return dsums, dsums, np.stack([recurrent.T @ dsums, dc * f])


@register("gru", "GRU")
class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014).

    Gates z and r and candidate n, in this order: ``h = (1 - z) n + z h``.

    Parameters
    ----------
    linear_before_reset : bool
        Whether r multiplies ``R h + b`` (as in PyTorch and cuDNN, one product per step) or, as first published, h
        itself. The others are those of `Recurrent`.
    """

    gates = 3
    shows_unless: ClassVar[dict[str, Any]] = {**Recurrent.shows_unless, "linear_before_reset": True}

    def __init__(self, units: int, *, linear_before_reset: bool = True, **settings: Any) -> None:
        super().__init__(units, **settings)
        self.linear_before_reset = bool(linear_before_reset)

    def step(self, sums: Array, state: Array, recurrent: Array, bias: Array) -> tuple[Array, Any]:
        h, split = state[0], 2 * self.units
        if self.linear_before_reset:
            added = recurrent @ h + bias
            gates = sigmoid(sums[:split] + added[:split])
            z, r = gates.reshape(2, self.units, -1)
            inner = added[split:]
            n = np.tanh(sums[split:] + r * inner)
        else:
            gates = sigmoid(sums[:split] + recurrent[:split] @ h + bias[:split])
            z, r = gates.reshape(2, self.units, -1)
            inner = r * h
            n = np.tanh(sums[split:] + recurrent[split:] @ inner + bias[split:])
        return (n + z * (h - n))[None], (z, r, n, inner)

    def step_backward(self, dstate: Array, h: Array, kept: Any, recurrent: Array) -> tuple[Array, Array, Array]:
        (z, r, n, inner), dh, split = kept, dstate[0], 2 * self.units
        dn = dh * (1 - z) * (1 - n * n)
        dz = dh * (h - n) * z * (1 - z)
        if self.linear_before_reset:
            dinner = dn * r
            dr = dn * inner * r * (1 - r)
            dsums, drecurrent = np.concatenate([dz, dr, dn]), np.concatenate([dz, dr, dinner])
            return dsums, drecurrent, (dh * z + recurrent.T @ drecurrent)[None]
        dinner = recurrent[split:].T @ dn
        dsums = np.concatenate([dz, dinner * h * r * (1 - r), dn])
        return dsums, dsums, (dh * z + dinner * r + recurrent[:split].T @ dsums[:split])[None]

    def recurrent_gradient(self, drecurrent: Array, track: Array, kept: list[Any]) -> Array:
        """Return the gradient (3 H, H): without `linear_before_reset` the candidate saw r h instead of h."""
        whole = super().recurrent_gradient(drecurrent, track, kept)
        if not self.linear_before_reset:
            whole[2 * self.units :] = over_time(drecurrent[:, 2 * self.units :], np.stack([k[3] for k in kept]))
        return whole

    def onnx_attributes(self) -> dict[str, Any]:
        return {"linear_before_reset": int(self.linear_before_reset)}


@register("time_dense")
class TimeDense(Dense):
    """`Dense` at every step with the same weights: (N, T, n_in) to (N, T, n_out). Its parameters are those of Dense."""

    def setup(self, in_shape: Shape) -> Shape:
        """Take (T, n_in)."""
        if len(in_shape) != 2:
            raise ValueError(f"takes sequences of shape (steps, n_in), got {in_shape}")
        return (in_shape[0], *super().setup(in_shape[1:]))

    def compute(self, x: Array) -> tuple[Array, Array]:
        sequence = np.transpose(x, (1, 2, 0))  # (T, n_in, N)
        y = np.matmul(self.params["weight"], sequence)
        if self.use_bias:
            y += self.params["bias"][:, None]
        return batch_first(y), sequence

    def backward(self, dy: Array) -> Any:
        """Give `dparams` and `dx` the gradient dy as (T, n_out, N)."""
        return super().backward(np.transpose(dy, (1, 2, 0)))

    def dparams(self, dy: Array, sequence: Array) -> None:
        self.grads["weight"][...] = over_time(dy, sequence)
        if self.use_bias:
            np.sum(dy, axis=(0, 2), out=self.grads["bias"])

    def dx(self, dy: Array) -> Array:
        return batch_first(np.matmul(self.params["weight"].T, dy))

    def to_onnx(self, graph: GraphBuilder, *inputs: str) -> str:
        """Write MatMul, named after the layer, and Add: Gemm takes matrices only."""
        weight = graph.constant(f"{self.name}.weight", self.params["weight"].T)
        product = graph.node("MatMul", self.name, [*inputs, weight])
        if not self.use_bias:
            return product
        return graph.node(
            "Add", self.name, [product, graph.constant(f"{self.name}.bias", self.params["bias"])], part="sum"
        )


def over_time(dy: Array, x: Array) -> Array:
    """Return the sum over the steps t of ``dy[t] @ x[t].T``, from (T, A, N) and (T, B, N) as one product."""
    left = np.moveaxis(dy, 0, 1).reshape(dy.shape[1], -1)
    right = np.moveaxis(x, 0, 1).reshape(x.shape[1], -1)
    return np.asarray(left @ right.T)


def by_gate(init: str | Initializer, units: int) -> Initializer:
    """Return an initializer that draws each gate's matrix (units, n_in) of (D, G units, n_in) by itself."""
    draw = get_initializer(init)

    def every(shape: Shape, fan_in: int, fan_out: int, rng: np.random.Generator) -> Array:
        blocks = shape[0] * shape[1] // units
        return np.concatenate([draw((units, shape[2]), shape[2], units, rng) for _ in range(blocks)]).reshape(shape)

    return every
