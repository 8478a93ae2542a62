"""Validate the meta section of an image against the model it describes. An image is not trusted: see docs/format.md."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._core import ffi, lib
from .errors import Error

#: NumPy's type of each device type
DTYPES: dict[int, np.dtype[Any]] = {
    lib.EP_F32: np.dtype("f4"),
    lib.EP_I8: np.dtype("i1"),
    lib.EP_I32: np.dtype("i4"),
    lib.EP_U8: np.dtype("u1"),
}
_NAMES = {lib.EP_F32: "f32", lib.EP_I8: "i8", lib.EP_I32: "i32", lib.EP_U8: "u8"}
#: axes of an array that every NumPy can make
_MOST_AXES = 32


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


@dataclass(frozen=True)
class Meta:
    """What the meta section says; all of it fits the model. Empty lists: nothing is said."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    labels: list[str] = field(default_factory=list)
    nodes: list[str] = field(default_factory=list)
    tensors: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    states: list[tuple[str, str]] = field(default_factory=list)
    loss: str | None = None
    source: str = ""


def read(section: bytes, model: Any) -> Meta:
    """The meta section of an `ep_model`, empty for none.

    Raises
    ------
    Error : EP_ERR_IMAGE: it is no JSON object, or says what the model is not
    """
    try:
        said = _parsed(section)
        meta = Meta(
            inputs=tuple(_ports(said, "inputs", model)),
            outputs=tuple(_ports(said, "outputs", model)),
            labels=_texts(said, "labels"),
            nodes=_texts(said, "nodes", model.n_nodes),
            tensors=_tensors(said, model),
            states=_states(said, model),
            loss=_loss(said, model),
            source=_text(said.get("source") or "", "source"),
        )
        _check_labels(meta, model)
    except (ValueError, OverflowError, RecursionError) as error:
        raise Error("EP_ERR_IMAGE", f"the image's meta section is wrong: {error}; export it again") from error
    return meta


def _parsed(section: bytes) -> dict[str, Any]:
    if not section:
        return {}
    parsed = json.loads(section.decode("utf-8"))
    if not isinstance(parsed, dict):
        raise ValueError("it is no object")
    return parsed


# ---- Values ---------------------------------------------------------------------------------------------------------


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{what} is {type(value).__name__}, no text")
    value.encode()  # half a surrogate pair cannot be printed
    return value


def _whole(value: Any, what: str, least: int) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"{what} is no whole number of {least} or more")
    return value


def _list(said: dict[str, Any], key: str, count: int | None = None) -> list[Any]:
    """A list, of `count` rows if that is given; empty where nothing is said."""
    rows = said.get(key)
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise ValueError(f"{key} is {type(rows).__name__}, no list")
    if count is not None and len(rows) != count:
        raise ValueError(f"{key} has {len(rows)} rows, the model {count}")
    return rows


def _objects(said: dict[str, Any], key: str, count: int) -> list[dict[str, Any]]:
    rows = _list(said, key, count)
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"{key} holds what is no object")
    return rows


def _texts(said: dict[str, Any], key: str, count: int | None = None) -> list[str]:
    return [_text(value, key) for value in _list(said, key, count)]


def _sizes(value: Any, what: str, first: int = 1) -> tuple[int, ...]:
    """A shape; its first axis is of `first` or more, the others of 1 or more."""
    if not isinstance(value, list) or len(value) > _MOST_AXES:
        raise ValueError(f"{what} is no list of at most {_MOST_AXES} sizes")
    return tuple(_whole(size, what, 1 if i else first) for i, size in enumerate(value))


# ---- Rows -----------------------------------------------------------------------------------------------------------


def _ports(said: dict[str, Any], kind: str, model: Any) -> Iterator[Port]:
    count, indices = getattr(model, f"n_{kind}"), getattr(model, kind)
    rows = _objects(said, kind, count) or [{} for _ in range(count)]
    for i, row in enumerate(rows):
        yield _port(f"{kind[:-1]}{i}", row, indices[i], model)


def _port(default_name: str, row: dict[str, Any], index: int, model: Any) -> Port:
    tensor, name = model.tensors[index], _text(row.get("name", default_name), "name")
    shape = _sizes(row.get("shape", [0, tensor.count]), f"the shape of {name}", 0)
    perm = row.get("perm", list(range(len(shape))))
    if not isinstance(perm, list) or [type(axis) for axis in perm] != [int] * len(shape):
        raise ValueError(f"the order of axes of {name} is not as long as its shape")
    if not shape or sorted(perm) != list(range(len(shape))) or perm[0] != 0 or math.prod(shape[1:]) != tensor.count:
        raise ValueError(f"{name} has shape {list(shape)} and order {perm}, the model {tensor.count} elements")
    known = {"dtype": _NAMES[tensor.dtype], "scale": tensor.scale, "zero_point": tensor.zero_point}
    for key, value in known.items():
        given = row.get(key, value)
        with np.errstate(over="ignore"):
            same = type(given) in (int, type(value)) and (np.float32(given) if key == "scale" else given) == value
        if not same:
            raise ValueError(f"{key} of {name} is not that of the model")
    return Port(name, shape, DTYPES[tensor.dtype], tensor.scale, tensor.zero_point, tuple(perm), index)


def _tensors(said: dict[str, Any], model: Any) -> list[tuple[str, tuple[int, ...]]]:
    found, names = [], set()
    for i, row in enumerate(_objects(said, "tensors", model.n_tensors)):
        name = _text(row.get("name"), f"the name of tensor {i}")
        shape = _sizes(row.get("shape"), f"the shape of {name}")
        if math.prod(shape) != model.tensors[i].count:
            raise ValueError(f"{name} has shape {list(shape)}, the model {model.tensors[i].count} elements")
        if name in names:
            raise ValueError(f"two tensors are named {name}")
        names.add(name)
        found.append((name, shape))
    return found


def _states(said: dict[str, Any], model: Any) -> list[tuple[str, str]]:
    found = []
    for row in _list(said, "states", model.n_states):
        if not isinstance(row, list) or len(row) != 2:
            raise ValueError("states holds what is no pair of names")
        found.append((_text(row[0], "a state"), _text(row[1], "a state")))
    return found


def _loss(said: dict[str, Any], model: Any) -> str | None:
    """The loss that the answers are meant for: the model's own, or, where nothing learns, the one that would be."""
    if said.get("loss") is None:
        return None
    name = _text(said["loss"], "loss")
    rows = {str(ffi.string(row.name).decode()): row.loss for row in _loss_rows()}
    if name not in rows or (model.train != ffi.NULL and rows[name] != model.train.loss):
        raise ValueError(f"loss {name} is not that of the model")
    return name


def _loss_rows() -> list[Any]:
    return [lib.ep_py_losses[i] for i in range(lib.ep_py_n_losses)]


def _check_labels(meta: Meta, model: Any) -> None:
    """As many names as there are scores, or as an axis of theirs is long; two for one score, which is for or against."""
    labels, shape = meta.labels, meta.outputs[0].sample_shape
    scores = math.prod(shape)
    if len(set(labels)) != len(labels):
        raise ValueError("two classes have the same name")
    if any(name.endswith("\0") for name in labels):  # NumPy would cut it off, and may make two names one
        raise ValueError("the name of a class ends in a zero byte")
    takes_labels = model.train != ffi.NULL and model.train.loss.labels
    if len(labels) not in {0, scores, *shape} | ({2} if scores == 1 and not takes_labels else set()):
        raise ValueError(f"{len(labels)} labels for {scores} scores")
