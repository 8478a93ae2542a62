"""Normalizations as exporters write them, lowered, against onnxruntime; training them on the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from edgeprop.export.check import check
from edgeprop.export.lower import UnsupportedError, lower
from tests.support import interpreter
from tests.support.graphs import model, node


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def same(proto: onnx.ModelProto, kinds: list[str]) -> None:
    """Equal to onnxruntime in the interpreter and on the device, of these ops."""
    assert [op.kind for op in lower(proto).ops] == kinds
    for device in ({"device": interpreter.device}, {}):
        result = check(proto, None, **device)
        assert result.status == "ok", str(result)
        assert not [layer for layer in result.layers if layer.mismatches], result.layers


@pytest.mark.parametrize("axis", [-1, 1, 2, -2])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_normalization(axis: int, bias: bool) -> None:
    """Over any last axes, in whatever order they lie."""
    shape = (3, 4, 5)[axis - 1 if axis > 0 else axis :]
    constants = {"s": normal(*shape), "b": normal(*shape, seed=1)}
    inputs = ["x", "s", "b"] if bias else ["x", "s"]
    last = node("LayerNormalization", inputs, ["y"], axis=axis, epsilon=1e-3)
    same(model([last], {"x": ["N", 3, 4, 5]}, ["y"], constants), ["group_norm_f32"])


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization_behind_convolution(axis: int) -> None:
    """All of an image: its scale and bias follow the device's order; the last axis alone takes a transpose."""
    shape = (4, 3, 5) if axis == 1 else (5,)
    constants = {"w": normal(4, 2, 3, 3), "s": normal(*shape), "b": normal(*shape, seed=1)}
    nodes = [node("Conv", ["x", "w"], ["c"]), node("LayerNormalization", ["c", "s", "b"], ["y"], axis=axis)]
    kinds = ["conv2d_f32", "group_norm_f32"] if axis == 1 else ["conv2d_f32", "transpose", "group_norm_f32"]
    same(model(nodes, {"x": ["N", 2, 5, 7]}, ["y"], constants), kinds)


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_group_normalization(opset: int, groups: int) -> None:
    """Scale and bias per group or per channel. onnxruntime runs it as a function."""
    size = groups if opset == 18 else 6
    constants = {"w": normal(6, 2, 1, 1), "s": normal(size), "b": normal(size, seed=1)}
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("GroupNormalization", ["c", "s", "b"], ["g"], num_groups=groups),
        node("Relu", ["g"], ["y"]),
    ]
    same(model(nodes, {"x": ["N", 2, 4, 5]}, ["y"], constants, opset=opset), ["conv2d_f32", "group_norm_f32"])


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 7)])
def test_instance_normalization(shape: tuple[int, ...]) -> None:
    constants = {"s": normal(3), "b": normal(3, seed=1)}
    proto = model([node("InstanceNormalization", ["x", "s", "b"], ["y"])], {"x": ["N", *shape]}, ["y"], constants)
    same(proto, ["group_norm_f32"])


def torch_group_norm() -> onnx.ModelProto:
    """As PyTorch writes GroupNorm(2, 6): reshaped, instance-normalized, reshaped back, scaled and shifted."""
    constants = {
        "w": normal(6, 2, 3, 3),
        "to": np.array([0, 2, -1]),
        "back": np.array([0, 6, 4, 5]),
        "ones": np.ones(2, np.float32),
        "zeros": np.zeros(2, np.float32),
        "norm.weight": normal(6, 1, 1),
        "norm.bias": normal(6, 1, 1, seed=1),
    }
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Reshape", ["c", "to"], ["r"]),
        node("InstanceNormalization", ["r", "ones", "zeros"], ["i"]),
        node("Reshape", ["i", "back"], ["n"]),
        node("Mul", ["n", "norm.weight"], ["m"]),
        node("Add", ["m", "norm.bias"], ["y"]),
    ]
    return model(nodes, {"x": ["N", 2, 4, 5]}, ["y"], constants)


def test_torch_group_norm() -> None:
    """Nothing is moved, and scale and bias go into the op; under their own name they train."""
    proto = torch_group_norm()
    same(proto, ["conv2d_f32", "group_norm_f32"])
    assert [t.shape for t in lower(proto, trainable="norm", loss="mse").trainable()] == [(6,), (6,)]


def test_a_norm_without_a_bias_trains_its_scale() -> None:
    nodes = [node("LayerNormalization", ["x", "norm.scale"], ["y"], name="norm")]
    proto = model(nodes, {"x": ["N", 6]}, ["y"], {"norm.scale": np.ones(6, np.float32)}, opset=17)
    assert [t.name for t in lower(proto, trainable="norm", loss="mse").trainable()] == ["norm.scale"]


def spelled_out(square: str, divide: str, affine: bool, axes: list[int], center: bool, opset: int) -> onnx.ModelProto:
    """A layer norm of single nodes."""
    constants: dict[str, Any] = {"two": np.float32(2), "eps": np.float32(1e-3), "axes": np.array(axes)}
    constants |= {"gamma": normal(5), "beta": normal(5, seed=1)}

    def mean(x: str, y: str) -> onnx.NodeProto:
        return node("ReduceMean", [x, "axes"], [y]) if opset >= 18 else node("ReduceMean", [x], [y], axes=axes)

    start = [mean("x", "m"), node("Sub", ["x", "m"], ["d"])] if center else []
    d = "d" if center else "x"
    nodes = [
        *start,
        node("Pow", [d, "two"], ["q"]) if square == "Pow" else node("Mul", [d, d], ["q"]),
        mean("q", "v"),
        node("Add", ["v", "eps"], ["e"]),
        node("Sqrt", ["e"], ["s"]),
    ]
    nodes += [node("Div", [d, "s"], ["n"])] if divide == "Div" else []
    nodes += [node("Reciprocal", ["s"], ["r"]), node("Mul", [d, "r"], ["n"])] if divide == "Reciprocal" else []
    nodes += [node("Mul", ["n", "gamma"], ["g"]), node("Add", ["g", "beta"], ["y"])] if affine else []
    return model(nodes, {"x": ["N", 3, 5]}, ["y" if affine else "n"], constants, opset=opset)


@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("divide", ["Div", "Reciprocal"])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("opset", [13, 18])
def test_spelled_out(square: str, divide: str, affine: bool, center: bool, opset: int) -> None:
    """One op, whatever the exporter's taste."""
    same(spelled_out(square, divide, affine, [-1], center, opset), ["group_norm_f32"])


def test_spelled_out_over_channels() -> None:
    """Channels-first layer norm behind a convolution: channels are the last axis on the device."""
    constants = {"w": normal(4, 2, 1, 1), "two": np.float32(2), "eps": np.float32(1e-6), "g": normal(4, 1, 1)}
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("ReduceMean", ["c"], ["m"], axes=[1]),
        node("Sub", ["c", "m"], ["d"]),
        node("Pow", ["d", "two"], ["q"]),
        node("ReduceMean", ["q"], ["v"], axes=[1]),
        node("Add", ["v", "eps"], ["e"]),
        node("Sqrt", ["e"], ["s"]),
        node("Div", ["d", "s"], ["n"]),
        node("Mul", ["n", "g"], ["y"]),
    ]
    same(model(nodes, {"x": ["N", 2, 4, 5]}, ["y"], constants), ["conv2d_f32", "group_norm_f32"])


def test_what_only_looks_like_a_norm() -> None:
    """Means over different axes: what is left is the root of a mean square, of a difference."""
    proto = spelled_out("Pow", "Div", False, [-1], True, 13)
    proto.graph.node[0].attribute[0].ints[0] = 1
    norms = [op for op in lower(proto).ops if op.kind == "group_norm_f32"]
    assert [op.attrs["center"] for op in norms] == [0]
    assert check(proto).status == "ok"


@pytest.mark.parametrize("axes", [[2], [2, 3], [1, 2, 3], [1]])
@pytest.mark.parametrize("behind", [True, False])
def test_mean_variance_normalization(axes: list[int], behind: bool) -> None:
    nodes = [node("Conv", ["x", "w"], ["c"])] if behind else []
    nodes += [node("MeanVarianceNormalization", ["c" if behind else "x"], ["y"], axes=axes)]
    proto = model(nodes, {"x": ["N", 2, 4, 5]}, ["y"], {"w": normal(3, 2, 2, 2)})
    result = check(proto)
    assert result.status == "ok", str(result)


@pytest.mark.parametrize("axis", [-1, 1])
def test_lp_normalization(axis: int) -> None:
    proto = model([node("LpNormalization", ["x"], ["y"], axis=axis)], {"x": ["N", 4, 5]}, ["y"])
    result = check(proto)
    assert result.status == "ok", str(result)


def test_refused() -> None:
    """Over the batch; scales that do not fit; a BatchNorm in training mode."""
    cases = {
        "batch axis": [node("MeanVarianceNormalization", ["x"], ["y"])],
        "broadcast": [node("LayerNormalization", ["x", "s"], ["y"])],
        "training mode": [node("BatchNormalization", ["x", "t", "t", "t", "t"], ["y", "a", "b"], training_mode=1)],
    }
    constants = {"s": normal(7), "t": np.ones(3, np.float32)}
    for words, nodes in cases.items():
        with pytest.raises(UnsupportedError, match=words):
            lower(model(nodes, {"x": ["N", 3, 4, 5]}, ["y"], constants))
