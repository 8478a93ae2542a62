"""Every kernel of every instruction set this processor has, against the portable one: exact memory under sanitizers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.compiler import CSRC, STRICT, run

SOURCES = [Path(__file__).with_suffix(".c"), *sorted(CSRC.glob("kernels/**/*.c"))]
BASE = ["-std=c99", "-ffp-contract=off", *STRICT, "-I", CSRC]
BUILDS = {
    "fast": ["-O2", "-DROUNDS=3000"],
    "small": ["-Os", "-DROUNDS=1000"],
    "plain": ["-O0"],
    "sanitized": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DROUNDS=1500"],
}


@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_against_portable(compiler: str, build: str, tmp_path: Path) -> None:
    """The program's report names no failure."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler}")
    run([compiler, *BASE, *BUILDS[build], *SOURCES, "-lm", "-o", tmp_path / "kernels"])
    report = run([tmp_path / "kernels"])
    assert "portable: 0 failures" in report
