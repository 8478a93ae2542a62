"""Compile and link for a board, with what was compiled before; run in QEMU; count."""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .table import Board

ROOT = Path(__file__).resolve().parents[1]
CSRC = ROOT / "csrc"
HERE = ROOT / "boards"
BUILD = ROOT / "build" / "boards"

#: the folders of the runtime's C sources
SOURCES = ("*.c", "ops/*.c", "kernels/*.c", "kernels/*/*.c")
FLAGS = ("-std=c99", "-ffp-contract=off", "-ffunction-sections", "-fdata-sections")
TIMEOUT = 900  # seconds for one program in QEMU


class MissingTools(Exception):
    """The compiler or the emulator of a board is not installed."""


class BuildError(Exception):
    """A command failed; the text has it, and what it said."""


class NoRoom(BuildError):
    """The board's memory is too small for the program."""


def run(command: list[str], timeout: float | None = None, folder: str | None = None) -> str:
    """Standard output of a command that runs in a folder; `BuildError` if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, cwd=folder, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"{' '.join(command)}\nstill ran after {timeout} s") from error
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)}\nexit status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


# ---- Tools -----------------------------------------------------------------------------------------------------------


def zig(board: Board) -> bool:
    """Whether the compiler is the one of `pip install ziglang`: where there is no other, or where TOOLS=zig asks for it."""
    return bool(board.zig) and (not board.compiler or os.environ.get("TOOLS", "apt") == "zig")


@functools.cache
def compiler(board: Board) -> tuple[str, ...]:
    """The compiler and its flags for the board's CPU.

    Raises
    ------
    MissingTools : with what to install
    """
    if zig(board):
        try:
            run([sys.executable, "-m", "ziglang", "version"])
        except BuildError as error:
            raise MissingTools("no ziglang: make boards-setup, or pip install ziglang") from error
        return (sys.executable, "-m", "ziglang", "cc", *board.zig)
    if not _has_library(board):
        raise MissingTools(f"no {board.compiler} with a C library: make boards-setup, or {_install(board)}")
    return (board.compiler, *board.flags)


def _has_library(board: Board) -> bool:
    """Whether the compiler is there with a C library, which for cross compilers is another package."""
    if shutil.which(board.compiler) is None:
        return False
    # gcc answers with the bare name if it does not find the file.
    return not board.emulator or os.path.isabs(run([board.compiler, *board.flags, "-print-file-name=libc.a"]).strip())


def emulator(board: Board) -> tuple[str, ...]:
    """QEMU's command, or `MissingTools`."""
    if board.emulator and shutil.which(board.emulator[0]) is None:
        raise MissingTools(f"no {board.emulator[0]}: make boards-setup, or {_install(board)}")
    return board.emulator


def _install(board: Board) -> str:
    return f"apt install {' '.join(board.packages)}"


@functools.cache
def version(board: Board) -> str:
    """First line of what the compiler says of itself."""
    command = compiler(board)
    option = ["version"] if zig(board) else ["--version"]
    return run([*command[: 3 if option == ["version"] else 1], *option]).splitlines()[0]


# ---- Programs --------------------------------------------------------------------------------------------------------


@functools.cache
def _headers() -> bytes:
    """A digest of every header of the runtime and of the boards."""
    digest = hashlib.sha256()
    for path in sorted([*CSRC.rglob("*.h"), *HERE.glob("*.h")]):
        digest.update(path.read_bytes())
    return digest.digest()


def _object(board: Board, source: Path, flags: tuple[str, ...], includes: tuple[Path, ...] = ()) -> Path:
    """Compile one file, unless the same text was compiled by the same command before."""
    command = [*compiler(board), *FLAGS, *flags, "-I", str(CSRC), "-I", str(HERE)]
    digest = hashlib.sha256(" ".join([version(board), *command, source.name]).encode() + _headers())
    for path in (source, *includes):
        digest.update(path.read_bytes())
    output = BUILD / board.name / "objects" / f"{source.stem}-{digest.hexdigest()[:20]}.o"
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        part = _unique(output)
        folders = [f"-I{folder}" for folder in sorted({str(path.parent) for path in includes})]
        run([*command, *folders, "-c", str(source), "-o", str(part)])
        part.replace(output)
    return output


def _unique(path: Path) -> Path:
    """A name beside a file that no other process or thread takes."""
    return path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")


def runtime_sources() -> list[Path]:
    """The runtime's C files."""
    return sorted(path for pattern in SOURCES for path in CSRC.glob(pattern))


def compile_runtime(board: Board, flags: tuple[str, ...]) -> tuple[Path, ...]:
    """The runtime's objects."""
    return tuple(_object(board, path, flags) for path in runtime_sources())


@dataclass(frozen=True)
class Program:
    """A linked program, and the objects it was linked from."""

    board: Board
    path: Path
    runtime: tuple[Path, ...]
    application: Path
    support: Path


def program(
    board: Board,
    name: str,
    source: Path,
    *,
    flags: tuple[str, ...] = ("-O2",),
    defines: tuple[str, ...] = (),
    includes: tuple[Path, ...] = (),
) -> Program:
    """Compile the runtime, one file of ours and the board's start-up, and link them.

    Parameters
    ----------
    name : of the executable
    source : the file with main()
    flags : for all files; switches of the runtime too
    defines : for `source` alone
    includes : headers outside csrc/ that it includes

    Raises
    ------
    NoRoom, BuildError, MissingTools
    """
    support = _object(board, HERE / ("start.c" if board.memory else "hosted.c"), ("-Os",))
    application = _object(board, source, (*flags, *defines), includes)
    runtime = compile_runtime(board, flags)
    path = BUILD / board.name / f"{name}.elf"
    part = _unique(path)
    objects = [str(item) for item in (support, application, *runtime)]
    try:
        run([*compiler(board), *flags, *objects, *_link_flags(board, part), "-lm", "-o", str(part)])
    except BuildError as error:
        if "will not fit in region" in str(error) or "RAM is full" in str(error):
            raise NoRoom(str(error)) from error
        raise
    for made, kept in ((part.with_suffix(".map"), path.with_suffix(".map")), (part, path)):
        if made.exists():  # zig writes no map
            made.replace(kept)
    return Program(board, path, runtime, application, support)


def _link_flags(board: Board, path: Path) -> list[str]:
    common = ["-Wl,--gc-sections", f"-Wl,-Map={path.with_suffix('.map')}"]
    if not board.memory:
        return [*common[: 1 if zig(board) else 2], *(["-static"] if board.emulator else [])]
    regions = {"CODE": board.memory.code, "CONSTANTS": board.memory.constants, "RAM": board.memory.ram}
    symbols = [f"{key}={place}" for key, (place, _) in regions.items()]
    symbols += [f"{key}_SIZE={size}" for key, (_, size) in regions.items()]
    symbols.append(f"STACK={board.memory.stack}")
    defined = [f"-Wl,--defsym={symbol}" for symbol in symbols]
    return [*common, "-nostartfiles", "--specs=nano.specs", *defined, "-T", str(HERE / "board.ld")]


def execute(built: Program, plugin: str | None = None) -> str:
    """Output of a program on its board; `BuildError` unless it ends with status 0."""
    command = [*emulator(built.board), str(built.path)]
    if plugin:
        command[1:1] = ["-plugin", plugin]
    return run(command, TIMEOUT)


# ---- Counting --------------------------------------------------------------------------------------------------------


@functools.cache
def _plugin() -> Path:
    """The counting plugin, for the QEMU of this machine."""
    source = HERE / "count_plugin.c"
    output = BUILD / f"count_plugin-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}.so"
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        part = _unique(output)
        run(["cc", "-std=c99", "-O2", "-fPIC", "-shared", str(source), "-o", str(part)])
        part.replace(output)
    return output


@dataclass(frozen=True)
class Symbol:
    """A function of a program; static ones are told apart by their file."""

    address: int
    size: int
    name: str
    file: str


def symbols(built: Program) -> list[Symbol]:
    """The functions of a program, by address."""
    found, file = [], ""
    for line in run([binutil(built.board, "readelf"), "-sW", str(built.path)]).splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].rstrip(":").isdigit():
            continue
        kind, binding, name = fields[3], fields[4], fields[7]
        if kind == "FILE":
            file = name
        elif kind == "FUNC":
            thumb = 1 if built.board.memory or "arm-linux-gnueabi" in built.board.compiler else 0
            address = int(fields[1], 16) & ~thumb
            found.append(Symbol(address, int(fields[2], 0), name, file if binding == "LOCAL" else ""))
    return sorted(found, key=lambda symbol: symbol.address)


def binutil(board: Board, tool: str) -> str:
    """The board's objdump, readelf, ...; the native one reads any ELF's symbols where zig compiles."""
    return tool if zig(board) else board.compiler.removesuffix("gcc") + tool


@dataclass(frozen=True)
class Count:
    """Executed instructions between the marks: all, by address, and what the program printed."""

    instructions: int
    by_address: Counter[int]
    output: str


def count(built: Program) -> Count:
    """Run a program under the plugin."""
    marks = {symbol.name: symbol.address for symbol in symbols(built)}
    out = _unique(built.path)
    begin, end = marks["bench_begin"], marks["bench_end"]
    output = execute(built, f"{_plugin()},out={out},from={begin:#x},to={end:#x}")
    *lines, last = out.read_text().splitlines()
    out.unlink()
    by_address: Counter[int] = Counter()
    for line in lines:
        address, times = line.split()
        by_address[int(address, 16)] += int(times)
    return Count(int(last.split()[1]), by_address, output)


def by_function(built: Program, counted: Count) -> list[tuple[int, str]]:
    """(instructions, function) from the most to the least."""
    table = symbols(built)
    totals: Counter[str] = Counter()
    at = 0
    for address, times in sorted(counted.by_address.items()):
        while at + 1 < len(table) and table[at + 1].address <= address:
            at += 1
        symbol = table[at]
        totals[f"{symbol.name} ({symbol.file})" if symbol.file else symbol.name] += times
    return [(times, name) for name, times in totals.most_common()]


def disassembly(built: Program, counted: Count) -> list[tuple[int, str]]:
    """(times executed, line of the disassembly) of all that ran, in the program's order."""
    options = ["-marmv8.1-m.main"] if built.board.name == "m55" else []  # else Helium shows as coprocessor instructions
    lines, title = [], ""
    command = [binutil(built.board, "objdump"), "-d", "--no-show-raw-insn", *options, str(built.path)]
    for line in run(command).splitlines():
        found = re.match(r"\s*([0-9a-f]+)(:| <.*>:)", line)
        if found is None:
            continue
        times = counted.by_address.get(int(found[1], 16), 0)
        if found[2] != ":":
            title = line
        elif times:
            if title:
                lines.append((0, title))
            lines.append((times, line))
            title = ""
    return lines


# ---- Skips -----------------------------------------------------------------------------------------------------------


def available(boards: Iterable[Board]) -> tuple[list[Board], list[str]]:
    """The boards whose tools are installed, and a sentence for each of the others."""
    found, missing = [], []
    for board in boards:
        try:
            compiler(board)
            emulator(board)
            found.append(board)
        except MissingTools as error:
            missing.append(f"{board.name} skipped: {error}")
    return found, missing


def skips_fail(missing: list[str]) -> bool:
    """In CI every tool is there, so a skip is a mistake; elsewhere it is a word to the user."""
    return bool(missing) and os.environ.get("CI", "").lower() in ("1", "true")
