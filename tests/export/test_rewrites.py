"""What exporters write in operators that the device has not, taken in others that it has: against onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeprop import Model, export
from edgeprop.export.check import check
from edgeprop.export.graph.reference import run
from edgeprop.export.graph.samples import random_inputs
from edgeprop.export.lower import UnsupportedError, lower
from edgeprop.export.quantization.simplify import simplify
from edgeprop.export.writers.image import to_image
from tests.support import interpreter
from tests.support.graphs import model, node

#: with zeros, equal neighbours and values beside the bounds
X = np.float32([[-3, -1, -0.25, 0], [0, 0.25, 0.25, 0.3], [1, 1, 5, -5], [1e-30, -1e-30, 2, -0.0]])


def normal(seed: int) -> Any:
    random = np.random.default_rng(seed)
    return lambda *shape: random.standard_normal(shape).astype(np.float32)


def same(proto: onnx.ModelProto, inputs: Any = None) -> list[str]:
    """The C runtime and the interpreter give what onnxruntime gives; the kinds of the program's ops."""
    for device in (None, interpreter.device):
        result = check(proto, inputs, device=device)
        assert result.status == "ok", str(result)
    return [op.kind for op in lower(proto).ops]


# ---- Conditions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_comparisons_as_numbers(op: str) -> None:
    """Of two computed values, and with a number on either side."""
    for sides in (["x", "z"], ["x", "quarter"], ["quarter", "x"]):
        nodes = [
            node("Flatten", ["x"], ["z0"]),
            node("Slice", ["z0", "first", "last", "axis"], ["z"]),
            node(op, sides, ["c"]),
            node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
        ]
        constants = {"quarter": np.float32(0.25), "first": np.array([1]), "last": np.array([2]), "axis": np.array([1])}
        same(model(nodes, {"x": ["N", 4]}, ["y"], constants), {"x": X})


@pytest.mark.parametrize("op", ["And", "Or", "Not"])
def test_conditions_of_conditions(op: str) -> None:
    both = ["a", "b"] if op != "Not" else ["a"]
    nodes = [
        node("Greater", ["x", "low"], ["a"]),
        node("Less", ["x", "high"], ["b"]),
        node(op, both, ["c"]),
        node("Where", ["c", "x", "one"], ["y"]),
    ]
    constants = {"low": np.float32(-0.25), "high": np.float32(1), "one": np.float32(1)}
    same(model(nodes, {"x": ["N", 4]}, ["y"], constants), {"x": X})


def test_peaks_of_a_heat_map() -> None:
    """h * (h == max pool of h), as CenterNet finds its objects."""
    nodes = [
        node("Sigmoid", ["x"], ["h"]),
        node("MaxPool", ["h"], ["m"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Equal", ["h", "m"], ["peak"]),
        node("Cast", ["peak"], ["number"], to=TensorProto.FLOAT),
        node("Mul", ["h", "number"], ["y"]),
    ]
    proto = model(nodes, {"x": ["N", 2, 6, 6]}, ["y"])
    same(proto, {"x": normal(0)(3, 2, 6, 6)})


@pytest.mark.parametrize("op", ["Greater", "GreaterOrEqual", "Less", "LessOrEqual"])
def test_rectifiers_by_where(op: str) -> None:
    nodes = [node("Mul", ["tenth", "x"], ["small"]), node(op, ["x", "zero"], ["c"])]
    nodes.append(node("Where", ["c", "x", "small"] if op[0] == "G" else ["c", "small", "x"], ["y"]))
    constants = {"zero": np.float32(0), "tenth": np.float32(0.1)}
    assert same(model(nodes, {"x": ["N", 4]}, ["y"], constants), {"x": X}) == ["leaky_relu_f32"]
    swapped = [*nodes[:2], node("Where", ["c", *nodes[2].input[:0:-1]], ["y"])]  # the other way round
    assert "sign_f32" in same(model(swapped, {"x": ["N", 4]}, ["y"], constants), {"x": X})


@pytest.mark.parametrize("level", [0.25, -1.0])
def test_thresholds_by_where(level: float) -> None:
    for op, sides in (("Greater", ["c", "x", "zero"]), ("LessOrEqual", ["c", "zero", "x"])):
        nodes = [node(op, ["x", "level"], ["c"]), node("Where", sides, ["y"])]
        constants = {"zero": np.zeros(1, np.float32), "level": np.float32(level)}
        assert same(model(nodes, {"x": ["N", 4]}, ["y"], constants), {"x": X}) == ["thresholded_relu_f32"]


def test_a_choice_with_an_infinite_side() -> None:
    """A mask of minus infinity by a comparison; a Log that is no number where it is not taken stays refused."""
    nodes = [
        node("Less", ["x", "zero"], ["c"]),
        node("Where", ["c", "least", "x"], ["m"]),
        node("Softmax", ["m"], ["y"], axis=-1),
    ]
    constants = {"zero": np.float32(0), "least": np.float32(-np.inf)}
    same(model(nodes, {"x": ["N", 4]}, ["y"], constants), {"x": X})
    nodes = [node("Log", ["x"], ["l"]), nodes[0], node("Where", ["c", "zero", "l"], ["y"], name="choice")]
    with pytest.raises(UnsupportedError, match=r"Where 'choice': .*of Log, Sqrt, Div and the like none may be hidden"):
        lower(model(nodes, {"x": ["N", 4]}, ["y"], {"zero": np.float32(0)}))


def test_learning_through_a_choice() -> None:
    """A comparison has no slope; what is chosen has its own."""
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], name="fc"),
        node("Greater", ["h", "half"], ["c"]),
        node("Tanh", ["h"], ["t"]),
        node("Where", ["c", "t", "h"], ["y"]),
    ]
    array = normal(2)
    constants = {"w": array(4, 3), "b": np.zeros(3, np.float32), "half": np.float32(0.5)}
    proto = model(nodes, {"x": ["N", 4]}, ["y"], constants)
    device = Model(to_image(lower(proto, trainable="fc", loss="mse")))
    x, target = array(1, 4), array(1, 3)
    h = (x @ constants["w"]).astype(np.float64)
    y, slope = np.where(h > 0.5, np.tanh(h), h), np.where(h > 0.5, 1 - np.tanh(h) ** 2, 1)
    assert (h > 0.5).any()
    assert (h < 0.5).any()
    wanted = x.T @ ((y - target) * slope)
    found = device.gradients(x, target)
    have = next(g for g in found.values() if g.size == 12).reshape(3, 4).T
    np.testing.assert_allclose(have / have[0, 0], wanted / wanted[0, 0], rtol=1e-4)


def test_sign_in_codes(tmp_path: Any) -> None:
    """Binary activations between quantized layers."""
    array = normal(3)
    nodes = [node("Conv", ["x", "v"], ["c"]), node("Sign", ["c"], ["s"]), node("Conv", ["s", "w"], ["y"])]
    proto = model(nodes, {"x": ["N", 3, 8, 8]}, ["y"], {"v": array(4, 3, 3, 3), "w": array(2, 4, 3, 3)})
    saved = export.save(tmp_path / "net", proto, calibration=array(32, 3, 8, 8))
    result = check(saved.model, {"x": array(4, 3, 8, 8)})
    assert result.status == "ok", str(result)
    assert "sign_f32" not in [op.kind for op in saved.program.ops]


# ---- Attention -------------------------------------------------------------------------------------------------------


def attention(ranks: int, mask: Any = None, **attributes: Any) -> onnx.ModelProto:
    """Attention of opset 23 with 2 heads, 5 queries and 6 keys."""
    sizes = {"q": 5, "k": 6, "v": 6}
    shapes = {name: ["N", 2, n, 4] if ranks == 4 else ["N", n, 8] for name, n in sizes.items()}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    constants = [] if mask is None else [numpy_helper.from_array(mask, "mask")]
    heads = {} if ranks == 4 else {"q_num_heads": 2, "kv_num_heads": 2}
    made = node("Attention", ["q", "k", "v", *(["mask"] if constants else [])], ["y"], name="it", **heads, **attributes)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return helper.make_model(
        helper.make_graph([made], "g", inputs, [output], constants),
        opset_imports=[helper.make_opsetid("", 23)],
        ir_version=10,
    )


@pytest.mark.parametrize("ranks", [3, 4])
@pytest.mark.parametrize(
    ("mask", "attributes"),
    [
        (None, {}),
        (None, {"scale": 0.7}),
        (None, {"is_causal": 1}),
        (np.random.default_rng(0).random((5, 6)) < 0.7, {}),
        (normal(0)(2, 5, 6), {}),
    ],
)
def test_attention(ranks: int, mask: Any, attributes: dict[str, Any]) -> None:
    assert same(attention(ranks, mask, **attributes)).count("matmul_f32") == 2


def test_attention_whose_cache_nobody_reads() -> None:
    """It is named all the same, as exporters do."""
    cached = attention(4)
    cached.graph.node[0].output.extend(["keys", "values"])
    assert same(cached).count("matmul_f32") == 2
    inputs = random_inputs(cached.graph, 0, 2)
    np.testing.assert_allclose(run(simplify(cached), inputs)["y"], run(attention(4), inputs)["y"], rtol=1e-5, atol=1e-6)


def test_attention_that_is_more_than_that() -> None:
    with pytest.raises(UnsupportedError, match="Attention 'it'"):
        lower(attention(4, softcap=2.0))
    nothing = np.ones((5, 6), bool)
    nothing[2] = False  # a query that sees no key: 0 there, by ONNX
    for mask in (nothing, np.where(nothing, 0, -np.inf).astype(np.float32)):
        with pytest.raises(UnsupportedError, match=r"Attention 'it'.*leaves every query a key"):
            lower(attention(4, mask))


# ---- A matrix for every head -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(1, 2), (2,), (2, 3), (1, 2, 3), (1, 1), (1, 1, 1)])
@pytest.mark.parametrize("left", [False, True])
def test_products_with_a_stack_of_matrices(lead: tuple[int, ...], left: bool) -> None:
    """Queries that are learned, not computed: a constant for each head."""
    heads = [2, 3] if len(lead) == 3 or lead == (2, 3) else [2]
    shape, weight = (["N", *heads, 4, 5], (*lead, 3, 4)) if left else (["N", *heads, 5, 4], (*lead, 4, 3))
    nodes = [node("MatMul", ["w", "x"] if left else ["x", "w"], ["m"]), node("Tanh", ["m"], ["y"])]
    found = same(model(nodes, {"x": shape}, ["y"], {"w": normal(0)(*weight)}))
    assert "matmul_f32" not in found


def test_messages_are_of_the_way_that_comes_nearest() -> None:
    """Heads split along the first axis are refused with a batch there; what stays refused without is what is told."""
    nodes = [
        node("Reshape", ["x", "apart"], ["r"]),
        node("Transpose", ["r"], ["t"], perm=[2, 0, 1, 3]),
        node("Split", ["t", "ones"], ["a", "b"], axis=0, name="split"),
        node("Mul", ["a", "b"], ["m"]),
        node("Squeeze", ["m", "zero"], ["s"], name="squeeze"),
        node("Det", ["s"], ["d"], name="odd"),
    ]
    constants = {"apart": np.array([1, 4, 2, 4]), "ones": np.array([1, 1]), "zero": np.array([0])}
    proto = model(nodes, {"x": [1, 4, 8]}, ["d"], constants, shapes={"d": [1]})
    with pytest.raises(UnsupportedError) as caught:
        lower(proto)
    assert [refused.name for refused in caught.value.nodes] == ["odd"]


# ---- Indices in several axes -----------------------------------------------------------------------------------------


def test_gather_nd() -> None:
    """x[:, :, rows, columns] as PyTorch writes a resize to the nearest: behind a Transpose, with a grid of indices."""
    grid = np.stack(np.meshgrid([0, 0, 1, 2, -1], [3, 1, 1], indexing="ij"), -1)
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[2, 3, 0, 1]),
        node("GatherND", ["t", "grid"], ["g"]),
        node("Transpose", ["g"], ["p"], perm=[2, 3, 0, 1]),
        node("Conv", ["p", "w"], ["y"]),
    ]
    constants = {"grid": grid, "w": normal(0)(3, 2, 2, 2)}
    same(model(nodes, {"x": ["N", 2, 4, 5]}, ["y"], constants))


# ---- Quantized forms -------------------------------------------------------------------------------------------------


def test_the_largest_channel_in_codes(tmp_path: Any) -> None:
    """Attention over places, as of CBAM: onnxruntime fuses its ReduceMax into one of codes."""
    array = normal(4)
    nodes = [
        node("Conv", ["x", "v"], ["c"]),
        node("ReduceMax", ["c"], ["m"], axes=[1]),
        node("ReduceMean", ["c"], ["n"], axes=[1]),
        node("Concat", ["m", "n"], ["b"], axis=1),
        node("Conv", ["b", "w"], ["s"]),
        node("Sigmoid", ["s"], ["g"]),
        node("Mul", ["c", "g"], ["y"]),
    ]
    proto = model(nodes, {"x": ["N", 3, 6, 6]}, ["y"], {"v": array(4, 3, 1, 1), "w": array(1, 2, 1, 1)})
    saved = export.save(tmp_path / "net", proto, calibration=array(32, 3, 6, 6))
    result = check(saved.model, {"x": array(4, 3, 6, 6)})
    assert result.status == "ok", str(result)


def test_weights_that_two_layers_share(tmp_path: Any) -> None:
    """A siamese network as onnxruntime quantizes it, uint8 with int8 weights."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    array = normal(5)
    nodes = [node("Conv", [name, "w"], [f"{name}1"], name=f"conv_{name}") for name in ("a", "b")]
    nodes.append(node("Add", ["a1", "b1"], ["y"]))
    proto = model(nodes, {name: ["N", 2, 5, 5] for name in ("a", "b")}, ["y"], {"w": array(3, 2, 3, 3)})
    onnx.save(proto, tmp_path / "float.onnx")

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter([{name: array(1, 2, 5, 5) for name in ("a", "b")} for _ in range(4)])

        def get_next(self) -> Any:
            return next(self.rest, None)

    for layout in (QuantFormat.QDQ, QuantFormat.QOperator):
        quantize_static(
            *(tmp_path / "float.onnx", tmp_path / "codes.onnx", Reader()),
            quant_format=layout,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        result = check(tmp_path / "codes.onnx")
        assert result.status == "ok", str(result)
