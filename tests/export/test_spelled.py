"""Operators that become others, and the ends of graphs, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprop import Model, export
from edgeprop.export.check import check
from edgeprop.export.graph import reference
from edgeprop.export.graph.importer import load
from edgeprop.export.lower import UnsupportedError, lower
from edgeprop.export.quantization.quantize import quantize
from tests.support.graphs import model, node

FLOAT, LONG, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def same(proto: onnx.ModelProto, shape: tuple[int, ...] = (5, 3, 4), seed: int = 0) -> None:
    """Equal to onnxruntime on values of both signs, some of them zero."""
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    x[np.abs(x) < 0.3] = 0
    result = check(proto, {"x": x})
    assert result.status == "ok", result.message


def of(*nodes: onnx.NodeProto, opset: int = 17, **constants: Any) -> onnx.ModelProto:
    """A graph from x (N, 3, 4) to y."""
    return model(nodes, {"x": ["N", 3, 4]}, ["y"], constants, opset)


# ---- Reductions, products, powers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op", ["ReduceLogSum", "ReduceLogSumExp", "ReduceProd"])
def test_reductions(op: str, keepdims: int, opset: int) -> None:
    for axes in ([1], [-1], [1, 2]):
        given = {"axes": axes} if opset < 18 else {}
        inputs = ["h"] if opset < 18 else ["h", "axes"]
        nodes = [
            node("Abs", ["x"], ["a"]),
            node("Add", ["a", "half"], ["h"]),
            node(op, inputs, ["y"], keepdims=keepdims, **given),
        ]
        constants = {"half": np.float32(0.5)} | ({"axes": np.array(axes)} if opset >= 18 else {})
        same(of(*nodes, opset=opset, **constants))


def test_a_logarithm_of_a_sum_does_not_overflow() -> None:
    nodes = [node("Mul", ["x", "large"], ["h"]), node("ReduceLogSumExp", ["h"], ["y"], axes=[2])]
    same(of(*nodes, large=np.float32(200)))


@pytest.mark.parametrize("how", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}])
@pytest.mark.parametrize("axis", [1, -1])
def test_running_sums(axis: int, how: dict[str, int]) -> None:
    same(of(node("CumSum", ["x", "axis"], ["y"], **how), axis=np.array(axis)))


def test_a_running_sum_that_is_too_long() -> None:
    proto = model([node("CumSum", ["x", "axis"], ["y"], name="it")], {"x": ["N", 300]}, ["y"], {"axis": np.array(1)})
    with pytest.raises(UnsupportedError, match=r"CumSum 'it': .*; at most 256 steps"):
        lower(proto)


@pytest.mark.parametrize("axis", [0, -3])
def test_a_running_sum_over_the_batch(axis: int) -> None:
    with pytest.raises(UnsupportedError, match=r"CumSum 'it': .*neither the batch axis nor the only one"):
        lower(of(node("CumSum", ["x", "axis"], ["y"], name="it"), axis=np.array(axis)))


@pytest.mark.parametrize("opset", [11, 17])
def test_products_with_vectors(opset: int) -> None:
    vector = np.random.default_rng(1).standard_normal(4).astype(np.float32)
    same(of(node("MatMul", ["x", "v"], ["y"]), opset=opset, v=vector))
    same(of(node("MatMul", ["v", "x"], ["y"]), opset=opset, v=vector[:3]))
    proto = model([node("MatMul", ["x", "v"], ["y"])], {"x": ["N", 4]}, ["y"], {"v": vector}, opset)
    same(proto, (5, 4))


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_a_sum_as_bias(beta: float) -> None:
    nodes = [
        node("ReduceSumSquare", ["x"], ["s"], axes=[1], keepdims=1),
        node("Gemm", ["x", "w", "s"], ["y"], alpha=-2.0, beta=beta, transB=1),
    ]
    weight = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    same(model(nodes, {"x": ["N", 4]}, ["y"], {"w": weight}), (5, 4))


def test_normalization_by_the_sum() -> None:
    same(of(node("LpNormalization", ["x"], ["y"], p=1, axis=-1)))


def test_powers() -> None:
    """Each its own exponent, none of them whole; and the same for all."""
    for exponents in ([0.5, 1.5, 0.3, 2.2], [0.5, 0.5, 0.5, 0.5], [2.0, 2.0, 2.0, 2.0]):
        nodes = [node("Abs", ["x"], ["a"]), node("Pow", ["a", "e"], ["y"])]
        same(of(*nodes, e=np.float32(exponents)))
    with pytest.raises(UnsupportedError, match="its exponents differ"):  # a power of what is negative
        lower(of(node("Pow", ["x", "e"], ["y"]), e=np.float32([1, 2, 3, 0.5])))


@pytest.mark.parametrize(
    ("equation", "operands"),
    [
        ("nij,nij->n", "xx"),
        ("nij,nj->ni", "xv"),
        ("nij,ijo->no", "xc"),
        ("nij,nij->nij", "xx"),
        ("nij,nj->nji", "xv"),
        ("nid,nie,nd->nie", "xxv"),
        ("nij,nj,ijo->no", "xvc"),
    ],
)
def test_einsum(equation: str, operands: str) -> None:
    inputs = {"x": "h", "v": "v", "c": "c"}
    nodes = [
        node("Sigmoid", ["x"], ["h"]),
        node("ReduceMax", ["x"], ["v"], axes=[1], keepdims=0),
        node("Einsum", [inputs[key] for key in operands], ["y"], equation=equation),
    ]
    constant = np.random.default_rng(2).standard_normal((3, 4, 2)).astype(np.float32)
    same(of(*nodes, **({"c": constant} if "c" in operands else {})))


def test_einsum_with_weights_for_every_step() -> None:
    constant = np.ones((3, 4, 2), np.float32)
    with pytest.raises(UnsupportedError, match=r"Einsum 'it'.*no weights for each step"):
        lower(of(node("Einsum", ["x", "c"], ["y"], equation="nij,ijo->nio", name="it"), c=constant))


def test_einsum_of_a_sample_with_others() -> None:
    with pytest.raises(UnsupportedError, match=r"Einsum 'it'.*of one batch axis"):
        lower(of(node("Einsum", ["x", "x"], ["y"], equation="nij,mab->nmijab", name="it")))


def test_what_an_operator_became_does_not_learn() -> None:
    """The last layer is the Gemm, not the triangle of a running sum, a bound or what is left of 1."""
    weight = np.ones((4, 6), np.float32)
    choice = [
        node("Greater", ["h", "b"], ["c"]),
        node("Sigmoid", ["h"], ["s"]),
        node("Where", ["c", "h", "s"], ["y"], name="it"),
    ]
    for behind, more in (
        ([node("CumSum", ["h", "axis"], ["y"], name="it")], {"axis": np.array(-1)}),
        (choice, {"b": np.float32(0.2)}),
        (
            [node("Sigmoid", ["h"], ["s"]), node("Pow", ["s", "e"], ["y"])],
            {"e": np.linspace(0.3, 0.9, 6, dtype=np.float32)},
        ),
    ):
        proto = of(node("MatMul", ["x", "w"], ["h"], name="head"), *behind, w=weight, **more)
        program = lower(proto, trainable="last", loss="mse")
        assert [t.name for t in program.tensors.values() if t.trainable] == ["w"]
        with pytest.raises(UnsupportedError, match="layers that can train: head"):
            lower(proto, trainable="last:2", loss="mse")


# ---- Truth values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal"])
def test_comparisons_as_numbers(op: str) -> None:
    for bound in (0.0, 1.0, -0.5):
        same(of(node(op, ["x", "b"], ["c"]), node("Cast", ["c"], ["y"], to=FLOAT), b=np.float32(bound)))
    two = [node("Neg", ["x"], ["n"]), node(op, ["x", "n"], ["c"]), node("Cast", ["c"], ["y"], to=FLOAT)]
    same(of(*two))


def test_a_comparison_with_infinity_is_refused() -> None:
    nodes = [node("Equal", ["x", "b"], ["c"], name="it"), node("Cast", ["c"], ["y"], to=FLOAT)]
    with pytest.raises(UnsupportedError, match="Equal 'it'"):
        lower(of(*nodes, b=np.float32(-np.inf)))


def test_a_comparison_behind_a_layer() -> None:
    """Its steep slope is not folded into the weights, where it would be infinite."""
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Greater", ["h", "b"], ["c"]),
        node("Cast", ["c"], ["f"], to=FLOAT),
        node("ReduceMean", ["f"], ["y"], axes=[1], keepdims=0),
    ]
    weight = 10 * np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    same(of(*nodes, w=weight, b=np.float32(0.1)))


def test_truth() -> None:
    nodes = [
        node("Greater", ["x", "low"], ["a"]),
        node("Less", ["x", "high"], ["b"]),
        node("And", ["a", "b"], ["c"]),
        node("Not", ["c"], ["d"]),
        node("Or", ["d", "mask"], ["e"]),
        node("Xor", ["e", "a"], ["f"]),
        node("Cast", ["f"], ["y"], to=FLOAT),
    ]
    mask = np.array([[True, False, True, False]])
    same(of(*nodes, low=np.float32(-0.5), high=np.float32(0.7), mask=mask))


def test_sign_and_choice() -> None:
    same(of(node("Sign", ["x"], ["y"])))
    choose = [node("Greater", ["x", "b"], ["c"]), node("Relu", ["x"], ["r"]), node("Where", ["c", "x", "o"], ["y"])]
    for other in (0.0, -3.0):
        same(of(choose[0], choose[2], b=np.float32(0.1), o=np.float32(other)))
    same(of(choose[0], choose[1], node("Where", ["c", "r", "x"], ["y"]), b=np.float32(0.1)))
    masked = [node("Where", ["c", "x", "o"], ["m"]), node("Softmax", ["m"], ["y"], axis=-1)]
    same(of(choose[0], *masked, b=np.float32(-0.5), o=np.float32(-np.inf)))


def test_a_choice_that_hides_what_is_no_number() -> None:
    nodes = [
        node("Greater", ["x", "b"], ["c"]),
        node("Log", ["x"], ["l"]),
        node("Where", ["c", "l", "o"], ["y"], name="it"),
    ]
    with pytest.raises(UnsupportedError, match="Where 'it'"):
        lower(of(*nodes, b=np.float32(0.1), o=np.float32(0)))


def test_a_mask_that_hides_what_is_no_number() -> None:
    mask = np.array([True, False, True, False])
    nodes = [node("Log", ["x"], ["l"]), node("Where", ["m", "l", "o"], ["y"], name="it")]
    with pytest.raises(UnsupportedError, match="Where 'it'"):
        lower(of(*nodes, m=mask, o=np.float32(0)))
    nodes[0] = node("Greater", ["x", "o"], ["m"])
    nodes[1] = node("Where", ["m", "x", "nan"], ["y"], name="it")
    with pytest.raises(UnsupportedError, match="Where 'it'"):
        lower(of(*nodes, o=np.float32(0), nan=np.float32(np.nan)))


@pytest.mark.parametrize("constant", [True, False])
def test_infinity_as_an_output_is_refused(constant: bool) -> None:
    """It would be the lowest number there."""
    compare = [] if constant else [node("Greater", ["x", "o"], ["m"])]
    given = {"m": np.array([True, False, True, False])} if constant else {"o": np.float32(0)}
    with pytest.raises(UnsupportedError, match="Where 'it'"):
        lower(of(*compare, node("Where", ["m", "x", "low"], ["y"], name="it"), low=np.float32(-np.inf), **given))


def test_a_mask_chooses_of_two_computed_values() -> None:
    mask = np.array([True, False, True, False])
    same(of(node("Sigmoid", ["x"], ["s"]), node("Where", ["m", "s", "x"], ["y"]), m=mask))


def test_a_logarithm_of_a_sum_may_be_chosen() -> None:
    """Of exponentials it is a number always; of what may be 0, not."""
    choice = [node("Greater", ["x", "b"], ["c"]), node("Where", ["c", "x", "l"], ["y"], name="it")]
    same(of(node("ReduceLogSumExp", ["x"], ["l"], axes=[1]), *choice, b=np.float32(0.1)))
    choice[0] = node("Where", ["m", "l", "b"], ["y"], name="it")
    nodes = [node("Abs", ["x"], ["a"]), node("ReduceLogSum", ["a"], ["l"], axes=[1])]
    with pytest.raises(UnsupportedError, match="Where 'it'"):
        lower(of(*nodes, choice[0], b=np.float32(0.1), m=np.array([True, False, True, False])))


def words(*nodes: onnx.NodeProto, **constants: Any) -> onnx.ModelProto:
    """A graph over indices i (N, 6), embedded as e (N, 6, 4), to y."""
    constants["table"] = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    made = helper.make_graph(
        [node("Gather", ["table", "i"], ["e"]), *nodes],
        "g",
        [helper.make_tensor_value_info("i", LONG, ["N", 6])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_masks_of_indices() -> None:
    """The mean of the words that are not padding; attention that leaves padding out; indices as numbers."""
    mean = [
        node("Equal", ["i", "zero"], ["pad"]),
        node("Not", ["pad"], ["word"]),
        node("Cast", ["word"], ["f"], to=FLOAT),
        node("Unsqueeze", ["f", "last"], ["m"]),
        node("Mul", ["e", "m"], ["kept"]),
        node("ReduceSum", ["kept", "one"], ["total"], keepdims=0),
        node("ReduceSum", ["m", "one"], ["count"], keepdims=0),
        node("Add", ["count", "little"], ["c"]),
        node("Div", ["total", "c"], ["y"]),
    ]
    constants = {"zero": np.array(0), "last": np.array([-1]), "one": np.array([1]), "little": np.float32(0.1)}
    ids = np.random.default_rng(0).integers(0, 9, (5, 6)) % 7
    for proto in (
        words(*mean, **constants),
        words(
            node("Equal", ["i", "zero"], ["pad"]),
            node("ReduceSum", ["e", "last"], ["s"], keepdims=0),
            node("Where", ["pad", "least", "s"], ["m"]),
            node("Softmax", ["m"], ["y"], axis=-1),
            **constants,
            least=np.float32(-np.inf),
        ),
        words(
            node("Cast", ["i"], ["f"], to=FLOAT),
            node("ReduceSum", ["e", "last"], ["s"], keepdims=0),
            node("Add", ["f", "s"], ["y"]),
            **constants,
        ),
    ):
        result = check(proto, {"i": ids})
        assert result.status == "ok", result.message


@pytest.mark.parametrize("op", ["Equal", "Greater", "LessOrEqual"])
def test_indices_from_the_end(op: str) -> None:
    """-1 is the last row of a table, and less than 0 all the same."""
    for bound in (-1, 0, 8):
        nodes = [
            node(op, ["i", "bound"], ["c"]),
            node("Cast", ["c"], ["f"], to=FLOAT),
            node("Cast", ["i"], ["g"], to=FLOAT),
            node("ReduceSum", ["e", "last"], ["s"], keepdims=0),
            node("Sum", ["f", "g", "s"], ["y"]),
        ]
        result = check(
            words(*nodes, bound=np.array(bound), last=np.array([-1])), {"i": np.array([[0, 8, -1, -9, 3, -2]])}
        )
        assert result.status == "ok", result.message


def test_the_table_of_an_index_is_short() -> None:
    """Of one that is asked for, one row more than there are: what lies behind is 0."""
    nodes = [
        node("Equal", ["i", "zero"], ["c"]),
        node("Cast", ["c"], ["f"], to=FLOAT),
        node("Unsqueeze", ["f", "last"], ["u"]),
        node("Mul", ["u", "e"], ["y"]),
    ]
    program = lower(words(*nodes, zero=np.array(0), last=np.array([-1])))
    assert sorted(op.attrs["vocabulary"] for op in program.ops if op.kind == "embedding_f32") == [9, 10]


def test_a_mask_with_another_axis() -> None:
    nodes = [
        node("Equal", ["i", "zero"], ["c"]),
        node("Unsqueeze", ["c", "last"], ["u"]),
        node("Expand", ["u", "shape"], ["w"]),
        node("Where", ["w", "none", "e"], ["y"]),
    ]
    constants = {"zero": np.array(0), "last": np.array([-1]), "shape": np.array([1, 6, 4]), "none": np.float32(-2)}
    result = check(words(*nodes, **constants), {"i": np.arange(12).reshape(2, 6) % 5})
    assert result.status == "ok", result.message


def test_one_hot_of_what_is_outside() -> None:
    """No row has it: all are `off`."""
    nodes = [node("OneHot", ["i", "depth", "values"], ["o"]), node("Concat", ["o", "e"], ["y"], axis=-1)]
    proto = words(*nodes, depth=np.array(4), values=np.float32([0.5, 2]))
    result = check(proto, {"i": np.arange(12).reshape(2, 6) % 9})
    assert result.status == "ok", result.message


@pytest.mark.parametrize("kind", [np.float32, np.int64])
def test_one_hot(kind: Any) -> None:
    nodes = [node("OneHot", ["i", "depth", "values"], ["o" if kind == np.int64 else "y"], axis=-1)]
    nodes += [node("Cast", ["o"], ["y"], to=FLOAT)] if kind == np.int64 else []
    proto = words(*nodes, depth=np.array(9), values=np.array([0, 1], kind))
    result = check(proto, {"i": np.arange(12).reshape(2, 6) % 9})
    assert result.status == "ok", result.message


# ---- Ends ------------------------------------------------------------------------------------------------------------


def ends(*nodes: onnx.NodeProto, kind: int, rank: int = 1, **constants: Any) -> onnx.ModelProto:
    """A Gemm 's' of x (N, 4), and what comes behind it, to y."""
    constants["w"] = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    made = helper.make_graph(
        [node("Gemm", ["x", "w"], ["s"], name="head"), *nodes],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", kind, ["N", 3][:rank])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


HALF = np.float32(0.5)
DECISIONS: dict[str, tuple[onnx.ModelProto, str]] = {
    "label": (ends(node("ArgMax", ["s"], ["y"], axis=1, keepdims=0), kind=LONG), "take the largest along axis 1"),
    "cast": (
        ends(node("Cast", ["s"], ["y"], to=TensorProto.DOUBLE), kind=TensorProto.DOUBLE, rank=2),
        "cast it to double",
    ),
    "sorted": (
        ends(node("TopK", ["s", "k"], ["y", "i"]), kind=FLOAT, rank=2, k=np.array([2])),
        "take the 2 largest along axis -1",
    ),
    "threshold": (ends(node("Greater", ["s", "h"], ["y"]), kind=BOOL, rank=2, h=HALF), "see whether it is above 0.5"),
    "whole": (
        ends(node("Greater", ["s", "h"], ["c"]), node("Cast", ["c"], ["y"], to=LONG), kind=LONG, rank=2, h=HALF),
        "see whether it is above 0.5, then cast it to int64",
    ),
}


HEAD = ends(node("ArgMax", ["s"], ["y"], axis=1, keepdims=0, select_last_index=1), kind=LONG)
DECISIONS["last label"] = (HEAD, "take the last of the largest along axis 1")
DECISIONS["turned"] = (
    ends(node("Greater", ["h", "s"], ["y"]), kind=BOOL, rank=2, h=HALF),
    "see whether it is below 0.5",
)
DECISIONS["smallest"] = (
    ends(node("TopK", ["s", "k"], ["v", "y"], largest=0), kind=LONG, rank=2, k=np.array([2])),
    "take the 2 smallest along axis -1",
)


@pytest.mark.parametrize("what", DECISIONS)
def test_the_scores_are_the_output(what: str, tmp_path: Path) -> None:
    proto, words = DECISIONS[what]
    assert load(proto).notes == [
        f"output 'y' is left out, and 's', which it is made of, is the output: {words}"
        + (" where that is needed" if "cast" in words else "")
    ]
    result = check(proto)
    assert (result.status, result.elements) == ("ok", 12), result.message
    saved = export.save(tmp_path / "net", proto, calibration=np.random.default_rng(0).random((9, 4), np.float32))
    assert "note: output 'y' is left out" in str(saved)
    assert [port.name for port in saved.program.outputs] == ["s"]


def test_the_smallest_is_the_largest_of_the_negative(tmp_path: Path) -> None:
    """So that a label is where the output is largest, whatever the model."""
    proto = ends(node("ArgMin", ["s"], ["y"], axis=1, keepdims=0), kind=LONG)
    x = np.random.default_rng(1).standard_normal((40, 4)).astype(np.float32)
    saved = export.save(tmp_path / "net", proto, calibration=x)
    assert "the negative of 's', which it is made of, is the output: take the largest along axis 1" in str(saved)
    assert check(proto).status == "ok"
    (labels,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {"x": x})
    assert np.mean(Model(saved.paths["image"]).predict(x).argmax(1) == labels) > 0.9
    beside = ends(node("ArgMin", ["s"], ["y"], axis=1, keepdims=0), node("Relu", ["s"], ["s2"]), kind=LONG)
    beside.graph.output.append(helper.make_tensor_value_info("s", FLOAT, ["N", 3]))
    (note,) = load(beside).notes
    assert note == "output 'y' is left out: take the smallest along axis 1 of 's'"


def test_scores_beside_a_label() -> None:
    proto = ends(node("ArgMax", ["s"], ["y"], axis=1, keepdims=0), kind=LONG)
    proto.graph.output.append(helper.make_tensor_value_info("s", FLOAT, ["N", 3]))
    assert load(proto).notes == ["output 'y', the label, is left out: take the largest of 's'"]
    assert check(proto).status == "ok"


def test_a_label_of_another_head() -> None:
    """It is none of the scores that are an output."""
    proto = ends(node("Gemm", ["x", "w"], ["t"]), node("ArgMax", ["t"], ["y"], axis=1, keepdims=0), kind=LONG)
    proto.graph.output.append(helper.make_tensor_value_info("s", FLOAT, ["N", 3]))
    assert load(proto).notes == [
        "output 'y' is left out, and 't', which it is made of, is the output: take the largest along axis 1"
    ]
    result = check(proto)
    assert (result.status, result.elements) == ("ok", 24), result.message


def test_an_input_that_is_an_output_keeps_its_type() -> None:
    proto = ends(node("Cast", ["x"], ["f"], to=FLOAT), node("Relu", ["f"], ["y"]), kind=FLOAT, rank=2)
    proto.graph.node.pop(0)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    proto.graph.output.append(helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", 4]))
    with pytest.raises(UnsupportedError, match="output 'x': it is an input too"):
        lower(proto)


@pytest.mark.parametrize("kind", [TensorProto.INT16, TensorProto.UINT8, TensorProto.INT32, TensorProto.DOUBLE])
def test_inputs_that_are_cast(kind: int) -> None:
    proto = ends(kind=FLOAT, rank=2)
    proto.graph.input[0].type.tensor_type.elem_type = kind
    proto.graph.node[0].input[0] = "f"
    proto.graph.node[0].output[0] = "y"
    proto.graph.node.insert(0, node("Cast", ["x"], ["f"], to=FLOAT))
    name = TensorProto.DataType.Name(kind).lower()
    assert load(proto).notes == [f"input 'x' is float32, to which the model casts it: give the {name} values as such"]
    assert check(proto).status == "ok"


# ---- onnxruntime's own operators, and codes --------------------------------------------------------------------------


def contrib(*nodes: onnx.NodeProto, **constants: Any) -> onnx.ModelProto:
    proto = of(*nodes, **constants)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return proto


def test_operators_of_an_optimized_model() -> None:
    normal = np.random.default_rng(1).standard_normal
    scale, bias, more = (normal(4).astype(np.float32) for _ in range(3))
    nodes = [
        node("Neg", ["x"], ["n"]),
        node("Sigmoid", ["n"], ["h"]),
        node(
            "SkipLayerNormalization",
            ["x", "h", "g", "b", "m"],
            ["y", "", "", "t"],
            domain="com.microsoft",
            epsilon=1e-5,
        ),
    ]
    two = [*nodes, node("Relu", ["t"], ["u"]), node("Add", ["z", "u"], ["y"])]
    same(contrib(*nodes, g=scale, b=bias, m=more))
    two[2] = helper.make_node("SkipLayerNormalization", ["x", "h", "g"], ["z", "", "", "t"], domain="com.microsoft")
    same(contrib(*two, g=scale))
    same(contrib(node("BiasGelu", ["x", "b"], ["y"], domain="com.microsoft"), b=bias))


def quantized(*between: onnx.NodeProto, **constants: Any) -> onnx.ModelProto:
    """x as uint8 codes to `c`, and from `d` back to y."""
    constants |= {"s": np.float32(0.02), "z": np.uint8(120)}
    ends = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["c"])]
    back = [node("QuantizeLinear", ["d", "s", "z"], ["r"]), node("DequantizeLinear", ["r", "s", "z"], ["y"])]
    return of(*ends, *between, *back, **constants)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_the_largest_code(op: str) -> None:
    same(quantized(node(op, ["c"], ["d"], axes=[1], keepdims=0)))


def weights(**more: Any) -> dict[str, Any]:
    """int8 weights so large that two products do not fit 16 bits."""
    codes = np.where(np.random.default_rng(0).random((4, 6)) < 0.9, 127, -127).astype(np.int8)
    return {"w": codes, "ws": np.float32(0.01), "wz": np.int8(0), **more}


def test_zero_points_that_two_layers_share() -> None:
    """onnxruntime does not turn such weights into uint8 itself."""
    nodes = [
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=1),
        node("MatMul", ["c", "wd"], ["a"]),
        node("QuantizeLinear", ["a", "s2", "z"], ["aq"]),
        node("DequantizeLinear", ["aq", "s2", "z"], ["ad"]),
        node("DequantizeLinear", ["w2", "ws", "wz"], ["wd2"], axis=1),
        node("MatMul", ["ad", "wd2"], ["d"]),
    ]
    codes = np.random.default_rng(0).integers(-127, 128, (2, 4, 4)).astype(np.int8)
    scales = {"ws": np.full(4, 0.01, np.float32), "wz": np.zeros(4, np.int8), "s2": np.float32(0.05)}
    same(quantized(*nodes, w=codes[0], w2=codes[1], **scales))


def test_sums_of_codes_made_at_run_time_do_not_saturate() -> None:
    """On a CPU without VNNI onnxruntime must be told so, for int8 weights."""
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        node("Cast", ["i"], ["f"], to=FLOAT),
        node("Mul", ["s", "ws"], ["scale"]),
        node("Mul", ["f", "scale"], ["y"]),
    ]
    proto = model(nodes, {"x": ["N", 4]}, ["y"], weights())
    x = np.float32([[1, 1, 1, 1], [3, 2.5, 3, 0]])
    result = check(proto, {"x": x})
    assert result.status == "ok", result.message
    wanted = x @ (weights()["w"] * np.float32(0.01))
    np.testing.assert_allclose(reference.run(proto, {"x": x[:1]})["y"], wanted[:1], rtol=0.02)


def test_an_lstm_that_is_quantized_as_it_runs_is_refused() -> None:
    names = ["x", "w", "r", "", "", "", "", "", "ws", "wz", "rs", "rz"]
    nodes = [node("DynamicQuantizeLSTM", names, ["y"], name="it", domain="com.microsoft", hidden_size=2)]
    constants = {"w": np.ones((1, 4, 8), np.int8), "r": np.ones((1, 2, 8), np.int8)}
    constants |= {"ws": np.ones(1, np.float32), "rs": np.ones(1, np.float32)}
    constants |= {"wz": np.zeros(1, np.int8), "rz": np.zeros(1, np.int8)}
    with pytest.raises(UnsupportedError, match=r"DynamicQuantizeLSTM 'it': .*; a float32 LSTM: quantize_dynamic"):
        lower(contrib(*nodes, **constants))


def test_a_branch_that_is_known_behind_a_pad(tmp_path: Path) -> None:
    """As PyTorch traces squeeze: in float32 and quantized, the branch that hands a value on as it is included."""
    value = helper.make_tensor_value_info("b", FLOAT, None)
    branches = [
        helper.make_graph([node("Squeeze", ["padded", "one"], ["b"])], "squeezed", [], [value]),
        helper.make_graph([node("Identity", ["padded"], ["b"])], "same", [], [value]),
    ]
    for one, other in (branches, branches[::-1]):
        nodes = [
            node("ConstantOfShape", ["rank"], ["ends"], value=numpy_helper.from_array(np.zeros(1, np.int64))),
            node("Concat", ["ends", "ends", "more"], ["amounts"], axis=0),
            node("Pad", ["x", "amounts"], ["padded"]),
            node("Shape", ["padded"], ["s"]),
            node("Gather", ["s", "one"], ["n"], axis=0),
            node("Equal", ["n", "one"], ["c"]),
            node("If", ["c"], ["h"], then_branch=one, else_branch=other),
            node("MatMul", ["h", "w"], ["y"]),
        ]
        constants = {"rank": np.array([2]), "one": np.array([1]), "more": np.array([0, 2])}
        constants["w"] = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
        proto = model(nodes, {"x": ["N", 1, 4]}, ["y"], constants)
        assert check(proto).status == "ok"
        x = np.random.default_rng(1).random((8, 1, 4), np.float32)
        assert check(export.save(tmp_path / "net", proto, calibration=x).model, {"x": x}).status == "ok"


def layers_around(*between: onnx.NodeProto, **constants: Any) -> onnx.ModelProto:
    """A layer and Relu to h (N, 3, 6), and another from z to y."""
    normal = np.random.default_rng(1).standard_normal
    constants |= {"w": normal((4, 6)).astype(np.float32), "w2": normal((6, 5)).astype(np.float32)}
    first = [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["h"])]
    return of(*first, *between, node("MatMul", ["z", "w2"], ["y"]), **constants)


def distance(proto: onnx.ModelProto) -> float:
    """What int8 costs, in dB, after a check that the device computes the int8 model."""
    x = np.random.default_rng(0).standard_normal((40, 3, 4)).astype(np.float32)
    quantized = quantize(proto, x)
    result = check(quantized, {"x": x[:8]})
    assert result.status == "ok", result.message
    want, got = reference.run(proto, {"x": x})["y"], reference.run(quantized, {"x": x})["y"]
    return float(10 * np.log10((want**2).sum() / ((want - got) ** 2).sum()))


def test_a_choice_of_codes() -> None:
    """onnxruntime fuses it to an operator of its own."""
    nodes = [node("Greater", ["h", "b"], ["c"]), node("Tanh", ["h"], ["t"])]
    bound = np.float32(0.2)
    assert distance(layers_around(*nodes, node("Where", ["c", "t", "h"], ["z"]), b=bound)) > 15
    assert distance(layers_around(nodes[0], node("Where", ["c", "h", "o"], ["z"]), b=bound, o=np.float32(-1))) > 15


@pytest.mark.parametrize("lowest", [-np.inf, -1e9, -1e4])
def test_masked_scores_stay_float(lowest: float) -> None:
    """Codes of a range that holds the mask too would all be the same for the scores."""
    low = np.float32(lowest)
    keep = np.array([1, 1, 0, 1, 0, 1], bool)
    softmax = node("Softmax", ["m"], ["z"], axis=-1)
    assert distance(layers_around(node("Where", ["c", "h", "o"], ["m"]), softmax, c=keep, o=low)) > 15
    added = np.where(keep, np.float32(0), low)
    assert distance(layers_around(node("Add", ["h", "o"], ["m"]), softmax, o=added)) > 15
    computed = [node("ReduceMax", ["h"], ["r"], axes=[-1]), node("Less", ["h", "r"], ["c"])]
    assert distance(layers_around(*computed, node("Where", ["c", "h", "o"], ["m"]), softmax, o=low)) > 15
