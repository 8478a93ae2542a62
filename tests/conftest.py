"""For all tests: where shared data sets and models lie, if they are there; what the processes of a session share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

ROOT = Path(__file__).resolve().parents[1]


# As many tests run at a time as there are cores, so that threads of one would only wait for those of another. This is for
# NumPy in the processes that this one starts.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


class _OneThread(onnxruntime.SessionOptions):  # type: ignore[misc]
    """Options of a session that runs in the thread that calls it, unless they are told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.intra_op_num_threads = 1


onnxruntime.SessionOptions = _OneThread


def pytest_configure(config: pytest.Config) -> None:
    """One folder for the objects that tests/support/compiler.py makes; the processes that run the tests inherit it."""
    if "EDGEPROP_TEST_OBJECTS" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="edgeprop-c-")
        os.environ["EDGEPROP_TEST_OBJECTS"] = folder.name
        config.add_cleanup(folder.cleanup)


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
