"""Compiles the library for Windows and macOS, with the compiler that `pip install ziglang` brings: nothing is run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator

from . import build

TARGETS = ("x86_64-windows-gnu", "x86_64-macos", "aarch64-macos")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-Werror")


def check() -> Iterator[tuple[str, str]]:
    """(target, what is wrong), "" if nothing is, and "skipped: ..." without the compiler."""
    zig = [sys.executable, "-m", "ziglang"]
    try:
        build.run([*zig, "version"])
    except build.BuildError:
        yield from ((target, "skipped: no ziglang: make boards-setup, or pip install ziglang") for target in TARGETS)
        return
    sources = [str(path) for path in build.runtime_sources()]
    for target in TARGETS:
        command = [*zig, "cc", "-target", target, "-O2", *build.FLAGS, *WARNINGS, f"-I{build.CSRC}", "-c", *sources]
        with tempfile.TemporaryDirectory() as folder:
            try:
                build.run(command, folder=folder)
            except build.BuildError as error:
                yield target, f"FAILED: {error}"
            else:
                yield target, ""
