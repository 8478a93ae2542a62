"""Dynamically quantized models, as onnxruntime's quantize_dynamic writes them: equal to onnxruntime at batch 1, every bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgeprop.export.check import check
from edgeprop.export.graph import reference
from edgeprop.export.lower import UnsupportedError, lower
from tests.support import interpreter
from tests.support.graphs import golden, model, node, shared


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def dynamic(proto: onnx.ModelProto, folder: Path, **options: Any) -> onnx.ModelProto:
    onnx.save(proto, folder / "float.onnx")
    quantize_dynamic(folder / "float.onnx", folder / "dynamic.onnx", **options)
    return onnx.load(folder / "dynamic.onnx")


def same(proto: onnx.ModelProto, kinds: list[str], exact: bool = True) -> None:
    """Equal to onnxruntime, in the interpreter and on the device."""
    program = lower(proto)
    assert [op.kind for op in program.ops] == kinds
    shape = [1, *program.inputs[0].shape[1:]]
    for seed in range(5):
        x = {program.inputs[0].name: normal(*shape, seed=seed) * 3}
        for device in ({"device": interpreter.device}, {}):
            result = check(proto, x, **device)
            assert result.status == "ok", str(result)
            assert not exact or result.max_abs_error == 0, str(result)


@pytest.mark.parametrize("weights", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_dense(tmp_path: Path, weights: Any, per_channel: bool) -> None:
    """Two layers that read one value, with and without bias, an activation fused."""
    constants = {"m1": normal(30, 7), "m2": normal(30, 7, seed=1), "b1": normal(7), "m3": normal(7, 4)}
    nodes = [
        node("MatMul", ["x", "m1"], ["a"]),
        node("Add", ["a", "b1"], ["a2"]),
        node("MatMul", ["x", "m2"], ["c"]),
        node("Add", ["a2", "c"], ["s"]),
        node("Relu", ["s"], ["r"]),
        node("MatMul", ["r", "m3"], ["y"]),
    ]
    proto = model(nodes, {"x": [1, 3, 30]}, ["y"], constants)
    proto = dynamic(proto, tmp_path, weight_type=weights, per_channel=per_channel)
    same(proto, ["dynamic_dense_f32", "dynamic_dense_f32", "add_f32", "dynamic_dense_f32"])


def test_the_program_does_not_depend_on_the_processor(tmp_path: Path) -> None:
    """Where products of uint8 and int8 would saturate, onnxruntime turns int8 weights into uint8: it is the same program.

    Without `session.x64quantprecision`, such a processor (AVX2 without VNNI) gives other sums than all others.
    """
    nodes = [node("MatMul", ["x", "m"], ["a"]), node("Add", ["a", "b"], ["y"])]
    proto = model(nodes, {"x": [1, 40]}, ["y"], {"m": normal(40, 7), "b": normal(7)})
    signed = dynamic(proto, tmp_path, weight_type=QuantType.QInt8)
    unsigned = onnx.ModelProto()
    unsigned.CopyFrom(signed)
    for tensor in unsigned.graph.initializer:
        if tensor.data_type == TensorProto.INT8:
            codes = numpy_helper.to_array(tensor).astype(np.int16) + 128
            tensor.CopyFrom(numpy_helper.from_array(codes.astype(np.uint8), tensor.name))
    for twin in (signed, unsigned):
        options = reference.options(twin)
        assert options.get_session_config_entry("session.x64quantprecision") == "1"
    ours, theirs = lower(signed), lower(unsigned)
    assert [(op.kind, op.attrs) for op in ours.ops] == [(op.kind, op.attrs) for op in theirs.ops]
    assert list(ours.tensors) == list(theirs.tensors)
    for name, tensor in ours.tensors.items():
        np.testing.assert_array_equal(tensor.data, theirs.tensors[name].data, name)


def test_converted_constants_get_their_names_back() -> None:
    """As onnxruntime leaves a graph on a processor without VNNI: a constant of two nodes is converted twice."""
    names = ["w_s8_2_u8", "z_s8_2_u8", "v_s8_2_u8", "z_s8_2_u8_token_3", "kept"]
    nodes = [
        node("MatMulInteger", ["q", names[0], "", names[1]], ["a"]),
        node("MatMulInteger", ["q", names[2], "", names[3]], ["y"]),
    ]
    arrays = [np.full((2, 2), 7), np.array(128), np.full((2, 2), 9), np.array(128), np.array(1)]
    proto = model(nodes, {"q": [2, 2]}, ["y"], {n: a.astype(np.uint8) for n, a in zip(names, arrays, strict=True)})
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("w", TensorProto.INT8, [2, 2]))
    reference._restore_names(proto.graph)
    assert [list(n.input) for n in proto.graph.node] == [["q", "w", "", "z"], ["q", "v", "", "z"]]
    assert [t.name for t in proto.graph.initializer] == ["w", "z", "v", "kept"]
    assert not proto.graph.value_info


@pytest.mark.parametrize("weights", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolution(tmp_path: Path, weights: Any, groups: int) -> None:
    """Any groups, strides, dilations and padding; the dense layer behind it reads codes in the device's order."""
    constants = {"w": normal(6, 6 // groups, 3, 3), "b": normal(6), "m": normal(6 * 4 * 5, 5)}
    attributes = {"pads": [1, 2, 1, 1], "strides": [2, 1], "dilations": [1, 2], "group": groups}
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], **attributes),
        node("Relu", ["c"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("MatMul", ["f", "m"], ["y"]),
    ]
    proto = dynamic(model(nodes, {"x": [1, 6, 8, 6]}, ["y"], constants), tmp_path, weight_type=weights)
    same(proto, ["dynamic_conv2d_f32", "dynamic_dense_f32"])


def test_convolution_of_many_channels(tmp_path: Path) -> None:
    """Codes pass the stack's buffer in the middle of a tap; 1-D."""
    proto = model([node("Conv", ["x", "w"], ["y"], pads=[1, 1])], {"x": [1, 90, 9]}, ["y"], {"w": normal(4, 90, 3)})
    same(dynamic(proto, tmp_path, weight_type=QuantType.QInt8), ["dynamic_conv2d_f32"])


def test_model_of_others() -> None:
    """A keyword spotter that others quantized: every logit's bit; the answers to rounding (expf differs)."""
    path = "ort_quantized/arm_dnn_s_dynamic.onnx"
    proto = onnx.load(shared(path))
    logits = onnx.ModelProto()
    logits.CopyFrom(proto)
    softmax = logits.graph.node.pop()
    logits.graph.output[0].name = softmax.input[0]
    assert [op.kind for op in lower(proto).ops] == ["dynamic_dense_f32"] * 4 + ["softmax_f32"]
    inputs, outputs = golden(path)
    name = proto.graph.input[0].name
    rows = next(iter(inputs.values()))
    for row in rows:
        assert check(logits, {name: row[None]}).max_abs_error == 0
    found = np.concatenate([interpreter.run(lower(proto), {name: row[None]})["labels_softmax:0"] for row in rows])
    alone = np.concatenate([reference.run(proto, {name: row[None]})["labels_softmax:0"] for row in rows])
    np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-7)
    if len(rows) == 1:
        np.testing.assert_allclose(found, next(iter(outputs.values())), rtol=1e-5, atol=1e-7)


def test_codes_elsewhere_are_refused() -> None:
    """Codes that leave the graph, or a MatMulInteger without scales."""
    quantize = node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    proto = model([quantize], {"x": [1, 4]}, ["q"], out_dtype=onnx.TensorProto.UINT8)
    with pytest.raises(UnsupportedError, match="codes are an output"):
        lower(proto)
    nodes = [quantize, node("MatMulInteger", ["q", "w", "z"], ["i"]), node("Cast", ["i"], ["y"], to=1)]
    proto = model(nodes, {"x": [1, 4]}, ["y"], {"w": np.ones((4, 3), np.int8)})
    with pytest.raises(UnsupportedError, match="Cast and Mul"):
        lower(proto)
