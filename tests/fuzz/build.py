"""Compiles the fuzzers: the runtime with a sanitizer and with counters of what ran, and libFuzzer around it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from tests.support import compiler

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"

#: what is fuzzed: a file here and its mutator
TARGETS = ["image", "record"]

UNDEFINED = "undefined,float-cast-overflow"
#: what watches, by name: flags of the runtime, and what libFuzzer is linked in with. Vectors compute in lanes that nobody reads,
#: which the memory sanitizer takes for reads: it sees the portable kernels, the others all that there are.
VARIANTS = {
    "asan": ["-fsanitize=address," + UNDEFINED],
    "msan": ["-fsanitize=memory", "-DEP_PORTABLE"],
    "m32": ["-m32", "-msse2", "-mfpmath=sse", "-fsanitize=address," + UNDEFINED],
}
#: counters only: libFuzzer's records of comparisons cost half the time, and its mutators know the format
COMMON = ["-O1", "-g1", "-fno-sanitize-recover=all", "-fsanitize-coverage=inline-8bit-counters,pc-table"]
#: of the fuzzers themselves
LENIENT = ["-D_POSIX_C_SOURCE=200809L", "-Wno-conversion", "-Wno-double-promotion", "-I", str(HERE)]


def missing(variant: str, cc: str = "clang") -> str | None:
    """What keeps this machine from building a variant, or None."""
    with tempfile.TemporaryDirectory() as folder:
        probe = Path(folder) / "probe.c"
        probe.write_text(
            "#include <math.h>\n#include <stdint.h>\n#include <stdlib.h>\n"
            "int LLVMFuzzerTestOneInput(const uint8_t *d, size_t n) { return n > 9 && sqrt(d[0]) > 99; }\n"
        )
        command = [cc, *VARIANTS[variant], "-fsanitize=fuzzer", str(probe), "-lm", "-o", str(probe.with_suffix(""))]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            return f"no {cc}"
        return None if done.returncode == 0 else f"{cc} cannot link with {' '.join(VARIANTS[variant])}"


def fuzzer(target: str, variant: str, output: Path, cc: str = "clang") -> Path:
    """The fuzzer of a target under a variant's sanitizers."""
    build = [*COMMON, *VARIANTS[variant]]
    extra = [*LENIENT, str(HERE / f"mutate_{target}.c"), "-fsanitize=fuzzer"]
    return compiler.program(HERE / f"{target}.c", output, *extra, cc=cc, build=build)


def replayer(target: str, output: Path) -> Path:
    """A program that gives files to the target, once for each of the processor's kernels; any compiler makes it."""
    extra = [*LENIENT, str(HERE / "replay.c")]
    return compiler.program(HERE / f"{target}.c", output, *extra, build=compiler.SANITIZE)
