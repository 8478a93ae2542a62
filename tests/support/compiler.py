"""Compiles C against the runtime, as its users do. What a session compiles of csrc/ it compiles once, whichever of its
tests and processes ask for it: conftest.py gives them a common folder, or EDGEPROP_TEST_OBJECTS, which outlives them."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
HERE = Path(__file__).resolve().parent
CORE = sorted(CSRC.glob("*.c"))
OPS = sorted(CSRC.glob("ops/*.c"))
KERNELS = sorted(CSRC.glob("kernels/**/*.c"))
SOURCES = [*CORE, *OPS, *KERNELS]

STANDARD = ["-std=c99", "-ffp-contract=off"]
STRICT = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-Werror"]
#: objects that go into a program and into a shared library
PLAIN = ["-O2", "-fPIC"]
#: lines for the reports, but no variables: half as much to compile
SANITIZE = ["-O1", "-g1", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]

#: names the folder that is shared
SHARED = "EDGEPROP_TEST_OBJECTS"


def run(command: Sequence[str | Path]) -> str:
    """Output of a command; AssertionError with what it said if it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def default() -> str:
    """The compiler that CC names, with the flags of EP_TEST_CFLAGS."""
    return f"{os.environ.get('CC', 'cc')} {os.environ.get('EP_TEST_CFLAGS', '')}".strip()


@functools.cache
def require(cc: str, *flags: str) -> None:
    """Skips the test if the compiler is not there, or cannot link with these flags."""
    if shutil.which(cc.split()[0]) is None:
        pytest.skip(f"no {cc}")
    with tempfile.TemporaryDirectory(prefix="edgeprop-c-") as folder:
        probe = Path(folder) / "probe.c"
        probe.write_text("int main(void) { return 0; }\n")
        done = subprocess.run([*cc.split(), *flags, str(probe), "-o", str(probe.with_suffix(""))], capture_output=True)
        if done.returncode != 0:
            pytest.skip(f"{cc} cannot link with {' '.join(flags)}")


# ---- Objects ---------------------------------------------------------------------------------------------------------


@functools.cache
def _own() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="edgeprop-c-")


def scratch() -> Path:
    """A folder for what this process builds; gone with it."""
    return Path(_own().name)


def _shared() -> Path:
    return Path(os.environ.get(SHARED) or scratch())


@functools.cache
def _version(cc: str) -> str:
    """What tells a compiler from others: `cc` and `gcc` may be one."""
    return run([*cc.split(), "--version"]).splitlines()[0].partition(" ")[2]


@contextlib.contextmanager
def _locked(path: Path, wait: bool) -> Iterator[bool]:
    """Keeps other processes from making `path`; False if one is at it and `wait` is not set."""
    with open(path.with_suffix(".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _compile(source: Path, command: list[str], wait: bool) -> Path | None:
    """The object of one file: the same text with the same flags is compiled once, so that a switch that a file does not
    know makes no other object of it. None if another process is at it and `wait` is not set."""
    text = run([*command, "-I", CSRC, "-E", source])
    flags = [part for part in command[1:] if not part.startswith("-D")]
    output = _shared() / f"{source.parent.name}_{source.stem}-{_key(_version(command[0]), *flags, text)}.o"
    with _locked(output, wait) as mine:
        if not mine:
            return None
        if not output.exists():
            part = output.with_suffix(f".{os.getpid()}.part")
            run([*command, "-I", CSRC, "-c", source, "-o", part])
            part.replace(output)
    return output


@functools.cache
def objects(cc: str, *flags: str, sources: tuple[Path, ...] = tuple(SOURCES)) -> list[Path]:
    """Object files of the runtime, or of some of its sources, without a warning. Processes that want the same ones at the
    same time share the work."""
    command = [*cc.split(), *STANDARD, *STRICT, *flags]
    made: dict[Path, Path] = {}
    for wait in (False, True):
        for source in sources:
            found = made.get(source) or _compile(source, command, wait)
            if found is not None:
                made[source] = found
    return [made[source] for source in sources]


@functools.cache
def _sources() -> str:
    """All of csrc/, in a digest."""
    digest = hashlib.sha256()
    for path in sorted(CSRC.rglob("*.[ch]")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def library(cc: str, *flags: str) -> Path:
    """The runtime as an archive; its members are called folder_source-key.o."""
    archive = _shared() / f"libedgeprop-{_key(_version(cc.split()[0]), cc, *flags, _sources())}.a"
    if not archive.exists():
        part = archive.with_suffix(f".{os.getpid()}.part")
        run(["ar", "rcs", part, *objects(cc, *flags)])
        part.replace(archive)
    return archive


# ---- Programs --------------------------------------------------------------------------------------------------------


def program(
    source: Path,
    output: Path,
    *flags: str,
    cc: str | None = None,
    build: Sequence[str] = PLAIN,
    switches: Sequence[str] = (),
    include: Path | None = None,
) -> Path:
    """An executable of one C file and the runtime, without a warning.

    Parameters
    ----------
    flags : for the file alone
    build : for the file and the runtime: PLAIN, SANITIZE
    switches : -DEP_*, for both too
    include : a folder with headers of the file
    """
    cc = cc or default()
    folders = ["-I", str(CSRC), *(["-I", str(include)] if include else [])]
    command = [*cc.split(), *STANDARD, *STRICT, *build, *switches, *flags, *folders]
    run([*command, source, library(cc, *build, *switches), "-lm", "-o", output])
    return output


@functools.cache
def image_driver() -> Path:
    """tests/support/drive.c for images."""
    return program(HERE / "drive.c", scratch() / "drive")
