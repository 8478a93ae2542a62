"""Weights that are NaN or infinite are named by every road, as the model calls them; infinity that means something is none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgeprop import export
from edgeprop.export import cli
from edgeprop.export.check import check, check_quantized
from edgeprop.export.lower import lower
from tests.support.graphs import model, node

X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
W = np.ones((4, 3), np.float32)
FOUR = np.ones(4, np.float32)


def bad(array: Any, value: float) -> Any:
    copy = array.copy()
    copy.flat[1] = value
    return copy


def dense(w: Any = W, b: Any = FOUR[:3]) -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Add", ["h", "b"], ["s"]), node("Relu", ["s"], ["y"])]
    return model(nodes, {"x": ["N", 4]}, ["y"], {"w": w, "b": b})


def front(kind: str, *inputs: str, **constants: Any) -> onnx.ModelProto:
    nodes = [node(kind, ["x", *inputs], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    return model(nodes, {"x": ["N", 4]}, ["y"], {"w": W, **constants})


def constant() -> onnx.ModelProto:
    made = node("Constant", [], ["w"], value=numpy_helper.from_array(bad(W, np.nan)))
    return model([made, node("MatMul", ["x", "w"], ["y"])], {"x": ["N", 4]}, ["y"])


def half() -> onnx.ModelProto:
    nodes = [node("Cast", ["small"], ["w"], to=1), node("MatMul", ["x", "w"], ["y"])]
    return model(nodes, {"x": ["N", 4]}, ["y"], {"small": bad(W, np.inf).astype(np.float16)})


def norm() -> onnx.ModelProto:
    return front("BatchNormalization", "one", "one", "mean", "one", one=FOUR, mean=bad(FOUR, np.nan))


NAMED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "a weight": (lambda: dense(w=bad(W, np.nan)), "initializer 'w' holds NaN in 1 of 12 values"),
    "an infinite one": (lambda: dense(w=bad(W, -np.inf)), "initializer 'w' holds infinity in 1 of 12 values"),
    "a bias": (lambda: dense(b=bad(FOUR[:3], np.nan)), "initializer 'b' holds NaN in 1 of 3 values"),
    "NaN before infinity": (lambda: dense(bad(W, np.inf), bad(FOUR[:3], np.nan)), "'b' holds NaN in 1 of 3 values: "),
    "a statistic": (norm, "initializer 'mean' holds NaN in 1 of 4 values"),
    "a Constant": (constant, "attribute 'value' of Constant 'w' holds NaN in 1 of 12 values"),
    "float16": (half, "initializer 'small' holds infinity in 1 of 12 values"),
}


@pytest.mark.parametrize("what", NAMED)
def test_constants_that_are_not_finite(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, message = NAMED[what]
    calls = (
        lambda: lower(make()),
        lambda: export.save(tmp_path / "m", make()),
        lambda: export.save(tmp_path / "m", make(), X),
        lambda: export.quantize(make(), X),
    )
    for call in calls:
        with pytest.raises(ValueError, match=re.escape(message)):
            call()
    for result in (check(make()), check_quantized(make(), X, suggest=False)):
        assert result.status == "error"
        assert message in result.message
    onnx.save(make(), tmp_path / "given.onnx")
    np.save(tmp_path / "x.npy", X)
    for more in ([], ["--calibration", str(tmp_path / "x.npy")]):
        assert cli.main(["export", str(tmp_path / "given.onnx"), *more, "-o", str(tmp_path / "out")]) == cli.USAGE
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def unread() -> onnx.ModelProto:
    proto = dense()
    proto.graph.initializer.append(numpy_helper.from_array(bad(W, np.nan), "nobody reads it"))
    return proto


MEANT: dict[str, Callable[[], onnx.ModelProto]] = {
    "a limit": lambda: front("Clip", "lo", "hi", lo=np.float32(0), hi=np.float32(np.inf)),
    "what nobody reads": unread,
}


@pytest.mark.parametrize("what", MEANT)
def test_infinity_that_is_meant(what: str) -> None:
    assert check(MEANT[what]()).status == "ok"
    assert check_quantized(MEANT[what](), X, suggest=False).status == "ok"


def test_samples_that_overflow_are_no_fault_of_the_weights() -> None:
    """In a model whose constants are finite."""
    result = check_quantized(front("Mul", "big", big=np.float32(3e38)), X * 10, suggest=False)
    assert result.status == "error"
    assert "value 'h' holds NaN or infinity on the calibration samples: check the samples' units" in result.message


def test_constants_that_become_infinite_when_computed() -> None:
    nodes = [node("Div", ["w", "zero"], ["v"]), node("MatMul", ["x", "v"], ["y"])]
    proto = model(nodes, {"x": ["N", 4]}, ["y"], {"w": W, "zero": np.zeros((4, 3), np.float32)})
    with pytest.raises(ValueError, match="tensor 'v' has values that are NaN or infinite: what the model's constants"):
        lower(proto)
