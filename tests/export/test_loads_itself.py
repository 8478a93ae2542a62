"""What `save` writes, the runtime takes; what the runtime would refuse, `save` refuses by the node's name, and writes
nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgeprop
from edgeprop import export, runtime
from edgeprop.export.lower.int8_ops import INT32_MAX, PRODUCT_MAX
from edgeprop.export.program.program import Op, Port, Program, Tensor
from edgeprop.export.writers.image import refusal, to_image

MOST = INT32_MAX // PRODUCT_MAX  # products of codes whose sum stays in int32


def graph(node: onnx.NodeProto, shape: tuple[int, ...], *constants: np.ndarray[Any, Any]) -> onnx.ModelProto:
    """One node of x and constants."""
    names = list(node.input[1:])
    x = helper.make_tensor_value_info("x", 1, ["N", *shape])
    y = helper.make_tensor_value_info("y", 1, None)
    weights = [numpy_helper.from_array(value, name) for name, value in zip(names, constants, strict=True)]
    made = helper.make_graph([node], "g", [x], [y], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def wide(n_in: int) -> onnx.ModelProto:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1, name="fc")
    return graph(node, (n_in,), np.ones((1, n_in), np.float32), np.zeros(1, np.float32))


@pytest.mark.parametrize("n_in", [MOST - 1, MOST + 100])
def test_sums_that_may_pass_32_bits(n_in: int, tmp_path: Path) -> None:
    """In int8 they are refused, in float32 they are not."""
    x = np.ones((2, n_in), np.float32)
    with pytest.raises(ValueError, match=r"'fc'.*(32 bits.*keep_float|int32)"):
        export.save(tmp_path / "wide", wide(n_in), calibration=x)
    assert list(tmp_path.iterdir()) == []
    export.save(tmp_path / "wide", wide(n_in))
    assert edgeprop.Model(tmp_path / "wide.ep").run(x[:1])[0][0, 0] == pytest.approx(n_in, rel=1e-4)


def sums(taps: int, bias: int) -> Program:
    """A dense layer of so many inputs, in int8."""
    tensors = {
        "x": Tensor("x", "i8", (taps,), None, 0.1, 0),
        "w": Tensor("w", "i8", (1, taps), np.zeros((1, taps), np.int8)),
        "b": Tensor("b", "i32", (1,), np.full(1, bias, np.int32)),
        "m": Tensor("m", "f32", (1,), np.full(1, 0.1, np.float32)),
        "y": Tensor("y", "i8", (1,), None, 0.1, 0),
    }
    attrs = {"n_in": taps, "n_out": 1, "rows": 1, "lo": -128.0, "hi": 127.0}
    ports = Port("x", "x", (0, taps), (0, 1)), Port("y", "y", (0, 1), (0, 1))
    return Program("sums", [Op("dense_s8", "fc", ["x", "w", "b", "m"], ["y"], attrs)], tensors, [ports[0]], [ports[1]])


def test_the_exporter_has_the_runtimes_limit() -> None:
    """One more than the exporter allows, the runtime refuses, and names the node."""
    left = INT32_MAX - MOST * PRODUCT_MAX
    assert refusal(sums(MOST, left), to_image(sums(MOST, left))) is None
    for taps, bias in ((MOST, left + 1), (MOST + 1, 0)):
        refused = refusal(sums(taps, bias), to_image(sums(taps, bias)))
        assert refused is not None
        assert "node 'fc'" in refused
        assert f"n_in {taps}" in refused


@pytest.mark.parametrize(
    "attributes",
    [{"pads": [5000] * 4}, {"strides": [1 << 29, 1]}, {"dilations": [1, 1 << 29]}],
)
def test_windows_beyond_the_runtimes_limits(attributes: dict[str, Any], tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="c1", **attributes)
    with pytest.raises(export.ExportError, match="node 'c1': the runtime refuses it as conv2d_f32"):
        export.save(tmp_path / "conv", graph(node, (1, 4, 4), np.ones((1, 1, 1, 1), np.float32)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scale", [-0.1, 0.0, float("inf"), float("nan")])
def test_scales_that_are_none(scale: float) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="dequantize"),
    ]
    made = graph(nodes[0], (4,), np.array(scale, np.float32), np.array(0, np.int8))
    made.graph.node[0].output[0] = "q"
    made.graph.node.append(nodes[1])
    with pytest.raises(ValueError, match="scale"):
        export.lower(made)


def test_an_image_that_loads_is_none_to_refuse() -> None:
    assert runtime.load_error(to_image(sums(4, 0))) is None
    assert runtime.load_error(b"EPM1") == "EP_ERR_IMAGE"
