"""The C tests of the core (tests/c), with and without sanitizers, by every compiler that is there; and what the
compiled core promises: no warning, no allocation, no globals, and switches that leave out what they say."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC, TESTS = ROOT / "csrc", ROOT / "tests" / "c"
CORE = sorted(CSRC.glob("*.c"))
LIBRARY = CORE + sorted(CSRC.glob("ops/*.c")) + sorted(CSRC.glob("kernels/**/*.c"))
FLAGS = ["-std=c99", "-ffp-contract=off", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
STRICT = ["-Wconversion", "-Wdouble-promotion"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
COMPILERS = ["gcc", "clang"]
BUILDS = {"plain": ["-O2"], "sanitized": ["-O1", *SANITIZERS]}
PROGRAMS = ["test_arena", "test_losses", "test_learn", "test_save", "test_load"]
SWITCHES = ["", "EP_NO_TRAIN", "EP_NO_ERRMSG", "EP_TRACE"]

#: what the core may ask of the C library
ALLOWED = {"memcpy", "memset", "memcmp", "memmove", "expf", "logf", "log1pf", "sqrtf", "_GLOBAL_OFFSET_TABLE_"}


def run(*command: str | Path) -> str:
    """Output of a command that must succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


#: for what is built; gone with the process
_FOLDER = tempfile.TemporaryDirectory(prefix="edgeprop-c-")


def scratch() -> Path:
    return Path(_FOLDER.name)


def require(compiler: str, *flags: str) -> None:
    """Skips the test if the compiler is not there, or cannot link with these flags."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    probe = scratch() / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    done = subprocess.run([compiler, *flags, probe, "-o", probe.with_suffix("")], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"{compiler} has no {' '.join(flags)}")


@functools.cache
def library(compiler: str, *flags: str) -> Path:
    """The runtime as an archive."""
    folder = Path(tempfile.mkdtemp(dir=scratch()))
    for source in LIBRARY:
        run(compiler, *FLAGS, *flags, f"-I{CSRC}", "-c", source, "-o", folder / f"{source.stem}.o")
    run("ar", "rcs", folder / "library.a", *sorted(folder.glob("*.o")))
    return folder / "library.a"


def program(name: str, compiler: str, *flags: str) -> Path:
    """A program of tests/c, linked with the runtime."""
    archive = library(compiler, *flags)
    target = archive.parent / name
    options = [*FLAGS, *flags, "-D_POSIX_C_SOURCE=200809L", f"-I{CSRC}"]
    run(compiler, *options, TESTS / f"{name}.c", archive, "-lm", "-o", target)
    return target


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name: str, compiler: str, build: str) -> None:
    require(compiler, *BUILDS[build])
    run(program(name, compiler, *BUILDS[build]))


@pytest.mark.parametrize("compiler", COMPILERS)
def test_random_images(compiler: str) -> None:
    """10,000 images changed at random; gcc and clang see different ones."""
    flags = BUILDS["sanitized"]
    require(compiler, *flags)
    run(program("fuzz_load", compiler, *flags), "10000", str(1000 + len(compiler)))


def test_trace() -> None:
    require("cc")
    run(program("test_trace", "cc", "-O1", "-DEP_TRACE"))


def test_without_training() -> None:
    require("cc")
    run(program("test_load", "cc", "-O1"), scratch() / "mlp.ep")
    small = program("test_no_train", "cc", "-O1", "-DEP_NO_TRAIN", "-DEP_NO_ERRMSG")
    run(small, scratch() / "mlp.ep")


@pytest.mark.parametrize("switch", SWITCHES)
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("source", CORE, ids=lambda path: path.stem)
def test_no_warning(source: Path, compiler: str, switch: str) -> None:
    require(compiler)
    define = [f"-D{switch}"] if switch else []
    run(compiler, *FLAGS, *STRICT, *define, "-O2", f"-I{CSRC}", "-fsyntax-only", source)


def symbols(archive: Path) -> list[tuple[str, str, str]]:
    """(file, kind, name) of every symbol, as nm has them."""
    rows = []
    for line in run("nm", "-A", archive).splitlines():
        place, rest = line.rsplit(":", 1)
        *_, kind, name = rest.split()
        rows.append((place.rsplit(":", 1)[-1], kind, name))
    return rows


def test_core_stands_alone() -> None:
    """No allocation, no input or output, no variable that could change."""
    require("cc")
    core = {f"{path.stem}.o" for path in CORE}
    rows = [row for row in symbols(library("cc", "-O2")) if row[0] in core]
    assert rows
    asked = {name for _, kind, name in rows if kind == "U" and not name.startswith("ep_")}
    assert asked <= ALLOWED
    assert [row for row in rows if row[1] in "bBcCsSgG"] == []
    # Tables of pointers are constant, but relocated: `d` in a position-independent build.
    writable = {name for _, kind, name in rows if kind in "dD"}
    assert {name for name in writable if not name.startswith(("ep_", "ops", "losses", "texts"))} == set()


def test_no_train_leaves_learning_out() -> None:
    require("cc")
    names = {name for _, kind, name in symbols(library("cc", "-O1", "-DEP_NO_TRAIN", "-DEP_NO_ERRMSG")) if kind != "U"}
    assert "ep_infer" in names
    assert names & {"ep_learn", "ep_sgd", "ep_emit", "ep_mse", "ep_accumulate"} == set()


def test_header_in_cpp() -> None:
    require("c++")
    unit = scratch() / "unit.cpp"
    unit.write_text(
        '#include "edgeprop.h"\nint main() { ep_t ep; return ep_init(&ep, nullptr, nullptr, 0) == EP_OK; }\n'
    )
    run("c++", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{CSRC}", unit)
