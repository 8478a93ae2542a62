"""List the runtime's constants for those who write models for it: ops, their attributes, losses, limits.

Everything here is read from the C headers that this package was compiled with, so it cannot disagree with them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ._core import ffi, lib

__all__ = [
    "ABI",
    "ALIGN",
    "ERRORS",
    "LABEL_LOSSES",
    "LOSSES",
    "NONE",
    "OPS",
    "VALUE_RANGES",
    "VERSION",
    "OpInfo",
    "crc32",
    "load_error",
]

#: NumPy's name of each C type that an attribute struct may have
_WORDS = {"int32_t": "i4", "float": "f4"}


@dataclass(frozen=True)
class OpInfo:
    """An op of the runtime.

    Attributes
    ----------
    code : its number in an image
    attr : (field, type) of its attribute struct, in order; the type is NumPy's: `i4`, `f4`, or `6i4` for an array of
        six. `numpy.dtype(list(attr))` is the struct.
    has_grad : False for an op without a backward
    struct : C name of the attribute struct
    """

    code: int
    attr: tuple[tuple[str, str], ...]
    has_grad: bool
    struct: str


def _word(ctype: Any) -> str:
    """NumPy's name of the C type of one field: `i4`, `f4`, `6i4`."""
    if ctype.kind == "array":
        return f"{ctype.length}{_WORDS[ctype.item.cname]}"
    return _WORDS[ctype.cname]


def _text(c_string: Any) -> str:
    return str(ffi.string(c_string).decode())


def _attributes(struct: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, _word(field.type)) for name, field in ffi.typeof(struct).fields)


def _ops() -> dict[str, OpInfo]:
    rows = [lib.ep_py_ops[i] for i in range(lib.ep_py_n_ops)]
    return {
        _text(row.name): OpInfo(row.code, _attributes(_text(row.attr)), bool(row.has_grad), _text(row.attr))
        for row in rows
    }


_LOSS_ROWS = [lib.ep_py_losses[i] for i in range(lib.ep_py_n_losses)]

#: version of the package and of the C library, one and the same
VERSION: str = _text(lib.ep_py_version)
#: number of the layout of the C structs
ABI: int = lib.EP_ABI
#: alignment of arenas, images and constant data, bytes
ALIGN: int = lib.EP_ALIGN
#: "no offset"
NONE: int = lib.EP_NONE
#: ops by name
OPS: dict[str, OpInfo] = _ops()
#: codes of the losses by name
LOSSES: dict[str, int] = {_text(row.name): row.code for row in _LOSS_ROWS}
#: the losses whose targets are class labels; the others take float values
LABEL_LOSSES: frozenset[str] = frozenset(_text(row.name) for row in _LOSS_ROWS if row.loss.labels)
#: (least, most) of the values that each of the others takes; infinite: any finite value
VALUE_RANGES: dict[str, tuple[float, float]] = {
    _text(row.name): (0.0, 1.0) if row.loss.shares else (-math.inf, math.inf)
    for row in _LOSS_ROWS
    if not row.loss.labels
}
#: names of the error codes, `-9: "EP_ERR_LABEL"`
ERRORS: dict[int, str] = {getattr(lib, name): name for name in dir(lib) if name.startswith("EP_ERR_")}


def _aligned(size: int) -> tuple[Any, Any]:
    """Memory of so many bytes as the runtime wants it, and what must live as long."""
    owner = ffi.new("uint8_t[]", size + ALIGN)
    return owner + -int(ffi.cast("uintptr_t", owner)) % ALIGN, owner


def load_error(image: bytes) -> str | None:
    """What `ep_load()` says of an image: the name of the error, or None where it takes it."""
    start, _image = _aligned(len(image))
    ffi.memmove(start, image, len(image))
    rc = int(lib.ep_load_size(start, len(image)))
    if rc >= 0:
        tables, _tables = _aligned(rc)
        rc = int(lib.ep_load(ffi.new("ep_model *"), start, len(image), tables, rc, lib.ep_py_registry))
    return ERRORS[rc] if rc < 0 else None


def crc32(data: bytes) -> int:
    """CRC-32 (IEEE 802.3) of bytes, as images and saved heads hold it."""
    return int(lib.ep_crc32(0, ffi.from_buffer(data), len(data)))
