"""The Zephyr module. Zephyr itself is on no package registry, so it is not built by it: Kconfig is read by Kconfiglib, as
Zephyr does, and the sample compiled with Zephyr's flags by a stand-in for its CMake functions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.packaged import Packaged, Run

pytestmark = pytest.mark.slow  # builds whole projects

HERE = Path(__file__).resolve().parent
#: symbols of Zephyr that the module and its sample name
ZEPHYR = 'config REQUIRES_FULL_LIBC\n\tbool "full"\nconfig MAIN_STACK_SIZE\n\tint "stack"\n\tdefault 1024\n'


def configure(module: Path, prj: str, folder: Path) -> Any:
    """Kconfig's answer to a prj.conf, without warnings."""
    kconfiglib = pytest.importorskip("kconfiglib")
    (folder / "Kconfig.root").write_text(f'{ZEPHYR}source "{module}/Kconfig"\n')
    (folder / "prj.conf").write_text(prj)
    found = kconfiglib.Kconfig(str(folder / "Kconfig.root"), warn_to_stderr=False)
    found.load_config(str(folder / "prj.conf"))
    assert found.warnings == []
    return found


def build(module: Path, name: str, more: str, folder: Path, tool: Callable[[str], str], run: Run) -> Path:
    """The sample's build folder."""
    sample = module / "samples" / name
    kconfig = configure(module, (sample / "prj.conf").read_text() + more, folder)
    chosen = [symbol.name for symbol in kconfig.unique_defined_syms if symbol.str_value == "y"]
    assert "REQUIRES_FULL_LIBC" in chosen
    (folder / "config.cmake").write_text("".join(f"set(CONFIG_{symbol} y)\n" for symbol in chosen))
    given = {"STAND_IN_CONFIG": folder / "config.cmake", "Zephyr_DIR": HERE / "zephyr", "ZEPHYR_EXTRA_MODULES": module}
    flags = [f"-D{key}={value}" for key, value in given.items()]
    run(tool("cmake"), "-S", sample, "-B", folder / "build", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *flags)
    run(tool("cmake"), "--build", folder / "build")
    return folder / "build"


def test_metadata(packaged: Packaged) -> None:
    """The keys of Zephyr's schema, and files where they point."""
    yaml = pytest.importorskip("ruamel.yaml").YAML(typ="safe")
    module = packaged.result.packages["zephyr"]
    found = yaml.load(module / "zephyr" / "module.yml")
    assert found == {
        "name": f"edgeprop_{packaged.name}",
        "build": {"cmake": ".", "kconfig": "Kconfig"},
        "samples": ["samples"],
    }
    sample = yaml.load(module / "samples" / packaged.name / "sample.yaml")
    assert set(sample) == {"sample", "common", "tests"}
    assert set(sample["tests"]) == {f"sample.edgeprop.{packaged.name}"}
    (pattern,) = sample["common"]["harness_config"]["regex"]
    assert re.search(pattern, f"{packaged.name}: ok")


def test_sample_runs(packaged: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run) -> None:
    module = packaged.copy("zephyr", tmp_path)
    out = build(module, packaged.name, "", tmp_path, tool, run)
    printed = run(out / "zephyr")
    assert printed.endswith(f"{packaged.name}: ok\n")
    if packaged.name == "core":
        assert printed == packaged.printed()
    rows = json.loads((out / "compile_commands.json").read_text())
    runtime = [row["command"] for row in rows if "/src/" in row["file"] and "samples" not in row["file"]]
    assert sum("-ffp-contract=off" in command for command in runtime) == len(runtime) - 1  # all but the model's data


def test_without_learning(classifier: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run) -> None:
    module = classifier.copy("zephyr", tmp_path)
    more = "CONFIG_EDGEPROP_NO_TRAIN=y\nCONFIG_EDGEPROP_NO_ERRMSG=y\n"
    out = build(module, "core", more, tmp_path, tool, run)
    assert run(out / "zephyr") == f"label {classifier.label_and_loss[0]}\ncore: ok\n"


def test_nothing_is_built_unless_asked_for(classifier: Packaged, tmp_path: Path) -> None:
    found = configure(classifier.result.packages["zephyr"], "", tmp_path)
    assert found.syms["EDGEPROP_CORE"].str_value == "n"
    assert found.syms["REQUIRES_FULL_LIBC"].str_value == "n"
