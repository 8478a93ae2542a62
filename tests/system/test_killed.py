"""kill -9 in the middle of a save: on the disk is the old file or the new one, whole, and nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def kills(kind: str, folder: Path, stride: int = 1) -> int:
    """At how many moments tests/support/killed.py killed a save of that kind."""
    command = [sys.executable, "-m", "tests.support.killed", kind, str(folder), str(stride)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.splitlines()[-1])


def test_head(tmp_path: Path) -> None:
    assert kills("head", tmp_path) > 8


def test_adapted_head(tmp_path: Path) -> None:
    assert kills("adapt", tmp_path) > 8


@pytest.mark.parametrize("stride", [12, pytest.param(5, marks=pytest.mark.slow)])
def test_export(stride: int, tmp_path: Path) -> None:
    assert kills("export", tmp_path, stride) > (4 if stride > 5 else 8)
