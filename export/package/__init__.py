"""Package a model as a library for a build tool: the runtime's sources, the generated header, the tool's metadata and
an example that compiles. One row of `KINDS` a tool, one module a row.

>>> export.save("build/digits", net, calibration=x, package=["arduino", "zephyr"])   # build/arduino/digits/ ...
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ..program.program import Program
from ..writers.c_text import comment
from . import arduino, cmake, esp_idf, platformio, zephyr
from .folder import Folder, PackageError
from .library import Library

__all__ = ["KINDS", "PackageError", "package_files", "package_folders", "package_kinds", "staged"]

#: what each tool's package holds: its files by their path in the package
KINDS: dict[str, Callable[[Library], Mapping[str, str | bytes]]] = {
    "arduino": arduino.files,
    "cmake": cmake.files,
    "esp-idf": esp_idf.files,
    "platformio": platformio.files,
    "zephyr": zephyr.files,
}


def package_kinds(package: str | Iterable[str] | None) -> list[str]:
    """The kinds asked for, each once.

    Raises
    ------
    PackageError : there is no such kind
    """
    kinds = [package] if isinstance(package, str) else list(package or ())
    for kind in kinds:
        if kind not in KINDS:
            raise PackageError(f"package={kind!r} is no kind of package: use one of {', '.join(map(repr, KINDS))}")
    return list(dict.fromkeys(kinds))


def package_files(kind: str, program: Program) -> dict[str, bytes]:
    """The files of one package by their path in it; the same program gives the same bytes."""
    texts = KINDS[kind](Library(program))
    return {path: text if isinstance(text, bytes) else text.encode() for path, text in sorted(texts.items())}


def package_folders(folder: Path, name: str, source: str, kinds: Sequence[str]) -> dict[str, Folder]:
    """The places `folder`/KIND/NAME by kind, of packages of the model that is written as `source`.

    Raises
    ------
    PackageError : something lies there that was not written by `save`, was changed since, or is another model's
    PlaceError : there can be no such folder
    """
    folders = {kind: Folder(folder / kind / name) for kind in kinds}
    for target in folders.values():
        target.check(comment(source))
    return folders


@contextlib.contextmanager
def staged(folders: Mapping[str, Folder], program: Program) -> Iterator[Mapping[str, Folder]]:
    """Packages by kind, written beside their places; `Folder.put` renames one into its place."""
    try:
        for kind, target in folders.items():
            target.stage(package_files(kind, program))
        yield folders
    finally:
        for target in folders.values():
            target.clean()
