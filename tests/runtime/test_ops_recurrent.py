"""rnn_f32, gru_f32 and lstm_f32 as ops: hostile nodes, every weight's gradient handed over once."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support import ops

SANITIZE = ["-O1", "-g", "-fsanitize=address,undefined,float-cast-overflow", "-fno-sanitize-recover=all"]


def test_hostile_nodes(tmp_path: Path) -> None:
    """Random nodes, most of them nonsense: what a check lets through runs clean under sanitizers."""
    program = ops.compile_with(tmp_path / "fuzz", *SANITIZE, main="fuzz_recurrent.c")
    done = subprocess.run([program, "1", os.environ.get("EP_FUZZ_NODES", "30000")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert len(rows) == 3
    for op, ran, refused in rows:
        assert int(ran) > 100, op
        assert int(refused) > 100, op
