"""Quantized models: onnxruntime runs every layer on integers, and nearly as well as the float32 model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

from edgeprop import trainer as t
from edgeprop.export.api import save
from edgeprop.export.errors import QuantizeError, UnsupportedError
from edgeprop.export.graph import reference
from edgeprop.export.lower import lower
from edgeprop.export.quantization.analysis import snr
from edgeprop.export.quantization.calibrate import METHODS
from edgeprop.export.quantization.quantize import quantize
from edgeprop.export.quantization.selection import find_layers
from edgeprop.export.quantization.simplify import simplify
from edgeprop.export.quantization.weights import quantize_weights
from tests.support.graphs import model, node

Array = np.ndarray[Any, np.dtype[Any]]


@cache
def digits() -> tuple[Array, Array]:
    bundle = load_digits()
    return (bundle.images[:, None] / 16).astype(np.float32), bundle.target


@cache
def trained() -> onnx.ModelProto:
    """A net with every layer the trainer has a good use for, trained on the first 1,300 digits."""
    net = t.Sequential(
        t.Conv2D(8, 3, padding="same", bias=False, name="conv"),
        t.BatchNorm(),
        t.ReLU(),
        t.DepthwiseConv2D(3, padding="same", name="depthwise"),
        t.BatchNorm(),
        t.ReLU6(),
        t.Residual(t.Conv2D(8, 1, name="inner"), t.ReLU()),
        t.MaxPool2D(2),
        t.Conv2D(16, 3, name="wide"),
        t.ReLU(),
        t.Flatten(),
        t.Dense(32, name="hidden"),
        t.ReLU(),
        t.Dense(10, name="head"),
    )
    x, y = digits()
    t.fit(net, x[:1300], y[:1300], optimizer=t.Adam(5e-3), epochs=12)
    return net.to_onnx()


def answers(model: onnx.ModelProto, x: Array) -> Array:
    return reference.run(model, {model.graph.input[0].name: x})[model.graph.output[0].name]


def fused_ops(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in reference.fuse(model).graph.node)


def constants(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def chain(*nodes: tuple[str, dict[str, Any]], weights: dict[str, Array], shape: tuple[Any, ...]) -> onnx.ModelProto:
    """x -> node -> node ... -> y; a node's constants follow from its attribute `args`, names in `weights`."""
    made, value = [], "x"
    for i, (op, attributes) in enumerate(nodes):
        args = attributes.pop("args", [])
        output = "y" if i == len(nodes) - 1 else f"v{i}"
        made.append(helper.make_node(op, [value, *args], [output], name=f"n{i}", **attributes))
        value = output
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(made, "g", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# ---- Integer kernels ------------------------------------------------------------------------------------------------


def test_onnxruntime_fuses_every_layer() -> None:
    x, _ = digits()
    assert fused_ops(quantize(trained(), x[:200])) == {
        "QuantizeLinear": 1,
        "QLinearConv": 4,
        "QLinearAdd": 1,
        "MaxPool": 1,
        "Flatten": 1,
        "QGemm": 2,
        "DequantizeLinear": 1,
    }


def test_int8_inputs_and_outputs() -> None:
    x, _ = digits()
    model = quantize(trained(), x[:200], io="int8")
    ops = fused_ops(model)
    assert not {"QuantizeLinear", "DequantizeLinear", "Relu"} & set(ops)
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*model.graph.input, *model.graph.output]}
    assert kinds == {"input": TensorProto.INT8, "output": TensorProto.INT8}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize(
    ("op", "kernel", "params"),
    [
        ("Sigmoid", "QLinearSigmoid", (1 / 256, -128)),
        ("Softmax", "QLinearSoftmax", (1 / 256, -128)),
        ("Tanh", "Tanh", (1 / 128, 0)),
        ("LeakyRelu", "QLinearLeakyRelu", None),
        ("GlobalAveragePool", "QLinearGlobalAveragePool", None),
    ],
)
def test_operators_with_ranges_of_their_own(op: str, kernel: str, params: tuple[float, int] | None) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32)}
    model = chain(("Conv", {"args": ["w"]}), (op, {}), weights=weights, shape=("n", 3, 8, 8))
    quantized = quantize(model, rng.normal(size=(20, 3, 8, 8)))
    assert fused_ops(quantized)[kernel] == 1
    assert fused_ops(quantized)["QLinearConv"] == 1
    if params:
        found = constants(quantized)
        assert (found["y.scale"], found["y.zero_point"]) == params


@pytest.mark.parametrize("mover", ["MaxPool", "Transpose", "Flatten"])
@pytest.mark.parametrize("activation", ["Relu", "Clip"])
def test_an_activation_behind_a_mover_is_absorbed(mover: str, activation: str) -> None:
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(4, 3, 3, 3)).astype(np.float32),
        "lo": np.float32(0).reshape(()),
        "hi": np.float32(6).reshape(()),
    }
    attributes = {"MaxPool": {"kernel_shape": [2, 2]}, "Transpose": {"perm": [0, 2, 3, 1]}, "Flatten": {}}[mover]
    args = {"args": ["lo", "hi"]} if activation == "Clip" else {}
    nodes = (("Conv", {"args": ["w"]}), (mover, attributes), (activation, args))
    model = chain(*nodes, weights=weights, shape=("n", 3, 8, 8))
    x = rng.normal(size=(20, 3, 8, 8)).astype(np.float32)
    quantized = quantize(model, x)
    assert fused_ops(quantized) == {"QuantizeLinear": 1, "QLinearConv": 1, mover: 1, "DequantizeLinear": 1}
    expected = answers(model, x)
    assert np.abs(answers(quantized, x) - expected).max() < 0.05 * np.abs(expected).max()


def test_movers_keep_their_inputs_parameters() -> None:
    x, _ = digits()
    found = constants(quantize(trained(), x[:200]))
    assert found["max_pool2d_1.output.scale"] == found["relu_2.output.scale"] or found["max_pool2d_1.output.scale"] > 0
    assert found["flatten_1.output.scale"] == found["relu_3.output.scale"]


# ---- Accuracy -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("per_channel", [True, False])
def test_accuracy_is_within_half_a_point(method: str, per_channel: bool) -> None:
    x, y = digits()
    quantized = quantize(trained(), x[:256], method=method, per_channel=per_channel)
    right = [np.mean(answers(model, x[1300:]).argmax(1) == y[1300:]) for model in (trained(), quantized)]
    assert right[0] > 0.9
    assert right[1] >= right[0] - (0.005 if per_channel else 0.02)


@pytest.mark.parametrize("options", [{"bias_correction": False}, {"equalization": True}])
def test_corrections_keep_the_function(options: dict[str, bool]) -> None:
    x, _ = digits()
    expected = answers(trained(), x[:300])
    noise = answers(quantize(trained(), x[:256], **options), x[:300]) - expected
    assert np.square(noise).mean() < 1e-2 * np.square(expected).mean()


def test_bias_correction_takes_the_mean_error_out() -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(8, 64)).astype(np.float32), "b": rng.normal(size=8).astype(np.float32)}
    weights["w"][:, 0] = 40.0  # coarse steps for all the others
    model = chain(("Gemm", {"args": ["w", "b"], "transB": 1}), weights=weights, shape=("n", 64))
    x = rng.uniform(0.5, 1.0, size=(500, 64)).astype(np.float32)
    expected = answers(model, x)
    bias = [
        np.abs((answers(quantize(model, x, bias_correction=on), x) - expected).mean(0)).mean() for on in (True, False)
    ]
    assert bias[0] < 0.3 * bias[1]


def test_equalization_evens_out_channels_without_changing_the_function() -> None:
    from edgeprop.export.quantization.corrections import equalize

    normal = simplify(trained())
    x, _ = digits()
    even = equalize(normal)
    assert np.allclose(answers(even, x[:50]), answers(normal, x[:50]), rtol=1e-3, atol=1e-4)
    assert not np.array_equal(constants(even)["wide.weight"], constants(normal)["conv.weight"])


def test_snr_names_layers_and_is_high() -> None:
    x, _ = digits()
    found = snr(trained(), quantize(trained(), x[:256], trainable="head"), x[:100])
    assert {"conv", "depthwise", "inner", "wide", "hidden", "head"} <= set(found)
    assert min(found.values()) > 25


# ---- Weights and biases ---------------------------------------------------------------------------------------------


def test_weights_have_a_scale_per_output_channel() -> None:
    x, _ = digits()
    found, normal = constants(quantize(trained(), x[:200])), constants(simplify(trained()))
    for layer, axis in (("conv", 0), ("depthwise", 0), ("hidden", 0)):
        weight, codes, scale = normal[f"{layer}.weight"], found[f"{layer}.weight"], found[f"{layer}.weight.scale"]
        others = tuple(a for a in range(weight.ndim) if a != axis)
        assert codes.dtype == np.int8
        np.testing.assert_allclose(scale, np.abs(weight).max(others) / 127, rtol=1e-6)
        assert (np.abs(codes.astype(int)).max(others) == 127).all()
        assert not found[f"{layer}.weight.zero_point"].any()
    assert found["conv.bias"].dtype == np.int32
    np.testing.assert_array_equal(found["conv.bias.scale"], found["input.scale"] * found["conv.weight.scale"])


def test_a_bias_that_would_overflow_widens_its_channels_scale() -> None:
    weight = np.array([[1e-9, 2e-9], [0.5, 0.25]])
    stored = quantize_weights(weight, np.array([3.0, 3.0]), 0, 0.01, True)
    real = stored.bias * np.float64(np.float32(0.01)) * stored.scale
    np.testing.assert_allclose(real, 3.0, rtol=1e-6)
    assert np.abs(stored.bias.astype(np.int64)).max() <= 2**30 + 1
    assert stored.scale[1] == np.float32(0.5 / 127)


def test_dead_and_empty_channels() -> None:
    stored = quantize_weights(np.zeros((3, 4)), np.array([0.0, 1.0, -2.0]), 0, 0.1, True)
    assert not stored.codes.any()
    assert (stored.scale > 0).all()
    np.testing.assert_allclose(stored.bias * np.float32(0.1) * stored.scale, [0, 1, -2], rtol=1e-5)


@pytest.mark.parametrize("per_channel", [True, False])
def test_tiny_weights_stay_among_normal_numbers(per_channel: bool) -> None:
    stored = quantize_weights(np.full((2, 3), 1e-38), None, 0, 1e-3, per_channel)
    assert (stored.scale * np.float32(1e-3) >= np.finfo(np.float32).tiny).all()


def test_bias_overflow_in_a_graph() -> None:
    weights = {"w": np.full((2, 4), 1e-12, np.float32), "b": np.array([5.0, -5.0], np.float32)}
    model = chain(("Gemm", {"args": ["w", "b"], "transB": 1}), weights=weights, shape=("n", 4))
    x = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    np.testing.assert_allclose(answers(quantize(model, x), x), answers(model, x), atol=0.03)


@pytest.mark.parametrize("sample", [0.0, 3.0, -3.0])
def test_constant_and_one_sided_samples(sample: float) -> None:
    x, _ = digits()
    quantized = quantize(trained(), np.full((4, 1, 8, 8), sample))
    assert np.isfinite(answers(quantized, x[:10])).all()


# ---- What trains ----------------------------------------------------------------------------------------------------


def test_a_trainable_head_stays_float32() -> None:
    x, _ = digits()
    quantized = quantize(trained(), x[:200], trainable="head", loss="softmax_cross_entropy", labels=range(10))
    assert {p.key: p.value for p in quantized.metadata_props} == {
        "edgeprop.trainable": '["head"]',
        "edgeprop.loss": "softmax_cross_entropy",
        "edgeprop.labels": json.dumps([str(i) for i in range(10)]),
    }
    head = next(node for node in quantized.graph.node if node.name == "head")
    made_by = {output: node.op_type for node in quantized.graph.node for output in node.output}
    assert made_by[head.input[0]] == "DequantizeLinear"
    np.testing.assert_array_equal(constants(quantized)["head.weight"], constants(trained())["head.weight"])
    assert fused_ops(quantized)["QGemm"] == 1
    onnx.checker.check_model(quantized, full_check=True)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, []),
        ("head", ["head"]),
        ("head.weight", ["head"]),
        ("h*", ["hidden", "head"]),
        ("last", ["head"]),
        ("last:2", ["hidden", "head"]),
        (["head", "hid?en"], ["hidden", "head"]),
    ],
)
def test_patterns(wanted: Any, found: list[str]) -> None:
    assert find_layers(simplify(trained()), wanted) == found


@pytest.mark.parametrize("wanted", ["nothing", "last:99", "relu_1", ["head", "x*"]])
def test_unknown_layers_are_answered_with_those_there_are(wanted: Any) -> None:
    with pytest.raises(QuantizeError, match="conv, depthwise, inner, wide, hidden, head"):
        find_layers(simplify(trained()), wanted)


def test_a_bias_that_trains_alone() -> None:
    x, _ = digits()
    quantized = quantize(trained(), x[:200], trainable=["last:2.bias", "head"], loss="softmax_cross_entropy")
    assert find_layers(simplify(trained()), ["last:2.bias"]) == ["hidden", "head"]
    assert [tensor.name for tensor in lower(quantized).trainable()] == ["hidden.bias", "head.weight", "head.bias"]
    with pytest.raises(QuantizeError, match=r"no layer with a bias is called 'x.bias', 'y.bias'; there are: conv"):
        find_layers(simplify(trained()), ["x.bias", "head", "y.bias"])


def test_what_follows_a_trainable_layer_is_float32() -> None:
    x, _ = digits()
    ops = fused_ops(quantize(trained(), x[:200], trainable="hidden"))
    assert "QGemm" not in ops
    assert (ops["Gemm"], ops["QLinearConv"]) == (2, 4)


def test_all_trainable_leaves_nothing_to_quantize() -> None:
    x, _ = digits()
    quantized = quantize(trained(), x[:200], trainable="*")
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in quantized.graph.node}


def test_kept_layers() -> None:
    x, _ = digits()
    quantized = quantize(trained(), x[:200], keep_float="wide")
    np.testing.assert_array_equal(constants(quantized)["wide.weight"], constants(trained())["wide.weight"])
    assert constants(quantized)["inner.weight"].dtype == np.int8
    with pytest.raises(QuantizeError, match="no node is called 'narrow'"):
        quantize(trained(), x[:200], keep_float=["narrow"])


# ---- Refusals and odd graphs ----------------------------------------------------------------------------------------


def test_quantized_models_are_refused() -> None:
    x, _ = digits()
    with pytest.raises(QuantizeError, match="quantized already"):
        quantize(quantize(trained(), x[:100]), x[:100])


def test_unknown_io() -> None:
    with pytest.raises(QuantizeError, match="io='uint8'"):
        quantize(trained(), digits()[0][:10], io="uint8")


def test_weights_that_are_not_finite_are_named() -> None:
    weights = {"w": np.full((2, 4), np.nan, np.float32)}
    model = chain(("Gemm", {"args": ["w"], "transB": 1}), weights=weights, shape=("n", 4))
    with pytest.raises(ValueError, match="NaN"):
        quantize(model, np.zeros((1, 4)))


def test_the_model_given_is_left_alone() -> None:
    x, _ = digits()
    before = trained().SerializeToString(deterministic=True)
    quantize(trained(), x[:50], trainable="head")
    assert trained().SerializeToString(deterministic=True) == before


def test_the_same_model_twice_gives_the_same_bytes() -> None:
    x, _ = digits()
    first, second = (quantize(trained(), x[:50]).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_matmul_add_and_batch_norm_become_one_gemm() -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.uniform(0.5, 1, size).astype(np.float32) for name, size in
               {"w": (6, 5), "b": 5, "g": 5, "o": 5, "m": 5, "v": 5}.items()}  # fmt: skip
    model = chain(
        ("MatMul", {"args": ["w"]}),
        ("Add", {"args": ["b"]}),
        ("BatchNormalization", {"args": ["g", "o", "m", "v"]}),
        ("Relu", {}),
        weights=weights,
        shape=("n", 6),
    )
    x = rng.normal(size=(30, 6)).astype(np.float32)
    normal = simplify(model)
    assert [node.op_type for node in normal.graph.node] == ["Gemm", "Relu"]
    np.testing.assert_allclose(answers(normal, x), answers(model, x), rtol=1e-4, atol=1e-5)
    assert fused_ops(quantize(model, x)) == {"QuantizeLinear": 1, "QGemm": 1, "DequantizeLinear": 1}


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_the_image_becomes_a_pool(keepdims: int) -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 3, 1, 1)).astype(np.float32)}
    mean = ("ReduceMean", {"axes": [2, 3], "keepdims": keepdims})
    model = chain(("Conv", {"args": ["w"]}), ("Relu", {}), mean, weights=weights, shape=("n", 3, 5, 5))
    x = rng.normal(size=(10, 3, 5, 5)).astype(np.float32)
    quantized = quantize(model, x)
    assert fused_ops(quantized)["QLinearGlobalAveragePool"] == 1
    assert answers(quantized, x).shape == answers(model, x).shape
    np.testing.assert_allclose(answers(quantized, x), answers(model, x), atol=0.05)


# ---- Models trained by others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("ad01_fp32", {"QGemm": 10}),
        ("kws_ref_model_float32", {"QLinearConv": 9, "QLinearAveragePool": 1, "QGemm": 1, "QLinearSoftmax": 1}),
        (
            "pretrainedResnet",
            {"QLinearConv": 9, "QLinearAdd": 3, "QLinearAveragePool": 1, "QGemm": 1, "QLinearSoftmax": 1},
        ),
        ("vww_96_float", {"QLinearConv": 27, "QLinearAveragePool": 1, "QGemm": 1, "QLinearSoftmax": 1}),
    ],
)
def test_mlperf_tiny(name: str, kernels: dict[str, int], models: Callable[[str], Path]) -> None:
    model = onnx.load(models(f"mlperf_tiny/{name}.tf2onnx13.onnx"))
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(0).random((16, *shape), dtype=np.float32)
    quantized = quantize(model, x)
    still = {"QuantizeLinear": 1, "DequantizeLinear": 1}
    ops = fused_ops(quantized)
    assert {op: n for op, n in ops.items() if op not in ("Reshape", "Transpose", "Squeeze")} == {**kernels, **still}
    expected = answers(model, x[:1])
    assert np.abs(answers(quantized, x[:1]) - expected).max() < 0.06 * np.abs(expected).max()


TWINS: dict[str, tuple[list[onnx.NodeProto], list[int | str], list[str]]] = {
    "einsum": ([node("Einsum", ["x", "w"], ["y"], equation="bi, io -> bo")], ["N", 6], ["dense_s8"]),
    "einsum, transposed": ([node("Einsum", ["x", "v"], ["y"], equation="bi,oi->bo")], ["N", 6], ["dense_s8"]),
    "einsum, of every step": ([node("Einsum", ["x", "w"], ["y"], equation="bti,io->bto")], ["N", 5, 6], ["dense_s8"]),
    "a vector": (
        [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "u"], ["y"])], ["N", 6], ["dense_s8", "dense_s8"]),
    "a computed bias": (
        [node("MatMul", ["x", "w"], ["h"]), node("Gemm", ["x", "w", "h"], ["y"])], ["N", 6],
        ["dense_s8", "dense_s8", "add_s8"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TWINS)
def test_layers_in_other_words_are_quantized_as_layers_are(name: str) -> None:
    """A product by Einsum, with a vector or with a bias that is computed is as small on the device as any other."""
    nodes, shape, kinds = TWINS[name]
    rng = np.random.default_rng(0)
    weight, vector = rng.normal(size=(6, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    constants = {"w": weight, "v": np.ascontiguousarray(weight.T), "u": vector}
    named = {key: array for key, array in constants.items() if any(key in n.input for n in nodes)}
    proto = model(nodes, {"x": shape}, ["y"], named)
    x = rng.normal(size=(64, *shape[1:])).astype(np.float32)
    quantized = quantize(proto, x)
    assert [op.kind for op in lower(quantized).ops] == ["quantize", *kinds, "dequantize"]
    got, want = reference.run(quantized, {"x": x})["y"], reference.run(proto, {"x": x})["y"]
    assert got.shape == want.shape
    assert np.abs(got - want).max() < 0.05 * np.abs(want).max()
    if len(kinds) == 1:  # to the bit as MatMul
        twin = model([node("MatMul", ["x", "w"], ["y"])], {"x": shape}, ["y"], {"w": weight})
        np.testing.assert_array_equal(got, reference.run(quantize(twin, x), {"x": x})["y"])


# ---- What an exporter left in training mode --------------------------------------------------------------------------

_STATISTICS = {name: np.full(4, value, np.float32) for name, value in {"s": 2, "b": 1, "m": 0.5, "v": 3}.items()}
_TRAINING = {
    "statistics of the batch": (node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], training_mode=1), 15),
    "statistics of the batch, by its outputs": (
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n", "o1", "o2", "o3", "o4"]),
        9,
    ),
    "dropped values": (node("Dropout", ["c", "ratio", "on"], ["n"]), 13),
}


@pytest.mark.parametrize("name", _TRAINING)
@pytest.mark.parametrize("calibrated", [False, True])
def test_training_mode_is_refused(name: str, calibrated: bool, tmp_path: Path) -> None:
    """The quantizer folds what is of inference alone: it takes nothing else for that."""
    trains, opset = _TRAINING[name]
    random = np.random.default_rng(0)
    weights = {"w": random.normal(size=(4, 3, 3, 3)).astype(np.float32), "ratio": np.float32(0.5), "on": np.array(True)}
    nodes = [node("Conv", ["x", "w"], ["c"]), trains, node("Relu", ["n"], ["y"])]
    proto = model(nodes, {"x": ("N", 3, 5, 5)}, ["y"], weights | _STATISTICS, opset=opset)
    samples = random.normal(size=(8, 3, 5, 5)).astype(np.float32) if calibrated else None
    with pytest.raises(UnsupportedError, match=r"training[ _]mode"):
        save(tmp_path / "net", proto, samples)
    assert not list(tmp_path.iterdir())
