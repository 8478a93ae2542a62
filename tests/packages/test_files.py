"""Packages as files: reproducible, whole or not there, and never in the place of somebody else's work."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeprop
from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export import api, cli
from edgeprop.export.package import KINDS, package_files, package_kinds
from edgeprop.export.package.folder import LIST
from edgeprop.export.package.library import place
from tests.support.compiler import STRICT
from tests.support.packaged import Packaged


def net() -> t.Sequential:
    made = t.Sequential(t.Dense(3, name="head"))
    made.build((4,), seed=0)
    return made


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_command_line_knows_every_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export.save(tmp_path / "one", net())
    for kind in KINDS:
        assert (
            cli.main(["export", str(tmp_path / "one.onnx"), "--float", "--package", kind, "-o", str(tmp_path / kind)])
            == 0
        )
    capsys.readouterr()
    flags = ["--package", "arduino", "--package", "cmake", "--package", "arduino"]
    assert cli.main(["export", str(tmp_path / "one.onnx"), "--float", *flags, "-o", str(tmp_path / "out")]) == 0
    assert f"{tmp_path}/out/arduino/one\n" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir()) == ["arduino", "cmake"]


def test_same_model_same_bytes(tmp_path: Path, packaged: Packaged) -> None:
    for kind, folder in packaged.result.packages.items():
        files = tree(folder)
        listed = files.pop(LIST).decode()
        assert files == package_files(kind, packaged.result.program)
        assert listed == "".join(f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n" for path in sorted(files))


@pytest.mark.parametrize("kind", KINDS)
def test_everything_of_the_runtime_is_in(classifier: Packaged, kind: str) -> None:
    found = tree(classifier.result.packages[kind])
    inside = {path.split("/", 1)[1]: text for path, text in found.items() if path.startswith(("src/", "include/"))}
    folder = edgeprop.include_dir()
    for path in (*edgeprop.c_sources(), *folder.rglob("*.h")):
        if "python" not in path.parts:
            assert inside[place(path.relative_to(folder))] == path.read_bytes()
    names = [path.rsplit("/", 1)[-1] for path in inside if path.endswith(".c")]
    assert len(names) == len(set(names))  # archives tell their members by name
    assert b"Apache License" in found["LICENSE"]
    assert b"core_model.h" in found["README.md"]  # core.h would stand beside the runtime's core.c


@pytest.mark.parametrize("kind", KINDS)
def test_what_sources_include_is_where_they_look(classifier: Packaged, kind: str) -> None:
    """edgeprop.h may lie apart from the sources, so that a header of theirs must not name it by a way up."""
    files = [path for path in classifier.result.packages[kind].rglob("*") if path.suffix in (".c", ".h")]
    names = {path.name for path in files}
    for path in files:
        for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE):
            assert (path.parent / name).is_file() or name in names, f"{path}: {name}"


@pytest.mark.parametrize("name", ["string", "Arduino", "math"])
def test_no_header_takes_the_place_of_another(tmp_path: Path, name: str) -> None:
    result = export.save(tmp_path / name, net(), package="arduino")
    headers = {path.name.lower() for path in result.packages["arduino"].glob("src/*.h")}
    assert f"{name.lower()}.h" not in headers
    assert any(header.startswith(name.lower()) for header in headers)


def test_writes_over_its_own(tmp_path: Path) -> None:
    first = export.save(tmp_path / "one", net(), package=["cmake", "zephyr"])
    before = tree(tmp_path)
    export.save(tmp_path / "one", net(), package=["cmake", "zephyr"])
    assert tree(tmp_path) == before
    other = t.Sequential(t.Dense(2))
    other.build((4,), seed=1)
    export.save(tmp_path / "one", other, package="cmake")
    assert tree(first.packages["cmake"]) != {k[10:]: v for k, v in before.items() if k.startswith("cmake/one/")}
    assert tree(first.packages["zephyr"]) == {k[11:]: v for k, v in before.items() if k.startswith("zephyr/one/")}


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("../LICENSE")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda p: change(p / "src" / "core.c"), "src/core.c changed since"),
        (lambda p: (p / "mine.txt").write_text("x"), "mine.txt changed since"),
        (lambda p: (p / "LICENSE").unlink(), "LICENSE changed since"),
        (lambda p: replace_by_link(p / "README.md"), "README.md changed since"),
        (lambda p: (p / LIST).unlink(), "was not written by edgeprop"),
        (lambda p: (p.rename(p.with_name("other")), p.symlink_to("other")), "is a symbolic link"),
        (lambda p: (p.rename(p.with_name("other")), p.write_text("a file")), "was not written by edgeprop"),
    ],
)
def test_refuses_what_it_did_not_write(tmp_path: Path, spoil: Callable[[Path], Any], says: str) -> None:
    result = export.save(tmp_path / "one", net(), package=["arduino", "cmake"])
    spoil(result.packages["cmake"])
    before = tree(tmp_path)
    other = t.Sequential(t.Dense(2))
    other.build((4,), seed=1)
    with pytest.raises(export.PackageError, match=says) as error:
        export.save(tmp_path / "one", other, package=["arduino", "cmake"])
    assert "not overwritten" in str(error.value)
    assert tree(tmp_path) == before


def test_an_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(export.PackageError, match="'make' is no kind of package: use one of 'arduino'"):
        export.save(tmp_path / "new" / "one", net(), package="make")
    assert not (tmp_path / "new").exists()
    assert package_kinds(["cmake", "arduino", "cmake"]) == ["cmake", "arduino"]


def test_an_error_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    export.save(tmp_path / "one", net(), package=["arduino", "cmake"])
    before = tree(tmp_path)

    def full(*_: Any) -> None:
        raise OSError("no space left")

    other = t.Sequential(t.Dense(2))
    other.build((4,), seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(api, "_replace_files", full)
        with pytest.raises(OSError, match="no space"):
            export.save(tmp_path / "one", other, package=["arduino", "cmake"])
    assert tree(tmp_path) == before
    rename = os.rename

    def refuse(source: Any, target: Any) -> None:
        if str(source).endswith(".part"):
            full()
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        with pytest.raises(OSError, match="no space"):
            export.save(tmp_path / "one", other, package="cmake")
    assert {k: v for k, v in tree(tmp_path).items() if "/" in k} == {k: v for k, v in before.items() if "/" in k}


def test_example_is_clean_c(packaged: Packaged, tmp_path: Path) -> None:
    """With and without learning, under the project's own warnings."""
    folder = packaged.result.packages["cmake"]
    for switches in ([], ["-DEP_NO_TRAIN", "-DEP_NO_ERRMSG"]):
        for source in (f"examples/{packaged.name}.c", f"src/{packaged.name}_data.c"):
            command = ["cc", "-std=c99", *STRICT, *switches, "-Iinclude", "-c", source, "-o", str(tmp_path / "out.o")]
            subprocess.run(command, cwd=folder, check=True)


def test_values_of_the_example(classifier: Packaged) -> None:
    label, loss = classifier.label_and_loss
    assert label in classifier.result.program.labels
    assert np.isfinite(loss)
    assert loss > 0
