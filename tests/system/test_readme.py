"""The README to the letter: its blocks run in their order, type checkers take them, and its figures are the demo's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgeprop

# One process runs the blocks for all of them.
pytestmark = pytest.mark.xdist_group("readme")

#: lines that no test runs, by how they begin, and why
NOT_RUN = {
    "make ": "needs a checkout, and is what runs the tests",
    "sudo ": "changes the machine",
    "python3 -m venv ": "goes with the line before",
    "edge/bin/pip ": "goes with the lines before; tests/wheels installs wheels",
}


def blocks(root: Path) -> list[tuple[str, str]]:
    """All blocks in their order: language and text."""
    text = (root / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^```(python|c|sh)\n(.*?)^```", text, re.M | re.S)


def run_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A line of the shell; the command is that of the package under test."""
    if line.startswith("edgeprop "):
        command = [sys.executable, "-m", *shlex.split(line, comments=True)]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=False)


def run_block(language: str, text: str, folder: Path) -> list[str]:
    """What a block prints, line by line of the shell; what it does goes into the folder."""
    if language == "c":
        (folder / "main.c").write_text(text, encoding="utf-8")
        return []
    if language == "python":
        done = [subprocess.run([sys.executable, "-c", text], cwd=folder, capture_output=True, text=True, check=False)]
    else:
        lines = [line for line in text.splitlines() if not line.startswith(tuple(NOT_RUN))]
        done = [run_shell(line, folder) for line in lines]
    for result in done:
        assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
    return [result.stdout for result in done]


@pytest.fixture(scope="module")
def ran(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with nothing in it but the runtime's sources, in which all blocks ran one after the other; what they printed."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("readme")
    (folder / "csrc").symlink_to(root / "csrc")
    return folder, [text for language, block in blocks(root) for text in run_block(language, block, folder)]


def test_every_block_runs_in_its_order(ran: tuple[Path, list[str]], root: Path) -> None:
    folder, _ = ran
    names = ["digits.onnx", "digits.h", "digits.ep", "me.head", "model.h", "arduino/model", "zephyr/model", "kws.ep"]
    assert [name for name in names if not (folder / "build" / name).exists()] == []
    assert edgeprop.Model(folder / "build" / "digits.ep").restore(folder / "build" / "me.head")
    packages = re.findall(r"`(build/\w+/model)/`", (root / "README.md").read_text(encoding="utf-8"))
    assert packages == ["build/arduino/model", "build/zephyr/model"]
    for package in packages:
        assert (folder / package / "src" / "core.c").is_file()


def test_what_is_not_run_is_there(root: Path) -> None:
    lines = [line for language, text in blocks(root) if language == "sh" for line in text.splitlines()]
    assert {start for start in NOT_RUN if any(line.startswith(start) for line in lines)} == set(NOT_RUN)


def test_checks_find_no_difference(ran: tuple[Path, list[str]]) -> None:
    assert sum(text.startswith("ok: ") for text in ran[1]) == 2


def test_c_block_runs_as_the_device(ran: tuple[Path, list[str]]) -> None:
    folder, _ = ran
    printed = subprocess.run([folder / "digits"], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"ok: loss \d\.\d{3}, \d+ bytes of arena\n", printed)


# ---- Types -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scripts(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python blocks as a user's files, away from the checkout."""
    folder = tmp_path_factory.mktemp("scripts")
    for i, text in enumerate(text for language, text in blocks(root) if language == "python"):
        (folder / f"block_{i}.py").write_text(text, encoding="utf-8")
    return folder


def test_mypy_accepts_the_python_blocks(scripts: Path) -> None:
    pytest.importorskip("mypy")
    (scripts / "mypy.ini").write_text("[mypy]\nstrict = true\n[mypy-sklearn.*]\nignore_missing_imports = true\n")
    done = subprocess.run([sys.executable, "-m", "mypy", "."], cwd=scripts, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_pyright_accepts_the_python_blocks(scripts: Path) -> None:
    folders = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    found = next((path for name in ("pyright", "basedpyright") if (path := shutil.which(name, path=folders))), None)
    if found is None:
        pytest.skip("no pyright: pip install basedpyright")
    (scripts / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    command = [found, "--pythonpath", sys.executable, "."]
    done = subprocess.run(command, cwd=scripts, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- Figures ---------------------------------------------------------------------------------------------------------


def test_figures_come_from_the_demo(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    figures = text.split("<!-- figures: make figures -->")[1].split("<!-- end of figures -->")[0]
    for words in ("float32, on the desktop", "after adapting", "C against onnxruntime", "RAM to learn"):
        assert words in figures
    assert (root / "docs" / "digits.png").is_file()
