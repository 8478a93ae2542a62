"""Read an ONNX file with its external data: weights that stand in files beside it are read into it.

Such files are looked for beside the model and nowhere else, whatever the current folder is, and are regular files there:
in the folder of the path given, else, where that path is a link, in the folder of the file it points at. The name that
the model has for them stays below its folder as it is written. Once links are followed the file must still be in one of
these two folders. That is so in a plain folder, whatever links an archive put there, and in a cache of Hugging Face's,
where `model.onnx` and `model.onnx_data` are links to `../../blobs/<hash>`: whoever gives a link as the model opens
the folder that it points into, and no other. What a tensor says of its size is compared with its bytes before anything is
made of that size.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

import onnx
from onnx import AttributeProto, TensorProto

from ..recognize import by_magic, by_text, kind_of, open_regular

#: of all weights together: what protobuf can hold, and far more than a device
MOST_BYTES = (1 << 31) - 1
#: bits of an element, by type; texts have none
_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32, TensorProto.UINT8: 8, TensorProto.INT8: 8, TensorProto.UINT16: 16, TensorProto.INT16: 16,
    TensorProto.INT32: 32, TensorProto.INT64: 64, TensorProto.BOOL: 8, TensorProto.FLOAT16: 16,
    TensorProto.DOUBLE: 64, TensorProto.UINT32: 32, TensorProto.UINT64: 64, TensorProto.COMPLEX64: 64,
    TensorProto.COMPLEX128: 128, TensorProto.BFLOAT16: 16, TensorProto.FLOAT8E4M3FN: 8,
    TensorProto.FLOAT8E4M3FNUZ: 8, TensorProto.FLOAT8E5M2: 8, TensorProto.FLOAT8E5M2FNUZ: 8,
    TensorProto.UINT4: 4, TensorProto.INT4: 4, TensorProto.FLOAT4E2M1: 4,
}  # fmt: skip
#: typed fields, whose elements are counted where there are no raw bytes
_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


@dataclass
class Whole:
    """A model with all its weights inside; source: the file's name, or ""; digest: sha256 of all its bytes, hex; files: all
    that it was read from."""

    proto: onnx.ModelProto
    source: str
    digest: str
    files: tuple[Path, ...] = ()


def read(model: onnx.ModelProto | bytes | str | os.PathLike[str]) -> Whole:
    """Read a model from a path, from the bytes of a file, or from a ModelProto, which is not changed.

    Raises
    ------
    ValueError : it is no ONNX model, a tensor's size and bytes disagree, or its weights are in a file that is not there,
        not in the model's folder, too short, or no regular file
    FileNotFoundError : no such model
    """
    path: Path | None = None
    folders: tuple[Path, ...]
    if isinstance(model, onnx.ModelProto):
        proto, digest = model, hashlib.sha256(model.SerializeToString(deterministic=True))
        source, folders = "", ()
    elif isinstance(model, bytes | bytearray | memoryview):
        source, folders, data = "", (), bytes(model)
        proto, digest = _parse(data, "the bytes given"), hashlib.sha256(data)
    else:
        path = Path(model)
        data, source, folders = _bytes_of(path), path.name, _folders_of(path)
        proto, digest = _parse(data, source), hashlib.sha256(data)
    beside = _Files(folders)
    if any(_is_external(tensor) for _, tensor in tensors(proto)):
        proto = _embed(proto, beside, digest)
    for told, tensor in tensors(proto):
        _check_size(told, tensor)
    return Whole(proto, source, digest.hexdigest(), (*([] if path is None else [path]), *beside.opened))


def _bytes_of(path: Path) -> bytes:
    """All of a file, once its first bytes say that it may be a model."""
    kind = kind_of(path)
    if kind is not None:
        raise ValueError(f"{path}: not an ONNX model but {kind.what}: {kind.to_model}")
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise ValueError(f"{path}: {size:,} bytes are more than an ONNX file can have ({MOST_BYTES:,})")
        return file.read(MOST_BYTES)


def _parse(data: bytes, source: str) -> onnx.ModelProto:
    kind = None
    try:
        proto = onnx.load_model_from_string(data)
        if proto.HasField("graph") or not data:
            return proto
        error = "it has no graph"
    except Exception as failed:  # protobuf's own
        error = str(failed)
    kind = by_magic(data) or by_text(data[:4096])
    told = f" but {kind.what}: {kind.to_model}" if kind is not None else f" ({error}): write or fetch it again"
    raise ValueError(f"{source}: not an ONNX model{told}")


# ---- Tensors ---------------------------------------------------------------------------------------------------------


def tensors(proto: onnx.ModelProto) -> Iterator[tuple[str, TensorProto]]:
    """Every tensor of a model and how to tell of it, wherever it stands: in graphs inside nodes, functions, sparse tensors."""
    graphs: list[onnx.GraphProto] = [proto.graph]
    graphs += [graph for info in proto.training_info for graph in (info.initialization, info.algorithm)]
    nodes: list[onnx.NodeProto] = [node for function in proto.functions for node in function.node]
    attributes = [(f.name, a) for f in proto.functions for a in f.attribute_proto]
    while graphs or nodes or attributes:
        if graphs:
            graph = graphs.pop()
            yield from ((f"initializer '{tensor.name}'", tensor) for tensor in graph.initializer)
            for sparse in graph.sparse_initializer:
                yield from _parts(f"sparse initializer '{sparse.values.name}'", sparse)
            nodes += graph.node
        elif nodes:
            node = nodes.pop()
            name = f"{node.op_type} '{node.name or next(iter(node.output), '')}'"
            attributes += [(name, attribute) for attribute in node.attribute]
        else:
            name, attribute = attributes.pop()
            told = f"attribute '{attribute.name}' of {name}"
            if attribute.HasField("t"):
                yield told, attribute.t
            yield from ((told, tensor) for tensor in attribute.tensors)
            for sparse in (
                *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
                *attribute.sparse_tensors,
            ):
                yield from _parts(told, sparse)
            graphs += [attribute.g] if attribute.type == AttributeProto.GRAPH else []
            graphs += attribute.graphs


def _parts(told: str, sparse: onnx.SparseTensorProto) -> Iterator[tuple[str, TensorProto]]:
    if min(sparse.dims, default=0) < 0 or prod(sparse.dims) * 4 > MOST_BYTES:
        raise ValueError(f"{told} has the shape {_shape(sparse)}, which no device holds")
    yield told, sparse.values
    yield told, sparse.indices


def _shape(tensor: TensorProto | onnx.SparseTensorProto) -> str:
    more = ", ..." if len(tensor.dims) > 8 else ""
    return "(" + ", ".join(map(str, tensor.dims[:8])) + more + ")"


def _bytes_needed(told: str, tensor: TensorProto) -> int | None:
    """Bytes that a tensor's shape and type ask for; None for texts and types that are not known."""
    if min(tensor.dims, default=0) < 0:
        raise ValueError(f"{told} has the shape {_shape(tensor)}: no axis has fewer than 0 elements")
    bits = _BITS.get(tensor.data_type)
    needed = None if bits is None else (prod(tensor.dims) * bits + 7) // 8
    if max(needed or 0, max(tensor.dims, default=0)) > MOST_BYTES:
        raise ValueError(f"{told} has the shape {_shape(tensor)}, {needed or 0:,} bytes: more than a model can hold")
    return needed


def _check_size(told: str, tensor: TensorProto) -> None:
    """Refuse a tensor that says it is larger or smaller than its bytes."""
    needed = _bytes_needed(told, tensor)
    if tensor.raw_data:
        have = len(tensor.raw_data)
        if needed is not None and have != needed:
            raise ValueError(f"{told} of shape {_shape(tensor)} needs {needed:,} bytes and has {have:,}")
        return
    counts = [len(getattr(tensor, name)) for name in _FIELDS]
    elements, have = prod(tensor.dims), sum(counts)
    per = {4: 2}.get(_BITS.get(tensor.data_type, 0), 1)
    pairs = 2 if tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128) else 1
    if tensor.data_type != TensorProto.UNDEFINED and have != (elements * pairs + per - 1) // per:
        raise ValueError(f"{told} of shape {_shape(tensor)} needs {elements:,} elements and has {have * per:,}")


# ---- External data ---------------------------------------------------------------------------------------------------


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL


@dataclass
class _Place:
    """Where a tensor's bytes are."""

    location: str = ""
    offset: int = 0
    length: int | None = None


def _embed(proto: onnx.ModelProto, files: _Files, digest: hashlib._Hash) -> onnx.ModelProto:
    """A copy with all weights inside, whose bytes go into the digest too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for told, tensor in tensors(copy):
        if _is_external(tensor):
            data = files.data(told, tensor)
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
            tensor.raw_data = data
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return copy


@dataclass
class _Files:
    """The files beside a model; `folders`: where they are looked for, in this order; `total`: bytes read so far; `opened`:
    those that were read."""

    folders: tuple[Path, ...]
    total: int = 0
    opened: set[Path] = field(default_factory=set)

    def data(self, told: str, tensor: TensorProto) -> bytes:
        """A tensor's bytes."""
        needed, place = _bytes_needed(told, tensor), self._place(told, tensor)
        if needed is None:
            kind = tensor.data_type
            raise ValueError(f"{told}: values of type {kind} cannot stand in a file beside the model")
        if place.length is not None and place.length != needed:
            raise ValueError(
                f"{told} of shape {_shape(tensor)} needs {needed:,} bytes, '{place.location}' is to have {place.length:,}"
            )
        self.total += needed
        if self.total > MOST_BYTES:
            raise ValueError(f"{told}: with it the weights have more than {MOST_BYTES:,} bytes, which no device holds")
        with self._open(told, place.location) as file:
            size, end = os.fstat(file.fileno()).st_size, place.offset + needed
            if end > size:
                cure = "the file is cut short or another model's; write both anew"
                raise ValueError(
                    f"{told} is to stand in '{place.location}' up to byte {end:,}, and that has {size:,}: {cure}"
                )
            file.seek(place.offset)
            return file.read(needed)

    def _place(self, told: str, tensor: TensorProto) -> _Place:
        given = {entry.key: entry.value for entry in tensor.external_data}
        place = _Place(given.get("location", ""))
        for key in ("offset", "length"):
            text = given.get(key, "")
            if text and not (text.isascii() and text.isdigit() and len(text) < 20):
                raise ValueError(
                    f"{told}: its {key} in '{place.location}' is {text[:40]!r}, which is no number of bytes"
                )
        place.offset = int(given.get("offset") or 0)
        place.length = int(given["length"]) if given.get("length") else None
        return place

    def _open(self, told: str, location: str) -> BinaryIO:
        """The file, which lies in a folder of the model's or below it."""
        if not self.folders:
            cure = "give the path of the .onnx file instead, or read it with onnx.load(path)"
            raise ValueError(f"{told} stands in a file beside the model ('{location}'), and no folder is known: {cure}")
        path = self._path(location)
        if path is None:
            cure = "copy it beside the model and write that anew with onnx.save_model(..., location=NAME)"
            raise ValueError(f"{told} stands in '{location}', which is not in the model's folder: {cure}")
        try:
            self.opened.add(path)
            return open_regular(path)
        except FileNotFoundError as error:
            cure = "copy it there with the model"
            raise ValueError(f"{told} stands in '{path}', which is not there: {cure}") from error
        except (ValueError, OSError) as error:
            raise ValueError(f"{told} cannot be read from '{location}': {error}") from error

    def _path(self, location: str) -> Path | None:
        """Where the file is, or would be if it were there; None where it is not to be read."""
        if not _is_below(location):
            return None
        found = [path for folder in self.folders if os.path.lexists(path := folder / location)]
        inside = [path for path in found if _is_in(path, self.folders)]
        return next(iter(inside), None) if found else self.folders[0] / location


def _folders_of(path: Path) -> tuple[Path, ...]:
    """The folder of a model, and of the file it is where the path is a link."""
    real = Path(os.path.realpath(path))
    return (path.parent, real.parent) if path.is_symlink() else (path.parent,)


def _is_below(location: str) -> bool:
    """Whether a location as it is written names something below a folder."""
    parts = (*PurePosixPath(location).parts, *PureWindowsPath(location).parts)
    absolute = PurePosixPath(location).is_absolute() or bool(PureWindowsPath(location).anchor)
    return bool(location) and "\0" not in location and not absolute and ".." not in parts


def _is_in(path: Path, folders: tuple[Path, ...]) -> bool:
    """Whether a path is in one of some folders or below, once links are followed."""
    real = os.path.realpath(path)
    return any(Path(real).is_relative_to(os.path.realpath(folder)) for folder in folders)
