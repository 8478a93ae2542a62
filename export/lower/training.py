"""Which weights train, what the loss looks at, and whether a backward pass can get from one to the other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import onnx

from ..errors import UnsupportedError, UnsupportedNode
from ..program import Op, Program
from .context import Context

#: loss that belongs to the op at the end of a network, and looks at that op's input
_LOSS_BEHIND = {
    "softmax_f32": "softmax_cross_entropy",
    "log_softmax_f32": "softmax_cross_entropy",
    "sigmoid_f32": "sigmoid_cross_entropy",
}
_LAST = re.compile(r"last(:[1-9]\d*)?")
LOSSES = ("softmax_cross_entropy", "sigmoid_cross_entropy", "mse", "hinge")


def matches(pattern: str, name: str) -> bool:
    """True if a name is the pattern, or has it as whole components, as `fc` in `/fc/Gemm` and `fc.weight`.

    `*`, `?` and `[...]` match as in a shell, against the whole name.
    """
    if pattern == name or (any(c in pattern for c in "*?[") and fnmatchcase(name, pattern)):
        return True
    dotted = "." + name.replace("/", ".").strip(".") + "."
    return bool(pattern) and "." + pattern.replace("/", ".").strip(".") + "." in dotted


class Marks:
    """The layers a user wants to train, by patterns; remembers which patterns matched."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = list(patterns)

    def __call__(self, names: Iterable[str]) -> bool:
        """True if any of the names is meant."""
        found = list(names)
        return any(matches(pattern, name) for pattern in self.patterns for name in found if name)


def metadata(proto: onnx.ModelProto) -> dict[str, Any]:
    """What the model says of itself: keys `trainable`, `loss`, `labels`, `states`, `truncate` of `edgeprop.*` in
    metadata_props.

    Raises
    ------
    ValueError : `edgeprop.states` is no JSON object of texts, or `edgeprop.truncate` no number of steps
    """
    props = {prop.key: prop.value for prop in proto.metadata_props}
    result: dict[str, Any] = {}
    for key in ("trainable", "labels", "loss"):
        text = props.get(f"edgeprop.{key}")
        if text:
            result[key] = text if key == "loss" else _list(text)
    if props.get("edgeprop.states"):
        result["states"] = _pairs(props["edgeprop.states"])
    if props.get("edgeprop.truncate"):
        if not props["edgeprop.truncate"].isdecimal():
            raise ValueError(f"edgeprop.truncate is {props['edgeprop.truncate']!r}: give a number of steps, 0 for all")
        result["truncate"] = int(props["edgeprop.truncate"])
    return result


def _pairs(text: str) -> dict[str, str]:
    try:
        pairs = json.loads(text)
    except json.JSONDecodeError:
        pairs = None
    if not isinstance(pairs, dict) or not all(isinstance(value, str) for value in pairs.values()):
        raise ValueError(f'edgeprop.states is {text!r}: give a JSON object such as {{"h": "h_next"}}')
    return pairs


def _list(text: str) -> list[str]:
    try:
        parsed = json.loads(text)
    except json.JSONDecodeError:
        parsed = [part.strip() for part in text.split(",")]
    return [str(item) for item in (parsed if isinstance(parsed, list) else [parsed])]


def has_backward(kind: str) -> bool:
    """Whether the runtime has a backward for an op."""
    from ... import runtime

    return bool(runtime.OPS[kind].has_grad)


def mark_trainable(ctx: Context, program: Program, marks: Marks, loss: str | None) -> None:
    """Mark the weights of the layers that `marks` means, and attach the loss.

    Raises
    ------
    UnsupportedError : a layer that is meant is int8, or an op between it and the loss has no backward
    ValueError : nothing matches a pattern, no loss is given or implied, or the layer does not lead to the loss
    """
    if loss is not None and loss not in LOSSES:
        raise ValueError(f"loss '{loss}' is none of {', '.join(LOSSES)}")
    if not marks.patterns:
        program.loss = loss
        return
    _check_patterns(ctx, marks)
    last = _last(ctx, marks)
    layers = [layer for layer in ctx.layers.values() if marks(layer.names) or layer.op.name in last]
    for layer in layers:
        for name in layer.weights:
            if sum(name in op.inputs for op in program.ops) > 1:
                raise ValueError(f"weight '{name}' is shared by several layers and cannot train; freeze them")
            program.tensors[name].trainable = True
    ends = _attach_loss(program, loss)
    _check_backward(program, [layer.op for layer in layers], ends)


def _last(ctx: Context, marks: Marks) -> list[str]:
    """Names of the layers that `last` (the last one with weights) and `last:n` mean."""
    names = [layer.op.name for op in ctx.ops for layer in ctx.layers.values() if layer.op is op]
    count = max([int(p.partition(":")[2] or 1) for p in marks.patterns if _LAST.fullmatch(p)], default=0)
    return names[-count:] if count else []


def _check_patterns(ctx: Context, marks: Marks) -> None:
    """Every pattern must mean a float layer with weights."""
    bad, missing = [], []
    known = [name for layer in ctx.layers.values() for name in layer.names]
    for pattern in marks.patterns:
        if any(matches(pattern, name) for name in known) or (known and _LAST.fullmatch(pattern)):
            continue
        ops = [op for op in ctx.ops if matches(pattern, op.name)]
        if ops:
            why = "it is int8, which does not learn" if ops[0].kind.endswith("_s8") else "it has no weights"
            bad.append(
                UnsupportedNode(ops[0].name, ops[0].kind, f"marked trainable, but {why}", "keep that layer in float32")
            )
        else:
            missing.append(pattern)
    if bad:
        raise UnsupportedError(bad)
    if missing:
        candidates = ", ".join(dict.fromkeys(layer.names[0] for layer in ctx.layers.values())) or "none"
        raise ValueError(f"trainable={missing[0]!r} matches no layer; layers that can train: {candidates}")


def _attach_loss(program: Program, loss: str | None) -> str:
    """Set the loss and its logits: the input of a final Softmax or Sigmoid that the loss includes, else the output."""
    output = program.outputs[0].tensor
    last = next((op for op in program.ops if output in op.outputs), None)
    implied = _LOSS_BEHIND.get(last.kind) if last is not None else None
    loss = loss or implied or ("softmax_cross_entropy" if program.labels else None)
    if loss is None:
        raise ValueError(
            f"the model has no final Softmax or Sigmoid that implies a loss: give one of {', '.join(LOSSES)}"
        )
    program.loss = loss
    program.logits = last.inputs[0] if last is not None and implied == loss else output
    if program.tensors[program.logits].dtype != "f32":
        name = last.name if last is not None else output
        raise UnsupportedError(
            [
                UnsupportedNode(
                    name, "output", "the loss needs float32, but the output is quantized", "keep the head in float32"
                )
            ]
        )
    return program.logits


def _check_backward(program: Program, layers: list[Op], logits: str) -> None:
    """Every op on a way from a trainable layer to the logits needs a backward."""
    reached = {output for op in layers for output in op.outputs}
    for op in program.ops:
        if any(name in reached for name in op.inputs):
            reached.update(op.outputs)
    needed = {logits}
    bad = []
    for op in reversed(program.ops):
        if not needed.intersection(op.outputs):
            continue
        needed.update(op.inputs)
        if reached.intersection(op.outputs) and not has_backward(op.kind):
            why = "it lies between a trainable layer and the loss, and has no backward"
            bad.append(
                UnsupportedNode(op.name, op.kind, why, "keep everything behind the first trainable layer in float32")
            )
    for op in layers:
        if not needed.intersection(op.outputs):
            raise ValueError(f"layer '{op.name}' is marked trainable, but the loss on '{logits}' does not depend on it")
    if bad:
        raise UnsupportedError(bad[::-1])
