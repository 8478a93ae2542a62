"""The runtime's sources in an installed package, and in a checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgeprop
from edgeprop import sources

FILES = ("csrc/edgeprop.h", "csrc/core.c", "csrc/b.c", "csrc/ops/a.c", "csrc/ops/check.h", "csrc/kernels/k.h")
FILES += ("csrc/kernels/x86/deep.c", "csrc/LICENSE", "csrc/python/edgeprop/_core.prelude.h", "csrc/boards/other.c")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package whose extension lies beside a folder of sources."""
    for name in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(sources._core, "__file__", str(tmp_path / "_core.so"))
    return tmp_path


def test_sources_beside_the_extension(package: Path) -> None:
    """Those of the core, then of the ops, then of the kernels, each in order; nothing of the binding."""
    folder = package / "csrc"
    assert edgeprop.include_dir() == folder
    names = ["b.c", "core.c", "ops/a.c", "kernels/x86/deep.c"]
    assert [str(p.relative_to(folder)) for p in edgeprop.c_sources()] == names
    assert [str(p.relative_to(folder)) for p in sources.c_headers()] == ["edgeprop.h", "ops/check.h", "kernels/k.h"]
    assert sources.license_file() == folder / "LICENSE"


def test_in_a_checkout_the_licence_lies_one_up(package: Path) -> None:
    (package / "csrc" / "LICENSE").unlink()
    assert sources.license_file() == package / "LICENSE"


def test_a_checkout(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without sources beside it: two folders up from the binding."""
    (package / "csrc" / "edgeprop.h").unlink()
    other = package / "other" / "csrc"
    (other / "python" / "edgeprop").mkdir(parents=True)
    (other / "edgeprop.h").touch()
    monkeypatch.setattr(sources, "__file__", str(other / "python" / "edgeprop" / "sources.py"))
    assert edgeprop.include_dir() == other


def test_no_sources_are_told(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package / "csrc" / "edgeprop.h").unlink()
    monkeypatch.setattr(sources, "__file__", str(package / "a" / "b" / "c" / "sources.py"))
    for function in (edgeprop.include_dir, edgeprop.c_sources, sources.c_headers, sources.license_file):
        with pytest.raises(FileNotFoundError, match="not installed; reinstall"):
            function()
