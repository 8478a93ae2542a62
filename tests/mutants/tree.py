"""A copy of the checkout under build/mutants, built there, in which faults are put and tests run: what the user edits is
never touched, and neither is what is installed."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mutants.tracing import CHOSEN, RECORD

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wdouble-promotion", "-Wshadow", "-Werror"]

#: what pytest ends with: all passed; some could not even be collected, the last that a fault can be the cause of; none ran
PASSED, BROKEN, EMPTY = 0, 2, 5


class Called(NamedTuple):
    """Of one test: how long it takes, and the functions (file, first line) that it or a fixture of its file calls."""

    seconds: float
    functions: frozenset[tuple[str, int]]


class Tree:
    """The copy, its build and its runs of tests."""

    def __init__(self, checkout: Path, folder: Path, jobs: int = 1) -> None:
        self.checkout, self.folder, self.jobs = checkout, folder, jobs
        self.root = folder / "tree"
        self.site = folder / "site"
        self.build_folder = folder / "build"
        self.objects = folder / "objects"
        self.clock = 0

    # ---- Making it ---------------------------------------------------------------------------------------------------

    def update(self) -> None:
        """Copies what differs from the checkout, so that only that is compiled anew."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=self.checkout, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        names = {name for name in listed.split("\0") if name and (self.checkout / name).is_file()}
        for name in names:
            source, target = self.checkout / name, self.root / name
            if not target.exists() or not filecmp.cmp(source, target, shallow=False):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        for path in list(self.root.rglob("*")):
            if path.is_file() and path.suffix != ".pyc" and str(path.relative_to(self.root)) not in names:
                path.unlink()
        self._link()

    def _link(self) -> None:
        """A package of links into the copy: what is put wrong there is wrong here."""
        shutil.rmtree(self.site, ignore_errors=True)
        package = self.site / "edgeprop"
        package.mkdir(parents=True)
        self.objects.mkdir(exist_ok=True)
        for path in (self.root / "csrc" / "python" / "edgeprop").iterdir():
            (package / path.name).symlink_to(path)
        for name in ("trainer", "export", "csrc"):
            (package / name).symlink_to(self.root / name)
        (package / "LICENSE").symlink_to(self.root / "LICENSE")
        (package / "_core.abi3.so").symlink_to(self.build_folder / "_core.abi3.so")

    def _environment(self) -> dict[str, str]:
        """Python and the tools of this environment, the copy's package before the one installed in it."""
        shared = self.checkout.parent / "shared"
        return os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.site),
            "EDGEPROP_TEST_OBJECTS": str(self.objects),
            "EDGEPROP_DATA": os.environ.get("EDGEPROP_DATA", str(shared / "data")),
            "EDGEPROP_MODELS": os.environ.get("EDGEPROP_MODELS", str(shared / "models")),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self.folder / "hypothesis"),
        }

    def _run(self, command: Sequence[str | Path], log: Path) -> int:
        with open(log, "w") as output:
            return subprocess.run(
                command, cwd=self.root, env=self._environment(), stdout=output, stderr=subprocess.STDOUT
            ).returncode

    def build(self) -> bool:
        """Compiles what changed of the runtime and the binding; False if that fails."""
        log = self.folder / "build.log"
        if not (self.build_folder / "build.ninja").exists():
            configure: list[str | Path] = ["cmake", "-S", self.root, "-B", self.build_folder, "-G", "Ninja"]
            configure += ["-DSKBUILD=1", "-DCMAKE_BUILD_TYPE=Release", f"-DPython_EXECUTABLE={sys.executable}"]
            if self._run(configure, log) != 0:
                return False
        return self._run(["ninja", "-C", self.build_folder, "-j", str(self.jobs)], log) == 0

    def compile(self, source: str) -> bytes | None:
        """Machine code of one C file, without the names of lines; None where a compiler refuses it or warns."""
        output = self.folder / "one.o"
        command = ["cc", "-std=c99", "-ffp-contract=off", *WARNINGS, "-O2", "-DEP_TRACE", "-Icsrc", "-c", source]
        done = self._run([*command, "-o", output], self.folder / "compile.log")
        return output.read_bytes() if done == 0 else None

    def write(self, path: str, text: str) -> None:
        """Puts a text into a file, at a time of its own: Python and ninja see by it that the file has changed, and Python
        looks at whole seconds only."""
        self.clock = max(self.clock + 1, int(time.time()))
        (self.root / path).write_text(text)
        os.utime(self.root / path, (self.clock, self.clock))

    # ---- Running it --------------------------------------------------------------------------------------------------

    def test(
        self, tests: Sequence[str], timeout: float | None = None, chosen: Sequence[str] = (), record: bool = False
    ) -> int | None:
        """What pytest ends with, at the first failure; None if it does not end in time, or at all well.

        tests : files
        chosen : ids of those of their tests that run, in this order; none: all
        record : write down what each test calls (`recorded`)
        """
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            *([] if record else ["-x"]),
            "-p",
            "no:cacheprovider",
            "-m",
            "not slow",
        ]
        command += [
            "-p",
            "no:randomly",
            "-p",
            "tests.mutants.tracing",
            "--hypothesis-seed=0",
            *(["-n", str(self.jobs), "--dist", "loadgroup"] if self.jobs > 1 else []),
            *tests,
        ]
        environment = self._environment()
        if chosen:
            (self.folder / "chosen.json").write_text(json.dumps(list(chosen)))
            environment[CHOSEN] = str(self.folder / "chosen.json")
        if record:
            shutil.rmtree(self.folder / "record", ignore_errors=True)
            (self.folder / "record").mkdir()
            environment[RECORD] = str(self.folder / "record")
        before = set(self.objects.iterdir())
        with open(self.folder / "test.log", "w") as output:
            process = subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            try:
                code = _wait(process, timeout)
            finally:
                _end(process)
        if timeout is not None:  # what was compiled of a fault is of no use to the next
            for path in set(self.objects.iterdir()) - before:
                path.unlink()
        return code

    def recorded(self) -> dict[str, Called]:
        """What each test called in the run that was recorded, by its id."""
        tests = {}
        for path in sorted((self.folder / "record").glob("*.json")):
            known = json.loads(path.read_text())
            functions = [(str(name), int(line)) for name, line in known["functions"]]
            for test, row in known["tests"].items():
                tests[test] = Called(row["seconds"], frozenset(functions[i] for i in row["called"]))
        return tests


def _wait(process: subprocess.Popen[bytes], timeout: float | None) -> int | None:
    """What a process that leads a session ends with; None where it takes too long, or with all it started half of the
    machine's memory, as after a fault in what bounds it."""
    end = None if timeout is None else time.monotonic() + timeout
    most = os.sysconf("SC_PHYS_PAGES") // 2
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(0.5)
        if (end is not None and time.monotonic() > end) or _resident(process.pid) > most:
            return None


def _resident(session: int) -> int:
    """Pages of memory that the processes of a session hold."""
    pages = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it may have ended
            fields = path.read_text().rpartition(")")[2].split()
            pages += int(fields[21]) if int(fields[3]) == session else 0
    return pages


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what it started; waits until it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
