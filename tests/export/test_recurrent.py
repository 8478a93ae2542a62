"""RNN, GRU and LSTM: against onnxruntime, their gradients against central differences of a float64 reference."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprop import Model, trainer
from edgeprop.export.check import check
from edgeprop.export.lower import UnsupportedError, lower
from edgeprop.export.program.plan import plan
from edgeprop.export.quantization.quantize import quantize
from edgeprop.export.writers.image import to_image
from tests.support.graphs import model, node

Array = np.ndarray[Any, np.dtype[Any]]

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
#: operator and attributes of its variants
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {}),
    ("RNN", {"activations": ["Relu"]}),
    ("GRU", {"linear_before_reset": 0}),
    ("GRU", {"linear_before_reset": 1}),
    ("LSTM", {}),
]


def some(seed: int) -> Any:
    random = np.random.default_rng(seed)
    return lambda *shape: (0.5 * random.standard_normal(shape)).astype(np.float32)


def attributes(op: str, extra: dict[str, Any], direction: str) -> dict[str, Any]:
    """With an activation for each direction."""
    given = dict(extra)
    if "activations" in given:
        given["activations"] = given["activations"] * DIRECTIONS[direction]
    return {**given, "direction": direction, "name": "cell"}


# ---- Forward ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("op", "extra"), VARIANTS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("initial", ["absent", "constant", "computed"])
def test_equals_onnxruntime(op: str, extra: dict[str, Any], direction: str, initial: str) -> None:
    """All outputs, over batches, steps and sizes, with and without a bias."""
    for batch, steps, n_hidden, bias in itertools.product((1, 3, "N"), (1, 5), (1, 6), (False, True)):
        if initial == "constant" and batch != 1:
            continue  # ONNX has no states that are the same for any batch
        array, d = some(steps + n_hidden), DIRECTIONS[direction]
        constants = {"W": array(d, GATES[op] * n_hidden, 3), "R": array(d, GATES[op] * n_hidden, n_hidden)}
        inputs: dict[str, list[int | str]] = {"x": [batch, steps, 3]}
        nodes = [node("Transpose", ["x"], ["time"], perm=[1, 0, 2])]
        names = ["time", "W", "R", "B" if bias else "", ""]
        if bias:
            constants["B"] = array(d, 2 * GATES[op] * n_hidden)
        for state in ("h", "c") if op == "LSTM" else ("h",):
            if initial == "absent":
                continue
            names.append(f"{state}0")
            if initial == "constant":
                constants[names[-1]] = array(d, 1, n_hidden)
            else:
                inputs[state] = [batch, d, n_hidden]
                nodes.append(node("Transpose", [state], [names[-1]], perm=[1, 0, 2]))
        ends = ["Y", "Y_h", "Y_c"] if op == "LSTM" else ["Y", "Y_h"]
        nodes.append(node(op, names, ends, hidden_size=n_hidden, **attributes(op, extra, direction)))
        nodes += [
            node("Transpose", [end], [end.lower()], perm=[2, 0, 1, 3] if end == "Y" else [1, 0, 2]) for end in ends
        ]
        result = check(model(nodes, inputs, [end.lower() for end in ends], constants))
        assert result.status == "ok", f"{batch} {steps} {n_hidden} {bias}: {result}"


def small(op: str = "GRU", outputs: tuple[str, ...] = ("Y", "Y_h"), head: str = "Y_h", **extra: Any) -> onnx.ModelProto:
    """A cell of 5 over 4 steps of 3, and a dense layer on one of its outputs."""
    array, gates = some(3), GATES[op]
    n = 4 * 5 if head == "Y" else 5
    constants = {"W": array(1, gates * 5, 3), "R": array(1, gates * 5, 5), "B": array(1, 2 * gates * 5)}
    constants |= {"head.weight": array(2, n), "head.bias": array(2), "shape": np.array([-1, n])}
    nodes = [
        node("Transpose", ["x"], ["time"], perm=[1, 0, 2]),
        node(op, ["time", "W", "R", "B"], list(outputs), hidden_size=5, **{"name": "cell", **extra}),
        node("Transpose", [head], ["batch"], perm=[2, 0, 1, 3] if head == "Y" else [1, 0, 2]),
        node("Reshape", ["batch", "shape"], ["flat"]),
        node("Gemm", ["flat", "head.weight", "head.bias"], ["y"], transB=1, name="head"),
    ]
    return model(nodes, {"x": ["N", 4, 3]}, ["y"], constants)


def test_what_nobody_reads_takes_no_memory() -> None:
    """All steps' h where only the last one counts; what learning keeps, in inference."""
    last, all_steps = (lower(small(outputs=o, head=h)) for o, h in ((("", "Y_h"), "Y_h"), (("Y",), "Y")))
    assert plan(last).infer_bytes < plan(all_steps).infer_bytes
    learns = lower(small(), trainable="cell", loss="mse")
    planned = plan(learns)
    assert planned.infer_bytes == plan(last).infer_bytes
    assert "cell.kept" in planned.train_offsets
    assert "cell.kept" not in planned.infer_offsets
    assert not [o for op in lower(small(), trainable="head", loss="mse").ops for o in op.outputs if "kept" in o]


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"clip": 1.0}, "clips"),
        ({"activations": ["HardSigmoid", "Tanh"]}, "HardSigmoid"),
    ],
)
def test_refused_by_name(extra: dict[str, Any], why: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"GRU 'cell': .*{why}"):
        lower(small(**extra))


# ---- Gradients -------------------------------------------------------------------------------------------------------


def sigmoid(v: Array) -> Array:
    return 1 / (1 + np.exp(-v))


def cell_step(op: str, extra: dict[str, Any], x: Array, w: Array, r: Array, b: Array, h: Array, c: Array) -> Any:
    """h, c after a step, of (n, ...); w (gates, n_hidden, n_in), r, b (2, gates, n_hidden)."""
    if op == "GRU":
        z, reset = (sigmoid(x @ w[i].T + b[0, i] + h @ r[i].T + b[1, i]) for i in (0, 1))
        if extra["linear_before_reset"]:
            new = np.tanh(x @ w[2].T + b[0, 2] + reset * (h @ r[2].T + b[1, 2]))
        else:
            new = np.tanh(x @ w[2].T + b[0, 2] + (reset * h) @ r[2].T + b[1, 2])
        return (1 - z) * new + z * h, c
    sums = [x @ w[i].T + b[0, i] + h @ r[i].T + b[1, i] for i in range(len(w))]
    if op == "RNN":
        return (np.maximum(sums[0], 0) if extra else np.tanh(sums[0])), c
    i, o, f = (sigmoid(v) for v in sums[:3])
    c = f * c + i * np.tanh(sums[3])
    return o * np.tanh(c), c


class Net:
    """A dense layer before a cell, one that computes its states, and one on everything it puts out; float64."""

    def __init__(self, op: str, extra: dict[str, Any], direction: str, heads: tuple[str, ...], states: bool) -> None:
        self.op, self.extra, self.direction, self.heads = op, extra, direction, heads
        self.steps, self.n_hidden, self.states = 4, 3, states
        array, d, h = some(len(heads)), DIRECTIONS[direction], self.n_hidden
        g = GATES[op]
        self.weights = {
            "pre": array(2, 4) * 2,
            "W": array(d, g * h, 4),
            "R": array(d, g * h, h) * 2,
            "B": array(d, 2 * g * h),
        }
        for state in self.cell_states() if states else ():
            self.weights[f"{state}0.weight"] = array(self.steps * 2, d * h)
        for head in heads:
            self.weights[f"{head}.weight"] = array((self.steps if head == "Y" else 1) * d * h, 2)

    def cell_states(self) -> tuple[str, ...]:
        return ("h", "c") if self.op == "LSTM" else ("h",)

    def proto(self) -> onnx.ModelProto:
        """As ONNX."""
        d, h = DIRECTIONS[self.direction], self.n_hidden
        constants = {**self.weights, "shape": np.array([-1, d, h]), "flat": np.array([-1, self.steps * 2])}
        nodes = [
            node("MatMul", ["x", "pre"], ["features"], name="pre"),
            node("Transpose", ["features"], ["time"], perm=[1, 0, 2]),
        ]
        names = ["time", "W", "R", "B", ""]
        for state in self.cell_states() if self.states else ():
            nodes += [
                node("Reshape", ["x", "flat"], [f"{state}.flat"]),
                node("MatMul", [f"{state}.flat", f"{state}0.weight"], [f"{state}.all"], name=f"{state}0"),
                node("Reshape", [f"{state}.all", "shape"], [f"{state}.split"]),
                node("Transpose", [f"{state}.split"], [f"{state}0"], perm=[1, 0, 2]),
            ]
            names.append(f"{state}0")
        outputs = [o if o in self.heads else "" for o in ("Y", "Y_h", "Y_c")][: 3 if self.op == "LSTM" else 2]
        nodes.append(node(self.op, names, outputs, hidden_size=h, **attributes(self.op, self.extra, self.direction)))
        total = ""
        for head in self.heads:
            n = len(self.weights[f"{head}.weight"])
            constants[f"{head}.shape"] = np.array([-1, n])
            perm = [2, 0, 1, 3] if head == "Y" else [1, 0, 2]
            nodes += [
                node("Transpose", [head], [f"{head}.t"], perm=perm),
                node("Reshape", [f"{head}.t", f"{head}.shape"], [f"{head}.flat"]),
                node("MatMul", [f"{head}.flat", f"{head}.weight"], [f"{head}.out"], name=f"{head}.head"),
            ]
            if total:
                nodes.append(node("Add", [total, f"{head}.out"], [f"{head}.sum"]))
            total = f"{head}.sum" if total else f"{head}.out"
        return model(nodes, {"x": ["N", self.steps, 2]}, [total], constants)

    def loss(self, weights: dict[str, Array], x: Array, target: Array, truncate: int = 0) -> float:
        """Mean squared error as the runtime has it."""
        y = self.forward(weights, x)
        return float(((y - target) ** 2).mean())

    def forward(self, weights: dict[str, Array], x: Array) -> Array:
        n, d, h = len(x), DIRECTIONS[self.direction], self.n_hidden
        features, y = x @ weights["pre"], np.zeros((n, self.steps, d, h))
        ends = {"Y_h": np.zeros((n, d, h)), "Y_c": np.zeros((n, d, h))}
        start = {
            s: (x.reshape(n, -1) @ weights[f"{s}0.weight"]).reshape(n, d, h) if self.states else np.zeros((n, d, h))
            for s in self.cell_states()
        }
        for k in range(d):
            w = weights["W"][k].reshape(GATES[self.op], h, -1)
            r = weights["R"][k].reshape(GATES[self.op], h, h)
            b = weights["B"][k].reshape(2, GATES[self.op], h)
            now, c = start["h"][:, k], start.get("c", start["h"])[:, k]
            back = k == 1 or self.direction == "reverse"
            for t in reversed(range(self.steps)) if back else range(self.steps):
                now, c = cell_step(self.op, self.extra, features[:, t], w, r, b, now, c)
                y[:, t, k] = now
            ends["Y_h"][:, k], ends["Y_c"][:, k] = now, c
        values = {"Y": y, **ends}
        return sum(values[head].reshape(n, -1) @ weights[f"{head}.weight"] for head in self.heads)  # type: ignore[return-value]

    def gradients(self, x: Array, target: Array) -> dict[str, Array]:
        """Central differences."""
        weights = {name: w.astype(np.float64) for name, w in self.weights.items()}
        found = {}
        for name, w in weights.items():
            found[name] = np.zeros_like(w)
            for at in np.ndindex(w.shape):
                was, ends = w[at], []
                for step in (1e-6, -1e-6):
                    w[at] = was + step
                    ends.append(self.loss(weights, x.astype(np.float64), target))
                w[at] = was
                found[name][at] = (ends[0] - ends[1]) / 2e-6
        return found


NETS = [
    (op, extra, direction, heads, states)
    for op, extra in VARIANTS
    for direction, heads, states in (
        ("forward", ("Y_h",), False),
        ("forward", ("Y", "Y_h"), True),
        ("reverse", ("Y",), True),
        ("bidirectional", ("Y", "Y_h"), True),
        ("bidirectional", ("Y_h",), True),
    )
] + [("LSTM", {}, direction, ("Y", "Y_h", "Y_c"), True) for direction in DIRECTIONS]


@pytest.mark.parametrize(("op", "extra", "direction", "heads", "states"), NETS)
def test_gradients(op: str, extra: dict[str, Any], direction: str, heads: tuple[str, ...], states: bool) -> None:
    """Of every weight, also before the cell and before its states; and a step in place, once per weight."""
    net = Net(op, extra, direction, heads, states)
    assert check(net.proto()).status == "ok"
    names = ["pre", "cell", *(f"{s}0" for s in net.cell_states() if states), *(f"{head}.head" for head in heads)]
    device = Model(to_image(lower(net.proto(), trainable=names, loss="mse")))
    array = some(9)
    x, target = array(3, net.steps, 2) * 2, array(3, 2)
    wanted = net.gradients(x, target)
    found = device.gradients(x, target)
    for name, gradient in wanted.items():
        flat = gradient if name in ("W", "R", "B") else gradient.T
        scale = max(np.abs(flat).max(), 1e-3)
        np.testing.assert_allclose(found[name].ravel(), flat.ravel(), atol=2e-5 * scale, err_msg=name)
    one = net.gradients(x[:1], target[:1])
    before = {name: w.copy() for name, w in device.parameters().items()}
    device.partial_fit(x[:1], target[:1], lr=0.5)
    for name, gradient in one.items():
        flat = gradient if name in ("W", "R", "B") else gradient.T
        np.testing.assert_allclose(
            (before[name] - device.parameters()[name]).ravel() / 0.5, flat.ravel(), atol=1e-5, err_msg=name
        )


@pytest.mark.parametrize(("op", "extra"), VARIANTS)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_gradients_through_a_frozen_cell(op: str, extra: dict[str, Any], direction: str) -> None:
    """Its backward reads its outputs and what its steps kept, though no weight of its own asks for them."""
    net = Net(op, extra, direction, ("Y",), True)
    names = ["pre", *(f"{s}0" for s in net.cell_states())]
    device = Model(to_image(lower(net.proto(), trainable=names, loss="mse")))
    array = some(9)
    x, target = array(2, net.steps, 2) * 2, array(2, 2)
    wanted, found = net.gradients(x, target), device.gradients(x, target)
    for name in ("pre", *(f"{s}0.weight" for s in net.cell_states())):
        scale = max(np.abs(wanted[name]).max(), 1e-3)
        np.testing.assert_allclose(found[name].ravel(), wanted[name].T.ravel(), atol=2e-5 * scale, err_msg=name)


# ---- Between codes ---------------------------------------------------------------------------------------------------

WEIGHTS = {"gru": ["gru.weight", "gru.recurrent_weight", "gru.bias"], "head": ["head.weight", "head.bias"]}


@pytest.mark.parametrize(
    ("trainable", "trained"),
    [
        (None, []),
        ("last", WEIGHTS["head"]),
        ("gru", WEIGHTS["gru"]),
        ("*gru*", WEIGHTS["gru"]),
        ("gru.bias", ["gru.bias"]),
        ("last:2", WEIGHTS["gru"] + WEIGHTS["head"]),
    ],
)
def test_int8_around_a_recurrent_layer(trainable: str | None, trained: list[str]) -> None:
    """Codes up to the cell, float32 in it, codes behind it where nothing learns; equal to onnxruntime."""
    conv, gru = trainer.Conv1D(8, 3, padding="same", name="conv"), trainer.GRU(6, name="gru")
    net = trainer.Sequential(conv, trainer.ReLU(), trainer.Transpose(0, 2, 1), gru, trainer.Dense(3, name="head"))
    net.build((4, 10), seed=1)
    x = np.random.default_rng(0).normal(size=(32, 4, 10)).astype(np.float32)
    proto = quantize(net.to_onnx(), x, trainable=trainable, loss="mse" if trainable else None)
    built = lower(proto)
    kinds = [op.kind for op in built.ops]
    assert "conv2d_s8" in kinds
    assert "gru_f32" in kinds
    assert ("dense_s8" in kinds) == (trainable is None)
    assert sorted(name for name, tensor in built.tensors.items() if tensor.trainable) == sorted(trained)
    assert check(proto, {proto.graph.input[0].name: x}).status == "ok"
    if trained:
        device = Model(to_image(built))
        before = {name: w.copy() for name, w in device.parameters().items()}
        device.partial_fit(x[:8], np.ones((8, 3), np.float32), lr=0.05)
        assert all(np.any(before[name] != device.parameters()[name]) for name in trained)
