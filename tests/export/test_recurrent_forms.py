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
from edgeprop.export.lower import UnsupportedError, lower
from edgeprop.export.writers.image import to_image
from tests.support.graphs import model, node, shared

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
@pytest.mark.parametrize("answer", ["y", "ends", "last", "every"])
def test_steps_are_not_taken_for_a_batch(name: str, answer: str) -> None:
    """(steps, 1, n_in) with steps that vary, straight into a cell, says which node, why and what to do."""
    proto = exported(cell_of(name), answer, 1, STEPS, dynamo=False)
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


# ---- Several sequences in a sample -----------------------------------------------------------------------------------


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("given", [False, True])
def test_gradients_over_several_sequences(op: str, direction: str, given: bool) -> None:
    """(steps, 3, n_in) of one sample: each weight's gradient against central differences, summed over the sequences."""
    random, d, h = np.random.default_rng(5), 1 + (direction == "bidirectional"), 2
    weights = {
        "W": random.normal(size=(d, GATES[op] * h, 2)),
        "R": random.normal(size=(d, GATES[op] * h, h)),
        "B": random.normal(size=(d, 2 * GATES[op] * h)),
    }
    states = {f"{s}0": random.normal(size=(d, 3, h)) for s in ("h", "c")[: 1 + (op == "LSTM")]} if given else {}
    count = 4 * d * 3 * h
    constants = {name: array.astype(np.float32) for name, array in {**weights, **states}.items()}
    constants |= {"head": random.normal(size=(count, 2)).astype(np.float32), "flat": np.array([1, count])}
    nodes = [
        node(op, ["x", "W", "R", "B", "", *states], ["Y"], hidden_size=h, direction=direction, name="cell"),
        node("Reshape", ["Y", "flat"], ["row"]),
        node("MatMul", ["row", "head"], ["y"], name="last"),
    ]
    proto = model(nodes, {"x": [4, 3, 2]}, ["y"], constants)
    assert check(proto).status == "ok"
    x, target = random.normal(size=(1, 4, 3, 2)).astype(np.float32), np.ones((1, 1, 2), np.float32)

    def loss(changed: dict[str, np.ndarray]) -> float:
        names = {"hidden_size": h, "direction": direction}
        values = {**{k: v.astype(np.float64) for k, v in constants.items() if k != "flat"}, **changed}
        y = float64_cell(op, x[0].astype(np.float64), values, list(states), **names)
        return float(((y.reshape(1, -1) @ values["head"] - target) ** 2).mean())

    device = Model(to_image(lower(proto, trainable="cell", loss="mse")))
    found, before = device.gradients(x, target), {k: v.copy() for k, v in device.parameters().items()}
    device.partial_fit(x, target, lr=0.25)
    for name in weights:
        exact = constants[name].astype(np.float64)
        wanted = np.zeros_like(exact)
        for at in np.ndindex(exact.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = exact.copy()
                moved[at] += step
                ends.append(loss({name: moved}))
            wanted[at] = (ends[0] - ends[1]) / 2e-6
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(found[name].ravel(), wanted.ravel(), atol=2e-5 * scale, err_msg=name)
        stepped = (before[name] - device.parameters()[name]).ravel() / 0.25
        np.testing.assert_allclose(stepped, wanted.ravel(), atol=2e-5 * max(scale, 0.1), err_msg=name)


def float64_cell(
    op: str, x: np.ndarray, values: dict[str, np.ndarray], states: list[str], **settings: Any
) -> np.ndarray:
    """Y of a cell in float64, ONNX shapes; GRU with linear_before_reset = 0."""
    h, d = settings["hidden_size"], len(values["W"])
    y = np.zeros((len(x), d, x.shape[1], h))
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    for k in range(d):
        w, r = (values[name][k].reshape(GATES[op], h, -1) for name in ("W", "R"))
        b = values["B"][k].reshape(2, GATES[op], h).sum(0)
        now = values["h0"][k] if states else np.zeros((x.shape[1], h))
        c = values["c0"][k] if len(states) > 1 else np.zeros_like(now)
        for t in range(len(x))[:: -1 if k else 1]:
            a = [x[t] @ w[i].T + now @ r[i].T + b[i] for i in range(GATES[op])]
            if op == "RNN":
                now = np.tanh(a[0])
            elif op == "GRU":
                new = np.tanh(x[t] @ w[2].T + (sigmoid(a[1]) * now) @ r[2].T + b[2])
                now = (1 - sigmoid(a[0])) * new + sigmoid(a[0]) * now
            else:
                c = sigmoid(a[2]) * c + sigmoid(a[0]) * np.tanh(a[3])
                now = sigmoid(a[1]) * np.tanh(c)
            y[t, k] = now
    return y


# ---- Scan ------------------------------------------------------------------------------------------------------------


def scan(body: list[onnx.NodeProto], given: dict[str, Any], **settings: Any) -> onnx.NodeProto:
    """A Scan of one state `s` -> `s1` and one input `x` -> row `r`, whose body reads the graph's weights."""
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        body,
        "body",
        [onnx.helper.make_tensor_value_info(name, kind, given[name]) for name in ("s", "xt")],
        [onnx.helper.make_tensor_value_info(name, kind, given["s"]) for name in ("s1", "r")],
        [onnx.numpy_helper.from_array(np.float32(0.5), "half")],
    )
    return node("Scan", ["s0", "seq"], ["last", "rows"], name="loop", body=graph, num_scan_inputs=1, **settings)


BODY = [
    node("MatMul", ["xt", "W"], ["a"], name="in"),
    node("MatMul", ["s", "R"], ["b"], name="again"),
    node("Add", ["a", "b"], ["ab"]),
    node("Constant", [], ["third"], value_float=0.3),
    node("Mul", ["ab", "third"], ["c"]),
    node("Tanh", ["c"], ["s1"]),
    node("Mul", ["s1", "half"], ["r"]),
]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scan_input_directions": [1]},
        {"scan_output_directions": [1]},
        {"scan_input_axes": [1], "scan_output_axes": [1]},
    ],
)
@pytest.mark.parametrize("outputs", [["last"], ["rows"], ["last", "rows"]])
@pytest.mark.parametrize("opset", [11, 17])
def test_scan_is_unrolled(settings: dict[str, Any], outputs: list[str], opset: int) -> None:
    random = np.random.default_rng(6)
    constants = {"W": random.normal(size=(3, 4)), "R": random.normal(size=(4, 4)), "s0": random.normal(size=(1, 4))}
    body = [n for n in BODY if opset > 11 or n.op_type != "Constant"]
    if opset == 11:
        constants["third"] = np.array(0.3)
    shape = [1, 6, 3] if settings.get("scan_input_axes") else [6, 1, 3]
    nodes = [scan(body, {"s": [1, 4], "xt": [1, 3]}, **settings)]
    given = {name: np.asarray(array, np.float32) for name, array in constants.items()}
    proto = model(nodes, {"seq": shape}, outputs, given, opset=opset)
    result = check(proto)
    assert result.status == "ok", str(result)
    program = lower(proto)
    assert sum(t.nbytes for t in program.tensors.values() if t.name in ("W", "R")) == 4 * (
        12 + 16
    )  # once, not per step


def test_scan_over_steps_that_vary() -> None:
    """Not taken for a batch of one-step sequences."""
    random = np.random.default_rng(6)
    given = {
        name: random.normal(size=s).astype(np.float32) for name, s in (("W", (3, 4)), ("R", (4, 4)), ("s0", (1, 4)))
    }
    proto = model([scan(BODY, {"s": [1, 4], "xt": [1, 3]})], {"seq": ["N", 1, 3]}, ["last"], given)
    with pytest.raises(UnsupportedError, match=r"Scan 'loop': the axis that may vary .*is its steps"):
        lower(proto)


@pytest.mark.parametrize("name", ["arm_kws/GRU_S.onnx"])
def test_scan_of_tf2onnx(name: str) -> None:
    """A GRU of 25 steps that tf2onnx wrote as a Scan."""
    result = check(shared(name))
    assert result.status == "ok", str(result)
