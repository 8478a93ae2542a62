"""The ESP-IDF component. ESP-IDF and its compilers are on no package registry, so it is not built by them: the component
manager packs it, and the example is compiled with ESP-IDF's flags by a stand-in for its CMake functions."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

import edgeprop
from tests.support.packaged import Packaged, Run

pytestmark = pytest.mark.slow  # builds whole projects

HERE = Path(__file__).resolve().parent


def test_component_manager_packs_it(classifier: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run) -> None:
    component = classifier.copy("esp-idf", tmp_path)
    run(tool("compote"), "component", "pack", "--name", "core", cwd=component)
    with tarfile.open(component / "dist" / f"core_{edgeprop.__version__}.tgz") as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
    assert {"idf_component.yml", "CMakeLists.txt", "src/core.c", "include/core_model.h", "LICENSE"} <= names
    manifest = component / "idf_component.yml"
    manifest.write_text(manifest.read_text().replace('version: "', 'version: "x'))
    with pytest.raises(AssertionError, match="version"):
        run(tool("compote"), "component", "pack", "--name", "core", cwd=component)


def test_example_runs(packaged: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run) -> None:
    component = packaged.copy("esp-idf", tmp_path / "components")
    example = component / "examples" / packaged.name
    env = {"IDF_PATH": str(HERE / "esp_idf")}
    run(tool("cmake"), "-S", example, "-B", tmp_path / "build", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", env=env)
    run(tool("cmake"), "--build", tmp_path / "build", env=env)
    printed = run(tmp_path / "build" / f"{packaged.name}_example")
    assert printed.endswith(f"{packaged.name}: ok\n")
    if packaged.name == "core":
        assert printed == packaged.printed()
    rows = json.loads((tmp_path / "build" / "compile_commands.json").read_text())
    component_rows = [row["command"] for row in rows if str(component / "src") in row["file"]]
    assert len(component_rows) == len(list(component.glob("src/**/*.c")))
    assert all("-ffp-contract=off" in command for command in component_rows)
