"""Saved networks, run by onnxruntime."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from edgeprop import trainer as t
from tests.trainer.conftest import run_onnx

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")


def run(model, **inputs):
    """The only output."""
    (y,) = run_onnx(model, **inputs).values()
    return y


def test_onnxruntime_gives_what_predict_gives(case):
    net = case.net()
    model = net.to_onnx()
    for n in (1, 5):  # the batch is dynamic
        y = run(model, input=case.x(n))
        np.testing.assert_allclose(y, net.predict(case.x(n)), rtol=1e-5, atol=1e-5)


def test_nodes_and_initializers_carry_layer_names(tmp_path):
    net = t.Sequential(
        t.Conv2D(4, 3, padding=1), t.BatchNorm(), t.ReLU6(), t.Dropout(), t.Flatten(), t.Dense(3, name="head")
    )
    net.build((1, 4, 4))
    model = net.save_onnx(tmp_path / "net.onnx")
    saved = onnx.load(tmp_path / "net.onnx")
    onnx.checker.check_model(saved, full_check=True)
    assert saved.SerializeToString() == model.SerializeToString()
    nodes = {node.name: node.op_type for node in saved.graph.node}
    assert nodes == {
        "conv2d_1": "Conv",
        "batch_norm_1": "BatchNormalization",
        "relu6_1": "Clip",
        "flatten_1": "Flatten",
        "head": "Gemm",
    }
    shapes = {i.name: tuple(i.dims) for i in saved.graph.initializer}
    assert shapes["conv2d_1.weight"] == (4, 1, 3, 3)
    assert shapes["head.weight"] == (3, 64)
    assert shapes["head.bias"] == (3,)
    assert {"batch_norm_1.running_mean", "batch_norm_1.running_var", "relu6_1.min", "relu6_1.max"} < set(shapes)
    assert all(i.data_type == onnx.TensorProto.FLOAT for i in saved.graph.initializer)
    gemm = saved.graph.node[-1]
    assert {a.name: a.i for a in gemm.attribute} == {"transB": 1}
    assert [i.name for i in saved.graph.input] == ["input"]
    assert [o.name for o in saved.graph.output] == ["output"]
    assert saved.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_attributes_follow_the_standards_conventions():
    net = t.Sequential(t.Conv2D(1, (2, 3), stride=(1, 2), padding="same"), t.BatchNorm(momentum=0.2, eps=1e-3))
    net.build((1, 4, 4))
    conv, norm = ({a.name: onnx.helper.get_attribute_value(a) for a in n.attribute} for n in net.to_onnx().graph.node)
    assert conv == {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [0, 0, 1, 1]}  # the odd pixel below and right
    assert norm["momentum"] == pytest.approx(0.8)  # ONNX weighs the past
    assert norm["epsilon"] == pytest.approx(1e-3)


def test_equal_networks_give_equal_bytes(tmp_path):
    for name in "ab":
        net = t.Sequential(t.Dense(4), "tanh", t.Dense(2))
        net.build(3, seed=9)
        net.save_onnx(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_graph_of_several_inputs():
    net = t.Graph(["a", "b"], {"p": (t.Dense(3), "a"), "q": (t.Dense(3), "b"), "r": (t.Multiply(), "p", "q")})
    a, b = np.random.default_rng(0).normal(size=(2, 4, 5)).astype(np.float32)
    y = net.predict(a, b)
    np.testing.assert_allclose(run(net.to_onnx(), a=a, b=b), y, rtol=1e-5, atol=1e-6)


def test_network_without_a_node():
    net = t.Sequential(t.Dropout())
    net.build(3)
    assert run(net.to_onnx(), input=np.eye(3)).tolist() == np.eye(3).tolist()


def test_float64_networks_are_saved_in_float32():
    net = t.Sequential(t.Dense(2)).astype(np.float64)
    x = np.ones((1, 3))
    np.testing.assert_allclose(net.predict(x), run(net.astype(np.float64).to_onnx(), input=x), rtol=1e-6)


def test_without_onnx_the_error_names_the_cure(monkeypatch):
    net = t.Sequential(t.Dense(2))
    with pytest.raises(ValueError, match="build"):
        net.to_onnx()
    net.build(2)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match=r"pip install edgeprop\[export\]"):
        net.to_onnx()
