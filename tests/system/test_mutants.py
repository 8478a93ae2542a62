"""What puts faults into sources (`make mutants`): it finds them, leaves alone what it should, and counts right."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import c_faults
from tests.mutants.areas import AREAS
from tests.mutants.fault import Fault, Place, make
from tests.support.compiler import ROOT, run

C = """#include <stdint.h>
/* a < b is a comment */
int check(int32_t rows, int32_t zero_point, const int8_t *x)
{
    int32_t sum = 0; /* x - zero_point */
    if (rows < 1) {
        return EP_ERR_IMAGE;
    }
    for (int32_t i = 0; i < rows; i++) {
        sum += x[i] - zero_point;
    }
    report("a < b");
    return sum;
}
"""


def after(places: Iterator[Place], text: str) -> list[str]:
    """The lines that all faults of a file make."""
    faults = [make(place, text) for place in places]
    return [fault.after for fault in faults if fault is not None]


def test_faults_of_c() -> None:
    lines = after(c_faults.places("x.c", C), C)
    assert "if (rows <= 1) {" in lines
    assert "if (0) {" in lines
    assert ";" in lines  # the refusal, and statements
    assert "sum += x[i];" in lines
    assert "sum += x[i] + zero_point;" in lines
    assert "for (int32_t i = 1; i < rows; i++) {" in lines
    assert not any("a <= b" in line or "comment" in line or "include" in line for line in lines)


@pytest.mark.parametrize("rule", c_faults.RULES, ids=lambda rule: f"{rule.kind} {rule.pattern}")
def test_every_pattern_of_the_table_is_found(rule: c_faults.Rule) -> None:
    """A pattern that nothing in the sources matches would never be tried."""
    pattern = {r.pattern: p for r, p in c_faults.COMPILED}[rule.pattern]
    sources = [*ROOT.glob("csrc/*.c"), *ROOT.glob("csrc/ops/*.[ch]"), *ROOT.glob("csrc/kernels/portable/*.c")]
    assert any(pattern.search(c_faults.visible(path.read_text())) for path in sources)


def test_a_fault_keeps_the_lines_of_the_rest() -> None:
    for place in c_faults.places("x.c", C):
        fault = make(place, C)
        assert fault is not None
        assert fault.text.count("\n") == C.count("\n")
        assert sum(a != b for a, b in zip(fault.text.splitlines(), C.splitlines(), strict=True)) == 1
        assert C.splitlines()[fault.line - 1].strip() == fault.before


PYTHON = '''"""A module - with a docstring."""

import functools


@functools.cache
def scaled(x: int | None, zero: int = 3) -> float | None:
    """x - zero."""
    assert x != 1 + 1
    if x is None:
        raise ValueError(f"no x but {zero + 1}")
    return divided(x - zero, min(2, zero))


@dataclass(frozen=True)
class Thing:
    def __repr__(self) -> str:
        return "Thing" * (n + 1)


def refusals(n: int, a: list[int]) -> list[Refusal]:
    return [Refusal(f"{n + 1} of", n + 1) for _, _ in zip(a, a, strict=True)]
'''


def test_faults_of_python() -> None:
    python_faults = pytest.importorskip("tests.mutants.python_faults", reason="cosmic-ray is installed by make mutants")
    lines = after(python_faults.places("x.py", PYTHON), PYTHON)
    spaced = {" ".join(line.split()) for line in lines}
    assert {
        "return divided(x, min(2, zero))",
        "return divided(x + zero, min(2, zero))",
        "pass",
        "if x is not None:",
    } <= spaced
    assert any(line.startswith("return divided(min(2, zero), x - zero") for line in spaced)
    assert not any("min(zero, 2)" in line for line in spaced)
    assert any("zero: int = 4" in line for line in spaced)
    assert not any("assert" in line or "ValueError" in line for line in lines)
    assert not any("cache" in line for line in lines)
    assert not any("frozen=False" in line or "strict=False" in line or "n - 1" in line for line in lines)
    assert python_faults.same("x = 1 # one", "x = 1")
    assert not python_faults.same("x = 1", "x = 2")


@pytest.mark.parametrize("name", AREAS)
def test_areas(name: str) -> None:
    """Every area has sources, and tests that are there."""
    files = AREAS[name].files(ROOT)
    assert files
    for file in files:
        assert all((ROOT / test).exists() for test in AREAS[name].tests_of(ROOT, file))


def test_no_source_is_in_two_areas() -> None:
    files = [file for area in AREAS.values() for file in area.files(ROOT)]
    assert len(files) == len(set(files))


def test_equivalents_are_those_of_lines_that_are_there() -> None:
    """Of a line that has changed, what was said of its faults has to be looked at again."""
    for row in json.loads((ROOT / "tests" / "mutants" / "equivalent.json").read_text()):
        assert set(row) == {"file", "before", "after", "reason"}
        assert len(row["reason"]) > 20
        assert row["before"] in [line.strip() for line in (ROOT / row["file"]).read_text().splitlines()], row


class Copy:
    """A tree of one file, whose tests notice what they are told to."""

    def __init__(self, folder: Path, code: Callable[[str], int]) -> None:
        self.folder = self.root = self.checkout = folder
        self.code = code
        self.written: list[str] = []

    def write(self, path: str, text: str) -> None:
        self.written.append(text)
        (self.root / path).write_text(text)

    def test(self, tests: Any, timeout: float | None = None, chosen: Any = ()) -> int:
        return self.code((self.root / "trainer/a.py").read_text())


def test_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three faults one is noticed, one is not, and one is known to change nothing; the source is as it was."""
    main = pytest.importorskip("tests.mutants.__main__", reason="cosmic-ray is installed by make mutants")
    (tmp_path / "trainer").mkdir()
    text = "x = 1\ny = 2\nz = 3\n"
    (tmp_path / "trainer/a.py").write_text(text)
    faults = [
        Fault("trainer/a.py", 1, "k", "x = 1", "x = 5", text.replace("1", "5")),
        Fault("trainer/a.py", 2, "k", "y = 2", "y = 5", text.replace("2", "5")),
        Fault("trainer/a.py", 3, "k", "z = 3", "z = 5", text.replace("3", "5")),
        Fault("trainer/a.py", 3, "k", "z = 3", "z = 3", text),
    ]
    monkeypatch.setattr(main, "drawn", lambda *_: iter(faults))
    monkeypatch.setattr(main, "known", lambda: {("trainer/a.py", "z = 3", "z = 5"): "of no use to anyone"})
    monkeypatch.setattr(main.Trial, "chosen", lambda *_: {"test_a.py::test_it": 0.1})
    monkeypatch.setattr(type(AREAS["trainer"]), "tests_of", lambda *_: ["test_a.py"])
    copy = Copy(tmp_path, lambda now: int("x = 5" in now))
    trial = main.Trial(copy, 1)
    assert trial.area("trainer", 9, 0) == main.Tried(tried=2, noticed=1, equivalent=1)
    assert (tmp_path / "trainer/a.py").read_text() == text
    lines = main.shares({"trainer": main.Tried(2, 1, 1), "ops": main.Tried(10, 9, 0)})
    assert "50%" in lines[0]
    assert "below" in lines[0]
    assert "below" not in lines[1]


FUNCTIONS = """X = 3


@cached
def outer(a: int = 2) -> int:
    def inner() -> int:
        return 1

    return inner() + a


class Thing:
    size = 4

    async def method(self) -> int:
        return 5
"""


def test_the_function_of_a_line() -> None:
    """The innermost one, from its decorators to its end; what is of none runs at the import."""
    python_faults = pytest.importorskip("tests.mutants.python_faults", reason="cosmic-ray is installed by make mutants")
    lines = {line: python_faults.function_at(FUNCTIONS, line) for line in range(1, 18)}
    assert lines == {
        **dict.fromkeys((1, 2, 3, 10, 11, 12, 13, 14, 17)), **dict.fromkeys((4, 5, 8, 9), 4),
        **dict.fromkeys((6, 7), 6), **dict.fromkeys((15, 16), 15),
    }  # fmt: skip


def small_tree(folder: Path, jobs: int = 1) -> Any:
    """A copy of one source and two test files, all of it in Python."""
    from tests.mutants.tree import Tree

    tree = Tree(ROOT, folder, jobs)
    for name in ("trainer", "tests/mutants"):
        (tree.root / name).mkdir(parents=True)
    (tree.objects).mkdir()
    (tree.root / "tests/__init__.py").write_text("")
    for name in ("__init__.py", "tracing.py"):
        (tree.root / "tests/mutants" / name).write_text((ROOT / "tests/mutants" / name).read_text())
    (tree.root / "trainer/a.py").write_text("def one():\n    return 1\n\n\ndef two():\n    return 2\n")
    head = "import pytest, time\nfrom trainer import a\n\n"
    fixture = "@pytest.fixture(scope='module')\ndef made():\n    return a.two()\n\n"
    (tree.root / "test_one.py").write_text(
        f"{head}def test_slow():\n    time.sleep(0.3)\n    assert a.one() == 1\n\n"
        "@pytest.mark.xdist_group('g')\ndef test_quick():\n    assert a.one() == 1\n\ndef test_none():\n    pass\n"
    )
    (tree.root / "test_two.py").write_text(
        f"{head}{fixture}def test_first(made):\n    assert made == 2\n\ndef test_second(made):\n    assert made == 2\n"
    )
    return tree


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_tests_call_is_written_down(jobs: int, tmp_path: Path) -> None:
    """Of each test its own calls and those of its file's fixtures, which run for the first alone."""
    tree = small_tree(tmp_path, jobs)
    assert tree.test(["test_one.py", "test_two.py"], record=True) == 0
    called = {test: row.functions for test, row in tree.recorded().items()}
    one, two = ("trainer/a.py", 1), ("trainer/a.py", 5)
    assert {test: {one, two} & functions for test, functions in called.items()} == {
        "test_one.py::test_slow": {one},
        "test_one.py::test_quick": {one},
        "test_one.py::test_none": set(),
        "test_two.py::test_first": {two},
        "test_two.py::test_second": {two},
    }


def test_those_that_call_the_function_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quickest first."""
    main = pytest.importorskip("tests.mutants.__main__", reason="cosmic-ray is installed by make mutants")
    tree = small_tree(tmp_path)
    monkeypatch.setattr(main.Trial, "_digest", lambda self, file: file.replace("/", "_"))
    trial = main.Trial(tree, 60)
    text = (tree.root / "trainer/a.py").read_text()
    files = ["test_one.py", "test_two.py"]

    def chosen(line: int) -> list[str]:
        return list(trial.chosen(Fault("trainer/a.py", line, "k", "", "", ""), files, text))

    assert chosen(2) == ["test_one.py::test_quick", "test_one.py::test_slow"]
    assert sorted(chosen(6)) == ["test_two.py::test_first", "test_two.py::test_second"]
    assert len(chosen(3)) == 5  # of no function: all
    tree.write("trainer/a.py", text.replace("return 1", "return 3"))
    assert tree.test(files, 60, chosen(6)) == 0
    assert tree.test(files, 60, chosen(2)) == 1
    log = (tree.folder / "test.log").read_text()
    assert "test_quick" in log
    assert "test_slow" not in log


#: of what no source is in an area, and what needs tools or minutes that `make mutants` does not have
ELSEWHERE = {"test_backend.py", "test_contraction.py", "test_operators.py", "test_names.py"}


@pytest.mark.parametrize("folder", ["export", "runtime", "trainer", "kernels"])
def test_every_test_file_is_of_an_area(folder: str) -> None:
    """A new file of tests that no area has would let its faults count as not noticed."""
    patterns = [
        pattern
        for area in AREAS.values()
        for pattern in (*area.tests, *(t for own in area.first.values() for t in own))
    ]
    files = [str(path.relative_to(ROOT)) for path in (ROOT / "tests" / folder).glob("test_*.py")]
    missing = [file for file in files if not any(fnmatch(file, pattern) for pattern in patterns)]
    assert [file for file in missing if Path(file).name not in ELSEWHERE] == []


def test_a_sample_over_all_areas() -> None:
    main = pytest.importorskip("tests.mutants.__main__", reason="cosmic-ray is installed by make mutants")
    assert sum(main.counts(list(AREAS), None).values()) == main.SAMPLE
    assert main.counts(["ops"], 20) == {"ops": 20}


def test_an_end_that_hangs_is_ended(tmp_path: Path) -> None:
    """What does not end in time is noticed, and nothing of it is left running."""
    from tests.mutants.tree import Tree

    small_tree(tmp_path)
    (tmp_path / "tree" / "test_it.py").write_text("import time\n\ndef test_it():\n    time.sleep(60)\n")
    tree = Tree(ROOT, tmp_path)
    assert tree.test(["test_it.py"], 6) is None
    (tmp_path / "tree" / "test_it.py").write_text("def test_it():\n    assert 1 == 1\n")
    assert tree.test(["test_it.py"], 60) == 0
    (tmp_path / "tree" / "test_it.py").write_text("def test_it():\n    assert 1 == 2\n")
    assert tree.test(["test_it.py"], 60) == 1


def test_an_end_that_takes_the_memory_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a fault does where a bound of memory was, in whatever process of the tests."""
    from tests.mutants import tree

    small_tree(tmp_path)
    hold = "bytearray(200 << 20), __import__('time').sleep(5)"
    text = f"import subprocess, sys\n\ndef test_it():\n    subprocess.run([sys.executable, '-c', \"{hold}\"])\n"
    (tmp_path / "tree" / "test_it.py").write_text(text)
    monkeypatch.setattr(tree.os, "sysconf", lambda name: (300 << 20) // 4096)
    assert tree.Tree(ROOT, tmp_path).test(["test_it.py"], 50) is None


def test_no_tool_is_imported_by_the_table_of_c() -> None:
    """The rest of the tests do not need cosmic-ray."""
    for name in ("c_faults", "areas", "fault", "tree", "tracing"):
        tree = ast.parse((ROOT / "tests" / "mutants" / f"{name}.py").read_text())
        names = [n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
        assert not any(n.startswith(("cosmic_ray", "parso")) for n in names)
    assert run(["git", "--version"])
