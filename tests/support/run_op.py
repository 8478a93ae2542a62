"""Runs one op of the C runtime on NumPy arrays: compiles the ops into a shared library once per session and calls it."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
FLAGS = "-std=c99 -O2 -Wall -Wextra -Wpedantic -Wconversion -Wdouble-promotion -Wshadow -Werror -ffp-contract=off".split()
CODES = {np.dtype("f4"): 1, np.dtype("i1"): 2, np.dtype("i4"): 3, np.dtype("u1"): 4}


class Operand(ctypes.Structure):
    """An input or output, as run_op.c has it."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("count", ctypes.c_uint32),
        ("scale", ctypes.c_float),
        ("zero_point", ctypes.c_int32),
        ("dtype", ctypes.c_int32),
        ("constant", ctypes.c_int32),
        ("place_of", ctypes.c_int32),
    ]


@dataclass
class Arg:
    """An array handed to an op. Activations have the batch axis first."""

    data: np.ndarray[Any, Any]
    scale: float = 0.0
    zero_point: int = 0
    constant: bool = False
    place_of: int = -1
    count: int | None = None


@functools.cache
def attributes() -> dict[str, list[tuple[str, str, int]]]:
    """Fields of every attribute struct in edgeprop_ops.h: (C type, name, length)."""
    text = re.sub(r"/\*.*?\*/", "", (CSRC / "edgeprop_ops.h").read_text(), flags=re.S)
    structs: dict[str, list[tuple[str, str, int]]] = {}
    for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (ep_\w+_attr);", text, flags=re.S):
        fields = []
        for kind, names in re.findall(r"(int32_t|float) ([^;]+);", body):
            for field in names.split(","):
                match = re.fullmatch(r"\s*(\w+)(?:\[(\d+)\])?\s*", field)
                assert match
                fields.append((kind, match[1], int(match[2] or 1)))
        structs[name] = fields
    return structs


@functools.cache
def ops() -> dict[str, str]:
    """Attribute struct of every op that has a source file."""
    rows = re.findall(r"X\(\d+, (\w+), (\w+), [GN]\)", (CSRC / "edgeprop_ops.h").read_text())
    return {name: attr for name, attr in rows if name.endswith("_s8") and (CSRC / "ops" / f"{name}.c").exists()}


def pack(attr: str, values: dict[str, Any]) -> bytes:
    """An attribute struct as bytes. Every field must be given."""
    parts = []
    fields = attributes()[attr]
    assert {name for _, name, _ in fields} == set(values), (attr, values)
    for kind, name, length in fields:
        dtype = "<i4" if kind == "int32_t" else "<f4"
        parts.append(np.broadcast_to(np.asarray(values[name]), (length,)).astype(dtype).tobytes())
    return b"".join(parts)


@functools.cache
def library(*extra: str) -> ctypes.CDLL:
    """The ops and the harness as a shared library."""
    folder = tempfile.mkdtemp(prefix="edgeprop-ops-")
    target = os.path.join(folder, "ops.so")
    sources = [CSRC / "ops" / f"{name}.c" for name in ops()] + [CSRC / "ops" / "check_s8.c"]
    table = "-DRUN_OPS(X)=" + " ".join(f"X(0,{name},0,0)" for name in ops())
    compiler = os.environ.get("CC", "cc")
    command = [compiler, *FLAGS, *extra, table, "-shared", "-fPIC", "-o", target]
    subprocess.run([*command, *map(str, sources), str(Path(__file__).with_suffix(".c")), "-lm"], check=True)
    return ctypes.CDLL(target)


def call(
    op: str, attrs: dict[str, Any], inputs: list[Arg], outputs: list[Arg], n: int = 1, check_only: bool = False
) -> int:
    """Runs `op` on n samples; outputs are filled in place. Returns what run_op.c returns: 0, or an EP_ERR_* of its check."""
    args = [*inputs, *outputs]
    table = (Operand * len(args))()
    for slot, arg in zip(table, args, strict=True):
        assert arg.data.flags.c_contiguous
        count = arg.data.size // (1 if arg.constant else n) if arg.count is None else arg.count
        code = CODES[arg.data.dtype]
        where = arg.data.ctypes.data
        for key, value in zip(
            [name for name, _ in Operand._fields_],
            (where, count, arg.scale, arg.zero_point, code, int(arg.constant), arg.place_of),
            strict=True,
        ):
            setattr(slot, key, value)
    packed = ctypes.create_string_buffer(pack(ops()[op], attrs))
    run = library(*os.environ.get("EP_TEST_CFLAGS", "").split()).run_op
    return int(run(op.encode(), packed, table, len(inputs), len(outputs), ctypes.c_uint32(n), int(check_only)))


