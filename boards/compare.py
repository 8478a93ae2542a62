"""The same program on every board: inference, gradients and ten learning steps beside this machine's.

int8 values must be equal bit for bit, tensor by tensor; float32 ones within 1e-5 of the largest of their tensor, and
where they are equal too, that is said. What is expected comes from the same program on this machine, in portable C; the
build that uses this machine's instructions is held against it like a board. Besides, every kernel that a board picks runs
on random shapes against the portable one, there.
"""

from __future__ import annotations

import argparse
import functools
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import build, models
from .nets import NETS
from .table import BOARDS, DESKTOPS, HOST, Board

TOLERANCE = 1e-5
KERNELS = "kernels"
ROUNDS = 40  # random shapes for each kernel; on this machine the tests run many more
SMALLEST = 1e-2  # a tensor whose values are all smaller counts as one with this largest value
MODELS = ("mlp_64_32_10", "small", "small_int8", "ds_cnn_head", "resnet8_int8", *NETS)
NORMAL = ("-O2", "-DEP_TRACE")
PORTABLE = (*NORMAL, "-DEP_PORTABLE")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-Werror")
ALL = {HOST.name: HOST, **BOARDS}


@dataclass
class Result:
    """A model on a board.

    Attributes
    ----------
    int8, int8_different : tensors that were compared, and of them those with another bit
    f32, f32_different : float32 tensors likewise
    largest : difference of a float32 value, relative to the largest of its tensor
    note : why there is nothing to compare, or what went wrong
    skipped : there was no room
    tables : of kernels that were held against the portable ones
    """

    int8: int = 0
    int8_different: int = 0
    f32: int = 0
    f32_different: int = 0
    largest: float = 0.0
    note: str = ""
    skipped: bool = False
    tables: str = ""

    @property
    def passed(self) -> bool:
        """Whether the board keeps the contract."""
        return self.skipped or (not self.note and not self.int8_different and self.largest <= TOLERANCE)

    def cells(self) -> tuple[str, str, str]:
        """For the table: int8, float32, verdict."""
        if self.note:
            return "", "", f"{'skipped' if self.skipped else 'FAILED'}: {self.note}"
        if self.tables:
            return self.tables, "", "passed"
        int8 = f"{self.int8} equal" if not self.int8_different else f"{self.int8_different} of {self.int8} DIFFER"
        float32 = f"{self.f32} equal"
        if self.f32_different:
            float32 = f"{self.f32 - self.f32_different} of {self.f32} equal, {self.largest:.0e}"
        return int8 if self.int8 else "-", float32, "passed" if self.passed else "FAILED"


def link(board: Board, model: models.Model, flags: tuple[str, ...], sums: bool) -> build.Program:
    """The program for a board; `sums`: with gradient sums, so that the weights' gradients can be seen."""
    learns = ("-DLEARN",) if model.learns else ()
    sums_bytes = f"{model.symbol.upper()}_SUMS_BYTES" if model.learns and sums else "0"
    defines = (*model.defines("TRAIN" if model.learns else "INFER"), *learns, f"-DSUMS={sums_bytes}")
    name = f"compare_{model.name}" + ("_portable" if "-DEP_PORTABLE" in flags else "")
    return build.program(board, name, build.HERE / "compare.c", flags=flags, defines=defines, includes=(model.header,))


@functools.cache
def expected(model: models.Model, sums: bool) -> str:
    """What this machine prints, in portable C."""
    return build.execute(link(HOST, model, PORTABLE, sums))


def run(board: Board, model: models.Model) -> Result:
    """Run a model on a board, without gradient sums if there is no room for them, and compare."""
    try:
        for sums in (True, False) if model.learns else (False,):
            try:
                built = link(board, model, NORMAL, sums)
            except build.NoRoom:
                continue
            return difference(build.execute(built), expected(model, sums))
    except build.BuildError as error:
        return Result(note=str(error))
    return Result(note="no room", skipped=True)


def run_kernels(board: Board) -> Result:
    """Run every kernel that the board picks against the portable one."""
    source = build.ROOT / "tests" / "kernels" / "test_kernels.c"
    try:
        # with the flags of the models, for which the runtime is compiled already
        report = build.execute(build.program(board, KERNELS, source, flags=NORMAL, defines=(f"-DROUNDS={ROUNDS}",)))
    except build.NoRoom:
        return Result(note="no room", skipped=True)
    except build.BuildError as error:
        return Result(note=str(error))
    tables = re.findall(r"^(.+): 0 failures$", report, re.MULTILINE)
    return Result(tables=", ".join(tables), note="" if tables else f"no table was tested: {report}")


def difference(got: str, wanted: str) -> Result:
    """Compare what two programs printed: lines of kind, name and values."""
    result = Result()
    ours, theirs = ([line.split() for line in text.splitlines()] for text in (got, wanted))
    if [line[:2] for line in ours] != [line[:2] for line in theirs]:
        return Result(note=f"printed {len(ours)} lines where {len(theirs)} were expected, or others")
    for (kind, _, *values), (_, _, *want) in zip(ours, theirs, strict=True):
        if kind == "int8":
            result.int8 += 1
            result.int8_different += values != want
        elif kind == "f32":
            result.f32 += 1
            result.f32_different += values != want
            result.largest = max(result.largest, _relative(_floats(values), _floats(want)))
    return result


def _floats(words: list[str]) -> NDArray[np.float64]:
    return np.array([int(word, 16) for word in words], np.uint32).view(np.float32).astype(np.float64)


def _relative(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    largest = float(np.abs(a - b).max()) / max(float(np.abs(b).max()), SMALLEST)
    return largest if np.isfinite(largest) else np.inf


def compiles(desktop: Board) -> str:
    """What is wrong with the library compiled for a desktop system, every warning an error; "" if nothing is."""
    try:
        build.compile_runtime(desktop, ("-O2", *WARNINGS))
    except build.BuildError as error:
        return f"FAILED: {error}"
    return ""


# ---- The command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m boards compare`."""
    parser.add_argument("--board", nargs="+", choices=list(ALL), default=list(ALL))
    parser.add_argument("--work", nargs="+", choices=(KERNELS, *MODELS), default=[KERNELS, *MODELS])
    parser.add_argument(
        "--no-desktop", dest="desktop", action="store_false", help="do not compile for Windows and macOS"
    )
    parser.add_argument("--jobs", type=int, default=2)


def main(args: argparse.Namespace) -> int:
    """Run, print a line as each is done. 1 if a board fails, or in CI is skipped."""
    boards, missing = build.available([ALL[name] for name in args.board])
    desktops, skipped = build.available(DESKTOPS if args.desktop else ())
    made = {name: models.make(name) for name in args.work if name != KERNELS}
    tasks = [(board, work) for board in boards for work in args.work]
    failed = 0

    def check(task: tuple[Board, str]) -> Result:
        board, work = task
        return run_kernels(board) if work == KERNELS else run(board, made[work])

    _line("board", "", "work", "int8 tensors", "float32 tensors", "verdict")
    with ThreadPoolExecutor(args.jobs) as pool:
        for (board, work), result in zip(tasks, pool.map(check, tasks), strict=True):
            _line(board.name, board.what, work, *result.cells())
            failed += not result.passed
    for desktop in desktops:
        note = compiles(desktop)
        _line(desktop.name, desktop.what, "the library", "compiles" if not note else "", "", note or "passed")
        failed += bool(note)
    print("\n".join([*missing, *skipped, f"{failed} failed, {len(missing + skipped)} skipped"]))
    return 1 if failed or build.skips_fail(missing + skipped) else 0


def _line(*cells: str) -> None:
    widths = (6, 16, 17, 18, 24, 0)
    print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip(), flush=True)
