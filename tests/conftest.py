"""Fixtures for all tests: where shared data sets and models lie, if they are there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _finder(variable: str, default: Path) -> Callable[[str], Path]:
    """A function from the name of a file or folder to its path; skips the test where it is not there."""
    folder = Path(os.environ.get(variable, default))

    def find(name: str) -> Path:
        path = folder / name
        if not path.exists():
            pytest.skip(f"no {path}; {variable} names the folder that holds {name}")
        return path

    return find


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Callable[[str], Path]:
    """`data("usps")`: path of a data set under EDGEPROP_DATA."""
    return _finder("EDGEPROP_DATA", ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def models() -> Callable[[str], Path]:
    """`models("resnet8.onnx")`: path of a model under EDGEPROP_MODELS."""
    return _finder("EDGEPROP_MODELS", ROOT.parent / "shared" / "models")
