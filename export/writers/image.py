"""Write the model image (`.ep`): a Program as bytes that the runtime uses where they lie. docs/format.md has every byte."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from typing import Any

import numpy as np

from ... import Error, Model, runtime
from ..program.program import DTYPES, NONE, Op, Plan, Port, Program, State, Tensor
from ..program.tables import DTYPE_CODES, NODE, PARAM, TENSOR, Tables, padded, sections, tables

MAGIC, VERSION = b"EPM1", 1
HEADER = np.dtype(
    [
        ("magic", "S4"),
        ("version", "<u2"),
        ("abi", "<u2"),
        ("size", "<u4"),
        ("crc", "<u4"),
        ("fingerprint", "<u4", 2),
        ("n_tensors", "<u4"),
        ("n_nodes", "<u4"),
        ("n_io", "<u4"),
        ("n_words", "<u4"),
        ("n_inputs", "<u4"),
        ("n_outputs", "<u4"),
        ("infer_bytes", "<u4"),
        ("scratch_bytes", "<u4"),
        ("param_bytes", "<u4"),
        ("data_bytes", "<u4"),
        ("loss", "<u4"),
        ("train_bytes", "<u4"),
        ("train_scratch_bytes", "<u4"),
        ("first_node", "<u2"),
        ("end_node", "<u2"),
        ("logits", "<u4"),
        ("name_bytes", "<u4"),
        ("meta_bytes", "<u4"),
        ("n_states", "<u4"),
    ]
)
_CRC_FROM = 16  # the checksum is over all bytes from here on


class ImageError(ValueError):
    """Bytes that are not a whole model image of this version."""


def to_image(program: Program) -> bytes:
    """The image of a program, planned first if it has no plan yet. The same program gives the same bytes.

    Raises
    ------
    ValueError : see `tables.tables`
    """
    rows = tables(program)
    name = program.name.encode("utf-8", "replace") + b"\0"
    meta = json.dumps(_meta(program, rows), sort_keys=True, separators=(",", ":")).encode()
    body = b"".join(sections(rows)) + padded(name) + meta
    header = np.zeros((), HEADER)
    for field, value in _header(program, rows).items():
        header[field] = value
    header["name_bytes"], header["meta_bytes"] = len(name), len(meta)
    header["size"] = HEADER.itemsize + len(body)
    header["crc"] = zlib.crc32(header.tobytes()[_CRC_FROM:] + body)
    return header.tobytes() + body


def refusal(program: Program, image: bytes) -> str | None:
    """Why the runtime does not load the image of a program: the node it stops at, and the cure. None: it loads."""
    error = runtime.load_error(image)
    if error is None:
        return _misdescribed(image)
    for op in program.ops:
        if runtime.load_error(to_image(_alone(program, op))) is not None:
            sizes = ", ".join(f"{name} {value}" for name, value in op.attrs.items() if isinstance(value, int))
            cure = "make it smaller, or of plainer geometry; if it is quantized, keep it in float32 (keep_float)"
            return f"node '{op.name}': the runtime refuses it as {op.kind} ({sizes}): {cure}"
    return f"the runtime does not load this model ({error}): give it fewer or smaller layers"


def _misdescribed(image: bytes) -> str | None:
    """Why Python does not take what an image says of its tensors, nodes and labels; None: it does."""
    try:
        Model(image, max_memory=None)
    except Error as error:
        return f"the names, labels or shapes of this model do not fit an image: {error}"
    return None


def _alone(program: Program, op: Op) -> Program:
    """A program of one op, that does not learn."""
    tensors = {name: replace(program.tensors[name], trainable=False) for name in [*op.inputs, *op.outputs]}
    ports = {name: Port(name, name, tensor.shape, ()) for name, tensor in tensors.items() if tensor.is_activation}
    inputs = [ports[name] for name in dict.fromkeys(op.inputs) if name in ports]
    return Program(program.name, [op], tensors, inputs, [ports[name] for name in op.outputs])


def _header(program: Program, rows: Tables) -> dict[str, Any]:
    arena = rows.plan
    fields: dict[str, Any] = {
        "magic": MAGIC,
        "version": VERSION,
        "abi": runtime.ABI,
        "fingerprint": rows.fingerprint(),
        "n_tensors": len(rows.tensors),
        "n_nodes": len(rows.nodes),
        "n_io": len(rows.io),
        "n_words": sum(node.words.nbytes for node in rows.nodes) // 4,
        "n_inputs": len(rows.inputs),
        "n_outputs": len(rows.outputs),
        "infer_bytes": arena.infer_bytes,
        "scratch_bytes": arena.scratch_bytes,
        "param_bytes": arena.param_bytes,
        "data_bytes": rows.data_bytes,
        "n_states": len(rows.states),
    }
    if rows.train is not None:
        fields |= {
            "loss": runtime.LOSSES[program.loss or ""],
            "train_bytes": arena.train_bytes,
            "train_scratch_bytes": arena.train_scratch_bytes,
            "first_node": arena.first_op,
            "end_node": arena.end_op,
            "logits": rows.train.logits,
        }
    return fields


def _meta(program: Program, rows: Tables) -> dict[str, Any]:
    return {
        "inputs": [_port(program, port) for port in program.inputs],
        "outputs": [_port(program, port) for port in program.outputs],
        "labels": [str(label) for label in program.labels],
        "loss": program.loss,
        "nodes": [op.name for op in program.ops],
        **({"states": [[s.name, s.next_name] for s in program.states]} if program.states else {}),
        "tensors": [{"name": t.name, "shape": list(t.shape)} for t in program.tensors.values()],
        "source": program.source,
        "source_hash": program.source_hash,
    }


def _port(program: Program, port: Port) -> dict[str, Any]:
    tensor = program.tensors[port.tensor]
    return {
        "name": port.name,
        "dtype": tensor.dtype,
        "shape": list(port.shape),
        "perm": list(port.perm),
        "scale": float(np.float32(tensor.scale)),
        "zero_point": tensor.zero_point,
    }


# ---- Reading


def read_image(image: bytes) -> Program:
    """The program in an image, with its plan: what `to_image` was given.

    For desktop tools; the device loads images in C, and trusts them less.

    Raises
    ------
    ImageError : no image, of another version, cut off or damaged
    """
    header = _read_header(image)
    parts = _split(header, image)
    meta = json.loads(parts["meta"])
    tensor_rows = np.frombuffer(parts["tensors"], TENSOR)
    names = [str(tensor["name"]) for tensor in meta["tensors"]]
    shapes = [tuple(int(size) for size in tensor["shape"]) for tensor in meta["tensors"]]
    tensors = {
        name: _read_tensor(row, name, shape, parts["data"])
        for row, name, shape in zip(tensor_rows, names, shapes, strict=True)
    }
    nodes = np.frombuffer(parts["nodes"], NODE)
    io = [names[i] for i in np.frombuffer(parts["io"], "<u2")]
    ends = len(io) - int(header["n_outputs"])
    learns = bool(header["loss"])
    pairs = io[ends - int(header["n_inputs"]) - 2 * int(header["n_states"]) : ends - int(header["n_inputs"])]
    return Program(
        name=parts["name"].rstrip(b"\0").decode("utf-8"),
        ops=[_read_op(row, name, io, parts["words"]) for row, name in zip(nodes, meta["nodes"], strict=True)],
        tensors=tensors,
        inputs=_read_ports(meta["inputs"], io[ends - int(header["n_inputs"]) : ends]),
        outputs=_read_ports(meta["outputs"], io[ends:]),
        loss=meta["loss"],
        logits=names[int(header["logits"])] if learns else None,
        labels=meta["labels"],
        source=meta["source"],
        source_hash=meta["source_hash"],
        plan=_read_plan(header, tensor_rows, nodes, names, parts["train"]),
        states=[
            State(str(name), str(following), *pairs[2 * i : 2 * i + 2])
            for i, (name, following) in enumerate(meta.get("states", []))
        ],
    )


def _read_header(image: bytes) -> np.void:
    if len(image) < HEADER.itemsize or image[:4] != MAGIC:
        raise ImageError("these bytes are not a model image")
    header: np.void = np.frombuffer(image, HEADER, 1)[0]
    if header["version"] != VERSION or header["abi"] != runtime.ABI:
        raise ImageError(
            f"the image is of format {header['version']}, for runtime ABI {header['abi']}: export it again"
        )
    if header["size"] != len(image):
        raise ImageError(f"the image has {len(image)} of its {header['size']} bytes")
    if zlib.crc32(image[_CRC_FROM:]) != header["crc"]:
        raise ImageError("bytes of the image have changed since it was written: its checksum does not match")
    return header


def _split(header: np.void, image: bytes) -> dict[str, bytes]:
    """Sections by name, without their padding."""
    count = {
        field: int(header[field]) for field in HEADER.names or () if field.startswith(("n_", "data_", "name_", "meta_"))
    }
    sizes = {
        "tensors": TENSOR.itemsize * count["n_tensors"],
        "nodes": NODE.itemsize * count["n_nodes"],
        "io": 2 * count["n_io"],
        "words": 4 * count["n_words"],
        "train": 8 * count["n_tensors"] if header["loss"] else 0,
        "data": count["data_bytes"],
        "name": count["name_bytes"],
        "meta": count["meta_bytes"],
    }
    parts, at = {}, HEADER.itemsize
    for name, size in sizes.items():
        parts[name] = image[at : at + size]
        at += size + -size % runtime.ALIGN
    return parts


def _read_tensor(row: np.void, name: str, shape: tuple[int, ...], data: bytes) -> Tensor:
    dtype = {code: key for key, code in DTYPE_CODES.items()}[int(row["dtype"])]
    values = None
    if row["data_at"] != NONE:
        values = np.frombuffer(data, DTYPES[dtype], int(row["count"]), int(row["data_at"])).reshape(shape)
    trainable = bool(row["flags"] & PARAM)
    return Tensor(name, dtype, shape, values, float(row["scale"]), int(row["zero_point"]), trainable)


def _read_op(row: np.void, name: str, io: list[str], words: bytes) -> Op:
    kind, info = next((kind, info) for kind, info in runtime.OPS.items() if info.code == row["code"])
    at = int(row["io_at"])
    middle, end = at + int(row["n_in"]), at + int(row["n_in"]) + int(row["n_out"])
    struct = np.dtype([(field, word) for field, word in info.attr])
    values = np.frombuffer(words, struct, 1, 4 * int(row["word_at"]))[0]
    attrs = {field: values[field].tolist() for field, _ in info.attr}
    return Op(kind, str(name), io[at:middle], io[middle:end], attrs)


def _read_ports(rows: list[dict[str, Any]], names: list[str]) -> list[Port]:
    return [
        Port(row["name"], tensor, tuple(row["shape"]), tuple(row["perm"]))
        for row, tensor in zip(rows, names, strict=True)
    ]


def _read_plan(header: np.void, tensors: Any, nodes: Any, names: list[str], train: bytes) -> Plan:
    def places(offsets: Any, chosen: Any) -> dict[str, int]:
        return {names[i]: int(offsets[i]) for i in np.flatnonzero(chosen & (offsets != NONE))}

    offsets = np.frombuffer(train, "<u4").reshape(2, -1)
    everything = np.full(len(names), True)
    is_param = tensors["flags"] & PARAM != 0
    return Plan(
        infer_offsets=places(tensors["offset"], ~is_param),
        infer_bytes=int(header["infer_bytes"]),
        scratch_bytes=int(header["scratch_bytes"]),
        param_offsets=places(tensors["offset"], is_param),
        param_bytes=int(header["param_bytes"]),
        train_offsets=places(offsets[0], everything) if train else {},
        grad_offsets=places(offsets[1], everything) if train else {},
        accumulate={i: int(node["accumulate"]) for i, node in enumerate(nodes) if node["accumulate"]},
        train_bytes=int(header["train_bytes"]),
        train_scratch_bytes=int(header["train_scratch_bytes"]),
        first_op=int(header["first_node"]),
        end_op=int(header["end_node"]),
    )
