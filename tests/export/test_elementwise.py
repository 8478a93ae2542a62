"""Element-wise operators, lowered and run in C, against onnxruntime; and gradients through them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import edgeprop
from edgeprop.export.check import check
from edgeprop.export.lower import UnsupportedError, lower
from edgeprop.export.program.plan import plan
from edgeprop.export.writers import image
from tests.support.graphs import model, node, qdq, shared

seeds = st.integers(0, 2**32 - 1)


def same(proto: onnx.ModelProto, inputs: Any = None) -> None:
    """The C runtime's answer is onnxruntime's."""
    result = check(proto, inputs)
    assert result.status == "ok", str(result)


def kinds(proto: onnx.ModelProto, **options: Any) -> list[str]:
    return [op.kind for op in lower(proto, **options).ops]


def normal(seed: int) -> Any:
    random = np.random.default_rng(seed)
    return lambda *shape: random.standard_normal(shape).astype(np.float32)


def test_a_broadcast_result_is_not_written_over_its_smaller_operand() -> None:
    """The smaller one is read by nobody else, the larger one is; either place, and of both kinds of sums."""
    for op in ("Add", "Mul", "Sub"):
        for operands in (["row", "x"], ["x", "row"]):
            nodes = [
                node("ReduceMax", ["x"], ["row"], axes=[1], keepdims=1),
                node(op, operands, ["wide"]),
                node("Exp", ["x"], ["later"]),
                node("Add", ["wide", "later"], ["y"]),
            ]
            proto = model(nodes, {"x": ["N", 5, 8]}, ["y"])
            program = lower(proto)
            places = plan(program).infer_offsets
            assert places["wide"] != places["row"]
            same(proto)


# ---- One element -----------------------------------------------------------------------------------------------------

#: operator, attributes, what it becomes
UNARY: list[tuple[str, dict[str, Any], str]] = [
    ("Abs", {}, "abs_f32"),
    ("Celu", {"alpha": 0.5}, "elu_f32"),
    ("Elu", {}, "elu_f32"),
    ("Elu", {"alpha": 0.3}, "elu_f32"),
    ("Erf", {}, "erf_f32"),
    ("Exp", {}, "exp_f32"),
    ("Gelu", {}, "gelu_f32"),
    ("Gelu", {"approximate": "tanh"}, "gelu_tanh_f32"),
    ("HardSigmoid", {}, "hard_sigmoid_f32"),
    ("HardSigmoid", {"alpha": 0.1, "beta": 0.6}, "hard_sigmoid_f32"),
    ("HardSwish", {}, "hard_swish_f32"),
    ("LogSoftmax", {}, "log_softmax_f32"),
    ("LogSoftmax", {"axis": 1}, "log_softmax_f32"),
    ("Mish", {}, "mish_f32"),
    ("Neg", {}, "affine_f32"),
    ("Selu", {}, "elu_f32"),
    ("Selu", {"alpha": 2.0, "gamma": 0.5}, "elu_f32"),
    ("Sign", {}, "sign_f32"),
    ("Softplus", {}, "softplus_f32"),
    ("Softsign", {}, "softsign_f32"),
    ("ThresholdedRelu", {"alpha": 0.5}, "thresholded_relu_f32"),
]
POSITIVE = {"Log": "log_f32", "Sqrt": "sqrt_f32", "Reciprocal": "reciprocal_f32"}


@pytest.mark.parametrize(("op", "attributes", "kind"), UNARY)
def test_unary(op: str, attributes: dict[str, Any], kind: str) -> None:
    proto = model([node(op, ["x"], ["y"], **attributes)], {"x": ["N", 3, 4, 5]}, ["y"], opset=20)
    assert [k for k in kinds(proto) if k != "transpose"] == [kind]
    same(proto, {"x": normal(0)(2, 3, 4, 5) * 3})


@pytest.mark.parametrize("op", POSITIVE)
def test_unary_of_positive(op: str) -> None:
    proto = model([node(op, ["x"], ["y"])], {"x": ["N", 3, 4]}, ["y"])
    assert kinds(proto) == [POSITIVE[op]]
    same(proto, {"x": np.abs(normal(0)(2, 3, 4)) + np.float32(0.1)})


@pytest.mark.parametrize("exponent", [2, 3, 0.5, -1, 1.5, 4, 1, 0])
def test_power(exponent: float) -> None:
    proto = model([node("Pow", ["x", "e"], ["y"])], {"x": ["N", 3, 4]}, ["y"], {"e": np.float32(exponent)})
    same(proto, {"x": np.abs(normal(0)(2, 3, 4)) + np.float32(0.1)})


def test_square_of_negative() -> None:
    proto = model([node("Pow", ["x", "e"], ["y"])], {"x": ["N", 3, 4]}, ["y"], {"e": np.float32(2)})
    same(proto, {"x": normal(0)(2, 3, 4)})


@pytest.mark.parametrize("shape", [(), (1,), (3, 1, 1), (1, 3, 1, 1), (5,), (3, 4, 5)])
@pytest.mark.parametrize("behind", [False, True])
def test_prelu(shape: tuple[int, ...], behind: bool) -> None:
    """Slopes of every shape, as an image lies in memory behind a convolution too."""
    first = [node("Conv", ["x", "w"], ["c"])] if behind else [node("Identity", ["x"], ["c"])]
    proto = model(
        [*first, node("PRelu", ["c", "s"], ["y"])],
        {"x": ["N", 3, 4, 5]},
        ["y"],
        {"s": normal(1)(*shape), "w": normal(2)(3, 3, 1, 1)},
    )
    assert kinds(proto)[-1] == "prelu_f32"
    same(proto, {"x": normal(0)(2, 3, 4, 5)})


@pytest.mark.parametrize(("op", "attributes"), [("Elu", {"alpha": -1.0}), ("Selu", {"gamma": 0.0})])
def test_elu_whose_sign_tells_nothing(op: str, attributes: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="not positive"):
        lower(model([node(op, ["x"], ["y"], **attributes)], {"x": ["N", 3]}, ["y"]))


@pytest.mark.parametrize("op", ["Sigmoid", "Tanh", "LeakyRelu", "Elu"])
def test_clip_behind_an_activation(op: str) -> None:
    """What an op does not clamp by itself stays an op of its own."""
    nodes = [node(op, ["x"], ["a"]), node("Clip", ["a", "lo", "hi"], ["y"])]
    proto = model(nodes, {"x": ["N", 9]}, ["y"], {"lo": np.float32(-0.2), "hi": np.float32(0.4)})
    assert kinds(proto)[-1] == "clip_f32"
    same(proto, {"x": normal(0)(3, 9)})


# ---- Activations written as several nodes ----------------------------------------------------------------------------


def test_written_out_activations() -> None:
    half, one, root = np.float32(0.5), np.float32(1), np.float32(np.sqrt(2))
    numbers = {"half": half, "one": one, "root": root, "rate": np.float32(1.702)}
    erf = [node("Div", ["x", "root"], ["d"]), node("Erf", ["d"], ["e"]), node("Add", ["e", "one"], ["p"])]
    graphs = {
        "silu_f32": [
            [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])],
            [node("Sigmoid", ["x"], ["s"]), node("Mul", ["s", "x"], ["y"])],
            [node("Mul", ["x", "rate"], ["r"]), node("Sigmoid", ["r"], ["s"]), node("Mul", ["x", "s"], ["y"])],
        ],
        "hard_swish_f32": [[node("HardSigmoid", ["x"], ["s"], alpha=1 / 6), node("Mul", ["x", "s"], ["y"])]],
        "gelu_f32": [
            [*erf, node("Mul", ["x", "p"], ["m"]), node("Mul", ["m", "half"], ["y"])],
            [*erf, node("Mul", ["x", "half"], ["m"]), node("Mul", ["m", "p"], ["y"])],
            [*erf, node("Mul", ["p", "half"], ["m"]), node("Mul", ["x", "m"], ["y"])],
        ],
    }
    for kind, all_nodes in graphs.items():
        for nodes in all_nodes:
            proto = model(nodes, {"x": ["N", 3, 4]}, ["y"], numbers)
            assert kinds(proto) == [kind]
            same(proto, {"x": normal(0)(2, 3, 4) * 2})


def test_gates_that_are_none() -> None:
    """Another value's Sigmoid, or one that somebody else reads as well."""
    apart = [node("Sigmoid", ["z"], ["s"]), node("Mul", ["x", "s"], ["y"])]
    proto = model(apart, {"x": ["N", 3], "z": ["N", 3]}, ["y"])
    assert kinds(proto) == ["sigmoid_f32", "mul_f32"]
    same(proto, {"x": normal(0)(2, 3), "z": normal(1)(2, 3)})
    read = [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["y"])]
    assert kinds(model(read, {"x": ["N", 3]}, ["y", "s"])) == ["sigmoid_f32", "mul_f32"]


# ---- Two operands ----------------------------------------------------------------------------------------------------

BINARY = ["Add", "Sub", "Mul", "Div", "Min", "Max"]


@st.composite
def shapes(draw: Any) -> tuple[list[int], list[int]]:
    """Two shapes that broadcast, of rank 1 to 5."""
    rank = draw(st.integers(1, 5))
    full = [draw(st.integers(1, 4)) for _ in range(rank)]
    narrow = [[size if draw(st.booleans()) else 1 for size in full] for _ in range(2)]
    return draw(st.sampled_from([(full, full), (full, narrow[0]), (narrow[0], full), (narrow[0], narrow[1])]))


@pytest.mark.parametrize("op", BINARY)
@settings(max_examples=40, deadline=None)
@given(pair=shapes(), seed=seeds, shorter=st.booleans(), constant=st.sampled_from([None, 0, 1]))
def test_broadcast(op: str, pair: Any, seed: int, shorter: bool, constant: int | None) -> None:
    """Two inputs, or an input and a constant whose leading ones may be missing."""
    array = normal(seed)
    values = [array(1, *shape) for shape in pair]
    if op == "Div":
        values[1] = np.abs(values[1]) + np.float32(0.5)
    constants, inputs = {}, dict(zip("ab", values, strict=True))
    if constant is not None:
        name = "ab"[constant]
        value = inputs.pop(name)
        while shorter and value.ndim and value.shape[0] == 1:
            value = value[0]
        constants = {name: value}
    ports = {name: ["N", *value.shape[1:]] for name, value in inputs.items()}
    proto = model([node(op, ["a", "b"], ["y"])], ports, ["y"], constants)
    same(proto, inputs)


@pytest.mark.parametrize("op", ["Sum", "Mean", "Min", "Max"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_variadic(op: str, count: int) -> None:
    array = normal(0)
    inputs = {f"x{i}": array(2, *shape) for i, shape in enumerate([(3, 4), (3, 1), (1, 4), (3, 4), (1, 1)][:count])}
    names = [*inputs, "c"] if count > 1 else list(inputs)
    proto = model(
        [node(op, names, ["y"]), node("Relu", ["y"], ["z"])],
        {name: ["N", *v.shape[1:]] for name, v in inputs.items()},
        ["z"],
        {"c": array(3, 1)},
    )
    same(proto, inputs)


def test_constants_first() -> None:
    proto = model([node("Sum", ["c", "d", "x"], ["y"])], {"x": ["N", 3]}, ["y"], {"c": normal(0)(3), "d": normal(1)(1)})
    same(proto, {"x": normal(2)(2, 3)})


def test_number_is_a_clamp() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Max", ["c", "lo"], ["m"]), node("Min", ["m", "hi"], ["y"])]
    constants = {"w": normal(0)(3, 2, 1, 1), "lo": np.float32(-0.5), "hi": np.float32(0.7)}
    proto = model(nodes, {"x": ["N", 2, 4, 4]}, ["y"], constants)
    assert kinds(proto) == ["conv2d_f32"]
    same(proto, {"x": normal(1)(2, 2, 4, 4)})


def test_relu_fuses() -> None:
    nodes = [node("Mul", ["a", "b"], ["m"]), node("Relu", ["m"], ["y"])]
    proto = model(nodes, {"a": ["N", 3, 4], "b": ["N", 1, 4]}, ["y"])
    assert kinds(proto) == ["mul_f32"]
    same(proto, {"a": normal(0)(2, 3, 4), "b": normal(1)(2, 1, 4)})


def test_constant_for_each_sample() -> None:
    with pytest.raises(UnsupportedError, match="from sample to sample"):
        lower(model([node("Mul", ["x", "c"], ["y"])], {"x": ["N", 3]}, ["y"], {"c": normal(0)(5, 3)}))


def squeeze_and_excite(gate: str = "Sigmoid") -> list[onnx.NodeProto]:
    """A convolution whose channels are weighted by what they hold on average."""
    return [
        node("Conv", ["x", "w0"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        node("PRelu", ["c", "slope"], ["a"], name="act"),
        node("GlobalAveragePool", ["a"], ["p"]),
        node("Conv", ["p", "w1", "b1"], ["r"], name="squeeze"),
        node("Gelu", ["r"], ["g"]),
        node("Conv", ["g", "w2", "b2"], ["e"], name="excite"),
        node(gate, ["e"], ["s"]),
        node("Mul", ["a", "s"], ["m"], name="scale"),
        node("GlobalAveragePool", ["m"], ["q"]),
        node("Flatten", ["q"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"], name="head"),
    ]


def excited(gate: str) -> onnx.ModelProto:
    array = normal(3)
    shapes = {"w0": (4, 2, 3, 3), "slope": (4, 1, 1), "w1": (3, 4, 1, 1), "b1": (3,), "w2": (4, 3, 1, 1), "b2": (4,)}
    shapes |= {"w3": (4, 3), "b3": (3,)}
    constants = {name: array(*shape) for name, shape in shapes.items()}
    return model(squeeze_and_excite(gate), {"x": ["N", 2, 5, 4]}, ["y"], constants, opset=20)


@pytest.mark.parametrize("gate", ["Sigmoid", "HardSigmoid"])
def test_squeeze_and_excite(gate: str) -> None:
    """No transpose; and every gradient, through the gate to both its operands, against differences of onnxruntime's loss."""
    proto = excited(gate)
    assert "transpose" not in kinds(proto)
    x, y = normal(4)(1, 2, 5, 4), normal(5)(1, 3)
    same(proto, {"x": x})
    program = lower(proto, trainable=["conv", "act", "squeeze", "excite", "head"], loss="mse")
    found = edgeprop.Model(image.to_image(program)).gradients(x, y)
    weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert set(weights) <= set(found)
    for name in weights:
        gradient = found[name]
        if name == "slope":
            gradient = gradient.reshape(4, 1, 1)
        direction = normal(7)(*weights[name].shape)
        device = {"w0": (0, 2, 3, 1), "w1": (0, 2, 3, 1), "w2": (0, 2, 3, 1), "w3": (1, 0)}.get(name)
        along = direction if device is None else direction.transpose(device)
        numeric = _slope(proto, weights, name, direction, x, y)
        assert (gradient.reshape(along.shape) * along).sum() == pytest.approx(numeric, rel=0.02, abs=2e-3), name


def _slope(proto: onnx.ModelProto, weights: Any, name: str, direction: Any, x: Any, y: Any) -> float:
    """Central difference of half the mean squared error along a direction of one weight."""
    losses = []
    for step in (4e-3, -4e-3):
        moved = onnx.ModelProto()
        moved.CopyFrom(proto)
        for tensor in moved.graph.initializer:
            if tensor.name == name:
                value = (weights[name] + np.float32(step) * direction).astype(np.float32)
                tensor.CopyFrom(numpy_helper.from_array(value, name))
        session = onnxruntime.InferenceSession(moved.SerializeToString(), providers=["CPUExecutionProvider"])
        out = np.asarray(session.run(None, {"x": x})[0], np.float64)
        losses.append(LOSS_FACTOR * ((out - y) ** 2).mean())
    return float(losses[0] - losses[1]) / 8e-3


LOSS_FACTOR = 1.0


# ---- Codes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize(
    "nodes",
    [
        *([node(op, ["a.dq"], ["r"], **attributes)] for op, attributes, _ in UNARY if op != "LogSoftmax"),
        [node("Sigmoid", ["a.dq"], ["s"]), node("Mul", ["a.dq", "s"], ["r"])],
        [node("HardSigmoid", ["a.dq"], ["s"]), node("Mul", ["a.dq", "s"], ["r"])],
        [node("Pow", ["a.dq", "number"], ["r"])],
        [node("Div", ["number", "a.dq"], ["r"])],
        [node("PRelu", ["a.dq", "number"], ["r"])],
    ],
)
def test_function_of_one_code_is_a_table(nodes: list[onnx.NodeProto], dtype: Any) -> None:
    zero = 3 if dtype == np.int8 else 131
    pair, constants = qdq("a", 0.05, zero, dtype)
    back, more = qdq("r", 0.03, zero, dtype)
    proto = model([*pair, *nodes, *back], {"a": ["N", 64]}, ["r.dq"], {**constants, **more, "number": np.float32(2)})
    proto.opset_import[0].version = 20
    assert kinds(proto) == ["quantize", "lut_s8", "dequantize"]
    same(proto, {"a": np.linspace(-7, 7, 256).astype(np.float32).reshape(4, 64)})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("op", BINARY)
@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 1, 1), (1, 4, 1)])
def test_two_operands_of_codes(op: str, shape: tuple[int, ...], dtype: Any) -> None:
    """Bit for bit, whichever way onnxruntime computes it: Mul on codes, the others in float32 between them."""
    zero = -5 if dtype == np.int8 else 123
    parts = [qdq(name, scale, zero, dtype) for name, scale in (("a", 0.03), ("b", 0.02), ("r", 0.05))]
    constants = {k: v for _, more in parts for k, v in more.items()}
    nodes = [*parts[0][0], *parts[1][0], node(op, ["a.dq", "b.dq"], ["r"]), *parts[2][0]]
    proto = model(nodes, {"a": ["N", 3, 4, 5], "b": ["N", *shape]}, ["r.dq"], constants)
    if op == "Mul":
        assert kinds(proto) == ["quantize", "quantize", "mul_s8", "dequantize"]
    if op == "Add":
        add = "add_s8" if shape == (3, 4, 5) else "add_broadcast_s8"
        assert kinds(proto) == ["quantize", "quantize", add, "dequantize"]
    same(proto, {"a": normal(0)(2, 3, 4, 5) * 2, "b": normal(1)(2, *shape) + np.float32(2)})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("shape", [(), (3, 1, 1), (3, 4, 5), (1, 3, 4, 5)])
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_constant_codes(op: str, shape: tuple[int, ...], at: int, dtype: Any) -> None:
    zero = -5 if dtype == np.int8 else 123
    parts = [qdq(name, scale, zero, dtype) for name, scale in (("a", 0.03), ("r", 0.05))]
    constants = {k: v for _, more in parts for k, v in more.items()}
    info = np.iinfo(dtype)
    constants["c"] = np.random.default_rng(0).integers(info.min, info.max, shape).astype(dtype)
    constants |= {"c.scale": np.float32(0.01), "c.zero": np.asarray(zero, dtype)}
    names = ["a.dq", "c.dq"] if at else ["c.dq", "a.dq"]
    nodes = [*parts[0][0], node("DequantizeLinear", ["c", "c.scale", "c.zero"], ["c.dq"]), node(op, names, ["r"])]
    proto = model([*nodes, *parts[1][0]], {"a": ["N", 3, 4, 5]}, ["r.dq"], constants)
    several = {"Mul": "mul_s8", "Add": "add_broadcast_s8"}[op]
    assert kinds(proto)[1] == (several if shape else "lut_s8")
    same(proto, {"a": normal(0)(2, 3, 4, 5) * 2})


# ---- Models of others ------------------------------------------------------------------------------------------------


def test_gates_of_a_temporal_network() -> None:
    assert check(shared("community/espdl_streaming_tcn.onnx")).status == "ok"
