"""Random nodes of every op, most of them nonsense: what a check lets through runs clean under sanitizers."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from edgeprop import runtime
from tests.support import compiler, ops

#: programs of tests/support, and how many nodes they try
PROGRAMS = {"fuzz_ops": 120_000, "fuzz_norms": 60_000, "fuzz_recurrent": 30_000}


def tried(name: str, folder: Path, seed: int = 1, times: int = 1, cc: str | None = None) -> dict[str, tuple[int, int]]:
    """Of each op: nodes that ran, nodes that its check refused."""
    compiler.require(cc or compiler.default(), *compiler.SANITIZE)
    program = ops.compile_with(folder / name, main=f"{name}.c", build=compiler.SANITIZE, cc=cc)
    count = os.environ.get("EP_FUZZ_NODES", str(times * PROGRAMS[name]))
    done = subprocess.run([program, str(seed), count], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    return {op: (int(ran), int(refused)) for op, ran, refused in rows}


@pytest.mark.parametrize("name", PROGRAMS)
def test_hostile_nodes(name: str, tmp_path: Path) -> None:
    for op, (ran, refused) in tried(name, tmp_path).items():
        assert ran > 100, op
        assert refused > 100, op


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_hostile_nodes_where_pointers_have_32_bits(name: str, tmp_path: Path) -> None:
    for op, (ran, refused) in tried(name, tmp_path, seed=3, cc="gcc -m32 -msse2 -mfpmath=sse").items():
        assert ran > 100, op
        assert refused > 100, op


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_many_more_hostile_nodes(name: str, tmp_path: Path) -> None:
    assert tried(name, tmp_path, seed=2, times=5)


def test_every_op_has_hostile_nodes() -> None:
    sources = "".join((ops.HERE / f"{name}.c").read_text() for name in PROGRAMS)
    assert [op for op in runtime.OPS if f'"{op}"' not in sources] == []
