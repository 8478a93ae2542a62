"""Load a model image (.ep): the `ep_model` over it and what its meta section says. See docs/format.md."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _files, _meta
from ._core import ffi, lib
from ._meta import DTYPES, Port
from .errors import Error, check

__all__ = ["DTYPES", "Image", "Port", "Source", "aligned"]

#: ops that turn logits into probabilities, and ops that only carry values on
_ENDINGS = {
    "softmax_f32": "softmax",
    "softmax_s8": "softmax",
    "log_softmax_f32": "log_softmax",
    "sigmoid_f32": "sigmoid",
}
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


class Image:
    """A loaded model. Immutable; any number of contexts in any number of threads may run it.

    Parameters
    ----------
    source : path of an image, or its bytes
    max_memory : bytes that the image, and one sample on its way through the model, may take; None: no limit
    """

    def __init__(self, source: Source, max_memory: int | None = None) -> None:
        self.max_memory = max_memory
        self.bytes = _bytes(source, max_memory)
        self.model = ffi.new("ep_model *")
        self._memory = self._load()
        self._op_names = {_address(row.op): str(ffi.string(row.name).decode()) for row in _op_rows()}
        self.name: str = ffi.string(self.model.name).decode("utf-8", "replace")
        at, size = _meta_place(_header(self.bytes))
        self.meta = _meta.read(self.bytes[at : at + size].tobytes(), self.model)
        self.inputs, self.outputs = self.meta.inputs, self.meta.outputs
        self._check_loss()
        self.check_memory()

    def _load(self) -> NDArray[np.uint8]:
        """Builds `self.model`; returns the memory of its tables, which must live as long."""
        image, size = ffi.from_buffer(self.bytes), len(self.bytes)
        need = check(lib.ep_load_size(image, size), "cannot load the model")
        memory = aligned(need)
        tables = ffi.from_buffer(memory)
        check(lib.ep_load(self.model, image, size, tables, need, lib.ep_py_registry), "cannot load the model")
        return memory

    def _check_loss(self) -> None:
        """What is learned must be what is answered: targets and answers are counted by one of them."""
        if self.model.train == ffi.NULL:
            return
        learned, answered = (self.model.tensors[i].count for i in (self.model.train.logits, self.model.outputs[0]))
        if learned != answered:
            why = f"the loss of the image looks at {learned} values, its output has {answered}"
            raise Error("EP_ERR_IMAGE", f"{why}; export it again")

    def check_memory(self, what: int = 0, optimizer: Any = ffi.NULL) -> None:
        """Refuses a model of which one sample takes more than `max_memory`: a few hundred bytes of image may ask for
        gigabytes."""
        size = self.arena_size(1, what, optimizer)
        if size == 0 and what == 0:
            raise Error(
                "EP_ERR_ARENA", f"{self.name} takes more than 2 GiB of memory for one sample; no arena is as large"
            )
        if self.max_memory is not None and size > self.max_memory:
            cure = f"if you trust it, edgeprop.Model(..., max_memory={size})"
            wants = (
                f"{self.name} takes {size:,} bytes of memory for one sample, more than the {self.max_memory:,} allowed"
            )
            raise Error("EP_ERR_ARENA", f"{wants}; {cure}")

    @property
    def loss(self) -> str | None:
        """Name of the loss the model learns with; None: nothing to train."""
        if self.model.train == ffi.NULL:
            return None
        rows = (lib.ep_py_losses[i] for i in range(lib.ep_py_n_losses))
        return next(str(ffi.string(row.name).decode()) for row in rows if row.loss == self.model.train.loss)

    @property
    def purpose(self) -> str | None:
        """Name of the loss that its answers are meant for, also where nothing learns; None: not known."""
        return self.loss or self.meta.loss

    @property
    def takes_labels(self) -> bool:
        """True where the loss takes class labels."""
        return bool(self.model.train != ffi.NULL and self.model.train.loss.labels)

    @property
    def ending(self) -> str:
        """What the first output holds: `logits`, or what `softmax`, `log_softmax` or `sigmoid` made of them."""
        tensor, train = self.model.outputs[0], self.model.train
        for index in reversed(range(self.model.n_nodes)):
            node = self.model.nodes[index]
            if node.io[node.n_in] != tensor:
                continue
            name = self.op_name(index)
            if name in _ENDINGS:
                return _ENDINGS[name]
            if name == "lut_s8" and self._is_sigmoid(node):
                return "sigmoid"
            if train != ffi.NULL and tensor == train.logits:
                return "logits"
            if name not in _PASSES:
                return "logits"
            tensor = node.io[0]
        return "logits"

    def _is_sigmoid(self, node: Any) -> bool:
        """True for a table of codes that is a Sigmoid's, but for rounding."""
        x, table, y = (self.model.tensors[node.io[i]] for i in range(3))
        if not (x.scale > 0 and y.scale > 0):
            return False
        codes = np.arange(-128, 128, dtype=np.int8).view(DTYPES[x.dtype]).astype(np.float64)
        values = np.frombuffer(ffi.buffer(table.data, 256), DTYPES[y.dtype]).astype(np.float64)
        expected = 0.5 * (1 + np.tanh(0.5 * x.scale * (codes - x.zero_point)))
        limits = np.iinfo(DTYPES[y.dtype])
        saturated = np.clip(expected / y.scale + y.zero_point, limits.min, limits.max)
        return bool(np.abs(values - saturated).max() <= 1)

    @property
    def fingerprint(self) -> str:
        """Of ops, shapes and exported weights, 16 hexadecimal digits as in the image's bytes."""
        return bytes(self.bytes[16:24]).hex()

    @property
    def labels(self) -> list[str]:
        """Names of the classes; empty for none."""
        return self.meta.labels

    def op_name(self, node: int) -> str:
        """Name of the op that node `node` runs."""
        return self._op_names[_address(self.model.nodes[node].op)]

    def node_name(self, node: int) -> str:
        """Name of the ONNX node it came from, or its number."""
        return self.meta.nodes[node] if self.meta.nodes else f"node{node}"

    def tensor_name(self, index: int) -> str:
        """Name of a tensor, or its number. No two have the same."""
        return self.meta.tensors[index][0] if self.meta.tensors else f"tensor{index}"

    def tensor_shape(self, index: int) -> tuple[int, ...]:
        """Shape in the device's layout, of one sample for an activation."""
        return self.meta.tensors[index][1] if self.meta.tensors else (self.model.tensors[index].count,)

    def check_sizes(self, xs: NDArray[Any], targets: NDArray[Any]) -> None:
        """Refuses arrays that are not of the sizes by which C reads them. They always are, unless this package errs."""
        model = self.model
        x, logits = model.tensors[model.inputs[0]], model.tensors[model.train.logits]
        labels = bool(model.train.loss.labels)
        bytes_each = DTYPES[x.dtype].itemsize * x.count, 4 if labels else 4 * logits.count
        kind = np.dtype("i4" if labels else "f4")
        fits = (xs[0].nbytes, targets[0].nbytes) == bytes_each and targets.dtype == kind
        if not fits or len(xs) != len(targets):
            raise Error("EP_ERR_ARG", f"x {xs.shape} and y {targets.shape} are not what {self.name} learns from")

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


def _meta_place(header: dict[str, int]) -> tuple[int, int]:
    """Where the meta section begins, and its bytes; it is the last, and ends with the image."""
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
    return sum(-(-size // 16) * 16 for size in sections), header["meta_bytes"]


def _size(head: NDArray[np.uint8], there: int, max_memory: int | None, what: str) -> int:
    """Bytes of the image that begins with `head`, of which `there` bytes are there."""
    check(lib.ep_load_size(ffi.from_buffer(head), len(head)), what)
    header = _header(head)
    size = header["size"]
    if sum(_meta_place(header)) != size:
        raise Error("EP_ERR_IMAGE", f"{what}: its sections do not add up to its {size:,} bytes; export it again")
    if there < size:
        raise Error("EP_ERR_IMAGE", f"{what}: it is cut off, {there:,} of the {size:,} bytes; copy or export it again")
    if max_memory is not None and size > max_memory:
        allow = f"if you trust it, edgeprop.Model(..., max_memory={size})"
        raise Error("EP_ERR_ARENA", f"{what}: it has {size:,} bytes, more than the {max_memory:,} allowed; {allow}")
    return size


def _bytes(source: Source, max_memory: int | None) -> NDArray[np.uint8]:
    """The bytes of an image, aligned, without what may follow them."""
    if isinstance(source, str | os.PathLike):
        return _read(source, max_memory)
    try:
        data = np.frombuffer(source, np.uint8)
    except (TypeError, AttributeError, ValueError, BufferError) as error:
        what = type(source).__name__
        raise Error("EP_ERR_ARG", f"a model is the path of an image, or its bytes; this is {what}: {error}") from error
    image = aligned(_size(data[: _HEADER.itemsize], len(data), max_memory, "cannot load the model"))
    image[:] = data[: len(image)]
    return image


def _read(path: str | os.PathLike[str], max_memory: int | None) -> NDArray[np.uint8]:
    """The header first, then no more than it says."""
    what = f"cannot load {os.fspath(path)}"
    with _files.reading(path) as file:
        head = np.frombuffer(file.read(_HEADER.itemsize), np.uint8)
        size = _size(head, os.fstat(file.fileno()).st_size, max_memory, what)
        image = aligned(size)
        image[: len(head)] = head
        if file.readinto(image[len(head) :].data) != size - len(head):  # type: ignore[attr-defined]
            raise Error("EP_ERR_IMAGE", f"{what}: it became shorter while it was read")
    return image
