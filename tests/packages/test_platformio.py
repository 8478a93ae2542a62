"""The PlatformIO library, built by PlatformIO.

Its builder runs SCons from a package of its own registry, and platforms come from there too; here SCons is PyPI's, and the
platforms are those of these tests, so that nothing is downloaded.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.packaged import Packaged, Run

pytestmark = pytest.mark.slow  # builds whole projects

HERE = Path(__file__).resolve().parent


def installed(folder: Path, kind: str, version: str) -> None:
    """Tell PlatformIO that the folder is a package of its registry."""
    spec = {"owner": "platformio", "id": None, "name": folder.name, "requirements": None, "uri": None}
    (folder / ".piopm").write_text(json.dumps({"type": kind, "name": folder.name, "version": version, "spec": spec}))


@pytest.fixture
def home(tmp_path: Path, tool: Callable[[str], str]) -> dict[str, str]:
    """An environment with a home for PlatformIO that holds SCons and the platforms `native` and `ststm32`."""
    tool("pio")
    pytest.importorskip("SCons")
    dependencies = pytest.importorskip("platformio.dependencies")
    core = tmp_path / "core"
    for name in ("native", "ststm32"):
        platform = shutil.copytree(HERE / "platformio" / name, core / "platforms" / name)
        installed(platform, "platform", "1.0.0")
    shutil.copytree(HERE / "arduino/qemu/arm/cores/qemu", core / "platforms/ststm32/core")
    scons = core / "packages" / "tool-scons"
    scons.mkdir(parents=True)
    version = dependencies.get_core_dependencies()["tool-scons"].lstrip("~^=")
    (scons / "scons.py").write_text("from SCons.Script.Main import main\n\nmain()\n")
    (scons / "package.json").write_text(json.dumps({"name": "tool-scons", "version": version}))
    installed(scons, "tool", version)
    return {"PLATFORMIO_CORE_DIR": str(core), "PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no", "CI": "true"}


def test_built_and_run_by_platformio(
    packaged: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run, home: dict[str, str]
) -> None:
    package = packaged.copy("platformio", tmp_path / "lib")
    example = package / "examples" / packaged.name
    printed = run(tool("pio"), "run", "-d", example, "-e", "native", "-v", env=home)
    compiled = [line for line in printed.splitlines() if f"{package}/src/" in line and " -c " in line]
    assert len(compiled) == len(list(package.glob("src/**/*.c")))
    assert all("-ffp-contract=off" in line for line in compiled)
    printed = run(example / ".pio" / "build" / "native" / "program")
    assert printed.endswith(f"{packaged.name}: ok\n")
    if packaged.name == "core":
        assert printed == packaged.printed()


def test_packed_by_platformio(
    classifier: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run, home: dict[str, str]
) -> None:
    """`pio pkg pack` checks the manifest. It would look the licence's name up in a list that it downloads: not here."""
    package = classifier.copy("platformio", tmp_path / "lib")
    manifest = json.loads((package / "library.json").read_text())
    assert manifest.pop("license") == "Apache-2.0"
    (package / "library.json").write_text(json.dumps(manifest))
    run(tool("pio"), "pkg", "pack", "-o", tmp_path / "core.tar.gz", package, env=home)
    with tarfile.open(tmp_path / "core.tar.gz") as archive:
        names = archive.getnames()
    assert {"library.json", "src/core.c", "include/core_model.h", "examples/core/platformio.ini"} <= set(names)
    manifest["version"] = "not a version"
    (package / "library.json").write_text(json.dumps(manifest))
    with pytest.raises(AssertionError, match="version"):
        run(tool("pio"), "pkg", "pack", "-o", tmp_path / "bad.tar.gz", package, env=home)


def test_board_built_by_platformio(
    classifier: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run, home: dict[str, str]
) -> None:
    """The board's environment, as platformio.ini has it, with a platform of these tests for its registry's; in QEMU."""
    tool("arm-none-eabi-g++")
    example = classifier.copy("platformio", tmp_path / "lib") / "examples" / "core"
    run(tool("pio"), "run", "-d", example, "-e", "board", env=home)
    board = ["-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    board += ["-semihosting-config", "enable=on,target=native"]
    printed = run(tool("qemu-system-arm"), *board, "-kernel", example / ".pio/build/board/program.elf")
    assert printed == classifier.printed(arduino=True)
