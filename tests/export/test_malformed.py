"""Models that are broken: an error that says what is wrong, of a kind that callers expect, and nothing written."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from edgeprop import export
from edgeprop.export.check import check
from edgeprop.export.lower import lower
from tests.support.graphs import model, node
from tests.support.small_nets import NETS

FLOAT = TensorProto.FLOAT


def refused(proto: Any, message: str, folder: Path) -> None:
    """By every road."""
    with pytest.raises(ValueError, match=message):
        lower(proto)
    assert check(proto).status in ("error", "unsupported")
    with pytest.raises(ValueError, match=message):
        export.save(folder / "out", proto)
    assert not list(folder.glob("out*"))


@pytest.mark.parametrize("part", [0, 1, 10, 0.3, 0.5, 0.9])
def test_a_file_cut_short(part: float, tmp_path: Path) -> None:
    raw = NETS["cnn"](17).SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(raw[: int(part if part >= 1 else part * len(raw))])
    refused(tmp_path / "cut.onnx", "cut.onnx|checker rejects|no graph|no outputs|unsupported", tmp_path)


def test_bytes_that_are_something_else(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"\x89PNG\r\n\x1a\n" * 100)
    refused(tmp_path / "x.onnx", "x.onnx: not an ONNX model", tmp_path)


def dense(**changes: Any) -> onnx.ModelProto:
    """A Gemm that a test breaks."""
    nodes = changes.get("nodes", [node("Gemm", ["x", "w"], ["h"], name="fc"), node("Relu", ["h"], ["y"], name="act")])
    constants = {"w": changes.get("w", np.ones((4, 3), np.float32))}
    return model(nodes, {"x": changes.get("shape", ["N", 4])}, ["y"], constants)


def cycle() -> onnx.ModelProto:
    return dense(nodes=[node("Add", ["x", "y"], ["h"], name="a"), node("Relu", ["h"], ["y"], name="b")])


def external(folder: str) -> onnx.ModelProto:
    proto = dense()
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=folder))
    return proto


BROKEN: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "a cycle": (cycle, "checker rejects.*'y'.*not output of any previous nodes|not sorted|y"),
    "a missing initializer": (
        lambda: dense(nodes=[node("Gemm", ["x", "nowhere"], ["y"], name="fc")]),
        "nowhere",
    ),
    "weights of another type": (lambda: dense(w=np.ones((4, 3), np.float64)), "double|DOUBLE|type"),
    "weights that do not fit": (lambda: dense(w=np.ones((5, 3), np.float32)), "fc"),
    "weights of no elements": (lambda: dense(w=np.ones((4, 0), np.float32)), "fc"),
    "an axis of no elements": (lambda: dense(shape=["N", 0]), "no elements"),
    "axes that vary": (lambda: dense(shape=["N", "M"]), r"axis 1 \('M'\) may vary"),
    "too many elements": (lambda: dense(shape=[1 << 40, 4]), "elements"),
    "two nodes that write one value": (
        lambda: dense(nodes=[node("Relu", ["x"], ["y"], name="a"), node("Tanh", ["x"], ["y"], name="b")]),
        "y",
    ),
    "an output that nothing writes": (lambda: dense(nodes=[node("Relu", ["x"], ["h"], name="a")]), "y"),
    "a file of weights that is not there": (lambda: external("weights.bin"), "weights.bin|external"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken(what: str, tmp_path: Path) -> None:
    make, message = BROKEN[what]
    refused(make(), message, tmp_path)
    onnx.save(make(), tmp_path / "file.onnx")
    refused(tmp_path / "file.onnx", message, tmp_path)


def test_nodes_without_names_are_told_by_their_outputs() -> None:
    """All of them in one message."""
    nodes = [node("Mod", ["x", "x"], ["a"], fmod=1), node("Relu", ["a"], ["b"]), node("Det", ["b"], ["y"])]
    with pytest.raises(ValueError, match="2 unsupported nodes") as caught:
        lower(model(nodes, {"x": ["N", 4, 4]}, ["y"], shapes={"y": ["N"]}))
    message = str(caught.value)
    assert "Mod 'a': " in message
    assert "Det 'y': " in message


INTEGERS = [0, -1, -2, 2, 5, 2**31 - 1, -(2**31), 2**40, -(2**63)]


def mutate(proto: onnx.ModelProto, random: np.random.Generator) -> None:
    """One thing otherwise than it was."""
    graph = proto.graph
    made = graph.node[random.integers(len(graph.node))]
    tensor = graph.initializer[random.integers(len(graph.initializer))]
    array = numpy_helper.to_array(tensor)
    attribute = made.attribute[random.integers(len(made.attribute))] if made.attribute else None
    kind = random.integers(9)
    if kind == 0:
        graph.node.remove(made)
    elif kind == 1 and made.input:
        names = ["", "nowhere", graph.node[-1].output[0], "x", tensor.name]
        made.input[random.integers(len(made.input))] = names[random.integers(len(names))]
    elif kind == 2:
        made.op_type = str(random.choice(["Relu", "Add", "Conv", "Gemm", "MaxPool", "Reshape", "Slice", "Foo", "LSTM"]))
    elif kind == 3 and attribute is not None:
        made.attribute.remove(attribute)
    elif kind == 4 and attribute is not None and attribute.ints:
        attribute.ints[random.integers(len(attribute.ints))] = int(random.choice(INTEGERS))
    elif kind == 5 and attribute is not None and attribute.ints:
        del attribute.ints[-1:]
    elif kind == 6:
        shapes = [array.reshape(-1), array.T, array[..., None], array.reshape(-1)[:-1], array.reshape(-1)[:0]]
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(shapes[random.integers(5)]), tensor.name))
    elif kind == 7:
        types = [np.float64, np.int64, np.int8, np.float16, np.bool_]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tensor.CopyFrom(numpy_helper.from_array(array.astype(types[random.integers(5)]), tensor.name))
    elif tensor.dims:
        tensor.dims[random.integers(len(tensor.dims))] = int(random.choice(INTEGERS))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_mutations() -> None:
    """Whatever is changed, a model is taken or refused; no other exception gets out."""
    bases = [make(opset) for make in NETS.values() for opset in (11, 17)]
    random = np.random.default_rng(0)
    taken = 0
    for _ in range(600):
        proto = onnx.ModelProto()
        proto.CopyFrom(bases[random.integers(len(bases))])
        mutate(proto, random)
        try:
            lower(proto)
            taken += 1
        except ValueError:
            pass
    assert 40 < taken < 400
