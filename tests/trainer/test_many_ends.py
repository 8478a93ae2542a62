"""Networks of several inputs and outputs: run, trained, checked, saved; and two whole nets, trained and saved."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprop import trainer as t
from tests.trainer.conftest import run_onnx

LOSSES = ("softmax_cross_entropy", "mse")


def two_ends(dtype: type = np.float32) -> t.Graph:
    """Two inputs (3,) and (2, 6), two outputs: classes (4,) and a value (1,), from a trunk that is an output's source."""
    nodes = {
        "seen": (t.Dense(8), "a"),
        "heard": (t.Sequential(t.Conv1D(8, 3), t.GlobalMaxPool(), t.Flatten()), "b"),
        "trunk": (t.Add(), "seen", "heard"),
        "bent": (t.Tanh(), "trunk"),
        "classes": (t.Dense(4), "bent"),
        "unused": (t.Dense(2), "bent"),
        "value": (t.Dense(1), "classes"),
    }
    return t.Graph(["a", "b"], nodes, outputs=("classes", "value")).astype(dtype)


def data(n: int = 6) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(n, 2, 6))
    return (a, b), (rng.integers(0, 4, n), rng.normal(size=(n, 1)))


def test_outputs_come_as_a_tuple_in_their_order():
    net, ((a, b), _) = two_ends(), data()
    classes, value = net.predict(a, b, batch_size=4)
    assert net.out_shape == ((4,), (1,))
    assert (classes.shape, value.shape) == ((6, 4), (6, 1))
    swapped = t.Graph(
        net.inputs, {row.name: (row.layer, *row.sources) for row in net.rows}, outputs=("value", "classes")
    )
    swapped.built, swapped.in_shapes, swapped.out_shape = True, net.in_shapes, ((1,), (4,))
    assert np.array_equal(swapped.predict(a, b, batch_size=4)[0], value)


def test_gradients_of_all_ends_meet():
    x, y = data(4)
    net = two_ends()
    report = t.check_gradients(net, x, y, t.JointLoss(*LOSSES, weights=(1, 0.3)))
    assert {check.name for check in report.tensors} >= {"a", "b", "seen.weight", "classes.weight", "value.bias"}
    assert report.error < 1e-5


def test_an_output_without_a_gradient_leaves_zeros_and_nothing_stale():
    net, ((a, b), _) = two_ends(np.float64), data()
    classes, value = net.forward(a, b, training=True)
    net.backward((np.ones_like(classes), np.ones_like(value)))
    assert np.any(net["value"].grads["weight"])
    net.backward((np.ones_like(classes), None))
    assert not np.any(net["value"].grads["weight"])
    assert not np.any(net["unused"].grads["weight"])
    da, db = net.backward((None, np.ones_like(value)))
    assert da.shape == a.shape
    assert db.shape == b.shape


def test_fit_learns_both_targets_and_measures_the_first():
    (a, b), _ = data(200)
    y = (np.argmax(np.c_[a, b[:, 0].max(axis=1) - 1], axis=1), a[:, :1])
    net = two_ends()
    history = t.fit(
        net,
        (a, b),
        y,
        loss=LOSSES,
        optimizer=t.Adam(0.02),
        epochs=80,
        validation=((a[:9], b[:9]), (y[0][:9], y[1][:9])),
        seed=1,
    )
    assert history.train_loss[-1] < 0.35 * history.train_loss[0]
    assert history.metric_name == "accuracy"
    result = t.evaluate(net, (a, b), y, loss=LOSSES)
    assert result.metric > 0.8
    again = t.fit(two_ends(), (a, b), y, loss=LOSSES, optimizer=t.Adam(0.02), epochs=1, seed=1)
    assert again.train_loss[0] == history.train_loss[0]
    optimizer = t.SGD(0.01)
    first = t.partial_fit(net, (a, b), y, loss=LOSSES, optimizer=optimizer)
    assert t.partial_fit(net, (a, b), y, loss=LOSSES, optimizer=optimizer) < first


def test_a_loss_of_weight_zero_changes_nothing():
    x, y = data(40)
    net = two_ends()
    both = t.fit(net, x, y, loss=t.JointLoss(*LOSSES, weights=(1, 0)), epochs=3, seed=1)
    alone = t.Graph(net.inputs, {r.name: (r.layer, *r.sources) for r in two_ends().rows}, outputs=("classes",))
    one = t.fit(alone, x, y[0], epochs=3, seed=1)
    assert both.train_loss == one.train_loss
    assert both.train_metric == one.train_metric


def test_a_joint_loss_is_the_weighted_sum():
    net, (x, y) = two_ends(), data()
    net.predict(*x)
    parts = [t.evaluate(net, x, y, loss=t.JointLoss(*LOSSES, weights=w)).loss for w in ((1, 0), (0, 1), (2, 3))]
    assert parts[2] == pytest.approx(2 * parts[0] + 3 * parts[1])
    same = t.evaluate(net, x, (y[1].repeat(4, 1), y[1]), loss="mse")
    assert same.loss > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y: (x[0], y, LOSSES), "takes a, b: give a tuple of 2"),
        (lambda x, y: ((x[0], x[1][:2]), y, LOSSES), "6 and 2 samples"),
        (lambda x, y: (x, y[0], LOSSES), "2 outputs: give a tuple of as many targets"),
        (lambda x, y: (x, y, (*LOSSES, "mse")), "3 losses for a network of 2 outputs"),
        (lambda x, y: (x, y, t.JointLoss("mse")), "1 losses for a network of 2 outputs"),
        (lambda x, y: ((x[1], x[0]), y, LOSSES), "layer 'seen'"),
    ],
)
def test_data_that_do_not_fit(change, message):
    x, y, loss = change(*data())
    with pytest.raises(ValueError, match=message):
        t.fit(two_ends(), x, y, loss=loss)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [(("y", "z"), "unknown output 'z'"), (("x",), "unknown output 'x'"), (("y", "y"), "twice")],
)
def test_outputs_that_are_no_nodes(outputs, message):
    with pytest.raises(ValueError, match=message):
        t.Graph(["x"], {"y": (t.ReLU(), "x")}, outputs=outputs)


def test_losses_of_several_outputs_need_them():
    with pytest.raises(ValueError, match="2 losses for a network of 1 output:"):
        t.fit(t.Sequential(t.Dense(2)), np.ones((2, 3)), [0, 1], loss=LOSSES)
    with pytest.raises(ValueError, match="1 weights"):
        t.JointLoss("mse", "mse", weights=(1,))
    inner = two_ends()
    with pytest.raises(ValueError, match="several outputs"):
        t.Graph(["a", "b"], {"y": (inner, "a", "b")})


# Saved


def test_all_outputs_are_saved_under_their_names():
    net, ((a, b), _) = two_ends(), data()
    expected = net.predict(a, b)
    results = run_onnx(net.to_onnx(), a, b)
    assert list(results) == ["classes", "value"]
    for mine, theirs in zip(expected, results.values(), strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-5, atol=1e-5)


def test_outputs_that_leave_no_node():
    nodes = {"kept": (t.Dropout(), "x"), "d": (t.Dense(2), "x"), "same": (t.Dropout(), "d"), "r": (t.ReLU(), "same")}
    net = t.Graph(["x"], nodes, outputs=("r", "kept", "d", "same"))
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    expected = net.predict(x)
    for mine, theirs in zip(expected, run_onnx(net.to_onnx(), x).values(), strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=1e-5, atol=1e-6)


def test_whole_numbers_are_an_int64_input_where_nothing_else_reads_them():
    words = t.Sequential(t.Embedding(7, 3), t.Transpose(0, 2, 1), t.Conv1D(4, 2), t.GlobalMaxPool(), t.Flatten())
    x = np.array([[0, 6, 3, 3], [1, 1, 2, 5]])
    y = words.predict(x)
    model = words.to_onnx()
    assert [node.op_type for node in model.graph.node][:2] == ["Gather", "Transpose"]
    assert model.graph.input[0].type.tensor_type.elem_type == 7
    np.testing.assert_allclose(run_onnx(model, x)["output"], y, rtol=1e-5, atol=1e-6)
    both = t.Graph(["x"], {"e": (t.Embedding(7, 1), "x"), "s": (t.Squeeze(-1), "e"), "y": (t.Add(), "s", "x")})
    y = both.predict(x)
    model = both.to_onnx()
    assert model.graph.input[0].type.tensor_type.elem_type == 1
    np.testing.assert_allclose(run_onnx(model, x)["output"], y, rtol=1e-5, atol=1e-6)


def inception(filters: int, at: str) -> t.Graph:
    nodes = {
        "one": (t.Conv2D(filters, 1), "x"),
        "three": (t.Sequential(t.Conv2D(filters, 1), "relu", t.Conv2D(filters, 3, padding="same")), "x"),
        "wide": (t.Sequential(t.Conv2D(filters, 3, dilation=2, padding="same", groups=2)), "x"),
        "pool": (t.Sequential(t.MaxPool2D(3, stride=1, padding="same"), t.Conv2D(filters, 1)), "x"),
        "y": (t.Concat(), "one", "three", "wide", "pool"),
    }
    named = {
        f"{at}_{name}": (layer, *(s if s == "x" else f"{at}_{s}" for s in sources))
        for name, (layer, *sources) in nodes.items()
    }
    return t.Graph(["x"], named)


NETS = {
    "inception": lambda: t.Sequential(
        t.Conv2D(4, 3, padding="same"),
        t.GroupNorm(2),
        inception(4, "early"),
        t.GELU(),
        t.MaxPool2D(2),
        inception(4, "late"),
        t.BatchNorm(),
        t.HardSwish(),
        t.GlobalAveragePool(),
        t.Flatten(),
        t.Dense(2),
    ),
    "residual": lambda: t.Sequential(
        t.Conv2D(4, 3, padding="same", bias=False),
        t.BatchNorm(),
        t.PReLU(),
        t.Residual(t.Conv2D(4, 3, padding="same"), t.LayerNorm(1), "silu", t.Conv2D(4, 3, padding="same")),
        t.Residual(t.Conv2D(8, 3, stride=2, padding=1), "elu", shortcut=t.Conv2D(8, 1, stride=2)),
        t.ConvTranspose2D(4, 2, stride=2),
        t.Residual(t.GlobalMaxPool(), t.Conv2D(4, 1), "hard_sigmoid", merge=t.Multiply()),
        t.ReduceMean(2, 3),
        t.SparseDense(2),
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_whole_nets_learn_and_are_saved(name):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(96, 2, 8, 8)), np.arange(96) % 2
    x[y == 1, 0, 2:6, 2:6] += 1.5  # a bright square
    net = NETS[name]()
    history = t.fit(net, x, y, epochs=6, optimizer=t.Adam(0.01), seed=2)
    assert history.train_loss[-1] < 0.5 * history.train_loss[0]
    assert t.evaluate(net, x, y).metric > 0.9
    np.testing.assert_allclose(run_onnx(net.to_onnx(), x)["output"], net.predict(x), rtol=1e-5, atol=1e-5)
