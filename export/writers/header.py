"""Write the C header of a Program: for reading first, then for compiling.

The first screen tells what the model is and costs; then come sizes as macros and the labels, all clean C89 and C++; and
under `<NAME>_IMPLEMENTATION`, for exactly one C file, the `const ep_model` with its weights. It holds no date, so the
same program gives the same bytes, and it comes from the same rows as the image, so both give the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ... import runtime
from ..program.layers import Layer, layers, shape_text, table_bytes
from ..program.plan import infer_arena, restore_arena, sums_bytes, train_arena, traits
from ..program.program import NONE, Op, Port, Program, Tensor
from ..program.tables import NodeRow, Tables, TensorRow, tables, values
from .c_text import Names, comment, identifier, number, rows, string, word, wrap

_C_TYPES = {"f32": "float", "i8": "int8_t", "i32": "int32_t", "u8": "uint8_t"}
_TYPE_NAMES = {"f32": "float32", "i8": "int8", "i32": "int32", "u8": "uint8"}
_DTYPES = {"f32": "EP_F32", "i8": "EP_I8", "i32": "EP_I32", "u8": "EP_U8"}
_FLAGS = {0: "", 1: "EP_CONST", 2: "EP_PARAM", 5: "EP_CONST | EP_NARROW"}

_CONV = (("weight", "out_c, kernel_h, kernel_w, in_c / groups"), ("bias", "out_c"), ("multiplier", "out_c"))
_DEPTHWISE = (("weight", "kernel_h, kernel_w, out_c"), ("bias", "out_c"), ("multiplier", "out_c"))
_DENSE = (("weight", "n_out, n_in"), ("bias", "n_out"), ("multiplier", "n_out"))
#: constants of an op, from its second input on: what each is, and its axes
_RECURRENT = (
    ("weight", "direction, gate, n_hidden, n_in"),
    ("recurrence", "direction, gate, n_hidden, n_hidden"),
    ("bias", "direction, of weight or recurrence, gate, n_hidden"),
)
_ROLES: dict[str, tuple[tuple[str, str], ...]] = {
    "conv2d_f32": _CONV,
    "conv2d_s8": _CONV,
    "conv2d_zero_s8": (*_CONV, ("zeros", "out_c: zero points of the weight")),
    "depthwise_conv2d_f32": _DEPTHWISE,
    "depthwise_conv2d_s8": _DEPTHWISE,
    "dense_f32": _DENSE,
    "dense_s8": _DENSE,
    "affine_f32": (("scale", "channels"), ("offset", "channels")),
    "gru_f32": _RECURRENT,
    "lstm_f32": _RECURRENT,
    "rnn_f32": _RECURRENT,
    "lut_s8": (("table", "by code + 128"),),
    "group_norm_f32": (("scale", "channels"), ("bias", "channels")),
    "sparse_dense_f32": (
        ("values", "stored, row by row of (n_out, n_in)"),
        ("bias", "n_out"),
        ("starts", "first value of each row, and of the end"),
        ("columns", "of each value, low byte and high byte"),
    ),
    "dynamic_dense_f32": (*_DENSE[:2], ("scale", "n_out"), ("zeros", "n_out: zero points of the weight")),
    "dynamic_conv2d_f32": (*_CONV[:2], ("scale", "out_c"), ("zeros", "out_c: zero points of the weight")),
    "softmax_s8": (("table", "exponentials, by code - largest code + 255"),),
    "gather": (("index", "out"),),
    "embedding_f32": (("table", "vocabulary, width"),),
    "resample_f32": (("index", "out, taps"), ("weight", "out, taps")),
    "conv_transpose2d_f32": (("weight", "in_c, kernel_h, kernel_w, out_c / groups"), ("bias", "out_c")),
}
#: names of a sample's axes by their number
_AXES = {2: "time, feature", 3: "height, width, channel"}
_LONGEST_NAME = 36  # of a layer in the first screen's table


def to_header(program: Program, file: str = "") -> str:
    """The text of a header called `file`, default `NAME.h`; the program is planned first if it has no plan yet.

    Raises
    ------
    ValueError : see `tables.tables`
    """
    return "\n".join(_Header(program, file).lines()) + "\n"


class Origin(NamedTuple):
    """What a written header says of itself: the prefix of its macros, the file its model came from, and its own name."""

    prefix: str
    source: str
    file: str


def origin(text: str) -> Origin | None:
    """What a header that `to_header` wrote says of itself; None if it wrote no such."""
    guard = re.search(r"^#ifndef EP_MODEL_(\w+)_H$", text, re.MULTILINE)
    source = re.search(r"^ \* Source  (.*?)(?:, SHA-256 [0-9a-f]*)?$", text, re.MULTILINE)
    file = re.search(r'^ \* +#include "(.*)"$', text, re.MULTILINE)
    return Origin(guard[1], source[1], file[1] if file else "") if guard and source else None


def label_names(labels: Sequence[str]) -> list[str]:
    """The end of each label's enum constant. Those that become one word are numbered, by numbers that no other label has;
    what has no letter of C's goes by its index."""
    words = [word(label).upper() or str(i) for i, label in enumerate(labels)]
    alone = {found for found in words if words.count(found) == 1}
    names = Names(alone)
    return [found if found in alone else names.new(found) for found in words]


class _Header:
    """One header being written. `name` is the model's symbol, `macro` the prefix of its macros."""

    def __init__(self, program: Program, file: str = "") -> None:
        self.program = program
        self.rows: Tables = tables(program)
        self.name = identifier(program.name)
        self.macro = self.name.upper()
        self.file = file or f"{self.name}.h"
        fixed = ("tensors", "nodes", "io", "inputs", "outputs", "train", "train_offset", "grad_offset", "label_names")
        names = Names({self.name, *(f"{self.name}_{part}" for part in fixed)})
        layer_words = [word(op.name) or f"op{i}" for i, op in enumerate(program.ops)]
        self.attributes = [names.new(f"{self.name}_{layer}_attr") for layer in layer_words]
        self.arrays: dict[str, str] = {}  # symbol of each constant's values
        self.captions: dict[str, str] = {}  # what it is
        for op, layer in zip(program.ops, layer_words, strict=True):
            self._name_constants(op, layer, names)
        for tensor in program.tensors.values():
            if not tensor.is_activation and tensor.name not in self.arrays:
                self.arrays[tensor.name] = names.new(f"{self.name}_{word(tensor.name) or 'constant'}_values")
                self.captions[tensor.name] = f"{tensor.name}: {_shape(tensor)}"

    def _name_constants(self, op: Op, layer: str, names: Names) -> None:
        roles = iter(_ROLES.get(op.kind, ()))
        for tensor in (self.program.tensors[name] for name in op.inputs):
            if tensor.is_activation:
                continue
            role, axes = next(roles, (f"constant{len(self.arrays)}", "values"))
            if tensor.name not in self.arrays:
                self.arrays[tensor.name] = names.new(f"{self.name}_{layer}_{role}")
                self.captions[tensor.name] = f"{op.name}: {role} {_shape(tensor)} {axes}"

    def lines(self) -> Iterator[str]:
        guard = f"EP_MODEL_{self.macro}_H"
        yield from self._first_screen()
        yield from (f"#ifndef {guard}", f"#define {guard}", "", '#include "edgeprop.h"', "")
        yield from (f"#if EP_ABI != {runtime.ABI}", f'#error "Regenerate this file: it is for EP_ABI {runtime.ABI}."')
        yield from ("#endif", "")
        yield from self._sizes()
        yield from self._labels()
        yield from ("#ifdef __cplusplus", 'extern "C" {', "#endif", "")
        yield f"extern const ep_model {self.name};"
        if self.program.labels:
            yield f"extern const char *const {self.name}_label_names[{self.macro}_LABELS]; /* UTF-8 */"
        yield from ("", "#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {guard} */", "")
        yield from self._implementation()

    # ---- First screen

    def _first_screen(self) -> Iterator[str]:
        program = self.program
        yield f'/* {self.name}: the network "{comment(program.name)}" for edgeprop.'
        yield " * Written by `edgeprop export`; to change it, export again."
        yield " *"
        source = f"{program.source or 'unknown'}" + (f", SHA-256 {program.source_hash}" if program.source_hash else "")
        yield f" * Source  {comment(source)}"
        for what, ports in (("Input ", program.inputs), ("Output", program.outputs)):
            for port in ports:
                yield f" * {what}  {self._port(port)}"
        for state in program.states:
            shape = _shape(program.tensors[state.tensor])
            yield f" * State   {comment(state.name)}: float {shape}, then {comment(state.next_name)}; see ep_reset_state()"
        if self.rows.train is not None:
            how = ", or ".join(f"{function}() takes {what}" for _, function, _, what in _targets(program))
            yield f" * Learns  {self.rows.plan.param_bytes // 4:,} weights, by {program.loss}: {how}"
        yield " *"
        yield from (f" * {line}".rstrip() for line in self._layer_table())
        yield " *"
        yield from (f" * {line}" for line in self._ram())
        yield " *"
        yield " * In exactly one C file:"
        yield f" *     #define {self.macro}_IMPLEMENTATION"
        yield f' *     #include "{comment(self.file)}"'
        yield f" * and wherever it is used: ep_init(&ep, &{self.name}, arena, sizeof arena). See edgeprop.h. */"

    def _port(self, port: Port) -> str:
        tensor = self.program.tensors[port.tensor]
        text = f"{comment(port.name)}: {_TYPE_NAMES[tensor.dtype]} {_shape(tensor)}"
        if len(tensor.shape) in _AXES:
            text += f" {_AXES[len(tensor.shape)]}"
        if tensor.scale:
            text += f"; real value = {number(tensor.scale)[:-1]} * (code - {tensor.zero_point})".replace("- -", "+ ")
        return text

    def _layer_table(self) -> Iterator[str]:
        head = ("layer", "type", "output", "learns", "flash B", "MACs")
        found = layers(self.program)
        tables_flash, macs = table_bytes(self.program), sum(layer.macs for layer in found)
        flash = tables_flash + sum(layer.flash for layer in found)
        body = [_layer_cells(layer) for layer in found]
        total = [("tables", "", "", "", f"{tables_flash:,}", ""), ("total", "", "", "", f"{flash:,}", f"{macs:,}")]
        cells = [head, *body, *total]
        widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
        for row in cells:
            left = [text.ljust(width) for text, width in zip(row[:4], widths[:4], strict=True)]
            right = [text.rjust(width) for text, width in zip(row[4:], widths[4:], strict=True)]
            yield "  ".join([*left, *right])

    def _ram(self) -> Iterator[str]:
        wants = {f"{self.macro}_{what}": (size, why) for what, size, why in _arenas(self.program)}
        width, digits = max(map(len, wants)), max(len(f"{size:,}") for size, _ in wants.values())
        for macro, (size, why) in wants.items():
            yield f"{macro.ljust(width)}  {size:{digits},} B of RAM {why}"

    # ---- Declarations

    def _sizes(self) -> Iterator[str]:
        yield "/* Bytes of arena; elements of one sample; real value = SCALE * (code - ZERO_POINT). */"
        for what, size, _ in _arenas(self.program):
            if what == "TRAIN_ARENA":
                yield "#ifndef EP_NO_TRAIN"
            yield f"#define {self.macro}_{what} {size}u"
            if what == "SUMS_BYTES":
                yield "#endif"
        if self.rows.plan.param_bytes:
            yield f"#define {self.macro}_PARAM_COUNT {self.rows.plan.param_bytes // 4}u"
        for macro, function, count, what in _targets(self.program) if self.rows.train is not None else ():
            yield f"#define {self.macro}_{macro} {count} /* {function}() takes {what} */"
        for what, ports in (("INPUT", self.program.inputs), ("OUTPUT", self.program.outputs)):
            for i, port in enumerate(ports):
                prefix = f"{self.macro}_{what}" + (f"_{i}" if len(ports) > 1 else "")
                tensor = self.program.tensors[port.tensor]
                yield f"#define {prefix}_COUNT {tensor.count}u"
                if tensor.scale:
                    yield f"#define {prefix}_SCALE {number(tensor.scale)}"
                    yield f"#define {prefix}_ZERO_POINT {_signed(tensor.zero_point)}"
        yield ""

    def _labels(self) -> Iterator[str]:
        labels = self.program.labels
        if not labels:
            return
        prefix = f"{self.macro}_LABEL_"
        names = label_names([str(label) for label in labels])
        yield f"#define {self.macro}_LABELS {len(labels)}"
        yield f"enum {self.name}_label {{"
        for i, label in enumerate(labels):
            name = prefix + names[i]
            comma = "," if i < len(labels) - 1 else ""
            shown = "" if name == prefix + str(label).upper() else f" /* {comment(str(label))} */"
            yield f"    {name} = {i}{comma}{shown}"
        yield from ("};", "")

    # ---- Definitions

    def _implementation(self) -> Iterator[str]:
        yield f"#if defined({self.macro}_IMPLEMENTATION) && !defined({self.macro}_IMPLEMENTED)"
        yield f"#define {self.macro}_IMPLEMENTED"
        yield "#ifdef __cplusplus"
        yield f'#error "Define {self.macro}_IMPLEMENTATION in a C file: C++ has no such initializers."'
        yield from ("#endif", "")
        for row in self.rows.tensors:
            if not row.tensor.is_activation:
                yield from self._array(row.tensor)
        yield from self._tensor_table()
        yield from self._attribute_structs()
        yield from self._io()
        yield from self._nodes()
        yield from self._train()
        yield from self._model()
        yield from ("", f"#endif /* {self.macro}_IMPLEMENTATION */")

    def _array(self, tensor: Tensor) -> Iterator[str]:
        data = values(tensor)
        low, high = (f"{v:.4g}" if tensor.dtype == "f32" else str(v) for v in (data.min(), data.max()))
        learns = "; learns" if tensor.trainable else ""
        yield f"/* {comment(self.captions[tensor.name])}; {low} .. {high}{learns} */"
        yield f"static EP_ALIGNED const {_C_TYPES[tensor.dtype]} {self.arrays[tensor.name]}[{tensor.count}] = {{"
        yield from rows(data)
        yield from ("};", "")

    def _tensor_table(self) -> Iterator[str]:
        yield "/* All values: activations, constants, weights. `offset` is in the arena, or among the weights. */"
        yield f"static const ep_tensor {self.name}_tensors[{len(self.rows.tensors)}] = {{"
        for i, row in enumerate(self.rows.tensors):
            yield f"    /* {i}: {comment(row.tensor.name)} {_shape(row.tensor)} */"
            yield from _struct(self._tensor_fields(row))
        yield from ("};", "")

    def _tensor_fields(self, row: TensorRow) -> dict[str, str]:
        fields = {"data": self.arrays.get(row.tensor.name, ""), "count": str(row.count), "offset": _offset(row.offset)}
        if row.scale:
            fields |= {"scale": number(row.scale), "zero_point": str(row.zero_point)}
        return fields | {"dtype": _DTYPES[row.tensor.dtype], "flags": _FLAGS[row.flags]}

    def _attribute_structs(self) -> Iterator[str]:
        for node, symbol in zip(self.rows.nodes, self.attributes, strict=True):
            yield f"static const {traits(node.op).attr} {symbol} = {{"
            names = node.words.dtype.names or ()
            yield from wrap([f".{name} = {_word(node.words[name])}" for name in names], end=",")
            yield "};"
        yield ""

    def _io(self) -> Iterator[str]:
        yield "/* Inputs, then outputs of each node, as indices of tensors. */"
        yield f"static const uint16_t {self.name}_io[{sum(len(node.io) for node in self.rows.nodes)}] = {{"
        for node in self.rows.nodes:
            activations = [name for name in node.op.inputs if self.program.tensors[name].is_activation]
            flow = f"{', '.join(map(_short, activations))} -> {', '.join(map(_short, node.op.outputs))}"
            yield f"    {', '.join(map(str, node.io))}, /* {comment(flow)} */"
        yield from ("};", "")

    def _nodes(self) -> Iterator[str]:
        yield "/* What runs, in this order. */"
        yield f"static const ep_node {self.name}_nodes[{len(self.rows.nodes)}] = {{"
        at = 0
        for i, (node, symbol) in enumerate(zip(self.rows.nodes, self.attributes, strict=True)):
            yield f"    /* {i}: {comment(node.op.name)} */"
            yield from _struct(self._node_fields(node, symbol, at))
            at += len(node.io)
        yield from ("};", "")

    def _node_fields(self, node: NodeRow, symbol: str, io_at: int) -> dict[str, str]:
        return {
            "op": f"&ep_{node.op.kind}",
            "grad": f"EP_GRAD({_gradient(node)})" if node.has_grad else "",
            "attr": f"&{symbol}",
            "io": f"{self.name}_io + {io_at}",
            "n_in": str(len(node.op.inputs)),
            "n_out": str(len(node.op.outputs)),
            "accumulate": str(node.accumulate) if node.accumulate else "",
        }

    def _train(self) -> Iterator[str]:
        train, plan = self.rows.train, self.rows.plan
        if train is None:
            return
        yield "#ifndef EP_NO_TRAIN"
        tables_of = {"train_offset": ("each tensor", train.offset), "grad_offset": ("its gradient", train.grad_offset)}
        for part, (what, offsets) in tables_of.items():
            yield f"/* Place of {what} while learning, bytes of one sample. */"
            yield f"static const uint32_t {self.name}_{part}[{len(offsets)}] = {{"
            yield from wrap([_offset(offset) for offset in offsets])
            yield "};"
        yield f"static const ep_train {self.name}_train = {{"
        yield f"    .offset = {self.name}_train_offset, .grad_offset = {self.name}_grad_offset,"
        yield f"    .bytes = {plan.train_bytes}, .scratch_bytes = {plan.train_scratch_bytes},"
        yield f"    .first_node = {plan.first_op}, .end_node = {plan.end_op}, .logits = {train.logits},"
        yield f"    .loss = &ep_{self.program.loss},"
        yield from ("};", "#endif", "")

    def _model(self) -> Iterator[str]:
        plan, name = self.rows.plan, self.name
        for part, indices in (("inputs", self.rows.inputs), ("outputs", self.rows.outputs)):
            yield f"static const uint16_t {name}_{part}[{len(indices)}] = {{{', '.join(map(str, indices))}}};"
        if self.rows.states:
            yield "/* States, each with the value that takes its place after a run. */"
            pairs = [str(index) for pair in self.rows.states for index in pair]
            yield f"static const uint16_t {name}_states[{len(pairs)}] = {{{', '.join(pairs)}}};"
        if self.program.labels:
            yield f"const char *const {name}_label_names[{self.macro}_LABELS] = {{"
            yield from wrap([string(str(label)) for label in self.program.labels])
            yield "};"
        first, second = self.rows.fingerprint()
        yield f"const ep_model {name} = {{"
        yield f"    .abi = EP_ABI, .fingerprint = {{0x{first:08X}u, 0x{second:08X}u}},"
        yield f"    .name = {string(self.program.name)},"
        yield f"    .tensors = {name}_tensors, .nodes = {name}_nodes,"
        yield f"    .inputs = {name}_inputs, .outputs = {name}_outputs,"
        yield f"    .n_tensors = {len(self.rows.tensors)}, .n_nodes = {len(self.rows.nodes)},"
        yield f"    .n_inputs = {len(self.rows.inputs)}, .n_outputs = {len(self.rows.outputs)},"
        if self.rows.states:
            yield f"    .states = {name}_states, .n_states = {len(self.rows.states)},"
        yield f"    .infer_bytes = {plan.infer_bytes}, .scratch_bytes = {plan.scratch_bytes},"
        yield f"    .param_bytes = {plan.param_bytes},"
        if self.rows.train is not None:
            yield from ("#ifndef EP_NO_TRAIN", f"    .train = &{name}_train,", "#endif")
        yield "};"


# ---- Pieces


def _targets(program: Program) -> Iterator[tuple[str, str, int, str]]:
    """(end of the macro, function, classes or values of a sample, what it takes) of each way to give a target."""
    count = program.tensors[program.logits or ""].count
    loss = program.loss or ""
    if loss in runtime.LABEL_LOSSES:
        yield "LEARN_LABELS", "ep_learn_label", count, f"a label, 0 .. {count - 1}"
        return
    bounded = runtime.VALUE_RANGES[loss] == (0, 1)
    if bounded and count == 1:
        yield "LEARN_LABELS", "ep_learn_label", 2, "a label, 0 or 1"
    values = "a float" if count == 1 else f"{count} floats"
    yield "LEARN_VALUES", "ep_learn", count, f"{values}, {'0 .. 1' if bounded else 'any that are finite'}"


def _arenas(program: Program) -> Iterator[tuple[str, int, str]]:
    """(end of the macro, bytes, what for)."""
    yield "INFER_ARENA", infer_arena(program), "for inference"
    if not program.trainable():
        return
    yield "RESTORE_ARENA", restore_arena(program), "for inference with weights that ep_restore() brings back"
    yield "TRAIN_ARENA", train_arena(program), "for learning, one sample at a time, SGD"
    yield "TRAIN_ARENA_MOMENTUM", train_arena(program, optimizer="momentum"), "the same with momentum"
    yield "TRAIN_ARENA_ADAM", train_arena(program, optimizer="adam"), "the same with Adam"
    yield "SUMS_BYTES", sums_bytes(program), "more for mini-batches (gradient sums)"


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})"


def _short(name: str) -> str:
    """The end of a long name, which in ONNX graphs is what tells it from others."""
    return name if len(name) <= _LONGEST_NAME else "..." + name[3 - _LONGEST_NAME :]


def _layer_cells(layer: Layer) -> tuple[str, ...]:
    learns = "" if not layer.trainable else f"{layer.trainable:,}"
    output = shape_text(layer.shape)
    return (comment(_short(layer.name)), layer.kind, output, learns, f"{layer.flash:,}", f"{layer.macs:,}")


def _signed(value: int) -> str:
    return f"({value})" if value < 0 else str(value)


def _offset(offset: int) -> str:
    return "EP_NONE" if offset == NONE else str(offset)


def _word(value: np.ndarray) -> str:
    """An attribute: an integer, a float, or an array of integers."""
    if value.ndim:
        return f"{{{', '.join(str(v) for v in value.tolist())}}}"
    return number(float(value)) if value.dtype.kind == "f" else str(int(value))


def _gradient(node: NodeRow) -> str:
    """The backward by name: that of dense layers of one row is smaller."""
    kind = node.op.kind
    return "dense_row_f32" if kind == "dense_f32" and int(node.words["rows"]) == 1 else kind


def _struct(fields: dict[str, str]) -> Iterator[str]:
    """`{.field = value, ...},` of the fields that have a value."""
    items = [f".{name} = {value}" for name, value in fields.items() if value]
    yield from wrap(["{" + items[0], *items[1:-1], items[-1] + "}"], end=",")
