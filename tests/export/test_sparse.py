"""Dense layers of few weights: when they are stored sparsely, what that costs, and that learning keeps their zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import edgeprop
from edgeprop import trainer as t
from edgeprop.export import save
from edgeprop.export.check import check
from edgeprop.export.lower import lower
from edgeprop.export.program.plan import plan
from edgeprop.export.program.traits import TRAITS
from edgeprop.export.writers.header import to_header
from edgeprop.export.writers.image import to_image
from tests.support import interpreter
from tests.support.compiler import HERE, image_driver, program, run
from tests.support.graphs import model, node


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def net(density: float, norm: bool = True) -> onnx.ModelProto:
    """Two dense layers, the first with few weights, a layer norm between them."""
    rng = np.random.default_rng(1)
    first = normal(20, 30) * (rng.random((20, 30)) < density)
    constants = {"a.weight": first, "a.bias": normal(20), "b.weight": normal(4, 20), "b.bias": normal(4)}
    constants |= {"n.weight": normal(20, seed=2), "n.bias": normal(20, seed=3)}
    nodes = [
        node("Gemm", ["x", "a.weight", "a.bias"], ["h"], transB=1, name="a"),
        node("LayerNormalization", ["h", "n.weight", "n.bias"], ["i"], name="n")
        if norm
        else node("Tanh", ["h"], ["i"], name="n"),
        node("Relu", ["i"], ["r"]),
        node("Gemm", ["r", "b.weight", "b.bias"], ["l"], transB=1, name="b"),
        node("Softmax", ["l"], ["y"]),
    ]
    return model(nodes, {"x": ["N", 30]}, ["y"], constants)


def kinds(proto: onnx.ModelProto, **options: Any) -> list[str]:
    return [op.kind for op in lower(proto, **options).ops]


def test_chosen_where_it_pays() -> None:
    """Up to a quarter of the weights, and not where zeros may have to learn, unless asked for."""
    sparse = ["sparse_dense_f32", "tanh_f32", "clip_f32", "dense_f32", "softmax_f32"]
    dense = ["dense_f32", *sparse[1:]]
    assert kinds(net(0.2, norm=False)) == sparse
    assert kinds(net(0.4, norm=False)) == dense
    assert kinds(net(0.0, norm=False)) == dense
    assert kinds(net(0.4, norm=False), sparse="always") == sparse
    assert kinds(net(0.2, norm=False), sparse="never") == dense
    assert kinds(net(0.2, norm=False), trainable="a") == dense
    assert kinds(net(0.2, norm=False), trainable="a", sparse="always") == sparse
    with pytest.raises(ValueError, match="auto, never, always"):
        lower(net(0.2), sparse="sometimes")


@pytest.mark.parametrize("density", [0.01, 0.1, 0.25])
def test_equals_onnxruntime(density: float) -> None:
    proto = net(density)
    for device in ({"device": interpreter.device}, {}):
        assert check(proto, None, **device).status == "ok"


def test_costs_follow_what_is_stored() -> None:
    """Multiplications and bytes are those of the non-zero weights."""
    for density in (0.05, 0.2):
        proto = net(density)
        weight = next(t for t in proto.graph.initializer if t.name == "a.weight")
        stored = int(np.count_nonzero(onnx.numpy_helper.to_array(weight)))
        found = lower(proto)
        op = found.ops[0]
        assert TRAITS[op.kind].macs(op.attrs) == stored
        constants = [found.tensors[name] for name in op.inputs[1:]]
        assert sum(tensor.nbytes for tensor in constants) == 6 * stored + 4 * 20 + 4 * 21


def learner(proto: onnx.ModelProto, **options: Any) -> edgeprop.Model:
    found = lower(proto, loss="softmax_cross_entropy", **options)
    plan(found)
    return edgeprop.Model(to_image(found))


def test_zeros_stay_zero() -> None:
    """A trainable sparse layer moves as the dense one does where it has weights, and nowhere else; after many steps too."""
    proto = net(0.2)
    options: dict[str, Any] = {"trainable": ["a", "b", "n"]}
    sparse, dense = learner(proto, sparse="always", **options), learner(proto, sparse="never", **options)
    x, y = normal(40, 30), np.arange(40) % 4
    there = dense.parameters()["a.weight"] != 0
    sparse.partial_fit(x[:1], y[:1], lr=0.1)
    dense.partial_fit(x[:1], y[:1], lr=0.1)
    np.testing.assert_allclose(
        sparse.parameters()["a.weight"], dense.parameters()["a.weight"][there], rtol=1e-5, atol=1e-6
    )
    assert np.any(dense.parameters()["a.weight"][~there] != 0)
    for optimizer in ("sgd", "adam"):
        sparse.partial_fit(x, y, lr=0.02, optimizer=optimizer, epochs=20)
        assert sparse.loss_curve_[-1] < sparse.loss_curve_[0]
    assert sparse.parameters()["a.weight"].shape == (there.sum(),)


def loss_of(parameters: dict[str, Any], x: Any, y: int, there: Any) -> float:
    """In float64, with a step's weights."""
    p = {name: value.astype(np.float64) for name, value in parameters.items()}
    weight = np.zeros(there.shape)
    weight[there] = p["a.weight"]
    h = weight @ x + p["a.bias"]
    z = (h - h.mean()) / np.sqrt(h.var() + 1e-5)
    logits = p["b.weight"] @ np.maximum(z * p["n.weight"] + p["n.bias"], 0) + p["b.bias"]
    return float(np.log(np.exp(logits - logits[y]).sum()))


def test_step_is_the_gradient() -> None:
    """One step of SGD through sparse layer, norm and head, against finite differences."""
    proto = net(0.2)
    weight = next(t for t in proto.graph.initializer if t.name == "a.weight")
    there = onnx.numpy_helper.to_array(weight) != 0
    found = learner(proto, trainable=["a", "b", "n"], sparse="always")
    before = found.parameters()
    x = normal(30, seed=9)
    found.partial_fit(x[None], [2], lr=1e-2)
    assert found.loss_ == pytest.approx(loss_of(before, x, 2, there), rel=1e-5)
    for name, value in before.items():
        change = (found.parameters()[name].astype(np.float64) - value) / -1e-2
        numeric = np.zeros(value.shape)
        for at in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = {key: v.astype(np.float64) for key, v in before.items()}
                moved[name][at] += sign * 1e-6
                ends.append(loss_of(moved, x, 2, there))
            numeric[at] = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(change, numeric, atol=3e-5 * max(1, np.abs(numeric).max()), err_msg=name)


def test_header_and_image_give_the_same_bits(tmp_path: Path) -> None:
    """The generated C, which names what is stored, learns as the image does."""
    found = lower(net(0.2), name="sparse", trainable=["a", "b", "n"], loss="softmax_cross_entropy", sparse="always")
    plan(found)
    text = to_header(found)
    assert "columns" in text
    (tmp_path / "model.h").write_text(text)
    (tmp_path / "model.ep").write_bytes(to_image(found))
    defines = ('-DHEADER="model.h"', "-DMODEL=sparse", "-DSPARSE_IMPLEMENTATION")
    built = program(HERE / "drive.c", tmp_path / "drive", *defines, include=tmp_path)
    assert run([built, "1", "3"]) == run([image_driver(), "1", "3", tmp_path / "model.ep"])


def test_save_takes_the_choice(tmp_path: Path) -> None:
    result = save(tmp_path / "m", net(0.4), sparse="always")
    assert result.program.ops[0].kind == "sparse_dense_f32"
    assert r"sparse\_dense\_f32" in (tmp_path / "m.report.md").read_text()


# ---- BatchNorm that trains -------------------------------------------------------------------------------------------


def test_batch_norm_that_trains_stays() -> None:
    """Behind a frozen convolution its scale and shift are weights of their own; the frozen one folds."""
    constants = {"w": normal(3, 2, 3, 3), "s": normal(3), "b": normal(3, seed=1), "m": normal(3, seed=2)}
    constants |= {"v": np.abs(normal(3, seed=3)) + 0.1, "fc.weight": normal(4, 27)}
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv"),
        node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"], name="bn"),
        node("Relu", ["n"], ["r"]),
        node("Flatten", ["r"], ["f"]),
        node("Gemm", ["f", "fc.weight"], ["l"], transB=1, name="fc"),
        node("Softmax", ["l"], ["y"]),
    ]
    proto = model(nodes, {"x": ["N", 2, 5, 5]}, ["y"], constants)
    assert kinds(proto) == ["conv2d_f32", "dense_f32", "softmax_f32"]
    assert kinds(proto, trainable="bn") == ["conv2d_f32", "affine_f32", "dense_f32", "softmax_f32"]
    assert check(proto).status == "ok"
    found = learner(proto, trainable="bn")
    assert list(found.parameters()) == ["bn.scale", "bn.offset"]
    before = found.parameters()
    np.testing.assert_allclose(before["bn.scale"], constants["s"] / np.sqrt(constants["v"] + 1e-5), rtol=1e-6)
    x, y = normal(20, 2, 5, 5), np.arange(20) % 4
    found.partial_fit(x, y, lr=0.01, epochs=20)
    assert found.loss_curve_[-1] < found.loss_curve_[0]
    assert all(np.all(value != before[name]) for name, value in found.parameters().items())


def test_sparse_that_finds_nothing_is_told(tmp_path: Path) -> None:
    dense, holes = (t.Sequential(t.Dense(3, name="head")) for _ in range(2))
    for made in (dense, holes):
        made.build((4,), seed=0)
    holes.parameters()[0].value[0, 0] = 0
    said = "sparse='always' (--sparse always) had no effect: no float32 dense layer has zeros among its weights"
    assert said in save(tmp_path / "dense", dense, sparse="always").notes
    assert said not in save(tmp_path / "dense", dense).notes
    assert said not in save(tmp_path / "holes", holes, sparse="always").notes
