"""The Arduino library, built by arduino-builder for a Cortex-M4F with a core of these tests, and run in QEMU."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.packaged import Packaged, Run

pytestmark = pytest.mark.slow  # builds whole projects

HERE = Path(__file__).resolve().parent
#: keys that the format 1.5 asks for, and its categories
REQUIRED = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url", "architectures"}
CATEGORIES = {"Display", "Communication", "Signal Input/Output", "Sensors", "Device Control", "Timing", "Data Storage"}
CATEGORIES |= {"Data Processing", "Other"}


def properties(library: Path) -> dict[str, str]:
    lines = (library / "library.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_metadata(packaged: Packaged) -> None:
    library = packaged.result.packages["arduino"]
    found = properties(library)
    assert found.keys() >= REQUIRED
    assert found["name"] == packaged.name
    assert found["category"] in CATEGORIES
    assert (library / "src" / found["includes"]).is_file()
    for line in (library / "keywords.txt").read_text().splitlines():
        _, kind = line.split("\t")
        assert kind in {"KEYWORD1", "KEYWORD2", "LITERAL1"}
    assert (library / "examples" / packaged.name / f"{packaged.name}.ino").is_file()
    assert not list(library.rglob("*.part"))


def build(packaged: Packaged, folder: Path, tool: Callable[[str], str], run: Run, extra: str = "") -> Path:
    """The example's ELF; `extra`: a flag for C files."""
    builder = tool("arduino-builder")
    for needed in ("arduino-ctags", "arm-none-eabi-g++", "qemu-system-arm"):
        tool(needed)
    library = packaged.copy("arduino", folder / "libraries")
    for name in ("build", "tools"):
        (folder / name).mkdir()
    sketch = library / "examples" / packaged.name / f"{packaged.name}.ino"
    places = ["-hardware", HERE / "arduino", "-tools", folder / "tools", "-libraries", folder / "libraries"]
    places += ["-fqbn", "qemu:arm:m4f", "-build-path", folder / "build", "-prefs", f"extra={extra}"]
    run(builder, "-compile", *places, sketch)
    return folder / "build" / f"{packaged.name}.ino.elf"


def emulate(elf: Path, tool: Callable[[str], str], run: Run) -> str:
    board = ["-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    return run(tool("qemu-system-arm"), *board, "-semihosting-config", "enable=on,target=native", "-kernel", elf)


def test_built_by_arduino_builder_and_run(
    packaged: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run
) -> None:
    printed = emulate(build(packaged, tmp_path, tool, run), tool, run)
    assert printed.endswith(f"{packaged.name}: ok\n")
    if packaged.name == "core":
        assert printed == packaged.printed(arduino=True)


def test_products_are_not_fused(classifier: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run) -> None:
    """A sketch has as many fused instructions as with -ffp-contract=off, which Arduino has no place for."""
    found = []
    for extra in ("", "-ffp-contract=off", "-DEP_CONTRACT_H"):  # the last: as if contract.h were not there
        (tmp_path / extra).mkdir(exist_ok=True)
        elf = build(classifier, tmp_path / extra, tool, run, extra)
        found.append(len(re.findall(r"\tvfn?m[as]\.f32", run(tool("arm-none-eabi-objdump"), "-d", elf))))
    assert found[0] == found[1] < found[2]
