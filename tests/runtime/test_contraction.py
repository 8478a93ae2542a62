"""Products are not fused with sums, whatever flags the sources are compiled with: build systems without flags of a
library's own compile them as gnu99 or later, where compilers fuse if the target can."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.compiler import CSRC

M4F = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
ARM64 = ["--target=aarch64-linux-gnu", "-I/usr/aarch64-linux-gnu/include"]
COMPILERS = {
    "gcc, Cortex-M4F": ["arm-none-eabi-gcc", *M4F],
    "gcc, Cortex-M4F, -Os": ["arm-none-eabi-gcc", *M4F, "-Os"],
    "gcc, AArch64": ["aarch64-linux-gnu-gcc"],
    "gcc, x86 with FMA": ["gcc", "-mavx2", "-mfma"],
    "clang, AArch64": ["clang", *ARM64],
    "clang, x86 with FMA": ["clang", "-mavx2", "-mfma"],
}
FUSED = re.compile(r"\b(vfn?m[as]\w*|fn?m(la|ls|add|sub)|vfn?m(add|sub)\w*)\b")


def fused(command: list[str], flags: list[str], folder: Path) -> int:
    """Fused instructions in all of the runtime's code."""
    count = 0
    for source in [*CSRC.glob("*.c"), *CSRC.glob("ops/*.c"), *CSRC.glob("kernels/**/*.c")]:
        full = [*command, *flags, "-w", "-I", CSRC, "-S", source, "-o", folder / "out.s"]
        done = subprocess.run(full, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        count += len(FUSED.findall((folder / "out.s").read_text()))
    return count


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_sources_say_what_the_flag_says(compiler: str, tmp_path: Path) -> None:
    """As many fused instructions without the flag as with it (those the source asks for), and fewer than the compiler
    would make if the sources did not say so."""
    command = [*COMPILERS[compiler], "-std=gnu11"]
    command += [] if "-Os" in command else ["-O2"]
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    if compiler == "clang, AArch64" and not Path(ARM64[1][2:]).is_dir():
        pytest.skip("no libc headers for AArch64")
    asked_for = fused(command, ["-ffp-contract=off"], tmp_path)
    assert fused(command, [], tmp_path) == asked_for
    assert fused(command, ["-DEP_CONTRACT_H"], tmp_path) > asked_for  # as if contract.h were not there
