"""Builds model images from docs/format.md alone, without the exporter: small nets for tests of the runtime and its
binding, with a plan in which nothing shares memory."""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprop import runtime

NONE = 0xFFFFFFFF
HEADER = struct.Struct("<4sHHII2I13I2H4I")
CODES = {"f4": 1, "i1": 2, "i4": 3, "u1": 4}
CONST, PARAM = 1, 2
SCRATCH = 4096  # bytes; more than any op of these nets asks for
INF = float("inf")


def align(size: int) -> int:
    return -(-size // 16) * 16


@dataclass
class Tensor:
    """A value; `shape` in the device's layout, without the batch for an activation (`data` None)."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "f4"
    data: NDArray[Any] | None = None
    trainable: bool = False
    scale: float = 0.0
    zero_point: int = 0

    @property
    def count(self) -> int:
        return int(np.prod(self.shape))

    @property
    def nbytes(self) -> int:
        return self.count * np.dtype(self.dtype).itemsize


@dataclass
class Node:
    """An op by name; `inputs`, `outputs`: names of tensors."""

    op: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, Any]
    name: str = ""


@dataclass
class Net:
    """What an image holds. `ports`: (tensor, ONNX shape with the batch, perm) of inputs and outputs."""

    name: str = "net"
    tensors: dict[str, Tensor] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    inputs: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    outputs: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    loss: str | None = None
    logits: str = ""
    labels: list[str] = field(default_factory=list)

    def add(self, tensor: Tensor) -> str:
        self.tensors[tensor.name] = tensor
        return tensor.name

    def dense(
        self,
        name: str,
        x: str,
        weight: NDArray[Any],
        bias: NDArray[Any],
        trainable: bool = False,
        lo: float = -INF,
        hi: float = INF,
    ) -> str:
        """y = clip(x weight^T + bias); weight (n_out, n_in), bias (n_out,)."""
        self.add(Tensor(f"{name}.weight", weight.shape, "f4", weight.astype("f4"), trainable))
        self.add(Tensor(f"{name}.bias", bias.shape, "f4", bias.astype("f4"), trainable))
        attrs = {"n_in": weight.shape[1], "n_out": weight.shape[0], "rows": 1, "lo": lo, "hi": hi}
        y = self.add(Tensor(name, (weight.shape[0],)))
        self.nodes.append(Node("dense_f32", [x, f"{name}.weight", f"{name}.bias"], [y], attrs, name))
        return y

    def unary(self, op: str, x: str, name: str, **attrs: Any) -> str:
        """An element-wise op, or one over the last axis."""
        source = self.tensors[x]
        y = self.add(Tensor(name, source.shape, source.dtype))
        self.nodes.append(Node(op, [x], [y], attrs, name))
        return y


class Plan:
    """Places: activations one after the other, then their gradients."""

    def __init__(self, net: Net) -> None:
        tensors = list(net.tensors.values())
        self.index = {tensor.name: i for i, tensor in enumerate(tensors)}
        self.infer = [NONE] * len(tensors)
        self.grad = [NONE] * len(tensors)
        at = params = 0
        for i, tensor in enumerate(tensors):
            if tensor.data is None:
                self.infer[i], at = at, at + align(tensor.nbytes)
            elif tensor.trainable:
                self.infer[i], params = params, params + tensor.nbytes
        self.infer_bytes, self.param_bytes = at, params
        trains = [any(net.tensors[name].trainable for name in node.inputs) for node in net.nodes]
        self.first = trains.index(True) if True in trains else 0
        self.end = next((i + 1 for i, node in enumerate(net.nodes) if net.logits in node.outputs), 0)
        for node in net.nodes[self.first : self.end] if net.loss else []:
            wanted = [name for name in node.inputs if self._wants(net, name)] + node.outputs
            for name in wanted:
                if self.grad[self.index[name]] == NONE:
                    self.grad[self.index[name]], at = at, at + align(4 * net.tensors[name].count)
        self.train_bytes = at

    def _wants(self, net: Net, name: str) -> bool:
        """A gradient is wanted where an earlier node trains behind it."""
        produced = {output for node in net.nodes[self.first : self.end] for output in node.outputs}
        return net.tensors[name].data is None and name in produced

    def accumulates(self, net: Net, index: int) -> int:
        """Bits of the inputs whose gradient a later consumer has already written."""
        node, later = net.nodes[index], net.nodes[index + 1 : self.end]
        return sum(1 << i for i, name in enumerate(node.inputs) if any(name in other.inputs for other in later))


def image(net: Net) -> bytes:
    """The image, byte by byte as docs/format.md says."""
    plan = Plan(net)
    data, places = _data(net)
    nodes, io, words = _nodes(net, plan)
    sections = [_tensors(net, plan, places), nodes, struct.pack(f"<{len(io)}H", *io), words]
    if net.loss:
        offsets = [
            NONE if tensor.data is not None else place
            for tensor, place in zip(net.tensors.values(), plan.infer, strict=True)
        ]
        sections.append(struct.pack(f"<{2 * len(offsets)}I", *offsets, *plan.grad))
    sections.append(data)
    fingerprint = struct.unpack("<2I", hashlib.sha256(b"".join(map(_padded, sections))).digest()[:8])
    name, meta = net.name.encode() + b"\0", json.dumps(_meta(net)).encode()
    body = b"".join(_padded(section) for section in [*sections, name]) + meta
    counts = (len(net.tensors), len(net.nodes), len(io), len(words) // 4, len(net.inputs), len(net.outputs))
    train = (runtime.LOSSES[net.loss], plan.train_bytes, SCRATCH) if net.loss else (0, 0, 0)
    ends = (plan.first, plan.end, plan.index[net.logits]) if net.loss else (0, 0, 0)
    sizes = (plan.infer_bytes, SCRATCH, plan.param_bytes, len(data))
    kind, rest = (b"EPM1", 1, runtime.ABI, 96 + len(body), 0), (len(name), len(meta), 0)
    header = HEADER.pack(*kind, *fingerprint, *counts, *sizes, *train, *ends, *rest)
    return reseal(header + body)


def reseal(data: bytes) -> bytes:
    """The same bytes with a checksum that fits them."""
    return data[:12] + struct.pack("<I", zlib.crc32(data[16:])) + data[16:]


def _padded(section: bytes) -> bytes:
    return section + bytes(align(len(section)) - len(section))


def _data(net: Net) -> tuple[bytes, list[int]]:
    data, places = b"", []
    for tensor in net.tensors.values():
        places.append(NONE if tensor.data is None else len(data))
        if tensor.data is not None:
            data += _padded(np.ascontiguousarray(tensor.data, np.dtype(tensor.dtype).newbyteorder("<")).tobytes())
    return data, places


def _tensors(net: Net, plan: Plan, places: Sequence[int]) -> bytes:
    rows = b""
    for tensor, place, offset in zip(net.tensors.values(), places, plan.infer, strict=True):
        flags = PARAM if tensor.trainable else CONST if tensor.data is not None else 0
        row = (place, tensor.count, offset, tensor.scale, tensor.zero_point, CODES[tensor.dtype], flags, 0)
        rows += struct.pack("<IIIfhBBI", *row)
    return rows


def _nodes(net: Net, plan: Plan) -> tuple[bytes, list[int], bytes]:
    """Nodes section, io entries, attribute words."""
    rows, io, words = b"", [], b""
    for i, node in enumerate(net.nodes):
        info = runtime.OPS[node.op]
        dtype = np.dtype(list(info.attr)).newbyteorder("<")
        attr = np.array([tuple(node.attrs.get(name, 0) for name, _ in info.attr)], dtype).tobytes()
        backward = bool(net.loss) and plan.first <= i < plan.end
        accumulate = plan.accumulates(net, i) if backward else 0
        counts = (len(node.inputs), len(node.outputs), backward, accumulate, len(attr) // 4)
        rows += struct.pack("<HBBBBHIII", info.code, *counts, len(io), len(words) // 4, 0)
        io += [plan.index[name] for name in node.inputs + node.outputs]
        words += attr
    io += [plan.index[name] for name, _, _ in net.inputs + net.outputs]
    return rows, io, words


def _meta(net: Net) -> dict[str, Any]:
    def port(name: str, shape: tuple[int, ...], perm: tuple[int, ...]) -> dict[str, Any]:
        tensor = net.tensors[name]
        kinds = {"f4": "f32", "i1": "i8", "i4": "i32", "u1": "u8"}
        row = {"name": name, "dtype": kinds[tensor.dtype], "shape": shape, "perm": perm}
        return {**row, "scale": tensor.scale, "zero_point": tensor.zero_point}

    return {
        "inputs": [port(*row) for row in net.inputs],
        "outputs": [port(*row) for row in net.outputs],
        "labels": net.labels,
        "loss": net.loss,
        "nodes": [node.name for node in net.nodes],
        "tensors": [{"name": tensor.name, "shape": tensor.shape} for tensor in net.tensors.values()],
        "source": "tests",
        "source_hash": "",
    }


def mlp(
    sizes: Sequence[int] = (6, 8, 4),
    trainable: int = 1,
    loss: str | None = "softmax_cross_entropy",
    labels: Sequence[str] = (),
    softmax: bool = False,
    seed: int = 0,
    name: str = "mlp",
) -> Net:
    """A dense net with ReLU between the layers `fc0`, `fc1`, ..., of which the last `trainable` learn."""
    random = np.random.default_rng(seed)
    net = Net(name=name, labels=list(labels))
    net.add(Tensor("x", (sizes[0],)))
    y, layers = "x", len(sizes) - 1
    for i in range(layers):
        weight = random.normal(0, sizes[i] ** -0.5, (sizes[i + 1], sizes[i])).astype("f4")
        bias = random.normal(0, 0.1, sizes[i + 1]).astype("f4")
        lo = 0 if i < layers - 1 else -INF
        y = net.dense(f"fc{i}", y, weight, bias, trainable=i >= layers - trainable, lo=lo)
    if trainable:
        net.loss, net.logits = loss, y
    if softmax:
        y = net.unary("softmax_f32", y, "probabilities", rows=1, channels=sizes[-1])
    net.inputs = [("x", (0, sizes[0]), (0, 1))]
    net.outputs = [(y, (0, sizes[-1]), (0, 1))]
    return net
