"""Parts of the quantizer by themselves, each against loops or by hand: what the whole would hide in its noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgeprop.export.graph import reference
from edgeprop.export.quantization import accuracy as judged
from edgeprop.export.quantization import choose as chooser
from edgeprop.export.quantization.accuracy import AGREEMENT, LITTLE_NOISE, RUINED, OutputAccuracy
from edgeprop.export.quantization.analysis import decibels, output_snr, quantize_inputs, snr
from edgeprop.export.quantization.calibrate import Range
from edgeprop.export.quantization.corrections import channel_means, equalize
from edgeprop.export.quantization.features import _Front
from edgeprop.export.quantization.quantize import quantize
from edgeprop.export.quantization.rules import RULES
from edgeprop.export.quantization.selection import find_layers, find_marks
from edgeprop.export.quantization.simplify import simplify
from edgeprop.export.quantization.weights import SMALLEST_PRODUCT, quantize_bias, quantize_weights
from tests.export.test_quantize_float import CASES, X, n
from tests.export.test_quantize_float import net as float_net
from tests.support.graphs import model, node

Array = np.ndarray[Any, np.dtype[Any]]
f32 = np.float32
RANDOM = np.random.default_rng(3)


def normal(*shape: int) -> Array:
    return RANDOM.normal(size=shape).astype(f32)


def constants(proto: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def answers(proto: onnx.ModelProto, x: Array) -> Array:
    return reference.run(proto, {proto.graph.input[0].name: x})[proto.graph.output[0].name]


# ---- Rules -----------------------------------------------------------------------------------------------------------


def quantized_case(name: str) -> onnx.ModelProto:
    nodes, _, x = CASES[name]
    return quantize(float_net(nodes, x, 13 if name == "Reshape" else 20), x, scale_inputs="never")


def parameters(proto: onnx.ModelProto) -> dict[str, tuple[float, int]]:
    """Scale and zero point of each value that is quantized, by its name."""
    arrays = constants(proto)
    return {
        q.input[0]: (float(arrays[q.input[1]]), int(arrays[q.input[2]]))
        for q in proto.graph.node
        if q.op_type == "QuantizeLinear"
    }


#: not asked of the table: a row that says otherwise is wrong
MOVERS = ["MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "DepthToSpace", "Expand"]
MOVERS += ["Gather", "GlobalMaxPool", "Pad", "Resize", "SpaceToDepth", "Split", "Tile"]
FIXED = ["HardSigmoid", "Sigmoid", "Tanh", "Softmax"]
ABSORBERS = ["Conv", "Gemm", "MatMul", "Add", "Mul", "AveragePool", "GlobalAveragePool"]


def test_no_other_operator_has_such_a_rule() -> None:
    assert {name for name, rule in RULES.items() if rule.moves} == {*MOVERS, "Relu", "Clip"}
    assert {name for name, rule in RULES.items() if rule.fixed} == set(FIXED)
    assert {name for name, rule in RULES.items() if rule.absorbs} == set(ABSORBERS)
    assert {name for name, rule in RULES.items() if rule.weights} == {"Conv", "Gemm", "MatMul"}
    assert {name for name, rule in RULES.items() if rule.inputs is None} == {"Add", "Mul", "Concat"}


@pytest.mark.parametrize("name", MOVERS)
def test_what_moves_codes_leaves_them_as_they_are(name: str) -> None:
    """The parameters behind it are those before it, so nothing is rounded twice."""
    proto = quantized_case(name)
    found = parameters(proto)
    mover = next(node for node in proto.graph.node if node.op_type == name)
    source = mover.input[0].removesuffix(".dequantized")
    assert len({found[source], *(found[output] for output in mover.output)}) == 1


@pytest.mark.parametrize("name", FIXED)
def test_ranges_that_no_calibration_changes(name: str) -> None:
    rule = RULES[name].fixed
    assert rule is not None
    assert (rule.scale, rule.zero_point) == {"Tanh": (1 / 128, 0)}.get(name, (1 / 256, -128))
    assert parameters(quantized_case(name))["y.float"] == (rule.scale, rule.zero_point)


@pytest.mark.parametrize("name", ABSORBERS)
@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_an_activation_costs_nothing_behind(name: str, activation: str) -> None:
    """The codes of what stands before it end where the activation does; its float values are never rounded."""
    nodes, _, x = CASES[name]
    *before, last = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    last.output[0] = "t"
    behind = n("Relu", "t") if activation == "Relu" else n("Clip", "t below six")
    found = parameters(quantize(float_net([*before, last, behind], x), x, scale_inputs="never"))
    assert not {"t", "t.float"} & set(found)
    assert "y.float" in found


# ---- Weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("x_scale", [1e-3, 0.5, 20.0])
def test_products_of_scales_stay_normal(x_scale: float) -> None:
    """However small the weights: the scale times that of the input is no less than the smallest that is allowed."""
    found = quantize_weights(np.full((2, 3), 1e-38), None, 0, x_scale, True)
    np.testing.assert_allclose(found.scale * x_scale, SMALLEST_PRODUCT, rtol=1e-5)
    plain = quantize_weights(np.array([[1.27, -0.5], [0.254, 0.1]]), None, 0, x_scale, True)
    np.testing.assert_allclose(plain.scale, [0.01, 0.002], rtol=1e-6)
    np.testing.assert_array_equal(plain.codes, [[127, -50], [127, 50]])


@pytest.mark.parametrize("axis", [0, 1])
def test_biases_in_units_of_both_scales(axis: int) -> None:
    weight, bias = normal(3, 3), np.array([0.5, -7.0, 0.0])
    found = quantize_weights(weight, bias, axis, 0.25, True)
    assert found.bias is not None
    np.testing.assert_allclose(found.bias * found.scale * 0.25, bias, atol=found.scale.max() * 0.13)
    np.testing.assert_array_equal(
        quantize_bias(np.array([1e9, -1e9]), 1.0, np.array([1e-3])), [2**31 - 1, -(2**31) + 1]
    )


# ---- Corrections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_equalization_of_groups(groups: int) -> None:
    """Every channel's ranges on both sides become one, whichever outputs read it; the answers stay."""
    first, second = normal(6, 4, 1, 1), normal(12, 6 // groups, 3, 3)
    first *= np.linspace(0.5, 3, 6, dtype=f32).reshape(6, 1, 1, 1)
    constants_ = {"w1": first, "b1": normal(6), "w2": second}
    rows = [
        node("Conv", ["x", "w1", "b1"], ["h"], name="one"),
        node("Relu", ["h"], ["r"], name="relu"),
        node("Conv", ["r", "w2"], ["y"], name="two", group=groups),
    ]
    given = simplify(model(rows, {"x": ("N", 4, 5, 5)}, ["y"], constants_))
    made = equalize(given)
    now = constants(made)
    w1, w2 = now["w1"], now["w2"]
    outputs = 12 // groups
    for channel in range(6):
        group, at = divmod(channel, 6 // groups)
        read = w2[group * outputs : (group + 1) * outputs, at]
        assert np.abs(w1[channel]).max() == pytest.approx(np.abs(read).max(), rel=1e-4)
    x = normal(3, 4, 5, 5)
    np.testing.assert_allclose(answers(made, x), answers(given, x), rtol=1e-3, atol=1e-4)


def test_means_of_channels_over_all_batches() -> None:
    """Of an image over its pixels, of rows over themselves; every sample counts once, in whichever batch it comes."""
    rows = [
        node("Conv", ["x", "w"], ["h"], name="conv"),
        node("Flatten", ["h"], ["f"], name="flat"),
        node("Gemm", ["f", "v"], ["y"], name="fc"),
    ]
    proto = model(rows, {"x": ("N", 2, 3, 3)}, ["y"], {"w": normal(1, 2, 2, 2), "v": normal(4, 3)})
    layers = {str(node.name): node for node in ir.from_proto(proto).graph}
    x = normal(77, 2, 3, 3) + 2
    found = channel_means(proto, x, ["f", "x"], layers)
    np.testing.assert_allclose(found["x"], x.mean((0, 2, 3), dtype=np.float64), rtol=1e-5)
    inner = np.concatenate([next(iter(reference.run(_cut(proto, "f"), {"x": row[None]}).values())) for row in x])
    np.testing.assert_allclose(found["f"], inner.mean(0, dtype=np.float64), rtol=1e-5)


def _cut(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model up to a value."""
    cut = onnx.ModelProto.FromString(proto.SerializeToString())
    del cut.graph.output[:]
    cut.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    return cut


# ---- Simplifying -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("zeros", [True, False])
def test_stored_weights_are_read_back(dtype: Any, axis: int | None, zeros: bool) -> None:
    """(code - zero point) * scale, of all or of each row or column; without a zero point it is 0."""
    codes = RANDOM.integers(0, 120, (3, 3)).astype(dtype)
    scale = f32(0.5) if axis is None else np.array([0.5, 0.25, 2], f32)
    zero = np.asarray(7 if axis is None else [7, 0, 100], dtype)
    names = ["w", "s", *(["z"] if zeros else [])]
    attributes = {} if axis is None else {"axis": axis}
    rows = [node("DequantizeLinear", names, ["v"], name="dq", **attributes), node("Gemm", ["x", "v"], ["y"], name="fc")]
    given = {"w": codes, "s": scale, **({"z": zero} if zeros else {})}
    made = simplify(model(rows, {"x": ("N", 3)}, ["y"], given))
    along = {None: (), 0: (3, 1), 1: (1, 3)}[axis]
    wanted = (codes.astype(int) - (zero.astype(int).reshape(along) if zeros else 0)) * scale.reshape(along)
    weight = constants(made)[made.graph.node[0].input[1]]
    np.testing.assert_array_equal(weight, wanted.astype(f32))


AFFINE = [
    ("Add", (4, 1, 1), True), ("Mul", (1, 4, 1, 1), True), ("Sub", (4, 1, 1), True), ("Div", (4, 1, 1), True),
    ("Add", (), True), ("Mul", (1,), True), ("Add", (4, 1), False), ("Add", (4,), False), ("Mul", (1, 1, 4, 1), False),
    ("Add", (4, 4, 4), False), ("Mul", (4, 1, 4), False), ("Add", (1, 1, 1, 4, 1, 1), False),
]  # fmt: skip


@pytest.mark.parametrize(("op", "shape", "folds"), AFFINE)
@pytest.mark.parametrize("first", [False, True])
def test_what_goes_into_the_layer_before(op: str, shape: tuple[int, ...], folds: bool, first: bool) -> None:
    """One value, or one of each channel: of as many rows, columns or pixels it is something else. What is taken from or
    divided by the layer, rather than the other way around, stays."""
    operand = np.asarray(RANDOM.uniform(0.5, 2, shape), f32)
    names = ["c", "h"] if first else ["h", "c"]
    rows = [node("Conv", ["x", "w", "b"], ["h"], name="conv"), node(op, names, ["y"], name="op")]
    proto = model(rows, {"x": ("N", 2, 5, 5)}, ["y"], {"w": normal(4, 2, 2, 2), "b": normal(4), "c": operand})
    made = simplify(proto)
    stays = not folds or (first and op in ("Sub", "Div"))
    assert (len(made.graph.node) > 1) == stays
    x = normal(2, 2, 5, 5)
    np.testing.assert_allclose(answers(made, x), answers(proto, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_statistics_go_into_the_layer_before(bias: bool) -> None:
    given = {
        "w": normal(4, 2, 2, 2),
        "g": normal(4),
        "o": normal(4),
        "m": normal(4),
        "v": RANDOM.uniform(1, 2, 4).astype(f32),
    }
    rows = [
        node("Conv", ["x", "w", *(["b"] if bias else [])], ["h"], name="conv"),
        node("BatchNormalization", ["h", "g", "o", "m", "v"], ["y"], name="bn", epsilon=0.3),
    ]
    proto = model(rows, {"x": ("N", 2, 5, 5)}, ["y"], given | ({"b": normal(4)} if bias else {}))
    made = simplify(proto)
    assert [node.op_type for node in made.graph.node] == ["Conv"]
    x = normal(2, 2, 5, 5)
    np.testing.assert_allclose(answers(made, x), answers(proto, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.5, 1.0), (1.0, 3.0), (2.0, 0.5)])
@pytest.mark.parametrize("shape", [(3,), (1,), (1, 3), ()])
def test_factors_go_into_weights_and_bias(alpha: float, beta: float, shape: tuple[int, ...]) -> None:
    rows = [node("Gemm", ["x", "w", "b"], ["y"], name="fc", alpha=alpha, beta=beta)]
    proto = model(rows, {"x": ("N", 2)}, ["y"], {"w": normal(2, 3), "b": np.asarray(RANDOM.normal(size=shape), f32)})
    made = simplify(proto)
    assert all(a.name not in ("alpha", "beta") or a.f == 1 for a in made.graph.node[0].attribute)
    assert constants(made)[made.graph.node[0].input[2]].shape == (3,)
    x = normal(4, 2)
    np.testing.assert_allclose(answers(made, x), answers(proto, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("axes", "keep", "pools"),
    [([2, 3], 1, True), ([3, 2], 0, True), ([-1, -2], 1, True), ([1, 2], 1, False), ([2], 1, False)],
)
def test_means_over_the_image(axes: list[int], keep: int, pools: bool) -> None:
    proto = model(
        [node("ReduceMean", ["x"], ["y"], name="mean", axes=axes, keepdims=keep)], {"x": ("N", 2, 3, 4)}, ["y"]
    )
    made = simplify(proto)
    assert any(node.op_type == "GlobalAveragePool" for node in made.graph.node) == pools
    x = normal(2, 2, 3, 4)
    assert answers(made, x).shape == answers(proto, x).shape
    np.testing.assert_allclose(answers(made, x), answers(proto, x), rtol=1e-5, atol=1e-6)
    if pools:
        shapes = {v.name: [d.dim_value or None for d in v.type.tensor_type.shape.dim] for v in made.graph.value_info}
        assert keep or [None, 2, 1, 1] in shapes.values()


# ---- Judging ---------------------------------------------------------------------------------------------------------


def test_judgement_at_its_limits() -> None:
    """What is at the limit holds, and what is below does not, of each measure."""
    for good, bad in (
        (OutputAccuracy(RUINED, RUINED), OutputAccuracy(RUINED - 0.1, 30.0)),
        (OutputAccuracy(35.0, RUINED), OutputAccuracy(35.0, RUINED - 0.1)),
        (OutputAccuracy(35.0, 30.0, (RUINED, 30.0)), OutputAccuracy(35.0, 30.0, (30.0, RUINED - 0.1))),
        (OutputAccuracy(35.0, 30.0, (), AGREEMENT, True), OutputAccuracy(35.0, 30.0, (), AGREEMENT - 0.01, True)),
        (OutputAccuracy(LITTLE_NOISE, 18.0, (), 0.9), OutputAccuracy(LITTLE_NOISE - 0.1, 18.0, (), 0.9)),
        (OutputAccuracy(35.0, 30.0, (), 0.9, False, LITTLE_NOISE), OutputAccuracy(35.0, 30.0, (), 0.9, False, 19.9)),
    ):
        assert good.faults() == []
        assert len(bad.faults()) == 1


def test_columns_that_are_ruined_are_listed() -> None:
    def told(*columns: float) -> list[str]:
        return OutputAccuracy(35.0, 30.0, columns).faults()

    assert told(5.0) == ["column 0 at 5.0 dB or below"]
    assert told(30.0, 5.0, 6.0) == ["columns 1, 2 at 5.0 dB or below"]
    assert told(*[5.0] * 4) == ["columns 0, 1, 2, 3 at 5.0 dB or below"]
    assert told(*[5.0] * 6) == ["columns 0, 1, 2, 3 and 2 more at 5.0 dB or below"]


def test_good_is_little_noise_everywhere_and_the_same_classes() -> None:
    fine = OutputAccuracy(35.0, 30.0, (33.0,), 0.999, True)
    assert judged.is_good({})
    assert judged.is_good({"a": fine})
    assert judged.is_good({"a": OutputAccuracy(LITTLE_NOISE, LITTLE_NOISE)})
    assert not judged.is_good({"a": fine, "b": OutputAccuracy(35.0, LITTLE_NOISE - 0.1)})
    assert not judged.is_good({"a": OutputAccuracy(35.0, 30.0, (), 0.9, True)})
    assert judged.is_good({"a": OutputAccuracy(35.0, 30.0, (), 0.9, False)})
    assert judged.quality({"a": fine, "b": OutputAccuracy(25.0, 31.0)}) == 25.0
    assert OutputAccuracy(35.0, 30.0, (12.0,)).quality() == 12.0
    assert OutputAccuracy(35.0, 30.0, (12.0,), None, True).quality() == 30.0
    assert OutputAccuracy(35.0, 30.0, (), None, True, 11.0).quality() == 11.0


@pytest.mark.parametrize(("total", "most"), [(10, 10), (11, 10), (100, 7), (3, 10)])
def test_samples_are_taken_evenly(total: int, most: int) -> None:
    found = judged.spread({"x": np.arange(total), "z": np.arange(total) + 1}, most)
    assert len(found["x"]) == min(total, most)
    np.testing.assert_array_equal(found["x"] + 1, found["z"])
    assert (found["x"][0], found["x"][-1]) == (0, total - 1)
    assert np.ptp(np.diff(found["x"])) <= 1


def test_decibels() -> None:
    assert decibels(100.0, 1.0) == pytest.approx(20.0)
    assert decibels(1.0, 10.0) == pytest.approx(-10.0)
    assert (decibels(1.0, 0.0), decibels(0.0, 0.0), decibels(0.0, 1.0)) == (np.inf, np.inf, -np.inf)


def test_noise_of_layers_and_of_the_worst_output() -> None:
    """Two layers side by side, one of them rounded: by hand, over all samples and elements, however many batches."""
    rows = [node("Gemm", ["x", "a"], ["y"], name="one"), node("Gemm", ["x", "b"], ["z"], name="two")]
    a, b = normal(2, 3), normal(2, 3)
    exact = model(rows, {"x": ("N", 2)}, ["y", "z"], {"a": a, "b": b})
    off = model(rows, {"x": ("N", 2)}, ["y", "z"], {"a": a, "b": b + f32(0.01)})
    x = normal(150, 2)
    z = x.astype(np.float64) @ b
    wanted = 10 * np.log10(np.square(z).sum() / np.square(x.astype(np.float64) @ np.full((2, 3), 0.01)).sum())
    assert output_snr(exact, off, x) == pytest.approx(wanted, abs=0.01)
    found = snr(exact, off, x)
    assert found["one"] == np.inf
    assert found["two"] == pytest.approx(wanted, abs=0.01)


def test_samples_become_codes_of_an_int8_input() -> None:
    """Rounded, moved by the zero point, and held within int8."""
    rows = [node("DequantizeLinear", ["x", "s", "z"], ["y"], name="dq")]
    proto = model(
        rows, {"x": ("N", 4)}, ["y"], {"s": f32(0.5), "z": np.int8(-3)}, dtype=onnx.TensorProto.INT8, out_dtype=1
    )
    found = quantize_inputs(proto, {"x": np.array([[0.0, 0.8, 100.0, -100.0]], f32)})["x"]
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, [[-3, -1, 127, -128]])


# ---- Choosing --------------------------------------------------------------------------------------------------------


class _Told:
    """A noise that is a function of the ranges alone."""

    def __init__(self, *_: Any) -> None:
        self.batch_size = 1

    def __call__(self, ranges: Any) -> float:
        return float(sum(_LOSS[name, r.high] for name, r in ranges.items()))


_LOSS = {("a", 4.0): 1.0, ("a", 2.0): 0.5, ("a", 3.0): 0.499, ("b", 4.0): 1.0, ("b", 2.0): 3.0, ("b", 3.0): 0.1}


def test_each_value_takes_the_method_that_leaves_least_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the best for all on; a gain of less than a hundredth is chance."""
    highs = {"minmax": (4.0, 4.0), "percentile": (2.0, 2.0), "mse": (3.0, 3.0)}
    found = {method: {"a": Range(0.0, a), "b": Range(0.0, b)} for method, (a, b) in highs.items()} | {
        method: {"a": Range(0.0, 4.0), "b": Range(0.0, 4.0)} for method in chooser.METHODS if method not in highs
    }
    monkeypatch.setattr(chooser, "candidates", lambda *_: found)
    monkeypatch.setattr(chooser, "_Noise", _Told)
    ranges, methods = chooser.choose(onnx.ModelProto(), X, lambda ranges: ranges)  # type: ignore[arg-type,return-value]
    assert methods == {"a": "mse", "b": "mse"}
    monkeypatch.setitem(_LOSS, ("a", 3.0), 1.5)
    ranges, methods = chooser.choose(onnx.ModelProto(), X, lambda ranges: ranges)  # type: ignore[arg-type,return-value]
    assert methods == {"a": "percentile", "b": "mse"}
    assert (ranges["a"].high, ranges["b"].high) == (2.0, 3.0)
    monkeypatch.setitem(_LOSS, ("a", 3.0), 0.503)  # 0.003 of 0.603 are gained by another method for a
    assert chooser.choose(onnx.ModelProto(), X, lambda ranges: ranges)[1]["a"] == "mse"  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize(("high", "differ"), [([1.0, 255 / 15], True), ([1.0, 255 / 16.1], True), ([1.0, 255 / 16.0], False),
                                              ([0.0, 5.0], False), ([1.0, 1.0], False)])  # fmt: skip
def test_features_differ_where_one_gets_less_than_sixteen_codes(high: list[float], differ: bool) -> None:
    front = _Front(ir.Value(name="x"), [], 1, np.zeros(2), np.array(high))
    assert front.differ() == (differ and high[1] * 16 > 255 * high[0])


# ---- Names of layers -------------------------------------------------------------------------------------------------


def test_layers_are_found_by_the_names_of_their_weights() -> None:
    rows = [
        node("Gemm", ["x", "first.weight", "first.bias"], ["h"], name="/one/Gemm"),
        node("Relu", ["h"], ["r"], name="relu"),
        node("Gemm", ["r", "last.weight"], ["y"], name="/two/Gemm"),
    ]
    given = {"first.weight": normal(2, 3), "first.bias": normal(3), "last.weight": normal(3, 2)}
    proto = model(rows, {"x": ("N", 2)}, ["y"], given)
    assert find_layers(proto, "first") == ["/one/Gemm"]
    assert find_layers(proto, ["last", "first"]) == ["/one/Gemm", "/two/Gemm"]
    assert find_layers(proto, None) == []
    assert find_marks(proto, "bias") == ["/one/Gemm.bias"]
    assert find_marks(proto, ["first.bias", "first"]) == ["/one/Gemm"]


# ---- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["w", "b"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_no_code_stands_for(bad: str, value: float) -> None:
    """By the name of their node; also where the samples' answers do not show it: behind a Clip they are finite."""
    given = {"w": normal(2, 4), "b": normal(2)}
    given[bad].reshape(-1)[0] = value
    rows = [
        node("Gemm", ["x", "w", "b"], ["h"], name="fc", transB=1),
        node("Clip", ["h", "lo", "hi"], ["y"], name="clip"),
    ]
    proto = model(rows, {"x": ("N", 4)}, ["y"], given | {"lo": f32(0), "hi": f32(1)})
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantize(proto, np.abs(normal(4, 4)))
