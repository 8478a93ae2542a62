"""Recognize file formats by their first bytes (magic numbers), and say how to convert what was not asked for.

Needs nothing but Python: `edgeprop adapt` and `inspect` use it on devices too.
"""

from __future__ import annotations

import os
import stat
import zipfile
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

#: bytes that are enough to tell by
HEAD = 4096
#: names of an archive that are looked at
_MEMBERS = 64


class Kind(NamedTuple):
    """A kind of file: what it is in words, how to get an ONNX model from it, and how to get arrays."""

    what: str
    to_model: str
    to_arrays: str = "load it in Python and write its arrays with numpy.savez('x.npz', x=x)"


_TF = "python -m tf2onnx.convert"
_TORCH = "build the network in Python, load this into it, then torch.onnx.export(network, sample, 'model.onnx')"
_KERAS_CURE = "load it with Keras and write it with model.export('model.onnx', format='onnx')"
_SKLEARN = "load it in Python, then export.save('build/model', estimator) or skl2onnx.to_onnx()"
_NO_SAMPLES = "give samples as an .npz; a model goes where MODEL stands"
_NO_MODEL = "give the model here, and samples with --calibration or --inputs"
_PICTURE = "give the .onnx file"
_UNPACK = "unpack it first"

IMAGE = Kind("an image of the device (.ep)", "give the ONNX model beside it", _NO_SAMPLES)
NPZ = Kind("an .npz of arrays", _NO_MODEL)
NPY = Kind("an .npy array", _NO_MODEL)
_PT = Kind("a PyTorch file (.pt, .pth)", _TORCH)
_KERAS = Kind("a Keras model (.keras)", _KERAS_CURE)
_PICKLE = Kind("a Python pickle (joblib, scikit-learn, old PyTorch)", f"{_SKLEARN}; of PyTorch, torch.onnx.export()")
_SAFETENSORS = Kind("a safetensors file, weights without a graph", _TORCH)
_ZIP = Kind("a zip archive", _UNPACK, _UNPACK)
_FOLDER = Kind("a folder", "give the .onnx file in it", "give the .npz file in it")
_SAVED_MODEL = Kind("a TensorFlow SavedModel", f"{_TF} --saved-model FOLDER --output model.onnx")
JSON = Kind("JSON text", "give the .onnx file")
_HTML = Kind("an HTML page, as a failed download leaves it", "fetch the file itself", "fetch the file itself")
_CSV = Kind(
    "a table of text (CSV)",
    "give the .onnx file",
    "x = numpy.loadtxt('x.csv', delimiter=',', dtype='float32'), then numpy.savez('x.npz', x=x)",
)
_ONNX = Kind("an ONNX model", "", _NO_SAMPLES)
#: the first field of an ONNX file, a small number
_IR_VERSION = b"\x08"
_PLAIN = Kind("a text", "give the .onnx file")

#: where bytes stand, the bytes, and what begins so
_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"EPM1", IMAGE),
    (0, b"EPH1", Kind("a saved head of the device", "give the ONNX model it was learned with", _NO_SAMPLES)),
    (4, b"TFL3", Kind("a TensorFlow Lite model", f"{_TF} --tflite FILE --output model.onnx", _NO_SAMPLES)),
    (4, b"ORTM", Kind("onnxruntime's own format (.ort)", "give the .onnx file it was made from", _NO_SAMPLES)),
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file (.h5), as Keras writes it", _KERAS_CURE)),
    (0, b"\x93NUMPY", NPY),
    (
        0,
        b"version https://git-lfs",
        Kind("a Git LFS pointer", "git lfs pull fetches the file", "git lfs pull fetches it"),
    ),
    (0, b"\x1f\x8b", Kind("compressed by gzip", "gunzip unpacks it", "gunzip unpacks it")),
    (0, b"BZh", Kind("compressed by bzip2", _UNPACK, _UNPACK)),
    (0, b"\xfd7zXZ\x00", Kind("compressed by xz", _UNPACK, _UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Kind("compressed by zstd", _UNPACK, _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK, _UNPACK)),
    (257, b"ustar", Kind("a tar archive", _UNPACK, _UNPACK)),
    (0, b"\x89PNG\r\n", Kind("a PNG picture", _PICTURE)),
    (0, b"\xff\xd8\xff", Kind("a JPEG picture", _PICTURE)),
    (0, b"%PDF-", Kind("a PDF", _PICTURE)),
    (0, b"\x7fELF", Kind("a program or a library", _PICTURE)),
    (0, b"MATLAB 5.0", Kind("a MATLAB file", "write the network with exportONNXNetwork()")),
)


def by_magic(data: bytes, size: int | None = None) -> Kind | None:
    """What a file is that begins with `data` and has `size` bytes; None where that is not known, as of an ONNX model."""
    for at, magic, kind in _MAGIC:
        if data[at : at + len(magic)] == magic:
            return kind
    if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _archive(BytesIO(data))
    if len(data) > 2 and data[0] == 0x80 and 2 <= data[1] <= 5:
        return _PICKLE
    if data[8:9] == b"{" and 2 <= int.from_bytes(data[:8], "little") <= (size or len(data)):
        return _SAFETENSORS
    return None


def _archive(file: BinaryIO) -> Kind:
    """What a zip archive holds."""
    names = _members(file)
    if any(name.endswith("data.pkl") for name in names):
        return _PT
    if "config.json" in names and any(name.endswith(".h5") for name in names):
        return _KERAS
    return NPZ if names and all(name.endswith(".npy") for name in names) else _ZIP


def _members(file: BinaryIO) -> list[str]:
    """Names in an archive; of one cut short, those near its start."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.namelist()[:_MEMBERS]
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return _first_members(file)


def _first_members(file: BinaryIO) -> list[str]:
    """Names that stand before their contents near the start of an archive."""
    file.seek(0)
    data = file.read(HEAD)
    names: list[str] = []
    at = data.find(b"PK\x03\x04")
    while at >= 0:
        count = int.from_bytes(data[at + 26 : at + 28], "little")
        names.append(data[at + 30 : at + 30 + count].decode("utf-8", "replace"))
        at = data.find(b"PK\x03\x04", at + 30)
    return names


def by_text(data: bytes) -> Kind | None:
    """What kind of text begins with `data`; None where the bytes are no text."""
    try:
        text = decode(data)
    except UnicodeDecodeError as error:
        if error.end < len(data) - 4:  # a letter cut in two at the end is no fault
            return None
        text = decode(data[: error.start])
    if not text.strip() or any(ord(c) < 32 and c not in "\t\n\r\f" for c in text):
        return None
    start, first = text.lstrip()[:1], text.strip().splitlines()[0]
    if start in "{[":
        return JSON
    if start == "<":
        return _HTML
    return _CSV if any(mark in first for mark in ",;\t") and any(c.isdigit() for c in text) else _PLAIN


def decode(data: bytes) -> str:
    """A text in UTF-8, or in what its byte order mark says: UTF-16, as Windows writes it, and UTF-8 with a mark.

    Raises
    ------
    UnicodeDecodeError : it is none of these
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data[: len(data) // 2 * 2].decode("utf-16")
    return data.decode("utf-8-sig")


def shown(text: str, most: int = 300) -> str:
    """A text in one line of bearable length."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]} ..."


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """What a file or a folder is; None where that is not known, as of an ONNX model.

    Raises
    ------
    ValueError : it is empty, or no regular file
    OSError : it cannot be opened
    """
    if os.path.isdir(path):
        return _SAVED_MODEL if (Path(path) / "saved_model.pb").exists() else _FOLDER
    with open_regular(path) as file:
        data = file.read(HEAD)
        size = os.fstat(file.fileno()).st_size
        if data[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            return _archive(file)
    if not data:
        raise ValueError(f"{os.fspath(path)} is empty: write or fetch it again")
    return by_magic(data, size)


def kind_within(path: str | os.PathLike[str]) -> Kind | None:
    """What a file is that has no first bytes of its own: a text, or an ONNX model; None where it may be anything."""
    with open_regular(path) as file:
        data = file.read(HEAD)
    return by_text(data) or (_ONNX if data[:1] == _IR_VERSION and data[1:2] < b"\x40" else None)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file to read; a device, a pipe or a socket, which might never end, is refused.

    Raises
    ------
    ValueError : it is no regular file
    OSError : it cannot be opened
    """
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise ValueError(f"{os.fspath(path)} is no regular file: copy it into one and give that")
    return os.fdopen(number, "rb")
