"""Mark the states of a streaming model: graph inputs that a graph output replaces after every step."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from ..errors import Refusal, UnsupportedError, UnsupportedNode
from ..program.program import State
from .context import Context, no_limits
from .layout import refine, significant


def check_names(graph: onnx.GraphProto, pairs: Mapping[str, str]) -> None:
    """Every state is an input of the graph, and what follows it an output; an input and an output are left.

    Raises
    ------
    ValueError : naming what is not there, or comes twice
    """
    inputs, outputs = [value.name for value in graph.input], [value.name for value in graph.output]
    for state, following in pairs.items():
        if state not in inputs:
            raise ValueError(f"state '{state}' is no input of the model: {', '.join(inputs)}")
        if following not in outputs:
            raise ValueError(f"state '{state}': '{following}' is no output of the model: {', '.join(outputs)}")
    if pairs and (set(inputs) <= set(pairs) or set(outputs) <= set(pairs.values())):
        raise ValueError("with these states the model has no input or no output left")


def states(ctx: Context, pairs: Mapping[str, str]) -> list[State]:
    """The states, with what follows each in the memory order of the state.

    Raises
    ------
    UnsupportedError : a state and what follows it differ in shape or type, or are not float32
    """
    inputs = {str(value.name): value for value in ctx.normal.model.graph.inputs}
    outputs = {str(value.name): value for value in ctx.normal.model.graph.outputs}
    found, bad = [], []
    for name, following in pairs.items():
        try:
            state = ctx.values[inputs[name]]
            ctx.settle(state, state.factors(range(len(state.dims))))
            found.append(State(name, following, state.storage.tensor, _following(ctx, name, outputs[following].name)))
        except Refusal as refusal:
            bad.append(UnsupportedNode(name, "state", refusal.why, refusal.nearest))
    if bad:
        raise UnsupportedError(bad)
    return found


def _following(ctx: Context, name: str, following: str | None) -> str:
    state = next(ctx.values[value] for value in ctx.normal.model.graph.inputs if value.name == name)
    output = next(value for value in ctx.normal.model.graph.outputs if value.name == following)
    if output not in ctx.values:
        raise Refusal(f"'{following}' does not depend on the inputs", "an output that is computed")
    value = ctx.values[output]
    if value.shape != state.shape or state.dtype != "f32" or value.dtype != "f32":
        what = f"it is {state.dtype} {state.shape}, and '{following}' {value.dtype} {value.shape}"
        raise Refusal(what, "float32 of the same shape")
    ctx.settle(value, value.factors(range(len(value.dims))))
    pairs = refine(state, value)
    if pairs is None:
        raise Refusal(f"its axes are cut otherwise than those of '{following}'", "the same axes in the same order")
    other = dict(pairs)
    tensor = ctx.reordered(value, [other[factor] for factor in significant(state.storage.order.settled())])
    return copy(ctx, tensor, str(following)) if ctx.producer(tensor) is None else tensor


def copy(ctx: Context, tensor: str, name: str) -> str:
    """What leaves the graph as it came in needs memory of its own."""
    source = ctx.tensors[tensor]
    output = ctx.activation(name, source.shape, source.dtype, source.scale, source.zero_point)
    ctx.emit("copy", None, [tensor], output, count=source.count, alpha=0.0, **no_limits()).name = name
    return output
