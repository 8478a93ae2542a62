"""Where onnxruntime departs from ONNX's definition the device does what ONNX says, and `check` compares with that."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from edgeprop.export.check import check, run_on_device
from edgeprop.export.errors import UnsupportedError
from edgeprop.export.graph import reference
from edgeprop.export.graph.definition import as_defined
from edgeprop.export.lower import lower
from edgeprop.export.quantization.quantize import quantize

from ..support.qdq import session

Array = np.ndarray[Any, np.dtype[Any]]
F32 = onnx.TensorProto.FLOAT


def graph(nodes: list[onnx.NodeProto], x: Array, constants: dict[str, Any], opset: int = 19) -> onnx.ModelProto:
    """x -> nodes -> y."""
    inputs = [helper.make_tensor_value_info("x", F32, ["n", *x.shape[1:]])]
    outputs = [helper.make_tensor_value_info("y", F32, None)]
    stored = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    made = helper.make_graph(nodes, "g", inputs, outputs, stored)
    result = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(result)


def decibels(exact: Array, found: Array) -> float:
    noise = np.square(exact.astype(np.float64) - found).sum()
    return float("inf") if noise == 0 else float(10 * np.log10(np.square(exact, dtype=np.float64).sum() / noise))


def device(model: onnx.ModelProto, x: Array) -> Array:
    return np.asarray(run_on_device(lower(model), {"x": x})[0]["y"])


# ---- AveragePool -----------------------------------------------------------------------------------------------------


def pooled(x: Array, kernel: list[int], strides: list[int], pads: list[int]) -> Array:
    """ONNX's definition: taps inside the input or its padding count."""
    rows = [_starts(x.shape[2 + i], kernel[i], strides[i], pads[i], pads[2 + i]) for i in (0, 1)]
    y = np.zeros((*x.shape[:2], len(rows[0]), len(rows[1])), np.float64)
    for i, top in enumerate(rows[0]):
        for j, left in enumerate(rows[1]):
            bottom = min(top + kernel[0], x.shape[2] + pads[2])
            right = min(left + kernel[1], x.shape[3] + pads[3])
            inside = x[:, :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
            y[:, :, i, j] = inside.sum((2, 3), dtype=np.float64) / ((bottom - top) * (right - left))
    return y


def _starts(size: int, kernel: int, stride: int, before: int, behind: int) -> list[int]:
    count = -(-(size + before + behind - kernel) // stride) + 1
    return [at for i in range(count) if (at := i * stride - before) < size]


POOLS = [
    ([2, 2], [2, 2], [0, 0, 0, 0]),
    ([3, 3], [2, 2], [1, 0, 1, 1]),
    ([2, 2], [3, 3], [0, 0, 0, 0]),
    ([3, 3], [2, 2], [0, 0, 1, 1]),
    ([4, 3], [3, 2], [2, 1, 0, 1]),
    ([3, 3], [3, 3], [1, 0, 2, 2]),  # the last window would begin in the padding
]


@pytest.mark.parametrize(("kernel", "strides", "pads"), POOLS)
def test_average_over_taps_that_hang_over_the_padding(kernel: list[int], strides: list[int], pads: list[int]) -> None:
    x = np.random.default_rng(0).normal(0.4, 1, (16, 3, 9, 7)).astype(np.float32)
    given = {"kernel_shape": kernel, "strides": strides, "pads": pads, "ceil_mode": 1, "count_include_pad": 1}
    net = graph([helper.make_node("AveragePool", ["x"], ["y"], name="pool", **given)], x, {})
    wanted = pooled(x, kernel, strides, pads)
    assert decibels(wanted, device(net, x)) > 100
    int8 = quantize(net, x)
    assert [op.kind for op in lower(int8).ops] == ["quantize", "average_pool2d_s8", "dequantize"]
    assert decibels(wanted, device(int8, x)) > 32
    for each in (net, int8):
        result = check(each, {"x": x})
        assert result.status == "ok", str(result)
        assert result.mismatches == 0
    # the corner alone, which the whole kernel would make smaller by its share
    corner = wanted[..., -1, -1]
    assert decibels(corner, device(int8, x)[..., -1, -1]) > 20


def test_what_a_plain_session_makes_of_it_is_something_else() -> None:
    """Else the form that `check` compares with would be in vain."""
    x = np.random.default_rng(0).normal(0.4, 1, (4, 3, 9, 7)).astype(np.float32)
    given = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1}
    int8 = quantize(graph([helper.make_node("AveragePool", ["x"], ["y"], name="pool", **given)], x, {}), x)
    plain = session(int8.SerializeToString()).run(["y"], {"x": x})[0]
    right = reference.run(int8, {"x": x})["y"]
    assert decibels(pooled(x, [2, 2], [2, 2], [0] * 4), right) > 32
    if decibels(pooled(x, [2, 2], [2, 2], [0] * 4), plain) > 32:
        pytest.skip("this onnxruntime computes it right")


def test_a_pool_whose_windows_fit_is_left_alone() -> None:
    x = np.zeros((1, 1, 4, 4), np.float32)
    for given in ({"count_include_pad": 1}, {"ceil_mode": 1}, {}):
        net = graph([helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], **given)], x, {})
        assert as_defined(net) is net


# ---- Resize ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coordinates", ["align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scales", [[1, 1, 1.3, 0.6], [1, 1, 0.2, 1], [1, 1, 0.75, 2]])
def test_resized_lengths_that_are_not_whole(coordinates: str, mode: str, scales: list[float]) -> None:
    x = np.random.default_rng(1).normal(size=(3, 2, 7, 6)).astype(np.float32)
    given = {"mode": mode, "coordinate_transformation_mode": coordinates}
    node = helper.make_node("Resize", ["x", "", "s"], ["y"], name="resize", **given)
    net = graph([node], x, {"s": np.array(scales, np.float32)})
    wanted = ReferenceEvaluator(net).run(None, {"x": x})[0]
    assert decibels(wanted, device(net, x)) > 100
    result = check(net, {"x": x})
    assert result.status == "ok", str(result)
    assert all(layer.mismatches == 0 for layer in result.layers)


def test_an_axis_too_long_to_work_out_is_refused() -> None:
    x = np.zeros((1, 1, 1, 3000), np.float32)
    node = helper.make_node(
        "Resize", ["x", "", "s"], ["y"], mode="linear", coordinate_transformation_mode="align_corners"
    )
    net = graph([node], x, {"s": np.array([1, 1, 1, 1.3001], np.float32)})
    with pytest.raises(UnsupportedError, match="is no whole length: give sizes instead"):
        lower(net)


def test_codes_are_picked_as_onnx_says() -> None:
    x = np.random.default_rng(2).normal(size=(8, 2, 7, 6)).astype(np.float32)
    given = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "align_corners"}
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("Resize", ["r", "", "s"], ["z"], name="resize", **given),
        helper.make_node("Conv", ["z", "w"], ["y"], name="conv"),
    ]
    weight = np.random.default_rng(3).normal(size=(3, 2, 2, 2)).astype(np.float32)
    net = graph(nodes, x, {"s": np.array([1, 1, 1.3, 0.6], np.float32), "w": weight})
    int8 = quantize(net, x)
    assert decibels(ReferenceEvaluator(net).run(None, {"x": x})[0], device(int8, x)) > 30
    assert check(int8, {"x": x}).status == "ok"


# ---- Biases ----------------------------------------------------------------------------------------------------------


def biased(kind: str, factor: float, per_channel: bool) -> tuple[onnx.ModelProto, Array]:
    """A quantized layer whose bias has `factor` times the scale of the sums."""
    random = np.random.default_rng(4)
    shape = {"Conv": (3, 2, 2, 2), "Gemm": (4, 3), "MatMul": (4, 3)}[kind]
    x = random.normal(size=(8, 2, 5, 5) if kind == "Conv" else (8, 4)).astype(np.float32)
    axis = 0 if kind == "Conv" else 1
    scale = np.array([0.01, 0.03, 0.02], np.float32) if per_channel else np.array(0.02, np.float32)
    constants = {
        "s": np.float32(0.025), "z": np.int8(3), "w": random.integers(-127, 128, shape, np.int8), "ws": scale,
        "b": np.array([900, -700, 400], np.int32), "bs": np.float32(0.025) * scale * np.float32(factor),
        "ys": np.float32(0.2), "yz": np.int8(-5),
    }  # fmt: skip
    at = {"axis": axis} if per_channel else {}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["wr"], **at),
        helper.make_node("DequantizeLinear", ["b", "bs"], ["br"], **({"axis": 0} if per_channel else {})),
    ]
    if kind == "MatMul":
        nodes += [helper.make_node("MatMul", ["xr", "wr"], ["m"]), helper.make_node("Add", ["br", "m"], ["t"])]
    else:
        nodes += [helper.make_node(kind, ["xr", "wr", "br"], ["t"], name="layer")]
    nodes += [
        helper.make_node("QuantizeLinear", ["t", "ys", "yz"], ["tq"]),
        helper.make_node("DequantizeLinear", ["tq", "ys", "yz"], ["y"]),
    ]
    return graph(nodes, x, constants), x


@pytest.mark.parametrize("factor", [0.5, 1.005, 3.0])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", ["Conv", "Gemm", "MatMul"])
def test_a_bias_counts_by_its_own_scale(kind: str, per_channel: bool, factor: float) -> None:
    net, x = biased(kind, factor, per_channel)
    wanted = ReferenceEvaluator(net).run(None, {"x": x})[0]
    found = device(net, x)
    assert np.abs(wanted - found).max() <= 0.2001  # one step, where a value lies between two codes
    assert (wanted != found).mean() < 0.02
    result = check(net, {"x": x})
    assert result.status == "ok", str(result)


def test_a_bias_of_the_right_scale_is_left_alone() -> None:
    net, _ = biased("Gemm", 1.0, True)
    assert as_defined(net) is net
