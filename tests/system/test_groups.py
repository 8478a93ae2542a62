"""What the tests of this project ask of the tools that run them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest

@pytest.fixture(scope="session")
def made():
    with open("made", "a") as file:
        file.write("x")

@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("i", range(8))
def test_of_one_group(made, i):
    pass

@pytest.mark.parametrize("i", range(8))
def test_of_none(i):
    pass
"""


def test_one_process_runs_a_whole_group(tmp_path: Path) -> None:
    """Where two did, wheels would be built twice at a time in one folder, and every board compiled for twice."""
    (tmp_path / "test_it.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadgroup", "-c", "/dev/null", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "16 passed" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "made").read_text() == "x"
