"""Collect the files that all packages share: the runtime's, the model's, README and licence."""

from __future__ import annotations

from functools import cached_property
from pathlib import PurePath

from ... import __version__, sources
from ..program.plan import infer_arena, train_arena
from ..program.program import Program
from ..writers.c_text import identifier
from ..writers.header import to_header

#: the runtime's headers that users include
PUBLIC = ("edgeprop.h", "edgeprop_ops.h")


class Library:
    """A model and the runtime as a library.

    Attributes
    ----------
    program : the model
    name : its C name, which is the library's
    macro : the prefix of its macros
    version : the runtime's, which the library has
    what : one sentence about it in plain ASCII
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.name = identifier(program.name)
        self.macro = self.name.upper()
        self.version = __version__
        learns = ", which goes on learning on the device" if program.trainable() else ""
        self.what = f"The neural network {self.name}{learns}, with the edgeprop runtime"

    @cached_property
    def header(self) -> str:
        """Name of the model's header."""
        taken = {path.stem for path in sources.c_sources()}  # core.h would stand beside core.c
        return (self.name + "_model" if self.name.lower() in taken else self.name) + ".h"

    @cached_property
    def public(self) -> dict[str, bytes]:
        """The headers that a program includes: the model's and the runtime's."""
        runtime = {name: (sources.include_dir() / name).read_bytes() for name in PUBLIC}
        return {self.header: to_header(self.program, self.header).encode(), **runtime}

    @cached_property
    def runtime(self) -> dict[str, bytes]:
        """The runtime's sources and the headers that only they include, by path in the package."""
        files = [path for path in (*sources.c_sources(), *sources.c_headers()) if path.name not in PUBLIC]
        return {place(path.relative_to(sources.include_dir())): path.read_bytes() for path in files}

    @property
    def runtime_sources(self) -> list[str]:
        """The runtime's C files, by path."""
        return sorted(path for path in self.runtime if path.endswith(".c"))

    @property
    def model_source(self) -> str:
        """Name of the C file that holds the model's data."""
        return f"{self.name}_data.c"

    @property
    def model(self) -> dict[str, bytes]:
        """That C file."""
        text = f'/* The one C file that holds the model. */\n#define {self.macro}_IMPLEMENTATION\n#include "{self.header}"\n'
        return {self.model_source: text.encode()}

    @property
    def license(self) -> dict[str, bytes]:
        """The runtime's licence."""
        return {"LICENSE": sources.license_file().read_bytes()}

    @property
    def learns(self) -> bool:
        """True if the example shows learning: something trains, and there is one input and one output."""
        return bool(self.program.trainable()) and len(self.program.inputs) == len(self.program.outputs) == 1

    def readme(self, tool: str, how: str) -> dict[str, bytes]:
        """README.md: what this is, what it needs, and how `tool` takes it."""
        ram = f"{infer_arena(self.program):,} bytes of RAM to run"
        if self.program.trainable():
            ram += f", {train_arena(self.program):,} bytes to learn"
        text = (
            f"# {self.name}\n\n{self.what}, as a library for {tool}. It needs {ram}.\n\n{how.strip()}\n\n"
            f"`{self.header}` tells on its first screen what the model takes and gives; `edgeprop.h` is the manual of the\n"
            "runtime. All was written by `edgeprop export`: to change it, export again. A second model in the same\n"
            "program shares this runtime: add only its header and its `..._data.c`.\n"
        )
        return {"README.md": text.encode()}


def place(path: PurePath) -> str:
    """Where a file of the runtime lies in a package: kernels/neon/s8.c as kernels/neon/neon_s8.c, for some tools put all
    objects into one archive by their names alone, and of two with one name the last stays."""
    if path.suffix == ".c" and len(path.parts) > 2:
        path = path.with_name(f"{path.parent.name}_{path.name}")
    return path.as_posix()


def within(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files, in a folder."""
    return {f"{folder}/{path}": content for path, content in files.items()}
