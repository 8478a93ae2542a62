"""Read arrays from untrusted .npy and .npz files: shapes and types are checked before memory is allocated.

Needs numpy alone, as `edgeprop adapt` does.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .recognize import open_regular

#: of an archive's members together
MOST_BYTES = 1 << 34


def read_npy(path: str) -> NDArray[Any]:
    """The array of an .npy.

    Raises
    ------
    ValueError : it is none, holds Python objects, or its bytes are fewer than its shape asks for
    """
    with open_regular(path) as file:
        return _read(file, os.fstat(file.fileno()).st_size, path)


def read_npz(path: str, wanted: Collection[str] | None = None) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays of an .npz by name, and the names of those that hold Python objects, which are left out.

    Parameters
    ----------
    wanted : names of the arrays that are read, whatever the others are; all where not given

    Raises
    ------
    ValueError : as of `read_npy`; objects are an error where they are wanted, or where there is nothing else
    """
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        members = {name: member for name, member in members.items() if wanted is None or name in wanted}
        total = sum(member.file_size for member in members.values())
        if total > MOST_BYTES:
            raise ValueError(f"its arrays have {total:,} bytes, at most {MOST_BYTES:,} are read: give fewer samples")
        arrays: dict[str, NDArray[Any]] = {}
        objects: dict[str, Objects] = {}
        for name, member in members.items():
            with archive.open(member) as part:
                try:
                    arrays[name] = _read(part, member.file_size, member.filename)
                except Objects as error:
                    objects[name] = error
    if objects and (wanted is not None or not arrays):
        raise next(iter(objects.values()))
    return arrays, list(objects)


class Objects(ValueError):
    """An array of Python objects, of which nothing is read: they could run code."""


def _read(file: IO[bytes], size: int, name: str) -> NDArray[Any]:
    """An array whose header and bytes agree."""
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise ValueError(f"'{name}' is of version {version[0]}.{version[1]} of .npy, which is not known")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, by_columns, dtype = header(file)
    if dtype.hasobject:
        raise Objects(f"'{name}' holds Python objects, which are not loaded: give numbers, array.astype('float32')")
    if min(shape, default=0) < 0:
        raise ValueError(f"'{name}' has the shape {shape}: no axis has fewer than 0 elements")
    needed = prod(shape) * dtype.itemsize
    have = size - file.tell()
    if needed > have:
        raise ValueError(f"'{name}' of shape {shape} needs {needed:,} bytes and has {have:,}: it is cut short")
    data = file.read(needed)
    if len(data) < needed:
        raise ValueError(f"'{name}' of shape {shape} ends after {len(data):,} of {needed:,} bytes: it is cut short")
    array = np.frombuffer(bytearray(data), dtype, prod(shape)) if dtype.itemsize else np.zeros(prod(shape), dtype)
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)
