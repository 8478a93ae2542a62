"""What the exporter says: one cause, one line, of bearable length."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from edgeprop.export.check import check
from edgeprop.export.errors import MOST_LETTERS, MOST_LINES
from edgeprop.export.lower import UnsupportedError, lower
from tests.support.graphs import model, node


def refused(nodes: list[onnx.NodeProto]) -> UnsupportedError:
    with pytest.raises(UnsupportedError) as caught:
        lower(model(nodes, {"x": ["N", 4, 4]}, [nodes[-1].output[0]], shapes={nodes[-1].output[0]: ["N", 4, 4]}))
    return caught.value


def chain(kinds: list[str], name: str = "n{}") -> list[onnx.NodeProto]:
    names = ["x", *(name.format(i) for i in range(len(kinds)))]
    return [node(kind, [names[i]], [names[i + 1]], name=names[i + 1], domain="own") for i, kind in enumerate(kinds)]


def test_one_cause_is_one_line() -> None:
    error = refused(chain(["Foo"] * 200 + ["Bar"] * 2))
    assert len(error.nodes) == 202
    lines = str(error).splitlines()
    assert len(lines) == 1 + 1 + 2
    assert lines[1].startswith("  own.Foo ×200 ('n0', 'n1', 'n2' and 197 more): the device has no such operator; ")
    assert [line[:13] for line in lines[2:]] == ["  own.Bar 'n2", "  own.Bar 'n2"]


def test_few_of_one_cause_have_a_line_each() -> None:
    assert len(str(refused(chain(["Foo"] * 3))).splitlines()) == 4


def test_many_causes_end_after_some_lines() -> None:
    error = refused(chain([f"Foo{i}" for i in range(300)]))
    lines = str(error).splitlines()
    assert len(lines) == 1 + MOST_LINES
    assert lines[-1].strip() == f"and {300 - MOST_LINES + 1} more like these: put these right first"


def test_names_as_long_as_a_file() -> None:
    error = refused(chain(["Foo"] * 5, "a" * 4000 + "{}"))
    assert max(map(len, str(error).splitlines())) < 2 * MOST_LETTERS
    error = refused(chain(["Foo" * 1300]))
    assert max(map(len, str(error).splitlines())) < 2 * MOST_LETTERS


def test_the_checker_is_quoted_in_one_line() -> None:
    """It goes on with every node around, and prints whole attributes."""
    branch = onnx.helper.make_graph(
        [node("Neg", ["nowhere"], ["t"])], "b", [], [onnx.helper.make_tensor_value_info("t", 1, [4])]
    )
    proto = model(
        [node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
        {"x": [4]},
        ["y"],
        {"c": np.array(True)},
        shapes={"y": [4]},
    )
    message = check(proto).message
    assert "nowhere" in message
    assert len(message.splitlines()) == 1
    assert len(message) < 2 * MOST_LETTERS


def test_batches_of_one_sample_are_told() -> None:
    """A Squeeze of the batch axis takes one sample: so does the device, with a note of it."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Squeeze", ["a", "z"], ["s"]),
        node("Unsqueeze", ["s", "z"], ["y"]),
    ]
    proto = model(
        nodes, {"x": ["N", 4]}, ["y"], {"w": np.eye(4, dtype="f4"), "z": np.array([0])}, shapes={"y": ["N", 4]}
    )
    result = check(proto)
    assert result.status == "ok"
    assert "its batch axis is fixed at 1" in str(result)
    assert lower(proto).inputs[0].shape == (1, 4)
    proto.graph.node[1].op_type = "ReduceSum"
    proto.graph.node[2].input[0] = "s"
    proto.graph.node[1].attribute.append(onnx.helper.make_attribute("keepdims", 0))
    with pytest.raises(UnsupportedError, match=r"batch axis.*inputs whose first axis is 1"):
        lower(proto)
