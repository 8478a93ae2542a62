"""A model image taken apart, by docs/format.md alone: each number of it can be changed, and the whole signed again."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeprop import runtime

NONE = 0xFFFFFFFF
OK, REFUSED = 0, -5  # EP_ERR_IMAGE
CONST, PARAM, NARROW = 1, 2, 4
F32, I8, I32, U8 = 1, 2, 3, 4

#: numbers of the header from byte 24 on; those of what is counted here are written anew
COUNTS = ("tensors", "nodes", "io", "words", "inputs", "outputs")
SIZES = ("infer_bytes", "scratch_bytes", "param_bytes", "data_bytes", "loss", "train_bytes", "train_scratch_bytes")
_TENSOR, _NODE = struct.Struct("<IIIfhBBI"), struct.Struct("<HBBBBHIII")
_KINDS = {info.code: name for name, info in runtime.OPS.items()}


def rounded(size: int) -> int:
    return -(-size // 16) * 16


def _padded(section: bytes) -> bytes:
    return section + bytes(rounded(len(section)) - len(section))


@dataclass
class TensorPart:
    place: int
    count: int
    offset: int
    scale: float
    zero_point: int
    dtype: int
    flags: int

    @property
    def nbytes(self) -> int:
        return self.count * (4 if self.dtype in (F32, I32) else 1)


@dataclass
class NodePart:
    """`attr`: the attribute struct, by field; `n_in` of the tensors in `io` are inputs."""

    kind: str
    n_in: int
    io: list[int]
    attr: dict[str, Any]
    grad: int = 0
    accumulate: int = 0

    def words(self) -> bytes:
        struct_ = np.dtype(list(runtime.OPS[self.kind].attr)).newbyteorder("<")
        return np.array([tuple(self.attr[name] for name in struct_.names or ())], struct_).tobytes()


@dataclass
class Parts:
    tensors: list[TensorPart] = field(default_factory=list)
    nodes: list[NodePart] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    states: list[int] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SIZES, 0))
    first: int = 0
    end: int = 0
    logits: int = 0
    offsets: list[int] = field(default_factory=list)
    gradients: list[int] = field(default_factory=list)
    data: bytes = b""

    def activations(self) -> list[int]:
        return [i for i, tensor in enumerate(self.tensors) if tensor.flags == 0]

    def fit(self) -> None:
        """Makes both plans end where what lies in them does."""

        def end(*places: int) -> int:
            ends = [
                at + rounded(self.tensors[i % len(self.tensors)].nbytes) for i, at in enumerate(places) if at != NONE
            ]
            return max(ends, default=0)

        self.sizes["infer_bytes"] = end(*(NONE if tensor.flags else tensor.offset for tensor in self.tensors))
        if self.sizes["loss"]:
            self.sizes["train_bytes"] = end(*self.offsets, *self.gradients)

    def emit(self) -> bytes:
        """The image, sections and checksum as they must be for these parts."""
        io, words, nodes = [], b"", b""
        for node in self.nodes:
            attr, counts = node.words(), (node.n_in, len(node.io) - node.n_in)
            nodes += _NODE.pack(
                runtime.OPS[node.kind].code,
                *counts,
                node.grad,
                node.accumulate,
                len(attr) // 4,
                len(io),
                len(words) // 4,
                0,
            )
            io += node.io
            words += attr
        io += [*self.states, *self.inputs, *self.outputs]
        rows = b"".join(_TENSOR.pack(*vars(tensor).values(), 0) for tensor in self.tensors)
        sections = [rows, nodes, struct.pack(f"<{len(io)}H", *io), words]
        if self.sizes["loss"]:
            sections.append(struct.pack(f"<{2 * len(self.tensors)}I", *self.offsets, *self.gradients))
        body = b"".join(_padded(section) for section in [*sections, self.data, b"net\0"])
        counts = (len(self.tensors), len(self.nodes), len(io), len(words) // 4, len(self.inputs), len(self.outputs))
        sizes = self.sizes | {"data_bytes": len(self.data)}
        head = struct.pack("<2I13I", 1, 2, *counts, *sizes.values())
        head += struct.pack("<2H4I", self.first, self.end, self.logits, 4, 0, len(self.states) // 2)
        signed = head + body
        start = struct.pack("<4sHHII", b"EPM1", 1, runtime.ABI, 16 + len(signed), zlib.crc32(signed))
        return start + signed


def take_apart(image: bytes) -> Parts:
    """The parts of an image."""
    numbers = struct.unpack_from("<13I", image, 24)
    count = dict(zip(COUNTS, numbers[:6], strict=True))
    sizes = dict(zip(SIZES, numbers[6:], strict=True))
    first, end, logits, _, _, states = struct.unpack_from("<2H4I", image, 76)
    at = 96

    def section(size: int) -> bytes:
        nonlocal at
        at += rounded(size)
        return image[at - rounded(size) :][:size]

    tensors = [TensorPart(*row[:7]) for row in _TENSOR.iter_unpack(section(24 * count["tensors"]))]
    rows = list(_NODE.iter_unpack(section(20 * count["nodes"])))
    io = list(struct.unpack(f"<{count['io']}H", section(2 * count["io"])))
    words = section(4 * count["words"])
    places = section(8 * count["tensors"]) if sizes["loss"] else b""
    offsets = list(struct.unpack(f"<{len(places) // 4}I", places))
    ends = [len(io) - count["outputs"] - count["inputs"] - 2 * states, 0, 0]
    ends[1], ends[2] = ends[0] + 2 * states, len(io) - count["outputs"]
    return Parts(
        tensors,
        [_node(row, io, words) for row in rows],
        io[ends[1] : ends[2]],
        io[ends[2] :],
        io[ends[0] : ends[1]],
        sizes,
        first,
        end,
        logits,
        offsets[: count["tensors"]],
        offsets[count["tensors"] :],
        section(sizes["data_bytes"]),
    )


def _node(row: tuple[int, ...], io: list[int], words: bytes) -> NodePart:
    code, n_in, n_out, grad, accumulate, _, io_at, word_at, _ = row
    kind = _KINDS[code]
    values = np.frombuffer(words, np.dtype(list(runtime.OPS[kind].attr)), 1, 4 * word_at)[0]
    attr = {name: values[name].tolist() for name in values.dtype.names or ()}
    return NodePart(kind, n_in, io[io_at : io_at + n_in + n_out], attr, grad, accumulate)


def pack(images: list[bytes]) -> bytes:
    """Images for tests/c/hostile.c."""
    return b"".join(struct.pack("=I", len(image)) + image for image in images)
