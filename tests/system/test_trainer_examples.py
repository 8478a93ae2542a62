"""Examples of training: a vanishing gradient and its cures; zip-code digits with the network of 1989."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


def load(root: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An example as a module."""
    folder, module = name.split("/")
    monkeypatch.syspath_prepend(str(root / "examples" / folder))
    sys.modules.pop(module, None)
    return __import__(module)


def test_the_gradient_vanishes_and_is_cured(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("sklearn")
    demo = load(root, "vanishing_gradient/demo", monkeypatch)
    layers, steps = demo.main(tmp_path / "out", epochs=10)
    printed = capsys.readouterr().out

    kept = {name: result.norms[0] / result.norms[-1] for name, result in layers.items()}
    assert kept["sigmoid"] < 1e-9
    assert layers["sigmoid"].accuracy < 0.2
    assert layers["ReLU, small weights"].norms.max() < 1e-7
    for cure in ("ReLU, He's weights", "sigmoid, residual", "sigmoid, batch norm"):
        assert 0.1 < kept[cure] < 10
        assert layers[cure].accuracy > 0.5

    kept = {name: result.norms[0] / result.norms[-1] for name, result in steps.items()}
    assert kept["RNN, small weights"] < 1e-12
    assert kept["RNN, orthogonal weights"] < 0.01
    assert kept["GRU"] < 1e-5
    assert kept["LSTM"] > 0.1
    assert steps["LSTM"].accuracy > 0.85 > 0.6 > steps["RNN, small weights"].accuracy
    for name in (*layers, *steps):
        assert name in printed
    if "vanishing.png" in printed:
        assert (tmp_path / "out/vanishing.png").read_bytes().startswith(b"\x89PNG")


def test_zip_code_digits(root: Path, data: Callable[[str], Path], tmp_path: Path) -> None:
    """A short training; the tenth of the digits held back as a test here is in none of it."""
    pytest.importorskip("onnxruntime")
    with np.load(data("usps/usps_train.npz")) as digits:
        x, y = digits["x"], digits["y"]
    part = np.arange(len(y)) < 0.9 * len(y)
    for name, rows in (("train", part), ("test", ~part)):
        np.savez(tmp_path / f"{name}.npz", x=x[rows], y=y[rows])
    script = [sys.executable, str(root / "examples/usps/train.py"), "--copies", "10", "--epochs", "1"]
    places = ["--data", "train.npz", "--test", "test.npz", "--out", "out"]
    done = subprocess.run([*script, *places], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    errors = [float(word[:-1]) for word in done.stdout.replace(",", " ").split() if word.endswith("%")]
    validation, validation_int8, test, test_int8 = errors[-4:]
    assert max(validation, test) <= 4.0
    assert max(validation_int8 - validation, test_int8 - test) <= 0.5
    for suffix in ("onnx", "h", "ep"):
        assert (tmp_path / f"out/zipcode.{suffix}").is_file()
