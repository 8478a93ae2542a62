"""What a file leaves out: names of outputs, sizes of axes; and errors of the libraries, which come as the exporter's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgeprop import export
from edgeprop.export.check import check, check_quantized
from edgeprop.export.errors import NotTakenError, of_libraries
from edgeprop.export.graph.reference import run
from edgeprop.export.graph.tidy import tidy
from tests.support.graphs import model, node

X = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
TWO = {"sizes": np.int64([2, 2])}
ONES = np.ones(4, np.float32)


def split(*outputs: str, read: str) -> onnx.ModelProto:
    nodes = [node("Split", ["x", "sizes"], outputs, axis=1), node("Relu", [read], ["y"])]
    return model(nodes, {"x": ["N", 4]}, ["y"], TWO)


def in_a_branch() -> onnx.ModelProto:
    value = [helper.make_tensor_value_info("r", TensorProto.FLOAT, ["N", 2])]
    then = helper.make_graph([node("Split", ["x", "sizes"], ["", "r"], axis=1)], "then", [], value)
    other = helper.make_graph([node("Split", ["x", "sizes"], ["r", ""], axis=1)], "else", [], value)
    nodes = [node("If", ["c"], ["y"], then_branch=then, else_branch=other)]
    return model(nodes, {"x": ["N", 4]}, ["y"], {**TWO, "c": False}, shapes={"y": ["N", 2]})


def in_a_function() -> onnx.ModelProto:
    body = [node("Split", ["a"], ["", "b"], axis=1)]
    proto = model([node("F", ["x"], ["y"], domain="own")], {"x": ["N", 4]}, ["y"], shapes={"y": ["N", 2]}, opset=13)
    proto.opset_import.append(helper.make_opsetid("own", 1))
    proto.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, [helper.make_opsetid("", 13)]))
    return proto


UNNAMED: dict[str, tuple[Callable[[], onnx.ModelProto], Any]] = {
    "the first": (lambda: split("", "b", read="b"), np.maximum(X[:, 2:], 0)),
    "the last": (lambda: split("a", "", read="a"), np.maximum(X[:, :2], 0)),
    "all": (lambda: split("", "", read="x"), np.maximum(X, 0)),
    "in a branch": (in_a_branch, X[:, :2]),
    "in a function": (in_a_function, X[:, 2:]),
    "one of an operator that nobody reads": (
        lambda: model([node("Relu", ["x"], ["y"]), node("Abs", ["x"], [""])], {"x": ["N", 4]}, ["y"]),
        np.maximum(X, 0),
    ),
    "optional ones that may not be there": (
        lambda: model(
            [node("BatchNormalization", ["x", *"gggg"], ["y", "", ""], epsilon=0.0)],
            {"x": ["N", 4]},
            ["y"],
            {"g": ONES},
        ),
        X,
    ),
}


@pytest.mark.parametrize("what", UNNAMED)
def test_outputs_without_a_name(what: str) -> None:
    """onnxruntime has ended the process with some of them."""
    make, expected = UNNAMED[what]
    tidied = tidy(make())
    assert not any("" in n.output for n in tidied.graph.node)
    np.testing.assert_allclose(run(make(), {"x": X})["y"], expected, rtol=1e-6)
    assert check(make(), {"x": X}).status == "ok"
    result = check_quantized(make(), X, suggest=False)
    assert result.status == "ok", result.message


def test_an_optional_output_between_others_stays_out() -> None:
    weights = {"w": np.ones((1, 8, 4), np.float32), "r": np.ones((1, 8, 2), np.float32)}
    lstm = model([node("LSTM", ["x", "w", "r"], ["", "", "y"], hidden_size=2)], {"x": [3, 1, 4]}, ["y"], weights)
    assert list(tidy(lstm).graph.node[0].output) == ["", "", "y"]
    assert check(lstm).status == "ok"


def test_names_that_are_given_are_new() -> None:
    proto = split("", "b", read="b")
    proto.graph.node.append(node("Relu", ["x"], ["b.unused0"]))
    assert list(tidy(proto).graph.node[0].output) == ["b.unused0_", "b"]
    assert list(proto.graph.node[0].output) == ["", "b"]
    whole = split("a", "b", read="b")
    assert tidy(whole) is whole


def sliced(nodes: list[onnx.NodeProto], axis: int, shape: list[int | str], **constants: Any) -> onnx.ModelProto:
    ends = {"start": np.int64([0]), "end": np.int64([2]), "axis": np.int64([axis])}
    return model([*nodes, node("Slice", ["h", "start", "end", "axis"], ["y"])], {"x": shape}, ["y"], ends | constants)


def test_an_axis_of_minus_one_varies() -> None:
    """As some exporters write one whose size is not known: onnx has ended the process at a Slice of it."""
    relu = [node("Relu", ["x"], ["h"])]
    assert check(sliced(relu, 1, [-1, 4]), {"x": X}).status == "ok"
    result = check(sliced(relu, 0, [-1, 4]))
    assert result.status == "unsupported"
    assert "Slice 'y': it slices the batch axis" in result.message


def test_what_has_fewer_than_no_elements_is_named() -> None:
    """A window larger than its input, and a Slice behind it."""
    proto = sliced([node("Conv", ["x", "w"], ["h"])], 2, ["N", 1, 4, 4], w=np.ones((1, 1, 9, 9), np.float32))
    assert "Conv 'h': its output has the shape [1, 1, -4, -4]" in check(proto).message


def test_sizes_that_a_file_tells_otherwise_hide_nothing() -> None:
    pad = np.int64([0, 0, 0, 1 << 32])
    proto = model([node("Pad", ["x", "p"], ["h"]), node("Relu", ["h"], ["y"])], {"x": ["N", 4]}, ["y"], {"p": pad})
    proto.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["N", 4]))
    result = check(proto)
    assert result.status == "unsupported"
    assert "Pad 'h': its output has 4,294,967,300 elements" in result.message


def misfit() -> onnx.ModelProto:
    """A batch that onnxruntime does not take the weights of, which nobody sees before."""
    nodes = [node("Reshape", ["x", "s"], ["h"]), node("MatMul", ["h", "w"], ["y"])]
    constants = {"s": np.int64([-1, 3]), "w": np.ones((4, 2), np.float32)}
    return model(nodes, {"x": ["N", 4]}, ["y"], constants)


def test_errors_of_libraries_come_as_our_own(tmp_path: Path) -> None:
    assert check_quantized(misfit(), X).status == check(misfit()).status == "unsupported"
    for call in (export.quantize, export.calibrate, lambda p, x: export.save(tmp_path / "m", p, calibration=x)):
        with pytest.raises(ValueError, match=r"Reshape 'h'|Gemm|MatMul"):
            call(misfit(), X)


def test_what_onnx_says_is_shortened_and_named() -> None:
    with pytest.raises(NotTakenError, match=r"onnx does not accept the model: first second$"), of_libraries():
        raise onnx.checker.ValidationError("first\n second ==> Context: all of it")
    with pytest.raises(KeyError), of_libraries():
        raise KeyError("our own")


def test_an_image_that_the_runtime_refuses_is_a_result_of_check() -> None:
    proto = model([node("LeakyRelu", ["x"], ["y"], alpha=float("nan"), name="leaky")], {"x": ["N", 4]}, ["y"])
    result = check(proto)
    assert result.status == "error"
    assert "'leaky'" in result.message
