"""Compiles C against the runtime, as its users do; the library is built once per session and compiler flags."""

from __future__ import annotations

import functools
import os
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
HERE = Path(__file__).resolve().parent
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-Werror"]
FLAGS = ["-std=c99", "-O1", "-ffp-contract=off"]


def run(command: list[str | Path]) -> str:
    """Output of a command; AssertionError with what it said if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgeprop-c-")


@functools.cache
def library(*flags: str) -> Path:
    """The runtime as a static library."""
    folder = Path(_scratch().name) / ("lib" + "".join(flags).replace("/", "_"))
    folder.mkdir()
    sources = [*CSRC.glob("*.c"), *CSRC.glob("ops/*.c"), *CSRC.glob("kernels/**/*.c")]
    cc = os.environ.get("CC", "cc")
    for source in sources:
        run([cc, *FLAGS, *flags, "-I", CSRC, "-c", source, "-o", folder / f"{source.parent.name}_{source.stem}.o"])
    archive = folder / "libedgeprop.a"
    run(["ar", "rcs", archive, *sorted(folder.glob("*.o"))])
    return archive


def program(
    source: Path, output: Path, *flags: str, defines: tuple[str, ...] = (), include: Path | None = None
) -> Path:
    """An executable of one C file and the runtime."""
    cc = os.environ.get("CC", "cc")
    folders = ["-I", str(CSRC), *(["-I", str(include)] if include else [])]
    switches = [flag for flag in defines if flag.startswith("-DEP_")]
    run([cc, *FLAGS, *flags, *defines, *folders, source, library(*switches), "-lm", "-o", output])
    return output


@functools.cache
def image_driver() -> Path:
    """tests/support/drive.c for images."""
    return program(HERE / "drive.c", Path(_scratch().name) / "drive", *STRICT)
