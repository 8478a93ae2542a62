"""Flatten a planned Program into the rows of the runtime's structs. The image and the header write the same rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import runtime
from ..errors import ExportError
from .packing import rounded
from .plan import plan
from .program import DTYPES, NONE, Op, Plan, Program, Tensor

CONST, PARAM, NARROW = 1, 2, 4  # EP_CONST, ...
DTYPE_CODES = {name: code for code, name in enumerate(DTYPES, start=1)}


@dataclass(frozen=True)
class TensorRow:
    """An `ep_tensor`. `data_at`: its place in the data section, or NONE."""

    tensor: Tensor
    data_at: int
    count: int
    offset: int
    scale: float
    zero_point: int
    dtype: int
    flags: int


@dataclass(frozen=True)
class NodeRow:
    """An `ep_node`. `words`: its attribute struct, a 0-d structured array; None without attributes."""

    op: Op
    code: int
    io: tuple[int, ...]
    has_grad: bool
    accumulate: int
    words: np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class TrainRow:
    """An `ep_train`: offsets are of every tensor, NONE where it has no place."""

    offset: tuple[int, ...]
    grad_offset: tuple[int, ...]
    logits: int


@dataclass(frozen=True)
class Tables:
    """All rows; `train` is None for a model without trainable weights."""

    plan: Plan
    tensors: list[TensorRow]
    nodes: list[NodeRow]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    train: TrainRow | None
    data_bytes: int
    states: tuple[tuple[int, int], ...] = ()

    @property
    def io(self) -> list[int]:
        """Tensor indices of all nodes, then of states and what follows them, of the inputs, of the outputs."""
        nodes = [index for node in self.nodes for index in node.io]
        return nodes + [index for pair in self.states for index in pair] + [*self.inputs, *self.outputs]

    def fingerprint(self) -> tuple[int, int]:
        """Of ops, shapes and exported weights: see docs/format.md."""
        digest = hashlib.sha256(b"".join(sections(self))).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def tables(program: Program) -> Tables:
    """Rows of a program, which is planned first if it has no plan yet.

    Raises
    ------
    ValueError : an op lacks an attribute or has one that its struct cannot hold, a tensor's values do not fit its
        shape or are not finite, or there is more of something than the runtime's structs can count
    """
    arena = program.plan or plan(program)
    index = {name: i for i, name in enumerate(program.tensors)}
    rows, data_bytes = [], 0
    for tensor in program.tensors.values():
        rows.append(_tensor_row(tensor, arena, data_bytes))
        data_bytes += 0 if tensor.is_activation else rounded(tensor.nbytes)
    nodes = [_node_row(program, i, index, arena) for i in range(len(program.ops))]
    result = Tables(
        arena,
        rows,
        nodes,
        tuple(index[port.tensor] for port in program.inputs),
        tuple(index[port.tensor] for port in program.outputs),
        _train_row(program, index, arena),
        data_bytes,
        tuple((index[state.tensor], index[state.next]) for state in program.states),
    )
    _check_counts(result)
    return result


def _tensor_row(tensor: Tensor, arena: Plan, data_at: int) -> TensorRow:
    scale, zero_point = float(np.float32(tensor.scale)), tensor.zero_point  # of a constant too: an operand of codes
    if tensor.is_activation:
        flags, offset, data_at = 0, arena.infer_offsets.get(tensor.name, NONE), NONE
    else:
        _check_values(tensor)
        flags = PARAM if tensor.trainable else CONST
        if tensor.dtype == "i8" and tensor.data is not None and tensor.data.min() > -128:
            flags |= NARROW
        offset = arena.param_offsets.get(tensor.name, NONE)
    if tensor.count < 1 or not -(1 << 15) <= zero_point < 1 << 15:
        raise ValueError(f"tensor '{tensor.name}': {tensor.count} elements, zero point {zero_point}")
    return TensorRow(tensor, data_at, tensor.count, offset, scale, zero_point, DTYPE_CODES[tensor.dtype], flags)


def _check_values(tensor: Tensor) -> None:
    assert tensor.data is not None
    if tensor.data.size != tensor.count or tensor.data.dtype != DTYPES[tensor.dtype]:
        found = f"{tensor.data.dtype} {tensor.data.shape}"
        raise ValueError(f"tensor '{tensor.name}' is {tensor.dtype} {tensor.shape}, but its values are {found}")
    if tensor.dtype == "f32" and not np.isfinite(tensor.data).all():
        raise ValueError(f"tensor '{tensor.name}' has values that are NaN or infinite")


def values(tensor: Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    """Values of a constant or weight, contiguous, in the tensor's shape."""
    assert tensor.data is not None
    return np.ascontiguousarray(tensor.data, DTYPES[tensor.dtype]).reshape(tensor.shape)


def _node_row(program: Program, at: int, index: dict[str, int], arena: Plan) -> NodeRow:
    op = program.ops[at]
    info = runtime.OPS[op.kind]
    on_path = not arena.grad_offsets.keys().isdisjoint(op.outputs)
    io = tuple(index[name] for name in [*op.inputs, *op.outputs])
    return NodeRow(op, info.code, io, on_path, arena.accumulate.get(at, 0), _attributes(op, info.attr))


def _attributes(op: Op, fields: tuple[tuple[str, str], ...]) -> np.ndarray[Any, np.dtype[Any]]:
    """The attribute struct, little-endian."""
    missing = [name for name, _ in fields if name not in op.attrs]
    unknown = op.attrs.keys() - {name for name, _ in fields}
    if missing or unknown:
        raise ValueError(
            f"op '{op.name}' ({op.kind}): lacks {missing}, and the runtime does not know {sorted(unknown)}"
        )
    words = np.zeros((), np.dtype([(name, _little_endian(word)) for name, word in fields]))
    for name, _ in fields:
        try:
            _check_range(words.dtype[name].base, op.attrs[name])
            words[name] = op.attrs[name]
        except (OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"op '{op.name}' ({op.kind}): {name} = {op.attrs[name]!r}: {error}") from error
    return words


def _check_range(dtype: np.dtype[Any], value: Any) -> None:
    """Raise OverflowError for an integer that the field does not hold: NumPy 1 would wrap it around."""
    if dtype.kind in "iu":
        given, limits = np.asarray(value), np.iinfo(dtype)
        if given.min() < limits.min or given.max() > limits.max:
            raise OverflowError(f"it does not fit into {dtype.itemsize * 8} bits")


def _little_endian(word: str) -> str:
    """`f4` to `<f4`, `6i4` to `6<i4`."""
    return f"{word[:-2]}<{word[-2:]}"


def _train_row(program: Program, index: dict[str, int], arena: Plan) -> TrainRow | None:
    if not arena.param_bytes:
        return None
    assert program.logits is not None
    return TrainRow(
        tuple(arena.train_offsets.get(name, NONE) for name in program.tensors),
        tuple(arena.grad_offsets.get(name, NONE) for name in program.tensors),
        index[program.logits],
    )


def _check_counts(rows: Tables) -> None:
    """Refuse what the runtime's fields do not hold, with the cure.

    Raises
    ------
    ExportError : it is more
    """
    fewer, nodes = "split the model", "simplify the model (onnxsim, onnxslim), or split it"
    limits = {
        "tensors": (len(rows.tensors), 0xFFFF, nodes),
        "ops": (len(rows.nodes), 0xFFFF, nodes),
        "inputs": (len(rows.inputs), 0xFFFF, fewer),
        "outputs": (len(rows.outputs), 0xFFFF, fewer),
        "states": (len(rows.states), 0xFFFF, fewer),
        "inputs of an op": (
            max((len(node.op.inputs) for node in rows.nodes), default=0),
            0xFF,
            "do it in several steps, each of at most 255 inputs",
        ),
        "bytes of weights": (
            rows.data_bytes,
            0x7FFFFFFF,
            "quantize the model (calibration), or make its layers smaller",
        ),
        "bytes of activations": (
            max(rows.plan.infer_bytes, rows.plan.train_bytes),
            0x7FFFFFFF,
            "quantize the model (calibration), or give it smaller inputs or fewer channels",
        ),
    }
    for what, (count, most, cure) in limits.items():
        if count > most:
            raise ExportError(f"the model has {count:,} {what}, and the runtime takes at most {most:,}: {cure}")


# ---- Sections of an image


TENSOR = np.dtype(
    [
        ("data_at", "<u4"),
        ("count", "<u4"),
        ("offset", "<u4"),
        ("scale", "<f4"),
        ("zero_point", "<i2"),
        ("dtype", "u1"),
        ("flags", "u1"),
        ("zero", "<u4"),
    ]
)
NODE = np.dtype(
    [
        ("code", "<u2"),
        ("n_in", "u1"),
        ("n_out", "u1"),
        ("has_grad", "u1"),
        ("accumulate", "u1"),
        ("n_words", "<u2"),
        ("io_at", "<u4"),
        ("word_at", "<u4"),
        ("zero", "<u4"),
    ]
)


def padded(section: bytes) -> bytes:
    """A section with zeros up to where the next one starts."""
    return section + bytes(-len(section) % runtime.ALIGN)


def sections(rows: Tables) -> list[bytes]:
    """Sections 1 to 6 of an image: tensors, nodes, io, attributes, training offsets, data; each padded."""
    train = [] if rows.train is None else [rows.train.offset, rows.train.grad_offset]
    data = [values(row.tensor).tobytes() for row in rows.tensors if not row.tensor.is_activation]
    parts = [
        _tensor_section(rows.tensors),
        _node_section(rows.nodes),
        np.array(rows.io, "<u2").tobytes(),
        b"".join(node.words.tobytes() for node in rows.nodes),
        np.array(train, "<u4").tobytes(),
        b"".join(padded(part) for part in data),
    ]
    return [padded(part) for part in parts]


def _tensor_section(tensors: list[TensorRow]) -> bytes:
    return np.array(
        [(r.data_at, r.count, r.offset, r.scale, r.zero_point, r.dtype, r.flags, 0) for r in tensors], TENSOR
    ).tobytes()


def _node_section(nodes: list[NodeRow]) -> bytes:
    section, io_at, word_at = [], 0, 0
    for node in nodes:
        n_words = node.words.nbytes // 4
        n_in, n_out = len(node.op.inputs), len(node.op.outputs)
        section.append((node.code, n_in, n_out, node.has_grad, node.accumulate, n_words, io_at, word_at, 0))
        io_at += len(node.io)
        word_at += n_words
    return np.array(section, NODE).tobytes()
