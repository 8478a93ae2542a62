"""Every cure that is printed is applied, as it is printed, to the net that it was printed for: the answers recover."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprop import export
from edgeprop.export import cli
from edgeprop.export.quantization import cures
from tests.support.graphs import model, node

Array = np.ndarray[Any, np.dtype[Any]]
UNITS = np.array([1e-3, 1, 1e3, 1e5, 1, 1], np.float32)


def weights(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def graph_of(nodes: list[onnx.NodeProto], constants: dict[str, Array]) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(model(nodes, {"x": ["n", 6]}, ["y"], constants))


def sensors() -> tuple[onnx.ModelProto, Array]:
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], name="first"), node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "v"], ["y"], name="last"),
    ]  # fmt: skip
    constants = {"w": (weights(6, 8).T / UNITS).T, "b": weights(8, seed=2), "v": weights(8, 3, seed=1)}
    return graph_of(nodes, constants), (weights(200, 6, seed=3) * UNITS).astype(np.float32)


def small_columns() -> tuple[onnx.ModelProto, Array]:
    """Whose last layer drowns some of its columns."""
    v = weights(8, 4, seed=1) * np.array([1, 1e-4, 1, 1e-3], np.float32)
    nodes = [
        node("Gemm", ["x", "w"], ["h"], name="first"), node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "v"], ["y"], name="the last"),
    ]  # fmt: skip
    return graph_of(nodes, {"w": weights(6, 8), "v": v}), weights(200, 6, seed=3)


def far_value() -> tuple[onnx.ModelProto, Array]:
    x = weights(2000, 6)
    x[17, 0] = 30
    return graph_of([node("Gemm", ["x", "w"], ["t"]), node("Softmax", ["t"], ["y"])], {"w": weights(6, 3)}), x


def large_sample() -> tuple[onnx.ModelProto, Array]:
    graph, x = graph_of([node("Gemm", ["x", "w"], ["y"])], {"w": weights(6, 3)}), weights(400, 6)
    x[17] *= 1e4
    return graph, x


def applied(words: str, x: Array) -> tuple[Array, dict[str, Any]]:
    """The samples and options that a printed cure asks for."""
    if found := re.search(r"\(number ([\d, ]+)\): leave them out", words):
        return np.delete(x, list(map(int, found[1].split(","))), 0), {}
    found = re.search(r"(keep_float|method|scale_inputs|io|quantized)=(\[.*?\]|'.*?'|False)", words)
    assert found, words
    return x, {found[1]: ast.literal_eval(found[2])}


CASES = [
    (sensors, {"scale_inputs": "never"}, "keep_float=['first']"),
    (sensors, {"io": "int8"}, "io='float'"),
    (small_columns, {}, "keep_float=['the last'], --float 'the last'"),
    (far_value, {}, "method="),
    (large_sample, {}, "(number 17): leave them out"),
]


@pytest.mark.parametrize(("made", "options", "said"), CASES)
def test_the_cure_that_is_printed_heals(made: Any, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    graph, x = made()
    ruined = export.save(tmp_path / "m", graph, x, **options)
    first = str(ruined).splitlines()[0]
    assert "int8 changes the answers" in first
    words = first.partition("cure: ")[2]
    assert said in words
    samples, more = applied(words, x)
    healed = export.save(tmp_path / "m", graph, samples, **{**options, **more})
    assert healed.ruined == []
    assert "cure: " not in str(healed)


def test_a_layer_whose_name_begins_with_a_dash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It would be an option of its own; the words are given to a shell as they are printed."""
    graph, x = small_columns()
    graph.graph.node[2].name = "-last"
    words = export.save(tmp_path / "m", graph, x).ruined[0].partition("cure: ")[2]
    onnx.save(graph, tmp_path / "g.onnx")
    np.savez(tmp_path / "x.npz", x=x)
    given = [str(tmp_path / "g.onnx"), "--calibration", str(tmp_path / "x.npz"), "-o", str(tmp_path / "o")]
    printed = re.search(r"\], (.*)\)$", words)
    assert printed, words
    assert cli.main(["export", *given, *shlex.split(printed[1])]) == 0
    assert "int8 changes" not in capsys.readouterr().out


def test_all_in_float_is_the_last_resort_and_heals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = graph_of([node("Gemm", ["x", "w"], ["y"])], {"w": weights(6, 4) * np.float32([1, 1e-4, 1, 1])})
    x = weights(200, 6)
    words = export.save(tmp_path / "m", graph, x).ruined[0].partition("cure: ")[2]
    assert words == "leave all of it in float32 (quantized=False, --float)"
    assert export.save(tmp_path / "m", graph, x, quantized=False).ruined == []
    onnx.save(graph, tmp_path / "g.onnx")
    np.savez(tmp_path / "x.npz", x=x)
    given = [str(tmp_path / "g.onnx"), "--calibration", str(tmp_path / "x.npz"), "-o", str(tmp_path / "o")]
    assert cli.main(["export", *given, "--float"]) == 0
    assert "int8 changes" not in capsys.readouterr().out


def test_the_cure_stands_in_the_first_line_though_several_outputs_are_ruined(tmp_path: Path) -> None:
    graph, x = sensors()
    graph.graph.node.append(node("Neg", ["y"], ["z"]))
    graph.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", 3]))
    exported = export.save(tmp_path / "m", graph, x, scale_inputs="never")
    assert len(exported.ruined) == 2
    assert "cure: " in str(exported).splitlines()[0]


def test_trials_are_few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On some of the samples, and at most two on all, however many layers there are."""
    nodes, constants, value = [], {"v": weights(8, 4) * np.float32([1, 1e-4, 1e-4, 1])}, "x"
    for i in range(20):
        constants[f"w{i}"] = weights(6 if i == 0 else 8, 8, seed=i)
        nodes += [node("Gemm", [value, f"w{i}"], [f"h{i}"]), node("Tanh", [f"h{i}"], [f"t{i}"])]
        value = f"t{i}"
    nodes += [node("Gemm", [value, "v"], ["z"]), node("Neg", ["z"], ["y"])]
    seen: list[int] = []
    measure = cures.measure

    def counted(*given: Any) -> Any:
        seen.append(len(given[2]["x"]))
        return measure(*given)

    monkeypatch.setattr(cures, "measure", counted)
    assert export.save(tmp_path / "m", graph_of(nodes, constants), weights(500, 6)).ruined
    assert 1 < len(seen) <= 12
    assert sum(count == 500 for count in seen) <= cures.MOST_CONFIRMED + 1
    assert all(count < 80 for count in seen if count != 500)
