"""Packages of three models, written once, and what their programs must print."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeprop import export
from edgeprop import trainer as t
from edgeprop.export.package import KINDS
from tests.support.packaged import Packaged, Run

BIN = Path(sys.executable).parent


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """`tool("cmake")`: a program of this environment or of the machine; skips the test where there is none."""

    def find(name: str) -> str:
        found = shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
        if found is None:
            pytest.skip(f"no {name}")
        return found

    return find


@pytest.fixture(scope="session")
def run() -> Run:
    """Output of a command that must succeed."""

    def call(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
        full = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **(env or {})}
        done = subprocess.run([str(part) for part in command], cwd=cwd, env=full, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return call


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """int8, with labels and a head that learns; its name is also that of a file of the runtime."""
    net = t.Sequential(t.Conv2D(4, 3, name="conv"), t.ReLU(), t.MaxPool2D(2), t.Flatten(), t.Dense(5, name="head"))
    net.build((1, 8, 8), seed=0)
    x = np.random.default_rng(0).random((64, 1, 8, 8), dtype=np.float32)
    stem = tmp_path_factory.mktemp("classifier") / "core"
    return Packaged(export.save(stem, net, x, trainable="head", labels=["red", "blue", "a b", "ü", "x"], package=KINDS))


@pytest.fixture(scope="session")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """float32, learns two values."""
    net = t.Sequential(t.Dense(4, name="hidden"), t.Tanh(), t.Dense(2, name="out"))
    net.build((3,), seed=0)
    stem = tmp_path_factory.mktemp("regressor") / "curve"
    return Packaged(export.save(stem, net, trainable="out", loss="mse", package=KINDS))


@pytest.fixture(scope="session")
def junction(tmp_path_factory: pytest.TempPathFactory) -> Packaged:
    """Two inputs and two outputs."""
    text = """
        <ir_version: 9, opset_import: ["" : 13]>
        junction (float[1,4] left, float[1,4] right) => (float[1,4] sum, float[1,4] bent) {
            sum = Add(left, right)
            bent = Tanh(sum)
        }"""
    stem = tmp_path_factory.mktemp("junction") / "junction"
    return Packaged(export.save(stem, onnx.parser.parse_model(text), package=KINDS))


@pytest.fixture(params=["classifier", "regressor", "junction"])
def packaged(request: pytest.FixtureRequest) -> Packaged:
    """Each of the three in turn."""
    found: Packaged = request.getfixturevalue(request.param)
    return found
