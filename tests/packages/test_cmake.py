"""The CMake package, built by CMake in every way that its README names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.packaged import Packaged, Run

pytestmark = pytest.mark.slow  # builds whole projects

PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(user C)
{how}
add_executable(user main.c)
target_link_libraries(user PRIVATE core::core)
"""

HOW = {
    "add_subdirectory": "add_subdirectory(core)",
    "find_package as it lies": "find_package(core 0.1 REQUIRED PATHS ${CMAKE_CURRENT_SOURCE_DIR}/core)",
    "find_package installed": "find_package(core 0.1 REQUIRED)",
    "FetchContent": """
        include(FetchContent)
        FetchContent_Declare(core SOURCE_DIR ${CMAKE_CURRENT_SOURCE_DIR}/core)
        FetchContent_MakeAvailable(core)""",
}


@pytest.mark.parametrize("how", HOW)
def test_in_a_project(classifier: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run, how: str) -> None:
    user, cmake = tmp_path / "user", tool("cmake")
    package = classifier.copy("cmake", user)
    if how == "find_package installed":
        run(cmake, "-S", package, "-B", tmp_path / "lib")
        run(cmake, "--build", tmp_path / "lib")
        run(cmake, "--install", tmp_path / "lib", "--prefix", tmp_path / "prefix")
        package.rename(tmp_path / "gone")
        package = tmp_path / "gone"
    (user / "main.c").write_bytes((package / "examples" / "core.c").read_bytes())
    (user / "CMakeLists.txt").write_text(PROJECT.format(how=HOW[how]))
    run(cmake, "-S", user, "-B", user / "build", f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}")
    run(cmake, "--build", user / "build")
    assert run(user / "build" / "user") == classifier.printed()


def test_by_itself(packaged: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run) -> None:
    package = packaged.copy("cmake", tmp_path)
    run(tool("cmake"), "-S", ".", "-B", "build", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", cwd=package)
    run(tool("cmake"), "--build", "build", cwd=package)
    printed = run(package / "build" / f"{packaged.name}_example")
    assert printed.endswith(f"{packaged.name}: ok\n")
    if packaged.name == "junction":
        assert printed == "output 0: 0/1000\noutput 1: 0/1000\njunction: ok\n"
    for row in json.loads((package / "build" / "compile_commands.json").read_text()):
        compiled = Path(row["file"]).relative_to(package).as_posix()
        if compiled.startswith("src/") and compiled != f"src/{packaged.name}_data.c":
            assert "-ffp-contract=off" in row["command"]


def test_without_learning(classifier: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run) -> None:
    package = classifier.copy("cmake", tmp_path)
    run(tool("cmake"), "-S", ".", "-B", "build", "-DEDGEPROP_NO_TRAIN=ON", "-DEDGEPROP_NO_ERRMSG=ON", cwd=package)
    run(tool("cmake"), "--build", "build", cwd=package)
    assert run(package / "build" / "core_example") == f"label {classifier.label_and_loss[0]}\ncore: ok\n"


def test_two_models_share_a_runtime(
    classifier: Packaged, regressor: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run
) -> None:
    classifier.copy("cmake", tmp_path)
    regressor.copy("cmake", tmp_path)
    main = '#include "core_model.h"\n#include "curve.h"\nint main(void) { return core.n_inputs != curve.n_inputs; }\n'
    (tmp_path / "main.c").write_text(main)
    lines = PROJECT.format(how="add_subdirectory(core)\nadd_subdirectory(curve)").replace("core::core)", "core curve)")
    (tmp_path / "CMakeLists.txt").write_text(lines)
    run(tool("cmake"), "-S", ".", "-B", "build", cwd=tmp_path)
    run(tool("cmake"), "--build", "build", cwd=tmp_path)
    run(tmp_path / "build" / "user")
    assert len(list((tmp_path / "build").rglob("libedgeprop.a"))) == 1
    run(tool("cmake"), "--install", "build", "--prefix", "prefix", cwd=tmp_path)
    find = PROJECT.format(how="find_package(core REQUIRED)\nfind_package(curve REQUIRED)")
    (tmp_path / "CMakeLists.txt").write_text(find.replace("core::core)", "core::core curve::curve)"))
    run(tool("cmake"), "-S", ".", "-B", "again", f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}", cwd=tmp_path)
    run(tool("cmake"), "--build", "again", cwd=tmp_path)
    run(tmp_path / "again" / "user")


def test_for_a_microcontroller(classifier: Packaged, tmp_path: Path, tool: Callable[[str], str], run: Run) -> None:
    """Both libraries, by a cross compiler as a toolchain file names it; the linking is the firmware project's."""
    package = classifier.copy("cmake", tmp_path)
    toolchain = {
        "SYSTEM_NAME": "Generic",
        "SYSTEM_PROCESSOR": "arm",
        "C_COMPILER": tool("arm-none-eabi-gcc"),
        "C_FLAGS": "-mcpu=cortex-m4 -mthumb -mfloat-abi=hard -mfpu=fpv4-sp-d16",
        "TRY_COMPILE_TARGET_TYPE": "STATIC_LIBRARY",
    }
    flags = [f"-DCMAKE_{key}={value}" for key, value in toolchain.items()]
    run(tool("cmake"), "-S", package, "-B", tmp_path / "build", *flags)
    run(tool("cmake"), "--build", tmp_path / "build", "--target", "core")
    symbols = run(tool("arm-none-eabi-nm"), tmp_path / "build" / "libcore.a")
    assert " R core\n" in symbols
