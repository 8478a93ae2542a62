"""A pytest plugin: which functions of the sources each test calls, and which tests run, in which order.

`python -m tests.mutants` loads it. A test that calls no function with a fault in it cannot notice the fault, so it need not
run. What a fixture calls is counted for all tests of its file; what runs at an import is no function and counts for all.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: environment: a folder to write what was called to; a file with the ids of the tests that are to run
RECORD, CHOSEN = "EDGEPROP_MUTANTS_RECORD", "EDGEPROP_MUTANTS_CHOSEN"


def name_of(item: pytest.Item) -> str:
    """A test's id, without the group that pytest-xdist adds to it."""
    group = item.get_closest_marker("xdist_group")
    if group is None:
        return item.nodeid
    return item.nodeid.removesuffix(f"@{group.args[0] if group.args else group.kwargs.get('name', 'default')}")


class Recorder:
    """Writes down (file from the root, first line) of each function that is called."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = str(root), folder
        self.files: dict[str, str | None] = {}
        self.called: set[tuple[str, int]] = set()
        self.setup: dict[str, set[tuple[str, int]]] = {}
        self.tests: dict[str, dict[str, Any]] = {}

    def _source(self, name: str) -> str | None:
        path = os.path.relpath(os.path.realpath(name), self.root)
        return path if path.startswith(("export/", "trainer/", "csrc/")) else None

    def trace(self, frame: Any, event: str, arg: Any) -> None:
        """What sys.settrace calls for each call of a function; lines are of no interest."""
        code = frame.f_code
        if code.co_filename not in self.files:
            self.files[code.co_filename] = self._source(code.co_filename)
        path = self.files[code.co_filename]
        if path is not None:
            self.called.add((path, code.co_firstlineno))

    def start(self) -> None:
        """From here on, calls are of something new."""
        self.called = set()
        threading.settrace(self.trace)
        sys.settrace(self.trace)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        """Calls of fixtures, which may serve other tests of the file, too."""
        start = time.monotonic()
        self.start()
        yield
        self.setup.setdefault(name_of(item).split("::")[0], set()).update(self.called)
        self.tests[name_of(item)] = {"seconds": time.monotonic() - start, "called": []}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        """Calls of the test."""
        start = time.monotonic()
        self.start()
        yield
        row = self.tests[name_of(item)]
        row["seconds"] += time.monotonic() - start
        row["called"] = self.called

    def pytest_sessionfinish(self) -> None:
        """One file of each process."""
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        table = {function: i for i, function in enumerate(set().union(*(row["called"] for row in self.tests.values()),
                                                                      *self.setup.values()))}  # fmt: skip
        for test, row in self.tests.items():
            row["called"] = [table[f] for f in {*row["called"], *self.setup[test.split("::")[0]]}]
        known = {"functions": list(table), "tests": self.tests}
        (self.folder / f"{os.getpid()}.json").write_text(json.dumps(known))


def pytest_configure(config: pytest.Config) -> None:
    """Record where that is asked for."""
    if RECORD in os.environ:
        config.pluginmanager.register(Recorder(Path.cwd(), Path(os.environ[RECORD])))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those chosen, in their order."""
    if CHOSEN in os.environ:
        rank = {name: i for i, name in enumerate(json.loads(Path(os.environ[CHOSEN]).read_text()))}
        out = [item for item in items if name_of(item) not in rank]
        items[:] = sorted((item for item in items if name_of(item) in rank), key=lambda item: rank[name_of(item)])
        config.hook.pytest_deselected(items=out)
