"""Small files that ask for much end in seconds and in bounded memory, with a clear error or as what they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile_graphs import CASES, MEMORY, SECONDS, SLOW

pytestmark = pytest.mark.xdist_group("hostile models")

#: what a case says where it is refused; the others may be taken or refused
SAYS = {
    "loop of 2^40": "Loop 'y'",
    "loop that doubles": "Loop 'y'",
    "loop of constants": "Loop 'l': onnxruntime cannot compute this constant",
    "functions 2^40": "the graph has 1,099,511,627,776 nodes with its functions inlined",
    "functions 100^8": "the graph has more than 10^15 nodes",
    "functions 5000 deep": "onnx cannot inline the model's functions",
    "functions in a circle": "call one another in a circle",
    "chain of 20,000 Relu": "the graph has 20,000 nodes, at most",
    "20,000 outputs": "the model has 20,000 outputs",
    "20,000 inputs": "the model has 20,000 inputs",
    "14 TiB by header": "initializer 'w' has the shape (1048576, 1048576, 4), 17,592,186,044,416 bytes",
    "0 times 2^62 by header": "initializer 'w' has the shape",
    "ConstantOfShape": "ConstantOfShape 'big': its output has 1,099,511,627,776 elements",
    "Expand": "Expand 'big'",
    "Tile": "Tile 'big'",
    "Range": "Range 'r': its output has 1,099,511,627,776 elements",
    "Resize": "Resize 'big'",
    "Pad": "Pad 'big'",
    "OneHot": "OneHot 'big'",
    "outer product": "MatMul 'big'",
    "broadcast": "Add 'big'",
    "Tile of the input": "Tile 'b'",
    "constant output": "ConstantOfShape 'z'",
    "name of 50 MB": "has 50,000,000 letters",
    "op of 20 MB": "has 20,000,000 letters",
    "rank of 100,000": "100000 axes",
    "Split into 2^31": "2,147,483,648 parts",
    "a cycle": "not output of any previous nodes",
}

Run = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def run() -> Run:
    """Takes cases through the exporter, all quick ones at once, in a process of their own."""
    quick = [name for name in CASES if name not in SLOW]
    found: dict[str, dict[str, Any]] = {}

    def take(name: str) -> dict[str, Any]:
        if name not in found:
            names = [name] if name in SLOW else quick
            command = [sys.executable, "-m", "tests.support.hostile_graphs", *names]
            told = subprocess.run(
                command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
            ).stdout
            found.update((line["name"], line) for line in map(json.loads, told.splitlines()))
        return found[name]

    return take


@pytest.mark.skipif(sys.platform != "linux", reason="limits of a process are Linux's here")
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in CASES])
def test_hostile(name: str, run: Run) -> None:
    found = run(name)
    told = found["told"]
    assert not told.startswith(("crash", "killed", "exit")), told
    assert found["seconds"] < SECONDS
    assert found["mib"] << 20 < MEMORY
    assert max(map(len, told.splitlines())) < 1000
    assert len(told.splitlines()) < 60
    if name in SAYS:
        checked = told.partition("\n")[0]
        assert SAYS[name] in told
        assert checked.split(":")[0] in ("error", "unsupported")
        assert "Error" in told
