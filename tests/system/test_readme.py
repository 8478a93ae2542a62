"""The README to the letter: its Python and C blocks run, and its figures are the demo's."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgeprop

# One process runs the Python blocks for all of them.
pytestmark = pytest.mark.xdist_group("readme")


def blocks(root: Path, language: str) -> list[str]:
    text = (root / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both Python blocks ran, the desktop's and then the device's."""
    folder = tmp_path_factory.mktemp("readme")
    for block in blocks(root, "python"):
        (folder / "build").mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-c", block], cwd=folder, check=True)
    return folder


def test_python_blocks_leave_their_files(built: Path) -> None:
    for name in ("digits.onnx", "digits.h", "digits.ep", "me.head"):
        assert (built / "build" / name).stat().st_size > 0
    assert edgeprop.Model(built / "build" / "digits.ep").restore(built / "build" / "me.head")


def test_c_block_compiles_and_runs(root: Path, built: Path) -> None:
    """With the README's own compiler command, only with the runtime's real place."""
    (block,) = blocks(root, "c")
    (built / "main.c").write_text(block)
    (command,) = [line for text in blocks(root, "sh") for line in text.splitlines() if line.startswith("cc ")]
    command = command.replace("csrc", shlex.quote(str(root / "csrc")))
    subprocess.run(command, shell=True, cwd=built, check=True)
    printed = subprocess.run([built / "digits"], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"ok: loss \d\.\d{3}, \d+ bytes of arena\n", printed)


def test_shell_commands_exist(built: Path, root: Path) -> None:
    """`edgeprop check` on the exported model, as the README has it."""
    command = [sys.executable, "-m", "edgeprop", "check", "build/digits.onnx", "--json"]
    done = subprocess.run(command, cwd=built, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mismatches"] == 0


def test_export_commands_write_what_is_said(root: Path, tmp_path: Path) -> None:
    text = """
        <ir_version: 9, opset_import: ["" : 13]>
        model (float[N,4] x) => (float[N,3] y) <float[4,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3}, float[3] b = {1, 2, 3}> {
            [head] z = Gemm(x, w, b)
            y = Softmax(z)
        }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", x=np.random.default_rng(0).random((64, 4), dtype=np.float32))
    lines = [line for text in blocks(root, "sh") for line in text.splitlines() if line.startswith("edgeprop export")]
    assert len(lines) == 2
    for line in lines:
        subprocess.run([sys.executable, "-m", *shlex.split(line)], cwd=tmp_path, check=True)
    packages = re.findall(r"`(build/\w+/model)/`", (root / "README.md").read_text(encoding="utf-8"))
    assert packages == ["build/arduino/model", "build/zephyr/model"]
    for folder in packages:
        assert (tmp_path / folder / "src" / "core.c").is_file()


def test_figures_come_from_the_demo(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    figures = text.split("<!-- figures: make figures -->")[1].split("<!-- end of figures -->")[0]
    for words in ("float32, on the desktop", "after adapting", "C against onnxruntime", "RAM to learn"):
        assert words in figures
    assert (root / "docs" / "digits.png").is_file()
