"""Every row of the quantization rules against the *float* graph, in dB: comparing runtime and onnxruntime on one quantized
graph shows no fault of the quantizer. Inputs, constants and ranges are asymmetric, so that every zero point counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgeprop.export.check import run_on_device
from edgeprop.export.lower import lower
from edgeprop.export.quantization.calibrate import Affine, Range, Runner, calibrate, candidates
from edgeprop.export.quantization.corrections import correct_biases, equalize
from edgeprop.export.quantization.quantize import quantize
from edgeprop.export.quantization.rules import RULES
from edgeprop.export.quantization.simplify import simplify
from edgeprop.export.quantization.weights import quantize_weights

Array = np.ndarray[Any, np.dtype[Any]]
F32 = onnx.TensorProto.FLOAT
RANDOM = np.random.default_rng(7)
#: (n, channels, height, width), from -1 to 3: its zero point is far from 0 and from the ends
X = RANDOM.uniform(-1, 3, (24, 4, 6, 6)).astype(np.float32)


def weights(*shape: int) -> Array:
    """Not centred, and of another size for every output channel."""
    size = np.linspace(0.2, 2.0, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return (RANDOM.normal(0.15, 0.4, shape) * size).astype(np.float32)


CONSTANTS: dict[str, Array] = {
    "w": weights(5, 4, 3, 3), "dw": weights(4, 1, 3, 3), "gw": weights(6, 2, 1, 1), "one": weights(4, 4, 1, 1),
    "two": weights(3, 4, 1, 1), "b5": RANDOM.normal(2, 1, 5).astype(np.float32),
    "b4": RANDOM.normal(-3, 1, 4).astype(np.float32), "dense": weights(4, 7).copy(), "dense_t": weights(7, 4),
    "b7": RANDOM.normal(1.5, 2, 7).astype(np.float32), "m": weights(6, 5),
    "high": RANDOM.uniform(0.5, 4, (4, 1, 1)).astype(np.float32),
    "low": RANDOM.uniform(-5, -0.5, (1, 4, 6, 6)).astype(np.float32),
    "mixed": RANDOM.uniform(-0.5, 3, (1, 4, 6, 6)).astype(np.float32),
    "slope": np.array([0.3], np.float32), "zero": np.array(0, np.float32), "six": np.array(2.2, np.float32),
    "below": np.array(-0.6, np.float32),
    "shape": np.array([0, 8, 18], np.int64), "axes": np.array([1], np.int64), "pads": np.array([0, 0, 1, 0, 0, 0, 0, 2]),
    "from": np.array([1], np.int64), "to": np.array([5], np.int64), "last": np.array([3], np.int64),
    "places": np.array([3, 0, 2], np.int64), "scales": np.array([1, 1, 2, 2], np.float32),
    "repeats": np.array([1, 1, 2, 1], np.int64), "parts": np.array([1, 3], np.int64),
    "wide": np.array([1, 4, 6, 6], np.int64),
}  # fmt: skip


def n(op: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, output.split(), name=f"{op}_{output.split()[0]}", **attributes)


def net(nodes: list[onnx.NodeProto], x: Array = X, opset: int = 20, outputs: str = "y") -> onnx.ModelProto:
    used = {name for node in nodes for name in node.input}
    stored = [numpy_helper.from_array(array, name) for name, array in CONSTANTS.items() if name in used]
    ends = [helper.make_tensor_value_info(name, F32, None) for name in outputs.split()]
    inputs = [helper.make_tensor_value_info("x", F32, ["n", *x.shape[1:]])]
    graph = helper.make_graph(nodes, "g", inputs, ends, stored)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made)


def between(*nodes: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Nodes from a to c, between two layers."""
    return [n("Conv", "x one b4", "a"), *nodes, n("Conv", "c two", "y")]


#: operator -> nodes, least dB against float, and where not X, the input
CASES: dict[str, tuple[list[onnx.NodeProto], float, Array]] = {
    "Conv": ([n("Conv", "x w b5", pads=[1, 1, 0, 0])], 38, X),
    "Conv depthwise": ([n("Conv", "x dw b4", group=4)], 38, X),
    "Conv grouped": ([n("Conv", "x gw", group=2)], 38, X),
    "Conv Relu": ([n("Conv", "x w b5", "c"), n("Relu", "c")], 35, X),
    "Conv Clip": ([n("Conv", "x w b5", "c"), n("Clip", "c below six")], 24, X),
    "Gemm": ([n("Gemm", "x dense b7")], 38, X[:, :, 0, 0]),
    "Gemm transB": ([n("Gemm", "x dense_t b7", transB=1)], 38, X[:, :, 0, 0]),
    "MatMul": ([n("MatMul", "x m")], 38, X),
    "MatMul Add": ([n("MatMul", "x dense", "c"), n("Add", "b7 c")], 38, X[:, :, 0, 0]),
    "MatMul product": (between(n("MatMul", "a a", "c")), 33, X),
    "Add": ([n("Add", "x mixed")], 36, X),
    "Add below": ([n("Add", "low x")], 34, X),
    "Add channel": ([n("Add", "x high")], 36, X),
    "Add computed": ([n("Conv", "x one b4", "a"), n("Sigmoid", "x", "s"), n("Add", "a s")], 36, X),
    "Add Relu": ([n("Add", "x mixed", "c"), n("Relu", "c")], 36, X),
    "Mul": ([n("Mul", "x mixed")], 33, X),
    "Mul below": ([n("Mul", "low x")], 33, X),
    "Mul channel": ([n("Mul", "x high")], 35, X),
    "Mul computed": ([n("Conv", "x one b4", "a"), n("Sigmoid", "x", "s"), n("Mul", "a s")], 34, X),
    "Concat": ([n("Conv", "x one b4", "a"), n("Concat", "a x", axis=1)], 36, X),
    "AveragePool": ([n("AveragePool", "x", kernel_shape=[3, 2], pads=[1, 0, 1, 0], count_include_pad=1)], 34, X),
    "GlobalAveragePool": ([n("GlobalAveragePool", "x")], 34, X),
    "PRelu": ([n("PRelu", "x slope")], 36, X),
    "HardSwish": ([n("HardSwish", "x")], 36, X),
    "LeakyRelu": ([n("LeakyRelu", "x", alpha=0.3)], 36, X),
    "ThresholdedRelu": ([n("ThresholdedRelu", "x", alpha=0.5)], 30, X),
    "Gelu": ([n("Gelu", "x")], 36, X),
    **{
        op: ([n(op, "x")], 34, X) for op in ("Abs", "Celu", "Elu", "Erf", "Mish", "Neg", "Selu", "Softplus", "Softsign")
    },
    "Sign": ([n("Sign", "x")], 20, X),
    "Swish": ([n("Sigmoid", "x", "s"), n("Mul", "x s")], 34, X),
    "HardSigmoid": ([n("HardSigmoid", "x", alpha=0.3)], 36, X),
    "Sigmoid": ([n("Sigmoid", "x")], 38, X),
    "Tanh": ([n("Tanh", "x")], 34, X),
    "Softmax": ([n("Softmax", "x", axis=1)], 30, X),
    "Relu": (between(n("Sigmoid", "a", "s"), n("Relu", "s", "c")), 33, X),
    "Clip": (between(n("MaxPool", "a", "s", kernel_shape=[2, 2]), n("Clip", "s below six", "c")), 32, X),
    "MaxPool": (between(n("MaxPool", "a", "c", kernel_shape=[2, 2], strides=[2, 1])), 35, X),
    "GlobalMaxPool": (between(n("GlobalMaxPool", "a", "c")), 30, X),
    "Flatten": ([n("Conv", "x one b4", "a"), n("Flatten", "a", "y")], 36, X),
    "Reshape": ([n("Conv", "x one b4", "a"), n("Reshape", "a shape", "y")], 36, X),
    "Transpose": (between(n("Transpose", "a", "c", perm=[0, 1, 3, 2])), 35, X),
    "Squeeze": ([n("Conv", "x one b4", "a"), n("GlobalMaxPool", "a", "p"), n("Squeeze", "p last", "y")], 34, X),
    "Unsqueeze": ([n("Conv", "x one b4", "a"), n("Unsqueeze", "a axes", "y")], 36, X),
    "Slice": (between(n("Slice", "a from to last", "c")), 35, X),
    "Gather": (between(n("Gather", "a places", "c", axis=2)), 35, X),
    "Pad": (between(n("Pad", "a pads", "c")), 35, X),
    "Resize": (between(n("Resize", "a - scales", "c", mode="nearest")), 35, X),
    "DepthToSpace": ([n("Conv", "x one b4", "a"), n("DepthToSpace", "a", blocksize=2)], 36, X),
    "SpaceToDepth": ([n("Conv", "x one b4", "a"), n("SpaceToDepth", "a", blocksize=2)], 36, X),
    "Tile": (between(n("Tile", "a repeats", "c")), 35, X),
    "Expand": (between(n("GlobalMaxPool", "a", "p"), n("Expand", "p wide", "c")), 30, X),
    "Split": (between(n("Split", "a parts", "p q", axis=1), n("Concat", "q p", "c", axis=1)), 35, X),
}


def decibels(exact: Array, found: Array) -> float:
    """Over the part of the signal that is not its mean: a wrong zero point must not hide behind a large offset."""
    signal = exact.astype(np.float64)
    noise = np.square(signal - found.reshape(exact.shape)).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(signal - signal.mean()).sum() / noise))


def exactly(model: onnx.ModelProto, x: Array) -> dict[str, Array]:
    """The float model's outputs, by onnxruntime without optimizations."""
    parts = list(Runner(model, [output.name for output in model.graph.output]).run({"x": x}))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def test_every_rule_has_a_case() -> None:
    assert {name.split()[0] for name in CASES} == set(RULES)


@pytest.mark.parametrize("name", CASES)
def test_int8_is_near_the_float_graph(name: str) -> None:
    nodes, least, x = CASES[name]
    model = net(nodes, x, 13 if name == "Reshape" else 20)
    int8 = quantize(model, x, scale_inputs="never")
    program = lower(int8)
    inner = [op.kind for op in program.ops if op.kind not in ("quantize", "dequantize")]
    assert any("f32" not in kind for kind in inner) or name in ("Flatten", "Reshape", "Unsqueeze", "Squeeze")
    assert not any(kind.endswith("f32") for kind in inner), inner
    found = run_on_device(program, {"x": x})[0]
    for output, exact in exactly(model, x).items():
        assert decibels(exact, found[output]) > least


def test_several_outputs_each_with_a_scale_of_its_own() -> None:
    nodes = [n("Conv", "x w b5", "y"), n("Sigmoid", "x", "s"), n("Conv", "s two", "z")]
    model = net(nodes, outputs="y z s")
    found = run_on_device(lower(quantize(model, X)), {"x": X})[0]
    for output, exact in exactly(model, X).items():
        assert decibels(exact, found[output]) > 33, output


# ---- Scales and zero points ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 3.0), (0.5, 2.0), (-7.0, -2.0), (0.0, 0.1), (-300.0, 5.0), (0.0, 0.0)]
)
def test_codes_cover_a_range_and_zero(low: float, high: float) -> None:
    scale, zero = Range(low, high).affine()
    bottom, top = min(low, 0.0), max(high, 0.0) if high > low else 1.0
    assert abs((-128 - zero) * scale - bottom) <= 0.51 * scale
    assert abs((127 - zero) * scale - top) <= 0.51 * scale
    assert -128 <= zero <= 127


def test_no_code_stands_beyond_the_bounds_of_a_clip() -> None:
    scale, zero = Range(-0.9, 5.9).affine(-1.0, 6.0)
    assert (127 - zero) * scale <= 6.0 + 1e-6
    assert (-128 - zero) * scale >= -1.0 - 1e-6
    assert Range(-3.0, 9.0).clipped(-1.0, 6.0) == Range(-1.0, 6.0)
    assert Range(7.0, 9.0).clipped(-1.0, 6.0) == Range(6.0, 6.0)


@pytest.mark.parametrize("axis", [0, 1])
def test_weights_have_a_scale_for_each_output_channel(axis: int) -> None:
    weight = np.outer([1.0, 100.0, 0.01], [1.0, -0.5, 0.25]).astype(np.float32)
    weight = weight if axis == 0 else weight.T.copy()
    bias = np.array([3.0, -200.0, 0.02])
    made = quantize_weights(weight, bias, axis, 0.05, True)
    np.testing.assert_allclose(made.scale, np.array([1.0, 100.0, 0.01]) / 127, rtol=1e-6)
    along = made.scale.reshape(-1, 1) if axis == 0 else made.scale
    np.testing.assert_allclose(made.codes * along, weight, rtol=0.02)
    assert made.bias is not None
    np.testing.assert_allclose(made.bias * made.scale * 0.05, bias, rtol=1e-3)
    one = quantize_weights(weight, bias, axis, 0.05, False)
    assert one.scale.shape == ()
    assert abs(float(one.scale) * 127 - 100) < 1e-3
    assert abs(made.codes).max() == 127


def test_a_bias_too_large_for_its_weights_widens_their_scale() -> None:
    made = quantize_weights(np.full((1, 2), 1e-6, np.float32), np.array([1e6]), 0, 1e-3, True)
    assert made.bias is not None
    assert abs(float(made.bias[0]) * float(made.scale[0]) * 1e-3 / 1e6 - 1) < 1e-3
    dead = quantize_weights(np.zeros((2, 2), np.float32), np.array([0.7, 0.0]), 0, 0.1, True)
    assert dead.bias is not None
    assert abs(dead.bias[0] * dead.scale[0] * 0.1 - 0.7) < 1e-4


def test_per_tensor_weights_cost_what_they_cost() -> None:
    """per_channel does something: small channels drown without it."""
    model = net([n("Conv", "x w b5")])
    exact = exactly(model, X)["y"][:, 0]  # the channel of the smallest weights
    each, one = (
        run_on_device(lower(quantize(model, X, per_channel=per)), {"x": X})[0]["y"].reshape(24, 5, 4, 4)[:, 0]
        for per in (True, False)
    )
    assert decibels(exact, each) > decibels(exact, one) + 1


# ---- Methods ---------------------------------------------------------------------------------------------------------


def outlier() -> Array:
    """Mostly -1 .. 3, and one value of 60."""
    x = X.copy()
    x[3, 1, 2, 2] = 60
    return x


def test_methods_choose_what_they_say() -> None:
    x = outlier()
    model = net([n("Sigmoid", "x")])
    found = candidates(model, {"x": x}, 99.0)
    assert found["minmax"]["x"] == Range(float(x.min()), 60.0)
    cut = found["percentile"]["x"]
    ordered = np.sort(x.ravel())
    assert abs(cut.high - np.quantile(ordered, 0.995)) < 0.1
    assert abs(cut.low - np.quantile(ordered, 0.005)) < 0.1
    for method, ranges in found.items():
        assert calibrate(model, {"x": x}, method=method, percentile=99.0)["x"] == ranges["x"]
    # mse: no other range of a grid leaves less noise
    chosen = found["mse"]["x"].affine()
    grid = [Range(-1 * a, 60 * b).affine() for a in (0.8, 1.0, 1.2) for b in np.linspace(0.05, 1, 20)]
    least = min(_noise(x, affine) for affine in grid)
    assert _noise(x, chosen) <= least * 1.05


def _noise(x: Array, affine: Affine) -> float:
    codes = np.clip(np.rint(x / affine.scale) + affine.zero_point, -128, 127)
    return float(np.square((codes - affine.zero_point) * affine.scale - x).mean())


# ---- Corrections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["Conv", "Conv depthwise", "Conv grouped", "Gemm", "Gemm transB", "MatMul Add"])
def test_bias_correction_takes_the_mean_error_out(layer: str) -> None:
    nodes, _, x = CASES[layer]
    model = simplify(net(nodes, x))
    node = next(node for node in model.graph.node if node.op_type in ("Conv", "Gemm"))
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    weight = stored[node.input[1]]
    error = np.random.default_rng(1).normal(0.02, 0.01, weight.shape)
    shift = correct_biases(model, {"x": x}, {node.name: ("x", error)})[node.name]
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name == node.input[1]:
            tensor.CopyFrom(numpy_helper.from_array((weight + error).astype(np.float32), tensor.name))
    before, after = exactly(model, x)["y"], exactly(changed, x)["y"]
    channels = tuple(a for a in range(before.ndim) if a != 1)
    inside = (after - before)[:, :, 1:-1, 1:-1] if before.ndim == 4 and before.shape[2] > 3 else after - before
    np.testing.assert_allclose(shift, inside.mean(channels), rtol=0.1, atol=0.01 * np.abs(shift).max())


def test_bias_correction_is_used() -> None:
    nodes = [n("Gemm", "x dense b7")]
    x = X[:, :, 0, 0]
    model = net(nodes, x)
    exact = exactly(model, x)["y"]
    off = [
        np.abs((run_on_device(lower(quantize(model, x, bias_correction=on)), {"x": x})[0]["y"] - exact).mean(0)).sum()
        for on in (True, False)
    ]
    assert off[0] < off[1] * 0.9


def test_equalization_evens_out_what_lies_between_and_changes_no_answer() -> None:
    saved = dict(CONSTANTS)
    try:
        CONSTANTS["one"] = CONSTANTS["one"] * np.array([1, 20, 0.1, 5], np.float32).reshape(-1, 1, 1, 1)
        CONSTANTS["b4"] = np.array([0.5, -6, 0.1, 2], np.float32)
        model = simplify(net([n("Conv", "x one b4", "a"), n("Relu", "a", "r"), n("Conv", "r two", "y")]))
    finally:
        CONSTANTS.update(saved)
    for samples in (None, {"x": X}):
        even = equalize(model, samples=samples)
        np.testing.assert_allclose(exactly(even, X)["y"], exactly(model, X)["y"], rtol=1e-4, atol=1e-3)
        assert _unevenness(even) < _unevenness(model) / 2
    assert equalize(model, fixed=("Conv_a",), samples={"x": X}).graph.initializer == model.graph.initializer


def _unevenness(model: onnx.ModelProto) -> float:
    values: Callable[[str], Array] = lambda name: next(iter(Runner(model, [name], 24).run({"x": X})))[name]  # noqa: E731
    reach = np.abs(np.maximum(values("a"), 0)).max((0, 2, 3))
    return float(reach.max() / reach.min())
