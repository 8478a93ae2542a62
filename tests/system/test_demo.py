"""The demo, as a user runs it, reaches what it promises."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

# One process makes the demo for all of them.
pytestmark = pytest.mark.xdist_group("demo")

KEYS = [
    "float_accuracy",
    "int8_accuracy",
    "shifted_accuracy",
    "adapted_accuracy",
    "int8_mismatches",
    "flash_bytes",
    "infer_arena_bytes",
    "train_arena_bytes",
    "runtime_code_bytes",
    "train_seconds",
    "adapt_seconds",
]
FILES = ["digits.onnx", "digits.h", "digits.ep", "report.md", "report.html", "digits.png", "device.head"]


@pytest.fixture(scope="module")
def demo(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """The demo's folder, summary and output."""
    for module in ("sklearn", "matplotlib", "onnxruntime"):
        pytest.importorskip(module)
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [sys.executable, str(root / "examples" / "digits" / "demo.py"), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return out, json.loads((out / "summary.json").read_text(encoding="utf-8")), done.stdout


def test_summary_has_its_keys(demo: tuple[Path, dict[str, Any], str]) -> None:
    _, summary, _ = demo
    assert list(summary) == KEYS
    assert all(isinstance(value, int | float) for value in summary.values())


def test_int8_keeps_the_accuracy(demo: tuple[Path, dict[str, Any], str]) -> None:
    _, summary, _ = demo
    assert summary["float_accuracy"] >= 0.97
    assert summary["int8_accuracy"] >= summary["float_accuracy"] - 0.005


def test_every_int8_value_is_that_of_onnxruntime(demo: tuple[Path, dict[str, Any], str]) -> None:
    assert demo[1]["int8_mismatches"] == 0


def test_adapting_wins_back_half_of_an_honest_loss(demo: tuple[Path, dict[str, Any], str]) -> None:
    _, summary, output = demo
    lost = summary["int8_accuracy"] - summary["shifted_accuracy"]
    assert lost >= 0.15
    assert summary["adapted_accuracy"] - summary["shifted_accuracy"] >= lost / 2
    originals = next(line for line in output.splitlines() if "original digits" in line)
    assert float(originals.split()[-1].rstrip("%")) / 100 >= summary["int8_accuracy"] - 0.03


def test_it_fits_a_microcontroller(demo: tuple[Path, dict[str, Any], str]) -> None:
    _, summary, _ = demo
    assert 0 < summary["infer_arena_bytes"] < summary["train_arena_bytes"] < 16 * 1024
    assert 0 < summary["flash_bytes"] < 32 * 1024
    assert 0 < summary["runtime_code_bytes"] < 24 * 1024


def test_the_readme_shows_what_it_prints(demo: tuple[Path, dict[str, Any], str], root: Path) -> None:
    """Bytes and counts are the same on every machine; of code, with the compiler that the README names."""
    spec = importlib.util.spec_from_file_location("figures", root / "docs" / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    text = (root / "README.md").read_text(encoding="utf-8").split(figures.BEGIN)[1].split(figures.END)[0]
    shown, printed = figures.rows(text), figures.rows(demo[2].split("\n\n")[0])
    assert list(shown) == list(printed)
    same = {name for name in printed if name.startswith(("Flash: the model", "RAM", "C against"))}
    assert len(same) == 4
    code = next(name for name in printed if name.startswith("Flash: code"))
    if figures.made_with() in text:
        same.add(code)
    wrong = {name: (shown[name], printed[name]) for name in same if shown[name] != printed[name]}
    assert not wrong, f"README, demo: {wrong}; run `make figures`"
    size, found = (int(table[code].removesuffix(" B").replace(",", "")) for table in (shown, printed))
    assert abs(size - found) <= found / 10, "run `make figures`"
    shares = [name for name in printed if printed[name].endswith("%")]
    assert len(shares) == 6
    for name in shares:
        assert abs(float(shown[name][:-1]) - float(printed[name][:-1])) <= 3, f"{name}: run `make figures`"


def test_it_leaves_its_files(demo: tuple[Path, dict[str, Any], str]) -> None:
    out, _, _ = demo
    assert {name for name in FILES if not (out / name).is_file() or not (out / name).stat().st_size} == set()
