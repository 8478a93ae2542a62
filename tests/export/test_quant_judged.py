"""Whatever the shape of an output and whatever it stands for, what int8 ruins in it is found and said in its own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from sklearn.neural_network import MLPRegressor

from edgeprop import export
from edgeprop.export.quantization import quantize as quantizing
from edgeprop.export.quantization.accuracy import OutputAccuracy, is_better, measure
from edgeprop.export.quantization.features import is_scaled
from tests.support.graphs import model, node

Array = np.ndarray[Any, np.dtype[Any]]


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def graph_of(nodes: list[onnx.NodeProto], shape: tuple[int, ...], constants: dict[str, Any], *outputs: str) -> Any:
    made = model(nodes, {"x": ["n", *shape]}, outputs or ["y"], constants)
    return onnx.shape_inference.infer_shapes(made)


def dense(columns: int, small: int = 0) -> onnx.ModelProto:
    """A layer, some of whose columns are a thousand times smaller than the others."""
    w = weights(6, columns)
    w[:, 1 : 1 + small] /= 1000
    return graph_of([node("Gemm", ["x", "w"], ["y"])], (6,), {"w": w})


def channels(kind: str, small: bool = True, count: int = 8) -> tuple[onnx.ModelProto, Array]:
    """An output of more than two axes, whose channel 3 is a thousand times smaller than the others."""
    factor = np.ones(count, np.float32)
    factor[3:4] = 1e-3 if small else 1
    if kind == "(n, t, c)":
        nodes, shape, w = [node("MatMul", ["x", "w"], ["y"])], (5, 6), weights(6, count) * factor
    else:
        taps = [3] if kind in ("(n, c, t)", "(n, t, c) moved") else [3, 3]
        shape, w = (6, *[7] * len(taps)), weights(count, 6, *taps) * factor.reshape(-1, *[1] * (1 + len(taps)))
        moved = {"(n, t, c) moved": [0, 2, 1], "(n, h, w, c)": [0, 2, 3, 1]}.get(kind)
        nodes = [node("Conv", ["x", "w"], ["c" if moved else "y"])]
        nodes += [node("Transpose", ["c"], ["y"], perm=moved)] if moved else []
    return graph_of(nodes, shape, {"w": w}), weights(100, *shape, seed=1)


# ---- Columns and channels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["(n, t, c)", "(n, c, t)", "(n, t, c) moved", "(n, c, h, w)", "(n, h, w, c)"])
def test_a_channel_does_not_hide_behind_the_others(kind: str, tmp_path: Path) -> None:
    graph, x = channels(kind)
    exported = export.save(tmp_path / "m", graph, x)
    found = exported.accuracy["y"]
    assert found.snr_db > 30
    assert found.worst_column == 3
    assert len(found.columns_db) == 8
    assert "column 3 at" in exported.ruined[0]
    graph, x = channels(kind, small=False)
    exported = export.save(tmp_path / "m", graph, x)
    assert exported.ruined == []
    assert min(exported.accuracy["y"].columns_db) > 25


@pytest.mark.parametrize("kind", ["table", "(n, t, c)", "(n, c, h, w)"])
def test_of_many_columns_a_tenth_is_told_and_the_worst_is_named(kind: str, tmp_path: Path) -> None:
    for small, told in ((2, False), (5, True)):
        factor = np.ones(40, np.float32)
        factor[[7, 9, 11, 13, 15][:small]] = 8e-3
        factor[7] = 2e-3
        if kind == "table":
            graph = graph_of([node("Gemm", ["x", "w"], ["y"])], (6,), {"w": weights(6, 40) * factor})
            x = weights(100, 6, seed=1)
        else:
            graph, x = channels(kind, small=False, count=40)
            w = onnx.numpy_helper.to_array(graph.graph.initializer[0])
            w = w * (factor if kind == "(n, t, c)" else factor.reshape(-1, 1, 1, 1))
            graph.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(w.astype(np.float32), "w"))
        exported = export.save(tmp_path / "m", graph, x)
        found = exported.accuracy["y"]
        assert found.snr_db > 30
        assert found.columns_db == ()
        assert found.worst_column == 7
        assert found.worst_column_db < 5
        assert (found.columns_tenth_db < 10) == told
        assert bool(exported.ruined) == told
        assert "column 7 the worst at" in str(exported)
        assert not told or "a tenth of its columns is at" in exported.ruined[0]
        assert (found.quality() < 10) == told


def test_very_many_columns_cost_little(tmp_path: Path) -> None:
    found = measure(dense(20_000), dense(20_000, small=5000), {"x": weights(64, 6)})["y"]
    assert found.columns_db == ()
    assert len(str(found)) < 200
    assert len(repr(found)) < 500


def test_columns_that_do_not_vary_are_not_judged() -> None:
    exact, off = dense(40), dense(40)
    for graph in (exact, off):
        w = onnx.numpy_helper.to_array(graph.graph.initializer[0]).copy()
        w[:, ::2] = 0
        if graph is off:
            w[:, 1::2] *= 1.01
        graph.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(w, "w"))
    found = measure(exact, off, {"x": weights(64, 6)})["y"]
    assert abs(found.columns_tenth_db - 40) < 1
    assert found.worst_column is not None
    assert found.worst_column % 2 == 1


# ---- Classes, where there are any ------------------------------------------------------------------------------------


def autoencoder(end: str, shape: tuple[int, ...] = (16,)) -> onnx.ModelProto:
    if len(shape) == 1:
        constants = {"w": weights(*shape, 4), "v": weights(4, *shape, seed=1)}
        nodes = [node("Gemm", ["x", "w"], ["h"]), node("Relu", ["h"], ["r"]), node("Gemm", ["r", "v"], ["o"])]
    else:
        constants = {"w": weights(4, shape[0], 3, 3), "v": weights(shape[0], 4, 3, 3, seed=1)}
        nodes = [
            node("Conv", ["x", "w"], ["h"], pads=[1] * 4), node("Relu", ["h"], ["r"]),
            node("Conv", ["r", "v"], ["o"], pads=[1] * 4),
        ]  # fmt: skip
    return graph_of(
        [*nodes, node(end, ["o"], ["y"])] if end else [*nodes, node("Identity", ["o"], ["y"])], shape, constants
    )


@pytest.mark.parametrize("shape", [(16,), (2, 6, 6)])
@pytest.mark.parametrize("end", ["", "Sigmoid", "Tanh", "Relu"])
def test_an_autoencoder_has_no_classes(end: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    exported = export.save(tmp_path / "m", autoencoder(end, shape), weights(60, *shape, seed=2))
    assert exported.accuracy["y"].agreement is None
    assert not exported.accuracy["y"].classes
    assert "class" not in str(exported)
    assert "class" not in exported.paths["markdown"].read_text()
    labels = export.save(tmp_path / "m", autoencoder(end), weights(60, 16, seed=2), labels=range(16))
    assert labels.accuracy["y"].classes
    assert "keep their class" in str(labels)


def test_a_regression_of_many_numbers_has_no_classes(tmp_path: Path) -> None:
    x = weights(200, 6)
    fitted = MLPRegressor(hidden_layer_sizes=(8,), max_iter=20, random_state=0).fit(x, x @ weights(6, 10, seed=3))
    for graph, more in ((fitted, {}), (dense(10), {"loss": "mse"})):
        exported = export.save(tmp_path / "m", graph, x, **more)
        (found,) = exported.accuracy.values()
        assert (found.agreement, found.classes) == (None, False)
        assert "class" not in str(exported)
        assert len(found.columns_db) == 10
        assert f"column {found.worst_column} the worst at" in str(exported)
    unknown = export.save(tmp_path / "m", dense(10), x)
    assert "class" not in str(unknown)
    assert "column" in str(unknown)


def test_numbers_at_little_noise_are_not_told_as_classes(tmp_path: Path) -> None:
    noisy = OutputAccuracy(15.0, 12.0, (14.0, 13.0), 0.9)
    assert noisy.faults() == ["if these are scores, 10% of the samples get another class (15.0 dB)"]
    assert "class" not in str(noisy)
    assert OutputAccuracy(15.0, 12.0, (14.0, 13.0)).faults() == []


def test_what_the_model_says_of_its_classes_counts() -> None:
    for key, value in (("loss", "softmax_cross_entropy"), ("labels", '["a", "b", "c"]'), ("loss", "hinge")):
        graph = dense(3)
        onnx.helper.set_model_props(graph, {f"edgeprop.{key}": value})
        assert measure(graph, graph, {"x": weights(20, 6)})["y"].classes
    graph = dense(3)
    onnx.helper.set_model_props(graph, {"edgeprop.loss": "mse"})
    assert measure(graph, graph, {"x": weights(20, 6)})["y"].agreement is None
    assert measure(graph, graph, {"x": weights(20, 6)}, labels=["a", "b", "c"])["y"].classes


def test_labels_are_of_the_output_that_has_as_many_columns(tmp_path: Path) -> None:
    constants = {"w": weights(6, 8), "v": weights(8, 3, seed=1)}
    graph = graph_of([node("Gemm", ["x", "w"], ["e"]), node("Gemm", ["e", "v"], ["y"])], (6,), constants, "e", "y")
    found = measure(graph, graph, {"x": weights(20, 6)}, labels=["a", "b", "c"])
    assert {name: output.classes for name, output in found.items()} == {"e": False, "y": True}


def test_classes_of_every_step_are_along_the_channels() -> None:
    """Scores (n, classes, steps) of a convolution: step and class must not be mixed up."""
    exact, x = channels("(n, c, t)", small=False, count=3)
    off, _ = channels("(n, c, t)", small=False, count=3)
    w = onnx.numpy_helper.to_array(off.graph.initializer[0]) * np.array([1, 3, 1], np.float32).reshape(3, 1, 1)
    off.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(w, "w"))
    found = measure(exact, off, {"x": x}, loss="softmax_cross_entropy")["y"]
    one, other = (
        np.einsum("nctk,ock->not", np.lib.stride_tricks.sliding_window_view(x, 3, 2), onnx.numpy_helper.to_array(
            graph.graph.initializer[0])).argmax(1) for graph in (exact, off))  # fmt: skip
    assert found.agreement is not None
    assert abs(found.agreement - (one == other).mean()) < 0.01


# ---- Better, on the whole --------------------------------------------------------------------------------------------


def accuracy(db: float, agreement: float | None = None, classes: bool = False) -> dict[str, OutputAccuracy]:
    return {"y": OutputAccuracy(db, db, (), agreement, classes)}


def test_better_is_what_makes_nothing_worse() -> None:
    assert is_better(accuracy(30), accuracy(5), 3)
    assert not is_better(accuracy(7), accuracy(5), 3)
    assert is_better(accuracy(11), accuracy(9.5), 3)  # heals
    assert is_better(accuracy(30, 0.99, True), accuracy(12, 0.97, True), 3)
    assert not is_better(accuracy(30, 0.985, True), accuracy(12, 0.99, True), 3)
    assert not is_better(accuracy(30, 0.90), accuracy(12, 0.95), 3)
    assert is_better(accuracy(30, 0.985), accuracy(5, 0.99), 3)  # which may be no scores, and keep their places
    two = {**accuracy(5), "z": OutputAccuracy(25, 25)}
    assert is_better({**accuracy(30), "z": OutputAccuracy(20, 20)}, two, 3)
    assert not is_better({**accuracy(30), "z": OutputAccuracy(9, 9)}, two, 3)


def test_scaled_features_that_cost_classes_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    units = np.array([1e-3, 1, 1e3, 1e5, 1, 1], np.float32)
    nodes, constants = [node("Gemm", ["x", "w"], ["y"])], {"w": (weights(6, 3).T / units).T.astype(np.float32)}
    graph, x = graph_of(nodes, (6,), constants), (weights(100, 6, seed=1) * units).astype(np.float32)
    assert is_scaled(quantizing.quantize(graph, x, labels=list("abc")))

    def fewer(*given: Any) -> Any:
        found = measure(*given)
        if not is_scaled(given[1]):
            return found
        return {name: OutputAccuracy(o.snr_db, o.worst_tenth_db, (), 0.1, True) for name, o in found.items()}

    monkeypatch.setattr(quantizing.accuracy, "measure", fewer)
    assert not is_scaled(quantizing.quantize(graph, x, labels=list("abc")))
