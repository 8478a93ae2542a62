"""A model image (.ep) in memory, loaded: the `ep_model` over it and what its meta section says. See docs/format.md."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._core import ffi, lib
from .errors import Error, check

#: NumPy's type of each device type
DTYPES: dict[int, np.dtype[Any]] = {
    lib.EP_F32: np.dtype("f4"),
    lib.EP_I8: np.dtype("i1"),
    lib.EP_I32: np.dtype("i4"),
    lib.EP_U8: np.dtype("u1"),
}

#: ops that turn logits into probabilities, and ops that only carry values on
_ENDINGS = {"softmax_f32": "softmax", "softmax_s8": "softmax", "sigmoid_f32": "sigmoid"}
_PASSES = {"quantize", "dequantize", "copy", "transpose"}

Bytes = bytes | bytearray | memoryview
Source = str | os.PathLike[str] | Bytes

_HEADER = np.dtype(
    [
        ("magic", "S4"),
        *((name, "<u2") for name in ("version", "abi")),
        *((name, "<u4") for name in ("size", "crc", "fingerprint0", "fingerprint1")),
        *((name, "<u4") for name in ("n_tensors", "n_nodes", "n_io", "n_words", "n_inputs", "n_outputs")),
        *((name, "<u4") for name in ("infer_bytes", "scratch_bytes", "param_bytes", "data_bytes")),
        *((name, "<u4") for name in ("loss", "train_bytes", "train_scratch_bytes")),
        *((name, "<u2") for name in ("first_node", "end_node")),
        *((name, "<u4") for name in ("logits", "name_bytes", "meta_bytes", "n_states")),
    ]
)


def aligned(size: int) -> NDArray[np.uint8]:
    """`size` bytes of memory on a cache line, which also satisfies EP_ALIGN."""
    line = 64
    memory = np.empty(size + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + size]


@dataclass(frozen=True)
class Port:
    """An input or output of the model.

    Attributes
    ----------
    name : as the ONNX graph has it
    shape : in the ONNX layout, batch axis first; 0 there: any number of samples
    dtype : NumPy's type of the device tensor
    scale, zero_point : of a quantized tensor, real = scale * (q - zero_point); scale is 0 where it is not quantized
    perm : device axes in terms of ONNX axes, batch included
    tensor : index of the device tensor
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int
    perm: tuple[int, ...]
    tensor: int

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Shape of one sample in the ONNX layout."""
        return self.shape[1:]

    def to_device(self, x: NDArray[Any]) -> NDArray[Any]:
        """(n, *sample_shape) in the ONNX layout to (n, count) in the device's, contiguous."""
        return np.ascontiguousarray(x.transpose(self.perm)).reshape(len(x), -1)

    def from_device(self, y: NDArray[Any]) -> NDArray[Any]:
        """(n, count) in the device's layout to (n, *sample_shape) in the ONNX layout."""
        shape = (len(y), *self.sample_shape)
        permuted = y.reshape([shape[axis] for axis in self.perm])
        return np.ascontiguousarray(permuted.transpose(np.argsort(self.perm)))

    def real(self, y: NDArray[Any]) -> NDArray[np.float32]:
        """Device values as real numbers, float32."""
        if not self.scale:
            return y.astype(np.float32, copy=False)
        offsets = y.astype(np.float32) - np.float32(self.zero_point)
        return np.asarray(offsets * np.float32(self.scale), np.float32)


class Image:
    """A loaded model. Immutable; any number of contexts in any number of threads may run it."""

    def __init__(self, source: Source) -> None:
        data = source if isinstance(source, Bytes) else _read(source)
        self.bytes = aligned(len(data))
        self.bytes[:] = np.frombuffer(data, np.uint8)
        self.model = ffi.new("ep_model *")
        self._memory = self._load()
        self._op_names = {_address(row.op): str(ffi.string(row.name).decode()) for row in _op_rows()}
        self.meta = self._meta()
        self.name: str = ffi.string(self.model.name).decode("utf-8", "replace")
        self.inputs = self._ports("inputs")
        self.outputs = self._ports("outputs")

    def _load(self) -> NDArray[np.uint8]:
        """Builds `self.model`; returns the memory of its tables, which must live as long."""
        image, size = ffi.from_buffer(self.bytes), len(self.bytes)
        need = check(lib.ep_load_size(image, size), "cannot load the model")
        memory = aligned(need)
        tables = ffi.from_buffer(memory)
        check(lib.ep_load(self.model, image, size, tables, need, lib.ep_py_registry), "cannot load the model")
        return memory

    def _meta(self) -> dict[str, Any]:
        """The meta section; empty where there is none. The C loader has checked the sizes that lead to it."""
        header = _header(self.bytes)
        sections = (
            _HEADER.itemsize,
            24 * header["n_tensors"],
            20 * header["n_nodes"],
            2 * header["n_io"],
            4 * header["n_words"],
            8 * header["n_tensors"] if header["loss"] else 0,
            header["data_bytes"],
            header["name_bytes"],
        )
        at, meta = sum(-(-size // 16) * 16 for size in sections), header["meta_bytes"]
        if not meta:
            return {}
        try:
            parsed = json.loads(self.bytes[at : at + meta].tobytes())
        except ValueError as error:
            raise Error("EP_ERR_IMAGE", f"the image's meta section is not JSON: {error}; export it again") from error
        if not isinstance(parsed, dict):
            raise Error("EP_ERR_IMAGE", "the image's meta section is not an object; export it again")
        return parsed

    def _ports(self, kind: str) -> tuple[Port, ...]:
        count, indices = getattr(self.model, f"n_{kind}"), getattr(self.model, kind)
        rows = self.meta.get(kind) or [{} for _ in range(count)]
        try:
            if len(rows) != count:
                raise ValueError(f"{len(rows)} rows for {count} {kind}")
            return tuple(self._port(f"{kind[:-1]}{i}", row, indices[i]) for i, row in enumerate(rows))
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise Error("EP_ERR_IMAGE", f"the image's meta section misdescribes its {kind}: {error}") from error

    def _port(self, default_name: str, row: dict[str, Any], index: int) -> Port:
        tensor = self.model.tensors[index]
        shape = tuple(int(size) for size in row.get("shape") or (0, tensor.count))
        perm = tuple(int(axis) for axis in row.get("perm") or range(len(shape)))
        if sorted(perm) != list(range(len(shape))) or perm[0] != 0 or math.prod(shape[1:]) != tensor.count:
            raise ValueError(f"shape {shape} and order {perm} of {tensor.count} elements")
        name, dtype = str(row.get("name", default_name)), DTYPES[tensor.dtype]
        return Port(name, shape, dtype, tensor.scale, tensor.zero_point, perm, index)

    @property
    def loss(self) -> str | None:
        """Name of the loss the model learns with; None: nothing to train."""
        if self.model.train == ffi.NULL:
            return None
        rows = (lib.ep_py_losses[i] for i in range(lib.ep_py_n_losses))
        return next(str(ffi.string(row.name).decode()) for row in rows if row.loss == self.model.train.loss)

    @property
    def takes_labels(self) -> bool:
        """True where the loss takes class labels."""
        return bool(self.model.train != ffi.NULL and self.model.train.loss.labels)

    @property
    def ending(self) -> str:
        """What the first output holds: `logits`, or what `softmax` or `sigmoid` made of them."""
        tensor, train = self.model.outputs[0], self.model.train
        for index in reversed(range(self.model.n_nodes)):
            node = self.model.nodes[index]
            if node.io[node.n_in] != tensor:
                continue
            name = self.op_name(index)
            if train != ffi.NULL and tensor == train.logits:
                return "logits"
            if name in _ENDINGS:
                return _ENDINGS[name]
            if name == "lut_s8" and self._in_unit(tensor):
                return "sigmoid"
            if name not in _PASSES:
                return "logits"
            tensor = node.io[0]
        return "logits"

    def _in_unit(self, index: int) -> bool:
        """True for a quantized tensor whose values lie in 0 .. 1, as the codes of a Sigmoid do."""
        tensor = self.model.tensors[index]
        return bool(tensor.zero_point == -128 and tensor.scale * 255 < 1.001)

    @property
    def fingerprint(self) -> str:
        """Of ops, shapes and exported weights, 16 hexadecimal digits as in the image's bytes."""
        return bytes(self.bytes[16:24]).hex()

    @property
    def labels(self) -> list[str]:
        """Names of the classes; empty for none."""
        return [str(label) for label in self.meta.get("labels") or []]

    def op_name(self, node: int) -> str:
        """Name of the op that node `node` runs."""
        return self._op_names[_address(self.model.nodes[node].op)]

    def node_name(self, node: int) -> str:
        """Name of the ONNX node it came from, or its number."""
        names = self.meta.get("nodes") or []
        return str(names[node]) if node < len(names) else f"node{node}"

    def tensor_name(self, index: int) -> str:
        """Name of a tensor, or its number."""
        rows = self.meta.get("tensors") or []
        return str(rows[index]["name"]) if index < len(rows) else f"tensor{index}"

    def tensor_shape(self, index: int) -> tuple[int, ...]:
        """Shape in the device's layout, of one sample for an activation."""
        count = self.model.tensors[index].count
        rows = self.meta.get("tensors") or []
        shape = tuple(int(size) for size in rows[index]["shape"]) if index < len(rows) else (count,)
        return shape if math.prod(shape) == count else (count,)

    def split(self, flat: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
        """Views of the trainable weights (n,) by tensor, each in its shape."""
        ends = np.cumsum([self.model.tensors[i].count for i in self.trainable()])
        parts = np.split(flat, ends[:-1])
        return {i: part.reshape(self.tensor_shape(i)) for i, part in zip(self.trainable(), parts, strict=False)}

    def trainable(self) -> list[int]:
        """Tensors that learn, in the runtime's order."""
        return [i for i in range(self.model.n_tensors) if self.model.tensors[i].flags & lib.EP_PARAM]

    def arena_size(self, batch: int, what: int, optimizer: Any) -> int:
        """Bytes; 0 if they would pass 2^31 or the model cannot do `what`."""
        return int(lib.ep_arena_size(self.model, batch, what, optimizer))


def _op_rows() -> list[Any]:
    return [lib.ep_py_ops[i] for i in range(lib.ep_py_n_ops)]


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _header(image: NDArray[np.uint8]) -> dict[str, int]:
    """The numbers of the header by name."""
    row = image[: _HEADER.itemsize].view(_HEADER)[0]
    return {name: int(row[name]) for name in _HEADER.names or () if name != "magic"}


def _read(path: str | os.PathLike[str]) -> bytes:
    with open(path, "rb") as file:
        return file.read()
