"""Recurrent networks as others write them: PyTorch's two exporters, layout 0 and 1, fixed and varying axes."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from edgeprop import Model
from edgeprop.export.check import check
from edgeprop.export.image import to_image
from edgeprop.export.lower import UnsupportedError, lower
from tests.support.graphs import model, node

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
#: which axis may vary
FIXED, BATCH, STEPS = "fixed", "batch", "steps"
pytestmark = pytest.mark.filterwarnings("ignore")


def exported(cell: Any, answer: str, batch: int, vary: str, dynamo: bool, states: bool = False) -> onnx.ModelProto:
    """A torch.nn cell over 5 steps of 3, and what is made of its outputs, as PyTorch writes it.

    answer : "y", "ends" (all outputs), "last" (a dense layer on the last step), "end" (on the last layer's h),
        "every" (on each step)
    """
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = cell
            width = cell.hidden_size * (1 + cell.bidirectional)
            self.head = torch.nn.Linear(cell.hidden_size if answer == "end" else width, 2)

        def forward(self, x: Any, *given: Any) -> Any:
            y, ends = self.cell(x, (given if len(given) > 1 else given[0]) if given else None)
            ends = ends if isinstance(ends, tuple) else (ends,)
            if answer == "last":
                return self.head(y[:, -1] if cell.batch_first else y[-1])
            choices = {"y": lambda: y, "ends": lambda: (y, *ends), "end": lambda: self.head(ends[0][-1])}
            return choices.get(answer, lambda: self.head(y))()

    x = torch.randn((batch, 5, 3) if cell.batch_first else (5, batch, 3))
    layers = cell.num_layers * (1 + cell.bidirectional)
    count = (2 if type(cell).__name__ == "LSTM" else 1) if states else 0
    given = tuple(torch.randn(layers, batch, cell.hidden_size) for _ in range(count))
    axis = None if vary == FIXED else int(cell.batch_first) if vary == STEPS else int(not cell.batch_first)
    net, names = Net().eval(), ["x", "h", "c"][: 1 + count]
    if dynamo:
        shapes = None if axis is None else ({axis: torch.export.Dim("n", max=64)},)
        found = torch.onnx.export(
            net, (x, *given), dynamo=True, dynamic_shapes=shapes, verbose=False, input_names=names
        )
        return found.model_proto
    file = io.BytesIO()
    axes = None if axis is None else {"x": {axis: "n"}}
    torch.onnx.export(net, (x, *given), file, dynamo=False, input_names=names, dynamic_axes=axes)
    return onnx.load_from_string(file.getvalue())


def cell_of(name: str, seed: int = 0, **settings: Any) -> Any:
    torch = pytest.importorskip("torch")
    torch.manual_seed(seed)
    return getattr(torch.nn, name)(3, 4, **settings)


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_torchscript(name: str, batch_first: bool, bidirectional: bool) -> None:
    """What is taken equals onnxruntime: one sequence, a batch that varies, a fixed one, states as inputs."""
    for layers, answer in ((1, "y"), (1, "ends"), (1, "last"), (2, "every"), (2, "ends"), (2, "end")):
        cell = cell_of(name, num_layers=layers, batch_first=batch_first, bidirectional=bidirectional)
        cases = [(1, FIXED, False), (1, FIXED, True), (3, FIXED, False), (3, FIXED, True)]
        for batch, vary, states in [*cases, *([(2, BATCH, False)] if batch_first else [])]:
            result = check(exported(cell, answer, batch, vary, dynamo=False, states=states))
            # h of several layers and directions has no batch axis in front to be an output by
            told = vary == BATCH and answer == "ends" and result.status == "unsupported"
            assert result.status == "ok" or told, f"{layers} {answer} {batch} {vary} {states}: {result}"


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_dynamo(name: str, batch_first: bool, bidirectional: bool) -> None:
    cell = cell_of(name, batch_first=batch_first, bidirectional=bidirectional)
    cases = [("ends", 1, FIXED, True), ("last", 3, FIXED, False), *([("end", 2, BATCH, False)] if batch_first else [])]
    for answer, batch, vary, states in cases:
        result = check(exported(cell, answer, batch, vary, dynamo=True, states=states))
        assert result.status == "ok", f"{answer} {batch} {vary}: {result}"


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("answer", ["y", "ends", "last", "every"])
def test_steps_are_not_taken_for_a_batch(name: str, dynamo: bool, answer: str) -> None:
    """(steps, 1, n_in) with steps that vary, straight into a cell, says which node, why and what to do."""
    proto = exported(cell_of(name), answer, 1, STEPS, dynamo)
    with pytest.raises(UnsupportedError, match=rf"(?s){name} '.*its steps, not its batch; a fixed number of steps"):
        lower(proto)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("steps", [1, 5, "N"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_layout_0_straight_from_the_input(op: str, steps: int | str, direction: str) -> None:
    """ONNX's own form: equal for fixed steps, whatever is read; refused where they vary."""
    random, d = np.random.default_rng(3), 1 + (direction == "bidirectional")
    constants = {
        "W": random.normal(size=(d, GATES[op] * 4, 3)).astype(np.float32),
        "R": random.normal(size=(d, GATES[op] * 4, 4)).astype(np.float32),
    }
    for outputs in (["Y"], ["", "Y_h"], ["Y", "Y_h"], ["Y", "Y_h", "Y_c"]):
        if "Y_c" in outputs and op != "LSTM":
            continue
        nodes = [node(op, ["x", "W", "R"], outputs, hidden_size=4, direction=direction, name="cell")]
        result = check(model(nodes, {"x": [steps, 1, 3]}, [o for o in outputs if o], constants))
        assert result.status == ("unsupported" if steps == "N" else "ok"), f"{outputs}: {result}"
        assert steps != "N" or f"{op} 'cell': the axis that may vary ('N') is its steps" in result.message


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("batch", [1, 3, "N"])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_layout_1(op: str, batch: int | str, direction: str) -> None:
    """Batch in front of everything, which onnxruntime does not run and ONNX's reference does."""
    random, d = np.random.default_rng(4), 1 + (direction == "bidirectional")
    constants = {
        "W": random.normal(size=(d, GATES[op] * 4, 3)).astype(np.float32),
        "R": random.normal(size=(d, GATES[op] * 4, 4)).astype(np.float32),
    }
    states, ends = ["h", "c"][: 1 + (op == "LSTM")], ["Y", "Y_h", "Y_c"][: 2 + (op == "LSTM")]
    nodes = [node(op, ["x", "W", "R", "", "", *states], ends, hidden_size=4, direction=direction, layout=1)]
    inputs: dict[str, Any] = {"x": [batch, 5, 3], **{state: [batch, d, 4] for state in states}}
    proto = model(nodes, inputs, ends, constants)
    assert check(proto).status == "ok"
    n = 3 if batch == "N" else batch
    arrays = {name: random.normal(size=[n, *shape[1:]]).astype(np.float32) for name, shape in inputs.items()}
    found = Model(to_image(lower(proto))).run(*arrays.values())
    if direction == "bidirectional":
        return  # onnx's reference has no second direction
    for y, wanted in zip(found, ReferenceEvaluator(proto).run(None, arrays), strict=True):
        np.testing.assert_allclose(y.reshape(wanted.shape), wanted, atol=1e-5)
