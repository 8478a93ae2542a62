"""Save and restore learned weights in files. The record itself is the C runtime's; see docs/format.md."""

from __future__ import annotations

import os

import numpy as np

from . import _files
from ._context import Context
from ._core import ffi, lib
from .errors import Error, check
from .runtime import crc32

_IMAGE_MAGIC, _RECORD_MAGIC = b"EPM1", b"EPH1"
_HEADER = 32
#: bytes of a foreign record's weights that are read to see whether it is whole
_MOST = 1 << 28


def check_save(context: Context, path: str | os.PathLike[str]) -> None:
    """Raises what `save` would raise, and changes nothing."""
    size = lib.ep_record_size(context.image.model, 1)
    _older(path, size)
    with _files.Replacement(path, size):
        pass


def save(context: Context, path: str | os.PathLike[str]) -> None:
    """Writes the weights of `context` to `path`, which holds either the old record or the new one at any moment.

    Raises
    ------
    Error : EP_ERR_ARG: `path` is a model image or another file that is no record, or no regular file
    OSError : the file cannot be written
    """
    size = lib.ep_record_size(context.image.model, 1)
    old = _older(path, size)
    # With the older record in the first slot the sequence numbers go on, wherever the file is copied to.
    slots = np.full(2 * size, 0xFF, np.uint8)
    slots[: len(old)] = np.frombuffer(old, np.uint8)
    with _files.Replacement(path, size) as file:
        check(lib.ep_py_save(context.ep, ffi.from_buffer(slots), size), f"cannot save {os.fspath(path)}")
        first, second = slots[:size].tobytes(), slots[size:].tobytes()
        file.put(second if second.startswith(_RECORD_MAGIC) else first)


def _older(path: str | os.PathLike[str], size: int) -> bytes:
    """The record that `path` holds, `size` bytes at most; empty for none. Other files are not for overwriting."""
    try:
        old = _files.read(path, size)
    except FileNotFoundError:
        return b""
    if old.startswith(_IMAGE_MAGIC):
        raise Error("EP_ERR_ARG", f"{os.fspath(path)} is a model image; save what was learned under another name")
    erased = not old.strip(b"\0") or not old.strip(b"\xff")  # as after a power cut, or a flash that was wiped
    if not (erased or old.startswith(_RECORD_MAGIC)):
        raise Error("EP_ERR_ARG", f"{os.fspath(path)} is no saved head; save under another name, or remove it first")
    return old


def restore(context: Context, path: str | os.PathLike[str]) -> None:
    """Puts the weights saved in `path` into `context`.

    Raises
    ------
    Error : EP_ERR_NO_RECORD (not a record, truncated or changed), EP_ERR_FOREIGN (of another model), EP_ERR_ARG
        (no regular file)
    OSError : the file cannot be read
    """
    size = lib.ep_record_size(context.image.model, 1)
    record = _files.read(path, size)
    slots = np.full(2 * size, 0xFF, np.uint8)
    slots[: len(record)] = np.frombuffer(record, np.uint8)
    rc = lib.ep_py_restore(context.ep, ffi.from_buffer(slots), size)
    if rc in (lib.EP_ERR_NO_RECORD, lib.EP_ERR_FOREIGN):
        raise _unfit(context, path)
    check(rc, f"cannot restore {os.fspath(path)}")


def _unfit(context: Context, path: str | os.PathLike[str]) -> Error:
    """Why a file holds no head of this model, as far as its header tells: it may be another model's, of any size."""
    what, header = f"cannot restore {os.fspath(path)}", _files.read(path, _HEADER)
    if not header.startswith(_RECORD_MAGIC) or len(header) < _HEADER:
        kind = "a model image" if header.startswith(_IMAGE_MAGIC) else "no saved head, or cut off before its weights"
        return Error("EP_ERR_NO_RECORD", f"{what}: it is {kind}; give what save() wrote")
    crc, wanted = int.from_bytes(header[4:8], "little"), int.from_bytes(header[20:24], "little")
    mine = context.image.model.param_bytes
    foreign = header[12:20].hex() != context.image.fingerprint or wanted != mine
    data = _files.read(path, _HEADER + min(wanted, _MOST))
    if len(data) < _HEADER + wanted <= _HEADER + _MOST:
        why = f"it is cut off: {len(data):,} of {_HEADER + wanted:,} bytes"
    elif crc32(data[8:]) != crc:
        why = "it has changed since it was saved"
    else:
        why = ""
    if not foreign:
        return Error("EP_ERR_NO_RECORD", f"{what}: {why or 'its weights are not finite'}; give another copy of it")
    larger = f", of {wanted:,} bytes of weights where this one has {mine:,}" if wanted != mine else ""
    told = (
        f"by its header it is of another model ({header[12:20].hex()}, this one is {context.image.fingerprint}){larger}"
    )
    cure = "restore it with the image that it was learned with"
    if why:
        return Error("EP_ERR_NO_RECORD", f"{what}: {told}, and {why}; {cure}")
    return Error("EP_ERR_FOREIGN", f"{what}: {told}; {cure}")
