"""Saved heads in files. The record itself is the C runtime's; see docs/format.md."""

from __future__ import annotations

import os

import numpy as np

from . import _files
from ._context import Context
from ._core import ffi, lib
from .errors import Error, check

_IMAGE_MAGIC, _RECORD_MAGIC = b"EPM1", b"EPH1"


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
    check(lib.ep_py_restore(context.ep, ffi.from_buffer(slots), size), f"cannot restore {os.fspath(path)}")
