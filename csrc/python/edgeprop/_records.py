"""Saved heads in files: write beside, flush, rename. The record itself is the C runtime's; see docs/format.md."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np

from ._context import Context
from ._core import ffi, lib
from .errors import Error, check

_IMAGE_MAGIC, _RECORD_MAGIC = b"EPM1", b"EPH1"


def save(context: Context, path: str | os.PathLike[str]) -> None:
    """Writes the weights of `context` to `path`, which holds either the old record or the new one at any moment.

    Raises
    ------
    Error : EP_ERR_ARG: `path` is a model image
    OSError : the file cannot be written
    """
    target = Path(os.path.realpath(path))
    size = lib.ep_record_size(context.image.model, 1)
    old = _read(target, size) if target.exists() else b""
    if old.startswith(_IMAGE_MAGIC):
        raise Error("EP_ERR_ARG", f"{target} is a model image; save what was learned under another name")
    # With the older record in the first slot the sequence numbers go on, wherever the file is copied to.
    slots = np.full(2 * size, 0xFF, np.uint8)
    slots[: len(old)] = np.frombuffer(old, np.uint8)
    check(lib.ep_py_save(context.ep, ffi.from_buffer(slots), size), f"cannot save {target}")
    first, second = slots[:size].tobytes(), slots[size:].tobytes()
    _replace(target, second if second.startswith(_RECORD_MAGIC) else first)


def restore(context: Context, path: str | os.PathLike[str]) -> None:
    """Puts the weights saved in `path` into `context`.

    Raises
    ------
    Error : EP_ERR_NO_RECORD (not a record, truncated or changed), EP_ERR_FOREIGN (of another model)
    OSError : the file cannot be read
    """
    size = lib.ep_record_size(context.image.model, 1)
    record = _read(Path(path), size)
    slots = np.full(2 * size, 0xFF, np.uint8)
    slots[: len(record)] = np.frombuffer(record, np.uint8)
    check(lib.ep_py_restore(context.ep, ffi.from_buffer(slots), size), f"cannot restore {os.fspath(path)}")


def _read(path: Path, size: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(size)


def _replace(path: Path, data: bytes) -> None:
    """All of `data` is on the disk before the name `path` means it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
