"""Choose trainable weights and the loss, and check that a backward pass leads from one to the other."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..errors import TrainableError, UnsupportedNode
from ..graph.rewrites import FIXED
from ..marks import Mark, Marks, matches, meant
from ..program.program import Op, Program
from ..program.traits import TRAITS
from .context import Context, Layer

#: loss that belongs to the op at the end of a network, and looks at that op's input
_LOSS_BEHIND = {
    "softmax_f32": "softmax_cross_entropy",
    "log_softmax_f32": "softmax_cross_entropy",
    "sigmoid_f32": "sigmoid_cross_entropy",
}
_MARKED = "it is marked trainable"
LOSSES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "mse", "hinge")


def has_backward(kind: str) -> bool:
    """Whether the runtime has a backward for an op."""
    from ... import runtime

    return bool(runtime.OPS[kind].has_grad)


def mark_trainable(
    ctx: Context,
    program: Program,
    marks: Marks,
    loss: str | None,
    loss_output: str | None = None,
    streams: Collection[str] = (),
) -> None:
    """Mark the weights of the layers that `marks` means, and attach the loss, to whose output the first place goes.

    Parameters
    ----------
    loss_output : the output that the loss looks at; the first that depends on the trainable layers where not given
    streams : inputs that are states where the model runs on a device

    Raises
    ------
    TrainableError : what is meant cannot train: all of it, and what lies between it and the loss, in one message
    ValueError : no loss is given or implied, or the model has no such output
    """
    if loss is not None and loss not in LOSSES:
        raise ValueError(f"loss '{loss}' is none of {', '.join(LOSSES)}")
    if not marks.marks:
        program.loss = loss
        if loss_output is not None:
            _put_first(program, loss_output)
        return
    known = {layer.op.name: layer for op in ctx.ops for layer in _layers(ctx) if layer.op is op}
    _drop_unread(program, streams)
    bad = _of_several_inputs(program, streams)
    chosen = []
    for mark in marks.marks:
        layers = [known[name] for name in meant(mark, {name: [name, *layer.names] for name, layer in known.items()})]
        bad += _mark(ctx, program, mark, layers)
        chosen += [layer.op for layer in layers]
    try:
        _first_output(program, chosen, loss_output)
        ends = _attach_loss(program, loss)
    except ValueError:
        if bad:
            raise TrainableError(bad) from None
        raise
    bad += _check_backward(program, chosen, ends)
    if bad:
        raise TrainableError(list(dict.fromkeys(bad)))


def _drop_unread(program: Program, streams: Collection[str]) -> None:
    """Leave out inputs that no output depends on, where others are left: a device learns from one input."""
    read = {port.tensor for port in program.outputs} | {state.next for state in program.states}
    for op in reversed(program.ops):
        if read.intersection(op.outputs):
            read.update(op.inputs)
    kept = [port for port in program.inputs if port.tensor in read or port.name in streams]
    if all(port.name in streams for port in kept):
        return
    unread = [port.name for port in program.inputs if port not in kept]
    program.notes += [f"input '{name}' is left out: no output depends on it" for name in unread]
    program.inputs[:] = kept


def _of_several_inputs(program: Program, streams: Collection[str]) -> list[UnsupportedNode]:
    """The obstacle that a network of several inputs is: a device learns from one sample, which is one array."""
    inputs = [port.name for port in program.inputs if port.name not in streams]
    if len(inputs) == 1:
        return []
    names = ", ".join(f"'{name}'" for name in inputs)
    why = f"it has {len(inputs)} inputs ({names}), and a device learns from one"
    cure = "one input that the model splits, states={...} (--state) for those that are states, or no trainable layers"
    return [UnsupportedNode(program.name, "model", why, cure)]


def _first_output(program: Program, layers: Sequence[Op], wanted: str | None) -> None:
    """Put the output that the loss looks at in front of the others: that is what targets and predictions are of.

    Raises
    ------
    ValueError : there is no such output, or it could be one of several
    """
    if wanted is None:
        reached = _reached(program, layers)
        fit = [port.name for port in program.outputs if port.tensor in reached]
        if not fit or program.outputs[0].name in fit:
            return
        if len(fit) > 1:
            cure = f"name one, loss_output={fit[0]!r} (--loss-output {fit[0]})"
            raise ValueError(f"the loss could look at any of the outputs {', '.join(map(repr, fit))}: {cure}")
        wanted = fit[0]
    _put_first(program, wanted)


def _put_first(program: Program, name: str) -> None:
    check_loss_output(name, [port.name for port in program.outputs])
    program.outputs.sort(key=lambda port: port.name != name)


def check_loss_output(name: str, outputs: Sequence[str]) -> None:
    """See that a model has the output that the loss is to look at.

    Raises
    ------
    ValueError : it has none of the name
    """
    if name not in outputs:
        raise ValueError(
            f"loss_output={name!r} (--loss-output {name}) is no output of the model: give one of {', '.join(outputs)}"
        )


def _reached(program: Program, layers: Sequence[Op]) -> set[str]:
    """The tensors that depend on some layers."""
    reached = {output for op in layers for output in op.outputs}
    for op in program.ops:
        if not reached.isdisjoint(op.inputs):
            reached.update(op.outputs)
    return reached


def _layers(ctx: Context) -> list[Layer]:
    """The layers with weights of the model's, not just constants that some operator became."""
    constants = ctx.normal.model.graph.initializers
    return [
        layer
        for layer in ctx.layers.values()
        if not (found := [constants[name] for name in layer.names if name in constants])
        or not all(value.meta.get(FIXED, False) for value in found)
    ]


def _mark(ctx: Context, program: Program, mark: Mark, layers: Sequence[Layer]) -> list[UnsupportedNode]:
    """Mark the weights of the layers that a mark means; those that cannot train."""
    if not layers:
        return [_nothing(ctx, mark)]
    bad = []
    trained = [(layer, name) for layer in layers for name in layer.weights if not mark.bias or name == _bias(layer)]
    if not trained:
        return [UnsupportedNode(mark.text, "trainable", "it has no bias", "a bias in the model, or its weights")]
    for layer, name in trained:
        if sum(name in op.inputs for op in program.ops) > 1:
            why = f"weight '{name}' is shared by several layers"
            bad.append(UnsupportedNode(layer.op.name, layer.op.kind, f"{_MARKED}, but {why}", "freeze them"))
        program.tensors[name].trainable = True
    return bad


def _bias(layer: Layer) -> str | None:
    """The tensor that a layer adds, which stands last among its weights."""
    places = TRAITS[layer.op.kind].weights
    return layer.op.inputs[places[-1]] if len(places) > 1 else None


def _nothing(ctx: Context, mark: Mark) -> UnsupportedNode:
    """Why a mark means no layer that can train."""
    op = next((op for op in ctx.ops if matches(mark.layers, op.name)), None)
    if op is None:
        layers = ", ".join(dict.fromkeys(layer.names[0] for layer in _layers(ctx))) or "none"
        why = "there are not as many layers" if mark.last else "it matches no layer"
        return UnsupportedNode(mark.text, "trainable", why, f"layers that can train: {layers}")
    if op.kind.endswith("_s8"):
        why = "it is int8, which does not learn"
    else:
        why = "has no weights" if has_backward(op.kind) else "has no backward"
    return UnsupportedNode(op.name, op.kind, f"{_MARKED}, but {why}", "layers in float32 with weights of their own")


def _attach_loss(program: Program, loss: str | None) -> str:
    """Set the loss and its logits: the input of a final Softmax or Sigmoid that the loss includes, else the output."""
    output = program.outputs[0].tensor
    last = next((op for op in program.ops if output in op.outputs), None)
    implied = _LOSS_BEHIND.get(last.kind) if last is not None else None
    loss = loss or implied or ("softmax_cross_entropy" if program.labels else None)
    if loss is None:
        known = ", ".join(LOSSES)
        raise ValueError(
            f"the model has no final Softmax or Sigmoid that implies a loss: give one (loss=..., --loss ...) of {known}"
        )
    program.loss = loss
    program.logits = last.inputs[0] if last is not None and implied == loss else output
    if program.tensors[program.logits].dtype != "f32":
        name = last.name if last is not None else output
        why = "the loss needs float32, but the output is quantized"
        raise TrainableError([UnsupportedNode(name, "output", why, "keep the head in float32")])
    return program.logits


def _check_backward(program: Program, layers: Sequence[Op], logits: str) -> list[UnsupportedNode]:
    """Every op on a way from a trainable layer to the logits needs a backward; those that have none."""
    reached = _reached(program, layers)
    needed = {logits}
    bad = []
    for op in reversed(program.ops):
        if not needed.intersection(op.outputs):
            continue
        needed.update(op.inputs)
        if not reached.intersection(op.outputs) or has_backward(op.kind):
            continue
        if op in layers:
            bad.append(UnsupportedNode(op.name, op.kind, f"{_MARKED}, but has no backward", "freeze it"))
        else:
            why = "it lies between a trainable layer and the loss, and has no backward"
            cure = "keep everything behind the first trainable layer in float32"
            bad.append(UnsupportedNode(op.name, op.kind, why, cure))
    for op in layers:
        if not needed.intersection(op.outputs):
            why = f"{_MARKED}, but the loss on '{logits}' does not depend on it"
            bad.append(UnsupportedNode(op.name, op.kind, why, _cure_apart(program, op)))
    return bad[::-1]


def _cure_apart(program: Program, op: Op) -> str:
    """What to do about a trainable layer that the loss does not depend on."""
    reached = _reached(program, [op])
    other = next((port.name for port in program.outputs if port.tensor in reached), None)
    return (
        "freeze it"
        if other is None
        else f"freeze it, or let the loss look at it: loss_output={other!r} (--loss-output {other})"
    )
