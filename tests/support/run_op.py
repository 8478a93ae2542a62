"""Runs one op of the C runtime on NumPy arrays: links the ops into a shared library and calls it.

With EP_TEST_RUNNER set (`qemu-arm`) the ops are compiled into a program instead, which this command runs once a call,
so that the tests of the ops hold for that target. EP_TEST_CFLAGS adds compiler flags, CC names the compiler.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import compiler
from tests.support.compiler import CSRC

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
    constant: int = 0  # 1 constant, 2 trainable
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


def build(name: str, optimize: Sequence[str], *flags: str) -> Path:
    """Links the ops and the harness; `optimize` for all files, `flags` for the harness alone."""
    cc, target = compiler.default(), compiler.scratch() / name
    sources = (*(CSRC / "ops" / f"{op}.c" for op in [*ops(), "binary", "check", "check_s8"]), *compiler.KERNELS)
    table = "-DRUN_OPS(X)=" + " ".join(f"X(0,{op},0,0)" for op in ops())
    command = [*cc.split(), *compiler.STANDARD, *compiler.STRICT, *optimize, *flags, table]
    harness = Path(__file__).with_suffix(".c")
    compiler.run([*command, harness, *compiler.objects(cc, *optimize, sources=sources), "-lm", "-o", target])
    return target


@functools.cache
def library() -> ctypes.CDLL:
    """The ops and the harness as a shared library."""
    return ctypes.CDLL(str(build("ops_s8.so", compiler.PLAIN, "-shared")))


@functools.cache
def program() -> str:
    """The ops and the harness as a program."""
    static = ["-static"] if "linux" in os.environ.get("CC", "") else []
    return str(build("ops_s8", ["-O2"], "-DRUN_OP_MAIN", *static))


def call_program(op: str, attrs: bytes, args: list[Arg], table: Any, head: list[int]) -> int:
    """One call of the program under EP_TEST_RUNNER."""
    parts = [op.encode().ljust(32, b"\0"), struct.pack("<5I", len(attrs), *head), attrs]
    for slot, arg in zip(table, args, strict=True):
        pointer = ctypes.sizeof(ctypes.c_void_p)
        parts += [bytes(slot)[pointer : pointer + 24], struct.pack("<I", arg.data.nbytes), arg.data.tobytes()]
    with tempfile.TemporaryDirectory() as folder:
        files = os.path.join(folder, "in"), os.path.join(folder, "out")
        Path(files[0]).write_bytes(b"".join(parts))
        subprocess.run([*os.environ["EP_TEST_RUNNER"].split(), program(), *files], check=True)
        found = Path(files[1]).read_bytes()
    at = 4
    for arg in args[head[0] :]:
        arg.data[...] = np.frombuffer(found, arg.data.dtype, arg.data.size, at).reshape(arg.data.shape)
        at += arg.data.nbytes
    return int(struct.unpack("<i", found[:4])[0])


def call(
    op: str, attrs: dict[str, Any] | None, inputs: list[Arg], outputs: list[Arg], n: int = 1, check_only: bool = False
) -> int:
    """Runs `op` on n samples; outputs are filled in place. Returns 0, or the EP_ERR_* of its check (see run_op.c)."""
    args = [*inputs, *outputs]
    table = (Operand * len(args))()
    for slot, arg in zip(table, args, strict=True):
        assert arg.data.flags.c_contiguous
        count = arg.data.size // (1 if arg.constant else n) if arg.count is None else arg.count
        where, code = arg.data.ctypes.data, CODES[arg.data.dtype]
        values = (where, count, arg.scale, arg.zero_point, code, int(arg.constant), arg.place_of)
        for field, value in zip(Operand._fields_, values, strict=True):
            setattr(slot, field[0], value)
    packed = b"" if attrs is None else pack(ops()[op], attrs)
    if "EP_TEST_RUNNER" in os.environ:
        return call_program(op, packed, args, table, [len(inputs), len(outputs), n, int(check_only)])
    buffer = None if attrs is None else ctypes.create_string_buffer(packed)
    return int(
        library().run_op(op.encode(), buffer, table, len(inputs), len(outputs), ctypes.c_uint32(n), int(check_only))
    )
