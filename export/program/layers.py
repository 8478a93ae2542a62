"""Tabulate what each layer of a Program costs on the device, for the header's first screen and the report."""

from __future__ import annotations

from dataclasses import dataclass

from .plan import live_bytes, traits
from .program import Program
from .tables import Tables, tables


@dataclass(frozen=True)
class Layer:
    """An op of a program.

    Attributes
    ----------
    name, kind : of the op
    output : name of the tensor it makes
    dtype, shape : of that tensor, one sample
    parameters : elements of its constants and weights
    trainable : those of them that learn
    flash : bytes of its constants and weights; what several layers share counts for the first
    ram : bytes of activations that live while it runs, one sample
    macs : multiply-accumulates, one sample
    """

    name: str
    kind: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    parameters: int
    trainable: int
    flash: int
    ram: int
    macs: int

    @property
    def arithmetic(self) -> str:
        """What it computes with, int8 or float32; "" where it moves values, or leads from one to the other."""
        return next((name for ending, name in (("_s8", "int8"), ("_f32", "float32")) if self.kind.endswith(ending)), "")


def layers(program: Program) -> list[Layer]:
    """The layers in the order they run."""
    live = live_bytes(program)
    seen: set[str] = set()
    found = []
    for op, ram in zip(program.ops, live, strict=True):
        output = program.tensors[op.outputs[0]]
        own = [program.tensors[name] for name in dict.fromkeys(op.inputs) if name not in seen]
        constants = [tensor for tensor in own if not tensor.is_activation]
        seen.update(tensor.name for tensor in constants)
        found.append(
            Layer(
                op.name,
                op.kind,
                output.name,
                output.dtype,
                output.shape,
                sum(tensor.count for tensor in constants),
                sum(tensor.count for tensor in constants if tensor.trainable),
                sum(tensor.nbytes for tensor in constants),
                ram,
                traits(op).macs(op.attrs),
            )
        )
    return found


def arithmetic(found: list[Layer]) -> str:
    """Which layers are int8 and which float32, as a line for people: those of float32 by name where there are both."""
    names = {kind: list(dict.fromkeys(x.name for x in found if x.arithmetic == kind)) for kind in ("int8", "float32")}
    counts = {kind: f"{len(those)} layer{'s' * (len(those) != 1)}" for kind, those in names.items()}
    if not names["int8"] or not names["float32"]:
        return ", ".join(f"{kind}: {counts[kind]}" for kind, those in names.items() if those)
    whole = sum(layer.macs for layer in found)
    share = sum(layer.macs for layer in found if layer.arithmetic == "int8") / whole if whole else 1.0
    return f"int8: {counts['int8']}, {share:.1%} of the multiply-accumulates; float32: {', '.join(names['float32'])}"


def table_bytes(program: Program) -> int:
    """Flash of the structs around the weights, on a 32-bit target: ep_tensor and ep_node take 20 bytes each there, ep_model 64
    and ep_train 28."""
    rows: Tables = tables(program)
    attributes = sum(node.words.nbytes for node in rows.nodes)
    train = 0 if rows.train is None else 8 * len(rows.tensors) + 28
    model = 64 + len(program.name.encode("utf-8", "replace")) + 1
    return 20 * len(rows.tensors) + 20 * len(rows.nodes) + 2 * len(rows.io) + attributes + train + model


def shape_text(shape: tuple[int, ...]) -> str:
    """(28, 28, 1) as `28 x 28 x 1`; one number for a vector."""
    return " x ".join(str(size) for size in shape) or "1"
