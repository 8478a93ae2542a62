"""`check`: what it says of models and inputs, with the NumPy interpreter as the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgeprop.export.check import check
from edgeprop.export.graph.exact import exact_outputs
from edgeprop.export.program.program import Program
from tests.support import interpreter
from tests.support.graphs import model, node, qdq


def dense() -> Any:
    weight = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    return model(
        [node("Gemm", ["x", "w"], ["y"]), node("Relu", ["y"], ["z"])], {"x": ["N", 4]}, ["y", "z"], {"w": weight}
    )


def run(proto: Any, inputs: Any = None, **options: Any) -> Any:
    return check(proto, inputs, device=interpreter.device, **options)


def test_a_model_that_agrees() -> None:
    result = run(dense())
    assert (result.status, result.mismatches, result.elements) == ("ok", 0, 4 * 6)
    assert result.max_rel_error <= 1e-6
    assert [layer.name for layer in result.layers] == ["y", "z"]
    assert str(result).startswith("ok: 0 of 24 output elements differ")


def test_random_inputs_follow_the_seed() -> None:
    seen = []

    def device(program: Program, inputs: Mapping[str, Any]) -> Any:
        seen.append(inputs["x"].copy())
        return interpreter.device(program, inputs)

    for seed in (0, 0, 1):
        check(dense(), seed=seed, device=device)
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_inputs_given(rows: int) -> None:
    assert run(dense(), {"x": np.ones((rows, 4))}).elements == rows * 6


def off(amount: float) -> Any:
    """A device that is off by a part of the largest output."""

    def device(program: Program, inputs: Mapping[str, Any]) -> Any:
        outputs, tensors = interpreter.device(program, inputs)
        for value in outputs.values():
            value.flat[0] += amount * np.abs(value).max()
        return outputs, tensors

    return device


@pytest.mark.parametrize(("amount", "status"), [(0.5e-5, "ok"), (2e-5, "differs"), (np.nan, "differs")])
def test_float_tolerance(amount: float, status: str) -> None:
    result = check(dense(), device=off(amount))
    assert (result.status, result.mismatches) == (status, 2 * (status != "ok"))


def test_integers_must_be_equal() -> None:
    proto = model([node("MaxPool", ["x"], ["y"], kernel_shape=[2])], {"x": ["N", 2, 6]}, ["y"], dtype=TensorProto.INT8)

    def device(program: Program, inputs: Mapping[str, Any]) -> Any:
        outputs, tensors = interpreter.device(program, inputs)
        outputs["y"].flat[3] ^= 1
        return outputs, tensors

    assert run(proto).status == "ok"
    result = check(proto, device=device)
    assert (result.status, result.mismatches, result.max_abs_error) == ("differs", 1, 1.0)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'x' is missing; the model takes it as float32"),
        ({"x": np.zeros((2, 5), "f4")}, r"input 'x' has shape \[2, 5\], the model takes \[0, 4\]"),
        ({"x": np.zeros(4, "f4")}, "input 'x' has shape"),
        ({"x": np.zeros((0, 4), "f4")}, "input 'x' has shape"),
        ({"x": np.full((1, 4), np.nan, "f4")}, "input 'x' holds NaN"),
        ({"x": np.zeros((1, 4), complex)}, "input 'x' is complex128, the model takes float32"),
        ({"x": [[1, 2], [3]]}, "input 'x' is not an array"),
        ({"x": np.zeros((1, 4), "f4"), "z": 1}, "input 'z' is none of the model's: x"),
    ],
)
def test_inputs_that_do_not_fit(inputs: Any, message: str) -> None:
    result = run(dense(), inputs)
    assert result.status == "error"
    import re

    assert re.search(message, result.message)


@pytest.mark.parametrize("bad", [b"nonsense", "nowhere.onnx"])
def test_models_that_are_none(bad: Any) -> None:
    assert run(bad).status == "error"


def test_unsupported() -> None:
    nodes = [node("Relu", ["x"], ["r"]), node("TopK", ["r", "k"], ["t", "i"], name="largest")]
    nodes.append(node("Relu", ["t"], ["y"]))
    result = run(model(nodes, {"x": ["N", 3]}, ["y"], {"k": np.array([1])}))
    assert result.status == "unsupported"
    assert "TopK 'largest'" in result.message


def test_batch_that_the_graph_does_not_take_after_all() -> None:
    """A dynamic input, and a Reshape to a fixed shape behind it: one sample is compared."""
    proto = model([node("Reshape", ["x", "s"], ["y"])], {"x": ["N", 2, 3]}, ["y"], {"s": np.array([1, 6])})
    assert run(proto).elements == 6
    assert run(proto, {"x": np.zeros((2, 2, 3), "f4")}).status == "error"


def test_several_inputs() -> None:
    proto = model([node("Add", ["a", "b"], ["y"])], {"a": ["N", 3], "b": ["N", 3]}, ["y"])
    assert run(proto).status == "ok"
    result = run(proto, {"a": np.zeros((2, 3), "f4"), "b": np.zeros((3, 3), "f4")})
    assert result.status == "error"
    assert "differ in their number of samples" in result.message


def small(kind: str, factor: float | None = None) -> onnx.ModelProto:
    """Values so small that onnxruntime's polynomials are off by more than a float32 need be."""
    nodes = [node("Add", ["x", "b"], ["a"]), node(kind, ["a"], ["s" if factor else "y"])]
    constants = {"b": np.float32(-12)}
    if factor:
        nodes.append(node("Mul", ["s", "f"], ["y"]))
        constants["f"] = np.float32(factor)
    return model(nodes, {"x": ["N", 64]}, ["y"], constants)


@pytest.mark.parametrize("proto", [small("Sigmoid"), small("Sigmoid", 1e6)], ids=["at the end", "inside"])
def test_onnxruntime_is_off_and_the_device_is_not(proto: onnx.ModelProto) -> None:
    result = run(proto)
    assert (result.status, result.mismatches) == ("ok", 0)
    assert "from float64; onnxruntime itself is off by" in result.message
    result = check(proto, device=off(1e-4))
    assert (result.status, "float64" in result.message) == ("differs", False)


def test_float64_stands_for_float32_alone() -> None:
    """Constants, Constant nodes and Casts are float64 too; quantized graphs and foreign operators have no such answer."""
    nodes = [
        node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.float32(0.1))),
        node("Mul", ["x", "c"], ["m"]),
        node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    x = np.float32([[3, 7]])
    found = exact_outputs(model(nodes, {"x": ["N", 2]}, ["y"]), {"x": x})
    assert found is not None
    np.testing.assert_array_equal(found["y"], x.astype(np.float64) * np.float64(np.float32(0.1)))
    assert (
        exact_outputs(model([node("Gelu", ["x"], ["y"], domain="com.microsoft")], {"x": ["N", 2]}, ["y"]), {"x": x})
        is None
    )
    pair, constants = qdq("x", 0.1, 3)
    assert exact_outputs(model(pair, {"x": ["N", 2]}, ["x.dq"], constants), {"x": x}) is None
