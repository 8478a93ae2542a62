"""The C tests of the core (tests/c), with and without sanitizers, by every compiler that is there; and what the
compiled core promises: no warning, no allocation, no globals, and switches that leave out what they say."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import compiler
from tests.support.compiler import CORE, CSRC, PLAIN, ROOT, SANITIZE, STANDARD, STRICT, require, run, scratch

TESTS = ROOT / "tests" / "c"
COMPILERS = ["gcc", "clang"]
BUILDS = {"plain": PLAIN, "sanitized": SANITIZE}
PROGRAMS = ["test_arena", "test_losses", "test_learn", "test_refused", "test_save", "test_load"]
SWITCHES = ["", "EP_NO_TRAIN", "EP_NO_ERRMSG", "EP_NO_INPUT_CHECK", "EP_TRACE"]
#: for the programs themselves
LENIENT = ["-D_POSIX_C_SOURCE=200809L", "-Wno-conversion", "-Wno-double-promotion"]
SMALL = ["-DEP_NO_TRAIN", "-DEP_NO_ERRMSG"]

#: what the core may ask of the C library
ALLOWED = {"memcpy", "memset", "memcmp", "memmove", "expf", "logf", "log1pf", "sqrtf", "_GLOBAL_OFFSET_TABLE_"}


def program(name: str, cc: str, build: list[str], *switches: str) -> Path:
    """A program of tests/c, linked with the runtime."""
    require(cc, *build)
    output = scratch() / "-".join([name, cc, "sanitized" if build is SANITIZE else "plain", *switches])
    return compiler.program(TESTS / f"{name}.c", output, *LENIENT, cc=cc, build=build, switches=switches)


#: what clang compiles is minutes more
CASES = [
    pytest.param(cc, build, marks=pytest.mark.slow if cc == "clang" else []) for cc in COMPILERS for build in BUILDS
]


@pytest.mark.parametrize(("cc", "build"), CASES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, cc: str, build: str) -> None:
    run([program(name, cc, BUILDS[build])])


@pytest.mark.parametrize("cc", ["gcc", pytest.param("clang", marks=pytest.mark.slow)])
def test_random_images(cc: str) -> None:
    """10,000 images changed at random; gcc and clang see different ones."""
    run([program("fuzz_load", cc, SANITIZE), "10000", str(1000 + len(cc))])


def test_trace() -> None:
    run([program("test_trace", "cc", PLAIN, "-DEP_TRACE")])


def test_without_training() -> None:
    run([program("test_load", "cc", PLAIN), scratch() / "mlp.ep"])
    run([program("test_no_train", "cc", PLAIN, *SMALL), scratch() / "mlp.ep"])


def test_without_the_check_of_inputs() -> None:
    """Inference takes NaN then; learning does not."""
    run([program("test_refused", "cc", PLAIN, "-DEP_NO_INPUT_CHECK")])


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-ffinite-math-only"])
@pytest.mark.parametrize("cc", COMPILERS)
def test_arithmetic_without_nan_does_not_compile(cc: str, flag: str) -> None:
    """What is not finite could not be refused any more."""
    require(cc)
    for name in ("core.c", "learn.c", "ops/dense_f32.c"):
        command = [cc, *STANDARD, flag, f"-I{CSRC}", "-fsyntax-only", str(CSRC / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "compile without" in done.stderr


def test_arithmetic_in_more_digits_does_not_compile() -> None:
    """A 32-bit x86 computes with 64 bits of mantissa unless it is told to use SSE: bounds and codes would be others."""
    require("gcc")
    command = ["gcc", *STANDARD, f"-I{CSRC}", "-mfpmath=387", "-fsyntax-only", str(CSRC / "core.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized" in done.stderr:
        pytest.skip("no x87")
    assert done.returncode != 0
    assert "-mfpmath=sse" in done.stderr


#: every file with every switch by one compiler, each compiler has half of them; `make lint` has the other half too
WARNED = [
    pytest.param(source, COMPILERS[(i + k) % 2], switch, id=f"{source.stem}-{COMPILERS[(i + k) % 2]}-{switch}")
    for i, source in enumerate(CORE)
    for k, switch in enumerate(SWITCHES)
]


@pytest.mark.parametrize(("source", "cc", "switch"), WARNED)
def test_no_warning(source: Path, cc: str, switch: str) -> None:
    require(cc)
    define = [f"-D{switch}"] if switch else []
    run([cc, *STANDARD, *STRICT, *define, "-O2", f"-I{CSRC}", "-fsyntax-only", source])


def symbols(archive: Path) -> list[tuple[str, str, str]]:
    """(file, kind, name) of every symbol, as nm has them."""
    rows = []
    for line in run(["nm", "-A", archive]).splitlines():
        place, rest = line.rsplit(":", 1)
        *_, kind, name = rest.split()
        rows.append((place.rsplit(":", 1)[-1], kind, name))
    return rows


def test_core_stands_alone() -> None:
    """No allocation, no input or output, no variable that could change."""
    require("cc")
    rows = [row for row in symbols(compiler.library("cc", *PLAIN)) if row[0].startswith("csrc_")]
    assert len({file for file, _, _ in rows}) == len(CORE)
    asked = {name for _, kind, name in rows if kind == "U" and not name.startswith("ep_")}
    assert asked <= ALLOWED
    assert [row for row in rows if row[1] in "bBcCsSgG"] == []
    # Tables of pointers are constant, but relocated: `d` in a position-independent build.
    writable = {name for _, kind, name in rows if kind in "dD"}
    assert {name for name in writable if not name.startswith(("ep_", "ops", "losses", "texts"))} == set()


def test_no_train_leaves_learning_out() -> None:
    require("cc")
    names = {name for _, kind, name in symbols(compiler.library("cc", *PLAIN, *SMALL)) if kind != "U"}
    assert "ep_infer" in names
    assert names & {"ep_learn", "ep_sgd", "ep_emit", "ep_mse", "ep_accumulate"} == set()


def test_header_in_cpp() -> None:
    require("c++")
    unit = scratch() / "unit.cpp"
    unit.write_text(
        '#include "edgeprop.h"\nint main() { ep_t ep; return ep_init(&ep, nullptr, nullptr, 0) == EP_OK; }\n'
    )
    run(["c++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{CSRC}", unit])
