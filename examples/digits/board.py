"""Builds device.c around the generated header with the system's C compiler, and talks to it as over a serial line."""

from __future__ import annotations

import os
import re
import shlex
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgeprop

Array = np.ndarray[Any, np.dtype[Any]]

HERE = Path(__file__).resolve().parent
CC = shlex.split(os.environ.get("CC", "cc"))
FLAGS = ["-std=c99", "-ffp-contract=off"]


def build(folder: Path) -> Board:
    """Compile device.c with the digits.h in `folder` and the runtime's sources.

    Raises
    ------
    RuntimeError : the compiler fails; its messages are in the text
    """
    program = folder / "device"
    sources = [str(HERE / "device.c"), *map(str, edgeprop.c_sources())]
    run([*CC, *FLAGS, "-O2", *includes(folder), *sources, "-lm", "-o", str(program)])
    return Board(program)


def runtime_code_bytes(folder: Path) -> int:
    """Bytes of the runtime's code and tables that the device program links, compiled for size.

    The runtime's objects are linked with each other alone, from the functions that device.c calls and the ops that
    the header names; what nothing reaches is dropped, as it is in firmware. Without the kernels for vectors, which only a
    PC has to choose from.
    """
    objects = folder / "objects"
    objects.mkdir(exist_ok=True)
    small = [*CC, *FLAGS, "-Os", "-DEP_PORTABLE", "-ffunction-sections", "-fdata-sections", *includes(folder), "-c"]
    run([*small, str(HERE / "device.c"), "-o", str(objects / "device.o")])
    parts = []
    for source in edgeprop.c_sources():
        parts.append(str(objects / f"{source.parent.name}_{source.stem}.o"))
        run([*small, str(source), "-o", parts[-1]])
    wanted = re.findall(r"\bU _?(ep_\w+)", run(["nm", "-u", str(objects / "device.o")]))
    roots = [f"-Wl,-u,{name}" for name in wanted]
    linked = str(objects / "runtime.o")
    run([*CC, "-r", "-nostdlib", "-Wl,--gc-sections", *roots, *parts, "-o", linked])
    return int(run(["size", linked]).splitlines()[1].split()[0])


def includes(folder: Path) -> list[str]:
    """Where digits.h and edgeprop.h are."""
    return [f"-I{folder}", f"-I{edgeprop.include_dir()}"]


def run(command: list[str], data: bytes = b"") -> str:
    """The standard output of a command that must not fail."""
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command[:3])} ... failed:\n{done.stderr.decode(errors='replace')}")
    return done.stdout.decode()


@dataclass
class Board:
    """The device program. Each call switches it on, feeds it, and switches it off again.

    head : file that stands for its flash: what it learned is there the next time; None: it forgets
    """

    program: Path
    head: Path | None = None

    def predict(self, images: Array) -> tuple[Array, Array]:
        """Classes (n,) and logits (n, 10) of images (n, 1, 8, 8)."""
        images = np.ascontiguousarray(images, np.float32)
        lines = self._feed(b"".join(b"p" + image.tobytes() for image in images))
        rows = [line.split() for line in lines]
        logits = [[float.fromhex(number) for number in row[1:]] for row in rows]
        return np.array([int(row[0]) for row in rows]), np.array(logits, np.float32)

    def learn(self, images: Array, labels: Array, rate: float) -> Array:
        """One step on each image in turn; the losses (n,) before each."""
        images = np.ascontiguousarray(images, np.float32)
        records = (
            b"l" + struct.pack("=f", rate) + image.tobytes() + struct.pack("=i", int(label))
            for image, label in zip(images, labels, strict=True)
        )
        return np.array([float.fromhex(line) for line in self._feed(b"".join(records))])

    def _feed(self, records: bytes) -> list[str]:
        command = [str(self.program.resolve()), *([str(self.head)] if self.head else [])]
        return run(command, records).splitlines()
