"""Every kernel of every instruction set this processor has, against the portable one: exact memory under sanitizers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from boards import build
from boards.table import BOARDS
from tests.support.compiler import CSRC, KERNELS, PLAIN, SANITIZE, STANDARD, STRICT, objects, require, run

BASE: list[str | Path] = [*STANDARD, *STRICT, "-I", CSRC]
#: flags of the kernels, switches of the program
BUILDS = {
    "fast": (PLAIN, ["-DROUNDS=3000"]),
    "small": (["-Os"], ["-DROUNDS=1000"]),
    "plain": (["-O0"], []),
    "guarded": (PLAIN, ["-DROUNDS=1500", "-DGUARD"]),  # sees what a sanitizer does not: masked loads, assembly
    "sanitized": (SANITIZE, ["-DROUNDS=1500"]),
}


#: each of the others is the kernels compiled once more
QUICK = {("gcc", "fast"), ("gcc", "guarded"), ("gcc", "sanitized"), ("clang", "fast")}
CASES = [
    pytest.param(cc, build, marks=[] if (cc, build) in QUICK else pytest.mark.slow)
    for cc in ("gcc", "clang")
    for build in BUILDS
]


@pytest.mark.parametrize(("cc", "build"), CASES)
def test_against_portable(cc: str, build: str, tmp_path: Path) -> None:
    """The program's report names no failure."""
    flags, switches = BUILDS[build]
    require(cc, *flags)
    kernels = objects(cc, *flags, sources=tuple(KERNELS))
    run([cc, *BASE, *flags, *switches, Path(__file__).with_suffix(".c"), *kernels, "-lm", "-o", tmp_path / "kernels"])
    report = run([tmp_path / "kernels"])
    assert "portable: 0 failures" in report


@pytest.mark.parametrize(
    ("build", "rounds"),
    [
        ("fast", 100),
        pytest.param("fast", 3000, marks=pytest.mark.slow),
        pytest.param("sanitized", 200, marks=pytest.mark.slow),
    ],
)
def test_extremes(build: str, rounds: int, tmp_path: Path) -> None:
    """The largest products and sums, the strangest multipliers: against sums in 64 bits, so that no kernel is trusted."""
    flags, _ = BUILDS[build]
    require("gcc", *flags)
    kernels = objects("gcc", *flags, sources=tuple(KERNELS))
    source = Path(__file__).with_name("test_extremes.c")
    run(["gcc", *BASE, *flags, source, *kernels, "-lm", "-o", tmp_path / "extremes"])
    told = [line.split(": ") for line in run([tmp_path / "extremes", str(rounds)]).splitlines()]
    assert told[-1][0] == "portable"
    assert min(int(count.split()[0]) for _, count in told) > 3000 * rounds


@pytest.mark.parametrize("multiply", ["wide", "narrow"])
def test_integer_rounding(multiply: str, tmp_path: Path) -> None:
    """What processors without an FPU compute is what floats give, near halves and everywhere."""
    flags: list[str | Path] = ["-O2", "-fsanitize=undefined", "-fno-sanitize-recover=all"]
    flags += ["-DEP_NARROW_MULTIPLY"] if multiply == "narrow" else []
    sources = [Path(__file__).with_name("test_integer.c"), CSRC / "kernels" / "portable" / "s8.c"]
    run(["gcc", *BASE, *flags, *sources, "-lm", "-o", tmp_path / "integer"])
    assert run([tmp_path / "integer", "300000"]).startswith("0 of 6900002 failed")


#: an M4 whose maker left out the FPU: DSP instructions, and rounding in integers
M4 = dataclasses.replace(BOARDS["m4f"], name="m4", flags=("-mthumb", "-mcpu=cortex-m4", "-mfloat-abi=soft"))
#: an M55 whose maker left out the vectors of floats
M55 = dataclasses.replace(
    BOARDS["m55"], name="m55i", flags=("-mthumb", "-mcpu=cortex-m55+nomve.fp", "-mfloat-abi=hard")
)
CORES = {"m4": M4, "m55i": M55, **{name: BOARDS[name] for name in ("m0", "m3", "m4f", "m7", "m33", "m55")}}


@pytest.mark.slow
@pytest.mark.parametrize("level", ["-O2", "-Os"])
@pytest.mark.parametrize("core", CORES)
def test_on_a_microcontroller(core: str, level: str) -> None:
    """The kernels of a Cortex-M, in QEMU, against the portable ones there; a byte behind any array faults."""
    source = Path(__file__).with_suffix(".c")
    flags = (level, "-DROUNDS=150", "-DGUARD")
    try:
        built = build.program(CORES[core], f"kernels{level}", source, flags=flags)
        assert build.execute(built) == "picked: 0 failures\n"
    except build.MissingTools as missing:
        pytest.skip(str(missing))


#: 64-bit Linux that chooses by the processor, one build for each that does not, and 32 bits with and without fused sums
ARM64 = BOARDS["a53"]
V7 = BOARDS["v7"]
CORTEX_A = {
    **{f"arm64-{name}": dataclasses.replace(BOARDS[name], name=f"arm64-{name}", flags=()) for name in ("a53", "a76")},
    **{name: BOARDS[name] for name in ("a53", "a76", "v7")},
    "a53-static": dataclasses.replace(ARM64, name="a53-static", flags=(*ARM64.flags, "-DEP_STATIC")),
    "a8": dataclasses.replace(
        V7,
        name="a8",
        flags=("-mcpu=cortex-a8", "-mfpu=neon", "-mfloat-abi=hard"),
        emulator=("qemu-arm", "-cpu", "cortex-a8"),
    ),
}
TABLES = {
    "arm64-a53": ["neon", "portable"],
    "a53": ["neon", "portable"],
    "arm64-a76": ["neon with dot products", "neon", "portable"],
}


@pytest.mark.slow
@pytest.mark.parametrize("level", ["-O2", "-Os"])
@pytest.mark.parametrize("core", CORTEX_A)
def test_on_linux_boards(core: str, level: str) -> None:
    """The kernels of a Cortex-A in QEMU; a byte behind any array faults."""
    source = Path(__file__).with_suffix(".c")
    try:
        built = build.program(CORTEX_A[core], f"kernels{level}", source, flags=(level, "-DROUNDS=400", "-DGUARD"))
        report = build.execute(built).splitlines()
        assert report == [f"{name}: 0 failures" for name in TABLES.get(core, ["picked"])]
    except build.MissingTools as missing:
        pytest.skip(str(missing))
