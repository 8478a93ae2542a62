"""The C header: a Program as constants that a compiler takes as they are, and as text that a person reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import runtime
from .c_text import Names, comment, identifier, matrix, number, rows, string, word, wrap
from .layers import Layer, layers
from .plan import infer_arena, restore_arena, train_arena
from .program import NONE, Port, Program, Tensor
from .tables import CONST, PARAM, NodeRow, Tables, TensorRow, tables, values

_TYPES = {
    "f32": ("float", "EP_F32"),
    "i8": ("int8_t", "EP_I8"),
    "i32": ("int32_t", "EP_I32"),
    "u8": ("uint8_t", "EP_U8"),
}
_FLAGS = {0: "0", CONST: "EP_CONST", PARAM: "EP_PARAM"}
#: optimizers that need more than DIGITS_TRAIN_ARENA
_OPTIMIZERS = ("momentum", "adam")


class _Symbols:
    """C names of everything in one header: all start with the model's own."""

    def __init__(self, program: Program, table: Tables) -> None:
        self.prefix = identifier(program.name)
        self.macro = self.prefix.upper()
        names = Names()
        self.data = {
            row.tensor.name: names.new(f"{self.prefix}_{word(row.tensor.name) or 'data'}")
            for row in table.tensors
            if not row.tensor.is_activation
        }
        for fixed in ("tensors", "nodes", "io", "train", "train_offset", "grad_offset", "model"):
            names.taken.add(f"{self.prefix}_{fixed}")
        self.attrs = [names.new(f"{self.prefix}_{word(node.op.name) or node.op.kind}_attr") for node in table.nodes]


def to_header(program: Program) -> str:
    """Return the text of NAME.h.

    Declarations are plain C89 and C++; definitions (C99) follow under NAME_IMPLEMENTATION, for exactly one C file. The text
    depends on the program alone: no time, no path, no machine.

    Raises
    ------
    ValueError : the program does not fit the runtime's structs (see `tables`)
    """
    table = tables(program)
    names = _Symbols(program, table)
    parts = [
        *_title(program, table, names),
        *_declarations(program, names),
        f"#ifdef {names.macro}_IMPLEMENTATION",
        "",
        *_weights(table, names),
        *_attributes(table, names),
        *_tensors(table, names),
        *_nodes(table, names),
        *_training(program, table, names),
        *_model(program, table, names),
        "",
        f"#endif /* {names.macro}_IMPLEMENTATION */",
        f"#endif /* {names.macro}_H */",
    ]
    return "\n".join(parts) + "\n"


# ---- First screen -----------------------------------------------------------------------------------------------


def _title(program: Program, table: Tables, names: _Symbols) -> Iterator[str]:
    yield f"/* {comment(program.name)}: a neural network for edgeprop."
    yield " *"
    yield f" * Source   {comment(program.source or 'made in memory')}"
    if program.source_hash:
        yield f" *          sha256 {comment(program.source_hash)}"
    for port in program.inputs:
        yield f" * Input    {_port(port, program.tensors[port.tensor])}"
    for port in program.outputs:
        yield f" * Output   {_port(port, program.tensors[port.tensor])}"
    yield " *"
    yield from _layer_table(program)
    yield " *"
    yield from _memory(program, table)
    yield " *"
    yield f" * Use: #define {names.macro}_IMPLEMENTATION in exactly one C file before including this one."
    yield " * edgeprop.h, its manual, says the rest."
    yield " * Generated from the source above: change that, not this file. */"


def _port(port: Port, tensor: Tensor) -> str:
    text = f"{comment(port.name)}: {_TYPES[tensor.dtype][0]} {_shape(tensor.shape)}"
    if len(tensor.shape) == 3:
        text += " height, width, channel"
    if tensor.dtype in ("i8", "u8"):
        text += f"; real value = {number(tensor.scale).rstrip('f')} * (q - {tensor.zero_point})"
    return text


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "1"


def _layer_table(program: Program) -> Iterator[str]:
    rows_ = layers(program)
    cells = [("layer", "op", "output", "learns", "flash B", "MACs"), *(_layer_cells(row) for row in rows_)]
    cells.append(("total", "", "", "", str(sum(r.flash for r in rows_)), str(sum(r.macs for r in rows_))))
    width = [min(max(len(row[i]) for row in cells), 40) for i in range(6)]
    for row in cells:
        left = "  ".join(row[i][:40].ljust(width[i]) for i in range(4))
        yield f" *   {left}  {row[4].rjust(width[4])}  {row[5].rjust(width[5])}"


def _layer_cells(row: Layer) -> tuple[str, ...]:
    learns = "yes" if row.trainable else ""
    return (comment(row.name), row.kind, _shape(row.shape), learns, str(row.flash), str(row.macs) if row.macs else "")


def _memory(program: Program, table: Tables) -> Iterator[str]:
    yield f" * Flash    {table.data_bytes} bytes of weights and constants, and the tables below"
    yield f" * RAM      {infer_arena(program)} bytes to infer"
    if program.trainable():
        yield f" *          {restore_arena(program)} bytes to infer with weights restored from flash"
        count = table.plan.param_bytes // 4
        yield f" *          {train_arena(program)} bytes to learn: {count} weights, SGD, one sample at a time"
        yield f" *          loss: {program.loss}"


# ---- Declarations -----------------------------------------------------------------------------------------------


def _declarations(program: Program, names: _Symbols) -> Iterator[str]:
    macro = names.macro
    yield f"#ifndef {macro}_H"
    yield f"#define {macro}_H"
    yield ""
    yield '#include "edgeprop.h"'
    yield ""
    yield f"#if EP_ABI != {runtime.ABI}"
    yield "#error Regenerate this file: it was made for another version of edgeprop"
    yield "#endif"
    yield ""
    yield "/* Bytes of the arena for ep_init(). */"
    for name, value in _arenas(program).items():
        yield f"#define {macro}_{name} {value}u"
    yield ""
    yield "/* Elements of a sample. */"
    yield from _port_macros(program, names, "INPUT", program.inputs)
    yield from _port_macros(program, names, "OUTPUT", program.outputs)
    yield ""
    yield from _labels(program, names)
    yield "#ifdef __cplusplus"
    yield 'extern "C" {'
    yield "#endif"
    yield f"extern const ep_model {names.prefix};"
    yield "#ifdef __cplusplus"
    yield "}"
    yield "#endif"
    yield ""


def _arenas(program: Program) -> dict[str, int]:
    sizes = {"INFER_ARENA": infer_arena(program)}
    if program.trainable():
        sizes["RESTORE_ARENA"] = restore_arena(program)
        sizes["TRAIN_ARENA"] = train_arena(program)
        for optimizer in _OPTIMIZERS:
            sizes[f"TRAIN_ARENA_{optimizer.upper()}"] = train_arena(program, optimizer=optimizer)
        sizes["SUMS_BYTES"] = train_arena(program, sums=True) - train_arena(program)
    return sizes


def _port_macros(program: Program, names: _Symbols, kind: str, ports: list[Port]) -> Iterator[str]:
    for i, port in enumerate(ports):
        tensor = program.tensors[port.tensor]
        name = f"{names.macro}_{kind}" + (str(i) if i else "")
        yield f"#define {name}_COUNT {tensor.count}"
        if tensor.dtype in ("i8", "u8"):
            yield f"#define {name}_SCALE {number(tensor.scale)}"
            yield f"#define {name}_ZERO_POINT ({tensor.zero_point})"


def _labels(program: Program, names: _Symbols) -> Iterator[str]:
    if not program.labels:
        return
    taken = Names([f"{names.macro}_{name}" for name in ("H", "IMPLEMENTATION", *_arenas(program))])
    yield "/* Classes, in the order of the outputs. */"
    yield "enum {"
    for i, label in enumerate(program.labels):
        constant = taken.new(f"{names.macro}_LABEL_{word(str(label)).upper() or i}")
        shown = comment(str(label))
        note = f" /* {shown} */" if shown != word(str(label)) else ""
        yield f"    {constant} = {i},{note}"
    yield f"    {taken.new(names.macro + '_LABELS')} = {len(program.labels)} /* how many */"
    yield "};"
    yield ""


# ---- Definitions ------------------------------------------------------------------------------------------------


def _weights(table: Tables, names: _Symbols) -> Iterator[str]:
    for row in table.tensors:
        if row.tensor.is_activation:
            continue
        array = values(row.tensor)
        learns = ", learns on the device" if row.tensor.trainable else ""
        yield f"/* {comment(row.tensor.name)} {array.shape}{learns}; {_range(array)} */"
        yield f"static const EP_ALIGNED {_TYPES[row.tensor.dtype][0]} {names.data[row.tensor.name]}[{array.size}] = {{"
        yield from rows(array)
        yield "};"
        yield ""


def _range(array: np.ndarray[Any, np.dtype[Any]]) -> str:
    low, high = array.min(), array.max()
    show = (lambda v: f"{v:.4g}") if array.dtype.kind == "f" else str
    across = matrix(array).shape
    return (
        f"{across[0]} rows of {across[1]}, {show(low)} to {show(high)}"
        if across[0] > 1
        else f"{show(low)} to {show(high)}"
    )


def _attributes(table: Tables, names: _Symbols) -> Iterator[str]:
    for node, name in zip(table.nodes, names.attrs, strict=True):
        struct = runtime.OPS[node.op.kind].struct
        yield f"static const {struct} {name} = {{"
        yield from wrap([f".{field} = {_value(node.words[field])}" for field in node.words.dtype.names or ()])
        yield "};"
    yield ""


def _value(value: Any) -> str:
    if value.shape:
        return "{" + ", ".join(str(v) for v in value.tolist()) + "}"
    return number(float(value)) if value.dtype.kind == "f" else str(int(value))


def _offset(offset: int) -> str:
    return "EP_NONE" if offset == NONE else f"{offset}u"


def _tensors(table: Tables, names: _Symbols) -> Iterator[str]:
    yield "/* data, count, offset, scale, zero point, type, flags */"
    yield f"static const ep_tensor {names.prefix}_tensors[{len(table.tensors)}] = {{"
    for i, row in enumerate(table.tensors):
        yield f"    {_tensor_row(row, names)} /* {i}: {comment(row.tensor.name)} {_shape(row.tensor.shape)} */"
    yield "};"
    yield ""


def _tensor_row(row: TensorRow, names: _Symbols) -> str:
    data = "NULL" if row.tensor.is_activation else names.data[row.tensor.name]
    cells = [
        data,
        f"{row.count}u",
        "0u" if row.flags == CONST else _offset(row.offset),
        number(row.scale),
        str(row.zero_point),
        _TYPES[row.tensor.dtype][1],
        _FLAGS[row.flags],
    ]
    return "{" + ", ".join(cells) + "},"


def _nodes(table: Tables, names: _Symbols) -> Iterator[str]:
    yield "/* Tensors of each node: inputs, then outputs; then those of the model. */"
    yield f"static const uint16_t {names.prefix}_io[{len(table.io)}] = {{"
    for node in table.nodes:
        yield f"    {', '.join(map(str, node.io))}, /* {comment(node.op.name)} */"
    yield f"    {', '.join(map(str, table.inputs))}, {', '.join(map(str, table.outputs))}"
    yield "};"
    yield ""
    yield "/* op, backward, attributes, tensors, inputs, outputs, gradients it adds to */"
    yield f"static const ep_node {names.prefix}_nodes[{len(table.nodes)}] = {{"
    at = 0
    for node, attr in zip(table.nodes, names.attrs, strict=True):
        yield f"    {_node_row(node, attr, f'{names.prefix}_io + {at}')} /* {comment(node.op.name)} */"
        at += len(node.io)
    yield "};"
    yield ""


def _node_row(node: NodeRow, attr: str, io: str) -> str:
    grad = f"EP_GRAD({node.op.kind})" if node.has_grad else "NULL"
    counts = f"{len(node.op.inputs)}, {len(node.op.outputs)}, {node.accumulate}"
    return f"{{&ep_{node.op.kind}, {grad}, &{attr}, {io}, {counts}}},"


def _training(program: Program, table: Tables, names: _Symbols) -> Iterator[str]:
    if table.train is None:
        return
    prefix, arena = names.prefix, table.plan
    yield "#ifndef EP_NO_TRAIN"
    for name, offsets, what in (
        ("train_offset", table.train.offset, "Places of the activations in the training plan."),
        ("grad_offset", table.train.grad_offset, "Places of their gradients."),
    ):
        yield f"/* {what} */"
        yield f"static const uint32_t {prefix}_{name}[{len(offsets)}] = {{"
        yield from wrap([_offset(offset) for offset in offsets])
        yield "};"
    yield f"static const ep_train {prefix}_train = {{"
    fields = {
        "offset": f"{prefix}_train_offset",
        "grad_offset": f"{prefix}_grad_offset",
        "bytes": f"{arena.train_bytes}u",
        "scratch_bytes": f"{arena.train_scratch_bytes}u",
        "first_node": str(arena.first_op),
        "end_node": str(arena.end_op),
        "logits": str(table.train.logits),
        "loss": f"&ep_{program.loss}",
    }
    yield from (f"    .{field} = {value}," for field, value in fields.items())
    yield "};"
    yield "#endif"
    yield ""


def _model(program: Program, table: Tables, names: _Symbols) -> Iterator[str]:
    prefix, arena = names.prefix, table.plan
    inputs_at = sum(len(node.io) for node in table.nodes)
    fingerprint = table.fingerprint()
    fields = {
        "abi": "EP_ABI",
        "fingerprint": f"{{{fingerprint[0]:#010x}u, {fingerprint[1]:#010x}u}}",
        "name": string(program.name),
        "tensors": f"{prefix}_tensors",
        "nodes": f"{prefix}_nodes",
        "inputs": f"{prefix}_io + {inputs_at}",
        "outputs": f"{prefix}_io + {inputs_at + len(table.inputs)}",
        "n_tensors": str(len(table.tensors)),
        "n_nodes": str(len(table.nodes)),
        "n_inputs": str(len(table.inputs)),
        "n_outputs": str(len(table.outputs)),
        "infer_bytes": f"{arena.infer_bytes}u",
        "scratch_bytes": f"{arena.scratch_bytes}u",
        "param_bytes": f"{arena.param_bytes}u",
    }
    yield f"const ep_model {prefix} = {{"
    yield from (f"    .{field} = {value}," for field, value in fields.items())
    if table.train is not None:
        yield "#ifndef EP_NO_TRAIN"
        yield f"    .train = &{prefix}_train,"
        yield "#endif"
    yield "};"
