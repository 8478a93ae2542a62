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
    "gcc, Cortex-M55": ["arm-none-eabi-gcc", "-mcpu=cortex-m55", "-mthumb", "-mfloat-abi=hard"],
    "gcc, ARMv7 NEON": ["arm-linux-gnueabihf-gcc", "-mcpu=cortex-a7", "-mfpu=neon-vfpv4"],
    "gcc, AArch64": ["aarch64-linux-gnu-gcc"],
    "gcc, x86 with FMA": ["gcc", "-mavx2", "-mfma"],
    "clang, AArch64": ["clang", *ARM64],
    "clang, x86 with FMA": ["clang", "-mavx2", "-mfma"],
}
FUSED = re.compile(r"\b(vfn?m[as]\w*|fn?m(la|ls|add|sub)|vfn?m(add|sub)\w*)\b")


def fused(command: list[str], source: Path, folder: Path, *flags: str) -> int:
    """Fused instructions in a file's code."""
    full = [*command, *flags, "-w", "-I", CSRC, "-S", source, "-o", folder / "out.s"]
    done = subprocess.run(full, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return len(FUSED.findall((folder / "out.s").read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_sources_say_what_the_flag_says(compiler: str, tmp_path: Path) -> None:
    """As many fused instructions without -ffp-contract=off as with it: those the source asks for."""
    command = [*COMPILERS[compiler], "-std=gnu11", "-O2"]
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]}")
    if compiler == "clang, AArch64" and not Path(ARM64[1][2:]).is_dir():
        pytest.skip("no libc headers for AArch64")
    sensitive = 0
    for source in [*CSRC.glob("*.c"), *CSRC.glob("ops/*.c"), *CSRC.glob("kernels/**/*.c")]:
        # What the compiler would make if contract.h were not there.
        most = fused(command, source, tmp_path, "-DEP_CONTRACT_H")
        if most == 0:
            continue
        asked_for = fused(command, source, tmp_path, "-ffp-contract=off")
        assert fused(command, source, tmp_path) == asked_for, source
        sensitive += most > asked_for
    assert sensitive > 5
