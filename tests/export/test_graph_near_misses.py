"""Graphs that look like what is put into other words, and are not: they keep what they compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeprop import Model
from edgeprop.export.lower import lower
from edgeprop.export.writers.image import to_image
from tests.support.graphs import model, node

f32, i64 = np.float32, np.int64

#: name: nodes from x (N, 2, 3) to y, constants
GRAPHS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any]]] = {
    "leaky relu": (
        [node("Greater", ["x", "l"], ["g"]), node("Mul", ["x", "a"], ["m"]), node("Where", ["g", "x", "m"], ["y"])],
        {"l": f32(0), "a": f32(0.1)}),
    "a leaky relu that begins elsewhere": (
        [node("Greater", ["x", "l"], ["g"]), node("Mul", ["x", "a"], ["m"]), node("Where", ["g", "x", "m"], ["y"])],
        {"l": f32(0.5), "a": f32(0.1)}),
    "a leaky relu turned round": (
        [node("Less", ["x", "l"], ["g"]), node("Mul", ["x", "a"], ["m"]), node("Where", ["g", "x", "m"], ["y"])],
        {"l": f32(0), "a": f32(0.1)}),
    "slopes of channels": (
        [node("Greater", ["x", "l"], ["g"]), node("Mul", ["x", "a"], ["m"]), node("Where", ["g", "x", "m"], ["y"])],
        {"l": f32(0), "a": f32([0.1, 0.2, 0.3])}),
    "softplus": (
        [node("Greater", ["x", "l"], ["g"]), node("Softplus", ["x"], ["s"]), node("Where", ["g", "x", "s"], ["y"])],
        {"l": f32(20)}),
    "a softplus that ends early": (
        [node("Greater", ["x", "l"], ["g"]), node("Softplus", ["x"], ["s"]), node("Where", ["g", "x", "s"], ["y"])],
        {"l": f32(1)}),
    "a softplus of another value": (
        [node("Greater", ["x", "l"], ["g"]), node("Neg", ["x"], ["n"]), node("Softplus", ["n"], ["s"]),
         node("Where", ["g", "x", "s"], ["y"])],
        {"l": f32(20)}),
    "silu": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])], {}),
    "a gate of another value": (
        [node("Neg", ["x"], ["n"]), node("Sigmoid", ["n"], ["s"]), node("Mul", ["x", "s"], ["y"])], {}),
    "hard swish": (
        [node("HardSigmoid", ["x"], ["h"], alpha=1 / 6, beta=0.5), node("Mul", ["x", "h"], ["y"])], {}),
    "a hard swish of another slope": (
        [node("HardSigmoid", ["x"], ["h"], alpha=0.25, beta=0.5), node("Mul", ["x", "h"], ["y"])], {}),
    "a hard swish, spelled": (
        [node("Add", ["x", "three"], ["a"]), node("Clip", ["a", "zero", "six"], ["c"]), node("Mul", ["x", "c"], ["m"]),
         node("Div", ["m", "six"], ["y"])],
        {"three": f32(3), "zero": f32(0), "six": f32(6)}),
    "a hard swish of five": (
        [node("Add", ["x", "three"], ["a"]), node("Clip", ["a", "zero", "six"], ["c"]), node("Mul", ["x", "c"], ["m"]),
         node("Div", ["m", "five"], ["y"])],
        {"three": f32(3), "zero": f32(0), "six": f32(6), "five": f32(5)}),
    "gelu": (
        [node("Div", ["x", "r"], ["d"]), node("Erf", ["d"], ["e"]), node("Add", ["e", "one"], ["a"]),
         node("Mul", ["x", "a"], ["m"]), node("Mul", ["m", "half"], ["y"])],
        {"r": f32(2**0.5), "one": f32(1), "half": f32(0.5)}),
    "a gelu of another width": (
        [node("Div", ["x", "r"], ["d"]), node("Erf", ["d"], ["e"]), node("Add", ["e", "one"], ["a"]),
         node("Mul", ["x", "a"], ["m"]), node("Mul", ["m", "half"], ["y"])],
        {"r": f32(2), "one": f32(1), "half": f32(0.5)}),
    "layer norm": (
        [node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"]), node("Pow", ["d", "two"], ["p"]),
         node("ReduceMean", ["p"], ["v"], axes=[-1]), node("Add", ["v", "e"], ["b"]), node("Sqrt", ["b"], ["s"]),
         node("Div", ["d", "s"], ["y"])],
        {"two": f32(2), "e": f32(1e-5)}),
    "a norm by another axis": (
        [node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"]), node("Pow", ["d", "two"], ["p"]),
         node("ReduceMean", ["p"], ["v"], axes=[1]), node("Add", ["v", "e"], ["b"]), node("Sqrt", ["b"], ["s"]),
         node("Div", ["d", "s"], ["y"])],
        {"two": f32(2), "e": f32(1e-5)}),
    "a norm of cubes": (
        [node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"]), node("Abs", ["d"], ["t"]),
         node("Pow", ["t", "three"], ["p"]), node("ReduceMean", ["p"], ["v"], axes=[-1]),
         node("Add", ["v", "e"], ["b"]), node("Sqrt", ["b"], ["s"]), node("Div", ["d", "s"], ["y"])],
        {"three": f32(3), "e": f32(1e-5)}),
    "a norm of the value itself": (
        [node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"]), node("Mul", ["x", "d"], ["p"]),
         node("ReduceMean", ["p"], ["v"], axes=[-1]), node("Add", ["v", "e"], ["b"]), node("Sqrt", ["b"], ["s"]),
         node("Div", ["x", "s"], ["y"])],
        {"e": f32(1e-1)}),
    "rows picked by GatherND": (
        [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("Gather", ["t", "i"], ["y"], axis=1)],
        {"i": i64([2, 0])}),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_computes_what_onnxruntime_computes(name: str) -> None:
    """On values on both sides of every limit, and on the limits."""
    nodes, constants = GRAPHS[name]
    proto = model(nodes, {"x": ["N", 2, 3]}, ["y"], constants)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 2, 3)).astype(np.float32) * np.float32(3)
    x[8] = [[0, 0.5, 1], [20, 21, 3]]
    x[9] = [[-3, -20, -0.5], [2.5, 3.5, 0.25]]
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    wanted = session.run(None, {"x": x})[0]
    found = Model(to_image(lower(proto))).run(x)[0]
    size = float(np.abs(wanted).max())
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-5, atol=1e-5 * size)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("leaky relu", "leaky_relu_f32"), ("softplus", "softplus_f32"), ("silu", "silu_f32"), ("gelu", "gelu_f32"),
     ("hard swish", "hard_swish_f32"), ("layer norm", "group_norm_f32")],
)  # fmt: skip
def test_what_is_meant_is_one_op(name: str, kind: str) -> None:
    """Else the near misses beside it would prove nothing."""
    nodes, constants = GRAPHS[name]
    assert [op.kind for op in lower(model(nodes, {"x": ["N", 2, 3]}, ["y"], constants)).ops] == [kind]


@pytest.mark.parametrize("op", ["Mul", "Add", "Sub", "Div"])
def test_constants_of_more_axes_than_the_value(op: str) -> None:
    """Leading axes of 1 are the result's, too."""
    c = np.random.default_rng(1).uniform(1, 2, (1, 1, 4)).astype(np.float32)
    proto = model([node(op, ["x", "c"], ["y"])], {"x": [1, 4]}, ["y"], {"c": c})
    x = np.random.default_rng(2).normal(size=(1, 4)).astype(np.float32)
    wanted = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0]
    found = Model(to_image(lower(proto))).run(x)[0]
    assert found.shape == wanted.shape == (1, 1, 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
