"""What each layer of a Program costs: rows for the header's first screen and the report."""

from __future__ import annotations

from dataclasses import dataclass

from .plan import live_bytes, plan
from .program import Program
from .tables import tables
from .traits import TRAITS

_TENSOR_BYTES, _NODE_BYTES = 20, 20  # ep_tensor, ep_node there


@dataclass(frozen=True)
class Layer:
    """One op of the device.

    name : ONNX node; kind : op of the runtime; shape : of the output, device layout; dtype : of the output
    trainable : has weights that learn; weights : their number, frozen ones included
    flash : bytes of weights, constants and tables on a 32-bit board; ram : bytes of arena that hold a value while it runs
    macs : multiply-accumulates of one sample
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    trainable: bool
    weights: int
    flash: int
    ram: int
    macs: int
    output: str


def layers(program: Program) -> list[Layer]:
    """Return a row for every op, in order."""
    if program.plan is None:
        plan(program)
    live = live_bytes(program)
    result = []
    for i, (op, node) in enumerate(zip(program.ops, tables(program).nodes, strict=True)):
        constants = [program.tensors[name] for name in op.inputs if not program.tensors[name].is_activation]
        output = program.tensors[op.outputs[0]]
        tables_ = _NODE_BYTES + node.words.nbytes + 2 * len(node.io)
        tables_ += _TENSOR_BYTES * (len(constants) + len(op.outputs))
        result.append(
            Layer(
                op.name,
                op.kind,
                output.shape,
                output.dtype,
                any(tensor.trainable for tensor in constants),
                sum(tensor.count for tensor in constants),
                sum(tensor.nbytes for tensor in constants) + tables_,
                live[i],
                TRAITS[op.kind].macs(op.attrs),
                output.name,
            )
        )
    return result
