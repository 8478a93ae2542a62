"""Imports point one way: each room of the tree may import what stands in its row, and nothing else of the project."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: room -> rooms that it may import; `export` is the modules of that folder itself, `runtime` is `csrc/python/edgeprop`
ALLOWED = {
    "runtime": {"export"},  # `python -m edgeprop` is the exporter's command
    "trainer": set(),
    "export": {
        "runtime", "export.graph", "export.quantization", "export.lower", "export.program", "export.writers", "export.package"
    },
    "export.graph": {"export"},
    "export.quantization": {"runtime", "export", "export.graph"},
    "export.lower": {"runtime", "export", "export.graph", "export.program", "export.writers"},
    "export.program": {"runtime", "export"},
    "export.writers": {"runtime", "export.program", "export.quantization"},
    "export.package": {"runtime", "export", "export.program", "export.writers"},
    "benchmarks": {
        "runtime", "trainer", "export", "export.graph", "export.lower", "export.program", "export.writers",
    },
    "boards": {"runtime", "trainer", "export", "export.writers", "benchmarks"},
    "docs": {
        "runtime", "trainer", "export", "export.graph", "export.program", "export.quantization", "export.lower", "benchmarks",
        "tests",
    },
}  # fmt: skip
FOLDERS = {"runtime": "csrc/python/edgeprop", **{room: room.replace(".", "/") for room in ALLOWED if room != "runtime"}}


def imported(text: str, package: str) -> Iterator[str]:
    """What the modules that a module names are called, whole; of `from a import b` both a and a.b."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def room_of(name: str) -> str | None:
    """The room of a module, or of a name in it; None: it is none of the project's."""
    parts = name.split(".")
    if parts[0] in ("benchmarks", "boards", "docs", "tests", "wheels", "examples"):
        return parts[0]
    if parts[0] != "edgeprop":
        return None
    if parts[1:2] == ["trainer"]:
        return "trainer"
    if parts[1:2] == ["export"]:
        return ".".join(parts[1:3]) if (ROOT / "export" / "/".join(parts[2:3])).is_dir() and parts[2:] else "export"
    return "runtime"


def package_of(path: Path) -> str:
    """The package that a file is a module of, as it is installed."""
    parts = path.parent.relative_to(ROOT).parts
    return ".".join(("edgeprop", *parts[3:]) if parts[0] == "csrc" else
                    ("edgeprop", *parts) if parts[0] in ("trainer", "export") else parts)  # fmt: skip


@pytest.mark.parametrize("room", ALLOWED)
def test_a_room_imports_what_it_may(room: str) -> None:
    folder = ROOT / FOLDERS[room]
    files = folder.glob("*.py") if room == "export" else folder.rglob("*.py")
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(files)
        for name in imported(path.read_text(), package_of(path))
        if (found := room_of(name)) is not None and found != room and found not in ALLOWED[room] and name != "edgeprop"
    ]
    assert wrong == []


def test_what_is_imported() -> None:
    text = "import numpy, boards.nets\nfrom . import a\nfrom ..b import c\nfrom edgeprop.export import d\nfrom ... import e\n"
    assert list(imported(text, "edgeprop.export.lower")) == [
        "numpy", "boards.nets", "edgeprop.export.lower", "edgeprop.export.lower.a", "edgeprop.export.b",
        "edgeprop.export.b.c", "edgeprop.export", "edgeprop.export.d", "edgeprop", "edgeprop.e",
    ]  # fmt: skip
    names = ["numpy.float32", "boards.nets", "edgeprop.export.lower.context", "edgeprop.export.api", "edgeprop.Model"]
    assert [room_of(name) for name in names] == [None, "boards", "export.lower", "export", "runtime"]
