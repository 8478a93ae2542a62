"""Graphs over a batch of fixed size, taken apart: one sample alone gives what it gives among the others, and constants that
hold the batch are cut; what mixes samples is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from edgeprop.export.graph.batch import MixedSamples, one_sample, samples_apart
from edgeprop.export.lower import lower
from edgeprop.export.quantization.quantize import quantize
from tests.support.graphs import model, node

Array = np.ndarray[Any, np.dtype[Any]]
BATCH = 3
rng = np.random.default_rng(0)


def values(*shape: int) -> Array:
    return rng.normal(size=shape).astype(np.float32)


def same(*shape: int) -> Array:
    """A constant with the same for each of the samples, which are its first axis."""
    return np.repeat(values(1, *shape), BATCH, 0)


def ints(*sizes: int) -> Array:
    return np.array(sizes, np.int64)


#: name: nodes, shape of x, constants
APART: dict[str, tuple[list[onnx.NodeProto], tuple[int, ...], dict[str, Any]]] = {
    "reshape": ([node("Reshape", ["x", "s"], ["y"])], (3, 2, 4), {"s": ints(3, 8)}),
    "reshape, steps and samples in one": (
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]), node("Reshape", ["t", "s"], ["r"]),
            node("MatMul", ["r", "w"], ["m"]), node("Reshape", ["m", "b"], ["n"]),
            node("Transpose", ["n"], ["y"], perm=[1, 0, 2]),
        ],
        (3, 4, 2), {"s": ints(12, 2), "w": values(2, 5), "b": ints(4, 3, 5)}),
    "expand": ([node("Expand", ["x", "s"], ["y"])], (3, 1, 4), {"s": ints(3, 2, 4)}),
    "expand by trailing sizes": ([node("Expand", ["x", "s"], ["y"])], (3, 2, 1), {"s": ints(2, 4)}),
    "resize": (
        [node("Resize", ["x", "", "", "s"], ["y"], mode="nearest")], (3, 2, 2, 2), {"s": ints(3, 2, 4, 6)}),
    "add": ([node("Add", ["x", "c"], ["y"])], (3, 2, 4), {"c": same(2, 4)}),
    "add a row": ([node("Add", ["x", "c"], ["y"])], (3, 3), {"c": values(3)}),
    "a constant on the left": ([node("Sub", ["c", "x"], ["y"])], (3, 4), {"c": same(4)}),
    "a constant of two users": (
        [node("Add", ["x", "c"], ["a"]), node("Mul", ["a", "c"], ["y"])], (3, 4), {"c": same(4)}),
    "gemm": ([node("Gemm", ["x", "w", "c"], ["y"])], (3, 4), {"w": values(4, 5), "c": same(5)}),
    "weights of as many rows as samples": ([node("Gemm", ["x", "w"], ["y"])], (3, 3), {"w": values(3, 3)}),
    "concat": ([node("Concat", ["x", "c"], ["y"], axis=1)], (3, 2, 4), {"c": same(5, 4)}),
    "gru": (
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("GRU", ["t", "w", "r", "", "", "h"], ["", "z"], hidden_size=2),
            node("Squeeze", ["z", "a"], ["y"]),
        ],
        (3, 4, 2), {"w": values(1, 6, 2), "r": values(1, 6, 2), "h": same(2)[None], "a": ints(0)}),
    "lstm": (
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("LSTM", ["t", "w", "r", "", "n", "h", "c"], ["", "z"], hidden_size=2),
            node("Squeeze", ["z", "a"], ["y"]),
        ],
        (3, 4, 2),
        {"w": values(1, 8, 2), "r": values(1, 8, 2), "n": np.full(3, 4, np.int32), "h": same(2)[None],
         "c": same(2)[None], "a": ints(0)}),
}  # fmt: skip


def built(nodes: list[onnx.NodeProto], shape: tuple[int, ...], constants: dict[str, Any]) -> onnx.ModelProto:
    return model(nodes, {"x": shape}, ["y"], constants)


def run(proto: onnx.ModelProto, x: Array) -> Array:
    return np.asarray(onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})[0])


@pytest.mark.parametrize("name", APART)
def test_one_sample_alone(name: str) -> None:
    nodes, shape, constants = APART[name]
    proto = built(nodes, shape, constants)
    kept = proto.SerializeToString()
    single = one_sample(proto, BATCH)
    assert proto.SerializeToString() == kept
    x = values(*shape)
    whole = run(proto, x)
    for row in range(BATCH):
        alone = run(single, x[row : row + 1])
        assert alone.shape == (1, *whole.shape[1:])
        np.testing.assert_allclose(alone[0], whole[row], rtol=1e-5, atol=1e-6)
    assert single.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    held = {name for n in single.graph.node for name in n.input}
    assert {t.name for t in single.graph.initializer} <= held
    cut = [t for t in single.graph.initializer if ".sample." in t.name and t.data_type == onnx.TensorProto.FLOAT]
    assert all(BATCH not in t.dims for t in cut)


def differs(*shape: int) -> Array:
    """A constant of its own for each sample."""
    return values(BATCH, *shape)


MIXED: dict[str, tuple[list[onnx.NodeProto], tuple[int, ...], dict[str, Any], str]] = {
    "a mean of samples": (
        [node("ReduceMean", ["x"], ["m"], axes=[0]), node("Sub", ["x", "m"], ["y"])], (3, 4), {}, "apart"),
    "a constant of each sample": ([node("Add", ["x", "c"], ["y"])], (3, 4), {"c": differs(4)}, "from sample to sample"),
    "a state of each sample": (
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("GRU", ["t", "w", "r", "", "", "h"], ["", "z"], hidden_size=2), node("Squeeze", ["z", "a"], ["y"]),
        ],
        (3, 4, 2), {"w": values(1, 6, 2), "r": values(1, 6, 2), "h": differs(2)[None], "a": ints(0)},
        "from sample to sample"),
    "samples reversed": (
        [node("Slice", ["x", "f", "l", "a", "p"], ["y"])], (3, 4),
        {"f": ints(2), "l": ints(-9), "a": ints(0), "p": ints(-1)}, "apart|taken"),
    "a batch that is split": ([node("Reshape", ["x", "s"], ["y"])], (3, 4), {"s": ints(2, 6)}, "splits the batch"),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_mixed_samples_are_refused(name: str) -> None:
    nodes, shape, constants, says = MIXED[name]
    with pytest.raises(MixedSamples, match=says):
        one_sample(built(nodes, shape, constants), BATCH)


@pytest.mark.parametrize(
    ("op", "attributes", "apart"),
    [("Relu", {}, True), ("Softmax", {"axis": 1}, True), ("Softmax", {"axis": 0}, False), ("CumSum", None, False)],
)
def test_a_batch_that_varies(op: str, attributes: dict[str, Any] | None, apart: bool) -> None:
    """Found out by trying."""
    last = node(op, ["x"], ["y"], **attributes) if attributes is not None else node(op, ["x", "a"], ["y"])
    proto = model([last], {"x": ["N", 4]}, ["y"], {} if attributes is not None else {"a": np.int64(0)})
    assert samples_apart(proto, 0) == apart
    assert samples_apart(proto, 3)


def test_inputs_that_cannot_be_drawn_are_not_apart() -> None:
    """A type that no device takes."""
    proto = model([node("Identity", ["x"], ["y"])], {"x": ["N", 4]}, ["y"], dtype=onnx.TensorProto.STRING)
    assert not samples_apart(proto, 0)


def counting(*behind: onnx.NodeProto) -> list[onnx.NodeProto]:
    """n, the number of samples, as a float."""
    return [
        node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["k"]), node("Cast", ["k"], ["n"], to=1), *behind
    ]  # fmt: skip


COUNTED = {
    "first samples": ([node("Slice", ["x", "zero1", "three", "zero1"], ["y"])], "slices the batch axis"),
    "first samples, by an attribute": (
        [node("Slice", ["x"], ["y"], starts=[0], ends=[3], axes=[0])], "slices the batch axis"),
    "first samples, of what is computed": (
        [node("Relu", ["x"], ["r"]), node("Slice", ["r", "zero1", "three"], ["y"])], "slices the batch axis"),
    "divided by their number": (counting(node("Div", ["x", "n"], ["y"])), "number of samples in its batch"),
    "divided by that of all elements": (
        [node("Size", ["x"], ["k"]), node("Cast", ["k"], ["n"], to=1), node("Div", ["x", "n"], ["y"])],
        "number of samples in its batch"),
    "numbered": (
        [
            node("Shape", ["x"], ["s"]), node("Gather", ["s", "zero"], ["k"]), node("Range", ["zero", "k", "one"], ["r"]),
            node("Cast", ["r"], ["f"], to=1), node("Unsqueeze", ["f", "one1"], ["u"]), node("Add", ["x", "u"], ["y"]),
        ],
        "number of samples in its batch"),
}  # fmt: skip
NUMBERS: dict[str, Any] = {
    "zero": np.int64(0), "one": np.int64(1), "zero1": ints(0), "one1": ints(1), "three": ints(3), "all": ints(2**40)
}  # fmt: skip


def counted(nodes: list[onnx.NodeProto], batch: int | str = "N") -> onnx.ModelProto:
    opset = 9 if any(n.op_type == "Slice" and n.attribute for n in nodes) else 13
    named = {name: NUMBERS[name] for n in nodes for name in n.input if name in NUMBERS}
    return model(nodes, {"x": [batch, 4]}, ["y"], named, shapes={"y": [batch, 4]}, opset=opset)


@pytest.mark.parametrize("name", COUNTED)
def test_a_varying_batch_that_is_one_sample_on_the_device_is_no_other_there(name: str) -> None:
    """For one sample, each of these is something else than for several, and simpler: it is refused before it is that."""
    nodes, says = COUNTED[name]
    proto = counted(nodes)
    assert not samples_apart(proto, 0)
    with pytest.raises(ValueError, match=says):
        lower(proto)
    with pytest.raises(ValueError, match=says):
        lower(quantize(proto, values(8, 4)))
    lower(counted(nodes, 1))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Slice", ["x", "zero1", "all", "zero1"], ["y"])],
        [node("Slice", ["x", "zero1", "three", "one1"], ["s"]), node("MatMul", ["s", "w"], ["y"])],
        [node("Shape", ["x"], ["s"]), node("Reshape", ["x", "s"], ["y"])],
        counting(node("Div", ["x", "n"], ["d"]), node("Mul", ["d", "n"], ["y"])),
    ],
    ids=["all samples", "of each sample", "sizes", "a number that goes again"],
)
def test_a_varying_batch_whose_size_does_not_matter(nodes: list[onnx.NodeProto]) -> None:
    proto = counted(nodes)
    if nodes[-1].op_type == "MatMul":
        proto.graph.initializer.append(onnx.numpy_helper.from_array(values(3, 4), "w"))
    assert samples_apart(proto, 0)
    lower(proto)
