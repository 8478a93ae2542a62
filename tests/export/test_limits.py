"""What constants become when they are folded is foreseen; what is moved into convolutions is zero where they pad."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprop.export.graph import limits, reference
from edgeprop.export.graph.normalize import fold_pads
from edgeprop.export.graph.uses import keep_what_is_read, reads
from tests.support.graphs import model, node

A, B = np.ones((2, 1, 3), np.float32), np.ones((4, 1), np.float32)


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


#: node, its constants, whether the number is exact or a bound
FOLDED: list[tuple[onnx.NodeProto, dict[str, np.ndarray[Any, Any]], bool]] = [
    (node("ConstantOfShape", ["s"], ["y"]), {"s": ints(3, 5)}, True),
    (node("Expand", ["a", "s"], ["y"]), {"a": A, "s": ints(5, 1, 4, 1)}, True),
    (node("Tile", ["a", "s"], ["y"]), {"a": A, "s": ints(2, 3, 1)}, True),
    (node("Range", ["a", "b", "c"], ["y"]), {"a": np.int64(2), "b": np.int64(20), "c": np.int64(3)}, True),
    (node("Range", ["a", "b", "c"], ["y"]), {"a": np.int64(9), "b": np.int64(-9), "c": np.int64(-2)}, True),
    (node("OneHot", ["i", "d", "v"], ["y"]), {"i": ints(0, 1, 2), "d": np.int64(7), "v": np.float32([0, 1])}, True),
    (node("Pad", ["a", "s"], ["y"]), {"a": A, "s": ints(1, 2, 0, 0, 0, 4)}, True),
    (node("Pad", ["a", "s"], ["y"]), {"a": A, "s": ints(0, 0, -1, 0, 0, -1)}, True),
    (node("Gather", ["a", "i"], ["y"], axis=0), {"a": A, "i": ints(0, 1, 0, 1)}, False),
    (node("Resize", ["a", "", "", "s"], ["y"], mode="nearest"), {"a": A, "s": ints(2, 4, 6)}, True),
    (node("Resize", ["a", "", "s"], ["y"], mode="nearest"), {"a": A, "s": np.float32([1, 2, 3])}, True),
    (node("MatMul", ["a", "b"], ["y"]), {"a": np.ones((5, 3), np.float32), "b": np.ones((3, 7), np.float32)}, True),
    (node("Add", ["a", "b"], ["y"]), {"a": A, "b": B}, True),
    (node("Concat", ["a", "a"], ["y"], axis=1), {"a": A}, True),
]


@pytest.mark.parametrize(("made", "constants", "exact"), FOLDED, ids=[made.op_type for made, *_ in FOLDED])
def test_elements_are_foreseen(made: onnx.NodeProto, constants: dict[str, np.ndarray[Any, Any]], exact: bool) -> None:
    array = reference.run_nodes([made], constants, {}, "y", {"": 17})
    shapes = {name: np.shape(value) for name, value in constants.items()}
    count = limits.folded_elements(made, shapes, {name: np.asarray(value) for name, value in constants.items()})
    assert count is not None
    assert count == array.size if exact else count >= array.size


def test_what_is_not_known_is_not_foreseen() -> None:
    assert limits.folded_elements(node("Expand", ["a", "s"], ["y"]), {"a": (2,)}, {}) is None
    assert not limits.is_endless(node("Expand", ["a", "s"], ["y"]), {"a": A})
    assert limits.is_endless(node("Loop", [], ["y"]), {})


# ---- Nodes that are needed -------------------------------------------------------------------------------------------


def test_reads_go_through_all_graphs_inside() -> None:
    value = [onnx.helper.make_tensor_value_info("r", 1, [1])]
    inner = onnx.helper.make_graph([node("Neg", ["deep"], ["r"])], "inner", [], value)
    outer = onnx.helper.make_graph([node("If", ["c"], ["r"], then_branch=inner, else_branch=inner)], "outer", [], value)
    made = node("If", ["top", ""], ["y"], then_branch=outer, else_branch=outer)
    assert {"top", "c", "deep"} <= reads(made)
    assert "" not in reads(made)


def test_nodes_of_no_use_go_and_others_stay_in_their_order() -> None:
    proto = model(
        [node("Neg", ["x"], ["a"]), node("Abs", ["x"], ["unused"]), node("Relu", ["a"], ["y"])], {"x": [2]}, ["y"]
    )
    keep_what_is_read(proto.graph)
    assert [n.op_type for n in proto.graph.node] == ["Neg", "Relu"]


# ---- Padding ---------------------------------------------------------------------------------------------------------


def quantized_conv(fill: int, zero: int) -> ir.Model:
    """A Pad in front of an integer convolution whose codes have a zero point."""
    names = ["p", "s", "z", "w", "s", "o", "s", "z"]
    nodes = [node("Pad", ["x", "pads", "fill"], ["p"]), node("QLinearConv", names, ["y"], pads=[0, 1, 0, 0])]
    constants = {
        "pads": ints(0, 0, 1, 2, 0, 0, 3, 4),
        "fill": np.int8(fill),
        "s": np.float32(0.5),
        "z": np.int8(zero),
        "o": np.int8(0),
        "w": np.ones((1, 1, 1, 1), np.int8),
    }
    return ir.from_proto(model(nodes, {"x": [1, 1, 4, 4]}, ["y"], constants, dtype=onnx.TensorProto.INT8))


@pytest.mark.parametrize(("fill", "zero", "moves"), [(5, 5, True), (0, 5, False), (5, 0, False), (-7, -7, True)])
def test_padding_moves_into_a_convolution_of_its_zero_point(fill: int, zero: int, moves: bool) -> None:
    """A convolution pads with the code of 0.0: a Pad with another would become something else."""
    net = quantized_conv(fill, zero)
    fold_pads(net.graph)
    assert [n.op_type for n in net.graph] == (["QLinearConv"] if moves else ["Pad", "QLinearConv"])
    wanted = [1, 3, 3, 4] if moves else [0, 1, 0, 0]
    assert list(net.graph[-1].attributes.get_ints("pads") or []) == wanted
