"""onnxruntime in a process of its own: the same answers, less optimization where it crashes, and an end of everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from edgeprop.export.check import check
from edgeprop.export.graph import apart, reference
from edgeprop.export.quantization.calibrate import CalibrationError, Runner
from tests.support.graphs import model, node, qdq

ALL = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
X = np.float32([[1, -2, 3, 4]])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A server of its own, which a test may break."""
    made = apart._Server()
    monkeypatch.setattr(apart, "_server", made)
    yield made
    made.end()


def branches() -> onnx.ModelProto:
    value = [helper.make_tensor_value_info("r", TensorProto.FLOAT, ["N", 4])]
    then = helper.make_graph([node("Neg", ["x"], ["r"])], "then", [], value)
    other = helper.make_graph([node("Abs", ["x"], ["r"])], "else", [], value)
    return model([node("If", ["c"], ["y"], then_branch=then, else_branch=other)], {"x": ["N", 4]}, ["y"], {"c": False})


def endless() -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(n, t, s) for n, t, s in (("i", 7, []), ("go", 9, []), ("a", 1, [1, 4]))]
    outs = [helper.make_tensor_value_info(n, t, s) for n, t, s in (("on", 9, []), ("b", 1, [1, 4]))]
    body = helper.make_graph([node("Identity", ["go"], ["on"]), node("Add", ["a", "a"], ["b"])], "body", values, outs)
    return model(
        [node("Loop", ["trips", "", "x"], ["y"], body=body)],
        {"x": [1, 4]},
        ["y"],
        {"trips": np.int64(1 << 40)},
        shapes={"y": [1, 4]},
    )


def test_graphs_inside_nodes_run_apart(server: Any) -> None:
    opened = reference.session(branches())
    assert isinstance(opened, apart.Session)
    np.testing.assert_array_equal(opened.run(None, {"x": X})[0], np.abs(X))
    np.testing.assert_array_equal(reference.run(branches(), {"x": X})["y"], np.abs(X))
    assert not isinstance(reference.session(model([node("Relu", ["x"], ["y"])], {"x": [4]}, ["y"])), apart.Session)
    result = check(branches())
    assert result.status == "ok"
    assert "compared with onnxruntime without optimization" in result.notes[0]


def test_no_module_of_the_current_folder_is_run(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("numpy", "json", "onnxruntime"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    assert check(branches()).status == "ok"


def test_a_crash_ends_neither_this_process_nor_the_answers(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """At full optimization it dies, without it lives."""
    dying = apart._SERVE.replace("    key = asked", "    import os\n    asked['level'] and os.abort()\n    key = asked")
    monkeypatch.setattr(apart, "_SERVE", dying)
    opened = apart.Session(branches(), ALL, [], {})
    first = server.process
    np.testing.assert_array_equal(opened.run(["y"], {"x": X})[0], np.abs(X))
    assert server.process is first


def test_a_crash_whatever_the_level_is_an_error(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "_SERVE", "import os\nos.abort()")
    with pytest.raises(apart.Crash, match="it crashed: simplify it"):
        apart.Session(branches(), ALL, [], {})
    assert check(branches()).status == "error"


def test_what_onnxruntime_says_is_handed_on(server: Any) -> None:
    bad = branches()
    bad.graph.node[0].input[0] = "nowhere"
    with pytest.raises(RuntimeError, match="nowhere"):
        apart.Session(bad, ALL, [], {})
    opened = apart.Session(branches(), ALL, [], {})
    with pytest.raises(RuntimeError, match="x"):
        opened.run(None, {"x": X.astype(np.float64)})
    np.testing.assert_array_equal(opened.run(None, {"x": X})[0], np.abs(X))


def test_what_does_not_end_is_ended(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "SECONDS", 2)
    opened = apart.Session(endless(), ort.GraphOptimizationLevel.ORT_DISABLE_ALL, [], {})
    with pytest.raises(apart.Crash, match="more than 2 s"):
        opened.run(None, {"x": X})
    assert server.process is None


def test_calibration_runs_them_apart(server: Any) -> None:
    runner = Runner(branches(), batch_size=2)
    assert isinstance(runner.session, apart.Session)
    samples = np.concatenate([X, -X, 3 * X])
    seen = list(runner.run(runner.check(samples)))
    assert [len(batch["y"]) for batch in seen] == [2, 1]
    np.testing.assert_array_equal(np.concatenate([batch["y"] for batch in seen]), np.abs(samples))
    assert runner.values == ["x", "y"]


def test_a_crash_while_calibrating_is_an_error(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(branches())
    monkeypatch.setattr(apart, "_SERVE", "import os\nos.abort()")
    server.end()
    with pytest.raises(CalibrationError, match="it crashed: simplify it"):
        list(runner.run(runner.check(X)))


def test_quantized_graphs_are_fused_apart(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused as in this process; a crash there is told, and no graph that is not fused stands in."""
    before, constants = qdq("x", 0.1, 3)
    after, more = qdq("s", 0.01, -128)
    both = model([*before, node("Sigmoid", ["x.dq"], ["s"]), *after], {"x": ["N", 4]}, ["s.dq"], constants | more)
    plain = [n.op_type for n in reference.fuse(both).graph.node]
    both.graph.node.extend(branches().graph.node)
    both.graph.initializer.extend(branches().graph.initializer)
    both.graph.output.extend(branches().graph.output)
    fused = [n.op_type for n in reference.fuse(both).graph.node]
    assert server.process is not None
    assert "QLinearSigmoid" in plain
    assert sorted(fused) == sorted([*plain, "Abs"])  # the branch that a constant chooses
    monkeypatch.setattr(apart, "_SERVE", "import os\nos.abort()")
    server.end()
    with pytest.raises(apart.Crash, match="it crashed"):
        reference.fuse(both)


def test_quantized_graphs_keep_their_fusions() -> None:
    """Their codes depend on it: unoptimized is what float graphs are."""
    pair, constants = qdq("x", 0.1, 3)
    assert reference._level_apart(model(pair, {"x": ["N", 4]}, ["x.dq"], constants)) == ALL
    assert reference._level_apart(branches()) == ort.GraphOptimizationLevel.ORT_DISABLE_ALL
