"""`python -m tests.mutants`: puts small faults into a copy of the sources and says which share of them the tests notice."""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.mutants import c_faults, python_faults
from tests.mutants.areas import AREAS, GOAL
from tests.mutants.fault import Fault, Place, make
from tests.mutants.tree import BROKEN, EMPTY, PASSED, Called, Tree

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.json")
#: faults of a sample over all areas
SAMPLE = 60


class Tried(NamedTuple):
    """Of one area: faults whose tests ran, those noticed, and those set aside because no test could notice them."""

    tried: int = 0
    noticed: int = 0
    equivalent: int = 0


def language(path: str) -> type | object:
    """The module that knows how to make this file wrong."""
    return python_faults if path.endswith(".py") else c_faults


def drawn(tree: Tree, area: str, seed: int) -> Iterator[Fault]:
    """Faults of an area in a random order that the seed gives: places first, of each place one fault at a time, so that a
    line with many possible faults is not drawn more often than others."""
    rng = random.Random(f"{area} {seed}")
    by_place: dict[tuple[str, int, int], list[Place]] = {}
    for path in AREAS[area].files(tree.root):
        for place in language(path).places(path, (tree.root / path).read_text()):  # type: ignore[attr-defined]
            by_place.setdefault((path, place.line, place.column), []).append(place)
    groups = list(by_place.values())
    for group in groups:
        rng.shuffle(group)
    while groups:
        rng.shuffle(groups)
        for group in groups:
            place = group.pop()
            fault = make(place, (tree.root / place.path).read_text())
            if fault is not None:
                yield fault
        groups = [group for group in groups if group]


def known() -> dict[tuple[str, str, str], str]:
    """Why a fault changes nothing that a test could notice, by file, line before and line after."""
    rows = json.loads(EQUIVALENT.read_text())
    return {(row["file"], row["before"], row["after"]): row["reason"] for row in rows}


class Trial:
    """One fault at a time in the copy: is it one, and do the tests notice it?"""

    def __init__(self, tree: Tree, slowest: float) -> None:
        self.tree, self.slowest = tree, slowest
        self.equivalent = known()
        self.called: dict[str, dict[str, Called]] = {}
        self.code: dict[str, bytes | None] = {}

    def learn(self, files: Sequence[str]) -> None:
        """Runs test files as they are, and keeps what each test calls and how long it takes; what was kept of a file in
        an earlier run is taken where nothing has changed since. SystemExit if one does not pass."""
        kept = {file: self.tree.folder / "called" / f"{self._digest(file)}.pickle" for file in files}
        missing = [file for file, path in kept.items() if not path.exists()]
        if missing:
            start = time.monotonic()
            if self.tree.test(missing, record=True) not in (PASSED, EMPTY) and self.tree.test(missing) != PASSED:
                print((self.tree.folder / "test.log").read_text()[-3000:])
                raise SystemExit("tests do not pass without a fault")
            tests = self.tree.recorded()
            print(f"{len(tests)} tests, {time.monotonic() - start:.0f} s without a fault", flush=True)
            for file in missing:
                rows = {test: row for test, row in tests.items() if test.split("::")[0] == file}
                kept[file].parent.mkdir(exist_ok=True)
                kept[file].write_bytes(pickle.dumps(rows))
        self.called |= {file: pickle.loads(path.read_bytes()) for file, path in kept.items() if file not in self.called}

    def _digest(self, file: str) -> str:
        """Of a test file, what tests share and all of Python's sources: which of C's functions are called is not asked."""
        files = {name for area in AREAS.values() for name in area.files(self.tree.root)}
        sources = {name for name in files if name.endswith(".py")}
        shared = {str(path.relative_to(self.tree.root)) for path in self.tree.root.glob("tests/**/support/*.py")}
        digest = hashlib.sha256()
        for name in [file, *sorted(sources | shared)]:
            digest.update(name.encode() + b"\0" + (self.tree.root / name).read_bytes())
        return digest.hexdigest()

    def chosen(self, fault: Fault, files: Sequence[str], sound: str) -> dict[str, float]:
        """The tests that can notice a fault, and the seconds they take: those that call its function, the quickest first;
        of C, and of what runs at an import, all of the files, in their order, the quickest of each first."""
        self.learn(files)
        tests = {
            test: row for file in files for test, row in sorted(self.called[file].items(), key=lambda t: t[1].seconds)
        }
        line = python_faults.function_at(sound, fault.line) if fault.path.endswith(".py") else None
        calls = [test for test, row in tests.items() if (fault.path, line) in row.functions]
        calls.sort(key=lambda test: tests[test].seconds)
        return {test: tests[test].seconds for test in calls or tests}

    def sound_code(self, path: str) -> bytes | None:
        """Machine code of a C file without a fault."""
        if path not in self.code:
            self.code[path] = self.tree.compile(path)
        return self.code[path]

    def compiles(self, fault: Fault, sound: str) -> bool:
        """Whether the file in the copy, now faulty, compiles without a warning, and to something else than before."""
        if fault.path.endswith(".py"):
            try:
                return not python_faults.same(sound, fault.text)
            except SyntaxError:
                return False
        if fault.path.endswith(".c"):
            faulty = self.tree.compile(fault.path)
            if faulty is None or faulty == self.code[fault.path]:
                return False
        return self.tree.build()

    def noticed(self, fault: Fault) -> bool | None:
        """Whether the tests notice; None if it is no fault that could be tried."""
        sound = (self.tree.root / fault.path).read_text()
        tests = AREAS[area_of(self.tree, fault.path)].tests_of(self.tree.root, fault.path)
        chosen = self.chosen(fault, tests, sound)
        files = list(dict.fromkeys(test.split("::")[0] for test in chosen))
        if fault.path.endswith(".c"):
            self.sound_code(fault.path)
        self.tree.write(fault.path, fault.text)
        try:
            if not self.compiles(fault, sound):
                return None
            code = self.tree.test(files, max(self.slowest, 6 * sum(chosen.values())), list(chosen))
        finally:
            self.tree.write(fault.path, sound)
            if not fault.path.endswith(".py"):
                self.tree.build()
        if code is not None and code > BROKEN:
            raise SystemExit(f"pytest ends with {code}: {self.tree.folder / 'test.log'}")
        return code != PASSED

    def area(self, name: str, count: int, seed: int) -> Tried:
        """Tries faults of an area until `count` of them could be tried."""
        tried = noticed = equivalent = 0
        for fault in drawn(self.tree, name, seed):
            if tried == count:
                break
            if (fault.path, fault.before, fault.after) in self.equivalent:
                equivalent += 1
                continue
            start = time.monotonic()
            result = self.noticed(fault)
            if result is None:
                continue
            tried, noticed = tried + 1, noticed + result
            word = "noticed" if result else "NOT NOTICED"
            print(f"{name} {tried}/{count} {word} after {time.monotonic() - start:.0f} s: {fault}", flush=True)
        return Tried(tried, noticed, equivalent)


def area_of(tree: Tree, path: str) -> str:
    """The area that a source belongs to."""
    return next(name for name, area in AREAS.items() if path in area.files(tree.root))


def shares(results: dict[str, Tried]) -> list[str]:
    """A line for each area; areas below the goal are marked."""
    lines = []
    for name, r in results.items():
        share = r.noticed / r.tried if r.tried else 1.0
        mark = "" if share >= GOAL else f"   below {GOAL:.0%}"
        lines.append(f"{name:14s} {r.noticed:4d} of {r.tried:4d} noticed {share:6.0%}, {r.equivalent} equivalent{mark}")
    return lines


def counts(areas: list[str], count: int | None) -> dict[str, int]:
    """How many faults of each area: `count` each where it is given, else the sample shared among them."""
    whole, rest = divmod(SAMPLE, len(AREAS))
    return {name: count if count is not None else whole + (i < rest) for i, name in enumerate(areas)}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--area", action="append", choices=AREAS, help="an area, may be given again; all")
    parser.add_argument("--count", type=int, help=f"faults of each area; {SAMPLE} over all areas")
    parser.add_argument("--seed", type=int, default=0, help="another one, other faults; 0")
    parser.add_argument("--jobs", type=int, default=1, help="processes that run tests and compile; 1")
    parser.add_argument("--timeout", type=float, default=60, help="least seconds until tests count as hanging; 60")
    parser.add_argument("--out", type=Path, default=ROOT / "build", help="folder for mutants.json and the copy; build")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 if every area is at the goal, 1 if one is not."""
    args = arguments(argv)
    tree = Tree(ROOT, args.out / "mutants", args.jobs)
    tree.update()
    if not tree.build():
        raise SystemExit((tree.folder / "build.log").read_text()[-3000:])
    trial, results = Trial(tree, args.timeout), {}
    for name, count in counts(args.area or list(AREAS), args.count).items():
        results[name] = trial.area(name, count, args.seed)
    print(*shares(results), sep="\n")
    table = {name: result._asdict() for name, result in results.items()}
    (args.out / "mutants.json").write_text(json.dumps(table, indent=2) + "\n")
    return int(any(r.tried and r.noticed / r.tried < GOAL for r in results.values()))


if __name__ == "__main__":
    sys.exit(main())
