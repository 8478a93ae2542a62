"""Lower RNN, GRU and LSTM to one device op each, which holds both directions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from ..errors import Refusal, UnsupportedError, UnsupportedNode
from ..graph import reference
from ..graph.importer import Imported
from ..graph.recurrence import scanned
from ..graph.samples import random_inputs
from ..program.plan import backward_ops, traits
from ..program.program import Program, Tensor
from .context import Context, Layer
from .float_ops import require_float
from .operator import Operator, operator


@dataclass(frozen=True)
class _Cell:
    """A recurrent operator.

    gates : of one direction
    states : beside h, which all have
    activations : ONNX's names of the default ones, of one direction; by the device op's `variant`
    """

    kind: str
    gates: int
    states: int
    activations: tuple[tuple[str, ...], ...]


_CELLS = {
    "RNN": _Cell("rnn_f32", 1, 1, (("tanh",), ("relu",))),
    "GRU": _Cell("gru_f32", 3, 1, (("sigmoid", "tanh"),)),
    "LSTM": _Cell("lstm_f32", 4, 2, (("sigmoid", "tanh", "tanh"),)),
}


def recurrent(ctx: Context, node: ir.Node) -> None:
    """RNN, GRU or LSTM with constant weights, whose axes are (steps, sequences, n_in), one sequence for a sample or more."""
    cell = _CELLS[node.op_type]
    value = ctx.value(node)
    require_float(value)
    if len(value.shape) != 3:
        raise Refusal(f"its input is {value.shape}", "an input of shape (steps, batch, n_in)")
    steps, sequences, n_in = value.shape
    weight, recurrence = ctx.needed(node, 1, "weight W"), ctx.needed(node, 2, "weight R")
    attrs = _attributes(node, cell, weight, recurrence) | {"steps": steps, "n_in": n_in, "sequences": sequences}
    directions, n_hidden = attrs["directions"], attrs["n_hidden"]
    names = [str(node.name), *(str(v.name) for v in node.inputs[1:4] if v is not None)]
    weights = [
        ctx.const(str(node.inputs[1].name), weight.reshape(directions, cell.gates, n_hidden, -1), "f32"),  # type: ignore[union-attr]
        ctx.const(str(node.inputs[2].name), recurrence.reshape(directions, cell.gates, n_hidden, -1), "f32"),  # type: ignore[union-attr]
    ]
    bias = _bias(ctx, node, (directions, 2, cell.gates, n_hidden), weights)
    source = ctx.ordered(value, (1, 0, 2))
    states = _initial_states(ctx, node, cell, (directions, sequences, n_hidden))
    output = _output(ctx, node, 0, "y", (sequences * steps, directions * n_hidden))
    ends = [_output(ctx, node, 1 + i, "hc"[i], (sequences * directions * n_hidden,)) for i in range(cell.states)]
    op = ctx.emit(cell.kind, node, [source, *weights[:2], bias, *states], output, **attrs)
    op.outputs += ends
    ctx.layers[output] = Layer(op, names, weights, directions * n_hidden)
    if _used(node, 0):
        ctx.result(node.outputs[0], (steps, directions, sequences, n_hidden), (2, 0, 1, 3), output)
        ctx.batch.update(ctx.values[node.outputs[0]].dims[2] if sequences == 1 else ())
    for i, end in enumerate(ends):
        if _used(node, 1 + i):
            ctx.result(node.outputs[1 + i], (directions, sequences, n_hidden), (1, 0, 2), end)
            ctx.batch.update(ctx.values[node.outputs[1 + i]].dims[1] if sequences == 1 else ())


def check_batch(imported: Imported) -> None:
    """See that the axis of varying size, which is taken for the batch, is not what a recurrent operator steps through.

    ONNX's cells have time in front and the batch behind it: a graph input (steps, 1, n_in) that goes straight into one
    looks like a batch of `steps` samples, each of one step. What reaches each cell tells: onnxruntime is asked.

    Raises
    ------
    UnsupportedError : the axis is the steps of some cell
    """
    cells = [(node, name, axis) for node in imported.proto.graph.node for name, axis in scanned(node)]
    if imported.batch != 0 or not cells:
        return
    few, many = (_sizes(imported, [name for _, name, _ in cells], rows) for rows in (1, 3))
    axis = imported.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    why = f"the axis that may vary{f' ({axis!r})' if axis else ''} is its steps, not its batch"
    cure = "a fixed number of steps; or one step, with the state as an input and an output of the graph (states)"
    bad = [
        UnsupportedNode(node.name or next(filter(None, node.output)), node.op_type, why, cure)
        for node, name, axis in cells
        if few and many and few[name][axis] != many[name][axis]
    ]
    if bad:
        raise UnsupportedError(bad)


def _sizes(imported: Imported, names: list[str], rows: int) -> dict[str, tuple[int, ...]]:
    """Shapes of values for so many rows of input; none where onnxruntime does not run so many."""
    try:
        arrays = random_inputs(imported.proto.graph, 0, rows)
        inside = [name for name in dict.fromkeys(names) if name not in arrays]
        found = reference.intermediates(imported.proto, arrays, inside) if inside else {}
    except Exception:  # a type that no device takes, or whatever onnxruntime raises: then the batch does not vary
        return {}
    return {name: array.shape for name, array in {**arrays, **found}.items()}


def _used(node: ir.Node, index: int) -> bool:
    return index < len(node.outputs) and bool(node.outputs[index].name)


def _output(ctx: Context, node: ir.Node, index: int, role: str, shape: tuple[int, ...]) -> str:
    """A tensor for an output that the ONNX node may leave out and the device op has."""
    name = node.outputs[index].name if _used(node, index) else f"{node.name or node.outputs[-1].name}.{role}"
    return ctx.activation(name, shape)


def _attributes(node: ir.Node, cell: _Cell, weight: np.ndarray, recurrence: np.ndarray) -> dict[str, int]:
    """Attributes of the device op but for the sizes of its input. Raises Refusal for what it does not do."""
    get = node.attributes
    direction = get.get_string("direction", "forward")
    directions = 2 if direction == "bidirectional" else 1
    n_hidden = get.get_int("hidden_size", recurrence.shape[-1])
    wanted = (directions, cell.gates * n_hidden, n_hidden)
    if weight.ndim != 3 or weight.shape[:2] != wanted[:2] or recurrence.shape != wanted:
        raise Refusal(f"weights {weight.shape} and {recurrence.shape} do not fit {direction}", f"R of shape {wanted}")
    if get.get_int("input_forget", 0):
        raise Refusal("it couples input and forget gates (input_forget)", "input_forget = 0")
    if get.get_float("clip", None):
        raise Refusal("it clips", "no clip")
    for index, what in ((4, "sequence_lens"), (7, "peepholes")):
        if index < len(node.inputs) and node.inputs[index] is not None:
            raise Refusal(f"it has {what}", f"the same without {what}")
    return {
        "n_hidden": n_hidden,
        "directions": directions,
        "reverse": int(direction == "reverse"),
        "variant": get.get_int("linear_before_reset", 0) if cell.kind == "gru_f32" else _activations(node, cell),
        "truncate": 0,
    }


def _activations(node: ir.Node, cell: _Cell) -> int:
    """Position of the node's activations among those the device has."""
    given = node.attributes.get_strings("activations", None)
    if given is None:
        return 0
    names = tuple(name.lower() for name in given)
    for variant, known in enumerate(cell.activations):
        if names in (known, known * 2):
            return variant
    raise Refusal(f"its activations are {', '.join(given)}", f"the default, {', '.join(cell.activations[0])}")


def _bias(ctx: Context, node: ir.Node, shape: tuple[int, ...], weights: list[str]) -> str:
    """The bias, zeros where there is none; a real one is added to `weights`."""
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        weights.append(ctx.const(str(node.inputs[3].name), ctx.needed(node, 3, "bias B").reshape(shape), "f32"))
        return weights[-1]
    return ctx.const(f"{node.name or node.inputs[1].name}.bias", np.zeros(shape), "f32")  # type: ignore[union-attr]


def _initial_states(ctx: Context, node: ir.Node, cell: _Cell, shape: tuple[int, int, int]) -> list[str]:
    """Tensors of the states at the start: of all that the cell has, or of none where all are zero."""
    sources = [node.inputs[5 + i] if 5 + i < len(node.inputs) else None for i in range(cell.states)]
    constants = [ctx.constant(source) for source in sources]
    if all(s is None or (c is not None and not c.any()) for s, c in zip(sources, constants, strict=True)):
        return []
    tensors = []
    for i, (source, constant) in enumerate(zip(sources, constants, strict=True)):
        if source is not None and constant is None:
            value = ctx.value(node, 5 + i)
            require_float(value)
            if value.shape != shape:
                raise Refusal(f"its state is {value.shape}", f"states of (directions, batch, hidden), {shape}")
            tensors.append(ctx.ordered(value, (1, 0, 2)))
            continue
        array: np.ndarray[Any, np.dtype[Any]]
        if source is None or constant is None:
            name, array = f"{node.name}.{'hc'[i]}0", np.zeros(shape)
        else:
            name, array = str(source.name), np.broadcast_to(constant, shape)
        tensors.append(ctx.const(name, array.transpose(1, 0, 2), "f32"))
    return tensors


def gru(ctx: Context, node: ir.Node) -> None:
    """GRU: `recurrent`, whose activations are the default ones."""
    _activations(node, _CELLS["GRU"])
    recurrent(ctx, node)


def keep_for_learning(program: Program, truncate: int | Mapping[str, int] = 0) -> None:
    """Give the recurrent ops that gradients go through the output that keeps what their backward needs.

    Parameters
    ----------
    truncate : steps of the parts of a sequence that the gradient does not cross (truncated backpropagation through
        time, Williams & Peng 1990); 0: it goes back to the start; of all ops, or by name of the ONNX node
    """
    if not program.trainable():
        return
    for op in backward_ops(program):
        if not traits(op).recurrent:
            continue
        a = op.attrs
        a["truncate"] = truncate if isinstance(truncate, int) else truncate.get(op.name, 0)
        shape = (a["sequences"] * a["directions"] * a["steps"], traits(op).kept * a["n_hidden"])
        name = f"{op.name}.kept"
        while name in program.tensors:
            name += "_"
        program.tensors[name] = Tensor(name, "f32", shape)
        op.outputs.append(name)


OPERATORS: dict[str, Operator] = {
    "GRU": operator(gru, "gru_f32"),
    "LSTM": operator(recurrent, "lstm_f32"),
    "RNN": operator(recurrent, "rnn_f32"),
}
